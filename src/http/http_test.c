/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of requests in, bytes of answers out: a server of this process on a unix socket,
 * whose holder is the test. */
#include "http/http.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "cohort/clock.h"

enum {
    LIMIT = 16, /* bytes of a body */
    PATIENCE_MS = 60000,
    LARGE = 128 << 10,
};

#define GET(path)  "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"
#define POST(path) "POST " path " HTTP/1.1\r\nHost: a\r\n"
#define SIXTEEN    "0123456789abcdef"

/* ---- the holder -------------------------------------------------------------------- */

typedef struct rig {
    cohort_http *http;
    char dir[64], path[96];
    pthread_mutex_t lock;
    pthread_cond_t changed;
    cohort_exchange *held; /* of /hold, until the test takes it */
    int n_requests, n_gone;
    int n_records, status; /* of answers; the last one's */
    size_t request_bytes, response_bytes;
} rig;

static void signal_change(rig *self) {
    pthread_cond_broadcast(&self->changed);
    pthread_mutex_unlock(&self->lock);
}

/* Waits for *value to be at least so much. */
static void await(rig *self, const int *value, int least) {
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += PATIENCE_MS / 1000;
    pthread_mutex_lock(&self->lock);
    int result = 0;
    while (*value < least && !result)
        result = pthread_cond_timedwait(&self->changed, &self->lock, &end);
    pthread_mutex_unlock(&self->lock);
    assert_int_equal(result, 0);
}

static void reply(cohort_exchange *exchange, int status, const char *text) {
    cohort_body body = {0};
    cohort_body_puts(&body, text);
    cohort_exchange_reply(exchange, status, "text/plain", &body);
    cohort_exchange_release(exchange);
}

static void push(cohort_exchange *exchange, const char *text) {
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
    if (size && size <= LIMIT) cohort_body_printf(&body, " %s", bytes);
    cohort_exchange_add_header(exchange, "X-Test", "yes");
    reply(exchange, is_too_large ? 413 : is_refused ? 503 : 200, body.bytes);
    cohort_body_deinit(&body);
}

static void stream(rig *self, cohort_exchange *exchange, bool whole) {
    cohort_exchange_begin(exchange, 200, "text/event-stream");
    push(exchange, "one");
    cohort_http_flush(self->http);
    push(exchange, "two");
    cohort_exchange_end(exchange, whole);
    cohort_exchange_release(exchange);
}

static void on_request(void *user_data, cohort_exchange *exchange) {
    rig *self = user_data;
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
    rig *self = user_data;
    pthread_mutex_lock(&self->lock);
    self->n_records++;
    self->status = record->status;
    self->request_bytes = record->request_bytes;
    self->response_bytes = record->response_bytes;
    signal_change(self);
}

static void on_gone(void *user_data) {
    rig *self = user_data;
    pthread_mutex_lock(&self->lock);
    self->n_gone++;
    signal_change(self);
}

static rig *open_with(cohort_http_options options) {
    rig *self = calloc(1, sizeof *self);
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

static void close_rig(rig *self) {
    cohort_http_close(self->http);
    rmdir(self->dir);
    pthread_cond_destroy(&self->changed);
    pthread_mutex_destroy(&self->lock);
    free(self);
}

static int set_up(void **state) {
    *state = open_with((cohort_http_options){.max_body_bytes = LIMIT});
    return 0;
}

static int tear_down(void **state) {
    close_rig(*state);
    return 0;
}

/* The one that /hold has. */
static cohort_exchange *take_held(rig *self, int n_requests) {
    await(self, &self->n_requests, n_requests);
    pthread_mutex_lock(&self->lock);
    cohort_exchange *held = self->held;
    self->held = NULL;
    pthread_mutex_unlock(&self->lock);
    assert_non_null(held);
    return held;
}

/* ---- the client -------------------------------------------------------------------- */

static int dial(const rig *self) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, self->path, strlen(self->path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void say(int fd, const char *bytes) {
    for (size_t size = strlen(bytes); size;) {
        ssize_t went = send(fd, bytes, size, MSG_NOSIGNAL);
        assert_true(went > 0);
        bytes += went;
        size -= (size_t)went;
    }
}

/* False: the server ended the connection. */
static bool hear_byte(int fd, char *out) {
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&ready, 1, PATIENCE_MS), 1);
    ssize_t got = recv(fd, out, 1, 0);
    if (got < 0) assert_int_equal(errno, ECONNRESET);
    return got == 1;
}

static void assert_ended(int fd) {
    char byte;
    assert_false(hear_byte(fd, &byte));
    close(fd);
}

typedef struct answer {
    int status;
    cohort_body head, body; /* body: as it came, chunks and all */
    bool is_cut;            /* before its end */
} answer;

