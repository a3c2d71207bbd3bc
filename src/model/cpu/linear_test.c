/* SPDX-License-Identifier: Apache-2.0 */
#include "model/cpu/cpu_internal.h"
#include "model/cpu/cpu_test.h"
#include "model/half.h"

/* Weights and their products, against sums in double. */

static const struct shape {
    int64_t n_out, n_in;
} shapes[] = {{1, 1},    {16, 2},    {17, 3},   {5, 64},    {48, 31},
              {33, 100}, {130, 257}, {300, 64}, {64, 1100}, {40, 1025}};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };
static const int64_t row_counts[] = {1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 25, 193, 200};
enum { N_ROW_COUNTS = sizeof row_counts / sizeof *row_counts, MOST_ROWS = 200 };

/* The matrix as the backend holds it: values that its dtype can represent. */
struct matrix {
    cohort_linear *linear;
    int64_t n_out, n_in;
    float *values;
};

static float rounded(cohort_dtype dtype, float value) {
    if (dtype == COHORT_BF16) return of_bf16(bf16_of(value));
    if (dtype == COHORT_F16) return rintf(value * 2048) / 2048; /* 11 bits below 1 */
    return value;
}

static struct matrix make_matrix(cohort_backend *backend, cohort_dtype dtype,
                                 struct shape shape, uint64_t seed) {
    struct matrix matrix = {.n_out = shape.n_out, .n_in = shape.n_in};
    matrix.values = noise_floats(shape.n_out * shape.n_in, seed);
    for (int64_t i = 0; i < shape.n_out * shape.n_in; i++)
        matrix.values[i] = rounded(dtype, matrix.values[i]);
    assert_int_equal(
        cohort_cpu_linear_create(backend, shape.n_out, shape.n_in, dtype, &matrix.linear),
        COHORT_OK);
    assert_true(cohort_cpu_linear_bytes(matrix.linear) >=
                (size_t)(shape.n_out * shape.n_in) * (dtype == COHORT_F32 ? 4 : 2));
    /* In two pieces that meet inside a panel, the second one first. */
    int64_t split = shape.n_out / 3;
    cohort_cpu_linear_set(matrix.linear, split, shape.n_out - split,
                          matrix.values + split * shape.n_in, COHORT_F32, shape.n_in);
    cohort_cpu_linear_set(matrix.linear, 0, split, matrix.values, COHORT_F32, shape.n_in);
    return matrix;
}

static void free_matrix(struct matrix *matrix) {
    cohort_cpu_linear_destroy(matrix->linear);
    free(matrix->values);
}

/* |sum of n products of numbers below 1| in f32, in the worst order: n^2 / 2 ulps of
 * 2^-24; what random signs leave of it is far below n * 1e-6. */
static double tolerance(int64_t n_in) { return 1e-6 * (double)n_in + 1e-6; }

static double reference(const struct matrix *matrix, const float *x, int64_t row) {
    double sum = 0;
    for (int64_t k = 0; k < matrix->n_in; k++)
        sum += (double)x[k] * (double)matrix->values[row * matrix->n_in + k];
    return sum;
}

