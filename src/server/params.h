/* SPDX-License-Identifier: Apache-2.0 */
/* server/params.h - from the fields of a body to a request of the engine.
 *
 * Ranges and sentences are vLLM's (sampling_params.py), down to the float in "got 3.0".
 *
 * Ownership: params own lists, borrow strings from the body they were read from.
 */
#ifndef COHORT_SERVER_PARAMS_H
#define COHORT_SERVER_PARAMS_H

#include "cohort/engine.h"
#include "server/schema.h"
#include "server/tools.h"

typedef struct cohort_params {
    cohort_request request; /* without a prompt; points into the following */
    const char **stop;
    int32_t *stop_ids, *allowed_ids, *logprob_ids;
    const char **bad_words;
    int32_t *bad_word_ids; /* NULL until they are tokenized */
    cohort_token_bias *bias;
    bool is_stream, include_usage, continuous_usage;
    int32_t stream_interval; /* tokens that are sent together */
    bool echoes;
    bool has_grammar; /* its text is to be compiled, and the grammar put into request */
    cohort_grammar_kind grammar_kind;
    char *grammar_text;
    cohort_tool_choice tool_choice;
    int32_t default_max_tokens; /* where request.max_tokens is 0; 0: what is left */
    bool prompt_only; /* echo with max_tokens 0: what is generated is not shown */
} cohort_params;

typedef struct cohort_params_limits {
    int32_t max_model_len, max_logprobs, vocab_size, stream_interval;
    bool priority_scheduling, auto_tool_choice, force_include_usage;
    /* Of generation_config.json's max_new_tokens: what a request without a number gets,
     * and what none may exceed; 0: nothing of the kind. */
    int32_t default_max_tokens, most_max_tokens;
} cohort_params_limits;

/* defaults: cohort_engine_request_defaults().  deinit frees in either case. */
bool cohort_params_read(cohort_params *out, const cohort_api_request *api, bool is_chat,
                        const cohort_request *defaults,
                        const cohort_params_limits *limits, cohort_api_error *error);
void cohort_params_deinit(cohort_params *params);

#endif /* COHORT_SERVER_PARAMS_H */
