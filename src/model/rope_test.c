/* SPDX-License-Identifier: Apache-2.0 */
#include "model/rope.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { HEAD_DIM = 64, PAIRS = HEAD_DIM / 2 };

static void assert_close(double got, double expected, double tolerance) {
    if (!(fabs(got - expected) <= tolerance)) fail_msg("%.17g, not %.17g", got, expected);
}

static void frequencies_fall_from_one_by_powers_of_theta(void **state) {
    (void)state;
    double frequencies[PAIRS];
    const cohort_rope rope = {.type = COHORT_ROPE_DEFAULT, .theta = 10000};
    cohort_rope_frequencies(&rope, HEAD_DIM, frequencies);
    assert_close(frequencies[0], 1, 0);
    assert_close(frequencies[16], 0.01, 1e-15);
    const cohort_rope linear = {.type = COHORT_ROPE_LINEAR, .theta = 10000, .factor = 4};
    cohort_rope_frequencies(&linear, HEAD_DIM, frequencies);
    assert_close(frequencies[16], 0.0025, 1e-15);
}

/* Short wavelengths stay, long ones are stretched, those between are mixed. */
static void llama3_stretches_long_wavelengths_only(void **state) {
    (void)state;
    double plain[PAIRS], scaled[PAIRS];
    const cohort_rope rope = {.type = COHORT_ROPE_LLAMA3,
                              .theta = 500000,
                              .factor = 8,
                              .low_freq_factor = 1,
                              .high_freq_factor = 4,
                              .original_max_position_embeddings = 8192};
    cohort_rope_frequencies(&(cohort_rope){.type = COHORT_ROPE_DEFAULT, .theta = 500000},
                            HEAD_DIM, plain);
    cohort_rope_frequencies(&rope, HEAD_DIM, scaled);
    int stretched = 0, mixed = 0;
    for (int i = 0; i < PAIRS; i++) {
        double wavelength = 2 * M_PI / plain[i], ratio = plain[i] / scaled[i];
        if (wavelength < 2048)
            assert_close(ratio, 1, 0);
        else if (wavelength > 8192)
            assert_close(ratio, 8, 1e-12);
        else
            assert_true(ratio > 1 && ratio < 8);
        stretched += wavelength > 8192;
        mixed += wavelength >= 2048 && wavelength <= 8192;
    }
    assert_true(stretched > 0 && mixed > 0);
}

static void yarn_ramps_between_its_two_ends(void **state) {
    (void)state;
    double plain[PAIRS], scaled[PAIRS];
    const cohort_rope rope = {.type = COHORT_ROPE_YARN,
                              .theta = 1e6,
                              .factor = 4,
                              .beta_fast = 32,
                              .beta_slow = 1,
                              .attention_factor = 1.25,
                              .truncate = true,
                              .original_max_position_embeddings = 512};
    cohort_rope_frequencies(&(cohort_rope){.type = COHORT_ROPE_DEFAULT, .theta = 1e6},
                            HEAD_DIM, plain);
    cohort_rope_frequencies(&rope, HEAD_DIM, scaled);
    /* 64 * ln(512 / (32 * 2 pi)) / (2 ln 1e6) = 2.16, 64 * ln(512 / 2 pi) / ... = 10.19
     */
    for (int i = 0; i < PAIRS; i++) {
        double ramp = fmin(fmax((i - 2) / 9.0, 0), 1);
        assert_close(scaled[i] / plain[i], ramp / 4 + 1 - ramp, 1e-12);
    }
    float cos_table[PAIRS], sin_table[PAIRS];
    cohort_rope_tables(&rope, HEAD_DIM, 1, cos_table, sin_table);
    assert_close((double)cos_table[3], 1.25, 0);
    assert_close((double)sin_table[3], 0, 0);
}

static void tables_are_exact_far_out(void **state) {
    (void)state;
    enum { POSITIONS = 131072 };
    const cohort_rope rope = {.type = COHORT_ROPE_DEFAULT, .theta = 500000};
    float *tables = malloc((size_t)2 * POSITIONS * PAIRS * sizeof *tables);
    assert_non_null(tables);
    float *sin_table = tables + (size_t)POSITIONS * PAIRS;
    cohort_rope_tables(&rope, HEAD_DIM, POSITIONS, tables, sin_table);
    double frequencies[PAIRS];
    cohort_rope_frequencies(&rope, HEAD_DIM, frequencies);
    for (int position = 0; position < POSITIONS; position += 997)
        for (int i = 0; i < PAIRS; i++) {
            size_t at = (size_t)position * PAIRS + (size_t)i;
            assert_close((double)tables[at], cos(position * frequencies[i]), 1e-7);
            assert_close((double)sin_table[at], sin(position * frequencies[i]), 1e-7);
        }
    free(tables);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frequencies_fall_from_one_by_powers_of_theta),
        cmocka_unit_test(llama3_stretches_long_wavelengths_only),
        cmocka_unit_test(yarn_ramps_between_its_two_ends),
        cmocka_unit_test(tables_are_exact_far_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
