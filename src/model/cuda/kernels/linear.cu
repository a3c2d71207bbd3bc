/* SPDX-License-Identifier: Apache-2.0 */
/* Products of decoding: up to 8 rows by all weights, bound by reading these.
 *
 * Weights are the tensor cores' 16-row operand, tokens the 8-column one, so one row costs
 * what eight do.  A CTA takes two tiles of 16 outputs at a time; its 8 warps take an
 * eighth of the columns each, one step after the other, and their sums are added in
 * order.  No order depends on the number of rows: a row's bits are the same alone and in
 * a batch.
 *
 * Each warp keeps its columns of x in shared memory.  Weights go to registers, DEPTH
 * steps ahead, those of the next tiles too.  They do not depend on the kernel before:
 * their first loads go out before the wait. */
#include "linear.cuh"

namespace {

template <int TILES> struct memory {
    float slices[2][WARPS][TILES][16][9];
    float scale[8];
    uint16_t
        x[8]; /* [warp][row][columns of a slice, and 8 that keep banks apart], then a
                 row of zeros, then, where there is a norm, squares [row][n_squares] */
};

/* This warp's columns of all rows: copies are on their way when it returns. */
__device__ __forceinline__ void fetch_x(const cohort_cuda_linear_params &p, uint16_t *to,
                                        int stride, int begin, int end) {
    int eighths = (end - begin) * 4;
    const uint16_t *from = p.x + begin * COHORT_CUDA_STEP;
    for (int row = 0; row < p.n_rows; row++)
        for (int i = threadIdx.x % 32; i < eighths; i += 32)
            asm volatile("cp.async.cg.shared.global [%0],[%1],16;" ::"r"(
                             shared_address(to + row * stride + i * 8)),
                         "l"(from + (int64_t)row * p.x_stride + i * 8)
                         : "memory");
}

/* Row `warp`'s sums of squares: fetched with x, added up when they are needed. */
__device__ __forceinline__ void fetch_squares(const cohort_cuda_linear_params &p,
                                              float *to) {
    int warp = threadIdx.x / 32;
    if (!p.squares || warp >= p.n_rows) return;
    for (int i = threadIdx.x % 32; i < p.n_squares; i += 32)
        asm volatile(
            "cp.async.ca.shared.global [%0],[%1],4;" ::"r"(shared_address(to + i)),
            "l"(p.squares + (int64_t)warp * p.n_squares + i)
            : "memory");
}

/* In the order of scales_of. */
__device__ __forceinline__ void scale_of_row(const cohort_cuda_linear_params &p,
                                             const float *squares, float *scale) {
    int lane = threadIdx.x % 32;
    float sum = 0;
    if (p.squares && threadIdx.x / 32 < p.n_rows) {
        int each = (p.n_squares + 31) / 32;
        int begin = lane * each, end = min(begin + each, p.n_squares);
        for (int i = begin; i < end; i++)
            sum += squares[i];
    }
    sum = sum_of_warp(sum);
    if (!lane) *scale = p.squares ? rsqrtf(sum / (float)p.norm_width + p.norm_eps) : 1.0f;
}

/* What a lane loads of a step: of each tile its part of the weights, of x four pairs. */
template <int TILES> struct weights {
    uint4 of[TILES][2];

    __device__ __forceinline__ void load(const uint4 *at, int64_t tile_stride) {
#pragma unroll
        for (int t = 0; t < TILES; t++) {
            of[t][0] = load_weights(at + t * tile_stride);
            of[t][1] = load_weights(at + t * tile_stride + 32);
        }
    }
    __device__ __forceinline__ void multiply_by(const uint16_t *x,
                                                float (&sum)[TILES][4]) const {
        uint32_t b[4];
#pragma unroll
        for (int i = 0; i < 4; i++)
            b[i] = *(const uint32_t *)(x + i * 8);
#pragma unroll
        for (int t = 0; t < TILES; t++) {
            multiply(sum[t], of[t][0], b[0], b[1]);
            multiply(sum[t], of[t][1], b[2], b[3]);
        }
    }
};

/* This warp's sums over its n steps of a group's tiles, of which DEPTH steps are loaded;
 * then loads those of the next group, if there is one. */
template <int TILES, int DEPTH>
__device__ __forceinline__ void product(float (&sum)[TILES][4],
                                        weights<TILES> (&a)[DEPTH], const uint4 *here,
                                        const uint4 *next, int64_t tile_stride,
                                        const uint16_t *x, int n) {
    int step = 0;
    here += DEPTH * 64;
    for (; step + 2 * DEPTH <= n; step += DEPTH) {
#pragma unroll
        for (int d = 0; d < DEPTH; d++) {
            a[d].multiply_by(x + d * COHORT_CUDA_STEP, sum);
            a[d].load(here + d * 64, tile_stride);
        }
        here += DEPTH * 64, x += DEPTH * COHORT_CUDA_STEP;
    }
#pragma unroll
    for (int d = 0; d < 2 * DEPTH - 1; d++) {
        if (step + d >= n) break;
        a[d % DEPTH].multiply_by(x + d * COHORT_CUDA_STEP, sum);
        if (d < DEPTH && step + d + DEPTH < n)
            a[d].load(here + d * 64, tile_stride);
        else if (next)
            a[d % DEPTH].load(next + d % DEPTH * 64, tile_stride);
    }
}

template <int EPILOGUE>
__device__ __forceinline__ void linear(const cohort_cuda_linear_params &p) {
    constexpr int TILES = 2, DEPTH = 11; /* all registers that one CTA an SM has */
    extern __shared__ __align__(16) unsigned char shared[];
    memory<TILES> &s = *reinterpret_cast<memory<TILES> *>(shared);
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int begin = p.n_steps * warp / WARPS, n = p.n_steps * (warp + 1) / WARPS - begin;

    /* A group is two neighbours, or a tile of gate and the one of up that belongs to it.
     */
    constexpr bool PAIR = EPILOGUE == ACTIVATE;
    int n_groups = PAIR ? p.n_tiles / 2 : (p.n_tiles + 1) / 2;
    int64_t of_tile = (int64_t)p.n_steps * 64, of_group = PAIR ? of_tile : of_tile * 2;
    int64_t tile_stride = PAIR ? of_tile * n_groups : of_tile;
    int group = blockIdx.x;
    const uint4 *from = (const uint4 *)p.weights + group * of_group + begin * 64 + lane;
    weights<TILES> a[DEPTH];
#pragma unroll
    for (int d = 0; d < DEPTH; d++)
        if (d < n) a[d].load(from + d * 64, tile_stride);

    /* Rows that are not there read zeros. */
    int stride = (p.n_steps + WARPS - 1) / WARPS * COHORT_CUDA_STEP + 8;
    uint16_t *mine = s.x + warp * p.n_rows * stride,
             *none = s.x + WARPS * p.n_rows * stride;
    float *squares = (float *)(none + stride) + warp * p.n_squares;
    for (int i = threadIdx.x; i < stride / 8; i += COHORT_CUDA_THREADS)
        ((uint4 *)none)[i] = make_uint4(0, 0, 0, 0);
    __syncthreads();
    const uint16_t *x =
        (lane / 4 < p.n_rows ? mine + lane / 4 * stride : none) + lane % 4 * 2;

    wait_for_previous();
    start_next();
    fetch_x(p, mine, stride, begin, begin + n);
    asm volatile("cp.async.commit_group;" ::: "memory");
    fetch_squares(p, squares);
    asm volatile("cp.async.commit_group;" ::: "memory");
    asm volatile("cp.async.wait_group 1;" ::: "memory");
    __syncwarp();

    for (int turn = 0; group < n_groups; group += gridDim.x, turn ^= 1) {
        const uint4 *next =
            group + gridDim.x < n_groups ? from + gridDim.x * of_group : nullptr;
        float sum[TILES][4] = {};
        product<TILES, DEPTH>(sum, a, from, next, tile_stride, x, n);
        from = next;
#pragma unroll
        for (int t = 0; t < TILES; t++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                s.slices[turn][warp][t][lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2] =
                    sum[t][i];
        if (group == blockIdx.x) {
            asm volatile("cp.async.wait_all;" ::: "memory");
            __syncwarp();
            scale_of_row(p, squares, &s.scale[warp]);
        }
        /* One barrier a turn: who is here has read what the turn before last left. */
        __syncthreads();
        auto total = [&](int t, int row, int column) {
            return sum_of_slices(
                [&](int w) { return s.slices[turn][w][t][row][column]; });
        };
        int half = threadIdx.x / 128, thread = threadIdx.x % 128;
        if (PAIR) {
            if (half == 0)
                finish_pair<8, 128>(
                    p, s.scale, group, thread,
                    [&](int row, int column) { return total(0, row, column); },
                    [&](int row, int column) { return total(1, row, column); });
        } else if (group * 2 + half < p.n_tiles) {
            finish_tile<EPILOGUE, 8, 128>(
                p, s.scale, group * 2 + half, thread,
                [&](int row, int column) { return total(half, row, column); });
        }
    }
}

} // namespace

#define COHORT_LINEAR(name, epilogue)                                            \
    extern "C" __global__ void __launch_bounds__(COHORT_CUDA_THREADS, 1)         \
        linear_##name##_8(const __grid_constant__ cohort_cuda_linear_params p) { \
        linear<epilogue>(p);                                                     \
    }

COHORT_LINEAR(store, STORE)
COHORT_LINEAR(activate, ACTIVATE)
COHORT_LINEAR(residual, RESIDUAL)
