/* SPDX-License-Identifier: Apache-2.0 */
#include "server/responses.h"

#include <stdio.h>

/* ---- items ------------------------------------------------------------------------- */

static void write_said(const cohort_body *said, cohort_body *out) {
    cohort_body_json(out, said->size ? said->bytes : "", said->size);
}

/* The text of {"input": "..."}, or all of it where it is none. */
void cohort_response_write_custom_input(const cohort_body *said, cohort_body *out) {
    cJSON *json = said->size ? cJSON_ParseWithLength(said->bytes, said->size) : NULL;
    const char *input =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "input"));
    if (input)
        cohort_body_json(out, input, strlen(input));
    else
        write_said(said, out);
    cJSON_Delete(json);
}

static void write_message(const cohort_response *self, const char *status,
                          cohort_body *out) {
    bool is_begun = !strcmp(status, "in_progress");
    cohort_body_printf(out, "{\"id\":\"%s\",\"content\":[", self->item_id);
    if (!is_begun && self->said.size) {
        cohort_body_puts(out, "{\"annotations\":[],\"text\":");
        write_said(&self->said, out);
        cohort_body_printf(out, ",\"type\":\"output_text\",\"logprobs\":%s%s%s}",
                           self->logprobs.size ? "[" : "null",
                           self->logprobs.size ? self->logprobs.bytes : "",
                           self->logprobs.size ? "]" : "");
    }
    cohort_body_printf(out,
                       "],\"role\":\"assistant\",\"status\":\"%s\",\"type\":\"message\","
                       "\"phase\":null}",
                       status);
}

static void write_reasoning(const cohort_response *self, const char *status,
                            cohort_body *out) {
    cohort_body_printf(
        out, "{\"id\":\"%s\",\"summary\":[],\"type\":\"reasoning\",\"content\":",
        self->item_id);
    if (strcmp(status, "in_progress") != 0) {
        cohort_body_puts(out, "[{\"text\":");
        write_said(&self->said, out);
        cohort_body_puts(out, ",\"type\":\"reasoning_text\"}]");
    } else {
        cohort_body_puts(out, "null");
    }
    cohort_body_printf(out, ",\"encrypted_content\":null,\"status\":\"%s\"}", status);
}

static void write_call(const cohort_response *self, const char *status,
                       cohort_body *out) {
    bool is_custom = self->open == COHORT_ITEM_CUSTOM_CALL;
    cohort_body_puts(out, is_custom ? "{\"input\":" : "{\"arguments\":");
    if (is_custom && strcmp(status, "in_progress") != 0)
        cohort_response_write_custom_input(&self->said, out);
    else
        write_said(&self->said, out);
    cohort_body_printf(out, ",\"call_id\":\"%s\",\"name\":", self->call_id);
    write_said(&self->call_name, out);
    cohort_body_printf(out, ",\"type\":\"%s\",\"id\":\"%s\",\"namespace\":null",
                       is_custom ? "custom_tool_call" : "function_call", self->item_id);
    if (!is_custom) cohort_body_printf(out, ",\"status\":\"%s\"", status);
    cohort_body_puts(out, "}");
}

void cohort_response_write_item(const cohort_response *self, const char *status,
                                cohort_body *out) {
    if (self->open == COHORT_ITEM_MESSAGE)
        write_message(self, status, out);
    else if (self->open == COHORT_ITEM_REASONING)
        write_reasoning(self, status, out);
    else
        write_call(self, status, out);
}

void cohort_response_open_item(cohort_response *self, cohort_response_item kind) {
    static const char *const prefixes[] = {[COHORT_ITEM_REASONING] = "rs",
                                           [COHORT_ITEM_MESSAGE] = "msg",
                                           [COHORT_ITEM_CALL] = "fc",
                                           [COHORT_ITEM_CUSTOM_CALL] = "ctc"};
    char drawn[17];
    cohort_draw_id(drawn);
    snprintf(self->item_id, sizeof self->item_id, "%s_%s", prefixes[kind], drawn);
    self->open = kind;
    self->said.size = self->logprobs.size = 0;
}

