/* SPDX-License-Identifier: Apache-2.0 */
#include "server/http.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "cohort/clock.h"
#include "server/http_internal.h"

/* Design notes.
 *
 * libmicrohttpd runs every connection on one thread of its own.  It does not look at the
 * socket of a suspended connection, misses an end that comes together with a request
 * (epoll tells it once, and a short read counts as all there is), and takes any byte for
 * progress.  So two things are ours, on the watcher's thread: noticing that a client
 * left, while its answer is computed or afterwards (EPOLLRDHUP), and ending connections
 * whose request takes too long to arrive, however steadily it trickles.
 *
 * What if a callback runs for a connection that just closed?  Peers are found by serial,
 * under the lock, and leave the list before their socket is closed. */

enum {
    BACKLOG = 1024,
    HEAD_BYTES = 65536, /* of a request, and of the library's buffers */
    SWEEP_MS = 500,
    HANGUP_MS = 1000, /* for a client that left to be noticed by the library */
    MAX_FILE_BYTES = 1 << 20,
    DEFAULT_BODY_BYTES = 64 << 20
};

/* When a request that nobody has begun to send must be there, whole.  The first byte of
 * its head is not told to us, so that the time to idle counts from the last answer. */
static int64_t next_deadline(const cohort_http *http) {
    return cohort_clock_ns() + http->options.idle_timeout_ns +
           http->options.request_timeout_ns;
}

/* ---- connections ------------------------------------------------------------------- */

/* Under the lock: tells the watcher, once, when the client hangs up. */
static void watch_peer(cohort_http *http, http_peer *peer) {
    if (peer->is_armed) return; /* a stream sleeps between any two tokens */
    struct epoll_event event = {.events = EPOLLRDHUP | EPOLLONESHOT,
                                .data.u64 = peer->serial};
    int operation = peer->is_watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    peer->is_armed = epoll_ctl(http->epoll_fd, operation, peer->fd, &event) == 0;
    peer->is_watched |= peer->is_armed;
}

static void name_peer(http_peer *peer) {
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    char host[48] = "", port[8] = "";
    snprintf(peer->name, sizeof peer->name, "unix");
    if (getpeername(peer->fd, (struct sockaddr *)&address, &length) == 0 &&
        address.ss_family != AF_UNIX &&
        getnameinfo((struct sockaddr *)&address, length, host, sizeof host, port,
                    sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) == 0)
        snprintf(peer->name, sizeof peer->name, "%s:%s", host, port);
}

static void open_peer(cohort_http *http, struct MHD_Connection *connection,
                      void **out_peer) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    http_peer *peer = calloc(1, sizeof *peer);
    *out_peer = peer;
    if (!peer || !info) return;
    peer->fd = info->connect_fd;
    name_peer(peer);
    peer->deadline_ns = next_deadline(http);
    pthread_mutex_lock(&http->lock);
    peer->serial = ++http->last_serial;
    peer->next = http->peers;
    if (http->peers) http->peers->previous = peer;
    http->peers = peer;
    http->n_peers++;
    watch_peer(http, peer);
    pthread_mutex_unlock(&http->lock);
}

static void close_peer(cohort_http *http, http_peer *peer) {
    if (!peer) return;
    pthread_mutex_lock(&http->lock);
    if (peer->is_watched) epoll_ctl(http->epoll_fd, EPOLL_CTL_DEL, peer->fd, NULL);
    if (peer->previous) peer->previous->next = peer->next;
    if (peer->next) peer->next->previous = peer->previous;
    if (http->peers == peer) http->peers = peer->next;
    http->n_peers -= peer->serial != 0;
    pthread_mutex_unlock(&http->lock);
    free(peer);
}

static void on_connection(void *user_data, struct MHD_Connection *connection, void **peer,
                          enum MHD_ConnectionNotificationCode code) {
    if (code == MHD_CONNECTION_NOTIFY_STARTED)
        open_peer(user_data, connection, peer);
    else
        close_peer(user_data, *peer);
}

/* ---- the watcher ------------------------------------------------------------------- */

void cohort_http_suspend(cohort_exchange *exchange) {
    watch_peer(exchange->http, exchange->peer);
    exchange->is_suspended = true;
    MHD_suspend_connection(exchange->connection);
}

