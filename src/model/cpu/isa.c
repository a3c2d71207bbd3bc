/* SPDX-License-Identifier: Apache-2.0 */
#include <cpuid.h>
#include <pthread.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fail.h"
#include "cohort/clock.h"
#include "model/cpu/kernels.h"

/* Feature bits, never the CPU's model: guests lie about the latter.  A vector register
 * counts only if the operating system saves it (XCR0). */

enum {
    XCR0_AVX = 0x6,     /* xmm, ymm */
    XCR0_AVX512 = 0xe6, /* and opmask, zmm */
    XCR0_TILES = 3 << 17,
    AMX_BITS = 1 << 24 | 1 << 22, /* tiles, bf16: of leaf 7; clang 14 has no names */
    REQUEST_PERMISSION = 0x1023,  /* arch_prctl: ARCH_REQ_XCOMP_PERM */
    TILE_DATA = 18,               /* the state that it is about */
};

struct features {
    bool avx2, avx512, avx512_bf16, amx;
};

static uint64_t read_xcr0(void) {
    uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

/* Linux saves tiles only for a process that has asked; threads that are there and those
 * to come may use them then.  A sandbox may refuse. */
static bool may_use_tiles(void) {
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}

static struct features read_features(void) {
    struct features features = {0};
    uint32_t eax, ebx, ecx, edx;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx)) return features;
    const uint32_t basic = bit_OSXSAVE | bit_AVX | bit_FMA | bit_F16C;
    if ((ecx & basic) != basic) return features;
    uint64_t xcr0 = read_xcr0();
    if ((xcr0 & XCR0_AVX) != XCR0_AVX) return features;
    if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return features;
    bool has_tiles = (edx & AMX_BITS) == AMX_BITS && (xcr0 & XCR0_TILES) == XCR0_TILES;
    const uint32_t wide = bit_AVX512F | bit_AVX512DQ | bit_AVX512BW | bit_AVX512VL;
    features.avx2 = ebx & bit_AVX2;
    features.avx512 =
        features.avx2 && (ebx & wide) == wide && (xcr0 & XCR0_AVX512) == XCR0_AVX512;
    if (features.avx512 && eax >= 1 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx))
        features.avx512_bf16 = eax & bit_AVX512BF16;
    features.amx = features.avx512_bf16 && has_tiles && may_use_tiles();
    return features;
}

/* ---- do bf16 dot products pay? ----------------------------------------------------- */

enum { TRIALS = 64, TRIAL_K = 128, TRIAL_PANELS = 2 };

static int64_t time_product(void (*multiply)(const cohort_cpu_product *),
                            const cohort_cpu_product *product) {
    int64_t begin_ns = cohort_clock_ns();
    multiply(product);
    return cohort_clock_ns() - begin_ns;
}

static bool dot_pays;

/* vdpbf16ps does two multiplications where an FMA does one, but on some cores it comes a
 * quarter as often, and no bit of cpuid says so: one tile in L1 is multiplied both ways.
 * The least of many trials of a microsecond each counts, since an interruption is in few
 * of them; either way is far from the other (0.55 and 2 times as fast were seen). */
static void compare_products(void) {
    static _Alignas(
        64) unsigned char weights[TRIAL_PANELS * TRIAL_K * COHORT_CPU_PANEL * 2];
    static _Alignas(64) float x[COHORT_CPU_TILE_ROWS * TRIAL_K];
    static _Alignas(64) float c[COHORT_CPU_TILE_ROWS * TRIAL_PANELS * COHORT_CPU_PANEL];
    const cohort_cpu_product product = {.x = x,
                                        .rows = cohort_cpu_kernels_avx512.tile_rows,
                                        .n_panels = TRIAL_PANELS,
                                        .panels = weights,
                                        .panel_bytes = sizeof weights / TRIAL_PANELS,
                                        .k = TRIAL_K,
                                        .c = c,
                                        .c_stride = TRIAL_PANELS * COHORT_CPU_PANEL};
    int64_t dot_ns = INT64_MAX, wide_ns = INT64_MAX;
    for (int i = 0; i < TRIALS; i++) {
        int64_t ns = time_product(cohort_cpu_dot_avx512bf16.multiply, &product);
        if (ns < dot_ns) dot_ns = ns;
        ns = time_product(cohort_cpu_kernels_avx512.multiply[COHORT_BF16], &product);
        if (ns < wide_ns) wide_ns = ns;
    }
    dot_pays = dot_ns < wide_ns;
}

/* Once, so that all ranks and models of this process agree.  Ranks in other processes
 * measure for themselves: on the same processor, with the same outcome. */
static bool does_dot_pay(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, compare_products);
    return dot_pays;
}

cohort_status cohort_cpu_isa_find(const char *name, cohort_cpu_isa *out_isa) {
    const struct features features = read_features();
    const struct {
        bool there;
        cohort_cpu_isa isa;
    } all[] = {
        {features.amx,
         {"amx", &cohort_cpu_kernels_avx512, &cohort_cpu_dot_amx,
          &cohort_cpu_logits_avx512}},
        {features.avx512_bf16,
         {"avx512_bf16", &cohort_cpu_kernels_avx512, &cohort_cpu_dot_avx512bf16,
          &cohort_cpu_logits_avx512}},
        {features.avx512,
         {"avx512", &cohort_cpu_kernels_avx512, NULL, &cohort_cpu_logits_avx512}},
        {features.avx2,
         {"avx2", &cohort_cpu_kernels_avx2, NULL, &cohort_cpu_logits_avx2}},
        {true,
         {"portable", &cohort_cpu_kernels_portable, NULL, &cohort_cpu_logits_portable}},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (name && strcmp(name, all[i].isa.name)) continue;
        if (!name && !all[i].there) continue;
        if (!name && all[i].isa.dot == &cohort_cpu_dot_avx512bf16 && !does_dot_pay())
            continue;
        if (!all[i].there)
            return COHORT_FAIL(COHORT_E_INVALID, "this CPU has no %s", name);
        *out_isa = all[i].isa;
        return COHORT_OK;
    }
    return COHORT_FAIL(COHORT_E_INVALID,
                       "unknown instruction set '%s'; there are portable, avx2, avx512, "
                       "avx512_bf16 and amx",
                       name);
}
