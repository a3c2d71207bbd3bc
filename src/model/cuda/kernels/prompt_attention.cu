/* SPDX-License-Identifier: Apache-2.0 */
/* Attention of prompts: many rows of a sequence against its paged cache.
 *
 * prompt_cache_* puts keys and values of all rows into the cache first.  Then a CTA takes
 * the query heads of one KV head for a run of rows: COLUMNS queries, of which a warp has
 * 16 in its registers.  It goes over the context by stages of 64 tokens with scores that
 * are never stored: their maxima and masses are kept, and what was summed so far shrinks
 * where a maximum grows.
 *
 * Keys and values lie as the tensor cores take the 16-row operand of a product; 16 rows
 * of it are two of the 8-column operand, which they are here.  What lies beyond the last
 * token may be anything, NaN too.  A run may hold rows of several sequences: they take
 * turns. */
#include "attention.cuh"

namespace {

constexpr int COLUMNS = COHORT_CUDA_PROMPT_COLUMNS, THREADS = COLUMNS * 2;
constexpr int TOKENS = COHORT_CUDA_PROMPT_TOKENS, TILES = TOKENS / 16; /* of a stage */
constexpr int STAGES = COHORT_CUDA_PROMPT_STAGES;

template <int D> union memory {
    uint4 stages[STAGES][TILES][4 * D]; /* a tile is D / 16 parts of keys, of values */
    uint16_t query[COLUMNS][D + 8];     /* before there are stages */
};

/* This warp's queries, normalised and turned; zeros for columns without a row. */
template <int D>
__device__ __forceinline__ void prepare(const cohort_cuda_attention_params &p,
                                        memory<D> &s, int begin, int end,
                                        uint4 (&query)[D / 16]) {
    int lane = threadIdx.x % 32, first = threadIdx.x / 32 * 16;
    int group = p.cache.n_heads / p.cache.n_kv_heads;
#pragma unroll 4
    for (int column = first; column < first + 16; column++) {
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
            for (int i = 0; i < D / 64; i++)
                s.query[column][half * D / 2 + i * 32 + lane] = narrow(v[half][i]);
    }
    __syncwarp();
    auto pair_of = [&](int row, int column) {
        return *(const uint32_t *)&s.query[first + row + lane / 4][column + lane % 4 * 2];
    };
#pragma unroll
    for (int k = 0; k < D / 16; k++)
        query[k] = {pair_of(0, k * 16), pair_of(8, k * 16), pair_of(0, k * 16 + 8),
                    pair_of(8, k * 16 + 8)};
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
    for (int k = 0; k < (TILES * 4 * D + THREADS - 1) / THREADS; k++) {
        int part = k * THREADS + threadIdx.x, which = part / (4 * D);
        int64_t at = __shfl_sync(~0u, tile, which % TILES);
        if (which >= TILES || at < 0) continue;
        const uint4 *from = (const uint4 *)p.cache.tiles +
                            (at * p.cache.n_kv_heads + blockIdx.x) * 4 * D +
                            part % (4 * D);
        asm volatile("cp.async.cg.shared.global [%0],[%1],16;" ::"r"(
                         shared_address(&to[0][0] + part)),
                     "l"(from)
                     : "memory");
    }
}
__device__ __forceinline__ void end_fetch() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

__device__ __forceinline__ float power_of_2(float v) {
    float power;
    asm("ex2.approx.ftz.f32 %0,%1;" : "=f"(power) : "f"(v));
    return power;
}

/* What a warp has summed: rows are its 16 queries, of which a lane has g and g + 8. */
template <int D> struct sums {
    float of[D / 8][4];
    float most[2], mass[2]; /* mass: of this lane's tokens alone */
};

/* Scores of a stage. */
template <int D>
__device__ __forceinline__ void score(float (&scores)[TOKENS / 8][4],
                                      const uint4 (&stage)[TILES][4 * D],
                                      const uint4 (&query)[D / 16]) {
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < TILES; i++) {
#pragma unroll
        for (int r = 0; r < 4; r++)
            scores[2 * i][r] = scores[2 * i + 1][r] = 0;
#pragma unroll
        for (int k = 0; k < D / 16; k++) {
            uint4 key = stage[i][k * 32 + lane];
            multiply(scores[2 * i], query[k], key.x, key.z);
            multiply(scores[2 * i + 1], query[k], key.y, key.w);
        }
    }
}

