/* SPDX-License-Identifier: Apache-2.0 */
/* model/cuda/kernels/params.h - what the host hands to each kernel, one struct a kernel.
 *
 * Read by the kernels and by the host: plain C, the same layout on both sides.  All
 * pointers are device memory.  bf16 stands as uint16_t.
 *
 * Packed weights [n_out, n_in], the order in which the tensor cores take them: tiles of
 * 16 rows; in a tile, steps of 32 columns; in a step, 2 halves of 32 lanes of 8 values
 * (cohort_cuda_packed_index says which).  A warp so reads 512 bytes side by side.  Rows
 * and columns are padded with zeros to whole tiles and steps.
 *
 * The normalised input of a product is never stored.  Who writes a residual row also
 * writes it times the next norm's weight as bf16 (`scaled`), and for every tile of 16
 * columns the sum of their squares; the product scales its sums by
 * 1 / rms, which is the same number for all columns of a row. */
#ifndef COHORT_MODEL_CUDA_PARAMS_H
#define COHORT_MODEL_CUDA_PARAMS_H

#include <cuda.h>
#include <stdint.h>

enum {
    COHORT_CUDA_TILE = 16, /* rows of a tile of weights, tokens of a tile of the cache */
    COHORT_CUDA_STEP = 32, /* columns of a step */
    COHORT_CUDA_THREADS = 256, /* of nearly every kernel */
    COHORT_CUDA_SUMS_8 =
        2 * 8 * 2 * 16 * 9 * 4 + 48, /* shared bytes of linear_*_8, but x */
    COHORT_CUDA_ROUNDS = 4, /* of attention: so many CTAs share a context at most */
    COHORT_CUDA_PROMPT_COLUMNS = 192,  /* queries times heads of a CTA's attention */
    COHORT_CUDA_PROMPT_STAGES = 4,     /* of its attention */
    COHORT_CUDA_PROMPT_TOKENS = 48,    /* of a stage of it */
    COHORT_CUDA_PROMPT_STAGE = 64,     /* columns of a stage of prompt_* */
    COHORT_CUDA_PROMPT_ROWS = 128,     /* of a CTA of prompt_* */
    COHORT_CUDA_PROMPT_STAGES_128 = 3, /* of its rows and weights */
    COHORT_CUDA_PROMPT_STAGES_256 = 4,
    COHORT_CUDA_SAMPLE_THREADS = 1024,
    COHORT_CUDA_SAMPLE_SHARED = 50 << 10, /* bytes that it takes beside logits */
    COHORT_CUDA_LOGIT_ROWS = 64 /* rows of logits at a time, as forward.c gives them */
};

/* y = scale(x W^T) + bias, then what the kernel's name says. */
typedef struct cohort_cuda_linear_params {
    const void *weights;
    const uint16_t *x;    /* [n_rows][x_stride] */
    const float *squares; /* [n_rows][n_squares] of x's norm; NULL: x is used as it is */
    const float *bias;    /* [n_out] or NULL */
    float *y; /* store: [n_rows][y_stride]; residual: the residual rows, in place */
    uint16_t *narrow;       /* activate: silu(gate) * up; residual: y times next_norm */
    const float *next_norm; /* residual: [n_out], NULL: ones */
    float *next_squares;    /* residual: [n_rows][n_tiles] */
    int32_t x_stride, y_stride;
    int32_t n_rows, n_out, n_tiles, n_steps; /* n_steps: of 32 columns */
    int32_t n_squares, norm_width;
    int32_t two_buffers; /* 9 rows and more: 1 where two sums of a tile have room */
    float norm_eps;
    int32_t n_next_squares; /* prompt_residual: of a row; the outputs of a CTA each */
} cohort_cuda_linear_params;

/* The same, with what the copy engine brings: x by COHORT_CUDA_PROMPT_ROWS rows of
 * COHORT_CUDA_PROMPT_STAGE columns, whose 16-byte parts lie as wgmma wants them (128-byte
 * swizzle), and weights by 8 tiles of so many columns. */
typedef struct cohort_cuda_prompt_params {
    CUtensorMap rows, weights;
    cohort_cuda_linear_params of;
} cohort_cuda_prompt_params;

/* Where the cache keeps keys and values of a layer: tiles of 16 tokens,
 * [block][tile of the block][kv_head][K | V][16 * head_dim].  With `packed` (bf16 alone)
 * a tile lies as the tensor cores take it: keys as packed weights of 16 rows of tokens;
 * values by pairs of tokens, dims as rows.  Else [token][dim]. */
typedef struct cohort_cuda_cache {
    void *tiles;                 /* of this layer */
    const int32_t *block_tables; /* [sequence][table_stride] */
    const int32_t *sequences;    /* [row]: whose token it is */
    const int32_t *positions;    /* [row]: its place there; -1: a row of nobody's */
    int32_t table_stride, block_size, tiles_of_block;
    int32_t n_heads, n_kv_heads, head_dim;
    int32_t is_bf16, packed;
} cohort_cuda_cache;

/* Each row's queries see its sequence up to the row's own place.  attention_64 and _128
 * want packed tiles and blocks of whole tiles.  With `raw` they also do head norms and
 * rope and store the row's key and value: then no two rows are of one sequence. */
