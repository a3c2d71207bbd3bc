/* SPDX-License-Identifier: Apache-2.0 */
#ifdef __AVX2__ /* CMake gives the flags; nothing here on other processors */
#include <immintrin.h>

#define KERNELS   cohort_kernels_avx2
#define ISA       "avx2"
#define TILE_ROWS 3
#include "model/cpu/kernels_impl.h"

INLINE vec widen_f16(const uint16_t *from) {
    union {
        __m256 halves[2];
        vec whole;
    } value;
    value.halves[0] = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)from));
    value.halves[1] = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)from + 1));
    return value.whole;
}
#endif
