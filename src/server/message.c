/* SPDX-License-Identifier: Apache-2.0 */
#include "server/message.h"

#include <string.h>

#include "server/server_internal.h"

/* Design notes.
 *
 * Calls of a stream are told as they come.  Those of a whole message are looked for at
 * the end, in all of the content: where one of them is broken it stays content, as in
 * vLLM. */

static void begin_call(cohort_message *message, int32_t call) {
    char id[17];
    cohort_draw_id(id);
    if (message->calls.size) cohort_body_puts(&message->calls, ",");
    cohort_body_printf(&message->calls,
                       "{\"id\":\"chatcmpl-tool-%s\",\"type\":\"function\",", id);
    if (message->options.is_stream)
        cohort_body_printf(&message->calls, "\"index\":%d,", call);
    cohort_body_puts(&message->calls, "\"function\":{\"name\":");
}

static void add_call(cohort_message *message, int32_t call, const char *name,
                     size_t size) {
    begin_call(message, call);
    cohort_body_json(&message->calls, name, size);
    if (message->options.is_stream) cohort_body_puts(&message->calls, "}}");
    message->has_calls = true;
}

/* In a whole message right behind the name. */
static void add_arguments(cohort_message *message, int32_t call, const char *text,
                          size_t size) {
    cohort_body *out = &message->calls;
    if (!message->options.is_stream)
        cohort_body_puts(out, ",\"arguments\":");
    else
        cohort_body_printf(out, "%s{\"index\":%d,\"function\":{\"arguments\":",
                           out->size ? "," : "", call);
    cohort_body_json(out, text, size);
    cohort_body_puts(out, "}}");
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
    else if (kind == COHORT_OUTPUT_CALL)
        add_call(message, call, text, size);
    else
        add_arguments(message, call, text, size);
}

bool cohort_message_open(cohort_message *message, const cohort_message_options *options) {
    const cohort_output_options output = {
        .reasoning = options->reasoning,
        .begins_in_content = options->begins_in_content,
        .only_calls = options->only_calls && options->is_stream,
        .finds_calls = options->finds_calls && options->is_stream};
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
    if (is_last && message->options.finds_calls && !message->options.is_stream)
        find_calls(message);
}

void cohort_message_clear(cohort_message *message) {
    message->content.size = message->reasoning.size = message->calls.size = 0;
}

void cohort_message_deinit(cohort_message *message) {
    cohort_output_destroy(message->output);
    cohort_body_deinit(&message->content);
    cohort_body_deinit(&message->reasoning);
    cohort_body_deinit(&message->calls);
    *message = (cohort_message){0};
}
