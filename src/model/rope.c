/* SPDX-License-Identifier: Apache-2.0 */
#include "model/rope.h"

#include <math.h>

/* Design notes.
 *
 * The formulas are those of transformers' modeling_rope_utils.py (5.x), function by
 * function.  transformers keeps frequencies and angles in float32; in double the tables
 * are what it means to compute, and 131072 positions differ from it by its own rounding.
 *
 * A table of a long context has millions of entries, and two library calls for each would
 * be noticed at start-up: cos(a + b) is put together from tables of every 64th angle and
 * of the 64 below, which costs four multiplications and about 1e-16. */

enum { STRIDE = 64, MAX_PAIRS = 512 };

static void scale_llama3(const cohort_rope *rope, int32_t n_pairs, double *frequencies) {
    double original = rope->original_max_position_embeddings;
    double low_wavelength = original / rope->low_freq_factor;
    double high_wavelength = original / rope->high_freq_factor;
    for (int32_t i = 0; i < n_pairs; i++) {
        double wavelength = 2 * M_PI / frequencies[i];
        if (wavelength > low_wavelength) frequencies[i] /= rope->factor;
        if (wavelength > low_wavelength || wavelength < high_wavelength) continue;
        double smooth = (original / wavelength - rope->low_freq_factor) /
                        (rope->high_freq_factor - rope->low_freq_factor);
        frequencies[i] =
            (1 - smooth) * frequencies[i] / rope->factor + smooth * frequencies[i];
    }
}

/* The pair that turns `rotations` times within the original length. */
static double yarn_pair(const cohort_rope *rope, int32_t head_dim, double rotations) {
    return head_dim *
           log(rope->original_max_position_embeddings / (rotations * 2 * M_PI)) /
           (2 * log(rope->theta));
}

static void scale_yarn(const cohort_rope *rope, int32_t head_dim, int32_t n_pairs,
                       double *frequencies) {
    double low = yarn_pair(rope, head_dim, rope->beta_fast);
    double high = yarn_pair(rope, head_dim, rope->beta_slow);
    if (rope->truncate) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0);
    high = fmin(high, head_dim - 1);
    if (low == high) high += 0.001;
    for (int32_t i = 0; i < n_pairs; i++) {
        double ramp = fmin(fmax((i - low) / (high - low), 0), 1);
        frequencies[i] =
            frequencies[i] / rope->factor * ramp + frequencies[i] * (1 - ramp);
    }
}

void cohort_rope_frequencies(const cohort_rope *rope, int32_t head_dim,
                             double *out_frequencies) {
    int32_t n_pairs = head_dim / 2;
    for (int32_t i = 0; i < n_pairs; i++)
        out_frequencies[i] = pow(rope->theta, -2.0 * i / head_dim);
    if (rope->type == COHORT_ROPE_LINEAR)
        for (int32_t i = 0; i < n_pairs; i++)
            out_frequencies[i] /= rope->factor;
    if (rope->type == COHORT_ROPE_LLAMA3) scale_llama3(rope, n_pairs, out_frequencies);
    if (rope->type == COHORT_ROPE_YARN)
        scale_yarn(rope, head_dim, n_pairs, out_frequencies);
}

/* The tables' column of one pair. */
static void fill_pair(double frequency, double factor, int32_t n_positions,
                      int32_t n_pairs, float *out_cos, float *out_sin) {
    double near_cos[STRIDE], near_sin[STRIDE];
    for (int32_t i = 0; i < STRIDE; i++) {
        near_cos[i] = cos(i * frequency);
        near_sin[i] = sin(i * frequency);
    }
    for (int32_t begin = 0; begin < n_positions; begin += STRIDE) {
        double far_cos = cos(begin * frequency) * factor;
        double far_sin = sin(begin * frequency) * factor;
        for (int32_t i = 0; i < STRIDE && begin + i < n_positions; i++) {
            int64_t at = (int64_t)(begin + i) * n_pairs;
            out_cos[at] = (float)(far_cos * near_cos[i] - far_sin * near_sin[i]);
            out_sin[at] = (float)(far_sin * near_cos[i] + far_cos * near_sin[i]);
        }
    }
}

void cohort_rope_tables(const cohort_rope *rope, int32_t head_dim, int32_t n_positions,
                        float *out_cos, float *out_sin) {
    double frequencies[MAX_PAIRS];
    cohort_rope_frequencies(rope, head_dim, frequencies);
    double factor = rope->type == COHORT_ROPE_YARN ? rope->attention_factor : 1;
    for (int32_t i = 0; i < head_dim / 2; i++)
        fill_pair(frequencies[i], factor, n_positions, head_dim / 2, out_cos + i,
                  out_sin + i);
}
