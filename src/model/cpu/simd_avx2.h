/* SPDX-License-Identifier: Apache-2.0 */
/* model/cpu/simd_avx2.h - the vector operations of kernels_body.h in AVX2, FMA and F16C;
 * see simd_portable.h for what each means.
 */
#ifndef COHORT_MODEL_CPU_SIMD_AVX2_H
#define COHORT_MODEL_CPU_SIMD_AVX2_H

#include <immintrin.h>
#include <stdint.h>

#define TILE_ROWS_MOST 6

enum {
    LANES = 8,
    TILE_ROWS = TILE_ROWS_MOST, /* rows of x at a time, by the number of registers */
    MIX_QUERIES = 3,
};
#define TILE_PANELS(rows) ((rows) <= 3 ? 2 : 1)

typedef __m256 vec;

static inline vec vec_set1(float x) { return _mm256_set1_ps(x); }
static inline vec vec_load(const float *p) { return _mm256_loadu_ps(p); }
static inline void vec_store(float *p, vec v) { _mm256_storeu_ps(p, v); }
static inline __m256i vec_first(int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline vec vec_load_n(const float *p, int64_t n) {
    return _mm256_maskload_ps(p, vec_first(n));
}
static inline void vec_store_n(float *p, vec v, int64_t n) {
    _mm256_maskstore_ps(p, vec_first(n), v);
}
static inline vec vec_add(vec a, vec b) { return _mm256_add_ps(a, b); }
static inline vec vec_sub(vec a, vec b) { return _mm256_sub_ps(a, b); }
static inline vec vec_mul(vec a, vec b) { return _mm256_mul_ps(a, b); }
static inline vec vec_div(vec a, vec b) { return _mm256_div_ps(a, b); }
static inline vec vec_fma(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
static inline vec vec_fnma(vec a, vec b, vec c) { return _mm256_fnmadd_ps(a, b, c); }
static inline vec vec_max(vec a, vec b) { return _mm256_max_ps(a, b); }
static inline vec vec_min(vec a, vec b) { return _mm256_min_ps(a, b); }
static inline vec vec_zero_below(vec x, vec limit, vec v) {
    return _mm256_andnot_ps(_mm256_cmp_ps(x, limit, _CMP_LT_OQ), v);
}
static inline vec vec_pow2(vec t) {
    __m256i biased =
        _mm256_sub_epi32(_mm256_castps_si256(t), _mm256_set1_epi32(0x4B400000 - 127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23));
}
static inline float vec_sum(vec v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
static inline float vec_top(vec v) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

static inline vec vec_load_even(const uint16_t *p) {
    __m256i pairs = _mm256_loadu_si256((const __m256i *)p);
    return _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
}
static inline vec vec_load_odd(const uint16_t *p) {
    __m256i pairs = _mm256_loadu_si256((const __m256i *)p);
    return _mm256_castsi256_ps(
        _mm256_and_si256(pairs, _mm256_set1_epi32((int)0xffff0000)));
}
static inline vec vec_load_f16(const uint16_t *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}
static inline vec vec_load_i8(const int8_t *p) {
    return _mm256_cvtepi32_ps(
        _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p)));
}

static inline vec vec_fused(vec a, vec b, vec c) { return vec_fma(a, b, c); }
static inline vec vec_exponent(vec t) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(t), 23));
}
typedef struct wide {
    __m256d low, high;
} wide;
static inline wide wide_zero(void) {
    return (wide){_mm256_setzero_pd(), _mm256_setzero_pd()};
}
static inline wide wide_add(wide sums, vec v) {
    v = _mm256_round_ps(v, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
    sums.low = _mm256_add_pd(sums.low, _mm256_cvtps_pd(_mm256_castps256_ps128(v)));
    sums.high = _mm256_add_pd(sums.high, _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1)));
    return sums;
}
static inline uint64_t wide_sum(wide sums) {
    double lanes[4];
    _mm256_storeu_pd(lanes, _mm256_add_pd(sums.low, sums.high));
    return (uint64_t)((lanes[0] + lanes[1]) + (lanes[2] + lanes[3]));
}

static inline uint32_t vec_at_least(vec x, vec low) {
    return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(x, low, _CMP_GE_OQ));
}
static inline void vec_compress(float *to, vec v, uint32_t mask) {
    float lanes[LANES];
    vec_store(lanes, v);
    for (; mask; mask &= mask - 1)
        *to++ = lanes[__builtin_ctz(mask)];
}
static inline void vec_compress_ids(int32_t *to, int32_t first, uint32_t mask) {
    for (; mask; mask &= mask - 1)
        *to++ = first + __builtin_ctz(mask);
}

#endif /* COHORT_MODEL_CPU_SIMD_AVX2_H */
