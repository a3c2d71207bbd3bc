/* SPDX-License-Identifier: Apache-2.0 */
/* model/model_internal.h - what model.c, weights.c and forward.c share; private to them.
 */
#ifndef COHORT_MODEL_MODEL_INTERNAL_H
#define COHORT_MODEL_MODEL_INTERNAL_H

#include "model/model.h"
#include "model/profile.h"
#include "model/shard.h"

enum {
    COHORT_MLP_ROWS = 512,  /* rows that an MLP takes at a time: bounds its scratch */
    COHORT_LOGIT_ROWS = 64, /* rows of logits at a time */
};

/* Everything is this rank's shard; what an architecture lacks is NULL. */
typedef struct cohort_model_layer {
    cohort_linear *qkv, *out;
    cohort_linear *gate_up, *down; /* a plain MLP */
    cohort_linear *router;
    cohort_linear **expert_gate_up, **expert_down; /* n_experts each */
    cohort_buffer *attention_norm, *attention_norm_bias;
    cohort_buffer *mlp_norm, *mlp_norm_bias;
    cohort_buffer *qkv_bias, *gate_up_bias;
    cohort_buffer *out_bias, *down_bias; /* of sums over ranks: on tp rank 0 alone */
    cohort_buffer *q_norm, *k_norm;
} cohort_model_layer;

struct cohort_model {
    cohort_model_options options; /* pointers in it: groups and operations only */
    char *model_dir;
    cohort_model_config config;
    cohort_shard shard;
    cohort_dtype dtype, kv_dtype; /* of weights and cache on this rank */
    const cohort_format *format;  /* of the matrices of attention and plain MLPs */
    int32_t max_model_len;
    bool loaded;

    const cohort_backend_ops *ops;
    cohort_backend *backend;
    cohort_profile *profile;    /* NULL: not profiled */
    cohort_model_layer *layers; /* of shard.layers */
    cohort_linear *embedding, *positions;
    cohort_linear *head; /* may be embedding itself */
    cohort_buffer *final_norm, *final_norm_bias;
    size_t weight_bytes;

    cohort_kv *kv;
    int64_t n_blocks;

    /* Scratch of a step.  R rows: max_num_batched_tokens. */
    cohort_buffer *hidden, *normed;           /* [R, hidden_size] */
    cohort_buffer *qkv, *attended;            /* [R, heads of this rank] */
    cohort_buffer *wide, *narrow;             /* [COHORT_MLP_ROWS, MLP columns here] */
    cohort_buffer *expert_sum;                /* [R, hidden_size], with experts only */
    cohort_buffer *route_ids, *route_weights; /* [COHORT_MLP_ROWS, n_experts_per_token] */
    cohort_buffer *logits;       /* [COHORT_LOGIT_ROWS, vocabulary of this rank] */
    cohort_buffer *whole_logits; /* [COHORT_LOGIT_ROWS, vocab_size], where gathered */
    float *host_logits;          /* the same, for a sink */
    size_t *logit_bytes;         /* what each tp rank gives to a row of logits */
    cohort_buffer *cos, *sin;    /* [max_model_len, head_dim / 2] */
};

/* model.c: memory that may be kept; n_blocks: of a cache, or 0. */
cohort_status cohort_model_memory_begin(cohort_model *model, const char *name,
                                        int64_t n_blocks, bool *out_was_kept);
cohort_status cohort_model_memory_end(cohort_model *model);

/* weights.c; a load that fails leaves no weights behind. */
cohort_status cohort_model_weights_load(cohort_model *model,
                                        cohort_load_progress progress, void *user_data);
void cohort_model_weights_destroy(cohort_model *model);

#endif /* COHORT_MODEL_MODEL_INTERNAL_H */
