/* SPDX-License-Identifier: Apache-2.0 */
#include "model/cpu/pool.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { MOST_THREADS = 5, ROUNDS = 2000 };

struct tally {
    int32_t calls[MOST_THREADS]; /* plain: the pool orders them */
    int32_t n_threads;
};

static void count(void *context, int32_t thread, int32_t n_threads) {
    struct tally *tally = context;
    tally->calls[thread]++;
    if (thread == 0) tally->n_threads = n_threads;
}

static void every_thread_works_once_a_run(void **state) {
    (void)state;
    for (int32_t n = 1; n <= MOST_THREADS; n++) {
        cohort_pool *pool;
        struct tally tally = {0};
        assert_int_equal(cohort_pool_create(NULL, n, &pool), COHORT_OK);
        assert_int_equal(cohort_pool_size(pool), n);
        for (int32_t round = 1; round <= ROUNDS; round++) {
            cohort_pool_run(pool, count, &tally);
            for (int32_t i = 0; i < n; i++)
                assert_int_equal(tally.calls[i], round);
        }
        assert_int_equal(tally.n_threads, n);
        cohort_pool_destroy(pool);
    }
}

static void runs_reach_members_that_sleep(void **state) {
    (void)state;
    cohort_pool *pool;
    struct tally tally = {0};
    assert_int_equal(cohort_pool_create(NULL, 2, &pool), COHORT_OK);
    for (int32_t round = 1; round <= 20; round++) {
        struct timespec longer_than_a_spin = {0, 2000000};
        nanosleep(&longer_than_a_spin, NULL);
        cohort_pool_run(pool, count, &tally);
        assert_int_equal(tally.calls[1], round);
    }
    cohort_pool_destroy(pool);
}

static int64_t idle_cpu_ns(void) {
    struct timespec idle = {0, 500000000}, before, after;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    nanosleep(&idle, NULL);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    return (after.tv_sec - before.tv_sec) * 1000000000 + after.tv_nsec - before.tv_nsec;
}

/* The least of some times: a busy machine adds to any one of them, who spins to all. */
static void idle_pool_uses_no_cpu(void **state) {
    (void)state;
    /* Two spinning members would use 1 s; a sanitizer's own thread uses a little. */
    enum { ALLOWED_NS = 50000000, TRIES = 4 };
    cohort_pool *pool;
    struct tally tally = {0};
    assert_int_equal(cohort_pool_create(NULL, 3, &pool), COHORT_OK);
    cohort_pool_run(pool, count, &tally);
    struct timespec settle = {0, 50000000};
    nanosleep(&settle, NULL);
    int64_t used_ns = idle_cpu_ns();
    for (int i = 1; i < TRIES && used_ns >= ALLOWED_NS; i++)
        used_ns = idle_cpu_ns();
    cohort_pool_destroy(pool);
    assert_true(used_ns < ALLOWED_NS);
}

static void where(void *context, int32_t thread, int32_t n_threads) {
    (void)n_threads;
    ((struct tally *)context)->calls[thread] = sched_getcpu();
}

static void threads_are_pinned_and_the_caller_let_go_again(void **state) {
    (void)state;
    cpu_set_t before, after;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    int32_t cpus[2] = {-1, -1};
    for (int32_t cpu = 0, n = 0; cpu < CPU_SETSIZE && n < 2; cpu++)
        if (CPU_ISSET((size_t)cpu, &before)) cpus[n++] = cpu;
    if (cpus[1] < 0) cpus[1] = cpus[0];
    int32_t swapped[2] = {cpus[1], cpus[0]};
    cohort_pool *pool;
    struct tally tally = {0};
    assert_int_equal(cohort_pool_create(swapped, 2, &pool), COHORT_OK);
    cohort_pool_run(pool, where, &tally);
    assert_int_equal(tally.calls[0], swapped[0]);
    assert_int_equal(tally.calls[1], swapped[1]);
    cohort_pool_destroy(pool);
    assert_int_equal(sched_getaffinity(0, sizeof after, &after), 0);
    assert_true(CPU_EQUAL(&before, &after));
}

static void a_cpu_that_is_not_there_is_named(void **state) {
    (void)state;
    cohort_pool *pool;
    const int32_t cpus[2] = {-1, CPU_SETSIZE - 1};
    assert_int_equal(cohort_pool_create(cpus, 2, &pool), COHORT_E_IO);
    assert_null(pool);
    assert_non_null(strstr(cohort_last_error()->message, "CPU 1023"));
    const int32_t beyond[1] = {CPU_SETSIZE};
    assert_int_equal(cohort_pool_create(beyond, 1, &pool), COHORT_E_INVALID);
    assert_int_equal(cohort_pool_create(NULL, 0, &pool), COHORT_E_INVALID);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_thread_works_once_a_run),
        cmocka_unit_test(runs_reach_members_that_sleep),
        cmocka_unit_test(idle_pool_uses_no_cpu),
        cmocka_unit_test(threads_are_pinned_and_the_caller_let_go_again),
        cmocka_unit_test(a_cpu_that_is_not_there_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
