/* SPDX-License-Identifier: Apache-2.0 */
/* model/choose.h - one row of logits, looked at: its best, its likeliest few, a draw.
 *
 * cohort_chooser_look notes the row and the maxima of its tiles; the other functions are
 * about that row, until the next look.  Every result is exact: it depends on the logits
 * alone, not on the instruction set (see model/cpu/logits.h).
 *
 * Ownership: the row is the caller's and must not change between a look and its use.
 * Threads:   a chooser belongs to one thread.
 */
#ifndef COHORT_MODEL_CHOOSE_H
#define COHORT_MODEL_CHOOSE_H

#include "cohort/status.h"
#include "model/cpu/logits.h"

typedef struct cohort_chooser cohort_chooser; /* scratch for one vocabulary size */

typedef struct cohort_ranked {
    float logit;
    int32_t id;
} cohort_ranked;

/* What vLLM's parameters leave to be drawn. */
typedef struct cohort_choice {
    float temperature;
    int32_t top_k; /* ties of the k-th stay; 0 or less, or all: off */
    float top_p;   /* a token stays while the mass before it is less */
    float min_p;   /* of the best one's mass */
} cohort_choice;

cohort_status cohort_chooser_create(int32_t vocab_size, const cohort_cpu_logits *kernels,
                                    cohort_chooser **out_chooser);
/* Accepts NULL. */
void cohort_chooser_destroy(cohort_chooser *chooser);

/* The first of the largest; -1 where no logit is a finite number. */
int32_t cohort_chooser_look(cohort_chooser *chooser, const float *logits);

/* A token by `number`, uniform over 64 bits: the distribution inverted in the order of
 * ids. */
int32_t cohort_chooser_draw(cohort_chooser *chooser, const cohort_choice *choice,
                            uint64_t number);

/* log(sum(exp(logit))): subtracted from a logit, it makes a logprob. */
double cohort_chooser_log_sum(cohort_chooser *chooser);
/* vLLM's rank: how many are not less. */
int32_t cohort_chooser_rank(const cohort_chooser *chooser, float logit);
/* The n likeliest, of equals the lower id first; returns how many there are (logits that
 * are NaN or -inf are left out). */
int32_t cohort_chooser_top(cohort_chooser *chooser, int32_t n, cohort_ranked *out);

#endif /* COHORT_MODEL_CHOOSE_H */