static bool ends_with(const cohort_body *body, const char *text) {
    size_t size = strlen(text);
    return body->size >= size && !memcmp(body->bytes + body->size - size, text, size);
}

/* One answer; its body ends as its head says. */
static answer hear(int fd) {
    answer got = {0};
    char byte;
    while (!got.is_cut && !ends_with(&got.head, "\r\n\r\n")) {
        got.is_cut = !hear_byte(fd, &byte);
        if (!got.is_cut) cohort_body_add(&got.head, &byte, 1);
    }
    assert_false(got.is_cut);
    assert_int_equal(sscanf(got.head.bytes, "HTTP/1.%*d %d ", &got.status), 1);
    if (got.status < 200) return got;
    const char *length = strstr(got.head.bytes, "Content-Length: ");
    size_t size = length ? strtoull(length + 16, NULL, 10) : SIZE_MAX;
    bool is_chunked = strstr(got.head.bytes, "Transfer-Encoding: chunked\r\n");
    while (!got.is_cut && got.body.size < size &&
           !(is_chunked && ends_with(&got.body, "0\r\n\r\n"))) {
        got.is_cut = !hear_byte(fd, &byte);
        if (!got.is_cut) cohort_body_add(&got.body, &byte, 1);
    }
    return got;
}

static void forget(answer *of) {
    cohort_body_deinit(&of->head);
    cohort_body_deinit(&of->body);
}

static void assert_hears(int fd, int status, const char *body) {
    answer got = hear(fd);
    assert_int_equal(got.status, status);
    assert_string_equal(got.body.bytes ? got.body.bytes : "", body);
    assert_false(got.is_cut);
    forget(&got);
}

/* ---- requests as bytes ------------------------------------------------------------- */

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
            int fd = dial(*state);
            char byte[2] = "";
            if (!one_by_one) say(fd, cases[i].in);
            for (const char *at = cases[i].in; one_by_one && *at; at++) {
                byte[0] = *at;
                /* Who was refused is not read any longer. */
                if (send(fd, byte, 1, MSG_NOSIGNAL) < 0) break;
            }
            for (int k = 0; k < 4 && cases[i].out[k].status; k++)
                assert_hears(fd, cases[i].out[k].status, cases[i].out[k].body);
            if (!cases[i].ends) {
                say(fd, POST("/echo") "Content-Length: 1\r\n\r\nz");
                assert_hears(fd, 200, "POST 1 z");
                shutdown(fd, SHUT_WR);
            }
            assert_ended(fd);
        }
}

static void long_head_gets_431_and_the_end(void **state) {
    cohort_body head = {0};
    int fd = dial(*state);
    cohort_body_puts(&head, "GET /echo HTTP/1.1\r\nX: ");
    while (head.size < 70000)
        cohort_body_puts(&head, SIXTEEN);
    cohort_body_puts(&head, "\r\n\r\n");
    say(fd, head.bytes);
    assert_hears(fd, 431, "Invalid HTTP request received: a head or line is too long.");
    assert_ended(fd);
    cohort_body_deinit(&head);
}

static void who_asks_before_sending_is_told_at_once(void **state) {
    static const char *const heads[] = {
        POST("/echo") "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n",
        POST("/echo") "Expect: 100-continue\r\nContent-Length: 17\r\n\r\n",
        POST("/unwanted") "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"};
    static const int statuses[] = {100, 413, 200};
    for (size_t i = 0; i < 3; i++) {
        int fd = dial(*state);
        say(fd, heads[i]);
        assert_hears(fd, statuses[i], i ? "POST 0" : "");
        if (!i) say(fd, "abc");
        if (!i) assert_hears(fd, 200, "POST 3 abc");
        close(fd);
    }
}

static void stream_to_http_1_0_ends_with_the_connection(void **state) {
    int fd = dial(*state);
    say(fd, "GET /stream HTTP/1.0\r\n\r\n");
    answer got = hear(fd);
    assert_int_equal(got.status, 200);
    assert_string_equal(got.body.bytes, "onetwo");
    assert_true(got.is_cut);
    forget(&got);
    close(fd);
}

static void stream_that_is_not_whole_breaks_off(void **state) {
    int fd = dial(*state);
    say(fd, GET("/broken"));
    answer got = hear(fd);
    assert_true(got.is_cut);
    assert_string_equal(got.body.bytes, "6\r\nonetwo\r\n");
    forget(&got);
    close(fd);
}

