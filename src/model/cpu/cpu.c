/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/fail.h"
#include "model/cpu/kernels.h"
#include "model/cpu/pool.h"

/* Design notes.
 *
 * An op splits its work over the pool by a static partition where pieces are equal
 * (panels, rows) and by a shared counter where they are not (attention).  Each piece is
 * computed whole by one thread, so results do not depend on the number of threads.
 *
 * Weights and cache are anonymous memory with huge pages asked for: a decode step reads
 * all of it, and with small pages the TLB would set the pace. */

struct cohort_backend {
    const cohort_kernels *kernels;
    cohort_pool *pool;
    float *scratch; /* per thread, for attention and experts; grown when needed */
    size_t scratch_floats;
};

struct cohort_linear {
    cohort_backend *backend;
    void *panels;
    int64_t n_out, n_in, n_panels;
    size_t panel_bytes, item_bytes;
    cohort_dtype dtype;
};

struct cohort_kv {
    void *bytes;
    size_t total_bytes, head_bytes, block_bytes, layer_bytes;
    int32_t block_size, n_kv_heads, head_dim;
    cohort_dtype dtype;
};

static void *map_memory(size_t bytes) {
    void *at =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) return NULL;
    madvise(at, bytes, MADV_HUGEPAGE);
    return at;
}

static void part_of(int64_t total, int32_t index, int32_t count, int64_t *out_begin,
                    int64_t *out_end) {
    *out_begin = total * index / count;
    *out_end = total * (index + 1) / count;
}

/* ---- life -------------------------------------------------------------------------- */

static const cohort_kernels *kernels_named(const char *isa) {
#ifdef __x86_64__
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    bool avx512 =
        avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    if (avx512 && (!isa || !strcmp(isa, "avx512"))) return &cohort_kernels_avx512;
    if (avx2 && (!isa || !strcmp(isa, "avx2"))) return &cohort_kernels_avx2;
#endif
    if (!isa || !strcmp(isa, "portable")) return &cohort_kernels_portable;
    return NULL;
}

static void backend_destroy(cohort_backend *backend) {
    if (!backend) return;
    cohort_pool_destroy(backend->pool);
    free(backend->scratch);
    free(backend);
}

static cohort_status backend_create(const cohort_backend_options *options,
                                    cohort_backend **out_backend) {
    const cohort_kernels *kernels = kernels_named(options->isa);
    if (!kernels)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "instruction set '%s' is not on this processor", options->isa);
    cohort_backend *backend = calloc(1, sizeof *backend);
    if (!backend) return COHORT_FAIL(COHORT_E_NOMEM, "the CPU backend");
    backend->kernels = kernels;
    cohort_status status =
        cohort_pool_create(options->cpus, options->n_threads, &backend->pool);
    if (status < 0) {
        backend_destroy(backend);
        return status;
    }
    *out_backend = backend;
    return COHORT_OK;
}

static const char *backend_isa(const cohort_backend *backend) {
    return backend->kernels->isa;
}

static cohort_status floats_alloc(cohort_backend *backend, size_t count,
                                  float **out_floats) {
    (void)backend;
    size_t bytes = (count * sizeof(float) + 63) / 64 * 64;
    *out_floats = aligned_alloc(64, bytes ? bytes : 64);
    if (!*out_floats)
        return COHORT_FAIL(COHORT_E_NOMEM, "%zu floats of activations", count);
    return COHORT_OK;
}

static void floats_free(cohort_backend *backend, float *floats) {
    (void)backend;
    free(floats);
}

/* ---- weights ----------------------------------------------------------------------- */

static cohort_status linear_create(cohort_backend *backend, int64_t n_out, int64_t n_in,
                                   cohort_dtype dtype, cohort_linear **out_linear) {
    cohort_linear *linear = calloc(1, sizeof *linear);
    if (!linear) return COHORT_FAIL(COHORT_E_NOMEM, "a weight matrix");
    *linear = (cohort_linear){.backend = backend, .n_out = n_out, .n_in = n_in};
    linear->dtype = dtype;
    linear->item_bytes = dtype == COHORT_F32 ? 4 : 2;
    linear->n_panels = (n_out + COHORT_PANEL - 1) / COHORT_PANEL;
    linear->panel_bytes =
        (size_t)((n_in + 1) / 2 * 2) * COHORT_PANEL * linear->item_bytes;
    linear->panels = map_memory(linear->panel_bytes * (size_t)linear->n_panels);
    if (!linear->panels) {
        free(linear);
        return COHORT_FAIL(COHORT_E_NOMEM, "%lld x %lld weights", (long long)n_out,
                           (long long)n_in);
    }
    *out_linear = linear;
    return COHORT_OK;
}

