/* SPDX-License-Identifier: Apache-2.0 */
#include "cohort/clock.h"

#include <time.h>

int64_t cohort_clock_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t cohort_deadline_ms(int64_t delay_ms) {
    if (delay_ms < 0 || delay_ms > INT64_MAX / 2000000) return COHORT_NEVER;
    return cohort_clock_ns() + delay_ms * 1000000;
}
