/* SPDX-License-Identifier: Apache-2.0 */
#include "model/draw.h"

#include <math.h>

#include "base/fail.h"

/* Tokens that may not come next become impossible, before anything else looks at them
 * (vLLM's apply_grammar_bitmask). */
static void apply_mask(const cohort_sample_row *row, int32_t vocab_size, float *logits) {
    for (int32_t begin = 0; begin < vocab_size; begin += 32) {
        uint32_t word = (uint32_t)begin / 32;
        uint32_t bits = word < row->n_mask_words ? row->mask[word] : 0;
        int32_t end = vocab_size - begin < 32 ? vocab_size : begin + 32;
        for (int32_t i = begin; i < end && bits != UINT32_MAX; i++)
            if (!(bits >> (i - begin) & 1)) logits[i] = -INFINITY;
    }
}

static bool mask_has(const cohort_sample_row *row, int32_t token) {
    return token >= 0 && (uint32_t)token / 32 < row->n_mask_words &&
           row->mask[token / 32] >> token % 32 & 1;
}

/* min_tokens keeps stop tokens away, but not where the mask has nothing else. */
static bool allows_only_stops(const cohort_sample_row *row) {
    const cohort_sampling_params *params = row->params;
    uint32_t n_allowed = 0, n_stops = 0;
    for (uint32_t i = 0; i < row->n_mask_words; i++)
        n_allowed += (uint32_t)__builtin_popcount(row->mask[i]);
    if (n_allowed > params->n_stop_tokens) return false;
    for (uint32_t i = 0; i < params->n_stop_tokens; i++) {
        bool is_first = true;
        for (uint32_t j = 0; j < i; j++)
            is_first = is_first && params->stop_tokens[j] != params->stop_tokens[i];
        n_stops += is_first && mask_has(row, params->stop_tokens[i]);
    }
    return n_allowed == n_stops;
}

int32_t cohort_draw(cohort_sampler *sampler, const cohort_sample_row *row,
                    int32_t vocab_size, float *logits) {
    cohort_sampling_params params = *row->params;
    if (row->n_mask_words) {
        apply_mask(row, vocab_size, logits);
        if (params.min_tokens > 0 && allows_only_stops(row)) params.n_stop_tokens = 0;
    }
    return cohort_sample(sampler, &params, &row->allowed, row->tokens, row->n_tokens,
                         row->n_prompt_tokens, logits, row->out_logprobs);
}

cohort_status cohort_drawn_tell(cohort_group *group, const cohort_sample_row *rows,
                                int32_t n_rows, int32_t *drawn, int32_t *last_tokens,
                                int64_t deadline_ns) {
    int32_t n = 0;
    for (int32_t i = 0; i < n_rows; i++)
        n += rows[i].params != NULL;
    if (n && group)
        COHORT_TRY(
            cohort_broadcast(group, 0, drawn, (size_t)n * sizeof *drawn, deadline_ns));
    n = 0;
    for (int32_t i = 0; i < n_rows; i++) {
        if (!rows[i].params) continue;
        int32_t token = drawn[n++];
        *rows[i].out_token = token;
        last_tokens[rows[i].slot] = token < 0 ? 0 : token; /* that one ends */
    }
    return COHORT_OK;
}
