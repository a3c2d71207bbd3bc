/* SPDX-License-Identifier: Apache-2.0 */
/* model/backend.h - the operations a model is computed with, one table per kind of
 * device.
 *
 *   create -> buffers, weights, kv_create -> (step_begin -> operations -> step_end)*
 *
 * The forward pass is written once against this table.  Operations are enqueued: they run
 * in the order of the calls, now or later, on whatever thread or device.  What they are
 * told is copied, but for arrays that are said to stay.  None of them fails by itself:
 * the first error is kept, what comes after it is left out, and step_end and download
 * return it, as does everything from then on.
 *
 * Activations are f32 matrices, row-major, one row a token, in buffers, which are handles
 * and not addresses: the host reaches into them by upload and download alone.  Weights
 * lie in whatever layout the device reads fastest.
 *
 * Ownership: what a backend creates is destroyed before it.
 * Threads:   a backend belongs to one thread; it may use threads of its own.
 * Determinism: an output element is added up in an order that does not depend on the
 *            number of rows in the call: a sequence computes the same alone and in a
 *            batch.
 */
#ifndef COHORT_MODEL_BACKEND_H
#define COHORT_MODEL_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cohort/collective.h"
#include "cohort/dtype.h"
#include "cohort/sampling.h"
#include "model/format.h"
#include "model/keeper.h"
#include "wire/step.h"

typedef struct cohort_backend cohort_backend;
typedef struct cohort_buffer cohort_buffer;
typedef struct cohort_linear cohort_linear; /* a packed weight matrix [n_out, n_in] */
typedef struct cohort_kv cohort_kv; /* the paged key and value cache of one rank */

/* The elements of a buffer from one on. */
typedef struct cohort_view {
    cohort_buffer *buffer;
    int64_t at;
} cohort_view;

/* ---- a step ------------------------------------------------------------------------ */

/* In place of a token's id: the one that the sequence's slot sampled last.  It need not
 * be known on the host yet. */
enum { COHORT_LAST_TOKEN = INT32_MIN };

/* One sequence's rows in a batch. */
typedef struct cohort_sequence {
    int32_t row_begin;          /* first row in the activations */
    int32_t n_rows;             /* tokens computed in this step, at least 1 */
    int32_t n_computed;         /* tokens in the cache before them */
    const int32_t *block_table; /* ceil((n_computed + n_rows) / block_size) block ids */
    int32_t slot;               /* its name for as long as it is there; < max_sequences */
} cohort_sequence;

/* What is wanted of one row of logits: a token, or the logprobs of one that is known, or
 * nothing.  What it points to stays as it is until step_end; then results are there, on
 * tp rank 0 of the last stage, tokens on its peers too where share_tokens says so. */
typedef struct cohort_sample_row {
    const cohort_sampling_params *params; /* NULL: nothing is drawn */
    cohort_token_set allowed;             /* the user's; without words: all */
    const uint32_t *mask; /* tokens that may come, as bits; beyond its words: none */
    uint32_t n_mask_words;
    const int32_t *tokens; /* the history, n_prompt_tokens of it prompt */
    int32_t n_tokens, n_prompt_tokens;
    int32_t slot;  /* whose last token the drawn one becomes */
    int32_t known; /* where nothing is drawn: the token that logprobs are about */
    int32_t n_logprobs;
    cohort_token_logprob *out_logprobs; /* 1 + n_logprobs; NULL: none are wanted */
    int32_t *out_token;                 /* drawn; -1: the logits are no numbers */
} cohort_sample_row;

typedef struct cohort_batch {
    const int32_t *token_ids; /* n_rows */
    int32_t n_rows;
    const cohort_sequence *sequences; /* rows of sequences follow one another */
    const int32_t *n_logit_rows; /* per sequence: its last so many rows give logits */
    int32_t n_sequences;
    int64_t deadline_ns; /* for what peers owe us */
    /* One a row of logits, in their order, or NULL: logits go to a sink.  Masks may be
     * filled in late, by await_masks (NULL: they are there), which is called once all
     * before the first draw is under way, and sets a deadline for what follows. */
    const cohort_sample_row *samples;
    cohort_status (*await_masks)(void *user_data, int64_t *deadline_ns);
    /* Before each layer: an error ends the step with it.  NULL: nobody asks. */
    cohort_status (*check)(void *user_data);
    void *user_data;
} cohort_batch;

/* ---- what operations are told ------------------------------------------------------ */

typedef enum cohort_activation {
    COHORT_SILU,
    COHORT_RELU,
    COHORT_GELU
} cohort_activation;

