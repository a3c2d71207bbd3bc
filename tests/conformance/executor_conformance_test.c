/* SPDX-License-Identifier: Apache-2.0 */
/* One suite for every backend of an executor: each test runs on uni and on mp.  Tests
 * named r<number> stand for the requirements of the same number.  What only processes can
 * suffer (signals, missing programs) is in tests/scenario/kill_test.c. */
#include "executor_world.h"
#include <signal.h>

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

/* What the driver ignores, a process of its own does not: a rank that is told to end
 * would live on. */
static void ignored_signals_are_not_inherited(void **state) {
    bool is_process = !strcmp(*state, "mp");
    void (*before)(int) = signal(SIGUSR2, SIG_IGN);
    cohort_executor *executor = start_world(state, 2, 1);
    cohort_future *future = call(executor, rpc_of("ignores", NULL, 0));
    for (int32_t i = 0; i < cohort_future_reply_count(future); i++) {
        int32_t rank;
        const void *bytes;
        size_t size;
        cohort_future_reply(future, i, &rank, &bytes, &size);
        assert_int_equal(size, sizeof(bool));
        assert_int_equal(*(const bool *)bytes, !is_process);
    }
    cohort_future_destroy(future);
    end(executor);
    signal(SIGUSR2, before);
}

/* Ranks may be started in another folder. */
static void extension_is_told_by_its_whole_path(void **state) {
    char before[4096];
    cohort_executor *executor = NULL;
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(COHORT_BUILD_DIR), 0);
    assert_int_equal(start_extended(state, "./probe_extension.so:install", &executor),
                     COHORT_OK);
    assert_int_equal(chdir(before), 0);
    cohort_future *future = call(
        executor, rpc_of("config", COHORT_EXTENSION_KEY, sizeof COHORT_EXTENSION_KEY));
    static const char expected[] = COHORT_BUILD_DIR "/./probe_extension.so:install";
    int32_t rank;
    const void *bytes;
    size_t size;
    cohort_future_reply(future, 0, &rank, &bytes, &size);
    assert_int_equal(size, sizeof expected - 1);
    assert_memory_equal(bytes, expected, size);
    cohort_future_destroy(future);
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
        ON_BOTH(extension_adds_methods_to_every_rank),
        ON_BOTH(ignored_signals_are_not_inherited),
        ON_BOTH(extension_is_told_by_its_whole_path),
        ON_BOTH(extension_that_cannot_be_fails_the_start),
        ON_BOTH(start_under_way_can_be_cancelled),
        ON_BOTH(started_executor_is_not_cancelled),
        ON_BOTH(phase_that_takes_too_long_is_named),
        ON_BOTH(counters_show_the_run_and_go_with_it),
        ON_BOTH(loading_reports_progress),
    };
    return cmocka_run_group_tests(tests, enter_home, leave_home);
}
