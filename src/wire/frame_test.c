/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static uint8_t message[4096];

static size_t encode(cohort_frame frame) { return cohort_frame_encode(&frame, message); }

static void frame_comes_back_as_it_went(void **state) {
    (void)state;
    cohort_frame out;
    size_t size = encode((cohort_frame){.kind = COHORT_FRAME_RPC,
                                        .rank = -1,
                                        .epoch = 3,
                                        .call = 12345678901,
                                        .method = "check_health",
                                        .body = "payload",
                                        .body_bytes = 7});
    assert_int_equal(cohort_frame_decode(message, size, &out), COHORT_OK);
    assert_int_equal(out.kind, COHORT_FRAME_RPC);
    assert_int_equal(out.rank, -1);
    assert_int_equal(out.epoch, 3);
    assert_int_equal(out.call, 12345678901);
    assert_string_equal(out.method, "check_health");
    assert_int_equal(out.body_bytes, 7);
    assert_memory_equal(out.body, "payload", 7);
    assert_int_equal(((const uint8_t *)out.body - message) % 8, 0);
}

static void every_shortened_frame_is_refused(void **state) {
    (void)state;
    cohort_frame out;
    size_t size = encode((cohort_frame){
        .kind = COHORT_FRAME_RPC, .method = "noop", .body = "abc", .body_bytes = 3});
    for (size_t i = 0; i < size; i++)
        assert_int_equal(cohort_frame_decode(message, i, &out), COHORT_E_PROTOCOL);
    assert_int_equal(cohort_frame_decode(message, size + 1, &out), COHORT_E_PROTOCOL);
}

static void foreign_header_is_refused_by_name(void **state) {
    (void)state;
    cohort_frame out;
    static const struct {
        size_t at;
        uint8_t value;
        const char *word;
    } cases[] = {{0, 0, "magic"},   {4, 9, "version"}, {6, 99, "kind"},
                 {28, 1, "status"}, {36, 9, "method"}, {40, 1, "reserved"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t size = encode((cohort_frame){.kind = COHORT_FRAME_RPC, .method = "noop"});
        message[cases[i].at] = cases[i].value;
        assert_int_equal(cohort_frame_decode(message, size, &out), COHORT_E_PROTOCOL);
        assert_non_null(strstr(cohort_last_error()->message, cases[i].word));
    }
}

static void configure_carries_its_options(void **state) {
    (void)state;
    struct {
        cohort_frame_configure fixed;
        char text[16];
    } body = {.fixed = {.rank = 1,
                        .tp = 2,
                        .pp = 1,
                        .local_world_size = 2,
                        .n_config = 2,
                        .heartbeat_ns = 1000000},
              .text = "model=x\0empty="};
    const char *config[COHORT_CONFIG_MAX_PAIRS + 1];
    cohort_frame frame;
    cohort_frame_configure configure;
    size_t size = encode((cohort_frame){.kind = COHORT_FRAME_CONFIGURE,
                                        .body = &body,
                                        .body_bytes = sizeof body.fixed + 15});
    assert_int_equal(cohort_frame_decode(message, size, &frame), COHORT_OK);
    assert_int_equal(cohort_frame_read_configure(&frame, &configure, config), COHORT_OK);
    assert_int_equal(configure.rank, 1);
    assert_string_equal(config[0], "model=x");
    assert_string_equal(config[1], "empty=");
    assert_null(config[2]);
    frame.body_bytes--; /* the last option loses its end */
    assert_int_equal(cohort_frame_read_configure(&frame, &configure, config),
                     COHORT_E_PROTOCOL);
}

static void configure_of_an_impossible_world_is_refused(void **state) {
    (void)state;
    const char *config[COHORT_CONFIG_MAX_PAIRS + 1];
    const cohort_frame_configure good = {
        .rank = 1, .tp = 2, .pp = 2, .local_world_size = 4, .heartbeat_ns = 1000000};
    cohort_frame_configure cases[7];
    for (int i = 0; i < 7; i++)
        cases[i] = good;
    cases[0].rank = 4;
    cases[1].tp = 0;
    cases[2].pp = INT32_MAX;
    cases[3].local_rank = 4;
    cases[4].heartbeat_ns = 0;
    cases[5].n_config = COHORT_CONFIG_MAX_PAIRS + 1;
    cases[6].max_reply_bytes = UINT64_MAX;
    for (int i = 0; i < 7; i++) {
        cohort_frame frame = {.kind = COHORT_FRAME_CONFIGURE,
                              .body = &cases[i],
                              .body_bytes = sizeof cases[i]};
        cohort_frame_configure out;
        assert_int_equal(cohort_frame_read_configure(&frame, &out, config),
                         COHORT_E_PROTOCOL);
    }
}

static void error_arrives_with_its_text_and_place(void **state) {
    (void)state;
    cohort_error error = {.code = COHORT_E_DEVICE,
                          .rank = 3,
                          .message = "out of luck",
                          .place = "src/a.c:1"};
    cohort_error out;
    cohort_frame frame;
    size_t size = encode((cohort_frame){.kind = COHORT_FRAME_ERROR,
                                        .status = COHORT_E_DEVICE,
                                        .method = "execute",
                                        .body = &error,
                                        .body_bytes = sizeof error});
    assert_int_equal(cohort_frame_decode(message, size, &frame), COHORT_OK);
    assert_int_equal(cohort_frame_read_error(&frame, &out), COHORT_OK);
    assert_int_equal(out.rank, 3);
    assert_string_equal(out.message, "out of luck");
    assert_string_equal(out.place, "src/a.c:1");
    memset(((cohort_error *)(void *)frame.body)->place, 'x', sizeof error.place);
    assert_int_equal(cohort_frame_read_error(&frame, &out), COHORT_OK);
    assert_int_equal(strlen(out.place), sizeof out.place - 1);
    error.code = 1;
    size = encode((cohort_frame){
        .kind = COHORT_FRAME_ERROR, .body = &error, .body_bytes = sizeof error});
    assert_int_equal(cohort_frame_decode(message, size, &frame), COHORT_OK);
    assert_int_equal(cohort_frame_read_error(&frame, &out), COHORT_E_PROTOCOL);
}

static void table_must_hold_what_it_announces(void **state) {
    (void)state;
    static struct {
        cohort_frame_table fixed;
        cohort_mesh_handle meshes[2];
    } body;
    body.fixed.world_size = 2;
    cohort_frame frame = {
        .kind = COHORT_FRAME_TABLE, .body = &body, .body_bytes = sizeof body};
    cohort_frame_table table;
    const cohort_mesh_handle *meshes = NULL;
    assert_int_equal(cohort_frame_read_table(&frame, &table, &meshes), COHORT_OK);
    assert_ptr_equal(meshes, body.meshes);
    body.fixed.world_size = UINT32_MAX;
    assert_int_equal(cohort_frame_read_table(&frame, &table, &meshes), COHORT_E_PROTOCOL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frame_comes_back_as_it_went),
        cmocka_unit_test(every_shortened_frame_is_refused),
        cmocka_unit_test(foreign_header_is_refused_by_name),
        cmocka_unit_test(configure_carries_its_options),
        cmocka_unit_test(configure_of_an_impossible_world_is_refused),
        cmocka_unit_test(error_arrives_with_its_text_and_place),
        cmocka_unit_test(table_must_hold_what_it_announces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
