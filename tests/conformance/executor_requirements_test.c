/* SPDX-License-Identifier: Apache-2.0 */
/* The requirements of an executor: tests named r<number> stand for those of the same
 * number, and each runs on uni and on mp. */
#include "executor_world.h"

static void *shutdown_main(void *executor) {
    return (void *)(intptr_t)cohort_executor_shutdown(executor);
}

static void r20_shutdown_is_done_once_by_many(void **state) {
    pthread_t threads[4];
    cohort_executor *executor = start_world(state, 2, 1);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, shutdown_main, executor), 0);
    for (int i = 0; i < 4; i++) {
        void *result = NULL;
        pthread_join(threads[i], &result);
        assert_int_equal((intptr_t)result, COHORT_OK);
    }
    assert_int_equal(cohort_executor_shutdown(executor), COHORT_OK);
    /* A new thread may have the name of one of the executor's that is gone. */
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, shutdown_main, executor), 0);
    for (int i = 0; i < 4; i++) {
        void *result = NULL;
        pthread_join(threads[i], &result);
        assert_int_equal((intptr_t)result, COHORT_OK);
    }
    cohort_rpc rpc = rpc_of("noop", NULL, 0);
    assert_int_equal(cohort_collective_rpc(executor, &rpc, patience(), NULL),
                     COHORT_E_CLOSED);
    cohort_executor_destroy(executor);
}

static void r20_shutdown_ends_those_who_wait(void **state) {
    cohort_executor *executor = start_world(state, 1, 1);
    cohort_future *future = hold(executor);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, shutdown_main, executor), 0);
    assert_int_equal(cohort_future_wait(future, patience()), COHORT_E_CLOSED);
    let_go();
    pthread_join(thread, NULL);
    cohort_future_destroy(future);
    cohort_executor_destroy(executor);
}

static void *wait_main(void *future) {
    return (void *)(intptr_t)cohort_future_wait(future, patience());
}

/* A long reply takes a while to be read: the end comes before, amid and after that, seen
 * first by who waits for another call. */
static void r20_shutdown_may_meet_the_last_reply(void **state) {
    enum { ROUNDS = 16 };
    int32_t n = 60000000;
    int64_t whole_ns = 0;
    for (int i = ROUNDS; i > 0; i--) { /* the first is not disturbed, but measured */
        pthread_t reader, ender;
        void *result = NULL;
        cohort_executor *executor = start_world(state, 1, 1);
        int64_t before_ns = cohort_clock_ns();
        cohort_future *read = begin(executor, rpc_of("fill", &n, sizeof n));
        cohort_future *behind = begin(executor, rpc_of("noop", NULL, 0));
        assert_int_equal(pthread_create(&reader, NULL, wait_main, read), 0);
        if (whole_ns)
            usleep((useconds_t)(whole_ns / 1000 * i / ROUNDS));
        else
            assert_int_equal(cohort_future_wait(behind, patience()), COHORT_OK);
        if (!whole_ns) whole_ns = cohort_clock_ns() - before_ns;
        assert_int_equal(pthread_create(&ender, NULL, shutdown_main, executor), 0);
        cohort_status status = cohort_future_wait(behind, patience());
        assert_true(status == COHORT_OK || status == COHORT_E_CLOSED);
        pthread_join(reader, &result);
        assert_true((intptr_t)result == COHORT_OK || (intptr_t)result == COHORT_E_CLOSED);
        pthread_join(ender, NULL);
        cohort_future_destroy(read);
        cohort_future_destroy(behind);
        cohort_executor_destroy(executor);
    }
}

