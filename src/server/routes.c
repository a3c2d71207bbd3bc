/* SPDX-License-Identifier: Apache-2.0 */
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "chat/json_text.h"
#include "server/server_internal.h"
#include "server/status.h"

/* FastAPI's own answers have another shape. */
static void reply_detail(cohort_exchange *exchange, int status, const char *detail) {
    cohort_body body = {0};
    cohort_body_printf(&body, "{\"detail\":\"%s\"}", detail);
    cohort_reply_json(exchange, status, &body);
}

/* ---- small routes ------------------------------------------------------------------ */

/* Who restarts a server that is not healthy must let it heal; who sends requests where
 * they are answered soonest asks with ready=1. */
static void serve_health(cohort_server *server, cohort_exchange *exchange) {
    cohort_api_error error = {0};
    bool is_asked = cohort_query_has(cohort_exchange_query(exchange), "ready=1");
    if (!cohort_is_healthy(server, &error) ||
        (is_asked && !cohort_is_ready(server, &error))) {
        cohort_reply_error(exchange, &error);
        return;
    }
    cohort_exchange_reply(exchange, 200, NULL, NULL);
    cohort_exchange_release(exchange);
}

static void serve_version(cohort_server *server, cohort_exchange *exchange) {
    cohort_body body = {0};
    cohort_body_puts(&body, "{\"version\":");
    cohort_body_json_or_null(&body, server->options.version);
    cohort_body_puts(&body, "}");
    cohort_reply_json(exchange, 200, &body);
}

static void serve_load(cohort_server *server, cohort_exchange *exchange) {
    cohort_body body = {0};
    cohort_body_printf(&body, "{\"server_load\":%d}",
                       cohort_driver_n_jobs(server->driver));
    cohort_reply_json(exchange, 200, &body);
}

static void write_model(const cohort_server *server, const char *name, cohort_body *out) {
    char id[17];
    long long created = (long long)server->started_s;
    cohort_draw_id(id);
    cohort_body_puts(out, "{\"id\":");
    cohort_body_json_or_null(out, name);
    cohort_body_printf(
        out, ",\"object\":\"model\",\"created\":%lld,\"owned_by\":\"vllm\",\"root\":",
        created);
    cohort_body_json_or_null(out, server->options.model);
    cohort_body_printf(
        out,
        ",\"parent\":null,\"max_model_len\":%d,\"permission\":[{\"id\":"
        "\"modelperm-%s\",\"object\":\"model_permission\",\"created\":%lld,"
        "\"allow_create_engine\":false,\"allow_sampling\":true,"
        "\"allow_logprobs\":true,\"allow_search_indices\":false,"
        "\"allow_view\":true,\"allow_fine_tuning\":false,"
        "\"organization\":\"*\",\"group\":null,\"is_blocking\":false}]}",
        server->info.max_model_len, id, created);
}

static void serve_models(cohort_server *server, cohort_exchange *exchange) {
    cohort_api_error error = {0};
    cohort_body body = {0};
    if (!cohort_is_alive(server, &error)) {
        cohort_reply_error(exchange, &error);
        return;
    }
    cohort_body_puts(&body, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; server->options.served_names[i]; i++) {
        if (i) cohort_body_puts(&body, ",");
        write_model(server, server->options.served_names[i], &body);
    }
    cohort_body_puts(&body, "]}");
    cohort_reply_json(exchange, 200, &body);
}

static void serve_metrics(cohort_server *server, cohort_exchange *exchange) {
    cohort_body body = {0};
    cohort_note_recovery(server);
    cohort_metrics_write(server->metrics, &body);
    cohort_write_response_metrics(server, &body);
    cohort_exchange_reply(exchange, 200, "text/plain; version=0.0.4; charset=utf-8",
                          &body);
    cohort_exchange_release(exchange);
}

/* ---- the table --------------------------------------------------------------------- */

static void serve_description(cohort_server *server, cohort_exchange *exchange);

enum { GET = 1, POST = 2 };

