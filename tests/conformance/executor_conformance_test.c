/* SPDX-License-Identifier: Apache-2.0 */
/* One suite for every backend of an executor: each test runs on uni and on mp.  Tests
 * named r<number> stand for the requirements of the same number.  What only processes can
 * suffer (signals, missing programs) is in tests/scenario/kill_test.c. */
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
#include "test_worker.h"

/* Deadlines that are meant to be kept are generous, those meant to pass are short. */
enum { PATIENCE_MS = 60000, SHORT_MS = 30 };

static int64_t patience(void) { return cohort_deadline_ms(PATIENCE_MS); }

static cohort_executor_options options_of(void **state, int32_t tp, int32_t pp) {
    cohort_executor_options options = cohort_executor_defaults();
    options.backend = *state;
    options.tp = tp;
    options.pp = pp;
    options.worker_command = "/proc/self/exe";
    options.worker_ops = test_worker_ops();
    options.hang_timeout_ns = PATIENCE_MS * INT64_C(1000000);
    return options;
}

static cohort_executor *start(const cohort_executor_options *options) {
    cohort_executor *executor = NULL;
    if (cohort_executor_start(options, &executor) < 0)
        fail_msg("%s", cohort_last_error()->message);
    return executor;
}

static cohort_executor *start_world(void **state, int32_t tp, int32_t pp) {
    cohort_executor_options options = options_of(state, tp, pp);
    return start(&options);
}

static cohort_executor *start_with(void **state, int32_t tp, int32_t pp,
                                   const char *const *config) {
    cohort_executor_options options = options_of(state, tp, pp);
    options.config = config;
    return start(&options);
}

static void end(cohort_executor *executor) {
    cohort_status failure = cohort_executor_failure(executor, NULL);
    if (cohort_executor_shutdown(executor) != failure)
        fail_msg("%s", cohort_last_error()->message);
    cohort_executor_destroy(executor);
}

static cohort_rpc rpc_of(const char *method, const void *payload, size_t size_bytes) {
    return (cohort_rpc){.method = method,
                        .payload = payload,
                        .size_bytes = size_bytes,
                        .reply_rank = COHORT_ALL_RANKS};
}

static cohort_future *begin(cohort_executor *executor, cohort_rpc rpc) {
    cohort_future *future = NULL;
    if (cohort_collective_rpc_begin(executor, &rpc, patience(), &future) < 0)
        fail_msg("%s", cohort_last_error()->message);
    return future;
}

