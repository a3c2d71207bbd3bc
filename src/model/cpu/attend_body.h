/* SPDX-License-Identifier: Apache-2.0 */
/* model/cpu/attend_body.h - attention of some queries to a paged cache, for a file
 * that has included one simd_*.h; `attend` is what it gives.
 *
 * A bf16 cache lies in pairs: two dimensions of a key, or one of two tokens' values.
 * Where ATTEND_DOT is defined, such pairs are multiplied with pairs of queries and
 * weights that are rounded to bf16, too; else they are widened to f32.
 */
#ifndef COHORT_MODEL_CPU_ATTEND_BODY_H
#define COHORT_MODEL_CPU_ATTEND_BODY_H

#include <math.h>
#include <string.h>

#include "model/cpu/kernels.h"

#define TILE   static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 32")

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

/* ---- attention --------------------------------------------------------------------- */

/* Four bytes of the cache: an f32, or a pair of bf16 along k.  A product of a few query
 * rows with vectors of items: scores (x: queries, k: head dimension, b: keys of a group)
 * and sums (x: weights, k: tokens, b: values). */
enum { ITEM_BYTES = 4, MOST_SUMS = 24 /* of any tile, in registers */ };

typedef enum mix_kind { MIX_F32, MIX_PAIRS, MIX_DOT } mix_kind;

struct mix {
    const float *x; /* MIX_DOT: pairs of bf16 */
    int64_t x_stride;
    int32_t n_parts; /* stretches of k that lie apart, each of */
    int64_t k[COHORT_CPU_KV_TILE];
    const unsigned char *b[COHORT_CPU_KV_TILE][4]; /* one per vector */
    size_t b_step;                                 /* bytes from one item to the next */
    int64_t x_step;                                /* from one part to the next */
    float *c;
    int64_t c_stride;
};

static inline int64_t count_items(cohort_dtype dtype, int64_t k) {
    return dtype == COHORT_F32 ? k : (k + 1) / 2;
}

/* sums[queries][vecs] += x[queries] * b[vecs] */
TILE void mix_step(int queries, int vecs, const float *x, int64_t x_stride, const vec *b,
                   vec *sums) {
    UNROLL for (int q = 0; q < queries; q++) {
        vec factor = vec_set1(x[q * x_stride]);
        UNROLL for (int v = 0; v < vecs; v++) sums[q * vecs + v] =
            vec_fma(factor, b[v], sums[q * vecs + v]);
    }
}

TILE void mix_f32(int queries, int vecs, const struct mix *at, int part, vec *sums) {
    const unsigned char *const *from = at->b[part];
    const float *x = at->x + part * at->x_step;
    for (int64_t k = 0; k < at->k[part]; k++) {
        vec b[4];
        UNROLL for (int v = 0; v < vecs; v++) b[v] =
            vec_load((const void *)(from[v] + (size_t)k * at->b_step));
        mix_step(queries, vecs, x + k, at->x_stride, b, sums);
    }
}

TILE void mix_pairs(int queries, int vecs, const struct mix *at, int part, vec *sums) {
    const unsigned char *const *from = at->b[part];
    const float *x = at->x + part * at->x_step;
    for (int64_t k = 0; k < at->k[part]; k += 2) {
        size_t done = (size_t)(k / 2) * at->b_step;
        vec b[4];
        UNROLL for (int v = 0; v < vecs; v++) b[v] =
            vec_load_even((const void *)(from[v] + done));
        mix_step(queries, vecs, x + k, at->x_stride, b, sums);
        if (k + 1 == at->k[part]) break;
        UNROLL for (int v = 0; v < vecs; v++) b[v] =
            vec_load_odd((const void *)(from[v] + done));
        mix_step(queries, vecs, x + k + 1, at->x_stride, b, sums);
    }
}

#ifdef ATTEND_DOT
/* The second of an odd end is a weight of 0, or a dimension that is 0 in queries and
 * keys. */
