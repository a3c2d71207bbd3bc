/* SPDX-License-Identifier: Apache-2.0 */
#include "ray/event.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static cJSON *parse(const char *text) {
    cJSON *event = NULL;
    assert_int_equal(cohort_ray_event_parse(text, strlen(text), &event), COHORT_OK);
    return event;
}

static void what_is_no_event_is_refused(void **state) {
    (void)state;
    const char *const wrong[] = {"",
                                 "x",
                                 "null",
                                 "7",
                                 "[]",
                                 "\"event\"",
                                 "{}",
                                 "{\"event\": 1}",
                                 "{\"event\": null}",
                                 "{\"Event\": \"placed\"}",
                                 "{\"event\": \"placed\"",
                                 "{\"event\": \"\xff"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        cJSON *event = NULL;
        assert_int_equal(cohort_ray_event_parse(wrong[i], strlen(wrong[i]), &event),
                         COHORT_E_PROTOCOL);
        assert_null(event);
    }
}

static void nesting_without_end_is_refused(void **state) {
    (void)state;
    enum { DEEP = 100000 };
    cJSON *event = NULL;
    char *text = malloc(DEEP);
    assert_non_null(text);
    memset(text, '[', DEEP);
    assert_int_equal(cohort_ray_event_parse(text, DEEP, &event), COHORT_E_PROTOCOL);
    free(text);
}

static void parse_reads_no_further_than_it_was_told(void **state) {
    (void)state;
    const char text[] = "{\"event\": \"placed\"}{\"event\": \"ended\"}";
    cJSON *event = NULL;
    assert_int_equal(cohort_ray_event_parse(text, 19, &event), COHORT_OK);
    assert_true(cohort_ray_event_is(event, "placed"));
    cJSON_Delete(event);
    assert_int_equal(cohort_ray_event_parse(text, 18, &event), COHORT_E_PROTOCOL);
}

static void connected_names_a_node_and_its_address(void **state) {
    (void)state;
    cohort_ray_connected connected;
    cJSON *good =
        parse("{\"event\":\"connected\",\"node\":\"ab\",\"address\":\"10.0.0.1\"}");
    assert_int_equal(cohort_ray_event_connected(good, &connected), COHORT_OK);
    assert_string_equal(connected.node, "ab");
    assert_string_equal(connected.address, "10.0.0.1");
    assert_string_equal(connected.version, "");
    cJSON_Delete(good);
    char longer[256];
    snprintf(longer, sizeof longer,
             "{\"event\":\"connected\",\"node\":\"%070d\",\"address\":\"10.0.0.1\"}", 0);
    const char *const wrong[] = {
        "{\"event\":\"connected\"}", "{\"event\":\"connected\",\"node\":\"ab\"}",
        "{\"event\":\"connected\",\"node\":\"\",\"address\":\"1\"}",
        "{\"event\":\"connected\",\"node\":1,\"address\":\"1\"}", longer};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        cJSON *event = parse(wrong[i]);
        assert_int_equal(cohort_ray_event_connected(event, &connected),
                         COHORT_E_PROTOCOL);
        assert_non_null(strstr(cohort_last_error()->message, "'connected'"));
        cJSON_Delete(event);
    }
}

#define BUNDLE(index, amounts)                                                           \
    "{\"index\":" index ",\"node\":\"ab\",\"address\":\"10.0.0.1\",\"amounts\":" amounts \
    "}"
#define PLACED(list) "{\"event\":\"placed\",\"bundles\":" list "}"

static void bundles_are_read_in_order(void **state) {
    (void)state;
    cohort_ray_bundle *bundles = NULL;
    int32_t n = 0;
    cJSON *event = parse(PLACED("[" BUNDLE("0", "{\"CPU\":2.5}") "," BUNDLE(
        "3", "{\"GPU\":1}") "," BUNDLE("4", "{\"CPU\":-1}") "]"));
    assert_int_equal(cohort_ray_event_bundles(event, "CPU", &bundles, &n), COHORT_OK);
    assert_int_equal(n, 3);
    assert_int_equal(bundles[1].index, 3);
    assert_string_equal(bundles[1].node_id, "ab");
    assert_string_equal(bundles[1].address, "10.0.0.1");
    assert_true(bundles[0].amount == 2.5);
    assert_true(bundles[1].amount == 0);
    assert_true(bundles[2].amount == 0);
    free(bundles);
    cJSON_Delete(event);
}

static void bundles_out_of_bounds_are_refused(void **state) {
    (void)state;
    const char *const wrong[] = {
        PLACED("null"),
        PLACED("{}"),
        PLACED("[7]"),
        PLACED("[{}]"),
        PLACED("[" BUNDLE("-1", "{}") "]"),
        PLACED("[" BUNDLE("0.5", "{}") "]"),
        PLACED("[" BUNDLE("1e300", "{}") "]"),
        PLACED("[" BUNDLE("\"0\"", "{}") "]"),
        PLACED("[" BUNDLE("1", "{}") "," BUNDLE("1", "{}") "]"),
        PLACED("[" BUNDLE("1", "{}") "," BUNDLE("0", "{}") "]"),
        PLACED("[{\"node\":\"ab\",\"address\":\"10.0.0.1\"}]"),
        PLACED("[{\"index\":0,\"address\":\"10.0.0.1\"}]"),
        PLACED("[{\"index\":0,\"node\":\"ab\"}]"),
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        cohort_ray_bundle *bundles = NULL;
        int32_t n = 0;
        cJSON *event = parse(wrong[i]);
        assert_int_equal(cohort_ray_event_bundles(event, "CPU", &bundles, &n),
                         COHORT_E_PROTOCOL);
        assert_null(bundles);
        cJSON_Delete(event);
    }
}

