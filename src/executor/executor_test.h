/* SPDX-License-Identifier: Apache-2.0 */
/* executor_test.h - an executor without a monitor: its tests bring the events, and the
 * time.
 */
#ifndef COHORT_EXECUTOR_TEST_H
#define COHORT_EXECUTOR_TEST_H

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "executor/executor_internal.h"
#include "executor/views.h"

enum { RANKS = 3 };
#define MS         INT64_C(1000000)
#define SECOND     (1000 * MS)
#define BEGIN      (100 * SECOND)
#define HANG_NS    (10 * SECOND)
#define EXECUTE_NS (30 * SECOND)
#define CONNECT_NS (5 * SECOND)
#define LOAD_NS    (50 * SECOND)

typedef struct signalled {
    int32_t pid;
    int signal;
} signalled;

static signalled signals[32];
static size_t n_signals, n_told;
static cohort_launch_ending next_ending; /* what reap finds */

static inline void record_signal(cohort_launch *launch, int number) {
    signals[n_signals++] = (signalled){launch->pid, number};
}

static inline void give_ending(cohort_launch *launch, cohort_launch_ending *out_ending) {
    (void)launch;
    *out_ending = next_ending;
}

static const cohort_launcher recorder = {
    .name = "recorder", .signal = record_signal, .reap = give_ending};

static inline void count_told(void *user_data, const cohort_error *error) {
    (void)user_data;
    (void)error;
    n_told++;
}

/* Ranks that are at work since BEGIN, of an executor without a monitor. */
static inline cohort_executor *open_executor(executor_state state) {
    cohort_executor *executor = calloc(1, sizeof *executor);
    const cohort_counters_options options = {
        .backend = "recorder", .tp = RANKS, .pp = 1, .n_rows = RANKS};
    assert_non_null(executor);
    n_signals = n_told = 0;
    pthread_mutex_init(&executor->lock, NULL);
    pthread_cond_init(&executor->changed, NULL);
    executor->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    executor->epoll_fd = -1;
    executor->epoch = executor->calls_epoch = executor->allowed_epoch = 5;
    executor->world_size = RANKS;
    executor->launcher = &recorder;
    executor->carrier = &executor_queues;
    executor->options = (cohort_executor_options){.hang_timeout_ns = HANG_NS,
                                                  .execute_timeout_ns = EXECUTE_NS,
                                                  .connect_timeout_ns = CONNECT_NS,
                                                  .load_timeout_ns = LOAD_NS,
                                                  .shutdown_timeout_ns = 10 * SECOND};
    executor->callback = count_told;
    /* Behind the last one lies one that nobody may touch: it has no row, no link, and
     * counts. */
    executor->ranks = calloc(RANKS + 1, sizeof *executor->ranks);
    executor->ranks[RANKS].launch.pid = 9999;
    executor->ranks[RANKS].control = (cohort_link *)sizeof(cohort_link *); /* nowhere */
    assert_int_equal(cohort_counters_create(&options, &executor->counters), COHORT_OK);
    executor->state = state;
    assert_int_equal(judge_open(&executor->judge, &executor->options, RANKS, BEGIN),
                     COHORT_OK);
    executor->judge.state = state;
    executor->phase_ns = BEGIN;
    for (int32_t i = 0; i < RANKS; i++) {
        executor_rank *rank = &executor->ranks[i];
        rank->row = cohort_counters_row_of(executor->counters, i);
        rank->launch.pid = 1000 + i;
        executor->judge.ranks[i] =
            (judge_rank){.reached = state + 1, .is_started = true, .progress_ns = BEGIN};
        executor_describe_rank(&rank->launch, executor->judge.ranks[i].who,
                               JUDGE_WHO_BYTES);
        rank->row->pid = 1000 + i;
        rank->row->waits_for = COHORT_RANK_LOCAL;
        rank->row->phase = COHORT_RANK_IDLE;
        rank->row->phase_ns = BEGIN;
        rank->row->heartbeat_ns = BEGIN;
    }
    return executor;
}

static inline void close_executor(cohort_executor *executor) {
    cohort_counters_close(executor->counters);
    judge_close(&executor->judge);
    close(executor->wake_fd);
    free(executor->ranks);
    pthread_mutex_destroy(&executor->lock);
    pthread_cond_destroy(&executor->changed);
    free(executor);
}

/* cmocka's run, with the counters' files in a folder that goes afterwards. */
static inline int run_with_counters(const struct CMUnitTest *tests, size_t n_tests) {
    char folder[] = "/tmp/cohort-executor-XXXXXX", inner[64];
    if (!mkdtemp(folder) || setenv("XDG_RUNTIME_DIR", folder, 1)) return 1;
    int failed = _cmocka_run_group_tests("executor", tests, n_tests, NULL, NULL);
    snprintf(inner, sizeof inner, "%s/cohort", folder);
    rmdir(inner);
    rmdir(folder);
    return failed;
}

#endif /* COHORT_EXECUTOR_TEST_H */
