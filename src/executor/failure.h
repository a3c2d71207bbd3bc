/* SPDX-License-Identifier: Apache-2.0 */
/* executor/failure.h - an executor fails once, and everybody wakes. */
#ifndef COHORT_EXECUTOR_FAILURE_H
#define COHORT_EXECUTOR_FAILURE_H

#include "executor/executor_internal.h"

/* Fails the executor, once: wakes everybody.  From any thread; the monitor does the rest.
 */
bool executor_fail(cohort_executor *executor, const cohort_error *error);
/* The same for the calling thread's last error; rank where that has none. */
bool executor_fail_last(cohort_executor *executor, int32_t rank);
void executor_wake_monitor(cohort_executor *executor);

/* With lock held: only the fact, which the judge knows already.  False where it has
 * failed before, or shuts down. */
bool executor_set_failure(cohort_executor *executor, const cohort_error *error);
void executor_log_failure(const cohort_error *error);
/* With lock held. */
void executor_set_state(cohort_executor *executor, executor_state state);

#endif /* COHORT_EXECUTOR_FAILURE_H */