static void seat(const char *rank, const char *pid, const char *devices, char *out_text,
                 size_t size) {
    snprintf(out_text, size,
             "{\"event\":\"seated\",\"rank\":%s,\"life\":1,\"pid\":%s,\"node\":\"ab\","
             "\"address\":\"10.0.0.1\",\"build\":\"b\",\"devices\":%s}",
             rank, pid, devices);
}

static void a_seat_is_read(void **state) {
    (void)state;
    char text[256];
    cohort_ray_seated seated;
    seat("1", "77", "[\"0\",\"GPU-aa\"]", text, sizeof text);
    cJSON *event = parse(text);
    assert_int_equal(cohort_ray_event_seated(event, 2, &seated), COHORT_OK);
    assert_int_equal(seated.rank, 1);
    assert_int_equal(seated.pid, 77);
    assert_int_equal(seated.life, 1);
    assert_int_equal(seated.n_devices, 2);
    assert_string_equal(seated.devices[1], "GPU-aa");
    assert_string_equal(seated.build, "b");
    assert_int_equal(cohort_ray_event_seated(event, 1, &seated), COHORT_E_PROTOCOL);
    cJSON_Delete(event);
}

static void seats_out_of_bounds_are_refused(void **state) {
    (void)state;
    char many[1024] = "[\"0\"";
    char longer[256];
    for (int i = 0; i < COHORT_RAY_MAX_DEVICES; i++)
        strcat(many, ",\"1\"");
    strcat(many, "]");
    snprintf(longer, sizeof longer, "[\"%0*d\"]", COHORT_RAY_DEVICE_BYTES, 0);
    const char *const wrong[][3] = {
        {"2", "77", "[]"},    {"-1", "77", "[]"},    {"0.5", "77", "[]"},
        {"null", "77", "[]"}, {"1", "0", "[]"},      {"1", "-7", "[]"},
        {"1", "1e10", "[]"},  {"1", "77", "null"},   {"1", "77", "{}"},
        {"1", "77", "[7]"},   {"1", "77", "[\"\"]"}, {"1", "77", many},
        {"1", "77", longer}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char text[2048];
        cohort_ray_seated seated;
        seat(wrong[i][0], wrong[i][1], wrong[i][2], text, sizeof text);
        cJSON *event = parse(text);
        assert_int_equal(cohort_ray_event_seated(event, 2, &seated), COHORT_E_PROTOCOL);
        cJSON_Delete(event);
    }
}

static void an_end_is_of_a_rank(void **state) {
    (void)state;
    cohort_ray_ended ended;
    cJSON *event = parse("{\"event\":\"ended\",\"rank\":1,\"life\":3,\"returned\":true}");
    assert_int_equal(cohort_ray_event_ended(event, 2, &ended), COHORT_OK);
    assert_int_equal(ended.life, 3);
    assert_true(ended.has_returned);
    assert_string_equal(ended.text, "");
    assert_int_equal(cohort_ray_event_ended(event, 1, &ended), COHORT_E_PROTOCOL);
    cJSON_Delete(event);
    event = parse("{\"event\":\"ended\",\"rank\":1,\"returned\":true}");
    assert_int_equal(cohort_ray_event_ended(event, 2, &ended), COHORT_E_PROTOCOL);
    cJSON_Delete(event);
}

static void a_lost_rank_says_where_its_bundle_is(void **state) {
    (void)state;
    cohort_ray_lost lost;
    cJSON *event =
        parse("{\"event\":\"lost\",\"rank\":1,\"life\":2,\"moved_to\":\"n3\"}");
    assert_int_equal(cohort_ray_event_lost(event, 2, &lost), COHORT_OK);
    assert_int_equal(lost.rank, 1);
    assert_int_equal(lost.life, 2);
    assert_string_equal(lost.moved_to, "n3");
    assert_int_equal(cohort_ray_event_lost(event, 1, &lost), COHORT_E_PROTOCOL);
    cJSON_Delete(event);
    event = parse("{\"event\":\"lost\",\"rank\":1}");
    assert_int_equal(cohort_ray_event_lost(event, 2, &lost), COHORT_E_PROTOCOL);
    cJSON_Delete(event);
}

static void amounts_are_never_negative_or_infinite(void **state) {
    (void)state;
    cJSON *event = parse("{\"event\":\"waiting\",\"total\":{\"CPU\":8,\"GPU\":1e999,"
                         "\"TPU\":-1,\"x\":\"8\"},\"free\":7}");
    assert_true(cohort_ray_event_amount(event, "total", "CPU") == 8);
    const char *const none[] = {"GPU", "TPU", "x", "y"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        assert_true(cohort_ray_event_amount(event, "total", none[i]) == 0);
    assert_true(cohort_ray_event_amount(event, "free", "CPU") == 0);
    cJSON_Delete(event);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_no_event_is_refused),
        cmocka_unit_test(nesting_without_end_is_refused),
        cmocka_unit_test(parse_reads_no_further_than_it_was_told),
        cmocka_unit_test(connected_names_a_node_and_its_address),
        cmocka_unit_test(bundles_are_read_in_order),
        cmocka_unit_test(bundles_out_of_bounds_are_refused),
        cmocka_unit_test(a_seat_is_read),
        cmocka_unit_test(seats_out_of_bounds_are_refused),
        cmocka_unit_test(an_end_is_of_a_rank),
        cmocka_unit_test(a_lost_rank_says_where_its_bundle_is),
        cmocka_unit_test(amounts_are_never_negative_or_infinite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
