/* SPDX-License-Identifier: Apache-2.0 */
#include "model/cuda/cuda_internal.h"

/* The kernels' machine code, as device.c hands it to the driver. */
#define COHORT_CUDA_EMBED(name)                                  \
    __asm__(".pushsection .rodata\n"                             \
            ".balign 16\n"                                       \
            ".global cohort_cubin_" #name "\n"                   \
            ".hidden cohort_cubin_" #name "\n"                   \
            "cohort_cubin_" #name ":\n"                          \
            ".incbin \"" COHORT_CUBIN_DIR "/" #name ".cubin\"\n" \
            ".popsection\n");
COHORT_CUDA_MODULES(COHORT_CUDA_EMBED)
