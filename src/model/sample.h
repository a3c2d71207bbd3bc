/* SPDX-License-Identifier: Apache-2.0 */
/* model/sample.h - from a row of logits to a token, with vLLM's meaning of every
 * parameter.
 *
 * Order: logprobs are taken from the raw logits (log-softmax before any processing,
 * vLLM's logprobs_mode=raw_logprobs); then allowed tokens, bad words, min_tokens mask,
 * logit bias, penalties, temperature, min-p, top-k, top-p, draw.  The draw is a function
 * of (seed, position) alone, so neither batching nor rank layout changes it. Threads: a
 * sampler belongs to one thread.
 */
#ifndef COHORT_MODEL_SAMPLE_H
#define COHORT_MODEL_SAMPLE_H

#include <stdbool.h>

#include "wire/step.h"

typedef struct cohort_sampler cohort_sampler; /* scratch for one vocabulary size */

cohort_status cohort_sampler_create(int32_t vocab_size, cohort_sampler **out_sampler);
void cohort_sampler_destroy(cohort_sampler *sampler);

/* logits[vocab_size] may be changed.  allowed: no others come, while it has any that
 * may; NULL, or without words: all.  tokens: the history, n_prompt_tokens of it prompt.
 * out_logprobs (1 + n_logprobs entries) is filled where params->n_logprobs >= 0.
 * Returns -1 where the logits are no numbers: the model computed nonsense. */
int32_t cohort_sample(cohort_sampler *sampler, const cohort_sampling_params *params,
                      const cohort_token_set *allowed, const int32_t *tokens,
                      int32_t n_tokens, int32_t n_prompt_tokens, float *logits,
                      cohort_token_logprob *out_logprobs);

/* Is nothing wanted but a draw from the logits as they are: by temperature, top-k, top-p
 * and min-p? */
bool cohort_sample_is_plain(const cohort_sampling_params *params,
                            const cohort_token_set *allowed, int32_t n_output);
/* Is that the first of the largest? */
bool cohort_sample_is_greedy(const cohort_sampling_params *params);

/* Logprob of a given token and of the n likeliest: 1 + n entries.  Logits are not
 * changed. */
void cohort_sampler_logprobs(cohort_sampler *sampler, const float *logits,
                             int32_t token_id, int32_t n,
                             cohort_token_logprob *out_logprobs);

#endif /* COHORT_MODEL_SAMPLE_H */