static void check_products(cohort_backend *backend, cohort_dtype dtype,
                           struct shape shape) {
    struct matrix matrix = make_matrix(backend, dtype, shape, 7);
    const int64_t x_stride = shape.n_in + 3, y_stride = shape.n_out + 5;
    float *x = noise_floats(MOST_ROWS * x_stride, 8);
    float *bias = noise_floats(shape.n_out, 9);
    float *y = malloc((size_t)(MOST_ROWS * y_stride) * sizeof *y);
    float *alone = malloc((size_t)shape.n_out * sizeof *alone);
    for (int i = 0; i < N_ROW_COUNTS; i++) {
        int64_t n = row_counts[i];
        for (int64_t j = 0; j < MOST_ROWS * y_stride; j++)
            y[j] = 77;
        cohort_cpu_linear(backend, matrix.linear, bias, x, x_stride, y, y_stride, n);
        for (int64_t r = 0; r < n; r += n < 20 ? 1 : 37)
            for (int64_t o = 0; o < shape.n_out; o++)
                assert_near(y[r * y_stride + o],
                            reference(&matrix, x + r * x_stride, o) + (double)bias[o],
                            tolerance(shape.n_in));
        /* Nothing is written beside the rows. */
        for (int64_t r = 0; r < n; r++)
            for (int64_t o = shape.n_out; o < y_stride; o++)
                assert_true(y[r * y_stride + o] == 77);
        /* The last row computes the same alone, bit for bit. */
        cohort_cpu_linear(backend, matrix.linear, bias, x + (n - 1) * x_stride, x_stride,
                          alone, shape.n_out, 1);
        assert_memory_equal(alone, y + (n - 1) * y_stride,
                            (size_t)shape.n_out * sizeof *alone);
    }
    free(alone);
    free(y);
    free(bias);
    free(x);
    free_matrix(&matrix);
}

static void all_products(cohort_backend *backend) {
    const cohort_dtype dtypes[] = {COHORT_F32, COHORT_BF16, COHORT_F16};
    for (int d = 0; d < 3; d++)
        for (int s = 0; s < N_SHAPES; s++)
            check_products(backend, dtypes[d], shapes[s]);
}

static void products_match_double_whatever_the_rows(void **state) {
    (void)state;
    on_every_isa(all_products);
}

/* Rows of x rounded to bf16 leave an error of 2^-9 of each product. */
static void check_rounded_products(cohort_backend *backend) {
    for (int s = 0; s < N_SHAPES; s++) {
        struct shape shape = shapes[s];
        struct matrix matrix = make_matrix(backend, COHORT_BF16, shape, 3);
        float *x = noise_floats(MOST_ROWS * shape.n_in, 4);
        float *y = malloc((size_t)(MOST_ROWS * shape.n_out) * sizeof *y);
        float *alone = malloc((size_t)shape.n_out * sizeof *alone);
        cohort_cpu_linear(backend, matrix.linear, NULL, x, shape.n_in, y, shape.n_out,
                          MOST_ROWS);
        for (int64_t r = 0; r < MOST_ROWS; r += 11) {
            float nearest[1100];
            for (int64_t k = 0; k < shape.n_in; k++)
                nearest[k] = of_bf16(bf16_of(x[r * shape.n_in + k]));
            for (int64_t o = 0; o < shape.n_out; o++)
                assert_near(y[r * shape.n_out + o], reference(&matrix, nearest, o),
                            tolerance(shape.n_in));
        }
        for (int64_t n = 1; n <= 40; n++) {
            cohort_cpu_linear(backend, matrix.linear, NULL, x, shape.n_in, y, shape.n_out,
                              n);
            cohort_cpu_linear(backend, matrix.linear, NULL, x + (n - 1) * shape.n_in,
                              shape.n_in, alone, shape.n_out, 1);
            assert_memory_equal(alone, y + (n - 1) * shape.n_out,
                                (size_t)shape.n_out * sizeof *alone);
        }
        free(alone);
        free(y);
        free(x);
        free_matrix(&matrix);
    }
}

static void bf16_activations_are_close_and_do_not_depend_on_rows(void **state) {
    (void)state;
    on_dot_products(check_rounded_products);
}

