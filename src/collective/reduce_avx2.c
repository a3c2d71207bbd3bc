/* SPDX-License-Identifier: Apache-2.0 */
#ifdef __AVX2__ /* CMake gives the flags; nothing here on other processors */
#define REDUCERS cohort_reducers_avx2
#define ISA      "avx2"
#include "collective/reduce_impl.h"
#endif
