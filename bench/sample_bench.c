/* SPDX-License-Identifier: Apache-2.0 */
/* One row of 151,936 logits to one token, by kind of sampling; the floor is one pass that
 * reads the row.  Restoring the row between calls is outside the timed window. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "cohort/clock.h"
#include "model/sample.h"

enum { VOCAB = 151936, ROUNDS = 41 };

static int by_value(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void report(const char *name, int64_t *ns) {
    qsort(ns, ROUNDS, sizeof *ns, by_value);
    printf("%-14s p50 %7.1f us  p10 %7.1f  p90 %7.1f\n", name,
           (double)ns[ROUNDS / 2] / 1e3, (double)ns[ROUNDS / 10] / 1e3,
           (double)ns[ROUNDS * 9 / 10] / 1e3);
}

static float read_all(const float *row) {
    float sums[16] = {0}, sum = 0;
    for (int i = 0; i < VOCAB; i += 16)
        for (int j = 0; j < 16; j++)
            sums[j] += row[i + j];
    for (int j = 0; j < 16; j++)
        sum += sums[j];
    return sum;
}

int main(void) {
    const cohort_sampling_params plain = {.temperature = 1,
                                          .top_p = 1,
                                          .repetition_penalty = 1,
                                          .n_logprobs = -1,
                                          .n_prompt_logprobs = -1};
    struct {
        const char *name;
        cohort_sampling_params params;
        int64_t ns[ROUNDS];
    } kinds[] = {{.name = "floor: read"},     {.name = "greedy"},
                 {.name = "temperature"},     {.name = "top_k 50"},
                 {.name = "top_k 50, p .95"}, {.name = "top_p .95"},
                 {.name = "min_p .05"},       {.name = "20 logprobs"}};
    enum { KINDS = sizeof kinds / sizeof *kinds };
    for (int k = 0; k < KINDS; k++)
        kinds[k].params = plain;
    kinds[1].params.temperature = kinds[7].params.temperature = 0;
    kinds[3].params.top_k = kinds[4].params.top_k = 50;
    kinds[4].params.top_p = kinds[5].params.top_p = 0.95f;
    kinds[6].params.min_p = 0.05f;
    kinds[7].params.n_logprobs = 20;

    float *logits = malloc(VOCAB * sizeof *logits), *row = malloc(VOCAB * sizeof *row);
    cohort_token_logprob logprobs[COHORT_MAX_LOGPROBS + 1];
    cohort_sampler *sampler;
    if (!logits || !row || cohort_sampler_create(VOCAB, &sampler) < 0) return 1;
    for (int i = 0; i < VOCAB; i++) {
        double sum = -6;
        for (uint64_t k = 0; k < 12; k++)
            sum += cohort_random_unit(1, (uint64_t)i * 12 + k);
        logits[i] = (float)(2.5 * sum);
    }
    const int32_t history[] = {1, 2, 3};
    volatile float sink = 0;
    for (int round = 0; round < ROUNDS; round++)
        for (int k = 0; k < KINDS; k++) {
            memcpy(row, logits, VOCAB * sizeof *row);
            kinds[k].params.seed = (uint64_t)round;
            int64_t begin = cohort_clock_ns();
            if (k == 0)
                sink = read_all(row);
            else
                sink = (float)cohort_sample(sampler, &kinds[k].params, history, 3, 3, row,
                                            logprobs);
            kinds[k].ns[round] = cohort_clock_ns() - begin;
        }
    (void)sink;
    for (int k = 0; k < KINDS; k++)
        report(kinds[k].name, kinds[k].ns);
    cohort_sampler_destroy(sampler);
    free(row);
    free(logits);
    return 0;
}
