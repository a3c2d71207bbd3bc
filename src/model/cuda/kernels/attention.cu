/* SPDX-License-Identifier: Apache-2.0 */
/* Attention of decoding: one new token a sequence against its paged cache.
 *
 * A CTA takes one sequence and one KV head with all query heads that read it: these are
 * the 8 columns of the tensor cores' product, so the cache is read once.  The context is
 * cut into tiles of 16 tokens at absolute places; tile i belongs to part i % PARTS of
 * ROUNDS x WARPS.  Each part is added up tile by tile, parts are joined in order: first
 * over the warps of a round, then over the rounds.  How many CTAs share the rounds (a
 * cluster) changes no bit.
 *
 * Keys and values lie in the cache in the order in which the tensor cores take them:
 * keys as rows of tokens, values as rows of dims (of 16 tokens).  What lies beyond the
 * last token may be anything, NaN too. */
#include <cooperative_groups.h>

#include "attention.cuh"

namespace cg = cooperative_groups;

namespace {

constexpr int ROUNDS = 4, HEADS = 8; /* HEADS: query heads a KV head has at most */
constexpr int PARTS = ROUNDS * WARPS;

template <int D> struct tile { uint4 key[D / 16], value[D / 16]; };

/* Parts' sums, in shared memory. */
template <int D> struct joint {
    float out[WARPS][HEADS][D];
    float most[WARPS][HEADS], mass[WARPS][HEADS];
    /* What the rounds of this CTA came to. */
    float round_out[ROUNDS][HEADS][D];
    float round_most[ROUNDS][HEADS], round_mass[ROUNDS][HEADS];
    uint16_t query[HEADS][D + 8];
};

template <int D> __device__ __forceinline__ void load_tile(tile<D> &t, const uint4 *at) {
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < D / 16; i++)
        t.key[i] = at[i * 32 + lane];
#pragma unroll
    for (int i = 0; i < D / 16; i++)
        t.value[i] = at[(D / 16 + i) * 32 + lane];
}

/* The new token's key and value go to the cache, its queries to shared memory. */
template <int D>
__device__ __forceinline__ void prepare(const cohort_cuda_attention_params &p,
                                        joint<D> &s, int row, int head, int position,
                                        const rotation<D> &turn, bool stores) {
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int group = p.cache.n_heads / p.cache.n_kv_heads;
    const float *qkv = p.qkv + (int64_t)row * p.qkv_stride;
    for (int h = warp; h < HEADS; h += WARPS) {
        float v[2][D / 64] = {};
        if (h < group)
            prepare_head<D>(p, qkv + (head * group + h) * D, p.raw ? p.q_norm : nullptr,
                            turn, v);
#pragma unroll
        for (int half = 0; half < 2; half++)
#pragma unroll
            for (int i = 0; i < D / 64; i++)
                s.query[h][half * D / 2 + i * 32 + lane] = narrow(v[half][i]);
    }
    if (!stores) return;
    if (warp == WARPS - 1)
        store_key<D>(p, row, head, position, turn);
    else if (warp == WARPS - 2)
        store_value<D>(p, row, head, position);
}

/* Values of tokens beyond `n` (of this tile) become zeros. */
template <int D> __device__ __forceinline__ void cut_values(tile<D> &t, int n) {
    int first = threadIdx.x % 4 * 2;
    uint32_t low = (first < n ? 0xffffu : 0) | (first + 1 < n ? 0xffff0000u : 0);
    uint32_t high = (first + 8 < n ? 0xffffu : 0) | (first + 9 < n ? 0xffff0000u : 0);
#pragma unroll
    for (int i = 0; i < D / 16; i++) {
        t.value[i].x &= low, t.value[i].y &= low;
        t.value[i].z &= high, t.value[i].w &= high;
    }
}

template <int D> struct part {
    float out[D / 16][4]; /* dims g, g + 8 of each 16; heads 2t, 2t + 1 */
    float most[2], mass[2];
};

/* Tokens [begin, end) of the tile count. */
template <int D>
__device__ __forceinline__ void attend(part<D> &o, tile<D> &t,
                                       const uint4 (&query)[D / 32], float scale,
                                       int begin, int end) {
    int token = threadIdx.x % 32 / 4;
    float score[4] = {};
#pragma unroll
    for (int i = 0; i < D / 32; i++) {
        multiply(score, t.key[i * 2], query[i].x, query[i].y);
        multiply(score, t.key[i * 2 + 1], query[i].z, query[i].w);
    }
    if (end < 16) cut_values<D>(t, end);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int at = token + i / 2 * 8;
        score[i] = at >= begin && at < end ? score[i] * scale : -INFINITY;
    }
    float shrink[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        float most = fmaxf(score[i], score[i + 2]);
#pragma unroll
        for (int mask = 4; mask < 32; mask <<= 1)
            most = fmaxf(most, __shfl_xor_sync(~0u, most, mask));
        most = fmaxf(most, o.most[i]);
        shrink[i] = weight_of(o.most[i], most);
        score[i] = weight_of(score[i], most);
        score[i + 2] = weight_of(score[i + 2], most);
        float sum = score[i] + score[i + 2];
#pragma unroll
        for (int mask = 4; mask < 32; mask <<= 1)
            sum += __shfl_xor_sync(~0u, sum, mask);
        o.mass[i] = o.mass[i] * shrink[i] + sum;
        o.most[i] = most;
    }
    uint32_t low = transpose(pack(score[0], score[1]));
    uint32_t high = transpose(pack(score[2], score[3]));
#pragma unroll
    for (int i = 0; i < D / 16; i++) {
#pragma unroll
        for (int r = 0; r < 4; r++)
            o.out[i][r] *= shrink[r % 2];
        multiply(o.out[i], t.value[i], low, high);
    }
}