/* Both directions take what they promise, and refuse one byte more. */
static void r22_one_rule_sizes_every_queue(void **state) {
    enum { LONGEST = 100000 };
    static uint8_t payload[LONGEST + 1];
    cohort_executor_options options = options_of(state, 2, 1);
    options.max_step_bytes = LONGEST;
    options.max_reply_bytes = LONGEST;
    cohort_executor *executor = start(&options);
    cohort_future_destroy(call(executor, rpc_of("echo", payload, LONGEST)));
    int32_t n = LONGEST;
    cohort_future_destroy(call(executor, rpc_of("fill", &n, sizeof n)));
    cohort_future *future = NULL;
    cohort_rpc rpc = rpc_of("echo", payload, LONGEST + 1);
    assert_int_equal(cohort_collective_rpc(executor, &rpc, patience(), &future),
                     COHORT_E_INVALID);
    n++;
    rpc = rpc_of("fill", &n, sizeof n);
    assert_int_equal(cohort_collective_rpc(executor, &rpc, patience(), &future),
                     COHORT_E_INVALID);
    assert_int_equal(cohort_execute_model(executor, payload, LONGEST + 1, &future),
                     COHORT_E_INVALID);
    assert_int_equal(cohort_executor_check_health(executor, patience()), COHORT_OK);
    end(executor);
}

/* An error needs room where a reply needs none. */
static void r22_smallest_limits_suffice(void **state) {
    cohort_executor_options options = options_of(state, 2, 1);
    options.max_step_bytes = 1;
    options.max_reply_bytes = 1;
    cohort_executor *executor = start(&options);
    cohort_future_destroy(call(executor, rpc_of("echo", "a", 1)));
    cohort_future *future = NULL;
    cohort_rpc rpc = rpc_of("echo", "ab", 2);
    assert_int_equal(cohort_collective_rpc(executor, &rpc, patience(), &future),
                     COHORT_E_INVALID);
    assert_says("max_step_bytes");
    rpc = rpc_of("no such method", NULL, 0);
    assert_int_equal(cohort_collective_rpc(executor, &rpc, patience(), &future),
                     COHORT_E_INVALID);
    assert_says("no method 'no such method'");
    assert_int_equal(cohort_executor_check_health(executor, patience()), COHORT_OK);
    end(executor);
}

static void r23_steps_in_flight_are_limited(void **state) {
    static const struct {
        int32_t pp;
        bool is_async;
        int32_t limit;
    } cases[] = {{1, false, 1}, {1, true, 2}, {2, false, 2}, {2, true, 3}};
    for (size_t i = 0; i < 4; i++) {
        cohort_future *futures[4] = {NULL};
        cohort_future *refused = NULL;
        cohort_executor_options options = options_of(state, 1, cases[i].pp);
        options.async_scheduling = cases[i].is_async;
        cohort_executor *executor = start(&options);
        assert_int_equal(cohort_executor_max_in_flight(executor), cases[i].limit);
        cohort_future *busy = hold(executor);
        for (int32_t n = 0; n < cases[i].limit; n++)
            assert_int_equal(cohort_execute_model(executor, "s", 1, &futures[n]),
                             COHORT_OK);
        assert_int_equal(cohort_execute_model(executor, "s", 1, &refused),
                         COHORT_PENDING);
        assert_null(refused);
        let_go();
        assert_int_equal(cohort_future_wait(futures[0], patience()), COHORT_OK);
        assert_int_equal(cohort_execute_model(executor, "s", 1, &futures[3]), COHORT_OK);
        assert_int_equal(cohort_future_wait(futures[3], patience()), COHORT_OK);
        for (int32_t n = 0; n < 4; n++)
            cohort_future_destroy(futures[n]);
        cohort_future_destroy(busy);
        end(executor);
    }
}

/* The text says which rank is awaited, for which call, and what everybody does. */
static void r27_timeout_says_who_is_awaited(void **state) {
    cohort_executor *executor = start_world(state, 2, 1);
    cohort_future *future = hold(executor);
    assert_int_equal(cohort_future_wait(future, cohort_deadline_ms(SHORT_MS)),
                     COHORT_E_TIMEOUT);
    assert_int_equal(cohort_last_error()->rank, 0);
    assert_says("from rank 0: hold");
    assert_says("rank 1 in ");
    let_go();
    /* A timeout has consumed nothing. */
    assert_int_equal(cohort_future_wait(future, patience()), COHORT_OK);
    cohort_future_destroy(future);
    end(executor);
}

