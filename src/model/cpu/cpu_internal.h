/* SPDX-License-Identifier: Apache-2.0 */
/* model/cpu/cpu_internal.h - what the files of the CPU backend share; private to them.
 *
 * backend.c owns the object and the table, memory.c what things lie in, step.c a step's
 * batch and what goes between ranks, ops.c leads the table's operations to those below,
 * linear.c has weights and products, attention.c the cache, rows.c what goes row by row,
 * experts.c the mixture, sampling.c what becomes of logits, limits.c what the threads
 * reach at most.
 *
 * An operation is done when its call returns.
 */
#ifndef COHORT_MODEL_CPU_CPU_INTERNAL_H
#define COHORT_MODEL_CPU_CPU_INTERNAL_H

#include <string.h>

#include "cohort/status.h"
#include "model/backend.h"
#include "model/cpu/kernels.h"
#include "model/cpu/pool.h"
#include "model/sample.h"

enum {
    COHORT_CPU_ALIGN = 64,
    COHORT_CPU_BLOCK_ROWS = 96, /* rows of x that are packed and multiplied together */
    COHORT_CPU_BLOCK_K = 1024,  /* and how much of each: together they fit a L2 cache */
    COHORT_CPU_PACK_FLOATS = 1 << 18, /* such a block, or half of a L2 cache */
    COHORT_CPU_WHOLE_ROWS = 128,  /* with all of their k; with 512, L2 was too small */
    COHORT_CPU_EXPERT_ROWS = 192, /* rows of one expert at a time */
    COHORT_CPU_EXPERT_FLOATS = 4 << 20, /* scratch; only what is touched takes memory */
    COHORT_CPU_MOST_ROWS = 1 << 20,     /* of a weight matrix, and columns */
    COHORT_CPU_HUGE_PAGE = 2 << 20,
    COHORT_CPU_ALONE = 8192, /* work on fewer elements isn't worth waking the others */
};

struct cohort_buffer {
    cohort_dtype dtype;
    bool is_kept; /* memory comes from cohort_cpu_take */
    void *memory;
    size_t bytes;
};

/* Memory that may be kept, see kept.c; base NULL: none is under way. */
typedef struct cohort_cpu_kept {
    const char *name;
    char *identity;
    int fd; /* -1: not yet */
    bool is_constant, was_kept;
    bool is_trimmed; /* to used_bytes, from the second page on */
    uint64_t generation;
    char *base; /* reserved addresses, from a huge page's begin on */
    size_t reserved_bytes, used_bytes;
    size_t whole_bytes; /* where it was kept */
    size_t moved_bytes;
} cohort_cpu_kept;

/* A step's batch, in one allocation. */
typedef struct cohort_cpu_step {
    cohort_batch batch; /* its arrays are the ones below, samples apart */
    int32_t *ids, *positions;
    int32_t *logit_rows; /* of the activations; n_logit_rows of them */
    int32_t n_logit_rows;
    int32_t *lookup; /* rows of a table, while an embed runs */
    cohort_sequence *sequences;
    int32_t *block_tables; /* max_sequences x max_blocks */
    int32_t *last_tokens;  /* by slot */
    int32_t *drawn;        /* what one sample op draws, for the tp peers */
} cohort_cpu_step;

struct cohort_backend {
    cohort_backend_options options; /* of its pointers, only the groups are valid */
    cohort_cpu_step step;
    cohort_cpu_kept making;    /* between memory_begin and memory_end */
    cohort_cpu_kept moving;    /* memory_move's */
    cohort_sampler **samplers; /* one a thread; NULL: doesn't sample */
    int32_t n_samplers;
    cohort_error error; /* the first; code 0: none yet */
    int32_t layer;      /* being computed; -1: none */
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
    float *scales; /* of int8's rows; NULL: dense */
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
    if (dtype == COHORT_I8) return 1;
    return dtype == COHORT_F32 || dtype == COHORT_I32 ? 4 : 2;
}

/* memory.c: zeroed memory straight from the system, in huge pages where it gives them;
 * NULL if there is none.  take: from what is kept, between begin and end. */
void *cohort_cpu_map(size_t bytes);
void *cohort_cpu_take(cohort_backend *backend, size_t bytes);
void cohort_cpu_unmap(void *memory, size_t bytes); /* either way */
cohort_status cohort_cpu_memory_begin(cohort_backend *backend, const char *name,
                                      const char *identity, bool is_constant,
                                      bool *out_was_kept);
cohort_status cohort_cpu_memory_end(cohort_backend *backend);
cohort_status cohort_cpu_memory_move(cohort_backend *backend);
void cohort_cpu_memory_drop(cohort_backend *backend);
cohort_status cohort_cpu_buffer_create(cohort_backend *backend, cohort_dtype dtype,
                                       int64_t count, cohort_buffer **out_buffer);
