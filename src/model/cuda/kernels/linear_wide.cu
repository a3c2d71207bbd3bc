/* SPDX-License-Identifier: Apache-2.0 */
/* Products of decoding for 9 to 64 rows: bound by reading weights, too.
 *
 * What the rows read would soon be as much as the weights, so each CTA reads it once: a
 * cluster of 8 CTAs shares out the columns, a slice each, which stay in shared memory for
 * all its outputs.  The cluster takes 8 tiles of 16 outputs at a time, a warp of each CTA
 * has one; its CTAs then add up each other's sums, a tile each.  Slices are those of
 * linear.cu and added in its order, so the bits are the same. */
#include <cooperative_groups.h>

#include "linear.cuh"

namespace cg = cooperative_groups;

namespace {

constexpr int DEPTH = 8; /* steps that weights are loaded ahead */

template <int N> struct memory {
    float scale[N];
    float sums[1][WARPS][N][17]; /* one, or two where there is room */
};

template <int N> struct sums { float of[N / 2]; };

#define COHORT_D8(d, i)                                                         \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), \
        "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])

/* d = a b, or d += a b: 64 x 16 (a warp's 16 rows in its registers) by 16 x N. */
__device__ __forceinline__ void multiply_group(sums<16> &s, const uint4 &a, uint64_t b,
                                               int adds) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p,%13,0;\n"
                 "wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16 "
                 "{%0,%1,%2,%3,%4,%5,%6,%7},{%8,%9,%10,%11},%12,p,1,1,0;\n}"
                 : COHORT_D8(s.of, 0)
                 : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "l"(b), "r"(adds));
}
__device__ __forceinline__ void multiply_group(sums<32> &s, const uint4 &a, uint64_t b,
                                               int adds) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p,%21,0;\n"
                 "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 "
                 "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15},"
                 "{%16,%17,%18,%19},%20,p,1,1,0;\n}"
                 : COHORT_D8(s.of, 0), COHORT_D8(s.of, 8)
                 : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "l"(b), "r"(adds));
}
__device__ __forceinline__ void multiply_group(sums<64> &s, const uint4 &a, uint64_t b,
                                               int adds) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p,%37,0;\n"
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
                 "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,"
                 "%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31},"
                 "{%32,%33,%34,%35},%36,p,1,1,0;\n}"
                 : COHORT_D8(s.of, 0), COHORT_D8(s.of, 8), COHORT_D8(s.of, 16),
                   COHORT_D8(s.of, 24)
                 : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "l"(b), "r"(adds));
}
#undef COHORT_D8

/* The slice's columns of all rows: eighths of 8 columns, each with all rows. */
template <int N>
__device__ __forceinline__ void fetch_x(const cohort_cuda_linear_params &p, uint4 *to,
                                        int begin, int end) {
    int eighths = (end - begin) * 4;
    for (int i = threadIdx.x; i < eighths * N; i += COHORT_CUDA_THREADS) {
        /* 8 rows of 4 eighths a warp: whole sectors come, no two banks meet. */
        int row = i % 8 + i / 32 % (N / 8) * 8, eighth = i / (4 * N) * 4 + i / 8 % 4;
        bool used = row < p.n_rows;
        const uint16_t *from = p.x + (int64_t)(used ? row : 0) * p.x_stride +
                               begin * COHORT_CUDA_STEP + eighth * 8;
        asm volatile("cp.async.cg.shared.global [%0],[%1],16,%2;" ::"r"(
                         shared_address(to + eighth * N + row)),
                     "l"(from), "r"(used ? 16 : 0)
                     : "memory");
    }
}

struct step_weights {
    uint4 of[2];
    __device__ __forceinline__ void load(const uint4 *at) {
        of[0] = load_weights(at), of[1] = load_weights(at + 32);
    }
};

/* One step: what it reads must not change before `wait_for_steps` says so. */
template <int N>
__device__ __forceinline__ void begin_step(sums<N> &sum, const step_weights &a,
                                           uint64_t x, int adds) {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
    multiply_group(sum, a.of[0], x, adds);
    multiply_group(sum, a.of[1], x + 2 * N, 1);
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int BUSY> __device__ __forceinline__ void wait_for_steps() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(BUSY) : "memory");
}

/* Adds up n steps of a tile, DEPTH of which are loaded; then loads the next tile's. */
template <int N>
__device__ __forceinline__ void product(sums<N> &sum, step_weights (&a)[DEPTH],
                                        const uint4 *from, const uint4 *next, uint64_t x,
                                        int n) {
    const uint4 *here = from + DEPTH * 64;
    int step = 0;
    for (; step + 2 * DEPTH <= n; step += DEPTH) {
#pragma unroll
        for (int d = 0; d < DEPTH; d++) {
            begin_step<N>(sum, a[d], x + d * 4 * N, step + d > 0);
            wait_for_steps<1>();
            if (d) a[d - 1].load(here + (d - 1) * 64);
        }
        wait_for_steps<0>();
        a[DEPTH - 1].load(here + (DEPTH - 1) * 64);
        here += DEPTH * 64, x += DEPTH * 4 * N;
    }
#pragma unroll
    for (int d = 0; d < 2 * DEPTH - 1; d++) {
        if (step + d >= n) break;
        begin_step<N>(sum, a[d % DEPTH], x + d * 4 * N, step + d > 0);
        wait_for_steps<0>();
        if (d < DEPTH && step + d + DEPTH < n)
            a[d].load(here + d * 64);
        else if (next)
            a[d % DEPTH].load(next + d % DEPTH * 64);
    }
    if (!n)
#pragma unroll
        for (int i = 0; i < N / 2; i++)
            sum.of[i] = 0;
}