static void headers_go_both_ways(void **state) {
    int fd = dial(*state);
    say(fd, "GET /hold?a HTTP/1.1\r\nHost: a\r\nX-Asked:  b c\r\n\r\n");
    cohort_exchange *held = take_held(*state, 1);
    assert_string_equal(cohort_exchange_path(held), "/hold");
    assert_string_equal(cohort_exchange_header(held, "x-asked"), "b c");
    assert_null(cohort_exchange_header(held, "X-Other"));
    cohort_exchange_add_header(held, "X-Answered", "d");
    assert_string_equal(cohort_exchange_added_header(held, "x-answered"), "d");
    assert_null(cohort_exchange_added_header(held, "x-asked"));
    reply(held, 418, "");
    answer got = hear(fd);
    assert_int_equal(got.status, 418);
    assert_non_null(strstr(got.head.bytes, "X-Answered: d\r\n"));
    assert_non_null(strstr(got.head.bytes, "Content-Type: text/plain\r\n"));
    forget(&got);
    close(fd);
}

static void record_tells_what_was_answered(void **state) {
    rig *self = *state;
    int fd = dial(self);
    say(fd, POST("/echo") "Content-Length: 3\r\n\r\nabc");
    assert_hears(fd, 200, "POST 3 abc");
    await(self, &self->n_records, 1);
    assert_int_equal(self->status, 200);
    assert_int_equal(self->request_bytes, 3);
    assert_int_equal(self->response_bytes, 10);
    close(fd);
}

/* ---- in time ----------------------------------------------------------------------- */

static void pipelined_request_waits_for_the_answer_before_it(void **state) {
    rig *self = *state;
    int fd = dial(self);
    say(fd, GET("/hold") GET("/echo"));
    cohort_exchange *held = take_held(self, 1);
    assert_int_equal(self->n_requests, 1);
    reply(held, 200, "late");
    assert_hears(fd, 200, "late");
    assert_hears(fd, 200, "GET 0");
    close(fd);
}

static void assert_hears_bytes(int fd, const char *bytes) {
    for (char byte; *bytes; bytes++) {
        assert_true(hear_byte(fd, &byte));
        assert_int_equal(byte, *bytes);
    }
}

static void what_is_flushed_is_heard_before_the_end(void **state) {
    rig *self = *state;
    int fd = dial(self);
    say(fd, GET("/hold"));
    cohort_exchange *held = take_held(self, 1);
    cohort_exchange_begin(held, 200, "text/event-stream");
    char byte = 0;
    for (cohort_body head = {0};;) {
        assert_true(hear_byte(fd, &byte));
        cohort_body_add(&head, &byte, 1);
        if (!ends_with(&head, "\r\n\r\n")) continue;
        cohort_body_deinit(&head);
        break;
    }
    for (int i = 0; i < 100; i++) {
        push(held, "part");
        cohort_http_flush(self->http);
        assert_hears_bytes(fd, "4\r\npart\r\n");
    }
    cohort_exchange_end(held, true);
    cohort_exchange_release(held);
    assert_hears_bytes(fd, "0\r\n\r\n");
    say(fd, GET("/echo"));
    assert_hears(fd, 200, "GET 0");
    close(fd);
}

static void client_that_left_is_told_to_the_holder(void **state) {
    rig *self = *state;
    for (int begins = 0; begins < 2; begins++) {
        int fd = dial(self);
        say(fd, GET("/hold"));
        cohort_exchange *held = take_held(self, begins + 1);
        cohort_exchange_on_gone(held, on_gone, self);
        if (begins) cohort_exchange_begin(held, 200, NULL);
        assert_false(cohort_exchange_is_gone(held));
        close(fd);
        await(self, &self->n_gone, begins + 1);
        assert_true(cohort_exchange_is_gone(held));
        await(self, &self->n_records, begins + 1);
        assert_int_equal(self->status, 499);
        /* What is said now nobody hears. */
        push(held, "part");
        reply(held, 200, "late");
    }
    assert_int_equal(self->n_gone, 2);
}

static void who_asks_after_the_client_left_is_told_at_once(void **state) {
    rig *self = *state;
    int fd = dial(self);
    say(fd, GET("/hold"));
    cohort_exchange *held = take_held(self, 1);
    close(fd);
    await(self, &self->n_records, 1);
    cohort_exchange_on_gone(held, on_gone, self);
    assert_int_equal(self->n_gone, 1);
    cohort_exchange_release(held);
}

enum { PART = 16 << 10, IN_SOCKETS = 256 };