/* Tokens that a query does not see: those behind it, and those before its window. */
__device__ __forceinline__ void mask(float (&scores)[TOKENS / 8][4],
                                     const int (&position)[2], int first_token,
                                     int window) {
#pragma unroll
    for (int r = 0; r < 4; r++) {
        int last = position[r / 2];
        int from = window && last >= window ? last - window + 1 : 0;
#pragma unroll
        for (int n = 0; n < TOKENS / 8; n++) {
            int token = first_token + n * 8 + threadIdx.x % 4 * 2 + r % 2;
            if (token > last || token < from) scores[n][r] = -INFINITY;
        }
    }
}

/* Scores become weights; what was summed shrinks. */
template <int D>
__device__ __forceinline__ void weigh(sums<D> &o, float (&scores)[TOKENS / 8][4],
                                      float scale) {
    float shrink[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float most = scores[0][2 * h];
#pragma unroll
        for (int n = 0; n < TOKENS / 8; n++)
            most = fmaxf(most, fmaxf(scores[n][2 * h], scores[n][2 * h + 1]));
        most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
        most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
        most = fmaxf(o.most[h], most * scale);
        /* Nothing was seen yet: all weights are 0. */
        float base = most == -INFINITY ? 0.0f : most, sum = 0;
        shrink[h] = power_of_2(o.most[h] - base);
        o.most[h] = most;
#pragma unroll
        for (int n = 0; n < TOKENS / 8; n++)
#pragma unroll
            for (int c = 0; c < 2; c++) {
                float &v = scores[n][2 * h + c];
                v = power_of_2(fmaf(v, scale, -base));
                sum += v;
            }
        o.mass[h] = o.mass[h] * shrink[h] + sum;
    }
    /* Most often no maximum grew. */
    if (!__any_sync(~0u, shrink[0] != 1 || shrink[1] != 1)) return;
#pragma unroll
    for (int n = 0; n < D / 8; n++)
#pragma unroll
        for (int r = 0; r < 4; r++)
            o.of[n][r] *= shrink[r / 2];
}

/* Of the tile's tokens the first `n` count. */
__device__ __forceinline__ uint4 cut(uint4 value, int n) {
    int first = threadIdx.x % 4 * 2;
    uint32_t low = (first < n ? 0xffffu : 0) | (first + 1 < n ? 0xffff0000u : 0);
    uint32_t high = (first + 8 < n ? 0xffffu : 0) | (first + 9 < n ? 0xffff0000u : 0);
    return make_uint4(value.x & low, value.y & low, value.z & high, value.w & high);
}

/* n_tokens: of the stage, that count. */
template <int D>
__device__ __forceinline__ void add(sums<D> &o, const float (&weights)[TOKENS / 8][4],
                                    const uint4 (&stage)[TILES][4 * D], int n_tokens) {
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < TILES; i++) {
        const float(&low)[4] = weights[2 * i], (&high)[4] = weights[2 * i + 1];
        const uint4 by = {pack(low[0], low[1]), pack(low[2], low[3]),
                          pack(high[0], high[1]), pack(high[2], high[3])};
#pragma unroll
        for (int m = 0; m < D / 16; m++) {
            uint4 value = stage[i][2 * D + m * 32 + lane];
            if (n_tokens < TOKENS) value = cut(value, n_tokens - i * 16);
            multiply(o.of[2 * m], by, value.x, value.z);
            multiply(o.of[2 * m + 1], by, value.y, value.w);
        }
    }
}

