/* SPDX-License-Identifier: Apache-2.0 */
/* The queue with exchanges that are none: what it asks of them is answered here. */
#include "server/request_queue.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/cancel.h"
#include "cohort/clock.h"

struct cohort_exchange {
    atomic_bool is_gone;
    atomic_int n_served, n_refused, n_released;
};

bool cohort_exchange_is_gone(const cohort_exchange *exchange) {
    return atomic_load(&exchange->is_gone);
}

void cohort_exchange_release(cohort_exchange *exchange) {
    atomic_fetch_add(&exchange->n_released, 1);
}

/* The thread of the queue stands in serve until the test lets it go. */
typedef struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int n_entered, n_let;
    bool was_current;
    cohort_exchange *order[8];
} gate;

static void serve(void *user_data, cohort_exchange *exchange) {
    gate *self = user_data;
    pthread_mutex_lock(&self->lock);
    self->order[self->n_entered++] = exchange;
    self->was_current = cohort_request_queue_is_current();
    pthread_cond_broadcast(&self->changed);
    while (self->n_let < self->n_entered)
        pthread_cond_wait(&self->changed, &self->lock);
    atomic_fetch_add(&exchange->n_served, 1);
    pthread_mutex_unlock(&self->lock);
}

static void refuse(void *user_data, cohort_exchange *exchange) {
    (void)user_data;
    atomic_fetch_add(&exchange->n_refused, 1);
}

static void await_entered(gate *self, int n) {
    pthread_mutex_lock(&self->lock);
    while (self->n_entered < n)
        pthread_cond_wait(&self->changed, &self->lock);
    pthread_mutex_unlock(&self->lock);
}

static void let(gate *self, int n) {
    pthread_mutex_lock(&self->lock);
    self->n_let += n;
    pthread_cond_broadcast(&self->changed);
    pthread_mutex_unlock(&self->lock);
}

enum { N = 4 };