typedef struct cohort_cuda_attention_params {
    cohort_cuda_cache cache;
    const float *qkv;             /* [n_rows][qkv_stride] */
    const float *q_norm, *k_norm; /* [head_dim] or NULL */
    const float *cos, *sin;       /* [position][head_dim / 2] or NULL */
    uint16_t *narrow;             /* [n_rows][n_heads * head_dim] ... */
    float *out;                   /* ... or this, by `attend` */
    int32_t qkv_stride;
    int32_t sliding_window; /* 0: all */
    int32_t raw;
    float norm_eps, scale;
    int32_t first_row, n_rows; /* prompt_*: of the step's rows */
} cohort_cuda_attention_params;

/* y[row] = row ids[row] + shift of a table, packed bf16 or plain f32; zeros where it has
 * none. */
typedef struct cohort_cuda_embed_params {
    const void *table;
    const int32_t *ids;
    float *y;
    int32_t shift, n_ids, width, n_steps;
    int32_t is_bf16;
} cohort_cuda_embed_params;

/* Rows of f32 or bf16 or f16 numbers into packed weights, rows [row_begin, + n_rows). */
typedef struct cohort_cuda_pack_params {
    const void *from; /* [n_rows][n_columns] */
    void *to;
    int64_t row_begin, n_rows, n_columns;
    int32_t dtype;      /* cohort_dtype of from */
    int32_t is_bf16;    /* of to: packed; else plain f32 [n_out][n_columns] */
    int32_t rounds_f16; /* to f16's precision */
    int32_t n_steps;
} cohort_cuda_pack_params;

/* A row each: y = norm(x), and the same as bf16 in `narrow`, whose rows are padded with
 * zeros; either may be NULL.  weight NULL: x as it is. */
typedef struct cohort_cuda_norm_params {
    const float *x, *weight, *bias;
    float *y;
    uint16_t *narrow;
    int64_t x_stride, y_stride, narrow_stride;
    int32_t n_columns, centred;
    float eps;
} cohort_cuda_norm_params;

/* y[rows][n_out] = x W^T + bias, W plain f32 [n_out][n_in]; adds: y += that. */
typedef struct cohort_cuda_linear_f32_params {
    const float *weights, *bias, *x;
    float *y;
    int64_t x_stride, y_stride, n_rows, n_out, n_in;
    int32_t adds;
} cohort_cuda_linear_f32_params;

/* y[i] += x[i]. */
typedef struct cohort_cuda_add_params {
    float *y;
    const float *x;
    int64_t count;
} cohort_cuda_add_params;

/* bf16 numbers as f32. */
typedef struct cohort_cuda_widen_params {
    float *y;
    const uint16_t *x;
    int64_t count;
} cohort_cuda_widen_params;

/* y[r][i] = act(x[r][i]), times x[r][n + i] where gated. */
typedef struct cohort_cuda_activate_params {
    const float *x;
    float *y;
    int64_t n_rows, n;
    int32_t activation, gated; /* cohort_activation */
} cohort_cuda_activate_params;

/* y[i] = x[rows[i]]. */
typedef struct cohort_cuda_take_params {
    const float *x;
    float *y;
    const int32_t *rows;
    int64_t n_columns;
} cohort_cuda_take_params;

/* How a row's token is drawn: model/choose.h says what each means. */
typedef struct cohort_cuda_draw {
    uint64_t number;      /* uniform over 64 bits */
    uint64_t top_p_parts; /* of 2^-40; 2^40: off */
    uint64_t min_mass;    /* that a token has at least; 0: off */
    float steepness;      /* log2(e) / temperature; 0: the first of the largest */
    int32_t top_k;        /* 0: off */
    int32_t is_wanted;
} cohort_cuda_draw;

/* tokens[row], -1 where the row's logits are no numbers. */
typedef struct cohort_cuda_sample_params {
    const float *logits; /* [n_rows][n_logits] */
    int32_t *tokens;     /* the host's, pinned */
    int32_t n_logits;
    int32_t n_kept; /* logits that a CTA has room for in shared memory */
    cohort_cuda_draw rows[COHORT_CUDA_LOGIT_ROWS];
} cohort_cuda_sample_params;

/* Shared bytes of prompt_*: scales and barriers, then stages at whole KiB, and later sums
 * in their place. */
#define COHORT_CUDA_PROMPT_SHARED(stages, outputs) \
    (2048 +                                        \
     (stages) * (COHORT_CUDA_PROMPT_ROWS + (outputs)) * COHORT_CUDA_PROMPT_STAGE * 2)

/* Shared bytes of attention_*: 8 warps and COHORT_CUDA_ROUNDS rounds of 8 heads' sums,
 * maxima and masses, and the queries. */
#define COHORT_CUDA_ATTENTION_SHARED(dim) \
    ((8 + COHORT_CUDA_ROUNDS) * 8 * ((dim) + 2) * 4 + 8 * ((dim) + 8) * 2)

/* Shared bytes of prompt_attention_*: stages of tokens, or the queries before them. */
#define COHORT_CUDA_PROMPT_ATTENTION_SHARED(dim)                             \
    (COHORT_CUDA_PROMPT_STAGES * COHORT_CUDA_PROMPT_TOKENS * 4 * (dim) >     \
             COHORT_CUDA_PROMPT_COLUMNS * ((dim) + 8) * 2                    \
         ? COHORT_CUDA_PROMPT_STAGES * COHORT_CUDA_PROMPT_TOKENS * 4 * (dim) \
         : COHORT_CUDA_PROMPT_COLUMNS * ((dim) + 8) * 2)

#endif /* COHORT_MODEL_CUDA_PARAMS_H */
