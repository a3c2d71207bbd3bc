/* SPDX-License-Identifier: Apache-2.0 */
#include <sodium.h>

#include "chat/json_text.h"
#include "server/server_internal.h"

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

void cohort_draw_id(char out[17]) {
    unsigned char bytes[8];
    randombytes_buf(bytes, sizeof bytes);
    sodium_bin2hex(out, 17, bytes, sizeof bytes);
}

bool cohort_is_alive(const cohort_server *server, cohort_api_error *error) {
    cohort_error failure;
    if (cohort_driver_failure(server->driver, &failure) < 0)
        return cohort_api_refuse(error, 503, NULL, "%s", failure.message);
    return true;
}

bool cohort_is_healthy(const cohort_server *server, cohort_api_error *error) {
    if (!cohort_is_alive(server, error)) return false;
    if (cohort_driver_is_draining(server->driver))
        return cohort_api_refuse(error, 503, NULL, "the server is shutting down");
    return true;
}

bool cohort_is_ready(const cohort_server *server, cohort_api_error *error) {
    cohort_executor_recovery recovery;
    cohort_executor_get_recovery(cohort_engine_executor(server->engine), &recovery);
    if (recovery.is_recovering)
        return cohort_api_refuse(error, 503, NULL, "rank %d is being replaced: %s",
                                 recovery.rank, recovery.cause.message);
    if (cohort_driver_is_paused(server->driver))
        return cohort_api_refuse(error, 503, NULL, "the server is paused");
    return true;
}

bool cohort_query_has(const char *query, const char *argument) {
    size_t size = strlen(argument);
    for (const char *at = query + (*query == '?'); at;
         at = strchr(at, '&'), at += at != NULL)
        if (!strncmp(at, argument, size) && (!at[size] || at[size] == '&')) return true;
    return false;
}

/* The routes are not known here: they call what hands over. */
void cohort_refuse_late(void *user_data, cohort_exchange *exchange) {
    cohort_server *server = user_data;
    bool is_anthropic = strstr(cohort_exchange_path(exchange), "/v1/messages");
    cohort_api_error error = {.shape = is_anthropic ? COHORT_ERROR_ANTHROPIC
                                                    : COHORT_ERROR_OPENAI};
    if (cohort_is_healthy(server, &error))
        cohort_api_refuse(&error, 503, NULL, "the server is shutting down");
    cohort_reply_error(exchange, &error);
}