static const struct route {
    const char *path, *summary;
    int methods;
    bool needs_key;  /* where there are keys: what costs or tells something */
    bool is_counted; /* in the metrics of HTTP */
    int schema;      /* of its body; -1: none */
    void (*serve)(cohort_server *server, cohort_exchange *exchange);
} routes[] = {
    {"/v1/completions", "Create Completion", POST, true, true, COHORT_SCHEMA_COMPLETION,
     cohort_serve_completion},
    {"/v1/chat/completions", "Create Chat Completion", POST, true, true,
     COHORT_SCHEMA_CHAT, cohort_serve_chat},
    {"/v1/responses", "Create Responses", POST, true, true, COHORT_SCHEMA_RESPONSES,
     cohort_serve_responses},
    {"/v1/responses/{response_id}", "Retrieve Responses", GET, true, true, -1,
     cohort_serve_response},
    {"/v1/responses/{response_id}/cancel", "Cancel Responses", POST, true, true, -1,
     cohort_serve_response_cancel},
    {"/v1/messages", "Create Messages", POST, true, true, COHORT_SCHEMA_MESSAGES,
     cohort_serve_messages},
    {"/v1/messages/count_tokens", "Count Tokens", POST, true, true,
     COHORT_SCHEMA_COUNT_TOKENS, cohort_serve_count_tokens},
    {"/v1/models", "Show Available Models", GET, true, true, -1, serve_models},
    {"/tokenize", "Tokenize", POST, true, true, COHORT_SCHEMA_TOKENIZE,
     cohort_serve_tokenize},
    {"/detokenize", "Detokenize", POST, true, true, COHORT_SCHEMA_DETOKENIZE,
     cohort_serve_detokenize},
    {"/health", "Health", GET, false, false, -1, serve_health},
    {"/ping", "Ping", GET | POST, false, false, -1, serve_health},
    {"/version", "Show Version", GET, false, false, -1, serve_version},
    {"/load", "Get Server Load Metrics", GET, false, false, -1, serve_load},
    {"/metrics", "Metrics", GET, false, false, -1, serve_metrics},
    /* Not described, as in vLLM 0.32; and who tries all that is would stop the server. */
    {"/v1/fault_tolerance/status", NULL, GET, true, false, -1,
     cohort_serve_fault_tolerance},
    {"/v1/fault_tolerance/apply", NULL, POST, true, false, COHORT_SCHEMA_INSTRUCTION,
     cohort_serve_instruction},
    {"/openapi.json", NULL, GET, false, false, -1, serve_description},
    {"/", NULL, GET, false, false, -1, cohort_serve_page},
    {"/cohort/status", NULL, GET, true, false, -1, cohort_serve_status},
};

static void describe_body(cohort_body *out, cohort_server_schema schema) {
    static const char refers[] = "{\"$ref\":\"#/components/schemas/%s\"}";
    bool is_either = schema == COHORT_SCHEMA_TOKENIZE;
    cohort_body_puts(out, is_either ? "{\"anyOf\":[" : "");
    cohort_body_printf(out, refers, cohort_server_schema_name(schema));
    if (!is_either) return;
    cohort_body_puts(out, ",");
    cohort_body_printf(out, refers,
                       cohort_server_schema_name(COHORT_SCHEMA_TOKENIZE_CHAT));
    cohort_body_puts(out, "]}");
}

static void describe_method(cohort_body *out, const struct route *route,
                            const char *method) {
    cohort_body_printf(out, "\"%s\":{\"summary\":\"%s\",", method, route->summary);
    if (route->schema >= 0) {
        cohort_body_puts(out, "\"requestBody\":{\"required\":true,\"content\":{"
                              "\"application/json\":{\"schema\":");
        describe_body(out, (cohort_server_schema)route->schema);
        cohort_body_puts(out, "}}},");
    }
    const char *variable = strchr(route->path, '{');
    if (variable)
        cohort_body_printf(out,
                           "\"parameters\":[{\"name\":\"%.*s\",\"in\":\"path\","
                           "\"required\":true,\"schema\":{\"type\":\"string\"}}],",
                           (int)strcspn(variable + 1, "}"), variable + 1);
    cohort_body_puts(out, "\"responses\":{\"200\":{\"description\":\"Successful "
                          "Response\"}");
    if (route->schema >= 0)
        cohort_body_puts(out,
                         ",\"400\":{\"description\":\"Bad Request\"},\"404\":{"
                         "\"description\":\"Not Found\"},\"413\":{\"description\":"
                         "\"Content Too Large\"},\"500\":{\"description\":\"Internal "
                         "Server Error\"}");
    if (variable)
        cohort_body_puts(out, ",\"400\":{\"description\":\"Bad Request\"},\"404\":{"
                              "\"description\":\"Not Found\"}");
    if (route->needs_key)
        cohort_body_puts(out, ",\"401\":{\"description\":\"Unauthorized\"}");
    cohort_body_puts(out, ",\"503\":{\"description\":\"Service Unavailable\"}}}");
}

