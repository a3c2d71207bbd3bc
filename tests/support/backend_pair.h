/* SPDX-License-Identifier: Apache-2.0 */
/* support/backend_pair.h - a backend beside a reference that computes the same.
 *
 * A field is one buffer on each of both, with guards before and behind; what operations
 * write is downloaded from both and compared.  The reference is the CPU's portable set.
 *
 * For the program that includes it, once: everything is static.
 */
#ifndef COHORT_TESTS_BACKEND_PAIR_H
#define COHORT_TESTS_BACKEND_PAIR_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cohort/clock.h"
#include "mock_device.h"

enum { GUARD = 32, MAX_ROWS = 320, MAX_SEQUENCES = 6, MAX_BLOCKS = 320, VOCAB = 1003 };
static const float guard_value = 12345.678F;

#define UNUSED __attribute__((unused)) /* by some who include it */

struct subject {
    const char *name;
    const cohort_backend_ops *(*ops)(void);
    cohort_cpu_options cpu;
    bool bf16;    /* products round their inputs */
    double limit; /* of the mean square of errors, relative to that of values */
};

/* Which of two is looked at: the reference, or the subject. */
enum { REFERENCE, SUBJECT, BOTH };

static const struct subject *subject; /* of the test that runs */
static const cohort_backend_ops *ops[BOTH];
static cohort_backend *backends[BOTH];
static uint64_t random_state;

static float noise(void) {
    random_state = random_state * 6364136223846793005U + 1442695040888963407U;
    return (float)(int32_t)(random_state >> 32) * 0x1p-31F;
}

static int open_backends(void **state) {
    subject = *state;
    const cohort_cpu_options portable = {.n_threads = 1, .isa = "portable"};
    cohort_backend_options options = {.max_rows = MAX_ROWS,
                                      .max_sequences = MAX_SEQUENCES,
                                      .block_size = 16,
                                      .max_blocks = MAX_BLOCKS,
                                      .vocab_size = VOCAB,
                                      .device = &portable};
    random_state = 1;
    ops[REFERENCE] = cohort_backend_cpu();
    ops[SUBJECT] = subject->ops();
    backends[SUBJECT] = NULL;
    if (ops[REFERENCE]->create(&options, &backends[REFERENCE]) < 0) return -1;
    options.bf16_activations = subject->bf16;
    options.device = strcmp(subject->name, "cuda") == 0 ? NULL : &subject->cpu;
    (void)ops[SUBJECT]->create(&options, &backends[SUBJECT]); /* or the CPU lacks it */
    return 0;
}

static int close_backends(void **state) {
    (void)state;
    for (int w = 0; w < BOTH; w++)
        ops[w]->destroy(backends[w]);
    return 0;
}

static void need_subject(void) {
    if (!backends[SUBJECT]) skip();
}

/* ---- buffers ----------------------------------------------------------------------- */

struct field {
    int64_t n;
    cohort_dtype dtype;
    cohort_buffer *buffers[BOTH];
};

/* values NULL: NaNs, or -1 of integers. */
static struct field field_of(cohort_dtype dtype, const void *values, int64_t n) {
    struct field field = {.n = n, .dtype = dtype};
    float *all = malloc((size_t)(n + 2 * GUARD) * sizeof *all);
    assert_non_null(all);
    for (int64_t i = 0; i < n + 2 * GUARD; i++)
        all[i] = i < GUARD || i >= n + GUARD ? guard_value : NAN;
    if (values) memcpy(all + GUARD, values, (size_t)n * sizeof *all);
    if (!values && dtype == COHORT_I32) memset(all + GUARD, -1, (size_t)n * sizeof *all);
    for (int w = 0; w < BOTH; w++) {
        assert_int_equal(
            ops[w]->buffer_create(backends[w], dtype, n + 2 * GUARD, &field.buffers[w]),
            COHORT_OK);
        assert_int_equal(ops[w]->upload(backends[w], (cohort_view){field.buffers[w], 0},
                                        all, n + 2 * GUARD),
                         COHORT_OK);
    }
    free(all);
    return field;
}

UNUSED static struct field output(int64_t n) { return field_of(COHORT_F32, NULL, n); }

UNUSED static struct field noisy(int64_t n) {
    float *values = malloc((size_t)n * sizeof *values);
    assert_non_null(values);
    for (int64_t i = 0; i < n; i++)
        values[i] = noise();
    struct field field = field_of(COHORT_F32, values, n);
    free(values);
    return field;
}

/* A vector as operations take them: all of a buffer. */
static struct field vector(int64_t n) {
    struct field field = {.n = n};
    float *values = malloc((size_t)n * sizeof *values);
    assert_non_null(values);
    for (int64_t i = 0; i < n; i++)
        values[i] = noise();
    for (int w = 0; w < BOTH; w++) {
        assert_int_equal(
            ops[w]->buffer_create(backends[w], COHORT_F32, n, &field.buffers[w]),
            COHORT_OK);
        assert_int_equal(
            ops[w]->upload(backends[w], (cohort_view){field.buffers[w], 0}, values, n),
            COHORT_OK);
    }
    free(values);
    return field;
}

