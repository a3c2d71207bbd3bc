/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "model/cpu/cpu_internal.h"

/* What goes row by row: a thread takes whole rows.  A few rows of a decode step are done
 * by the caller alone, since waking the others would cost more. */

static void run(cohort_backend *backend, int64_t n_elements, cohort_pool_task *task,
                void *context) {
    if (n_elements < COHORT_CPU_ALONE)
        task(context, 0, 1);
    else
        cohort_pool_run(backend->pool, task, context);
}

/* ---- norms ------------------------------------------------------------------------- */

struct norm {
    const cohort_cpu_kernels *kernels;
    bool centred; /* layer norm */
    const float *x, *weight, *bias;
    float eps;
    float *y;
    int64_t n_rows, n;
};

static void norm_share(void *context, int32_t thread, int32_t n_threads) {
    const struct norm *norm = context;
    cohort_cpu_range share = cohort_cpu_share(norm->n_rows, thread, n_threads);
    for (int64_t i = share.begin; i < share.end; i++) {
        const float *x = norm->x + i * norm->n;
        float *y = norm->y + i * norm->n;
        if (norm->centred)
            norm->kernels->layer_norm(x, norm->weight, norm->bias, norm->eps, y, norm->n);
        else
            norm->kernels->rms_norm(x, norm->weight, norm->eps, y, norm->n);
    }
}

void cohort_cpu_rms_norm(cohort_backend *backend, const float *x, const float *weight,
                         float eps, float *y, int64_t n_rows, int64_t n_columns) {
    struct norm norm = {backend->kernels, false,    x, weight, NULL, eps, y,
                        n_rows,           n_columns};
    run(backend, n_rows * n_columns, norm_share, &norm);
}

void cohort_cpu_layer_norm(cohort_backend *backend, const float *x, const float *weight,
                           const float *bias, float eps, float *y, int64_t n_rows,
                           int64_t n_columns) {
    struct norm norm = {backend->kernels, true,     x, weight, bias, eps, y,
                        n_rows,           n_columns};
    run(backend, n_rows * n_columns, norm_share, &norm);
}

/* ---- sums -------------------------------------------------------------------------- */

struct sum {
    const cohort_cpu_kernels *kernels;
    float *y;
    const float *x;
    int64_t count;
};

static void add_share(void *context, int32_t thread, int32_t n_threads) {
    const struct sum *sum = context;
    cohort_cpu_range share = cohort_cpu_share(sum->count, thread, n_threads);
    sum->kernels->add(sum->y + share.begin, sum->x + share.begin,
                      share.end - share.begin);
}

void cohort_cpu_add(cohort_backend *backend, float *y, const float *x, int64_t count) {
    struct sum sum = {backend->kernels, y, x, count};
    run(backend, count, add_share, &sum);
}

/* ---- heads ------------------------------------------------------------------------- */

struct heads {
    const cohort_cpu_kernels *kernels;
    const cohort_attention *shape;
    float *qkv;
    int64_t qkv_stride;
    const float *q_norm, *k_norm;
    float eps;
    const float *cos, *sin;
};

static void heads_of_row(const struct heads *heads, int64_t row, int64_t position) {
    const cohort_attention *shape = heads->shape;
    int32_t dim = shape->head_dim, half = dim / 2;
    for (int32_t h = 0; h < shape->n_heads + shape->n_kv_heads; h++) {
        float *head = heads->qkv + row * heads->qkv_stride + (int64_t)h * dim;
        const float *norm = h < shape->n_heads ? heads->q_norm : heads->k_norm;
        if (norm) heads->kernels->rms_norm(head, norm, heads->eps, head, dim);
        if (heads->cos)
            heads->kernels->rotate(head, heads->cos + position * half,
                                   heads->sin + position * half, half);
    }
}

/* Rows are counted over all sequences; a thread takes those in its share. */
static void heads_share(void *context, int32_t thread, int32_t n_threads) {
    const struct heads *heads = context;
    const cohort_attention *shape = heads->shape;
    int64_t n_rows = 0, before = 0;
    for (int32_t i = 0; i < shape->n_sequences; i++)
        n_rows += shape->sequences[i].n_rows;
    cohort_cpu_range share = cohort_cpu_share(n_rows, thread, n_threads);
    for (int32_t i = 0; i < shape->n_sequences; i++) {
        const cohort_sequence *sequence = &shape->sequences[i];
        int64_t from = share.begin - before, to = share.end - before;
        if (from < 0) from = 0;
        if (to > sequence->n_rows) to = sequence->n_rows;
        for (int64_t r = from; r < to; r++)
            heads_of_row(heads, sequence->row_begin + r, sequence->n_computed + r);
        before += sequence->n_rows;
    }
}

