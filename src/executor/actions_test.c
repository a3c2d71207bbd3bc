/* SPDX-License-Identifier: Apache-2.0 */
/* Lateness has an upper bound, and it is exact: the test holds the clock. */
#include "executor/executor_test.h"
#include "executor/failure.h"

static size_t n_reports;
static int32_t reported_rank;

static void report(void *user_data, int32_t rank, uint64_t done, uint64_t total) {
    (void)user_data;
    (void)done;
    (void)total;
    reported_rank = rank;
    n_reports++;
}

/* The clock up to then, in the steps of a monitor that is on time. */
static void run_until(cohort_executor *executor, int64_t until_ns) {
    while (executor->judge.tick_ns + 100 * MS < until_ns)
        executor_on_clock(executor, executor->judge.tick_ns + 100 * MS);
    executor_on_clock(executor, until_ns);
}

static void beat_all(cohort_executor *executor, int64_t now_ns) {
    for (int32_t i = 0; i < RANKS; i++)
        executor->ranks[i].row->heartbeat_ns = now_ns;
}

/* Not yet then; one nanosecond later, that rank, once. */
static void expect_failure_after(cohort_executor *executor, int64_t limit_ns,
                                 int32_t rank, const char *words) {
    run_until(executor, limit_ns);
    assert_false(executor->is_failed);
    executor_on_clock(executor, limit_ns + 1);
    assert_true(executor->is_failed);
    assert_int_equal(executor->failure.code, COHORT_E_HUNG);
    assert_int_equal(executor->failure.rank, rank);
    if (!strstr(executor->failure.message, words))
        fail_msg("%s", executor->failure.message);
    executor_on_clock(executor, limit_ns + 2);
    assert_int_equal(n_told, 1);
    close_executor(executor);
}

static void silent_process_is_told_when_the_limit_has_passed(void **state) {
    (void)state;
    cohort_executor *executor = open_executor(EXECUTOR_READY);
    beat_all(executor, BEGIN + 3 * SECOND);
    executor->ranks[1].row->heartbeat_ns = BEGIN + 2 * SECOND;
    expect_failure_after(executor, BEGIN + 2 * SECOND + HANG_NS, 1,
                         "rank 1 (pid 1001) is hung: no heartbeat for 10.0 s");
}

static void rank_that_ended_or_never_began_is_not_silent(void **state) {
    (void)state;
    cohort_executor *executor = open_executor(EXECUTOR_READY);
    executor->judge.ranks[0].has_ended = true;
    executor->judge.ranks[1].is_started = false;
    executor->ranks[2].row->heartbeat_ns = 0; /* has not mapped the counters */
    run_until(executor, BEGIN + 10 * HANG_NS);
    assert_false(executor->is_failed);
    close_executor(executor);
}

static void stuck_step_is_told_when_the_limit_has_passed(void **state) {
    (void)state;
    cohort_executor *executor = open_executor(EXECUTOR_READY);
    executor->options.hang_timeout_ns = 0; /* heartbeats are not at issue */
    executor->ranks[2].row->phase = COHORT_RANK_EXECUTE;
    executor->ranks[2].row->call = 7;
    executor->ranks[2].row->phase_ns = BEGIN + SECOND;
    expect_failure_after(executor, BEGIN + SECOND + EXECUTE_NS, 2,
                         "rank 2 (pid 1002) is hung: no progress for 30.0 s");
}

/* Each sign of progress gives the whole limit again, and no more than that. */
static void progress_moves_the_limit_to_when_it_was_seen(void **state) {
    (void)state;
    cohort_executor *executor = open_executor(EXECUTOR_READY);
    executor->options.hang_timeout_ns = 0;
    executor->ranks[2].row->phase = COHORT_RANK_EXECUTE;
    executor->ranks[2].row->call = 7;
    run_until(executor, BEGIN + 20 * SECOND);
    executor->ranks[2].row->progress = 1;
    executor_on_clock(executor, BEGIN + 20 * SECOND + 50 * MS);
    expect_failure_after(executor, BEGIN + 20 * SECOND + 50 * MS + EXECUTE_NS, 2,
                         "no progress for 30.0 s");
}

/* The others got on, and wait for it: a step that nobody answered, and an overdue next
 * call, are the fault of who never took the step. */
static void rank_that_never_took_the_step_is_named(void **state) {
    (void)state;
    cohort_executor *executor = open_executor(EXECUTOR_READY);
    executor->options.hang_timeout_ns = 0;
    cohort_future step = {
        .call = 9, .is_step = true, .sent_ns = BEGIN + 2 * SECOND, .end_rank = 1};
    executor->head = &step;
    for (int32_t i = 0; i < RANKS; i++) {
        executor->ranks[i].row->call = i == 1 ? 8 : 9;
        executor->ranks[i].row->phase = i == 1 ? COHORT_RANK_IDLE : COHORT_RANK_EXECUTE;
        executor->ranks[i].row->waits_for = i == 1 ? COHORT_RANK_LOCAL : 1;
        executor->ranks[i].row->phase_ns = BEGIN + 2 * SECOND;
    }
    expect_failure_after(executor, BEGIN + 2 * SECOND + EXECUTE_NS, 1,
                         "rank 0 waits for rank 1");
}

