/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "cohort/clock.h"
#include "http/http_internal.h"

/* Design notes.
 *
 * The library pulls: it asks for the next bytes of an answer and has to be told "not
 * yet", which is to suspend the connection.  Holders push.  Between them stands `answer`,
 * under the lock of http.
 *
 * A socket has one writer at a time: the library, until is_suspended is set, and then who
 * has the lock, by offer and nothing else.  Whoever clears it calls
 * MHD_resume_connection, without the lock: nobody else touches a suspended connection.
 *
 * A step of the engine pushes to every stream, and to wake another thread and the library
 * for it would cost more than the sending.  So flush itself writes to the sockets of
 * those that sleep amid their answers: the library has sent all that it was given, and
 * touches neither socket nor answer until it is resumed.  Parts go as chunks, as its own
 * do; what finds no room is kept, and sent by the HTTP thread when there is (`rest`),
 * before anything else.  Heads and ends are the library's, and what is encrypted or of
 * HTTP/1.0: for those flush wakes the HTTP thread, once for all.  One that is awake reads
 * what was pushed before it sleeps. */

enum { READER_BLOCK_BYTES = 32768 };

bool cohort_exchange_wake(cohort_exchange *exchange) {
    if (!exchange->is_suspended ||
        (exchange->rest.size && exchange->state != EXCHANGE_GONE))
        return false;
    exchange->is_suspended = false;
    if (exchange->asleep_link) {
        *exchange->asleep_link = exchange->next_asleep;
        if (exchange->next_asleep)
            exchange->next_asleep->asleep_link = exchange->asleep_link;
        exchange->asleep_link = NULL;
    }
    return true;
}

/* ---- the library's side ------------------------------------------------------------ */

/* Moves what is left to the front, where that is no more than what went. */
static void forget_sent(cohort_exchange *exchange) {
    cohort_body *answer = &exchange->answer;
    size_t left = answer->size - exchange->sent;
    if (left > exchange->sent) return;
    memmove(answer->bytes, answer->bytes + exchange->sent, left);
    exchange->sent_before += exchange->sent;
    exchange->sent = 0;
    answer->size = left;
}

static void sleep_amid(cohort_exchange *exchange) {
    cohort_exchange **list = &exchange->http->asleep;
    cohort_http_suspend(exchange);
    exchange->next_asleep = *list;
    exchange->asleep_link = list;
    if (*list) (*list)->asleep_link = &exchange->next_asleep;
    *list = exchange;
}

static ssize_t read_answer(void *user_data, uint64_t position, char *out, size_t size) {
    cohort_exchange *exchange = user_data;
    cohort_body *answer = &exchange->answer;
    ssize_t got = 0;
    (void)position;
    pthread_mutex_lock(&exchange->http->lock);
    assert(!exchange->is_suspended); /* the library's turn to write */
    size_t left = answer->size - exchange->sent;
    if (exchange->state == EXCHANGE_GONE || answer->is_short) {
        got = MHD_CONTENT_READER_END_WITH_ERROR;
    } else if (left) {
        got = (ssize_t)(left < size ? left : size);
        memcpy(out, answer->bytes + exchange->sent, (size_t)got);
        exchange->sent += (size_t)got;
        forget_sent(exchange);
    } else if (exchange->state == EXCHANGE_ENDED) {
        got = MHD_CONTENT_READER_END_OF_STREAM;
    } else if (exchange->state == EXCHANGE_BROKEN || exchange->http->is_closing) {
        got = MHD_CONTENT_READER_END_WITH_ERROR;
    } else {
        sleep_amid(exchange);
    }
    pthread_mutex_unlock(&exchange->http->lock);
    return got;
}

static void add_headers(struct MHD_Response *response, const cohort_exchange *exchange) {
    if (exchange->content_type)
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
                                exchange->content_type);
    for (const http_header *at = exchange->headers; at; at = at->next)
        MHD_add_response_header(response, at->name, at->value);
}

enum MHD_Result cohort_exchange_queue(cohort_exchange *exchange) {
    struct MHD_Response *response;
    pthread_mutex_lock(&exchange->http->lock);
    bool has_begun = exchange_has_begun(exchange->state);
    bool is_at_once = exchange->state == EXCHANGE_REPLIED;
    unsigned status = (unsigned)exchange->status;
    if (is_at_once) exchange->sent_before = exchange->answer.size;
    pthread_mutex_unlock(&exchange->http->lock);
    if (!has_begun) return MHD_NO; /* it has gone since */
    if (is_at_once)
        response = MHD_create_response_from_buffer(
            exchange->answer.size, exchange->answer.bytes, MHD_RESPMEM_PERSISTENT);
    else
        response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, READER_BLOCK_BYTES,
                                                     read_answer, exchange, NULL);
    if (!response) return MHD_NO;
    add_headers(response, exchange);
    enum MHD_Result result = MHD_queue_response(exchange->connection, status, response);
    MHD_destroy_response(response);
    return result;
}

