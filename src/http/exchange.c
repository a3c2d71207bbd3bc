/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "cohort/clock.h"
#include "http/http_internal.h"

enum { MAX_UNSENT_BYTES = 16 << 20, LARGE_PART_BYTES = 16 << 10 };

bool cohort_exchange_count_held(cohort_exchange *exchange) {
    cohort_http *http = exchange->http;
    size_t bytes = exchange->request.capacity + exchange->kept_bytes +
                   exchange->answer.capacity + exchange->rest.capacity;
    http->held_bytes += bytes - exchange->held_bytes;
    exchange->held_bytes = bytes;
    return http->held_bytes <= http->options.max_held_bytes;
}

/* A quarter is for answers, which would have to break off for requests of others. */
bool cohort_http_is_crowded(const cohort_http *http, size_t bytes) {
    return http->held_bytes > http->options.max_held_bytes / 4 * 3 &&
           bytes > COHORT_FAIR_BYTES;
}

static bool add_header(http_header **list, const char *name, const char *value) {
    http_header *header = calloc(1, sizeof *header);
    if (!header) return false;
    header->name = strdup(name);
    header->value = strdup(value ? value : "");
    if (!header->name || !header->value) {
        free(header->name);
        free(header->value);
        free(header);
        return false;
    }
    header->next = *list;
    *list = header;
    return true;
}

static void free_headers(http_header *list) {
    while (list) {
        http_header *next = list->next;
        free(list->name);
        free(list->value);
        free(list);
        list = next;
    }
}

static enum MHD_Result copy_header(void *user_data, enum MHD_ValueKind kind,
                                   const char *name, const char *value) {
    cohort_exchange *exchange = user_data;
    (void)kind;
    add_header(&exchange->request_headers, name, value);
    return MHD_YES;
}

static void destroy(cohort_exchange *exchange) {
    free_headers(exchange->headers);
    free_headers(exchange->request_headers);
    cohort_body_deinit(&exchange->request);
    cohort_body_deinit(&exchange->answer);
    cohort_body_deinit(&exchange->rest);
    pthread_mutex_lock(&exchange->http->lock);
    cohort_exchange_count_held(exchange);
    pthread_mutex_unlock(&exchange->http->lock);
    free(exchange->method);
    free(exchange->path);
    free(exchange->query);
    free(exchange);
}

cohort_exchange *cohort_exchange_create(cohort_http *http,
                                        struct MHD_Connection *connection,
                                        const char *method, const char *path) {
    cohort_exchange *exchange = calloc(1, sizeof *exchange);
    if (!exchange) return NULL;
    exchange->http = http;
    exchange->connection = connection;
    exchange->owners = 1;
    exchange->begin_ns = cohort_clock_ns();
    exchange->method = strdup(method);
    exchange->path = strdup(path);
    /* Copied, because the connection may go while somebody still reads. */
    if (exchange->method && exchange->path &&
        MHD_get_connection_values(connection, MHD_HEADER_KIND, copy_header, exchange) >=
            0)
        return exchange;
    destroy(exchange);
    return NULL;
}

void cohort_exchange_mark_body(cohort_exchange *exchange, body_state found) {
    if (found > exchange->body_state) exchange->body_state = found;
}

static void let_go(cohort_exchange *exchange) {
    pthread_mutex_lock(&exchange->http->lock);
    int left = --exchange->owners;
    pthread_mutex_unlock(&exchange->http->lock);
    if (left == 0) destroy(exchange);
}

void cohort_exchange_close(cohort_exchange *exchange) {
    pthread_mutex_lock(&exchange->http->lock);
    cohort_exchange_mark_gone(exchange);
    exchange->connection = NULL;
    pthread_mutex_unlock(&exchange->http->lock);
    let_go(exchange);
}

void cohort_exchange_mark_gone(cohort_exchange *exchange) {
    bool is_answered = exchange_is_answered(exchange->state);
    if (!cohort_exchange_move(&exchange->state, EXCHANGE_LEAVE) || is_answered) return;
    exchange->status = 499;
    if (!exchange->on_gone) return;
    void (*on_gone)(void *) = exchange->on_gone;
    exchange->on_gone = NULL;
    on_gone(exchange->on_gone_user_data);
}

/* Any thread.  The library only notes it down, and takes it up in the next turn. */
static void resume_connection(const cohort_http *http,
                              struct MHD_Connection *connection) {
    MHD_resume_connection(connection);
    cohort_http_wake(http);
}

/* Unlocks. */
static void unlock_and_resume(cohort_exchange *exchange) {
    bool resume = cohort_exchange_wake(exchange);
    struct MHD_Connection *connection = exchange->connection;
    const cohort_http *http = exchange->http;
    pthread_mutex_unlock(&exchange->http->lock);
    if (resume) resume_connection(http, connection);
}

/* ---- the holder's side ------------------------------------------------------------- */

const char *cohort_exchange_method(const cohort_exchange *exchange) {
    return exchange->method;
}

const char *cohort_exchange_path(const cohort_exchange *exchange) {
    return exchange->path;
}

const char *cohort_exchange_query(const cohort_exchange *exchange) {
    return exchange->query ? exchange->query : "";
}

static const char *find_header(const http_header *at, const char *name) {
    while (at && strcasecmp(at->name, name) != 0)
        at = at->next;
    return at ? at->value : NULL;
}

const char *cohort_exchange_header(const cohort_exchange *exchange, const char *name) {
    return find_header(exchange->request_headers, name);
}

const char *cohort_exchange_added_header(const cohort_exchange *exchange,
                                         const char *name) {
    return find_header(exchange->headers, name);
}

