/* SPDX-License-Identifier: Apache-2.0 */
#include "model/cpu/cpu_internal.h"

/* Design notes.
 *
 * Expert by expert: the rows that chose it are multiplied together, so its weights are
 * read once.  Experts come in ascending order, so a row's sum is added up in an order
 * that depends on its own choice alone. */

/* gate_up has 2 * n_inner rows, so there is room for one row of any expert. */
_Static_assert(3 * (COHORT_CPU_MOST_ROWS / 2) + COHORT_CPU_MOST_ROWS <=
                   COHORT_CPU_EXPERT_FLOATS,
               "scratch for a row");

struct mixture {
    cohort_backend *backend;
    const float *x;
    float *y;
    int64_t n_in, n_inner;
    /* rows of the expert at hand */
    int32_t n;
    int32_t rows[COHORT_CPU_EXPERT_ROWS];
    float weights[COHORT_CPU_EXPERT_ROWS];
    float *result; /* [n][n_in] */
};

static void scatter_share(void *context, int32_t thread, int32_t n_threads) {
    const struct mixture *mixture = context;
    cohort_cpu_range share = cohort_cpu_share(mixture->n_in, thread, n_threads);
    for (int32_t i = 0; i < mixture->n; i++)
        mixture->backend->kernels->add_scaled(
            mixture->y + mixture->rows[i] * mixture->n_in + share.begin,
            mixture->result + i * mixture->n_in + share.begin, mixture->weights[i],
            share.end - share.begin);
}

static void compute(struct mixture *mixture, const cohort_linear *gate_up,
                    const cohort_linear *down) {
    cohort_backend *backend = mixture->backend;
    int64_t n = mixture->n, n_inner = mixture->n_inner, n_in = mixture->n_in;
    float *wide = backend->expert;
    float *narrow = wide + n * 2 * n_inner;
    mixture->result = narrow + n * n_inner;
    cohort_cpu_linear_rows(backend, gate_up, NULL, mixture->x, n_in, mixture->rows, wide,
                           2 * n_inner, n);
    cohort_cpu_activate(backend, COHORT_SILU, true, wide, narrow, n, n_inner);
    cohort_cpu_linear(backend, down, NULL, narrow, n_inner, mixture->result, n_in, n);
    if (n * n_in < COHORT_CPU_ALONE)
        scatter_share(mixture, 0, 1);
    else
        cohort_pool_run(backend->pool, scatter_share, mixture);
    mixture->n = 0;
}

void cohort_cpu_experts(cohort_backend *backend, cohort_linear *const *gate_up,
                        cohort_linear *const *down, int32_t n_experts, const int32_t *ids,
                        const float *weights, int32_t top_k, const float *x, float *y,
                        int64_t n_rows, int64_t n_in, int64_t n_inner) {
    struct mixture mixture = {
        .backend = backend, .x = x, .y = y, .n_in = n_in, .n_inner = n_inner};
    int64_t most = COHORT_CPU_EXPERT_FLOATS / (3 * n_inner + n_in);
    if (most > COHORT_CPU_EXPERT_ROWS) most = COHORT_CPU_EXPERT_ROWS;
    memset(y, 0, (size_t)(n_rows * n_in) * sizeof *y);
    for (int32_t e = 0; e < n_experts; e++) {
        for (int64_t i = 0; i < n_rows * top_k; i++) {
            if (ids[i] != e) continue;
            mixture.rows[mixture.n] = (int32_t)(i / top_k);
            mixture.weights[mixture.n] = weights[i];
            if (++mixture.n == most) compute(&mixture, gate_up[e], down[e]);
        }
        if (mixture.n) compute(&mixture, gate_up[e], down[e]);
    }
}
