/* SPDX-License-Identifier: Apache-2.0 */
/* A token from each row of logits: the decisions of model/choose.c, on the same masses.
 *
 * A cluster takes a row: each CTA a slice of the ids, each warp a part of the slice.
 * Masses are whole numbers, so that no sum depends on who adds it, nor on how many CTAs
 * there are.  Of the slice as much stays in shared memory as has room, for the passes
 * behind the first.  Where top-k or top-p will leave but a few tokens, these are listed,
 * and what follows looks at the lists alone.
 *
 * A threshold (the least logit that passes) is closed in on by weighing what falls into
 * each of BINS parts of an interval, and going on with the part that decides, until it is
 * one number: first by equal parts of the logits, then of their bits. */
#include <cooperative_groups.h>

#include "common.cuh"

namespace cg = cooperative_groups;

namespace {

constexpr int THREADS = COHORT_CUDA_SAMPLE_THREADS, BINS = THREADS; /* a thread each */
constexpr int LISTED = 128;                                         /* by each warp */
constexpr int MOST_CTAS = 8;                                        /* of a cluster */
static_assert(THREADS == 32 * 32, "a warp adds up what all warps have");
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

/* The least of [low, high] for which `holds`, as it does for all that are greater, and
 * for high; a warp looks at 32 at a time. */
template <typename Holds>
__device__ __forceinline__ uint32_t first_that(uint32_t low, uint32_t high, Holds holds) {
    while (low < high) {
        uint32_t step = (high - low) / 32 + 1, lane = threadIdx.x % 32;
        uint32_t at = (high - low) / step < lane ? high : low + lane * step;
        uint32_t those = __ballot_sync(~0u, holds(at));
        int first = those ? __ffs((int)those) - 1 : 32;
        uint32_t before = __shfl_sync(~0u, at, first ? first - 1 : 0);
        if (first < 32) high = __shfl_sync(~0u, at, first);
        if (first) low = before + 1;
    }
    return high;
}

/* ---- sums of a warp ---------------------------------------------------------------- */

__device__ __forceinline__ u64 of_warp(u64 value) {
#pragma unroll
    for (int mask = 16; mask; mask /= 2)
        value += __shfl_xor_sync(~0u, value, mask);
    return value;
}

/* Of the lanes up to this one. */
__device__ __forceinline__ u64 up_to_lane(u64 value) {
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
        u64 other = __shfl_up_sync(~0u, value, step);
        if (threadIdx.x % 32 >= step) value += other;
    }
    return value;
}

/* The lane within whose weight `left` falls, if any; left is counted from there then, or
 * from behind the last one. */
__device__ __forceinline__ int lane_of(u64 weight, u64 &left) {
    u64 here = up_to_lane(weight);
    uint32_t beyond = __ballot_sync(~0u, left < here);
    int lane = beyond ? __ffs((int)beyond) - 1 : 32;
    left -= __shfl_sync(~0u, lane < 32 ? here - weight : here, lane < 32 ? lane : 31);
    return lane;
}

/* ---- a row ------------------------------------------------------------------------- */

struct memory {
    u64 bins[2][BINS];
    u64 of_warps[32], parts[32];
    u64 told[2][2]; /* to the other CTAs, in turn */
    u64 found[3];   /* bin, weight before it, its own */
    int32_t answer;
    uint32_t least[32];
    int32_t n_listed[32], ids[32][LISTED];
    float listed[32][LISTED];
    float kept[];
};
static_assert(sizeof(memory) <= COHORT_CUDA_SAMPLE_SHARED, "room for it");

struct row {
    memory *s;
    const float *logits;
    int n_logits, slice; /* of a CTA */
    int begin;           /* of this CTA's ids */
    int from, to;        /* of this warp's */
    bool is_kept;        /* these are in shared memory */
    bool is_listed;      /* the lists have all that counts */
    int turn;            /* of what is told */

