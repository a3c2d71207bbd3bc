/* SPDX-License-Identifier: Apache-2.0 */
#include "model/cpu/simd_portable.h"

#define KERNELS      cohort_cpu_kernels_portable
#define KERNELS_NAME "portable"
#include "model/cpu/kernels_body.h"
