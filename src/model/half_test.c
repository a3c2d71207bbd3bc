/* SPDX-License-Identifier: Apache-2.0 */
#include "model/half.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void every_half_is_a_float_and_comes_back(void **state) {
    (void)state;
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        uint16_t half = (uint16_t)bits;
        float f16 = cohort_float_of_f16(half), bf16 = cohort_float_of_bf16(half);
        if (isnan(f16))
            assert_true(isnan(cohort_float_of_f16(cohort_f16_of_float(f16))));
        else
            assert_int_equal(cohort_f16_of_float(f16), half);
        if (isnan(bf16))
            assert_true(isnan(cohort_float_of_bf16(cohort_bf16_of_float(bf16))));
        else
            assert_int_equal(cohort_bf16_of_float(bf16), half);
    }
}

static void f16_is_what_its_bits_say(void **state) {
    (void)state;
    for (int exponent = 0; exponent < 31; exponent++)
        for (int mantissa = 0; mantissa < 1024; mantissa++) {
            uint16_t half = (uint16_t)(exponent << 10 | mantissa);
            double value =
                exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);
            assert_true((double)cohort_float_of_f16(half) == value);
            assert_true((double)cohort_float_of_f16(half | 0x8000) == -value);
        }
    assert_true(isinf(cohort_float_of_f16(0x7c00)));
    assert_true(isnan(cohort_float_of_f16(0x7c01)));
}

/* Between two neighbours: to the nearer one, from the middle to the even one. */
static void rounding_is_to_nearest_even(void **state) {
    (void)state;
    for (uint16_t half = 0; half < 0x7bff; half++) {
        double low = (double)cohort_float_of_f16(half);
        double high = (double)cohort_float_of_f16((uint16_t)(half + 1));
        uint16_t even = half % 2 ? (uint16_t)(half + 1) : half;
        assert_int_equal(cohort_f16_of_float((float)((low + high) / 2)), even);
        assert_int_equal(cohort_f16_of_float((float)(low + (high - low) * 0.499)), half);
        assert_int_equal(cohort_f16_of_float((float)(low + (high - low) * 0.501)),
                         half + 1);
    }
    assert_int_equal(cohort_f16_of_float(65519.0f), 0x7bff);
    assert_int_equal(cohort_f16_of_float(65520.0f), 0x7c00);
    for (uint16_t half = 0x80; half < 0x7f7f; half++) {
        uint32_t bits = (uint32_t)half << 16;
        uint16_t even = half % 2 ? (uint16_t)(half + 1) : half;
        assert_int_equal(cohort_bf16_of_float(cohort_float_of_bits(bits | 0x7fff)), half);
        assert_int_equal(cohort_bf16_of_float(cohort_float_of_bits(bits | 0x8000)), even);
        assert_int_equal(cohort_bf16_of_float(cohort_float_of_bits(bits | 0x8001)),
                         half + 1);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_half_is_a_float_and_comes_back),
        cmocka_unit_test(f16_is_what_its_bits_say),
        cmocka_unit_test(rounding_is_to_nearest_even),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