/* How many parts a client leaves unread before it is given up. */
static int count_unread(rig *self) {
    char *text = calloc(1, PART + 1);
    int n = 0, fd = dial(self);
    say(fd, GET("/hold"));
    cohort_exchange *held = take_held(self, 1);
    cohort_exchange_on_gone(held, on_gone, self);
    cohort_exchange_begin(held, 200, NULL);
    memset(text, 'a', PART);
    for (; n < 10000 && !cohort_exchange_is_gone(held); n++) {
        push(held, text);
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
    rig *self = open_with((cohort_http_options){.max_body_bytes = 1 << 20});
    int most = (16 << 20) / PART;
    assert_in_range(count_unread(self), most, most + IN_SOCKETS);
    close_rig(self);
}

static void who_does_not_read_is_given_up_soon_where_memory_is_short(void **state) {
    int most = COHORT_FAIR_BYTES / PART;
    assert_in_range(count_unread(*state), most, most + IN_SOCKETS);
}

static void who_takes_too_long_is_ended_but_not_who_waits(void **state) {
    (void)state;
    rig *self = open_with((cohort_http_options){.max_body_bytes = LIMIT,
                                                .idle_timeout_ns = 100000000,
                                                .request_timeout_ns = 100000000});
    int waits = dial(self);
    say(waits, GET("/hold"));
    cohort_exchange *held = take_held(self, 1);
    static const char *const begun[] = {
        "", "GET /ec", POST("/echo") "Content-Length: 3\r\n\r\na",
        POST("/echo") "Transfer-Encoding: chunked\r\n\r\n2\r\na"};
    int fds[4];
    for (int i = 0; i < 4; i++) {
        fds[i] = dial(self);
        say(fds[i], begun[i]);
    }
    for (int i = 0; i < 4; i++)
        assert_ended(fds[i]);
    assert_int_equal(self->n_requests, 1);
    reply(held, 200, "late");
    assert_hears(waits, 200, "late");
    close(waits);
    close_rig(self);
}

static void crowd_is_refused_but_for_small_bodies(void **state) {
    (void)state;
    enum { MOST = 4 << 20 };
    rig *self = open_with(
        (cohort_http_options){.max_body_bytes = MOST / 4, .max_held_bytes = MOST});
    char *text = calloc(1, LARGE + 1);
    memset(text, 'a', LARGE);
    int fd = dial(self);
    for (int is_full = 0; is_full < 2; is_full++) {
        if (is_full) assert_true(cohort_http_hold(self->http, MOST / 4 * 3 + 1));
        say(fd, POST("/echo") "Content-Length: 131072\r\n\r\n");
        say(fd, text);
        assert_hears(fd, is_full ? 503 : 200, is_full ? "POST 0" : "POST 131072");
        say(fd, POST("/echo") "Content-Length: 1\r\n\r\na");
        assert_hears(fd, 200, "POST 1 a");
    }
    assert_false(cohort_http_hold(self->http, MOST / 4));
    say(fd, POST("/hold") "Content-Length: 1\r\n\r\na");
    cohort_exchange *held = take_held(self, 5);
    assert_false(cohort_exchange_keep(held, LARGE));
    assert_true(cohort_exchange_keep(held, COHORT_FAIR_BYTES));
    reply(held, 200, "");
    assert_hears(fd, 200, "");
    close(fd);
    close_rig(self);
    free(text);
}

static void finish_waits_for_what_is_held(void **state) {
    rig *self = *state;
    int fd = dial(self);
    say(fd, GET("/hold"));
    cohort_exchange *held = take_held(self, 1);
    assert_int_equal(cohort_http_finish(self->http, cohort_clock_ns()), COHORT_E_TIMEOUT);
    reply(held, 200, "last");
    assert_int_equal(cohort_http_finish(self->http, cohort_deadline_ms(PATIENCE_MS)),
                     COHORT_OK);
    assert_hears(fd, 200, "last");
    close(fd);
}

static void stop_ends_what_is_held(void **state) {
    rig *self = *state;
    int fds[2];
    cohort_exchange *held[2];
    for (int i = 0; i < 2; i++) {
        fds[i] = dial(self);
        say(fds[i], GET("/hold"));
        held[i] = take_held(self, i + 1);
        cohort_exchange_on_gone(held[i], on_gone, self);
    }
    cohort_exchange_begin(held[1], 200, NULL);
    answer got = {0};
    for (char byte; !ends_with(&got.head, "\r\n\r\n");) {
        assert_true(hear_byte(fds[1], &byte));
        cohort_body_add(&got.head, &byte, 1);
    }
    cohort_http_stop(self->http);
    assert_int_equal(self->n_gone, 2);
    for (int i = 0; i < 2; i++) {
        assert_ended(fds[i]);
        reply(held[i], 200, "nobody hears it");
    }
    forget(&got);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        CASE(bytes_in_give_bytes_out),
        CASE(long_head_gets_431_and_the_end),
        CASE(who_asks_before_sending_is_told_at_once),
        CASE(stream_to_http_1_0_ends_with_the_connection),
        CASE(stream_that_is_not_whole_breaks_off),
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