void cohort_cpu_buffer_destroy(cohort_buffer *buffer);
cohort_status cohort_cpu_upload(cohort_backend *backend, cohort_view to, const void *from,
                                int64_t count);
cohort_status cohort_cpu_download(cohort_backend *backend, cohort_view from, void *to,
                                  int64_t count);
float *cohort_cpu_floats(cohort_view view); /* NULL: no buffer */
const float *cohort_cpu_vector(const cohort_buffer *buffer);

/* step.c.  fail keeps the thread's error as the backend's first. */
cohort_status cohort_cpu_step_create(cohort_backend *backend);
void cohort_cpu_step_destroy(cohort_backend *backend);
void cohort_cpu_fail(cohort_backend *backend, cohort_status status);
static inline bool cohort_cpu_failed(const cohort_backend *backend) {
    return backend->error.code < 0;
}
cohort_status cohort_cpu_step_begin(cohort_backend *backend, const cohort_batch *batch);
cohort_status cohort_cpu_step_end(cohort_backend *backend);
cohort_status cohort_cpu_check(const cohort_backend *backend);
void cohort_cpu_at_layer(cohort_backend *backend, int32_t layer);
void cohort_cpu_all_reduce(cohort_backend *backend, cohort_view values, int64_t count);
void cohort_cpu_receive(cohort_backend *backend, cohort_view to, int64_t count);
void cohort_cpu_send(cohort_backend *backend, cohort_view from, int64_t count);
void cohort_cpu_gather(cohort_backend *backend, const cohort_op_gather *op);
void cohort_cpu_regroup(cohort_backend *backend, cohort_group *tp_group,
                        cohort_group *pp_group);

/* ops.c and sampling.c: the table's operations. */
void cohort_cpu_op_embed(cohort_backend *backend, const cohort_op_embed *op);
void cohort_cpu_op_linear(cohort_backend *backend, const cohort_op_linear *op);
void cohort_cpu_op_norm(cohort_backend *backend, const cohort_op_norm *op);
void cohort_cpu_op_add(cohort_backend *backend, const cohort_op_add *op);
void cohort_cpu_op_rotate(cohort_backend *backend, const cohort_op_rotate *op);
void cohort_cpu_op_store(cohort_backend *backend, const cohort_op_attention *op);
void cohort_cpu_op_attend(cohort_backend *backend, const cohort_op_attention *op);
void cohort_cpu_op_activate(cohort_backend *backend, const cohort_op_activate *op);
void cohort_cpu_op_route(cohort_backend *backend, const cohort_op_route *op);
void cohort_cpu_op_experts(cohort_backend *backend, const cohort_op_experts *op);
void cohort_cpu_op_take(cohort_backend *backend, const cohort_op_take *op);
void cohort_cpu_op_sample(cohort_backend *backend, const cohort_op_sample *op);
cohort_status cohort_cpu_samplers_create(cohort_backend *backend);
void cohort_cpu_samplers_destroy(cohort_backend *backend);

static inline size_t cohort_cpu_scale_bytes(const cohort_linear *linear) {
    return ((size_t)linear->n_panels * COHORT_CPU_PANEL + 1) * sizeof(float);
}

void cohort_cpu_limits(cohort_backend *backend, double *out_read_bytes_per_s,
                       double *out_flops_per_s); /* limits.c */

/* int8.c */
cohort_status cohort_cpu_int8_create(cohort_backend *backend, int64_t n_out, int64_t n_in,
                                     cohort_linear **out_linear);
void cohort_cpu_int8_set(cohort_linear *linear, cohort_plane plane, int64_t row_begin,
                         int64_t n_rows, const void *src, int64_t src_stride);

/* The rest, on plain memory. */
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
void cohort_cpu_store(cohort_backend *backend, cohort_kv *kv, int32_t layer,
                      const cohort_attention *shape, const float *qkv,
                      int64_t qkv_stride);
void cohort_cpu_attention(cohort_backend *backend, cohort_kv *kv, int32_t layer,
                          const cohort_attention *shape, const float *qkv,
                          int64_t qkv_stride, float *out);

void cohort_cpu_experts(cohort_backend *backend, cohort_linear *const *gate_up,
                        cohort_linear *const *down, int32_t n_experts, const int32_t *ids,
                        const float *weights, int32_t top_k, const float *x, float *y,
                        int64_t n_rows, int64_t n_in, int64_t n_inner);

#endif /* COHORT_MODEL_CPU_CPU_INTERNAL_H */
