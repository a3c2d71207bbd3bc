/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "server/generation.h"

/* /v1/completions: prompts as text or token ids in, text_completion out. */

/* ---- prompts ----------------------------------------------------------------------- */

/* Whoever is told the ids need not be told the text: vLLM's completion/serving.py. */
static bool shows_prompt(const cohort_generation *generation) {
    return generation->params.echoes && !generation->returns_token_ids;
}

static bool set_text(cohort_generation *generation, cohort_prompt *prompt,
                     const char *text, cohort_api_error *error) {
    size_t size = strlen(text);
    if (!cohort_generation_tokenize(generation, prompt, text, size,
                                    generation->api.add_special_tokens.whole, error))
        return false;
    if (!shows_prompt(generation)) return true;
    prompt->text = strdup(text);
    prompt->text_bytes = size;
    return prompt->text || cohort_api_refuse(error, 503, NULL, "out of memory");
}

static bool set_ids(cohort_generation *generation, cohort_prompt *prompt,
                    const cJSON *list, cohort_api_error *error) {
    const cJSON *item;
    prompt->ids = calloc((size_t)cJSON_GetArraySize(list) + 1, sizeof *prompt->ids);
    if (!prompt->ids) return cohort_api_refuse(error, 503, NULL, "out of memory");
    cJSON_ArrayForEach(item, list) {
        int64_t id = cohort_api_id(item);
        if (id < 0 || id >= generation->server->info.vocab_size)
            return cohort_api_refuse(error, 400, NULL,
                                     "Token id %lld is out of vocabulary", (long long)id);
        prompt->ids[prompt->n_ids++] = (int32_t)id;
    }
    if (!shows_prompt(generation)) return true;
    if (cohort_engine_detokenize(generation->server->engine, prompt->ids, prompt->n_ids,
                                 generation->params.request.skip_special_tokens,
                                 &prompt->text, &prompt->text_bytes) < 0)
        return cohort_api_refuse(error, 400, NULL, "%s", cohort_last_error()->message);
    return true;
}

static bool refuse_empty(cohort_api_error *error) {
    return cohort_api_refuse_value(
        error, "prompt", NULL,
        "Either prompt or prompt_embeds must be provided and non-empty.");
}

static bool read_prompts(cohort_generation *generation, cohort_api_error *error) {
    const cohort_api_request *api = &generation->api;
    if (api->suffix.is_set)
        return cohort_api_refuse(
            error, 400, "suffix",
            "suffix is only supported for models with FIM completion rendering");
    if (!api->prompt.is_set) return refuse_empty(error);
    const cJSON *json = api->prompt.json;
    const char *text = cJSON_GetStringValue(json);
    if (text && !*text) return refuse_empty(error);
    const cJSON *first = text ? NULL : json->child;
    if (!text && !first)
        return cohort_api_refuse(error, 400, NULL, "You must pass at least one prompt");
    /* A list of ids is one prompt; any other list is one prompt an item.  Strings alone
     * are texts, beside what is none they are numbers in quotes. */
    const cJSON *told = first;
    while (cJSON_IsString(told))
        told = told->next;
    bool is_single = text || (told && !cJSON_IsArray(told));
    size_t n = is_single ? 1 : (size_t)cJSON_GetArraySize(json);
    if (!cohort_generation_set_prompts(generation, n, error)) return false;
    const cJSON *item = is_single ? json : first;
    for (size_t i = 0; i < n; i++, item = item->next) {
        cohort_prompt *prompt = &generation->prompts[i];
        text = cJSON_GetStringValue(item);
        if (!(text ? set_text(generation, prompt, text, error)
                   : set_ids(generation, prompt, item, error)) ||
            !cohort_generation_check_prompt(generation, prompt, error))
            return false;
    }
    return true;
}

/* ---- answers ----------------------------------------------------------------------- */

static bool shows_logprobs(const cohort_generation *generation) {
    return generation->params.request.sampling.n_logprobs >= 0;
}

/* With an echo, those of the prompt's tokens come first in every choice. */
static bool echoes_logprobs(const cohort_generation *generation) {
    return generation->params.echoes && shows_logprobs(generation);
}

static void begin_choice(cohort_generation *generation, cohort_server_choice *choice) {
    cohort_prompt *prompt = choice->prompt;
    choice->has_begun = true;
    if (!echoes_logprobs(generation)) return;
    if (!prompt->echoed.tokens.size)
        cohort_logprobs_add_prompt_tokens(generation, prompt);
    choice->logprobs.offset = prompt->echoed.offset;
}