    __device__ __forceinline__ static cg::cluster_group cluster() {
        return cg::this_cluster();
    }
    __device__ __forceinline__ static int warp() { return (int)threadIdx.x / 32; }
    __device__ __forceinline__ static int lane() { return (int)threadIdx.x % 32; }

    __device__ __forceinline__ float logit(int id) const {
        return is_kept ? s->kept[id - begin] : __ldcg(logits + id) + 0.0f; /* no -0 */
    }

    /* f(id, logit) for this warp's ids, 32 at a time; it must pass over NaN. */
    template <typename F> __device__ __forceinline__ void each_id(F f) const {
        constexpr int AT_ONCE = 8;
        for (int first = from; first < to; first += AT_ONCE * 32) {
            float x[AT_ONCE];
#pragma unroll
            for (int u = 0; u < AT_ONCE; u++) {
                int id = first + u * 32 + lane();
                x[u] = id < to ? logit(id) : NAN;
            }
#pragma unroll
            for (int u = 0; u < AT_ONCE; u++)
                f(first + u * 32 + lane(), x[u]);
        }
    }
    /* Of what counts. */
    template <typename F> __device__ __forceinline__ void each(F f) const {
        if (!is_listed) {
            each_id(f);
            return;
        }
        for (int i = lane(); i < s->n_listed[warp()]; i += 32)
            f(s->ids[warp()][i], s->listed[warp()][i]);
    }

    /* ---- what the cluster knows together ------------------------------------------- */

    /* Two numbers of each CTA, for all; they stay until the call after the next. */
    __device__ __forceinline__ void tell(u64 a, u64 b) {
        turn ^= 1;
        if (threadIdx.x == 0) s->told[turn][0] = a, s->told[turn][1] = b;
        cluster().sync();
    }
    /* f(rank, number) for that number of each CTA. */
    template <typename F> __device__ __forceinline__ void each_told(int which, F f) {
        int n = (int)cluster().num_blocks();
        u64 numbers[MOST_CTAS];
#pragma unroll
        for (int r = 0; r < MOST_CTAS; r++)
            numbers[r] = *cluster().map_shared_rank(&s->told[turn][which], min(r, n - 1));
#pragma unroll
        for (int r = 0; r < MOST_CTAS; r++)
            if (r < n) f(r, numbers[r]);
    }

    /* The sum over all threads; each warp's own stays in of_warps. */
    __device__ __forceinline__ u64 sum(u64 value) {
        value = of_warp(value);
        __syncthreads(); /* who reads the last ones has */
        if (lane() == 0) s->of_warps[warp()] = value;
        __syncthreads();
        u64 all = 0;
        if (warp() == 0) all = of_warp(s->of_warps[lane()]);
        tell(all, 0);
        all = 0;
        each_told(0, [&](int, u64 number) { all += number; });
        return all;
    }

    /* ---- the id at a place of the sum ---------------------------------------------- */

    /* The id at which weights, added up in the order of ids, exceed target: behind the
     * sum of these weights.  Every thread knows it. */
    template <typename Weight> __device__ int32_t find(Weight weight, u64 target) {
        int rank = (int)cluster().block_rank();
        u64 before = 0, own = 0;
        each_told(0, [&](int r, u64 number) {
            if (r < rank) before += number;
            if (r == rank) own = number;
        });
        if (target >= before && target - before < own) find_here(weight, target - before);
        cluster().sync();
        int32_t id = s->answer;
        cluster().sync(); /* all have it */
        return id;
    }

    __device__ __forceinline__ void answer(int32_t id) {
        for (int r = 0; r < (int)cluster().num_blocks(); r++)
            *cluster().map_shared_rank(&s->answer, r) = id;
    }

