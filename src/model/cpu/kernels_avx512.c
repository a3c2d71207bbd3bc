/* SPDX-License-Identifier: Apache-2.0 */
#include "model/cpu/simd_avx512.h"

#define KERNELS      cohort_cpu_kernels_avx512
#define KERNELS_NAME "avx512"
#include "model/cpu/kernels_body.h"
