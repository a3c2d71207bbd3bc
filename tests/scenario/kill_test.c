/* SPDX-License-Identifier: Apache-2.0 */
/* What processes suffer: random kills in every phase of a run, the driver's death, stops,
 * missing and foreign programs.  After each, nothing may be left: no process, descriptor
 * or file, and the error names the rank and what happened to it.
 *
 * COHORT_KILLS: how many random kills (100).  COHORT_SEED: of the random choices;
 * printed, so that a failure can be repeated. */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "counters/counters.h"
#include "killed_world.h"

enum { N_RANKS = 2 };

static cohort_executor_options options_of(const char *const *config) {
    return mp_options(N_RANKS, 0, config); /* else: restart_test.c */
}

static void assert_says(const char *word) {
    if (!strstr(cohort_last_error()->message, word))
        fail_msg("'%s' is not in: %s", word, cohort_last_error()->message);
}

static void await_no_children(void) {
    int64_t until_ns = cohort_deadline_ms(LAST_MS);
    while (has_children() && cohort_clock_ns() < until_ns)
        sleep_us(1000);
    assert_no_children();
}

/* ---- random kills ------------------------------------------------------------- */

typedef enum moment { SPAWN, CONNECT, LOAD, EXECUTE, SHUTDOWN, N_MOMENTS } moment;

static const char *const moment_names[] = {"spawn", "connect", "load", "execute",
                                           "shutdown"};

/* One run from start to destroy; leaves its error in out_error, code OK where none. */
static void run_until_failure(killer *self, moment at, cohort_error *out_error) {
    const char *const config[] = {
        at == LOAD || at == SHUTDOWN ? "pause_ms=10" : "pause_ms=0", "barrier=1", NULL};
    cohort_executor_options options = options_of(config);
    cohort_executor *executor = NULL;
    options.instance = self->instance;
    cohort_status status = cohort_executor_start(&options, &executor);
    /* A moment of the start that the killer missed does not come again. */
    bool is_missed = status >= 0 && at < EXECUTE && killer_give_up(self);
    int64_t until_ns =
        cohort_deadline_ms(at == SHUTDOWN || is_missed ? 0 : PATIENCE_MS / 2);
    while (status >= 0 && cohort_clock_ns() < until_ns)
        status = one_step(executor);
    if (status >= 0) status = cohort_executor_shutdown(executor);
    *out_error = *cohort_last_error();
    if (status >= 0) out_error->code = COHORT_OK;
    cohort_executor_destroy(executor);
}

/* In shutdown a rank may have left before the signal came. */
static bool is_named(const killer *self, moment at, const cohort_error *error) {
    char rank[32];
    snprintf(rank, sizeof rank, "rank %d (pid ", self->rank);
    if (!self->has_killed || (at == SHUTDOWN && error->code == COHORT_OK)) return false;
    if (error->code != COHORT_E_PEER_DIED || error->rank != self->rank ||
        !strstr(error->message, rank) || !strstr(error->message, "signal 9"))
        fail_msg("killed rank %d in %s, heard of rank %d: %s", self->rank,
                 moment_names[at], error->rank, error->message);
    return true;
}

/* From the kill to the clean end; 0 where none was delivered. */
static int64_t kill_once(uint64_t seed, uint64_t number, int at) {
    static bool (*const is_time[])(cohort_counters *, int32_t) = {
        killer_at_spawn, killer_at_connect, killer_at_load, killer_at_execute,
        killer_at_shutdown};
    static const uint64_t spread_us[] = {3000, 2000, 12000, 10000, 9000};
    killer self;
    int fds = count_entries("/proc/self/fd");
    cohort_error error;
    killer_start(&self, is_time[at], N_RANKS, spread_us[at], seed, number);
    run_until_failure(&self, at, &error);
    int64_t done_ns = cohort_clock_ns();
    killer_finish(&self);
    assert_no_children();
    assert_int_equal(count_counters(), 0);
    assert_int_equal(count_entries("/proc/self/fd"), fds);
    return is_named(&self, at, &error) ? done_ns - self.killed_ns : 0;
}