/* A rank that loads with progress is given its time; the step behind it is not late yet.
 */
static void progress_of_a_rank_excuses_an_overdue_next_call(void **state) {
    (void)state;
    cohort_executor *executor = open_executor(EXECUTOR_READY);
    executor->options.hang_timeout_ns = 0;
    cohort_future step = {.call = 9, .is_step = true, .sent_ns = BEGIN, .end_rank = 1};
    executor->head = &step;
    for (int32_t i = 0; i < RANKS; i++) {
        executor->ranks[i].row->call = 8;
        executor->ranks[i].row->phase = COHORT_RANK_RPC;
    }
    for (int64_t at_ns = BEGIN; at_ns < BEGIN + 4 * EXECUTE_NS; at_ns += 10 * SECOND) {
        for (int32_t i = 0; i < RANKS; i++)
            executor->ranks[i].row->progress++;
        run_until(executor, at_ns + 10 * SECOND);
    }
    assert_false(executor->is_failed);
    close_executor(executor);
}

static void step_that_was_answered_is_not_pending(void **state) {
    (void)state;
    cohort_executor *executor = open_executor(EXECUTOR_READY);
    executor->options.hang_timeout_ns = 0;
    cohort_future rpc = {.call = 8, .sent_ns = BEGIN};
    cohort_future step = {
        .call = 9, .is_step = true, .sent_ns = BEGIN, .next_rank = 1, .end_rank = 2};
    executor->head = &rpc;
    rpc.next = &step;
    run_until(executor, BEGIN + 2 * EXECUTE_NS);
    assert_false(executor->is_failed);
    close_executor(executor);
}

/* All were frozen, we too, far beyond every limit: all get the whole limit again. */
static void frozen_world_counts_from_when_it_goes_on(void **state) {
    (void)state;
    cohort_executor *executor = open_executor(EXECUTOR_READY);
    executor->ranks[0].row->phase = COHORT_RANK_EXECUTE;
    run_until(executor, BEGIN + SECOND);
    int64_t thawed_ns = BEGIN + 20 * EXECUTE_NS;
    executor_on_clock(executor, thawed_ns);
    assert_false(executor->is_failed);
    beat_all(executor, thawed_ns + HANG_NS / 2);  /* and from then on */
    executor->ranks[2].row->heartbeat_ns = BEGIN; /* but for one */
    expect_failure_after(executor, thawed_ns + HANG_NS, 2, "no heartbeat for 10.0 s");
}

/* A monitor that was late by half a second was not frozen: late ranks stay late. */
static void late_tick_is_no_freeze(void **state) {
    (void)state;
    cohort_executor *executor = open_executor(EXECUTOR_READY);
    for (int64_t at_ns = BEGIN; at_ns <= BEGIN + HANG_NS; at_ns += 500 * MS)
        executor_on_clock(executor, at_ns);
    executor_on_clock(executor, BEGIN + HANG_NS + 1);
    assert_true(executor->is_failed);
    close_executor(executor);
    executor = open_executor(EXECUTOR_READY);
    executor_on_clock(executor, BEGIN + 500 * MS + 1);
    assert_int_equal(executor->judge.resumed_ns, BEGIN + 500 * MS + 1);
    close_executor(executor);
}

static void each_phase_has_its_own_limit(void **state) {
    (void)state;
    static const struct {
        executor_state state;
        int64_t limit_ns;
        const char *words;
    } phases[] = {
        {EXECUTOR_PLACE, CONNECT_NS,
         "rank 1 (pid 1001) has not finished place after 5.0 s"},
        {EXECUTOR_CONFIGURE, CONNECT_NS, "has not finished configure after 5.0 s"},
        {EXECUTOR_CONNECT, CONNECT_NS, "has not finished connect after 5.0 s"},
        {EXECUTOR_LOAD, LOAD_NS, "has not finished load after 50.0 s"}};
    for (size_t i = 0; i < sizeof phases / sizeof *phases; i++) {
        cohort_executor *executor = open_executor(phases[i].state);
        executor->options.hang_timeout_ns = 0;
        executor->judge.ranks[1].reached = phases[i].state;
        expect_failure_after(executor, BEGIN + phases[i].limit_ns, 1, phases[i].words);
    }
}

/* Of two that are late the first is named; where none is, our own end is what is awaited.
 */
