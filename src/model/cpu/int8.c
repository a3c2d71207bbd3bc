/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "base/fail.h"
#include "model/cpu/cpu_internal.h"

/* Products with a matrix of int8 and a scale a row.
 *
 * Panels are those of f32, a byte an element: [k][16 rows].  A value is widened when it
 * is multiplied, the scale comes in at the end; k ascends in one chain an element, as in
 * linear.c, and without a fused operation, so that all instruction sets give the same. */

enum { TILE = 4 }; /* rows of x against one pass over a panel */

cohort_status cohort_cpu_int8_create(cohort_backend *backend, int64_t n_out, int64_t n_in,
                                     cohort_linear **out_linear) {
    *out_linear = NULL;
    if (n_out < 0 || n_in < 0 || n_out > COHORT_CPU_MOST_ROWS ||
        n_in > COHORT_CPU_MOST_ROWS)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "a weight matrix of %lld x %lld; rows and columns are at most "
                           "%d",
                           (long long)n_out, (long long)n_in, COHORT_CPU_MOST_ROWS);
    cohort_linear *linear = calloc(1, sizeof *linear);
    if (!linear) return COHORT_FAIL(COHORT_E_NOMEM, "a weight matrix");
    *linear = (cohort_linear){
        .backend = backend,
        .dtype = COHORT_I8,
        .n_out = n_out,
        .n_in = n_in,
        .n_panels = (int32_t)((n_out + COHORT_CPU_PANEL - 1) / COHORT_CPU_PANEL),
        .panel_bytes = (size_t)n_in * COHORT_CPU_PANEL,
    };
    linear->bytes = (size_t)linear->n_panels * linear->panel_bytes;
    if (linear->bytes) linear->panels = cohort_cpu_take(backend, linear->bytes);
    linear->scales = cohort_cpu_take(backend, cohort_cpu_scale_bytes(linear));
    if ((linear->bytes && !linear->panels) || !linear->scales) {
        size_t bytes = linear->bytes;
        cohort_cpu_unmap(linear->scales, cohort_cpu_scale_bytes(linear));
        cohort_cpu_linear_destroy(linear);
        return COHORT_FAIL(COHORT_E_NOMEM, "%zu bytes of weights", bytes);
    }
    *out_linear = linear;
    return COHORT_OK;
}

void cohort_cpu_int8_set(cohort_linear *linear, cohort_plane plane, int64_t row_begin,
                         int64_t n_rows, const void *src, int64_t src_stride) {
    for (int64_t r = 0; r < n_rows; r++) {
        int64_t row = row_begin + r;
        if (plane == COHORT_SCALES) {
            linear->scales[row] = ((const float *)src)[r * src_stride];
            continue;
        }
        const int8_t *from = (const int8_t *)src + r * src_stride;
        unsigned char *panel =
            linear->panels + (size_t)(row / COHORT_CPU_PANEL) * linear->panel_bytes;
        for (int64_t k = 0; k < linear->n_in; k++)
            panel[k * COHORT_CPU_PANEL + row % COHORT_CPU_PANEL] = (unsigned char)from[k];
    }
}

struct job {
    const cohort_linear *weight;
    const float *bias, *x;
    int64_t x_stride;
    float *y;
    int64_t y_stride, n_rows;
    void (*multiply)(const struct job *, int64_t panel, int64_t row, int32_t n);
};

/* n rows of x from one on against a panel. */
static inline __attribute__((always_inline)) void multiply_rows(const struct job *job,
                                                                int64_t panel,
                                                                int64_t row, int32_t n) {
    const cohort_linear *weight = job->weight;
    const int8_t *from =
        (const int8_t *)weight->panels + (size_t)panel * weight->panel_bytes;
    float sums[TILE][COHORT_CPU_PANEL] = {{0}};
    for (int64_t k = 0; k < weight->n_in; k++, from += COHORT_CPU_PANEL) {
        float wide[COHORT_CPU_PANEL];
        for (int32_t l = 0; l < COHORT_CPU_PANEL; l++)
            wide[l] = (float)from[l];
        for (int32_t r = 0; r < n; r++) {
            float x = job->x[(row + r) * job->x_stride + k];
            for (int32_t l = 0; l < COHORT_CPU_PANEL; l++)
                sums[r][l] += x * wide[l];
        }
    }
    int64_t first = panel * COHORT_CPU_PANEL, n_columns = weight->n_out - first;
    if (n_columns > COHORT_CPU_PANEL) n_columns = COHORT_CPU_PANEL;
    for (int32_t r = 0; r < n; r++)
        for (int64_t l = 0; l < n_columns; l++) {
            float y = sums[r][l] * weight->scales[first + l];
            job->y[(row + r) * job->y_stride + first + l] =
                job->bias ? y + job->bias[first + l] : y;
        }
}

static inline __attribute__((always_inline)) void multiply(const struct job *job,
                                                           int64_t panel, int64_t row,
                                                           int32_t n) {
    if (n == TILE)
        multiply_rows(job, panel, row, TILE);
    else if (n == 1)
        multiply_rows(job, panel, row, 1);
    else
        multiply_rows(job, panel, row, n);
}

#define FOR_ISA(name, ...)                                              \
    __attribute__((optimize("O3"), ##__VA_ARGS__)) static void name(    \
        const struct job *job, int64_t panel, int64_t row, int32_t n) { \
        multiply(job, panel, row, n);                                   \
    }
FOR_ISA(multiply_portable)
FOR_ISA(multiply_avx2, target("avx2"))
FOR_ISA(multiply_avx512, target("avx512f,avx512bw,avx512dq,avx512vl"))

static void multiply_share(void *context, int32_t thread, int32_t n_threads) {
    const struct job *job = context;
    cohort_cpu_range share = cohort_cpu_share(job->weight->n_panels, thread, n_threads);
    for (int64_t panel = share.begin; panel < share.end; panel++)
        for (int64_t row = 0; row < job->n_rows; row += TILE) {
            int64_t left = job->n_rows - row;
            job->multiply(job, panel, row, left < TILE ? (int32_t)left : TILE);
        }
}

void cohort_cpu_int8_linear(cohort_backend *backend, const cohort_linear *weight,
                            const float *bias, const float *x, int64_t x_stride, float *y,
                            int64_t y_stride, int64_t n_rows) {
    const struct job job = {
        .weight = weight,
        .bias = bias,
        .x = x,
        .x_stride = x_stride,
        .y = y,
        .y_stride = y_stride,
        .n_rows = n_rows,
        .multiply = backend->kernels == &cohort_cpu_kernels_avx512 ? multiply_avx512
                    : backend->kernels == &cohort_cpu_kernels_avx2 ? multiply_avx2
                                                                   : multiply_portable,
    };
    cohort_pool_run(backend->pool, multiply_share, (void *)(uintptr_t)&job);
}
