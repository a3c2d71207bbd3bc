/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "server/generation.h"

/* /v1/completions: prompts as text or token ids in, text_completion out. */

/* ---- prompts ----------------------------------------------------------------------- */

static bool set_text(cohort_generation *generation, cohort_prompt *prompt,
                     const char *text, cohort_api_error *error) {
    size_t size = strlen(text);
    if (!cohort_generation_tokenize(generation, prompt, text, size,
                                    generation->api.add_special_tokens.whole, error))
        return false;
    if (!generation->params.echoes) return true;
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
    if (!generation->params.echoes) return true;
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
    if (api->suffix.is_set && *api->suffix.text)
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

/* The prompt's tokens, before the first that was generated. */
static void add_prompt_logprobs(cohort_generation *generation, cohort_choice *choice,
                                const cohort_completion *completion) {
    const cohort_prompt *prompt = choice->prompt;
    cohort_logprob_lists *lists = &choice->logprobs;
    for (size_t i = 0; i < prompt->n_ids; i++) {
        bool is_told = i > 0 && (int32_t)i <= completion->n_prompt_logprobs;
        cohort_logprobs_add_completion(
            generation, lists, is_told ? &completion->prompt_logprobs[i - 1] : NULL,
            prompt->ids[i]);
    }
}

static void begin_choice(cohort_generation *generation, cohort_choice *choice,
                         const cohort_completion *completion) {
    const cohort_params *params = &generation->params;
    choice->has_begun = true;
    if (!params->echoes) return;
    cohort_body_add(&choice->text, choice->prompt->text, choice->prompt->text_bytes);
    if (params->request.sampling.n_logprobs >= 0)
        add_prompt_logprobs(generation, choice, completion);
}

static void write_text(const cohort_choice *choice, cohort_body *out) {
    cohort_body_puts(out, "{\"index\":");
    cohort_body_whole(out, choice->index);
    cohort_body_puts(out, ",\"text\":");
    cohort_body_json(out, choice->text.size ? choice->text.bytes : "", choice->text.size);
    cohort_body_puts(out, ",\"logprobs\":");
}

static void write_logprobs(const cohort_generation *generation, cohort_choice *choice,
                           cohort_body *out) {
    if (generation->params.request.sampling.n_logprobs >= 0)
        cohort_logprobs_take_completion(&choice->logprobs, out);
    else
        cohort_body_puts(out, "null");
    cohort_body_puts(out, ",");
}

static void push_chunk(cohort_generation *generation, cohort_choice *choice,
                       bool is_first) {
    cohort_body *out = cohort_generation_open_chunk(generation);
    write_text(choice, out);
    write_logprobs(generation, choice, out);
    cohort_generation_write_reason(choice, false, false, out);
    /* With an echo they are told unasked. */
    bool is_asked = generation->returns_token_ids || generation->params.echoes;
    cohort_generation_write_prompt_ids(choice->prompt, is_first && is_asked, out);
    cohort_generation_write_ids(generation, choice, out);
    cohort_body_puts(out, "}");
    cohort_generation_close_chunk(generation, choice,
                                  choice->finish_reason != COHORT_FINISH_NONE, NULL);
    choice->text.size = choice->token_ids.size = 0;
}

static void add_output(cohort_generation *generation, cohort_choice *choice,
                       const cohort_completion *completion) {
    const cohort_params *params = &generation->params;
    bool is_first = !choice->has_begun;
    if (is_first) begin_choice(generation, choice, completion);
    if (!params->prompt_only) {
        cohort_body_add(&choice->text, completion->text, completion->text_bytes);
        for (int32_t i = 0; completion->logprobs && i < completion->n_token_ids; i++)
            cohort_logprobs_add_completion(generation, &choice->logprobs,
                                           &completion->logprobs[i],
                                           completion->token_ids[i]);
    }
    if (params->is_stream) push_chunk(generation, choice, is_first);
}

static void write_choice(cohort_generation *generation, cohort_choice *choice,
                         cohort_body *out) {
    write_text(choice, out);
    write_logprobs(generation, choice, out);
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
                                            .read = read_prompts,
                                            .add = add_output,
                                            .write_choice = write_choice};

void cohort_serve_completion(cohort_server *server, cohort_exchange *exchange) {
    cohort_generation_serve(server, exchange, &kind);
}
