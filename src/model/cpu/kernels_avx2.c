/* SPDX-License-Identifier: Apache-2.0 */
#include "model/cpu/simd_avx2.h"

#define KERNELS      cohort_cpu_kernels_avx2
#define KERNELS_NAME "avx2"
#include "model/cpu/kernels_body.h"
