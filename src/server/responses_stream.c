/* SPDX-License-Identifier: Apache-2.0 */
#include "server/responses.h"

/* A stream of events, each of a type, numbered from 0.
 *
 *   created, in_progress, (item added, deltas, item done)*, completed
 *
 * One item is open at a time: thoughts, text or a call.  What comes of another kind
 * closes it first. */

static void begin_event(const char *type, cohort_body *out) {
    cohort_body_printf(out, "event: response.%s\ndata: {\"type\":\"response.%s\"", type,
                       type);
}

static void end_event(cohort_response *self, cohort_body *out) {
    cohort_body_puts(out, ",\"sequence_number\":");
    cohort_body_whole(out, self->sequence++);
    cohort_body_puts(out, "}\n\n");
}

/* Of the item under way. */
static void begin_item_event(const cohort_response *self, const char *type,
                             cohort_body *out) {
    bool has_parts =
        self->open == COHORT_ITEM_MESSAGE || self->open == COHORT_ITEM_REASONING;
    begin_event(type, out);
    if (has_parts) cohort_body_puts(out, ",\"content_index\":0");
    cohort_body_printf(out, ",\"item_id\":\"%s\",\"output_index\":", self->item_id);
    cohort_body_whole(out, self->n_items);
}

static void add_text(cohort_body *out, const char *name, const char *text, size_t size) {
    cohort_body_printf(out, ",\"%s\":", name);
    cohort_body_json(out, size ? text : "", size);
}

static void write_whole_item(cohort_response *self, const char *type, const char *status,
                             cohort_body *out) {
    begin_event(type, out);
    cohort_body_puts(out, ",\"output_index\":");
    cohort_body_whole(out, self->n_items);
    cohort_body_puts(out, ",\"item\":");
    cohort_response_write_item(self, status, out);
    end_event(self, out);
}

/* content_part.added and .done, with the text so far. */
static void write_part(cohort_response *self, const char *type, cohort_body *out) {
    bool is_message = self->open == COHORT_ITEM_MESSAGE;
    bool has_logprobs = self->logprobs.size;
    begin_item_event(self, type, out);
    cohort_body_puts(out, is_message ? ",\"part\":{\"annotations\":[]" : ",\"part\":{");
    cohort_body_puts(out, is_message ? ",\"text\":" : "\"text\":");
    cohort_body_json(out, self->said.size ? self->said.bytes : "", self->said.size);
    if (is_message)
        cohort_body_printf(out, ",\"type\":\"output_text\",\"logprobs\":[%s]}",
                           has_logprobs ? self->logprobs.bytes : "");
    else
        cohort_body_puts(out, ",\"type\":\"reasoning_text\"}");
    end_event(self, out);
}

void cohort_response_close_item(cohort_response *self, cohort_body *out) {
    static const char *const done[] = {
        [COHORT_ITEM_REASONING] = "reasoning_text.done",
        [COHORT_ITEM_MESSAGE] = "output_text.done",
        [COHORT_ITEM_CALL] = "function_call_arguments.done",
        [COHORT_ITEM_CUSTOM_CALL] = "custom_tool_call_input.done"};
    bool is_call = self->open == COHORT_ITEM_CALL;
    if (self->open == COHORT_ITEM_NONE) return;
    if (self->open == COHORT_ITEM_CUSTOM_CALL) {
        /* Its text is known once all of its JSON is. */
        begin_item_event(self, "custom_tool_call_input.delta", out);
        cohort_body_puts(out, ",\"delta\":");
        cohort_response_write_custom_input(&self->said, out);
        end_event(self, out);
        begin_item_event(self, done[self->open], out);
        cohort_body_puts(out, ",\"input\":");
        cohort_response_write_custom_input(&self->said, out);
    } else {
        begin_item_event(self, done[self->open], out);
        add_text(out, is_call ? "arguments" : "text", self->said.bytes, self->said.size);
        if (self->open == COHORT_ITEM_MESSAGE) cohort_body_puts(out, ",\"logprobs\":[]");
        if (is_call) add_text(out, "name", self->call_name.bytes, self->call_name.size);
    }
    end_event(self, out);
    if (self->open == COHORT_ITEM_MESSAGE || self->open == COHORT_ITEM_REASONING)
        write_part(self, "content_part.done", out);
    write_whole_item(self, "output_item.done", "completed", out);
    cohort_response_keep_item(self, "completed");
}

/* Text or thoughts that came. */
static void write_text(cohort_response *self, cohort_response_item kind,
                       const cohort_body *text, const cohort_body *logprobs,
                       cohort_body *out) {
    bool is_message = kind == COHORT_ITEM_MESSAGE;
    if (!text->size) return;
    if (self->open != kind) {
        cohort_response_close_item(self, out);
        cohort_response_open_item(self, kind);
        write_whole_item(self, "output_item.added", "in_progress", out);
        write_part(self, "content_part.added", out);
    }
    cohort_body_add(&self->said, text->bytes, text->size);
    begin_item_event(self, is_message ? "output_text.delta" : "reasoning_text.delta",
                     out);
    add_text(out, "delta", text->bytes, text->size);
    if (is_message)
        cohort_body_printf(out, ",\"logprobs\":[%s]",
                           logprobs->size ? logprobs->bytes : "");
    end_event(self, out);
    if (!is_message || !logprobs->size) return;
    if (self->logprobs.size) cohort_body_puts(&self->logprobs, ",");
    cohort_body_add(&self->logprobs, logprobs->bytes, logprobs->size);
}

static void write_call_piece(cohort_response *self, const cohort_message *message,
                             const cohort_call_piece *piece, cohort_body *out) {
    const char *text = message->call_text.bytes + piece->begin;
    if (piece->is_name) {
        cohort_response_close_item(self, out);
        cohort_response_begin_call(self, message, piece);
        write_whole_item(self, "output_item.added", "in_progress", out);
        return;
    }
    cohort_body_add(&self->said, text, piece->size);
    if (self->open == COHORT_ITEM_CUSTOM_CALL) return;
    begin_item_event(self, "function_call_arguments.delta", out);
    add_text(out, "delta", text, piece->size);
    end_event(self, out);
}

void cohort_response_write_deltas(cohort_generation *generation,
                                  cohort_server_choice *choice, cohort_body *out) {
    cohort_response *self = cohort_response_of(generation);
    const cohort_message *message = &choice->message;
    cohort_body *logprobs = &choice->logprobs.tokens;
    if (!generation->hides_reasoning)
        write_text(self, COHORT_ITEM_REASONING, &message->reasoning, NULL, out);
    write_text(self, COHORT_ITEM_MESSAGE, &message->content, logprobs, out);
    /* Those of text that is held back wait for its delta. */
    if (message->content.size || message->reasoning.size || message->n_pieces)
        logprobs->size = 0;
    for (size_t i = 0; i < message->n_pieces; i++)
        write_call_piece(self, message, &message->pieces[i], out);
    out->is_short |=
        message->content.is_short || message->call_text.is_short || self->said.is_short;
}

void cohort_response_write_event(cohort_generation *generation, const char *type,
                                 const char *status, const char *why, cohort_body *out) {
    begin_event(type, out);
    cohort_body_puts(out, ",\"response\":");
    cohort_response_write(generation, status, why, out);
    end_event(cohort_response_of(generation), out);
}
