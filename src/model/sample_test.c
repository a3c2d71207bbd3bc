/* SPDX-License-Identifier: Apache-2.0 */
#include "model/sample.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"

static const cohort_sampling_params plain = {.temperature = 1,
                                             .top_p = 1,
                                             .repetition_penalty = 1,
                                             .n_logprobs = -1,
                                             .n_prompt_logprobs = -1};

static cohort_sampler *sampler_for(int32_t vocab_size) {
    cohort_sampler *sampler;
    assert_int_equal(cohort_sampler_create(vocab_size, &sampler), COHORT_OK);
    return sampler;
}

/* Somewhat normal, with standard deviation `spread`. */
static void fill(float *logits, int32_t n, uint64_t seed, double spread) {
    for (int32_t i = 0; i < n; i++) {
        double sum = -6;
        for (uint64_t k = 0; k < 12; k++)
            sum += cohort_random_unit(seed, (uint64_t)i * 12 + k);
        logits[i] = (float)(sum * spread);
    }
}

static int32_t sample_once(cohort_sampler *sampler, const cohort_sampling_params *params,
                           const float *logits, int32_t n, int32_t position) {
    float *row = malloc((size_t)n * sizeof *row);
    int32_t *history = calloc((size_t)position + 1, sizeof *history);
    memcpy(row, logits, (size_t)n * sizeof *row);
    int32_t token =
        cohort_sample(sampler, params, NULL, history, position, position, row, NULL);
    free(history);
    free(row);
    return token;
}

/* ---- the naive reference: everything sorted, everything in double -------------------
 */

struct reference_item {
    double logit, probability;
    int32_t id;
};

static int by_likelihood(const void *a, const void *b) {
    const struct reference_item *x = a, *y = b;
    if (x->logit != y->logit) return x->logit > y->logit ? -1 : 1;
    return x->id - y->id;
}

static void normalise(struct reference_item *items, int32_t n) {
    double best = -INFINITY, total = 0;
    for (int32_t i = 0; i < n; i++)
        best = fmax(best, items[i].logit);
    for (int32_t i = 0; i < n; i++)
        total += items[i].probability = exp(items[i].logit - best);
    for (int32_t i = 0; i < n; i++)
        items[i].probability /= total;
}

/* Probability of every token, as vLLM's ops say: min-p, then top-k, then top-p. */
static double *reference(const cohort_sampling_params *params, const float *logits,
                         int32_t n) {
    struct reference_item *items = malloc((size_t)n * sizeof *items);
    for (int32_t i = 0; i < n; i++)
        items[i] = (struct reference_item){
            .logit = (double)(logits[i] / params->temperature), .id = i};
    normalise(items, n);
    qsort(items, (size_t)n, sizeof *items, by_likelihood);
    double floor_probability = (double)params->min_p * items[0].probability;
    int32_t kept = n;
    while (kept > 1 && items[kept - 1].probability < floor_probability)
        kept--;
    if (params->top_k > 0 && params->top_k < kept) {
        double kth = items[params->top_k - 1].logit;
        while (items[kept - 1].logit < kth)
            kept--;
    }
    normalise(items, kept);
    double mass = 0;
    int32_t last = 0;
    for (; last < kept && (last == 0 || mass < (double)params->top_p); last++)
        mass += items[last].probability;
    normalise(items, last);
    double *probabilities = calloc((size_t)n, sizeof *probabilities);
    for (int32_t i = 0; i < last; i++)
        probabilities[items[i].id] = items[i].probability;
    free(items);
    return probabilities;
}

/* What the sampler should draw: the distribution inverted in the order of ids. */
static void assert_like_reference(const cohort_sampling_params *params,
                                  const float *logits, int32_t n, int draws) {
    cohort_sampler *sampler = sampler_for(n);
    double *probabilities = reference(params, logits, n);
    for (int position = 0; position < draws; position++) {
        int32_t token = sample_once(sampler, params, logits, n, position);
        double unit = cohort_random_unit(params->seed, (uint64_t)position);
        double low = 0;
        for (int32_t i = 0; i < token; i++)
            low += probabilities[i];
        /* f32 weights against double: a hair to either side. */
        if (probabilities[token] <= 0 || unit < low - 1e-5 ||
            unit > low + probabilities[token] + 1e-5)
            fail_msg("position %d drew %d of probability %g for %g, which begins at %g",
                     position, token, probabilities[token], unit, low);
    }
    free(probabilities);
    cohort_sampler_destroy(sampler);
}

