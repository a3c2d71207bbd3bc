/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/sampling_options.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "option_rows.h"

static void every_row_round_trips(void **state) {
    (void)state;
    expect_rows_round_trip(&cohort_sampling_option_table, sizeof(cohort_sampling_params));
}

static void a_step_has_a_word_for_each(void **state) {
    (void)state;
    assert_int_equal(cohort_sampling_option_table.n, COHORT_N_SAMPLING_OPTIONS);
    assert_int_equal(cohort_choice_option_table.n + cohort_report_option_table.n,
                     COHORT_N_SAMPLING_OPTIONS);
    for (size_t i = 0; i < cohort_sampling_option_table.n; i++)
        assert_int_equal(cohort_sampling_option_table.rows[i].size, sizeof(uint32_t));
}

static void defaults_choose_as_the_model_does_and_tell_nothing(void **state) {
    (void)state;
    const cohort_sampling_params params = cohort_sampling_defaults();
    assert_true(params.temperature == 1);
    assert_true(params.top_p == 1);
    assert_true(params.min_p == 0);
    assert_int_equal(params.top_k, 0);
    assert_true(params.repetition_penalty == 1);
    assert_true(params.presence_penalty == 0);
    assert_true(params.frequency_penalty == 0);
    assert_int_equal(params.min_tokens, 0);
    assert_int_equal(params.n_logprobs, -1);
    assert_int_equal(params.n_prompt_logprobs, -1);
    assert_int_equal(
        cohort_options_check(&cohort_sampling_option_table, &params, COHORT_E_PROTOCOL),
        COHORT_OK);
}

static void what_is_no_number_is_refused_by_its_json_name(void **state) {
    (void)state;
    cohort_sampling_params params = cohort_sampling_defaults();
    params.frequency_penalty = NAN;
    assert_int_equal(
        cohort_options_check(&cohort_sampling_option_table, &params, COHORT_E_PROTOCOL),
        COHORT_E_PROTOCOL);
    assert_non_null(strstr(cohort_last_error()->message,
                           "frequency_penalty is nan, must be a number from -2 to 2"));
    assert_ptr_equal(
        cohort_options_find(&cohort_sampling_option_table, "frequency_penalty"),
        cohort_options_find(&cohort_choice_option_table, "frequency-penalty"));
    assert_null(cohort_options_find(&cohort_sampling_option_table, "frequency_penalt"));
    assert_null(cohort_options_find(&cohort_sampling_option_table, "frequency_penaltys"));
    assert_null(cohort_options_find(&cohort_choice_option_table, "logprobs"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_round_trips),
        cmocka_unit_test(a_step_has_a_word_for_each),
        cmocka_unit_test(defaults_choose_as_the_model_does_and_tell_nothing),
        cmocka_unit_test(what_is_no_number_is_refused_by_its_json_name),
    };
    return cmocka_run_group_tests_name("wire/sampling_options", tests, NULL, NULL);
}
