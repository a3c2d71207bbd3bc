/* SPDX-License-Identifier: Apache-2.0 */
/* What takes rows one by one, and the packing of weights. */
#include <cuda_fp16.h>

#include "common.cuh"

/* grid: (rows, COHORT_CUDA_THREADS columns each). */
extern "C" __global__ void __launch_bounds__(COHORT_CUDA_THREADS)
    embed(const __grid_constant__ cohort_cuda_embed_params p) {
    wait_for_previous();
    start_next();
    int row = blockIdx.x, i = blockIdx.y * COHORT_CUDA_THREADS + threadIdx.x;
    int id = p.ids[row] + p.shift;
    if (i >= p.width) return;
    float value = 0;
    if (id >= 0 && id < p.n_ids)
        value = p.is_bf16
                    ? widen(((const uint16_t *)p.table)[packed_index(id, i, p.n_steps)])
                    : ((const float *)p.table)[(int64_t)id * p.width + i];
    p.y[(int64_t)row * p.width + i] = value;
}

/* One CTA a row. */
extern "C" __global__ void __launch_bounds__(COHORT_CUDA_THREADS)
    norm_rows(const __grid_constant__ cohort_cuda_norm_params p) {
    __shared__ float partial[2][WARPS];
    wait_for_previous();
    start_next();
    const float *x = p.x + blockIdx.x * p.x_stride;
    auto over_row = [&](int which, auto term) {
        float sum = 0;
        for (int i = threadIdx.x; i < p.n_columns; i += COHORT_CUDA_THREADS)
            sum += term(x[i]);
        sum = sum_of_warp(sum);
        if (threadIdx.x % 32 == 0) partial[which][threadIdx.x / 32] = sum;
        __syncthreads();
        return sum_of_slices([&](int w) { return partial[which][w]; });
    };
    float mean = 0, scale = 1;
    if (p.weight) {
        if (p.centred) mean = over_row(0, [](float v) { return v; }) / (float)p.n_columns;
        float squares = over_row(1, [&](float v) { return (v - mean) * (v - mean); });
        scale = rsqrtf(squares / (float)p.n_columns + p.eps);
    }
    int64_t columns = p.narrow ? p.narrow_stride : p.n_columns;
    for (int64_t i = threadIdx.x; i < columns; i += COHORT_CUDA_THREADS) {
        float value = i < p.n_columns ? x[i] : 0.0f;
        if (p.weight && i < p.n_columns)
            value = (value - mean) * scale * p.weight[i] + (p.bias ? p.bias[i] : 0.0f);
        if (p.y && i < p.n_columns) p.y[blockIdx.x * p.y_stride + i] = value;
        if (p.narrow) p.narrow[blockIdx.x * p.narrow_stride + i] = narrow(value);
    }
}

/* grid: (outputs by warps, rows): a warp an output. */
extern "C" __global__ void __launch_bounds__(COHORT_CUDA_THREADS)
    linear_f32(const __grid_constant__ cohort_cuda_linear_f32_params p) {
    wait_for_previous();
    start_next();
    int64_t out = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32, row = blockIdx.y;
    if (out >= p.n_out) return;
    const float *x = p.x + row * p.x_stride, *w = p.weights + out * p.n_in;
    float sum = 0;
    for (int64_t i = threadIdx.x % 32; i < p.n_in; i += 32)
        sum = fmaf(x[i], w[i], sum);
    sum = sum_of_warp(sum);
    if (threadIdx.x % 32) return;
    if (p.bias) sum += p.bias[out];
    float *y = p.y + row * p.y_stride + out;
    *y = p.adds ? *y + sum : sum;
}

extern "C" __global__ void __launch_bounds__(COHORT_CUDA_THREADS)
    add(const __grid_constant__ cohort_cuda_add_params p) {
    wait_for_previous();
    start_next();
    int64_t i = (int64_t)blockIdx.x * COHORT_CUDA_THREADS + threadIdx.x;
    if (i < p.count) p.y[i] += p.x[i];
}

/* grid: (columns, rows). */
extern "C" __global__ void __launch_bounds__(COHORT_CUDA_THREADS)
    activate(const __grid_constant__ cohort_cuda_activate_params p) {
    wait_for_previous();
    start_next();
    int64_t i = (int64_t)blockIdx.x * COHORT_CUDA_THREADS + threadIdx.x, row = blockIdx.y;
    if (i >= p.n) return;
    const float *x = p.x + row * p.n * (p.gated ? 2 : 1);
    float v = x[i];
    if (p.activation == 0)
        v = v / (1.0f + expf(-v)); /* silu */
    else if (p.activation == 1)
        v = fmaxf(v, 0.0f); /* relu */
    else
        v = 0.5f * v * (1.0f + erff(v * 0.70710678f)); /* gelu */
    p.y[row * p.n + i] = p.gated ? v * x[p.n + i] : v;
}

extern "C" __global__ void __launch_bounds__(COHORT_CUDA_THREADS)
    widen_rows(const __grid_constant__ cohort_cuda_widen_params p) {
    wait_for_previous();
    start_next();
    int64_t i = (int64_t)blockIdx.x * COHORT_CUDA_THREADS + threadIdx.x;
    if (i < p.count) p.y[i] = widen(p.x[i]);
}

/* grid: (columns, rows). */
extern "C" __global__ void __launch_bounds__(COHORT_CUDA_THREADS)
    take(const __grid_constant__ cohort_cuda_take_params p) {
    wait_for_previous();
    start_next();
    int64_t i = (int64_t)blockIdx.x * COHORT_CUDA_THREADS + threadIdx.x;
    if (i < p.n_columns)
        p.y[blockIdx.y * p.n_columns + i] = p.x[p.rows[blockIdx.y] * p.n_columns + i];
}

/* grid: (columns, rows). */
extern "C" __global__ void __launch_bounds__(COHORT_CUDA_THREADS)
    pack(const __grid_constant__ cohort_cuda_pack_params p) {
    int64_t i = (int64_t)blockIdx.x * COHORT_CUDA_THREADS + threadIdx.x;
    if (i >= p.n_columns) return;
    for (int64_t r = blockIdx.y; r < p.n_rows; r += gridDim.y) {
        int64_t at = r * p.n_columns + i, row = p.row_begin + r;
        float value = p.dtype == 0   ? ((const float *)p.from)[at]
                      : p.dtype == 1 ? widen(((const uint16_t *)p.from)[at])
                                     : __half2float(((const __half *)p.from)[at]);
        if (p.rounds_f16) value = __half2float(__float2half_rn(value));
        if (p.is_bf16)
            ((uint16_t *)p.to)[packed_index(row, (int)i, p.n_steps)] = narrow(value);
        else
            ((float *)p.to)[row * p.n_columns + i] = value;
    }
}
