/* SPDX-License-Identifier: Apache-2.0 */
#include "http_fixture.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- the holder -------------------------------------------------------------------- */

static void signal_change(http_fixture *self) {
    pthread_cond_broadcast(&self->changed);
    pthread_mutex_unlock(&self->lock);
}

void http_await(http_fixture *self, const int *value, int least) {
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += HTTP_PATIENCE_MS / 1000;
    pthread_mutex_lock(&self->lock);
    int result = 0;
    while (*value < least && !result)
        result = pthread_cond_timedwait(&self->changed, &self->lock, &end);
    pthread_mutex_unlock(&self->lock);
    assert_int_equal(result, 0);
}

void http_reply(cohort_exchange *exchange, int status, const char *text) {
    cohort_body body = {0};
    cohort_body_puts(&body, text);
    cohort_exchange_reply(exchange, status, "text/plain", &body);
    cohort_exchange_release(exchange);
}

void http_push(cohort_exchange *exchange, const char *text) {
    cohort_body part = {0};
    cohort_body_puts(&part, text);
    cohort_exchange_push(exchange, &part);
    cohort_body_deinit(&part);
}

/* What came of the request, as the holder sees it. */
static void echo(cohort_exchange *exchange) {
    size_t size;
    const char *bytes = cohort_exchange_body(exchange, &size);
    cohort_body body = {0};
    bool is_too_large = cohort_exchange_is_too_large(exchange);
    bool is_refused = cohort_exchange_is_refused(exchange);
    cohort_body_printf(&body, "%s %zu", cohort_exchange_method(exchange), size);
    if (size && size <= HTTP_BODY_LIMIT) cohort_body_printf(&body, " %s", bytes);
    cohort_exchange_add_header(exchange, "X-Test", "yes");
    http_reply(exchange, is_too_large ? 413 : is_refused ? 503 : 200, body.bytes);
    cohort_body_deinit(&body);
}

static void stream(http_fixture *self, cohort_exchange *exchange, bool whole) {
    cohort_exchange_begin(exchange, 200, "text/event-stream");
    http_push(exchange, "one");
    cohort_http_flush(self->http);
    http_push(exchange, "two");
    cohort_exchange_end(exchange, whole);
    cohort_exchange_release(exchange);
}

static void on_request(void *user_data, cohort_exchange *exchange) {
    http_fixture *self = user_data;
    const char *path = cohort_exchange_path(exchange);
    bool holds = !strcmp(path, "/hold");
    pthread_mutex_lock(&self->lock);
    self->n_requests++;
    if (holds) self->held = exchange;
    signal_change(self);
    if (!strcmp(path, "/stream") || !strcmp(path, "/broken"))
        stream(self, exchange, path[1] == 's');
    else if (!strcmp(path, "/silent"))
        cohort_exchange_release(exchange);
    else if (!holds)
        echo(exchange);
}

static bool wants_body(void *user_data, const cohort_exchange *exchange) {
    (void)user_data;
    return strcmp(cohort_exchange_path(exchange), "/unwanted") != 0;
}

static void observe(void *user_data, const cohort_http_record *record) {
    http_fixture *self = user_data;
    pthread_mutex_lock(&self->lock);
    self->n_records++;
    self->status = record->status;
    self->request_bytes = record->request_bytes;
    self->response_bytes = record->response_bytes;
    signal_change(self);
}

void http_on_gone(void *user_data) {
    http_fixture *self = user_data;
    pthread_mutex_lock(&self->lock);
    self->n_gone++;
    signal_change(self);
}

