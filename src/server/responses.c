/* SPDX-License-Identifier: Apache-2.0 */
#include "server/responses.h"

#include <stdio.h>
#include <stdlib.h>

#include "chat/json_text.h"
#include "server/json_write.h"
#include "server/response_store.h"
#include "server/responses_input.h"

/* /v1/responses: a chat in items.  The body is made a chat's (responses_input.h), and
 * generated as one; what came is written as a response. */

static void discard(void *own) {
    cohort_response *self = own;
    cohort_body *const bodies[] = {&self->custom_names, &self->history,
                                   &self->items,        &self->said,
                                   &self->logprobs,     &self->call_name};
    for (size_t i = 0; i < COHORT_N_TOLD; i++)
        cohort_body_deinit(&self->told[i]);
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++)
        cohort_body_deinit(bodies[i]);
    free(self);
}

static size_t kept_bytes(const cohort_response *self) {
    size_t bytes = sizeof *self + self->history.capacity + self->custom_names.capacity;
    for (size_t i = 0; i < COHORT_N_TOLD; i++)
        bytes += self->told[i].capacity;
    return bytes;
}

/* ---- the request ------------------------------------------------------------------- */

static const cJSON *json_of(const cohort_value *value) {
    return value->is_set ? value->json : NULL;
}

/* A function has all members that OpenAI's type has. */
static void tell_tool(cohort_body *out, const cJSON *tool) {
    static const char *const names[] = {"parameters", "strict", "type", "defer_loading",
                                        "description"};
    const cJSON *type = cJSON_GetObjectItemCaseSensitive(tool, "type");
    if (!cJSON_IsString(type) || strcmp(type->valuestring, "function") != 0) {
        cohort_server_json_write(out, tool);
        return;
    }
    cohort_body_puts(out, "{\"name\":");
    cohort_server_json_write(out, cJSON_GetObjectItemCaseSensitive(tool, "name"));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        cohort_body_printf(out, ",\"%s\":", names[i]);
        cohort_server_json_write(out, cJSON_GetObjectItemCaseSensitive(tool, names[i]));
    }
    cohort_body_puts(out, "}");
}

static void tell_tools(cohort_response *self, const cohort_api_request *api) {
    const cJSON *tool;
    cohort_body *out = &self->told[COHORT_TOLD_TOOLS];
    cohort_body_puts(out, "[");
    const cJSON *tools = json_of(&api->tools);
    cJSON_ArrayForEach(tool, tools) {
        const cJSON *type = cJSON_GetObjectItemCaseSensitive(tool, "type");
        const cJSON *name = cJSON_GetObjectItemCaseSensitive(tool, "name");
        if (out->size > 1) cohort_body_puts(out, ",");
        tell_tool(out, tool);
        if (cJSON_IsString(name) && cJSON_IsString(type) &&
            !strcmp(type->valuestring, "custom"))
            cohort_body_add(&self->custom_names, name->valuestring,
                            strlen(name->valuestring) + 1);
    }
    cohort_body_puts(out, "]");
}

/* What the answer tells of its request, which is forgotten before. */
static void read_told(cohort_response *self, const cohort_api_request *api) {
    const struct {
        cohort_response_told which;
        const cohort_value *value;
    } members[] = {{COHORT_TOLD_INSTRUCTIONS, &api->instructions},
                   {COHORT_TOLD_METADATA, &api->metadata},
                   {COHORT_TOLD_MAX_TOOL_CALLS, &api->max_tool_calls},
                   {COHORT_TOLD_PREVIOUS, &api->previous_response_id},
                   {COHORT_TOLD_REASONING, &api->reasoning},
                   {COHORT_TOLD_TEXT, &api->text},
                   {COHORT_TOLD_USER, &api->user}};
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        cohort_server_json_write(&self->told[members[i].which],
                                 json_of(members[i].value));
    cohort_body *choice = &self->told[COHORT_TOLD_TOOL_CHOICE];
    bool has_tools = cJSON_GetArraySize(json_of(&api->tools));
    if (api->tool_choice.is_set && has_tools)
        cohort_server_json_write(choice, api->tool_choice.json);
    else
        cohort_body_puts(choice, has_tools ? "\"auto\"" : "\"none\"");
    tell_tools(self, api);
    static const char *const tiers[] = {"default", "flex", "scale", "priority"};
    self->service_tier = "auto";
    for (size_t i = 0; api->service_tier.is_set && i < sizeof tiers / sizeof *tiers; i++)
        if (!strcmp(api->service_tier.text, tiers[i])) self->service_tier = tiers[i];
    self->truncation = api->truncation.is_set && !strcmp(api->truncation.text, "auto")
                           ? "auto"
                           : "disabled";
    self->is_parallel = api->parallel_tool_calls.whole;
}

