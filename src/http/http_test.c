/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of requests in, bytes of answers out. */
#include "http/http.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "http_fixture.h"

#define GET(path)  "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"
#define POST(path) "POST " path " HTTP/1.1\r\nHost: a\r\n"
#define SIXTEEN    "0123456789abcdef"

static const struct {
    const char *in;
    struct {
        int status;
        const char *body;
    } out[4];
    bool ends;
} cases[] = {
    {GET("/echo"), {{200, "GET 0"}}, false},
    {GET("/echo?query") GET("/echo") GET("/echo"),
     {{200, "GET 0"}, {200, "GET 0"}, {200, "GET 0"}},
     false},
    {POST("/echo") "Content-Length: 3\r\n\r\nabc" GET("/echo"),
     {{200, "POST 3 abc"}, {200, "GET 0"}},
     false},
    {POST("/echo") "Content-Length: 0\r\n\r\n", {{200, "POST 0"}}, false},
    /* Chunks. */
    {POST("/echo") "Transfer-Encoding: chunked\r\n\r\n"
                   "3;x=y\r\nabc\r\n1\r\nd\r\n0\r\nX: y\r\n\r\n" GET("/echo"),
     {{200, "POST 4 abcd"}, {200, "GET 0"}},
     false},
    /* As large as may be, and a byte more, which is read past. */
    {POST("/echo") "Content-Length: 16\r\n\r\n" SIXTEEN,
     {{200, "POST 16 " SIXTEEN}},
     false},
    {POST("/echo") "Content-Length: 17\r\n\r\n" SIXTEEN "!" GET("/echo"),
     {{413, "POST 0"}, {200, "GET 0"}},
     false},
    {POST("/echo") "Transfer-Encoding: chunked\r\n\r\n10\r\n" SIXTEEN "\r\n0\r\n\r\n",
     {{200, "POST 16 " SIXTEEN}},
     false},
    {POST("/echo") "Transfer-Encoding: chunked\r\n\r\n10\r\n" SIXTEEN
                   "\r\n1\r\n!\r\n0\r\n\r\n" GET("/echo"),
     {{413, "POST 0"}, {200, "GET 0"}},
     false},
    /* What nobody looks at is read past, too. */
    {POST("/unwanted") "Content-Length: 3\r\n\r\nabc" GET("/echo"),
     {{200, "POST 0"}, {200, "GET 0"}},
     false},
    {POST("/unwanted") "Content-Length: 17\r\n\r\n" SIXTEEN "!",
     {{413, "POST 0"}},
     false},
    /* Ends. */
    {"GET /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
     {{200, "GET 0"}},
     true},
    {GET("/echo") "GET /echo HTTP/1.1\nHost: a\n\n",
     {{200, "GET 0"},
      {400, "Invalid HTTP request received: a line does not end in CRLF."}},
     true},
    {POST("/echo") "Content-Length: 1\r\nContent-Length: 1\r\n\r\na" GET("/echo"),
     {{400, "Invalid HTTP request received: Content-Length is there twice."}},
     true},
    {POST("/echo") "Transfer-Encoding: chunked\r\n\r\nx\r\n",
     {{400, "Invalid HTTP request received: a chunk's size is not one."}},
     true},
    /* Streams. */
    {GET("/stream") GET("/echo"),
     {{200, "6\r\nonetwo\r\n0\r\n\r\n"}, {200, "GET 0"}},
     false},
    {GET("/silent") GET("/echo"), {{500, ""}, {200, "GET 0"}}, false},
};

static void bytes_in_give_bytes_out(void **state) {
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int one_by_one = 0; one_by_one < 2; one_by_one++) {
            int fd = http_dial(*state);
            char byte[2] = "";
            if (!one_by_one) http_say(fd, cases[i].in);
            for (const char *at = cases[i].in; one_by_one && *at; at++) {
                byte[0] = *at;
                /* Who was refused is not read any longer. */
                if (send(fd, byte, 1, MSG_NOSIGNAL) < 0) break;
            }
            for (int k = 0; k < 4 && cases[i].out[k].status; k++)
                http_assert_hears(fd, cases[i].out[k].status, cases[i].out[k].body);
            if (!cases[i].ends) {
                http_say(fd, POST("/echo") "Content-Length: 1\r\n\r\nz");
                http_assert_hears(fd, 200, "POST 1 z");
                shutdown(fd, SHUT_WR);
            }
            http_assert_ended(fd);
        }
}

static void long_head_gets_431_and_the_end(void **state) {
    cohort_body head = {0};
    int fd = http_dial(*state);
    cohort_body_puts(&head, "GET /echo HTTP/1.1\r\nX: ");
    while (head.size < 70000)
        cohort_body_puts(&head, SIXTEEN);
    cohort_body_puts(&head, "\r\n\r\n");
    http_say(fd, head.bytes);
    http_assert_hears(fd, 431,
                      "Invalid HTTP request received: a head or line is too long.");
    http_assert_ended(fd);
    cohort_body_deinit(&head);
}

static void who_asks_before_sending_is_told_at_once(void **state) {
    static const char *const heads[] = {
        POST("/echo") "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n",
        POST("/echo") "Expect: 100-continue\r\nContent-Length: 17\r\n\r\n",
        POST("/unwanted") "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"};
    static const int statuses[] = {100, 413, 200};
    for (size_t i = 0; i < 3; i++) {
        int fd = http_dial(*state);
        http_say(fd, heads[i]);
        http_assert_hears(fd, statuses[i], i ? "POST 0" : "");
        if (!i) http_say(fd, "abc");
        if (!i) http_assert_hears(fd, 200, "POST 3 abc");
        close(fd);
    }
}

static void stream_to_http_1_0_ends_with_the_connection(void **state) {
    int fd = http_dial(*state);
    http_say(fd, "GET /stream HTTP/1.0\r\n\r\n");
    http_answer got = http_hear(fd);
    assert_int_equal(got.status, 200);
    assert_string_equal(got.body.bytes, "onetwo");
    assert_true(got.is_cut);
    http_answer_deinit(&got);
    close(fd);
}

static void stream_that_is_not_whole_breaks_off(void **state) {
    int fd = http_dial(*state);
    http_say(fd, GET("/broken"));
    http_answer got = http_hear(fd);
    assert_true(got.is_cut);
    assert_string_equal(got.body.bytes, "6\r\nonetwo\r\n");
    http_answer_deinit(&got);
    close(fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define CASE(name) cmocka_unit_test_setup_teardown(name, http_set_up, http_tear_down)
        CASE(bytes_in_give_bytes_out),
        CASE(long_head_gets_431_and_the_end),
        CASE(who_asks_before_sending_is_told_at_once),
        CASE(stream_to_http_1_0_ends_with_the_connection),
        CASE(stream_that_is_not_whole_breaks_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
