/* SPDX-License-Identifier: Apache-2.0 */
/* A token from each row of logits: the decisions of model/choose.c, on the same masses.
 *
 * A cluster takes a row, a slice of the ids each CTA, and passes over it a few times out
 * of L2.  Masses are whole numbers, so that no sum depends on who adds it, nor on how
 * many CTAs there are.  A threshold (the least logit that top-k or top-p lets pass) is
 * closed in on by counting what falls into each of BINS parts of an interval, and going
 * on with the part that decides, until it is one number: first by equal parts of the
 * logits, then of their bits. */
#include <cooperative_groups.h>

#include "common.cuh"

namespace cg = cooperative_groups;

namespace {

constexpr int THREADS = COHORT_CUDA_SAMPLE_THREADS, OF_32 = THREADS / 32;
constexpr int BINS = THREADS; /* a thread each */
using u64 = unsigned long long;

/* ---- numbers ----------------------------------------------------------------------- */

/* Floats in their order as integers, and back. */
__device__ __forceinline__ uint32_t order_of(float x) {
    uint32_t bits = __float_as_uint(x);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}
__device__ __forceinline__ float of_order(uint32_t order) {
    return __uint_as_float(order >> 31 ? order & 0x7fffffffu : ~order);
}

struct mass {
    float best, steepness;

    /* cohort_cpu_mass_of, operation by operation. */
    __device__ __forceinline__ u64 of(float logit) const {
        const float round = 12582912.0f + 44 + 127;
        float power = __fmul_rn(__fsub_rn(logit, best), steepness);
        power = power > -100.0f ? power : -100.0f;
        float shifted = __fadd_rn(power, round);
        float f = __fsub_rn(power, __fsub_rn(shifted, round));
        float p = __fmaf_rn(0x1.5bba14p-10f, f, 0x1.3cea88p-7f);
        p = __fmaf_rn(p, f, 0x1.c6b752p-5f);
        p = __fmaf_rn(p, f, 0x1.ebf9bcp-3f);
        p = __fmaf_rn(p, f, 0x1.62e42ap-1f);
        p = __fmaf_rn(p, f, 1.0f);
        return (u64)__fmul_rn(p, __uint_as_float(__float_as_uint(shifted) << 23));
    }
};

/* ---- a cluster's sums -------------------------------------------------------------- */

struct memory {
    u64 bins[2][BINS];
    u64 of_warps[OF_32];
    u64 told[2][2]; /* to the other CTAs, in turn */
    u64 found[3];   /* bin, weight before it, its own */
    int32_t answer;
};

struct row {
    memory *s;
    const float *logits;
    int begin, end; /* this CTA's ids */
    int turn;       /* of what is told */

    __device__ __forceinline__ static cg::cluster_group cluster() {
        return cg::this_cluster();
    }

    /* f(id, logit) for ids [from, to); it must pass over NaN. */
    template <typename F>
    __device__ __forceinline__ void each(int from, int to, F f) const {
        constexpr int AT_ONCE = 8;
        for (int i = from + (int)threadIdx.x; i < to; i += AT_ONCE * THREADS) {
            float x[AT_ONCE];
#pragma unroll
            for (int u = 0; u < AT_ONCE; u++) {
                int at = i + u * THREADS;
                x[u] = at < to ? __ldcg(logits + at) + 0.0f : NAN; /* -0 becomes 0 */
            }
#pragma unroll
            for (int u = 0; u < AT_ONCE; u++)
                f(i + u * THREADS, x[u]);
        }
    }

    __device__ __forceinline__ u64 of_warp(u64 value) const {
#pragma unroll
        for (int mask = 16; mask; mask /= 2)
            value += __shfl_xor_sync(~0u, value, mask);
        return value;
    }

    /* The sum over this CTA's threads. */
    __device__ __forceinline__ u64 of_cta(u64 value) {
        value = of_warp(value);
        __syncthreads(); /* who reads the last ones has */
        if (threadIdx.x % 32 == 0) s->of_warps[threadIdx.x / 32] = value;
        __syncthreads();
        u64 sum = 0;
#pragma unroll
        for (int w = 0; w < OF_32; w++)
            sum += s->of_warps[w];
        return sum;
    }

    /* Of all threads up to this one. */
    __device__ __forceinline__ u64 up_to_here(u64 value) {
        int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
        for (int step = 1; step < 32; step *= 2) {
            u64 other = __shfl_up_sync(~0u, value, step);
            if (lane >= step) value += other;
        }
        __syncthreads();
        if (lane == 31) s->of_warps[warp] = value;
        __syncthreads();
        for (int w = 0; w < warp; w++)
            value += s->of_warps[w];
        return value;
    }

    /* Two numbers of each CTA, for all: get(rank) gives those of one.  What is told stays
     * until the call after the next. */
    __device__ __forceinline__ const memory *tell(u64 a, u64 b) {
        turn ^= 1;
        if (threadIdx.x == 0) s->told[turn][0] = a, s->told[turn][1] = b;
        cluster().sync();
        return s;
    }
    __device__ __forceinline__ u64 told(int rank, int which) const {
        return *cluster().map_shared_rank(&s->told[turn][which], rank);
    }

