/* SPDX-License-Identifier: Apache-2.0 */
/* base/random.h - a counter-based generator: value i of stream s, in any order.
 *
 * Dummy weights and sampling draw from it.  Because a value depends on (seed, counter)
 * alone, ranks and batches that draw in different orders get the same numbers.
 */
#ifndef COHORT_BASE_RANDOM_H
#define COHORT_BASE_RANDOM_H

#include <stdint.h>

/* Value number `counter` of the stream `seed` (splitmix64's finaliser over both). */
static inline uint64_t cohort_random_u64(uint64_t seed, uint64_t counter) {
    uint64_t z = seed + (counter + 1) * UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* Uniform in [0, 1), 53 bits. */
static inline double cohort_random_unit(uint64_t seed, uint64_t counter) {
    return (double)(cohort_random_u64(seed, counter) >> 11) * 0x1p-53;
}

/* A stream of its own for each name of something (a tensor, a request). */
uint64_t cohort_random_stream(uint64_t seed, const char *name);

#endif /* COHORT_BASE_RANDOM_H */
