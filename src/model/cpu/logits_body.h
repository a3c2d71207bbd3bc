/* SPDX-License-Identifier: Apache-2.0 */
/* model/cpu/logits_body.h - passes over logits, for a file that has included one
 * simd_*.h and named its table in LOGITS and LOGITS_NAME.
 */
#ifndef COHORT_MODEL_CPU_LOGITS_BODY_H
#define COHORT_MODEL_CPU_LOGITS_BODY_H

#include <float.h>
#include <math.h>
#include <stdbool.h>

#include "model/cpu/logits.h"

#define UNROLL _Pragma("GCC unroll 16")

enum { AT_ONCE = 8, STEP = AT_ONCE * LANES };

_Static_assert(COHORT_SAMPLE_TILE % (int)STEP == 0, "a tile is whole steps");
_Static_assert((int)LANES <= (int)COHORT_SAMPLE_SLACK, "room to compress");

/* The rest of a row, below everything from lane n on. */
static inline vec load_rest(const float *x, int32_t n) {
    float lanes[LANES];
    for (int32_t i = 0; i < LANES; i++)
        lanes[i] = i < n ? x[i] : -INFINITY;
    return vec_load(lanes);
}

static inline vec load_some(const float *x, int32_t n) {
    return n >= LANES ? vec_load(x) : load_rest(x, n);
}

/* ---- maxima ------------------------------------------------------------------------ */

static inline float tile_maximum(const float *x, int32_t n) {
    vec best[AT_ONCE];
    UNROLL for (int j = 0; j < AT_ONCE; j++) best[j] = vec_set1(-INFINITY);
    int32_t i = 0;
    for (; i + STEP <= n; i += STEP)
        UNROLL for (int j = 0; j < AT_ONCE; j++) best[j] =
            vec_max(vec_load(x + i + j * LANES), best[j]);
    for (; i < n; i += LANES)
        best[0] = vec_max(load_some(x + i, n - i), best[0]);
    UNROLL for (int j = 1; j < AT_ONCE; j++) best[0] = vec_max(best[0], best[j]);
    return vec_top(best[0]);
}

static void maxima(const float *x, int32_t n, float *out_tiles) {
    for (int32_t begin = 0; begin < n; begin += COHORT_SAMPLE_TILE)
        *out_tiles++ = tile_maximum(
            x + begin, n - begin < COHORT_SAMPLE_TILE ? n - begin : COHORT_SAMPLE_TILE);
}

/* ---- masses ------------------------------------------------------------------------ */

/* What cohort_cpu_mass_of rounds towards 0, lane by lane; so does wide_add. */
static inline vec mass_of(vec x, vec best, vec steepness) {
    vec power = vec_mul(vec_sub(x, best), steepness);
    power = vec_max(power, vec_set1(COHORT_LEAST));
    const vec round = vec_set1(COHORT_ROUND);
    vec shifted = vec_add(power, round);
    vec f = vec_sub(power, vec_sub(shifted, round));
    vec p = vec_fused(vec_set1(COHORT_EXP2_5), f, vec_set1(COHORT_EXP2_4));
    p = vec_fused(p, f, vec_set1(COHORT_EXP2_3));
    p = vec_fused(p, f, vec_set1(COHORT_EXP2_2));
    p = vec_fused(p, f, vec_set1(COHORT_EXP2_1));
    p = vec_fused(p, f, vec_set1(1.0f));
    return vec_mul(p, vec_exponent(shifted));
}

/* Where sums are doubles, those of a tile are below 2^53: exact. */
_Static_assert(COHORT_SAMPLE_TILE <= 1 << (52 - COHORT_MASS_BITS), "a tile's mass");

static inline __attribute__((always_inline)) uint64_t tile_mass(const float *x, int32_t n,
                                                                cohort_cpu_mass at,
                                                                bool all, float low) {
    const vec best = vec_set1(at.best), steepness = vec_set1(at.steepness);
    const vec lowest = vec_set1(low);
    wide sums[4] = {wide_zero(), wide_zero(), wide_zero(), wide_zero()};
    int32_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES)
        UNROLL for (int j = 0; j < 4; j++) {
            vec v = vec_load(x + i + j * LANES), mass = mass_of(v, best, steepness);
            sums[j] = wide_add(sums[j], all ? mass : vec_zero_below(v, lowest, mass));
        }
    for (; i < n; i += LANES) {
        vec v = load_some(x + i, n - i);
        sums[0] =
            wide_add(sums[0], vec_zero_below(v, lowest, mass_of(v, best, steepness)));
    }
    return wide_sum(sums[0]) + wide_sum(sums[1]) + wide_sum(sums[2]) + wide_sum(sums[3]);
}

static uint64_t masses(const float *x, int32_t n, cohort_cpu_mass at, float low,
                       uint64_t *out_tiles) {
    uint64_t total = 0;
    for (int32_t begin = 0; begin < n; begin += COHORT_SAMPLE_TILE) {
        int32_t left = n - begin < COHORT_SAMPLE_TILE ? n - begin : COHORT_SAMPLE_TILE;
        uint64_t sum = low > -FLT_MAX ? tile_mass(x + begin, left, at, false, low)
                                      : tile_mass(x + begin, left, at, true, low);
        if (out_tiles) *out_tiles++ = sum;
        total += sum;
    }
    return total;
}

/* ---- counting and keeping ---------------------------------------------------------- */

static int32_t count(const float *x, int32_t n, float low) {
    const vec lowest = vec_set1(low);
    int32_t m = 0;
    for (int32_t i = 0; i < n; i += LANES) {
        uint32_t mask = vec_at_least(load_some(x + i, n - i), lowest);
        if (n - i < LANES) mask &= (1u << (n - i)) - 1; /* -inf is at least -inf */
        m += __builtin_popcount(mask);
    }
    return m;
}

static int32_t gather(const float *x, int32_t n, int32_t first_id, float low,
                      float *out_x, int32_t *out_ids) {
    const vec lowest = vec_set1(low);
    int32_t m = 0;
    for (int32_t i = 0; i < n; i += LANES) {
        vec v = load_some(x + i, n - i);
        uint32_t mask = vec_at_least(v, lowest);
        if (n - i < LANES) mask &= (1u << (n - i)) - 1;
        if (!mask) continue;
        vec_compress(out_x + m, v, mask);
        vec_compress_ids(out_ids + m, first_id + i, mask);
        m += __builtin_popcount(mask);
    }
    return m;
}

/* What is written never passes what was read. */
static int32_t keep(float *x, int32_t n, float low, float high) {
    const vec lowest = vec_set1(low), above = vec_set1(high);
    int32_t m = 0;
    for (int32_t i = 0; i < n; i += LANES) {
        vec v = load_some(x + i, n - i);
        uint32_t mask = vec_at_least(v, lowest) & ~vec_at_least(v, above);
        if (n - i < LANES) mask &= (1u << (n - i)) - 1;
        vec_compress(x + m, v, mask);
        m += __builtin_popcount(mask);
    }
    return m;
}

const cohort_cpu_logits LOGITS = {.name = LOGITS_NAME,
                                  .maxima = maxima,
                                  .masses = masses,
                                  .count = count,
                                  .gather = gather,
                                  .keep = keep};

#endif /* COHORT_MODEL_CPU_LOGITS_BODY_H */
