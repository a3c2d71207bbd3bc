/* SPDX-License-Identifier: Apache-2.0 */
/* cohort/dtype.h - the types of single numbers: of activations, of what ranks reduce, of
 * a checkpoint's tensors.
 */
#ifndef COHORT_DTYPE_H
#define COHORT_DTYPE_H

typedef enum cohort_dtype {
    COHORT_F32,
    COHORT_BF16,
    COHORT_F16,
    COHORT_I32,
    COHORT_I8 /* of quantized weights */
} cohort_dtype;

#endif /* COHORT_DTYPE_H */
