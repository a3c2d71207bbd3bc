/* SPDX-License-Identifier: Apache-2.0 */
/* Attention of prompts: many rows of a sequence against its paged cache.
 *
 * prompt_cache_* puts keys and values of all rows into the cache first.  Then a CTA takes
 * the query heads of one KV head for a run of rows: these are COLUMNS columns, a warp has
 * 32 of them.  It goes over the context by stages of 48 tokens with scores that are never
 * stored: their maxima and masses are kept, and what was summed so far shrinks where a
 * maximum grows.
 *
 * Keys, values and queries lie as the tensor cores take them.  Scores come out with
 * tokens as rows, and are turned for the product with the values.  What lies beyond the
 * last token may be anything, NaN too.  A run may hold rows of several sequences: they
 * take turns. */
#include "attention.cuh"

namespace {

constexpr int COLUMNS = COHORT_CUDA_PROMPT_COLUMNS, THREADS = COLUMNS;
constexpr int TOKENS = COHORT_CUDA_PROMPT_TOKENS, TILES = TOKENS / 16; /* of a stage */

template <int D> struct memory {
    uint4 stages[2][TILES][4 * D]; /* a tile is D / 16 parts of keys, then of values */
    uint4 query[COLUMNS / 8][D / 32][32];
    int position[COLUMNS]; /* -1: no row of the sequence whose turn it is */
};

/* This warp's queries, normalised and turned; zeros for columns without a row. */
template <int D>
__device__ __forceinline__ void prepare(const cohort_cuda_attention_params &p,
                                        memory<D> &s, int begin, int end) {
    int lane = threadIdx.x % 32, first = threadIdx.x / 32 * 32;
    int group = p.cache.n_heads / p.cache.n_kv_heads;
    uint16_t *query = (uint16_t *)s.query;
#pragma unroll 4
    for (int column = first; column < first + 32; column++) {
        int row = begin + column / group;
        float v[2][D / 64] = {};
        if (row < end) {
            int head = blockIdx.x * group + column % group;
            rotation<D> turn;
            turn.load(p, p.cache.positions[row]);
            prepare_head<D>(p, p.qkv + (int64_t)row * p.qkv_stride + head * D, p.q_norm,
                            turn, v);
        }
#pragma unroll
        for (int half = 0; half < 2; half++)
#pragma unroll
            for (int i = 0; i < D / 64; i++) {
                int k = half * D / 2 + i * 32 + lane, in = k % 32;
                int at =
                    (column / 8 * (D / 32) + k / 32) * 32 + column % 8 * 4 + in % 8 / 2;
                query[at * 8 + in / 8 * 2 + in % 2] = narrow(v[half][i]);
            }
    }
}

/* Which tile of the cache is tile `index` of the row's sequence; -1: none of it. */
__device__ __forceinline__ int tile_of(const cohort_cuda_attention_params &p, int row,
                                       int index, int n_tiles) {
    const cohort_cuda_cache &c = p.cache;
    if (index >= n_tiles) return -1;
    int64_t table = (int64_t)c.sequences[row] * c.table_stride;
    return c.block_tables[table + index / c.tiles_of_block] * c.tiles_of_block +
           index % c.tiles_of_block;
}

/* Lane i < TILES says which tile is the i-th of the stage. */
template <int D>
__device__ __forceinline__ void fetch(const cohort_cuda_attention_params &p,
                                      uint4 (&to)[TILES][4 * D], int tile) {
#pragma unroll
    for (int i = 0; i < TILES; i++) {
        int64_t at = __shfl_sync(~0u, tile, i);
        if (at < 0) continue;
        const uint4 *from =
            (const uint4 *)p.cache.tiles + (at * p.cache.n_kv_heads + blockIdx.x) * 4 * D;
#pragma unroll
        for (int k = threadIdx.x; k < 4 * D; k += THREADS)
            asm volatile("cp.async.cg.shared.global [%0],[%1],16;" ::"r"(
                             shared_address(&to[i][k])),
                         "l"(from + k)
                         : "memory");
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
}

__device__ __forceinline__ float power_of_2(float v) {
    float power;
    asm("ex2.approx.ftz.f32 %0,%1;" : "=f"(power) : "f"(v));
    return power;
}

/* What a warp has summed: rows are dims, columns its 32 queries. */
template <int D> struct sums {
    float of[D / 16][4][4];
    float most[4][2], mass[4][2]; /* mass: of this lane's tokens alone */
};

/* Scores of a stage. */
template <int D>
__device__ __forceinline__ void score(float (&scores)[TILES][4][4],
                                      const uint4 (&stage)[TILES][4 * D],
                                      const uint4 (&query)[COLUMNS / 8][D / 32][32]) {
    int lane = threadIdx.x % 32, first = threadIdx.x / 32 * 4;
#pragma unroll
    for (int i = 0; i < TILES; i++)
#pragma unroll
        for (int n = 0; n < 4; n++)
#pragma unroll
            for (int r = 0; r < 4; r++)
                scores[i][n][r] = 0;
#pragma unroll
    for (int k = 0; k < D / 32; k++) {
        uint4 q[4];
#pragma unroll
        for (int n = 0; n < 4; n++)
            q[n] = query[first + n][k][lane];
#pragma unroll
        for (int i = 0; i < TILES; i++) {
            uint4 low = stage[i][k * 64 + lane], high = stage[i][k * 64 + 32 + lane];
#pragma unroll
            for (int n = 0; n < 4; n++) {
                multiply(scores[i][n], low, q[n].x, q[n].y);
                multiply(scores[i][n], high, q[n].z, q[n].w);
            }
        }
    }
}

/* Tokens that a query does not see: those behind it, and those before its window. */
__device__ __forceinline__ void mask(float (&scores)[TILES][4][4], const int *position,
                                     int first_token, int window) {
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int n = 0; n < 4; n++)
#pragma unroll
        for (int c = 0; c < 2; c++) {
            int last = position[n * 8 + lane % 4 * 2 + c];
            int from = window && last >= window ? last - window + 1 : 0;
#pragma unroll
            for (int i = 0; i < TILES; i++)
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    int token = first_token + i * 16 + half * 8 + lane / 4;
                    if (token > last || token < from)
                        scores[i][n][half * 2 + c] = -INFINITY;
                }
        }
}