/* ---- tests ------------------------------------------------------------------------- */

static void greedy_takes_the_first_of_the_largest(void **state) {
    (void)state;
    cohort_sampling_params params = plain;
    params.temperature = 0;
    const int32_t sizes[] = {1, 63, 64, 65, 1000, 4096};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int32_t n = sizes[s];
        float *logits = malloc((size_t)n * sizeof *logits);
        cohort_sampler *sampler = sampler_for(n);
        for (int32_t at = 0; at < n; at += 1 + n / 70) {
            fill(logits, n, (uint64_t)at, 1);
            logits[at] = 50;
            logits[n - 1] = 50; /* an equal one later */
            assert_int_equal(sample_once(sampler, &params, logits, n, 3), at);
        }
        cohort_sampler_destroy(sampler);
        free(logits);
    }
}

static void nonsense_is_told(void **state) {
    (void)state;
    cohort_sampler *sampler = sampler_for(100);
    float logits[100];
    for (int32_t i = 0; i < 100; i++)
        logits[i] = NAN;
    assert_int_equal(sample_once(sampler, &plain, logits, 100, 0), -1);
    logits[70] = 1; /* one number among them is a result */
    assert_int_equal(sample_once(sampler, &plain, logits, 100, 0), 70);
    for (int32_t i = 0; i < 100; i++)
        logits[i] = -INFINITY;
    assert_int_equal(sample_once(sampler, &plain, logits, 100, 0), -1);
    cohort_sampler_destroy(sampler);
}

static void draws_follow_the_reference(void **state) {
    (void)state;
    const struct {
        float temperature, top_p, min_p;
        int32_t top_k;
        double spread;
    } cases[] = {
        {1, 1, 0, 0, 1},          {0.7f, 1, 0, 0, 2},
        {1.8f, 1, 0, -1, 3},      {1, 1, 0, 1, 1},
        {1, 1, 0, 5, 1},          {1, 1, 0, 40, 3},
        {1, 1, 0, 1500, 1},       {1, 1, 0, 2999, 1},
        {1, 1, 0, 3000, 1},       {1, 0.9f, 0, 0, 1},
        {1, 0.9f, 0, 0, 4},       {1, 0.1f, 0, 0, 0.01},
        {1, 0.5f, 0, 0, 30},      {1, 1e-6f, 0, 0, 1},
        {1, 0, 0, 0, 1},          {1, 0.999999f, 0, 0, 10},
        {1, 1, 0.1f, 0, 1},       {1, 1, 1, 0, 1},
        {0.8f, 0.95f, 0, 50, 2},  {0.8f, 0.95f, 0.05f, 50, 2},
        {2, 0.5f, 0.3f, 1200, 1}, {1, 0.7f, 0, 0, 0},
    };
    enum { N = 3000 };
    static float logits[N];
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        cohort_sampling_params params = plain;
        params.temperature = cases[c].temperature;
        params.top_p = cases[c].top_p;
        params.min_p = cases[c].min_p;
        params.top_k = cases[c].top_k;
        params.seed = 1000 + c;
        fill(logits, N, c, cases[c].spread);
        assert_like_reference(&params, logits, N, 60);
    }
}

/* Ties of the k-th logit stay, whichever way the k-th is found. */
static void top_k_keeps_ties(void **state) {
    (void)state;
    enum { N = 5000 };
    static float logits[N];
    for (int32_t i = 0; i < N; i++)
        logits[i] = (float)(i % 10) / 4;
    cohort_sampling_params params = plain;
    const int32_t ks[] = {3, 501, 1000, 1200, 2600};
    for (size_t k = 0; k < sizeof ks / sizeof *ks; k++) {
        params.top_k = ks[k];
        params.seed = (uint64_t)k;
        assert_like_reference(&params, logits, N, 40);
    }
    params.top_k = 3;
    bool seen_late = false;
    cohort_sampler *sampler = sampler_for(N);
    for (int32_t position = 0; position < 50; position++) {
        int32_t token = sample_once(sampler, &params, logits, N, position);
        assert_int_equal(token % 10, 9);
        seen_late |= token > 100;
    }
    assert_true(seen_late);
    cohort_sampler_destroy(sampler);
}

