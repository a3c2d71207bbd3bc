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
                        .heartbeat_ns = 1000000,
                        .survives_peers = 1},
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
    assert_int_equal(configure.survives_peers, 1);
    assert_string_equal(config[0], "model=x");
    assert_string_equal(config[1], "empty=");
    assert_null(config[2]);
    frame.body_bytes--; /* the last option loses its end */
    assert_int_equal(cohort_frame_read_configure(&frame, &configure, config),
                     COHORT_E_PROTOCOL);
}

static cohort_status read_configure(const cohort_frame_configure *configure) {
    const char *config[COHORT_CONFIG_MAX_PAIRS + 1];
    cohort_frame frame = {.kind = COHORT_FRAME_CONFIGURE,
                          .body = configure,
                          .body_bytes = sizeof *configure};
    cohort_frame_configure out;
    return cohort_frame_read_configure(&frame, &out, config);
}

/* The last value of each field that is taken, and the first that is not. */
static void configure_is_refused_from_the_first_impossible_value_on(void **state) {
    (void)state;
    enum { CASES = 18 };
    const cohort_frame_configure good = {
        .rank = 1, .tp = 2, .pp = 2, .local_world_size = 4, .heartbeat_ns = 1000000};
    cohort_frame_configure in[CASES], out[CASES];
    int n = 0;
    for (int i = 0; i < CASES; i++)
        in[i] = out[i] = good;
#define EDGE(field, last, first) in[n].field = (last), out[n++].field = (first)
    EDGE(rank, 0, -1);
    EDGE(rank, 3, 4);
    EDGE(local_rank, 0, -1);
    EDGE(local_rank, 3, 4);
    EDGE(local_world_size, 1, 0);
    EDGE(local_world_size, 4, 5);
    EDGE(tp, 512, 513);
    EDGE(pp, 512, 513);
    EDGE(tp, 2, 0);
    EDGE(pp, 2, 0);
    EDGE(pp, 2, INT32_MAX);
    EDGE(heartbeat_ns, 1000000, 999999);
    EDGE(connect_timeout_ns, 0, -1);
    EDGE(max_step_bytes, UINT32_MAX, UINT64_C(1) << 32);
    EDGE(max_reply_bytes, UINT32_MAX, UINT64_C(1) << 32);
    EDGE(survives_peers, 1, 2);
    EDGE(keeps, 3, 4);
    EDGE(n_config, 0, COHORT_CONFIG_MAX_PAIRS + 1);
    assert_int_equal(n, CASES);
    for (int i = 0; i < CASES; i++) {
        assert_int_equal(read_configure(&in[i]), COHORT_OK);
        assert_int_equal(read_configure(&out[i]), COHORT_E_PROTOCOL);
    }
    memset(in[0].listen_host, 'x', sizeof in[0].listen_host - 1);
    assert_int_equal(read_configure(&in[0]), COHORT_OK);
    memset(in[0].listen_host, 'x', sizeof in[0].listen_host);
    assert_int_equal(read_configure(&in[0]), COHORT_E_PROTOCOL);
}

static void rejoin_names_the_epoch_to_come(void **state) {
    (void)state;
    cohort_frame out;
    size_t size = encode(
        (cohort_frame){.kind = COHORT_FRAME_REJOIN, .rank = 2, .epoch = UINT64_MAX});
    assert_int_equal(cohort_frame_decode(message, size, &out), COHORT_OK);
    assert_int_equal(out.kind, COHORT_FRAME_REJOIN);
    assert_int_equal(out.epoch, UINT64_MAX);
    assert_int_equal(out.body_bytes, 0);
    assert_string_equal(cohort_frame_kind_name(out.kind), "rejoin");
    message[6] = COHORT_FRAME_LAST_KIND + 1;
    assert_int_equal(cohort_frame_decode(message, size, &out), COHORT_E_PROTOCOL);
}

/* Calls of every length up to 8 within a load. */
static size_t nest_calls(uint8_t *out_bytes) {
    size_t used = 0;
    for (uint64_t i = 0; i < 9; i++)
        used += cohort_frame_nest(&(cohort_frame){.kind = COHORT_FRAME_RPC,
                                                  .call = i,
                                                  .method = i % 2 ? "odd" : "",
                                                  .body = "12345678",
                                                  .body_bytes = i},
                                  out_bytes + used);
    return used;
}

static void frames_within_a_frame_come_back_in_order(void **state) {
    (void)state;
    static _Alignas(8) uint8_t body[4096];
    cohort_frame inner, load = {.kind = COHORT_FRAME_LOAD, .body = body};
    size_t offset = 0;
    load.body_bytes = nest_calls(body);
    for (uint64_t i = 0; i < 9; i++) {
        assert_int_equal(cohort_frame_next(&load, &offset, &inner), COHORT_OK);
        assert_int_equal(inner.call, i);
        assert_string_equal(inner.method, i % 2 ? "odd" : "");
        assert_int_equal(inner.body_bytes, i);
        assert_memory_equal(inner.body, "12345678", i);
        assert_int_equal((uintptr_t)inner.body % 8, 0);
        if (i == 0) assert_int_equal(offset, cohort_frame_nested_bytes(&inner));
    }
    assert_int_equal(cohort_frame_next(&load, &offset, &inner), COHORT_PENDING);
    assert_int_equal(offset, load.body_bytes);
}

static cohort_status read_all(const cohort_frame *outer) {
    cohort_frame inner;
    cohort_status status = COHORT_OK;
    for (size_t offset = 0; status == COHORT_OK;)
        status = cohort_frame_next(outer, &offset, &inner);
    return status;
}

