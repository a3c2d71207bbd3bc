/* SPDX-License-Identifier: Apache-2.0 */
/* model/cpu/kernels_body.h - the inner loops, for a file that has included one simd_*.h
 * and named its table in KERNELS and KERNELS_NAME.
 *
 * The tiles below are functions of constants: rows, panels and element type are known
 * where they are inlined, their loops vanish, and the accumulators live in registers.
 */
#ifndef COHORT_MODEL_CPU_KERNELS_BODY_H
#define COHORT_MODEL_CPU_KERNELS_BODY_H

#include <math.h>

#include "model/cpu/attend_body.h"
#include "model/cpu/kernels.h"
#include "model/cpu/transpose.h"

enum {
    PANEL = COHORT_CPU_PANEL,
    PANEL_VECS = PANEL / LANES,
    MOST_COLUMNS = TILE_PANELS(1) * PANEL_VECS,
};

/* ---- one element type or another --------------------------------------------------- */

TILE vec load_as(cohort_dtype dtype, const unsigned char *p) {
    const void *at = p;
    if (dtype == COHORT_I8) return vec_load_i8(at);
    return dtype == COHORT_F16 ? vec_load_f16(at) : vec_load(at);
}

TILE size_t bytes_of(cohort_dtype dtype) {
    if (dtype == COHORT_I8) return 1;
    return dtype == COHORT_F32 ? 4 : 2;
}

/* ---- products with weight panels --------------------------------------------------- */

/* sums[rows][vecs] += x[rows] * w[vecs]; int8 without a fused operation, so that all
 * instruction sets give the same. */
TILE void tile_step(cohort_dtype dtype, int rows, int vecs, const float *x, const vec *w,
                    vec *sums) {
    UNROLL for (int r = 0; r < rows; r++) {
        vec factor = vec_set1(x[r]);
        UNROLL for (int v = 0; v < vecs; v++) sums[r * vecs + v] =
            dtype == COHORT_I8 ? vec_add(sums[r * vecs + v], vec_mul(factor, w[v]))
                               : vec_fma(factor, w[v], sums[r * vecs + v]);
    }
}

TILE void tile_flat(cohort_dtype dtype, int rows, int vecs, const cohort_cpu_product *at,
                    const unsigned char *panels, vec *sums) {
    const float *x = at->x;
    const size_t step = PANEL * bytes_of(dtype), lanes = LANES * bytes_of(dtype);
    const size_t bytes = (size_t)at->k * step;
    const cohort_cpu_ahead ahead =
        cohort_cpu_look_ahead(at, rows, vecs / PANEL_VECS, bytes);
    for (size_t done = 0; done < bytes; done += step, x += rows) {
        vec w[MOST_COLUMNS];
        if (dtype != COHORT_I8 || done % 64 == 0) /* once a line */
            cohort_cpu_fetch(at, panels, rows, vecs / PANEL_VECS, ahead, done);
        UNROLL for (int v = 0; v < vecs; v++) w[v] =
            load_as(dtype, panels + (size_t)(v / PANEL_VECS) * at->panel_bytes + done +
                               (size_t)(v % PANEL_VECS) * lanes);
        tile_step(dtype, rows, vecs, x, w, sums);
    }
}

/* bf16 in pairs; the last pair of an odd k has a zero for its second. */
TILE void tile_pairs(int rows, int vecs, const cohort_cpu_product *at,
                     const unsigned char *panels, vec *sums) {
    const float *x = at->x;
    const unsigned char *first = panels;
    const size_t bytes = (size_t)(at->k + 1) / 2 * PANEL * 4;
    const cohort_cpu_ahead ahead =
        cohort_cpu_look_ahead(at, rows, vecs / PANEL_VECS, bytes);
    for (int64_t k = 0; k < at->k; k += 2, x += 2 * rows, panels += PANEL * 4) {
        vec w[MOST_COLUMNS];
        cohort_cpu_fetch(at, first, rows, vecs / PANEL_VECS, ahead,
                         (size_t)(panels - first));
        UNROLL for (int v = 0; v < vecs; v++) w[v] = vec_load_even(
            (const void *)(panels + (size_t)(v / PANEL_VECS) * at->panel_bytes +
                           (size_t)(v % PANEL_VECS) * LANES * 4));
        tile_step(COHORT_BF16, rows, vecs, x, w, sums);
        if (k + 1 == at->k) break;
        UNROLL for (int v = 0; v < vecs; v++) w[v] = vec_load_odd(
            (const void *)(panels + (size_t)(v / PANEL_VECS) * at->panel_bytes +
                           (size_t)(v % PANEL_VECS) * LANES * 4));
        tile_step(COHORT_BF16, rows, vecs, x + rows, w, sums);
    }
}

