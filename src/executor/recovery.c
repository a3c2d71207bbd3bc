/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/condition.h"
#include "base/fail.h"
#include "base/log.h"
#include "base/thread.h"
#include "cohort/clock.h"
#include "executor/executor_internal.h"
#include "executor/failure.h"

/* Design notes.
 *
 * An epoch ends under the lock, for all callers at once: every pending future ends as
 * interrupted, and whoever calls is told the same until all are ready.  Its queues are
 * still in use then, by one who pumps, one who sends, and the linker: they are woken, and
 * the monitor looks again every millisecond until none of them is left.  Only then do
 * queues, and the epoch that is in calls, change; so neither is ever seen to change under
 * a call.
 *
 * The handshakes of the new queues block, and the monitor may not: a thread does them,
 * one for each epoch. */

/* With no step since the last interruption, no request can have caused the death. */
static void count_deaths(cohort_executor *executor) {
    const cohort_judge *judge = &executor->judge;
    cohort_counters_header *header = cohort_counters_header_of(executor->counters);
    atomic_store_explicit(&header->n_deaths, judge->n_deaths, memory_order_relaxed);
    if (!executor->is_failed)
        memcpy(header->text, judge->cause.message, sizeof header->text);
    executor->recovery.n_deaths = judge->n_deaths;
    if (executor->has_stepped)
        executor->recovery.n_faults += judge->n_faults - executor->seen_faults;
    executor->seen_faults = judge->n_faults;
    executor->has_stepped = false;
}

void executor_interrupt(cohort_executor *executor, const cohort_error *cause,
                        int64_t now_ns) {
    cohort_executor_recovery *recovery = &executor->recovery;
    executor->epoch++;
    executor->is_recovering = true;
    executor->is_linked = false;
    executor->phase_ns = now_ns;
    recovery->epoch = executor->epoch;
    recovery->is_recovering = true;
    recovery->kv_kept = false;
    count_deaths(executor);
    recovery->rank = cause->rank;
    recovery->cause = *cause;
    recovery->began_ns = now_ns;
    recovery->took_ns = 0;
    cohort_counters_header *header = cohort_counters_header_of(executor->counters);
    atomic_store_explicit(&header->epoch, executor->epoch, memory_order_relaxed);
    executor->carrier->interrupt(executor);
    executor_set_state(executor, EXECUTOR_PLACE);
    executor_end_calls(executor);
}

void executor_end_recovery(cohort_executor *executor, int64_t now_ns) {
    cohort_executor_recovery *recovery = &executor->recovery;
    if (!executor->is_recovering) return;
    executor->is_recovering = recovery->is_recovering = false;
    count_deaths(executor);
    recovery->rank =
        executor->judge.cause.rank; /* of the last death, if there were more */
    recovery->cause = executor->judge.cause;
    recovery->took_ns = now_ns - recovery->began_ns;
    for (int32_t i = 0; i < executor->world_size; i++) {
        executor->has_lost_kv |= !executor_keep_has_kv(&executor->ranks[i].kept);
        executor_keep_settle(&executor->ranks[i].kept);
    }
    recovery->kv_kept = !executor->has_lost_kv;
    cohort_counters_header *header = cohort_counters_header_of(executor->counters);
    atomic_fetch_add_explicit(&header->n_recovered, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&header->n_kept, recovery->kv_kept, memory_order_relaxed);
}

bool executor_drain(cohort_executor *executor) {
    if (pthread_mutex_trylock(&executor->send_lock)) return false;
    pthread_mutex_lock(&executor->lock);
    executor_end_calls(executor); /* one may have been sent while the epoch ended */
    bool is_used = executor->is_pumping || executor->is_linking;
    if (!is_used) {
        executor->calls_epoch = executor->epoch;
        executor->awaits_masks = false;
        pthread_cond_broadcast(&executor->changed);
    }
    pthread_mutex_unlock(&executor->lock);
    if (!is_used) {
        executor_end_linking(executor);
        executor->carrier->close(executor);
    }
    pthread_mutex_unlock(&executor->send_lock);
    return !is_used;
}

/* ---- the driver's ends of the new queues ------------------------------------------ */

static void *linker_main(void *argument) {
    cohort_executor *executor = argument;
    int64_t timeout_ns = executor->options.connect_timeout_ns;
    int64_t deadline_ns = timeout_ns > 0 ? cohort_clock_ns() + timeout_ns : COHORT_NEVER;
    cohort_status status = executor->carrier->link(executor, deadline_ns);
    /* Who made it fail is dead, or late: the monitor sees either by itself, or, where it
     * was the driver's own doing, that nobody is. */
    if (status < 0)
        cohort_log(COHORT_LOG_INFO, "executor", cohort_last_error()->rank,
                   "event=not_linked text=\"%s\"", cohort_last_error()->message);
    pthread_mutex_lock(&executor->lock);
    executor->is_linked = status >= 0 && executor->state == EXECUTOR_CONNECT;
    if (status < 0) {
        executor->link_error = *cohort_last_error();
        executor->unlinked_ns = cohort_clock_ns();
    }
    executor->is_linking = false;
    pthread_mutex_unlock(&executor->lock);
    executor_wake_monitor(executor);
    return NULL;
}

cohort_status executor_start_linking(cohort_executor *executor) {
    pthread_mutex_lock(&executor->lock);
    executor->is_linking = true;
    executor->unlinked_ns = 0;
    pthread_mutex_unlock(&executor->lock);
    cohort_status status =
        cohort_thread_start("cohort-linker", linker_main, executor, &executor->linker);
    executor->has_linker = status >= 0;
    if (status >= 0) return status;
    pthread_mutex_lock(&executor->lock);
    executor->is_linking = false;
    pthread_mutex_unlock(&executor->lock);
    return status;
}

void executor_end_linking(cohort_executor *executor) {
    if (executor->has_linker) pthread_join(executor->linker, NULL);
    executor->has_linker = false;
}

/* ---- for callers ------------------------------------------------------------------ */

cohort_status cohort_executor_await_ready(cohort_executor *executor,
                                          int64_t deadline_ns) {
    cohort_status status = COHORT_OK;
    pthread_mutex_lock(&executor->lock);
    while (executor->is_recovering && !executor->is_failed &&
           executor->state < EXECUTOR_STOPPING && status == COHORT_OK) {
        if (cohort_clock_ns() >= deadline_ns)
            status = COHORT_PENDING;
        else
            cohort_condition_wait(&executor->changed, &executor->lock, deadline_ns);
    }
    if (status == COHORT_OK) status = executor_check_open(executor);
    if (status == COHORT_OK) executor->allowed_epoch = executor->calls_epoch;
    pthread_mutex_unlock(&executor->lock);
    return status;
}

uint64_t cohort_executor_epoch(cohort_executor *executor) {
    pthread_mutex_lock(&executor->lock);
    uint64_t epoch = executor->epoch;
    pthread_mutex_unlock(&executor->lock);
    return epoch;
}

void cohort_executor_forget_deaths(cohort_executor *executor) {
    pthread_mutex_lock(&executor->lock);
    executor->n_explained++;
    pthread_mutex_unlock(&executor->lock);
}

void cohort_executor_get_recovery(cohort_executor *executor,
                                  cohort_executor_recovery *out_recovery) {
    pthread_mutex_lock(&executor->lock);
    *out_recovery = executor->recovery;
    pthread_mutex_unlock(&executor->lock);
}
