/* SPDX-License-Identifier: Apache-2.0 */
/* collective/group.h - a group, and the operations as its two ways carry them out.
 *
 * local.c goes by the boards of one host, remote.c by exchange between all pairs; group.c
 * chooses, after it has checked the arguments and dealt with groups of one.
 */
#ifndef COHORT_COLLECTIVE_GROUP_H
#define COHORT_COLLECTIVE_GROUP_H

#include "collective/board.h"
#include "collective/reduce.h"

struct cohort_group {
    cohort_mesh *mesh;
    cohort_group *next;
    int32_t size, rank;
    int32_t *ranks;                  /* world ranks */
    const cohort_reducers *reducers; /* for this processor */
    const void **parts;              /* size: what is reduced, in rank order */
    bool is_local;                   /* all members share memory with each other */
    cohort_table table;              /* where it is local */
    cohort_transfer *transfers;      /* size */
    uint8_t *scratch;                /* where it isn't: a chunk for each rank */
    cohort_error failed;             /* code 0: usable */
};

/* A buffer that is reduced in place. */
typedef struct cohort_reduction {
    cohort_reducer reduce;
    cohort_reduce_op op;
    size_t item_bytes;
} cohort_reduction;

/* The share of n that is part i of parts, in whole elements. */
static inline size_t cohort_share_begin(size_t n, int32_t i, int32_t parts) {
    return n / (size_t)parts * (size_t)i +
           (n % (size_t)parts < (size_t)i ? n % (size_t)parts : (size_t)i);
}

static inline size_t cohort_lesser(size_t a, size_t b) { return a < b ? a : b; }

cohort_status cohort_local_barrier(cohort_group *group, int64_t deadline_ns);
cohort_status cohort_local_broadcast(cohort_group *group, int32_t root, uint8_t *buffer,
                                     size_t size_bytes, int64_t deadline_ns);
cohort_status cohort_local_all_reduce(cohort_group *group, const cohort_reduction *how,
                                      uint8_t *buffer, size_t count, int64_t deadline_ns);
/* root -1: everybody receives. */
cohort_status cohort_local_gather(cohort_group *group, int32_t root, const uint8_t *send,
                                  const size_t *size_bytes, uint8_t *receive,
                                  int64_t deadline_ns);
cohort_status cohort_local_reduce_scatter(cohort_group *group,
                                          const cohort_reduction *how,
                                          const uint8_t *send, uint8_t *receive,
                                          size_t count, int64_t deadline_ns);

/* What a rank needs of scratch. */
enum { COHORT_REMOTE_CHUNK_BYTES = 512 << 10 };

cohort_status cohort_remote_barrier(cohort_group *group, int64_t deadline_ns);
cohort_status cohort_remote_broadcast(cohort_group *group, int32_t root, uint8_t *buffer,
                                      size_t size_bytes, int64_t deadline_ns);
cohort_status cohort_remote_all_reduce(cohort_group *group, const cohort_reduction *how,
                                       uint8_t *buffer, size_t count,
                                       int64_t deadline_ns);
cohort_status cohort_remote_gather(cohort_group *group, int32_t root, const uint8_t *send,
                                   const size_t *size_bytes, uint8_t *receive,
                                   int64_t deadline_ns);
cohort_status cohort_remote_reduce_scatter(cohort_group *group,
                                           const cohort_reduction *how,
                                           const uint8_t *send, uint8_t *receive,
                                           size_t count, int64_t deadline_ns);

#endif /* COHORT_COLLECTIVE_GROUP_H */