static void random_kills_are_named_and_leave_nothing(void **state) {
    (void)state;
    killer_run(moment_names, N_MOMENTS, kill_once);
}

/* ---- the driver's death ------------------------------------------------------- */

/* Role: starts an executor, says its workers' pids, and goes on as told. */
static int driver_main(const char *what) {
    const char *const config[] = {!strcmp(what, "stuck") ? "fault=execute:0:spin" : "a=b",
                                  NULL};
    cohort_executor_options options = options_of(config);
    cohort_executor *executor = start(&options);
    int32_t pids[N_RANKS];
    for (int32_t i = 0; i < N_RANKS; i++)
        pids[i] = pid_of(executor, i);
    if (!strcmp(what, "stopped")) kill(pids[0], SIGSTOP);
    if (write(STDOUT_FILENO, pids, sizeof pids) != sizeof pids) return 1;
    while (strcmp(what, "idle") != 0)
        one_step(executor);
    sleep_us(PATIENCE_MS * UINT64_C(1000));
    return 0;
}

/* The time until its workers had gone, too. */
static int64_t kill_one_driver(const char *what) {
    int out[2];
    int32_t pids[N_RANKS];
    assert_int_equal(pipe(out), 0);
    pid_t driver = fork();
    if (!driver) {
        dup2(out[1], STDOUT_FILENO);
        close(out[0]);
        close(out[1]);
        execl("/proc/self/exe", "driver", "driver", what, (char *)NULL);
        _exit(127);
    }
    close(out[1]);
    assert_int_equal(read(out[0], pids, sizeof pids), sizeof pids);
    close(out[0]);
    sleep_us(5000); /* well into a step */
    int64_t killed_ns = cohort_clock_ns();
    assert_int_equal(kill(driver, SIGKILL), 0);
    assert_int_equal(waitpid(driver, NULL, 0), driver);
    await_no_children();
    int64_t spent_ns = cohort_clock_ns() - killed_ns;
    for (int i = 0; i < N_RANKS; i++)
        assert_int_equal(kill(pids[i], 0), -1);
    /* What it left is known to be dead, and goes with the next start. */
    assert_int_equal(count_counters(), 1);
    assert_int_equal(cohort_counters_sweep(), 1);
    assert_int_equal(count_counters(), 0);
    return spent_ns;
}

/* Within the limit in one of three: more than that is the machine's doing. */
static void kill_a_driver(const char *what) {
    for (int i = 0; i < 3; i++)
        if (kill_one_driver(what) < LIMIT_MS * INT64_C(1000000)) return;
    fail_msg("workers outlived their driver (%s) by more than %d ms, three times", what,
             LIMIT_MS);
}

static void r32_workers_do_not_outlive_an_idle_driver(void **state) {
    (void)state;
    kill_a_driver("idle");
}

static void r32_workers_do_not_outlive_a_driver_in_a_step(void **state) {
    (void)state;
    kill_a_driver("busy");
}

static void r32_stuck_workers_do_not_outlive_their_driver(void **state) {
    (void)state;
    kill_a_driver("stuck");
}

static void r32_stopped_workers_do_not_outlive_their_driver(void **state) {
    (void)state;
    kill_a_driver("stopped");
}

static void *start_main(void *out_executor) {
    cohort_executor_options options = options_of(NULL);
    *(cohort_executor **)out_executor = start(&options);
    return NULL;
}

/* PR_SET_PDEATHSIG watches a thread, and this one ends. */
static void r32_workers_outlive_the_thread_that_started_them(void **state) {
    (void)state;
    cohort_executor *executor = NULL;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, start_main, &executor), 0);
    pthread_join(thread, NULL);
    sleep_us(50000);
    assert_int_equal(one_step(executor), COHORT_OK);
    cohort_executor_destroy(executor);
    assert_no_children();
}