void cohort_cpu_qk_norm_rope(cohort_backend *backend, const cohort_attention *shape,
                             float *qkv, int64_t qkv_stride, const float *q_norm,
                             const float *k_norm, float eps, const float *cos,
                             const float *sin) {
    struct heads heads = {backend->kernels, shape, qkv, qkv_stride, q_norm,
                          k_norm,           eps,   cos, sin};
    int64_t n_rows = 0;
    for (int32_t i = 0; i < shape->n_sequences; i++)
        n_rows += shape->sequences[i].n_rows;
    run(backend, n_rows * qkv_stride, heads_share, &heads);
}

/* ---- activations ------------------------------------------------------------------- */

struct activation {
    const cohort_cpu_kernels *kernels;
    cohort_activation kind;
    bool gated;
    const float *x;
    float *y;
    int64_t n_rows, n;
};

/* Shares of columns, not of rows: a single wide row has work for all. */
static void activate_share(void *context, int32_t thread, int32_t n_threads) {
    const struct activation *at = context;
    cohort_cpu_range rows = cohort_cpu_share(at->n_rows, thread, n_threads);
    cohort_cpu_range columns = {0, at->n};
    if (at->n_rows < n_threads) {
        rows = (cohort_cpu_range){0, at->n_rows};
        columns = cohort_cpu_share(at->n, thread, n_threads);
    }
    for (int64_t i = rows.begin; i < rows.end; i++) {
        const float *gate = at->x + i * at->n * (at->gated ? 2 : 1) + columns.begin;
        at->kernels->activate(at->kind, gate, at->gated ? gate + at->n : NULL,
                              at->y + i * at->n + columns.begin,
                              columns.end - columns.begin);
    }
}

void cohort_cpu_activate(cohort_backend *backend, cohort_activation activation,
                         bool gated, const float *x, float *y, int64_t n_rows,
                         int64_t n) {
    struct activation at = {backend->kernels, activation, gated, x, y, n_rows, n};
    run(backend, n_rows * n, activate_share, &at);
}

/* ---- router ------------------------------------------------------------------------ */

struct router {
    const cohort_cpu_kernels *kernels;
    const float *logits;
    int64_t n_rows;
    int32_t n_experts, top_k;
    bool renormalise;
    int32_t *ids;
    float *weights;
};

/* The likeliest expert that isn't among the n chosen; the lower id of two equal ones. */
static int32_t next_expert(const float *logits, int32_t n_experts, const int32_t *chosen,
                           int32_t n) {
    int32_t best = -1;
    for (int32_t e = 0; e < n_experts; e++) {
        if (best >= 0 && !(logits[e] > logits[best])) continue;
        bool taken = false;
        for (int32_t i = 0; i < n; i++)
            taken |= chosen[i] == e;
        if (!taken) best = e;
    }
    return best;
}

static void route_row(const struct router *router, int64_t row) {
    const float *logits = router->logits + row * router->n_experts;
    int32_t *ids = router->ids + row * router->top_k;
    float *weights = router->weights + row * router->top_k;
    float most = -INFINITY, sum = 0, chosen = 0;
    for (int32_t e = 0; e < router->n_experts; e++)
        most = fmaxf(most, logits[e]);
    for (int32_t e = 0; e < router->n_experts; e++)
        sum += expf(logits[e] - most);
    for (int32_t i = 0; i < router->top_k; i++) {
        ids[i] = next_expert(logits, router->n_experts, ids, i);
        weights[i] = expf(logits[ids[i]] - most) / sum;
        chosen += weights[i];
    }
    for (int32_t i = 0; router->renormalise && i < router->top_k; i++)
        weights[i] /= chosen;
}

static void route_share(void *context, int32_t thread, int32_t n_threads) {
    const struct router *router = context;
    cohort_cpu_range share = cohort_cpu_share(router->n_rows, thread, n_threads);
    for (int64_t i = share.begin; i < share.end; i++)
        route_row(router, i);
}

void cohort_cpu_route(cohort_backend *backend, const float *logits, int64_t n_rows,
                      int32_t n_experts, int32_t top_k, bool renormalise,
                      int32_t *out_ids, float *out_weights) {
    struct router router = {backend->kernels, logits,  n_rows,     n_experts, top_k,
                            renormalise,      out_ids, out_weights};
    run(backend, n_rows * n_experts, route_share, &router);
}
