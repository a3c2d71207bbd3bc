/* SPDX-License-Identifier: Apache-2.0 */
/* cohort/sampling.h - how a next token is chosen, and what is told about the choice.
 *
 * vLLM's SamplingParams, as far as the step that samples needs them: stop strings,
 * max_tokens and n are the engine's business (cohort/engine.h).  Plain data.
 */
#ifndef COHORT_SAMPLING_H
#define COHORT_SAMPLING_H

#include <stdint.h>

#include "cohort/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    COHORT_MAX_LOGPROBS = 128,     /* per position, the sampled token's own not counted */
    COHORT_MAX_LOGIT_BIAS = 300,   /* pairs per request */
    COHORT_MAX_STOP_TOKENS = 1032, /* per request, the model's eos among them */
    COHORT_MAX_OWN_STOP_TOKENS = 1024, /* stop_token_ids of a request */
    COHORT_MAX_BAD_WORD_IDS = 4096,    /* numbers in bad_word_ids */
};

typedef struct cohort_token_bias {
    int32_t token_id;
    float bias;
} cohort_token_bias;

typedef struct cohort_sampling_params {
    float temperature; /* 0: greedy */
    float top_p;       /* 1: off */
    float min_p;       /* 0: off */
    int32_t top_k;     /* 0 or -1: off */
    float repetition_penalty;
    float presence_penalty;
    float frequency_penalty; /* 1, 0, 0: off */
    int32_t min_tokens;      /* stop tokens are masked until so many are generated */
    uint64_t seed;           /* the engine draws one where the user gave none */
    int32_t n_logprobs;      /* -1: none; 0: the sampled token's only */
    int32_t n_prompt_logprobs;
    uint32_t n_bias;
    uint32_t n_stop_tokens;
    uint32_t n_bad_word_ids;
    uint32_t n_logprob_token_ids; /* 0, or n_logprobs: these, not the likeliest */
    const cohort_token_bias *bias;
    const int32_t *stop_tokens; /* stop_token_ids; the engine adds the model's eos */
    const int32_t *logprob_token_ids;
    /* Where these leave no token, what is left before stays. */
    const int32_t *bad_word_ids; /* of each word: how many tokens, and these */
} cohort_sampling_params;

typedef struct cohort_token_logprob {
    int32_t token_id; /* -1: the vocabulary has no so many */
    float logprob;
    int32_t rank; /* 1: the likeliest */
} cohort_token_logprob;

/* Logprobs of one position: the actual token first, then the n likeliest in order, or
 * those that were asked for. */
typedef struct cohort_position_logprobs {
    uint32_t position; /* of the token within the request, prompt and output together */
    uint32_t n;        /* entries, 1 + top */
    const cohort_token_logprob *entries;
} cohort_position_logprobs;

/* Off is what each field says it is; temperature 1, as vLLM has it. */
COHORT_API cohort_sampling_params cohort_sampling_defaults(void);

#ifdef __cplusplus
}
#endif

#endif /* COHORT_SAMPLING_H */
