/* SPDX-License-Identifier: Apache-2.0 */
/* model/model.h - one rank's part of a language model: shard, cache, forward pass.
 *
 *   open (config.json, plan of the shard) -> load (weights) -> kv_create -> forward*
 *
 * A rank holds layers [first, last) of its pipeline stage and, of each, the heads,
 * columns and vocabulary rows of its place in the tensor-parallel group.  forward()
 * receives the previous stage's activations, meets its tp peers in all-reduces and sends
 * on, so that callers see one call whatever the layout.
 *
 * Ownership: the groups are the caller's and outlive the model, or its regroup.
 * Threads:   a model belongs to one thread.
 * Errors:    COHORT_E_INVALID names file and field; errors of peers pass through.
 */
#ifndef COHORT_MODEL_MODEL_H
#define COHORT_MODEL_MODEL_H

#include "cohort/collective.h"
#include "model/backend.h"
#include "model/model_config.h"

typedef struct cohort_model cohort_model;

typedef struct cohort_model_options {
    const char *model_dir;
    bool dummy_weights; /* --load-format dummy: seeded values instead of files */
    uint64_t seed;      /* of the dummy weights */
    const char *dtype;  /* "auto" (the checkpoint's), "float32", "bfloat16", "float16" */
    const char *quantization; /* "int8", made when weights are loaded; NULL, "none" */
    int32_t max_model_len;    /* 0: the config's */
    int32_t max_num_batched_tokens; /* rows of a step at most */
    int32_t max_num_seqs;
    int32_t block_size;
    int32_t tp_rank, tp_size, pp_rank, pp_size;
    const char *layer_partition;       /* "7,8,8,7" or NULL: even */
    cohort_group *tp_group, *pp_group; /* may be NULL where the size is 1 */
    const cohort_keeper *keeper;       /* of weights and cache; NULL: nothing is kept */
    bool forgets_kv;                   /* the keeper is of weights alone */
    bool share_tokens;                 /* see cohort_backend_options */
    const cohort_backend_ops *backend; /* what it is computed with */
    const void *device;                /* options of that backend alone */
} cohort_model_options;

/* done_bytes of total_bytes of this rank's shard; phase text as vLLM prints it is the
 * caller's business.  An error ends the load with it. */
typedef cohort_status (*cohort_load_progress)(void *user_data, int32_t shard,
                                              int32_t n_shards, size_t done_bytes,
                                              size_t total_bytes);

/* Called on the output rank (tp rank 0 of the last stage) for rows in order, some rows at
 * a time: logits[n_rows][vocab_size] of rows [row_begin, ...) of the concatenated logit
 * rows. The callee may change them in place.  For who looks at logits: the batch has no
 * samples then. */
typedef cohort_status (*cohort_logits_sink)(void *user_data, int32_t row_begin,
                                            int32_t n_rows, float *logits,
                                            int32_t vocab_size);

cohort_status cohort_model_open(const cohort_model_options *options,
                                cohort_model **out_model);
const cohort_model_config *cohort_model_config_of(const cohort_model *model);
cohort_status cohort_model_load(cohort_model *model, cohort_load_progress progress,
                                void *user_data);
size_t cohort_model_weight_bytes(const cohort_model *model);
size_t cohort_model_kv_block_bytes(const cohort_model *model); /* on this rank */
cohort_status cohort_model_kv_create(cohort_model *model, int64_t n_blocks);
/* After load, where there is a keeper, beside all other calls but close: a few
 * milliseconds of what is left until the weights are kept.
 * COHORT_PENDING: there is more. */
cohort_status cohort_model_memory_move(cohort_model *model);
int32_t cohort_model_max_len(const cohort_model *model);    /* max_model_len, resolved */
const char *cohort_model_device(const cohort_model *model); /* "avx512_bf16" */
/* What the device's own memory has left for this rank; 0: it is the host's. */
uint64_t cohort_model_device_free_bytes(const cohort_model *model);
bool cohort_model_is_output_rank(const cohort_model *model);
cohort_status cohort_model_forward(cohort_model *model, const cohort_batch *batch,
                                   cohort_logits_sink sink, void *user_data);
/* Other groups of the same ranks; an error that a peer's death left is forgotten. */
void cohort_model_regroup(cohort_model *model, cohort_group *tp_group,
                          cohort_group *pp_group);
void cohort_model_close(cohort_model *model);

#endif /* COHORT_MODEL_MODEL_H */