    template <typename Weight>
    __device__ __forceinline__ void find_here(Weight weight, u64 left) {
        int which = lane_of(s->of_warps[lane()], left);
        if (is_listed) {
            int n = s->n_listed[which];
            for (int i = lane(), at = 32; warp() == which && at == 32; i += 32) {
                u64 own = i < n ? weight(s->ids[which][i], s->listed[which][i]) : 0;
                at = lane_of(own, left);
                if (at == lane()) answer(s->ids[which][i]);
                if (i - lane() >= n) break;
            }
            __syncwarp();
            return;
        }
        /* That warp's ids in 32 parts, a part each warp. */
        int first = from_of(which), last = to_of(which);
        int part = (last - first + 31) / 32;
        auto weight_at = [&](int id, int end) {
            return id < end ? weight(id, __ldcg(logits + id) + 0.0f) : 0;
        };
        u64 own = 0;
        int at = first + warp() * part, end = min(at + part, last);
        for (int id = at + lane(); id < end; id += 32)
            own += weight_at(id, end);
        own = of_warp(own);
        if (lane() == 0) s->parts[warp()] = own;
        __syncthreads();
        int mine = lane_of(s->parts[lane()], left);
        if (mine != warp()) return;
        for (int id = at; id < end; id += 32) {
            int found = lane_of(weight_at(id + lane(), end), left);
            if (found == lane()) answer(id + lane());
            if (found < 32) break;
        }
        __syncwarp();
    }

    /* Where the ids of this CTA's warp w begin and end. */
    __device__ __forceinline__ int part() const { return (slice + 1023) / 1024 * 32; }
    __device__ __forceinline__ int end() const { return min(begin + slice, n_logits); }
    __device__ __forceinline__ int from_of(int w) const {
        return min(begin + w * part(), end());
    }
    __device__ __forceinline__ int to_of(int w) const { return from_of(w + 1); }

    /* ---- lists --------------------------------------------------------------------- */

    /* Lists what is at least low, in the order of ids; unless it is too much. */
    __device__ void list(float low) {
        int n = 0;
        each_id([&](int id, float x) {
            uint32_t those = __ballot_sync(~0u, x >= low);
            int at = n + __popc(those & ((1u << lane()) - 1));
            if (x >= low && at < LISTED)
                s->ids[warp()][at] = id, s->listed[warp()][at] = x;
            n += __popc(those);
        });
        if (lane() == 0) s->n_listed[warp()] = n;
        is_listed = sum(lane() == 0 && n > LISTED) == 0;
    }

    /* ---- thresholds ---------------------------------------------------------------- */

    struct limit {
        float value;      /* -inf: all together weigh less than what is wanted */
        u64 above, equal; /* weight of what is greater, and of what is equal */
    };

    /* The greatest logit of [low, high] (in order) such that those at least as great
     * weigh `wanted`; weight(x) may give 0 for the least of them.  all(f) calls f(id, x)
     * for what is weighed.  is_rough: one that is no greater will do. */
    template <typename All, typename Weight>
    __device__ limit threshold(uint32_t low, uint32_t high, u64 wanted, bool is_rough,
                               All all, Weight weight) {
        limit at = {-INFINITY, 0, 0};
        for (int level = 0;; level++) {
            float top = of_order(high), scale = (float)BINS / (top - of_order(low));
            int bits = 32 - __clz((int)(high - low)), shift = bits > 10 ? bits - 10 : 0;
            auto bin_of = [&](uint32_t order) {
                if (level) return (int)((high - order) >> shift);
                return min((int)((top - of_order(order)) * scale), BINS - 1);
            };
            u64 *bins = s->bins[level & 1];
            bins[threadIdx.x] = 0;
            __syncthreads();
            all([&](int, float x) {
                uint32_t order = order_of(x);
                if (!(x > -INFINITY) || order < low || order > high) return;
                u64 own = weight(x);
                if (own) atomicAdd(&bins[bin_of(order)], own);
            });
            if (!choose(bins, wanted, at)) return at;
            int bin = (int)s->found[0];
            if (level) {
                high -= (uint32_t)bin << shift;
                uint32_t size = (1u << shift) - 1;
                if (high - low > size) low = high - size;
            } else {
                uint32_t least = first_that(
                    low, high, [&](uint32_t order) { return bin_of(order) <= bin; });
                if (bin)
                    high =
                        first_that(least, high,
                                   [&](uint32_t order) { return bin_of(order) < bin; }) -
                        1;
                low = least;
            }
            if (low == high || is_rough) {
                at.value = of_order(low);
                return at;
            }
        }
    }

