/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "chat/chat.h"
#include "server/generation.h"

/* /v1/chat/completions: messages in, chat.completion out. */

/* ---- the prompt -------------------------------------------------------------------- */

/* A part that only a model with eyes or ears could take. */
static bool has_media(const cJSON *messages) {
    const cJSON *message, *part;
    cJSON_ArrayForEach(message, messages) {
        cJSON_ArrayForEach(part, cJSON_GetObjectItem(message, "content")) {
            const char *type = cJSON_GetStringValue(cJSON_GetObjectItem(part, "type"));
            if (type &&
                (strstr(type, "image") || strstr(type, "audio") || strstr(type, "video")))
                return true;
        }
    }
    return false;
}

/* What went wrong, without the line of ours that says so: templates speak to clients. */
static bool refuse_render(cohort_api_error *error) {
    char message[COHORT_ERROR_MESSAGE_BYTES];
    memcpy(message, cohort_last_error()->message, sizeof message);
    char *place = strstr(message, " (src/");
    if (place) *place = '\0';
    return cohort_api_refuse(error, 400, NULL, "%s", message);
}

static bool check(const cohort_generation *generation, cohort_api_error *error) {
    const cohort_api_request *api = &generation->api;
    const char *choice =
        api->tool_choice.is_set ? cJSON_GetStringValue(api->tool_choice.json) : NULL;
    bool has_tools = api->tools.is_set && cJSON_GetArraySize(api->tools.json);
    if (!generation->server->chat)
        return cohort_api_refuse(
            error, 400, NULL,
            "As of transformers v4.44, default chat template is no longer allowed, so "
            "you "
            "must provide a chat template if the tokenizer does not define one.");
    if (has_media(api->messages.json))
        return cohort_api_refuse(error, 400, NULL, "%s is not a multimodal model",
                                 generation->server->options.served_names[0]);
    if (api->chat_template.is_set)
        return cohort_api_refuse(error, 400, NULL,
                                 "Chat template is passed with request, but templates of "
                                 "requests are not trusted; start with --chat-template.");
    if (has_tools && (!api->tool_choice.is_set || (choice && !strcmp(choice, "auto"))))
        return cohort_api_refuse(
            error, 400, NULL,
            "\"auto\" tool choice requires --enable-auto-tool-choice "
            "and --tool-call-parser to be set");
    if (has_tools && !(choice && !strcmp(choice, "none")))
        return cohort_api_refuse(error, 400, "tool_choice",
                                 "tool_choice is supported as 'none' only");
    if (api->add_generation_prompt.whole && api->continue_final_message.whole)
        return cohort_api_refuse(error, 400, NULL,
                                 "Cannot set both `continue_final_message` and "
                                 "`add_generation_prompt` to True.");
    return true;
}

static bool read_prompt(cohort_generation *generation, cohort_api_error *error) {
    const cohort_api_request *api = &generation->api;
    const cohort_conversation conversation = {
        .messages = api->messages.json,
        .tools = api->tools.is_set ? api->tools.json : NULL,
        .extra = api->chat_template_kwargs.is_set ? api->chat_template_kwargs.json : NULL,
        .add_generation_prompt = api->add_generation_prompt.whole,
        .continue_final_message = api->continue_final_message.whole};
    char *text;
    size_t size;
    if (!cohort_generation_set_prompts(generation, 1, error)) return false;
    if (cohort_chat_render(generation->server->chat, &conversation, &text, &size) < 0)
        return refuse_render(error);
    cohort_prompt *prompt = &generation->prompts[0];
    bool done = cohort_generation_tokenize(generation, prompt, text, size,
                                           api->add_special_tokens.whole, error);
    free(text);
    return done && cohort_generation_check_prompt(generation, prompt, error);
}

/* ---- what both answers have -------------------------------------------------------- */

static void write_logprobs(const cohort_generation *generation, cohort_choice *choice,
                           cohort_body *out) {
    cohort_body_puts(out, ",\"logprobs\":");
    if (generation->params.request.sampling.n_logprobs >= 0)
        cohort_logprobs_take_chat(&choice->logprobs, out);
    else
        cohort_body_puts(out, "null");
    cohort_body_puts(out, ",");
}

static void write_ids(const cohort_generation *generation, const cohort_choice *choice,
                      cohort_body *out) {
    cohort_body_puts(out, ",\"token_ids\":");
    if (generation->returns_token_ids)
        cohort_body_printf(out, "[%s]",
                           choice->token_ids.size ? choice->token_ids.bytes : "");
    else
        cohort_body_puts(out, "null");
}

static void write_prompt_ids(const cohort_generation *generation, cohort_body *out) {
    const cohort_prompt *prompt = &generation->prompts[0];
    cohort_body_puts(out, ",\"prompt_token_ids\":");
    if (generation->returns_token_ids)
        cohort_body_json_ids(out, prompt->ids, prompt->n_ids);
    else
        cohort_body_puts(out, "null");
    cohort_body_puts(out, ",\"prompt_text\":null");
}

