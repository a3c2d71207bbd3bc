/* SPDX-License-Identifier: Apache-2.0 */
#include "model/tensor_value.h"

#include <math.h>
#include <string.h>

#include "model/half.h"

bool cohort_tensor_is_double(const cohort_tensor *tensor) {
    return tensor->element_bytes == 8;
}

float cohort_tensor_value(const void *data, const cohort_tensor *tensor, size_t i) {
    cohort_dtype dtype = tensor->dtype;
    uint16_t half;
    float value;
    if (cohort_tensor_is_double(tensor)) {
        double wide;
        memcpy(&wide, (const char *)data + 8 * i, sizeof wide);
        return (float)wide;
    }
    if (dtype == COHORT_F32) {
        memcpy(&value, (const char *)data + 4 * i, sizeof value);
        return value;
    }
    memcpy(&half, (const char *)data + 2 * i, sizeof half);
    return dtype == COHORT_F16 ? cohort_float_of_f16(half) : cohort_float_of_bf16(half);
}

float cohort_tensor_rounded(float value, cohort_dtype dtype) {
    uint32_t bits, dropped = dtype == COHORT_BF16 ? 16 : 13;
    if (dtype == COHORT_F32 || !isfinite(value)) return value;
    if (dtype == COHORT_F16 && fabsf(value) < 0x1p-14F) /* subnormal there */
        return nearbyintf(value * 0x1p24F) * 0x1p-24F;
    if (dtype == COHORT_F16 && fabsf(value) >= 65520) return copysignf(INFINITY, value);
    memcpy(&bits, &value, sizeof bits);
    bits += (UINT32_C(1) << (dropped - 1)) - 1 + (bits >> dropped & 1);
    bits &= ~((UINT32_C(1) << dropped) - 1);
    memcpy(&value, &bits, sizeof value);
    return value;
}
