/* SPDX-License-Identifier: Apache-2.0 */
/* server/server_internal.h - what the routes share; private to the folder. */
#ifndef COHORT_SERVER_SERVER_INTERNAL_H
#define COHORT_SERVER_SERVER_INTERNAL_H

#include <stdatomic.h>
#include <string.h>

#include "chat/chat.h"
#include "chat/output.h"
#include "http/http.h"
#include "server/api_error.h"
#include "server/driver.h"
#include "server/metrics.h"
#include "server/request_queue.h"
#include "server/response_store.h"
#include "server/schema.h"
#include "server/server.h"

typedef struct cohort_reporter cohort_reporter;

#define COHORT_REQUEST_ID "X-Request-Id"
enum { COHORT_MAX_REQUEST_ID_BYTES = 4096 };

struct cohort_server {
    cohort_server_options options;
    cohort_http *http;
    atomic_size_t parsed_bytes; /* of bodies being read now; among the held bytes */
    cohort_engine *engine;
    cohort_chat *chat;
    cJSON *template_defaults;   /* of options.default_template_kwargs; NULL: none */
    cohort_reasoning reasoning; /* of options.reasoning_parser */
    const cohort_output_format
        *tool_format; /* of options.tool_call_parser; NULL: Hermes' */
    cohort_driver *driver;
    cohort_metrics *metrics;
    cohort_reporter *reporter;
    cohort_request_queue *long_bodies, *compilations;
    cohort_response_store *responses;
    cohort_engine_info info;
    cohort_request defaults; /* of a request, from the model */
    cohort_body chunk;       /* of a stream, while the engine's thread writes it */
    char fingerprint[48];
    int64_t started_s;
    uint64_t n_recoveries; /* that the metrics know; the engine's thread's */
};

/* server.c: tells the metrics of ranks that died. */
void cohort_note_recovery(const cohort_server *server);

/* report.c: a line for people. */
void cohort_server_print(const cohort_server *server, const char *format, ...)
    COHORT_PRINTF(2, 3);

/* A line of throughput every interval in which something happened; 0: none. */
cohort_status cohort_reporter_start(const cohort_server *server, double interval_s,
                                    cohort_reporter **out_reporter);
/* A line, printed soon by the reporter's thread; never waits for it. */
void cohort_reporter_say(cohort_reporter *reporter, const char *format, ...)
    COHORT_PRINTF(2, 3);
void cohort_reporter_stop(cohort_reporter *reporter); /* accepts NULL */

/* ---- reply.c ----------------------------------------------------------------------- */

/* Replies and releases. */
void cohort_reply_json(cohort_exchange *exchange, int status, cohort_body *body);
void cohort_reply_text(cohort_exchange *exchange, int status, const char *content_type,
                       const char *text);
void cohort_reply_error(cohort_exchange *exchange, cohort_api_error *error);
/* 16 random hexadecimal digits. */
void cohort_draw_id(char out[17]);
/* False: it never will answer anything again, error says why. */
bool cohort_is_alive(const cohort_server *server, cohort_api_error *error);
/* False: it can answer nothing, error says why. */
bool cohort_is_healthy(const cohort_server *server, cohort_api_error *error);
/* False: no rank computes just now, and error is the refusal. */
bool cohort_is_ready(const cohort_server *server, cohort_api_error *error);

/* "name=value" is one of the arguments of a query. */
bool cohort_query_has(const char *query, const char *argument);

/* ---- what routes do, each in its own file ------------------------------------------ */

/* routes.c: finds and runs the route; answers or keeps the exchange. */
void cohort_route(cohort_server *server, cohort_exchange *exchange);
/* Whoever asks has the key, where one is needed, for a route that has a body. */
bool cohort_route_reads_body(const cohort_server *server,
                             const cohort_exchange *exchange);
/* For the queues: serves what was handed over, or refuses it as the server is shut down.
 */
void cohort_serve_late(void *server, cohort_exchange *exchange);
void cohort_refuse_late(void *server, cohort_exchange *exchange);
/* An answer was sent. */
void cohort_count_answer(void *server, const cohort_http_record *record);

void cohort_serve_chat(cohort_server *server, cohort_exchange *exchange);
void cohort_serve_responses(cohort_server *server, cohort_exchange *exchange);
void cohort_serve_response(cohort_server *server, cohort_exchange *exchange);
void cohort_serve_response_cancel(cohort_server *server, cohort_exchange *exchange);
void cohort_write_response_metrics(const cohort_server *server, cohort_body *out);
void cohort_serve_messages(cohort_server *server, cohort_exchange *exchange);
void cohort_serve_count_tokens(cohort_server *server, cohort_exchange *exchange);
void cohort_serve_completion(cohort_server *server, cohort_exchange *exchange);
void cohort_serve_tokenize(cohort_server *server, cohort_exchange *exchange);
void cohort_serve_detokenize(cohort_server *server, cohort_exchange *exchange);

/* ---- request_body.c ---------------------------------------------------------------- */

/* As vLLM says where the KV cache lies. */
static inline const char *cohort_server_cache_word(const cohort_server *server) {
    return strcmp(server->info.device, "cpu") ? "GPU" : "CPU";
}

enum { COHORT_QUICK_BYTES = 32768 }; /* some milliseconds to tokenize */
/* The request takes longer than the HTTP thread has, for so many bytes to read, or, where
 * they are quick, for what it compiles: true where somebody else serves it, or it is
 * refused; false where the caller may take its time. */
bool cohort_hand_over(cohort_server *server, cohort_exchange *exchange, size_t bytes);
/* One more request than max_held_bytes allows: false, and error. */
/* A text could not be tokenized: the last error says why. */
bool cohort_refuse_text(cohort_api_error *error);
bool cohort_refuse_crowd(const cohort_server *server, cohort_api_error *error);
/* Reads the body of an exchange; false: error.  What it parses into counts among the held
 * bytes, where one body at a time may always be read, until it is released, which is due
 * in either case, before the request is freed.
 */
bool cohort_read_body(cohort_server *server, cohort_exchange *exchange,
                      cohort_server_schema schema, cohort_api_request *out,
                      cohort_api_error *error);
void cohort_release_body(cohort_server *server, cohort_api_request *request);
/* Before another JSON text is read for a request: adds what it becomes to the request's
 * parsed_bytes.  False: error. */
bool cohort_hold_values(cohort_server *server, const char *text, size_t size,
                        size_t *in_out_bytes, cohort_api_error *error);
/* conversation.c: the text that messages become; the caller frees. */
bool cohort_render_messages(const cohort_server *server, const cohort_api_request *api,
                            char **out_text, size_t *out_size, cohort_api_error *error);
/* 404 where the model is named and is not served. */
bool cohort_check_model(const cohort_server *server, const cohort_api_request *api,
                        cohort_api_error *error);

#endif /* COHORT_SERVER_SERVER_INTERNAL_H */
