/* SPDX-License-Identifier: Apache-2.0 */
/* model/cpu/cpu_internal.h - what the files of the CPU backend share; private to them.
 *
 * backend.c owns the object and the table, linear.c weights and products, attention.c the
 * cache, rows.c what goes row by row, experts.c the mixture.
 */
#ifndef COHORT_MODEL_CPU_CPU_INTERNAL_H
#define COHORT_MODEL_CPU_CPU_INTERNAL_H

#include <string.h>

#include "model/backend.h"
#include "model/cpu/kernels.h"
#include "model/cpu/pool.h"

enum {
    COHORT_CPU_ALIGN = 64,
    COHORT_CPU_BLOCK_ROWS = 96, /* rows of x that are packed and multiplied together */
    COHORT_CPU_BLOCK_K = 1024,  /* and how much of each: together they fit a L2 cache */
    COHORT_CPU_PACK_FLOATS = COHORT_CPU_BLOCK_ROWS * COHORT_CPU_BLOCK_K,
    COHORT_CPU_EXPERT_ROWS = 192,       /* rows of one expert at a time */
    COHORT_CPU_EXPERT_FLOATS = 4 << 20, /* scratch; only what is touched takes memory */
    COHORT_CPU_MOST_ROWS = 1 << 20,     /* of a weight matrix, and columns */
    COHORT_CPU_ALONE = 8192, /* work on fewer elements isn't worth waking the others */
};

struct cohort_backend {
    cohort_cpu_isa isa;
    const cohort_cpu_kernels *kernels; /* isa.kernels */
    bool bf16_activations;             /* and isa.dot is there */
    cohort_pool *pool;
    void *pack;    /* COHORT_CPU_PACK_FLOATS, shared by the threads */
    float *expert; /* COHORT_CPU_EXPERT_FLOATS */
};

struct cohort_linear {
    cohort_backend *backend;
    cohort_dtype dtype;
    int64_t n_out, n_in;
    int32_t n_panels;
    size_t panel_bytes;
    unsigned char *panels;
    size_t bytes;
};

typedef struct cohort_cpu_range {
    int64_t begin, end;
} cohort_cpu_range;

/* Thread's share of n things. */
static inline cohort_cpu_range cohort_cpu_share(int64_t n, int32_t thread,
                                                int32_t n_threads) {
    return (cohort_cpu_range){n * thread / n_threads, n * (thread + 1) / n_threads};
}

static inline size_t cohort_cpu_bytes(cohort_dtype dtype) {
    return dtype == COHORT_F32 ? 4 : 2;
}

/* Rounds to nearest, ties to even; a NaN stays one. */
static inline uint16_t cohort_cpu_to_bf16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* backend.c: zeroed memory straight from the system, in huge pages where it gives them;
 * NULL if there is none. */
void *cohort_cpu_map(size_t bytes);
void cohort_cpu_unmap(void *memory, size_t bytes);

/* The operations; see model/backend.h for what each does. */
cohort_status cohort_cpu_linear_create(cohort_backend *backend, int64_t n_out,
                                       int64_t n_in, cohort_dtype dtype,
                                       cohort_linear **out_linear);
void cohort_cpu_linear_set(cohort_linear *linear, int64_t row_begin, int64_t n_rows,
                           const void *src, cohort_dtype src_dtype, int64_t src_stride);
void cohort_cpu_linear_destroy(cohort_linear *linear);
size_t cohort_cpu_linear_bytes(const cohort_linear *linear);
void cohort_cpu_linear(cohort_backend *backend, const cohort_linear *weight,
                       const float *bias, const float *x, int64_t x_stride, float *y,
                       int64_t y_stride, int64_t n_rows);
/* linear with row i of x at row ids[i] of x; NULL: i. */
void cohort_cpu_linear_rows(cohort_backend *backend, const cohort_linear *weight,
                            const float *bias, const float *x, int64_t x_stride,
                            const int32_t *ids, float *y, int64_t y_stride,
                            int64_t n_rows);
void cohort_cpu_embed(cohort_backend *backend, const cohort_linear *table,
                      const int32_t *ids, int64_t n_rows, float *y);

void cohort_cpu_rms_norm(cohort_backend *backend, const float *x, const float *weight,
                         float eps, float *y, int64_t n_rows, int64_t n_columns);
void cohort_cpu_layer_norm(cohort_backend *backend, const float *x, const float *weight,
                           const float *bias, float eps, float *y, int64_t n_rows,
                           int64_t n_columns);
void cohort_cpu_add(cohort_backend *backend, float *y, const float *x, int64_t count);
void cohort_cpu_qk_norm_rope(cohort_backend *backend, const cohort_attention *shape,
                             float *qkv, int64_t qkv_stride, const float *q_norm,
                             const float *k_norm, float eps, const float *cos,
                             const float *sin);
void cohort_cpu_activate(cohort_backend *backend, cohort_activation activation,
                         bool gated, const float *x, float *y, int64_t n_rows, int64_t n);
void cohort_cpu_route(cohort_backend *backend, const float *logits, int64_t n_rows,
                      int32_t n_experts, int32_t top_k, bool renormalise,
                      int32_t *out_ids, float *out_weights);

size_t cohort_cpu_kv_block_bytes(const cohort_backend *backend,
                                 const cohort_kv_shape *shape);
cohort_status cohort_cpu_kv_create(cohort_backend *backend, const cohort_kv_shape *shape,
                                   int64_t n_blocks, cohort_kv **out_kv);
size_t cohort_cpu_kv_bytes(const cohort_kv *kv); /* of memory, scratch apart */
void cohort_cpu_kv_destroy(cohort_kv *kv);
void cohort_cpu_attention(cohort_backend *backend, cohort_kv *kv, int32_t layer,
                          const cohort_attention *shape, const float *qkv,
                          int64_t qkv_stride, float *out);

void cohort_cpu_experts(cohort_backend *backend, cohort_linear *const *gate_up,
                        cohort_linear *const *down, int32_t n_experts, const int32_t *ids,
                        const float *weights, int32_t top_k, const float *x, float *y,
                        int64_t n_rows, int64_t n_in, int64_t n_inner);

#endif /* COHORT_MODEL_CPU_CPU_INTERNAL_H */
