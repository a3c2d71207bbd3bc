/* SPDX-License-Identifier: Apache-2.0 */
#include "model/format.h"

#include <math.h>

const cohort_format *cohort_format_dense(cohort_dtype dtype) {
    static const cohort_format formats[] = {
#define DENSE(type) \
    [type] = {.name = "dense", .planes = {[COHORT_VALUES] = {true, type, 1, 1}} }
        DENSE(COHORT_F32),
        DENSE(COHORT_BF16),
        DENSE(COHORT_F16),
#undef DENSE
    };
    return &formats[dtype];
}

const cohort_format *cohort_format_int8(void) {
    static const cohort_format format = {
        .name = "int8",
        .planes = {[COHORT_VALUES] = {true, COHORT_I8, 1, 1},
                   [COHORT_SCALES] = {true, COHORT_F32, 1, 0}}};
    return &format;
}

float cohort_int8_of_row(const float *row, int64_t n, int8_t *out) {
    float most = 0;
    for (int64_t i = 0; i < n; i++)
        most = fmaxf(most, fabsf(row[i]));
    float scale = most / 127;
    for (int64_t i = 0; i < n; i++) { /* what is no number is 0 */
        float value = scale > 0 && isfinite(scale) ? nearbyintf(row[i] / scale) : 0;
        out[i] = isnan(value) ? 0 : (int8_t)fminf(fmaxf(value, -127), 127);
    }
    return scale;
}
