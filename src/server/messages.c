/* SPDX-License-Identifier: Apache-2.0 */
#include "server/messages.h"

#include <stdlib.h>

#include "chat/json_text.h"
#include "server/generation.h"
#include "server/messages_input.h"

/* /v1/messages: Anthropic's API.  The body is made a chat's (messages_input.h), and
 * generated as one; what came is written as blocks of content. */

typedef enum block_kind { NO_BLOCK, THINKING, TEXT, TOOL_USE } block_kind;

/* Of a stream: the block under way. */
typedef struct blocks {
    block_kind open;
    int32_t index;
    bool has_use;
    cohort_body arguments; /* of the last tool_use */
} blocks;

static blocks *blocks_of(const cohort_generation *generation) { return generation->own; }

static void discard(void *own) {
    blocks *self = own;
    cohort_body_deinit(&self->arguments);
    free(self);
}

/* ---- the request ------------------------------------------------------------------- */

/* Does the template want the system first, and nowhere else?  As vLLM finds out. */
static bool wants_system_first(const cohort_server *server) {
    cJSON *messages = cJSON_Parse(
        "[{\"role\":\"system\",\"content\":\"t\"},{\"role\":\"user\","
        "\"content\":\"t\"},{\"role\":\"system\",\"content\":\"t\"},{\"role\":"
        "\"user\",\"content\":\"t\"}]");
    const cohort_conversation conversation = {.messages = messages};
    char *text = NULL;
    size_t size;
    bool is_refused = cohort_chat_render(server->chat, &conversation, &text, &size) < 0;
    free(text);
    cJSON_Delete(messages);
    return is_refused;
}

bool cohort_messages_read(const cohort_server *server, cohort_api_request *api,
                          cohort_api_error *error) {
    bool merges = cohort_messages_have_system(api) && wants_system_first(server);
    return cohort_messages_translate(api, merges, error);
}

static bool translate(cohort_generation *generation, cohort_api_error *error) {
    generation->own = calloc(1, sizeof(blocks));
    if (!generation->own) return cohort_api_refuse(error, 503, NULL, "out of memory");
    return cohort_messages_read(generation->server, &generation->api, error);
}

/* ---- what both answers have -------------------------------------------------------- */

/* What was cached is not among the input, as Anthropic counts. */
static void write_usage(const cohort_generation *generation, cohort_body *out) {
    const cohort_usage sum = cohort_generation_usage(generation, NULL);
    int64_t n_cached = sum.n_cached > 0 ? sum.n_cached : 0;
    cohort_body_printf(out, "\"usage\":{\"input_tokens\":%lld,\"output_tokens\":%lld",
                       (long long)(sum.n_prompt - n_cached), (long long)sum.n_completion);
    if (sum.n_cached >= 0)
        cohort_body_printf(out, ",\"cache_read_input_tokens\":%lld", (long long)n_cached);
    cohort_body_puts(out, "}");
}

static void write_head(const cohort_generation *generation, const char *content,
                       size_t size, cohort_body *out) {
    cohort_body_puts(out, "{\"id\":");
    cohort_body_json(out, generation->id.bytes, generation->id.size);
    cohort_body_puts(out, ",\"type\":\"message\",\"role\":\"assistant\",\"content\":[");
    cohort_body_add(out, content, size);
    cohort_body_puts(out, "],\"model\":");
    cohort_body_json_or_null(out, generation->server->options.served_names[0]);
}

/* calls: a call was made, and all of it is there. */
static const char *stop_reason(const cohort_server_choice *choice, bool calls,
                               const char **out_sequence) {
    *out_sequence = NULL;
    if (choice->finish_reason == COHORT_FINISH_LENGTH) return "max_tokens";
    if (choice->finish_reason != COHORT_FINISH_STOP) return NULL;
    if (calls) return "tool_use";
    *out_sequence = choice->stop_string;
    return choice->stop_string ? "stop_sequence" : "end_turn";
}

static void write_signature(cohort_body *out) {
    char drawn[2][17];
    cohort_draw_id(drawn[0]);
    cohort_draw_id(drawn[1]);
    cohort_body_printf(out, "\"signature\":\"%s%s\"", drawn[0], drawn[1]);
}

static void write_text(const cohort_body *text, cohort_body *out) {
    cohort_body_json(out, text->size ? text->bytes : "", text->size);
}

/* ---- the whole answer -------------------------------------------------------------- */

/* json_text.h keeps what JSON has no number for as it was written. */
static bool has_only_numbers(const cJSON *json) {
    const char *written = cJSON_IsNumber(json) ? json->valuestring : NULL;
    const cJSON *item;
    if (written && strpbrk(written, "NI")) return false; /* NaN, Infinity */
    cJSON_ArrayForEach(item, json) { /* no deeper than json_text.h lets them be */
        if (!has_only_numbers(item)) return false;
    }
    return true;
}

