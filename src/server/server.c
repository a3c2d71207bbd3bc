/* SPDX-License-Identifier: Apache-2.0 */
#include "server/server.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/build_id.h"
#include "base/log.h"
#include "chat/json_text.h"
#include "cohort/clock.h"
#include "server/server_internal.h"
#include "server/server_options.h"

/* Design notes.
 *
 * Two threads matter: that of HTTP, which reads requests and tokenizes, and the driver's,
 * which steps the engine and writes answers.  What passes between them are jobs one way
 * and bytes of an exchange the other.  Long bodies and grammars have a queue and a
 * thread each, printing is the reporter's: they may take their time. */

enum { FLUSH_MS = 2000 /* for last answers, at the end */ };

cohort_server_options cohort_server_defaults(void) {
    cohort_server_options options = {.log_answers = true, .version = "0"};
    cohort_options_set_defaults(&cohort_api_option_table, &options);
    cohort_options_set_defaults(&cohort_server_option_table, &options);
    return options;
}

static void on_request(void *user_data, cohort_exchange *exchange) {
    cohort_route(user_data, exchange);
}

static bool wants_body(void *user_data, const cohort_exchange *exchange) {
    return cohort_route_reads_body(user_data, exchange);
}

static cohort_status check_tools(const cohort_server_options *options) {
    const char *parser = options->tool_call_parser;
    const cohort_output_format *format;
    if (parser && strcmp(parser, "auto") != 0)
        COHORT_TRY(cohort_output_format_find(parser, &format));
    if (options->enable_auto_tool_choice && !parser)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "--enable-auto-tool-choice requires --tool-call-parser");
    return COHORT_OK;
}

static cohort_status read_defaults(const char *text, cJSON **out_json) {
    *out_json = NULL;
    if (!text) return COHORT_OK;
    cJSON *json;
    cohort_chat_json_fault broken;
    if (!cohort_chat_json_load(text, strlen(text), &json, &broken) ||
        !cJSON_IsObject(json)) {
        cJSON_Delete(json);
        return COHORT_FAIL(COHORT_E_INVALID,
                           "--default-chat-template-kwargs '%.80s' is no JSON object",
                           text);
    }
    *out_json = json;
    return COHORT_OK;
}

cohort_status cohort_server_bind(const cohort_server_options *options,
                                 cohort_server **out_server) {
    *out_server = NULL;
    if (options->max_logprobs < 0 || options->max_logprobs > COHORT_MAX_LOGPROBS)
        return COHORT_FAIL(COHORT_E_INVALID, "max_logprobs is %d, may be 0 to %d",
                           options->max_logprobs, COHORT_MAX_LOGPROBS);
    cohort_reasoning reasoning;
    COHORT_TRY(cohort_reasoning_parse(options->reasoning_parser, &reasoning));
    COHORT_TRY(check_tools(options));
    cohort_server *server = calloc(1, sizeof *server);
    if (!server) return COHORT_FAIL(COHORT_E_NOMEM, "a server");
    server->options = *options;
    server->reasoning = reasoning;
    if (!server->options.served_names[0])
        server->options.served_names[0] = options->model;
    snprintf(server->fingerprint, sizeof server->fingerprint, "cohort-%s-%.8s",
             options->version, cohort_build_id());
    const cohort_http_options http = {
        .host = options->host,
        .port = (uint16_t)options->port,
        .uds = options->uds,
        .ssl_certfile = options->ssl_certfile,
        .ssl_keyfile = options->ssl_keyfile,
        .max_body_bytes = (size_t)options->max_body_bytes,
        .max_held_bytes = (size_t)options->max_held_bytes,
        .max_connections = (uint32_t)options->max_connections,
        .idle_timeout_ns = (int64_t)(options->idle_timeout_s * 1e9),
        .request_timeout_ns = (int64_t)(options->request_timeout_s * 1e9),
        .on_request = on_request,
        .wants_body = wants_body,
        .user_data = server,
    };
    cohort_status status =
        read_defaults(options->default_template_kwargs, &server->template_defaults);
    if (status >= 0) status = cohort_http_bind(&http, &server->http);
    if (status < 0) {
        cJSON_Delete(server->template_defaults);
        free(server);
        return status;
    }
    *out_server = server;
    return COHORT_OK;
}