TILE void tile(cohort_dtype dtype, int rows, int n_panels, const cohort_cpu_product *at,
               int panel) {
    const int vecs = n_panels * PANEL_VECS;
    const unsigned char *panels = at->panels + (size_t)panel * at->panel_bytes;
    float *c = at->c + (int64_t)panel * PANEL;
    vec sums[MOST_SUMS];
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < vecs; v++)
        sums[r * vecs + v] =
            at->add ? vec_load(c + r * at->c_stride + v * LANES) : vec_set1(0);
    if (dtype == COHORT_BF16)
        tile_pairs(rows, vecs, at, panels, sums);
    else
        tile_flat(dtype, rows, vecs, at, panels, sums);
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < vecs; v++)
        vec_store(c + r * at->c_stride + v * LANES, sums[r * vecs + v]);
}

/* All panels, as many at a time as the registers hold accumulators for. */
TILE void product(cohort_dtype dtype, int rows, const cohort_cpu_product *at) {
    int panel = 0;
    if (TILE_PANELS(rows) >= 2)
        for (; panel + 2 <= at->n_panels; panel += 2)
            tile(dtype, rows, 2, at, panel);
    for (; panel < at->n_panels; panel++)
        tile(dtype, rows, 1, at, panel);
}

#define ROWS(name, dtype, n) \
    static void name##_##n(const cohort_cpu_product *at) { product(dtype, n, at); }
#if TILE_ROWS_MOST >= 6
#define ROWS_TO_6(name, dtype) \
    ROWS(name, dtype, 4) ROWS(name, dtype, 5) ROWS(name, dtype, 6)
#define CASES_TO_6(name) name##_4, name##_5, name##_6,
#else
#define ROWS_TO_6(name, dtype)
#define CASES_TO_6(name)
#endif
#if TILE_ROWS_MOST >= 12
#define ROWS_TO_12(name, dtype) \
    ROWS(name, dtype, 7)        \
    ROWS(name, dtype, 8)        \
    ROWS(name, dtype, 9) ROWS(name, dtype, 10) ROWS(name, dtype, 11) ROWS(name, dtype, 12)
#define CASES_TO_12(name) name##_7, name##_8, name##_9, name##_10, name##_11, name##_12,
#else
#define ROWS_TO_12(name, dtype)
#define CASES_TO_12(name)
#endif

#define PRODUCTS(name, dtype)                                                  \
    ROWS(name, dtype, 1)                                                       \
    ROWS(name, dtype, 2)                                                       \
    ROWS(name, dtype, 3)                                                       \
    ROWS_TO_6(name, dtype)                                                     \
    ROWS_TO_12(name, dtype) static void name(const cohort_cpu_product *at) {   \
        static void (*const by_rows[])(const cohort_cpu_product *) = {         \
            name##_1, name##_2, name##_3, CASES_TO_6(name) CASES_TO_12(name)}; \
        by_rows[at->rows - 1](at);                                             \
    }

PRODUCTS(multiply_f32, COHORT_F32)
PRODUCTS(multiply_bf16, COHORT_BF16)
PRODUCTS(multiply_f16, COHORT_F16)
PRODUCTS(multiply_int8, COHORT_I8)

static void pack(const float *const *rows, int32_t n_rows, int64_t k, float *out) {
    cohort_cpu_transpose((const uint32_t *const *)(const void *)rows, n_rows, k,
                         (uint32_t *)(void *)out);
}

/* ---- rows -------------------------------------------------------------------------- */

/* sum of (x - mean)^2 */
static float square_sum(const float *x, float mean, int64_t n) {
    const vec middle = vec_set1(mean);
    vec sums[4] = {vec_set1(0), vec_set1(0), vec_set1(0), vec_set1(0)};
    int64_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES)
        UNROLL for (int j = 0; j < 4; j++) {
            vec v = vec_sub(vec_load(x + i + j * LANES), middle);
            sums[j] = vec_fma(v, v, sums[j]);
        }
    for (; i + LANES <= n; i += LANES) {
        vec v = vec_sub(vec_load(x + i), middle);
        sums[0] = vec_fma(v, v, sums[0]);
    }
    float sum = vec_sum(vec_add(vec_add(sums[0], sums[1]), vec_add(sums[2], sums[3])));
    for (; i < n; i++)
        sum += (x[i] - mean) * (x[i] - mean);
    return sum;
}

static float plain_sum(const float *x, int64_t n) {
    vec sums = vec_set1(0);
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        sums = vec_add(sums, vec_load(x + i));
    if (i < n) sums = vec_add(sums, vec_load_n(x + i, n - i));
    return vec_sum(sums);
}

static void rms_norm(const float *x, const float *weight, float eps, float *y,
                     int64_t n) {
    const vec scale = vec_set1(1 / sqrtf(square_sum(x, 0, n) / (float)n + eps));
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vec_store(y + i, vec_mul(vec_mul(vec_load(x + i), scale), vec_load(weight + i)));
    if (i < n)
        vec_store_n(y + i,
                    vec_mul(vec_mul(vec_load_n(x + i, n - i), scale),
                            vec_load_n(weight + i, n - i)),
                    n - i);
}