/* Scores become weights, as bf16 pairs of tokens; what was summed shrinks. */
template <int D>
__device__ __forceinline__ void weigh(sums<D> &o, uint32_t (&weights)[TILES][4][2],
                                      float (&scores)[TILES][4][4], float scale) {
#pragma unroll
    for (int n = 0; n < 4; n++) {
        float shrink[2];
#pragma unroll
        for (int c = 0; c < 2; c++) {
            float most = scores[0][n][c];
#pragma unroll
            for (int i = 0; i < TILES; i++)
                most = fmaxf(most, fmaxf(scores[i][n][c], scores[i][n][2 + c]));
#pragma unroll
            for (int lanes = 4; lanes < 32; lanes <<= 1)
                most = fmaxf(most, __shfl_xor_sync(~0u, most, lanes));
            most = fmaxf(o.most[n][c], most * scale);
            /* Nothing was seen yet: all weights are 0. */
            float base = most == -INFINITY ? 0.0f : most;
            shrink[c] = power_of_2(o.most[n][c] - base);
            o.most[n][c] = most;
            float sum = 0;
#pragma unroll
            for (int i = 0; i < TILES; i++)
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    float &v = scores[i][n][half * 2 + c];
                    v = power_of_2(fmaf(v, scale, -base));
                    sum += v;
                }
            o.mass[n][c] = o.mass[n][c] * shrink[c] + sum;
        }
#pragma unroll
        for (int i = 0; i < TILES; i++)
#pragma unroll
            for (int half = 0; half < 2; half++)
                weights[i][n][half] =
                    transpose(pack(scores[i][n][half * 2], scores[i][n][half * 2 + 1]));
        /* Most often no maximum grew. */
        if (!__any_sync(~0u, shrink[0] != 1 || shrink[1] != 1)) continue;
#pragma unroll
        for (int m = 0; m < D / 16; m++)
#pragma unroll
            for (int r = 0; r < 4; r++)
                o.of[m][n][r] *= shrink[r % 2];
    }
}

