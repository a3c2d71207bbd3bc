/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks with a model that die and are started again: whose cache goes to the next one,
 * and that the driver holds no descriptor longer than the executor lives. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cohort/clock.h"
#include "cohort/executor.h"
#include "killer.h"
#include "worker/runner.h"

enum { PATIENCE_MS = 60000 };

static int count_fds(void) {
    int n = 0;
    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static cohort_executor *start(cohort_kept_kv kept_kv) {
    static const char *const config[] = {"model=" COHORT_SOURCE_DIR
                                         "/tests/golden/llama-float32",
                                         "max_num_seqs=2",
                                         "max_num_batched_tokens=64",
                                         "max_model_len=64",
                                         "cpu_threads_bind=nobind",
                                         NULL};
    cohort_executor_options options = cohort_executor_defaults();
    cohort_executor *executor = NULL;
    options.tp = 2;
    options.config = config;
    options.worker_command = COHORT_BUILD_DIR "/cohort";
    options.max_rank_restarts = 100;
    options.kept_kv = kept_kv;
    if (cohort_executor_start(&options, &executor) < 0)
        fail_msg("%s", cohort_last_error()->message);
    return executor;
}

static void make_cache(cohort_executor *executor) {
    const cohort_runner_cache cache = {.n_blocks = 8};
    const cohort_rpc rpc = {.method = COHORT_RUNNER_INITIALIZE,
                            .payload = &cache,
                            .size_bytes = sizeof cache,
                            .reply_rank = COHORT_ALL_RANKS,
                            .is_setup = true};
    assert_int_equal(
        cohort_collective_rpc(executor, &rpc, cohort_deadline_ms(PATIENCE_MS), NULL),
        COHORT_OK);
}

static void end_rank(cohort_executor *executor, int32_t rank, int signal_number) {
    cohort_rank_info info;
    uint64_t epoch = cohort_executor_epoch(executor);
    cohort_executor_describe_rank(executor, rank, &info);
    assert_int_equal(kill(info.pid, signal_number), 0);
    while (cohort_executor_epoch(executor) == epoch)
        sleep_us(200);
}

static bool await_ready(cohort_executor *executor) {
    cohort_executor_recovery recovery;
    if (cohort_executor_await_ready(executor, cohort_deadline_ms(PATIENCE_MS)) < 0)
        fail_msg("%s", cohort_last_error()->message);
    cohort_executor_get_recovery(executor, &recovery);
    /* As a step, it is allowed, and only then refused: what was lost until then counts no
     * more. */
    assert_int_equal(cohort_execute_masks(executor, "", 0), COHORT_E_INVALID);
    return recovery.kv_kept;
}

static void end(cohort_executor *executor) {
    assert_int_equal(cohort_executor_shutdown(executor), COHORT_OK);
    cohort_executor_destroy(executor);
    assert_false(has_children());
}

static void next_rank_has_the_cache_of_the_one_before(void **state) {
    (void)state;
    cohort_executor *executor = start(COHORT_KEPT_KV_AUTO);
    make_cache(executor);
    for (int i = 0; i < 3; i++) {
        end_rank(executor, i % 2, SIGKILL);
        assert_true(await_ready(executor));
    }
    end_rank(executor, 1, SIGSEGV); /* it may have written anywhere */
    assert_false(await_ready(executor));
    end_rank(executor, 1, SIGKILL); /* but the one that was made since is good */
    assert_true(await_ready(executor));
    end(executor);
}

/* Two deaths that nobody has asked about: it takes one to lose a cache. */
static void one_cache_that_is_lost_is_told_until_it_is_heard(void **state) {
    (void)state;
    cohort_executor *executor = start(COHORT_KEPT_KV_AUTO);
    cohort_executor_recovery recovery;
    make_cache(executor);
    end_rank(executor, 0, SIGSEGV);
    do
        cohort_executor_get_recovery(executor, &recovery);
    while (recovery.is_recovering);
    assert_false(recovery.kv_kept);
    end_rank(executor, 1, SIGKILL);
    assert_false(await_ready(executor));
    end_rank(executor, 1, SIGKILL);
    assert_true(await_ready(executor));
    end(executor);
}

static void caches_are_kept_as_was_asked(void **state) {
    (void)state;
    cohort_executor *executor = start(COHORT_KEPT_KV_NEVER);
    make_cache(executor);
    end_rank(executor, 0, SIGKILL);
    assert_false(await_ready(executor));
    end(executor);
    executor = start(COHORT_KEPT_KV_ALWAYS);
    make_cache(executor);
    end_rank(executor, 0, SIGSEGV);
    assert_true(await_ready(executor));
    end(executor);
}

static int count_before(void **state) {
    static int n_fds;
    n_fds = count_fds();
    *state = &n_fds;
    return 0;
}

static int nothing_is_left(void **state) {
    assert_int_equal(count_fds(), *(int *)*state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(next_rank_has_the_cache_of_the_one_before,
                                        count_before, nothing_is_left),
        cmocka_unit_test_setup_teardown(one_cache_that_is_lost_is_told_until_it_is_heard,
                                        count_before, nothing_is_left),
        cmocka_unit_test_setup_teardown(caches_are_kept_as_was_asked, count_before,
                                        nothing_is_left),
    };
    return cmocka_run_group_tests_name("scenario/kept", tests, NULL, NULL);
}