static void serve_description(cohort_server *server, cohort_exchange *exchange) {
    cohort_body body = {0};
    cohort_body_puts(&body, "{\"openapi\":\"3.1.0\",\"info\":{\"title\":\"Cohort\","
                            "\"version\":");
    cohort_body_json_or_null(&body, server->options.version);
    cohort_body_puts(&body, "},");
    if (server->options.root_path) {
        cohort_body_puts(&body, "\"servers\":[{\"url\":");
        cohort_body_json_or_null(&body, server->options.root_path);
        cohort_body_puts(&body, "}],");
    }
    cohort_body_puts(&body, "\"paths\":{");
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        const struct route *route = &routes[i];
        if (!route->summary) continue;
        cohort_body_printf(&body, "%s\"%s\":{", i ? "," : "", route->path);
        if (route->methods & GET) describe_method(&body, route, "get");
        if (route->methods == (GET | POST)) cohort_body_puts(&body, ",");
        if (route->methods & POST) describe_method(&body, route, "post");
        cohort_body_puts(&body, "}");
    }
    cohort_body_puts(&body, "},\"components\":{\"schemas\":");
    cohort_server_schema_write(&body);
    cohort_body_puts(&body, "}}");
    cohort_reply_json(exchange, 200, &body);
}

/* The path behind the prefix that a proxy left before it, as Starlette has it. */
static const char *own_path(const cohort_server *server, const char *path) {
    const char *root = server->options.root_path;
    size_t size = root ? strlen(root) : 0;
    while (size && root[size - 1] == '/')
        size--;
    return size && !strncmp(path, root, size) && path[size] == '/' ? path + size : path;
}

/* {name} in a route's path is any text without a slash. */
static bool matches(const char *pattern, const char *path) {
    for (; *pattern; pattern++) {
        if (*pattern == '{') {
            size_t size = strcspn(path, "/");
            if (!size) return false;
            path += size;
            pattern = strchr(pattern, '}');
        } else if (*pattern != *path++) {
            return false;
        }
    }
    return !*path;
}

static const struct route *find_route(const char *path) {
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
        if (matches(routes[i].path, path)) return &routes[i];
    return NULL;
}

/* Is there to be no line of it? */
static bool is_quiet(const cohort_server *server, const char *path) {
    const char *at = server->options.quiet_paths;
    for (size_t size = strlen(path), length; at; at += length + 1) {
        at += strspn(at, " ");
        length = strcspn(at, ",");
        if (length == size && !strncmp(at, path, size)) return true;
        if (!at[length]) return false;
    }
    return false;
}

/* An open page and who collects metrics ask every second or so, for days: what they were
 * told is no news. */
static bool is_polled(const struct route *route, const cohort_http_record *record) {
    return route && record->status == 200 &&
           (route->serve == serve_metrics || route->serve == cohort_serve_status);
}

void cohort_count_answer(void *user_data, const cohort_http_record *record) {
    const cohort_server *server = user_data;
    const struct route *route = find_route(own_path(server, record->path));
    if (!route || route->is_counted)
        cohort_metrics_count_http(server->metrics, route ? route->path : NULL, record);
    if (!server->options.log_answers || is_quiet(server, record->path) ||
        is_polled(route, record))
        return;
    char path[200]; /* of a stranger: it may not end its quotes */
    snprintf(path, sizeof path, "%s", record->path);
    for (char *c = path; *c; c++)
        if (*c == '"') *c = '?';
    cohort_reporter_say(server->reporter, "%s - \"%.10s %s HTTP/1.1\" %d (%.1f ms)",
                        record->peer, record->method, path, record->status,
                        (double)record->duration_ns / 1e6);
}

/* ---- dispatch ---------------------------------------------------------------------- */

/* Takes as long for a wrong key of the right length as for the right one. */
static bool has_key(const cohort_server *server, const cohort_exchange *exchange) {
    const char *const *keys = server->options.api_keys;
    const char *given = cohort_exchange_header(exchange, "Authorization");
    if (!keys[0]) return true;
    if (given && !strncasecmp(given, "Bearer ", 7))
        given += 7;
    else /* as Anthropic's clients send theirs */
        given = cohort_exchange_header(exchange, "x-api-key");
    if (!given) return false;
    bool found = false;
    for (size_t i = 0; keys[i]; i++)
        found |= strlen(keys[i]) == strlen(given) &&
                 sodium_memcmp(keys[i], given, strlen(given)) == 0;
    return found;
}

static cohort_api_error_shape shape_of(const struct route *route) {
    bool is_anthropic = route->schema == COHORT_SCHEMA_MESSAGES ||
                        route->schema == COHORT_SCHEMA_COUNT_TOKENS;
    return is_anthropic ? COHORT_ERROR_ANTHROPIC : COHORT_ERROR_OPENAI;
}

void cohort_serve_late(void *user_data, cohort_exchange *exchange) {
    cohort_server *server = user_data;
    const struct route *route =
        find_route(own_path(server, cohort_exchange_path(exchange)));
    cohort_api_error error = {.shape = shape_of(route)};
    /* What nobody could answer need not be read. */
    bool generates = route->schema == COHORT_SCHEMA_COMPLETION ||
                     route->schema == COHORT_SCHEMA_CHAT ||
                     route->schema == COHORT_SCHEMA_RESPONSES ||
                     route->schema == COHORT_SCHEMA_MESSAGES;
    if (generates && !cohort_is_healthy(server, &error))
        cohort_reply_error(exchange, &error);
    else
        route->serve(server, exchange);
}

