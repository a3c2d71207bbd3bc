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

#include "model/cpu/kernels.h"
#include "model/cpu/transpose.h"

#define TILE   static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 32")

enum {
    PANEL = COHORT_CPU_PANEL,
    PANEL_VECS = PANEL / LANES,
    MOST_VECS = 24, /* accumulators of any tile */
    MOST_COLUMNS = WIDE_TILE * PANEL_VECS,
};

/* ---- one element type or another --------------------------------------------------- */

TILE vec load_as(cohort_dtype dtype, const unsigned char *p) {
    const void *at = p;
    switch (dtype) {
    case COHORT_BF16: return vec_load_bf16(at);
    case COHORT_F16: return vec_load_f16(at);
    default: return vec_load(at);
    }
}

TILE size_t bytes_of(cohort_dtype dtype) { return dtype == COHORT_F32 ? 4 : 2; }

/* ---- products with weight panels --------------------------------------------------- */

/* sums[rows][vecs] += x[rows] * w[vecs] */
TILE void tile_step(int rows, int vecs, const float *x, const vec *w, vec *sums) {
    UNROLL for (int r = 0; r < rows; r++) {
        vec factor = vec_set1(x[r]);
        UNROLL for (int v = 0; v < vecs; v++) sums[r * vecs + v] =
            vec_fma(factor, w[v], sums[r * vecs + v]);
    }
}

TILE void tile_flat(cohort_dtype dtype, int rows, int vecs, const cohort_cpu_product *at,
                    const unsigned char *panels, vec *sums) {
    const float *x = at->x;
    const size_t step = PANEL * bytes_of(dtype), lanes = LANES * bytes_of(dtype);
    for (int64_t k = 0; k < at->k; k++, x += rows, panels += step) {
        vec w[MOST_COLUMNS];
        UNROLL for (int v = 0; v < vecs; v++) w[v] =
            load_as(dtype, panels + (size_t)(v / PANEL_VECS) * at->panel_bytes +
                               (size_t)(v % PANEL_VECS) * lanes);
        tile_step(rows, vecs, x, w, sums);
    }
}

/* bf16 in pairs; the last pair of an odd k has a zero for its second. */
TILE void tile_pairs(int rows, int vecs, const cohort_cpu_product *at,
                     const unsigned char *panels, vec *sums) {
    const float *x = at->x;
    for (int64_t k = 0; k < at->k; k += 2, x += 2 * rows, panels += PANEL * 4) {
        vec w[MOST_COLUMNS];
        UNROLL for (int v = 0; v < vecs; v++) w[v] = vec_load_even(
            (const void *)(panels + (size_t)(v / PANEL_VECS) * at->panel_bytes +
                           (size_t)(v % PANEL_VECS) * LANES * 4));
        tile_step(rows, vecs, x, w, sums);
        if (k + 1 == at->k) break;
        UNROLL for (int v = 0; v < vecs; v++) w[v] = vec_load_odd(
            (const void *)(panels + (size_t)(v / PANEL_VECS) * at->panel_bytes +
                           (size_t)(v % PANEL_VECS) * LANES * 4));
        tile_step(rows, vecs, x + rows, w, sums);
    }
}

