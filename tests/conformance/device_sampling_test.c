/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens drawn on a GPU, or its double, are those that the host draws from the same
 * logits: whatever the logits and the parameters, for any number of rows. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "cohort/clock.h"
#include "model/draw.h"

enum { MOST_ROWS = 64 };

static const cohort_backend_ops *ops;
static uint64_t n_numbers;

static uint64_t number(void) { return cohort_random_u64(4711, n_numbers++); }
static int32_t below(int32_t n) { return (int32_t)(number() % (uint64_t)n); }
static double unit(void) { return (double)(number() >> 11) * 0x1p-53; }
static float normal(float width) {
    return width * (float)(sqrt(-2 * log(1 - unit())) * cos(6.283185307179586 * unit()));
}

/* ---- rows of logits ---------------------------------------------------------------- */

enum { SHAPES = 9 };

static float logit_of(int32_t shape, int32_t i, int32_t n) {
    switch (shape) {
    case 0: return normal(3);
    case 1: return normal(0.02F); /* flat */
    case 2: return i == n / 2 ? 40 : normal(4);
    case 3: return floorf(normal(2) * 4) / 4; /* many are equal */
    case 4: return 1.5F;                      /* all are */
    case 5: return i % 3 ? normal(3) : i % 2 ? -INFINITY : NAN;
    case 6: return i % 2 ? 0.0F : -0.0F;
    case 7: return i == 1 ? FLT_MAX : i == 2 ? -FLT_MAX : normal(3);
    default: return i == n - 1 ? 2 : -INFINITY;
    }
}

static cohort_sampling_params any_params(void) {
    static const float temperatures[] = {1, 0.6F, 0, 1e-4F, 1.3F, 50};
    static const float top_ps[] = {1, 0.95F, 0.5F, 0.999F, 1e-6F};
    static const int32_t top_ks[] = {0, 20, 1, 3, 500};
    cohort_sampling_params params = cohort_sampling_defaults();
    params.temperature = temperatures[below(6)];
    params.top_p = top_ps[below(5)];
    params.top_k = top_ks[below(5)];
    if (below(3) == 0) params.min_p = (float)unit();
    params.seed = number();
    return params;
}

/* ---- a step ------------------------------------------------------------------------ */

struct step {
    int32_t n_rows, vocab_size;
    cohort_sampling_params params[MOST_ROWS];
    cohort_sample_row rows[MOST_ROWS];
    cohort_token_logprob logprobs[MOST_ROWS];
    int32_t tokens[MOST_ROWS];
    float *logits;
};

static void ask(struct step *step) {
    static const int32_t history[100];
    for (int32_t i = 0; i < step->n_rows; i++) {
        int32_t shape = below(SHAPES);
        for (int32_t t = 0; t < step->vocab_size; t++)
            step->logits[(int64_t)i * step->vocab_size + t] =
                logit_of(shape, t, step->vocab_size);
        step->params[i] = any_params();
        step->rows[i] = (cohort_sample_row){.params = &step->params[i],
                                            .tokens = history,
                                            .n_tokens = 1 + below(99),
                                            .n_prompt_tokens = 1,
                                            .slot = i,
                                            .out_token = &step->tokens[i]};
        /* Some rows are the host's, some are nobody's. */
        step->params[i].n_logprobs = -1;
        switch (below(8)) {
        case 0:
            step->params[i].n_logprobs = 0;
            step->rows[i].out_logprobs = &step->logprobs[i];
            break;
        case 1: step->params[i].presence_penalty = 0.5F; break;
        case 2: step->rows[i].params = NULL; break;
        default: break;
        }
    }
}

static void expect_the_hosts(struct step *step, cohort_sampler *sampler) {
    float *row = malloc((size_t)step->vocab_size * sizeof *row);
    assert_non_null(row);
    for (int32_t i = 0; i < step->n_rows; i++) {
        const cohort_sampling_params *params = step->rows[i].params;
        if (!params) continue;
        memcpy(row, step->logits + (int64_t)i * step->vocab_size,
               (size_t)step->vocab_size * sizeof *row);
        int32_t token = cohort_draw(sampler, &step->rows[i], step->vocab_size, row);
        if (token != step->tokens[i])
            fail_msg("row %d of %d, %d logits: %d, not %d; temperature %g, top_p %g, "
                     "top_k %d, min_p %g, seed %llu, %d tokens",
                     i, step->n_rows, step->vocab_size, step->tokens[i], token,
                     (double)params->temperature, (double)params->top_p, params->top_k,
                     (double)params->min_p, (unsigned long long)params->seed,
                     step->rows[i].n_tokens);
    }
    free(row);
}