/* An object as it is, or {}: some formats pass on whatever the model wrote, which must
 * not end the answer's own JSON. */
static void write_input(const char *text, size_t size, cohort_body *out) {
    cohort_chat_json_fault fault;
    cJSON *json = NULL;
    bool fine = cohort_chat_json_load(text, size, &json, &fault) &&
                cJSON_IsObject(json) && has_only_numbers(json);
    cJSON_Delete(json);
    if (fine)
        cohort_body_add(out, text, size);
    else
        cohort_body_puts(out, "{}");
}

static void write_calls(const cohort_message *message, cohort_body *out) {
    for (size_t i = 0; i < message->n_pieces; i++) {
        const cohort_call_piece *piece = &message->pieces[i];
        const char *text = message->call_text.bytes + piece->begin;
        if (!piece->is_name) { /* in a whole message all of the arguments */
            cohort_body_puts(out, ",\"input\":");
            write_input(text, piece->size, out);
            cohort_body_puts(out, "}");
            continue;
        }
        cohort_body_printf(out, "%s{\"type\":\"tool_use\",\"id\":\"%s\",\"name\":",
                           out->size ? "," : "", piece->id);
        cohort_body_json(out, text, piece->size);
    }
}

static void write_content(const cohort_generation *generation,
                          const cohort_message *message, cohort_body *out) {
    if (message->reasoning.size && !generation->hides_reasoning) {
        cohort_body_puts(out, "{\"type\":\"thinking\",\"thinking\":");
        write_text(&message->reasoning, out);
        cohort_body_puts(out, ",");
        write_signature(out);
        cohort_body_puts(out, "}");
    }
    if (message->content.size) {
        cohort_body_puts(out, out->size ? ",{\"type\":\"text\",\"text\":"
                                        : "{\"type\":\"text\",\"text\":");
        write_text(&message->content, out);
        cohort_body_puts(out, "}");
    }
    write_calls(message, out);
    /* Clients look at the first block. */
    if (!out->size) cohort_body_puts(out, "{\"type\":\"text\",\"text\":\"\"}");
    out->is_short |= message->content.is_short || message->call_text.is_short;
}

static void write_answer(cohort_generation *generation, cohort_body *out) {
    const cohort_server_choice *choice = &generation->choices[0];
    cohort_body content = {0};
    const char *sequence;
    write_content(generation, &choice->message, &content);
    write_head(generation, content.bytes, content.size, out);
    out->is_short |= content.is_short;
    cohort_body_deinit(&content);
    const char *reason = stop_reason(choice, choice->message.has_calls, &sequence);
    if (reason) cohort_body_printf(out, ",\"stop_reason\":\"%s\"", reason);
    if (sequence) {
        cohort_body_puts(out, ",\"stop_sequence\":");
        cohort_body_json_or_null(out, sequence);
    }
    cohort_body_puts(out, ",");
    write_usage(generation, out);
    cohort_body_puts(out, "}");
}

/* ---- a stream ---------------------------------------------------------------------- */

static void begin_event(const char *type, cohort_body *out) {
    cohort_body_printf(out, "event: %s\ndata: {\"type\":\"%s\"", type, type);
}

static void end_event(const blocks *self, cohort_body *out) {
    cohort_body_printf(out, ",\"index\":%d}\n\n", self->index);
}

static void begin_stream(cohort_generation *generation) {
    cohort_body *out = cohort_generation_empty_chunk(generation);
    begin_event("message_start", out);
    cohort_body_puts(out, ",\"message\":");
    write_head(generation, "", 0, out);
    cohort_body_puts(out, ",\"stop_reason\":null,\"stop_sequence\":null,");
    write_usage(generation, out);
    cohort_body_puts(out, "}}\n\n");
    cohort_exchange_push(generation->exchange, out);
}

static void close_block(blocks *self, cohort_body *out) {
    if (self->open == NO_BLOCK) return;
    if (self->open == THINKING) {
        begin_event("content_block_delta", out);
        cohort_body_puts(out, ",\"delta\":{\"type\":\"signature_delta\",");
        write_signature(out);
        cohort_body_puts(out, "}");
        end_event(self, out);
    }
    begin_event("content_block_stop", out);
    end_event(self, out);
    self->open = NO_BLOCK;
    self->index++;
}

static void open_block(blocks *self, block_kind kind, const cohort_message *message,
                       const cohort_call_piece *piece, cohort_body *out) {
    close_block(self, out);
    self->open = kind;
    begin_event("content_block_start", out);
    cohort_body_puts(out, ",\"content_block\":");
    if (kind == TOOL_USE) {
        cohort_body_printf(out,
                           "{\"type\":\"tool_use\",\"id\":\"%s\",\"name\":", piece->id);
        cohort_body_json(out, message->call_text.bytes + piece->begin, piece->size);
        cohort_body_puts(out, ",\"input\":{}}");
        self->has_use = true;
        self->arguments.size = 0;
    } else {
        cohort_body_puts(out, kind == TEXT ? "{\"type\":\"text\",\"text\":\"\"}"
                                           : "{\"type\":\"thinking\",\"thinking\":\"\"}");
    }
    end_event(self, out);
}