typedef struct told {
    _Atomic int times;
    cohort_error error;
    cohort_executor *executor;
    cohort_status shutdown;
} told;

static void tell(void *user_data, const cohort_error *error) {
    told *self = user_data;
    self->error = *error;
    atomic_fetch_add(&self->times, 1);
}

static void tell_and_shut_down(void *user_data, const cohort_error *error) {
    told *self = user_data;
    self->shutdown = cohort_executor_shutdown(self->executor);
    tell(user_data, error);
}

static void await_failure(cohort_executor *executor, cohort_error *out_error) {
    int64_t until_ns = patience();
    while (cohort_executor_failure(executor, out_error) >= 0 &&
           cohort_clock_ns() < until_ns)
        usleep(1000);
    assert_true(cohort_executor_failure(executor, out_error) < 0);
}

static void await_told(told *self) {
    int64_t until_ns = patience();
    while (!atomic_load(&self->times) && cohort_clock_ns() < until_ns)
        usleep(1000);
}

static cohort_future *make_rank_fail(cohort_executor *executor, int32_t rank) {
    return begin(executor, rpc_of("fail", &rank, sizeof rank));
}

static void r29_failure_callback_is_called_once(void **state) {
    told self = {.times = 0};
    cohort_error error;
    cohort_executor *executor = start_world(state, 2, 1);
    cohort_executor_register_failure_callback(executor, tell, &self);
    assert_int_equal(cohort_executor_check_health(executor, patience()), COHORT_OK);
    assert_int_equal(atomic_load(&self.times), 0);
    cohort_future_destroy(make_rank_fail(executor, 1));
    await_failure(executor, &error);
    await_told(&self);
    /* Registering again after it was told tells nobody twice. */
    cohort_executor_register_failure_callback(executor, tell, &self);
    cohort_executor_shutdown(executor);
    assert_int_equal(atomic_load(&self.times), 1);
    assert_int_equal(self.error.rank, 1);
    assert_non_null(strstr(self.error.message, "planted error of rank 1"));
    cohort_executor_destroy(executor);
}

static void r29_late_callback_is_called_at_once(void **state) {
    told self = {.times = 0};
    cohort_error error;
    cohort_executor *executor = start_world(state, 1, 1);
    cohort_future_destroy(make_rank_fail(executor, 0));
    await_failure(executor, &error);
    cohort_executor_register_failure_callback(executor, tell, &self);
    assert_int_equal(atomic_load(&self.times), 1);
    cohort_executor_destroy(executor);
    assert_int_equal(atomic_load(&self.times), 1);
}

static void r29_orderly_shutdown_is_no_failure(void **state) {
    told self = {.times = 0};
    cohort_executor *executor = start_world(state, 2, 1);
    cohort_executor_register_failure_callback(executor, tell, &self);
    end(executor);
    assert_int_equal(atomic_load(&self.times), 0);
}

static void r19_callback_may_shut_down(void **state) {
    told self = {.times = 0};
    cohort_executor *executor = start_world(state, 2, 1);
    self.executor = executor;
    cohort_executor_register_failure_callback(executor, tell_and_shut_down, &self);
    cohort_future_destroy(make_rank_fail(executor, 0));
    await_told(&self);
    assert_int_equal(self.shutdown, COHORT_PENDING);
    end(executor);
}