/* Of this rank; query head h reads KV head h / (n_heads / n_kv_heads).  A row of qkv:
 * [n_heads | n_kv_heads | n_kv_heads] heads. */
typedef struct cohort_heads {
    int32_t n_heads, n_kv_heads, head_dim;
    float scale;
    int32_t sliding_window; /* a token sees itself and window-1 before it; 0: all */
} cohort_heads;

/* y[i] = row (id + shift) of the table as f32, id being the step's i-th token, or its
 * position; outside the table: zeros (another rank's token). */
typedef struct cohort_op_embed {
    const cohort_linear *table;
    bool positions;
    int32_t shift;
    cohort_view y;
} cohort_op_embed;

/* y[n_rows, n_out] = x[n_rows, n_in] W^T + bias (may be NULL).  y rows lie y_stride
 * elements apart, x rows x_stride. */
typedef struct cohort_op_linear {
    const cohort_linear *weight;
    const cohort_buffer *bias;
    cohort_view x, y;
    int64_t x_stride, y_stride, n_rows;
} cohort_op_linear;

/* RMS norm, or layer norm where it is centred, which alone may have a bias; y may be x.
 */
typedef struct cohort_op_norm {
    bool centred;
    const cohort_buffer *weight, *bias;
    float eps;
    cohort_view x, y;
    int64_t n_rows, n_columns;
} cohort_op_norm;

/* y[i] += x[i], count elements. */
typedef struct cohort_op_add {
    cohort_view y, x;
    int64_t count;
} cohort_op_add;

/* The q and k parts of the step's qkv rows, in place: head norms (weights may be NULL),
 * then rotation by cos/sin[position][head_dim / 2] (NULL: none), "rotate half" pairing
 * (i, i + head_dim / 2). */
typedef struct cohort_op_rotate {
    cohort_heads heads;
    cohort_view qkv;
    int64_t qkv_stride;
    const cohort_buffer *q_norm, *k_norm;
    float eps;
    const cohort_buffer *cos, *sin;
} cohort_op_rotate;

/* store: the k and v heads of the step's qkv rows into the cache.  attend: then, what the
 * q heads see there into out[row][n_heads * head_dim]. */
typedef struct cohort_op_attention {
    cohort_kv *kv;
    int32_t layer;
    cohort_heads heads;
    cohort_view qkv;
    int64_t qkv_stride;
    cohort_view out; /* of attend */
} cohort_op_attention;

/* y[r][i] = act(x[r][i]) * x[r][n + i] (gated), or act(x[r][i]) alone. */
typedef struct cohort_op_activate {
    cohort_activation activation;
    bool gated;
    cohort_view x, y;
    int64_t n_rows, n;
} cohort_op_activate;

/* A router: softmax over n_experts logits a row, the top_k likeliest, renormalised where
 * asked; ids (I32) and weights are [n_rows][top_k]. */
typedef struct cohort_op_route {
    cohort_view logits;
    int64_t n_rows;
    int32_t n_experts, top_k;
    bool renormalise;
    cohort_view ids, weights;
} cohort_op_route;

/* y[row] = sum over its experts of weight * down(silu(gate_up x)); experts[e] packed as
 * gate_up [2 * n_inner, n_in] (gate rows first) and down [n_in, n_inner].  The arrays
 * stay. */
typedef struct cohort_op_experts {
    cohort_linear *const *gate_up;
    cohort_linear *const *down;
    int32_t n_experts, top_k;
    cohort_view ids, weights, x, y;
    int64_t n_rows, n_in, n_inner;
} cohort_op_experts;

/* y[i] = the x row of the step's logit row first + i, for n_rows of them. */
typedef struct cohort_op_take {
    cohort_view x, y;
    int64_t n_columns;
    int32_t first, n_rows;
} cohort_op_take;

/* Rows of logits put together on tp rank 0, side by side in y: rank i gives part_bytes[i]
 * of each (an array that stays).  Other ranks' y is not looked at. */
typedef struct cohort_op_gather {
    cohort_view x, y;
    const size_t *part_bytes;
    int32_t n_rows;
} cohort_op_gather;

/* What the batch's samples [first, first + n_rows) want of logits[n_rows][vocab_size],
 * which may be changed.  On tp rank 0 of the last stage; where tokens are shared, on its
 * peers too, which have no logits. */
typedef struct cohort_op_sample {
    cohort_view logits;
    int32_t first, n_rows;
    int64_t deadline_ns;
} cohort_op_sample;

/* What a rank keeps of its tokens; dtype F32 or BF16. */
typedef struct cohort_kv_shape {
    int32_t n_layers, block_size, n_kv_heads, head_dim;
    cohort_dtype dtype;
} cohort_kv_shape;

