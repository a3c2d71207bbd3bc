/* SPDX-License-Identifier: Apache-2.0 */
#include "model/cpu/cpu_internal.h"
#include "model/cpu/cpu_test.h"

/* Norms, rotation, activations, router and experts against the same in double. */

static const int64_t widths[] = {1, 7, 16, 33, 64, 576, 1027};
enum { N_WIDTHS = sizeof widths / sizeof *widths, ROWS = 13 };

/* ---- norms and sums ---------------------------------------------------------------- */

static void check_norm(const float *x, const float *y, const float *weight,
                       const float *bias, bool centred, int64_t n) {
    double mean = 0, squares = 0;
    for (int64_t i = 0; i < n && centred; i++)
        mean += (double)x[i] / (double)n;
    for (int64_t i = 0; i < n; i++)
        squares += ((double)x[i] - mean) * ((double)x[i] - mean);
    double scale = 1 / sqrt(squares / (double)n + 1e-5);
    for (int64_t i = 0; i < n; i++) {
        double expected = ((double)x[i] - mean) * scale * (double)weight[i];
        if (bias) expected += (double)bias[i];
        assert_near(y[i], expected, 4e-6);
    }
}

static void norms(cohort_backend *backend) {
    for (int w = 0; w < N_WIDTHS; w++) {
        int64_t n = widths[w];
        float *x = noise_floats(ROWS * n, 1), *weight = noise_floats(n, 2);
        float *bias = noise_floats(n, 3), *y = noise_floats(ROWS * n, 4);
        float *alone = noise_floats(n, 5);
        for (int layer = 0; layer < 2; layer++) {
            if (layer)
                cohort_cpu_layer_norm(backend, x, weight, bias, 1e-5f, y, ROWS, n);
            else
                cohort_cpu_rms_norm(backend, x, weight, 1e-5f, y, ROWS, n);
            for (int64_t r = 0; r < ROWS; r++)
                check_norm(x + r * n, y + r * n, weight, layer ? bias : NULL, layer, n);
            const float *last = x + (ROWS - 1) * n;
            if (layer)
                cohort_cpu_layer_norm(backend, last, weight, bias, 1e-5f, alone, 1, n);
            else
                cohort_cpu_rms_norm(backend, last, weight, 1e-5f, alone, 1, n);
            assert_memory_equal(alone, y + (ROWS - 1) * n, (size_t)n * sizeof *alone);
        }
        cohort_cpu_add(backend, y, x, ROWS * n);
        cohort_cpu_layer_norm(backend, x, weight, bias, 1e-5f, alone, 1, n);
        for (int64_t i = 0; i < n; i++)
            assert_near(y[i], (double)alone[i] + (double)x[i], 1e-6);
        free(alone);
        free(y);
        free(bias);
        free(weight);
        free(x);
    }
}

static void norms_and_sums_match_double(void **state) {
    (void)state;
    on_every_isa(norms);
}

/* ---- rotation ---------------------------------------------------------------------- */

static double normed_value(const float *head, const float *weight, int32_t dim,
                           int32_t i) {
    if (!weight) return (double)head[i];
    double squares = 0;
    for (int32_t d = 0; d < dim; d++)
        squares += (double)head[d] * (double)head[d];
    return (double)head[i] / sqrt(squares / dim + 1e-6) * (double)weight[i];
}

static void rotation(cohort_backend *backend, int32_t dim, bool normed, bool turned) {
    enum { HEADS = 5, KV_HEADS = 2, ROWS_A = 6, ROWS_B = 1, BEFORE_B = 9, TABLE = 10 };
    const int64_t width = (HEADS + 2 * KV_HEADS) * dim, stride = width + 8;
    const int32_t half = dim / 2;
    cohort_sequence sequences[2] = {
        {.n_rows = ROWS_A},
        {.row_begin = ROWS_A, .n_rows = ROWS_B, .n_computed = BEFORE_B}};
    cohort_attention shape = {.sequences = sequences,
                              .n_sequences = 2,
                              .n_heads = HEADS,
                              .n_kv_heads = KV_HEADS,
                              .head_dim = dim};
    float *qkv = noise_floats((ROWS_A + ROWS_B) * stride, 1);
    float *before = noise_floats((ROWS_A + ROWS_B) * stride, 1);
    float *q_norm = noise_floats(dim, 2), *k_norm = noise_floats(dim, 3);
    float *cosines = noise_floats(TABLE * half, 4),
          *sines = noise_floats(TABLE * half, 5);
    cohort_cpu_qk_norm_rope(backend, &shape, qkv, stride, normed ? q_norm : NULL,
                            normed ? k_norm : NULL, 1e-6f, turned ? cosines : NULL,
                            turned ? sines : NULL);
    for (int32_t r = 0; r < ROWS_A + ROWS_B; r++) {
        int32_t position = r < ROWS_A ? r : BEFORE_B;
        for (int32_t h = 0; h < HEADS + KV_HEADS; h++) {
            const float *old = before + r * stride + h * dim;
            const float *weight = !normed ? NULL : h < HEADS ? q_norm : k_norm;
            for (int32_t i = 0; i < half; i++) {
                double a = normed_value(old, weight, dim, i);
                double b = normed_value(old, weight, dim, i + half);
                double c = turned ? (double)cosines[position * half + i] : 1;
                double s = turned ? (double)sines[position * half + i] : 0;
                const float *now = qkv + r * stride + h * dim;
                assert_near(now[i], a * c - b * s, 2e-6);
                assert_near(now[i + half], b * c + a * s, 2e-6);
            }
        }
        int64_t values = (HEADS + KV_HEADS) * dim;
        assert_memory_equal(qkv + r * stride + values, before + r * stride + values,
                            (size_t)(stride - values) * sizeof *qkv);
    }
    free(sines);
    free(cosines);
    free(k_norm);
    free(q_norm);
    free(before);
    free(qkv);
}

