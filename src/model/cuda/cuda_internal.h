/* SPDX-License-Identifier: Apache-2.0 */
/* model/cuda/cuda_internal.h - what the files of the CUDA backend share; private to them.
 *
 * backend.c owns the object and the table, device.c context, memory and launches, step.c
 * what a step is told and gives, graph.c its recording, sampling.c what is drawn, ops.c
 * the plain operations, products.c weights and products, which hold back what the next
 * operation may take along.
 */
#ifndef COHORT_MODEL_CUDA_CUDA_INTERNAL_H
#define COHORT_MODEL_CUDA_CUDA_INTERNAL_H

#include "cohort/status.h"
#include "model/backend.h"
#include "model/cuda/api.h"
#include "model/cuda/kernels/params.h"
#include "model/sample.h"

enum {
    COHORT_CUDA_WIDE_ROWS = 64,  /* of decoding; more are a prompt's */
    COHORT_CUDA_GROUP_TILES = 8, /* weights are padded to groups of so many tiles */
    COHORT_CUDA_MOST_HEAD = 512  /* head_dim */
};

/* X(name) for kernels by the cubin that has them. */
#define COHORT_CUDA_KERNELS(X)                \
    X(rows, embed)                            \
    X(rows, norm_rows)                        \
    X(rows, linear_f32)                       \
    X(rows, add)                              \
    X(rows, widen_rows)                       \
    X(rows, activate)                         \
    X(rows, take)                             \
    X(rows, pack)                             \
    X(attend, rotate)                         \
    X(attend, store)                          \
    X(attend, attend)                         \
    X(attention, attention_64)                \
    X(attention, attention_128)               \
    X(linear, linear_store_8)                 \
    X(linear, linear_activate_8)              \
    X(linear, linear_residual_8)              \
    X(linear_wide, linear_store_16)           \
    X(linear_wide, linear_store_32)           \
    X(linear_wide, linear_store_64)           \
    X(linear_wide, linear_activate_16)        \
    X(linear_wide, linear_activate_32)        \
    X(linear_wide, linear_activate_64)        \
    X(linear_wide, linear_residual_16)        \
    X(linear_wide, linear_residual_32)        \
    X(linear_wide, linear_residual_64)        \
    X(prompt, prompt_store_128)               \
    X(prompt, prompt_store_256)               \
    X(prompt, prompt_activate_256)            \
    X(prompt, prompt_residual_128)            \
    X(prompt, prompt_residual_256)            \
    X(prompt_attention, prompt_cache_64)      \
    X(prompt_attention, prompt_cache_128)     \
    X(prompt_attention, prompt_attention_64)  \
    X(prompt_attention, prompt_attention_128) \
    X(sample, sample)
#define COHORT_CUDA_MODULES(X) \
    X(rows)                    \
    X(attend)                  \
    X(attention) X(linear) X(linear_wide) X(prompt) X(prompt_attention) X(sample)

typedef enum cohort_cuda_kernel {
#define COHORT_CUDA_ENUMERATOR(module, name) COHORT_CUDA_##name,
    COHORT_CUDA_KERNELS(COHORT_CUDA_ENUMERATOR)
#undef COHORT_CUDA_ENUMERATOR
        COHORT_CUDA_N_KERNELS
} cohort_cuda_kernel;

typedef enum cohort_cuda_module {
#define COHORT_CUDA_ENUMERATOR(name) COHORT_CUDA_MODULE_##name,
    COHORT_CUDA_MODULES(COHORT_CUDA_ENUMERATOR)
#undef COHORT_CUDA_ENUMERATOR
        COHORT_CUDA_N_MODULES
} cohort_cuda_module;

/* Device memory of cuMemCreate, which could be handed on as a descriptor. */
typedef struct cohort_cuda_memory {
    CUdeviceptr at;
    size_t bytes; /* mapped */
    CUmemGenericAllocationHandle handle;
} cohort_cuda_memory;

struct cohort_buffer {
    cohort_backend *backend;
    cohort_dtype dtype;
    int64_t count;
    cohort_cuda_memory memory;
    /* Rows as bf16, as a product wants them, left by who wrote the buffer; `narrowed` is
     * the width of a row, 0: there are none.  With scaled_by they are times that norm's
     * weight, and `squares` are there; without `wide` the buffer itself is out of date.
     */
    cohort_cuda_memory narrow;
    int64_t narrowed;
    const cohort_buffer *scaled_by;
    bool wide;
};

struct cohort_linear {
    cohort_backend *backend;
    int64_t n_out, n_in;
    bool is_bf16, rounds_f16; /* neither: f32 */
    int32_t n_tiles, n_steps; /* of packed weights */
    cohort_cuda_memory memory;
};

struct cohort_kv {
    cohort_backend *backend;
    cohort_kv_shape shape;
    bool packed;
    int32_t tiles_of_block;
    size_t layer_bytes;
    cohort_cuda_memory memory;
};

