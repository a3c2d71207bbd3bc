/* SPDX-License-Identifier: Apache-2.0 */
/* bench/peak.h - what one thread's matrix unit does on registers alone, memory left out:
 * the best of many short runs, since others use the processor, too. */
#ifndef COHORT_BENCH_PEAK_H
#define COHORT_BENCH_PEAK_H

#include <stdint.h>
#include <string.h>

#include "cohort/clock.h"

enum { PEAK_TRIALS = 200, PEAK_TURNS = 4000 };

#if defined __x86_64__
#include <immintrin.h>

__attribute__((target("amx-tile,amx-bf16"))) static inline double peak_amx(void) {
    static const struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1,
                .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
                .rows = {16, 16, 16, 16, 16, 16, 16, 16}};
    __asm__ volatile("" ::: "memory");
    _tile_loadconfig(&config);
    for (int i = 0; i < PEAK_TURNS; i++) {
        _tile_dpbf16ps(0, 6, 7);
        _tile_dpbf16ps(1, 6, 7);
        _tile_dpbf16ps(2, 6, 7);
        _tile_dpbf16ps(3, 6, 7);
        _tile_dpbf16ps(4, 6, 7);
        _tile_dpbf16ps(5, 6, 7);
    }
    _tile_release();
    return 6.0 * PEAK_TURNS * 16 * 16 * 32 * 2;
}

/* Chains of one instruction, in registers whatever the compiler thinks: 24 of 32 vectors,
 * or 12 of 16. */
#define PEAK_4(step, a, b, c, d) step(a) step(b) step(c) step(d)
#define PEAK_12(step)                \
    PEAK_4(step, "4", "5", "6", "7") \
    PEAK_4(step, "8", "9", "10", "11") PEAK_4(step, "12", "13", "14", "15")
#define PEAK_24(step)                    \
    PEAK_12(step)                        \
    PEAK_4(step, "16", "17", "18", "19") \
    PEAK_4(step, "20", "21", "22", "23") PEAK_4(step, "24", "25", "26", "27")
#define PEAK_CLEAR_512(r) "vpxorq %%zmm" r ", %%zmm" r ", %%zmm" r "\n"
#define PEAK_DOT(r)       "vdpbf16ps %%zmm0, %%zmm0, %%zmm" r "\n"
#define PEAK_FMA_512(r)   "vfmadd231ps %%zmm0, %%zmm0, %%zmm" r "\n"
#define PEAK_FMA_256(r)   "vfmadd231ps %%ymm0, %%ymm0, %%ymm" r "\n"
#define PEAK_CLEAR_256(r) "vpxor %%ymm" r ", %%ymm" r ", %%ymm" r "\n"
#define PEAK_LOW                                                                       \
    "xmm0", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", \
        "xmm13", "xmm14", "xmm15"
#define PEAK_HIGH                                                                    \
    "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", \
        "xmm25", "xmm26", "xmm27"
#define PEAK_LOOP(clear, steps, ...)                       \
    int64_t turns = PEAK_TURNS;                            \
    __asm__ volatile(clear "1:\n" steps "dec %0\njnz 1b\n" \
                     : "+r"(turns)::"cc", __VA_ARGS__)

__attribute__((target("avx512f,avx512bf16"))) static inline double peak_avx512bf16(void) {
    PEAK_LOOP(PEAK_CLEAR_512("0") PEAK_24(PEAK_CLEAR_512), PEAK_24(PEAK_DOT), PEAK_LOW,
              PEAK_HIGH);
    return 24.0 * PEAK_TURNS * 64;
}

__attribute__((target("avx512f"))) static inline double peak_avx512(void) {
    PEAK_LOOP(PEAK_CLEAR_512("0") PEAK_24(PEAK_CLEAR_512), PEAK_24(PEAK_FMA_512),
              PEAK_LOW, PEAK_HIGH);
    return 24.0 * PEAK_TURNS * 32;
}

__attribute__((target("avx2,fma"))) static inline double peak_avx2(void) {
    PEAK_LOOP(PEAK_CLEAR_256("0") PEAK_12(PEAK_CLEAR_256), PEAK_12(PEAK_FMA_256),
              PEAK_LOW);
    return 12.0 * PEAK_TURNS * 16;
}
#endif

/* By the name of the kernel set; 0: not known. */
static inline double bench_peak_gflops(const char *isa) {
    double (*run)(void) = NULL;
#if defined __x86_64__
    if (!strcmp(isa, "amx")) run = peak_amx;
    if (!strcmp(isa, "avx512_bf16")) run = peak_avx512bf16;
    if (!strcmp(isa, "avx512")) run = peak_avx512;
    if (!strcmp(isa, "avx2")) run = peak_avx2;
#endif
    double best = 0;
    for (int i = 0; run && i < PEAK_TRIALS; i++) {
        int64_t begin_ns = cohort_clock_ns();
        double flops = run();
        double gflops = flops / (double)(cohort_clock_ns() - begin_ns);
        if (gflops > best) best = gflops;
    }
    return best;
}

#endif /* COHORT_BENCH_PEAK_H */