static void threads_do_not_change_a_bit(void **state) {
    (void)state;
    enum { ROWS = 30, N_OUT = 210, N_IN = 600 };
    for (int i = 0; i < N_ISAS; i++) {
        float *x = noise_floats(ROWS * N_IN, 2), *y[3];
        bool there = true;
        for (int32_t t = 0; t < 3; t++) {
            y[t] = calloc(ROWS * N_OUT, sizeof(float));
            cohort_backend *backend = open_backend(isa_names[i], 1 + 2 * t, true);
            there = backend;
            if (!backend) continue;
            struct matrix matrix =
                make_matrix(backend, COHORT_BF16, (struct shape){N_OUT, N_IN}, 5);
            cohort_cpu_linear(backend, matrix.linear, NULL, x, N_IN, y[t], N_OUT, ROWS);
            free_matrix(&matrix);
            cohort_backend_cpu()->destroy(backend);
        }
        for (int t = 1; there && t < 3; t++)
            assert_memory_equal(y[0], y[t], ROWS * N_OUT * sizeof(float));
        for (int t = 0; t < 3; t++)
            free(y[t]);
        free(x);
    }
}

/* ---- filling and looking up -------------------------------------------------------- */

/* m / 128 for |m| < 128: every dtype holds it. */
static void encode(cohort_dtype dtype, int32_t m, unsigned char *to) {
    float value = (float)m / 128;
    uint16_t half = bf16_of(value);
    if (dtype == COHORT_F16) {
        uint32_t size = (uint32_t)abs(m),
                 exponent = size ? 31u - (uint32_t)__builtin_clz(size) : 0;
        half = (uint16_t)(size ? (exponent + 8) << 10 | (size << (10 - exponent) & 0x3ff)
                               : 0);
        if (m < 0) half = (uint16_t)(half | 0x8000);
    }
    if (dtype == COHORT_F32)
        memcpy(to, &value, sizeof value);
    else
        memcpy(to, &half, sizeof half);
}

/* From every dtype to every other, out of a source that is aligned to nothing. */
static void check_conversion(cohort_backend *backend, cohort_dtype src,
                             cohort_dtype dtype) {
    enum { N_OUT = 35, N_IN = 147 };
    const int32_t bytes = src == COHORT_F32 ? 4 : 2;
    unsigned char *source = malloc(N_OUT * N_IN * 4 + 1);
    for (int32_t i = 0; i < N_OUT * N_IN; i++)
        encode(src, i * 37 % 255 - 127, source + 1 + i * bytes);
    cohort_linear *linear;
    assert_int_equal(cohort_cpu_linear_create(backend, N_OUT, N_IN, dtype, &linear),
                     COHORT_OK);
    cohort_cpu_linear_set(linear, 0, N_OUT, source + 1, src, N_IN);
    int32_t ids[N_OUT + 1];
    for (int32_t i = 0; i < N_OUT; i++)
        ids[i] = N_OUT - 1 - i;
    ids[N_OUT] = -1;
    float *y = noise_floats((N_OUT + 1) * N_IN, 1);
    cohort_cpu_embed(backend, linear, ids, N_OUT + 1, y);
    for (int32_t r = 0; r <= N_OUT; r++)
        for (int32_t k = 0; k < N_IN; k++) {
            int32_t m = r < N_OUT ? (ids[r] * N_IN + k) * 37 % 255 - 127 : 0;
            assert_near(y[r * N_IN + k], (double)m / 128, 0);
        }
    free(y);
    free(source);
    cohort_cpu_linear_destroy(linear);
}

static void all_conversions(cohort_backend *backend) {
    const cohort_dtype dtypes[] = {COHORT_F32, COHORT_BF16, COHORT_F16};
    for (int src = 0; src < 3; src++)
        for (int dst = 0; dst < 3; dst++)
            check_conversion(backend, dtypes[src], dtypes[dst]);
}

static void rows_come_back_as_they_were_set(void **state) {
    (void)state;
    on_every_isa(all_conversions);
}

/* All 65536 bit patterns: f16 -> f32 -> f16 is the identity but for NaN, and the vector
 * instruction agrees with the scalar code. */
