/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks that are killed under calls and started again: who else lives on, what callers
 * hear, what a new rank is told, when it is given up, and that nothing is left.
 *
 * COHORT_KILLS: how many random kills (40).  COHORT_SEED: of them; printed. */

#include "killed_world.h"

enum { N_RANKS = 3 };
#define SECOND INT64_C(1000000000)

static cohort_executor_options options_of(const char *const *config) {
    return mp_options(N_RANKS, 1000, config);
}

static void end(cohort_executor *executor) {
    assert_int_equal(cohort_executor_shutdown(executor), COHORT_OK);
    cohort_executor_destroy(executor);
    assert_false(has_children());
    assert_int_equal(count_counters(), 0);
}

static void kill_rank(const cohort_executor *executor, int32_t rank) {
    assert_int_equal(kill(pid_of(executor, rank), SIGKILL), 0);
}

static cohort_executor_recovery recovery_of(cohort_executor *executor) {
    cohort_executor_recovery recovery;
    cohort_executor_get_recovery(executor, &recovery);
    return recovery;
}

static void await_epoch_after(cohort_executor *executor, uint64_t epoch) {
    while (cohort_executor_epoch(executor) <= epoch)
        sleep_us(100);
}

static void await_ready(cohort_executor *executor) {
    if (cohort_executor_await_ready(executor, patience()) != COHORT_OK)
        fail_msg("%s", cohort_last_error()->message);
}

static void step_must_go(cohort_executor *executor) {
    if (one_step(executor) != COHORT_OK) fail_msg("%s", cohort_last_error()->message);
}

static const char *const barrier[] = {"barrier=1", NULL};

static void only_the_dead_rank_is_started_again(void **state) {
    (void)state;
    cohort_executor_options options = options_of(barrier);
    cohort_executor *executor = start(&options);
    int32_t before[N_RANKS];
    step_must_go(executor);
    for (int32_t i = 0; i < N_RANKS; i++)
        before[i] = pid_of(executor, i);
    kill_rank(executor, 1);
    await_epoch_after(executor, 1);
    await_ready(executor);
    step_must_go(executor);
    assert_int_equal(pid_of(executor, 0), before[0]);
    assert_int_not_equal(pid_of(executor, 1), before[1]);
    assert_int_equal(pid_of(executor, 2), before[2]);
    cohort_executor_recovery recovery = recovery_of(executor);
    assert_int_equal(recovery.epoch, 2);
    assert_int_equal(recovery.n_deaths, 1);
    assert_int_equal(recovery.rank, 1);
    assert_false(recovery.is_recovering);
    assert_true(recovery.took_ns > 0);
    assert_non_null(strstr(recovery.cause.message, "killed by signal 9"));
    assert_int_equal(cohort_executor_failure(executor, NULL), COHORT_OK);
    print_message("from the death's notice to ready: %.1f ms\n",
                  (double)recovery.took_ns / 1e6);
    end(executor);
}

/* Whoever does not know of it yet sends no step into the new epoch. */
static void steps_are_refused_until_the_caller_knows(void **state) {
    (void)state;
    cohort_executor_options options = options_of(NULL);
    cohort_executor *executor = start(&options);
    cohort_rpc rpc = {.method = "noop", .reply_rank = COHORT_ALL_RANKS};
    cohort_future *step = NULL;
    assert_int_equal(
        cohort_execute_masked_model(executor, TEST_MASKED, sizeof TEST_MASKED, &step),
        COHORT_OK);
    kill_rank(executor, 0);
    assert_int_equal(cohort_future_wait(step, patience()), COHORT_E_INTERRUPTED);
    assert_int_equal(cohort_last_error()->rank, 0);
    assert_int_equal(cohort_future_reply_count(step), 0);
    cohort_future_destroy(step);
    cohort_status status = COHORT_E_INTERRUPTED; /* calls wait for nothing but ready */
    while (status == COHORT_E_INTERRUPTED)
        status = cohort_collective_rpc(executor, &rpc, patience(), NULL);
    assert_int_equal(status, COHORT_OK);
    assert_int_equal(cohort_execute_masks(executor, "m", 2), COHORT_E_INTERRUPTED);
    assert_int_equal(one_step(executor), COHORT_E_INTERRUPTED);
    await_ready(executor);
    step_must_go(executor);
    end(executor);
}

static void tell(cohort_executor *executor, int32_t number, bool is_setup) {
    cohort_rpc rpc = {.method = "tell",
                      .payload = &number,
                      .size_bytes = sizeof number,
                      .reply_rank = COHORT_ALL_RANKS,
                      .is_setup = is_setup};
    assert_int_equal(cohort_collective_rpc(executor, &rpc, patience(), NULL), COHORT_OK);
}