const char *cohort_exchange_body(const cohort_exchange *exchange, size_t *out_size) {
    *out_size = exchange->request.size;
    return exchange->request.bytes ? exchange->request.bytes : "";
}

bool cohort_exchange_is_too_large(const cohort_exchange *exchange) {
    return exchange->body_state == BODY_TOO_LARGE;
}

bool cohort_exchange_is_refused(const cohort_exchange *exchange) {
    return exchange->body_state == BODY_REFUSED;
}

bool cohort_exchange_keep(cohort_exchange *exchange, size_t bytes) {
    pthread_mutex_lock(&exchange->http->lock);
    cohort_body_deinit(&exchange->request);
    exchange->kept_bytes = bytes;
    cohort_exchange_count_held(exchange);
    bool is_crowded = cohort_http_is_crowded(exchange->http, bytes);
    pthread_mutex_unlock(&exchange->http->lock);
    return !is_crowded;
}

bool cohort_exchange_is_gone(const cohort_exchange *exchange) {
    pthread_mutex_lock(&exchange->http->lock);
    bool is_gone = exchange->state == EXCHANGE_GONE;
    pthread_mutex_unlock(&exchange->http->lock);
    return is_gone;
}

int64_t cohort_exchange_begin_ns(const cohort_exchange *exchange) {
    return exchange->begin_ns;
}

void cohort_exchange_add_header(cohort_exchange *exchange, const char *name,
                                const char *value) {
    add_header(&exchange->headers, name, value);
}

void cohort_exchange_reply(cohort_exchange *exchange, int status,
                           const char *content_type, cohort_body *body) {
    pthread_mutex_lock(&exchange->http->lock);
    if (cohort_exchange_move(&exchange->state, EXCHANGE_REPLY)) {
        exchange->on_gone = NULL;
        exchange->status = body && body->is_short ? 500 : status;
        exchange->content_type = content_type;
        if (body) exchange->answer = *body;
        if (body) *body = (cohort_body){0};
        cohort_exchange_count_held(exchange);
    }
    if (body) cohort_body_deinit(body);
    unlock_and_resume(exchange);
}

void cohort_exchange_begin(cohort_exchange *exchange, int status,
                           const char *content_type) {
    pthread_mutex_lock(&exchange->http->lock);
    if (cohort_exchange_move(&exchange->state, EXCHANGE_BEGIN)) {
        exchange->status = status;
        exchange->content_type = content_type;
    }
    unlock_and_resume(exchange);
}

/* A client that does not read is worth so much memory; the library waits for its socket.
 */
static void give_up(cohort_exchange *exchange) {
    cohort_exchange_mark_gone(exchange);
    cohort_body_deinit(&exchange->answer);
    cohort_body_deinit(&exchange->rest);
    cohort_exchange_count_held(exchange);
    exchange->sent = exchange->rest_sent = 0;
    if (exchange->connection) shutdown(exchange->peer->fd, SHUT_RDWR);
}

/* A part comes whole, and others before a client that reads has read it: large ones are
 * on top of what may be unread, or the largest where memory is short. */
static bool reads_too_little(const cohort_exchange *exchange, bool has_room) {
    size_t unsent = exchange->answer.size - exchange->sent + exchange->rest.size -
                    exchange->rest_sent;
    return unsent > (has_room ? MAX_UNSENT_BYTES + exchange->large_bytes
                              : COHORT_FAIR_BYTES + exchange->largest_part);
}

void cohort_exchange_push(cohort_exchange *exchange, const cohort_body *part) {
    pthread_mutex_lock(&exchange->http->lock);
    if (exchange->state == EXCHANGE_STREAMING) {
        cohort_body_add(&exchange->answer, part->bytes, part->size);
        exchange->answer.is_short |= part->is_short;
        if (part->size > LARGE_PART_BYTES) exchange->large_bytes += part->size;
        if (part->size > exchange->largest_part) exchange->largest_part = part->size;
        bool has_room = cohort_exchange_count_held(exchange);
        if (reads_too_little(exchange, has_room)) give_up(exchange);
    }
    pthread_mutex_unlock(&exchange->http->lock);
}

void cohort_exchange_end(cohort_exchange *exchange, bool whole) {
    pthread_mutex_lock(&exchange->http->lock);
    cohort_exchange_move(&exchange->state, whole ? EXCHANGE_END : EXCHANGE_BREAK);
    exchange->on_gone = NULL;
    unlock_and_resume(exchange);
}

void cohort_exchange_on_gone(cohort_exchange *exchange, void (*on_gone)(void *user_data),
                             void *user_data) {
    pthread_mutex_lock(&exchange->http->lock);
    exchange->on_gone = on_gone;
    exchange->on_gone_user_data = user_data;
    bool is_gone = exchange->state == EXCHANGE_GONE;
    if (is_gone) exchange->on_gone = NULL;
    if (on_gone && is_gone) on_gone(user_data);
    pthread_mutex_unlock(&exchange->http->lock);
}

void cohort_exchange_release(cohort_exchange *exchange) {
    pthread_mutex_lock(&exchange->http->lock);
    exchange->on_gone = NULL;
    exchange->kept_bytes = 0;
    cohort_exchange_count_held(exchange);
    /* A holder that lets go without an answer would leave the client waiting. */
    if (cohort_exchange_move(&exchange->state, EXCHANGE_REPLY)) exchange->status = 500;
    cohort_exchange_move(&exchange->state, EXCHANGE_BREAK);
    bool resume = cohort_exchange_wake(exchange);
    struct MHD_Connection *connection = exchange->connection;
    pthread_mutex_unlock(&exchange->http->lock);
    if (resume) resume_connection(exchange->http, connection);
    let_go(exchange);
}
