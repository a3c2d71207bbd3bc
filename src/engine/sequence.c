/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "engine/engine_internal.h"

void cohort_engine_request_free(engine_request *request) {
    if (!request) return;
    for (uint32_t i = 0; request->stop && i < request->n_stop; i++)
        free(request->stop[i]);
    free(request->stop);
    cohort_stops_deinit(&request->stops);
    free(request->stop_tokens);
    free(request->bias);
    free(request->bad_word_ids);
    free(request->logprob_token_ids);
    free(request->allowed);
    free(request->prompt);
    free(request->keys);
    cohort_grammar_release(request->grammar);
    free(request);
}

void cohort_engine_sequence_free(engine_sequence *sequence) {
    if (!sequence) return;
    engine_request *request = sequence->request;
    cohort_matcher_destroy(sequence->matcher);
    cohort_detokenizer_destroy(sequence->detokenizer);
    cohort_stop_text_deinit(&sequence->text);
    free(sequence->prompt_entries);
    free(sequence->prompt_logprobs);
    free(sequence->tokens);
    free(sequence->keys);
    free(sequence);
    if (--request->n_left == 0) cohort_engine_request_free(request);
}

cohort_step_request cohort_engine_request_of(const engine_sequence *sequence) {
    const engine_request *request = sequence->request;
    cohort_step_request message = {
        .request_id = sequence->wire_id,
        .slot = (uint32_t)sequence->scheduled.slot,
        .n_prompt_tokens = (uint32_t)request->n_prompt_tokens,
        .n_tokens = (uint32_t)sequence->n_tokens,
        .tokens = sequence->tokens,
        .sampling = request->sampling,
        .allowed = {request->n_allowed_words, request->allowed}};
    message.sampling.seed = sequence->seed;
    /* Of one completion, and not again after a preemption. */
    if (!sequence->prompt_logprobs ||
        sequence->n_prompt_logprobs == request->n_prompt_tokens - 1)
        message.sampling.n_prompt_logprobs = -1;
    if (request->min_tokens == 0) message.sampling.n_stop_tokens = 0;
    return message;
}