static void set_up_calls_are_told_to_the_new_rank_alone(void **state) {
    (void)state;
    cohort_executor_options options = options_of(NULL);
    cohort_executor *executor = start(&options);
    cohort_rpc told = {.method = "told", .reply_rank = COHORT_ALL_RANKS};
    cohort_future *future = NULL;
    tell(executor, 7, true);
    tell(executor, 8, true);
    tell(executor, 9, false);
    kill_rank(executor, 2);
    await_epoch_after(executor, 1);
    await_ready(executor);
    assert_int_equal(cohort_collective_rpc(executor, &told, patience(), &future),
                     COHORT_OK);
    for (int32_t i = 0; i < N_RANKS; i++) {
        const void *bytes;
        size_t size_bytes;
        int32_t number[2];
        cohort_future_reply(future, i, NULL, &bytes, &size_bytes);
        assert_int_equal(size_bytes, sizeof number);
        memcpy(number, bytes, sizeof number);
        assert_int_equal(number[0], i == 2 ? 8 : 9);
        assert_int_equal(number[1], i == 2 ? 2 : 3);
    }
    cohort_future_destroy(future);
    end(executor);
}

/* A rank that hangs is a dead one. */
static void stopped_rank_is_replaced(void **state) {
    (void)state;
    cohort_executor_options options = options_of(barrier);
    options.hang_timeout_ns = 3 * SECOND;
    cohort_executor *executor = start(&options);
    step_must_go(executor);
    assert_int_equal(kill(pid_of(executor, 1), SIGSTOP), 0);
    assert_int_equal(one_step(executor), COHORT_E_INTERRUPTED);
    await_ready(executor);
    step_must_go(executor);
    assert_int_equal(recovery_of(executor).cause.code, COHORT_E_HUNG);
    assert_non_null(
        strstr(recovery_of(executor).cause.message, ", its process is stopped; "));
    assert_int_equal(recovery_of(executor).rank, 1);
    end(executor);
}

static void rank_with_an_error_of_its_own_is_replaced(void **state) {
    (void)state;
    cohort_executor_options options = options_of(NULL);
    cohort_executor *executor = start(&options);
    int32_t rank = 2;
    cohort_rpc rpc = {.method = "fail",
                      .payload = &rank,
                      .size_bytes = sizeof rank,
                      .reply_rank = COHORT_ALL_RANKS};
    assert_int_equal(cohort_collective_rpc(executor, &rpc, patience(), NULL),
                     COHORT_E_INTERRUPTED);
    await_ready(executor);
    step_must_go(executor);
    assert_int_equal(recovery_of(executor).cause.code, COHORT_E_DEVICE);
    assert_non_null(
        strstr(recovery_of(executor).cause.message, "planted error of rank 2"));
    end(executor);
}

/* All are in a call that asks for nothing: one is killed, the others do not leave. */
static void survivor_that_does_not_leave_is_replaced_as_well(void **state) {
    (void)state;
    char path[] = "/tmp/cohort-hold-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    cohort_executor_options options = options_of(NULL);
    cohort_executor *executor = start(&options);
    cohort_future *future = NULL;
    cohort_rpc rpc = {.method = "hold",
                      .payload = path,
                      .size_bytes = sizeof path,
                      .reply_rank = COHORT_ALL_RANKS};
    step_must_go(executor);
    assert_int_equal(cohort_collective_rpc_begin(executor, &rpc, patience(), &future),
                     COHORT_OK);
    for (int32_t i = 0; i < N_RANKS; i++) {
        cohort_rank_info info = {.phase = ""};
        while (strcmp(info.phase, "rpc") != 0)
            cohort_executor_describe_rank(executor, i, &info);
    }
    kill_rank(executor, 0);
    assert_int_equal(cohort_future_wait(future, patience()), COHORT_E_INTERRUPTED);
    cohort_future_destroy(future);
    await_ready(executor);
    step_must_go(executor);
    assert_int_equal(recovery_of(executor).n_deaths, N_RANKS);
    assert_int_equal(recovery_of(executor).cause.code, COHORT_E_HUNG); /* the last */
    unlink(path);
    end(executor);
}

static void crash_loop_ends_with_first_and_last_cause(void **state) {
    (void)state;
    static const char *const config[] = {"fault=execute:1:kill", "barrier=1", NULL};
    cohort_executor_options options = options_of(config);
    options.max_rank_restarts = 2;
    cohort_executor *executor = start(&options);
    cohort_status status = COHORT_OK;
    int32_t n = 0;
    while (status == COHORT_OK) {
        assert_int_equal(one_step(executor),
                         ++n <= 2 ? COHORT_E_INTERRUPTED : COHORT_E_PEER_DIED);
        status = cohort_executor_await_ready(executor, patience());
    }
    cohort_error error = {0};
    assert_int_equal(status, COHORT_E_PEER_DIED);
    assert_int_equal(n, 3);
    assert_int_equal(cohort_executor_failure(executor, &error), COHORT_E_PEER_DIED);
    assert_int_equal(error.rank, 1);
    if (!strstr(error.message, "; started again 2 times before, first: rank 1 (pid "))
        fail_msg("%s", error.message);
    assert_int_equal(cohort_executor_shutdown(executor), COHORT_E_PEER_DIED);
    cohort_executor_destroy(executor);
    assert_false(has_children());
}