/* What the model is told, but for instructions, for whoever goes on from here. */
static void read_history(cohort_response *self, const cohort_api_request *api) {
    const cJSON *message = api->messages.json->child;
    bool is_first = true;
    if (!self->is_stored) return;
    if (message && api->instructions.is_set && *api->instructions.text)
        message = message->next;
    cohort_body_puts(&self->history, "{\"messages\":[");
    for (; message; message = message->next) {
        if (!is_first) cohort_body_puts(&self->history, ",");
        cohort_server_json_write(&self->history, message);
        is_first = false;
    }
}

/* The conversation of the response before; NULL: none is named, or it takes too long to
 * read here (more_bytes).  False: error. */
static bool find_history(cohort_generation *generation, cJSON **out_history,
                         cohort_api_error *error) {
    cohort_server *server = generation->server;
    cohort_api_request *api = &generation->api;
    cohort_body text = {0};
    cohort_chat_json_fault fault;
    const char *id = api->previous_response_id.text;
    *out_history = NULL;
    if (!api->previous_response_id.is_set) return true;
    size_t size = cohort_response_store_history_size(server->responses, id);
    if (size > COHORT_QUICK_BYTES && !cohort_request_queue_is_current()) {
        generation->more_bytes = size;
        return true;
    }
    bool is_there = cohort_response_store_get(server->responses, id, NULL, &text);
    bool is_whole =
        text.size && !text.is_short &&
        cohort_hold_values(server, text.bytes, text.size, &api->parsed_bytes, error) &&
        cohort_chat_json_load(text.bytes, text.size, out_history, &fault);
    cohort_body_deinit(&text);
    if (is_whole || error->status) return is_whole;
    if (!is_there)
        return cohort_api_refuse(error, 404, "response_id",
                                 "Response with id '%.200s' not found.", id);
    return cohort_api_refuse(error, 400, "previous_response_id",
                             "Response with id '%.200s' is not whole: wait until its "
                             "status is completed.",
                             id);
}

static bool refuse_taken(cohort_api_error *error) {
    return cohort_api_refuse_value(error, "request_id", NULL,
                                   "there is a response with that request_id");
}

/* As the request says, or by chance. */
static bool name_response(cohort_generation *generation, cohort_api_error *error) {
    const cohort_api_request *api = &generation->api;
    char drawn[2][17];
    cohort_draw_id(drawn[0]);
    cohort_draw_id(drawn[1]);
    if (!api->request_id.is_set) {
        cohort_body_printf(&generation->id, "resp_%s%s", drawn[0], drawn[1]);
        return true;
    }
    const char *id = api->request_id.text;
    if (!*id || strlen(id) > 256 || strpbrk(id, "/?#%"))
        return cohort_api_refuse_value(
            error, "request_id", NULL,
            "request_id must have 1 to 256 bytes, and none of / ? # %%");
    if (cohort_response_store_get(generation->server->responses, id, NULL, NULL))
        return refuse_taken(error);
    cohort_body_puts(&generation->id, id);
    return true;
}

static bool translate(cohort_generation *generation, cohort_api_error *error) {
    cohort_api_request *api = &generation->api;
    const cohort_server_options *options = &generation->server->options;
    cohort_response *self = generation->own = calloc(1, sizeof *self);
    cJSON *history;
    if (!self) return cohort_api_refuse(error, 503, NULL, "out of memory");
    self->is_stored = api->store.whole && options->max_responses;
    self->is_background = api->background.whole;
    if (self->is_background && !self->is_stored)
        return cohort_api_refuse(error, 400, "background",
                                 "background needs responses to be stored, which "
                                 "--max-stored-responses 0 and store=false leave out");
    read_told(self, api);
    if (!name_response(generation, error) || !find_history(generation, &history, error))
        return false;
    if (generation->more_bytes) return true;
    bool done = cohort_responses_translate(api, history, error);
    cJSON_Delete(history);
    if (!done) return false;
    read_history(self, api);
    generation->own_bytes = kept_bytes(self);
    generation->is_detached = self->is_background;
    return !generation->id.is_short ||
           cohort_api_refuse(error, 503, NULL, "out of memory");
}

