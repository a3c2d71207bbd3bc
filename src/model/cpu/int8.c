/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "base/fail.h"
#include "model/cpu/cpu_internal.h"

/* A matrix of int8 and a scale a row.
 *
 * Panels are those of f32, a byte an element: [k][16 rows].  linear.c multiplies: a value
 * is widened then, the scale comes in at the end. */

cohort_status cohort_cpu_int8_create(cohort_backend *backend, int64_t n_out, int64_t n_in,
                                     cohort_linear **out_linear) {
    *out_linear = NULL;
    if (n_out < 0 || n_in < 0 || n_out > COHORT_CPU_MOST_ROWS ||
        n_in > COHORT_CPU_MOST_ROWS)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "a weight matrix of %lld x %lld; rows and columns are at most "
                           "%d",
                           (long long)n_out, (long long)n_in, COHORT_CPU_MOST_ROWS);
    cohort_linear *linear = calloc(1, sizeof *linear);
    if (!linear) return COHORT_FAIL(COHORT_E_NOMEM, "a weight matrix");
    *linear = (cohort_linear){
        .backend = backend,
        .dtype = COHORT_I8,
        .n_out = n_out,
        .n_in = n_in,
        .n_panels = (int32_t)((n_out + COHORT_CPU_PANEL - 1) / COHORT_CPU_PANEL),
        .panel_bytes = (size_t)n_in * COHORT_CPU_PANEL,
    };
    linear->bytes = (size_t)linear->n_panels * linear->panel_bytes;
    if (linear->bytes) linear->panels = cohort_cpu_take(backend, linear->bytes);
    linear->scales = cohort_cpu_take(backend, cohort_cpu_scale_bytes(linear));
    if ((linear->bytes && !linear->panels) || !linear->scales) {
        size_t bytes = linear->bytes;
        cohort_cpu_unmap(linear->scales, cohort_cpu_scale_bytes(linear));
        cohort_cpu_linear_destroy(linear);
        return COHORT_FAIL(COHORT_E_NOMEM, "%zu bytes of weights", bytes);
    }
    *out_linear = linear;
    return COHORT_OK;
}

void cohort_cpu_int8_set(cohort_linear *linear, cohort_plane plane, int64_t row_begin,
                         int64_t n_rows, const void *src, int64_t src_stride) {
    for (int64_t r = 0; r < n_rows; r++) {
        int64_t row = row_begin + r;
        if (plane == COHORT_SCALES) {
            linear->scales[row] = ((const float *)src)[r * src_stride];
            continue;
        }
        const int8_t *from = (const int8_t *)src + r * src_stride;
        unsigned char *panel =
            linear->panels + (size_t)(row / COHORT_CPU_PANEL) * linear->panel_bytes;
        for (int64_t k = 0; k < linear->n_in; k++)
            panel[k * COHORT_CPU_PANEL + row % COHORT_CPU_PANEL] = (unsigned char)from[k];
    }
}
