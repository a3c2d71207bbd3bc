/* SPDX-License-Identifier: Apache-2.0 */
#define KERNELS   cohort_kernels_portable
#define ISA       "portable"
#define TILE_ROWS 2
#include "model/cpu/kernels_impl.h"

INLINE vec widen_f16(const uint16_t *from) {
    vec value;
    for (int i = 0; i < 16; i++)
        value[i] = cohort_from_f16(from[i]);
    return value;
}

float cohort_from_f16(uint16_t bits) {
    uint32_t sign = (uint32_t)(bits & 0x8000) << 16, exponent = bits >> 10 & 31;
    float fraction = (float)(bits & 1023);
    union {
        uint32_t u;
        float f;
    } value = {.u = sign | (exponent + 112) << 23 | (uint32_t)(bits & 1023) << 13};
    if (exponent == 0) return (sign ? -0x1p-24f : 0x1p-24f) * fraction;
    if (exponent == 31) value.u = sign | 0x7f800000 | (uint32_t)(bits & 1023) << 13;
    return value.f;
}

uint16_t cohort_to_f16(float number) {
    union {
        float f;
        uint32_t u;
    } value = {.f = number};
    uint16_t sign = (uint16_t)(value.u >> 16 & 0x8000);
    float size = fabsf(number);
    if (!(size < 65520.0f)) return sign | (isnan(number) ? 0x7e00 : 0x7c00);
    if (size < 0x1p-14f) return sign | (uint16_t)lrintf(size * 0x1p24f);
    value.f = size;
    uint32_t rounded = value.u + 0xfff + (value.u >> 13 & 1);
    return sign | (uint16_t)((rounded >> 13) - (112u << 10));
}