static void f16_is_exact(cohort_backend *backend) {
    enum { N = 65536, COLUMNS = 256 };
    uint16_t *halves = malloc(N * sizeof *halves);
    float *wide = malloc(N * sizeof *wide), *again = malloc(N * sizeof *again);
    int32_t ids[N / COLUMNS];
    for (int32_t i = 0; i < N; i++)
        halves[i] = (uint16_t)i;
    for (int32_t i = 0; i < N / COLUMNS; i++)
        ids[i] = i;
    cohort_linear *linear;
    assert_int_equal(
        cohort_cpu_linear_create(backend, N / COLUMNS, COLUMNS, COHORT_F16, &linear),
        COHORT_OK);
    cohort_cpu_linear_set(linear, 0, N / COLUMNS, halves, COHORT_F16, COLUMNS);
    cohort_cpu_embed(backend, linear, ids, N / COLUMNS, wide);
    assert_near(wide[0x3c00], 1, 0);
    assert_near(wide[0xc000], -2, 0);
    assert_near(wide[0x0001], 0x1p-24, 0);
    assert_near(wide[0x7bff], 65504, 0);
    assert_true(isinf(wide[0x7c00]) && isnan(wide[0x7c01]));
    cohort_cpu_linear_set(linear, 0, N / COLUMNS, wide, COHORT_F32, COLUMNS);
    cohort_cpu_embed(backend, linear, ids, N / COLUMNS, again);
    for (int32_t i = 0; i < N; i++)
        if (isnan(wide[i]))
            assert_true(isnan(again[i]));
        else
            assert_memory_equal(&wide[i], &again[i], sizeof(float));
    /* Row r times the unit vector of column 5, by the kernel. */
    float unit[COLUMNS] = {0}, y[N / COLUMNS];
    unit[5] = 1;
    for (int32_t i = 0; i < N; i++)
        halves[i] = i % COLUMNS == 5 ? halves[i] : 0;
    cohort_cpu_linear_set(linear, 0, N / COLUMNS, halves, COHORT_F16, COLUMNS);
    cohort_cpu_linear(backend, linear, NULL, unit, COLUMNS, y, N / COLUMNS, 1);
    for (int32_t r = 0; r < N / COLUMNS; r++)
        if (isfinite(wide[r * COLUMNS + 5])) assert_near(y[r], wide[r * COLUMNS + 5], 0);
    cohort_cpu_linear_destroy(linear);
    free(again);
    free(wide);
    free(halves);
}

static void f16_survives_every_bit_pattern(void **state) {
    (void)state;
    on_every_isa(f16_is_exact);
}

static void bf16_rounds_to_nearest_even_and_keeps_nan(void **state) {
    (void)state;
    cohort_backend *backend = open_backend(NULL, 1, false);
    float values[6] = {1 + 0x1p-8f, 1 + 3 * 0x1p-8f, 1 + 0x1.1p-8f,
                       NAN,         -INFINITY,       3e38f};
    float expected[6] = {1, 1 + 0x1p-6f, 1 + 0x1p-7f, 0, -INFINITY, 0};
    cohort_linear *linear;
    assert_int_equal(cohort_cpu_linear_create(backend, 1, 6, COHORT_BF16, &linear),
                     COHORT_OK);
    cohort_cpu_linear_set(linear, 0, 1, values, COHORT_F32, 6);
    float y[6];
    cohort_cpu_embed(backend, linear, &(int32_t){0}, 1, y);
    for (int i = 0; i < 3; i++)
        assert_near(y[i], expected[i], 0);
    assert_true(isnan(y[3]));
    assert_true(isinf(y[4]) && y[4] < 0);
    assert_near(y[5], 3e38, 1.2e36);
    cohort_cpu_linear_destroy(linear);
    cohort_backend_cpu()->destroy(backend);
}

