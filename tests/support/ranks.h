/* SPDX-License-Identifier: Apache-2.0 */
/* support/ranks.h - the ranks of a model as threads of a test, joined by a mesh. */
#ifndef COHORT_TESTS_RANKS_H
#define COHORT_TESTS_RANKS_H

#include <stdbool.h>
#include <stdint.h>

#include "cohort/collective.h"

enum { RANKS_MAX = 8 };

typedef struct ranks_place {
    int32_t index; /* world rank: pp_rank * tp_size + tp_rank */
    int32_t tp_rank, tp_size, pp_rank, pp_size;
    cohort_group *tp, *pp; /* NULL where there is one rank in the world */
} ranks_place;

typedef cohort_status (*ranks_body)(void *user_data, const ranks_place *place);

/* Runs body once per rank, each on its own thread, and waits for all.  A rank that fails
 * poisons the others' meshes.  On failure false, with the first rank's words in
 * out_error. */
bool ranks_run(int32_t tp_size, int32_t pp_size, ranks_body body, void *user_data,
               cohort_error *out_error);

#endif /* COHORT_TESTS_RANKS_H */