static void frames_within_a_shortened_frame_are_refused(void **state) {
    (void)state;
    static _Alignas(8) uint8_t body[4096];
    cohort_frame load = {.kind = COHORT_FRAME_LOAD, .body = body};
    size_t whole = nest_calls(body),
           first = cohort_frame_nested_bytes(&(cohort_frame){0});
    for (load.body_bytes = 1; load.body_bytes < first; load.body_bytes++)
        assert_int_equal(read_all(&load), COHORT_E_PROTOCOL);
    load.body_bytes = whole;
    assert_int_equal(read_all(&load), COHORT_PENDING);
    memset(body, 0xff, 4); /* longer than there is */
    assert_int_equal(read_all(&load), COHORT_E_PROTOCOL);
    nest_calls(body);
    body[4] = 1; /* reserved */
    assert_int_equal(read_all(&load), COHORT_E_PROTOCOL);
    nest_calls(body);
    body[0] = 47; /* no header */
    assert_int_equal(read_all(&load), COHORT_E_PROTOCOL);
}

static void kept_memory_is_of_a_kind(void **state) {
    (void)state;
    const struct {
        cohort_frame_keep body;
        cohort_status expected;
    } cases[] = {
        {{.what = COHORT_KEEP_WEIGHTS, .generation = 7}, COHORT_OK},
        {{.what = COHORT_KEEP_KV, .was_kept = 1}, COHORT_OK},
        {{.what = 0}, COHORT_E_PROTOCOL},
        {{.what = COHORT_KEEP_WEIGHTS | COHORT_KEEP_KV}, COHORT_E_PROTOCOL},
        {{.what = COHORT_KEEP_KV, .was_kept = 2}, COHORT_E_PROTOCOL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cohort_frame_keep keep;
        cohort_frame frame = {.kind = COHORT_FRAME_KEEP,
                              .body = &cases[i].body,
                              .body_bytes = sizeof cases[i].body};
        assert_int_equal(cohort_frame_read_keep(&frame, &keep), cases[i].expected);
        frame.body_bytes--;
        assert_int_equal(cohort_frame_read_keep(&frame, &keep), COHORT_E_PROTOCOL);
    }
}

static void choice_of_a_rank_is_a_pair_or_nothing(void **state) {
    (void)state;
    cohort_frame_ready body = {.choice = "isa=avx2"}, ready;
    cohort_frame frame = {
        .kind = COHORT_FRAME_READY, .body = &body, .body_bytes = sizeof body};
    assert_int_equal(cohort_frame_read_ready(&frame, &ready), COHORT_OK);
    assert_string_equal(ready.choice, "isa=avx2");
    memset(body.choice, '=', sizeof body.choice); /* without an end */
    assert_int_equal(cohort_frame_read_ready(&frame, &ready), COHORT_E_PROTOCOL);
    body = (cohort_frame_ready){.choice = "isa"};
    assert_int_equal(cohort_frame_read_ready(&frame, &ready), COHORT_E_PROTOCOL);
    body = (cohort_frame_ready){0};
    assert_int_equal(cohort_frame_read_ready(&frame, &ready), COHORT_OK);
    frame.body_bytes = 0;
    assert_int_equal(cohort_frame_read_ready(&frame, &ready), COHORT_OK);
    assert_string_equal(ready.choice, "");
    frame.kind = COHORT_FRAME_CONNECTED;
    assert_int_equal(cohort_frame_read_ready(&frame, &ready), COHORT_E_PROTOCOL);
}

static void hello_needs_a_pid(void **state) {
    (void)state;
    cohort_frame_hello hello = {.pid = 1}, out;
    cohort_frame frame = {
        .kind = COHORT_FRAME_HELLO, .body = &hello, .body_bytes = sizeof hello};
    memset(hello.build_id, 'b', sizeof hello.build_id);
    assert_int_equal(cohort_frame_read_hello(&frame, &out), COHORT_OK);
    assert_int_equal(strlen(out.build_id), sizeof out.build_id - 1);
    hello.pid = 0;
    assert_int_equal(cohort_frame_read_hello(&frame, &out), COHORT_E_PROTOCOL);
}

static void codes_of_errors_are_bounded(void **state) {
    (void)state;
    static const struct {
        int32_t code;
        cohort_status expected;
    } cases[] = {{-1, COHORT_OK},
                 {0, COHORT_E_PROTOCOL},
                 {COHORT_E_LAST, COHORT_OK},
                 {COHORT_E_LAST - 1, COHORT_E_PROTOCOL}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cohort_error error = {.code = cases[i].code}, out;
        memset(error.message, 'm', sizeof error.message);
        cohort_frame frame = {
            .kind = COHORT_FRAME_POISON, .body = &error, .body_bytes = sizeof error};
        assert_int_equal(cohort_frame_read_error(&frame, &out), cases[i].expected);
        assert_int_equal(strlen(out.message), sizeof out.message - 1);
        frame.body_bytes--;
        assert_int_equal(cohort_frame_read_error(&frame, &out), COHORT_E_PROTOCOL);
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
        cmocka_unit_test(configure_is_refused_from_the_first_impossible_value_on),
        cmocka_unit_test(rejoin_names_the_epoch_to_come),
        cmocka_unit_test(frames_within_a_frame_come_back_in_order),
        cmocka_unit_test(frames_within_a_shortened_frame_are_refused),
        cmocka_unit_test(kept_memory_is_of_a_kind),
        cmocka_unit_test(choice_of_a_rank_is_a_pair_or_nothing),
        cmocka_unit_test(hello_needs_a_pid),
        cmocka_unit_test(codes_of_errors_are_bounded),
        cmocka_unit_test(error_arrives_with_its_text_and_place),
        cmocka_unit_test(table_must_hold_what_it_announces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