static bool needs_library(const cohort_exchange *exchange) {
    return exchange->state == EXCHANGE_GONE || exchange->answer.is_short ||
           (!exchange->may_bypass && exchange->answer.size > exchange->sent);
}

void cohort_exchange_resume(cohort_http *http) {
    cohort_exchange *awake = NULL, *next;
    pthread_mutex_lock(&http->lock);
    for (cohort_exchange *exchange = http->asleep; exchange; exchange = next) {
        next = exchange->next_asleep;
        if (!needs_library(exchange) || !cohort_exchange_wake(exchange)) continue;
        /* Nobody else has it now, and its connection keeps it until that is resumed. */
        exchange->next_asleep = awake;
        awake = exchange;
    }
    pthread_mutex_unlock(&http->lock);
    for (; awake; awake = next) {
        next = awake->next_asleep;
        MHD_resume_connection(awake->connection);
    }
}

/* ---- past the library, which sleeps ------------------------------------------------ */

/* How much of it the socket takes now. */
static size_t offer(cohort_exchange *exchange, struct iovec *parts, size_t n_parts) {
    const struct msghdr message = {.msg_iov = parts, .msg_iovlen = n_parts};
    assert(exchange->is_suspended); /* ours */
    ssize_t went = sendmsg(exchange->peer->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (went >= 0) return (size_t)went;
    if (errno != EAGAIN && errno != EINTR) cohort_exchange_mark_gone(exchange);
    return 0;
}

/* A client that reads nothing has as long as one that sends nothing. */
static void await_room(cohort_exchange *exchange) {
    exchange->peer->deadline_ns =
        cohort_clock_ns() + exchange->http->options.idle_timeout_ns;
    cohort_http_watch(exchange);
}

static void send_chunk(cohort_exchange *exchange) {
    cohort_body *answer = &exchange->answer;
    size_t left = answer->size - exchange->sent;
    char size[2 * sizeof left + 2], *first = size + sizeof size - 2, end[] = "\r\n";
    memcpy(first, end, 2);
    for (size_t digits = left; digits; digits /= 16)
        *--first = "0123456789abcdef"[digits % 16];
    struct iovec parts[] = {{first, (size_t)(size + sizeof size - first)},
                            {answer->bytes + exchange->sent, left},
                            {end, 2}};
    size_t went = offer(exchange, parts, 3);
    for (size_t i = 0; i < 3; i++) {
        size_t gone = went < parts[i].iov_len ? went : parts[i].iov_len;
        if (gone < parts[i].iov_len)
            cohort_body_add(&exchange->rest, (char *)parts[i].iov_base + gone,
                            parts[i].iov_len - gone);
        went -= gone;
    }
    if (exchange->rest.is_short) cohort_exchange_mark_gone(exchange);
    exchange->sent = answer->size;
    forget_sent(exchange);
    if (!exchange->rest.size) return;
    cohort_exchange_count_held(exchange);
    await_room(exchange);
}

void cohort_exchange_send_rest(cohort_exchange *exchange) {
    cohort_body *rest = &exchange->rest;
    struct iovec left = {rest->bytes + exchange->rest_sent,
                         rest->size - exchange->rest_sent};
    exchange->rest_sent += offer(exchange, &left, 1);
    if (exchange->rest_sent < rest->size) {
        await_room(exchange);
        return;
    }
    cohort_body_deinit(rest);
    exchange->rest_sent = 0;
    exchange->peer->deadline_ns = COHORT_NEVER;
    cohort_exchange_count_held(exchange);
    if (exchange->state == EXCHANGE_STREAMING && exchange->answer.size > exchange->sent)
        send_chunk(exchange);
}

void cohort_http_flush(cohort_http *http) {
    bool wakes = false;
    pthread_mutex_lock(&http->lock);
    for (cohort_exchange *exchange = http->asleep; exchange;
         exchange = exchange->next_asleep) {
        if (!needs_library(exchange) && !exchange->rest.size &&
            exchange->answer.size > exchange->sent)
            send_chunk(exchange);
        wakes |= needs_library(exchange);
    }
    pthread_mutex_unlock(&http->lock);
    if (wakes) cohort_http_wake(http);
}
