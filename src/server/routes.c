/* SPDX-License-Identifier: Apache-2.0 */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chat/json_text.h"
#include "server/server_internal.h"
#include "server/status.h"

/* ---- answering --------------------------------------------------------------------- */

void cohort_reply_json(cohort_exchange *exchange, int status, cohort_body *body) {
    cohort_exchange_reply(exchange, status, "application/json", body);
    cohort_exchange_release(exchange);
}

void cohort_reply_text(cohort_exchange *exchange, int status, const char *content_type,
                       const char *text) {
    cohort_body body = {0};
    cohort_body_puts(&body, text);
    cohort_exchange_reply(exchange, status, content_type, &body);
    cohort_exchange_release(exchange);
}

void cohort_reply_error(cohort_exchange *exchange, cohort_api_error *error) {
    cohort_body body = {0};
    int status = error->status ? error->status : 500;
    cohort_api_error_write(error, &body);
    cohort_api_error_deinit(error);
    cohort_reply_json(exchange, status, &body);
}

/* FastAPI's own answers have another shape. */
static void reply_detail(cohort_exchange *exchange, int status, const char *detail) {
    cohort_body body = {0};
    cohort_body_printf(&body, "{\"detail\":\"%s\"}", detail);
    cohort_reply_json(exchange, status, &body);
}

void cohort_draw_id(char out[17]) {
    unsigned char bytes[8];
    randombytes_buf(bytes, sizeof bytes);
    sodium_bin2hex(out, 17, bytes, sizeof bytes);
}

/* ---- bodies ------------------------------------------------------------------------ */

static bool is_json(const char *content_type) {
    static const char json[] = "application/json";
    if (!content_type || strncasecmp(content_type, json, sizeof json - 1)) return false;
    const char *rest = content_type + sizeof json - 1;
    rest += strspn(rest, " \t");
    return *rest == '\0' || *rest == ';';
}

bool cohort_refuse_crowd(const cohort_server *server, cohort_api_error *error) {
    cohort_metrics_count_rejection(server->metrics);
    return cohort_api_refuse(error, 503, NULL,
                             "the server holds as many bytes of requests and answers as "
                             "--max-held-bytes allows; try again later");
}

bool cohort_refuse_text(cohort_api_error *error) {
    const cohort_error *failure = cohort_last_error();
    if (failure->code == COHORT_E_CLOSED)
        return cohort_api_refuse(error, 503, NULL, "the server is shutting down");
    return cohort_api_refuse(error, 400, NULL, "%s", failure->message);
}

/* A number takes two bytes of a body, a node of the tree, and in many a field another one
 * in a copy.  Bytes of strings are not counted: they are as many as in the body. */
enum { BYTES_PER_VALUE = 160, MAX_VALUES = 4 << 20 /* of one body, with 640 MiB then */ };

void cohort_release_body(cohort_server *server, cohort_api_request *request) {
    if (!request->parsed_bytes) return;
    cohort_http_hold(server->http, -(int64_t)request->parsed_bytes);
    atomic_fetch_sub(&server->parsed_bytes, request->parsed_bytes);
    request->parsed_bytes = 0;
}

static bool read_text(cohort_server *server, cohort_schema schema, const char *text,
                      size_t size, cohort_api_request *out, cohort_api_error *error) {
    size_t n_values = cohort_chat_json_most_values(text, size);
    size_t bytes = n_values * BYTES_PER_VALUE;
    if (n_values > MAX_VALUES)
        return cohort_api_refuse(error, 413, NULL,
                                 "the request's body has more than %d numbers, texts and "
                                 "other values",
                                 MAX_VALUES);
    if (bytes <= COHORT_FAIR_BYTES)
        return cohort_api_request_read(out, schema, text, size, error);
    /* One at a time may always come: no less would do for the longest body. */
    bool is_alone = atomic_fetch_add(&server->parsed_bytes, bytes) == 0;
    bool has_room = cohort_http_hold(server->http, (int64_t)bytes) || is_alone;
    bool fine = has_room ? cohort_api_request_read(out, schema, text, size, error)
                         : cohort_refuse_crowd(server, error);
    out->parsed_bytes = bytes;
    return fine;
}

