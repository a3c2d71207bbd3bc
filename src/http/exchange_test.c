/* SPDX-License-Identifier: Apache-2.0 */
/* The holder's side of an exchange, in time: answers that come late, streams, clients
 * that leave or do not read, limits of all together. */
#include "http/http.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "cohort/clock.h"
#include "http_fixture.h"

#define GET(path)  "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"
#define POST(path) "POST " path " HTTP/1.1\r\nHost: a\r\n"

enum { LARGE = 128 << 10 };

static void headers_go_both_ways(void **state) {
    int fd = http_dial(*state);
    http_say(fd, "GET /hold?a HTTP/1.1\r\nHost: a\r\nX-Asked:  b c\r\n\r\n");
    cohort_exchange *held = http_take_held(*state, 1);
    assert_string_equal(cohort_exchange_path(held), "/hold");
    assert_string_equal(cohort_exchange_header(held, "x-asked"), "b c");
    assert_null(cohort_exchange_header(held, "X-Other"));
    cohort_exchange_add_header(held, "X-Answered", "d");
    assert_string_equal(cohort_exchange_added_header(held, "x-answered"), "d");
    assert_null(cohort_exchange_added_header(held, "x-asked"));
    http_reply(held, 418, "");
    http_answer got = http_hear(fd);
    assert_int_equal(got.status, 418);
    assert_non_null(strstr(got.head.bytes, "X-Answered: d\r\n"));
    assert_non_null(strstr(got.head.bytes, "Content-Type: text/plain\r\n"));
    http_answer_deinit(&got);
    close(fd);
}

static void record_tells_what_was_answered(void **state) {
    http_fixture *self = *state;
    int fd = http_dial(self);
    http_say(fd, POST("/echo") "Content-Length: 3\r\n\r\nabc");
    http_assert_hears(fd, 200, "POST 3 abc");
    http_await(self, &self->n_records, 1);
    assert_int_equal(self->status, 200);
    assert_int_equal(self->request_bytes, 3);
    assert_int_equal(self->response_bytes, 10);
    close(fd);
}

/* ---- in time ----------------------------------------------------------------------- */

static void pipelined_request_waits_for_the_answer_before_it(void **state) {
    http_fixture *self = *state;
    int fd = http_dial(self);
    http_say(fd, GET("/hold") GET("/echo"));
    cohort_exchange *held = http_take_held(self, 1);
    assert_int_equal(self->n_requests, 1);
    http_reply(held, 200, "late");
    http_assert_hears(fd, 200, "late");
    http_assert_hears(fd, 200, "GET 0");
    close(fd);
}

static void assert_hears_bytes(int fd, const char *bytes) {
    for (char byte; *bytes; bytes++) {
        assert_true(http_hear_byte(fd, &byte));
        assert_int_equal(byte, *bytes);
    }
}

static void what_is_flushed_is_heard_before_the_end(void **state) {
    http_fixture *self = *state;
    int fd = http_dial(self);
    http_say(fd, GET("/hold"));
    cohort_exchange *held = http_take_held(self, 1);
    cohort_exchange_begin(held, 200, "text/event-stream");
    char byte = 0;
    for (cohort_body head = {0};;) {
        assert_true(http_hear_byte(fd, &byte));
        cohort_body_add(&head, &byte, 1);
        if (!http_ends_with(&head, "\r\n\r\n")) continue;
        cohort_body_deinit(&head);
        break;
    }
    for (int i = 0; i < 100; i++) {
        http_push(held, "part");
        cohort_http_flush(self->http);
        assert_hears_bytes(fd, "4\r\npart\r\n");
    }
    cohort_exchange_end(held, true);
    cohort_exchange_release(held);
    assert_hears_bytes(fd, "0\r\n\r\n");
    http_say(fd, GET("/echo"));
    http_assert_hears(fd, 200, "GET 0");
    close(fd);
}

static void client_that_left_is_told_to_the_holder(void **state) {
    http_fixture *self = *state;
    for (int begins = 0; begins < 2; begins++) {
        int fd = http_dial(self);
        http_say(fd, GET("/hold"));
        cohort_exchange *held = http_take_held(self, begins + 1);
        cohort_exchange_on_gone(held, http_on_gone, self);
        if (begins) cohort_exchange_begin(held, 200, NULL);
        assert_false(cohort_exchange_is_gone(held));
        close(fd);
        http_await(self, &self->n_gone, begins + 1);
        assert_true(cohort_exchange_is_gone(held));
        http_await(self, &self->n_records, begins + 1);
        assert_int_equal(self->status, 499);
        /* What is said now nobody hears. */
        http_push(held, "part");
        http_reply(held, 200, "late");
    }
    assert_int_equal(self->n_gone, 2);
}

static void who_asks_after_the_client_left_is_told_at_once(void **state) {
    http_fixture *self = *state;
    int fd = http_dial(self);
    http_say(fd, GET("/hold"));
    cohort_exchange *held = http_take_held(self, 1);
    close(fd);
    http_await(self, &self->n_records, 1);
    cohort_exchange_on_gone(held, http_on_gone, self);
    assert_int_equal(self->n_gone, 1);
    cohort_exchange_release(held);
}

enum { PART = 16 << 10, IN_SOCKETS = 256 };

/* How many parts a client leaves unread before it is given up. */
static int count_unread(http_fixture *self) {
    char *text = calloc(1, PART + 1);
    int n = 0, fd = http_dial(self);
    http_say(fd, GET("/hold"));
    cohort_exchange *held = http_take_held(self, 1);
    cohort_exchange_on_gone(held, http_on_gone, self);
    cohort_exchange_begin(held, 200, NULL);
    memset(text, 'a', PART);
    for (; n < 10000 && !cohort_exchange_is_gone(held); n++) {
        http_push(held, text);
        cohort_http_flush(self->http);
    }
    assert_int_equal(self->n_gone, 1);
    cohort_exchange_release(held);
    close(fd);
    free(text);
    return n;
}