static void rotations(cohort_backend *backend) {
    const int32_t dims[] = {8, 20, 64, 128};
    for (int d = 0; d < 4; d++)
        for (int how = 0; how < 4; how++)
            rotation(backend, dims[d], how & 1, how & 2);
}

static void heads_are_normed_and_rotated(void **state) {
    (void)state;
    on_every_isa(rotations);
}

/* ---- activations ------------------------------------------------------------------- */

static double applied(cohort_activation activation, double x) {
    switch (activation) {
    case COHORT_SILU: return x / (1 + exp(-x));
    case COHORT_GELU: return 0.5 * x * (1 + erf(x / sqrt(2)));
    default: return x > 0 ? x : 0;
    }
}

static void activations(cohort_backend *backend) {
    for (int kind = COHORT_SILU; kind <= COHORT_GELU; kind++)
        for (int gated = 0; gated < 2; gated++)
            for (int w = 0; w < N_WIDTHS; w++) {
                int64_t n = widths[w], wide = gated ? 2 * n : n;
                float *x = noise_floats(ROWS * wide, 1), *y = noise_floats(ROWS * n, 2);
                for (int64_t i = 0; i < ROWS * wide; i++)
                    x[i] *= 20;
                cohort_cpu_activate(backend, (cohort_activation)kind, gated, x, y, ROWS,
                                    n);
                for (int64_t r = 0; r < ROWS; r++)
                    for (int64_t i = 0; i < n; i++) {
                        double value =
                            applied((cohort_activation)kind, (double)x[r * wide + i]);
                        if (gated) value *= (double)x[r * wide + n + i];
                        assert_near(y[r * n + i], value, 4e-6 + fabs(value) * 5e-7);
                    }
                free(y);
                free(x);
            }
}

static void activations_match_double(void **state) {
    (void)state;
    on_every_isa(activations);
}

/* silu(x) / x = 1 / (1 + e^-x) shows exp over its whole range, and NaN. */
static void exp_is_accurate_over_its_range(cohort_backend *backend) {
    enum { N = 4000 };
    float x[N], y[N];
    for (int i = 0; i < N; i++)
        x[i] = (float)(i - N / 2) * 0.05f + 0.001f;
    x[17] = NAN;
    x[18] = -INFINITY;
    x[19] = 1e30f;
    cohort_cpu_activate(backend, COHORT_SILU, false, x, y, 1, N);
    for (int i = 0; i < N; i++) {
        double value = applied(COHORT_SILU, (double)x[i]);
        if (i == 17) assert_true(isnan(y[i]));
        if (i == 17 || i == 18 || x[i] < -87) continue;
        assert_near(y[i], value, fabs(value) * 6e-7);
    }
}

static void exp_is_accurate(void **state) {
    (void)state;
    on_every_isa(exp_is_accurate_over_its_range);
}

/* ---- mixture of experts ------------------------------------------------------------ */

static void routes(cohort_backend *backend) {
    enum { EXPERTS = 70, TOP = 8, N = 150 };
    float *logits = noise_floats(N * EXPERTS, 4), weights[N * TOP];
    int32_t ids[N * TOP];
    for (int32_t i = 0; i < N * EXPERTS; i++)
        logits[i] *= 10;
    logits[5] = logits[9] = 50; /* a tie goes to the lower id */
    for (int renormalise = 0; renormalise < 2; renormalise++) {
        cohort_cpu_route(backend, logits, N, EXPERTS, TOP, renormalise, ids, weights);
        assert_int_equal(ids[0], 5);
        assert_int_equal(ids[1], 9);
        for (int32_t r = 0; r < N; r++) {
            const float *row = logits + r * EXPERTS;
            double sum = 0, chosen = 0;
            for (int32_t e = 0; e < EXPERTS; e++)
                sum += exp((double)row[e]);
            for (int32_t i = 0; i < TOP; i++)
                chosen += exp((double)row[ids[r * TOP + i]]);
            int32_t larger = 0; /* experts above the last one chosen */
            for (int32_t e = 0; e < EXPERTS; e++)
                larger += row[e] > row[ids[r * TOP + TOP - 1]];
            assert_int_equal(larger, TOP - 1);
            for (int32_t i = 0; i < TOP; i++) {
                double p = exp((double)row[ids[r * TOP + i]]);
                assert_near(weights[r * TOP + i], p / (renormalise ? chosen : sum), 1e-6);
                if (i) assert_true(row[ids[r * TOP + i]] <= row[ids[r * TOP + i - 1]]);
            }
        }
    }
    free(logits);
}

