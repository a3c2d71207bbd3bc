/* SPDX-License-Identifier: Apache-2.0 */
/* kernels_amx.c on tiles in plain C, for machines without AMX; and where there is AMX,
 * its bits against theirs. */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* ---- tiles, as the processor's manual describes them ------------------------------- */

static struct {
    int rows, row_bytes;
    unsigned char bytes[16][64];
} tiles[8];

static void tile_configure(const void *config) {
    const unsigned char *bytes = config;
    memset(tiles, 0, sizeof tiles);
    for (int t = 0; t < 8; t++) {
        uint16_t row_bytes;
        memcpy(&row_bytes, bytes + 16 + 2 * t, sizeof row_bytes);
        tiles[t].row_bytes = row_bytes;
        tiles[t].rows = bytes[48 + t];
    }
}

static void tile_load(int t, const void *from, size_t stride) {
    memset(tiles[t].bytes, 0, sizeof tiles[t].bytes);
    for (int r = 0; r < tiles[t].rows; r++)
        memcpy(tiles[t].bytes[r], (const char *)from + (size_t)r * stride,
               (size_t)tiles[t].row_bytes);
}

static void tile_store(int t, void *to, size_t stride) {
    for (int r = 0; r < tiles[t].rows; r++)
        memcpy((char *)to + (size_t)r * stride, tiles[t].bytes[r],
               (size_t)tiles[t].row_bytes);
}

static void tile_dot(int sums, int x, int w);

#define TILES
#define AMX_TABLE              dot_emulated
#define TILE_CONFIGURE(config) tile_configure(config)
#define TILE_RELEASE()         memset(tiles, 0, sizeof tiles)
#define TILE_ZERO(t)           memset(tiles[t].bytes, 0, sizeof tiles[t].bytes)
#define TILE_LOAD              tile_load
#define TILE_STORE             tile_store
#define TILE_DOT               tile_dot
static void round_line(const float *from, uint16_t *to);
#include "kernels_amx.c"

#include "model/cpu/cpu_test.h"

static void round_line(const float *from, uint16_t *to) {
    for (int i = 0; i < 32; i++)
        to[i] = bf16_of(from[i]);
}

/* Subnormal numbers are 0, before and after. */
static float flush(float value) { return fabsf(value) < 0x1p-126f ? value * 0 : value; }

static float item(int t, int row, int i) {
    uint16_t half;
    memcpy(&half, &tiles[t].bytes[row][2 * i], sizeof half);
    return flush(of_bf16(half));
}

static void tile_dot(int sums, int x, int w) {
    for (int m = 0; m < tiles[sums].rows; m++)
        for (int n = 0; n < tiles[sums].row_bytes / 4; n++) {
            float chains[2] = {0, 0}, sum;
            for (int k = 0; k < tiles[w].rows; k++)
                for (int odd = 0; odd < 2; odd++)
                    chains[odd] = flush(fmaf(item(x, m, 2 * k + odd),
                                             item(w, k, 2 * n + odd), chains[odd]));
            memcpy(&sum, &tiles[sums].bytes[m][4 * n], sizeof sum);
            sum = flush(flush(sum) + flush(chains[0] + chains[1]));
            memcpy(&tiles[sums].bytes[m][4 * n], &sum, sizeof sum);
        }
}

/* ---- tests ------------------------------------------------------------------------- */

enum { ROWS_MOST = 100 };

static const struct {
    int64_t n_out, n_in;
} shapes[] = {{16, 32}, {48, 64}, {17, 33}, {100, 7}, {5, 1100}, {130, 600}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

/* One thread: the tiles above are no thread's own. */
static cohort_backend *open_emulated(void) {
    cohort_backend *backend = open_backend(NULL, 1, false);
    assert_non_null(backend);
    backend->isa.dot = &dot_emulated;
    backend->bf16_activations = true;
    return backend;
}

static cohort_linear *linear_of(cohort_backend *backend, int s, const float *weights) {
    cohort_linear *linear;
    assert_int_equal(cohort_cpu_linear_create(backend, shapes[s].n_out, shapes[s].n_in,
                                              COHORT_BF16, &linear),
                     COHORT_OK);
    cohort_cpu_linear_set(linear, 0, shapes[s].n_out, weights, COHORT_F32,
                          shapes[s].n_in);
    return linear;
}

/* An element by the order that kernels_amx.c states. */
static float in_order(const float *x, const float *w, int64_t n_in) {
    float sum = 0;
    for (int64_t k = 0; k < n_in; k += 32) {
        float chains[2] = {0, 0};
        for (int64_t i = k; i < n_in && i < k + 32; i++)
            chains[i % 2] = flush(fmaf(flush(of_bf16(bf16_of(x[i]))),
                                       flush(of_bf16(bf16_of(w[i]))), chains[i % 2]));
        sum = flush(sum + flush(chains[0] + chains[1]));
    }
    return sum;
}

static void check_bits(cohort_backend *backend) {
    for (int s = 0; s < SHAPES; s++) {
        int64_t n_out = shapes[s].n_out, n_in = shapes[s].n_in;
        float *weights = noise_floats(n_out * n_in, 1);
        float *x = noise_floats(ROWS_MOST * n_in, 2);
        float *y = malloc((size_t)(ROWS_MOST * n_out) * sizeof *y);
        for (int64_t i = 0; i < n_out * n_in; i += 3)
            weights[i] *= 0x1p-70f; /* products that are no normal numbers */
        for (int64_t i = 0; i < ROWS_MOST * n_in; i += 5)
            x[i] *= 0x1p-60f;
        cohort_linear *linear = linear_of(backend, s, weights);
        const int64_t counts[] = {1, 3, 16, 17, 32, 33, ROWS_MOST};
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
            cohort_cpu_linear(backend, linear, NULL, x, n_in, y, n_out, counts[c]);
            for (int64_t r = 0; r < counts[c]; r += 1 + counts[c] / 9)
                for (int64_t o = 0; o < n_out; o++) {
                    float expected = in_order(x + r * n_in, weights + o * n_in, n_in);
                    if (memcmp(&expected, &y[r * n_out + o], sizeof expected) &&
                        (expected != 0 || y[r * n_out + o] != 0))
                        fail_msg("%lld x %lld, row %lld of %lld, column %lld: %a, not %a",
                                 (long long)n_out, (long long)n_in, (long long)r,
                                 (long long)counts[c], (long long)o,
                                 (double)y[r * n_out + o], (double)expected);
                }
        }
        cohort_cpu_linear_destroy(linear);
        free(y);
        free(x);
        free(weights);
    }
}

static void tiles_in_c_add_in_the_order_that_is_stated(void **state) {
    (void)state;
    cohort_backend *backend = open_emulated();
    check_bits(backend);
    cohort_backend_cpu()->destroy(backend);
}

static void the_processors_tiles_add_in_that_order_too(void **state) {
    (void)state;
    cohort_backend *backend = open_backend("amx", 2, true);
    if (!backend) skip();
    check_bits(backend);
    cohort_backend_cpu()->destroy(backend);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiles_in_c_add_in_the_order_that_is_stated),
        cmocka_unit_test(the_processors_tiles_add_in_that_order_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
