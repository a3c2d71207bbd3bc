/* SPDX-License-Identifier: Apache-2.0 */
/* server/metrics.h - what /metrics tells, under vLLM's names, labels and buckets.
 *
 * Whoever sees something happen says so here; the text is made when it is asked for.
 * Names of our own begin with cohort:.
 *
 * Threads: any.
 */
#ifndef COHORT_SERVER_METRICS_H
#define COHORT_SERVER_METRICS_H

#include "cohort/engine.h"
#include "http/http.h"

typedef struct cohort_metrics cohort_metrics;

typedef enum cohort_histogram {
    COHORT_REQUEST_PROMPT_TOKENS,
    COHORT_REQUEST_GENERATION_TOKENS,
    COHORT_ITERATION_TOKENS,
    COHORT_REQUEST_MAX_GENERATION_TOKENS,
    COHORT_REQUEST_N,
    COHORT_REQUEST_MAX_TOKENS,
    COHORT_TIME_TO_FIRST_TOKEN,
    COHORT_INTER_TOKEN_LATENCY,
    COHORT_TIME_PER_OUTPUT_TOKEN,
    COHORT_E2E_LATENCY,
    COHORT_QUEUE_TIME,
    COHORT_INFERENCE_TIME,
    COHORT_PREFILL_TIME,
    COHORT_DECODE_TIME,
    COHORT_REQUEST_PREEMPTIONS,
    COHORT_REQUEST_COMPUTED_TOKENS,
    COHORT_N_HISTOGRAMS
} cohort_histogram;

/* How a completion may end; beside the engine's reasons, by an error. */
typedef enum cohort_ending {
    COHORT_ENDED_STOP,
    COHORT_ENDED_LENGTH,
    COHORT_ENDED_ABORT,
    COHORT_ENDED_ERROR,
    COHORT_ENDED_REPETITION, /* vLLM's, of a detection that is not here */
    COHORT_N_ENDINGS
} cohort_ending;

/* model_name is copied. */
cohort_status cohort_metrics_create(const char *model_name,
                                    const cohort_engine_info *info, int32_t n_ranks,
                                    cohort_metrics **out_metrics);
void cohort_metrics_destroy(cohort_metrics *metrics);

void cohort_metrics_observe(cohort_metrics *metrics, cohort_histogram histogram,
                            double value);
/* Prompt tokens whose computation ended, those of them that were cached, and tokens
 * generated; and how long the last took, into a histogram. */
void cohort_metrics_add_tokens(cohort_metrics *metrics, int32_t n_prompt,
                               int32_t n_cached, int32_t n_generated,
                               cohort_histogram histogram, double value);
void cohort_metrics_count_ending(cohort_metrics *metrics, cohort_ending ending);
void cohort_metrics_count_rejection(cohort_metrics *metrics);
void cohort_metrics_set_stats(cohort_metrics *metrics, const cohort_engine_stats *stats);
/* What the executor says of ranks that died; of those that died since the last time, all
 * are counted as the last one. */
void cohort_metrics_set_recovery(cohort_metrics *metrics,
                                 const cohort_executor_recovery *recovery);
/* An answer was sent; handler: the route's path, static text, or NULL for none. */
void cohort_metrics_count_http(cohort_metrics *metrics, const char *handler,
                               const cohort_http_record *record);

typedef struct cohort_metrics_totals {
    uint64_t n_prompt_tokens, n_generated_tokens;
    cohort_engine_stats stats;
    double cache_usage; /* 0 to 1 */
} cohort_metrics_totals;

void cohort_metrics_get_totals(cohort_metrics *metrics,
                               cohort_metrics_totals *out_totals);
/* Prometheus' text format 0.0.4. */
void cohort_metrics_write(cohort_metrics *metrics, cohort_body *out);

#endif /* COHORT_SERVER_METRICS_H */