static void linear_destroy(cohort_linear *linear) {
    if (!linear) return;
    munmap(linear->panels, linear->panel_bytes * (size_t)linear->n_panels);
    free(linear);
}

static size_t linear_bytes(const cohort_linear *linear) {
    return linear->panel_bytes * (size_t)linear->n_panels;
}

/* Where element (row, k) lies in the panels, in items. */
static size_t item_of(const cohort_linear *linear, int64_t row, int64_t k) {
    size_t panel =
        (size_t)(row / COHORT_PANEL) * (linear->panel_bytes / linear->item_bytes);
    size_t lane = (size_t)(row % COHORT_PANEL);
    if (linear->dtype == COHORT_F32) return panel + (size_t)k * COHORT_PANEL + lane;
    return panel + (size_t)(k / 2) * 2 * COHORT_PANEL + lane * 2 + (size_t)(k % 2);
}

static float read_float(const void *src, cohort_dtype dtype, size_t i) {
    if (dtype == COHORT_F32) return ((const float *)src)[i];
    uint16_t bits = ((const uint16_t *)src)[i];
    return dtype == COHORT_BF16 ? cohort_from_bf16(bits) : cohort_from_f16(bits);
}

struct set_job {
    cohort_linear *linear;
    int64_t row_begin, n_rows, stride;
    const void *src;
    cohort_dtype dtype;
};

static void set_row(const struct set_job *job, int64_t row) {
    cohort_linear *linear = job->linear;
    size_t step = linear->dtype == COHORT_F32 ? COHORT_PANEL : 2 * COHORT_PANEL;
    size_t from = (size_t)((row - job->row_begin) * job->stride);
    bool same = linear->dtype == job->dtype;
    size_t at = item_of(linear, row, 0);
    if (linear->dtype == COHORT_F32) {
        float *to = linear->panels;
        for (int64_t k = 0; k < linear->n_in; k++, at += step)
            to[at] = read_float(job->src, job->dtype, from + (size_t)k);
        return;
    }
    uint16_t *to = linear->panels;
    for (int64_t k = 0; k < linear->n_in; k++) {
        size_t i = at + (size_t)(k / 2) * step + (size_t)(k % 2);
        float value = same ? 0 : read_float(job->src, job->dtype, from + (size_t)k);
        if (same)
            to[i] = ((const uint16_t *)job->src)[from + (size_t)k];
        else
            to[i] = linear->dtype == COHORT_BF16 ? cohort_to_bf16(value)
                                                 : cohort_to_f16(value);
    }
}

static void set_work(void *argument, int32_t index, int32_t count) {
    const struct set_job *job = argument;
    int64_t begin, end;
    part_of(job->n_rows, index, count, &begin, &end);
    for (int64_t row = begin; row < end; row++)
        set_row(job, job->row_begin + row);
}

static void linear_set(cohort_linear *linear, int64_t row_begin, int64_t n_rows,
                       const void *src, cohort_dtype src_dtype, int64_t src_stride) {
    struct set_job job = {linear, row_begin, n_rows, src_stride, src, src_dtype};
    cohort_pool_run(linear->backend->pool, set_work, &job);
}

/* ---- products ---------------------------------------------------------------------- */

struct product_job {
    const cohort_kernels *kernels;
    cohort_product whole;
};

static void product_work(void *argument, int32_t index, int32_t count) {
    const struct product_job *job = argument;
    cohort_product part = job->whole;
    int64_t begin, end;
    /* In fours: that many panels are read side by side. */
    part_of((part.n_panels + 3) / 4, index, count, &begin, &end);
    begin *= 4;
    end = end * 4 < part.n_panels ? end * 4 : part.n_panels;
    if (begin >= end) return;
    part.panels = (const char *)part.panels + (size_t)begin * part.panel_bytes;
    part.n_panels = end - begin;
    part.n_out -= begin * COHORT_PANEL;
    part.y += begin * COHORT_PANEL;
    if (part.bias) part.bias += begin * COHORT_PANEL;
    job->kernels->product(&part);
}