void cohort_response_keep_item(cohort_response *self, const char *status) {
    if (self->items.size) cohort_body_puts(&self->items, ",");
    cohort_response_write_item(self, status, &self->items);
    self->n_items++;
    self->open = COHORT_ITEM_NONE;
}

/* ---- the whole output -------------------------------------------------------------- */

static void add_text_item(cohort_response *self, cohort_response_item kind,
                          const cohort_body *text, const cohort_body *logprobs) {
    if (!text->size) return;
    cohort_response_open_item(self, kind);
    cohort_body_add(&self->said, text->bytes, text->size);
    if (logprobs) cohort_body_add(&self->logprobs, logprobs->bytes, logprobs->size);
    cohort_response_keep_item(self, "completed");
}

static bool is_custom(const cohort_response *self, const char *name, size_t size) {
    const char *at = self->custom_names.bytes;
    const char *end = at + self->custom_names.size;
    for (; at && at < end; at += strlen(at) + 1)
        if (strlen(at) == size && !memcmp(at, name, size)) return true;
    return false;
}

void cohort_response_begin_call(cohort_response *self, const cohort_message *message,
                                const cohort_call_piece *piece) {
    const char *name = message->call_text.bytes + piece->begin;
    cohort_response_open_item(self, is_custom(self, name, piece->size)
                                        ? COHORT_ITEM_CUSTOM_CALL
                                        : COHORT_ITEM_CALL);
    self->call_name.size = 0;
    cohort_body_add(&self->call_name, name, piece->size);
    snprintf(self->call_id, sizeof self->call_id, "%s", piece->id);
}

void cohort_response_add_items(cohort_generation *generation,
                               cohort_server_choice *choice) {
    cohort_response *self = cohort_response_of(generation);
    const cohort_message *message = &choice->message;
    if (!generation->hides_reasoning)
        add_text_item(self, COHORT_ITEM_REASONING, &message->reasoning, NULL);
    add_text_item(self, COHORT_ITEM_MESSAGE, &message->content, &choice->logprobs.tokens);
    for (size_t i = 0; i < message->n_pieces; i++) {
        const cohort_call_piece *piece = &message->pieces[i];
        if (piece->is_name) {
            cohort_response_begin_call(self, message, piece);
            continue;
        }
        cohort_body_add(&self->said, message->call_text.bytes + piece->begin,
                        piece->size);
        cohort_response_keep_item(self, "completed");
    }
    self->items.is_short |= message->content.is_short || message->call_text.is_short;
}

/* ---- the object -------------------------------------------------------------------- */

/* As Python prints the number that the float was made of. */
static void write_float(cohort_body *out, const char *name, float value) {
    char text[32];
    snprintf(text, sizeof text, "%.7g", (double)value);
    cohort_body_printf(out, ",\"%s\":%s%s", name, text, strpbrk(text, ".en") ? "" : ".0");
}

static void write_told(const cohort_response *self, const char *name,
                       cohort_response_told which, cohort_body *out) {
    const cohort_body *told = &self->told[which];
    cohort_body_printf(out, ",\"%s\":", name);
    if (told->size)
        cohort_body_add(out, told->bytes, told->size);
    else
        cohort_body_puts(out, "null");
}

static void write_usage(const cohort_generation *generation, cohort_body *out) {
    const cohort_usage sum = cohort_generation_usage(generation, NULL);
    long long n_reasoning = sum.n_reasoning > 0 ? sum.n_reasoning : 0;
    cohort_body_printf(
        out,
        "{\"input_tokens\":%lld,\"input_tokens_details\":{\"cached_tokens\":%d,"
        "\"cache_write_tokens\":0,\"input_tokens_per_turn\":[],"
        "\"cached_tokens_per_turn\":[]},\"output_tokens\":%lld,"
        "\"output_tokens_details\":{\"reasoning_tokens\":%lld,\"tool_output_tokens\":0,"
        "\"output_tokens_per_turn\":[],\"tool_output_tokens_per_turn\":[]},"
        "\"total_tokens\":%lld}",
        (long long)sum.n_prompt, generation->prompts[0].n_cached,
        (long long)sum.n_completion, n_reasoning,
        (long long)(sum.n_prompt + sum.n_completion));
}

