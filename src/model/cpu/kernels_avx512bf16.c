/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "model/cpu/simd_avx512.h"
#define ATTEND_DOT
#include "model/cpu/attend_body.h"
#include "model/cpu/transpose.h"

/* vdpbf16ps takes a pair of k at a time: one load and one multiply-add for 32 products.
 * x is rounded to bf16 when it is packed, for one row as for many, so that a row's result
 * does not depend on its neighbours. */

enum { MOST_PANELS = TILE_PANELS(1), STRETCH = 128 };

static inline uint32_t pair_of(float first, float second) {
    __m128bh pair = _mm_cvtneps_pbh(_mm_setr_ps(first, second, 0, 0));
    uint32_t bits;
    memcpy(&bits, &pair, sizeof bits);
    return bits;
}

/* A stretch of every row is rounded into a buffer in L1, and transposed from there. */
static void pack(const float *const *rows, int32_t n_rows, int64_t k, void *out) {
    uint32_t rounded[TILE_ROWS][STRETCH / 2];
    const uint32_t *pairs[TILE_ROWS];
    uint32_t *to = out;
    for (int64_t begin = 0; begin < k; begin += STRETCH) {
        int64_t n = k - begin < STRETCH ? k - begin : STRETCH;
        for (int32_t r = 0; r < n_rows; r++) {
            const float *x = rows[r] + begin;
            int64_t i = 0;
            for (; i + 32 <= n; i += 32) {
                __m512bh low_first = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + i + 16),
                                                         _mm512_loadu_ps(x + i));
                memcpy(&rounded[r][i / 2], &low_first, sizeof low_first);
            }
            for (; i < n; i += 2)
                rounded[r][i / 2] = pair_of(x[i], i + 1 < n ? x[i + 1] : 0);
            pairs[r] = rounded[r];
        }
        cohort_cpu_transpose(pairs, n_rows, (n + 1) / 2, to + begin / 2 * n_rows);
    }
}

TILE void tile(int rows, int n_panels, const cohort_cpu_product *at, int panel) {
    const unsigned char *w = at->panels + (size_t)panel * at->panel_bytes;
    const uint32_t *x = at->x;
    float *c = at->c + (int64_t)panel * COHORT_CPU_PANEL;
    __m512 sums[MOST_SUMS];
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int p = 0; p < n_panels; p++)
        sums[r * n_panels + p] =
            at->add ? _mm512_loadu_ps(c + r * at->c_stride + p * COHORT_CPU_PANEL)
                    : _mm512_setzero_ps();
    const size_t bytes = (size_t)(at->k + 1) / 2 * COHORT_CPU_PANEL * 4;
    const cohort_cpu_ahead ahead = cohort_cpu_look_ahead(at, rows, n_panels, bytes);
    for (size_t done = 0; done < bytes; done += COHORT_CPU_PANEL * 4, x += rows) {
        __m512bh pairs[MOST_PANELS];
        cohort_cpu_fetch(at, w, rows, n_panels, ahead, done);
        UNROLL for (int p = 0; p < n_panels; p++) pairs[p] =
            (__m512bh)_mm512_load_si512(w + (size_t)p * at->panel_bytes + done);
        UNROLL for (int r = 0; r < rows; r++) {
            __m512bh factor = (__m512bh)_mm512_set1_epi32((int)x[r]);
            UNROLL for (int p = 0; p < n_panels; p++) sums[r * n_panels + p] =
                _mm512_dpbf16_ps(sums[r * n_panels + p], factor, pairs[p]);
        }
    }
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int p = 0; p < n_panels; p++)
        _mm512_storeu_ps(c + r * at->c_stride + p * COHORT_CPU_PANEL,
                         sums[r * n_panels + p]);
}

TILE void product(int rows, const cohort_cpu_product *at) {
    int panel = 0;
    for (; panel + 2 <= at->n_panels; panel += 2)
        tile(rows, 2, at, panel);
    for (; panel < at->n_panels; panel++)
        tile(rows, 1, at, panel);
}

#define ROWS(n) \
    static void multiply_##n(const cohort_cpu_product *at) { product(n, at); }
ROWS(1)
ROWS(2)
ROWS(3)
ROWS(4)
ROWS(5)
ROWS(6)
ROWS(7)
ROWS(8)
ROWS(9)
ROWS(10)
ROWS(11)
ROWS(12)

static void multiply(const cohort_cpu_product *at) {
    static void (*const by_rows[])(const cohort_cpu_product *) = {
        multiply_1, multiply_2, multiply_3, multiply_4,  multiply_5,  multiply_6,
        multiply_7, multiply_8, multiply_9, multiply_10, multiply_11, multiply_12};
    by_rows[at->rows - 1](at);
}

void cohort_cpu_attend_avx512bf16(const cohort_cpu_attend *at) { attend(at); }

const cohort_cpu_dot cohort_cpu_dot_avx512bf16 = {
    .pack = pack,
    .multiply = multiply,
    .attend = attend,
    .tile_rows = TILE_ROWS,
    .k_step = 2,
};
