/* SPDX-License-Identifier: Apache-2.0 */
#include "model/sample.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/random.h"
#include "model/choose.h"
#include "model/cpu/kernels.h"

/* Here a row is made what a request's parameters say; choose.c takes a token from it.
 * Behaviour is vLLM 0.10's (v1/sample/sampler.py, ops/penalties.py, ops/logprobs.py). */

/* vLLM's _SAMPLING_EPS: below it, temperature means greedy. */
#define GREEDY_TEMPERATURE 1e-5f

struct cohort_sampler {
    int32_t vocab_size;
    int32_t *uses; /* per token, 0 between calls: counts of penalties */
    float *row;    /* a copy of the logits, where the raw ones are wanted too */
    cohort_chooser *chooser;
};

static cohort_status allocate(cohort_sampler *sampler) {
    size_t n = (size_t)sampler->vocab_size;
    cohort_cpu_isa isa;
    COHORT_TRY(cohort_cpu_isa_find(NULL, &isa));
    COHORT_TRY(cohort_chooser_create(sampler->vocab_size, isa.logits, &sampler->chooser));
    sampler->uses = calloc(n, sizeof *sampler->uses);
    sampler->row = malloc(n * sizeof *sampler->row);
    if (!sampler->uses || !sampler->row)
        return COHORT_FAIL(COHORT_E_NOMEM, "sampler for %zu tokens", n);
    return COHORT_OK;
}

cohort_status cohort_sampler_create(int32_t vocab_size, cohort_sampler **out_sampler) {
    *out_sampler = NULL;
    if (vocab_size < 1)
        return COHORT_FAIL(COHORT_E_INVALID, "vocab_size %d must be positive",
                           vocab_size);
    cohort_sampler *sampler = calloc(1, sizeof *sampler);
    if (!sampler) return COHORT_FAIL(COHORT_E_NOMEM, "sampler");
    sampler->vocab_size = vocab_size;
    cohort_status status = allocate(sampler);
    if (status < 0) {
        cohort_sampler_destroy(sampler);
        return status;
    }
    *out_sampler = sampler;
    return COHORT_OK;
}

void cohort_sampler_destroy(cohort_sampler *sampler) {
    if (!sampler) return;
    cohort_chooser_destroy(sampler->chooser);
    free(sampler->uses);
    free(sampler->row);
    free(sampler);
}

/* ---- processing of logits ---------------------------------------------------------- */

static bool known(const cohort_sampler *sampler, int32_t token) {
    return token >= 0 && token < sampler->vocab_size;
}

static void apply_penalties(cohort_sampler *sampler, const cohort_sampling_params *params,
                            const int32_t *tokens, int32_t n_tokens,
                            int32_t n_prompt_tokens, float *logits) {
    int32_t *uses = sampler->uses;
    for (int32_t i = n_prompt_tokens; i < n_tokens; i++)
        if (known(sampler, tokens[i])) uses[tokens[i]]++;
    for (int32_t i = 0; i < n_tokens; i++) {
        int32_t token = tokens[i];
        if (!known(sampler, token) || uses[token] < 0) continue;
        float logit = logits[token];
        logit = logit > 0 ? logit / params->repetition_penalty
                          : logit * params->repetition_penalty;
        logit -= params->frequency_penalty * (float)uses[token];
        if (uses[token] > 0) logit -= params->presence_penalty;
        logits[token] = logit;
        uses[token] = -1; /* done */
    }
    for (int32_t i = 0; i < n_tokens; i++)
        if (known(sampler, tokens[i])) uses[tokens[i]] = 0;
}

/* ---- what may not come --------------------------------------------------------------
 */

static bool is_left(float logit) { return logit > -INFINITY; }

/* The first token from here on that may still come; vocab_size: none. */
static int32_t next_left(const cohort_sampler *sampler, const float *logits,
                         int32_t token) {
    while (token < sampler->vocab_size && !is_left(logits[token]))
        token++;
    return token;
}

/* left: the first token that may come.  The last one is not taken away: a request that
 * forbids everything must not look like a model that computes nonsense. */
static void forbid(const cohort_sampler *sampler, float *logits, int32_t token,
                   int32_t *left) {
    if (!known(sampler, token)) return;
    if (token == *left) {
        int32_t next = next_left(sampler, logits, token + 1);
        if (next == sampler->vocab_size) return;
        *left = next;
    }
    logits[token] = -INFINITY;
}

static void apply_allowed(const cohort_sampler *sampler, const cohort_token_set *allowed,
                          float *logits) {
    bool has_any = false;
    for (int32_t pass = 0; pass < 2; pass++)
        for (int32_t i = 0; i < sampler->vocab_size; i++) {
            uint32_t word = (uint32_t)i / 32;
            bool is_allowed =
                word < allowed->n_words && allowed->words[word] >> i % 32 & 1;
            if (pass == 0)
                has_any |= is_allowed && is_left(logits[i]);
            else if (has_any && !is_allowed)
                logits[i] = -INFINITY;
        }
}

/* The last token of each word whose others end the output. */
static void forbid_bad_words(const cohort_sampler *sampler,
                             const cohort_sampling_params *params, const int32_t *output,
                             int32_t n_output, float *logits, int32_t *left) {
    const int32_t *at = params->bad_word_ids, *end = at + params->n_bad_word_ids;
    while (at < end) {
        int32_t n = *at++ - 1;
        if (n <= n_output &&
            (n == 0 || !memcmp(at, output + n_output - n, (size_t)n * sizeof *at)))
            forbid(sampler, logits, at[n], left);
        at += n + 1;
    }
}

static bool has_penalties(const cohort_sampling_params *params) {
    return params->repetition_penalty != 1.0f || params->presence_penalty != 0.0f ||
           params->frequency_penalty != 0.0f;
}

