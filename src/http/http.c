/* SPDX-License-Identifier: Apache-2.0 */
#include "http/http.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/condition.h"
#include "base/process.h"
#include "cohort/clock.h"
#include "http/http_internal.h"

/* Design notes.
 *
 * One thread has all connections, and runs libmicrohttpd among other things.  The library
 * does not look at the socket of a suspended connection, misses an end that comes
 * together with a request (epoll tells it once, and a short read counts as all there is),
 * and takes any byte for progress.  So two things are ours: noticing that a client left,
 * while its answer is computed or afterwards (EPOLLRDHUP), and ending connections whose
 * request takes too long to arrive, however steadily it trickles.
 *
 * The third is what is streamed: steps write to sockets themselves (exchange.c), or wake
 * our thread once for all streams, which with a thread of the library's own would wake
 * for the first of them, and again for the rest.
 *
 * What if a callback runs for a connection that just closed?  Peers are found by serial,
 * under the lock, and leave the list before their socket is closed. */

enum {
    BACKLOG = 1024,
    HEAD_BYTES = 65536, /* of a request, and of the library's buffers */
    SWEEP_MS = 500,
    HANGUP_MS = 1000, /* for a client that left to be noticed by the library */
    MAX_FILE_BYTES = 1 << 20,
    DEFAULT_BODY_BYTES = 64 << 20,
    DEFAULT_HELD_BODIES = 64,
    LEAST_HELD_BODIES = 4, /* as a body may take twice its size while it grows */
    DEFAULT_CONNECTIONS = 4096,
    VANISHED_S = 120, /* for a client whose host says nothing any more */
    OTHER_FILES = 64  /* that may be opened beside connections */
};

/* What our epoll tells of besides peers, which have their serials. */
enum { OF_WAKE = 0, OF_LIBRARY = 1, FIRST_SERIAL = 2 };

/* When a request that nobody has begun to send must be there, whole.  The first byte of
 * its head is not told to us, so that the time to idle counts from the last answer. */
static int64_t next_deadline(const cohort_http *http) {
    return cohort_clock_ns() + http->options.idle_timeout_ns +
           http->options.request_timeout_ns;
}

/* ---- connections ------------------------------------------------------------------- */

/* Under the lock: to be told, once, when the client hangs up, or takes the rest. */
static void watch_peer(cohort_http *http, http_peer *peer) {
    bool has_rest = peer->exchange && peer->exchange->rest.size;
    uint32_t events = EPOLLRDHUP | EPOLLONESHOT | (has_rest ? EPOLLOUT : 0);
    if (peer->armed == events) return; /* a stream sleeps between any two tokens */
    struct epoll_event event = {.events = events, .data.u64 = peer->serial};
    int operation = peer->is_watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    bool is_armed = epoll_ctl(http->epoll_fd, operation, peer->fd, &event) == 0;
    peer->armed = is_armed ? events : 0;
    peer->is_watched |= is_armed;
}

