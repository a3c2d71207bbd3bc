/* SPDX-License-Identifier: Apache-2.0 */
/* model/rope.h - rotary position tables as transformers computes them, in double.
 *
 * Threads: any; plain arithmetic.
 */
#ifndef COHORT_MODEL_ROPE_H
#define COHORT_MODEL_ROPE_H

#include "model/model_config.h"

/* Angle per position of each of the head_dim / 2 pairs, scaling applied. */
void cohort_rope_frequencies(const cohort_rope *rope, int32_t head_dim,
                             double *out_frequencies);
/* cos and sin of [position][head_dim / 2], yarn's attention factor applied. */
void cohort_rope_tables(const cohort_rope *rope, int32_t head_dim, int32_t n_positions,
                        float *out_cos, float *out_sin);

#endif /* COHORT_MODEL_ROPE_H */
