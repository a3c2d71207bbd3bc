/* SPDX-License-Identifier: Apache-2.0 */
/* Products of prompts: more rows than the products of decoding take.
 *
 * Bound by the tensor cores.  A CTA has TILES x 128 outputs by 128 rows, a warpgroup half
 * of the outputs.  Weights and rows go through shared memory, by stages of 64 columns,
 * which the copy engine brings: loads to registers that are far ahead are no good here,
 * since the fence before wgmma waits for all of them.  Weights lie as the tensor cores
 * take them, and go on to registers one step ahead.  Each output is one chain of
 * additions over all columns: its bits depend on nothing but its row, though they are not
 * those of the products of decoding, which add 8 slices.
 *
 * Sums pass through shared memory once more, so that what is written lies side by side.
 */
#include "linear.cuh"

namespace {

constexpr int ROWS = COHORT_CUDA_PROMPT_ROWS;                /* of a CTA */
constexpr int X_BYTES = ROWS * COHORT_CUDA_PROMPT_STAGE * 2; /* of a stage's rows */
constexpr int TILE_BYTES = COHORT_CUDA_TILE * COHORT_CUDA_PROMPT_STAGE * 2;
/* Rows, then weights of 8 tiles, or twice as many. */
template <int TILES> constexpr int STAGE = X_BYTES + TILES *WARPS *TILE_BYTES;

template <int TILES>
constexpr int STAGES =
    TILES == 2 ? COHORT_CUDA_PROMPT_STAGES_256 : COHORT_CUDA_PROMPT_STAGES_128;
/* A row of sums in shared memory: no two banks meet. */
template <int TILES> constexpr int SUMS = TILES * 128 + 4;

#define COHORT_D8(d, i)                                                         \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), \
        "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])

/* d += a b: 64 x 16 (a warp's 16 rows in its registers) by 16 x 128. */
__device__ __forceinline__ void multiply_group(float (&d)[64], const uint4 &a,
                                               uint64_t b) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
                 "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
                 "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
                 "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"
                 "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63},"
                 "{%64,%65,%66,%67},%68,1,1,1,0;\n"
                 : COHORT_D8(d, 0), COHORT_D8(d, 8), COHORT_D8(d, 16), COHORT_D8(d, 24),
                   COHORT_D8(d, 32), COHORT_D8(d, 40), COHORT_D8(d, 48), COHORT_D8(d, 56)
                 : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "l"(b));
}
#undef COHORT_D8

/* Barriers in shared memory: a stage is `full` when its bytes have come, `free` when all
 * warps have read it.  `phase` tells apart the turns of a stage. */
struct barrier {
    uint64_t word;

    __device__ __forceinline__ void begin(int arrivals) {
        asm volatile(
            "mbarrier.init.shared::cta.b64 [%0],%1;" ::"r"(shared_address(&word)),
            "r"(arrivals)
            : "memory");
    }
    __device__ __forceinline__ void arrive() {
        asm volatile(
            "mbarrier.arrive.shared::cta.b64 _,[%0];" ::"r"(shared_address(&word))
            : "memory");
    }
    __device__ __forceinline__ void expect(int bytes) {
        asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _,[%0],%1;" ::"r"(
                         shared_address(&word)),
                     "r"(bytes)
                     : "memory");
    }
    __device__ __forceinline__ void wait(uint32_t phase) {
        asm volatile("{\n.reg .pred p;\nagain:\n"
                     "mbarrier.try_wait.parity.shared::cta.b64 p,[%0],%1;\n"
                     "@p bra done;\nbra again;\ndone:\n}" ::"r"(shared_address(&word)),
                     "r"(phase)
                     : "memory");
    }
};

template <int TILES> struct memory {
    float scale[ROWS];
    barrier full[STAGES<TILES>], free[STAGES<TILES>];
};

