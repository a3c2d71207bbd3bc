/* SPDX-License-Identifier: Apache-2.0 */
#include "model/cpu/simd_portable.h"

#define LOGITS      cohort_cpu_logits_portable
#define LOGITS_NAME "portable"
#include "model/cpu/logits_body.h"