TILE void mix_dot(int queries, int vecs, const struct mix *at, int part, vec *sums) {
    const unsigned char *const *from = at->b[part];
    const float *x = at->x + part * at->x_step;
    for (int64_t i = 0; i < (at->k[part] + 1) / 2; i++) {
        __m512bh b[4];
        UNROLL for (int v = 0; v < vecs; v++) b[v] =
            (__m512bh)_mm512_loadu_si512(from[v] + (size_t)i * at->b_step);
        UNROLL for (int q = 0; q < queries; q++) {
            __m512bh factor =
                (__m512bh)_mm512_castps_si512(vec_set1(x[q * at->x_stride + i]));
            UNROLL for (int v = 0; v < vecs; v++) sums[q * vecs + v] =
                _mm512_dpbf16_ps(sums[q * vecs + v], factor, b[v]);
        }
    }
}
#endif

TILE void mix_tile(mix_kind kind, int queries, int vecs, bool adding,
                   const struct mix *at) {
    vec sums[MOST_SUMS];
    UNROLL for (int q = 0; q < queries; q++) UNROLL for (int v = 0; v < vecs; v++)
        sums[q * vecs + v] =
            adding ? vec_load(at->c + q * at->c_stride + v * LANES) : vec_set1(0);
    for (int part = 0; part < at->n_parts; part++) {
        if (kind == MIX_F32) mix_f32(queries, vecs, at, part, sums);
        if (kind == MIX_PAIRS) mix_pairs(queries, vecs, at, part, sums);
#ifdef ATTEND_DOT
        if (kind == MIX_DOT) mix_dot(queries, vecs, at, part, sums);
#endif
    }
    UNROLL for (int q = 0; q < queries; q++) UNROLL for (int v = 0; v < vecs; v++)
        vec_store(at->c + q * at->c_stride + v * LANES, sums[q * vecs + v]);
}

TILE void mix_queries(mix_kind kind, int vecs, bool adding, int32_t n_queries,
                      struct mix at) {
    for (; n_queries >= MIX_QUERIES; n_queries -= MIX_QUERIES) {
        mix_tile(kind, MIX_QUERIES, vecs, adding, &at);
        at.x += MIX_QUERIES * at.x_stride;
        at.c += MIX_QUERIES * at.c_stride;
    }
    switch (n_queries) { /* MIX_QUERIES is 6 at most */
    case 1: mix_tile(kind, 1, vecs, adding, &at); break;
    case 2: mix_tile(kind, 2, vecs, adding, &at); break;
#if TILE_ROWS_MOST >= 12
    case 3: mix_tile(kind, 3, vecs, adding, &at); break;
    case 4: mix_tile(kind, 4, vecs, adding, &at); break;
    case 5: mix_tile(kind, 5, vecs, adding, &at); break;
#endif
    default: break;
    }
}

#ifdef ATTEND_DOT
#define BF16_KIND MIX_DOT
#else
#define BF16_KIND MIX_PAIRS
#endif
#define MIX(name, kind, vecs, adding)                           \
    static void name(int32_t n_queries, const struct mix *at) { \
        mix_queries(kind, vecs, adding, n_queries, *at);        \
    }
MIX(score_f32_4, MIX_F32, 4, false)
MIX(score_f32_1, MIX_F32, 1, false)
MIX(score_bf16_4, BF16_KIND, 4, false)
MIX(score_bf16_1, BF16_KIND, 1, false)
MIX(sum_f32_4, MIX_F32, 4, true)
MIX(sum_f32_1, MIX_F32, 1, true)
MIX(sum_bf16_4, BF16_KIND, 4, true)
MIX(sum_bf16_1, BF16_KIND, 1, true)

enum {
    GROUP = COHORT_CPU_KV_GROUP,
    GROUP_VECS = GROUP / LANES,
    GROUP_BYTES = GROUP * ITEM_BYTES,
    SCORES = COHORT_CPU_KV_TILE * GROUP,
};