/* A step of so many rows, to be replayed; graph.c. */
typedef struct cohort_cuda_graph {
    int32_t n_rows;
    bool was_seen;
    CUgraphExec exec; /* NULL: not recorded yet */
} cohort_cuda_graph;

/* What a step is told, once on the host (pinned) and once on the device. */
typedef struct cohort_cuda_step {
    cohort_batch batch;
    int32_t n_logit_rows;
    bool one_row_each;        /* no two rows are of one sequence */
    bool reads_stored;        /* a sequence reads what another stores in this step */
    int32_t n_single_first;   /* rows at the beginning that are their sequence's only */
    cohort_cuda_graph *graph; /* that such a step is, or may become; NULL: none */
    int32_t *ids, *positions, *sequences, *logit_rows, *tables; /* host */
    cohort_cuda_memory memory; /* the same on the device, in the same order */
    size_t bytes, table_bytes;
    int32_t *last_tokens; /* by slot; host only */
    int32_t *drawn;
} cohort_cuda_step;

/* An addition to the residual, which the next norm may take along. */
typedef struct cohort_cuda_pending {
    bool there;
    cohort_op_linear op;
} cohort_cuda_pending;

struct cohort_backend {
    const cohort_cuda_api *cuda;
    cohort_backend_options options;
    CUdevice device;
    CUcontext context;
    CUstream stream;
    CUmodule modules[COHORT_CUDA_N_MODULES];
    CUfunction kernels[COHORT_CUDA_N_KERNELS];
    int32_t n_sharing;                /* ranks of this host on this device */
    int32_t n_processors, n_clusters; /* of 8 CTAs at once */
    int32_t most_shared;              /* bytes of shared memory of a CTA */
    char name[96];

    struct arena *arenas; /* of small memory; device.c */
    cohort_cuda_step step;
    cohort_cuda_graph *graphs; /* by rows */
    int32_t n_graphs;
    bool is_recording; /* what is enqueued becomes the step's graph */
    cohort_cuda_pending pending;
    cohort_cuda_memory scratch; /* narrow rows of one product */
    size_t scratch_bytes;
    cohort_cuda_memory squares; /* of the residual rows ... */
    int32_t square_columns;     /* ... of so many columns each */
    cohort_cuda_memory staging; /* weights on their way */
    float *host_logits;         /* pinned, COHORT_CUDA_LOGIT_ROWS of them */
    int32_t *host_tokens;       /* pinned, written by the device: as many */
    float *exchange;            /* what ranks tell each other */
    int64_t exchange_count;
    cohort_op_rotate rotation; /* left to the attention behind it */
    bool has_rotation;
    cohort_sampler *sampler;

    int32_t layer;      /* for errors to name; -1: none */
    cohort_error error; /* the first; code 0: none */
};

static inline bool cohort_cuda_failed(const cohort_backend *backend) {
    return backend->error.code < 0;
}
/* Keeps an error, if it is the first. */
void cohort_cuda_fail(cohort_backend *backend, cohort_status status);
/* A driver's answer as a status; what: what was being done. */
cohort_status cohort_cuda_status(const cohort_cuda_api *cuda, CUresult result,
                                 const char *what);

/* device.c */
cohort_status cohort_cuda_open(cohort_backend *backend, const cohort_cuda_options *at);
void cohort_cuda_close(cohort_backend *backend);
/* Zeroed memory.  what: for errors. */
cohort_status cohort_cuda_allocate(cohort_backend *backend, size_t bytes,
                                   const char *what, cohort_cuda_memory *out_memory);
void cohort_cuda_release(cohort_backend *backend, cohort_cuda_memory *memory);
/* Rows of the host side by side on the device; returns when they are read. */
cohort_status cohort_cuda_upload_rows(cohort_backend *backend, CUdeviceptr to,
                                      const void *from, int64_t n_rows, size_t row_bytes,
                                      size_t stride_bytes);
/* Enqueues a kernel: a grid of CTAs, clusters of `cluster` along x. */
typedef struct cohort_cuda_grid {
    int64_t x, y, z;
    int32_t cluster; /* 0: 1 */
    int32_t threads; /* 0: COHORT_CUDA_THREADS */
    int32_t shared;  /* bytes */
} cohort_cuda_grid;
void cohort_cuda_launch(cohort_backend *backend, cohort_cuda_kernel kernel,
                        cohort_cuda_grid grid, void *params);

