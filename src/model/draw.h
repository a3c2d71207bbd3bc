/* SPDX-License-Identifier: Apache-2.0 */
/* model/draw.h - what a step wants of one row of logits, by the host: for backends that
 * sample there. */
#ifndef COHORT_MODEL_DRAW_H
#define COHORT_MODEL_DRAW_H

#include "model/backend.h"
#include "model/sample.h"

/* The row's token, -1 where the logits are no numbers: mask, then cohort_sample.  logits
 * may be changed. */
int32_t cohort_draw(cohort_sampler *sampler, const cohort_sample_row *row,
                    int32_t vocab_size, float *logits);

#endif /* COHORT_MODEL_DRAW_H */
