/* SPDX-License-Identifier: Apache-2.0 */
/* base/condition.h - condition variables on the clock that our deadlines are on.
 *
 * pthread's own are on the time of day, which may be set back while somebody waits.
 *
 * Ownership: the storage is the caller's; pthread_cond_destroy ends it.
 */
#ifndef COHORT_BASE_CONDITION_H
#define COHORT_BASE_CONDITION_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

void cohort_condition_init(pthread_cond_t *condition);
/* With lock held.  True: woken, perhaps for nothing; false: the deadline passed. */
bool cohort_condition_wait(pthread_cond_t *condition, pthread_mutex_t *lock,
                           int64_t deadline_ns);

#endif /* COHORT_BASE_CONDITION_H */