static void run(cohort_backend *backend, cohort_buffer *logits, const struct step *step) {
    int32_t ids[MOST_ROWS] = {0}, ones[MOST_ROWS], block[1] = {0};
    cohort_sequence sequences[MOST_ROWS];
    for (int32_t i = 0; i < step->n_rows; i++) {
        ones[i] = 1;
        sequences[i] = (cohort_sequence){
            .row_begin = i, .n_rows = 1, .block_table = block, .slot = i};
    }
    const cohort_batch batch = {.token_ids = ids,
                                .n_rows = step->n_rows,
                                .sequences = sequences,
                                .n_logit_rows = ones,
                                .n_sequences = step->n_rows,
                                .deadline_ns = COHORT_NEVER,
                                .samples = step->rows};
    const cohort_view all = {logits, 0};
    if (ops->upload(backend, all, step->logits,
                    (int64_t)step->n_rows * step->vocab_size) < 0 ||
        ops->step_begin(backend, &batch) < 0)
        fail_msg("%s", cohort_last_error()->message);
    ops->sample(backend, &(cohort_op_sample){.logits = all,
                                             .n_rows = step->n_rows,
                                             .deadline_ns = COHORT_NEVER});
    if (ops->step_end(backend) < 0) fail_msg("%s", cohort_last_error()->message);
}

static void draw_of(int32_t vocab_size, int32_t n_rows, int32_t n_steps) {
    const cohort_backend_options options = {.max_rows = MOST_ROWS,
                                            .max_sequences = MOST_ROWS,
                                            .block_size = 16,
                                            .max_blocks = 1,
                                            .vocab_size = vocab_size};
    cohort_backend *backend;
    cohort_buffer *logits;
    cohort_sampler *sampler;
    static struct step step;
    if (ops->create(&options, &backend) < 0 ||
        ops->buffer_create(backend, COHORT_F32, (int64_t)n_rows * vocab_size, &logits) <
            0 ||
        cohort_sampler_create(vocab_size, &sampler) < 0)
        fail_msg("%s", cohort_last_error()->message);
    step.n_rows = n_rows, step.vocab_size = vocab_size;
    step.logits = malloc((size_t)n_rows * (size_t)vocab_size * sizeof *step.logits);
    assert_non_null(step.logits);
    for (int32_t i = 0; i < n_steps; i++) {
        ask(&step);
        run(backend, logits, &step);
        expect_the_hosts(&step, sampler);
    }
    free(step.logits);
    cohort_sampler_destroy(sampler);
    ops->buffer_destroy(logits);
    ops->destroy(backend);
}

static void a_few_tokens(void **state) {
    (void)state;
    draw_of(1, 3, 8);
    draw_of(7, MOST_ROWS, 20);
    draw_of(513, 21, 20);
}

static void a_small_vocabulary(void **state) {
    (void)state;
    draw_of(4097, 1, 30);
    draw_of(4097, 16, 5);
    draw_of(8000, 40, 3);
}

static void a_vocabulary_of_a_large_model(void **state) {
    (void)state;
    draw_of(151936, 1, 6);
    draw_of(151936, 5, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_few_tokens),
        cmocka_unit_test(a_small_vocabulary),
        cmocka_unit_test(a_vocabulary_of_a_large_model),
    };
    const cohort_backend_options options = {.max_rows = 1, .max_sequences = 1};
    cohort_backend *backend;
    if (cohort_backend_find("cuda", &ops) < 0) return 77;
#if COHORT_HAVE_CUDA
    if (!cohort_cuda_is_there()) return 77;
#endif
    if (ops->create(&options, &backend) < 0) return 1;
    ops->destroy(backend);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