static void r30_every_call_ends_with_the_failed_ranks_own_words(void **state) {
    cohort_executor *executor = start_world(state, 2, 1);
    cohort_future *before = hold(executor);
    cohort_future *failing = make_rank_fail(executor, 1);
    cohort_future *behind = begin(executor, rpc_of("noop", NULL, 0));
    let_go();
    assert_int_equal(cohort_future_wait(failing, patience()), COHORT_E_DEVICE);
    assert_int_equal(cohort_last_error()->rank, 1);
    assert_says("rank 1, fail (call ");
    assert_says("planted error of rank 1");
    assert_int_equal(cohort_future_wait(behind, patience()), COHORT_E_DEVICE);
    assert_says("planted error of rank 1");
    cohort_rpc rpc = rpc_of("noop", NULL, 0);
    assert_int_equal(cohort_collective_rpc(executor, &rpc, patience(), NULL),
                     COHORT_E_DEVICE);
    assert_says("planted error of rank 1");
    cohort_future *step = NULL;
    assert_int_equal(cohort_execute_model(executor, "s", 1, &step), COHORT_E_DEVICE);
    cohort_future_destroy(before);
    cohort_future_destroy(failing);
    cohort_future_destroy(behind);
    end(executor);
}

/* vLLM notices this after 300 s: only its output rank replies, and that one waits. */
static void r30_error_of_a_silent_rank_ends_the_step_at_once(void **state) {
    const char *const config[] = {"fault=execute:1:error", "barrier=1", NULL};
    cohort_executor *executor = start_with(state, 2, 1, config);
    cohort_future *step = NULL;
    assert_int_equal(cohort_execute_model(executor, "s", 1, &step), COHORT_OK);
    int64_t before_ns = cohort_clock_ns();
    assert_int_equal(cohort_future_wait(step, patience()), COHORT_E_DEVICE);
    assert_true(cohort_clock_ns() - before_ns < INT64_C(20000000000));
    assert_int_equal(cohort_last_error()->rank, 1);
    assert_says("rank 1, execute (call 1)");
    cohort_future_destroy(step);
    end(executor);
}

static void r30_refused_call_fails_alone(void **state) {
    cohort_executor *executor = start_world(state, 2, 1);
    for (int32_t refuser = 0; refuser < 2; refuser++) {
        cohort_rpc rpc = rpc_of("refuse", &refuser, sizeof refuser);
        assert_int_equal(cohort_collective_rpc(executor, &rpc, patience(), NULL),
                         COHORT_E_INVALID);
        assert_int_equal(cohort_last_error()->rank, refuser);
        assert_says("will not");
    }
    assert_int_equal(cohort_executor_check_health(executor, patience()), COHORT_OK);
    end(executor);
}

static void count_unheard(void *user_data, cohort_log_level level, const char *line) {
    (void)level;
    if (strstr(line, "event=refused_unheard method=refuse") && strstr(line, "will not"))
        atomic_fetch_add((atomic_int *)user_data, 1);
}

/* It races with the reply: either the call fails, or the log says it. */
static void r30_refusal_of_a_silent_rank_is_not_lost(void **state) {
    enum { CALLS = 200 };
    static atomic_int n_unheard; /* outlives the sink's last call */
    int n_refused = 0;
    int32_t refuser = 1;
    cohort_executor *executor = start_world(state, 2, 1);
    atomic_store(&n_unheard, 0);
    cohort_log_set_sink(count_unheard, COHORT_LOG_WARNING, &n_unheard);
    cohort_rpc rpc = rpc_of("refuse", &refuser, sizeof refuser);
    rpc.reply_rank = 0;
    for (int i = 0; i < CALLS; i++)
        n_refused +=
            cohort_collective_rpc(executor, &rpc, patience(), NULL) == COHORT_E_INVALID;
    int64_t until_ns = patience();
    while (n_refused + atomic_load(&n_unheard) < CALLS && cohort_clock_ns() < until_ns)
        usleep(1000);
    assert_int_equal(n_refused + atomic_load(&n_unheard), CALLS);
    end(executor);
    cohort_log_set_sink(NULL, COHORT_LOG_ERROR, NULL);
}

