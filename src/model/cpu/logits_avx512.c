/* SPDX-License-Identifier: Apache-2.0 */
#include "model/cpu/simd_avx512.h"

#define LOGITS      cohort_cpu_logits_avx512
#define LOGITS_NAME "avx512"
#include "model/cpu/logits_body.h"
