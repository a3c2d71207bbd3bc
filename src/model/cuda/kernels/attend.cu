/* SPDX-License-Identifier: Apache-2.0 */
/* Rotation, the cache and attention for every head size, number and block size.
 *
 * Plain f32 arithmetic: what the fast kernels are compared with, and what takes the
 * shapes that they do not. */
#include "common.cuh"

namespace {

/* Where dim `dim` of the sequence's token `token` lies. */
__device__ __forceinline__ int64_t cache_index(const cohort_cuda_cache &c, int row,
                                               int head, int value, int token, int dim) {
    int64_t block =
        c.block_tables[(int64_t)c.sequences[row] * c.table_stride + token / c.block_size];
    int in = token % c.block_size, at = in % 16;
    int64_t tile = block * c.tiles_of_block + in / 16;
    int64_t first = ((tile * c.n_kv_heads + head) * 2 + value) * 16 * c.head_dim;
    if (!c.packed) return first + at * c.head_dim + dim;
    if (!value) return first + packed_index(at, dim, c.head_dim / 32);
    int reg = dim % 16 / 8 + at / 8 * 2, lane = dim % 8 * 4 + at % 8 / 2;
    return first + (dim / 16 * 32 + lane) * 8 + reg * 2 + at % 2;
}

__device__ __forceinline__ float cached(const cohort_cuda_cache &c, int64_t at) {
    return c.is_bf16 ? widen(((const uint16_t *)c.tiles)[at])
                     : ((const float *)c.tiles)[at];
}

} // namespace

/* grid: (query and key heads, rows): head norms and rope, in place. */
extern "C" __global__ void __launch_bounds__(32)
    rotate(const __grid_constant__ cohort_cuda_attention_params p) {
    wait_for_previous();
    start_next();
    const cohort_cuda_cache &c = p.cache;
    int head = blockIdx.x, row = blockIdx.y, half = c.head_dim / 2;
    if (c.positions[row] < 0) return;
    const float *norm = head < c.n_heads ? p.q_norm : p.k_norm;
    float *v = (float *)p.qkv + (int64_t)row * p.qkv_stride + head * c.head_dim;
    float scale = 1;
    if (norm) {
        float sum = 0;
        for (int i = threadIdx.x; i < c.head_dim; i += 32)
            sum += v[i] * v[i];
        scale = rsqrtf(sum_of_warp(sum) / (float)c.head_dim + p.norm_eps);
    }
    for (int i = threadIdx.x; i < half; i += 32) {
        float low = v[i] * scale * (norm ? norm[i] : 1.0f);
        float high = v[half + i] * scale * (norm ? norm[half + i] : 1.0f);
        int64_t at = (int64_t)c.positions[row] * half + i;
        float cos = p.cos ? p.cos[at] : 1.0f, sin = p.cos ? p.sin[at] : 0.0f;
        v[i] = low * cos - high * sin;
        v[half + i] = high * cos + low * sin;
    }
    if (c.head_dim % 2 && norm && !threadIdx.x) /* the one in the middle does not turn */
        v[c.head_dim - 1] *= scale * norm[c.head_dim - 1];
}

/* grid: (KV heads, rows). */
extern "C" __global__ void __launch_bounds__(64)
    store(const __grid_constant__ cohort_cuda_attention_params p) {
    wait_for_previous();
    start_next();
    const cohort_cuda_cache &c = p.cache;
    int head = blockIdx.x, row = blockIdx.y;
    if (c.positions[row] < 0) return;
    const float *key =
        p.qkv + (int64_t)row * p.qkv_stride + (c.n_heads + head) * c.head_dim;
    for (int i = threadIdx.x; i < 2 * c.head_dim; i += 64) {
        int value = i >= c.head_dim, dim = i % c.head_dim;
        float v = key[(int64_t)value * c.n_kv_heads * c.head_dim + dim];
        int64_t at = cache_index(c, row, head, value, c.positions[row], dim);
        if (c.is_bf16)
            ((uint16_t *)c.tiles)[at] = narrow(v);
        else
            ((float *)c.tiles)[at] = v;
    }
}

/* grid: (query heads, rows).  Tokens by chunks of a thread each, at absolute places. */
extern "C" __global__ void __launch_bounds__(COHORT_CUDA_THREADS)
    attend(const __grid_constant__ cohort_cuda_attention_params p) {
    constexpr int CHUNK = COHORT_CUDA_THREADS, MOST = 512; /* MOST: head_dim */
    __shared__ float query[MOST], weight[CHUNK], partial[2][WARPS];
    wait_for_previous();
    start_next();
    const cohort_cuda_cache &c = p.cache;
    int head = blockIdx.x, row = blockIdx.y, thread = threadIdx.x;
    int kv_head = head / (c.n_heads / c.n_kv_heads), position = c.positions[row];
    if (position < 0) return;
    int from = p.sliding_window && position >= p.sliding_window
                   ? position - p.sliding_window + 1
                   : 0;
    for (int i = thread; i < c.head_dim; i += CHUNK)
        query[i] = p.qkv[(int64_t)row * p.qkv_stride + head * c.head_dim + i];
    __syncthreads();
    float most = -INFINITY, mass = 0, out[MOST / CHUNK] = {};
    for (int first = from / CHUNK * CHUNK; first <= position; first += CHUNK) {
        int token = first + thread;
        float score = -INFINITY;
        if (token >= from && token <= position) {
            score = 0;
            for (int i = 0; i < c.head_dim; i++)
                score = fmaf(query[i],
                             cached(c, cache_index(c, row, kv_head, 0, token, i)), score);
            score *= p.scale;
        }
        float top = score;
        for (int mask = 16; mask; mask /= 2)
            top = fmaxf(top, __shfl_xor_sync(~0u, top, mask));
        if (thread % 32 == 0) partial[0][thread / 32] = top;
        __syncthreads();
        float now = most;
        for (int w = 0; w < WARPS; w++)
            now = fmaxf(now, partial[0][w]);
        float shrink = expf(most - now), share = expf(score - now);
        weight[thread] = share;
        float sum = sum_of_warp(share);
        if (thread % 32 == 0) partial[1][thread / 32] = sum;
        __syncthreads();
        mass = mass * shrink + sum_of_slices([&](int w) { return partial[1][w]; });
        most = now;
        int end = min(position - first + 1, CHUNK);
        for (int k = 0, i = thread; k < MOST / CHUNK; k++, i += CHUNK) {
            if (i >= c.head_dim) break;
            float add = 0;
            for (int t = max(from - first, 0); t < end; t++)
                add = fmaf(weight[t],
                           cached(c, cache_index(c, row, kv_head, 1, first + t, i)), add);
            out[k] = out[k] * shrink + add;
        }
        __syncthreads();
    }
    for (int k = 0, i = thread; k < MOST / CHUNK; k++, i += CHUNK)
        if (i < c.head_dim)
            p.out[((int64_t)row * c.n_heads + head) * c.head_dim + i] = out[k] / mass;
}
