/* SPDX-License-Identifier: Apache-2.0 */
/* What attention of decoding and of prompts share: the cache's packed tiles, and heads
 * before they go there. */
#pragma once
#include "common.cuh"

namespace {

__device__ __forceinline__ uint32_t transpose(uint32_t v) {
    uint32_t t;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0,%1;" : "=r"(t) : "r"(v));
    return t;
}

/* exp2(low - high), where both may be -inf: nothing was seen, so it weighs nothing. */
__device__ __forceinline__ float weight_of(float low, float high) {
    return low == -INFINITY ? 0.0f : exp2f(low - high);
}

template <int D>
__device__ __forceinline__ const uint4 *tile_at(const cohort_cuda_attention_params &p,
                                                int row, int head, int index) {
    const cohort_cuda_cache &c = p.cache;
    int64_t table = (int64_t)c.sequences[row] * c.table_stride;
    int64_t block = c.block_tables[table + index / c.tiles_of_block];
    int64_t at = block * c.tiles_of_block + index % c.tiles_of_block;
    return (const uint4 *)((uint16_t *)c.tiles + (at * c.n_kv_heads + head) * 2 * 16 * D);
}

/* What a lane knows of a head before there are values: it has D / 64 columns of either
 * half, [half][i] is column half * D / 2 + i * 32 + lane. */
template <int D> struct rotation {
    float cos[D / 64], sin[D / 64];

    __device__ __forceinline__ void load(const cohort_cuda_attention_params &p,
                                         int position) {
#pragma unroll
        for (int i = 0; i < D / 64; i++) {
            int64_t at = (int64_t)position * (D / 2) + i * 32 + threadIdx.x % 32;
            cos[i] = p.raw && p.cos ? p.cos[at] : 1.0f,
            sin[i] = p.raw && p.cos ? p.sin[at] : 0.0f;
        }
    }
};

/* A head's row: norm, then rope; a warp a head. */
template <int D>
__device__ __forceinline__ void prepare_head(const cohort_cuda_attention_params &p,
                                             const float *x, const float *norm,
                                             const rotation<D> &turn,
                                             float (&v)[2][D / 64]) {
    int lane = threadIdx.x % 32;
    float sum = 0;
#pragma unroll
    for (int h = 0; h < 2; h++)
#pragma unroll
        for (int i = 0; i < D / 64; i++) {
            v[h][i] = x[h * D / 2 + i * 32 + lane];
            sum += v[h][i] * v[h][i];
        }
    if (norm) {
        float scale = rsqrtf(sum_of_warp(sum) / (float)D + p.norm_eps);
#pragma unroll
        for (int h = 0; h < 2; h++)
#pragma unroll
            for (int i = 0; i < D / 64; i++)
                v[h][i] *= scale * norm[h * D / 2 + i * 32 + lane];
    }
#pragma unroll
    for (int i = 0; i < D / 64; i++) {
        float low = v[0][i], high = v[1][i];
        v[0][i] = low * turn.cos[i] - high * turn.sin[i];
        v[1][i] = high * turn.cos[i] + low * turn.sin[i];
    }
}

/* The row's key and value, into its place of the cache; a warp each. */
template <int D>
__device__ __forceinline__ void store_key(const cohort_cuda_attention_params &p, int row,
                                          int head, int position,
                                          const rotation<D> &turn) {
    const float *key = p.qkv + (int64_t)row * p.qkv_stride + (p.cache.n_heads + head) * D;
    uint16_t *at = (uint16_t *)tile_at<D>(p, row, head, position / 16);
    float v[2][D / 64];
    prepare_head<D>(p, key, p.k_norm, turn, v);
#pragma unroll
    for (int half = 0; half < 2; half++)
#pragma unroll
        for (int i = 0; i < D / 64; i++)
            at[packed_index(position % 16, half * D / 2 + i * 32 + threadIdx.x % 32,
                            D / 32)] = narrow(v[half][i]);
}
template <int D>
__device__ __forceinline__ void store_value(const cohort_cuda_attention_params &p,
                                            int row, int head, int position) {
    const float *value = p.qkv + (int64_t)row * p.qkv_stride +
                         (p.cache.n_heads + p.cache.n_kv_heads + head) * D;
    uint16_t *at = (uint16_t *)tile_at<D>(p, row, head, position / 16) + 16 * D;
    int token = position % 16;
#pragma unroll
    for (int dim = threadIdx.x % 32; dim < D; dim += 32) {
        int reg = dim % 16 / 8 + token / 8 * 2, owner = dim % 8 * 4 + token % 8 / 2;
        at[(dim / 16 * 32 + owner) * 8 + reg * 2 + token % 2] = narrow(value[dim]);
    }
}

} // namespace