/* ---- a stream ---------------------------------------------------------------------- */

/* The role of every choice comes first. */
static void begin_stream(cohort_generation *generation) {
    for (int32_t i = 0; i < generation->n_choices; i++) {
        cohort_body more = {0};
        cohort_generation_open_chunk(generation);
        cohort_body_printf(&generation->chunk,
                           "{\"index\":%d,\"delta\":{\"role\":\"assistant\",\"content\":"
                           "\"\"},\"logprobs\":null,\"finish_reason\":null}",
                           i);
        write_prompt_ids(generation, &more);
        cohort_generation_close_chunk(generation, false, more.bytes);
        cohort_body_deinit(&more);
    }
}

static void push_chunk(cohort_generation *generation, cohort_choice *choice) {
    cohort_body *out = &generation->chunk;
    cohort_generation_open_chunk(generation);
    cohort_body_printf(out, "{\"index\":%d,\"delta\":{\"content\":", choice->index);
    cohort_body_json(out, choice->text.size ? choice->text.bytes : "", choice->text.size);
    cohort_body_puts(out, "}");
    write_logprobs(generation, choice, out);
    cohort_generation_write_reason(choice, true, out);
    write_ids(generation, choice, out);
    cohort_body_puts(out, "}");
    cohort_generation_close_chunk(generation, choice->finish_reason != COHORT_FINISH_NONE,
                                  NULL);
    choice->text.size = choice->token_ids.size = 0;
}

static void add_output(cohort_generation *generation, cohort_choice *choice,
                       const cohort_completion *completion) {
    cohort_body_add(&choice->text, completion->text, completion->text_bytes);
    for (int32_t i = 0; i < completion->n_token_ids; i++) {
        if (completion->logprobs)
            cohort_logprobs_add_chat(generation, &choice->logprobs,
                                     &completion->logprobs[i]);
        if (generation->returns_token_ids)
            cohort_body_printf(&choice->token_ids, choice->token_ids.size ? ",%d" : "%d",
                               completion->token_ids[i]);
    }
    if (generation->params.is_stream) push_chunk(generation, choice);
}

/* ---- the whole answer -------------------------------------------------------------- */

static void write_choice(cohort_generation *generation, cohort_choice *choice,
                         cohort_body *out) {
    cohort_body_printf(
        out,
        "{\"index\":%d,\"message\":{\"role\":\"assistant\",\"content\":", choice->index);
    cohort_body_json(out, choice->text.size ? choice->text.bytes : "", choice->text.size);
    cohort_body_puts(out, ",\"refusal\":null,\"annotations\":null,\"audio\":null,"
                          "\"function_call\":null,\"reasoning\":null}");
    write_logprobs(generation, choice, out);
    cohort_generation_write_reason(choice, false, out);
    write_ids(generation, choice, out);
    cohort_body_puts(out, ",\"routed_experts\":null}");
}

static void write_answer(cohort_generation *generation, cohort_body *out) {
    const cohort_prompt *prompt = &generation->prompts[0];
    cohort_generation_write_head(generation, out);
    for (int32_t i = 0; i < generation->n_choices; i++) {
        if (i) cohort_body_puts(out, ",");
        write_choice(generation, &generation->choices[i], out);
    }
    cohort_body_puts(out, "],");
    cohort_generation_write_tail(generation, out);
    cohort_body_puts(out, ",\"prompt_logprobs\":");
    if (prompt->logprobs.size)
        cohort_body_add(out, prompt->logprobs.bytes, prompt->logprobs.size);
    else
        cohort_body_puts(out, "null");
    write_prompt_ids(generation, out);
    cohort_body_puts(out, ",\"kv_transfer_params\":null,\"ec_transfer_params\":null,"
                          "\"metrics\":null}");
}

/* ---- the route --------------------------------------------------------------------- */

static const cohort_generation_kind kind = {.schema = COHORT_SCHEMA_CHAT,
                                            .id_prefix = "chatcmpl",
                                            .object = "chat.completion",
                                            .chunk_object = "chat.completion.chunk",
                                            .is_chat = true,
                                            .begin = begin_stream,
                                            .add = add_output,
                                            .finish = write_answer};

void cohort_serve_chat(cohort_server *server, cohort_exchange *exchange) {
    cohort_api_error error = {0};
    cohort_generation *generation =
        cohort_generation_create(server, exchange, &kind, &error);
    if (!generation || !check(generation, &error) || !read_prompt(generation, &error) ||
        !cohort_generation_start(generation, &error)) {
        cohort_reply_error(exchange, &error);
        cohort_generation_destroy(generation);
    }
}
