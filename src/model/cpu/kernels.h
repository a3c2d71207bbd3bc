/* SPDX-License-Identifier: Apache-2.0 */
/* model/cpu/kernels.h - the inner loops, compiled once per instruction set.
 *
 * Weights lie in panels of 16 output rows.  f32: [k][16].  16-bit types: [k / 2][16][2],
 * the pair order that bf16 dot products and AMX tiles read.  A K block of the cache is
 * [head_dim][16] for 16 tokens, so that a vector of scores is one multiply-add per
 * dimension; V is [16][head_dim].
 *
 * Every output element is one chain of multiply-adds over k, whatever the number of rows.
 */
#ifndef COHORT_MODEL_CPU_KERNELS_H
#define COHORT_MODEL_CPU_KERNELS_H

#include "model/backend.h"

enum { COHORT_PANEL = 16 }; /* output rows of a panel, and tokens of a K block */

typedef struct cohort_product {
    const void *panels; /* the first panel to compute */
    size_t panel_bytes;
    cohort_dtype dtype;
    int64_t n_panels;
    int64_t n_out; /* outputs from the first panel on; the last panel may be cut */
    int64_t n_in;
    const float *bias; /* of the first panel on, or NULL */
    const float *x;
    int64_t x_stride;
    float *y;
    int64_t y_stride;
    int64_t n_rows;
} cohort_product;

/* One KV head and some rows of one sequence. */
typedef struct cohort_attend {
    const void *k, *v; /* block 0 of this layer and head */
    size_t block_stride_bytes;
    cohort_dtype dtype;
    const int32_t *block_table;
    int32_t block_size;        /* a multiple of COHORT_PANEL */
    int32_t head_dim, n_heads; /* query heads of this KV head */
    int32_t first_position, n_rows;
    int32_t sliding_window;
    float scale;
    const float *q; /* row 0, first head */
    int64_t q_stride;
    float *out;
    int64_t out_stride;
    float *scratch; /* COHORT_ATTEND_ROWS * n_heads * (head_dim + 2) floats */
} cohort_attend;

enum { COHORT_ATTEND_ROWS = 16 };

typedef struct cohort_kernels {
    const char *isa;
    void (*product)(const cohort_product *product);
    void (*attend)(const cohort_attend *attend);
    void (*activate)(cohort_activation activation, bool gated, const float *x, float *y,
                     int64_t n);
    void (*rms_norm)(const float *x, const float *weight, float eps, float *y, int64_t n);
    void (*layer_norm)(const float *x, const float *weight, const float *bias, float eps,
                       float *y, int64_t n);
} cohort_kernels;

extern const cohort_kernels cohort_kernels_portable, cohort_kernels_avx2,
    cohort_kernels_avx512;

static inline float cohort_from_bf16(uint16_t bits) {
    union {
        uint32_t u;
        float f;
    } value = {.u = (uint32_t)bits << 16};
    return value.f;
}

static inline uint16_t cohort_to_bf16(float number) {
    union {
        float f;
        uint32_t u;
    } value = {.f = number};
    if ((value.u & 0x7fffffff) > 0x7f800000) return 0x7fc0; /* NaN stays one */
    return (uint16_t)((value.u + 0x7fff + ((value.u >> 16) & 1)) >> 16);
}

float cohort_from_f16(uint16_t bits);
uint16_t cohort_to_f16(float number);

#endif /* COHORT_MODEL_CPU_KERNELS_H */
