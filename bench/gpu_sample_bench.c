/* SPDX-License-Identifier: Apache-2.0 */
/* A token a row of logits, drawn on a GPU: a vocabulary of 151,936, normal logits.
 *
 * Times are of a launch among LAUNCHES that follow one another, the best of 5 rounds; the
 * logits were read before, as those of a step that just ended were written. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/random.h"
#include "cohort/clock.h"
#include "model/cuda/cuda_internal.h"

enum { VOCAB = 151936, ROWS = 64, LAUNCHES = 100, ROUNDS = 5 };

static const cohort_backend_ops *ops;
static cohort_backend *backend;
static cohort_buffer *logits;

static void must(cohort_status status) {
    if (status >= 0) return;
    fprintf(stderr, "%s\n", cohort_last_error()->message);
    exit(1);
}

static void set_up(float width) {
    float *values = malloc((size_t)ROWS * VOCAB * sizeof *values);
    if (!values) exit(1);
    for (int64_t i = 0; i < (int64_t)ROWS * VOCAB; i++) {
        uint64_t bits = cohort_random_u64(1, (uint64_t)i);
        double a = ((double)(bits >> 32) + 1) * 0x1p-32, b = (double)(uint32_t)bits;
        values[i] = width * (float)(sqrt(-2 * log(a)) * cos(b * 1.4629180792671596e-9));
    }
    must(ops->upload(backend, (cohort_view){logits, 0}, values, (int64_t)ROWS * VOCAB));
    free(values);
}

static double time_of(int32_t rows, cohort_cuda_draw how) {
    cohort_cuda_sample_params p = {.logits = cohort_cuda_vector(logits),
                                   .tokens = backend->host_tokens,
                                   .n_logits = VOCAB};
    for (int32_t i = 0; i < rows; i++) {
        p.rows[i] = how;
        p.rows[i].number = cohort_random_u64(2, (uint64_t)i);
    }
    double best = 1e18;
    for (int32_t round = 0; round < ROUNDS; round++) {
        int64_t begin = cohort_clock_ns();
        for (int32_t i = 0; i < LAUNCHES; i++)
            cohort_cuda_sample(backend, &p, rows);
        cohort_cuda_synchronise(backend, "drawing");
        double each = (double)(cohort_clock_ns() - begin) / LAUNCHES;
        if (each < best) best = each;
    }
    if (cohort_cuda_failed(backend)) {
        fprintf(stderr, "%s\n", backend->error.message);
        exit(1);
    }
    return best / 1e3;
}

int main(void) {
    static const cohort_backend_options options = {.max_rows = ROWS,
                                                   .max_sequences = ROWS,
                                                   .block_size = 16,
                                                   .max_blocks = 1,
                                                   .vocab_size = VOCAB};
    static const int32_t rows[] = {1, 8, 32, 64};
    const uint64_t off = UINT64_C(1) << 40, most = (uint64_t)(0.95 * 0x1p40);
    const struct {
        const char *name;
        cohort_cuda_draw how;
    } all[] = {
        {"greedy", {.is_wanted = 1, .top_p_parts = off}},
        {"temperature", {.is_wanted = 1, .steepness = 1.4427F, .top_p_parts = off}},
        {"top_p", {.is_wanted = 1, .steepness = 1.4427F, .top_p_parts = most}},
        {"top_k, top_p",
         {.is_wanted = 1, .steepness = 2.4F, .top_k = 20, .top_p_parts = most}}};
    ops = cohort_backend_cuda();
    must(ops->create(&options, &backend));
    must(ops->buffer_create(backend, COHORT_F32, (int64_t)ROWS * VOCAB, &logits));
    printf("%s; microseconds for 1, 8, 32, 64 rows\n", ops->describe(backend));
    for (int32_t width = 3; width >= 1; width -= 2) {
        set_up((float)width);
        for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
            printf("  width %d  %-12s", width, all[i].name);
            for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
                printf(" %7.1f", time_of(rows[r], all[i].how));
            printf("\n");
        }
    }
    return 0;
}
