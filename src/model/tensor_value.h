/* SPDX-License-Identifier: Apache-2.0 */
/* model/tensor_value.h - the numbers of a checkpoint's tensors, one at a time, as f32. */
#ifndef COHORT_MODEL_TENSOR_VALUE_H
#define COHORT_MODEL_TENSOR_VALUE_H

#include "model/safetensors.h"

bool cohort_tensor_is_double(const cohort_tensor *tensor);
/* data may be aligned to nothing. */
float cohort_tensor_value(const void *data, const cohort_tensor *tensor, size_t i);
/* What a parameter of this type would hold: vLLM copies into it, whatever the file's is.
 */
float cohort_tensor_rounded(float value, cohort_dtype dtype);

#endif /* COHORT_MODEL_TENSOR_VALUE_H */