    __device__ __forceinline__ u64 sum(u64 value) {
        tell(of_cta(value), 0);
        u64 all = 0;
        for (int r = 0; r < (int)cluster().num_blocks(); r++)
            all += told(r, 0);
        return all;
    }

    /* The id at which the weights, added up in the order of ids, exceed target: known to
     * every thread. */
    template <typename Weight> __device__ int32_t find(Weight weight, u64 target) {
        auto within = [&](int from, int to) {
            u64 all = 0;
            each(from, to, [&](int i, float x) { all += weight(i, x); });
            return all;
        };
        int rank = (int)cluster().block_rank(), n = (int)cluster().num_blocks();
        tell(of_cta(within(begin, end)), 0);
        u64 before = 0;
        for (int r = 0; r < rank; r++)
            before += told(r, 0);
        if (target >= before && target - before < told(rank, 0))
            find_here(weight, target - before, n);
        cluster().sync();
        int32_t id = s->answer;
        cluster().sync(); /* all have it */
        return id;
    }

    template <typename Weight>
    __device__ __forceinline__ void find_here(Weight weight, u64 left, int n) {
        int from = begin, to = end, lane = threadIdx.x % 32;
        while (to - from > THREADS) { /* a part each warp */
            int part = (to - from + OF_32 - 1) / OF_32;
            int at = from + (int)threadIdx.x / 32 * part, last = min(at + part, to);
            u64 all = 0;
            for (int i = at + lane; i < last; i += 32)
                all += weight(i, __ldcg(logits + i) + 0.0f);
            all = of_warp(all);
            __syncthreads();
            if (!lane) s->of_warps[threadIdx.x / 32] = all;
            __syncthreads();
            int warp = 0;
            while (warp < OF_32 - 1 && left >= s->of_warps[warp])
                left -= s->of_warps[warp++];
            from += warp * part;
            to = min(from + part, to);
        }
        int i = from + (int)threadIdx.x;
        u64 own = i < to ? weight(i, __ldcg(logits + i) + 0.0f) : 0;
        u64 here = up_to_here(own);
        if (left < here && left >= here - own)
            for (int r = 0; r < n; r++)
                *cluster().map_shared_rank(&s->answer, r) = i;
    }

    /* ---- thresholds ---------------------------------------------------------------- */

    struct limit {
        float value;      /* -inf: all together weigh less than what is wanted */
        u64 above, equal; /* weight of what is greater, and of what is equal */
    };

    /* The greatest logit of [low, high] (in order) such that those at least as great
     * weigh `wanted`; weight(x) may give 0 for the least of them. */
    template <typename Weight>
    __device__ limit threshold(uint32_t low, uint32_t high, u64 wanted, Weight weight) {
        limit at = {-INFINITY, 0, 0};
        for (int level = 0;; level++) {
            float top = of_order(high), scale = (float)BINS / (top - of_order(low));
            uint32_t span = high - low;
            int bits = 32 - __clz((int)span), shift = bits > 10 ? bits - 10 : 0;
            auto bin_of = [&](uint32_t order) {
                if (level) return (int)((high - order) >> shift);
                return min((int)((top - of_order(order)) * scale), BINS - 1);
            };
            u64 *bins = s->bins[level & 1];
            bins[threadIdx.x] = 0;
            __syncthreads();
            each(begin, end, [&](int, float x) {
                uint32_t order = order_of(x);
                if (!(x > -INFINITY) || order < low || order > high) return;
                u64 own = weight(x);
                if (own) atomicAdd(&bins[bin_of(order)], own);
            });
            cluster().sync();
            u64 own = 0;
            for (int r = 0; r < (int)cluster().num_blocks(); r++)
                own += *cluster().map_shared_rank(&bins[threadIdx.x], r);
            u64 here = at.above + up_to_here(own);
            if (threadIdx.x == 0) s->found[0] = BINS;
            __syncthreads();
            if (here >= wanted && here - own < wanted)
                s->found[0] = threadIdx.x, s->found[1] = here - own, s->found[2] = own;
            __syncthreads();
            int bin = (int)s->found[0];
            if (bin == BINS) return at; /* at the first level, or never */
            at.above = s->found[1], at.equal = s->found[2];
            if (level) {
                uint32_t below = (uint32_t)bin << shift;
                high -= below;
                uint32_t size = (1u << shift) - 1;
                if (high - low > size) low = high - size;
            } else {
                /* The ends of the bin, by halving: a greater number is in no later one.
                 */
                uint32_t a = low, b = high, c = low, d = high;
                while (a < b || c < d) {
                    uint32_t first = a + (b - a) / 2, last = c + (d - c + 1) / 2;
                    if (a < b) bin_of(first) <= bin ? b = first : a = first + 1;
                    if (c < d) bin_of(last) >= bin ? c = last : d = last - 1;
                }
                low = a, high = c;
            }
            if (low == high) {
                at.value = of_order(high);
                return at;
            }
        }
    }
};

/* ---- a row ------------------------------------------------------------------------- */

/* The first of the largest, and the least: in order. */
struct ends {
    uint32_t best, least;
    int32_t id;
};

__device__ ends ends_of(row &r) {
    u64 most = 0;
    uint32_t least = ~0u;
    r.each(r.begin, r.end, [&](int i, float x) {
        if (!(x > -INFINITY)) return;
        uint32_t order = order_of(x);
        most = max(most, (u64)order << 32 | (uint32_t)~i);
        least = min(least, order);
    });
#pragma unroll
    for (int mask = 16; mask; mask /= 2)
        most = max(most, __shfl_xor_sync(~0u, most, mask));
    least = __reduce_min_sync(~0u, least);
    __shared__ uint32_t of_warps[OF_32];
    if (threadIdx.x % 32 == 0)
        r.s->of_warps[threadIdx.x / 32] = most, of_warps[threadIdx.x / 32] = least;
    __syncthreads();
    for (int w = 0; w < OF_32; w++)
        most = max(most, r.s->of_warps[w]), least = min(least, of_warps[w]);
    r.tell(most, least);
    for (int i = 0; i < (int)row::cluster().num_blocks(); i++)
        most = max(most, r.told(i, 0)), least = min(least, (uint32_t)r.told(i, 1));
    return {(uint32_t)(most >> 32), least, (int32_t) ~(uint32_t)most};
}

/* The least logit of at least that mass, found by halving. */
__device__ float logit_of_mass(const mass &at, u64 wanted) {
    uint32_t low = order_of(-3.402823466e38f), high = order_of(at.best);
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (at.of(of_order(middle)) >= wanted)
            high = middle;
        else
            low = middle + 1;
    }
    return of_order(high);
}