/* ---- the table --------------------------------------------------------------------- */

typedef struct cohort_backend_options {
    bool bf16_activations; /* products, attention's too, may round inputs to bf16 */
    int32_t max_rows, max_sequences;   /* of a step */
    int32_t block_size, max_blocks;    /* tokens of a block, blocks of a sequence */
    int32_t vocab_size;                /* where it samples, or has its tokens shared */
    bool share_tokens;                 /* tell tp peers what was sampled */
    cohort_group *tp_group, *pp_group; /* NULL where there is one rank */
    const cohort_keeper *keeper;       /* NULL: nothing is kept; outlives the backend */
    const void *device; /* options of this kind of device alone, or NULL; see below */
} cohort_backend_options;

/* Operations that a table may leave NULL are composed of others by forward.c. */
typedef struct cohort_backend_ops {
    const char *name;
    bool is_done_on_return; /* an operation is done when its call returns */

    cohort_status (*create)(const cohort_backend_options *options,
                            cohort_backend **out_backend);
    void (*destroy)(cohort_backend *backend);
    const char *(*describe)(const cohort_backend *backend); /* "avx512_bf16"; for logs */
    /* What the device's own memory has left.  NULL: it is the host's. */
    uint64_t (*free_bytes)(const cohort_backend *backend);
    /* The most that it reads and computes, measured now; between steps.  May be NULL. */
    void (*limits)(cohort_backend *backend, double *out_read_bytes_per_s,
                   double *out_flops_per_s);

    /* Upload and download take the host's elements of the buffer's dtype; both
     * return when that is done, a download after all that was enqueued before. */
    cohort_status (*buffer_create)(cohort_backend *backend, cohort_dtype dtype,
                                   int64_t count, cohort_buffer **out_buffer);
    void (*buffer_destroy)(cohort_buffer *buffer);
    cohort_status (*upload)(cohort_backend *backend, cohort_view to, const void *from,
                            int64_t count);
    cohort_status (*download)(cohort_backend *backend, cohort_view from, void *to,
                              int64_t count);

    /* What is created between begin and end lies in memory of this name that may outlive
     * the process.  Where it was kept, and is that of the same identity (a text that
     * tells all that its bytes depend on, the build included), everything in it is
     * created by the same calls and is filled already.  NULL: nothing can be kept.
     * is_constant: nothing is written to it after memory_end; then its descriptor may be
     * handed out later. */
    cohort_status (*memory_begin)(cohort_backend *backend, const char *name,
                                  const char *identity, bool is_constant,
                                  bool *out_was_kept);
    cohort_status (*memory_end)(cohort_backend *backend);
    /* A few milliseconds of what is left to do until constant memory is kept, beside all
     * other calls, on one thread; COHORT_PENDING: there is more.  NULL: never any. */
    cohort_status (*memory_move)(cohort_backend *backend);

    /* Weights.  linear_set fills, of one plane, what rows [row_begin, row_begin + n_rows)
     * have, from a row-major host matrix of src_dtype whose rows lie src_stride elements
     * apart; any order, any number of calls.  Dense values may be of another type than
     * the format's; other planes are as the format says.  Tables of embed, routers and
     * experts are dense. */
    cohort_status (*linear_create)(cohort_backend *backend, int64_t n_out, int64_t n_in,
                                   const cohort_format *format,
                                   cohort_linear **out_linear);
    cohort_status (*linear_set)(cohort_linear *linear, cohort_plane plane,
                                int64_t row_begin, int64_t n_rows, const void *src,
                                cohort_dtype src_dtype, int64_t src_stride);
    void (*linear_destroy)(cohort_linear *linear);
    size_t (*linear_bytes)(const cohort_linear *linear);

    /* Bytes that one block takes, padding included: what to account for. */
    size_t (*kv_block_bytes)(const cohort_backend *backend, const cohort_kv_shape *shape);
    cohort_status (*kv_create)(cohort_backend *backend, const cohort_kv_shape *shape,
                               int64_t n_blocks, cohort_kv **out_kv);
    void (*kv_destroy)(cohort_kv *kv);

    /* A step's ids, positions, slots, block tables and logit rows go to the device at
     * once; the batch is copied, its samples stay until step_end, which waits for all
     * that was enqueued.  Whoever calls has checked the batch.  at_layer: what follows is
     * of this layer, for errors to name; -1: of none. */
    cohort_status (*step_begin)(cohort_backend *backend, const cohort_batch *batch);
    cohort_status (*step_end)(cohort_backend *backend);
    /* Asked right behind step_begin; may be NULL.  In a step of one row a sequence, each
     * with a row of logits, what is enqueued up to the first sample or download follows
     * from the number of rows.  A backend may round that up: what is computed of further
     * rows goes nowhere.  And it may enqueue at once what it recorded of an earlier step:
     * then it returns true, and none of these operations is called. */
    bool (*replay)(cohort_backend *backend, int64_t *rows);
    void (*at_layer)(cohort_backend *backend, int32_t layer);
    /* The first error, if it is known already; waits for nothing. */
    cohort_status (*check)(const cohort_backend *backend);

    void (*embed)(cohort_backend *backend, const cohort_op_embed *op);
    void (*linear)(cohort_backend *backend, const cohort_op_linear *op);
    void (*norm)(cohort_backend *backend, const cohort_op_norm *op);
    void (*add)(cohort_backend *backend, const cohort_op_add *op);
    void (*rotate)(cohort_backend *backend, const cohort_op_rotate *op);
    void (*store)(cohort_backend *backend, const cohort_op_attention *op);
    void (*attend)(cohort_backend *backend, const cohort_op_attention *op);
    void (*activate)(cohort_backend *backend, const cohort_op_activate *op);
    /* Both NULL where mixtures of experts do not run. */
    void (*route)(cohort_backend *backend, const cohort_op_route *op);
    void (*experts)(cohort_backend *backend, const cohort_op_experts *op);
    void (*take)(cohort_backend *backend, const cohort_op_take *op);
    void (*sample)(cohort_backend *backend, const cohort_op_sample *op);

    /* Between ranks: sums over the tp group, activations from the stage before and to the
     * one behind, rows of logits. */
    void (*all_reduce)(cohort_backend *backend, cohort_view values, int64_t count);
    void (*receive)(cohort_backend *backend, cohort_view to, int64_t count);
    void (*send)(cohort_backend *backend, cohort_view from, int64_t count);
    void (*gather)(cohort_backend *backend, const cohort_op_gather *op);
    /* Between steps: other groups of the same ranks take the place of those that it has.
     * An error is forgotten with them; what was computed and stored stays. */
    void (*regroup)(cohort_backend *backend, cohort_group *tp_group,
                    cohort_group *pp_group);

    /* Any may be NULL.  Of two in one, the second reads what the first writes, which
     * nobody else does; norm NULL: there is none.  linear_add: y += x W^T + bias. */
    void (*norm_linear)(cohort_backend *backend, const cohort_op_norm *norm,
                        const cohort_op_linear *linear);
    void (*norm_linear_activate)(cohort_backend *backend, const cohort_op_norm *norm,
                                 const cohort_op_linear *linear,
                                 const cohort_op_activate *activate);
    void (*linear_add)(cohort_backend *backend, const cohort_op_linear *op);
    void (*rotate_store)(cohort_backend *backend, const cohort_op_rotate *rotate,
                         const cohort_op_attention *store);
} cohort_backend_ops;

