/* SPDX-License-Identifier: Apache-2.0 */
/* model/cpu/simd_portable.h - the vector operations of kernels_body.h in the vector
 * types of GNU C: four lanes, which every 64-bit machine has or imitates.
 */
#ifndef COHORT_MODEL_CPU_SIMD_PORTABLE_H
#define COHORT_MODEL_CPU_SIMD_PORTABLE_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "model/half.h"

#define TILE_ROWS_MOST 3

enum {
    LANES = 4,
    TILE_ROWS = TILE_ROWS_MOST, /* rows of x at a time, by the number of registers */
    MIX_QUERIES = 2,
};
/* Panels at a time: two read memory faster than four or eight side by side do. */
#define TILE_PANELS(rows) ((rows) == 1 ? 2 : 1)

typedef float vec __attribute__((vector_size(16)));
typedef int32_t vec_int __attribute__((vector_size(16)));

static inline vec vec_set1(float x) { return (vec){x, x, x, x}; }
static inline vec vec_load(const float *p) {
    vec v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void vec_store(float *p, vec v) { memcpy(p, &v, sizeof v); }
/* Lanes from n on are 0, and are not stored. */
static inline vec vec_load_n(const float *p, int64_t n) {
    if (n >= LANES) return vec_load(p);
    float lanes[LANES] = {0};
    memcpy(lanes, p, (size_t)n * sizeof *p);
    return vec_load(lanes);
}
static inline void vec_store_n(float *p, vec v, int64_t n) {
    if (n >= LANES)
        vec_store(p, v);
    else
        memcpy(p, &v, (size_t)n * sizeof *p);
}
static inline vec vec_add(vec a, vec b) { return a + b; }
static inline vec vec_sub(vec a, vec b) { return a - b; }
static inline vec vec_mul(vec a, vec b) { return a * b; }
static inline vec vec_div(vec a, vec b) { return a / b; }
static inline vec vec_fma(vec a, vec b, vec c) { return a * b + c; }
static inline vec vec_fnma(vec a, vec b, vec c) { return c - a * b; }
static inline vec vec_choose(vec_int mask, vec a, vec b) {
    return (vec)(((vec_int)a & mask) | ((vec_int)b & ~mask));
}
static inline vec vec_max(vec a, vec b) { return vec_choose(a > b, a, b); }
static inline vec vec_min(vec a, vec b) { return vec_choose(a < b, a, b); }
/* v, but 0 where x < limit */
static inline vec vec_zero_below(vec x, vec limit, vec v) {
    return (vec)((vec_int)v & ~(x < limit));
}
/* 2^n, n being the integer in the low bits of t = n + 1.5 * 2^23 */
static inline vec vec_pow2(vec t) {
    vec_int biased = (vec_int)t - (0x4B400000 - 127);
    return (vec)(biased << 23);
}
static inline float vec_sum(vec v) { return (v[0] + v[2]) + (v[1] + v[3]); }
static inline float vec_top(vec v) {
    float a = v[0] > v[2] ? v[0] : v[2], b = v[1] > v[3] ? v[1] : v[3];
    return a > b ? a : b;
}

/* Of LANES pairs of bf16 the first and the second */
static inline vec vec_load_even(const uint16_t *p) {
    vec_int v;
    memcpy(&v, p, sizeof v);
    return (vec)(v << 16);
}
static inline vec vec_load_odd(const uint16_t *p) {
    vec_int v;
    memcpy(&v, p, sizeof v);
    return (vec)(v & (int32_t)0xffff0000);
}
static inline vec vec_load_f16(const uint16_t *p) {
    return (vec){cohort_float_of_f16(p[0]), cohort_float_of_f16(p[1]),
                 cohort_float_of_f16(p[2]), cohort_float_of_f16(p[3])};
}

static inline vec vec_load_i8(const int8_t *p) {
    return (vec){(float)p[0], (float)p[1], (float)p[2], (float)p[3]};
}

/* a * b + c, rounded once, where the processor cannot either */
static inline vec vec_fused(vec a, vec b, vec c) {
    return (vec){fmaf(a[0], b[0], c[0]), fmaf(a[1], b[1], c[1]), fmaf(a[2], b[2], c[2]),
                 fmaf(a[3], b[3], c[3])};
}
/* The low bits become the exponent. */
static inline vec vec_exponent(vec t) { return (vec)((vec_int)t << 23); }
/* Sums of LANES' whole parts, of numbers that are not negative: in doubles, which hold
 * them exactly below 2^53. */
typedef struct wide {
    double lanes[LANES];
} wide;
static inline wide wide_zero(void) { return (wide){{0, 0, 0, 0}}; }
static inline wide wide_add(wide sums, vec v) {
    for (int i = 0; i < LANES; i++)
        sums.lanes[i] += (double)(int64_t)v[i];
    return sums;
}
static inline uint64_t wide_sum(wide sums) {
    return (uint64_t)((sums.lanes[0] + sums.lanes[1]) + (sums.lanes[2] + sums.lanes[3]));
}

/* Bit i: lane i of x is at least low; never where it is NaN. */
static inline uint32_t vec_at_least(vec x, vec low) {
    vec_int is = x >= low;
    return (uint32_t)((is[0] & 1) | (is[1] & 2) | (is[2] & 4) | (is[3] & 8));
}
/* The lanes of mask, side by side; what follows them (LANES in all) may be written. */
static inline void vec_compress(float *to, vec v, uint32_t mask) {
    for (; mask; mask &= mask - 1)
        *to++ = v[__builtin_ctz(mask)];
}
static inline void vec_compress_ids(int32_t *to, int32_t first, uint32_t mask) {
    for (; mask; mask &= mask - 1)
        *to++ = first + __builtin_ctz(mask);
}

#endif /* COHORT_MODEL_CPU_SIMD_PORTABLE_H */
