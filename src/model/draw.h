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

/* What rank 0 drew for those of n_rows rows that have params, side by side in `drawn`,
 * told to its peers (group NULL: to nobody); each rank then has it as the row's token and
 * as the last one of its slot. */
cohort_status cohort_drawn_tell(cohort_group *group, const cohort_sample_row *rows,
                                int32_t n_rows, int32_t *drawn, int32_t *last_tokens,
                                int64_t deadline_ns);

#endif /* COHORT_MODEL_DRAW_H */
