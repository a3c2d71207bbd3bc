/* SPDX-License-Identifier: Apache-2.0 */
/* What all kernels share: bf16, the tensor cores' product, waiting for the kernel before.
 */
#pragma once
#include <cuda_bf16.h>
#include <stdint.h>

#include "params.h"

namespace {

constexpr int WARPS = COHORT_CUDA_THREADS / 32;

/* Programmatic dependent launch.  A kernel may start while the one before it still runs,
 * and read what no kernel of the step writes.  After the wait, that kernel and all before
 * it have ended and their memory is seen.  `start_next` comes after the wait, in every
 * kernel: so whoever runs knows that all but its predecessor have ended. */
__device__ __forceinline__ void wait_for_previous() {
    asm volatile("griddepcontrol.wait;" ::: "memory");
}
__device__ __forceinline__ void start_next() {
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

/* d += a b: a is 16 x 16, b 16 x 8, of bf16. */
__device__ __forceinline__ void multiply(float (&d)[4], const uint4 &a, uint32_t b0,
                                         uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
}

__device__ __forceinline__ uint32_t pack(float low, float high) {
    __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<uint32_t *>(&pair);
}
__device__ __forceinline__ uint16_t narrow(float value) {
    return __bfloat16_as_ushort(__float2bfloat16_rn(value));
}
__device__ __forceinline__ float widen(uint16_t bits) {
    return __uint_as_float((uint32_t)bits << 16);
}

/* Weights are read once a step: they stay out of L1. */
__device__ __forceinline__ uint4 load_weights(const uint4 *at) {
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3},[%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(at));
    return v;
}

__device__ __forceinline__ uint32_t shared_address(const void *at) {
    return (uint32_t)__cvta_generic_to_shared(at);
}

/* The same tree for every row: its bits depend on nothing but the values. */
__device__ __forceinline__ float sum_of_warp(float value) {
#pragma unroll
    for (int mask = 16; mask; mask >>= 1)
        value += __shfl_xor_sync(~0u, value, mask);
    return value;
}

/* The sums of the 8 slices of a row's columns, in order. */
template <typename Get> __device__ __forceinline__ float sum_of_slices(Get get) {
    float sum = get(0);
#pragma unroll
    for (int i = 1; i < WARPS; i++)
        sum += get(i);
    return sum;
}

/* Where the value of (row, column) of a packed matrix lies. */
__device__ __forceinline__ int64_t packed_index(int64_t row, int column, int n_steps) {
    int in = column % COHORT_CUDA_STEP;
    int half = in / 16, pair = in % 16 / 8;
    int lane = (int)(row % 8) * 4 + in % 8 / 2;
    int reg = pair * 2 + (int)(row % 16) / 8;
    int64_t step = row / COHORT_CUDA_TILE * n_steps + column / COHORT_CUDA_STEP;
    return ((step * 2 + half) * 32 + lane) * 8 + reg * 2 + (in & 1);
}

} // namespace
