/* SPDX-License-Identifier: Apache-2.0 */
/* model/half.h - numbers of 16 bits as floats, and back; without instructions for it.
 *
 * Every f16 and bf16 is a float exactly.  The other way rounds to nearest, ties to even;
 * what is too large for f16 becomes infinite, and a NaN stays one.
 */
#ifndef COHORT_MODEL_HALF_H
#define COHORT_MODEL_HALF_H

#include <stdint.h>
#include <string.h>

static inline float cohort_float_of_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t cohort_bits_of_float(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float cohort_float_of_bf16(uint16_t half) {
    return cohort_float_of_bits((uint32_t)half << 16);
}

static inline uint16_t cohort_bf16_of_float(float value) {
    uint32_t bits = cohort_bits_of_float(value);
    if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline float cohort_float_of_f16(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = (half >> 10) & 31;
    if (exponent == 0) { /* zero, or so small that there is no leading one */
        float small = (float)(half & 0x3ff) * 0x1p-24f;
        return sign ? -small : small;
    }
    return cohort_float_of_bits(sign | (exponent == 31 ? 255u : exponent + 112) << 23 |
                                (uint32_t)(half & 0x3ff) << 13);
}

static inline uint16_t cohort_f16_of_float(float value) {
    uint32_t bits = cohort_bits_of_float(value);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    bits &= 0x7fffffff;
    if (bits > 0x7f800000) return sign | 0x7e00;
    if (bits >= 0x477ff000) return sign | 0x7c00;
    if (bits < 0x38800000) { /* subnormal: the FPU rounds at the right place */
        bits = cohort_bits_of_float(cohort_float_of_bits(bits) + 0.5f);
        return (uint16_t)(sign | (bits - 0x3f000000));
    }
    bits += 0xc8000fff + (bits >> 13 & 1);
    return (uint16_t)(sign | bits >> 13);
}

#endif /* COHORT_MODEL_HALF_H */