static void count_stacks(void *user_data, cohort_log_level level, const char *line) {
    (void)level;
    if (strstr(line, " rank=1 ") && strstr(line, "event=stack"))
        atomic_fetch_add((atomic_int *)user_data, 1);
}

/* And where the rank is, of a process. */
static void r31_stuck_step_is_a_hang_that_names_the_rank(void **state) {
    const char *const config[] = {"fault=execute:1:spin", "spin_ms=4000", "barrier=1",
                                  NULL};
    cohort_executor_options options = options_of(state, 2, 1);
    options.config = config;
    options.execute_timeout_ns = 1000000000;
    options.shutdown_timeout_ns = PATIENCE_MS * INT64_C(1000000);
    bool is_process = !strcmp(*state, "mp");
    static atomic_int n_stacks;
    atomic_store(&n_stacks, 0);
    cohort_log_set_sink(count_stacks, COHORT_LOG_ERROR, &n_stacks);
    cohort_executor *executor = start(&options);
    cohort_future *step = NULL;
    assert_int_equal(cohort_execute_model(executor, "s", 1, &step), COHORT_OK);
    assert_int_equal(cohort_future_wait(step, patience()), COHORT_E_HUNG);
    assert_int_equal(cohort_last_error()->rank, 1);
    /* Its own word, unless the machine was too busy to let it say so in time. */
    if (is_process && !strstr(cohort_last_error()->message, " s, in state "))
        assert_says(" s, at +0x");
    assert_says("rank 1 (pid ");
    assert_says("no progress");
    assert_says("rank 0 waits for rank 1 in execute (call 1)");
    cohort_future_destroy(step);
    end(executor);
    cohort_log_set_sink(NULL, COHORT_LOG_ERROR, NULL);
    if (is_process) assert_true(atomic_load(&n_stacks) > 1); /* of threads */
}

static void r31_idle_executor_is_not_hung(void **state) {
    cohort_executor_options options = options_of(state, 2, 1);
    options.execute_timeout_ns = 1000000000;
    options.hang_timeout_ns = 10000000000;
    cohort_executor *executor = start(&options);
    cohort_future *step = NULL;
    assert_int_equal(cohort_execute_model(executor, "s", 1, &step), COHORT_OK);
    assert_int_equal(cohort_future_wait(step, patience()), COHORT_OK);
    cohort_future_destroy(step);
    usleep(2 * 1000000);
    assert_int_equal(cohort_executor_failure(executor, NULL), COHORT_OK);
    end(executor);
}

/* Asked first: a worker that needs its time gets it, and reports nothing bad. */
/* A caller may rest before it sends masks. */
static void r31_who_waits_for_masks_is_not_hung(void **state) {
    cohort_executor_options options = options_of(state, 2, 1);
    options.execute_timeout_ns = 1000000000;
    options.hang_timeout_ns = 10000000000;
    cohort_executor *executor = start(&options);
    cohort_future *step = NULL;
    assert_int_equal(
        cohort_execute_masked_model(executor, TEST_MASKED, sizeof TEST_MASKED, &step),
        COHORT_OK);
    usleep(2 * 1000000);
    assert_int_equal(cohort_execute_masks(executor, "m", 1), COHORT_OK);
    assert_int_equal(cohort_future_wait(step, patience()), COHORT_OK);
    cohort_future_destroy(step);
    end(executor);
}

static void r33_slow_worker_is_given_its_time(void **state) {
    const char *const config[] = {"pause_ms=200", NULL};
    cohort_executor_options options = options_of(state, 2, 1);
    options.config = config;
    options.shutdown_timeout_ns = PATIENCE_MS * INT64_C(1000000);
    cohort_executor *executor = start(&options);
    int64_t before_ns = cohort_clock_ns();
    assert_int_equal(cohort_executor_shutdown(executor), COHORT_OK);
    int64_t spent_ns = cohort_clock_ns() - before_ns;
    assert_true(spent_ns >= 200000000 && spent_ns < PATIENCE_MS * INT64_C(600000));
    cohort_executor_destroy(executor);
}

