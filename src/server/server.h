/* SPDX-License-Identifier: Apache-2.0 */
/* server/server.h - the OpenAI API, as vLLM serves it, over an engine.
 *
 *   bind -> use_model -> (the engine starts) -> open -> ... -> drain -> destroy
 *
 * bind takes the address at once, so that a port in use is known before a model is
 * fetched and loaded; clients are let in by open, when there is something to answer them.
 *
 * Ownership: open takes the engine.  Strings of the options live as long as the server.
 * Threads:   bind, open and destroy from one; drain and the questions from any.
 * Errors:    a failed rank answers every open request with its error, turns /health
 *            and /v1/models to 503, and is told by on_failure; the server goes on to say
 *            so until it is destroyed.
 */
#ifndef COHORT_SERVER_SERVER_H
#define COHORT_SERVER_SERVER_H

#include "chat/chat.h"
#include "cohort/engine.h"

typedef struct cohort_server cohort_server;

enum { COHORT_MAX_SERVED_NAMES = 16, COHORT_MAX_API_KEYS = 16, COHORT_MAX_ORIGINS = 16 };

typedef struct cohort_server_options {
    const char *host;
    int32_t port;
    const char *uds;
    const char *ssl_certfile, *ssl_keyfile;
    int64_t max_body_bytes;
    int64_t max_held_bytes; /* of requests and unsent answers; 0: of 64 bodies */
    int32_t max_connections;
    int32_t max_responses;         /* that are kept to be asked for; 0: none */
    int64_t stored_response_bytes; /* that they may take together */
    int32_t max_waiting;           /* requests beyond max_num_seqs; 0: any number */
    double idle_timeout_s, request_timeout_s;
    const char *model;                                     /* as its user named it */
    const char *served_names[COHORT_MAX_SERVED_NAMES + 1]; /* NULL-terminated */
    const char *api_keys[COHORT_MAX_API_KEYS + 1];         /* none: open to all */
    const char *chat_template; /* a file, or the template itself; NULL: the model's */
    cohort_content_format content_format; /* of messages, as the template sees them */
    const char *default_template_kwargs;  /* JSON object; NULL: none */
    bool trust_request_chat_template;     /* a request may bring its own */
    const char *reasoning_parser;         /* "qwen3", "deepseek_r1"; NULL: none */
    const char *tool_call_parser;         /* "hermes" and others, "auto"; NULL: none */
    bool enable_auto_tool_choice;         /* needs one */
    const char *response_role;            /* of chats' answers; "assistant" */
    bool force_include_usage;             /* in every stream */
    bool enable_prompt_tokens_details;    /* cached tokens in the usage */
    bool log_requests;                    /* a line for each, with its parameters */
    const char *root_path; /* that a proxy puts before every path; NULL: none */
    int32_t max_logprobs;
    int32_t stream_interval; /* of requests that do not say theirs */
    const char *version;
    bool enable_request_id_headers;
    bool return_tokens_as_token_ids;
    double stats_interval_s; /* between throughput lines; 0: none */
    bool log_answers;        /* a line for each, */
    const char *quiet_paths; /* but of these: "/health,/metrics"; NULL: of all */
    /* Pages that browsers may let ask: origins as "https://example.org", methods and
     * headers; "*" in a list: all. */
    const char *allowed_origins[COHORT_MAX_ORIGINS + 1];
    const char *allowed_methods[COHORT_MAX_ORIGINS + 1];
    const char *allowed_headers[COHORT_MAX_ORIGINS + 1];
    bool allow_credentials;
    /* A line for people: start-up, throughput.  NULL: none. */
    void (*print)(void *user_data, const char *line);
    /* The engine has failed, and every open request was told: on a thread of the
     * server's, which must not wait for it.  NULL: nobody is told. */
    void (*on_failure)(void *user_data);
    void *user_data;
} cohort_server_options;

cohort_server_options cohort_server_defaults(void);

cohort_status cohort_server_bind(const cohort_server_options *options,
                                 cohort_server **out_server);
/* Where the tokenizer lies: reads its chat template, or the one of the options. */
cohort_status cohort_server_use_model(cohort_server *server, const char *tokenizer_dir);
/* Takes the engine, also where it fails. */
cohort_status cohort_server_open(cohort_server *server, cohort_engine *engine);
const char *cohort_server_url(const cohort_server *server);

/* New requests get 503 from here on. */
void cohort_server_drain(cohort_server *server);
/* COHORT_OK: nothing is running any more; COHORT_E_TIMEOUT. */
cohort_status cohort_server_wait_idle(cohort_server *server, int64_t deadline_ns);
/* COHORT_OK, or what the engine failed with. */
cohort_status cohort_server_failure(cohort_server *server, cohort_error *out_error);
/* What is still running ends with an error, which clients are told.  Ends the engine.
 * Accepts NULL. */
void cohort_server_destroy(cohort_server *server);

#endif /* COHORT_SERVER_SERVER_H */
