/* SPDX-License-Identifier: Apache-2.0 */
/* model/shard.h - which part of a model a rank holds: pure arithmetic over the config.
 *
 * Layers go to pipeline stages.  Within a stage, query heads are shared out with the KV
 * head they read, in whole groups, so that tp need not divide the heads; where there are
 * more ranks than KV heads, a KV head is copied to tp / n_kv_heads ranks, which share its
 * query heads.  MLP columns and vocabulary rows are shared out in granules that suit the
 * kernels. Shares differ by at most one unit, the larger ones first.
 *
 * Threads: any; plain data.    Errors: COHORT_E_INVALID names the numbers that don't fit.
 */
#ifndef COHORT_MODEL_SHARD_H
#define COHORT_MODEL_SHARD_H

#include "model/model_config.h"

typedef struct cohort_span {
    int32_t begin, end; /* [begin, end) */
} cohort_span;

typedef struct cohort_shard {
    cohort_span layers;
    cohort_span heads, kv_heads; /* of the whole model's */
    cohort_span mlp;             /* columns of a plain MLP */
    cohort_span experts_mlp;     /* columns of every expert; empty without experts */
    cohort_span vocab;           /* rows of embedding and head */
    bool first_stage, last_stage;
} cohort_shard;

/* partition: "7,8,8,7", layers per stage, or NULL for shares as even as they go. */
cohort_status cohort_shard_plan(const cohort_model_config *config, int32_t tp_rank,
                                int32_t tp_size, int32_t pp_rank, int32_t pp_size,
                                const char *partition, cohort_shard *out_shard);

static inline int32_t cohort_span_size(cohort_span span) { return span.end - span.begin; }

#endif /* COHORT_MODEL_SHARD_H */