UNUSED static cohort_view at(const struct field *field, int which, int64_t from) {
    return (cohort_view){field->buffers[which], GUARD + from};
}

static void drop(struct field *field) {
    for (int w = 0; w < BOTH; w++)
        ops[w]->buffer_destroy(field->buffers[w]);
}

static float *contents(const struct field *field, int which) {
    int64_t n = field->n + 2 * GUARD;
    float *all = malloc((size_t)n * sizeof *all);
    assert_non_null(all);
    assert_int_equal(ops[which]->download(backends[which],
                                          (cohort_view){field->buffers[which], 0}, all,
                                          n),
                     COHORT_OK);
    for (int64_t i = 0; i < GUARD; i++)
        if (memcmp(&all[i], &guard_value, sizeof guard_value) != 0 ||
            memcmp(&all[field->n + GUARD + i], &guard_value, sizeof guard_value) != 0)
            fail_msg("the guard of a buffer of %lld was written to", (long long)field->n);
    memmove(all, all + GUARD, (size_t)field->n * sizeof *all);
    return all;
}

/* Elements that are NaN in the reference, since nothing is written there, are NaN in the
 * subject's, too. */
UNUSED static void expect_near(struct field *field, double limit, const char *what) {
    float *expected = contents(field, REFERENCE), *got = contents(field, SUBJECT);
    double error = 0, square = 0;
    for (int64_t i = 0; i < field->n; i++) {
        if (isnan(expected[i]) != isnan(got[i]))
            fail_msg("%s: element %lld of %lld is %g, not %g", what, (long long)i,
                     (long long)field->n, (double)got[i], (double)expected[i]);
        if (isnan(expected[i])) continue;
        double distance = (double)got[i] - (double)expected[i];
        error += distance * distance;
        square += (double)expected[i] * (double)expected[i];
    }
    if (!(error <= limit * square))
        fail_msg("%s of %lld elements: errors are %.1e of the values, the limit is %.1e",
                 what, (long long)field->n, error / square, limit);
    free(expected);
    free(got);
    drop(field);
}

UNUSED static void expect_same(struct field *field, const char *what) {
    float *expected = contents(field, REFERENCE), *got = contents(field, SUBJECT);
    if (memcmp(expected, got, (size_t)field->n * sizeof *got) != 0)
        fail_msg("%s of %lld elements differs", what, (long long)field->n);
    free(expected);
    free(got);
    drop(field);
}

/* ---- steps ------------------------------------------------------------------------- */

static const int32_t no_blocks[MAX_BLOCKS];

static void begin(const cohort_batch *batch) {
    for (int w = 0; w < BOTH; w++)
        assert_int_equal(ops[w]->step_begin(backends[w], batch), COHORT_OK);
}

UNUSED static void begin_rows(int32_t n_rows) {
    int32_t ids[MAX_ROWS] = {0}, n_logit_rows = 0;
    const cohort_sequence sequence = {.n_rows = n_rows, .block_table = no_blocks};
    const cohort_batch batch = {.token_ids = ids,
                                .n_rows = n_rows,
                                .sequences = &sequence,
                                .n_logit_rows = &n_logit_rows,
                                .n_sequences = 1,
                                .deadline_ns = COHORT_NEVER};
    begin(&batch);
}

static void end(void) {
    for (int w = 0; w < BOTH; w++)
        assert_int_equal(ops[w]->step_end(backends[w]), COHORT_OK);
}

struct matrix {
    cohort_linear *linears[BOTH];
};

static struct matrix matrix_of(int64_t n_out, int64_t n_in, cohort_dtype dtype) {
    struct matrix matrix;
    float *values = malloc((size_t)(n_out * n_in + 1) * sizeof *values);
    assert_non_null(values);
    for (int64_t i = 0; i < n_out * n_in; i++)
        values[i] = noise();
    int64_t split = n_out / 3; /* filled in two parts, the later first */
    for (int w = 0; w < BOTH; w++) {
        cohort_linear **linear = &matrix.linears[w];
        assert_int_equal(ops[w]->linear_create(backends[w], n_out, n_in,
                                               cohort_format_dense(dtype), linear),
                         COHORT_OK);
        assert_int_equal(ops[w]->linear_set(*linear, COHORT_VALUES, split, n_out - split,
                                            values + split * n_in, COHORT_F32, n_in),
                         COHORT_OK);
        assert_int_equal(ops[w]->linear_set(*linear, COHORT_VALUES, 0, split, values,
                                            COHORT_F32, n_in),
                         COHORT_OK);
    }
    free(values);
    return matrix;
}

static void drop_matrix(struct matrix *matrix) {
    for (int w = 0; w < BOTH; w++)
        ops[w]->linear_destroy(matrix->linears[w]);
}

#endif /* COHORT_TESTS_BACKEND_PAIR_H */