/* ---- the answer -------------------------------------------------------------------- */

static const char *status_of(const cohort_generation *generation) {
    switch (generation->choices[0].finish_reason) {
    case COHORT_FINISH_LENGTH: return "incomplete";
    case COHORT_FINISH_ABORT: return "cancelled";
    default: return "completed";
    }
}

/* Whoever left before its end does not come back for it. */
static void keep(cohort_generation *generation, const cohort_body *text) {
    cohort_response *self = cohort_response_of(generation);
    bool is_abandoned = generation->choices[0].finish_reason == COHORT_FINISH_ABORT;
    if (!self->is_stored || (is_abandoned && !self->is_background)) return;
    cohort_body_puts(&self->history, "],\"items\":[");
    cohort_body_add(&self->history, self->items.bytes, self->items.size);
    cohort_body_puts(&self->history, "]}");
    cohort_response_store_put(generation->server->responses, generation->id.bytes, text,
                              &self->history, self->is_background ? generation : NULL);
}

static void write_answer(cohort_generation *generation, cohort_body *out) {
    cohort_response_add_items(generation, &generation->choices[0]);
    cohort_response_write(generation, status_of(generation), NULL, out);
    keep(generation, out);
}

static void begin_stream(cohort_generation *generation) {
    cohort_body *chunk = cohort_generation_empty_chunk(generation);
    cohort_response_write_event(generation, "created", "in_progress", NULL, chunk);
    cohort_response_write_event(generation, "in_progress", "in_progress", NULL, chunk);
    cohort_exchange_push(generation->exchange, chunk);
}

/* As vLLM ends all of its: also one that was cut off, which its status tells. */
static void end_stream(cohort_generation *generation) {
    cohort_body *chunk = cohort_generation_empty_chunk(generation);
    cohort_response *self = cohort_response_of(generation);
    cohort_body whole = {0};
    cohort_response_close_item(self, chunk);
    cohort_response_write_event(generation, "completed", status_of(generation), NULL,
                                chunk);
    cohort_exchange_push(generation->exchange, chunk);
    if (self->is_stored) {
        cohort_response_write(generation, status_of(generation), NULL, &whole);
        keep(generation, &whole);
    }
    cohort_body_deinit(&whole);
}

static void break_stream(cohort_generation *generation, const cohort_api_error *error) {
    const char *why = error->message.bytes ? error->message.bytes : "";
    cohort_response *self = cohort_response_of(generation);
    cohort_body whole = {0};
    if (self->is_background) {
        cohort_response_write(generation, "failed", why, &whole);
        keep(generation, &whole);
        cohort_body_deinit(&whole);
        return;
    }
    cohort_body *chunk = cohort_generation_empty_chunk(generation);
    cohort_response_close_item(self, chunk);
    cohort_response_write_event(generation, "failed", "failed", why, chunk);
    cohort_exchange_push(generation->exchange, chunk);
}

static void add_output(cohort_generation *generation, cohort_server_choice *choice,
                       const cohort_completion *completion) {
    cohort_response *self = cohort_response_of(generation);
    if (!cohort_generation_take_chat(generation, choice, completion) ||
        !generation->params.is_stream)
        return;
    cohort_body *chunk = cohort_generation_empty_chunk(generation);
    cohort_response_write_deltas(generation, choice, chunk);
    cohort_message_clear(&choice->message);
    if (chunk->size) cohort_exchange_push(generation->exchange, chunk);
    cohort_generation_count_own(generation, self->items.capacity + self->said.capacity +
                                                self->logprobs.capacity);
}

/* ---- in the background ------------------------------------------------------------- */

static void cancel(void *user_data) {
    cohort_generation *generation = user_data;
    cohort_driver_cancel(generation->server->driver, &generation->job);
}

