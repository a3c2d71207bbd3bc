/* SPDX-License-Identifier: Apache-2.0 */
/* Every set of reducers that runs here, against a scalar model, bit by bit. */
#include "collective/reduce.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"

enum { MOST = 67, PARTS = 4, SETS = 3 };

static const cohort_reducers *set_of(int set) {
    if (set == 1 && !(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")))
        return NULL;
    if (set == 2 &&
        !(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")))
        return NULL;
    static const cohort_reducers *const sets[SETS] = {
        &cohort_reducers_portable, &cohort_reducers_avx2, &cohort_reducers_avx512};
    return sets[set];
}

static float of_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* The nearest of those with 16 bits less, the even one of two; beyond the largest,
 * infinity. */
static uint16_t round_slowly(float value) {
    uint32_t bits = bits_of(value), low = bits & 0xffff;
    if (isnan(value)) return 0x7fc0;
    uint16_t cut = (uint16_t)(bits >> 16);
    return (uint16_t)(cut + (low > 0x8000 || (low == 0x8000 && cut % 2)));
}

static float join(float a, float b, cohort_reduce_op op) {
    if (op == COHORT_SUM) return a + b;
    return b > a ? b : a; /* the first, where one is NaN */
}

/* Numbers of all sizes and signs, infinities, NaN of any payload, denormals. */
static uint32_t draw(uint64_t seed, uint64_t i) {
    static const uint32_t odd[] = {0x7f800000, 0xff800000, 0x7f800001, 0x7fffffff,
                                   0xffffffff, 0x7f7fffff, 0x00000001, 0x80000000};
    uint64_t dice = cohort_random_u64(seed, i);
    return dice % 7 ? (uint32_t)(dice >> 32) : odd[dice / 7 % 8];
}

static void check_f32(const cohort_reducers *set, int32_t n_parts, size_t n,
                      cohort_reduce_op op, uint64_t seed) {
    static float parts[PARTS][MOST], out[MOST];
    const void *from[PARTS];
    for (int32_t p = 0; p < n_parts; p++) {
        from[p] = parts[p];
        for (size_t i = 0; i < n; i++)
            parts[p][i] = of_bits(draw(seed + (uint64_t)p, i));
    }
    set->f32(out, from, n_parts, n, op);
    for (size_t i = 0; i < n; i++) {
        float want = parts[0][i];
        for (int32_t p = 1; p < n_parts; p++)
            want = join(want, parts[p][i], op);
        if (isnan(want))
            assert_true(isnan(out[i]));
        else
            assert_int_equal(bits_of(out[i]), bits_of(want));
    }
}

static void check_bf16(const cohort_reducers *set, int32_t n_parts, size_t n,
                       cohort_reduce_op op, uint64_t seed) {
    static uint16_t parts[PARTS][MOST], out[MOST];
    const void *from[PARTS];
    for (int32_t p = 0; p < n_parts; p++) {
        from[p] = parts[p];
        for (size_t i = 0; i < n; i++)
            parts[p][i] = (uint16_t)(draw(seed + (uint64_t)p, i) >> 16);
    }
    set->bf16(out, from, n_parts, n, op);
    for (size_t i = 0; i < n; i++) {
        float want = of_bits((uint32_t)parts[0][i] << 16);
        for (int32_t p = 1; p < n_parts; p++) /* rounded once, after the last */
            want = join(want, of_bits((uint32_t)parts[p][i] << 16), op);
        if (isnan(want))
            assert_true(isnan(of_bits((uint32_t)out[i] << 16)));
        else
            assert_int_equal(out[i], round_slowly(want));
    }
}

static void check_i32(const cohort_reducers *set, int32_t n_parts, size_t n,
                      cohort_reduce_op op, uint64_t seed) {
    static int32_t parts[PARTS][MOST], out[MOST];
    const void *from[PARTS];
    for (int32_t p = 0; p < n_parts; p++) {
        from[p] = parts[p];
        for (size_t i = 0; i < n; i++)
            parts[p][i] = (int32_t)draw(seed + (uint64_t)p, i);
    }
    set->i32(out, from, n_parts, n, op);
    for (size_t i = 0; i < n; i++) {
        int32_t want = parts[0][i];
        for (int32_t p = 1; p < n_parts; p++) {
            int32_t next = parts[p][i];
            want = op == COHORT_SUM ? (int32_t)((uint32_t)want + (uint32_t)next)
                                    : (next > want ? next : want);
        }
        assert_int_equal(out[i], want);
    }
}

static void reducers_agree_with_a_scalar_model(void **state) {
    (void)state;
    for (int set = 0; set < SETS; set++) {
        if (!set_of(set)) continue;
        for (int32_t n_parts = 1; n_parts <= PARTS; n_parts++)
            for (size_t n = 0; n <= MOST; n++)
                for (uint64_t op = COHORT_SUM; op <= COHORT_MAX; op++) {
                    uint64_t seed = n * 64 + (uint64_t)n_parts * 8;
                    check_f32(set_of(set), n_parts, n, (cohort_reduce_op)op, seed);
                    check_bf16(set_of(set), n_parts, n, (cohort_reduce_op)op, seed);
                    check_i32(set_of(set), n_parts, n, (cohort_reduce_op)op, seed);
                }
    }
}

/* What lies behind the last element is somebody else's. */
static void nothing_is_written_behind_the_end(void **state) {
    (void)state;
    static const float part[MOST] = {1};
    const void *const from[2] = {part, part};
    for (int set = 0; set < SETS; set++)
        for (size_t n = 0; set_of(set) && n < MOST; n++) {
            float out[MOST + 1];
            out[n] = 77;
            set_of(set)->f32(out, from, 2, n, COHORT_SUM);
            assert_float_equal(out[n], 77, 0);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reducers_agree_with_a_scalar_model),
        cmocka_unit_test(nothing_is_written_behind_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