static void take_hangup(cohort_http *http, uint64_t serial) {
    struct MHD_Connection *resume = NULL;
    pthread_mutex_lock(&http->lock);
    http_peer *peer = http->peers;
    while (peer && peer->serial != serial)
        peer = peer->next;
    cohort_exchange *exchange = peer ? peer->exchange : NULL;
    if (peer) peer->is_armed = false;
    if (exchange && exchange->is_dispatched) {
        if (!exchange->is_ended) cohort_exchange_mark_gone(exchange);
        if (exchange->is_gone && cohort_exchange_wake(exchange))
            resume = exchange->connection;
    } else if (peer) {
        /* What it sent before may still be on the way through the library. */
        int64_t end_ns = cohort_clock_ns() + HANGUP_MS * INT64_C(1000000);
        if (end_ns < peer->deadline_ns) peer->deadline_ns = end_ns;
    }
    pthread_mutex_unlock(&http->lock);
    if (resume) MHD_resume_connection(resume);
}

static void sweep(cohort_http *http) {
    int64_t now = cohort_clock_ns();
    pthread_mutex_lock(&http->lock);
    for (http_peer *peer = http->peers; peer; peer = peer->next)
        if (now > peer->deadline_ns) {
            shutdown(peer->fd, SHUT_RDWR); /* the library sees an end, and closes */
            peer->deadline_ns = COHORT_NEVER;
        }
    pthread_mutex_unlock(&http->lock);
}

static void *watch(void *user_data) {
    cohort_http *http = user_data;
    int64_t swept_ns = cohort_clock_ns();
    for (;;) {
        struct epoll_event events[64];
        int n = epoll_wait(http->epoll_fd, events, 64, SWEEP_MS);
        for (int i = 0; i < n; i++) {
            if (events[i].data.u64 == 0) return NULL; /* the wake-up of close */
            take_hangup(http, events[i].data.u64);
        }
        if (cohort_clock_ns() - swept_ns < (int64_t)SWEEP_MS * 1000000) continue;
        sweep(http);
        swept_ns = cohort_clock_ns();
    }
}

/* ---- requests ---------------------------------------------------------------------- */

static bool expects_go_ahead(struct MHD_Connection *connection) {
    return MHD_lookup_connection_value(connection, MHD_HEADER_KIND,
                                       MHD_HTTP_HEADER_EXPECT) != NULL;
}

static enum MHD_Result begin_request(cohort_http *http, struct MHD_Connection *connection,
                                     const char *method, const char *path,
                                     cohort_exchange **out_exchange) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    const char *length = MHD_lookup_connection_value(connection, MHD_HEADER_KIND,
                                                     MHD_HTTP_HEADER_CONTENT_LENGTH);
    http_peer *peer = info ? info->socket_context : NULL;
    cohort_exchange *exchange =
        peer ? cohort_exchange_create(http, connection, method, path) : NULL;
    *out_exchange = exchange;
    if (!exchange) return MHD_NO;
    exchange->peer = peer;
    exchange->is_too_large =
        length && strtoull(length, NULL, 10) > http->options.max_body_bytes;
    pthread_mutex_lock(&http->lock);
    peer->exchange = exchange;
    int64_t body_ns = exchange->begin_ns + http->options.request_timeout_ns;
    if (body_ns < peer->deadline_ns) peer->deadline_ns = body_ns;
    pthread_mutex_unlock(&http->lock);
    return MHD_YES;
}

static void take_bytes(cohort_exchange *exchange, const char *bytes, size_t size) {
    exchange->request_bytes += size;
    if (exchange->request_bytes > exchange->http->options.max_body_bytes) {
        exchange->is_too_large = true;
        cohort_body_deinit(&exchange->request);
    }
    if (!exchange->is_too_large) cohort_body_add(&exchange->request, bytes, size);
    /* What memory is too short for is too large as well. */
    exchange->is_too_large |= exchange->request.is_short;
}

/* Answers, or sleeps until there is an answer. */
static enum MHD_Result go_on(cohort_exchange *exchange) {
    pthread_mutex_lock(&exchange->http->lock);
    bool has_begun = exchange->has_begun;
    bool is_lost = exchange->is_gone || (exchange->http->is_closing && !has_begun);
    if (!is_lost && !has_begun) cohort_http_suspend(exchange);
    pthread_mutex_unlock(&exchange->http->lock);
    if (is_lost) return MHD_NO;
    /* Without our lock: the library calls read_answer with its own. */
    return has_begun ? cohort_exchange_queue(exchange) : MHD_YES;
}

static enum MHD_Result dispatch(cohort_exchange *exchange) {
    cohort_http *http = exchange->http;
    pthread_mutex_lock(&http->lock);
    exchange->is_dispatched = true;
    http->n_answering++;
    exchange->owners = 2;
    exchange->peer->deadline_ns = COHORT_NEVER;
    pthread_mutex_unlock(&http->lock);
    http->options.on_request(http->options.user_data, exchange);
    return go_on(exchange);
}

