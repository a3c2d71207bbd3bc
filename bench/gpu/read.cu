/* SPDX-License-Identifier: Apache-2.0 */
/* The floor: reads `count` vectors of 16 bytes and does next to nothing with them. */
#include <stdint.h>

extern "C" __global__ void __launch_bounds__(512)
    read_all(const uint4 *values, uint64_t count, uint32_t *sink) {
    constexpr int EACH = 4; /* in flight a thread */
    uint64_t stride = (uint64_t)gridDim.x * 512;
    uint32_t sum = 0;
    for (uint64_t i = (uint64_t)blockIdx.x * 512 + threadIdx.x;
         i + (EACH - 1) * stride < count; i += EACH * stride) {
        uint4 v[EACH];
#pragma unroll
        for (int k = 0; k < EACH; k++)
            asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3},[%4];"
                         : "=r"(v[k].x), "=r"(v[k].y), "=r"(v[k].z), "=r"(v[k].w)
                         : "l"(values + i + k * stride));
#pragma unroll
        for (int k = 0; k < EACH; k++)
            sum ^= v[k].x ^ v[k].y ^ v[k].z ^ v[k].w;
    }
    if (sum == 0x12345678u) *sink = sum;
}
