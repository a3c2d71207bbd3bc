/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/generation.h"

/* What a prompt becomes before the engine has it: tokens, as many as there may be. */

static bool refuse_length(const cohort_generation *generation, size_t n_ids,
                          cohort_api_error *error) {
    int32_t limit = generation->server->info.max_model_len;
    char count[24];
    /* Counting stops one past the limit, as it does in vLLM. */
    size_t shown = n_ids > (size_t)limit ? (size_t)limit + 1 : n_ids;
    snprintf(count, sizeof count, "%zu", shown);
    return cohort_api_refuse_value(
        error, "input_tokens", count,
        "This model's maximum context length is %d tokens. However, your prompt contains "
        "at least %s input tokens, which exceeds this limit even without any output "
        "tokens. Please reduce the length of the input prompt.",
        limit, count);
}

bool cohort_generation_tokenize(cohort_generation *generation, cohort_prompt *prompt,
                                const char *text, size_t text_bytes, bool add_special,
                                cohort_api_error *error) {
    enum { BYTES_PER_TOKEN = 64 };
    const cohort_engine *engine = generation->server->engine;
    size_t limit = (size_t)generation->server->info.max_model_len;
    bool truncates = generation->api.truncate_prompt_tokens.is_set;
    /* What is far too long is known by its beginning: megabytes need not be tokenized
     * to refuse them. */
    if (text_bytes > (limit + 1) * BYTES_PER_TOKEN && !truncates) {
        int32_t *ids;
        size_t n = 0;
        if (cohort_engine_tokenize(engine, text, (limit + 1) * BYTES_PER_TOKEN,
                                   add_special, &ids, &n) >= 0)
            free(ids);
        if (n > limit + 16) return refuse_length(generation, n, error);
    }
    if (cohort_engine_tokenize(engine, text, text_bytes, add_special, &prompt->ids,
                               &prompt->n_ids) < 0)
        return cohort_refuse_text(error);
    return true;
}

/* -1: to what leaves room for the tokens that are asked for. */
static bool truncate(cohort_generation *generation, cohort_prompt *prompt,
                     cohort_api_error *error) {
    const cohort_api_request *api = &generation->api;
    const cohort_params *params = &generation->params;
    if (!api->truncate_prompt_tokens.is_set) return true;
    int64_t keep = api->truncate_prompt_tokens.whole;
    int32_t n_output = params->prompt_only ? 0 : params->request.max_tokens;
    int64_t most = generation->server->info.max_model_len - n_output;
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)keep);
    if (keep > most)
        return cohort_api_refuse_value(
            error, "truncate_prompt_tokens", text,
            "truncate_prompt_tokens=%s cannot be greater than max_model_len - max_tokens "
            "= %lld. Please request a smaller truncation size.",
            text, (long long)most);
    if (keep < 0) keep = n_output ? most : most - 1;
    if (prompt->n_ids <= (size_t)keep) return true;
    bool from_right =
        api->truncation_side.is_set && !strcmp(api->truncation_side.text, "right");
    if (!from_right)
        memmove(prompt->ids, prompt->ids + (prompt->n_ids - (size_t)keep),
                (size_t)keep * sizeof *prompt->ids);
    prompt->n_ids = (size_t)keep;
    return true;
}

bool cohort_generation_check_prompt(cohort_generation *generation, cohort_prompt *prompt,
                                    cohort_api_error *error) {
    const cohort_server *server = generation->server;
    size_t limit = (size_t)server->info.max_model_len;
    if (!truncate(generation, prompt, error)) return false;
    /* More was reserved, for all that it might have been. */
    int32_t *ids = realloc(prompt->ids, (prompt->n_ids + 1) * sizeof *ids);
    if (ids) prompt->ids = ids;
    for (size_t i = 0; i < prompt->n_ids; i++)
        if (prompt->ids[i] >= server->info.vocab_size)
            return cohort_api_refuse(error, 400, NULL, "Token id %d is out of vocabulary",
                                     prompt->ids[i]);
    if (prompt->n_ids == 0)
        return cohort_api_refuse(error, 400, NULL, "The decoder prompt cannot be empty");
    if (prompt->n_ids >= limit) return refuse_length(generation, prompt->n_ids, error);
    if (generation->api.routed_experts_prompt_start.whole > (int64_t)prompt->n_ids) {
        char text[24];
        snprintf(text, sizeof text, "%lld",
                 (long long)generation->api.routed_experts_prompt_start.whole);
        return cohort_api_refuse_value(
            error, "routed_experts_prompt_start", text,
            "routed_experts_prompt_start must be between 0 and the prompt length (%zu), "
            "inclusive.",
            prompt->n_ids);
    }
    generation->n_prompt_tokens += (int64_t)prompt->n_ids;
    return true;
}