static void r32_what_a_worker_started_dies_with_it(void **state) {
    (void)state;
    const char *const config[] = {"fault=load:1:children", NULL};
    cohort_executor_options options = options_of(config);
    cohort_executor *executor = start(&options);
    int32_t pid = pid_of(executor, 1);
    assert_int_equal(getpgid(pid), pid); /* ^C at the terminal is the driver's alone */
    assert_int_equal(kill(pid, SIGKILL), 0);
    while (one_step(executor) >= 0)
        ;
    cohort_executor_destroy(executor);
    await_no_children();
}

/* ---- hangs, and a monitor in trouble ------------------------------------------ */

static void r31_stopped_worker_is_a_hang_that_names_it(void **state) {
    (void)state;
    cohort_executor_options options = options_of(NULL);
    options.hang_timeout_ns = 3000000000; /* a busy machine keeps a worker for less */
    cohort_executor *executor = start(&options);
    assert_int_equal(one_step(executor), COHORT_OK);
    assert_int_equal(kill(pid_of(executor, 1), SIGSTOP), 0);
    int64_t until_ns = patience();
    cohort_error error = {0};
    while (cohort_executor_failure(executor, &error) >= 0 && cohort_clock_ns() < until_ns)
        sleep_us(1000);
    assert_int_equal(error.code, COHORT_E_HUNG);
    assert_int_equal(error.rank, 1);
    assert_non_null(strstr(error.message, "rank 1 (pid "));
    assert_non_null(strstr(error.message, "no heartbeat"));
    assert_int_equal(cohort_executor_check_health(executor, patience()), COHORT_E_HUNG);
    assert_int_equal(cohort_executor_shutdown(executor), COHORT_E_HUNG);
    cohort_executor_destroy(executor);
    assert_no_children();
}

/* The application ignores SIGCHLD: the kernel reaps, the monitor's waitid fails, and it
 * goes on all the same. */
static void r19_monitor_survives_its_own_errors(void **state) {
    (void)state;
    signal(SIGCHLD, SIG_IGN);
    cohort_executor_options options = options_of(NULL);
    cohort_executor *executor = start(&options);
    assert_int_equal(kill(pid_of(executor, 1), SIGKILL), 0);
    cohort_status status = COHORT_OK;
    while (status >= 0)
        status = one_step(executor);
    assert_int_equal(status, COHORT_E_PEER_DIED);
    assert_int_equal(cohort_last_error()->rank, 1);
    int32_t survivor = pid_of(executor, 0);
    assert_int_equal(cohort_executor_shutdown(executor), COHORT_E_PEER_DIED);
    cohort_executor_destroy(executor);
    assert_int_equal(kill(survivor, 0), -1);
    signal(SIGCHLD, SIG_DFL);
}

/* Shutdown's deadline holds for a worker that never leaves by itself. */
static void r33_lingering_worker_is_ended_in_time(void **state) {
    (void)state;
    const char *const config[] = {"fault=close:1:spin", NULL};
    cohort_executor_options options = options_of(config);
    options.shutdown_timeout_ns = 500000000;
    cohort_executor *executor = start(&options);
    int64_t before_ns = cohort_clock_ns();
    assert_int_equal(cohort_executor_shutdown(executor), COHORT_OK);
    int64_t spent_ns = cohort_clock_ns() - before_ns;
    /* It was asked, and waited for, before it was killed. */
    assert_true(spent_ns >= 300000000);
    cohort_executor_destroy(executor);
    assert_no_children();
}

