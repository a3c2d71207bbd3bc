/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes in, bytes out: whole and byte by byte, what is right passes, what two parsers
 * could read differently ends the stream. */
#include "http/framing.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define HEAD_FAULT  "\x01 / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
#define BODY_FAULT  "0\r\n\x01: 1\r\n\r\n"
#define GET         "GET / HTTP/1.1\r\nHost: a\r\n"
#define POST        "POST /v1/x?y=1 HTTP/1.1\r\nHost: a\r\n"
#define CHUNKED     POST "Transfer-Encoding: chunked\r\n\r\n"
#define BYTES(text) (text), sizeof(text) - 1

static const struct {
    const char *in;
    size_t size;
    const char *out;
} cases[] = {
    /* What is right. */
    {BYTES(GET "\r\n"), GET "\r\n"},
    {BYTES("\r\n\r\n" GET "\r\n"), GET "\r\n"},
    {BYTES(GET "X:\t a\tb \xc3\xa4\r\n\r\n"), GET "X:\t a\tb \xc3\xa4\r\n\r\n"},
    {BYTES("GET / HTTP/1.0\r\n\r\n"), "GET / HTTP/1.0\r\n\r\n"},
    {BYTES(POST "Content-Length: 3\r\n\r\na\nc" GET "\r\n"),
     POST "Content-Length: 3\r\n\r\na\nc" GET "\r\n"},
    {BYTES(POST "content-length:0\r\n\r\n" GET "\r\n"),
     POST "content-length:0\r\n\r\n" GET "\r\n"},
    {BYTES(CHUNKED "3\r\na\rc\r\n00A;x=\"y\"\r\n0123456789\r\n0\r\n\r\n" GET "\r\n"),
     CHUNKED "3\r\na\rc\r\na\r\n0123456789\r\n0\r\n\r\n" GET "\r\n"},
    {BYTES(CHUNKED "0\r\nX: y\r\n\r\n" GET "\r\n"), CHUNKED "0\r\n\r\n" GET "\r\n"},
    {BYTES("GET http://b:8/health?x HTTP/1.1\r\n\r\n"), "GET /health?x HTTP/1.1\r\n\r\n"},
    {BYTES("GET HTTPS://b HTTP/1.1\r\n\r\n"), "GET / HTTP/1.1\r\n\r\n"},
    {BYTES("GET http://b?x HTTP/1.1\r\n\r\n"), "GET /?x HTTP/1.1\r\n\r\n"},
    {BYTES("OPTIONS * HTTP/1.1\r\n\r\n"), "OPTIONS * HTTP/1.1\r\n\r\n"},
    /* Lengths. */
    {BYTES(POST "Content-Length: 3\r\nContent-Length: 38\r\n\r\nabc" GET "\r\n"),
     HEAD_FAULT},
    {BYTES(POST "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"), HEAD_FAULT},
    {BYTES(POST "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
     HEAD_FAULT},
    {BYTES(POST "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n"),
     HEAD_FAULT},
    {BYTES(POST "Content-Length: -1\r\n\r\n"), HEAD_FAULT},
    {BYTES(POST "Content-Length: +5\r\n\r\nabcde"), HEAD_FAULT},
    {BYTES(POST "Content-Length: 3, 3\r\n\r\nabc"), HEAD_FAULT},
    {BYTES(POST "Content-Length: 99999999999999999999\r\n\r\n"), HEAD_FAULT},
    {BYTES(POST "Content-Length:\r\n\r\n"), HEAD_FAULT},
    {BYTES(POST "Content-Length: 0x3\r\n\r\nabc"), HEAD_FAULT},
    {BYTES(POST "Transfer-Encoding: identity\r\n\r\n"), HEAD_FAULT},
    {BYTES(POST "Transfer-Encoding: gzip, chunked\r\n\r\n"), HEAD_FAULT},
    {BYTES(POST "Transfer-Encoding: xchunked\r\n\r\n"), HEAD_FAULT},
    {BYTES(POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
     HEAD_FAULT},
    {BYTES("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), HEAD_FAULT},
    /* Lines and fields. */
    {BYTES(POST "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"), HEAD_FAULT},
    {BYTES(POST "Transfer-Encoding:\x0b"
                "chunked\r\n\r\n0\r\n\r\n"),
     HEAD_FAULT},
    {BYTES(GET "X: a\r\n b\r\n\r\n"), HEAD_FAULT},
    {BYTES(GET " X: a\r\n\r\n"), HEAD_FAULT},
    {BYTES(GET "X: a\0b\r\n\r\n"), HEAD_FAULT},
    {BYTES(GET "X: a\rY: b\r\n\r\n"), HEAD_FAULT},
    {BYTES(GET "X: a\nY: b\r\n\r\n"), HEAD_FAULT},
    {BYTES(GET "X\r\n\r\n"), HEAD_FAULT},
    {BYTES(GET ": a\r\n\r\n"), HEAD_FAULT},
    {BYTES(GET "Host: b\r\n\r\n"), HEAD_FAULT},
    {BYTES(GET "\n"), HEAD_FAULT},
    {BYTES("GET  / HTTP/1.1\r\n\r\n"), HEAD_FAULT},
    {BYTES("GET /a b HTTP/1.1\r\n\r\n"), HEAD_FAULT},
    {BYTES("GET / HTTP/2.0\r\n\r\n"), HEAD_FAULT},
    {BYTES("GET /\r\n\r\n"), HEAD_FAULT},
    {BYTES("GET /\x01 HTTP/1.1\r\n\r\n"), HEAD_FAULT},
    {BYTES("\x01 / HTTP/1.1\r\n\r\n"), HEAD_FAULT},
    {BYTES("GET a HTTP/1.1\r\n\r\n"), HEAD_FAULT},
    {BYTES("GET http:///a HTTP/1.1\r\n\r\n"), HEAD_FAULT},
    {BYTES("\x16\x03\x01\x02\n"), HEAD_FAULT},
    {BYTES("\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n" GET "\r\n"), HEAD_FAULT},
    /* Chunks. */
    {BYTES(CHUNKED "3\nabc\r\n0\r\n\r\n"), CHUNKED BODY_FAULT},
    {BYTES(CHUNKED "3\r\nabcd\r\n0\r\n\r\n"), CHUNKED "3\r\nabc\r\n" BODY_FAULT},
    {BYTES(CHUNKED "3\r\nabc\n0\r\n\r\n"), CHUNKED "3\r\nabc\r\n" BODY_FAULT},
    {BYTES(CHUNKED "-3\r\nabc\r\n0\r\n\r\n"), CHUNKED BODY_FAULT},
    {BYTES(CHUNKED "0x3\r\nabc\r\n0\r\n\r\n"), CHUNKED BODY_FAULT},
    {BYTES(CHUNKED "\r\n"), CHUNKED BODY_FAULT},
    {BYTES(CHUNKED "3 3\r\n"), CHUNKED BODY_FAULT},
    {BYTES(CHUNKED "1000000000000000\r\n"), CHUNKED BODY_FAULT},
    {BYTES(CHUNKED "0\r\n\x01: 1\r\n\r\n"), CHUNKED BODY_FAULT},
    {BYTES(CHUNKED "0\r\nX : 1\r\n\r\n"), CHUNKED BODY_FAULT},
    {BYTES(CHUNKED "0\r\n\n"), CHUNKED BODY_FAULT},
    /* Only what follows is lost. */
    {BYTES(GET "\r\n" GET "X : a\r\n\r\n" GET "\r\n"), GET "\r\n" HEAD_FAULT},
};

static void feed_in_parts(const char *in, size_t size, size_t part,
                          const char *expected) {
    cohort_framing framing = {0};
    cohort_body out = {0};
    for (size_t at = 0; at < size; at += part)
        cohort_framing_feed(&framing, in + at, size - at < part ? size - at : part, &out);
    assert_string_equal(out.bytes, expected);
    bool is_refused = strchr(expected, *COHORT_FRAMING_MARK) != NULL;
    assert_int_equal(framing.state == COHORT_FRAMING_REFUSED, is_refused);
    assert_int_equal(framing.status, is_refused ? 400 : 0);
    assert_true(is_refused == (framing.fault != NULL));
    cohort_framing_deinit(&framing);
    cohort_body_deinit(&out);
}

static void streams_come_out_as_they_should(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t part = 1; part <= cases[i].size; part++)
            feed_in_parts(cases[i].in, cases[i].size, part, cases[i].out);
}

static void what_never_ends_is_bounded(void **state) {
    static const char *const begins[] = {"GET /", GET "X: ", GET, CHUNKED "1;",
                                         CHUNKED "0\r\n"};
    static const char *const goes_on[] = {"a", "a", "X: a\r\n", "a", "X: a\r\n"};
    (void)state;
    for (size_t i = 0; i < sizeof begins / sizeof *begins; i++) {
        cohort_framing framing = {0};
        cohort_body out = {0};
        size_t size = strlen(goes_on[i]), n = 0;
        cohort_framing_feed(&framing, begins[i], strlen(begins[i]), &out);
        for (; framing.state != COHORT_FRAMING_REFUSED && n < 65536; n++)
            cohort_framing_feed(&framing, goes_on[i], size, &out);
        assert_int_equal(framing.status, 431);
        assert_true(n * size <= 65536 + size); /* the last was refused */
        assert_null(framing.held.bytes);
        cohort_framing_deinit(&framing);
        cohort_body_deinit(&out);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_come_out_as_they_should),
        cmocka_unit_test(what_never_ends_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
