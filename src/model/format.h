/* SPDX-License-Identifier: Apache-2.0 */
/* model/format.h - how a weight matrix is stored: which planes of numbers it is made of.
 *
 *   dense   values                        w = value
 *   int8    values (I8), scales (F32)     w = value * scale of its row
 *
 * A plane's elements speak for the matrix' in groups of rows x columns (0: all of them),
 * so that block- and group-quantized formats are further lines here: scales and zero
 * points of 128 columns, a permutation of the columns.  A type of number is less than a
 * format: see cohort/dtype.h.
 *
 * Plain data; no ownership, no threads.
 */
#ifndef COHORT_MODEL_FORMAT_H
#define COHORT_MODEL_FORMAT_H

#include <stdbool.h>
#include <stdint.h>

#include "cohort/dtype.h"

typedef enum cohort_plane {
    COHORT_VALUES,
    COHORT_SCALES,
    COHORT_ZERO_POINTS,
    COHORT_PERMUTATION,
    COHORT_N_PLANES
} cohort_plane;

typedef struct cohort_format {
    const char *name; /* "dense", "int8" */
    struct {
        bool is_there;
        cohort_dtype dtype;
        int32_t rows, columns; /* that an element speaks for; 0: all */
    } planes[COHORT_N_PLANES];
} cohort_format;

/* Values of this type alone. */
const cohort_format *cohort_format_dense(cohort_dtype dtype);
/* Whole numbers of 8 bits with a scale a row. */
const cohort_format *cohort_format_int8(void);

/* A row of n values as int8's: the scale is returned, out[i] * scale is near row[i]. */
float cohort_int8_of_row(const float *row, int64_t n, int8_t *out);

#endif /* COHORT_MODEL_FORMAT_H */
