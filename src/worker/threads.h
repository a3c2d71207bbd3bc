/* SPDX-License-Identifier: Apache-2.0 */
/* worker/threads.h - on which CPUs the threads of a rank run.
 *
 * The grammar is that of VLLM_CPU_OMP_THREADS_BIND:
 *
 *   auto       the CPUs of this process, shared out evenly among the ranks of the host;
 *              no more threads than a control group's quota lets run
 *   nobind     as many threads as with auto, wherever the kernel puts them
 *   0-3|4,6-7  CPUs of local rank 0 | of local rank 1 | ...
 *
 * Pure but for the question which CPUs there are.   Threads: any.
 * Errors: COHORT_E_INVALID quotes the text.
 */
#ifndef COHORT_WORKER_THREADS_H
#define COHORT_WORKER_THREADS_H

#include <stdbool.h>
#include <stdint.h>

#include "cohort/status.h"
#include "worker/info.h"

enum { COHORT_MAX_CPUS = 1024 };

typedef struct cohort_cpu_list {
    int32_t n;
    int32_t cpus[COHORT_MAX_CPUS]; /* -1: wherever */
} cohort_cpu_list;

/* No more of them than n, wherever the kernel puts them: a quota of CPU time names no
 * CPUs, and others on this host have the same. */
void cohort_threads_limit(cohort_cpu_list *available, int32_t n);

/* The CPUs that this process may use. */
void cohort_threads_available(cohort_cpu_list *out_available);

/* May threads be bound?  A sandbox may forbid it. */
bool cohort_threads_can_bind(void);

/* bind: NULL is auto. */
cohort_status cohort_threads_place(const char *bind, const cohort_cpu_list *available,
                                   int32_t local_rank, int32_t local_world_size,
                                   cohort_cpu_list *out_cpus);

/* All of it for a rank of this process; says where threads cannot be bound. */
cohort_status cohort_threads_of_rank(const cohort_worker_info *info, const char *bind,
                                     cohort_cpu_list *out_cpus);

#endif /* COHORT_WORKER_THREADS_H */