static void linear(cohort_backend *backend, const cohort_linear *weight,
                   const float *bias, const float *x, int64_t x_stride, float *y,
                   int64_t y_stride, int64_t n_rows) {
    struct product_job job = {backend->kernels,
                              {.panels = weight->panels,
                               .panel_bytes = weight->panel_bytes,
                               .dtype = weight->dtype,
                               .n_panels = weight->n_panels,
                               .n_out = weight->n_out,
                               .n_in = weight->n_in,
                               .bias = bias,
                               .x = x,
                               .x_stride = x_stride,
                               .y = y,
                               .y_stride = y_stride,
                               .n_rows = n_rows}};
    cohort_pool_run(backend->pool, product_work, &job);
}

static void embed(cohort_backend *backend, const cohort_linear *table, const int32_t *ids,
                  int64_t n_rows, float *y) {
    (void)backend;
    for (int64_t i = 0; i < n_rows; i++, y += table->n_in)
        for (int64_t k = 0; k < table->n_in; k++)
            y[k] = ids[i] < 0 ? 0
                              : read_float(table->panels, table->dtype,
                                           item_of(table, ids[i], k));
}

/* ---- row by row -------------------------------------------------------------------- */

struct rows_job {
    const cohort_kernels *kernels;
    const float *x, *weight, *bias;
    float *y;
    float eps;
    int64_t n_rows, n;
    cohort_activation activation;
    bool gated;
    void (*row)(const struct rows_job *job, int64_t row);
};

static void rows_work(void *argument, int32_t index, int32_t count) {
    const struct rows_job *job = argument;
    int64_t begin, end;
    part_of(job->n_rows, index, count, &begin, &end);
    for (int64_t row = begin; row < end; row++)
        job->row(job, row);
}

/* A few rows are sooner done than shared out. */
static void run_rows(cohort_backend *backend, struct rows_job *job) {
    enum { WORTH_SHARING_FLOATS = 16384 };
    job->kernels = backend->kernels;
    if (job->n_rows * job->n < WORTH_SHARING_FLOATS)
        rows_work(job, 0, 1);
    else
        cohort_pool_run(backend->pool, rows_work, job);
}

static void rms_row(const struct rows_job *job, int64_t row) {
    job->kernels->rms_norm(job->x + row * job->n, job->weight, job->eps,
                           job->y + row * job->n, job->n);
}

static void rms_norm(cohort_backend *backend, const float *x, const float *weight,
                     float eps, float *y, int64_t n_rows, int64_t n_columns) {
    struct rows_job job = {
        .x = x, .weight = weight, .y = y, .eps = eps, .n_rows = n_rows};
    job.n = n_columns;
    job.row = rms_row;
    run_rows(backend, &job);
}

static void layer_row(const struct rows_job *job, int64_t row) {
    job->kernels->layer_norm(job->x + row * job->n, job->weight, job->bias, job->eps,
                             job->y + row * job->n, job->n);
}

static void layer_norm(cohort_backend *backend, const float *x, const float *weight,
                       const float *bias, float eps, float *y, int64_t n_rows,
                       int64_t n_columns) {
    struct rows_job job = {.x = x, .weight = weight, .bias = bias, .y = y, .eps = eps};
    job.n_rows = n_rows;
    job.n = n_columns;
    job.row = layer_row;
    run_rows(backend, &job);
}

static void add(cohort_backend *backend, float *y, const float *x, int64_t count) {
    (void)backend;
    for (int64_t i = 0; i < count; i++)
        y[i] += x[i];
}

static void activate_row(const struct rows_job *job, int64_t row) {
    job->kernels->activate(job->activation, job->gated,
                           job->x + row * job->n * (job->gated ? 2 : 1),
                           job->y + row * job->n, job->n);
}

