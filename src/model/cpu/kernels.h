/* SPDX-License-Identifier: Apache-2.0 */
/* model/cpu/kernels.h - the inner loops, one table per instruction set.
 *
 * kernels_body.h and attend_body.h hold the loops, written once over the few vector
 * operations that simd_*.h define; kernels_<isa>.c compiles them for one instruction set.
 * What is shared out among threads, and in which blocks, is decided above (linear.c,
 * attention.c ...); a kernel is one thread's work on memory that fits a cache.
 *
 * A weight matrix is cut into panels of 16 output rows; inside a panel k is the slow
 * index, so that one vector holds the same k of 16 rows:
 *
 *   f32, f16, int8   [k][16 rows]
 *   bf16             [k / 2][16 rows][2]     two k side by side, as vdpbf16ps and AMX
 * want them
 *
 * Order of addition: k ascending, one accumulator an element, whatever the tile: this is
 * what makes a row's result independent of the rows beside it.  (Of AMX' tiles another
 * order, kernels_amx.c, but one for any number of rows, too.)
 */
#ifndef COHORT_MODEL_CPU_KERNELS_H
#define COHORT_MODEL_CPU_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/backend.h"
#include "model/cpu/logits.h"

/* The heads of a step, and whose rows they are. */
typedef struct cohort_attention {
    const cohort_sequence *sequences;
    int32_t n_sequences;
    int32_t n_heads, n_kv_heads, head_dim;
    float scale;
    int32_t sliding_window;
} cohort_attention;

enum {
    COHORT_CPU_PANEL = 16,         /* output rows side by side */
    COHORT_CPU_TILE_ROWS = 32,     /* the most rows of x that any kernel takes at once */
    COHORT_CPU_KV_GROUP = 16,      /* tokens side by side in the key cache */
    COHORT_CPU_KV_TILE = 4,        /* groups between two rescalings of a softmax */
    COHORT_CPU_KV_PART = 32,       /* groups whose sums are a part of their own */
    COHORT_CPU_FETCH_BYTES = 4096, /* from where a panel is read to what is fetched */
    COHORT_CPU_QUERIES = 24,       /* the most query vectors in a cohort_cpu_attend */
};

/* c[rows][n_panels * 16] = (add: c +) x W^T over k values of k.  x is a packed tile
 * [k][rows]; a single row is therefore packed as it lies. */
typedef struct cohort_cpu_product {
    const void *x;
    int32_t rows;
    int32_t n_panels;
    const unsigned char *panels;
    size_t panel_bytes; /* from one panel to the next */
    int64_t k;
    float *c;
    int64_t c_stride;
    bool add;
    bool again; /* these panels have just been read, for other rows */
    /* Of as many passes over these panels this is the one of that number, from 0 on;
     * without: the only one. */
    int32_t pass, n_passes;
} cohort_cpu_product;

/* What a pass over n panels fetches: from `first` of each panel on, and a 65536th of
 * `rate` as fast as it reads; what were at `end` or beyond lies `skip` further. */
typedef struct cohort_cpu_ahead {
    size_t first, rate, end, skip;
} cohort_cpu_ahead;

/* A few panels are read at a time, two as a rule: more streams side by side than that
 * are read more slowly.  One pass fetches what will be read COHORT_CPU_FETCH_BYTES on in
 * each of n panels of `bytes`; behind their ends the next n begin.  Of several, which
 * read these panels from L2, each fetches its part of the next n: so memory is at work
 * while all of them multiply, and not while the first does.  What the processor fetches
 * by itself comes too late where a step multiplies many rows, and on some even for one.
 * Into L2. `rows` is what the caller's loop was compiled for: a single row's pass counts
 * as the only one, and pays nothing for the choice. */
static inline __attribute__((always_inline)) cohort_cpu_ahead cohort_cpu_look_ahead(
    const cohort_cpu_product *product, int rows, int n, size_t bytes) {
    size_t passes = (size_t)product->n_passes, next = (size_t)n * product->panel_bytes;
    if (rows == 1 || passes <= 1)
        return (cohort_cpu_ahead){COHORT_CPU_FETCH_BYTES, 1 << 16, bytes, next - bytes};
    return (cohort_cpu_ahead){next + bytes * (size_t)product->pass / passes,
                              (1 << 16) / passes, SIZE_MAX, 0};
}

/* When `done` bytes of each of n panels were read. */
static inline __attribute__((always_inline)) void cohort_cpu_fetch(
    const cohort_cpu_product *product, const unsigned char *panels, int rows, int n,
    cohort_cpu_ahead at, size_t done) {
    size_t ahead = at.first + (rows == 1 ? done : done * at.rate >> 16);
    if (ahead >= at.end) ahead += at.skip;
    for (int p = 0; p < n; p++)
        __builtin_prefetch(panels + (size_t)p * product->panel_bytes + ahead, 0, 2);
}