/* Has the copy engine bring stages, one after the other; one thread does. */
template <int TILES> struct copier {
    const cohort_cuda_prompt_params &p;
    memory<TILES> &s;
    uint32_t x;
    int first_row, n_stages;
    int first_tile[TILES]; /* of 8 */
    int stage = 0, slot = 0;
    uint32_t phase = 1; /* at first all are free */

    __device__ __forceinline__ void bring(const CUtensorMap &map, uint32_t to, int column,
                                          int row) {
        asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile."
                     "mbarrier::complete_tx::bytes [%0],[%1,{%2,%3}],[%4];" ::"r"(to),
                     "l"(&map), "r"(column), "r"(row), "r"(shared_address(&s.full[slot]))
                     : "memory");
    }
    __device__ __forceinline__ void next() {
        if (stage >= n_stages) return;
        uint32_t to = x + slot * STAGE<TILES>;
        s.free[slot].wait(phase);
        s.full[slot].expect(STAGE<TILES>);
        bring(p.rows, to, stage * COHORT_CUDA_PROMPT_STAGE, first_row);
#pragma unroll
        for (int t = 0; t < TILES; t++)
            bring(p.weights, to + X_BYTES + t * WARPS * TILE_BYTES,
                  stage * (TILE_BYTES / 8), first_tile[t]);
        stage++;
        slot = slot + 1 == STAGES<TILES> ? 0 : slot + 1;
        if (!slot) phase ^= 1;
    }
};

template <int TILES> struct step_weights {
    uint4 of[TILES][2];
    /* at: this lane's part of its warp's tile. */
    __device__ __forceinline__ void load(uint32_t at) {
#pragma unroll
        for (int t = 0; t < TILES; t++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                uint4 &v = of[t][half];
                asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3},[%4];"
                             : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                             : "r"(at + t * WARPS * TILE_BYTES + half * 512)
                             : "memory");
            }
    }
};

/* All columns of this warpgroup's outputs. */
template <int TILES>
__device__ __forceinline__ void product(memory<TILES> &s, float (&sum)[TILES][64],
                                        uint32_t x, copier<TILES> &rows) {
    constexpr int N = STAGES<TILES>;
    /* Where wgmma finds 16 columns of all rows: groups of 8 rows of 128 bytes. */
    uint64_t first =
        (x & 0x3ffff) >> 4 | (uint64_t)1 << 16 | (uint64_t)64 << 32 | (uint64_t)1 << 62;
    uint32_t mine = x + X_BYTES + threadIdx.x / 32 * TILE_BYTES + threadIdx.x % 32 * 16;
    step_weights<TILES> a[2];
    int slot = 0, before = 0;
    uint32_t phase = 0;
    for (int stage = 0; stage < rows.n_stages; stage++) {
        s.full[slot].wait(phase);
#pragma unroll
        for (int d = 0; d < 2; d++) {
            a[d].load(mine + slot * STAGE<TILES> + d * 1024);
            uint64_t at = first + slot * (STAGE<TILES> / 16) + d * 4;
            asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
            for (int half = 0; half < 2; half++)
#pragma unroll
                for (int t = 0; t < TILES; t++)
                    multiply_group(sum[t], a[d].of[t][half], at + half * 2);
            /* The step before has been multiplied: its registers are free, and with the
             * first of a stage the stage before. */
            asm volatile("wgmma.commit_group.sync.aligned;\n"
                         "wgmma.wait_group.sync.aligned 1;" ::
                             : "memory");
            if (d) continue;
            if (stage && threadIdx.x % 32 == 0) s.free[before].arrive();
            if (threadIdx.x == 0) rows.next(); /* when all warps are done with it */
        }
        before = slot;
        slot = slot + 1 == N ? 0 : slot + 1;
        if (!slot) phase ^= 1;
    }
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
}

__device__ __forceinline__ float4 times(float4 v, float by) {
    return make_float4(v.x * by, v.y * by, v.z * by, v.w * by);
}
__device__ __forceinline__ float4 plus(float4 a, float4 b) {
    return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}
__device__ __forceinline__ uint2 narrow4(float4 v) {
    return make_uint2(pack(v.x, v.y), pack(v.z, v.w));
}

/* Four neighbours [at, end) of a vector; zeros beyond, and `none` where it is not there.
 */
__device__ __forceinline__ float4 four_of(const float *from, int64_t at, int64_t end,
                                          float none) {
    if (!from) return make_float4(none, none, none, none);
    return make_float4(at < end ? from[at] : 0, at + 1 < end ? from[at + 1] : 0,
                       at + 2 < end ? from[at + 2] : 0, at + 3 < end ? from[at + 3] : 0);
}
__device__ __forceinline__ void put(float *to, float v) { *to = v; }
__device__ __forceinline__ void put(uint16_t *to, float v) { *to = narrow(v); }
template <typename T>
__device__ __forceinline__ void put_four(T *to, float4 v, int64_t n) {
    if (n > 0) put(to, v.x);
    if (n > 1) put(to + 1, v.y);
    if (n > 2) put(to + 2, v.z);
    if (n > 3) put(to + 3, v.w);
}

