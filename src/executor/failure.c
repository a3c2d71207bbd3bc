/* SPDX-License-Identifier: Apache-2.0 */
#include "executor/failure.h"

#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "cohort/executor.h"
#include "executor/executor_internal.h"
#include "ray/ray.h"
#include "worker/worker.h"

void executor_wake_monitor(cohort_executor *executor) {
    uint64_t one = 1;
    /* Full only if it was written 2^64 - 2 times: the monitor is awake then. */
    ssize_t ignored = write(executor->wake_fd, &one, sizeof one);
    (void)ignored;
}

void executor_set_state(cohort_executor *executor, executor_state state) {
    executor->state = state;
    atomic_store_explicit(&cohort_counters_header_of(executor->counters)->state,
                          (uint32_t)state, memory_order_relaxed);
    if (state == EXECUTOR_STOPPING) executor->carrier->interrupt(executor);
    pthread_cond_broadcast(&executor->changed);
}

bool executor_set_failure(cohort_executor *executor, const cohort_error *error) {
    if (executor->is_failed || executor->state >= EXECUTOR_STOPPING) return false;
    cohort_counters_header *header = cohort_counters_header_of(executor->counters);
    executor->is_failed = true;
    executor->failure = *error;
    memcpy(header->text, error->message, sizeof header->text);
    atomic_store_explicit(&header->failed, 1, memory_order_release);
    executor->carrier->interrupt(executor);
    pthread_cond_broadcast(&executor->changed);
    return true;
}

void executor_log_failure(const cohort_error *error) {
    cohort_log(COHORT_LOG_ERROR, "executor", error->rank,
               "event=failed code=%s text=\"%s\"",
               cohort_status_name((cohort_status)error->code), error->message);
    cohort_log_place("executor", error);
}

bool executor_fail(cohort_executor *executor, const cohort_error *error) {
    pthread_mutex_lock(&executor->lock);
    bool is_first = executor_set_failure(executor, error);
    pthread_mutex_unlock(&executor->lock);
    if (!is_first) return false;
    executor_log_failure(error);
    executor_wake_monitor(executor);
    return true;
}

bool executor_fail_last(cohort_executor *executor, int32_t rank) {
    cohort_error error = *cohort_last_error();
    if (error.rank == COHORT_RANK_LOCAL) error.rank = rank;
    return executor_fail(executor, &error);
}
