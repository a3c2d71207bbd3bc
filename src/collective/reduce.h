/* SPDX-License-Identifier: Apache-2.0 */
/* collective/reduce.h - arithmetic of reductions: out = parts[0] op parts[1] op ...
 *
 * Always in that order and element by element with the same instructions, so that all
 * ranks get the same bits.  Written once (reduce_impl.h), compiled for three instruction
 * sets, chosen at the first use by feature bits.
 */
#ifndef COHORT_COLLECTIVE_REDUCE_H
#define COHORT_COLLECTIVE_REDUCE_H

#include "cohort/collective.h"

/* n elements; out may be one of the parts, but not overlap one in another way. */
typedef void (*cohort_reducer)(void *out, const void *const *parts, int32_t n_parts,
                               size_t n, cohort_reduce_op op);

typedef struct cohort_reducers {
    const char *isa;
    cohort_reducer f32, bf16, i32;
} cohort_reducers;

extern const cohort_reducers cohort_reducers_portable;
extern const cohort_reducers cohort_reducers_avx2;
extern const cohort_reducers cohort_reducers_avx512;

const cohort_reducers *cohort_reducers_choose(void);
/* NULL where reductions don't take that type. */
cohort_reducer cohort_reducer_of(const cohort_reducers *reducers, cohort_dtype dtype);

#endif /* COHORT_COLLECTIVE_REDUCE_H */
