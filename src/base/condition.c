/* SPDX-License-Identifier: Apache-2.0 */
#include "base/condition.h"

#include <time.h>

#include "cohort/clock.h"

void cohort_condition_init(pthread_cond_t *condition) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

bool cohort_condition_wait(pthread_cond_t *condition, pthread_mutex_t *lock,
                           int64_t deadline_ns) {
    const struct timespec until = {.tv_sec = (time_t)(deadline_ns / 1000000000),
                                   .tv_nsec = (long)(deadline_ns % 1000000000)};
    if (deadline_ns == COHORT_NEVER) return pthread_cond_wait(condition, lock) == 0;
    return pthread_cond_timedwait(condition, lock, &until) == 0;
}