static int64_t cpu_ns(int32_t pid) {
    clockid_t clock;
    struct timespec time = {0};
    assert_int_equal(clock_getcpuclockid(pid, &clock), 0);
    assert_int_equal(clock_gettime(clock, &time), 0);
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

static int64_t idle_cpu_ns(cohort_executor *executor) {
    int64_t before_ns = cpu_ns(pid_of(executor, 0)) + cpu_ns(pid_of(executor, 1));
    sleep_us(1000000);
    return cpu_ns(pid_of(executor, 0)) + cpu_ns(pid_of(executor, 1)) - before_ns;
}

/* The goal is 0.1 %; a test among others on a busy machine asks for 2 % in the best of
 * some seconds, which a reader that spins misses by a factor of 50 (vLLM's take 100 %).
 */
static void r28_idle_workers_use_no_cpu(void **state) {
    (void)state;
    enum { ALLOWED_NS = 20000000, TRIES = 4 };
    cohort_executor_options options = options_of(NULL);
    cohort_executor *executor = start(&options);
    assert_int_equal(one_step(executor), COHORT_OK);
    sleep_us(100000);
    int64_t spent_ns = idle_cpu_ns(executor);
    for (int i = 1; i < TRIES && spent_ns >= ALLOWED_NS; i++)
        spent_ns = idle_cpu_ns(executor);
    print_message("two idle workers: %.3f %% of a CPU\n", (double)spent_ns * 1e-7);
    assert_true(spent_ns < ALLOWED_NS);
    cohort_executor_destroy(executor);
}

/* ---- wrong programs ----------------------------------------------------------- */

static void start_must_fail(const cohort_executor_options *options,
                            cohort_status status) {
    cohort_executor *executor = NULL;
    int fds = count_entries("/proc/self/fd");
    assert_int_equal(cohort_executor_start(options, &executor), status);
    assert_null(executor);
    assert_no_children();
    assert_int_equal(count_counters(), 0);
    assert_int_equal(count_entries("/proc/self/fd"), fds);
}

static void missing_program_is_named(void **state) {
    (void)state;
    cohort_executor_options options = options_of(NULL);
    options.worker_command = "/nowhere/cohort";
    start_must_fail(&options, COHORT_E_IO);
    assert_says("/nowhere/cohort");
    assert_says("COHORT_WORKER");
}

static void program_that_is_no_worker_is_named(void **state) {
    (void)state;
    cohort_executor_options options = options_of(NULL);
    options.worker_command = "true";
    start_must_fail(&options, COHORT_E_PEER_DIED);
    assert_says("exited with status 0 during place");
}

/* With workers that behave as the variable says. */
static void start_with_must_fail(const char *variable, cohort_status status,
                                 const char *says) {
    cohort_executor_options options = options_of(NULL);
    setenv(variable, "1", 1);
    start_must_fail(&options, status);
    unsetenv(variable);
    assert_says(says);
}

static void worker_of_another_build_is_refused(void **state) {
    (void)state;
    start_with_must_fail("TEST_WORKER_FOREIGN", COHORT_E_PROTOCOL, "build 0123456789ab");
}

static void worker_of_an_older_epoch_is_refused(void **state) {
    (void)state;
    start_with_must_fail("TEST_WORKER_LATE", COHORT_E_PROTOCOL,
                         "sent a ready frame of epoch 0");
}

static void error_that_comes_in_pieces_is_waited_for(void **state) {
    (void)state;
    start_with_must_fail("TEST_WORKER_SLOW", COHORT_E_DEVICE, "said slowly");
}

static void worker_that_sends_no_frames_is_named(void **state) {
    (void)state;
    start_with_must_fail("TEST_WORKER_RAVES", COHORT_E_PROTOCOL, "while hearing rank ");
    assert_says(" (pid "); /* of either: both do so */
}

static void worker_that_hangs_up_is_known_to_live(void **state) {
    (void)state;
    cohort_executor_options options = options_of(NULL);
    setenv("TEST_WORKER_HANGS_UP", "1", 1);
    start_must_fail(&options, COHORT_E_PEER_DIED);
    unsetenv("TEST_WORKER_HANGS_UP");
    assert_says("lives, but its control link broke during place");
}

static int64_t break_a_link(void) {
    const char *const config[] = {"fault=execute:1:mute", NULL};
    cohort_executor_options options = options_of(config);
    cohort_executor *executor = start(&options);
    int64_t from_ns = cohort_clock_ns();
    cohort_status status = COHORT_OK;
    while (status >= 0)
        status = one_step(executor);
    int64_t spent_ns = cohort_clock_ns() - from_ns;
    assert_int_equal(status, COHORT_E_PEER_DIED);
    assert_int_equal(cohort_last_error()->rank, 1);
    assert_says("lives, but its control link broke during execute (call ");
    assert_int_equal(cohort_executor_shutdown(executor), COHORT_E_PEER_DIED);
    cohort_executor_destroy(executor);
    assert_no_children();
    return spent_ns;
}

/* The goal is 20 ms; where a death is waited for it takes 300, at the best of times. */
static void broken_link_of_a_living_rank_is_told_at_once(void **state) {
    (void)state;
    enum { AT_ONCE_NS = 150000000, TRIES = 10 };
    int64_t best_ns = INT64_MAX;
    for (int i = 0; i < TRIES && best_ns >= AT_ONCE_NS; i++) {
        int64_t spent_ns = break_a_link();
        if (spent_ns < best_ns) best_ns = spent_ns;
    }
    print_message("from the end of a link to the error: %.1f ms\n",
                  (double)best_ns / 1e6);
    assert_true(best_ns < AT_ONCE_NS);
}

static void exit_in_open_is_named_with_its_status(void **state) {
    (void)state;
    const char *const config[] = {"fault=open:1:exit", NULL};
    cohort_executor_options options = options_of(config);
    start_must_fail(&options, COHORT_E_PEER_DIED);
    assert_int_equal(cohort_last_error()->rank, 1);
    assert_says("rank 1 (pid ");
    assert_says("exited with status 3 during load");
}

static void stopped_while_starting_ends_at_the_phases_deadline(void **state) {
    (void)state;
    const char *const config[] = {"fault=open:0:stop", NULL};
    cohort_executor_options options = options_of(config);
    options.load_timeout_ns = 2000000000;
    start_must_fail(&options, COHORT_E_HUNG);
    assert_int_equal(cohort_last_error()->rank, 0);
    assert_says("has not finished load");
}

int main(int argc, char **argv) {
    if (test_worker_is_asked(argc, argv)) return test_worker_main(argv);
    if (argc == 3 && !strcmp(argv[1], "driver")) return driver_main(argv[2]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(missing_program_is_named),
        cmocka_unit_test(program_that_is_no_worker_is_named),
        cmocka_unit_test(worker_of_another_build_is_refused),
        cmocka_unit_test(worker_of_an_older_epoch_is_refused),
        cmocka_unit_test(error_that_comes_in_pieces_is_waited_for),
        cmocka_unit_test(worker_that_sends_no_frames_is_named),
        cmocka_unit_test(worker_that_hangs_up_is_known_to_live),
        cmocka_unit_test(broken_link_of_a_living_rank_is_told_at_once),
        cmocka_unit_test(exit_in_open_is_named_with_its_status),
        cmocka_unit_test(stopped_while_starting_ends_at_the_phases_deadline),
        cmocka_unit_test(r19_monitor_survives_its_own_errors),
        cmocka_unit_test(r28_idle_workers_use_no_cpu),
        cmocka_unit_test(r31_stopped_worker_is_a_hang_that_names_it),
        cmocka_unit_test(r32_workers_do_not_outlive_an_idle_driver),
        cmocka_unit_test(r32_workers_do_not_outlive_a_driver_in_a_step),
        cmocka_unit_test(r32_stuck_workers_do_not_outlive_their_driver),
        cmocka_unit_test(r32_stopped_workers_do_not_outlive_their_driver),
        cmocka_unit_test(r32_workers_outlive_the_thread_that_started_them),
        cmocka_unit_test(r32_what_a_worker_started_dies_with_it),
        cmocka_unit_test(r33_lingering_worker_is_ended_in_time),
        cmocka_unit_test(random_kills_are_named_and_leave_nothing),
    };
    return cmocka_run_group_tests(tests, killer_enter_home, killer_leave_home);
}