/* Of the tile's tokens the first `n` count. */
__device__ __forceinline__ uint4 cut(uint4 value, int n) {
    int first = threadIdx.x % 4 * 2;
    uint32_t low = (first < n ? 0xffffu : 0) | (first + 1 < n ? 0xffff0000u : 0);
    uint32_t high = (first + 8 < n ? 0xffffu : 0) | (first + 9 < n ? 0xffff0000u : 0);
    return make_uint4(value.x & low, value.y & low, value.z & high, value.w & high);
}

/* n: tokens of the stage that count. */
template <int D>
__device__ __forceinline__ void add(sums<D> &o, const uint32_t (&weights)[TILES][4][2],
                                    const uint4 (&stage)[TILES][4 * D], int n_tokens) {
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < TILES; i++)
#pragma unroll
        for (int m = 0; m < D / 16; m++) {
            uint4 value = stage[i][2 * D + m * 32 + lane];
            if (n_tokens < TOKENS) value = cut(value, n_tokens - i * 16);
#pragma unroll
            for (int n = 0; n < 4; n++)
                multiply(o.of[m][n], value, weights[i][n][0], weights[i][n][1]);
        }
}

/* What the columns of rows [first, last] came to. */
template <int D>
__device__ __forceinline__ void write(const cohort_cuda_attention_params &p, sums<D> &o,
                                      int begin, int first, int last) {
    int lane = threadIdx.x % 32;
    int group = p.cache.n_heads / p.cache.n_kv_heads;
#pragma unroll
    for (int n = 0; n < 4; n++)
#pragma unroll
        for (int c = 0; c < 2; c++) {
            float mass = o.mass[n][c];
#pragma unroll
            for (int lanes = 4; lanes < 32; lanes <<= 1)
                mass += __shfl_xor_sync(~0u, mass, lanes);
            int column = threadIdx.x / 32 * 32 + n * 8 + lane % 4 * 2 + c;
            int row = begin + column / group;
            if (row < first || row > last) continue;
            int head = blockIdx.x * group + column % group;
            uint16_t *to = p.narrow + ((int64_t)row * p.cache.n_heads + head) * D;
            float by = 1.0f / mass;
#pragma unroll
            for (int m = 0; m < D / 16; m++)
#pragma unroll
                for (int half = 0; half < 2; half++)
                    to[m * 16 + half * 8 + lane / 4] =
                        narrow(o.of[m][n][half * 2 + c] * by);
        }
}