/* 1 / rms of each row: a warp a row. */
__device__ __forceinline__ void find_scales(const cohort_cuda_linear_params &p,
                                            float *scale) {
    int lane = threadIdx.x % 32;
#pragma unroll 4
    for (int row = threadIdx.x / 32; row < ROWS; row += WARPS) {
        float sum = 0;
        if (p.squares && row < p.n_rows)
            for (int i = lane; i < p.n_squares; i += 32)
                sum += __ldcg(p.squares + (int64_t)row * p.n_squares + i);
        sum = sum_of_warp(sum);
        if (!lane)
            scale[row] = p.squares ? rsqrtf(sum / (float)p.norm_width + p.norm_eps) : 1;
    }
}

/* Rows of sums become rows of outputs; a warp a row, a lane four neighbours. */
__device__ __forceinline__ void finish_gated(const cohort_cuda_linear_params &p,
                                             const float *sums, const float *scale,
                                             int64_t first_out) {
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int64_t out = first_out + lane * 4, n_inner = p.n_out / 2;
    if (out >= n_inner) return; /* of whole tiles of 16 */
    float4 gate_bias = four_of(p.bias, out, n_inner, 0);
    float4 up_bias = four_of(p.bias ? p.bias + n_inner : nullptr, out, n_inner, 0);
    auto act = [](float gate, float up) { return gate / (1.0f + __expf(-gate)) * up; };
    for (int row = warp; row < min(p.n_rows, ROWS); row += WARPS) {
        const float4 *from = (const float4 *)(sums + row * SUMS<2>);
        float4 g = plus(times(from[lane], scale[row]), gate_bias);
        float4 u = plus(times(from[32 + lane], scale[row]), up_bias);
        *(uint2 *)(p.narrow + (int64_t)row * p.y_stride + out) = narrow4(
            make_float4(act(g.x, u.x), act(g.y, u.y), act(g.z, u.z), act(g.w, u.w)));
    }
}

/* Four outputs of the residual: what they are now, of which those beyond the last are 0.
 */
__device__ __forceinline__ float4 add_to_residual(const cohort_cuda_linear_params &p,
                                                  int64_t at, float4 value, float4 norm,
                                                  int64_t n, bool full) {
    float4 old = full ? *(const float4 *)(p.y + at) : four_of(p.y + at, 0, n, 0);
    value = plus(old, value);
    if (n < 4) value.w = 0;
    if (n < 3) value.z = 0;
    if (n < 2) value.y = 0;
    if (n < 1) value.x = 0;
    float4 next = make_float4(value.x * norm.x, value.y * norm.y, value.z * norm.z,
                              value.w * norm.w);
    if (full)
        *(uint2 *)(p.narrow + at) = narrow4(next);
    else
        put_four(p.narrow + at, next, n);
    return value;
}

template <int EPILOGUE, int TILES>
__device__ __forceinline__ void finish(const cohort_cuda_linear_params &p,
                                       const float *sums, const float *scale,
                                       int64_t first_out) {
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    bool whole = ((uintptr_t)p.y & 15) == 0 && ((uintptr_t)p.narrow & 7) == 0 &&
                 p.y_stride % 4 == 0;
    int64_t out = first_out + lane * 4;
    float4 bias[TILES], norm[TILES];
#pragma unroll
    for (int t = 0; t < TILES; t++) {
        bias[t] = four_of(p.bias, out + t * 128, p.n_out, 0);
        if (EPILOGUE == RESIDUAL)
            norm[t] = four_of(p.next_norm, out + t * 128, p.n_out, 1);
    }
#pragma unroll 2
    for (int row = warp; row < min(p.n_rows, ROWS); row += WARPS) {
        const float4 *from = (const float4 *)(sums + row * SUMS<TILES>);
        float square = 0;
#pragma unroll
        for (int t = 0; t < TILES; t++) {
            int64_t n = p.n_out - out - t * 128;
            int64_t at = (int64_t)row * p.y_stride + out + t * 128;
            bool full = whole && n >= 4;
            float4 value = plus(times(from[t * 32 + lane], scale[row]), bias[t]);
            if (EPILOGUE == RESIDUAL) {
                value = add_to_residual(p, at, value, norm[t], n, full);
                square += value.x * value.x + value.y * value.y + value.z * value.z +
                          value.w * value.w;
            }
            if (full)
                *(float4 *)(p.y + at) = value;
            else
                put_four(p.y + at, value, n);
        }
        if (EPILOGUE == RESIDUAL) {
            square = sum_of_warp(square);
            if (!lane)
                p.next_squares[(int64_t)row * p.n_next_squares +
                               first_out / (TILES * 128)] = square;
        }
    }
}