static enum MHD_Result on_access(void *user_data, struct MHD_Connection *connection,
                                 const char *path, const char *method,
                                 const char *version, const char *bytes, size_t *size,
                                 void **state) {
    cohort_exchange *exchange = *state;
    (void)version;
    if (!exchange) {
        enum MHD_Result result =
            begin_request(user_data, connection, method, path, &exchange);
        *state = exchange;
        /* A client that asks before it sends is told at once; another is read to the
         * end, or it would see a reset in place of the answer. */
        if (result == MHD_YES && exchange->is_too_large && expects_go_ahead(connection))
            return dispatch(exchange);
        return result;
    }
    if (*size) {
        take_bytes(exchange, bytes, *size);
        *size = 0;
        return MHD_YES;
    }
    return exchange->is_dispatched ? go_on(exchange) : dispatch(exchange);
}

static void on_completed(void *user_data, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode code) {
    cohort_http *http = user_data;
    cohort_exchange *exchange = *state;
    if (!exchange) return;
    *state = NULL;
    (void)connection;
    int64_t now = cohort_clock_ns();
    bool whole = code == MHD_REQUEST_TERMINATED_COMPLETED_OK;
    pthread_mutex_lock(&http->lock);
    cohort_http_record record = {.peer = exchange->peer->name,
                                 .method = exchange->method,
                                 .path = exchange->path,
                                 .status =
                                     whole || exchange->is_ended ? exchange->status : 499,
                                 .request_bytes = exchange->request_bytes,
                                 .response_bytes = exchange->sent_before + exchange->sent,
                                 .duration_ns = now - exchange->begin_ns};
    exchange->peer->exchange = NULL;
    watch_peer(http, exchange->peer);
    exchange->peer->deadline_ns = next_deadline(http);
    http->n_answering -= exchange->is_dispatched;
    pthread_cond_broadcast(&http->answered);
    pthread_mutex_unlock(&http->lock);
    if (http->observe && exchange->is_dispatched)
        http->observe(http->observe_user_data, &record);
    cohort_exchange_close(exchange);
}

/* ---- life -------------------------------------------------------------------------- */

static cohort_status read_pem(const char *path, char **out_text) {
    FILE *file = fopen(path, "re");
    if (!file) return COHORT_FAIL_SYS(errno, "opening %s", path);
    char *text = calloc(1, MAX_FILE_BYTES);
    size_t got = text ? fread(text, 1, MAX_FILE_BYTES - 1, file) : 0;
    fclose(file);
    *out_text = text;
    if (!text) return COHORT_FAIL(COHORT_E_NOMEM, "reading %s", path);
    if (got == 0 || !strstr(text, "-----BEGIN"))
        return COHORT_FAIL(COHORT_E_INVALID, "%s is no PEM file", path);
    return COHORT_OK;
}

static cohort_status prepare(cohort_http *http) {
    const cohort_http_options *options = &http->options;
    if (!options->ssl_certfile != !options->ssl_keyfile)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "--ssl-certfile and --ssl-keyfile need each other");
    if (options->ssl_certfile) {
        COHORT_TRY(read_pem(options->ssl_certfile, &http->certificate));
        COHORT_TRY(read_pem(options->ssl_keyfile, &http->key));
    }
    http->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    http->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (http->epoll_fd < 0 || http->wake_fd < 0) return COHORT_FAIL_SYS(errno, "epoll");
    struct epoll_event event = {.events = EPOLLIN};
    if (epoll_ctl(http->epoll_fd, EPOLL_CTL_ADD, http->wake_fd, &event) < 0)
        return COHORT_FAIL_SYS(errno, "epoll_ctl");
    return cohort_http_bind_socket(http);
}

cohort_status cohort_http_bind(const cohort_http_options *options,
                               cohort_http **out_http) {
    *out_http = NULL;
    cohort_http *http = calloc(1, sizeof *http);
    if (!http) return COHORT_FAIL(COHORT_E_NOMEM, "the HTTP server");
    http->options = *options;
    http->listen_fd = http->epoll_fd = http->wake_fd = -1;
    if (!http->options.max_body_bytes) http->options.max_body_bytes = DEFAULT_BODY_BYTES;
    pthread_mutex_init(&http->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&http->answered, &attributes);
    pthread_condattr_destroy(&attributes);
    cohort_status status = prepare(http);
    if (status < 0) {
        cohort_http_close(http);
        return status;
    }
    *out_http = http;
    return COHORT_OK;
}

static void drop_message(void *user_data, const char *format, va_list args) {
    (void)user_data;
    (void)format;
    (void)args;
}

/* The library counts whole seconds, and 0 is none. */
static unsigned in_seconds(int64_t ns) {
    return (unsigned)((ns + 999999999) / 1000000000);
}

