/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "server/generation.h"

/* /v1/chat/completions: messages in, chat.completion out. */

/* ---- the prompt -------------------------------------------------------------------- */

/* Whose turn it is: where no other begins, that of the last message goes on; and, with
 * "echo", what that says. */
static bool read_turn(cohort_generation *generation, cohort_api_error *error) {
    const cohort_api_request *api = &generation->api;
    const cJSON *messages = api->messages.json, *part;
    const cJSON *last = cJSON_GetArrayItem(messages, cJSON_GetArraySize(messages) - 1);
    const cJSON *content = cJSON_GetObjectItemCaseSensitive(last, "content");
    const char *role =
                   cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(last, "role")),
               *text;
    const char *next = generation->server->options.response_role;
    cohort_body *echo = &generation->echo;
    if (!api->add_generation_prompt.whole && role) next = role;
    cohort_body_puts(&generation->role, next);
    if (generation->params.echoes && role && !strcmp(role, next)) {
        if (cJSON_IsString(content)) cohort_body_puts(echo, content->valuestring);
        if (!cJSON_IsArray(content)) content = NULL;
        cJSON_ArrayForEach(part, content) {
            text = cJSON_GetStringValue(
                cJSON_IsString(part) ? part
                                     : cJSON_GetObjectItemCaseSensitive(part, "text"));
            if (text && part != content->child) cohort_body_puts(echo, "\n");
            if (text) cohort_body_puts(echo, text);
        }
    }
    return (!generation->role.is_short && !echo->is_short) ||
           cohort_api_refuse(error, 503, NULL, "out of memory");
}

static bool read_prompt(cohort_generation *generation, cohort_api_error *error) {
    return cohort_generation_read_chat(generation, error) && read_turn(generation, error);
}

/* ---- what both answers have -------------------------------------------------------- */

bool cohort_generation_shows_logprobs(const cohort_generation *generation) {
    return generation->params.request.sampling.n_logprobs >= 0 &&
           !generation->hides_reasoning;
}

static void write_logprobs(const cohort_generation *generation,
                           cohort_server_choice *choice, cohort_body *out) {
    cohort_body_puts(out, ",\"logprobs\":");
    if (cohort_generation_shows_logprobs(generation))
        cohort_logprobs_take_chat(&choice->logprobs, out);
    else
        cohort_body_puts(out, "null");
    cohort_body_puts(out, ",");
}

static void write_prompt(const cohort_generation *generation, cohort_body *out) {
    const cohort_prompt *prompt = &generation->prompts[0];
    cohort_generation_write_prompt_ids(prompt, generation->returns_token_ids, out);
    cohort_body_puts(out, ",\"prompt_text\":");
    if (prompt->text)
        cohort_body_json(out, prompt->text, prompt->text_bytes);
    else
        cohort_body_puts(out, "null");
}

/* ---- a stream ---------------------------------------------------------------------- */

/* The role of every choice comes first. */
static void begin_stream(cohort_generation *generation) {
    const cohort_body *role = &generation->role;
    for (int32_t i = 0; i < generation->n_choices; i++) {
        cohort_body more = {0};
        cohort_body *out = cohort_generation_open_chunk(generation);
        cohort_body_printf(out, "{\"index\":%d,\"delta\":{\"role\":", i);
        cohort_body_json(out, role->bytes, role->size);
        cohort_body_puts(out, ",\"content\":\"\"},\"logprobs\":null,"
                              "\"finish_reason\":null}");
        write_prompt(generation, &more);
        cohort_generation_close_chunk(generation, &generation->choices[i], false,
                                      more.bytes);
        cohort_body_deinit(&more);
    }
    const cohort_body *echo = &generation->echo;
    for (int32_t i = 0; echo->size && i < generation->n_choices; i++) {
        cohort_body *out = cohort_generation_open_chunk(generation);
        cohort_body_printf(out, "{\"index\":%d,\"delta\":{\"content\":", i);
        cohort_body_json(out, echo->bytes, echo->size);
        cohort_body_puts(out, "},\"logprobs\":null,\"finish_reason\":null}");
        cohort_generation_close_chunk(generation, &generation->choices[i], false, NULL);
    }
}

/* Calls of named functions end as the model does. */
static bool ends_by_calls(const cohort_generation *generation,
                          const cohort_server_choice *choice) {
    cohort_tool_choice asked = generation->params.tool_choice;
    if (asked == COHORT_TOOLS_NAMED || choice->finish_reason == COHORT_FINISH_NONE)
        return false;
    bool is_stop = choice->finish_reason == COHORT_FINISH_STOP;
    if (generation->params.is_stream) return choice->message.has_calls && is_stop;
    return asked == COHORT_TOOLS_REQUIRED ? is_stop : choice->message.has_calls;
}

/* {"content":...,"reasoning":...,"tool_calls":[...]}: what there is of them. */
static void write_delta(const cohort_generation *generation,
                        const cohort_message *message, cohort_body *out) {
    const cohort_body *content = &message->content, *reasoning = &message->reasoning;
    bool shows = reasoning->size && !generation->hides_reasoning;
    const char *comma = "";
    cohort_body_puts(out, "{");
    if (content->size || message->n_pieces || !generation->is_parsed) {
        cohort_body_puts(out, "\"content\":");
        if (content->size || !message->n_pieces)
            cohort_body_json(out, content->size ? content->bytes : "", content->size);
        else
            cohort_body_puts(out, "null");
        comma = ",";
    }
    if (shows || (*comma && generation->hides_reasoning)) {
        cohort_body_printf(out, "%s\"reasoning\":", comma);
        if (shows)
            cohort_body_json(out, reasoning->bytes, reasoning->size);
        else
            cohort_body_puts(out, "null");
        comma = ",";
    }
    if (message->n_pieces) {
        cohort_body_printf(out, "%s\"tool_calls\":[", comma);
        cohort_message_write_calls(message, out);
        cohort_body_puts(out, "]");
    }
    cohort_body_puts(out, "}");
}