static void write_text(const cohort_server_choice *choice, bool is_first,
                       cohort_body *out) {
    const cohort_prompt *prompt = choice->prompt;
    cohort_body echoed = {0};
    const cohort_body *text = &choice->text;
    cohort_body_puts(out, "{\"index\":");
    cohort_body_whole(out, choice->index);
    cohort_body_puts(out, ",\"text\":");
    if (is_first && prompt->text) {
        cohort_body_add(&echoed, prompt->text, prompt->text_bytes);
        cohort_body_add(&echoed, text->bytes, text->size);
        out->is_short |= echoed.is_short;
        text = &echoed;
    }
    cohort_body_json(out, text->size ? text->bytes : "", text->size);
    cohort_body_deinit(&echoed);
}

static void write_logprobs(const cohort_generation *generation,
                           cohort_server_choice *choice, bool is_first,
                           cohort_body *out) {
    bool echoes = is_first && echoes_logprobs(generation);
    cohort_body_puts(out, ",\"logprobs\":");
    if (shows_logprobs(generation))
        cohort_logprobs_take_completion(echoes ? &choice->prompt->echoed : NULL,
                                        &choice->logprobs, out);
    else
        cohort_body_puts(out, "null");
    cohort_body_puts(out, ",");
}

static void push_chunk(cohort_generation *generation, cohort_server_choice *choice) {
    bool is_first = !choice->is_shown;
    cohort_body *out = cohort_generation_open_chunk(generation);
    write_text(choice, is_first, out);
    write_logprobs(generation, choice, is_first, out);
    cohort_generation_write_reason(choice, false, false, out);
    /* With an echo they are told unasked. */
    bool is_asked = generation->returns_token_ids || generation->params.echoes;
    cohort_generation_write_prompt_ids(choice->prompt, is_first && is_asked, out);
    cohort_generation_write_ids(generation, choice, out);
    cohort_body_puts(out, "}");
    cohort_generation_close_chunk(generation, choice,
                                  choice->finish_reason != COHORT_FINISH_NONE, NULL);
    choice->text.size = choice->token_ids.size = 0;
    choice->is_shown = true;
}

/* What is echoed goes with the last choice that shows it. */
static void show(cohort_generation *generation, cohort_server_choice *choice) {
    cohort_prompt *prompt = choice->prompt;
    bool is_first = !choice->is_shown;
    push_chunk(generation, choice);
    if (!is_first || ++prompt->n_shown < generation->params.request.n) return;
    cohort_logprobs_deinit(&prompt->echoed);
    cohort_generation_count_prompt(generation, prompt);
}

/* The first completion of a prompt has brought its logprobs: those that came before it
 * have waited with what they have to say. */
static void tell_prompt(cohort_generation *generation, cohort_server_choice *first,
                        const cohort_completion *completion) {
    cohort_prompt *prompt = first->prompt;
    prompt->is_told = true;
    cohort_logprobs_add_prompt_values(generation, prompt, completion);
    if (!generation->params.is_stream) return;
    for (int32_t i = 1; i < generation->params.request.n; i++)
        if (first[i].has_begun) show(generation, &first[i]);
}

static void add_output(cohort_generation *generation, cohort_server_choice *choice,
                       const cohort_completion *completion) {
    const cohort_params *params = &generation->params;
    if (!choice->has_begun) begin_choice(generation, choice);
    if (!params->prompt_only) {
        cohort_body_add(&choice->text, completion->text, completion->text_bytes);
        for (int32_t i = 0; completion->logprobs && i < completion->n_token_ids; i++)
            cohort_logprobs_add_completion(generation, &choice->logprobs,
                                           &completion->logprobs[i],
                                           completion->token_ids[i]);
    }
    bool tells = echoes_logprobs(generation) && !choice->prompt->is_told;
    if (tells && completion->index > 0) return;
    if (tells) tell_prompt(generation, choice, completion);
    if (params->is_stream && cohort_generation_is_due(generation, choice))
        show(generation, choice);
    if (tells) cohort_generation_count_prompt(generation, choice->prompt);
}

static void write_choice(cohort_generation *generation, cohort_server_choice *choice,
                         cohort_body *out) {
    write_text(choice, true, out);
    write_logprobs(generation, choice, true, out);
    cohort_generation_write_reason(choice, false, false, out);
    cohort_generation_write_ids(generation, choice, out);
    cohort_generation_write_prompt_logprobs(choice->prompt, out);
    cohort_generation_write_prompt_ids(choice->prompt, generation->returns_token_ids,
                                       out);
    cohort_body_puts(out, ",\"routed_experts\":null}");
}

/* ---- the route --------------------------------------------------------------------- */

static const cohort_generation_kind kind = {.schema = COHORT_SCHEMA_COMPLETION,
                                            .id_prefix = "cmpl",
                                            .object = "text_completion",
                                            .chunk_object = "text_completion",
                                            .write_answer = cohort_choices_write_answer,
                                            .end_stream = cohort_choices_end_stream,
                                            .break_stream = cohort_choices_break_stream,
                                            .read = read_prompts,
                                            .add = add_output,
                                            .write_choice = write_choice};

void cohort_serve_completion(cohort_server *server, cohort_exchange *exchange) {
    cohort_generation_serve(server, exchange, &kind);
}
