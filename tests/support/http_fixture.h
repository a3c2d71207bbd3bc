/* SPDX-License-Identifier: Apache-2.0 */
/* support/http_fixture.h - HTTP within the process of a test: bytes of requests in, bytes
 * of answers out, over a unix socket.
 *
 *   /echo     "METHOD SIZE BODY" of what the holder got; 413, 503 where it got none
 *   /unwanted the same, and its body is not wanted
 *   /hold     the test is the holder: http_take_held
 *   /stream   "one" and "two"; /broken: not to the end
 *   /silent   is released without an answer
 *
 * All of it fails the test where something is not as it should be, and where it takes
 * longer than HTTP_PATIENCE_MS.
 */
#ifndef COHORT_TESTS_HTTP_FIXTURE_H
#define COHORT_TESTS_HTTP_FIXTURE_H

#include <pthread.h>

#include "http/http.h"

enum { HTTP_BODY_LIMIT = 16, HTTP_PATIENCE_MS = 60000 };

typedef struct http_fixture {
    cohort_http *http;
    char dir[64], path[96];
    pthread_mutex_t lock;
    pthread_cond_t changed;
    cohort_exchange *held; /* of /hold, until the test takes it */
    int n_requests, n_gone;
    int n_records, status; /* of answers; the last one's */
    size_t request_bytes, response_bytes;
} http_fixture;

/* Times that are not given are ten minutes. */
http_fixture *http_fixture_open(cohort_http_options options);
void http_fixture_close(http_fixture *self);
/* For cmocka: one whose bodies have HTTP_BODY_LIMIT bytes. */
int http_set_up(void **state);
int http_tear_down(void **state);

/* Waits for *value to be at least so much. */
void http_await(http_fixture *self, const int *value, int least);
/* The request that /hold has, which is the n-th of all. */
cohort_exchange *http_take_held(http_fixture *self, int n_requests);
void http_reply(cohort_exchange *exchange, int status, const char *text);
void http_push(cohort_exchange *exchange, const char *text);
/* Counts in n_gone; user_data: the fixture. */
void http_on_gone(void *user_data);

/* ---- the client -------------------------------------------------------------------- */

typedef struct http_answer {
    int status;
    cohort_body head, body; /* body: as it came, chunks and all */
    bool is_cut;            /* before its end */
} http_answer;

int http_dial(const http_fixture *self);
void http_say(int fd, const char *bytes);
/* False: the server ended the connection. */
bool http_hear_byte(int fd, char *out);
/* Closes. */
void http_assert_ended(int fd);
/* One answer; its body ends as its head says. */
http_answer http_hear(int fd);
void http_answer_deinit(http_answer *of);
/* A whole answer, and its body as it came. */
void http_assert_hears(int fd, int status, const char *body);
bool http_ends_with(const cohort_body *body, const char *text);

#endif /* COHORT_TESTS_HTTP_FIXTURE_H */
