/* SPDX-License-Identifier: Apache-2.0 */
/* model/cpu/logits.h - passes over a row of logits, one table per instruction set; what
 * model/sample.c decides, it decides on their results.
 *
 * A logit's mass is its share of the distribution, in whole numbers of which the best has
 * 2^44: sums are exact, so that neither threads nor the width of vectors move a draw.
 * What is mass is said by cohort_cpu_mass_of alone: f32 operations, each rounded once,
 * fused only where it says so; the same on a device.
 */
#ifndef COHORT_MODEL_CPU_LOGITS_H
#define COHORT_MODEL_CPU_LOGITS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

enum {
    COHORT_MASS_BITS = 44,   /* 2^20 tokens of the best one's mass fit 64 bits */
    COHORT_SAMPLE_TILE = 256 /* logits whose maxima and masses are noted */
};

/* 2^f for -1/2 <= f <= 1/2, within 2e-7, and exactly 1 for 0. */
#define COHORT_EXP2_1 0x1.62e42ap-1f
#define COHORT_EXP2_2 0x1.ebf9bcp-3f
#define COHORT_EXP2_3 0x1.c6b752p-5f
#define COHORT_EXP2_4 0x1.3cea88p-7f
#define COHORT_EXP2_5 0x1.5bba14p-10f
/* 1.5 * 2^23 rounds what it is added to to a whole number, in the low bits; with 44 and
 * the exponent's bias these are the exponent of a mass. */
#define COHORT_ROUND (12582912.0f + 44 + 127)
#define COHORT_LEAST -100.0f /* a power of 2 without mass; NaN counts as one */

/* exp((logit - best) / temperature), and steepness is log2(e) / temperature. */
typedef struct cohort_cpu_mass {
    float best, steepness;
} cohort_cpu_mass;

static inline uint64_t cohort_cpu_mass_of(cohort_cpu_mass at, float logit) {
    float power = (logit - at.best) * at.steepness;
    power = power > COHORT_LEAST ? power : COHORT_LEAST;
    float shifted = power + COHORT_ROUND;
    float f = power - (shifted - COHORT_ROUND);
    float p = fmaf(COHORT_EXP2_5, f, COHORT_EXP2_4);
    p = fmaf(p, f, COHORT_EXP2_3);
    p = fmaf(p, f, COHORT_EXP2_2);
    p = fmaf(p, f, COHORT_EXP2_1);
    p = fmaf(p, f, 1.0f);
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits <<= 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return (uint64_t)(p * scale); /* towards 0 */
}

/* NaN is less than everything, and never kept. */
typedef struct cohort_cpu_logits {
    const char *name;
    /* The largest of each tile; -inf where there is no number. */
    void (*maxima)(const float *x, int32_t n, float *out_tiles);
    /* Mass of what is at least low, in all and (where not NULL) of each tile. */
    uint64_t (*masses)(const float *x, int32_t n, cohort_cpu_mass at, float low,
                       uint64_t *out_tiles);
    int32_t (*count)(const float *x, int32_t n, float low); /* at least low */
    /* What is at least low, with ids (first_id + i), in order; returns how many.  Out
     * has room for COHORT_SAMPLE_SLACK more. */
    int32_t (*gather)(const float *x, int32_t n, int32_t first_id, float low,
                      float *out_x, int32_t *out_ids);
    /* In place: low <= x < high, in order. */
    int32_t (*keep)(float *x, int32_t n, float low, float high);
} cohort_cpu_logits;

enum { COHORT_SAMPLE_SLACK = 16 };

extern const cohort_cpu_logits cohort_cpu_logits_portable;
extern const cohort_cpu_logits cohort_cpu_logits_avx2;
extern const cohort_cpu_logits cohort_cpu_logits_avx512;

#endif /* COHORT_MODEL_CPU_LOGITS_H */