static void write_delta(const blocks *self, const char *text, size_t size,
                        cohort_body *out) {
    static const char *const types[] = {
        [THINKING] = "thinking_delta\",\"thinking",
        [TEXT] = "text_delta\",\"text",
        [TOOL_USE] = "input_json_delta\",\"partial_json",
    };
    begin_event("content_block_delta", out);
    cohort_body_printf(out, ",\"delta\":{\"type\":\"%s\":", types[self->open]);
    cohort_body_json(out, text, size);
    cohort_body_puts(out, "}");
    end_event(self, out);
}

static void add_text(blocks *self, block_kind kind, const cohort_body *text,
                     cohort_body *out) {
    if (!text->size) return;
    if (self->open != kind) open_block(self, kind, NULL, NULL, out);
    write_delta(self, text->bytes, text->size, out);
}

static void add_output(cohort_generation *generation, cohort_server_choice *choice,
                       const cohort_completion *completion) {
    blocks *self = blocks_of(generation);
    cohort_message *message = &choice->message;
    if (!cohort_generation_take_chat(generation, choice, completion) ||
        !generation->params.is_stream)
        return;
    cohort_body *out = cohort_generation_empty_chunk(generation);
    if (!generation->hides_reasoning) add_text(self, THINKING, &message->reasoning, out);
    add_text(self, TEXT, &message->content, out);
    for (size_t i = 0; i < message->n_pieces; i++) {
        const cohort_call_piece *piece = &message->pieces[i];
        const char *text = message->call_text.bytes + piece->begin;
        if (piece->is_name) {
            open_block(self, TOOL_USE, message, piece, out);
            continue;
        }
        cohort_body_add(&self->arguments, text, piece->size);
        write_delta(self, text, piece->size, out);
    }
    out->is_short |= message->content.is_short || message->call_text.is_short;
    cohort_message_clear(message);
    if (out->size) cohort_exchange_push(generation->exchange, out);
    cohort_generation_count_own(generation, self->arguments.capacity);
}

/* A stop string may have cut the last call short: that must not run. */
static bool has_whole_call(const blocks *self) {
    if (!self->has_use || !self->arguments.size) return false;
    cJSON *json = cJSON_ParseWithLength(self->arguments.bytes, self->arguments.size);
    cJSON_Delete(json);
    return json != NULL;
}

static void end_stream(cohort_generation *generation) {
    const cohort_server_choice *choice = &generation->choices[0];
    cohort_body *out = cohort_generation_empty_chunk(generation);
    blocks *self = blocks_of(generation);
    const char *sequence;
    bool calls = has_whole_call(self) || (self->has_use && !choice->stop_string);
    const char *reason = stop_reason(choice, calls, &sequence);
    close_block(self, out);
    begin_event("message_delta", out);
    cohort_body_puts(out, ",\"delta\":{\"stop_reason\":");
    cohort_body_json_or_null(out, reason);
    cohort_body_puts(out, ",\"stop_sequence\":");
    cohort_body_json_or_null(out, sequence);
    cohort_body_puts(out, "},");
    write_usage(generation, out);
    cohort_body_puts(out, "}\n\n");
    begin_event("message_stop", out);
    cohort_body_puts(out, "}\n\n");
    cohort_exchange_push(generation->exchange, out);
}

static void break_stream(cohort_generation *generation, const cohort_api_error *error) {
    cohort_body *out = cohort_generation_empty_chunk(generation);
    cohort_body_puts(out, "event: error\ndata: ");
    cohort_api_error_write(error, out);
    cohort_body_puts(out, "\n\n");
    cohort_exchange_push(generation->exchange, out);
}

/* ---- the route --------------------------------------------------------------------- */

static const cohort_generation_kind kind = {
    .schema = COHORT_SCHEMA_MESSAGES,
    .id_prefix = "chatcmpl",
    .object = "message",
    .is_chat = true,
    .error_shape = COHORT_ERROR_ANTHROPIC,
    .idle = "event: ping\ndata: {\"type\": \"ping\"}\n\n",
    .translate = translate,
    .discard = discard,
    .read = cohort_generation_read_chat,
    .begin = begin_stream,
    .add = add_output,
    .write_answer = write_answer,
    .end_stream = end_stream,
    .break_stream = break_stream};

void cohort_serve_messages(cohort_server *server, cohort_exchange *exchange) {
    cohort_generation_serve(server, exchange, &kind);
}