static cohort_request_queue *start(gate *self, size_t capacity) {
    cohort_request_queue *queue;
    *self =
        (gate){.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    assert_int_equal(cohort_request_queue_start(capacity, serve, refuse, self, &queue),
                     COHORT_OK);
    return queue;
}

static void all_are_served_in_order_on_its_thread(void **unused) {
    (void)unused;
    gate self;
    cohort_exchange exchanges[N] = {0};
    cohort_request_queue *queue = start(&self, N);
    let(&self, N);
    for (int i = 0; i < N; i++)
        assert_true(cohort_request_queue_add(queue, &exchanges[i]));
    await_entered(&self, N);
    cohort_request_queue_destroy(queue);
    for (int i = 0; i < N; i++) {
        assert_ptr_equal(self.order[i], &exchanges[i]);
        assert_int_equal(exchanges[i].n_served, 1);
        assert_int_equal(exchanges[i].n_refused + exchanges[i].n_released, 0);
    }
    assert_true(self.was_current);
    assert_false(cohort_request_queue_is_current());
}

static void full_queue_takes_none_until_a_client_leaves(void **unused) {
    (void)unused;
    gate self;
    cohort_exchange exchanges[N] = {0};
    cohort_request_queue *queue = start(&self, 2);
    assert_true(cohort_request_queue_add(queue, &exchanges[0]));
    await_entered(&self, 1);
    assert_true(cohort_request_queue_add(queue, &exchanges[1]));
    assert_true(cohort_request_queue_add(queue, &exchanges[2]));
    assert_false(cohort_request_queue_add(queue, &exchanges[3]));
    atomic_store(&exchanges[1].is_gone, true);
    assert_true(cohort_request_queue_add(queue, &exchanges[3]));
    assert_int_equal(exchanges[1].n_released, 1);
    let(&self, N);
    await_entered(&self, 3);
    cohort_request_queue_destroy(queue);
    assert_int_equal(exchanges[1].n_served, 0);
    assert_ptr_equal(self.order[1], &exchanges[2]);
    assert_ptr_equal(self.order[2], &exchanges[3]);
}

static void client_that_left_is_passed_over(void **unused) {
    (void)unused;
    gate self;
    cohort_exchange exchanges[3] = {0};
    cohort_request_queue *queue = start(&self, N);
    assert_true(cohort_request_queue_add(queue, &exchanges[0]));
    await_entered(&self, 1);
    assert_true(cohort_request_queue_add(queue, &exchanges[1]));
    assert_true(cohort_request_queue_add(queue, &exchanges[2]));
    atomic_store(&exchanges[1].is_gone, true);
    let(&self, N);
    await_entered(&self, 2);
    cohort_request_queue_destroy(queue);
    assert_int_equal(exchanges[1].n_released, 1);
    assert_int_equal(exchanges[1].n_served, 0);
    assert_int_equal(exchanges[2].n_served, 1);
}

static void close_refuses_all_but_the_one_that_is_served(void **unused) {
    (void)unused;
    gate self;
    cohort_exchange exchanges[N] = {0};
    cohort_request_queue *queue = start(&self, N);
    assert_true(cohort_request_queue_add(queue, &exchanges[0]));
    await_entered(&self, 1);
    assert_true(cohort_request_queue_add(queue, &exchanges[1]));
    assert_true(cohort_request_queue_add(queue, &exchanges[2]));
    cohort_request_queue_close(queue);
    assert_int_equal(exchanges[0].n_refused, 0);
    assert_int_equal(exchanges[1].n_refused, 1);
    assert_int_equal(exchanges[2].n_refused, 1);
    assert_false(cohort_request_queue_add(queue, &exchanges[3]));
    let(&self, 1);
    cohort_request_queue_stop(queue);
    assert_int_equal(exchanges[0].n_served, 1);
    cohort_request_queue_stop(queue);
    cohort_request_queue_destroy(queue);
    cohort_request_queue_destroy(NULL);
}

/* Works until nobody wants it. */
static void serve_for_long(void *user_data, cohort_exchange *exchange) {
    (void)user_data;
    atomic_fetch_add(&exchange->n_served, 1);
    while (cohort_cancel_check(COHORT_CANCEL_BYTES) >= 0)
        sched_yield();
    assert_int_equal(cohort_last_error()->code, COHORT_E_CLOSED);
    atomic_fetch_add(&exchange->n_served, 1);
}

static void what_nobody_wants_any_more_is_left(void **unused) {
    (void)unused;
    cohort_exchange first = {0}, second = {0};
    cohort_request_queue *queue;
    assert_int_equal(cohort_request_queue_start(N, serve_for_long, refuse, NULL, &queue),
                     COHORT_OK);
    assert_true(cohort_request_queue_add(queue, &first));
    assert_true(cohort_request_queue_add(queue, &second));
    while (!atomic_load(&first.n_served))
        sched_yield();
    atomic_store(&first.is_gone, true); /* its client leaves */
    while (!atomic_load(&second.n_served))
        sched_yield();
    assert_int_equal(atomic_load(&first.n_served), 2);
    assert_false(cohort_request_queue_wait_idle(queue, cohort_deadline_ms(10)));
    atomic_store(&second.is_gone, true);
    assert_true(cohort_request_queue_wait_idle(queue, cohort_deadline_ms(60000)));
    cohort_exchange third = {0};
    assert_true(cohort_request_queue_add(queue, &third));
    while (!atomic_load(&third.n_served))
        sched_yield();
    cohort_request_queue_destroy(queue); /* the server stops */
    assert_int_equal(atomic_load(&second.n_served), 2);
    assert_int_equal(atomic_load(&third.n_served), 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_nobody_wants_any_more_is_left),
        cmocka_unit_test(all_are_served_in_order_on_its_thread),
        cmocka_unit_test(full_queue_takes_none_until_a_client_leaves),
        cmocka_unit_test(client_that_left_is_passed_over),
        cmocka_unit_test(close_refuses_all_but_the_one_that_is_served),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