cohort_status cohort_server_use_model(cohort_server *server, const char *tokenizer_dir) {
    const cohort_server_options *options = &server->options;
    const char *parser = options->tool_call_parser;
    COHORT_TRY(cohort_chat_open(tokenizer_dir, options->chat_template,
                                options->content_format, &server->chat));
    if (!parser || strcmp(parser, "auto") != 0)
        return cohort_output_format_find(parser, &server->tool_format);
    server->tool_format = cohort_chat_tool_format(server->chat);
    if (!server->tool_format)
        return COHORT_FAIL(
            COHORT_E_INVALID,
            "--tool-call-parser auto: the chat template speaks of no known "
            "form of calls; name one");
    cohort_server_print(server, "--tool-call-parser auto is %s, by the chat template",
                        cohort_output_format_name(server->tool_format));
    return COHORT_OK;
}

/* 93,184: as vLLM's users grep for it. */
static const char *with_commas(int64_t value, char out[32]) {
    char digits[24];
    int n = snprintf(digits, sizeof digits, "%lld", (long long)value), to = 0;
    for (int i = 0; i < n; i++) {
        if (i && (n - i) % 3 == 0) out[to++] = ',';
        out[to++] = digits[i];
    }
    out[to] = '\0';
    return out;
}

/* What somebody who has just started it does next: as a line for a shell. */
static void print_what_to_try(const cohort_server *server) {
    const cohort_server_options *options = &server->options;
    const char *root = options->root_path ? options->root_path : "";
    const char *url = cohort_http_url(server->http);
    bool is_chat = server->chat && cohort_chat_has_template(server->chat);
    cohort_body model = {0};
    char socket[200] = "";
    if (options->uds) {
        snprintf(socket, sizeof socket, "--unix-socket '%.150s' ", options->uds);
        url = "http://localhost";
    }
    cohort_body_json(&model, options->served_names[0], strlen(options->served_names[0]));
    if (!model.is_short && !strchr(model.bytes, '\'')) {
        if (!options->uds)
            cohort_server_print(server, "Serving %s at %s%s/v1, and a page at %s%s/",
                                model.bytes, url, root, url, root);
        cohort_server_print(
            server,
            "Try: curl %s%s%s/v1/%s -H 'Content-Type: application/json' %s-d "
            "'{\"model\": "
            "%s, %s, \"max_tokens\": 50}'",
            socket, url, root, is_chat ? "chat/completions" : "completions",
            options->api_keys[0] ? "-H \"Authorization: Bearer $KEY\" " : "", model.bytes,
            is_chat ? "\"messages\": [{\"role\": \"user\", \"content\": \"Hello!\"}]"
                    : "\"prompt\": \"Hello\"");
    }
    cohort_body_deinit(&model);
}

static void print_start(const cohort_server *server) {
    uint32_t n_connections = cohort_http_max_connections(server->http);
    if (n_connections < (uint32_t)server->options.max_connections)
        cohort_server_print(
            server,
            "WARNING: --max-connections %d needs more open files than the "
            "system allows (ulimit -Hn): at most %u connections",
            server->options.max_connections, n_connections);
    const cohort_engine_info *info = &server->info;
    int64_t tokens = info->num_blocks * info->block_size;
    char size[32], length[32];
    cohort_server_print(server,
                        "%s KV cache size: %s tokens, Maximum concurrency for %s tokens "
                        "per request: %.2fx",
                        cohort_server_cache_word(server), with_commas(tokens, size),
                        with_commas(info->max_model_len, length),
                        (double)tokens / info->max_model_len);
    cohort_server_print(server, "Starting Cohort server on %s",
                        cohort_http_url(server->http));
    print_what_to_try(server);
}

void cohort_note_recovery(const cohort_server *server) {
    cohort_executor_recovery recovery;
    cohort_executor_get_recovery(cohort_engine_executor(server->engine), &recovery);
    cohort_metrics_set_recovery(server->metrics, &recovery);
}

static void on_step(void *user_data, const cohort_engine_stats *stats,
                    const cohort_engine_outputs *outputs) {
    cohort_server *server = user_data;
    /* Before the next death hides this one. */
    if (stats->n_recoveries != server->n_recoveries || stats->is_recovering)
        cohort_note_recovery(server);
    server->n_recoveries = stats->n_recoveries;
    cohort_metrics_set_stats(server->metrics, stats);
    if (outputs && outputs->n_tokens)
        cohort_metrics_observe(server->metrics, COHORT_ITERATION_TOKENS,
                               outputs->n_tokens);
}