/* Query vectors that share one sequence and one KV head, against its cache.
 *
 * The cache is cut into parts of KV_PART groups, at multiples of it.  What a query sums
 * up over one part begins anew there, and parts are put together in their order: the same
 * whether one call visits all of them, or each has a call of its own (`parts` is where it
 * leaves sums and weights, cohort_cpu_part_floats for each query) and another puts them
 * together (`n_parts` of them, from `first_part` on). */
typedef struct cohort_cpu_attend {
    int32_t n_queries; /* at most COHORT_CPU_QUERIES */
    int32_t head_dim, padded_dim;
    float *queries;                    /* [n_queries][padded_dim], scaled; lost */
    int32_t begin[COHORT_CPU_QUERIES]; /* a query sees tokens [begin, end) */
    int32_t end[COHORT_CPU_QUERIES];
    float *out[COHORT_CPU_QUERIES]; /* head_dim floats each */
    cohort_dtype dtype;             /* of the cache */
    int32_t block_size, groups_per_block;
    const unsigned char *cache; /* this layer and head in block 0 */
    size_t block_bytes;         /* from one block to the next */
    size_t value_bytes;         /* from a block's keys to its values */
    const int32_t *block_table;
    float *scores; /* scratch: [n_queries][KV_TILE * KV_GROUP] */
    float *sums;   /* scratch: [n_queries][padded_dim] */
    float *totals; /* scratch: the same */
    float *parts;  /* NULL: one call visits all and writes out */
    int32_t first_part;
    int32_t n_parts; /* 0: visits first_part alone; else puts together */
} cohort_cpu_attend;

/* Of one query: its sums, the greatest score, the sum of weights relative to it. */
static inline int64_t cohort_cpu_part_floats(int32_t padded_dim) {
    return padded_dim + COHORT_CPU_PANEL;
}

typedef struct cohort_cpu_kernels {
    const char *name;
    int32_t tile_rows;            /* rows of a full tile */
    int32_t group_panels[12 + 1]; /* panels at a time, by rows */

    /* rows of x, k values each, as [k][rows] */
    void (*pack)(const float *const *rows, int32_t n_rows, int64_t k, float *out);
    void (*multiply[COHORT_I8 + 1])(const cohort_cpu_product *product); /* by dtype */

    void (*rms_norm)(const float *x, const float *weight, float eps, float *y, int64_t n);
    void (*layer_norm)(const float *x, const float *weight, const float *bias, float eps,
                       float *y, int64_t n);
    void (*add)(float *y, const float *x, int64_t n);
    void (*scale)(float *y, const float *by, int64_t n); /* y[i] *= by[i] */
    void (*add_scaled)(float *y, const float *x, float factor, int64_t n);
    void (*rotate)(float *head, const float *cos, const float *sin, int32_t half);
    /* gate may be followed by up, NULL: not gated */
    void (*activate)(cohort_activation activation, const float *gate, const float *up,
                     float *y, int64_t n);
    void (*attend)(const cohort_cpu_attend *attend);
} cohort_cpu_kernels;

/* bf16 x bf16 dot products, an extra to a table.  x is packed in an order that only pack
 * and multiply know, k_step values of k at a time, 2 bytes a value. */
typedef struct cohort_cpu_dot {
    void (*pack)(const float *const *rows, int32_t n_rows, int64_t k, void *out);
    void (*begin)(void); /* before and after a thread's products; may be NULL */
    void (*multiply)(const cohort_cpu_product *product);
    void (*end)(void);
    void (*attend)(const cohort_cpu_attend *attend);
    int32_t tile_rows; /* rows of a full tile; x may be read as if all were full */
    int32_t k_step;    /* packing, and a panel's memory, are padded to a whole number */
    /* x is packed with all of its k, and all its rows pass by a few panels; else blocks
     * and groups are as for the kernels' own products. */
    bool packs_whole;
    int32_t panels; /* of such a group */
} cohort_cpu_dot;

extern const cohort_cpu_kernels cohort_cpu_kernels_portable;
extern const cohort_cpu_kernels cohort_cpu_kernels_avx2;
extern const cohort_cpu_kernels cohort_cpu_kernels_avx512;
extern const cohort_cpu_dot cohort_cpu_dot_avx512bf16;
extern const cohort_cpu_dot cohort_cpu_dot_amx; /* attends as avx512bf16 */
void cohort_cpu_attend_avx512bf16(const cohort_cpu_attend *at);

/* What this CPU and its operating system let us use, by feature bits. */
typedef struct cohort_cpu_isa {
    const char *name; /* "portable", "avx2", "avx512", "avx512_bf16", "amx" */
    const cohort_cpu_kernels *kernels;
    const cohort_cpu_dot *dot; /* NULL: none */
    const cohort_cpu_logits *logits;
} cohort_cpu_isa;

/* The isa of that name; NULL: the best, which for bf16 dot products is a matter of timing
 * them once a process. */
cohort_status cohort_cpu_isa_find(const char *name, cohort_cpu_isa *out_isa);

#endif /* COHORT_MODEL_CPU_KERNELS_H */