void cohort_http_watch(cohort_exchange *exchange) {
    watch_peer(exchange->http, exchange->peer);
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

/* The library counts whole seconds, and 0 is none. */
static unsigned in_seconds(int64_t ns) {
    return (unsigned)((ns + 999999999) / 1000000000);
}

/* A host that vanishes says no good-bye: it is asked while nothing is sent, and given up
 * when it leaves what was sent, or asked, unanswered for too long. */
static void expect_signs_of_life(const cohort_http *http, int fd) {
    int64_t idle_s = in_seconds(http->options.idle_timeout_ns);
    int most_s = idle_s > 0 && idle_s < VANISHED_S ? (int)idle_s : VANISHED_S;
    int one = 1, most_ms = most_s * 1000, count = 4;
    /* As the library has it, which does not see all that is sent. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    int first_s = most_s > 4 ? most_s / 4 : 1, every_s = most_s > 8 ? most_s / 8 : 1;
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &first_s, sizeof first_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every_s, sizeof every_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &most_ms, sizeof most_ms);
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
    cohort_http_add_intake(http, peer); /* or nothing of it is served */
    if (!http->uds) expect_signs_of_life(http, peer->fd);
    peer->deadline_ns = next_deadline(http);
    pthread_mutex_lock(&http->lock);
    peer->serial = http->next_serial++;
    peer->next = http->peers;
    if (http->peers) http->peers->previous = peer;
    http->peers = peer;
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
    pthread_mutex_unlock(&http->lock);
    cohort_http_drop_intake(http, peer);
    free(peer->query);
    free(peer);
}

static void on_connection(void *user_data, struct MHD_Connection *connection, void **peer,
                          enum MHD_ConnectionNotificationCode code) {
    if (code == MHD_CONNECTION_NOTIFY_STARTED)
        open_peer(user_data, connection, peer);
    else
        close_peer(user_data, *peer);
}

/* ---- the thread -------------------------------------------------------------------- */

void cohort_http_suspend(cohort_exchange *exchange) {
    watch_peer(exchange->http, exchange->peer);
    exchange->is_suspended = true;
    MHD_suspend_connection(exchange->connection);
}

static void take_event(cohort_http *http, uint64_t serial, uint32_t events) {
    struct MHD_Connection *resume = NULL;
    pthread_mutex_lock(&http->lock);
    http_peer *peer = http->peers;
    while (peer && peer->serial != serial)
        peer = peer->next;
    cohort_exchange *exchange = peer ? peer->exchange : NULL;
    if (peer) peer->armed = 0;
    if (exchange && exchange->state != EXCHANGE_READING) {
        bool has_left = events & ~(uint32_t)EPOLLOUT, has_rest = exchange->rest.size;
        if (has_left && (!exchange_is_answered(exchange->state) || has_rest))
            cohort_exchange_mark_gone(exchange);
        if (has_rest && exchange->state != EXCHANGE_GONE)
            cohort_exchange_send_rest(exchange);
        bool is_gone = exchange->state == EXCHANGE_GONE;
        if ((is_gone || exchange_is_answered(exchange->state)) &&
            cohort_exchange_wake(exchange))
            resume = exchange->connection;
        else if (!is_gone && !has_left)
            watch_peer(http, peer);
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

/* Waits for what the library, a peer or another thread has for us. */
static bool take_events(cohort_http *http) {
    struct epoll_event events[64];
    MHD_UNSIGNED_LONG_LONG most_ms = SWEEP_MS;
    if (MHD_get_timeout(http->daemon, &most_ms) != MHD_YES || most_ms > SWEEP_MS)
        most_ms = SWEEP_MS;
    int n = epoll_wait(http->epoll_fd, events, 64, (int)most_ms);
    bool is_stopping = false;
    for (int i = 0; i < n; i++) {
        uint64_t of = events[i].data.u64;
        if (of >= FIRST_SERIAL) take_event(http, of, events[i].events);
        if (of != OF_WAKE) continue;
        uint64_t count;
        is_stopping = read(http->wake_fd, &count, sizeof count) == sizeof count &&
                      atomic_load(&http->is_stopping);
    }
    return !is_stopping;
}

static void *serve(void *user_data) {
    cohort_http *http = user_data;
    int64_t swept_ns = cohort_clock_ns();
    cohort_http_read_here(http);
    do {
        cohort_exchange_resume(http);
        MHD_run(http->daemon);
        if (cohort_clock_ns() - swept_ns < (int64_t)SWEEP_MS * 1000000) continue;
        sweep(http);
        swept_ns = cohort_clock_ns();
    } while (take_events(http));
    return NULL;
}

void cohort_http_wake(const cohort_http *http) {
    const uint64_t one = 1;
    ssize_t ignored = write(http->wake_fd, &one, sizeof one);
    (void)ignored; /* full: it is awake anyway */
}

static cohort_status watch_fd(cohort_http *http, int fd, uint64_t of) {
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = of};
    if (epoll_ctl(http->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
        return COHORT_FAIL_SYS(errno, "epoll_ctl");
    return COHORT_OK;
}

/* ---- requests ---------------------------------------------------------------------- */

static http_peer *peer_of(struct MHD_Connection *connection) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

/* Before the library takes the target apart: what it returns is on_access's first state.
 */
static void *on_target(void *user_data, const char *target,
                       struct MHD_Connection *connection) {
    (void)user_data;
    http_peer *peer = peer_of(connection);
    const char *query = strchr(target, '?');
    if (!peer) return NULL;
    free(peer->query); /* of a head that the library refused */
    peer->query = query ? strdup(query) : NULL;
    return NULL;
}

static bool expects_go_ahead(struct MHD_Connection *connection) {
    return MHD_lookup_connection_value(connection, MHD_HEADER_KIND,
                                       MHD_HTTP_HEADER_EXPECT) != NULL;
}

static enum MHD_Result begin_request(cohort_http *http, struct MHD_Connection *connection,
                                     const char *method, const char *path,
                                     const char *version,
                                     cohort_exchange **out_exchange) {
    const char *length = MHD_lookup_connection_value(connection, MHD_HEADER_KIND,
                                                     MHD_HTTP_HEADER_CONTENT_LENGTH);
    http_peer *peer = peer_of(connection);
    bool is_checked = peer && peer->n_begun++ < peer->framing.n_heads;
    bool is_faulty = !strcmp(method, COHORT_FRAMING_MARK);
    cohort_exchange *exchange =
        is_checked ? cohort_exchange_create(http, connection, is_faulty ? "?" : method,
                                            is_faulty ? "?" : path)
                   : NULL;
    *out_exchange = exchange;
    if (!exchange) return MHD_NO;
    exchange->peer = peer;
    exchange->query = peer->query;
    peer->query = NULL;
    exchange->may_bypass = !http->certificate && !strcmp(version, MHD_HTTP_VERSION_1_1);
    if (is_faulty) cohort_exchange_mark_body(exchange, BODY_FAULTY);
    if (length && strtoull(length, NULL, 10) > http->options.max_body_bytes)
        cohort_exchange_mark_body(exchange, BODY_TOO_LARGE);
    if (http->options.wants_body &&
        !http->options.wants_body(http->options.user_data, exchange))
        cohort_exchange_mark_body(exchange, BODY_UNWANTED);
    pthread_mutex_lock(&http->lock);
    peer->exchange = exchange;
    int64_t body_ns = exchange->begin_ns + http->options.request_timeout_ns;
    if (body_ns < peer->deadline_ns) peer->deadline_ns = body_ns;
    pthread_mutex_unlock(&http->lock);
    return MHD_YES;
}

static void take_bytes(cohort_exchange *exchange, const char *bytes, size_t size) {
    cohort_http *http = exchange->http;
    size_t before = exchange->request.capacity;
    exchange->request_bytes += size;
    if (exchange->request_bytes > http->options.max_body_bytes)
        cohort_exchange_mark_body(exchange, BODY_TOO_LARGE);
    if (exchange->body_state == BODY_KEPT)
        cohort_body_add(&exchange->request, bytes, size);
    /* What memory is too short for is too large as well. */
    if (exchange->request.is_short) cohort_exchange_mark_body(exchange, BODY_TOO_LARGE);
    if (exchange->body_state == BODY_TOO_LARGE) cohort_body_deinit(&exchange->request);
    if (exchange->request.capacity == before) return;
    pthread_mutex_lock(&http->lock);
    cohort_exchange_count_held(exchange);
    if (cohort_http_is_crowded(http, exchange->request.capacity)) {
        cohort_exchange_mark_body(exchange, BODY_REFUSED);
        cohort_body_deinit(&exchange->request);
        cohort_exchange_count_held(exchange);
    }
    pthread_mutex_unlock(&http->lock);
}

/* Answers, or sleeps until there is an answer. */
static enum MHD_Result go_on(cohort_exchange *exchange) {
    pthread_mutex_lock(&exchange->http->lock);
    bool has_begun = exchange_has_begun(exchange->state);
    bool is_lost =
        exchange->state == EXCHANGE_GONE || (exchange->http->is_closing && !has_begun);
    if (!is_lost && !has_begun) cohort_http_suspend(exchange);
    pthread_mutex_unlock(&exchange->http->lock);
    if (is_lost) return MHD_NO;
    /* Without our lock: the library calls read_answer with its own. */
    return has_begun ? cohort_exchange_queue(exchange) : MHD_YES;
}

/* As uvicorn says it, and why. */
static void reply_fault(cohort_exchange *exchange) {
    const cohort_framing *framing = &exchange->peer->framing;
    cohort_body body = {0};
    cohort_body_printf(&body, "Invalid HTTP request received: %s.", framing->fault);
    cohort_exchange_add_header(exchange, MHD_HTTP_HEADER_CONNECTION, "close");
    cohort_exchange_reply(exchange, framing->status, "text/plain; charset=utf-8", &body);
    cohort_exchange_release(exchange);
}

static enum MHD_Result dispatch(cohort_exchange *exchange) {
    cohort_http *http = exchange->http;
    pthread_mutex_lock(&http->lock);
    cohort_exchange_move(&exchange->state, EXCHANGE_DISPATCH);
    http->n_answering++;
    exchange->owners = 2;
    exchange->peer->deadline_ns = COHORT_NEVER;
    pthread_mutex_unlock(&http->lock);
    if (MHD_lookup_connection_value(exchange->connection, MHD_FOOTER_KIND,
                                    COHORT_FRAMING_MARK))
        cohort_exchange_mark_body(exchange, BODY_FAULTY);
    if (exchange->body_state == BODY_FAULTY)
        reply_fault(exchange);
    else
        http->options.on_request(http->options.user_data, exchange);
    return go_on(exchange);
}

static bool is_reading(cohort_exchange *exchange) {
    pthread_mutex_lock(&exchange->http->lock);
    bool reads = exchange->state == EXCHANGE_READING;
    pthread_mutex_unlock(&exchange->http->lock);
    return reads;
}

static enum MHD_Result on_access(void *user_data, struct MHD_Connection *connection,
                                 const char *path, const char *method,
                                 const char *version, const char *bytes, size_t *size,
                                 void **state) {
    cohort_exchange *exchange = *state;
    if (!exchange) {
        enum MHD_Result result =
            begin_request(user_data, connection, method, path, version, &exchange);
        *state = exchange;
        /* A client that asks before it sends is told at once; another is read to the
         * end, or it would see a reset in place of the answer. */
        if (result == MHD_YES && exchange->body_state != BODY_KEPT &&
            expects_go_ahead(connection))
            return dispatch(exchange);
        return result;
    }
    if (*size) {
        take_bytes(exchange, bytes, *size);
        *size = 0;
        return MHD_YES;
    }
    return is_reading(exchange) ? dispatch(exchange) : go_on(exchange);
}

static void on_completed(void *user_data, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode code) {
    cohort_http *http = user_data;
    cohort_exchange *exchange = *state;
    if (!exchange) return;
    *state = NULL;
    (void)connection;
    (void)code; /* COMPLETED_OK, or the answer is lost, which its state tells */
    int64_t now = cohort_clock_ns();
    pthread_mutex_lock(&http->lock);
    bool is_dispatched = exchange->state != EXCHANGE_READING;
    cohort_exchange_mark_gone(exchange);
    cohort_http_record record = {.peer = exchange->peer->name,
                                 .method = exchange->method,
                                 .path = exchange->path,
                                 .status = exchange->status,
                                 .request_bytes = exchange->request_bytes,
                                 .response_bytes = exchange->sent_before + exchange->sent,
                                 .duration_ns = now - exchange->begin_ns};
    exchange->peer->exchange = NULL;
    watch_peer(http, exchange->peer);
    exchange->peer->deadline_ns = next_deadline(http);
    http->n_answering -= is_dispatched;
    pthread_cond_broadcast(&http->answered);
    pthread_mutex_unlock(&http->lock);
    if (http->observe && is_dispatched) http->observe(http->observe_user_data, &record);
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
    COHORT_TRY(watch_fd(http, http->wake_fd, OF_WAKE));
    return cohort_http_bind_socket(http);
}

cohort_status cohort_http_bind(const cohort_http_options *options,
                               cohort_http **out_http) {
    *out_http = NULL;
    cohort_http *http = calloc(1, sizeof *http);
    if (!http) return COHORT_FAIL(COHORT_E_NOMEM, "the HTTP server");
    http->options = *options;
    http->listen_fd = http->epoll_fd = http->wake_fd = -1;
    http->next_serial = FIRST_SERIAL;
    if (!http->options.max_body_bytes) http->options.max_body_bytes = DEFAULT_BODY_BYTES;
    if (!http->options.max_connections)
        http->options.max_connections = DEFAULT_CONNECTIONS;
    size_t body_bytes = http->options.max_body_bytes;
    if (!http->options.max_held_bytes)
        http->options.max_held_bytes = DEFAULT_HELD_BODIES * body_bytes;
    if (http->options.max_held_bytes < LEAST_HELD_BODIES * body_bytes)
        http->options.max_held_bytes = LEAST_HELD_BODIES * body_bytes;
    pthread_mutex_init(&http->lock, NULL);
    cohort_condition_init(&http->answered);
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

/* As many open files as connections want, or fewer connections. */
static void make_room_for_files(cohort_http *http) {
    struct rlimit files;
    uint64_t others = (uint64_t)cohort_process_measure().n_fds + OTHER_FILES;
    uint64_t wanted = http->options.max_connections + others;
    if (getrlimit(RLIMIT_NOFILE, &files) < 0) return;
    if (files.rlim_cur < wanted && files.rlim_cur != RLIM_INFINITY) {
        bool is_enough = files.rlim_max == RLIM_INFINITY || files.rlim_max >= wanted;
        files.rlim_cur = is_enough ? wanted : files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
        if (getrlimit(RLIMIT_NOFILE, &files) < 0) return;
    }
    if (files.rlim_cur != RLIM_INFINITY && files.rlim_cur < wanted)
        http->options.max_connections =
            files.rlim_cur > others ? (uint32_t)(files.rlim_cur - others) : 1;
}

cohort_status cohort_http_open(cohort_http *http) {
    const cohort_http_options *options = &http->options;
    if (!http->options.uds) cohort_http_reuse(http->listen_fd, true);
    make_room_for_files(http);
    if (listen(http->listen_fd, BACKLOG) < 0)
        return COHORT_FAIL_SYS(errno, "listening on %s", http->url);
    unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
    struct MHD_OptionItem tls[] = {{MHD_OPTION_HTTPS_MEM_CERT, 0, http->certificate},
                                   {MHD_OPTION_HTTPS_MEM_KEY, 0, http->key},
                                   {MHD_OPTION_END, 0, NULL}};
    if (http->certificate) flags |= MHD_USE_TLS;
    if (!http->certificate) tls[0] = tls[2];
    http->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, on_access, http, MHD_OPTION_EXTERNAL_LOGGER, drop_message,
        NULL, MHD_OPTION_URI_LOG_CALLBACK, on_target, http, MHD_OPTION_LISTEN_SOCKET,
        http->listen_fd, MHD_OPTION_NOTIFY_CONNECTION, on_connection, http,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, http, MHD_OPTION_CONNECTION_LIMIT,
        options->max_connections, MHD_OPTION_CONNECTION_TIMEOUT,
        in_seconds(options->idle_timeout_ns), MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)HEAD_BYTES, MHD_OPTION_ARRAY, tls, MHD_OPTION_END);
    if (!http->daemon)
        return COHORT_FAIL(COHORT_E_IO, "%s did not open%s", http->url,
                           http->certificate ? "; do certificate and key match?" : "");
    http->listen_fd = -1; /* the library closes it */
    const union MHD_DaemonInfo *info =
        MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (!info) return COHORT_FAIL(COHORT_E_IO, "libmicrohttpd has no epoll");
    COHORT_TRY(watch_fd(http, info->epoll_fd, OF_LIBRARY));
    if (pthread_create(&http->thread, NULL, serve, http))
        return COHORT_FAIL(COHORT_E_NOMEM, "a thread for connections");
    http->has_thread = true;
    pthread_setname_np(http->thread, "cohort-http");
    return COHORT_OK;
}

const char *cohort_http_url(const cohort_http *http) { return http->url; }

uint32_t cohort_http_max_connections(const cohort_http *http) {
    return http->options.max_connections;
}

bool cohort_http_hold(cohort_http *http, int64_t bytes) {
    pthread_mutex_lock(&http->lock);
    http->held_bytes += (size_t)bytes;
    bool has_room = http->held_bytes <= http->options.max_held_bytes;
    pthread_mutex_unlock(&http->lock);
    return has_room;
}

void cohort_http_set_observer(cohort_http *http,
                              void (*observe)(void *user_data,
                                              const cohort_http_record *record),
                              void *user_data) {
    http->observe = observe;
    http->observe_user_data = user_data;
}

cohort_status cohort_http_finish(cohort_http *http, int64_t deadline_ns) {
    if (http->daemon && http->listen_fd < 0)
        http->listen_fd = MHD_quiesce_daemon(http->daemon);
    pthread_mutex_lock(&http->lock);
    while (http->n_answering &&
           cohort_condition_wait(&http->answered, &http->lock, deadline_ns))
        ;
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
    if (http->has_thread) {
        atomic_store(&http->is_stopping, true);
        cohort_http_wake(http);
        pthread_join(http->thread, NULL);
        http->has_thread = false;
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
    free(http->intakes);
    free(http->uds);
    free(http->certificate);
    free(http->key);
    pthread_cond_destroy(&http->answered);
    pthread_mutex_destroy(&http->lock);
    free(http);
}
