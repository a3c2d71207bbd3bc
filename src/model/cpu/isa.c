/* SPDX-License-Identifier: Apache-2.0 */
#include <cpuid.h>
#include <string.h>

#include "base/fail.h"
#include "model/cpu/kernels.h"

/* Feature bits, never the CPU's model: guests lie about the latter.  A vector register
 * counts only if the operating system saves it (XCR0). */

enum {
    XCR0_AVX = 0x6,     /* xmm, ymm */
    XCR0_AVX512 = 0xe6, /* and opmask, zmm */
};

struct features {
    bool avx2, avx512, avx512_bf16;
};

static uint64_t read_xcr0(void) {
    uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
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
    const uint32_t wide = bit_AVX512F | bit_AVX512DQ | bit_AVX512BW | bit_AVX512VL;
    features.avx2 = ebx & bit_AVX2;
    features.avx512 =
        features.avx2 && (ebx & wide) == wide && (xcr0 & XCR0_AVX512) == XCR0_AVX512;
    if (features.avx512 && eax >= 1 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx))
        features.avx512_bf16 = eax & bit_AVX512BF16;
    return features;
}

cohort_status cohort_cpu_isa_find(const char *name, cohort_cpu_isa *out_isa) {
    const struct features features = read_features();
    const struct {
        bool there;
        cohort_cpu_isa isa;
    } all[] = {
        {features.avx512_bf16,
         {"avx512_bf16", &cohort_cpu_kernels_avx512, &cohort_cpu_dot_avx512bf16}},
        {features.avx512, {"avx512", &cohort_cpu_kernels_avx512, NULL}},
        {features.avx2, {"avx2", &cohort_cpu_kernels_avx2, NULL}},
        {true, {"portable", &cohort_cpu_kernels_portable, NULL}},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (name && strcmp(name, all[i].isa.name)) continue;
        if (!name && !all[i].there) continue;
        if (!all[i].there)
            return COHORT_FAIL(COHORT_E_INVALID, "this CPU has no %s", name);
        *out_isa = all[i].isa;
        return COHORT_OK;
    }
    return COHORT_FAIL(COHORT_E_INVALID,
                       "unknown instruction set '%s'; there are portable, avx2, avx512 "
                       "and avx512_bf16",
                       name);
}