/* A driver reaches what stands in the two tables, whatever it calls it. */
static void r43_methods_come_from_a_table(void **state) {
    static const char *const names[] = {"open",      "close", "execute", "system",
                                        "__class__", "noop ", "NOOP"};
    cohort_executor *executor = start_world(state, 2, 1);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        cohort_rpc rpc = rpc_of(names[i], NULL, 0);
        for (rpc.reply_rank = COHORT_ALL_RANKS; rpc.reply_rank < 2; rpc.reply_rank++)
            assert_int_equal(cohort_collective_rpc(executor, &rpc, patience(), NULL),
                             COHORT_E_INVALID);
    }
    cohort_rpc rpc = rpc_of("", NULL, 0);
    assert_int_equal(cohort_collective_rpc(executor, &rpc, patience(), NULL),
                     COHORT_E_INVALID);
    assert_int_equal(cohort_executor_check_health(executor, patience()), COHORT_OK);
    end(executor);
}

/* A start that fails in any phase is unwound: no thread, process, socket or file. */
static void r21_half_made_world_is_unwound(void **state) {
    static const char *const faults[] = {"fault=open:0:error", "fault=open:1:error",
                                         "fault=load:0:error", "fault=load:1:error"};
    count_counters();
    int fds = count_entries("/proc/self/fd");
    int threads = count_entries("/proc/self/task");
    for (size_t i = 0; i < 4; i++) {
        const char *const config[] = {faults[i], NULL};
        cohort_executor_options options = options_of(state, 2, 1);
        cohort_executor *executor = NULL;
        options.config = config;
        assert_int_equal(cohort_executor_start(&options, &executor), COHORT_E_DEVICE);
        assert_null(executor);
        assert_says(i % 2 ? "rank 1, load" : "rank 0, load");
        assert_says("planted error");
        assert_int_equal(count_entries("/proc/self/fd"), fds);
        assert_int_equal(count_counters(), 0);
    }
    await_threads(threads);
}

int main(int argc, char **argv) {
    if (test_worker_is_asked(argc, argv)) return test_worker_main(argv);
    const struct CMUnitTest tests[] = {
        ON_BOTH(r19_callback_may_shut_down),
        ON_BOTH(r20_shutdown_is_done_once_by_many),
        ON_BOTH(r20_shutdown_ends_those_who_wait),
        ON_BOTH(r20_shutdown_may_meet_the_last_reply),
        ON_BOTH(r21_half_made_world_is_unwound),
        ON_BOTH(r22_one_rule_sizes_every_queue),
        ON_BOTH(r22_smallest_limits_suffice),
        ON_BOTH(r23_steps_in_flight_are_limited),
        ON_BOTH(r27_timeout_says_who_is_awaited),
        ON_BOTH(r29_failure_callback_is_called_once),
        ON_BOTH(r29_late_callback_is_called_at_once),
        ON_BOTH(r29_orderly_shutdown_is_no_failure),
        ON_BOTH(r30_every_call_ends_with_the_failed_ranks_own_words),
        ON_BOTH(r30_error_of_a_silent_rank_ends_the_step_at_once),
        ON_BOTH(r30_refused_call_fails_alone),
        ON_BOTH(r30_refusal_of_a_silent_rank_is_not_lost),
        ON_BOTH(r31_stuck_step_is_a_hang_that_names_the_rank),
        ON_BOTH(r31_idle_executor_is_not_hung),
        ON_BOTH(r31_who_waits_for_masks_is_not_hung),
        ON_BOTH(r33_slow_worker_is_given_its_time),
        ON_BOTH(r43_methods_come_from_a_table),
    };
    return cmocka_run_group_tests(tests, enter_home, leave_home);
}
