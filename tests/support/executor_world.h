/* SPDX-License-Identifier: Apache-2.0 */
/* executor_world.h - executors that are tested, on uni and on mp. */
#ifndef EXECUTOR_WORLD_H
#define EXECUTOR_WORLD_H

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "cohort/clock.h"
#include "cohort/executor.h"
#include "counters/counters.h"
#include "leftovers.h"
#include "start_executor.h"
#include "test_worker.h"

enum { SHORT_MS = 30 /* of deadlines that are meant to pass */ };

static inline cohort_executor_options options_of(void **state, int32_t tp, int32_t pp) {
    cohort_executor_options options = cohort_executor_defaults();
    options.backend = *state;
    options.tp = tp;
    options.pp = pp;
    options.worker_command = "/proc/self/exe";
    options.worker_ops = test_worker_ops();
    options.hang_timeout_ns = PATIENCE_MS * INT64_C(1000000);
    options.max_rank_restarts = 0; /* else: tests/scenario/restart_test.c */
    return options;
}

static inline cohort_executor *start_world(void **state, int32_t tp, int32_t pp) {
    cohort_executor_options options = options_of(state, tp, pp);
    return start(&options);
}

static inline cohort_executor *start_with(void **state, int32_t tp, int32_t pp,
                                          const char *const *config) {
    cohort_executor_options options = options_of(state, tp, pp);
    options.config = config;
    return start(&options);
}

static inline void end(cohort_executor *executor) {
    cohort_status failure = cohort_executor_failure(executor, NULL);
    if (cohort_executor_shutdown(executor) != failure)
        fail_msg("%s", cohort_last_error()->message);
    cohort_executor_destroy(executor);
}

static inline cohort_rpc rpc_of(const char *method, const void *payload,
                                size_t size_bytes) {
    return (cohort_rpc){.method = method,
                        .payload = payload,
                        .size_bytes = size_bytes,
                        .reply_rank = COHORT_ALL_RANKS};
}

static inline cohort_future *begin(cohort_executor *executor, cohort_rpc rpc) {
    cohort_future *future = NULL;
    if (cohort_collective_rpc_begin(executor, &rpc, patience(), &future) < 0)
        fail_msg("%s", cohort_last_error()->message);
    return future;
}

static inline cohort_future *call(cohort_executor *executor, cohort_rpc rpc) {
    cohort_future *future = begin(executor, rpc);
    if (cohort_future_wait(future, patience()) < 0)
        fail_msg("%s", cohort_last_error()->message);
    return future;
}

static char home[] = "/tmp/cohort-executor-test-XXXXXX";

static const char *held_path(void) {
    static char path[64];
    snprintf(path, sizeof path, "%s/held", home);
    return path;
}

/* A call that all ranks are busy with until they are let go. */
static inline cohort_future *hold(cohort_executor *executor) {
    const char *path = held_path();
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fclose(file);
    return begin(executor, rpc_of("hold", path, strlen(path) + 1));
}

static inline void let_go(void) { assert_int_equal(unlink(held_path()), 0); }

static inline void assert_says(const char *word) {
    if (!strstr(cohort_last_error()->message, word))
        fail_msg("'%s' is not in: %s", word, cohort_last_error()->message);
}

static inline int enter_home(void **state) {
    (void)state;
    return !mkdtemp(home) || setenv("XDG_RUNTIME_DIR", home, 1);
}

static inline int leave_home(void **state) {
    (void)state;
    char folder[64];
    snprintf(folder, sizeof folder, "%s/cohort", home);
    return rmdir(folder) || rmdir(home); /* fails where a file was left */
}

static char uni[] = "uni";
static char mp[] = "mp";

#define ON_BOTH(test)                                                       \
    {.name = #test " on uni", .test_func = (test), .initial_state = uni}, { \
        .name = #test " on mp", .test_func = (test), .initial_state = mp    \
    }

#endif /* EXECUTOR_WORLD_H */