static void serve_route(cohort_server *server, cohort_exchange *exchange,
                        const struct route *route) {
    size_t size;
    cohort_exchange_body(exchange, &size);
    if (size > COHORT_QUICK_BYTES && cohort_hand_over(server, exchange, size)) return;
    route->serve(server, exchange);
}

/* That of the path without slashes at its end; NULL: there is none. */
static const struct route *find_unslashed(const char *path) {
    char shorter[400];
    size_t size = strlen(path);
    while (size && path[size - 1] == '/')
        size--;
    if (!size || !path[size] || size >= sizeof shorter) return NULL;
    memcpy(shorter, path, size);
    shorter[size] = '\0';
    return find_route(shorter);
}

/* As Starlette does; within the host, whatever its name is to who asks. */
static void redirect(cohort_exchange *exchange) {
    const char *path = cohort_exchange_path(exchange);
    size_t size = strlen(path);
    cohort_body location = {0};
    while (size && path[size - 1] == '/')
        size--;
    cohort_body_add(&location, path, size);
    cohort_body_puts(&location, cohort_exchange_query(exchange));
    if (location.bytes && !location.is_short)
        cohort_exchange_add_header(exchange, "Location", location.bytes);
    cohort_body_deinit(&location);
    cohort_exchange_reply(exchange, 307, NULL, NULL);
    cohort_exchange_release(exchange);
}

/* What the head alone decides: 0, or the status of a refusal.  out_route: NULL where
 * there is none. */
static int judge_head(const cohort_server *server, const cohort_exchange *exchange,
                      const struct route **out_route) {
    const char *method = cohort_exchange_method(exchange);
    const char *path = own_path(server, cohort_exchange_path(exchange));
    const struct route *route = *out_route = find_route(path);
    int wanted = !strcmp(method, "GET") ? GET : !strcmp(method, "POST") ? POST : 0;
    bool is_api = !strncmp(path, "/v1", 3);
    if (route && route->serve == serve_metrics && !strcmp(method, "HEAD"))
        wanted = GET; /* alone, as in vLLM */
    if ((route ? route->needs_key : is_api) && !has_key(server, exchange)) return 401;
    if (!route) return (*out_route = find_unslashed(path)) ? 307 : 404;
    return route->methods & wanted ? 0 : 405;
}

bool cohort_route_reads_body(const cohort_server *server,
                             const cohort_exchange *exchange) {
    const struct route *route;
    return judge_head(server, exchange, &route) == 0 && route->schema >= 0;
}

/* Every answer has the id that its request brought, or one that is drawn, as vLLM's
 * serve/middleware/x_request_id.py has it.  One that is too long is not repeated. */
static void add_request_id(const cohort_server *server, cohort_exchange *exchange) {
    const char *given = cohort_exchange_header(exchange, COHORT_REQUEST_ID);
    char drawn[17];
    if (!server->options.enable_request_id_headers) return;
    bool is_given = given && strlen(given) <= COHORT_MAX_REQUEST_ID_BYTES;
    if (!is_given) cohort_draw_id(drawn);
    cohort_exchange_add_header(exchange, COHORT_REQUEST_ID, is_given ? given : drawn);
}

void cohort_route(cohort_server *server, cohort_exchange *exchange) {
    const struct route *route;
    const cohort_cors cors = {
        server->options.allowed_origins, server->options.allowed_methods,
        server->options.allowed_headers, server->options.allow_credentials};
    add_request_id(server, exchange);
    if (cohort_exchange_answer_origin(exchange, &cors)) return;
    int refusal = judge_head(server, exchange, &route);
    if (refusal == 401) {
        cohort_reply_text(exchange, 401, "application/json",
                          "{\"error\":\"Unauthorized\"}");
    } else if (refusal == 307) {
        redirect(exchange);
    } else if (refusal == 404) {
        reply_detail(exchange, 404, "Not Found");
    } else if (refusal == 405) {
        cohort_exchange_add_header(exchange, "Allow",
                                   route->methods & POST ? "POST" : "GET");
        reply_detail(exchange, 405, "Method Not Allowed");
    } else if (cohort_exchange_is_too_large(exchange)) {
        cohort_api_error error = {.shape = shape_of(route)};
        cohort_api_refuse(&error, 413, NULL,
                          "the request's body has more than %lld bytes",
                          (long long)server->options.max_body_bytes);
        cohort_reply_error(exchange, &error);
    } else if (cohort_exchange_is_refused(exchange)) {
        cohort_api_error error = {.shape = shape_of(route)};
        cohort_refuse_crowd(server, &error);
        cohort_reply_error(exchange, &error);
    } else {
        serve_route(server, exchange, route);
    }
}