/* step.c */
cohort_status cohort_cuda_step_create(cohort_backend *backend);
void cohort_cuda_step_destroy(cohort_backend *backend);
cohort_status cohort_cuda_step_begin(cohort_backend *backend, const cohort_batch *batch);
cohort_status cohort_cuda_step_end(cohort_backend *backend);
/* The step's arrays on the device. */
const int32_t *cohort_cuda_on_device(const cohort_backend *backend, const int32_t *host);
/* Waits for the device: what it found wrong shows here. */
void cohort_cuda_synchronise(cohort_backend *backend, const char *what);
void cohort_cuda_all_reduce(cohort_backend *backend, cohort_view values, int64_t count);
void cohort_cuda_receive(cohort_backend *backend, cohort_view to, int64_t count);
void cohort_cuda_send(cohort_backend *backend, cohort_view from, int64_t count);
void cohort_cuda_gather(cohort_backend *backend, const cohort_op_gather *op);
void cohort_cuda_regroup(cohort_backend *backend, cohort_group *tp_group,
                         cohort_group *pp_group);

/* graph.c */
cohort_status cohort_cuda_graphs_create(cohort_backend *backend,
                                        const cohort_cuda_options *told);
void cohort_cuda_graphs_destroy(cohort_backend *backend);
/* Memory that they know is going away. */
void cohort_cuda_graphs_forget(cohort_backend *backend);
/* The one for so many rows; NULL: none is so large. */
cohort_cuda_graph *cohort_cuda_graph_for(const cohort_backend *backend, int32_t n_rows);
bool cohort_cuda_replay(cohort_backend *backend, int64_t *rows);
/* Where a step is recorded: it is whole, and runs; or it is dropped. */
void cohort_cuda_record_end(cohort_backend *backend);
void cohort_cuda_record_drop(cohort_backend *backend);

/* sampling.c */
void cohort_cuda_sample(cohort_backend *backend, cohort_cuda_sample_params *p,
                        int32_t n_rows);
void cohort_cuda_op_sample(cohort_backend *backend, const cohort_op_sample *op);

/* ops.c */
const float *cohort_cuda_vector(const cohort_buffer *buffer);
/* A buffer about to be read: its f32 rows are there. */
const float *cohort_cuda_read(cohort_view view);
/* A buffer about to be written: rows as bf16 no longer tell what is in it. */
float *cohort_cuda_write(cohort_view view);
void cohort_cuda_op_embed(cohort_backend *backend, const cohort_op_embed *op);
void cohort_cuda_op_norm(cohort_backend *backend, const cohort_op_norm *op);
void cohort_cuda_op_add(cohort_backend *backend, const cohort_op_add *op);
void cohort_cuda_op_rotate(cohort_backend *backend, const cohort_op_rotate *op);
void cohort_cuda_op_store(cohort_backend *backend, const cohort_op_attention *op);
void cohort_cuda_op_attend(cohort_backend *backend, const cohort_op_attention *op);
void cohort_cuda_op_rotate_store(cohort_backend *backend, const cohort_op_rotate *rotate,
                                 const cohort_op_attention *store);
void cohort_cuda_op_activate(cohort_backend *backend, const cohort_op_activate *op);
void cohort_cuda_op_take(cohort_backend *backend, const cohort_op_take *op);
size_t cohort_cuda_kv_block_bytes(const cohort_backend *backend,
                                  const cohort_kv_shape *shape);
cohort_status cohort_cuda_kv_create(cohort_backend *backend, const cohort_kv_shape *shape,
                                    int64_t n_blocks, cohort_kv **out_kv);
void cohort_cuda_kv_destroy(cohort_kv *kv);

/* products.c */
cohort_status cohort_cuda_linear_create(cohort_backend *backend, int64_t n_out,
                                        int64_t n_in, const cohort_format *format,
                                        cohort_linear **out_linear);
cohort_status cohort_cuda_linear_set(cohort_linear *linear, cohort_plane plane,
                                     int64_t row_begin, int64_t n_rows, const void *src,
                                     cohort_dtype src_dtype, int64_t src_stride);
void cohort_cuda_linear_destroy(cohort_linear *linear);
size_t cohort_cuda_linear_bytes(const cohort_linear *linear);
void cohort_cuda_op_linear(cohort_backend *backend, const cohort_op_linear *op);
void cohort_cuda_op_linear_add(cohort_backend *backend, const cohort_op_linear *op);
void cohort_cuda_op_norm_linear(cohort_backend *backend, const cohort_op_norm *norm,
                                const cohort_op_linear *linear);
void cohort_cuda_op_norm_linear_activate(cohort_backend *backend,
                                         const cohort_op_norm *norm,
                                         const cohort_op_linear *linear,
                                         const cohort_op_activate *activate);
/* Rows as bf16 are about to be written instead of the buffer's f32. */
uint16_t *cohort_cuda_write_narrow(cohort_view view, int64_t width);
/* Enqueues what was held back; the second for an operation that this norm begins, NULL:
 * none. */
void cohort_cuda_flush(cohort_backend *backend);
void cohort_cuda_flush_for(cohort_backend *backend, const cohort_op_norm *norm);

#endif /* COHORT_MODEL_CUDA_CUDA_INTERNAL_H */
