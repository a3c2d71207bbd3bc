/* SPDX-License-Identifier: Apache-2.0 */
#include "executor/views.h"

#include <stdio.h>

#include "executor/executor_internal.h"

void executor_describe_rank(const cohort_launch *launch, char *out_text, size_t size) {
    if (launch->name[0])
        snprintf(out_text, size, "%s, pid %d on %s", launch->name, launch->pid,
                 launch->address);
    else
        snprintf(out_text, size, "pid %d", launch->pid);
}

void executor_fill_views(cohort_executor *executor, cohort_rank_view *views) {
    for (int32_t i = 0; i < executor->world_size; i++) {
        executor_rank *rank = &executor->ranks[i];
        cohort_counters_row *row = rank->row;
        /* Pairs with worker_set_phase. */
        uint32_t phase = atomic_load_explicit(&row->phase, memory_order_acquire);
        views[i] = (cohort_rank_view){
            .is_watched = phase != COHORT_RANK_DEAD,
            .pid = atomic_load_explicit(&row->pid, memory_order_relaxed),
            .phase = phase,
            .waits_for = atomic_load_explicit(&row->waits_for, memory_order_relaxed),
            .call = atomic_load_explicit(&row->call, memory_order_relaxed),
            .progress = atomic_load_explicit(&row->progress, memory_order_relaxed),
            .heartbeat_ns =
                atomic_load_explicit(&row->heartbeat_ns, memory_order_relaxed),
            .progress_ns = atomic_load_explicit(&row->phase_ns, memory_order_relaxed)};
    }
}
