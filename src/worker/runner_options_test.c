/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/runner_options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "option_rows.h"

static void every_row_reaches_a_worker(void **state) {
    (void)state;
    expect_rows_round_trip(&cohort_runner_option_table, sizeof(cohort_runner_options));
}

static void a_worker_that_is_told_nothing_has_the_defaults(void **state) {
    (void)state;
    cohort_runner_options told = {0};
    const char *const none[] = {NULL};
    assert_int_equal(
        cohort_options_from_pairs(&cohort_runner_option_table, &told, none, false),
        COHORT_OK);
    assert_null(told.model);
    assert_string_equal(told.dtype, "auto");
    assert_string_equal(told.load_format, "auto");
    assert_int_equal(told.block_size, 16);
    assert_int_equal(told.execute_timeout_ns, INT64_C(300000000000));
}

/* Programs that start an executor write them either way. */
static void words_of_names_are_parted_by_either_dash(void **state) {
    (void)state;
    const char *const pairs[] = {"model=m", "max_model_len=64", "max-num_seqs=4", NULL};
    cohort_runner_options it = {0};
    assert_int_equal(
        cohort_options_from_pairs(&cohort_runner_option_table, &it, pairs, false),
        COHORT_OK);
    assert_int_equal(it.max_model_len, 64);
    assert_int_equal(it.max_num_seqs, 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_of_names_are_parted_by_either_dash),
        cmocka_unit_test(every_row_reaches_a_worker),
        cmocka_unit_test(a_worker_that_is_told_nothing_has_the_defaults),
    };
    return cmocka_run_group_tests_name("worker/runner_options", tests, NULL, NULL);
}