bool cohort_read_body(cohort_server *server, cohort_exchange *exchange,
                      cohort_schema schema, cohort_api_request *out,
                      cohort_api_error *error) {
    size_t size;
    const char *text = cohort_exchange_body(exchange, &size);
    char *copy;
    if (!is_json(cohort_exchange_header(exchange, "Content-Type"))) {
        cohort_api_refuse(error, 400, NULL,
                          "1 validation error:\n  Unsupported Media Type: Only "
                          "'application/json' is allowed");
        error->type = "Bad Request";
        return false;
    }
    bool fine = cohort_api_text(text, size, &copy, &text, &size, error) &&
                read_text(server, schema, text, size, out, error);
    free(copy);
    return fine;
}

bool cohort_check_model(const cohort_server *server, const cohort_api_request *api,
                        cohort_api_error *error) {
    const char *const *names = server->options.served_names;
    const char *asked = api->model.text;
    if (!api->model.is_set || !*asked) return true;
    for (size_t i = 0; names[i]; i++)
        if (!strcmp(names[i], asked)) return true;
    cohort_body valid = {0};
    for (size_t i = 0; names[i]; i++)
        cohort_body_printf(&valid, "%s%s", i ? ", " : "", names[i]);
    cohort_api_refuse(error, 404, "model",
                      "The model `%.400s` does not exist. Valid aliases: %.400s.", asked,
                      valid.bytes ? valid.bytes : "");
    cohort_body_deinit(&valid);
    return false;
}

/* ---- small routes ------------------------------------------------------------------ */

/* False: it never will answer anything again, error says why. */
static bool is_alive(const cohort_server *server, cohort_api_error *error) {
    cohort_error failure;
    if (cohort_driver_failure(server->driver, &failure) < 0)
        return cohort_api_refuse(error, 503, NULL, "%s", failure.message);
    return true;
}

/* False: it can answer nothing, error says why. */
static bool is_healthy(const cohort_server *server, cohort_api_error *error) {
    if (!is_alive(server, error)) return false;
    if (cohort_driver_is_draining(server->driver))
        return cohort_api_refuse(error, 503, NULL, "the server is shutting down");
    return true;
}

