/* SPDX-License-Identifier: Apache-2.0 */
/* model/cpu/simd_avx512.h - the vector operations of kernels_body.h in AVX-512 F, BW, DQ
 * and VL; see simd_portable.h for what each means.
 */
#ifndef COHORT_MODEL_CPU_SIMD_AVX512_H
#define COHORT_MODEL_CPU_SIMD_AVX512_H

#include <immintrin.h>
#include <stdint.h>

#define TILE_ROWS_MOST 12

enum {
    LANES = 16,
    TILE_ROWS = TILE_ROWS_MOST, /* rows of x at a time, by the number of registers */
    MIX_QUERIES = 6,
};
#define TILE_PANELS(rows) 2

typedef __m512 vec;

static inline vec vec_set1(float x) { return _mm512_set1_ps(x); }
static inline vec vec_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void vec_store(float *p, vec v) { _mm512_storeu_ps(p, v); }
static inline __mmask16 vec_first(int64_t n) {
    return (__mmask16)((1u << (uint32_t)n) - 1);
}
static inline vec vec_load_n(const float *p, int64_t n) {
    return _mm512_maskz_loadu_ps(vec_first(n), p);
}
static inline void vec_store_n(float *p, vec v, int64_t n) {
    _mm512_mask_storeu_ps(p, vec_first(n), v);
}
static inline vec vec_add(vec a, vec b) { return _mm512_add_ps(a, b); }
static inline vec vec_sub(vec a, vec b) { return _mm512_sub_ps(a, b); }
static inline vec vec_mul(vec a, vec b) { return _mm512_mul_ps(a, b); }
static inline vec vec_div(vec a, vec b) { return _mm512_div_ps(a, b); }
static inline vec vec_fma(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }
static inline vec vec_fnma(vec a, vec b, vec c) { return _mm512_fnmadd_ps(a, b, c); }
static inline vec vec_max(vec a, vec b) { return _mm512_max_ps(a, b); }
static inline vec vec_min(vec a, vec b) { return _mm512_min_ps(a, b); }
static inline vec vec_zero_below(vec x, vec limit, vec v) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, limit, _CMP_NLT_UQ), v);
}
static inline vec vec_pow2(vec t) {
    __m512i biased =
        _mm512_sub_epi32(_mm512_castps_si512(t), _mm512_set1_epi32(0x4B400000 - 127));
    return _mm512_castsi512_ps(_mm512_slli_epi32(biased, 23));
}
static inline float vec_sum(vec v) { return _mm512_reduce_add_ps(v); }
static inline float vec_top(vec v) { return _mm512_reduce_max_ps(v); }

static inline vec vec_load_even(const uint16_t *p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16));
}
static inline vec vec_load_odd(const uint16_t *p) {
    return _mm512_castsi512_ps(
        _mm512_and_si512(_mm512_loadu_si512(p), _mm512_set1_epi32((int)0xffff0000)));
}
static inline vec vec_load_f16(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
static inline vec vec_load_i8(const int8_t *p) {
    return _mm512_cvtepi32_ps(
        _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)));
}

static inline vec vec_fused(vec a, vec b, vec c) { return vec_fma(a, b, c); }
static inline vec vec_exponent(vec t) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(t), 23));
}
typedef struct wide {
    __m512i low, high;
} wide;
static inline wide wide_zero(void) {
    return (wide){_mm512_setzero_si512(), _mm512_setzero_si512()};
}
static inline wide wide_add(wide sums, vec v) {
    __m512i low = _mm512_cvttps_epu64(_mm512_castps512_ps256(v));
    __m512i high = _mm512_cvttps_epu64(_mm512_extractf32x8_ps(v, 1));
    return (wide){_mm512_add_epi64(sums.low, low), _mm512_add_epi64(sums.high, high)};
}
static inline uint64_t wide_sum(wide sums) {
    return (uint64_t)_mm512_reduce_add_epi64(_mm512_add_epi64(sums.low, sums.high));
}

static inline uint32_t vec_at_least(vec x, vec low) {
    return _mm512_cmp_ps_mask(x, low, _CMP_GE_OQ);
}
/* In a register, then stored whole: compressing into memory is slow on some. */
static inline void vec_compress(float *to, vec v, uint32_t mask) {
    vec_store(to, _mm512_maskz_compress_ps((__mmask16)mask, v));
}
static inline void vec_compress_ids(int32_t *to, int32_t first, uint32_t mask) {
    const __m512i steps =
        _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m512i ids = _mm512_add_epi32(_mm512_set1_epi32(first), steps);
    _mm512_storeu_si512(to, _mm512_maskz_compress_epi32((__mmask16)mask, ids));
}

#endif /* COHORT_MODEL_CPU_SIMD_AVX512_H */
