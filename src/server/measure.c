/* SPDX-License-Identifier: Apache-2.0 */
#include "server/generation.h"

/* What a request's life tells the metrics.  As in vLLM: from its arrival to the first
 * token it is TTFT, and of the times within the engine, waiting ends when it is first in
 * a step, prefill with the first token, decode with the last. */

static double seconds(int64_t from_ns, int64_t to_ns) {
    return to_ns > from_ns ? (double)(to_ns - from_ns) / 1e9 : 0;
}

static void measure_token(cohort_generation *generation, cohort_server_choice *choice,
                          const cohort_completion *completion) {
    cohort_metrics *metrics = generation->server->metrics;
    int64_t now_ns = completion->reported_ns;
    if (choice->first_ns) {
        cohort_metrics_add_tokens(metrics, 0, 0, completion->n_token_ids,
                                  COHORT_INTER_TOKEN_LATENCY,
                                  seconds(choice->last_ns, now_ns));
    } else {
        choice->first_ns = now_ns;
        cohort_metrics_add_tokens(metrics, completion->n_prompt_token_ids,
                                  completion->n_cached_tokens, completion->n_token_ids,
                                  COHORT_TIME_TO_FIRST_TOKEN,
                                  seconds(generation->begin_ns, now_ns));
    }
    choice->last_ns = now_ns;
}

static void measure_end(const cohort_generation *generation,
                        const cohort_server_choice *choice,
                        const cohort_completion *completion) {
    cohort_metrics *metrics = generation->server->metrics;
    int64_t now_ns = completion->reported_ns;
    int32_t most = generation->requests[choice->prompt - generation->prompts].max_tokens;
    if (!most)
        most = generation->server->info.max_model_len - (int32_t)choice->prompt->n_ids;
    double decode_s = seconds(choice->first_ns, choice->last_ns);
    int64_t scheduled_ns = completion->scheduled_ns ? completion->scheduled_ns : now_ns;
    const struct {
        cohort_histogram at;
        double value;
    } values[] = {
        {COHORT_E2E_LATENCY, seconds(generation->begin_ns, now_ns)},
        {COHORT_QUEUE_TIME, seconds(completion->submitted_ns, scheduled_ns)},
        {COHORT_PREFILL_TIME, seconds(scheduled_ns, choice->first_ns)},
        {COHORT_INFERENCE_TIME, seconds(scheduled_ns, choice->last_ns)},
        {COHORT_DECODE_TIME, decode_s},
        {COHORT_REQUEST_PROMPT_TOKENS, completion->n_prompt_token_ids},
        {COHORT_REQUEST_COMPUTED_TOKENS,
         completion->n_prompt_token_ids - completion->n_cached_tokens},
        {COHORT_REQUEST_GENERATION_TOKENS, choice->n_generated},
        {COHORT_REQUEST_PREEMPTIONS, completion->n_preemptions},
        {COHORT_REQUEST_MAX_TOKENS, most},
    };
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        cohort_metrics_observe(metrics, values[i].at, values[i].value);
    if (choice->n_generated > 1)
        cohort_metrics_observe(metrics, COHORT_TIME_PER_OUTPUT_TOKEN,
                               decode_s / (choice->n_generated - 1));
}

static cohort_ending ending_of(cohort_finish_reason reason) {
    switch (reason) {
    case COHORT_FINISH_STOP: return COHORT_ENDED_STOP;
    case COHORT_FINISH_LENGTH: return COHORT_ENDED_LENGTH;
    case COHORT_FINISH_ABORT: return COHORT_ENDED_ABORT;
    case COHORT_FINISH_ERROR:
    case COHORT_FINISH_CORRUPTED:
    case COHORT_FINISH_KILLER:
    case COHORT_FINISH_NONE: break;
    }
    return COHORT_ENDED_ERROR;
}

/* Once for all completions of a prompt. */
static void measure_prompt(const cohort_generation *generation,
                           const cohort_server_choice *choice) {
    cohort_metrics *metrics = generation->server->metrics;
    cohort_prompt *prompt = choice->prompt;
    int32_t n = generation->params.request.n;
    if (choice->n_generated > prompt->most_generated)
        prompt->most_generated = choice->n_generated;
    if (++prompt->n_ended < n) return;
    cohort_metrics_observe(metrics, COHORT_REQUEST_N, n);
    cohort_metrics_observe(metrics, COHORT_REQUEST_MAX_GENERATION_TOKENS,
                           prompt->most_generated);
}

void cohort_generation_measure(cohort_generation *generation,
                               cohort_server_choice *choice,
                               const cohort_completion *completion) {
    if (completion->n_token_ids) measure_token(generation, choice, completion);
    if (completion->finish_reason == COHORT_FINISH_NONE) return;
    cohort_metrics_count_ending(generation->server->metrics,
                                ending_of(completion->finish_reason));
    if (completion->finish_reason == COHORT_FINISH_ABORT) return;
    measure_end(generation, choice, completion);
    measure_prompt(generation, choice);
}

void cohort_generation_measure_error(const cohort_generation *generation) {
    for (int32_t i = 0; i < generation->n_choices; i++)
        if (generation->choices[i].finish_reason == COHORT_FINISH_NONE)
            cohort_metrics_count_ending(generation->server->metrics, COHORT_ENDED_ERROR);
}