static void activate(cohort_backend *backend, cohort_activation activation, bool gated,
                     const float *x, float *y, int64_t n_rows, int64_t n) {
    struct rows_job job = {.x = x, .y = y, .n_rows = n_rows, .n = n};
    job.activation = activation;
    job.gated = gated;
    job.row = activate_row;
    run_rows(backend, &job);
}

/* ---- attention --------------------------------------------------------------------- */

static void rotate(float *head, const float *cos, const float *sin, int32_t half) {
    for (int32_t i = 0; i < half; i++) {
        float a = head[i], b = head[half + i];
        head[i] = a * cos[i] - b * sin[i];
        head[half + i] = b * cos[i] + a * sin[i];
    }
}

static void qk_norm_rope(cohort_backend *backend, const cohort_attention *shape,
                         float *qkv, int64_t qkv_stride, const float *q_norm,
                         const float *k_norm, float eps, const float *cos,
                         const float *sin) {
    int32_t half = shape->head_dim / 2;
    for (int32_t s = 0; s < shape->n_sequences; s++) {
        const cohort_sequence *sequence = &shape->sequences[s];
        for (int32_t r = 0; r < sequence->n_rows; r++) {
            float *row = qkv + (sequence->row_begin + r) * qkv_stride;
            int64_t position = sequence->n_computed + r;
            for (int32_t h = 0; h < shape->n_heads + shape->n_kv_heads; h++) {
                float *head = row + (int64_t)h * shape->head_dim;
                const float *norm = h < shape->n_heads ? q_norm : k_norm;
                if (norm)
                    backend->kernels->rms_norm(head, norm, eps, head, shape->head_dim);
                if (cos) rotate(head, cos + position * half, sin + position * half, half);
            }
        }
    }
}

static cohort_status kv_create(cohort_backend *backend, int32_t n_layers,
                               int64_t n_blocks, int32_t block_size, int32_t n_kv_heads,
                               int32_t head_dim, cohort_dtype dtype, cohort_kv **out_kv) {
    (void)backend;
    if (block_size < COHORT_PANEL || block_size % COHORT_PANEL)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "block size %d; the CPU needs a multiple of %d", block_size,
                           COHORT_PANEL);
    cohort_kv *kv = calloc(1, sizeof *kv);
    if (!kv) return COHORT_FAIL(COHORT_E_NOMEM, "a KV cache");
    *kv = (cohort_kv){.block_size = block_size, .n_kv_heads = n_kv_heads, .dtype = dtype};
    kv->head_dim = head_dim;
    kv->head_bytes =
        (size_t)block_size * (size_t)head_dim * (dtype == COHORT_F32 ? 4 : 2);
    kv->block_bytes = 2 * kv->head_bytes * (size_t)n_kv_heads;
    kv->layer_bytes = kv->block_bytes * (size_t)n_blocks;
    kv->total_bytes = kv->layer_bytes * (size_t)n_layers;
    kv->bytes = map_memory(kv->total_bytes);
    if (!kv->bytes) {
        size_t wanted = kv->total_bytes;
        free(kv);
        return COHORT_FAIL(COHORT_E_NOMEM, "a KV cache of %zu bytes", wanted);
    }
    *out_kv = kv;
    return COHORT_OK;
}

static void kv_destroy(cohort_kv *kv) {
    if (!kv) return;
    munmap(kv->bytes, kv->total_bytes);
    free(kv);
}

struct attention_job {
    cohort_backend *backend;
    cohort_kv *kv;
    char *layer;
    const cohort_attention *shape;
    const float *qkv;
    int64_t qkv_stride;
    float *out;
    size_t scratch_floats; /* per thread */
    _Atomic int32_t next;
};

static void put(void *to, size_t i, cohort_dtype dtype, float value) {
    if (dtype == COHORT_F32)
        ((float *)to)[i] = value;
    else
        ((uint16_t *)to)[i] = cohort_to_bf16(value);
}