static bool detach(cohort_generation *generation, cohort_body *out,
                   cohort_api_error *error) {
    cohort_response_store *store = generation->server->responses;
    const char *id = generation->id.bytes;
    cohort_response_write(generation, "queued", NULL, out);
    if (cohort_response_store_begin(store, id, out,
                                    cohort_response_of(generation)->status_at, cancel,
                                    generation))
        return true;
    if (cohort_response_store_get(store, id, NULL, NULL)) /* since it was named */
        return refuse_taken(error);
    return cohort_api_refuse(error, 503, NULL,
                             "responses in the background take all that "
                             "--max-stored-responses and --stored-response-bytes allow; "
                             "try again later");
}

static void reattach(cohort_generation *generation) {
    cohort_response_store_drop(generation->server->responses, generation->id.bytes);
}

/* ---- the routes -------------------------------------------------------------------- */

static const cohort_generation_kind kind = {.schema = COHORT_SCHEMA_RESPONSES,
                                            .id_prefix = "resp",
                                            .object = "response",
                                            .is_chat = true,
                                            .translate = translate,
                                            .discard = discard,
                                            .read = cohort_generation_read_chat,
                                            .detach = detach,
                                            .reattach = reattach,
                                            .begin = begin_stream,
                                            .add = add_output,
                                            .write_answer = write_answer,
                                            .end_stream = end_stream,
                                            .break_stream = break_stream};

void cohort_serve_responses(cohort_server *server, cohort_exchange *exchange) {
    cohort_generation_serve(server, exchange, &kind);
}

/* The id in ".../v1/responses/ID" or ".../ID/cancel". */
static void find_id(const cohort_exchange *exchange, char *out, size_t size) {
    static const char before[] = "/v1/responses/";
    const char *at = strstr(cohort_exchange_path(exchange), before);
    at = at ? at + strlen(before) : "";
    size_t length = strcspn(at, "/");
    snprintf(out, size, "%.*s", length < size ? (int)length : 0, at);
}

static bool refuse_unknown(cohort_api_error *error, const char *id) {
    return cohort_api_refuse(error, 404, "response_id",
                             "Response with id '%.200s' not found.", id);
}

void cohort_serve_response(cohort_server *server, cohort_exchange *exchange) {
    cohort_api_error error = {0};
    cohort_body body = {0};
    char id[300];
    find_id(exchange, id, sizeof id);
    if (!cohort_response_store_get(server->responses, id, &body, NULL))
        refuse_unknown(&error, id);
    else if (cohort_query_has(cohort_exchange_query(exchange), "stream=true"))
        cohort_api_refuse(&error, 400, "stream",
                          "a response that is retrieved is no stream");
    if (!error.status) {
        cohort_reply_json(exchange, 200, &body);
        return;
    }
    cohort_body_deinit(&body);
    cohort_reply_error(exchange, &error);
}

void cohort_serve_response_cancel(cohort_server *server, cohort_exchange *exchange) {
    cohort_api_error error = {0};
    cohort_body body = {0};
    char id[300];
    find_id(exchange, id, sizeof id);
    switch (cohort_response_store_cancel(server->responses, id, &body)) {
    case COHORT_RESPONSE_CANCELLED: cohort_reply_json(exchange, 200, &body); return;
    case COHORT_RESPONSE_UNKNOWN: refuse_unknown(&error, id); break;
    case COHORT_RESPONSE_IS_WHOLE:
        cohort_api_refuse(&error, 400, "response_id",
                          "Cannot cancel a synchronous response.");
    }
    cohort_reply_error(exchange, &error);
}

void cohort_write_response_metrics(const cohort_server *server, cohort_body *out) {
    const cohort_response_store_stats stats =
        cohort_response_store_look(server->responses);
    const struct {
        const char *name, *type, *help;
        double value;
    } rows[] = {
        {"cohort:stored_responses", "gauge", "Responses that may be asked for again.",
         (double)stats.n_kept},
        {"cohort:background_responses", "gauge",
         "Of them, those that are being made in the background.",
         (double)stats.n_running},
        {"cohort:stored_response_bytes", "gauge", "Bytes that they take.",
         (double)stats.kept_bytes},
        {"cohort:evicted_responses_total", "counter",
         "Responses that went because newer ones took their place.",
         (double)stats.n_evicted},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        cohort_body_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s %.0f\n", rows[i].name,
                           rows[i].help, rows[i].name, rows[i].type, rows[i].name,
                           rows[i].value);
}
