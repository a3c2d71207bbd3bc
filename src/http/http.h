/* SPDX-License-Identifier: Apache-2.0 */
/* http/http.h - HTTP/1.1 in, answers out; knows nothing of models.
 *
 *   bind -> open -> (on_request -> exchange -> reply | begin, push*, end)* -> close
 *
 * An exchange is one request and its answer.  Whoever holds it may answer from any
 * thread, at once or much later; meanwhile the socket is watched, and a client that goes
 * away is told to the holder.  A request whose framing is not strict (framing.h) never
 * becomes one: it is answered here, with 400 or 431, and its connection ends.
 *
 * Ownership: an exchange has two owners, the connection and the holder, each of which
 *            lets go once: the holder by cohort_exchange_release.
 * Threads:   on_request and wants_body run on the one HTTP thread and must not block;
 *            the calls on an exchange are for any thread.
 * Limits:    connections, body bytes, bytes in all, time for a request to arrive, time
 *            without progress: the options'.  A head has 64 KiB; a client that leaves 16
 *            MiB of its answer unread, beside large parts, is given up, and one whose
 *            host has vanished after two minutes.
 */
#ifndef COHORT_HTTP_HTTP_H
#define COHORT_HTTP_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/body.h"

/* That anybody may have, also while all together hold more than max_held_bytes. */
enum { COHORT_FAIR_BYTES = 64 << 10 };

typedef struct cohort_http cohort_http;
typedef struct cohort_exchange cohort_exchange;

typedef struct cohort_http_options {
    const char *host; /* NULL: every address */
    uint16_t port;    /* 0: any; cohort_http_url says which */
    const char *uds;  /* path of a unix socket, in place of host and port */
    const char *ssl_certfile, *ssl_keyfile; /* both, or neither */
    size_t max_body_bytes;
    /* Of all bodies, what holders keep of them, and all answers that are not sent yet,
     * together: beyond it, and requests beyond 3/4 of it, only small ones are taken.  0:
     * as many as 64 bodies; at least as many as 4. */
    size_t max_held_bytes;
    uint32_t max_connections; /* fewer where the system allows fewer open files */
    int64_t idle_timeout_ns;  /* a connection without any progress */
    int64_t
        request_timeout_ns; /* a request's body; with the time to idle, its head too */
    void (*on_request)(void *user_data, cohort_exchange *exchange);
    /* The head has come: false where no byte of a body will be looked at, which then is
     * read past.  It must not answer.  NULL: bodies always are. */
    bool (*wants_body)(void *user_data, const cohort_exchange *exchange);
    void *user_data;
} cohort_http_options;

/* Takes address and port; a client is refused until open. */
cohort_status cohort_http_bind(const cohort_http_options *options,
                               cohort_http **out_http);
cohort_status cohort_http_open(cohort_http *http);
/* "http://127.0.0.1:8000", or "unix:PATH". */
const char *cohort_http_url(const cohort_http *http);
/* How many there may be, since open. */
uint32_t cohort_http_max_connections(const cohort_http *http);
/* Counts what a holder keeps for an answer, or no longer, as held.  False: that is more
 * than max_held_bytes, and somebody should let go. */
bool cohort_http_hold(cohort_http *http, int64_t bytes);
/* Takes no further connections, and waits until the answers under way have been sent.
 * COHORT_OK, or COHORT_E_TIMEOUT. */
cohort_status cohort_http_finish(cohort_http *http, int64_t deadline_ns);
/* Ends every connection, answered or not, and waits until none is left.  Exchanges that
 * are still held may be answered, which nobody hears. */
void cohort_http_stop(cohort_http *http);
/* Stops.  Every exchange must have been released.  Accepts NULL. */
void cohort_http_close(cohort_http *http);

/* ---- the request ------------------------------------------------------------------- */

const char *cohort_exchange_method(const cohort_exchange *exchange);
const char *cohort_exchange_path(const cohort_exchange *exchange); /* no query */
/* As it was sent, with its ?; "": there is none. */
const char *cohort_exchange_query(const cohort_exchange *exchange);
const char *cohort_exchange_header(const cohort_exchange *exchange, const char *name);
/* One that was added to the answer; NULL: none. */
const char *cohort_exchange_added_header(const cohort_exchange *exchange,
                                         const char *name);
/* NUL-terminated; "" where there is none. */
const char *cohort_exchange_body(const cohort_exchange *exchange, size_t *out_size);
/* The body was over the limit, and is not kept. */
bool cohort_exchange_is_too_large(const cohort_exchange *exchange);
/* The body was one too many for max_held_bytes, and is not kept. */
bool cohort_exchange_is_refused(const cohort_exchange *exchange);
/* The body was read, and is forgotten: so many bytes are kept in its place until release.
 * False: they are too many for max_held_bytes, and the request is to be refused. */
bool cohort_exchange_keep(cohort_exchange *exchange, size_t bytes);
/* Nobody waits for the answer any more. */
bool cohort_exchange_is_gone(const cohort_exchange *exchange);
int64_t cohort_exchange_begin_ns(const cohort_exchange *exchange);

/* ---- the answer -------------------------------------------------------------------- */

/* Before the answer begins; name and value are copied. */
void cohort_exchange_add_header(cohort_exchange *exchange, const char *name,
                                const char *value);
/* The whole answer; takes what body holds.  content_type: static text, or NULL. */
void cohort_exchange_reply(cohort_exchange *exchange, int status,
                           const char *content_type, cohort_body *body);
/* Or in parts: begin, push what there is, end.  What is pushed goes with the next flush
 * at the latest, or with the end.  whole: nothing was left out; else the connection
 * breaks off, which a client can tell from an end. */
void cohort_exchange_begin(cohort_exchange *exchange, int status,
                           const char *content_type);
void cohort_exchange_push(cohort_exchange *exchange, const cohort_body *part);
void cohort_exchange_end(cohort_exchange *exchange, bool whole);
/* Sends what was pushed to any exchange, as far as the clients take it at once. */
void cohort_http_flush(cohort_http *http);
/* Called once, on the HTTP thread or where the client is written to (push, flush), if it
 * goes before the answer's end; at once where it has gone.  It must not call the
 * exchange, and is not called after release. NULL: nobody is told any more. */
void cohort_exchange_on_gone(cohort_exchange *exchange, void (*on_gone)(void *user_data),
                             void *user_data);
/* The holder is done with it. */
void cohort_exchange_release(cohort_exchange *exchange);

/* Pages that browsers may let ask; "*" in a list: all.  NULL-terminated. */
typedef struct cohort_cors {
    const char *const *origins; /* "https://example.org" */
    const char *const *methods, *const *headers;
    bool allow_credentials;
} cohort_cors;

/* Adds what the browser of a page that asks has to be told.  True: this was its question
 * before the question, and was answered and released. */
bool cohort_exchange_answer_origin(cohort_exchange *exchange, const cohort_cors *cors);

/* Of what was answered; for logs and metrics, called on the HTTP thread. */
typedef struct cohort_http_record {
    const char *peer; /* "127.0.0.1:40000", or "unix" */
    const char *method, *path;
    int status; /* 499: the client left first */
    size_t request_bytes, response_bytes;
    int64_t duration_ns;
} cohort_http_record;

void cohort_http_set_observer(cohort_http *http,
                              void (*observe)(void *user_data,
                                              const cohort_http_record *record),
                              void *user_data);

#endif /* COHORT_HTTP_HTTP_H */