/* What the queries of rows [first, last] came to. */
template <int D>
__device__ __forceinline__ void write(const cohort_cuda_attention_params &p,
                                      const sums<D> &o, int begin, int first, int last) {
    int lane = threadIdx.x % 32;
    int group = p.cache.n_heads / p.cache.n_kv_heads;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float mass = o.mass[h];
        mass += __shfl_xor_sync(~0u, mass, 1);
        mass += __shfl_xor_sync(~0u, mass, 2);
        int column = threadIdx.x / 32 * 16 + h * 8 + lane / 4;
        int row = begin + column / group;
        if (row < first || row > last) continue;
        int head = blockIdx.x * group + column % group;
        uint16_t *to =
            p.narrow + ((int64_t)row * p.cache.n_heads + head) * D + lane % 4 * 2;
        float by = 1.0f / mass;
#pragma unroll
        for (int n = 0; n < D / 8; n++)
            *(uint32_t *)(to + n * 8) =
                pack(o.of[n][2 * h] * by, o.of[n][2 * h + 1] * by);
    }
}

/* Rows [first, last] of one sequence, out of this CTA's that begin at `begin`. */
template <int D>
__device__ __forceinline__ void attend(const cohort_cuda_attention_params &p,
                                       memory<D> &s, const uint4 (&query)[D / 16],
                                       int begin, int first, int last) {
    int lane = threadIdx.x % 32, column = threadIdx.x / 32 * 16;
    int group = p.cache.n_heads / p.cache.n_kv_heads, window = p.sliding_window;
    int shift = p.cache.positions[first] - first; /* of places, from rows */
    int n_tiles = (last + shift) / 16 + 1;
    auto seen_from = [&](int position) {
        return window && position >= window ? position - window + 1 : 0;
    };
    int tile = seen_from(first + shift) / TOKENS * TILES;
    /* This warp's first and last place, if it has any of the sequence. */
    int low = max(first, begin + column / group) + shift;
    int high = min(last, begin + (column + 15) / group) + shift;
    int position[2]; /* -1: no row of the sequence */
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int row = begin + (column + h * 8 + lane / 4) / group;
        position[h] = row >= first && row <= last ? row + shift : -1;
    }
    auto tile_ahead = [&](int stages) {
        return tile_of(p, first, tile + stages * TILES + lane % TILES, n_tiles);
    };
    int next = tile_ahead(0);
    __syncthreads(); /* what was there before is read no more */
#pragma unroll
    for (int i = 0; i < STAGES - 1; i++) {
        fetch<D>(p, s.stages[i], next);
        end_fetch();
        next = tile_ahead(i + 1);
    }
    sums<D> o = {.of = {}, .most = {-INFINITY, -INFINITY}, .mass = {}};
    int slot = 0, refill = STAGES - 1;
#pragma unroll 1
    for (; tile < n_tiles; tile += TILES) {
        asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 2) : "memory");
        __syncthreads();
        fetch<D>(p, s.stages[refill], next);
        end_fetch();
        next = tile_ahead(STAGES);
        const auto &stage = s.stages[slot];
        slot = slot + 1 == STAGES ? 0 : slot + 1;
        refill = refill + 1 == STAGES ? 0 : refill + 1;
        int token = tile * 16;
        if (low > high || token > high || token + TOKENS <= seen_from(low)) continue;
        float scores[TOKENS / 8][4];
        score<D>(scores, stage, query);
        if (token + TOKENS - 1 > low || token < seen_from(high))
            mask(scores, position, token, window);
        weigh<D>(o, scores, p.scale * 1.44269504f);
        add<D>(o, scores, stage, high + 1 - token);
    }
    if (low <= high) write<D>(p, o, begin, first, last);
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
    uint4 query[D / 16];
    prepare<D>(p, s, begin, end, query);
    for (int first = begin, last; first < end; first = last + 1) {
        int sequence = p.cache.sequences[first];
        last = end - 1;
        while (p.cache.sequences[last] != sequence)
            last--;
        attend<D>(p, s, query, begin, first, last);
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
    extern "C" __global__ void __launch_bounds__(COHORT_CUDA_PROMPT_COLUMNS * 2, 1)      \
        prompt_attention_##dim(const __grid_constant__ cohort_cuda_attention_params p) { \
        attention<dim>(p);                                                               \
    }

COHORT_PROMPT_ATTENTION(64)
COHORT_PROMPT_ATTENTION(128)