/* Stores one row's k and v head; k transposed within its 16 tokens. */
static void store_head(const struct attention_job *job, const cohort_sequence *sequence,
                       int32_t r, int32_t head) {
    const cohort_kv *kv = job->kv;
    int32_t position = sequence->n_computed + r, dim = kv->head_dim;
    const float *row = job->qkv + (sequence->row_begin + r) * job->qkv_stride;
    const float *k = row + (int64_t)(job->shape->n_heads + head) * dim;
    const float *v = k + (int64_t)kv->n_kv_heads * dim;
    char *block =
        job->layer +
        (size_t)sequence->block_table[position / kv->block_size] * kv->block_bytes +
        (size_t)head * 2 * kv->head_bytes;
    int32_t token = position % kv->block_size;
    size_t group = (size_t)(token / COHORT_PANEL * COHORT_PANEL) * (size_t)dim;
    size_t lane = (size_t)(token % COHORT_PANEL);
    for (int32_t d = 0; d < dim; d++) {
        put(block, group + (size_t)d * COHORT_PANEL + lane, kv->dtype, k[d]);
        put(block + kv->head_bytes, (size_t)token * (size_t)dim + (size_t)d, kv->dtype,
            v[d]);
    }
}

static void attend_head(const struct attention_job *job, const cohort_sequence *sequence,
                        int32_t head, float *scratch) {
    const cohort_attention *shape = job->shape;
    const cohort_kv *kv = job->kv;
    int32_t group = shape->n_heads / shape->n_kv_heads;
    char *k = job->layer + (size_t)head * 2 * kv->head_bytes;
    int64_t out_stride = (int64_t)shape->n_heads * kv->head_dim;
    for (int32_t r = 0; r < sequence->n_rows; r += COHORT_ATTEND_ROWS) {
        int32_t left = sequence->n_rows - r;
        int64_t row = sequence->row_begin + r;
        int64_t column = (int64_t)head * group * kv->head_dim;
        cohort_attend part = {
            .k = k,
            .v = k + kv->head_bytes,
            .block_stride_bytes = kv->block_bytes,
            .dtype = kv->dtype,
            .block_table = sequence->block_table,
            .block_size = kv->block_size,
            .head_dim = kv->head_dim,
            .n_heads = group,
            .first_position = sequence->n_computed + r,
            .n_rows = left < COHORT_ATTEND_ROWS ? left : COHORT_ATTEND_ROWS,
            .sliding_window = shape->sliding_window,
            .scale = shape->scale,
            .q = job->qkv + row * job->qkv_stride + column,
            .q_stride = job->qkv_stride,
            .out = job->out + row * out_stride + column,
            .out_stride = out_stride,
            .scratch = scratch,
        };
        job->backend->kernels->attend(&part);
    }
}

/* One sequence and KV head is one piece: its keys are stored by whoever then reads them.
 */
static void attention_work(void *argument, int32_t index, int32_t count) {
    (void)count;
    struct attention_job *job = argument;
    float *scratch = job->backend->scratch + (size_t)index * job->scratch_floats;
    int32_t n_heads = job->shape->n_kv_heads;
    int32_t n_pieces = job->shape->n_sequences * n_heads;
    for (;;) {
        int32_t piece = atomic_fetch_add_explicit(&job->next, 1, memory_order_relaxed);
        if (piece >= n_pieces) return;
        const cohort_sequence *sequence = &job->shape->sequences[piece / n_heads];
        for (int32_t r = 0; r < sequence->n_rows; r++)
            store_head(job, sequence, r, piece % n_heads);
        attend_head(job, sequence, piece % n_heads, scratch);
    }
}

/* Memory for all threads; grows to the largest use and stays. */
static float *scratch_of(cohort_backend *backend, size_t floats) {
    if (floats > backend->scratch_floats) {
        free(backend->scratch);
        backend->scratch = aligned_alloc(64, (floats * sizeof(float) + 63) / 64 * 64);
        backend->scratch_floats = backend->scratch ? floats : 0;
    }
    return backend->scratch;
}

static void attention(cohort_backend *backend, cohort_kv *kv, int32_t layer,
                      const cohort_attention *shape, const float *qkv, int64_t qkv_stride,
                      float *out) {
    int32_t group = shape->n_heads / shape->n_kv_heads;
    struct attention_job job = {.backend = backend, .kv = kv, .shape = shape, .qkv = qkv};
    job.layer = (char *)kv->bytes + (size_t)layer * kv->layer_bytes;
    job.qkv_stride = qkv_stride;
    job.out = out;
    job.scratch_floats = (size_t)(COHORT_ATTEND_ROWS * group * (kv->head_dim + 2) + 15);
    if (!scratch_of(backend,
                    job.scratch_floats * (size_t)cohort_pool_size(backend->pool)))
        abort(); /* some KiB; the op has no error to return */
    cohort_pool_run(backend->pool, attention_work, &job);
}

