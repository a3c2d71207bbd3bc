/* SPDX-License-Identifier: Apache-2.0 */
/* killed_world.h - executors on mp whose ranks are killed. */
#ifndef KILLED_WORLD_H
#define KILLED_WORLD_H

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/random.h"
#include "cohort/clock.h"
#include "cohort/executor.h"
#include "killer.h"
#include "start_executor.h"
#include "test_worker.h"

static inline cohort_executor_options mp_options(int32_t n_ranks,
                                                 int32_t max_rank_restarts,
                                                 const char *const *config) {
    cohort_executor_options options = cohort_executor_defaults();
    options.tp = n_ranks;
    options.worker_command = "/proc/self/exe";
    options.config = config;
    options.hang_timeout_ns = PATIENCE_MS * INT64_C(1000000);
    options.max_rank_restarts = max_rank_restarts;
    return options;
}

static inline int32_t pid_of(const cohort_executor *executor, int32_t rank) {
    cohort_rank_info info;
    cohort_executor_describe_rank(executor, rank, &info);
    return info.pid;
}

static inline cohort_status one_step(cohort_executor *executor) {
    cohort_future *step = NULL;
    cohort_status status = cohort_execute_model(executor, "s", 1, &step);
    if (status == COHORT_OK) status = cohort_future_wait(step, patience());
    cohort_future_destroy(step);
    return status;
}

#endif /* KILLED_WORLD_H */