static void serve_health(cohort_server *server, cohort_exchange *exchange) {
    cohort_api_error error = {0};
    if (!is_healthy(server, &error)) {
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
    if (!is_alive(server, &error)) {
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
    cohort_metrics_write(server->metrics, &body);
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
    {"/openapi.json", NULL, GET, false, false, -1, serve_description},
    {"/", NULL, GET, false, false, -1, cohort_serve_page},
    {"/cohort/status", NULL, GET, true, false, -1, cohort_serve_status},
};

static void describe_body(cohort_body *out, cohort_schema schema) {
    static const char refers[] = "{\"$ref\":\"#/components/schemas/%s\"}";
    bool is_either = schema == COHORT_SCHEMA_TOKENIZE;
    cohort_body_puts(out, is_either ? "{\"anyOf\":[" : "");
    cohort_body_printf(out, refers, cohort_schema_name(schema));
    if (!is_either) return;
    cohort_body_puts(out, ",");
    cohort_body_printf(out, refers, cohort_schema_name(COHORT_SCHEMA_TOKENIZE_CHAT));
    cohort_body_puts(out, "]}");
}

static void describe_method(cohort_body *out, const struct route *route,
                            const char *method) {
    cohort_body_printf(out, "\"%s\":{\"summary\":\"%s\",", method, route->summary);
    if (route->schema >= 0) {
        cohort_body_puts(out, "\"requestBody\":{\"required\":true,\"content\":{"
                              "\"application/json\":{\"schema\":");
        describe_body(out, (cohort_schema)route->schema);
        cohort_body_puts(out, "}}},");
    }
    cohort_body_puts(out, "\"responses\":{\"200\":{\"description\":\"Successful "
                          "Response\"}");
    if (route->schema >= 0)
        cohort_body_puts(out,
                         ",\"400\":{\"description\":\"Bad Request\"},\"404\":{"
                         "\"description\":\"Not Found\"},\"413\":{\"description\":"
                         "\"Content Too Large\"},\"500\":{\"description\":\"Internal "
                         "Server Error\"}");
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
        if (!route->summary) continue; /* itself */
        cohort_body_printf(&body, "%s\"%s\":{", i ? "," : "", route->path);
        if (route->methods & GET) describe_method(&body, route, "get");
        if (route->methods == (GET | POST)) cohort_body_puts(&body, ",");
        if (route->methods & POST) describe_method(&body, route, "post");
        cohort_body_puts(&body, "}");
    }
    cohort_body_puts(&body, "},\"components\":{\"schemas\":");
    cohort_schema_write(&body);
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

static const struct route *find_route(const char *path) {
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
        if (!strcmp(routes[i].path, path)) return &routes[i];
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
    if (!given || strncasecmp(given, "Bearer ", 7)) return false;
    given += 7;
    bool found = false;
    for (size_t i = 0; keys[i]; i++)
        found |= strlen(keys[i]) == strlen(given) &&
                 sodium_memcmp(keys[i], given, strlen(given)) == 0;
    return found;
}

enum { QUICK_BYTES = 32768 }; /* some milliseconds to tokenize */

bool cohort_hand_over(cohort_server *server, cohort_exchange *exchange) {
    size_t size;
    if (cohort_request_queue_is_current()) return false;
    cohort_exchange_body(exchange, &size);
    cohort_request_queue *queue =
        size > QUICK_BYTES ? server->long_bodies : server->compilations;
    if (!cohort_request_queue_add(queue, exchange)) cohort_refuse_late(server, exchange);
    return true;
}

void cohort_serve_late(void *user_data, cohort_exchange *exchange) {
    cohort_server *server = user_data;
    cohort_api_error error = {0};
    const struct route *route =
        find_route(own_path(server, cohort_exchange_path(exchange)));
    /* What nobody could answer need not be read. */
    bool generates =
        route->schema == COHORT_SCHEMA_COMPLETION || route->schema == COHORT_SCHEMA_CHAT;
    if (generates && !is_healthy(server, &error))
        cohort_reply_error(exchange, &error);
    else
        route->serve(server, exchange);
}

void cohort_refuse_late(void *user_data, cohort_exchange *exchange) {
    cohort_server *server = user_data;
    cohort_api_error error = {0};
    if (is_healthy(server, &error))
        cohort_api_refuse(&error, 503, NULL, "the server is shutting down");
    cohort_reply_error(exchange, &error);
}

static void serve_route(cohort_server *server, cohort_exchange *exchange,
                        const struct route *route) {
    size_t size;
    cohort_exchange_body(exchange, &size);
    if (size > QUICK_BYTES && cohort_hand_over(server, exchange)) return;
    route->serve(server, exchange);
}

/* That of the path without slashes at its end; NULL: there is none. */
static const struct route *find_unslashed(const char *path) {
    char shorter[64];
    size_t size = strlen(path);
    while (size && path[size - 1] == '/')
        size--;
    if (!size || !path[size] || size >= sizeof shorter) return NULL;
    memcpy(shorter, path, size);
    shorter[size] = '\0';
    return find_route(shorter);
}

/* As Starlette does; within the host, whatever its name is to who asks. */
static void redirect(const cohort_server *server, cohort_exchange *exchange,
                     const struct route *route) {
    const char *path = cohort_exchange_path(exchange);
    cohort_body location = {0};
    cohort_body_add(&location, path, (size_t)(own_path(server, path) - path));
    cohort_body_puts(&location, route->path);
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
        redirect(server, exchange, route);
    } else if (refusal == 404) {
        reply_detail(exchange, 404, "Not Found");
    } else if (refusal == 405) {
        cohort_exchange_add_header(exchange, "Allow",
                                   route->methods & POST ? "POST" : "GET");
        reply_detail(exchange, 405, "Method Not Allowed");
    } else if (cohort_exchange_is_too_large(exchange)) {
        cohort_api_error error = {0};
        cohort_api_refuse(&error, 413, NULL,
                          "the request's body has more than %lld bytes",
                          (long long)server->options.max_body_bytes);
        cohort_reply_error(exchange, &error);
    } else if (cohort_exchange_is_refused(exchange)) {
        cohort_api_error error = {0};
        cohort_refuse_crowd(server, &error);
        cohort_reply_error(exchange, &error);
    } else {
        serve_route(server, exchange, route);
    }
}