/* ---- experts ----------------------------------------------------------------------- */

static void route_row(const float *logits, int32_t n, int32_t top_k, bool renormalise,
                      int32_t *ids, float *weights) {
    float most = logits[0], sum = 0, chosen = 0;
    for (int32_t e = 1; e < n; e++)
        most = logits[e] > most ? logits[e] : most;
    for (int32_t e = 0; e < n; e++)
        sum += expf(logits[e] - most);
    for (int32_t i = 0; i < top_k; i++) {
        int32_t best = -1;
        for (int32_t e = 0; e < n; e++) {
            bool taken = false;
            for (int32_t j = 0; j < i; j++)
                taken |= ids[j] == e;
            if (!taken && (best < 0 || logits[e] > logits[best])) best = e;
        }
        ids[i] = best;
        weights[i] = expf(logits[best] - most) / sum;
        chosen += weights[i];
    }
    for (int32_t i = 0; renormalise && i < top_k; i++)
        weights[i] /= chosen;
}

static void route(cohort_backend *backend, const float *logits, int64_t n_rows,
                  int32_t n_experts, int32_t top_k, bool renormalise, int32_t *out_ids,
                  float *out_weights) {
    (void)backend;
    for (int64_t r = 0; r < n_rows; r++)
        route_row(logits + r * n_experts, n_experts, top_k, renormalise,
                  out_ids + r * top_k, out_weights + r * top_k);
}

/* Expert by expert in the order of their numbers, so that a row's sum has one order. */
static void experts(cohort_backend *backend, cohort_linear *const *gate_up,
                    cohort_linear *const *down, int32_t n_experts, const int32_t *ids,
                    const float *weights, int32_t top_k, const float *x, float *y,
                    int64_t n_rows, int64_t n_in, int64_t n_inner) {
    size_t row_floats = (size_t)(2 * n_in + 3 * n_inner);
    float *gathered = scratch_of(backend, row_floats * (size_t)n_rows);
    if (!gathered) abort();
    float *inner = gathered + n_rows * n_in;
    float *active = inner + n_rows * 2 * n_inner;
    float *result = active + n_rows * n_inner;
    memset(y, 0, sizeof(float) * (size_t)(n_rows * n_in));
    for (int32_t e = 0; e < n_experts; e++) {
        int64_t n = 0;
        for (int64_t i = 0; i < n_rows * top_k; i++)
            if (ids[i] == e)
                memcpy(gathered + n++ * n_in, x + i / top_k * n_in,
                       sizeof(float) * (size_t)n_in);
        if (!n) continue;
        linear(backend, gate_up[e], NULL, gathered, n_in, inner, 2 * n_inner, n);
        activate(backend, COHORT_SILU, true, inner, active, n, n_inner);
        linear(backend, down[e], NULL, active, n_inner, result, n_in, n);
        n = 0;
        for (int64_t i = 0; i < n_rows * top_k; i++) {
            if (ids[i] != e) continue;
            const float *from = result + n++ * n_in;
            for (int64_t k = 0; k < n_in; k++)
                y[i / top_k * n_in + k] += weights[i] * from[k];
        }
    }
}

const cohort_backend_ops *cohort_backend_cpu(void) {
    static const cohort_backend_ops ops = {
        .name = "cpu",
        .create = backend_create,
        .destroy = backend_destroy,
        .isa = backend_isa,
        .alloc = floats_alloc,
        .free = floats_free,
        .linear_create = linear_create,
        .linear_set = linear_set,
        .linear_destroy = linear_destroy,
        .linear_bytes = linear_bytes,
        .linear = linear,
        .embed = embed,
        .rms_norm = rms_norm,
        .layer_norm = layer_norm,
        .add = add,
        .qk_norm_rope = qk_norm_rope,
        .activate = activate,
        .kv_create = kv_create,
        .kv_destroy = kv_destroy,
        .attention = attention,
        .route = route,
        .experts = experts,
    };
    return &ops;
}