static bool is_dot(const cohort_cpu_attend *at) {
    return BF16_KIND == MIX_DOT && at->dtype == COHORT_BF16;
}

/* n floats, a multiple of LANES, become n / 2 pairs in their place. */
static void round_for_dot(const cohort_cpu_attend *at, float *x, int64_t n) {
#ifdef ATTEND_DOT
    for (int64_t i = 0; is_dot(at) && i < n; i += LANES) {
        __m256bh rounded = _mm512_cvtneps_pbh(vec_load(x + i));
        memcpy(x + i / 2, &rounded, sizeof rounded);
    }
#else
    (void)at, (void)x, (void)n;
#endif
}

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
    const size_t key_bytes = (size_t)count_items(at->dtype, at->head_dim) * GROUP_BYTES;
    out->n_groups = n_groups;
    for (int32_t g = 0; g < n_groups; g++) {
        int32_t block = (first + g) / at->groups_per_block;
        int32_t token = (first + g) % at->groups_per_block * GROUP;
        const unsigned char *base =
            at->cache + (size_t)at->block_table[block] * at->block_bytes;
        int32_t left = at->block_size - token;
        out->begin[g] = block * at->block_size + token;
        out->count[g] = left < GROUP ? left : GROUP;
        out->keys[g] = base + (size_t)(token / GROUP) * key_bytes;
        out->values[g] =
            base + at->value_bytes +
            (size_t)(count_items(at->dtype, token) * at->padded_dim) * ITEM_BYTES;
    }
}

/* scores[query][group of the tile][token] */
static void score_tile(const cohort_cpu_attend *at, const struct kv_tile *tile_at) {
    bool f32 = at->dtype == COHORT_F32;
    int32_t n_vecs = tile_at->n_groups * GROUP_VECS, v = 0;
    while (v < n_vecs) {
        int32_t width = v + 4 <= n_vecs ? 4 : 1;
        struct mix mix = {.x = at->queries,
                          .x_stride = at->padded_dim,
                          .n_parts = 1,
                          .k = {at->head_dim},
                          .b_step = GROUP_BYTES,
                          .c = at->scores + v * LANES,
                          .c_stride = SCORES};
        for (int32_t i = 0; i < width; i++)
            mix.b[0][i] = tile_at->keys[(v + i) / GROUP_VECS] +
                          (size_t)((v + i) % GROUP_VECS) * LANES * ITEM_BYTES;
        if (width == 4)
            (f32 ? score_f32_4 : score_bf16_4)(at->n_queries, &mix);
        else
            (f32 ? score_f32_1 : score_bf16_1)(at->n_queries, &mix);
        v += width;
    }
}

static bool sees_all(const cohort_cpu_attend *at, int32_t query,
                     const struct kv_tile *tile_at) {
    const int32_t last = COHORT_CPU_KV_TILE - 1;
    return tile_at->n_groups == COHORT_CPU_KV_TILE && at->block_size % GROUP == 0 &&
           at->begin[query] <= tile_at->begin[0] &&
           at->end[query] >= tile_at->begin[last] + GROUP;
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
    int32_t n_vecs = at->padded_dim / LANES;
    struct mix mix = {.x = at->scores,
                      .x_stride = SCORES,
                      .n_parts = tile_at->n_groups,
                      .b_step = (size_t)at->padded_dim * ITEM_BYTES,
                      .x_step = is_dot(at) ? GROUP / 2 : GROUP,
                      .c_stride = at->padded_dim};
    for (int32_t g = 0; g < tile_at->n_groups; g++) {
        int32_t n = end - tile_at->begin[g];
        mix.k[g] = n < tile_at->count[g] ? n : tile_at->count[g];
    }
    for (int32_t v = 0; v < n_vecs;) {
        int32_t width = v + 4 <= n_vecs ? 4 : 1;
        for (int32_t g = 0; g < tile_at->n_groups; g++)
            for (int32_t i = 0; i < width; i++)
                mix.b[g][i] = tile_at->values[g] + (size_t)(v + i) * LANES * ITEM_BYTES;
        mix.c = at->sums + v * LANES;
        if (width == 4)
            (f32 ? sum_f32_4 : sum_bf16_4)(at->n_queries, &mix);
        else
            (f32 ? sum_f32_1 : sum_bf16_1)(at->n_queries, &mix);
        v += width;
    }
}

