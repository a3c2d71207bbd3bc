/* SPDX-License-Identifier: Apache-2.0 */
#ifdef __AVX512F__ /* CMake gives the flags; nothing here on other processors */
#include <immintrin.h>

#define KERNELS   cohort_kernels_avx512
#define ISA       "avx512"
#define TILE_ROWS 12
#include "model/cpu/kernels_impl.h"

INLINE vec widen_f16(const uint16_t *from) {
    return (vec)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)from));
}
#endif
