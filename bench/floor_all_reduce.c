/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "floor.h"

/* The widest vectors that there are, as ours.  What chooses among the clones runs before
 * a sanitizer has started. */
#if !defined __clang__ && !defined __SANITIZE_ADDRESS__ && !defined __SANITIZE_THREAD__
__attribute__((optimize("O3"), target_clones("avx512f", "avx2", "default")))
#endif
void floor_all_reduce(floor_side sides[2], int rank, uint32_t step, float *data,
                      size_t count) {
    floor_side *own = &sides[rank];
    floor_side *peer = &sides[!rank];
    memcpy(own->slots[step & 1], data, count * sizeof *data);
    atomic_store_explicit(&own->posted, step + 1, memory_order_release);
    cohort_wait wait = cohort_wait_begin(COHORT_WAIT_SPIN_NS);
    while ((int32_t)(atomic_load_explicit(&peer->posted, memory_order_acquire) - step) <=
           0)
        if (!cohort_wait_spin(&wait)) wait = cohort_wait_begin(COHORT_WAIT_SPIN_NS);
    const float *theirs = peer->slots[step & 1];
    for (size_t i = 0; i < count; i++)
        data[i] += theirs[i];
}