/* Group that position lies in. */
static int32_t group_of(const cohort_cpu_attend *at, int32_t position) {
    return position / at->block_size * at->groups_per_block +
           position % at->block_size / GROUP;
}

/* ---- parts ------------------------------------------------------------------------- */

enum { PART = COHORT_CPU_KV_PART };

/* What all queries together see, and of each query what came of one part or of several.
 */
struct attending {
    int32_t begin, end;
    float most[COHORT_CPU_QUERIES];
    float weight[COHORT_CPU_QUERIES];
    bool seen[COHORT_CPU_QUERIES]; /* totals has something */
    float total_most[COHORT_CPU_QUERIES];
    float total_weight[COHORT_CPU_QUERIES];
};

static int32_t position_of(const cohort_cpu_attend *at, int32_t group) {
    return group / at->groups_per_block * at->block_size +
           group % at->groups_per_block * GROUP;
}

static bool sees_part(const cohort_cpu_attend *at, int32_t query, int32_t part) {
    return at->begin[query] < position_of(at, (part + 1) * PART) &&
           at->end[query] > position_of(at, part * PART);
}

/* Sums of one part.  Tiles begin at multiples of KV_TILE groups whatever the queries are,
 * so that a query's sums are added up in one order; tiles it sees nothing of add exact
 * zeros. */
static void attend_part(const cohort_cpu_attend *at, struct attending *all,
                        int32_t part) {
    vec weight[COHORT_CPU_QUERIES];
    for (int32_t q = 0; q < at->n_queries; q++) {
        all->most[q] = -1e30f; /* finite: its difference to -inf has a sign */
        weight[q] = vec_set1(0);
    }
    for (int64_t i = 0; i < (int64_t)at->n_queries * at->padded_dim; i += LANES)
        vec_store(at->sums + i, vec_set1(0));
    int32_t first = group_of(at, all->begin) / COHORT_CPU_KV_TILE * COHORT_CPU_KV_TILE;
    int32_t last = group_of(at, all->end - 1);
    if (first < part * PART) first = part * PART;
    if (last >= (part + 1) * PART) last = (part + 1) * PART - 1;
    for (int32_t group = first; group <= last; group += COHORT_CPU_KV_TILE) {
        struct kv_tile tile_at;
        int32_t n = last - group + 1;
        find_tile(at, group, n < COHORT_CPU_KV_TILE ? n : COHORT_CPU_KV_TILE, &tile_at);
        score_tile(at, &tile_at);
        for (int32_t q = 0; q < at->n_queries; q++) {
            float *scores = at->scores + (int64_t)q * SCORES;
            if (!sees_all(at, q, &tile_at)) hide(at, q, &tile_at, scores);
            soften(at, q, &all->most[q], &weight[q]);
            round_for_dot(at, scores, SCORES);
        }
        sum_tile(at, &tile_at, all->end);
    }
    for (int32_t q = 0; q < at->n_queries; q++)
        all->weight[q] = vec_sum(weight[q]);
}

static float exp_one(float x) {
    float e;
    vec_store_n(&e, vec_exp(vec_set1(x)), 1);
    return e;
}

