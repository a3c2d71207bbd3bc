/* SPDX-License-Identifier: Apache-2.0 */
#ifdef __AVX512F__ /* CMake gives the flags; nothing here on other processors */
#define REDUCERS cohort_reducers_avx512
#define ISA      "avx512"
#include "collective/reduce_impl.h"
#endif
