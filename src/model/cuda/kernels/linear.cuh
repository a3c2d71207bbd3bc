/* SPDX-License-Identifier: Apache-2.0 */
/* What products do with their sums. */
#pragma once
#include "common.cuh"

namespace {

enum epilogue { STORE, ACTIVATE, RESIDUAL };

/* 1 / rms of each row, from the sums of squares of its tiles: 32 groups of neighbours,
 * one after the other, then the groups by halves.  LANES threads take a row. */
template <int LANES>
__device__ __forceinline__ void scales_of(const cohort_cuda_linear_params &p,
                                          float *scale) {
    constexpr int GROUPS = 32 / LANES;
    int row = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    if (row * LANES >= COHORT_CUDA_THREADS) return;
    float sum[GROUPS] = {};
    int each = (p.n_squares + 31) / 32;
    if (p.squares && row < p.n_rows)
#pragma unroll
        for (int g = 0; g < GROUPS; g++) {
            const float *at = p.squares + (int64_t)row * p.n_squares;
            int begin = (g * LANES + lane) * each, end = min(begin + each, p.n_squares);
#pragma unroll 4
            for (int i = begin; i < end; i++)
                sum[g] += __ldcg(at + i);
        }
#pragma unroll
    for (int half = GROUPS / 2; half; half /= 2)
#pragma unroll
        for (int g = 0; g < half; g++)
            sum[g] += sum[g + half];
#pragma unroll
    for (int mask = LANES / 2; mask; mask /= 2)
        sum[0] += __shfl_xor_sync(~0u, sum[0], mask);
    if (!lane)
        scale[row] = p.squares ? rsqrtf(sum[0] / (float)p.norm_width + p.norm_eps) : 1.0f;
}

/* Tile `tile` of 16 outputs: sum(row, column) gives what the product came to.  THREADS
 * threads come here, this one as `thread`; a warp takes two columns a turn, a lane a row.
 */
template <int EPILOGUE, int COLUMNS, int THREADS, typename Sum>
__device__ __forceinline__ void finish_tile(const cohort_cuda_linear_params &p,
                                            const float *scale, int64_t tile, int thread,
                                            Sum sum) {
    int row = thread % 16;
    int64_t out = tile * 16 + row, at = out;
    float bias = p.bias && out < p.n_out ? p.bias[out] : 0.0f;
    float norm =
        EPILOGUE == RESIDUAL && p.next_norm && out < p.n_out ? p.next_norm[out] : 1.0f;
#pragma unroll
    for (int column = thread / 16; column < COLUMNS; column += THREADS / 16) {
        bool used = column < p.n_rows && out < p.n_out;
        float value = sum(row, column) * scale[column] + bias;
        at = (int64_t)column * p.y_stride + out;
        int64_t of_tile = (int64_t)column * p.n_tiles + tile;
        if (EPILOGUE == STORE) {
            if (used) p.y[at] = value;
        } else if (EPILOGUE == RESIDUAL) {
            float now = used ? p.y[at] + value : 0.0f;
            if (used) p.y[at] = now, p.narrow[at] = narrow(now * norm);
            float square = now * now;
#pragma unroll
            for (int mask = 8; mask; mask /= 2)
                square += __shfl_xor_sync(~0u, square, mask);
            if (!row && column < p.n_rows) p.next_squares[of_tile] = square;
        }
    }
}

/* Tile `tile` of the inner rows: gate(row, column) and up(row, column) are its sums. */
template <int COLUMNS, int THREADS, typename Gate, typename Up>
__device__ __forceinline__ void finish_pair(const cohort_cuda_linear_params &p,
                                            const float *scale, int64_t tile, int thread,
                                            Gate gate, Up up) {
    int row = thread % 16;
    int64_t out = tile * 16 + row, n_inner = p.n_out / 2;
    float gate_bias = p.bias ? p.bias[out] : 0.0f;
    float up_bias = p.bias ? p.bias[n_inner + out] : 0.0f;
#pragma unroll
    for (int column = thread / 16; column < COLUMNS; column += THREADS / 16) {
        if (column >= p.n_rows) continue;
        float g = gate(row, column) * scale[column] + gate_bias;
        float u = up(row, column) * scale[column] + up_bias;
        p.narrow[(int64_t)column * p.y_stride + out] =
            narrow(g / (1.0f + __expf(-g)) * u);
    }
}

} // namespace
