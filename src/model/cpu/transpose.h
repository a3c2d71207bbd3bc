/* SPDX-License-Identifier: Apache-2.0 */
/* model/cpu/transpose.h - 32-bit items from rows to columns, four by four; private.
 *
 * What packs weights and activations: an item is an f32, or a pair of bf16.
 */
#ifndef COHORT_MODEL_CPU_TRANSPOSE_H
#define COHORT_MODEL_CPU_TRANSPOSE_H

#include <stdint.h>
#include <string.h>

typedef uint32_t cohort_cpu_quad __attribute__((vector_size(16)));

/* to[j * to_stride + i] = row i [j], for 4 rows and 4 columns; nothing is aligned. */
static inline void cohort_cpu_transpose_4(const void *row_0, const void *row_1,
                                          const void *row_2, const void *row_3, void *to,
                                          size_t to_stride_bytes) {
    cohort_cpu_quad a, b, c, d;
    memcpy(&a, row_0, sizeof a);
    memcpy(&b, row_1, sizeof b);
    memcpy(&c, row_2, sizeof c);
    memcpy(&d, row_3, sizeof d);
    cohort_cpu_quad ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
    cohort_cpu_quad ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    cohort_cpu_quad cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    cohort_cpu_quad cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    a = __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5);
    b = __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7);
    c = __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5);
    d = __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7);
    unsigned char *out = to;
    memcpy(out, &a, sizeof a);
    memcpy(out + to_stride_bytes, &b, sizeof b);
    memcpy(out + 2 * to_stride_bytes, &c, sizeof c);
    memcpy(out + 3 * to_stride_bytes, &d, sizeof d);
}

/* to[j * n_rows + r] = rows[r][j] */
static inline void cohort_cpu_transpose(const uint32_t *const *rows, int32_t n_rows,
                                        int64_t n, uint32_t *to) {
    int32_t r = 0;
    for (; r + 4 <= n_rows; r += 4) {
        int64_t j = 0;
        for (; j + 4 <= n; j += 4)
            cohort_cpu_transpose_4(rows[r] + j, rows[r + 1] + j, rows[r + 2] + j,
                                   rows[r + 3] + j, to + j * n_rows + r,
                                   (size_t)n_rows * sizeof *to);
        for (; j < n; j++)
            for (int32_t i = r; i < r + 4; i++)
                to[j * n_rows + i] = rows[i][j];
    }
    for (; r < n_rows; r++)
        for (int64_t j = 0; j < n; j++)
            to[j * n_rows + r] = rows[r][j];
}

#endif /* COHORT_MODEL_CPU_TRANSPOSE_H */
