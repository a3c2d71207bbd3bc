/* SPDX-License-Identifier: Apache-2.0 */
/* model/cpu/pool.h - a team of threads that carries out one task after the other.
 *
 * The caller is thread 0 and works along; the others wait for it, first polling, then
 * asleep, so that an idle pool costs nothing.  Who does which part of a task is decided
 * by the thread's number alone.
 *
 * Ownership: created and destroyed by one thread, whose CPU affinity the pool sets and,
 *            in the end, sets back.
 * Threads:   cohort_pool_run is called by that thread only, and never from a task.
 */
#ifndef COHORT_MODEL_CPU_POOL_H
#define COHORT_MODEL_CPU_POOL_H

#include <stdint.h>

#include "cohort/status.h"

typedef struct cohort_pool cohort_pool;

typedef void cohort_pool_task(void *context, int32_t thread, int32_t n_threads);

/* cpus[n_threads]: where each thread is pinned; -1, or cpus NULL: not pinned. */
cohort_status cohort_pool_create(const int32_t *cpus, int32_t n_threads,
                                 cohort_pool **out_pool);
/* Accepts NULL. */
void cohort_pool_destroy(cohort_pool *pool);
int32_t cohort_pool_size(const cohort_pool *pool);

/* Calls task once on every thread; returns when all have. */
void cohort_pool_run(cohort_pool *pool, cohort_pool_task *task, void *context);

#endif /* COHORT_MODEL_CPU_POOL_H */
