/* SPDX-License-Identifier: Apache-2.0 */
#include "model/format.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void a_row_of_int8_is_within_half_a_step(void **state) {
    (void)state;
    enum { N = 300 };
    float row[N];
    int8_t values[N];
    for (int32_t i = 0; i < N; i++)
        row[i] = (float)((i * 7919) % 601 - 300) * 0.001F;
    row[17] = -0.5F;
    float scale = cohort_int8_of_row(row, N, values);
    assert_true(fabsf(scale - 0.5F / 127) < 1e-8F);
    assert_int_equal(values[17], -127);
    for (int32_t i = 0; i < N; i++)
        assert_true(fabsf((float)values[i] * scale - row[i]) <= 0.5001F * scale);
}

static void a_row_without_numbers_is_zeros(void **state) {
    (void)state;
    const float zeros[3] = {0}, infinite[3] = {1, INFINITY, -1};
    int8_t values[3] = {1, 1, 1};
    assert_true(cohort_int8_of_row(zeros, 3, values) == 0);
    assert_true(!values[0] && !values[1] && !values[2]);
    assert_true(!isfinite(cohort_int8_of_row(infinite, 3, values)));
    assert_true(!values[0] && !values[1] && !values[2]);
}

static void formats_say_what_their_planes_are(void **state) {
    (void)state;
    const cohort_format *dense = cohort_format_dense(COHORT_BF16),
                        *int8 = cohort_format_int8();
    assert_int_equal(dense->planes[COHORT_VALUES].dtype, COHORT_BF16);
    assert_false(dense->planes[COHORT_SCALES].is_there);
    assert_int_equal(int8->planes[COHORT_VALUES].dtype, COHORT_I8);
    assert_true(int8->planes[COHORT_SCALES].is_there);
    assert_int_equal(int8->planes[COHORT_SCALES].rows, 1);
    assert_int_equal(int8->planes[COHORT_SCALES].columns, 0);
    assert_false(int8->planes[COHORT_ZERO_POINTS].is_there);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_row_of_int8_is_within_half_a_step),
        cmocka_unit_test(a_row_without_numbers_is_zeros),
        cmocka_unit_test(formats_say_what_their_planes_are),
    };
    return cmocka_run_group_tests_name("model/format", tests, NULL, NULL);
}
