/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/quarantine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void the_second_death_isolates_and_the_third_convicts(void **state) {
    (void)state;
    cohort_suspicion killer = {0};
    assert_int_equal(cohort_suspect(&killer, 20, false), COHORT_SENTENCE_NONE);
    assert_int_equal(cohort_suspect(&killer, 20, false), COHORT_SENTENCE_ALONE);
    assert_int_equal(cohort_suspect(&killer, 20, true), COHORT_SENTENCE_ENDED);
}

/* Its first death may be an accident. */
static void who_is_alone_is_convicted_with_the_second(void **state) {
    (void)state;
    cohort_suspicion killer = {0};
    assert_int_equal(cohort_suspect(&killer, 7, true), COHORT_SENTENCE_NONE);
    assert_int_equal(cohort_suspect(&killer, 7, true), COHORT_SENTENCE_ENDED);
}

/* A step before the one that kills clears nobody. */
static void who_gets_past_the_step_is_cleared(void **state) {
    (void)state;
    cohort_suspicion one = {0};
    assert_false(cohort_suspicion_clear(&one, 100));
    cohort_suspect(&one, 20, false);
    cohort_suspect(&one, 12, false); /* less of it was under way */
    assert_false(cohort_suspicion_clear(&one, 19));
    assert_true(cohort_suspicion_clear(&one, 20));
    assert_false(cohort_suspicion_clear(&one, 21));
    assert_int_equal(cohort_suspect(&one, 21, true), COHORT_SENTENCE_NONE);
}

static void convicts_are_known_until_their_time_is_over(void **state) {
    (void)state;
    cohort_convicts convicts = {0};
    const uint64_t digest[2] = {1, 2}, other[2] = {1, 3}, none[2] = {0, 0};
    assert_false(cohort_convicts_have(&convicts, none, 0));
    cohort_convicts_add(&convicts, digest, 50);
    assert_true(cohort_convicts_have(&convicts, digest, 49));
    assert_false(cohort_convicts_have(&convicts, digest, 50));
    assert_false(cohort_convicts_have(&convicts, other, 49));
    for (uint64_t i = 0; i < COHORT_MAX_CONVICTS; i++) {
        assert_true(cohort_convicts_have(&convicts, digest, 49));
        cohort_convicts_add(&convicts, (const uint64_t[]){9, i}, 50);
    }
    assert_false(cohort_convicts_have(&convicts, digest, 49)); /* the oldest */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_second_death_isolates_and_the_third_convicts),
        cmocka_unit_test(who_is_alone_is_convicted_with_the_second),
        cmocka_unit_test(who_gets_past_the_step_is_cleared),
        cmocka_unit_test(convicts_are_known_until_their_time_is_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