http_fixture *http_fixture_open(cohort_http_options options) {
    http_fixture *self = calloc(1, sizeof *self);
    assert_non_null(self);
    pthread_mutex_init(&self->lock, NULL);
    pthread_cond_init(&self->changed, NULL);
    snprintf(self->dir, sizeof self->dir, "/tmp/cohort-http-XXXXXX");
    assert_non_null(mkdtemp(self->dir));
    snprintf(self->path, sizeof self->path, "%s/socket", self->dir);
    options.uds = self->path;
    options.on_request = on_request;
    options.wants_body = wants_body;
    options.user_data = self;
    if (!options.idle_timeout_ns) options.idle_timeout_ns = INT64_C(600000000000);
    if (!options.request_timeout_ns) options.request_timeout_ns = INT64_C(600000000000);
    assert_int_equal(cohort_http_bind(&options, &self->http), COHORT_OK);
    cohort_http_set_observer(self->http, observe, self);
    assert_int_equal(cohort_http_open(self->http), COHORT_OK);
    return self;
}

void http_fixture_close(http_fixture *self) {
    cohort_http_close(self->http);
    rmdir(self->dir);
    pthread_cond_destroy(&self->changed);
    pthread_mutex_destroy(&self->lock);
    free(self);
}

int http_set_up(void **state) {
    *state = http_fixture_open((cohort_http_options){.max_body_bytes = HTTP_BODY_LIMIT});
    return 0;
}

int http_tear_down(void **state) {
    http_fixture_close(*state);
    return 0;
}

cohort_exchange *http_take_held(http_fixture *self, int n_requests) {
    http_await(self, &self->n_requests, n_requests);
    pthread_mutex_lock(&self->lock);
    cohort_exchange *held = self->held;
    self->held = NULL;
    pthread_mutex_unlock(&self->lock);
    assert_non_null(held);
    return held;
}

/* ---- the client -------------------------------------------------------------------- */

int http_dial(const http_fixture *self) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, self->path, strlen(self->path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

void http_say(int fd, const char *bytes) {
    for (size_t size = strlen(bytes); size;) {
        ssize_t went = send(fd, bytes, size, MSG_NOSIGNAL);
        assert_true(went > 0);
        bytes += went;
        size -= (size_t)went;
    }
}

bool http_hear_byte(int fd, char *out) {
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&ready, 1, HTTP_PATIENCE_MS), 1);
    ssize_t got = recv(fd, out, 1, 0);
    if (got < 0) assert_int_equal(errno, ECONNRESET);
    return got == 1;
}

void http_assert_ended(int fd) {
    char byte;
    assert_false(http_hear_byte(fd, &byte));
    close(fd);
}

bool http_ends_with(const cohort_body *body, const char *text) {
    size_t size = strlen(text);
    return body->size >= size && !memcmp(body->bytes + body->size - size, text, size);
}

http_answer http_hear(int fd) {
    http_answer got = {0};
    char byte;
    while (!got.is_cut && !http_ends_with(&got.head, "\r\n\r\n")) {
        got.is_cut = !http_hear_byte(fd, &byte);
        if (!got.is_cut) cohort_body_add(&got.head, &byte, 1);
    }
    assert_false(got.is_cut);
    assert_int_equal(sscanf(got.head.bytes, "HTTP/1.%*d %d ", &got.status), 1);
    if (got.status < 200) return got;
    const char *length = strstr(got.head.bytes, "Content-Length: ");
    size_t size = length ? strtoull(length + 16, NULL, 10) : SIZE_MAX;
    bool is_chunked = strstr(got.head.bytes, "Transfer-Encoding: chunked\r\n");
    while (!got.is_cut && got.body.size < size &&
           !(is_chunked && http_ends_with(&got.body, "0\r\n\r\n"))) {
        got.is_cut = !http_hear_byte(fd, &byte);
        if (!got.is_cut) cohort_body_add(&got.body, &byte, 1);
    }
    return got;
}

void http_answer_deinit(http_answer *of) {
    cohort_body_deinit(&of->head);
    cohort_body_deinit(&of->body);
}

void http_assert_hears(int fd, int status, const char *body) {
    http_answer got = http_hear(fd);
    assert_int_equal(got.status, status);
    assert_string_equal(got.body.bytes ? got.body.bytes : "", body);
    assert_false(got.is_cut);
    http_answer_deinit(&got);
}