static void router_takes_the_likeliest(void **state) {
    (void)state;
    on_every_isa(routes);
}

enum { N_EXPERTS = 6, TOP_K = 2, WIDTH = 40, INNER = 24, MIX_ROWS = 210 };

static double expert_value(const float *gate_up, const float *down, const float *x,
                           int32_t out) {
    double sum = 0;
    for (int32_t i = 0; i < INNER; i++) {
        double gate = 0, up = 0;
        for (int32_t k = 0; k < WIDTH; k++) {
            gate += (double)gate_up[i * WIDTH + k] * (double)x[k];
            up += (double)gate_up[(INNER + i) * WIDTH + k] * (double)x[k];
        }
        sum += applied(COHORT_SILU, gate) * up * (double)down[out * INNER + i];
    }
    return sum;
}

static void mixture(cohort_backend *backend) {
    cohort_linear *gate_up[N_EXPERTS], *down[N_EXPERTS];
    float *gate_up_values[N_EXPERTS], *down_values[N_EXPERTS];
    for (int e = 0; e < N_EXPERTS; e++) {
        gate_up_values[e] = noise_floats(2 * INNER * WIDTH, 10 + (uint64_t)e);
        down_values[e] = noise_floats(INNER * WIDTH, 20 + (uint64_t)e);
        cohort_cpu_linear_create(backend, 2 * INNER, WIDTH, COHORT_F32, &gate_up[e]);
        cohort_cpu_linear_create(backend, WIDTH, INNER, COHORT_F32, &down[e]);
        cohort_cpu_linear_set(gate_up[e], 0, 2 * INNER, gate_up_values[e], COHORT_F32,
                              WIDTH);
        cohort_cpu_linear_set(down[e], 0, WIDTH, down_values[e], COHORT_F32, INNER);
    }
    float *x = noise_floats(MIX_ROWS * WIDTH, 1), *y = noise_floats(MIX_ROWS * WIDTH, 2);
    float *weights = noise_floats(MIX_ROWS * TOP_K, 3), alone[WIDTH];
    int32_t ids[MIX_ROWS * TOP_K];
    for (int32_t r = 0; r < MIX_ROWS; r++) { /* expert 1: all rows; expert 5: none */
        ids[r * TOP_K] = r % 2 ? 1 : r % 5 == 2 ? 3 : 4;
        ids[r * TOP_K + 1] = r % 2 ? (r % 3 ? 0 : 2) : 1;
    }
    cohort_cpu_experts(backend, gate_up, down, N_EXPERTS, ids, weights, TOP_K, x, y,
                       MIX_ROWS, WIDTH, INNER);
    for (int32_t r = 0; r < MIX_ROWS; r += 7) {
        for (int32_t o = 0; o < WIDTH; o++) {
            double expected = 0;
            for (int32_t i = 0; i < TOP_K; i++) {
                int32_t e = ids[r * TOP_K + i];
                expected +=
                    (double)weights[r * TOP_K + i] *
                    expert_value(gate_up_values[e], down_values[e], x + r * WIDTH, o);
            }
            assert_near(y[r * WIDTH + o], expected, 5e-5);
        }
        cohort_cpu_experts(backend, gate_up, down, N_EXPERTS, ids + r * TOP_K,
                           weights + r * TOP_K, TOP_K, x + r * WIDTH, alone, 1, WIDTH,
                           INNER);
        assert_memory_equal(alone, y + r * WIDTH, sizeof alone);
    }
    free(weights);
    free(y);
    free(x);
    for (int e = 0; e < N_EXPERTS; e++) {
        cohort_cpu_linear_destroy(gate_up[e]);
        cohort_cpu_linear_destroy(down[e]);
        free(gate_up_values[e]);
        free(down_values[e]);
    }
}

static void experts_match_double_alone_and_in_a_batch(void **state) {
    (void)state;
    on_every_isa(mixture);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norms_and_sums_match_double),
        cmocka_unit_test(heads_are_normed_and_rotated),
        cmocka_unit_test(activations_match_double),
        cmocka_unit_test(exp_is_accurate),
        cmocka_unit_test(router_takes_the_likeliest),
        cmocka_unit_test(experts_match_double_alone_and_in_a_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
