/* SPDX-License-Identifier: Apache-2.0 */
#include "base/condition.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cohort/clock.h"

enum { SHORT_MS = 50, LONG_MS = 60000 };

typedef struct flag {
    pthread_mutex_t lock;
    pthread_cond_t rung;
    bool has_rung;
} flag;

static void *ring(void *argument) {
    flag *self = argument;
    pthread_mutex_lock(&self->lock);
    self->has_rung = true;
    pthread_cond_signal(&self->rung);
    pthread_mutex_unlock(&self->lock);
    return NULL;
}

/* On the time of day, it would have passed decades ago. */
static void a_deadline_is_one_of_our_clock(void **state) {
    (void)state;
    flag self = {.lock = PTHREAD_MUTEX_INITIALIZER};
    cohort_condition_init(&self.rung);
    int64_t deadline_ns = cohort_deadline_ms(SHORT_MS);
    pthread_mutex_lock(&self.lock);
    while (cohort_condition_wait(&self.rung, &self.lock, deadline_ns))
        ;
    pthread_mutex_unlock(&self.lock);
    assert_true(cohort_clock_ns() >= deadline_ns);
    pthread_cond_destroy(&self.rung);
}

static void a_signal_comes_before_any_deadline(void **state) {
    (void)state;
    const int64_t deadlines_ns[] = {cohort_deadline_ms(LONG_MS), COHORT_NEVER};
    for (int i = 0; i < 2; i++) {
        flag self = {.lock = PTHREAD_MUTEX_INITIALIZER};
        pthread_t thread;
        cohort_condition_init(&self.rung);
        pthread_mutex_lock(&self.lock);
        assert_int_equal(pthread_create(&thread, NULL, ring, &self), 0);
        while (!self.has_rung)
            assert_true(cohort_condition_wait(&self.rung, &self.lock, deadlines_ns[i]));
        pthread_mutex_unlock(&self.lock);
        pthread_join(thread, NULL);
        pthread_cond_destroy(&self.rung);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_deadline_is_one_of_our_clock),
        cmocka_unit_test(a_signal_comes_before_any_deadline),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