/* Which outputs and rows a CTA has: those that run at once share both. */
__device__ __forceinline__ void place(const cohort_cuda_linear_params &p, int of_cta,
                                      int &out_block, int &row_block) {
    constexpr int BAND = 16; /* blocks of rows that go together */
    int n_row_blocks = (p.n_rows + ROWS - 1) / ROWS;
    int n_out_blocks = (p.n_tiles + of_cta - 1) / of_cta;
    int band = blockIdx.x / (BAND * n_out_blocks),
        in = blockIdx.x % (BAND * n_out_blocks);
    int width = min(BAND, n_row_blocks - band * BAND);
    out_block = in / width, row_block = band * BAND + in % width;
}

template <int EPILOGUE, int TILES>
__device__ __forceinline__ void prompt(const cohort_cuda_prompt_params &all) {
    extern __shared__ __align__(1024) unsigned char shared[];
    /* Of gates and ups, a block of each. */
    constexpr bool PAIR = EPILOGUE == ACTIVATE;
    constexpr int OF_CTA = PAIR ? WARPS : TILES * WARPS; /* tiles of 16 */
    memory<TILES> &s = *reinterpret_cast<memory<TILES> *>(shared);
    uint32_t x = (shared_address(shared) + sizeof s + 1023) & ~1023u;
    float *sums = (float *)(shared + (x - shared_address(shared)));
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    cohort_cuda_linear_params p = all.of;
    int out_block, row_block;
    if (PAIR) p.n_tiles /= 2;
    place(p, OF_CTA, out_block, row_block);
    int64_t row = (int64_t)row_block * ROWS;
    p.n_rows -= (int)row;
    if (p.y) p.y += row * p.y_stride;
    if (p.narrow) p.narrow += row * p.y_stride;
    if (p.squares) p.squares += row * p.n_squares;
    if (EPILOGUE == RESIDUAL) p.next_squares += row * p.n_next_squares;

    if (threadIdx.x == 0)
        for (int i = 0; i < STAGES<TILES>; i++)
            s.full[i].begin(1), s.free[i].begin(WARPS);
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    __syncthreads();
    copier<TILES> rows = {all, s, x, (int)row, (p.n_steps + 1) / 2, {}};
#pragma unroll
    for (int t = 0; t < TILES; t++)
        rows.first_tile[t] = out_block * OF_CTA + (PAIR ? p.n_tiles : WARPS) * t;

    wait_for_previous();
    start_next();
    if (threadIdx.x == 0)
        for (int i = 0; i < STAGES<TILES> - 1; i++)
            rows.next();
    find_scales(p, s.scale);
    float sum[TILES][64];
#pragma unroll
    for (int t = 0; t < TILES; t++)
#pragma unroll
        for (int i = 0; i < 64; i++)
            sum[t][i] = 0;
    product<TILES>(s, sum, x, rows);
    __syncthreads(); /* x is read no more */
#pragma unroll
    for (int t = 0; t < TILES; t++)
#pragma unroll
        for (int i = 0; i < 64; i++)
            sums[(i / 4 * 8 + lane % 4 * 2 + i % 2) * SUMS<TILES> + t * 128 + warp * 16 +
                 lane / 4 + i / 2 % 2 * 8] = sum[t][i];
    __syncthreads();
    int64_t first_out = (int64_t)out_block * OF_CTA * 16;
    if constexpr (PAIR)
        finish_gated(p, sums, s.scale, first_out);
    else
        finish<EPILOGUE, TILES>(p, sums, s.scale, first_out);
}

} // namespace

#define COHORT_PROMPT(name, epilogue, outputs, ctas)                                     \
    extern "C" __global__ void __launch_bounds__(COHORT_CUDA_THREADS, ctas)              \
        prompt_##name##_##outputs(const __grid_constant__ cohort_cuda_prompt_params p) { \
        prompt<epilogue, outputs / 128>(p);                                              \
    }

COHORT_PROMPT(store, STORE, 128, 2)
COHORT_PROMPT(residual, RESIDUAL, 128, 2)
COHORT_PROMPT(store, STORE, 256, 1)
COHORT_PROMPT(activate, ACTIVATE, 256, 1)
COHORT_PROMPT(residual, RESIDUAL, 256, 1)
