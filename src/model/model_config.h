/* SPDX-License-Identifier: Apache-2.0 */
/* model/model_config.h - config.json and generation_config.json as plain values.
 *
 * Both spellings are read: transformers 4 (rope_theta, rope_scaling, torch_dtype) and 5
 * (rope_parameters, dtype).  NaN and Infinity are taken for numbers, as Python does.
 * What would change results and is not implemented is refused by name.  Plain data; no
 * ownership, no threads.
 */
#ifndef COHORT_MODEL_MODEL_CONFIG_H
#define COHORT_MODEL_MODEL_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cohort/dtype.h"
#include "cohort/status.h"

typedef struct cohort_arch cohort_arch; /* model/arch/arch.h */

typedef enum cohort_rope_type {
    COHORT_ROPE_NONE, /* OPT: learned positions */
    COHORT_ROPE_DEFAULT,
    COHORT_ROPE_LINEAR,
    COHORT_ROPE_LLAMA3,
    COHORT_ROPE_YARN
} cohort_rope_type;

typedef struct cohort_rope {
    cohort_rope_type type;
    double theta;
    double factor;
    double low_freq_factor, high_freq_factor; /* llama3 */
    double beta_fast, beta_slow;              /* yarn */
    double attention_factor;                  /* yarn; cos and sin are multiplied by it */
    bool truncate;     /* yarn: the ramp's ends are whole numbers */
    bool is_stretched; /* yarn: max_position_embeddings counts the stretched positions */
    int32_t original_max_position_embeddings;
} cohort_rope;

enum {
    COHORT_MAX_EOS = 8,
    COHORT_MAX_LAYERS = 256,
    COHORT_MAX_EXPERTS = 1024,
    COHORT_MAX_HEADS = 1024,
};

typedef struct cohort_model_config {
    const cohort_arch *arch;
    cohort_dtype dtype; /* of the checkpoint */
    int32_t vocab_size, hidden_size, intermediate_size;
    int32_t n_layers, n_heads, n_kv_heads, head_dim;
    int32_t max_position_embeddings;
    int32_t sliding_window; /* 0: none */
    uint64_t
        full_layers[4]; /* bit l: layer l sees everything all the same (layer_types) */
    float norm_eps;
    bool tie_word_embeddings, attention_bias, attention_out_bias, mlp_bias;
    bool norm_after,
        final_norm; /* norms follow the residual sum; one after the last layer */
    cohort_rope rope;
    /* A mixture of experts */
    int32_t n_experts, n_experts_per_token, moe_intermediate_size, decoder_sparse_step;
    bool norm_topk_prob;
    uint64_t dense_layers[4]; /* bit l: layer l has a plain MLP (by mlp_only_layers or
                                 decoder_sparse_step) */
    int32_t bos_token_id;     /* -1: none */
    int32_t eos_token_ids[COHORT_MAX_EOS];
    int32_t n_eos;
} cohort_model_config;

/* generation_config.json's sampling defaults; NAN or -1 where the file says nothing. */
typedef struct cohort_model_defaults {
    float temperature, top_p, min_p, repetition_penalty;
    int32_t top_k, max_new_tokens;
    int32_t most_new_tokens; /* what no request is to exceed */
} cohort_model_defaults;

cohort_status cohort_model_config_read(const char *model_dir,
                                       cohort_model_config *out_config,
                                       cohort_model_defaults *out_defaults);
/* The same from memory: generation may be NULL.  name is used in messages. */
cohort_status cohort_model_config_parse(const char *config, size_t config_bytes,
                                        const char *generation, size_t generation_bytes,
                                        const char *name, cohort_model_config *out_config,
                                        cohort_model_defaults *out_defaults);

/* One more token that ends a sequence; name: of the file that says so. */
cohort_status cohort_model_config_add_eos(cohort_model_config *config, const char *name,
                                          int32_t id);

/* "LlamaForCausalLM" */
const char *cohort_model_config_architecture(const cohort_model_config *config);

/* What a user of the model makes of its defaults.  where: NULL or "auto": leave them,
 * "vllm": none, else a folder whose generation_config.json takes their place; overrides:
 * a JSON object that goes before these, or NULL.  max_new_tokens of a folder or of
 * overrides limits every request, as in vLLM. */
cohort_status cohort_model_defaults_choose(const char *where, const char *overrides,
                                           cohort_model_config *config,
                                           cohort_model_defaults *defaults);

/* Tokens that the model's positions reach, as vLLM derives max_model_len from the config.
 */
int32_t cohort_model_config_max_len(const cohort_model_config *config);
/* "float32", "bfloat16", "float16"; false where the name is none of these. */
bool cohort_dtype_parse(const char *name, cohort_dtype *out_dtype);

static inline bool cohort_layer_bit(const uint64_t bits[4], int32_t layer) {
    return bits[layer / 64] >> (layer % 64) & 1;
}

#endif /* COHORT_MODEL_MODEL_CONFIG_H */
