/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "chat/json_text.h"
#include "server/server_internal.h"

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
    bool is_theirs = failure->code == COHORT_E_INVALID;
    return cohort_api_refuse(error, is_theirs ? 400 : 503, NULL, "%s", failure->message);
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

bool cohort_hold_values(cohort_server *server, const char *text, size_t size,
                        size_t *in_out_bytes, cohort_api_error *error) {
    size_t n_values = cohort_chat_json_most_values(text, size);
    size_t bytes = n_values * BYTES_PER_VALUE;
    if (n_values > MAX_VALUES)
        return cohort_api_refuse(error, 413, NULL,
                                 "the request's body, or what it goes on from, has more "
                                 "than %d numbers, texts and other values",
                                 MAX_VALUES);
    if (bytes <= COHORT_FAIR_BYTES) return true;
    /* One at a time may always come: no less would do for the longest body. */
    bool is_alone = atomic_fetch_add(&server->parsed_bytes, bytes) == *in_out_bytes;
    bool has_room = cohort_http_hold(server->http, (int64_t)bytes) || is_alone;
    *in_out_bytes += bytes;
    return has_room || cohort_refuse_crowd(server, error);
}

static bool read_text(cohort_server *server, cohort_server_schema schema,
                      const char *text, size_t size, cohort_api_request *out,
                      cohort_api_error *error) {
    size_t bytes = 0;
    bool fine = cohort_hold_values(server, text, size, &bytes, error) &&
                cohort_api_request_read(out, schema, text, size, error);
    out->parsed_bytes = bytes;
    return fine;
}

bool cohort_read_body(cohort_server *server, cohort_exchange *exchange,
                      cohort_server_schema schema, cohort_api_request *out,
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

bool cohort_hand_over(cohort_server *server, cohort_exchange *exchange, size_t bytes) {
    if (cohort_request_queue_is_current()) return false;
    cohort_request_queue *queue =
        bytes > COHORT_QUICK_BYTES ? server->long_bodies : server->compilations;
    if (!cohort_request_queue_add(queue, exchange)) cohort_refuse_late(server, exchange);
    return true;
}