static void without_restarts_a_death_is_the_failure(void **state) {
    (void)state;
    cohort_executor_options options = options_of(NULL);
    options.max_rank_restarts = 0;
    cohort_executor *executor = start(&options);
    kill_rank(executor, 1);
    cohort_status status = COHORT_OK;
    while (status == COHORT_OK)
        status = one_step(executor);
    assert_int_equal(status, COHORT_E_PEER_DIED);
    assert_int_equal(cohort_executor_await_ready(executor, patience()),
                     COHORT_E_PEER_DIED);
    assert_int_equal(cohort_executor_epoch(executor), 1);
    cohort_executor_destroy(executor);
    assert_false(has_children());
}

/* One, some or all, under steps and in the middle of recovery. */
static void kill_some(cohort_executor *executor, uint64_t seed, uint64_t number) {
    uint64_t mask = cohort_random_u64(seed, 3 * number) % ((1 << N_RANKS) - 1) + 1;
    sleep_us(cohort_random_u64(seed, 3 * number + 1) % 20000);
    for (int32_t i = 0; i < N_RANKS; i++)
        if (mask >> i & 1) kill(pid_of(executor, i), SIGKILL);
}

static void random_kills_cost_no_more_than_interruptions(void **state) {
    (void)state;
    const char *kills = getenv("COHORT_KILLS"), *given = getenv("COHORT_SEED");
    uint64_t n_kills = kills ? strtoull(kills, NULL, 10) : 40;
    uint64_t seed = given ? strtoull(given, NULL, 10) : (uint64_t)cohort_clock_ns();
    print_message("COHORT_SEED=%llu\n", (unsigned long long)seed);
    cohort_executor_options options = options_of(barrier);
    cohort_executor *executor = start(&options);
    step_must_go(executor);
    int fds = count_entries("/proc/self/fd");
    for (uint64_t i = 0; i < n_kills; i++) {
        cohort_future *step = NULL;
        cohort_status status = cohort_execute_model(executor, "s", 1, &step);
        kill_some(executor, seed, i);
        if (status == COHORT_OK) status = cohort_future_wait(step, patience());
        cohort_future_destroy(step);
        if (status != COHORT_OK) assert_int_equal(status, COHORT_E_INTERRUPTED);
        /* Every other time the next one comes while it heals. */
        if (i % 2) continue;
        status = COHORT_E_INTERRUPTED;
        while (status == COHORT_E_INTERRUPTED) {
            await_ready(executor);
            status = one_step(executor);
        }
        if (status != COHORT_OK) fail_msg("%s", cohort_last_error()->message);
    }
    await_ready(executor);
    while (one_step(executor) == COHORT_E_INTERRUPTED)
        await_ready(executor);
    assert_int_equal(count_entries("/proc/self/fd"), fds);
    end(executor);
}

static void shutdown_while_it_heals_leaves_nothing(void **state) {
    (void)state;
    static const char *const config[] = {"pause_ms=20", NULL};
    for (uint64_t i = 0; i < 8; i++) {
        cohort_executor_options options = options_of(config);
        cohort_executor *executor = start(&options);
        kill_rank(executor, 1);
        await_epoch_after(executor, 1);
        sleep_us(i * 5000);
        end(executor);
        executor = NULL;
    }
}

int main(int argc, char **argv) {
    if (test_worker_is_asked(argc, argv)) return test_worker_main(argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_dead_rank_is_started_again),
        cmocka_unit_test(steps_are_refused_until_the_caller_knows),
        cmocka_unit_test(set_up_calls_are_told_to_the_new_rank_alone),
        cmocka_unit_test(stopped_rank_is_replaced),
        cmocka_unit_test(rank_with_an_error_of_its_own_is_replaced),
        cmocka_unit_test(survivor_that_does_not_leave_is_replaced_as_well),
        cmocka_unit_test(crash_loop_ends_with_first_and_last_cause),
        cmocka_unit_test(without_restarts_a_death_is_the_failure),
        cmocka_unit_test(random_kills_cost_no_more_than_interruptions),
        cmocka_unit_test(shutdown_while_it_heals_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, killer_enter_home, killer_leave_home);
}