/* Where the sum of probabilities reaches top_p among equal ones, the first of them stay.
 */
static void top_p_ends_among_ties(void **state) {
    (void)state;
    enum { N = 200 };
    static float logits[N];
    for (int32_t i = 0; i < N; i++)
        logits[i] = (float)(i % 4) / 2;
    cohort_sampling_params params = plain;
    for (int32_t step = 1; step < 40; step++) {
        params.top_p = (float)step / 40;
        params.seed = (uint64_t)step;
        assert_like_reference(&params, logits, N, 40);
    }
}

/* Chi-square over 20,000 draws of 12 outcomes; 99.99 % of right samplers stay below. */
static void frequencies_match_probabilities(void **state) {
    (void)state;
    enum { N = 12, DRAWS = 20000 };
    float logits[N];
    fill(logits, N, 7, 1.2);
    cohort_sampling_params params = plain;
    params.temperature = 0.9f;
    double *probabilities = reference(&params, logits, N);
    cohort_sampler *sampler = sampler_for(N);
    int counts[N] = {0};
    int32_t history[1] = {0};
    for (int i = 0; i < DRAWS; i++) {
        float row[N];
        memcpy(row, logits, sizeof row);
        params.seed = cohort_random_u64(99, (uint64_t)i);
        counts[cohort_sample(sampler, &params, NULL, history, 1, 1, row, NULL)]++;
    }
    double chi = 0;
    for (int32_t i = 0; i < N; i++) {
        double expected = probabilities[i] * DRAWS;
        chi += (counts[i] - expected) * (counts[i] - expected) / expected;
    }
    assert_true(chi < 37.4); /* 11 degrees of freedom */
    free(probabilities);
    cohort_sampler_destroy(sampler);
}

static void draw_depends_on_seed_and_position_alone(void **state) {
    (void)state;
    enum { N = 2000 };
    static float logits[N], other[N];
    fill(logits, N, 1, 1);
    fill(other, N, 2, 1);
    cohort_sampling_params params = plain;
    params.seed = 5;
    cohort_sampler *one = sampler_for(N), *two = sampler_for(N);
    int32_t differ = 0;
    for (int32_t position = 0; position < 50; position++) {
        int32_t token = sample_once(one, &params, logits, N, position);
        sample_once(two, &params, other, N, 7); /* something else in between */
        assert_int_equal(sample_once(two, &params, logits, N, position), token);
        cohort_sampling_params reseeded = params;
        reseeded.seed = 6;
        differ += sample_once(two, &reseeded, logits, N, position) != token;
    }
    assert_true(differ > 40);
    cohort_sampler_destroy(one);
    cohort_sampler_destroy(two);
}

/* History: prompt 1 2 2, output 3 3 4. */
static void penalties_are_vllms(void **state) {
    (void)state;
    enum { N = 6 };
    const int32_t history[] = {1, 2, 2, 3, 3, 4};
    const float logits[N] = {1, 2, -2, 3, -4, 5};
    cohort_sampling_params params = plain;
    params.temperature = 0;
    params.repetition_penalty = 2;
    params.presence_penalty = 0.5f;
    params.frequency_penalty = 0.25f;
    float row[N];
    memcpy(row, logits, sizeof row);
    cohort_sampler *sampler = sampler_for(N);
    assert_int_equal(cohort_sample(sampler, &params, NULL, history, 6, 3, row, NULL), 5);
    const float expected[N] = {1, 1, -4, 1.5f - 0.5f - 0.5f, -8 - 0.25f - 0.5f, 5};
    for (int32_t i = 0; i < N; i++)
        assert_float_equal(row[i], expected[i], 1e-6);
    /* Nothing is left over for the next call. */
    params.repetition_penalty = 1;
    memcpy(row, logits, sizeof row);
    cohort_sample(sampler, &params, NULL, history, 3, 3, row, NULL);
    assert_memory_equal(row, logits, sizeof row);
    cohort_sampler_destroy(sampler);
}