/* Whether process may touch a logit. */
static bool changes(const cohort_sampling_params *params, int32_t n_output) {
    return params->n_bad_word_ids || params->n_bias || n_output < params->min_tokens ||
           has_penalties(params);
}

static void process(cohort_sampler *sampler, const cohort_sampling_params *params,
                    const cohort_token_set *allowed, const int32_t *tokens,
                    int32_t n_tokens, int32_t n_prompt_tokens, float *logits) {
    if (allowed) apply_allowed(sampler, allowed, logits);
    int32_t left = next_left(sampler, logits, 0);
    forbid_bad_words(sampler, params, tokens + n_prompt_tokens,
                     n_tokens - n_prompt_tokens, logits, &left);
    if (n_tokens - n_prompt_tokens < params->min_tokens)
        for (uint32_t i = 0; i < params->n_stop_tokens; i++)
            forbid(sampler, logits, params->stop_tokens[i], &left);
    for (uint32_t i = 0; i < params->n_bias; i++)
        if (known(sampler, params->bias[i].token_id))
            logits[params->bias[i].token_id] += params->bias[i].bias;
    if (has_penalties(params))
        apply_penalties(sampler, params, tokens, n_tokens, n_prompt_tokens, logits);
}

/* ---- logprobs ---------------------------------------------------------------------- */

static cohort_token_logprob token_logprob(const cohort_sampler *sampler,
                                          const float *logits, double norm,
                                          int32_t token_id) {
    return (cohort_token_logprob){
        .token_id = token_id,
        .logprob = (float)((double)logits[token_id] - norm),
        .rank = cohort_chooser_rank(sampler->chooser, logits[token_id])};
}

/* Of the row that was looked at. */
static void logprobs_of(cohort_sampler *sampler, const float *logits, int32_t token_id,
                        int32_t n, cohort_token_logprob *out) {
    double norm = cohort_chooser_log_sum(sampler->chooser);
    *out++ = token_logprob(sampler, logits, norm, token_id);
    if (n <= 0) return;
    cohort_ranked best[COHORT_MAX_LOGPROBS];
    if (n > COHORT_MAX_LOGPROBS) n = COHORT_MAX_LOGPROBS;
    int32_t found = cohort_chooser_top(sampler->chooser, n, best);
    for (int32_t i = 0; i < n; i++) {
        if (i < found)
            out[i] =
                (cohort_token_logprob){.token_id = best[i].id,
                                       .logprob = (float)((double)best[i].logit - norm),
                                       .rank = i + 1};
        else /* a vocabulary smaller than n, or one all masked */
            out[i] = (cohort_token_logprob){
                .token_id = -1, .logprob = -INFINITY, .rank = i + 1};
    }
}

void cohort_sampler_logprobs(cohort_sampler *sampler, const float *logits,
                             int32_t token_id, int32_t n,
                             cohort_token_logprob *out_logprobs) {
    cohort_chooser_look(sampler->chooser, logits);
    logprobs_of(sampler, logits, token_id, n, out_logprobs);
}

static void logprobs_of_ids(const cohort_sampler *sampler,
                            const cohort_sampling_params *params, const float *logits,
                            int32_t token_id, cohort_token_logprob *out_logprobs) {
    double norm = cohort_chooser_log_sum(sampler->chooser);
    out_logprobs[0] = token_logprob(sampler, logits, norm, token_id);
    for (uint32_t i = 0; i < params->n_logprob_token_ids; i++) {
        int32_t id = params->logprob_token_ids[i];
        out_logprobs[1 + i] = known(sampler, id)
                                  ? token_logprob(sampler, logits, norm, id)
                                  : (cohort_token_logprob){.token_id = -1};
    }
}

bool cohort_sample_is_plain(const cohort_sampling_params *params,
                            const cohort_token_set *allowed, int32_t n_output) {
    return !allowed->n_words && !changes(params, n_output) && params->n_logprobs < 0 &&
           !params->n_logprob_token_ids;
}

bool cohort_sample_is_greedy(const cohort_sampling_params *params) {
    return params->temperature < GREEDY_TEMPERATURE;
}

/* ---- sampling ---------------------------------------------------------------------- */

int32_t cohort_sample(cohort_sampler *sampler, const cohort_sampling_params *params,
                      const cohort_token_set *allowed, const int32_t *tokens,
                      int32_t n_tokens, int32_t n_prompt_tokens, float *logits,
                      cohort_token_logprob *out_logprobs) {
    float *row = logits;
    if (allowed && !allowed->n_words) allowed = NULL;
    bool keeps_raw = params->n_logprobs >= 0 &&
                     (allowed || changes(params, n_tokens - n_prompt_tokens));
    if (keeps_raw) { /* the raw ones are needed afterwards */
        row = sampler->row;
        memcpy(row, logits, (size_t)sampler->vocab_size * sizeof *row);
    }
    process(sampler, params, allowed, tokens, n_tokens, n_prompt_tokens, row);
    int32_t token = cohort_chooser_look(sampler->chooser, row);
    if (token < 0) return -1;
    if (!cohort_sample_is_greedy(params)) {
        const cohort_choice choice = {params->temperature, params->top_k, params->top_p,
                                      params->min_p};
        token = cohort_chooser_draw(sampler->chooser, &choice,
                                    cohort_random_u64(params->seed, (uint64_t)n_tokens));
    }
    if (params->n_logprobs < 0 && !params->n_logprob_token_ids) return token;
    if (keeps_raw) cohort_chooser_look(sampler->chooser, logits);
    if (params->n_logprob_token_ids)
        logprobs_of_ids(sampler, params, logits, token, out_logprobs);
    else
        logprobs_of(sampler, logits, token, params->n_logprobs, out_logprobs);
    return token;
}