static void first_rank_that_is_late_is_named(void **state) {
    (void)state;
    cohort_executor *executor = open_executor(EXECUTOR_CONNECT);
    executor->options.hang_timeout_ns = 0;
    executor->judge.ranks[1].reached = executor->judge.ranks[2].reached =
        EXECUTOR_CONNECT;
    expect_failure_after(executor, BEGIN + CONNECT_NS, 1, "rank 1");
}

static void limits_of_zero_are_none(void **state) {
    (void)state;
    cohort_executor *executor = open_executor(EXECUTOR_LOAD);
    executor->options.hang_timeout_ns = executor->options.execute_timeout_ns = 0;
    executor->options.connect_timeout_ns = executor->options.load_timeout_ns = 0;
    executor->judge.ranks[1].reached = EXECUTOR_LOAD;
    executor->ranks[2].row->phase = COHORT_RANK_EXECUTE;
    run_until(executor, BEGIN + 1000 * SECOND);
    assert_false(executor->is_failed);
    close_executor(executor);
}

static void hear(cohort_executor *executor, const cohort_error *error, int64_t now_ns) {
    executor_judge(executor, (judge_event){.kind = JUDGE_REPORTED,
                                           .rank = 0,
                                           .now_ns = now_ns,
                                           .error = error});
}

/* An error that may be the consequence of a death waits 300 ms for the death. */
static void suspicion_becomes_the_failure_in_time(void **state) {
    (void)state;
    cohort_executor *executor = open_executor(EXECUTOR_READY);
    cohort_error first = {.code = COHORT_E_PEER_DIED, .rank = 2, .message = "first"};
    cohort_error second = {.code = COHORT_E_PEER_DIED, .rank = 1, .message = "second"};
    hear(executor, &first, BEGIN + SECOND);
    hear(executor, &second, BEGIN + SECOND + 1);
    run_until(executor, BEGIN + SECOND + 300 * MS - 1);
    assert_false(executor->is_failed);
    executor_on_clock(executor, BEGIN + SECOND + 300 * MS);
    assert_true(executor->is_failed);
    assert_int_equal(executor->failure.rank, 2);
    assert_string_equal(executor->failure.message, "first");
    close_executor(executor);
}

/* Two failures at once: the death is told, not who suffered from it. */
static void death_comes_before_suspicion(void **state) {
    (void)state;
    cohort_executor *executor = open_executor(EXECUTOR_READY);
    cohort_error suspect = {.code = COHORT_E_PEER_DIED, .rank = 2, .message = "heard"};
    cohort_error death = {.code = COHORT_E_PEER_DIED, .rank = 1, .message = "died"};
    hear(executor, &suspect, BEGIN);
    assert_true(executor_fail(executor, &death));
    run_until(executor, BEGIN + SECOND);
    assert_false(executor_fail(executor, &suspect));
    assert_int_equal(executor->failure.rank, 1);
    assert_int_equal(n_told, 1);
    close_executor(executor);
}

static void monitor_looks_often_enough(void **state) {
    (void)state;
    cohort_executor *executor = open_executor(EXECUTOR_READY);
    assert_int_equal(judge_tick_ms(&executor->judge), 100);
    executor->judge.state = EXECUTOR_STOPPING;
    assert_int_equal(judge_tick_ms(&executor->judge), 10);
    executor->judge.state = EXECUTOR_READY;
    executor->judge.has_suspect = true;
    assert_int_equal(judge_tick_ms(&executor->judge), 10);
    close_executor(executor);
}

static void expect_signals(size_t n, int number) {
    assert_int_equal(n_signals, n * RANKS);
    for (size_t i = 0; i < RANKS && n; i++) {
        assert_int_equal(signals[(n - 1) * RANKS + i].pid, 1000 + (int32_t)i);
        assert_int_equal(signals[(n - 1) * RANKS + i].signal, number);
    }
}

/* Ask at once, SIGTERM after 60 % of the limit, SIGKILL after 80 %, the end after all. */
static void shutdown_keeps_to_its_limit(void **state) {
    (void)state;
    cohort_executor *executor = open_executor(EXECUTOR_STOPPING);
    executor_on_clock(executor, BEGIN);
    assert_int_equal(executor->judge.stop_stage, 1);
    run_until(executor, BEGIN + 6 * SECOND - 1);
    expect_signals(0, 0);
    executor_on_clock(executor, BEGIN + 6 * SECOND);
    expect_signals(1, SIGTERM);
    run_until(executor, BEGIN + 8 * SECOND - 1);
    expect_signals(1, SIGTERM);
    executor_on_clock(executor, BEGIN + 8 * SECOND);
    expect_signals(2, SIGKILL);
    run_until(executor, BEGIN + 10 * SECOND - 1);
    assert_int_equal(executor->state, EXECUTOR_STOPPING);
    executor_on_clock(executor, BEGIN + 10 * SECOND);
    assert_int_equal(executor->state, EXECUTOR_CLOSED);
    assert_int_equal(executor->shutdown_status, COHORT_E_TIMEOUT);
    assert_int_equal(executor->judge.stayed_rank, 0);
    expect_signals(2, SIGKILL);
    assert_non_null(strstr(executor->shutdown_error.message,
                           "rank 0 (pid 1000) could not be ended in 10.0 s"));
    close_executor(executor);
}

