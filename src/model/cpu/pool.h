/* SPDX-License-Identifier: Apache-2.0 */
/* model/cpu/pool.h - a few threads that carry out one function together, again and again.
 *
 * cohort_pool_run calls work(argument, index, count) on every thread, the caller being
 * index 0, and returns when all have.  Between calls the threads spin shortly, then
 * sleep. Threads: one caller at a time.
 */
#ifndef COHORT_MODEL_CPU_POOL_H
#define COHORT_MODEL_CPU_POOL_H

#include <stdint.h>

#include "cohort/status.h"

typedef struct cohort_pool cohort_pool;
typedef void (*cohort_pool_work)(void *argument, int32_t index, int32_t count);

/* cpus[n_threads]: the core of each thread, the caller's first; -1: not pinned. */
cohort_status cohort_pool_create(const int32_t *cpus, int32_t n_threads,
                                 cohort_pool **out_pool);
void cohort_pool_destroy(cohort_pool *pool);
int32_t cohort_pool_size(const cohort_pool *pool);
void cohort_pool_run(cohort_pool *pool, cohort_pool_work work, void *argument);

#endif /* COHORT_MODEL_CPU_POOL_H */
