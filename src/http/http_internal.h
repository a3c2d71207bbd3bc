/* SPDX-License-Identifier: Apache-2.0 */
/* http/http_internal.h - what http.c, exchange.c, stream.c, intake.c, listen.c share;
 * private to them.
 */
#ifndef COHORT_HTTP_HTTP_INTERNAL_H
#define COHORT_HTTP_HTTP_INTERNAL_H

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

#include "http/exchange_state.h"
#include "http/framing.h"
#include "http/http.h"

/* A connection, from accept to close. */
typedef struct http_peer {
    uint64_t serial;
    int fd;
    bool is_watched;        /* is in the epoll set */
    uint32_t armed;         /* the events of which it will be told, once */
    char name[64];          /* who it is, for logs */
    int64_t deadline_ns;    /* of a whole request, or of a client that does not read;
                             * COHORT_NEVER: one is being answered */
    cohort_framing framing; /* the HTTP thread's, as the next four */
    cohort_body framed;     /* what it let through, and the library has not read: */
    size_t n_given;         /* all but these */
    uint64_t n_begun;       /* requests; of framing.n_heads */
    char *query;            /* of the one that begins next; NULL: none */
    cohort_exchange *exchange;
    struct http_peer *previous, *next;
} http_peer;

struct cohort_http {
    cohort_http_options options;
    char url[300];
    char *uds;
    int listen_fd; /* -1 while the library has it */
    char *certificate, *key;
    struct MHD_Daemon *daemon;

    pthread_mutex_t lock; /* of everything below, and of every exchange's answer */
    pthread_t thread;
    bool has_thread, is_closing;
    http_peer **intakes; /* by descriptor; the HTTP thread's */
    size_t n_intakes;
    atomic_bool is_stopping; /* the thread's end is asked for; then it is woken */
    int epoll_fd, wake_fd;
    uint64_t next_serial;
    http_peer *peers;
    cohort_exchange *asleep; /* amid their answers */
    size_t held_bytes;       /* of options.max_held_bytes */
    uint32_t n_answering;    /* requests that arrived whole, and are not done with */
    pthread_cond_t answered; /* n_answering went down */
    void (*observe)(void *user_data, const cohort_http_record *record);
    void *observe_user_data;
};

typedef struct http_header {
    char *name, *value;
    struct http_header *next;
} http_header;

/* Whether a request has its bytes; the worst that was found stays. */
typedef enum body_state {
    BODY_KEPT,
    BODY_UNWANTED,  /* nobody looks at them */
    BODY_REFUSED,   /* too many beside those of others */
    BODY_TOO_LARGE, /* over the limit */
    BODY_FAULTY     /* this is where the connection's framing went wrong */
} body_state;

struct cohort_exchange {
    cohort_http *http;
    struct MHD_Connection *connection;
    http_peer *peer;
    char *method, *path, *query;
    http_header *request_headers;
    cohort_body request;
    size_t request_bytes;  /* also those over the limit, which are not kept */
    body_state body_state; /* bytes in request only where they are kept */
    bool may_bypass;       /* the library: its answer is chunked, and not encrypted */
    int64_t begin_ns;

    /* Under http->lock from here on. */
    exchange_state state;
    int owners;
    size_t kept_bytes; /* by the holder, of what was asked */
    size_t held_bytes; /* as http counts it: what request and answer take */
    bool is_suspended; /* the socket is ours; whoever clears it resumes the connection */
    cohort_exchange *next_asleep, **asleep_link; /* in http->asleep; NULL: is not */
    int status; /* 499: the client left before the answer was there */
    const char *content_type;
    http_header *headers;
    cohort_body answer;
    size_t sent, sent_before; /* of answer; and of what it held before */
    cohort_body rest;         /* of a part that found no room in the socket */
    size_t rest_sent;
    size_t large_bytes, largest_part; /* of what was pushed: large ones in all */
    void (*on_gone)(void *user_data);
    void *on_gone_user_data;
};

/* listen.c: a socket that is bound; uds: its path where it is one. */
cohort_status cohort_http_bind_socket(cohort_http *http);
void cohort_http_reuse(int fd, bool on);

/* intake.c: what this thread reads of connections that were added is strictly framed. */
void cohort_http_read_here(cohort_http *http);
bool cohort_http_add_intake(cohort_http *http, http_peer *peer);
void cohort_http_drop_intake(cohort_http *http, http_peer *peer);

/* exchange.c: under the lock, after request or answer grew or shrank.  False: all hold
 * more than they may together. */
bool cohort_exchange_count_held(cohort_exchange *exchange);
/* Under the lock: so many bytes of one request are too many beside what all hold. */
bool cohort_http_is_crowded(const cohort_http *http, size_t bytes);
cohort_exchange *cohort_exchange_create(cohort_http *http,
                                        struct MHD_Connection *connection,
                                        const char *method, const char *path);
/* What was found of its body; a worse finding stays. */
void cohort_exchange_mark_body(cohort_exchange *exchange, body_state found);
/* The connection's half; the lock must be free. */
void cohort_exchange_close(cohort_exchange *exchange);
/* Under the lock: the client has gone, or all ends; the holder is told where it still
 * answers.  */
void cohort_exchange_mark_gone(cohort_exchange *exchange);

/* stream.c: under the lock: true where the caller has to resume the connection, after
 * unlocking. One that has a rest sleeps on until that is sent. */
bool cohort_exchange_wake(cohort_exchange *exchange);
/* The HTTP thread, without the lock: hands an answer that has begun to the library. */
enum MHD_Result cohort_exchange_queue(cohort_exchange *exchange);
/* The HTTP thread, without the lock: resumes those that have something for the library.
 */
void cohort_exchange_resume(cohort_http *http);
/* Under the lock: the socket of one that is suspended has room again. */
void cohort_exchange_send_rest(cohort_exchange *exchange);
/* Under the lock: watches the client while the connection sleeps. */
void cohort_http_suspend(cohort_exchange *exchange);
void cohort_http_watch(cohort_exchange *exchange);
/* Any thread: the HTTP thread takes a turn. */
void cohort_http_wake(const cohort_http *http);

#endif /* COHORT_HTTP_HTTP_INTERNAL_H */
