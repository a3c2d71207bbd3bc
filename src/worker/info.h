/* SPDX-License-Identifier: Apache-2.0 */
/* worker/info.h - which rank this is, of which world. */
#ifndef COHORT_WORKER_INFO_H
#define COHORT_WORKER_INFO_H

#include <stdbool.h>
#include <stdint.h>

#include "cohort/collective.h"
#include "model/keeper.h"

typedef struct cohort_worker cohort_worker;

/* Where a rank stands; everything in it outlives the operations' context. */
typedef struct cohort_worker_info {
    int32_t rank;
    int32_t world_size;
    int32_t tp;
    int32_t pp;
    int32_t tp_rank;    /* rank % tp */
    int32_t pp_rank;    /* rank / tp */
    int32_t local_rank; /* among the ranks of this host */
    int32_t local_world_size;
    bool is_output_rank; /* (pp - 1) * tp: its replies to steps are the ones used */
    uint64_t epoch;
    const char *const *config;   /* "key=value", NULL-terminated */
    cohort_group *world_group;   /* all ranks */
    cohort_group *tp_group;      /* ranks of this pipeline stage, in tp rank order */
    cohort_group *pp_group;      /* ranks with this tp rank, in stage order */
    const cohort_keeper *keeper; /* of what outlives this process; NULL: nothing does */
    bool keeps_kv;               /* the cache, too */
    cohort_worker *worker;       /* for the calls of worker.h */
} cohort_worker_info;

#endif /* COHORT_WORKER_INFO_H */