/* Joins the warps' parts to round `round` of this CTA. */
template <int D>
__device__ __forceinline__ void join_warps(joint<D> &s, const part<D> &o, int round) {
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < D / 16; i++)
#pragma unroll
        for (int r = 0; r < 4; r++)
            s.out[warp][lane % 4 * 2 + r % 2][i * 16 + lane / 4 + r / 2 * 8] =
                o.out[i][r];
    if (lane < 4)
        for (int i = 0; i < 2; i++) {
            s.most[warp][lane * 2 + i] = o.most[i];
            s.mass[warp][lane * 2 + i] = o.mass[i];
        }
    __syncthreads();
    for (int i = threadIdx.x; i < HEADS * D; i += COHORT_CUDA_THREADS) {
        int h = i / D, d = i % D;
        float most = s.most[0][h], out = 0, mass = 0;
#pragma unroll
        for (int w = 1; w < WARPS; w++)
            most = fmaxf(most, s.most[w][h]);
#pragma unroll
        for (int w = 0; w < WARPS; w++) {
            float weight = weight_of(s.most[w][h], most);
            out += weight * s.out[w][h][d];
            mass += weight * s.mass[w][h];
        }
        s.round_out[round][h][d] = out;
        if (!d) s.round_most[round][h] = most, s.round_mass[round][h] = mass;
    }
    __syncthreads();
}

/* grid: (CTAs of a cluster, KV heads, rows). */
template <int D>
__device__ __forceinline__ void attention(const cohort_cuda_attention_params &p) {
    extern __shared__ __align__(16) unsigned char memory[];
    joint<D> &s = *reinterpret_cast<joint<D> *>(memory);
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int head = blockIdx.y, row = blockIdx.z, rank = blockIdx.x, ranks = gridDim.x;
    int mine = ROUNDS / ranks; /* rounds of this CTA */
    int position = p.cache.positions[row];
    int n_tiles = position / 16 + 1, last = n_tiles - 1;
    int from = p.sliding_window && position >= p.sliding_window
                   ? position - p.sliding_window + 1
                   : 0;

    /* Older tokens were stored in earlier steps: their tile may be read at once. */
    tile<D> t;
    int first = rank * mine * WARPS + warp;
    bool early = p.raw && position >= 0 && first < last;
    if (early) load_tile<D>(t, tile_at<D>(p, row, head, first));
    rotation<D> turn;
    turn.load(p, max(position, 0));
    wait_for_previous();
    start_next();
    if (position < 0) return; /* the whole cluster leaves */

    bool stores = p.raw && last % PARTS / WARPS / mine == rank;
    prepare<D>(p, s, row, head, position, turn, stores);
    __syncthreads();
    auto pair_of = [&](int i, int pair) {
        return *(const uint32_t *)&s.query[lane / 4][i * 32 + pair * 8 + lane % 4 * 2];
    };
    uint4 query[D / 32];
#pragma unroll
    for (int i = 0; i < D / 32; i++)
        query[i] = {pair_of(i, 0), pair_of(i, 1), pair_of(i, 2), pair_of(i, 3)};

    for (int round = 0; round < mine; round++) {
        if ((rank * mine + round) * WARPS >= n_tiles) { /* a short context */
            if (threadIdx.x < HEADS) {
                s.round_most[round][threadIdx.x] = -INFINITY;
                s.round_mass[round][threadIdx.x] = 0;
            }
            continue;
        }
        part<D> o = {.out = {}, .most = {-INFINITY, -INFINITY}, .mass = {}};
        for (int i = first + round * WARPS; i < n_tiles; i += PARTS) {
            if (i * 16 + 16 <= from) continue;
            if (!early || i != first) load_tile<D>(t, tile_at<D>(p, row, head, i));
            attend<D>(o, t, query, p.scale * 1.44269504f, from - i * 16,
                      i == last ? position % 16 + 1 : 16);
        }
        join_warps<D>(s, o, round);
    }

    cg::cluster_group cluster = cg::this_cluster();
    if (ranks > 1)
        cluster.sync();
    else
        __syncthreads();
    int group = p.cache.n_heads / p.cache.n_kv_heads;
    if (rank == 0)
        for (int i = threadIdx.x; i < group * D; i += COHORT_CUDA_THREADS) {
            int h = i / D, d = i % D;
            float most = -INFINITY, out = 0, mass = 0;
            float m[ROUNDS], l[ROUNDS], v[ROUNDS];
#pragma unroll
            for (int r = 0; r < ROUNDS; r++) {
                joint<D> *at = ranks > 1 ? cluster.map_shared_rank(&s, r / mine) : &s;
                m[r] = at->round_most[r % mine][h];
                l[r] = at->round_mass[r % mine][h];
                v[r] = at->round_out[r % mine][h][d];
                most = fmaxf(most, m[r]);
            }
#pragma unroll
            for (int r = 0; r < ROUNDS; r++) {
                float weight = weight_of(m[r], most);
                if (weight > 0) out += weight * v[r]; /* else v was never written */
                mass += weight * l[r];
            }
            p.narrow[((int64_t)row * p.cache.n_heads + head * group + h) * D + d] =
                narrow(out / mass);
        }
    if (ranks > 1) cluster.sync(); /* nobody leaves while others read from it */
}

} // namespace

extern "C" __global__ void __launch_bounds__(COHORT_CUDA_THREADS, 2)
    attention_128(const __grid_constant__ cohort_cuda_attention_params p) {
    attention<128>(p);
}
extern "C" __global__ void __launch_bounds__(COHORT_CUDA_THREADS)
    attention_64(const __grid_constant__ cohort_cuda_attention_params p) {
    attention<64>(p);
}
