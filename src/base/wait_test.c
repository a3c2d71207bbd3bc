/* SPDX-License-Identifier: Apache-2.0 */
#include "base/wait.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "cohort/clock.h"

enum { TURNS = 2000, SLICE_NS = 50000000 };

typedef struct table {
    cohort_event event;
    _Atomic uint32_t turn; /* even: ping's, odd: pong's */
    uint32_t payload;      /* plain: published by turn */
    int64_t spin_ns;
} table;

static void await_turn(table *at, uint32_t turn) {
    cohort_wait wait = cohort_wait_begin(at->spin_ns);
    while (atomic_load_explicit(&at->turn, memory_order_acquire) != turn) {
        if (cohort_wait_spin(&wait)) continue;
        uint32_t ticket = cohort_event_prepare(&at->event);
        if (atomic_load_explicit(&at->turn, memory_order_acquire) == turn) {
            cohort_event_leave(&at->event);
            break;
        }
        cohort_event_sleep(&at->event, ticket, SLICE_NS);
    }
}

static void pass_turn(table *at, uint32_t turn) {
    at->payload = turn * 3;
    atomic_store_explicit(&at->turn, turn, memory_order_release);
    cohort_event_signal(&at->event);
}

static void *pong(void *argument) {
    table *at = argument;
    for (uint32_t i = 0; i < TURNS; i++) {
        await_turn(at, 2 * i + 1);
        if (at->payload != (2 * i + 1) * 3) return at;
        pass_turn(at, 2 * i + 2);
    }
    return NULL;
}

static void play(int64_t spin_ns) {
    table at = {.spin_ns = spin_ns};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, pong, &at), 0);
    for (uint32_t i = 0; i < TURNS; i++) {
        pass_turn(&at, 2 * i + 1);
        await_turn(&at, 2 * i + 2);
        assert_int_equal(at.payload, (2 * i + 2) * 3);
    }
    void *failed = NULL;
    pthread_join(thread, &failed);
    assert_null(failed);
    assert_int_equal(atomic_load(&at.event.sleepers), 0);
}

static void turns_pass_between_spinners(void **state) {
    (void)state;
    play(COHORT_WAIT_SPIN_NS);
}

static void turns_pass_between_sleepers(void **state) {
    (void)state;
    play(0);
}

static void signal_before_sleep_is_not_lost(void **state) {
    (void)state;
    cohort_event event = {0};
    uint32_t ticket = cohort_event_prepare(&event);
    cohort_event_signal(&event);
    int64_t start_ns = cohort_clock_ns();
    assert_true(cohort_event_sleep(&event, ticket, INT64_C(60000000000)));
    assert_true(cohort_clock_ns() - start_ns < INT64_C(30000000000));
}

static void nobody_asleep_nothing_changes(void **state) {
    (void)state;
    cohort_event event = {0};
    cohort_event_signal(&event);
    assert_int_equal(atomic_load(&event.word), 0);
}

static void sleep_of_a_whole_second_lasts_it(void **state) {
    (void)state;
    cohort_event event = {0};
    int64_t start_ns = cohort_clock_ns();
    assert_false(cohort_event_sleep(&event, cohort_event_prepare(&event), 1000000000));
    assert_true(cohort_clock_ns() - start_ns >= 1000000000);
}

static void sleeper_uses_no_processor_time(void **state) {
    (void)state;
    cohort_event event = {0};
    struct timespec before, after;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
    for (int i = 0; i < 4; i++)
        assert_false(cohort_event_sleep(&event, cohort_event_prepare(&event), 50000000));
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
    int64_t used_ns =
        (after.tv_sec - before.tv_sec) * 1000000000 + after.tv_nsec - before.tv_nsec;
    assert_true(used_ns < 20000000); /* of 200 ms asleep */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(turns_pass_between_spinners),
        cmocka_unit_test(turns_pass_between_sleepers),
        cmocka_unit_test(signal_before_sleep_is_not_lost),
        cmocka_unit_test(nobody_asleep_nothing_changes),
        cmocka_unit_test(sleep_of_a_whole_second_lasts_it),
        cmocka_unit_test(sleeper_uses_no_processor_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