cohort_status cohort_http_open(cohort_http *http) {
    const cohort_http_options *options = &http->options;
    if (listen(http->listen_fd, BACKLOG) < 0)
        return COHORT_FAIL_SYS(errno, "listening on %s", http->url);
    unsigned flags =
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
    struct MHD_OptionItem tls[] = {{MHD_OPTION_HTTPS_MEM_CERT, 0, http->certificate},
                                   {MHD_OPTION_HTTPS_MEM_KEY, 0, http->key},
                                   {MHD_OPTION_END, 0, NULL}};
    if (http->certificate) flags |= MHD_USE_TLS;
    if (!http->certificate) tls[0] = tls[2];
    http->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, on_access, http, MHD_OPTION_EXTERNAL_LOGGER, drop_message,
        NULL, MHD_OPTION_LISTEN_SOCKET, http->listen_fd, MHD_OPTION_NOTIFY_CONNECTION,
        on_connection, http, MHD_OPTION_NOTIFY_COMPLETED, on_completed, http,
        MHD_OPTION_CONNECTION_LIMIT,
        options->max_connections ? options->max_connections : 4096u,
        MHD_OPTION_CONNECTION_TIMEOUT, in_seconds(options->idle_timeout_ns),
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HEAD_BYTES, MHD_OPTION_ARRAY, tls,
        MHD_OPTION_END);
    if (!http->daemon)
        return COHORT_FAIL(COHORT_E_IO, "%s did not open%s", http->url,
                           http->certificate ? "; do certificate and key match?" : "");
    http->listen_fd = -1; /* the library closes it */
    if (pthread_create(&http->watcher, NULL, watch, http))
        return COHORT_FAIL(COHORT_E_NOMEM, "a thread to watch connections");
    http->has_watcher = true;
    return COHORT_OK;
}

uint16_t cohort_http_port(const cohort_http *http) { return http->port; }
const char *cohort_http_url(const cohort_http *http) { return http->url; }

uint32_t cohort_http_n_connections(cohort_http *http) {
    pthread_mutex_lock(&http->lock);
    uint32_t n = http->n_peers;
    pthread_mutex_unlock(&http->lock);
    return n;
}

void cohort_http_set_observer(cohort_http *http,
                              void (*observe)(void *user_data,
                                              const cohort_http_record *record),
                              void *user_data) {
    http->observe = observe;
    http->observe_user_data = user_data;
}

cohort_status cohort_http_finish(cohort_http *http, int64_t deadline_ns) {
    const struct timespec until = {.tv_sec = (time_t)(deadline_ns / 1000000000),
                                   .tv_nsec = (long)(deadline_ns % 1000000000)};
    if (http->daemon && http->listen_fd < 0)
        http->listen_fd = MHD_quiesce_daemon(http->daemon);
    pthread_mutex_lock(&http->lock);
    int late = 0;
    while (http->n_answering && !late)
        late = pthread_cond_timedwait(&http->answered, &http->lock, &until);
    uint32_t left = http->n_answering;
    pthread_mutex_unlock(&http->lock);
    if (!left) return COHORT_OK;
    return COHORT_FAIL(COHORT_E_TIMEOUT, "%u answers are not sent yet", left);
}

/* The library must not be stopped while a connection sleeps. */
static void wake_all(cohort_http *http) {
    for (;;) {
        struct MHD_Connection *resume = NULL;
        pthread_mutex_lock(&http->lock);
        http->is_closing = true;
        for (http_peer *peer = http->peers; peer && !resume; peer = peer->next) {
            if (!peer->exchange) continue;
            cohort_exchange_mark_gone(peer->exchange);
            if (cohort_exchange_wake(peer->exchange)) resume = peer->exchange->connection;
        }
        pthread_mutex_unlock(&http->lock);
        if (!resume) return;
        MHD_resume_connection(resume);
    }
}

void cohort_http_stop(cohort_http *http) {
    if (http->has_watcher) {
        uint64_t one = 1;
        ssize_t ignored = write(http->wake_fd, &one, sizeof one);
        (void)ignored;
        pthread_join(http->watcher, NULL);
        http->has_watcher = false;
    }
    wake_all(http);
    if (http->daemon) MHD_stop_daemon(http->daemon);
    http->daemon = NULL;
}

void cohort_http_close(cohort_http *http) {
    if (!http) return;
    cohort_http_stop(http);
    if (http->listen_fd >= 0) close(http->listen_fd);
    if (http->epoll_fd >= 0) close(http->epoll_fd);
    if (http->wake_fd >= 0) close(http->wake_fd);
    if (http->uds) unlink(http->uds);
    free(http->uds);
    free(http->certificate);
    free(http->key);
    pthread_cond_destroy(&http->answered);
    pthread_mutex_destroy(&http->lock);
    free(http);
}