static void a_column_slice_can_be_set(void **state) {
    (void)state;
    cohort_backend *backend = open_backend(NULL, 2, false);
    enum { N_OUT = 20, WIDE = 50, N_IN = 9, FROM = 21 };
    float *values = noise_floats(N_OUT * WIDE, 6), y[N_IN];
    cohort_linear *linear;
    assert_int_equal(cohort_cpu_linear_create(backend, N_OUT, N_IN, COHORT_F32, &linear),
                     COHORT_OK);
    cohort_cpu_linear_set(linear, 0, N_OUT, values + FROM, COHORT_F32, WIDE);
    for (int32_t r = 0; r < N_OUT; r++) {
        cohort_cpu_embed(backend, linear, &r, 1, y);
        assert_memory_equal(y, values + r * WIDE + FROM, sizeof y);
    }
    cohort_cpu_linear_destroy(linear);
    free(values);
    cohort_backend_cpu()->destroy(backend);
}

static void empty_matrices_are_harmless_and_absurd_ones_refused(void **state) {
    (void)state;
    cohort_backend *backend = open_backend(NULL, 2, false);
    float x[8] = {0}, bias[2] = {3, 4}, y[2] = {9, 9};
    cohort_linear *linear;
    assert_int_equal(cohort_cpu_linear_create(backend, 0, 8, COHORT_BF16, &linear),
                     COHORT_OK);
    cohort_cpu_linear(backend, linear, NULL, x, 8, y, 0, 1);
    cohort_cpu_linear_destroy(linear);
    assert_int_equal(cohort_cpu_linear_create(backend, 2, 0, COHORT_BF16, &linear),
                     COHORT_OK);
    cohort_cpu_linear(backend, linear, bias, x, 0, y, 2, 1);
    assert_near(y[0], 3, 0);
    assert_near(y[1], 4, 0);
    cohort_cpu_linear_destroy(linear);
    assert_int_equal(cohort_cpu_linear_create(backend, 2, 2, COHORT_I32, &linear),
                     COHORT_E_INVALID);
    assert_int_equal(
        cohort_cpu_linear_create(backend, 2, 1LL << 40, COHORT_BF16, &linear),
        COHORT_E_INVALID);
    cohort_backend_cpu()->destroy(backend);
}

static void unknown_isa_is_refused_by_name(void **state) {
    (void)state;
    cohort_cpu_options cpu = {.n_threads = 1, .isa = "neon"};
    const cohort_backend_options options = {.device = &cpu};
    cohort_backend *backend;
    assert_int_equal(cohort_backend_cpu()->create(&options, &backend), COHORT_E_INVALID);
    assert_null(backend);
    assert_non_null(strstr(cohort_last_error()->message, "neon"));
    cpu.isa = "portable";
    assert_int_equal(cohort_backend_cpu()->create(&options, &backend), COHORT_OK);
    assert_string_equal(cohort_backend_cpu()->describe(backend), "portable");
    cohort_backend_cpu()->destroy(backend);
}

/* Rounded up as a number, these would be an infinity or a zero. */
static void every_payload_of_nan_stays_one_in_bf16(void **state) {
    (void)state;
    static const uint32_t nans[] = {0x7f800001, 0x7f80ffff, 0x7fffffff, 0x7fff8000,
                                    0xff800001, 0xffff8000, 0xffffffff};
    for (size_t i = 0; i < sizeof nans / sizeof *nans; i++) {
        float value;
        memcpy(&value, &nans[i], sizeof value);
        uint16_t bits = cohort_bf16_of_float(value);
        assert_true((bits & 0x7fff) > 0x7f80);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_match_double_whatever_the_rows),
        cmocka_unit_test(bf16_activations_are_close_and_do_not_depend_on_rows),
        cmocka_unit_test(threads_do_not_change_a_bit),
        cmocka_unit_test(rows_come_back_as_they_were_set),
        cmocka_unit_test(f16_survives_every_bit_pattern),
        cmocka_unit_test(bf16_rounds_to_nearest_even_and_keeps_nan),
        cmocka_unit_test(every_payload_of_nan_stays_one_in_bf16),
        cmocka_unit_test(a_column_slice_can_be_set),
        cmocka_unit_test(empty_matrices_are_harmless_and_absurd_ones_refused),
        cmocka_unit_test(unknown_isa_is_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