static void push_chunk(cohort_generation *generation, cohort_server_choice *choice) {
    cohort_body *out = cohort_generation_open_chunk(generation);
    cohort_body_puts(out, "{\"index\":");
    cohort_body_whole(out, choice->index);
    cohort_body_puts(out, ",\"delta\":");
    write_delta(generation, &choice->message, out);
    write_logprobs(generation, choice, out);
    cohort_generation_write_reason(choice, true, ends_by_calls(generation, choice), out);
    cohort_generation_write_ids(generation, choice, out);
    cohort_body_puts(out, "}");
    cohort_generation_close_chunk(generation, choice,
                                  choice->finish_reason != COHORT_FINISH_NONE, NULL);
    cohort_message_clear(&choice->message);
    choice->token_ids.size = 0;
}

/* A delta that says nothing yet waits, but for tokens that somebody counts. */
static bool has_chunk(const cohort_generation *generation,
                      const cohort_server_choice *choice) {
    const cohort_message *message = &choice->message;
    return !generation->is_parsed || choice->finish_reason != COHORT_FINISH_NONE ||
           message->content.size || message->n_pieces ||
           (message->reasoning.size && !generation->hides_reasoning) ||
           cohort_generation_shows_logprobs(generation) || generation->returns_token_ids;
}

bool cohort_generation_take_chat(cohort_generation *generation,
                                 cohort_server_choice *choice,
                                 const cohort_completion *completion) {
    bool is_last = completion->finish_reason != COHORT_FINISH_NONE;
    bool has_logprobs =
        completion->logprobs && cohort_generation_shows_logprobs(generation);
    for (int32_t i = 0; has_logprobs && i < completion->n_token_ids; i++)
        cohort_logprobs_add_chat(generation, &choice->logprobs, &completion->logprobs[i]);
    cohort_body_add(&choice->text, completion->text, completion->text_bytes);
    choice->n_unread += completion->n_token_ids;
    if (generation->params.is_stream && !cohort_generation_is_due(generation, choice))
        return false;
    cohort_message_add(&choice->message, choice->text.bytes, choice->text.size,
                       choice->n_unread, is_last);
    choice->message.content.is_short |= choice->text.is_short;
    choice->text.size = 0;
    choice->n_unread = 0;
    return true;
}

static void add_output(cohort_generation *generation, cohort_server_choice *choice,
                       const cohort_completion *completion) {
    if (!cohort_generation_take_chat(generation, choice, completion) ||
        !generation->params.is_stream)
        return;
    if (has_chunk(generation, choice))
        push_chunk(generation, choice);
    else
        cohort_message_clear(&choice->message);
}

/* ---- the whole answer -------------------------------------------------------------- */

static void write_choice(cohort_generation *generation, cohort_server_choice *choice,
                         cohort_body *out) {
    const cohort_body *role = &generation->role;
    cohort_message *message = &choice->message;
    cohort_body said = {0};
    cohort_body_add(&said, generation->echo.bytes, generation->echo.size);
    cohort_body_add(&said, message->content.bytes, message->content.size);
    /* Beside calls or thoughts there may be none; nothing at all is an empty text. */
    bool is_null =
        !said.size &&
        (message->n_pieces || (generation->is_parsed && generation->server->reasoning)) &&
        generation->params.tool_choice < COHORT_TOOLS_REQUIRED;
    cohort_body_printf(out, "{\"index\":%d,\"message\":{\"role\":", choice->index);
    cohort_body_json(out, role->bytes, role->size);
    cohort_body_puts(out, ",\"content\":");
    if (is_null)
        cohort_body_puts(out, "null");
    else
        cohort_body_json(out, said.size ? said.bytes : "", said.size);
    cohort_body_deinit(&said);
    cohort_body_puts(out, ",\"refusal\":null,\"annotations\":null,\"audio\":null,"
                          "\"function_call\":null,");
    if (message->n_pieces) {
        cohort_body_puts(out, "\"tool_calls\":[");
        cohort_message_write_calls(message, out);
        cohort_body_puts(out, "],");
    }
    cohort_body_puts(out, "\"reasoning\":");
    if (message->reasoning.size && !generation->hides_reasoning)
        cohort_body_json(out, message->reasoning.bytes, message->reasoning.size);
    else
        cohort_body_puts(out, "null");
    cohort_body_puts(out, "}");
    write_logprobs(generation, choice, out);
    cohort_generation_write_reason(choice, false, ends_by_calls(generation, choice), out);
    cohort_generation_write_ids(generation, choice, out);
    cohort_body_puts(out, ",\"routed_experts\":null}");
}

static void write_more(const cohort_generation *generation, cohort_body *out) {
    cohort_generation_write_prompt_logprobs(&generation->prompts[0], out);
    write_prompt(generation, out);
}

/* ---- the route --------------------------------------------------------------------- */

static const cohort_generation_kind kind = {.schema = COHORT_SCHEMA_CHAT,
                                            .id_prefix = "chatcmpl",
                                            .object = "chat.completion",
                                            .chunk_object = "chat.completion.chunk",
                                            .is_chat = true,
                                            .write_answer = cohort_choices_write_answer,
                                            .end_stream = cohort_choices_end_stream,
                                            .break_stream = cohort_choices_break_stream,
                                            .read = read_prompt,
                                            .begin = begin_stream,
                                            .add = add_output,
                                            .write_choice = write_choice,
                                            .write_more = write_more};

void cohort_serve_chat(cohort_server *server, cohort_exchange *exchange) {
    cohort_generation_serve(server, exchange, &kind);
}