TILE void tile(cohort_dtype dtype, int rows, int n_panels, const cohort_cpu_product *at,
               int panel) {
    const int vecs = n_panels * PANEL_VECS;
    const unsigned char *panels = at->panels + (size_t)panel * at->panel_bytes;
    float *c = at->c + (int64_t)panel * PANEL;
    vec sums[MOST_VECS];
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
    if (TILE_PANELS(rows) >= 8)
        for (; panel + 8 <= at->n_panels; panel += 8)
            tile(dtype, rows, 8, at, panel);
    if (TILE_PANELS(rows) >= 4)
        for (; panel + 4 <= at->n_panels; panel += 4)
            tile(dtype, rows, 4, at, panel);
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

static void pack(const float *const *rows, int32_t n_rows, int64_t k, float *out) {
    cohort_cpu_transpose((const uint32_t *const *)(const void *)rows, n_rows, k,
                         (uint32_t *)(void *)out);
}

/* ---- exp --------------------------------------------------------------------------- */

/* Cephes' expf: 2^n times a polynomial on [-ln2/2, ln2/2], within 2 ulp; 0 below
 * -87.3, where a float would be subnormal, 1.6e38 above 88, NaN of NaN (min and max give
 * their second operand then). */
static inline vec vec_exp(vec x) {
    const vec magic = vec_set1(12582912.0f); /* adding 1.5 * 2^23 rounds to an integer */
    const vec lowest = vec_set1(-87.33654f);
    vec bounded = vec_min(vec_set1(88.02f), vec_max(lowest, x));
    vec shifted = vec_fma(bounded, vec_set1(1.44269504f), magic);
    vec n = vec_sub(shifted, magic);
    vec r = vec_fnma(n, vec_set1(0.693359375f), bounded);
    r = vec_fnma(n, vec_set1(-2.12194440e-4f), r);
    vec p = vec_set1(1.9875691500e-4f);
    p = vec_fma(p, r, vec_set1(1.3981999507e-3f));
    p = vec_fma(p, r, vec_set1(8.3334519073e-3f));
    p = vec_fma(p, r, vec_set1(4.1665795894e-2f));
    p = vec_fma(p, r, vec_set1(1.6666665459e-1f));
    p = vec_fma(p, r, vec_set1(5.0000001201e-1f));
    p = vec_fma(p, vec_mul(r, r), vec_add(r, vec_set1(1)));
    return vec_zero_below(x, lowest, vec_mul(p, vec_pow2(shifted)));
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

/* ---- attention --------------------------------------------------------------------- */

/* A product of a few query rows with vectors in the cache: scores (x: queries, k: head
 * dimension, b: keys of a group) and sums (x: probabilities, k: tokens, b: values). */
struct mix {
    const float *x;
    int64_t x_stride;
    const unsigned char *b[4]; /* one per vector */
    size_t b_step;             /* bytes from one k to the next */
    int64_t k;
    float *c;
    int64_t c_stride;
};

TILE void mix_tile(cohort_dtype dtype, int queries, int vecs, bool adding,
                   const struct mix *at) {
    vec sums[MOST_VECS];
    UNROLL for (int q = 0; q < queries; q++) UNROLL for (int v = 0; v < vecs; v++)
        sums[q * vecs + v] =
            adding ? vec_load(at->c + q * at->c_stride + v * LANES) : vec_set1(0);
    for (int64_t k = 0; k < at->k; k++) {
        vec b[4];
        UNROLL for (int v = 0; v < vecs; v++) b[v] =
            load_as(dtype, at->b[v] + (size_t)k * at->b_step);
        UNROLL for (int q = 0; q < queries; q++) {
            vec factor = vec_set1(at->x[q * at->x_stride + k]);
            UNROLL for (int v = 0; v < vecs; v++) sums[q * vecs + v] =
                vec_fma(factor, b[v], sums[q * vecs + v]);
        }
    }
    UNROLL for (int q = 0; q < queries; q++) UNROLL for (int v = 0; v < vecs; v++)
        vec_store(at->c + q * at->c_stride + v * LANES, sums[q * vecs + v]);
}

TILE void mix_queries(cohort_dtype dtype, int vecs, bool adding, int32_t n_queries,
                      struct mix at) {
    for (; n_queries >= MIX_QUERIES; n_queries -= MIX_QUERIES) {
        mix_tile(dtype, MIX_QUERIES, vecs, adding, &at);
        at.x += MIX_QUERIES * at.x_stride;
        at.c += MIX_QUERIES * at.c_stride;
    }
    switch (n_queries) { /* MIX_QUERIES is 6 at most */
    case 1: mix_tile(dtype, 1, vecs, adding, &at); break;
    case 2: mix_tile(dtype, 2, vecs, adding, &at); break;
#if TILE_ROWS_MOST >= 12
    case 3: mix_tile(dtype, 3, vecs, adding, &at); break;
    case 4: mix_tile(dtype, 4, vecs, adding, &at); break;
    case 5: mix_tile(dtype, 5, vecs, adding, &at); break;
#endif
    default: break;
    }
}

#define MIX(name, dtype, vecs, adding)                          \
    static void name(int32_t n_queries, const struct mix *at) { \
        mix_queries(dtype, vecs, adding, n_queries, *at);       \
    }
MIX(score_f32_4, COHORT_F32, 4, false)
MIX(score_f32_1, COHORT_F32, 1, false)
MIX(score_bf16_4, COHORT_BF16, 4, false)
MIX(score_bf16_1, COHORT_BF16, 1, false)
MIX(sum_f32_4, COHORT_F32, 4, true)
MIX(sum_f32_1, COHORT_F32, 1, true)
MIX(sum_bf16_4, COHORT_BF16, 4, true)
MIX(sum_bf16_1, COHORT_BF16, 1, true)

enum {
    GROUP = COHORT_CPU_KV_GROUP,
    GROUP_VECS = GROUP / LANES,
    SCORES = COHORT_CPU_KV_TILE * GROUP,
};

/* The groups [first, first + n) of a tile, and where they lie. */
struct kv_tile {
    int32_t n_groups;
    int32_t begin[COHORT_CPU_KV_TILE]; /* position of a group's first token */
    int32_t count[COHORT_CPU_KV_TILE]; /* its tokens */
    const unsigned char *keys[COHORT_CPU_KV_TILE];
    const unsigned char *values[COHORT_CPU_KV_TILE];
};

static void find_tile(const cohort_cpu_attend *at, int32_t first, int32_t n_groups,
                      struct kv_tile *out) {
    size_t bytes = bytes_of(at->dtype);
    out->n_groups = n_groups;
    for (int32_t g = 0; g < n_groups; g++) {
        int32_t block = (first + g) / at->groups_per_block;
        int32_t token = (first + g) % at->groups_per_block * GROUP;
        const unsigned char *base =
            at->cache + (size_t)at->block_table[block] * at->block_bytes;
        int32_t left = at->block_size - token;
        out->begin[g] = block * at->block_size + token;
        out->count[g] = left < GROUP ? left : GROUP;
        out->keys[g] = base + (size_t)token * (size_t)at->head_dim * bytes;
        out->values[g] =
            base + at->value_bytes + (size_t)token * (size_t)at->padded_dim * bytes;
    }
}

/* scores[query][group of the tile][token] */
static void score_tile(const cohort_cpu_attend *at, const struct kv_tile *tile_at) {
    bool f32 = at->dtype == COHORT_F32;
    size_t bytes = bytes_of(at->dtype);
    int32_t n_vecs = tile_at->n_groups * GROUP_VECS, v = 0;
    while (v < n_vecs) {
        int32_t width = v + 4 <= n_vecs ? 4 : 1;
        struct mix mix = {.x = at->queries,
                          .x_stride = at->padded_dim,
                          .b_step = GROUP * bytes,
                          .k = at->head_dim,
                          .c = at->scores + v * LANES,
                          .c_stride = SCORES};
        for (int32_t i = 0; i < width; i++)
            mix.b[i] = tile_at->keys[(v + i) / GROUP_VECS] +
                       (size_t)((v + i) % GROUP_VECS) * LANES * bytes;
        if (width == 4)
            (f32 ? score_f32_4 : score_bf16_4)(at->n_queries, &mix);
        else
            (f32 ? score_f32_1 : score_bf16_1)(at->n_queries, &mix);
        v += width;
    }
}

/* Scores that this query must not see become -inf: their weight is exactly 0. */
static void hide(const cohort_cpu_attend *at, int32_t query,
                 const struct kv_tile *tile_at, float *scores) {
    for (int32_t g = 0; g < COHORT_CPU_KV_TILE; g++) {
        int32_t from = 0, to = 0;
        if (g < tile_at->n_groups) {
            from = at->begin[query] - tile_at->begin[g];
            to = at->end[query] - tile_at->begin[g];
            if (to > tile_at->count[g]) to = tile_at->count[g];
        }
        for (int32_t i = 0; i < GROUP; i++)
            if (i < from || i >= to) scores[g * GROUP + i] = -INFINITY;
    }
}

/* Scores become weights relative to a new maximum; what was summed before is rescaled. */
static void soften(const cohort_cpu_attend *at, int32_t query, float *most, vec *weight) {
    float *scores = at->scores + (int64_t)query * SCORES;
    vec top = vec_load(scores);
    for (int i = LANES; i < SCORES; i += LANES)
        top = vec_max(top, vec_load(scores + i));
    float now = vec_top(top);
    if (now > *most) {
        float factor;
        vec by = vec_exp(vec_set1(*most - now));
        vec_store_n(&factor, by, 1);
        by = vec_set1(factor);
        float *sums = at->sums + (int64_t)query * at->padded_dim;
        for (int i = 0; i < at->padded_dim; i += LANES)
            vec_store(sums + i, vec_mul(by, vec_load(sums + i)));
        *weight = vec_mul(*weight, by);
        *most = now;
    }
    const vec reference = vec_set1(*most);
    for (int i = 0; i < SCORES; i += LANES) {
        vec e = vec_exp(vec_sub(vec_load(scores + i), reference));
        vec_store(scores + i, e);
        *weight = vec_add(*weight, e);
    }
}

/* sums[query][dimension] += weight[query][token] * value[token][dimension].  Tokens from
 * `end` on are left out: what lies there may be anything, and 0 * NaN is NaN. */
static void sum_tile(const cohort_cpu_attend *at, const struct kv_tile *tile_at,
                     int32_t end) {
    bool f32 = at->dtype == COHORT_F32;
    size_t bytes = bytes_of(at->dtype);
    int32_t n_vecs = at->padded_dim / LANES;
    for (int32_t g = 0; g < tile_at->n_groups; g++) {
        int32_t n = end - tile_at->begin[g];
        if (n > tile_at->count[g]) n = tile_at->count[g];
        for (int32_t v = 0; v < n_vecs;) {
            int32_t width = v + 4 <= n_vecs ? 4 : 1;
            struct mix mix = {.x = at->scores + g * GROUP,
                              .x_stride = SCORES,
                              .b_step = (size_t)at->padded_dim * bytes,
                              .k = n,
                              .c = at->sums + v * LANES,
                              .c_stride = at->padded_dim};
            for (int32_t i = 0; i < width; i++)
                mix.b[i] = tile_at->values[g] + (size_t)(v + i) * LANES * bytes;
            if (width == 4)
                (f32 ? sum_f32_4 : sum_bf16_4)(at->n_queries, &mix);
            else
                (f32 ? sum_f32_1 : sum_bf16_1)(at->n_queries, &mix);
            v += width;
        }
    }
}

/* Group that position lies in. */
static int32_t group_of(const cohort_cpu_attend *at, int32_t position) {
    return position / at->block_size * at->groups_per_block +
           position % at->block_size / GROUP;
}

/* Tiles begin at multiples of KV_TILE groups whatever the queries are, so that a query's
 * sums are added up in one order; tiles it sees nothing of add exact zeros. */
static void attend(const cohort_cpu_attend *at) {
    float most[COHORT_CPU_QUERIES];
    vec weight[COHORT_CPU_QUERIES];
    int32_t begin = at->begin[0], end = at->end[0];
    for (int32_t q = 0; q < at->n_queries; q++) {
        most[q] = -1e30f; /* finite: its difference to -inf has a sign */
        weight[q] = vec_set1(0);
        if (at->begin[q] < begin) begin = at->begin[q];
        if (at->end[q] > end) end = at->end[q];
    }
    for (int64_t i = 0; i < (int64_t)at->n_queries * at->padded_dim; i += LANES)
        vec_store(at->sums + i, vec_set1(0));

    int32_t last = group_of(at, end - 1);
    int32_t first = group_of(at, begin) / COHORT_CPU_KV_TILE * COHORT_CPU_KV_TILE;
    for (int32_t group = first; group <= last; group += COHORT_CPU_KV_TILE) {
        struct kv_tile tile_at;
        int32_t n = last - group + 1;
        find_tile(at, group, n < COHORT_CPU_KV_TILE ? n : COHORT_CPU_KV_TILE, &tile_at);
        score_tile(at, &tile_at);
        for (int32_t q = 0; q < at->n_queries; q++) {
            hide(at, q, &tile_at, at->scores + (int64_t)q * SCORES);
            soften(at, q, &most[q], &weight[q]);
        }
        sum_tile(at, &tile_at, end);
    }
    for (int32_t q = 0; q < at->n_queries; q++) {
        const vec by = vec_set1(1 / vec_sum(weight[q]));
        const float *sums = at->sums + (int64_t)q * at->padded_dim;
        for (int64_t i = 0; i < at->head_dim; i += LANES) {
            int64_t left = at->head_dim - i < LANES ? at->head_dim - i : LANES;
            vec_store_n(at->out[q] + i, vec_mul(by, vec_load(sums + i)), left);
        }
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
                 [COHORT_F16] = multiply_f16},
    .rms_norm = rms_norm,
    .layer_norm = layer_norm,
    .add = add,
    .add_scaled = add_scaled,
    .rotate = rotate,
    .activate = activate,
    .attend = attend,
};

#endif /* COHORT_MODEL_CPU_KERNELS_BODY_H */