static void bias_and_min_tokens_change_the_choice(void **state) {
    (void)state;
    enum { N = 8 };
    const int32_t history[] = {1, 1, 1};
    const float logits[N] = {0, 1, 9, 3, 4, 5, 6, 7};
    const int32_t stops[] = {2, 7, 1000, -5}; /* ids outside are ignored */
    const cohort_token_bias bias[] = {{4, 2.5f}, {5, -100}, {4711, 1}};
    cohort_sampling_params params = plain;
    params.temperature = 0;
    params.stop_tokens = stops;
    params.n_stop_tokens = 4;
    params.bias = bias;
    params.n_bias = 3;
    params.min_tokens = 2;
    cohort_sampler *sampler = sampler_for(N);
    float row[N];
    memcpy(row, logits, sizeof row);
    assert_int_equal(cohort_sample(sampler, &params, NULL, history, 2, 1, row, NULL), 4);
    memcpy(row, logits, sizeof row);
    assert_int_equal(cohort_sample(sampler, &params, NULL, history, 3, 1, row, NULL), 2);
    cohort_sampler_destroy(sampler);
}

static int32_t sample_allowed_of_eight(cohort_sampler *sampler,
                                       const cohort_sampling_params *params,
                                       const cohort_token_set *allowed,
                                       const int32_t *history, int32_t n_history) {
    float row[] = {0, 1, 9, 3, 4, 5, 6, 7};
    return cohort_sample(sampler, params, allowed, history, n_history, 2, row, NULL);
}

static int32_t sample_of_eight(cohort_sampler *sampler,
                               const cohort_sampling_params *params,
                               const int32_t *history, int32_t n_history) {
    return sample_allowed_of_eight(sampler, params, NULL, history, n_history);
}

static void bad_words_end_before_their_last_token(void **state) {
    (void)state;
    const int32_t history[] = {2, 7, 7, 6}; /* two of them prompt */
    const int32_t words[] = {2, 7, 2, 2, 6, 7, 3, 7, 6, 2, 1, 4711, 3, 7, 7, 7};
    cohort_sampling_params params = plain;
    params.temperature = 0;
    params.bad_word_ids = words;
    params.n_bad_word_ids = 16;
    cohort_sampler *sampler = sampler_for(8);
    assert_int_equal(sample_of_eight(sampler, &params, history, 2), 2); /* prompt only */
    assert_int_equal(sample_of_eight(sampler, &params, history, 3), 7); /* 7 2 */
    assert_int_equal(sample_of_eight(sampler, &params, history, 4), 6); /* 6 7, 7 6 2 */
    cohort_sampler_destroy(sampler);
}

static void only_allowed_tokens_come_while_there_are_any(void **state) {
    (void)state;
    const int32_t history[] = {0, 0, 0};
    const uint32_t some = 1u << 3 | 1u << 5 | 1u << 20, nowhere = 1u << 30;
    cohort_token_set allowed = {1, &some};
    const int32_t words[] = {1, 5, 1, 3}, stops[] = {3, 5};
    cohort_sampling_params params = plain;
    params.temperature = 0;
    cohort_sampler *sampler = sampler_for(8);
    assert_int_equal(sample_allowed_of_eight(sampler, &params, &allowed, history, 2), 5);
    params.bad_word_ids = words;
    params.n_bad_word_ids = 2;
    assert_int_equal(sample_allowed_of_eight(sampler, &params, &allowed, history, 2), 3);
    params.n_bad_word_ids = 4; /* nothing would be left: the last stays */
    assert_int_equal(sample_allowed_of_eight(sampler, &params, &allowed, history, 2), 3);
    params.n_bad_word_ids = 0;
    params.stop_tokens = stops;
    params.n_stop_tokens = 2;
    params.min_tokens = 5;
    assert_int_equal(sample_allowed_of_eight(sampler, &params, &allowed, history, 3), 5);
    allowed.words = &nowhere;
    params.min_tokens = 0;
    assert_int_equal(sample_allowed_of_eight(sampler, &params, &allowed, history, 2), 2);
    cohort_sampler_destroy(sampler);
}

