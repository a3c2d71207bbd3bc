/* SPDX-License-Identifier: Apache-2.0 */
/* model/backend.h - the operations a model is computed with, one table per kind of
 * device.
 *
 * The forward pass (model.c) is written once against this table; cpu/ implements it,
 * cuda/ will.  Activations are f32 matrices, row-major, one row a token; weights are
 * opaque and live in whatever layout the device reads fastest.
 *
 * Ownership: what a backend creates dies with it or by its _destroy.
 * Threads:   a backend belongs to one thread; it uses threads of its own inside an op.
 * Determinism: an output element is added up in an order that does not depend on the
 *            number of rows in the call: a sequence computes the same alone and in a
 * batch.
 */
#ifndef COHORT_MODEL_BACKEND_H
#define COHORT_MODEL_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cohort/dtype.h"
#include "cohort/status.h"

typedef struct cohort_backend cohort_backend;
typedef struct cohort_linear cohort_linear; /* a packed weight matrix [n_out, n_in] */
typedef struct cohort_kv cohort_kv; /* the paged key and value cache of one rank */

/* One sequence's rows in a batch. */
typedef struct cohort_sequence {
    int32_t row_begin;          /* first row in the activations */
    int32_t n_rows;             /* tokens computed in this step, at least 1 */
    int32_t n_computed;         /* tokens in the cache before them */
    const int32_t *block_table; /* ceil((n_computed + n_rows) / block_size) block ids */
} cohort_sequence;

typedef enum cohort_activation {
    COHORT_SILU,
    COHORT_RELU,
    COHORT_GELU
} cohort_activation;

typedef struct cohort_attention {
    const cohort_sequence *sequences;
    int32_t n_sequences;
    int32_t n_heads;    /* query heads of this rank; query head h reads KV head */
    int32_t n_kv_heads; /*   h / (n_heads / n_kv_heads) */
    int32_t head_dim;
    float scale;
    int32_t sliding_window; /* a token sees itself and window-1 before it; 0: all */
} cohort_attention;

/* What a rank keeps of its tokens; dtype F32 or BF16. */
typedef struct cohort_kv_shape {
    int32_t n_layers, block_size, n_kv_heads, head_dim;
    cohort_dtype dtype;
} cohort_kv_shape;

typedef struct cohort_backend_options {
    const int32_t *cpus; /* one thread per entry, pinned; entry -1: not pinned */
    int32_t n_threads;
    bool bf16_activations; /* products, attention's too, may round inputs to bf16 */
    const char *isa;       /* NULL: the best this CPU has; else "portable", "avx2", ... */
} cohort_backend_options;

typedef struct cohort_backend_ops {
    const char *name;

    cohort_status (*create)(const cohort_backend_options *options,
                            cohort_backend **out_backend);
    void (*destroy)(cohort_backend *backend);
    const char *(*isa)(const cohort_backend *backend); /* "avx512_bf16", for the log */

    /* f32 scratch for activations, 64-byte aligned (device memory on a device). */
    cohort_status (*alloc)(cohort_backend *backend, size_t count, float **out_floats);
    void (*free)(cohort_backend *backend, float *floats);

    /* Weights.  linear_set fills rows [row_begin, row_begin + n_rows) from a row-major
     * host matrix of src_dtype whose rows lie src_stride elements apart; any order, any
     * number of calls, from one thread (it uses the backend's threads inside). */
    cohort_status (*linear_create)(cohort_backend *backend, int64_t n_out, int64_t n_in,
                                   cohort_dtype dtype, cohort_linear **out_linear);
    void (*linear_set)(cohort_linear *linear, int64_t row_begin, int64_t n_rows,
                       const void *src, cohort_dtype src_dtype, int64_t src_stride);
    void (*linear_destroy)(cohort_linear *linear);
    size_t (*linear_bytes)(const cohort_linear *linear);

    /* y[n_rows, n_out] = x[n_rows, n_in] W^T + bias (may be NULL).
     * y rows lie y_stride floats apart, x rows x_stride. */
    void (*linear)(cohort_backend *backend, const cohort_linear *weight,
                   const float *bias, const float *x, int64_t x_stride, float *y,
                   int64_t y_stride, int64_t n_rows);
    /* y[i] = row ids[i] of W as f32; a negative id gives zeros (another rank's token). */
    void (*embed)(cohort_backend *backend, const cohort_linear *table, const int32_t *ids,
                  int64_t n_rows, float *y);

    void (*rms_norm)(cohort_backend *backend, const float *x, const float *weight,
                     float eps, float *y, int64_t n_rows, int64_t n_columns);
    void (*layer_norm)(cohort_backend *backend, const float *x, const float *weight,
                       const float *bias, float eps, float *y, int64_t n_rows,
                       int64_t n_columns);
    /* x += residual rows: y[i] += x[i], count elements. */
    void (*add)(cohort_backend *backend, float *y, const float *x, int64_t count);
    /* The q and k parts of fused qkv rows, in place: head norms (weights may be NULL),
     * then rotation by cos/sin[position][head_dim / 2] (NULL: none), "rotate half"
     * pairing (i, i + head_dim / 2).  qkv row: [n_heads | n_kv_heads | n_kv_heads] heads.
     */
    void (*qk_norm_rope)(cohort_backend *backend, const cohort_attention *shape,
                         float *qkv, int64_t qkv_stride, const float *q_norm,
                         const float *k_norm, float eps, const float *cos,
                         const float *sin);
    /* y[r][i] = act(x[r][i]) * x[r][n + i] (gated), or act(x[r][i]) alone. */
    void (*activate)(cohort_backend *backend, cohort_activation activation, bool gated,
                     const float *x, float *y, int64_t n_rows, int64_t n);

    /* Bytes that one block takes, padding included: what to account for. */
    size_t (*kv_block_bytes)(const cohort_backend *backend, const cohort_kv_shape *shape);
    cohort_status (*kv_create)(cohort_backend *backend, const cohort_kv_shape *shape,
                               int64_t n_blocks, cohort_kv **out_kv);
    void (*kv_destroy)(cohort_kv *kv);
    /* Stores the k and v heads of the qkv rows, then attends: out[row][n_heads *
     * head_dim]. */
    void (*attention)(cohort_backend *backend, cohort_kv *kv, int32_t layer,
                      const cohort_attention *shape, const float *qkv, int64_t qkv_stride,
                      float *out);

    /* Mixture of experts.  router: softmax over n_experts logits a row, the top_k
     * likeliest, renormalised where asked; ids and weights are [n_rows][top_k]. */
    void (*route)(cohort_backend *backend, const float *logits, int64_t n_rows,
                  int32_t n_experts, int32_t top_k, bool renormalise, int32_t *out_ids,
                  float *out_weights);
    /* y[row] = sum over its experts of weight * down(act(gate_up x)); experts[e] packed
     * as gate_up [2 * n_inner, n_in] (gate rows first) and down [n_in, n_inner]. */
    void (*experts)(cohort_backend *backend, cohort_linear *const *gate_up,
                    cohort_linear *const *down, int32_t n_experts, const int32_t *ids,
                    const float *weights, int32_t top_k, const float *x, float *y,
                    int64_t n_rows, int64_t n_in, int64_t n_inner);
} cohort_backend_ops;

/* The CPU's table; see cpu/. */
const cohort_backend_ops *cohort_backend_cpu(void);

#endif /* COHORT_MODEL_BACKEND_H */
