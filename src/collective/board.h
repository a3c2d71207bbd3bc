/* SPDX-License-Identifier: Apache-2.0 */
/* collective/board.h - steps that the ranks of a group within one host take together.
 *
 * In a step each rank lays up to COHORT_SLOT_BYTES on its own board (or nothing), and
 * reads what it wants from the others'.  All ranks take the same steps:
 *
 *   enter      a slot to write to; waits until nobody reads what lay there
 *   post       what was written is for all to see (also by who gives nothing)
 *   read       what another gave, once it has posted
 *   leave      nothing of this step is read any more
 *
 * Errors: COHORT_E_PROTOCOL where ranks do different things, as await.c otherwise.
 */
#ifndef COHORT_COLLECTIVE_BOARD_H
#define COHORT_COLLECTIVE_BOARD_H

#include "collective/mesh.h"

typedef struct cohort_table {
    cohort_mesh *mesh;
    const int32_t *ranks; /* the group's; borrowed */
    int32_t size, rank;
    uint64_t key; /* the same on all ranks of the group */
    cohort_board *own;
    cohort_board **boards; /* the others'; NULL until found */
    bool met;
    uint64_t step;
} cohort_table;

/* What a step is about; a rank that does something else is found out. */
typedef enum cohort_table_step {
    COHORT_STEP_BARRIER = 1,
    COHORT_STEP_BROADCAST,
    COHORT_STEP_REDUCE,
    COHORT_STEP_REDUCED,
    COHORT_STEP_GATHER,
    COHORT_STEP_ALL_GATHER,
    COHORT_STEP_REDUCE_SCATTER
} cohort_table_step;

/* Takes a board of the own outbox and announces it. */
cohort_status cohort_table_open(cohort_mesh *mesh, const int32_t *ranks, int32_t size,
                                int32_t rank, cohort_table *out_table);
void cohort_table_close(cohort_table *table);

cohort_status cohort_table_enter(cohort_table *table, int64_t deadline_ns,
                                 void **out_slot);
/* Without enter where nothing is given: bytes is 0 then. */
void cohort_table_post(cohort_table *table, cohort_table_step kind, size_t bytes);
/* Waits until that rank has posted, or with -1 until all have. */
cohort_status cohort_table_await(cohort_table *table, int32_t rank, int64_t deadline_ns);
/* After await.  The rank must have given just that. */
cohort_status cohort_table_read(const cohort_table *table, int32_t rank,
                                cohort_table_step kind, size_t bytes,
                                const void **out_slot);
void cohort_table_leave(cohort_table *table);

#endif /* COHORT_COLLECTIVE_BOARD_H */