static bool is_one_of(const char *status, const char *first, const char *second) {
    return !strcmp(status, first) || !strcmp(status, second);
}

/* From the beginning up to the output. */
static void write_begin(const cohort_generation *generation, const char *status,
                        const char *why, cohort_body *out) {
    const cohort_response *self = cohort_response_of(generation);
    bool is_cut = !strcmp(status, "incomplete");
    cohort_body_puts(out, "{\"id\":");
    cohort_body_json(out, generation->id.bytes, generation->id.size);
    cohort_body_printf(out, ",\"created_at\":%lld,\"incomplete_details\":%s",
                       (long long)generation->created_s,
                       is_cut ? "{\"reason\":\"max_output_tokens\"}" : "null");
    if (why) { /* vLLM's has no such member at all */
        cohort_body_puts(out, ",\"error\":{\"code\":\"server_error\",\"message\":");
        cohort_body_json(out, why, strlen(why));
        cohort_body_puts(out, "}");
    }
    write_told(self, "instructions", COHORT_TOLD_INSTRUCTIONS, out);
    write_told(self, "metadata", COHORT_TOLD_METADATA, out);
    cohort_body_puts(out, ",\"model\":");
    cohort_body_json_or_null(out, generation->server->options.served_names[0]);
    cohort_body_puts(out, ",\"object\":\"response\",\"output\":[");
}

static void write_settings(const cohort_generation *generation, cohort_body *out) {
    const cohort_response *self = cohort_response_of(generation);
    const cohort_request *request = &generation->params.request;
    int32_t most = generation->requests[0].max_tokens;
    if (!most)
        most = generation->server->info.max_model_len -
               (int32_t)generation->prompts[0].n_ids;
    cohort_body_printf(out, "],\"parallel_tool_calls\":%s",
                       self->is_parallel ? "true" : "false");
    write_float(out, "temperature", request->sampling.temperature);
    write_told(self, "tool_choice", COHORT_TOLD_TOOL_CHOICE, out);
    write_told(self, "tools", COHORT_TOLD_TOOLS, out);
    write_float(out, "top_p", request->sampling.top_p);
    cohort_body_printf(out, ",\"background\":%s,\"max_output_tokens\":%d",
                       self->is_background ? "true" : "false", most);
    write_told(self, "max_tool_calls", COHORT_TOLD_MAX_TOOL_CALLS, out);
    write_told(self, "previous_response_id", COHORT_TOLD_PREVIOUS, out);
    cohort_body_puts(out, ",\"prompt\":null");
    write_told(self, "reasoning", COHORT_TOLD_REASONING, out);
    cohort_body_printf(out, ",\"service_tier\":\"%s\"", self->service_tier);
}

void cohort_response_write(const cohort_generation *generation, const char *status,
                           const char *why, cohort_body *out) {
    cohort_response *self = cohort_response_of(generation);
    const cohort_sampling_params *sampling = &generation->params.request.sampling;
    bool has_usage = is_one_of(status, "completed", "incomplete");
    write_begin(generation, status, why, out);
    cohort_body_add(out, self->items.bytes, self->items.size);
    out->is_short |= self->items.is_short;
    write_settings(generation, out);
    cohort_body_puts(out, ",\"status\":");
    self->status_at = out->size;
    cohort_body_printf(out, "\"%s\"", status);
    write_told(self, "text", COHORT_TOLD_TEXT, out);
    if (sampling->n_logprobs >= 0)
        cohort_body_printf(out, ",\"top_logprobs\":%d", sampling->n_logprobs);
    else
        cohort_body_puts(out, ",\"top_logprobs\":null");
    cohort_body_printf(out, ",\"truncation\":\"%s\",\"usage\":", self->truncation);
    if (has_usage)
        write_usage(generation, out);
    else
        cohort_body_puts(out, "null");
    write_told(self, "user", COHORT_TOLD_USER, out);
    write_float(out, "presence_penalty", sampling->presence_penalty);
    write_float(out, "frequency_penalty", sampling->frequency_penalty);
    cohort_body_puts(out, ",\"kv_transfer_params\":null,\"ec_transfer_params\":null,"
                          "\"input_messages\":null,\"output_messages\":null}");
}