static void who_does_not_read_is_given_up(void **state) {
    (void)state;
    http_fixture *self =
        http_fixture_open((cohort_http_options){.max_body_bytes = 1 << 20});
    int most = (16 << 20) / PART;
    assert_in_range(count_unread(self), most, most + IN_SOCKETS);
    http_fixture_close(self);
}

static void who_does_not_read_is_given_up_soon_where_memory_is_short(void **state) {
    int most = COHORT_FAIR_BYTES / PART;
    assert_in_range(count_unread(*state), most, most + IN_SOCKETS);
}

static void who_takes_too_long_is_ended_but_not_who_waits(void **state) {
    (void)state;
    http_fixture *self =
        http_fixture_open((cohort_http_options){.max_body_bytes = HTTP_BODY_LIMIT,
                                                .idle_timeout_ns = 100000000,
                                                .request_timeout_ns = 100000000});
    int waits = http_dial(self);
    http_say(waits, GET("/hold"));
    cohort_exchange *held = http_take_held(self, 1);
    static const char *const begun[] = {
        "", "GET /ec", POST("/echo") "Content-Length: 3\r\n\r\na",
        POST("/echo") "Transfer-Encoding: chunked\r\n\r\n2\r\na"};
    int fds[4];
    for (int i = 0; i < 4; i++) {
        fds[i] = http_dial(self);
        http_say(fds[i], begun[i]);
    }
    for (int i = 0; i < 4; i++)
        http_assert_ended(fds[i]);
    assert_int_equal(self->n_requests, 1);
    http_reply(held, 200, "late");
    http_assert_hears(waits, 200, "late");
    close(waits);
    http_fixture_close(self);
}

static void crowd_is_refused_but_for_small_bodies(void **state) {
    (void)state;
    enum { MOST = 4 << 20 };
    http_fixture *self = http_fixture_open(
        (cohort_http_options){.max_body_bytes = MOST / 4, .max_held_bytes = MOST});
    char *text = calloc(1, LARGE + 1);
    memset(text, 'a', LARGE);
    int fd = http_dial(self);
    for (int is_full = 0; is_full < 2; is_full++) {
        if (is_full) assert_true(cohort_http_hold(self->http, MOST / 4 * 3 + 1));
        http_say(fd, POST("/echo") "Content-Length: 131072\r\n\r\n");
        http_say(fd, text);
        http_assert_hears(fd, is_full ? 503 : 200, is_full ? "POST 0" : "POST 131072");
        http_say(fd, POST("/echo") "Content-Length: 1\r\n\r\na");
        http_assert_hears(fd, 200, "POST 1 a");
    }
    assert_false(cohort_http_hold(self->http, MOST / 4));
    http_say(fd, POST("/hold") "Content-Length: 1\r\n\r\na");
    cohort_exchange *held = http_take_held(self, 5);
    assert_false(cohort_exchange_keep(held, LARGE));
    assert_true(cohort_exchange_keep(held, COHORT_FAIR_BYTES));
    http_reply(held, 200, "");
    http_assert_hears(fd, 200, "");
    close(fd);
    http_fixture_close(self);
    free(text);
}

static void finish_waits_for_what_is_held(void **state) {
    http_fixture *self = *state;
    int fd = http_dial(self);
    http_say(fd, GET("/hold"));
    cohort_exchange *held = http_take_held(self, 1);
    assert_int_equal(cohort_http_finish(self->http, cohort_clock_ns()), COHORT_E_TIMEOUT);
    http_reply(held, 200, "last");
    assert_int_equal(cohort_http_finish(self->http, cohort_deadline_ms(HTTP_PATIENCE_MS)),
                     COHORT_OK);
    http_assert_hears(fd, 200, "last");
    close(fd);
}

static void stop_ends_what_is_held(void **state) {
    http_fixture *self = *state;
    int fds[2];
    cohort_exchange *held[2];
    for (int i = 0; i < 2; i++) {
        fds[i] = http_dial(self);
        http_say(fds[i], GET("/hold"));
        held[i] = http_take_held(self, i + 1);
        cohort_exchange_on_gone(held[i], http_on_gone, self);
    }
    cohort_exchange_begin(held[1], 200, NULL);
    http_answer got = {0};
    for (char byte; !http_ends_with(&got.head, "\r\n\r\n");) {
        assert_true(http_hear_byte(fds[1], &byte));
        cohort_body_add(&got.head, &byte, 1);
    }
    cohort_http_stop(self->http);
    assert_int_equal(self->n_gone, 2);
    for (int i = 0; i < 2; i++) {
        http_assert_ended(fds[i]);
        http_reply(held[i], 200, "nobody hears it");
    }
    http_answer_deinit(&got);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define CASE(name) cmocka_unit_test_setup_teardown(name, http_set_up, http_tear_down)
        CASE(headers_go_both_ways),
        CASE(record_tells_what_was_answered),
        CASE(pipelined_request_waits_for_the_answer_before_it),
        CASE(what_is_flushed_is_heard_before_the_end),
        CASE(client_that_left_is_told_to_the_holder),
        CASE(who_asks_after_the_client_left_is_told_at_once),
        cmocka_unit_test(who_does_not_read_is_given_up),
        CASE(who_does_not_read_is_given_up_soon_where_memory_is_short),
        cmocka_unit_test(who_takes_too_long_is_ended_but_not_who_waits),
        cmocka_unit_test(crowd_is_refused_but_for_small_bodies),
        CASE(finish_waits_for_what_is_held),
        CASE(stop_ends_what_is_held),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
