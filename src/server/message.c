/* SPDX-License-Identifier: Apache-2.0 */
#include "server/message.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/grow.h"
#include "server/server_internal.h"

/* Design notes.
 *
 * Calls of a stream are told as they come.  Those of a whole message are looked for at
 * the end, in all of the content: where one of them is broken it stays content, as in
 * vLLM. */

static void add_piece(cohort_message *message, int32_t call, bool is_name,
                      const char *text, size_t size) {
    cohort_call_piece *grown = cohort_grow(message->pieces, message->n_pieces + 1,
                                           &message->pieces_capacity, sizeof *grown);
    message->call_text.is_short |= !grown;
    if (!grown) return;
    message->pieces = grown;
    cohort_call_piece *piece = &grown[message->n_pieces++];
    *piece = (cohort_call_piece){call, is_name, message->call_text.size, size, ""};
    cohort_body_add(&message->call_text, text, size);
    if (!is_name) return;
    char drawn[17];
    cohort_draw_id(drawn);
    if (cohort_output_format_has_short_ids(message->options.format))
        snprintf(piece->id, sizeof piece->id, "%.9s", drawn);
    else
        snprintf(piece->id, sizeof piece->id, "chatcmpl-tool-%s", drawn);
    message->has_calls = true;
}

/* The id that a model wrote, where it can stand in JSON as it is. */
static void take_id(cohort_message *message, const char *text, size_t size) {
    static const char others[] = "._:-";
    cohort_call_piece *piece =
        message->n_pieces ? &message->pieces[message->n_pieces - 1] : NULL;
    if (!piece || !piece->is_name || size >= sizeof piece->id) return;
    for (size_t i = 0; i < size; i++)
        if (!isalnum((unsigned char)text[i]) && !memchr(others, text[i], 4)) return;
    memcpy(piece->id, text, size);
    piece->id[size] = '\0';
}

static void take(void *user_data, cohort_output_kind kind, int32_t call, const char *text,
                 size_t size) {
    cohort_message *message = user_data;
    if (kind == COHORT_OUTPUT_REASONING)
        cohort_body_add(&message->reasoning, text, size);
    else if (kind == COHORT_OUTPUT_CONTENT)
        cohort_body_add(&message->content, text, size);
    else if (call > 0 && message->options.only_first_call)
        return;
    else if (kind == COHORT_OUTPUT_CALL_ID)
        take_id(message, text, size);
    else
        add_piece(message, call, kind == COHORT_OUTPUT_CALL, text, size);
}

/* What a grammar holds to calls is written in Hermes' format, whatever the model's. */
static bool has_own_format(const cohort_message_options *options) {
    return !cohort_output_format_is_hermes(options->format) && !options->only_calls;
}

bool cohort_message_open(cohort_message *message, const cohort_message_options *options) {
    bool is_formatted = has_own_format(options);
    bool is_told_at_once = options->is_stream || is_formatted;
    const cohort_output_options output = {
        .format = is_formatted ? options->format : NULL,
        .tools = options->tools,
        .reasoning = options->reasoning,
        .begins_in_content = options->begins_in_content,
        .only_calls = options->only_calls && options->is_stream,
        .finds_calls = options->finds_calls && is_told_at_once};
    message->options = *options;
    return cohort_output_create(&output, take, message, &message->output) >= 0;
}

static void find_calls(cohort_message *message) {
    cohort_body whole = message->content;
    message->content = (cohort_body){0};
    if (whole.size &&
        cohort_output_find_calls(whole.bytes, whole.size, message->options.only_calls,
                                 take, message))
        cohort_body_deinit(&whole);
    else
        message->content = whole;
}

void cohort_message_add(cohort_message *message, const char *text, size_t size,
                        int32_t n_tokens, bool is_last) {
    if (!message->output) {
        cohort_body_add(&message->content, text, size);
        return;
    }
    size_t before = message->reasoning.size;
    cohort_output_feed(message->output, text, size);
    if (is_last && cohort_output_finish(message->output) < 0)
        message->content.is_short = true;
    if (message->reasoning.size > before) message->n_reasoning_tokens += n_tokens;
    if (is_last && message->options.finds_calls && !message->options.is_stream &&
        !has_own_format(&message->options))
        find_calls(message);
}

/* In a whole message the arguments are right behind the name. */
static void write_piece(const cohort_message *message, const cohort_call_piece *piece,
                        cohort_body *out) {
    bool is_stream = message->options.is_stream;
    const char *text = message->call_text.bytes + piece->begin;
    if (piece->is_name) {
        cohort_body_printf(out, "{\"id\":\"%s\",\"type\":\"function\",", piece->id);
        if (is_stream) cohort_body_printf(out, "\"index\":%d,", piece->call);
        cohort_body_puts(out, "\"function\":{\"name\":");
    } else if (is_stream) {
        cohort_body_printf(out,
                           "{\"index\":%d,\"function\":{\"arguments\":", piece->call);
    } else {
        cohort_body_puts(out, ",\"arguments\":");
    }
    cohort_body_json(out, text, piece->size);
    if (is_stream || !piece->is_name) cohort_body_puts(out, "}}");
}

void cohort_message_write_calls(const cohort_message *message, cohort_body *out) {
    for (size_t i = 0; i < message->n_pieces; i++) {
        const cohort_call_piece *piece = &message->pieces[i];
        if (i && (piece->is_name || message->options.is_stream))
            cohort_body_puts(out, ",");
        write_piece(message, piece, out);
    }
    out->is_short |= message->call_text.is_short;
}

size_t cohort_message_bytes(const cohort_message *message) {
    return message->content.capacity + message->reasoning.capacity +
           message->call_text.capacity +
           message->pieces_capacity * sizeof *message->pieces;
}

void cohort_message_clear(cohort_message *message) {
    message->content.size = message->reasoning.size = message->call_text.size = 0;
    message->n_pieces = 0;
}

void cohort_message_deinit(cohort_message *message) {
    cohort_output_destroy(message->output);
    cohort_body_deinit(&message->content);
    cohort_body_deinit(&message->reasoning);
    cohort_body_deinit(&message->call_text);
    free(message->pieces);
    *message = (cohort_message){0};
}