/* What those have together that pass top-p: parts are of 2^-40. */
__device__ u64 mass_of_top_p(u64 total, u64 parts) {
    u64 high = __umul64hi(parts, total), low = parts * total;
    u64 up = low + ((1ull << 40) - 1);
    high += up < low;
    u64 wanted = high << 24 | up >> 40;
    return wanted < 1 ? 1 : wanted;
}

__device__ int32_t draw(row &r, const cohort_cuda_draw &how, const ends &end, int n_all) {
    const mass at = {of_order(end.best), how.steepness};
    /* What is further below the best has no mass. */
    float floor = at.best - 46.0f / how.steepness;
    uint32_t least = max(end.least, order_of(floor > -INFINITY ? floor : -INFINITY));
    float low = -INFINITY;
    if (how.top_k > 0)
        low = r.threshold(least, end.best, (u64)how.top_k, [](float) {
                   return 1ull;
               }).value;
    if (how.min_mass) low = fmaxf(low, logit_of_mass(at, how.min_mass));
    auto mass_from = [&](float x) { return x >= low ? at.of(x) : 0; };
    auto of_all = [&](int, float x) { return mass_from(x); };
    u64 total = 0;
    r.each(r.begin, r.end, [&](int i, float x) { total += of_all(i, x); });
    total = r.sum(total);
    if (how.top_p_parts >> 40) return r.find(of_all, __umul64hi(how.number, total));

    u64 wanted = mass_of_top_p(total, how.top_p_parts);
    /* n of less than a nth of the rest each can all be left out. */
    u64 tail = (total - wanted) / (u64)n_all;
    auto limit = r.threshold(max(least, order_of(low)), end.best, wanted, [&](float x) {
        u64 own = at.of(x);
        return own >= tail ? own : 0;
    });
    u64 each = at.of(limit.value);
    u64 stay = (wanted - limit.above + each - 1) / each, equal = limit.equal / each;
    int32_t last = n_all; /* of those that are equal to the least: ids up to this stay */
    if (stay < equal)
        last = r.find([&](int, float x) -> u64 { return x == limit.value; }, stay - 1);
    else
        stay = equal;
    return r.find(
        [&](int i, float x) -> u64 {
            return x > limit.value || (x == limit.value && i <= last) ? at.of(x) : 0;
        },
        __umul64hi(how.number, limit.above + stay * each));
}

} // namespace

/* grid: (CTAs of a cluster, rows). */
extern "C" __global__ void __launch_bounds__(COHORT_CUDA_SAMPLE_THREADS, 1)
    sample(const __grid_constant__ cohort_cuda_sample_params p) {
    __shared__ memory s;
    const cohort_cuda_draw &how = p.rows[blockIdx.y];
    wait_for_previous();
    start_next();
    if (!how.is_wanted) return; /* the whole cluster */
    int slice = (p.n_logits + (int)gridDim.x - 1) / (int)gridDim.x;
    int begin = min((int)blockIdx.x * slice, p.n_logits);
    row r = {&s, p.logits + (int64_t)blockIdx.y * p.n_logits, begin,
             min(begin + slice, p.n_logits), 0};
    ends end = ends_of(r);
    int32_t token = end.id;
    if (end.best <= order_of(-INFINITY) || end.best >= order_of(INFINITY))
        token = -1;
    else if (how.steepness > 0)
        token = draw(r, how, end, p.n_logits);
    if (blockIdx.x == 0 && threadIdx.x == 0) p.tokens[blockIdx.y] = token;
    row::cluster().sync(); /* nobody leaves while others read from it */
}