/* Rows [first, last] of one sequence, out of this CTA's that begin at `begin`. */
template <int D>
__device__ __forceinline__ void attend(const cohort_cuda_attention_params &p,
                                       memory<D> &s, int begin, int first, int last) {
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int group = p.cache.n_heads / p.cache.n_kv_heads, window = p.sliding_window;
    int first_position = p.cache.positions[first];
    int last_position = first_position + last - first;
    int n_tiles = last_position / 16 + 1;
    auto seen_from = [&](int position) {
        return window && position >= window ? position - window + 1 : 0;
    };
    int tile = seen_from(first_position) / TOKENS * TILES;
    /* Places of this warp's first and last query of the sequence. */
    int low = max(first, begin + warp * 32 / group);
    int high = min(last, begin + (warp * 32 + 31) / group);
    bool takes_part = low <= high;
    low += first_position - first, high += first_position - first;

    int next = tile_of(p, first, tile + lane % TILES, n_tiles);
    __syncthreads(); /* the turn before has ended */
    int row = begin + (int)threadIdx.x / group;
    s.position[threadIdx.x] =
        row >= first && row <= last ? first_position + row - first : -1;
    fetch<D>(p, s.stages[0], next);
    next = tile_of(p, first, tile + TILES + lane % TILES, n_tiles);

    sums<D> o = {};
#pragma unroll
    for (int n = 0; n < 4; n++)
        o.most[n][0] = o.most[n][1] = -INFINITY;
#pragma unroll 1
    for (int turn = 0; tile < n_tiles; tile += TILES, turn ^= 1) {
        asm volatile("cp.async.wait_all;" ::: "memory");
        __syncthreads();
        if (tile + TILES < n_tiles) {
            fetch<D>(p, s.stages[turn ^ 1], next);
            next = tile_of(p, first, tile + 2 * TILES + lane % TILES, n_tiles);
        }
        int token = tile * 16;
        if (!takes_part || token > high || token + TOKENS <= seen_from(low)) continue;
        float scores[TILES][4][4];
        uint32_t weights[TILES][4][2];
        score<D>(scores, s.stages[turn], s.query);
        if (token + TOKENS - 1 > low || token < seen_from(high))
            mask(scores, s.position + warp * 32, token, window);
        weigh<D>(o, weights, scores, p.scale * 1.44269504f);
        add<D>(o, weights, s.stages[turn], high + 1 - token);
    }
    if (takes_part) write<D>(p, o, begin, first, last);
}

/* grid: (KV heads, runs of rows): the last run, which sees most, first. */
template <int D>
__device__ __forceinline__ void attention(const cohort_cuda_attention_params &p) {
    extern __shared__ __align__(16) unsigned char shared[];
    memory<D> &s = *reinterpret_cast<memory<D> *>(shared);
    int rows = COLUMNS / (p.cache.n_heads / p.cache.n_kv_heads);
    int begin = p.first_row + (int)(gridDim.y - 1 - blockIdx.y) * rows;
    int end = min(begin + rows, p.first_row + p.n_rows);
    wait_for_previous();
    start_next();
    prepare<D>(p, s, begin, end);
    for (int first = begin, last; first < end; first = last + 1) {
        int sequence = p.cache.sequences[first];
        last = end - 1;
        while (p.cache.sequences[last] != sequence)
            last--;
        attend<D>(p, s, begin, first, last);
    }
}

/* A warp a row and KV head. */
template <int D>
__device__ __forceinline__ void cache(const cohort_cuda_attention_params &p) {
    int index = blockIdx.x * WARPS + threadIdx.x / 32;
    int row = p.first_row + index / p.cache.n_kv_heads, head = index % p.cache.n_kv_heads;
    wait_for_previous();
    start_next();
    if (row >= p.first_row + p.n_rows) return;
    int position = p.cache.positions[row];
    rotation<D> turn;
    turn.load(p, position);
    store_key<D>(p, row, head, position, turn);
    store_value<D>(p, row, head, position);
}

} // namespace

#define COHORT_PROMPT_ATTENTION(dim)                                                     \
    extern "C" __global__ void __launch_bounds__(COHORT_CUDA_THREADS)                    \
        prompt_cache_##dim(const __grid_constant__ cohort_cuda_attention_params p) {     \
        cache<dim>(p);                                                                   \
    }                                                                                    \
    extern "C" __global__ void __launch_bounds__(COHORT_CUDA_PROMPT_COLUMNS, 2)          \
        prompt_attention_##dim(const __grid_constant__ cohort_cuda_attention_params p) { \
        attention<dim>(p);                                                               \
    }

COHORT_PROMPT_ATTENTION(64)
COHORT_PROMPT_ATTENTION(128)
