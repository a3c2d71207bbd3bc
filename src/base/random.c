/* SPDX-License-Identifier: Apache-2.0 */
#include "base/random.h"

uint64_t cohort_random_stream(uint64_t seed, const char *name) {
    uint64_t stream = cohort_random_u64(seed, 0);
    for (uint64_t i = 1; *name; name++, i++)
        stream = cohort_random_u64(stream ^ (unsigned char)*name, i);
    return stream;
}
