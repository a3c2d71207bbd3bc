/* SPDX-License-Identifier: Apache-2.0 */
/* One row of 151,936 logits to one token, by kind of sampling; the floor is one pass that
 * reads the row, on the same thread.  Two rows: one as a model's (most of the mass on a
 * few tokens), one flat (a third of the vocabulary within top_p).  Restoring the row
 * between calls is outside the timed window. */
#include <stdbool.h>

#include "base/random.h"
#include "bench.h"
#include "model/sample.h"

enum { VOCAB = 151936, ROUNDS = 41 };

/* In the widest vectors there are. */
#if defined __x86_64__ && !defined __clang__
__attribute__((target_clones("avx512f", "avx2", "default"), optimize("O3")))
#endif
static float
read_all(const float *row) {
    float sums[128] = {0}, sum = 0;
    for (int i = 0; i < VOCAB; i += 128)
        for (int j = 0; j < 128; j++)
            sums[j] = row[i + j] > sums[j] ? row[i + j] : sums[j];
    for (int j = 0; j < 128; j++)
        sum += sums[j];
    return sum;
}

struct kind {
    const char *name;
    cohort_sampling_params params;
    double goal; /* times the floor */
    double us[ROUNDS];
};

static const cohort_sampling_params plain = {.temperature = 1,
                                             .top_p = 1,
                                             .repetition_penalty = 1,
                                             .n_logprobs = -1,
                                             .n_prompt_logprobs = -1};

enum { KINDS = 8 };

static void set_kinds(struct kind *kinds) {
    static const char *const names[KINDS] = {"read",        "greedy",   "temperature",
                                             "20 logprobs", "top_k 50", "top_k 50, p .95",
                                             "top_p .95",   "min_p .05"};
    for (int k = 0; k < KINDS; k++)
        kinds[k] = (struct kind){.name = names[k], .params = plain, .goal = 6};
    kinds[0].goal = 0;
    kinds[1].goal = 1.5;
    kinds[1].params.temperature = kinds[3].params.temperature = 0;
    kinds[3].params.n_logprobs = 20;
    kinds[4].params.top_k = kinds[5].params.top_k = 50;
    kinds[5].params.top_p = kinds[6].params.top_p = 0.95f;
    kinds[7].params.min_p = 0.05f;
}

static void fill(float *logits, bool steep) {
    for (int i = 0; i < VOCAB; i++) {
        double sum = -6;
        for (uint64_t k = 0; k < 12; k++)
            sum += cohort_random_unit(1, (uint64_t)i * 12 + k);
        logits[i] = (float)(2.5 * sum);
    }
    for (uint64_t i = 0; steep && i < 40; i++)
        logits[cohort_random_u64(2, i) % VOCAB] =
            10 + 8 * (float)cohort_random_unit(3, i);
}

static void measure(struct kind *kinds, cohort_sampler *sampler, const float *logits,
                    float *row) {
    const int32_t history[] = {1, 2, 3};
    cohort_token_logprob logprobs[COHORT_MAX_LOGPROBS + 1];
    volatile float sink = 0;
    for (int round = 0; round < ROUNDS; round++)
        for (int k = 0; k < KINDS; k++) {
            memcpy(row, logits, VOCAB * sizeof *row);
            kinds[k].params.seed = (uint64_t)round;
            double begin_us = bench_now_us(1);
            if (k == 0)
                sink = read_all(row);
            else
                sink = (float)cohort_sample(sampler, &kinds[k].params, NULL, history, 3,
                                            3, row, logprobs);
            kinds[k].us[round] = bench_now_us(1) - begin_us;
        }
    (void)sink;
}

static void report(struct kind *kinds) {
    for (int k = 0; k < KINDS; k++) {
        double ratios[ROUNDS];
        for (int i = 0; i < ROUNDS; i++)
            ratios[i] = kinds[k].us[i] / kinds[0].us[i];
        double ratio = bench_percentile(ratios, ROUNDS, 0.5);
        double sorted[ROUNDS];
        memcpy(sorted, kinds[k].us, sizeof sorted);
        printf("  %-16s %7.1f us  %5.2f times the read (%.2f - %.2f)", kinds[k].name,
               bench_percentile(sorted, ROUNDS, 0.5), ratio, ratios[0],
               ratios[ROUNDS - 1]);
        if (kinds[k].goal > 0)
            printf(", <= %.1f: %s", kinds[k].goal,
                   ratio <= kinds[k].goal ? "met" : "MISSED");
        printf("\n");
    }
}

int main(void) {
    static struct kind kinds[KINDS];
    float *logits = malloc(VOCAB * sizeof *logits), *row = malloc(VOCAB * sizeof *row);
    cohort_sampler *sampler;
    if (!logits || !row || cohort_sampler_create(VOCAB, &sampler) < 0) return 1;
    bench_print_machine();
    printf("one row of %d logits, one thread; median of %d rounds (least - greatest)\n",
           VOCAB, ROUNDS);
    for (int steep = 1; steep >= 0; steep--) {
        printf("%s\n", steep ? "as a model's" : "flat");
        fill(logits, steep);
        set_kinds(kinds);
        measure(kinds, sampler, logits, row);
        report(kinds);
    }
    cohort_sampler_destroy(sampler);
    free(row);
    free(logits);
    return 0;
}