    /* The bin that decides, into found; false: there is none. */
    __device__ __forceinline__ bool choose(u64 *bins, u64 wanted, limit &at) {
        int n = (int)cluster().num_blocks();
        if (threadIdx.x == 0) s->found[0] = BINS;
        cluster().sync();
        u64 of_ranks[MOST_CTAS], own = 0;
#pragma unroll
        for (int r = 0; r < MOST_CTAS; r++)
            of_ranks[r] = *cluster().map_shared_rank(&bins[threadIdx.x], min(r, n - 1));
#pragma unroll
        for (int r = 0; r < MOST_CTAS; r++)
            own += r < n ? of_ranks[r] : 0;
        u64 here = up_to_lane(own);
        if (lane() == 31) s->parts[warp()] = here;
        __syncthreads();
        u64 before = up_to_lane(s->parts[lane()]);
        before = __shfl_sync(~0u, before, warp() ? warp() - 1 : 0);
        here += at.above + (warp() ? before : 0);
        if (here >= wanted && here - own < wanted)
            s->found[0] = threadIdx.x, s->found[1] = here - own, s->found[2] = own;
        __syncthreads();
        if (s->found[0] == BINS) return false;
        at.above = s->found[1], at.equal = s->found[2];
        return true;
    }
};

/* ---- a token ----------------------------------------------------------------------- */

/* The first of the largest, and the least: in order. */
struct ends {
    uint32_t best, least;
    int32_t id;
    uint32_t own; /* this thread's largest */
};

/* The first pass: what follows reads from shared memory what found room there. */
__device__ ends ends_of(row &r, int n_kept) {
    bool keeps = r.to - r.begin <= n_kept;
    u64 most = 0;
    uint32_t least = ~0u;
    r.each_id([&](int id, float x) {
        if (keeps && id < r.to) r.s->kept[id - r.begin] = x;
        if (!(x > -INFINITY)) return;
        uint32_t order = order_of(x);
        most = max(most, (u64)order << 32 | (uint32_t)~id);
        least = min(least, order);
    });
    r.is_kept = keeps;
    uint32_t own = (uint32_t)(most >> 32);
    auto join = [&] {
#pragma unroll
        for (int mask = 16; mask; mask /= 2)
            most = max(most, __shfl_xor_sync(~0u, most, mask));
        least = __reduce_min_sync(~0u, least);
    };
    join();
    if (row::lane() == 0)
        r.s->of_warps[row::warp()] = most, r.s->least[row::warp()] = least;
    __syncthreads();
    most = r.s->of_warps[row::lane()], least = r.s->least[row::lane()];
    join();
    r.tell(most, least);
    r.each_told(0, [&](int, u64 number) { most = max(most, number); });
    r.each_told(1, [&](int, u64 number) { least = min(least, (uint32_t)number); });
    return {(uint32_t)(most >> 32), least, (int32_t) ~(uint32_t)most, own};
}

/* The least logit of at least that mass. */
__device__ float logit_of_mass(const mass &at, u64 wanted) {
    return of_order(
        first_that(order_of(-3.402823466e38f), order_of(at.best),
                   [&](uint32_t order) { return at.of(of_order(order)) >= wanted; }));
}

/* What those have together that pass top-p: parts are of 2^-40. */
__device__ u64 mass_of_top_p(u64 total, u64 parts) {
    u64 high = __umul64hi(parts, total), low = parts * total;
    u64 up = low + ((1ull << 40) - 1);
    high += up < low;
    u64 wanted = high << 24 | up >> 40;
    return wanted < 1 ? 1 : wanted;
}