static void on_flush(void *user_data) {
    const cohort_server *server = user_data;
    cohort_http_flush(server->http);
}

static void on_failure(void *user_data) {
    const cohort_server *server = user_data;
    if (server->options.on_failure) server->options.on_failure(server->options.user_data);
}

cohort_status cohort_server_open(cohort_server *server, cohort_engine *engine) {
    server->engine = engine;
    cohort_engine_describe(engine, &server->info);
    server->defaults = cohort_engine_request_defaults(engine);
    server->started_s = time(NULL);
    const int32_t waiting = server->options.max_waiting;
    const cohort_driver_options driver = {
        .engine = engine,
        .max_jobs = waiting ? server->info.max_num_seqs + waiting : 0,
        .observer = on_step,
        .flush = on_flush,
        .failed = on_failure,
        .user_data = server};
    char title[88]; /* of cohort_counters_header */
    snprintf(title, sizeof title, "%.48s at %.35s", server->options.served_names[0],
             cohort_http_url(server->http));
    cohort_executor_set_title(cohort_engine_executor(engine), title);
    COHORT_TRY(cohort_metrics_create(
        server->options.served_names[0], &server->info,
        cohort_executor_world_size(cohort_engine_executor(engine)), &server->metrics));
    COHORT_TRY(cohort_response_store_create((size_t)server->options.max_responses,
                                            (size_t)server->options.stored_response_bytes,
                                            &server->responses));
    COHORT_TRY(cohort_driver_create(&driver, &server->driver));
    const size_t most = cohort_http_max_connections(server->http);
    COHORT_TRY(cohort_request_queue_start(most, cohort_serve_late, cohort_refuse_late,
                                          server, &server->long_bodies));
    COHORT_TRY(cohort_request_queue_start(most, cohort_serve_late, cohort_refuse_late,
                                          server, &server->compilations));
    cohort_http_set_observer(server->http, cohort_count_answer, server);
    COHORT_TRY(cohort_reporter_start(server, server->options.stats_interval_s,
                                     &server->reporter));
    COHORT_TRY(cohort_http_open(server->http));
    cohort_log(COHORT_LOG_INFO, "server", COHORT_RANK_LOCAL, "event=open url=%s",
               cohort_http_url(server->http));
    print_start(server);
    return COHORT_OK;
}

const char *cohort_server_url(const cohort_server *server) {
    return cohort_http_url(server->http);
}

void cohort_server_drain(cohort_server *server) {
    cohort_driver_drain(server->driver);
    cohort_request_queue_close(server->long_bodies);
    cohort_request_queue_close(server->compilations);
}

cohort_status cohort_server_wait_idle(cohort_server *server, int64_t deadline_ns) {
    cohort_request_queue *const queues[] = {server->long_bodies, server->compilations};
    for (size_t i = 0; i < 2; i++)
        if (!cohort_request_queue_wait_idle(queues[i], deadline_ns))
            return COHORT_FAIL(COHORT_E_TIMEOUT, "requests are still being read");
    return cohort_driver_wait_idle(server->driver, deadline_ns);
}

cohort_status cohort_server_failure(cohort_server *server, cohort_error *out_error) {
    return cohort_driver_failure(server->driver, out_error);
}

void cohort_server_destroy(cohort_server *server) {
    if (!server) return;
    if (server->driver) cohort_driver_stop(server->driver);
    cohort_request_queue_close(server->long_bodies);
    cohort_request_queue_close(server->compilations);
    /* Before HTTP: what they are at is cancelled and answered, and no connection may be
     * resumed once the library is being stopped. */
    cohort_request_queue_stop(server->long_bodies);
    cohort_request_queue_stop(server->compilations);
    /* A client that does not read its last answer is not waited for any longer. */
    cohort_http_finish(server->http, cohort_deadline_ms(FLUSH_MS));
    cohort_http_stop(server->http);
    cohort_request_queue_destroy(server->long_bodies);
    cohort_request_queue_destroy(server->compilations);
    cohort_http_close(server->http);
    cohort_reporter_stop(server->reporter); /* it reads the engine's own words */
    cohort_engine_destroy(server->engine);
    cohort_driver_destroy(server->driver);
    cohort_metrics_destroy(server->metrics);
    cohort_response_store_destroy(server->responses);
    cohort_chat_close(server->chat);
    cJSON_Delete(server->template_defaults);
    cohort_body_deinit(&server->chunk);
    free(server);
}