/* Raw: whatever bias or temperature do, logprobs are the model's own. */
static void logprobs_are_of_the_raw_logits(void **state) {
    (void)state;
    enum { N = 1000, TOP = 20 };
    static float logits[N], row[N];
    fill(logits, N, 3, 2);
    double total = 0;
    for (int32_t i = 0; i < N; i++)
        total += exp((double)logits[i]);
    const cohort_token_bias bias[] = {{123, 50}};
    cohort_sampling_params params = plain;
    params.temperature = 0.5f;
    params.bias = bias;
    params.n_bias = 1;
    params.n_logprobs = TOP;
    const int32_t history[] = {0};
    cohort_token_logprob got[1 + TOP];
    memcpy(row, logits, sizeof row);
    cohort_sampler *sampler = sampler_for(N);
    assert_int_equal(cohort_sample(sampler, &params, NULL, history, 1, 1, row, got), 123);
    int32_t rank = 0;
    for (int32_t i = 0; i < N; i++)
        rank += logits[i] >= logits[123];
    assert_int_equal(got[0].token_id, 123);
    assert_int_equal(got[0].rank, rank);
    for (int32_t i = 0; i <= TOP; i++)
        assert_float_equal(got[i].logprob,
                           (float)((double)logits[got[i].token_id] - log(total)), 1e-5);
    for (int32_t i = 1; i <= TOP; i++) {
        int32_t above = 0;
        for (int32_t j = 0; j < N; j++)
            above += logits[j] > logits[got[i].token_id];
        assert_int_equal(got[i].rank, i);
        assert_int_equal(above, i - 1);
    }
    cohort_sampler_destroy(sampler);
}

static void prompt_logprobs_leave_the_row_alone(void **state) {
    (void)state;
    enum { N = 300 };
    float logits[N], copy[N];
    fill(logits, N, 4, 1);
    memcpy(copy, logits, sizeof copy);
    cohort_sampler *sampler = sampler_for(N);
    cohort_token_logprob got[4];
    cohort_sampler_logprobs(sampler, logits, 17, 3, got);
    assert_memory_equal(logits, copy, sizeof copy);
    assert_int_equal(got[0].token_id, 17);
    assert_true(got[1].logprob >= got[2].logprob && got[2].logprob >= got[3].logprob);
    /* More than there are: the rest say so. */
    cohort_sampler *tiny = sampler_for(2);
    cohort_sampler_logprobs(tiny, (const float[]){1, 2}, 0, 3, got);
    assert_int_equal(got[1].token_id, 1);
    assert_int_equal(got[2].token_id, 0);
    assert_int_equal(got[3].token_id, -1);
    cohort_sampler_destroy(tiny);
    cohort_sampler_destroy(sampler);
}

/* A whole vocabulary, as Qwen's, of equal logits and of a spread: no path is special. */
static void large_vocabularies_work(void **state) {
    (void)state;
    enum { N = 151936 };
    float *logits = malloc(N * sizeof *logits);
    cohort_sampling_params params = plain;
    params.top_p = 0.95f;
    for (int spread = 0; spread < 2; spread++) {
        fill(logits, N, 11, spread);
        params.top_k = 0;
        assert_like_reference(&params, logits, N, 2);
        params.top_k = 50000;
        assert_like_reference(&params, logits, N, 2);
    }
    free(logits);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_takes_the_first_of_the_largest),
        cmocka_unit_test(nonsense_is_told),
        cmocka_unit_test(draws_follow_the_reference),
        cmocka_unit_test(top_k_keeps_ties),
        cmocka_unit_test(top_p_ends_among_ties),
        cmocka_unit_test(frequencies_match_probabilities),
        cmocka_unit_test(draw_depends_on_seed_and_position_alone),
        cmocka_unit_test(penalties_are_vllms),
        cmocka_unit_test(bias_and_min_tokens_change_the_choice),
        cmocka_unit_test(bad_words_end_before_their_last_token),
        cmocka_unit_test(only_allowed_tokens_come_while_there_are_any),
        cmocka_unit_test(logprobs_are_of_the_raw_logits),
        cmocka_unit_test(prompt_logprobs_leave_the_row_alone),
        cmocka_unit_test(large_vocabularies_work),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
