/* SPDX-License-Identifier: Apache-2.0 */
/* Whoever writes to a socket does so alone: the library, flush on the engine's thread, or
 * the HTTP thread with what found no room.  All of their calls pass through this file,
 * which counts who is inside; what the clients get shows the order. */
#include "http/http.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/random.h"
#include "http_fixture.h"

enum {
    N_STREAMS = 4,
    N_ROUNDS = 3,
    N_PARTS = 600,
    MOST_BYTES = 60000,
    LAST_BYTES = 1 << 20,
    MAX_FDS = 1024
};

/* What is pushed and not yet heard: about what the sockets hold, so that room comes and
 * goes. */
enum { LEAD_BYTES = N_STREAMS * 250000 };
static _Atomic int64_t unheard_bytes;

static _Atomic int n_inside[MAX_FDS];
static _Atomic int n_clashes, n_flushed, n_others; /* by the HTTP thread */
static _Thread_local enum { HTTP, CLIENT, PUSHER } role;

/* In place of libc's, for the library and for us. */
#define WATCHED(name) __asm__(name) __attribute__((visibility("default")))
ssize_t watched_send(int fd, const void *bytes, size_t size, int flags) WATCHED("send");
ssize_t watched_sendmsg(int fd, const struct msghdr *message, int flags)
    WATCHED("sendmsg");
ssize_t watched_writev(int fd, const struct iovec *parts, int n_parts) WATCHED("writev");

static void enter(int fd) {
    if (atomic_fetch_add(&n_inside[fd % MAX_FDS], 1)) n_clashes++;
    n_flushed += role == PUSHER;
    n_others += role == HTTP;
    usleep(20); /* a moment for who should not be here */
}

static ssize_t leave(int fd, ssize_t went) {
    atomic_fetch_sub(&n_inside[fd % MAX_FDS], 1);
    return went;
}

ssize_t watched_send(int fd, const void *bytes, size_t size, int flags) {
    enter(fd);
    return leave(fd, syscall(SYS_sendto, fd, bytes, size, flags, NULL, 0));
}

ssize_t watched_sendmsg(int fd, const struct msghdr *message, int flags) {
    enter(fd);
    return leave(fd, syscall(SYS_sendmsg, fd, message, flags));
}

ssize_t watched_writev(int fd, const struct iovec *parts, int n_parts) {
    enter(fd);
    return leave(fd, syscall(SYS_writev, fd, parts, n_parts));
}

/* ---- what is sent ------------------------------------------------------------------ */

/* Part p of a stream has so many bytes, each the part's own letter. */
static size_t part_bytes(uint64_t stream, uint64_t part) {
    if (part == N_PARTS - 1) return LAST_BYTES; /* the end has to wait for it */
    uint64_t drawn = cohort_random_u64(stream, part);
    return drawn % 8 ? drawn / 8 % 100 + 1 : drawn / 8 % MOST_BYTES + 1;
}

static char letter_of(uint64_t part) { return (char)('a' + part % 26); }

typedef struct pusher {
    http_fixture *fixture;
    cohort_exchange *exchanges[N_STREAMS];
} pusher;

static void *push_all(void *argument) {
    static char bytes[LAST_BYTES + 1];
    pusher *self = argument;
    role = PUSHER;
    for (uint64_t part = 0; part < N_PARTS; part++) {
        for (uint64_t i = 0; i < N_STREAMS; i++) {
            size_t size = part_bytes(i, part);
            memset(bytes, letter_of(part), size);
            bytes[size] = '\0';
            http_push(self->exchanges[i], bytes);
            unheard_bytes += (int64_t)size;
        }
        cohort_http_flush(self->fixture->http);
        while (unheard_bytes > LEAD_BYTES && part < N_PARTS - 1)
            sched_yield();
    }
    for (int i = 0; i < N_STREAMS; i++) {
        cohort_exchange_end(self->exchanges[i], true);
        cohort_exchange_release(self->exchanges[i]);
    }
    return NULL;
}

/* ---- what comes -------------------------------------------------------------------- */

/* Chunks may be cut anywhere: their bytes, in order. */
static void expect_parts(uint64_t stream, const char *at, const char *end) {
    uint64_t part = 0;
    size_t left = part_bytes(stream, 0);
    for (;;) {
        char *line;
        size_t size = strtoul(at, &line, 16);
        assert_true(line > at && end - line >= 2 && !memcmp(line, "\r\n", 2));
        at = line + 2;
        if (!size) break;
        assert_true((size_t)(end - at) >= size + 2);
        for (size_t i = 0; i < size; i++, left--) {
            if (!left) left = part_bytes(stream, ++part);
            assert_int_equal(at[i], letter_of(part));
        }
        at += size;
        assert_memory_equal(at, "\r\n", 2);
        at += 2;
    }
    assert_int_equal(part, N_PARTS - 1);
    assert_int_equal(left, 0);
}

/* Whole answers, heads and all, a little of each in turn: there is room again and again
 * while a stream has something that found none. */
static void hear_streams(const int *fds) {
    static char block[3000];
    cohort_body got[N_STREAMS] = {{0}};
    for (int n_left = N_STREAMS; n_left;) {
        n_left = 0;
        for (int i = 0; i < N_STREAMS; i++) {
            if (http_ends_with(&got[i], "\r\n0\r\n\r\n")) continue;
            ssize_t size = recv(fds[i], block, sizeof block, 0);
            assert_true(size > 0);
            cohort_body_add(&got[i], block, (size_t)size);
            unheard_bytes -= size;
            n_left++;
        }
    }
    for (int i = 0; i < N_STREAMS; i++) {
        const char *head_end = strstr(got[i].bytes, "\r\n\r\n");
        assert_memory_equal(got[i].bytes, "HTTP/1.1 200", 12);
        assert_non_null(head_end);
        expect_parts((uint64_t)i, head_end + 4, got[i].bytes + got[i].size);
        cohort_body_deinit(&got[i]);
    }
}

static void begin_streams(pusher *self, const int *fds, int n_before) {
    for (int i = 0; i < N_STREAMS; i++) {
        http_say(fds[i], "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
        self->exchanges[i] = http_take_held(self->fixture, n_before + i + 1);
        cohort_exchange_begin(self->exchanges[i], 200, "text/event-stream");
    }
}

static void a_socket_has_one_writer_at_a_time(void **state) {
    pusher self = {.fixture = *state};
    int fds[N_STREAMS];
    role = CLIENT;
    for (int i = 0; i < N_STREAMS; i++)
        fds[i] = http_dial(*state);
    for (int round = 0; round < N_ROUNDS; round++) {
        pthread_t thread;
        begin_streams(&self, fds, round * N_STREAMS);
        assert_int_equal(pthread_create(&thread, NULL, push_all, &self), 0);
        hear_streams(fds);
        pthread_join(thread, NULL);
        unheard_bytes = 0;
    }
    assert_int_equal(n_clashes, 0);
    /* Both have written: the test saw what it is to see. */
    assert_true(n_others >= 2 * N_STREAMS * N_ROUNDS);
    assert_true(n_flushed >= N_PARTS);
    for (int i = 0; i < N_STREAMS; i++)
        close(fds[i]);
}

static int set_up(void **state) {
    *state = http_fixture_open((cohort_http_options){.max_body_bytes = HTTP_BODY_LIMIT,
                                                     .max_held_bytes = 64 << 20});
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(
        a_socket_has_one_writer_at_a_time, set_up, http_tear_down)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
