/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "server/messages.h"
#include "server/server_internal.h"

/* /tokenize and /detokenize, and how many a message of Anthropic's API would be. */

static bool write_strings(const cohort_server *server, const int32_t *ids, size_t count,
                          cohort_body *out, cohort_api_error *error) {
    cohort_body_puts(out, "[");
    for (size_t i = 0; i < count; i++) {
        char *text;
        size_t size;
        if (cohort_engine_token_string(server->engine, ids[i], &text, &size) < 0)
            return cohort_refuse_text(error);
        if (i) cohort_body_puts(out, ",");
        cohort_body_json(out, text, size);
        free(text);
    }
    cohort_body_puts(out, "]");
    return true;
}

static bool tokenize(const cohort_server *server, cohort_api_request *api,
                     cohort_body *out, cohort_api_error *error) {
    const char *text = api->prompt.text;
    char *rendered = NULL;
    int32_t *ids;
    size_t count, size = text ? strlen(text) : 0;
    if (!cohort_check_model(server, api, error)) return false;
    if (api->messages.is_set &&
        !cohort_render_messages(server, api, &rendered, &size, error))
        return false;
    cohort_status status =
        cohort_engine_tokenize(server->engine, rendered ? rendered : text, size,
                               api->add_special_tokens.whole, &ids, &count);
    free(rendered);
    if (status < 0) return cohort_refuse_text(error);
    cohort_body_printf(out, "{\"count\":%zu,\"max_model_len\":%d,\"tokens\":", count,
                       server->info.max_model_len);
    cohort_body_json_ids(out, ids, count);
    cohort_body_puts(out, ",\"token_strs\":");
    bool done = true;
    if (api->return_token_strs.whole)
        done = write_strings(server, ids, count, out, error);
    else
        cohort_body_puts(out, "null");
    cohort_body_puts(out, "}");
    free(ids);
    return done;
}

static bool detokenize(const cohort_server *server, cohort_api_request *api,
                       cohort_body *out, cohort_api_error *error) {
    const cJSON *list = api->tokens.json, *item;
    char *text = NULL;
    size_t size = 0, count = 0;
    if (!cohort_check_model(server, api, error)) return false;
    int32_t *ids = calloc((size_t)cJSON_GetArraySize(list) + 1, sizeof *ids);
    if (!ids) return cohort_api_refuse(error, 503, NULL, "out of memory");
    bool done = true;
    cJSON_ArrayForEach(item, list) {
        int64_t id = cohort_api_id(item);
        if (id < 0 || id >= server->info.vocab_size) {
            done = cohort_api_refuse(error, 400, NULL,
                                     "Token id %lld is out of vocabulary", (long long)id);
            break;
        }
        ids[count++] = (int32_t)id;
    }
    if (done &&
        cohort_engine_detokenize(server->engine, ids, count, false, &text, &size) < 0)
        done = cohort_refuse_text(error);
    free(ids);
    if (!done) return false;
    cohort_body_puts(out, "{\"prompt\":");
    cohort_body_json(out, text, size);
    cohort_body_puts(out, "}");
    free(text);
    return true;
}

/* Of a chat as Anthropic's API has it. */
static bool count_tokens(const cohort_server *server, cohort_api_request *api,
                         cohort_body *out, cohort_api_error *error) {
    char *text = NULL;
    int32_t *ids;
    size_t count, size;
    if (!cohort_check_model(server, api, error) ||
        !cohort_messages_read(server, api, error) ||
        !cohort_render_messages(server, api, &text, &size, error))
        return false;
    cohort_status status =
        cohort_engine_tokenize(server->engine, text, size, false, &ids, &count);
    free(text);
    if (status < 0) return cohort_refuse_text(error);
    free(ids);
    cohort_body_printf(out,
                       "{\"input_tokens\":%zu,\"context_management\":{"
                       "\"original_input_tokens\":%zu}}",
                       count, count);
    return true;
}

typedef bool (*answer_maker)(const cohort_server *server, cohort_api_request *api,
                             cohort_body *out, cohort_api_error *error);

static void serve(cohort_server *server, cohort_exchange *exchange,
                  cohort_server_schema schema, answer_maker make) {
    cohort_api_request api = {0};
    cohort_api_error error = {.shape = schema == COHORT_SCHEMA_COUNT_TOKENS
                                           ? COHORT_ERROR_ANTHROPIC
                                           : COHORT_ERROR_OPENAI};
    cohort_body body = {0};
    bool done = cohort_read_body(server, exchange, schema, &api, &error);
    bool takes_long =
        api.chat_template.is_set && server->options.trust_request_chat_template;
    bool moves = done && takes_long && !cohort_request_queue_is_current();
    if (moves) cohort_release_body(server, &api); /* it is read once more */
    if (moves && cohort_hand_over(server, exchange, 0)) {
        cohort_api_request_deinit(&api);
        return;
    }
    done = done && make(server, &api, &body, &error);
    cohort_release_body(server, &api);
    cohort_api_request_deinit(&api);
    if (done) {
        cohort_reply_json(exchange, 200, &body);
        return;
    }
    cohort_body_deinit(&body);
    cohort_reply_error(exchange, &error);
}

void cohort_serve_tokenize(cohort_server *server, cohort_exchange *exchange) {
    serve(server, exchange, COHORT_SCHEMA_TOKENIZE, tokenize);
}

void cohort_serve_detokenize(cohort_server *server, cohort_exchange *exchange) {
    serve(server, exchange, COHORT_SCHEMA_DETOKENIZE, detokenize);
}

void cohort_serve_count_tokens(cohort_server *server, cohort_exchange *exchange) {
    serve(server, exchange, COHORT_SCHEMA_COUNT_TOKENS, count_tokens);
}
