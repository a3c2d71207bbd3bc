/* SPDX-License-Identifier: Apache-2.0 */
#define REDUCERS cohort_reducers_portable
#define ISA      "portable"
#include "collective/reduce_impl.h"

const cohort_reducers *cohort_reducers_choose(void) {
#if defined(__x86_64__)
    bool avx2 = __builtin_cpu_supports("avx2");
    if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        return &cohort_reducers_avx512;
    if (avx2) return &cohort_reducers_avx2;
#endif
    return &cohort_reducers_portable;
}

cohort_reducer cohort_reducer_of(const cohort_reducers *reducers, cohort_dtype dtype) {
    if (dtype == COHORT_F32) return reducers->f32;
    if (dtype == COHORT_BF16) return reducers->bf16;
    return dtype == COHORT_I32 ? reducers->i32 : NULL;
}
