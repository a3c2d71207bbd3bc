/* SPDX-License-Identifier: Apache-2.0 */
#include "model/cpu/simd_avx2.h"

#define LOGITS      cohort_cpu_logits_avx2
#define LOGITS_NAME "avx2"
#include "model/cpu/logits_body.h"