__device__ __forceinline__ void arrive_at_cluster() {
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
__device__ __forceinline__ void wait_for_cluster() {
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

template <int EPILOGUE, int N>
__device__ __forceinline__ void linear_wide(const cohort_cuda_linear_params &p) {
    extern __shared__ __align__(128) unsigned char shared[];
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int rank = blockIdx.x % WARPS, n_clusters = gridDim.x / WARPS;
    int begin = p.n_steps * rank / WARPS, n = p.n_steps * (rank + 1) / WARPS - begin;
    int most = (p.n_steps + WARPS - 1) / WARPS; /* steps of a slice, the same for all */
    uint4 *x = (uint4 *)shared;
    memory<N> &s = *reinterpret_cast<memory<N> *>(x + most * 4 * N);
    /* Of gates and ups, four each: warp 4 + i has the up of warp i's gate. */
    constexpr bool PAIR = EPILOGUE == ACTIVATE;
    constexpr int OF_GROUP = PAIR ? WARPS / 2 : WARPS;
    int n_tiles = PAIR ? p.n_tiles / 2 : p.n_tiles;
    int n_groups = (n_tiles + OF_GROUP - 1) / OF_GROUP, group = blockIdx.x / WARPS;
    auto weights_of = [&](int g) {
        int64_t tile = min(g * OF_GROUP + warp % OF_GROUP, n_tiles - 1);
        if (PAIR && warp >= OF_GROUP) tile += n_tiles;
        return (const uint4 *)p.weights + (tile * p.n_steps + begin) * 64 + lane;
    };
    const uint4 *from = weights_of(group);
    step_weights a[DEPTH];
#pragma unroll
    for (int d = 0; d < DEPTH; d++)
        if (d < n) a[d].load(from + d * 64);

    wait_for_previous();
    start_next();
    fetch_x<N>(p, x, begin, begin + n);
    scales_of<COHORT_CUDA_THREADS / N>(p, s.scale);
    asm volatile("cp.async.wait_all;\nfence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
    /* Where wgmma finds 16 columns of all rows: matrices of 8 rows x 16 bytes. */
    uint64_t at =
        (shared_address(x) & 0x3ffff) >> 4 | (uint64_t)N << 16 | (uint64_t)8 << 32;

    cg::cluster_group cluster = cg::this_cluster();
    auto finish = [&](int g, int turn) {
        int tile = g * OF_GROUP + rank;
        if (rank >= OF_GROUP || tile >= n_tiles) return;
        auto total = [&](int of, int row, int column) {
            return sum_of_slices([&](int r) {
                return *cluster.map_shared_rank(&s.sums[turn][of][column][row], r);
            });
        };
        if (PAIR)
            finish_pair<N, COHORT_CUDA_THREADS>(
                p, s.scale, tile, threadIdx.x,
                [&](int row, int column) { return total(rank, row, column); },
                [&](int row, int column) { return total(rank + OF_GROUP, row, column); });
        else
            finish_tile<EPILOGUE, N, COHORT_CUDA_THREADS>(
                p, s.scale, tile, threadIdx.x,
                [&](int row, int column) { return total(rank, row, column); });
    };
    /* With two buffers a group is finished when the next one's products are there.  Who
     * has come to a barrier has read all that was written before the one before it. */
    int turn = 0, unfinished = -1;
    for (; group < n_groups; group += n_clusters) {
        const uint4 *next =
            group + n_clusters < n_groups ? weights_of(group + n_clusters) : nullptr;
        sums<N> sum;
        product<N>(sum, a, from, next, at, n);
        from = next;
        if (unfinished >= 0) {
            wait_for_cluster();
            finish(unfinished, turn ^ 1);
        }
#pragma unroll
        for (int i = 0; i < N / 2; i++)
            s.sums[turn][warp][i / 4 * 8 + lane % 4 * 2 + i % 2]
                  [lane / 4 + i / 2 % 2 * 8] = sum.of[i];
        arrive_at_cluster();
        unfinished = group;
        if (p.two_buffers) {
            turn ^= 1;
            continue;
        }
        wait_for_cluster();
        finish(unfinished, turn);
        unfinished = -1;
        cluster.sync();
    }
    if (unfinished >= 0) {
        wait_for_cluster();
        finish(unfinished, turn ^ 1);
    }
    cluster.sync(); /* nobody leaves while others read from it */
}

} // namespace

#define COHORT_LINEAR_WIDE(name, epilogue, rows)                          \
    extern "C" __global__ void __cluster_dims__(8)                        \
        __launch_bounds__(COHORT_CUDA_THREADS, 1) linear_##name##_##rows( \
            const __grid_constant__ cohort_cuda_linear_params p) {        \
        linear_wide<epilogue, rows>(p);                                   \
    }
#define COHORT_LINEAR_WIDTHS(name, epilogue) \
    COHORT_LINEAR_WIDE(name, epilogue, 16)   \
    COHORT_LINEAR_WIDE(name, epilogue, 32)   \
    COHORT_LINEAR_WIDE(name, epilogue, 64)

COHORT_LINEAR_WIDTHS(store, STORE)
COHORT_LINEAR_WIDTHS(activate, ACTIVATE)
COHORT_LINEAR_WIDTHS(residual, RESIDUAL)