/* weight and bias may be NULL */
static void layer_norm(const float *x, const float *weight, const float *bias, float eps,
                       float *y, int64_t n) {
    float mean = plain_sum(x, n) / (float)n;
    const vec scale = vec_set1(1 / sqrtf(square_sum(x, mean, n) / (float)n + eps));
    const vec middle = vec_set1(mean);
    for (int64_t i = 0; i < n; i += LANES) {
        int64_t left = n - i < LANES ? n - i : LANES;
        vec v = vec_mul(vec_sub(vec_load_n(x + i, left), middle), scale);
        if (weight) v = vec_mul(v, vec_load_n(weight + i, left));
        if (bias) v = vec_add(v, vec_load_n(bias + i, left));
        vec_store_n(y + i, v, left);
    }
}

static void add(float *y, const float *x, int64_t n) {
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vec_store(y + i, vec_add(vec_load(y + i), vec_load(x + i)));
    if (i < n)
        vec_store_n(y + i, vec_add(vec_load_n(y + i, n - i), vec_load_n(x + i, n - i)),
                    n - i);
}

static void scale(float *y, const float *by, int64_t n) {
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vec_store(y + i, vec_mul(vec_load(y + i), vec_load(by + i)));
    if (i < n)
        vec_store_n(y + i, vec_mul(vec_load_n(y + i, n - i), vec_load_n(by + i, n - i)),
                    n - i);
}

static void add_scaled(float *y, const float *x, float factor, int64_t n) {
    const vec by = vec_set1(factor);
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vec_store(y + i, vec_fma(by, vec_load(x + i), vec_load(y + i)));
    if (i < n)
        vec_store_n(y + i,
                    vec_fma(by, vec_load_n(x + i, n - i), vec_load_n(y + i, n - i)),
                    n - i);
}

static void rotate(float *head, const float *cos, const float *sin, int32_t half) {
    for (int64_t i = 0; i < half; i += LANES) {
        int64_t left = half - i < LANES ? half - i : LANES;
        vec a = vec_load_n(head + i, left), b = vec_load_n(head + half + i, left);
        vec c = vec_load_n(cos + i, left), s = vec_load_n(sin + i, left);
        vec_store_n(head + i, vec_fnma(b, s, vec_mul(a, c)), left);
        vec_store_n(head + half + i, vec_fma(a, s, vec_mul(b, c)), left);
    }
}

TILE vec silu(vec x) {
    vec e = vec_exp(vec_sub(vec_set1(0), x));
    return vec_div(x, vec_add(vec_set1(1), e));
}

/* Exact, with erf: no architecture of ours is bound by it. */
static vec gelu(vec x) {
    float lanes[LANES];
    vec_store(lanes, x);
    for (int i = 0; i < LANES; i++)
        lanes[i] = 0.5f * lanes[i] * (1 + erff(lanes[i] * 0.70710678f));
    return vec_load(lanes);
}

TILE vec apply(cohort_activation activation, vec x) {
    switch (activation) {
    case COHORT_SILU: return silu(x);
    case COHORT_GELU: return gelu(x);
    default: return vec_max(x, vec_set1(0));
    }
}

TILE void apply_all(cohort_activation activation, const float *gate, const float *up,
                    float *y, int64_t n) {
    for (int64_t i = 0; i < n; i += LANES) {
        int64_t left = n - i < LANES ? n - i : LANES;
        vec v = apply(activation, vec_load_n(gate + i, left));
        if (up) v = vec_mul(v, vec_load_n(up + i, left));
        vec_store_n(y + i, v, left);
    }
}

static void activate(cohort_activation activation, const float *gate, const float *up,
                     float *y, int64_t n) {
    switch (activation) {
    case COHORT_SILU: apply_all(COHORT_SILU, gate, up, y, n); break;
    case COHORT_GELU: apply_all(COHORT_GELU, gate, up, y, n); break;
    case COHORT_RELU: apply_all(COHORT_RELU, gate, up, y, n); break;
    }
}

/* ---- the table --------------------------------------------------------------------- */

#define PANELS_1_TO_12                                                                   \
    0, TILE_PANELS(1), TILE_PANELS(2), TILE_PANELS(3), TILE_PANELS(4), TILE_PANELS(5),   \
        TILE_PANELS(6), TILE_PANELS(7), TILE_PANELS(8), TILE_PANELS(9), TILE_PANELS(10), \
        TILE_PANELS(11), TILE_PANELS(12)

const cohort_cpu_kernels KERNELS = {
    .name = KERNELS_NAME,
    .tile_rows = TILE_ROWS,
    .group_panels = {PANELS_1_TO_12},
    .pack = pack,
    .multiply = {[COHORT_F32] = multiply_f32,
                 [COHORT_BF16] = multiply_bf16,
                 [COHORT_F16] = multiply_f16,
                 [COHORT_I8] = multiply_int8},
    .rms_norm = rms_norm,
    .layer_norm = layer_norm,
    .add = add,
    .add_scaled = add_scaled,
    .scale = scale,
    .rotate = rotate,
    .activate = activate,
    .attend = attend,
};

#endif /* COHORT_MODEL_CPU_KERNELS_BODY_H */