static void failed_ranks_get_little_time(void **state) {
    (void)state;
    static const int64_t limits_ns[] = {0, 10 * SECOND};
    for (int i = 0; i < 2; i++) {
        cohort_executor *executor = open_executor(EXECUTOR_STOPPING);
        executor->options.shutdown_timeout_ns = limits_ns[i];
        executor->is_failed = executor->judge.is_failed = true;
        executor->failure.code = COHORT_E_PEER_DIED;
        executor_on_clock(executor, BEGIN);
        executor_on_clock(executor, BEGIN + 50 * MS - 1);
        expect_signals(0, 0);
        executor_on_clock(executor, BEGIN + 50 * MS);
        expect_signals(1, SIGTERM);
        executor_on_clock(executor, BEGIN + 150 * MS - 1);
        expect_signals(1, SIGTERM);
        executor_on_clock(executor, BEGIN + 150 * MS);
        expect_signals(2, SIGKILL);
        close_executor(executor);
    }
}

/* Without a limit nobody is forced, however long it takes. */
static void unlimited_shutdown_signals_nobody(void **state) {
    (void)state;
    cohort_executor *executor = open_executor(EXECUTOR_STOPPING);
    executor->options.shutdown_timeout_ns = 0;
    run_until(executor, BEGIN + 1000 * SECOND);
    expect_signals(0, 0);
    assert_int_equal(executor->state, EXECUTOR_STOPPING);
    for (int32_t i = 0; i < RANKS; i++)
        executor->judge.ranks[i].has_ended = true;
    executor_on_clock(executor, BEGIN + 1000 * SECOND + 1);
    assert_int_equal(executor->state, EXECUTOR_CLOSED);
    assert_int_equal(executor->shutdown_status, COHORT_OK);
    close_executor(executor);
}

/* Only those who are still there. */
static void ended_ranks_get_no_signal(void **state) {
    (void)state;
    cohort_executor *executor = open_executor(EXECUTOR_STOPPING);
    executor->judge.ranks[0].has_ended = executor->judge.ranks[2].has_ended = true;
    run_until(executor, BEGIN + 10 * SECOND);
    assert_int_equal(n_signals, 2);
    assert_int_equal(signals[0].pid, 1001);
    assert_int_equal(signals[1].pid, 1001);
    close_executor(executor);
}

static void progress_is_reported_once_each(void **state) {
    (void)state;
    cohort_executor *executor = open_executor(EXECUTOR_LOAD);
    executor->options.on_progress = report;
    executor->ranks[1].row->done = 5;
    executor_on_clock(executor, BEGIN + 1);
    executor_on_clock(executor, BEGIN + 2);
    assert_int_equal(n_reports, 1);
    assert_int_equal(reported_rank, 1);
    close_executor(executor);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(silent_process_is_told_when_the_limit_has_passed),
        cmocka_unit_test(rank_that_ended_or_never_began_is_not_silent),
        cmocka_unit_test(stuck_step_is_told_when_the_limit_has_passed),
        cmocka_unit_test(progress_moves_the_limit_to_when_it_was_seen),
        cmocka_unit_test(rank_that_never_took_the_step_is_named),
        cmocka_unit_test(progress_of_a_rank_excuses_an_overdue_next_call),
        cmocka_unit_test(step_that_was_answered_is_not_pending),
        cmocka_unit_test(frozen_world_counts_from_when_it_goes_on),
        cmocka_unit_test(late_tick_is_no_freeze),
        cmocka_unit_test(each_phase_has_its_own_limit),
        cmocka_unit_test(first_rank_that_is_late_is_named),
        cmocka_unit_test(limits_of_zero_are_none),
        cmocka_unit_test(suspicion_becomes_the_failure_in_time),
        cmocka_unit_test(death_comes_before_suspicion),
        cmocka_unit_test(monitor_looks_often_enough),
        cmocka_unit_test(shutdown_keeps_to_its_limit),
        cmocka_unit_test(failed_ranks_get_little_time),
        cmocka_unit_test(unlimited_shutdown_signals_nobody),
        cmocka_unit_test(ended_ranks_get_no_signal),
        cmocka_unit_test(progress_is_reported_once_each),
    };
    return run_with_counters(tests, sizeof tests / sizeof *tests);
}