/* A query's next part joins those before it. */
static void join(const cohort_cpu_attend *at, struct attending *all, int32_t query,
                 const float *sums, float most, float weight) {
    float *totals = at->totals + (int64_t)query * at->padded_dim;
    if (!all->seen[query]) {
        all->seen[query] = true;
        all->total_most[query] = most;
        all->total_weight[query] = weight;
        memcpy(totals, sums, (size_t)at->padded_dim * sizeof *totals);
        return;
    }
    /* Relative to the greater of the two, whose factor is 1. */
    bool grows = most > all->total_most[query];
    float by =
        exp_one(grows ? all->total_most[query] - most : most - all->total_most[query]);
    const vec factor = vec_set1(by);
    for (int i = 0; i < at->padded_dim; i += LANES) {
        vec old = vec_load(totals + i), new = vec_load(sums + i);
        vec_store(totals + i,
                  grows ? vec_fma(factor, old, new) : vec_fma(factor, new, old));
    }
    float *total = &all->total_weight[query];
    *total = grows ? *total * by + weight : weight * by + *total;
    if (grows) all->total_most[query] = most;
}

static float *part_of(const cohort_cpu_attend *at, int32_t part, int32_t query) {
    int64_t index = (int64_t)(part - at->first_part) * at->n_queries + query;
    return at->parts + index * cohort_cpu_part_floats(at->padded_dim);
}

/* Leaves what one part gave for a call that puts together. */
static void leave_part(const cohort_cpu_attend *at, const struct attending *all) {
    for (int32_t q = 0; q < at->n_queries; q++) {
        float *to = part_of(at, at->first_part, q);
        memcpy(to, at->sums + (int64_t)q * at->padded_dim,
               (size_t)at->padded_dim * sizeof *to);
        to[at->padded_dim] = all->most[q];
        to[at->padded_dim + 1] = all->weight[q];
    }
}

static void write_out(const cohort_cpu_attend *at, const struct attending *all) {
    for (int32_t q = 0; q < at->n_queries; q++) {
        const vec by = vec_set1(1 / all->total_weight[q]);
        const float *totals = at->totals + (int64_t)q * at->padded_dim;
        for (int64_t i = 0; i < at->head_dim; i += LANES) {
            int64_t left = at->head_dim - i < LANES ? at->head_dim - i : LANES;
            vec_store_n(at->out[q] + i, vec_mul(by, vec_load(totals + i)), left);
        }
    }
}

static void join_parts(const cohort_cpu_attend *at, struct attending *all) {
    for (int32_t q = 0; q < at->n_queries; q++)
        for (int32_t part = at->first_part; part < at->first_part + at->n_parts; part++) {
            const float *from = part_of(at, part, q);
            if (sees_part(at, q, part))
                join(at, all, q, from, from[at->padded_dim], from[at->padded_dim + 1]);
        }
    write_out(at, all);
}

static void attend_all(const cohort_cpu_attend *at, struct attending *all) {
    int32_t last = group_of(at, all->end - 1) / PART;
    for (int32_t part = group_of(at, all->begin) / PART; part <= last; part++) {
        attend_part(at, all, part);
        for (int32_t q = 0; q < at->n_queries; q++)
            if (sees_part(at, q, part))
                join(at, all, q, at->sums + (int64_t)q * at->padded_dim, all->most[q],
                     all->weight[q]);
    }
    write_out(at, all);
}

static void attend(const cohort_cpu_attend *at) {
    struct attending all = {.begin = at->begin[0], .end = at->end[0]};
    for (int32_t q = 0; q < at->n_queries; q++) {
        if (at->begin[q] < all.begin) all.begin = at->begin[q];
        if (at->end[q] > all.end) all.end = at->end[q];
    }
    if (at->n_parts) {
        join_parts(at, &all);
        return;
    }
    for (int32_t q = 0; q < at->n_queries; q++)
        round_for_dot(at, at->queries + (int64_t)q * at->padded_dim, at->padded_dim);
    if (!at->parts) {
        attend_all(at, &all);
        return;
    }
    attend_part(at, &all, at->first_part);
    leave_part(at, &all);
}

#endif /* COHORT_MODEL_CPU_ATTEND_BODY_H */