/* The k-th largest logit; -inf where there are fewer. */
__device__ float kth_largest(row &r, const ends &end, uint32_t least, u64 k) {
    auto one = [](float) { return 1ull; };
    auto own = [&](auto f) { f(0, end.own ? of_order(end.own) : NAN); };
    auto all = [&](auto f) { r.each(f); };
    /* The k-th of the threads' largest: at least k reach it, and hardly more. */
    float rough = r.threshold(least, end.best, k, true, own, one).value;
    if (rough > -INFINITY)
        r.list(rough);
    else
        row::cluster().sync(); /* all have read the bins */
    return r.threshold(least, end.best, k, false, all, one).value;
}

__device__ int32_t draw(row &r, const cohort_cuda_draw &how, const ends &end) {
    const mass at = {of_order(end.best), how.steepness};
    /* What is further below the best has no mass. */
    float floor = at.best - 46.0f / how.steepness;
    uint32_t least = max(end.least, order_of(floor > -INFINITY ? floor : -INFINITY));
    float low = -INFINITY;
    if (how.top_k > 0) low = kth_largest(r, end, least, (u64)how.top_k);
    if (how.min_mass) low = fmaxf(low, logit_of_mass(at, how.min_mass));
    auto of_all = [&](int, float x) -> u64 { return x >= low ? at.of(x) : 0; };
    u64 total = 0;
    r.each([&](int id, float x) { total += of_all(id, x); });
    total = r.sum(total);
    if (how.top_p_parts >> 40) return r.find(of_all, __umul64hi(how.number, total));

    u64 wanted = mass_of_top_p(total, how.top_p_parts);
    /* n of less than a nth of the rest each can all be left out. */
    u64 tail = (total - wanted) / (u64)r.n_logits;
    float cut = tail ? fmaxf(low, logit_of_mass(at, tail)) : low;
    if (!r.is_listed && cut > -INFINITY) r.list(cut);
    auto limit = r.threshold(
        max(least, order_of(cut)), end.best, wanted, false, [&](auto f) { r.each(f); },
        [&](float x) { return at.of(x); });
    u64 each = at.of(limit.value);
    u64 stay = (wanted - limit.above + each - 1) / each;
    int32_t last = r.n_logits; /* of those equal to the least: ids up to this stay */
    if (stay < limit.equal / each) {
        auto equal = [&](int, float x) -> u64 { return x == limit.value; };
        u64 n = 0;
        r.each([&](int id, float x) { n += equal(id, x); });
        r.sum(n);
        last = r.find(equal, stay - 1);
    }
    auto passing = [&](int id, float x) -> u64 {
        return x > limit.value || (x == limit.value && id <= last) ? at.of(x) : 0;
    };
    u64 kept = 0;
    r.each([&](int id, float x) { kept += passing(id, x); });
    kept = r.sum(kept);
    return r.find(passing, __umul64hi(how.number, kept));
}

} // namespace

/* grid: (CTAs of a cluster, rows). */
extern "C" __global__ void __launch_bounds__(COHORT_CUDA_SAMPLE_THREADS, 1)
    sample(const __grid_constant__ cohort_cuda_sample_params p) {
    extern __shared__ __align__(16) unsigned char shared[];
    memory *s = reinterpret_cast<memory *>(shared);
    const cohort_cuda_draw &how = p.rows[blockIdx.y];
    wait_for_previous();
    start_next();
    if (!how.is_wanted) return; /* the whole cluster */
    row r = {s, p.logits + (int64_t)blockIdx.y * p.n_logits, p.n_logits,
             (p.n_logits / (int)gridDim.x + 32) / 32 * 32};
    r.begin = min((int)blockIdx.x * r.slice, p.n_logits);
    r.from = r.from_of(row::warp()), r.to = r.to_of(row::warp());
    ends end = ends_of(r, p.n_kept);
    int32_t token = end.id;
    if (end.best <= order_of(-INFINITY) || end.best >= order_of(INFINITY))
        token = -1;
    else if (how.steepness > 0)
        token = draw(r, how, end);
    if (blockIdx.x == 0 && threadIdx.x == 0) p.tokens[blockIdx.y] = token;
    row::cluster().sync(); /* nobody leaves while others read from it */
}
