/* SPDX-License-Identifier: Apache-2.0 */
/* executor/verdict.h - who is hung, and who waits for whom; no state, no clock, no I/O.
 *
 * The monitor fills one view per rank from the counters file and asks.
 */
#ifndef COHORT_EXECUTOR_VERDICT_H
#define COHORT_EXECUTOR_VERDICT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct cohort_rank_view {
    bool is_watched; /* false: not started, or ended: never hung */
    int32_t pid;
    uint32_t phase; /* cohort_rank_phase */
    int32_t waits_for;
    uint64_t call;
    uint64_t progress;    /* counts on with every bit of it */
    int64_t heartbeat_ns; /* last sign of life of the process */
    int64_t progress_ns;  /* last sign of progress of its main thread */
} cohort_rank_view;

typedef struct cohort_hang_limits {
    int64_t heartbeat_ns;  /* 0 or less: never */
    int64_t execute_ns;    /* the same */
    uint64_t pending_call; /* oldest step without an answer, 0: none */
    int64_t pending_ns;    /* since when */
} cohort_hang_limits;

typedef struct cohort_hang {
    int32_t rank;   /* -1: nobody is hung */
    bool is_silent; /* no heartbeat: the process does not run */
    int64_t since_ns;
} cohort_hang;

/* A silent process comes first.  Otherwise, of the ranks that are over time with a step,
 * the one at the end of the chain of waiting; where nobody says whom he waits for, the
 * one that is furthest behind. */
cohort_hang cohort_find_hang(const cohort_rank_view *ranks, int32_t n_ranks,
                             const cohort_hang_limits *limits, int64_t now_ns);

/* "rank 0 waits for rank 1 in execute (call 17), rank 1 in execute (call 17)": ranks of
 * interest first, cut to size. */
void cohort_describe_ranks(const cohort_rank_view *ranks, int32_t n_ranks, char *out_text,
                           size_t size);

#endif /* COHORT_EXECUTOR_VERDICT_H */