static cohort_future *call(cohort_executor *executor, cohort_rpc rpc) {
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
static cohort_future *hold(cohort_executor *executor) {
    const char *path = held_path();
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fclose(file);
    return begin(executor, rpc_of("hold", path, strlen(path) + 1));
}

static void let_go(void) { assert_int_equal(unlink(held_path()), 0); }

static void assert_says(const char *word) {
    if (!strstr(cohort_last_error()->message, word))
        fail_msg("'%s' is not in: %s", word, cohort_last_error()->message);
}

/* ---- who is who --------------------------------------------------------------- */

static void ranks_know_their_place(void **state) {
    static const int32_t layouts[][2] = {{1, 1}, {2, 1}, {4, 1}, {1, 2}, {2, 2}};
    for (size_t i = 0; i < sizeof layouts / sizeof layouts[0]; i++) {
        int32_t tp = layouts[i][0];
        int32_t pp = layouts[i][1];
        cohort_executor *executor = start_world(state, tp, pp);
        cohort_future *future = call(executor, rpc_of("where", NULL, 0));
        assert_int_equal(cohort_executor_world_size(executor), tp * pp);
        assert_int_equal(cohort_executor_output_rank(executor), (pp - 1) * tp);
        assert_int_equal(cohort_future_reply_count(future), tp * pp);
        for (int32_t rank = 0; rank < tp * pp; rank++) {
            int32_t from = -1;
            const void *bytes = NULL;
            size_t size_bytes = 0;
            test_where where;
            cohort_rank_info info;
            cohort_future_reply(future, rank, &from, &bytes, &size_bytes);
            assert_int_equal(from, rank);
            assert_int_equal(size_bytes, sizeof where);
            memcpy(&where, bytes, sizeof where);
            assert_int_equal(where.rank, rank);
            assert_int_equal(where.world_size, tp * pp);
            assert_int_equal(where.tp_rank, rank % tp);
            assert_int_equal(where.pp_rank, rank / tp);
            assert_int_equal(where.is_output_rank, rank == (pp - 1) * tp);
            cohort_executor_describe_rank(executor, rank, &info);
            assert_int_equal(info.pid, where.pid);
            assert_string_equal(info.transport, "shared memory");
            assert_int_equal(info.pid == getpid(), !strcmp(*state, "uni"));
        }
        cohort_future_destroy(future);
        end(executor);
    }
}

static void configuration_reaches_every_rank(void **state) {
    const char *const config[] = {"model=/a b/c", "empty=", "n=1=2", NULL};
    cohort_executor *executor = start_with(state, 2, 1, config);
    cohort_future *future = call(executor, rpc_of("config", "model", 6));
    for (int32_t i = 0; i < 2; i++) {
        const void *bytes = NULL;
        size_t size_bytes = 0;
        cohort_future_reply(future, i, NULL, &bytes, &size_bytes);
        assert_int_equal(size_bytes, 6);
        assert_memory_equal(bytes, "/a b/c", 6);
    }
    cohort_future_destroy(future);
    end(executor);
}

static void bad_options_are_refused_by_name(void **state) {
    const char *const bad_config[] = {"no-equals-sign", NULL};
    cohort_executor *executor = NULL;
    cohort_executor_options options = options_of(state, 0, 1);
    assert_int_equal(cohort_executor_start(&options, &executor), COHORT_E_INVALID);
    assert_says("tp 0");
    options = options_of(state, 33, 32);
    assert_int_equal(cohort_executor_start(&options, &executor), COHORT_E_INVALID);
    assert_says("tp 33 and pp 32: at least 1 each, at most 1024 ranks");
    options = options_of(state, 1, 1);
    options.backend = "horse";
    assert_int_equal(cohort_executor_start(&options, &executor), COHORT_E_INVALID);
    assert_says("horse");
    options = options_of(state, 1, 1);
    options.config = bad_config;
    assert_int_equal(cohort_executor_start(&options, &executor), COHORT_E_INVALID);
    assert_says("no-equals-sign");
    options = options_of(state, 1, 1);
    options.instance = "../x";
    assert_int_equal(cohort_executor_start(&options, &executor), COHORT_E_INVALID);
    assert_says("../x");
    assert_null(executor);
}

/* ---- calls -------------------------------------------------------------------- */

static void payloads_of_all_sizes_come_back(void **state) {
    static const size_t sizes[] = {0, 1, 7, 1024, 8192, 32700, 40000, 3000001};
    uint8_t *payload = malloc(sizes[7]);
    assert_non_null(payload);
    for (size_t i = 0; i < sizes[7]; i++)
        payload[i] = (uint8_t)(i * 31 + i / 251);
    cohort_executor *executor = start_world(state, 2, 1);
    for (size_t i = 0; i < 8; i++) {
        cohort_future *future = call(executor, rpc_of("echo", payload, sizes[i]));
        for (int32_t rank = 0; rank < 2; rank++) {
            const void *bytes = NULL;
            size_t size_bytes = 1;
            cohort_future_reply(future, rank, NULL, &bytes, &size_bytes);
            assert_int_equal(size_bytes, sizes[i]);
            if (sizes[i]) assert_memory_equal(bytes, payload, sizes[i]);
        }
        cohort_future_destroy(future);
    }
    end(executor);
    free(payload);
}

static void only_the_unique_reply_rank_replies(void **state) {
    cohort_executor *executor = start_world(state, 2, 1);
    for (int32_t rank = 0; rank < 2; rank++) {
        cohort_rpc rpc = rpc_of("where", NULL, 0);
        test_where where;
        const void *bytes = NULL;
        size_t size_bytes = 0;
        int32_t from = -1;
        rpc.reply_rank = rank;
        cohort_future *future = call(executor, rpc);
        assert_int_equal(cohort_future_reply_count(future), 1);
        cohort_future_reply(future, 0, &from, &bytes, &size_bytes);
        memcpy(&where, bytes, sizeof where);
        assert_int_equal(from, rank);
        assert_int_equal(where.rank, rank);
        cohort_future_destroy(future);
    }
    cohort_rpc rpc = rpc_of("noop", NULL, 0);
    rpc.reply_rank = 2;
    cohort_future *future = NULL;
    assert_int_equal(cohort_collective_rpc_begin(executor, &rpc, patience(), &future),
                     COHORT_E_INVALID);
    assert_null(future);
    end(executor);
}

static void futures_complete_in_the_order_of_their_calls(void **state) {
    enum { N = 12 };
    cohort_future *futures[N];
    cohort_executor *executor = start_world(state, 2, 1);
    for (int32_t i = 0; i < N; i++)
        futures[i] = begin(executor, rpc_of("echo", &i, sizeof i));
    /* Waiting for the last one completes them all. */
    assert_int_equal(cohort_future_wait(futures[N - 1], patience()), COHORT_OK);
    for (int32_t i = 0; i < N; i++) {
        const void *bytes = NULL;
        size_t size_bytes = 0;
        assert_int_equal(cohort_future_reply_count(futures[i]), 2);
        assert_int_equal(cohort_future_poll(futures[i]), COHORT_OK);
        cohort_future_reply(futures[i], 1, NULL, &bytes, &size_bytes);
        assert_int_equal(size_bytes, sizeof i);
        assert_memory_equal(bytes, &i, sizeof i);
        cohort_future_destroy(futures[i]);
    }
    end(executor);
}

static void many_unread_calls_neither_block_nor_vanish(void **state) {
    enum { N = 3 * COHORT_MAX_PENDING_CALLS, BIG = 200000 };
    static uint8_t big[BIG];
    cohort_future *futures[N];
    cohort_executor *executor = start_world(state, 2, 1);
    for (int32_t i = 0; i < N; i++) /* every seventh is longer than a slot */
        futures[i] = begin(executor, i % 7 ? rpc_of("echo", &i, sizeof i)
                                           : rpc_of("echo", big, BIG));
    for (int32_t i = 0; i < N; i++) {
        const void *bytes = NULL;
        size_t size_bytes = 0;
        assert_int_equal(cohort_future_wait(futures[i], patience()), COHORT_OK);
        cohort_future_reply(futures[i], 0, NULL, &bytes, &size_bytes);
        assert_int_equal(size_bytes, i % 7 ? sizeof i : BIG);
        cohort_future_destroy(futures[i]);
    }
    end(executor);
}

static void abandoned_futures_do_not_disturb_later_ones(void **state) {
    cohort_executor *executor = start_world(state, 2, 1);
    for (int32_t i = 0; i < 100; i++) {
        cohort_future_destroy(begin(executor, rpc_of("echo", &i, sizeof i)));
        if (i % 10) continue;
        const void *bytes = NULL;
        size_t size_bytes = 0;
        int32_t mine = i * 1000;
        cohort_future *future = call(executor, rpc_of("echo", &mine, sizeof mine));
        cohort_future_reply(future, 0, NULL, &bytes, &size_bytes);
        assert_memory_equal(bytes, &mine, sizeof mine);
        cohort_future_destroy(future);
    }
    end(executor);
}

typedef struct caller {
    pthread_t thread;
    cohort_executor *executor;
    int32_t number;
    int32_t n_right;
} caller;

static void *caller_main(void *argument) {
    caller *self = argument;
    for (int32_t i = 0; i < 200; i++) {
        int32_t mine = self->number * 1000 + i;
        const void *bytes = NULL;
        size_t size_bytes = 0;
        cohort_future *future = NULL;
        cohort_rpc rpc = rpc_of("echo", &mine, sizeof mine);
        if (cohort_collective_rpc(self->executor, &rpc, patience(), &future) < 0) break;
        cohort_future_reply(future, 1, NULL, &bytes, &size_bytes);
        self->n_right += size_bytes == sizeof mine && !memcmp(bytes, &mine, sizeof mine);
        cohort_future_destroy(future);
    }
    return NULL;
}

static void threads_may_call_at_the_same_time(void **state) {
    caller callers[4];
    cohort_executor *executor = start_world(state, 2, 1);
    for (int32_t i = 0; i < 4; i++) {
        callers[i] = (caller){.executor = executor, .number = i};
        assert_int_equal(
            pthread_create(&callers[i].thread, NULL, caller_main, &callers[i]), 0);
    }
    for (int32_t i = 0; i < 4; i++) {
        pthread_join(callers[i].thread, NULL);
        assert_int_equal(callers[i].n_right, 200);
    }
    end(executor);
}

static void poll_does_not_wait(void **state) {
    cohort_executor *executor = start_world(state, 1, 1);
    cohort_future *future = hold(executor);
    assert_int_equal(cohort_future_poll(future), COHORT_PENDING);
    assert_int_equal(cohort_future_reply_count(future), 0);
    let_go();
    int64_t until_ns = patience();
    while (cohort_future_poll(future) == COHORT_PENDING && cohort_clock_ns() < until_ns)
        usleep(1000);
    assert_int_equal(cohort_future_poll(future), COHORT_OK);
    cohort_future_destroy(future);
    end(executor);
}

static void step_is_answered_by_the_output_rank(void **state) {
    cohort_executor *executor = start_world(state, 2, 2);
    for (int32_t i = 0; i < 20; i++) {
        cohort_future *future = NULL;
        int32_t from = -1;
        const void *bytes = NULL;
        size_t size_bytes = 0;
        int32_t expected[2] = {2, i};
        assert_int_equal(cohort_execute_model(executor, &i, sizeof i, &future),
                         COHORT_OK);
        assert_int_equal(cohort_future_wait(future, patience()), COHORT_OK);
        assert_int_equal(cohort_future_reply_count(future), 1);
        cohort_future_reply(future, 0, &from, &bytes, &size_bytes);
        assert_int_equal(from, 2);
        assert_int_equal(size_bytes, sizeof expected);
        assert_memory_equal(bytes, expected, sizeof expected);
        cohort_future_destroy(future);
    }
    end(executor);
}

static void *echo_main(void *argument) {
    caller *self = argument;
    cohort_rpc rpc = rpc_of("echo", &self->number, sizeof self->number);
    self->n_right = cohort_collective_rpc(self->executor, &rpc, patience(), NULL) >= 0;
    return NULL;
}

/* Short and long masks; who calls in between comes behind them. */
static void masks_follow_their_step(void **state) {
    cohort_executor *executor = start_world(state, 2, 2);
    size_t long_bytes = 1 << 20;
    uint8_t *masks = calloc(1, long_bytes);
    cohort_rpc rpc = rpc_of("noop", NULL, 0);
    assert_non_null(masks);
    for (size_t size = 8; size <= long_bytes; size *= 8) {
        cohort_future *before, *step, *refused = NULL;
        const void *bytes = NULL;
        size_t size_bytes = 0;
        caller other = {.executor = executor, .number = 7};
        memset(masks, (int)size / 7, size);
        assert_int_equal(cohort_execute_model(executor, "s", 1, &before), COHORT_OK);
        assert_int_equal(
            cohort_execute_masked_model(executor, TEST_MASKED, sizeof TEST_MASKED, &step),
            COHORT_OK);
        assert_int_equal(pthread_create(&other.thread, NULL, echo_main, &other), 0);
        assert_int_equal(cohort_collective_rpc(executor, &rpc, patience(), NULL),
                         COHORT_E_INVALID);
        assert_says("waits for its masks");
        assert_int_equal(cohort_execute_model(executor, "s", 1, &refused),
                         COHORT_E_INVALID);
        assert_null(refused);
        assert_int_equal(cohort_future_poll(step), COHORT_PENDING);
        assert_int_equal(cohort_execute_masks(executor, masks, size), COHORT_OK);
        assert_int_equal(cohort_execute_masks(executor, masks, size), COHORT_E_INVALID);
        assert_int_equal(cohort_future_wait(step, patience()), COHORT_OK);
        cohort_future_reply(step, 0, NULL, &bytes, &size_bytes);
        assert_int_equal(size_bytes, sizeof(int32_t) + size);
        assert_memory_equal((const uint8_t *)bytes + sizeof(int32_t), masks, size);
        pthread_join(other.thread, NULL);
        assert_true(other.n_right);
        cohort_future_destroy(before);
        cohort_future_destroy(step);
    }
    free(masks);
    end(executor);
}

static void a_step_without_its_masks_ends_with_the_executor(void **state) {
    cohort_executor *executor = start_world(state, 2, 1);
    caller other = {.executor = executor};
    cohort_future *step;
    assert_int_equal(
        cohort_execute_masked_model(executor, TEST_MASKED, sizeof TEST_MASKED, &step),
        COHORT_OK);
    assert_int_equal(pthread_create(&other.thread, NULL, echo_main, &other), 0);
    assert_int_equal(cohort_executor_shutdown(executor), COHORT_OK);
    pthread_join(other.thread, NULL);
    assert_false(other.n_right);
    assert_int_equal(cohort_future_wait(step, patience()), COHORT_E_CLOSED);
    cohort_future_destroy(step);
    cohort_executor_destroy(executor);
}

/* ---- requirements ------------------------------------------------------------- */

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

static void r31_stuck_step_is_a_hang_that_names_the_rank(void **state) {
    const char *const config[] = {"fault=execute:1:spin", "spin_ms=4000", "barrier=1",
                                  NULL};
    cohort_executor_options options = options_of(state, 2, 1);
    options.config = config;
    options.execute_timeout_ns = 1000000000;
    options.shutdown_timeout_ns = PATIENCE_MS * INT64_C(1000000);
    cohort_executor *executor = start(&options);
    cohort_future *step = NULL;
    assert_int_equal(cohort_execute_model(executor, "s", 1, &step), COHORT_OK);
    assert_int_equal(cohort_future_wait(step, patience()), COHORT_E_HUNG);
    assert_int_equal(cohort_last_error()->rank, 1);
    assert_says("rank 1 (pid ");
    assert_says("no progress");
    assert_says("rank 0 waits for rank 1 in execute (call 1)");
    cohort_future_destroy(step);
    end(executor);
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

/* ---- extensions --------------------------------------------------------------- */

#define EXTENSION COHORT_BUILD_DIR "/probe_extension.so"

static cohort_status start_extended(void **state, const char *spec,
                                    cohort_executor **out_executor) {
    cohort_executor_options options = options_of(state, 2, 1);
    options.worker_extension = spec;
    return cohort_executor_start(&options, out_executor);
}

static void extension_adds_methods_to_every_rank(void **state) {
    cohort_executor *executor = NULL;
    assert_int_equal(start_extended(state, EXTENSION ":install", &executor), COHORT_OK);
    cohort_future *future = call(executor, rpc_of("ext_where", NULL, 0));
    assert_int_equal(cohort_future_reply_count(future), 2);
    for (int32_t i = 0; i < 2; i++) {
        int32_t rank;
        const void *bytes;
        size_t size;
        cohort_future_reply(future, i, &rank, &bytes, &size);
        assert_int_equal(size, 6);
        assert_memory_equal(bytes, rank ? "rank 1" : "rank 0", 6);
    }
    cohort_future_destroy(future);
    cohort_rpc refused = rpc_of("ext_refuse", NULL, 0);
    assert_int_equal(cohort_collective_rpc(executor, &refused, patience(), NULL),
                     COHORT_E_INVALID);
    assert_says("not today");
    assert_int_equal(cohort_executor_check_health(executor, patience()), COHORT_OK);
    int32_t victim = 1;
    cohort_rpc failing = rpc_of("ext_fail_mutely", &victim, sizeof victim);
    assert_int_equal(cohort_collective_rpc(executor, &failing, patience(), NULL),
                     COHORT_E_DEVICE);
    assert_says("rank 1, ext_fail_mutely");
    assert_says("did not say why");
    end(executor);
}

static void extension_that_cannot_be_fails_the_start(void **state) {
    static const struct {
        const char *spec;
        cohort_status status;
        const char *said[2];
    } cases[] = {
        {EXTENSION ":install_on_0_only",
         COHORT_E_DEVICE,
         {"rank 1, load: no room for rank 1 of 2", "install_on_0_only"}},
        {EXTENSION ":install_taken",
         COHORT_E_INVALID,
         {"'check_health' already", ", load"}},
        {EXTENSION ":nothing", COHORT_E_INVALID, {"has no function 'nothing'", ", load"}},
        {"/nowhere/it.so:f", COHORT_E_INVALID, {"/nowhere/it.so", "worker extension"}},
        {"./no-such.so:f", COHORT_E_INVALID, {"/./no-such.so", "worker extension"}},
        {"it.so", COHORT_E_INVALID, {"'it.so' is no LIB.so:SYMBOL", "worker extension"}},
        {"it.so:", COHORT_E_INVALID, {"is no LIB.so:SYMBOL", "worker extension"}}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cohort_executor *executor = NULL;
        assert_int_equal(start_extended(state, cases[i].spec, &executor),
                         cases[i].status);
        assert_says(cases[i].said[0]);
        assert_says(cases[i].said[1]);
    }
}

/* ---- nothing is left ---------------------------------------------------------- */

static void await_threads(int threads) {
    int64_t until_ns = patience(); /* a joined thread leaves /proc a moment later */
    while (count_entries("/proc/self/task") > threads && cohort_clock_ns() < until_ns)
        usleep(1000);
    assert_int_equal(count_entries("/proc/self/task"), threads);
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

static void cancel(void *user_data, int32_t rank, uint64_t done, uint64_t total) {
    (void)rank;
    (void)done;
    (void)total;
    assert_int_equal(eventfd_write(*(int *)user_data, 1), 0);
}

/* While both ranks load, one of them for ever. */
static void start_under_way_can_be_cancelled(void **state) {
    const char *const config[] = {"fault=load:1:obey", NULL};
    cohort_executor_options options = options_of(state, 2, 1);
    cohort_executor *executor = NULL;
    int fds = count_entries("/proc/self/fd");
    int threads = count_entries("/proc/self/task");
    int fd = eventfd(0, EFD_CLOEXEC);
    options.config = config;
    options.cancel_fd = fd;
    options.on_progress = cancel;
    options.user_data = &fd;
    options.shutdown_timeout_ns = PATIENCE_MS * INT64_C(1000000);
    assert_int_equal(cohort_executor_start(&options, &executor), COHORT_E_CANCELLED);
    assert_null(executor);
    assert_int_equal(cohort_last_error()->rank, COHORT_RANK_LOCAL);
    assert_says("told to stop during load");
    /* It stays so: the next is over before it begins. */
    options.on_progress = NULL;
    assert_int_equal(cohort_executor_start(&options, &executor), COHORT_E_CANCELLED);
    assert_says("before any rank started");
    close(fd);
    assert_int_equal(count_entries("/proc/self/fd"), fds);
    assert_int_equal(count_counters(), 0);
    assert_false(has_children());
    await_threads(threads);
}

static void started_executor_is_not_cancelled(void **state) {
    cohort_executor_options options = options_of(state, 2, 1);
    int fd = options.cancel_fd = eventfd(0, EFD_CLOEXEC);
    cohort_executor *executor = start(&options);
    assert_int_equal(eventfd_write(fd, 1), 0);
    for (int i = 0; i < 20; i++)
        assert_int_equal(cohort_executor_check_health(executor, patience()), COHORT_OK);
    close(fd);
    end(executor);
}

static void phase_that_takes_too_long_is_named(void **state) {
    const char *const config[] = {"fault=load:1:spin", "spin_ms=6000", NULL};
    cohort_executor_options options = options_of(state, 2, 1);
    cohort_executor *executor = NULL;
    options.config = config;
    options.load_timeout_ns = 2000000000;
    options.shutdown_timeout_ns = PATIENCE_MS * INT64_C(1000000);
    assert_int_equal(cohort_executor_start(&options, &executor), COHORT_E_HUNG);
    assert_int_equal(cohort_last_error()->rank, 1);
    assert_says("rank 1 (pid ");
    assert_says("has not finished load");
}

static void counters_show_the_run_and_go_with_it(void **state) {
    cohort_executor *executor = start_world(state, 2, 1);
    cohort_counters *reader = NULL;
    for (int i = 0; i < 3; i++) {
        cohort_future *step = NULL;
        assert_int_equal(cohort_execute_model(executor, "s", 1, &step), COHORT_OK);
        assert_int_equal(cohort_future_wait(step, patience()), COHORT_OK);
        cohort_future_destroy(step);
    }
    assert_int_equal(cohort_executor_check_health(executor, patience()), COHORT_OK);
    assert_int_equal(
        cohort_counters_open(cohort_executor_counters_path(executor), &reader),
        COHORT_OK);
    for (int32_t rank = 0; rank < 2; rank++) {
        cohort_counters_row *row = cohort_counters_row_of(reader, rank);
        assert_int_equal(atomic_load(&row->steps), 3);
        assert_int_equal(atomic_load(&row->rpcs), 1);
        assert_int_equal(atomic_load(&row->call), 4);
        assert_true(atomic_load(&row->heartbeat_ns) > 0);
    }
    end(executor);
    assert_int_equal(count_counters(), 0);
    cohort_counters_close(reader);
}

typedef struct progress {
    _Atomic uint64_t done, total;
} progress;

static void note_progress(void *user_data, int32_t rank, uint64_t done, uint64_t total) {
    progress *self = user_data;
    if (rank) return;
    atomic_store(&self->done, done);
    atomic_store(&self->total, total);
}

static void loading_reports_progress(void **state) {
    progress self = {0};
    cohort_executor_options options = options_of(state, 1, 1);
    cohort_executor_phases phases;
    options.on_progress = note_progress;
    options.user_data = &self;
    cohort_executor *executor = start(&options);
    int64_t until_ns = patience();
    while (atomic_load(&self.done) != 2 && cohort_clock_ns() < until_ns)
        usleep(1000);
    assert_int_equal(atomic_load(&self.done), 2);
    assert_int_equal(atomic_load(&self.total), 2);
    cohort_executor_get_phases(executor, &phases);
    assert_true(phases.place_ns > 0 && phases.configure_ns > 0 && phases.connect_ns > 0 &&
                phases.load_ns > 0 && phases.total_ns >= phases.load_ns);
    end(executor);
}

static int enter_home(void **state) {
    (void)state;
    return !mkdtemp(home) || setenv("XDG_RUNTIME_DIR", home, 1);
}

static int leave_home(void **state) {
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

int main(int argc, char **argv) {
    if (test_worker_is_asked(argc, argv)) return test_worker_main(argv);
    const struct CMUnitTest tests[] = {
        ON_BOTH(ranks_know_their_place),
        ON_BOTH(configuration_reaches_every_rank),
        ON_BOTH(bad_options_are_refused_by_name),
        ON_BOTH(payloads_of_all_sizes_come_back),
        ON_BOTH(only_the_unique_reply_rank_replies),
        ON_BOTH(futures_complete_in_the_order_of_their_calls),
        ON_BOTH(many_unread_calls_neither_block_nor_vanish),
        ON_BOTH(abandoned_futures_do_not_disturb_later_ones),
        ON_BOTH(threads_may_call_at_the_same_time),
        ON_BOTH(poll_does_not_wait),
        ON_BOTH(step_is_answered_by_the_output_rank),
        ON_BOTH(masks_follow_their_step),
        ON_BOTH(a_step_without_its_masks_ends_with_the_executor),
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
        ON_BOTH(extension_adds_methods_to_every_rank),
        ON_BOTH(extension_that_cannot_be_fails_the_start),
        ON_BOTH(start_under_way_can_be_cancelled),
        ON_BOTH(started_executor_is_not_cancelled),
        ON_BOTH(phase_that_takes_too_long_is_named),
        ON_BOTH(counters_show_the_run_and_go_with_it),
        ON_BOTH(loading_reports_progress),
    };
    return cmocka_run_group_tests(tests, enter_home, leave_home);
}
