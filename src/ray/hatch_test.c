/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cohort/clock.h"
#include "ray/hatch.h"

enum { CALLS = 500, PATIENCE_MS = 60000 };

static ray_hatch hatch;
static const cohort_worker_carrier *const carrier = &ray_hatch_carrier;

/* ---- the rank: it replies to every call but those of an odd number ------------------
 */

static cohort_status read_number(uint64_t *out_number) {
    const void *bytes = NULL;
    size_t size_bytes = 0;
    cohort_status status =
        carrier->read(&hatch, cohort_deadline_ms(PATIENCE_MS), &bytes, &size_bytes);
    if (status < 0) return status;
    assert_int_equal(size_bytes, sizeof *out_number);
    memcpy(out_number, bytes, sizeof *out_number);
    return COHORT_OK;
}

static void *serve_all(void *argument) {
    static uint64_t reply;
    uint64_t number;
    (void)argument;
    while (read_number(&number) == COHORT_OK) {
        reply = number + 1;
        if (number % 2 == 0)
            assert_int_equal(carrier->reply(&hatch, &reply, sizeof reply), COHORT_OK);
        carrier->read_end(&hatch);
    }
    ray_hatch_close(&hatch);
    return NULL;
}

static void a_call_comes_back_with_the_reply_of_who_replies(void **state) {
    (void)state;
    pthread_t rank;
    const void *reply;
    size_t size_bytes;
    ray_hatch_open(&hatch);
    assert_int_equal(pthread_create(&rank, NULL, serve_all, NULL), 0);
    for (uint64_t number = 0; number < CALLS; number++) {
        assert_int_equal(
            ray_hatch_pass(&hatch, &number, sizeof number, &reply, &size_bytes),
            COHORT_OK);
        assert_int_equal(size_bytes, number % 2 ? 0 : sizeof number);
        if (number % 2 == 0) assert_int_equal(*(const uint64_t *)reply, number + 1);
    }
    carrier->interrupt(&hatch); /* the rank's loop takes that for its end */
    pthread_join(rank, NULL);
    assert_int_equal(ray_hatch_pass(&hatch, &hatch, sizeof hatch, &reply, &size_bytes),
                     COHORT_E_CLOSED);
}

/* A step with masks: the first message is let go of, the second has the reply. */
static void *serve_masked(void *argument) {
    static uint64_t reply;
    uint64_t step = 0, masks = 0;
    (void)argument;
    assert_int_equal(read_number(&step), COHORT_OK);
    carrier->read_end(&hatch);
    assert_int_equal(read_number(&masks), COHORT_OK);
    reply = step * 10 + masks;
    carrier->reply(&hatch, &reply, sizeof reply);
    reply = 0; /* a rank that ends takes its own away */
    carrier->read_end(&hatch);
    return NULL;
}

static void a_steps_reply_comes_with_its_masks(void **state) {
    (void)state;
    pthread_t rank;
    const void *reply;
    size_t size_bytes;
    uint64_t step = 4, masks = 2;
    ray_hatch_open(&hatch);
    assert_int_equal(pthread_create(&rank, NULL, serve_masked, NULL), 0);
    assert_int_equal(ray_hatch_pass(&hatch, &step, sizeof step, &reply, &size_bytes),
                     COHORT_OK);
    assert_int_equal(size_bytes, 0);
    assert_int_equal(ray_hatch_pass(&hatch, &masks, sizeof masks, &reply, &size_bytes),
                     COHORT_OK);
    assert_int_equal(size_bytes, sizeof masks);
    assert_int_equal(*(const uint64_t *)reply, 42);
    pthread_join(rank, NULL);
}

/* The rank dies of an error while it carries out a call. */
static void *end_amid_a_call(void *argument) {
    uint64_t number;
    (void)argument;
    assert_int_equal(read_number(&number), COHORT_OK);
    ray_hatch_close(&hatch);
    return NULL;
}

static void a_call_of_a_rank_that_ends_returns(void **state) {
    (void)state;
    pthread_t rank;
    const void *reply;
    size_t size_bytes;
    uint64_t number = 1;
    ray_hatch_open(&hatch);
    assert_int_equal(pthread_create(&rank, NULL, end_amid_a_call, NULL), 0);
    assert_int_equal(ray_hatch_pass(&hatch, &number, sizeof number, &reply, &size_bytes),
                     COHORT_E_CLOSED);
    pthread_join(rank, NULL);
}

static void waiting_for_a_call_ends_by_time_and_by_interrupt(void **state) {
    (void)state;
    const void *bytes;
    size_t size_bytes;
    ray_hatch_open(&hatch);
    assert_int_equal(carrier->read(&hatch, cohort_deadline_ms(1), &bytes, &size_bytes),
                     COHORT_E_TIMEOUT);
    carrier->interrupt(&hatch);
    assert_int_equal(carrier->read(&hatch, COHORT_NEVER, &bytes, &size_bytes),
                     COHORT_E_CANCELLED);
    assert_int_equal(carrier->read(&hatch, 0, &bytes, &size_bytes), COHORT_E_TIMEOUT);
}

static void what_is_no_message_is_refused(void **state) {
    (void)state;
    const void *reply;
    size_t size_bytes;
    uint64_t room[2] = {0};
    ray_hatch_open(&hatch);
    assert_int_equal(ray_hatch_pass(&hatch, (uint8_t *)room + 1, 8, &reply, &size_bytes),
                     COHORT_E_INVALID);
    assert_int_equal(ray_hatch_pass(&hatch, room, 0, &reply, &size_bytes),
                     COHORT_E_INVALID);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_comes_back_with_the_reply_of_who_replies),
        cmocka_unit_test(a_steps_reply_comes_with_its_masks),
        cmocka_unit_test(a_call_of_a_rank_that_ends_returns),
        cmocka_unit_test(waiting_for_a_call_ends_by_time_and_by_interrupt),
        cmocka_unit_test(what_is_no_message_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