/* NULL or "auto": the fastest device of this machine; else "cpu" or "cuda". */
cohort_status cohort_backend_find(const char *device, const cohort_backend_ops **out_ops);

/* ---- the CPU ----------------------------------------------------------------------- */

typedef struct cohort_cpu_options {
    const int32_t *cpus; /* one thread per entry, pinned; entry -1, or NULL: not pinned */
    int32_t n_threads;   /* 0: one */
    const char *isa;     /* NULL: the best this CPU has; else "portable", "avx2", ... */
} cohort_cpu_options;

const cohort_backend_ops *cohort_backend_cpu(void);

/* ---- CUDA, where it was built (COHORT_CUDA) -----------------------------------------
 */

typedef struct cohort_cuda_options {
    int32_t ordinal; /* among the devices that this process sees, counted round */
    int32_t n_ranks; /* of this host, with the ordinals from 0 on */
    /* Where it is said, in place of these: a number as CUDA_VISIBLE_DEVICES has it, or
     * without that variable as the driver counts; or a UUID, "GPU-...", or its beginning.
     * NULL, "": it is not. */
    const char *id;
    int32_t n_sharing; /* ranks on that device, this one among them */
    /* Steps that are alike are recorded and replayed, for these numbers of rows
     * (NULL-terminated; one: up to that; NULL or none: up to max_sequences and more). */
    bool enforce_eager; /* none is */
    const char *const *graph_sizes;
} cohort_cuda_options;

/* Needs NVIDIA's driver when a backend is created, not before: create says in one line
 * why there is no device here. */
const cohort_backend_ops *cohort_backend_cuda(void);
/* Is there a device that it runs on? */
bool cohort_cuda_is_there(void);

#endif /* COHORT_MODEL_BACKEND_H */
