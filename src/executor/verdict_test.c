/* SPDX-License-Identifier: Apache-2.0 */
#include "executor/verdict.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "counters/counters.h"

enum { N = 4, HEARTBEAT = 100, EXECUTE = 1000 };

static cohort_rank_view ranks[N];
static const cohort_hang_limits limits = {.heartbeat_ns = HEARTBEAT,
                                          .execute_ns = EXECUTE};

/* All four have been in step 7 since time 0, and their processes run. */
static void all_execute(int64_t now_ns) {
    for (int i = 0; i < N; i++)
        ranks[i] = (cohort_rank_view){.is_watched = true,
                                      .phase = COHORT_RANK_EXECUTE,
                                      .waits_for = -1,
                                      .call = 7,
                                      .heartbeat_ns = now_ns};
}

static int32_t hung_at(int64_t now_ns) {
    return cohort_find_hang(ranks, N, &limits, now_ns).rank;
}

static void nobody_is_hung_in_time(void **state) {
    (void)state;
    all_execute(EXECUTE);
    assert_int_equal(hung_at(EXECUTE), -1);
}

static void silent_process_comes_first(void **state) {
    (void)state;
    all_execute(EXECUTE + 1);
    ranks[2].heartbeat_ns = EXECUTE - HEARTBEAT;
    cohort_hang hang = cohort_find_hang(ranks, N, &limits, EXECUTE + 1);
    assert_int_equal(hang.rank, 2);
    assert_true(hang.is_silent);
    ranks[2].is_watched = false;
    assert_int_not_equal(hung_at(EXECUTE + 1), 2);
}

static void idle_ranks_are_never_stuck(void **state) {
    (void)state;
    all_execute(50 * EXECUTE);
    for (int i = 0; i < N; i++)
        ranks[i].phase = COHORT_RANK_IDLE;
    assert_int_equal(hung_at(50 * EXECUTE), -1);
}

static void blame_goes_to_the_end_of_the_chain(void **state) {
    (void)state;
    all_execute(EXECUTE + 1);
    ranks[0].waits_for = 1;
    ranks[1].waits_for = 3;
    ranks[2].waits_for = 3;
    assert_int_equal(hung_at(EXECUTE + 1), 3);
    ranks[3].waits_for = 0; /* a circle still ends */
    assert_in_range(hung_at(EXECUTE + 1), 0, N - 1);
}

static void without_a_chain_the_last_in_line_is_blamed(void **state) {
    (void)state;
    all_execute(EXECUTE + 10);
    ranks[0].progress_ns = 5;
    ranks[1].progress_ns = 6;
    ranks[2].progress_ns = 2;
    ranks[3].progress_ns = 9;
    assert_int_equal(hung_at(EXECUTE + 10), 2);
    ranks[1].call = 6;
    assert_int_equal(hung_at(EXECUTE + 10), 1);
}

static void progress_is_no_hang(void **state) {
    (void)state;
    all_execute(EXECUTE * 10);
    for (int i = 0; i < N; i++)
        ranks[i].progress_ns = EXECUTE * 10 - 5;
    assert_int_equal(hung_at(EXECUTE * 10), -1);
}

static void rank_that_never_took_the_step_is_found(void **state) {
    (void)state;
    cohort_hang_limits pending = limits;
    pending.pending_call = 8;
    all_execute(EXECUTE + 2);
    for (int i = 0; i < N; i++)
        ranks[i].phase = COHORT_RANK_IDLE;
    for (int i = 0; i < N; i++)
        ranks[i].call = i == 1 ? 7 : 8;
    assert_int_equal(cohort_find_hang(ranks, N, &pending, EXECUTE + 2).rank, 1);
    ranks[1].phase = COHORT_RANK_REPLY; /* the driver does not read: not its fault */
    assert_int_equal(cohort_find_hang(ranks, N, &pending, EXECUTE + 2).rank, -1);
}

static void who_waits_for_whom_is_said(void **state) {
    (void)state;
    char text[200];
    char small[12];
    all_execute(0);
    ranks[0].waits_for = 1;
    cohort_describe_ranks(ranks, 2, text, sizeof text);
    assert_string_equal(text, "rank 0 waits for rank 1 in execute (call 7), rank 1 in "
                              "execute (call 7)");
    cohort_describe_ranks(ranks, N, small, sizeof small);
    assert_int_equal(strlen(small), sizeof small - 1);
    cohort_describe_ranks(ranks, 0, small, sizeof small); /* of nobody */
    assert_string_equal(small, "");
    memset(small, 'x', sizeof small);
    cohort_describe_ranks(ranks, N, small, 0); /* no room, not even for an end */
    assert_int_equal(small[0], 'x');
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_is_hung_in_time),
        cmocka_unit_test(silent_process_comes_first),
        cmocka_unit_test(idle_ranks_are_never_stuck),
        cmocka_unit_test(blame_goes_to_the_end_of_the_chain),
        cmocka_unit_test(without_a_chain_the_last_in_line_is_blamed),
        cmocka_unit_test(progress_is_no_hang),
        cmocka_unit_test(rank_that_never_took_the_step_is_found),
        cmocka_unit_test(who_waits_for_whom_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
