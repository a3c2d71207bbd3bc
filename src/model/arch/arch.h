/* SPDX-License-Identifier: Apache-2.0 */
/* model/arch/arch.h - what sets one architecture apart from another: a const descriptor
 * each, in a file of its name.
 *
 * A descriptor names a checkpoint's tensors and reads config.json; what is NULL there the
 * architecture lacks.  What a config may switch (biases, tied embeddings) it reads into
 * cohort_model_config.  The loader and the forward pass know no architecture by name.
 *
 * Plain data; no ownership, no threads.
 */
#ifndef COHORT_MODEL_ARCH_ARCH_H
#define COHORT_MODEL_ARCH_ARCH_H

#include "model/backend.h" /* cohort_activation */
#include "model/json.h"
#include "model/model_config.h"

enum {
    COHORT_ARCH_MAX_WIDTH = 1 << 20,
    COHORT_ARCH_MAX_HEAD_DIM = 1024,
    COHORT_ARCH_MAX_POSITIONS = 1 << 24,
};

/* Names of tensors, without ".weight" and ".bias" behind them. */
typedef struct cohort_arch_tensors {
    const char *embedding, *positions, *final_norm, *head;
    const char *layers; /* "model.layers": a layer's are below it and its number */
    const char *attention_norm, *q, *k, *v, *q_norm, *k_norm, *out;
    const char *mlp_norm, *gate, *up, *down; /* gate NULL: not gated */
    const char *router,
        *experts; /* an expert's gate, up, down: below it and its number */
    const char *expert_gate, *expert_up, *expert_down;
} cohort_arch_tensors;

struct cohort_arch {
    const char *name;       /* "LlamaForCausalLM" */
    const char *alias;      /* another spelling in vLLM's registry, or NULL */
    const char *model_type; /* "llama" */
    int32_t positions;      /* the config class's own max_position_embeddings */
    cohort_status (*read)(const cohort_json_source *source, cohort_model_config *out);
    cohort_arch_tensors tensors;
    bool centred_norms; /* layer norms, with biases; else RMS norms without */
    cohort_activation activation;
    int32_t position_shift; /* row of the position table that is position 0's */
};

/* NULL where there is none. */
const cohort_arch *cohort_arch_find(const char *name);
const cohort_arch *cohort_arch_of_type(const char *model_type);

/* ---- what descriptors share -------------------------------------------------------- */

/* decoder.c: what Llama and its kin have in common, rope included. */
cohort_status cohort_arch_read_decoder(const cohort_json_source *source,
                                       cohort_model_config *out);
/* Qwen's windows: only where use_sliding_window says so, from layer max_window_layers on
 * or as layer_types says. */
cohort_status cohort_arch_read_windows(const cohort_json_source *source,
                                       cohort_model_config *out);
cohort_status cohort_arch_expect(const cohort_json_source *source, const char *key,
                                 const char *expected, const char *fallback);

/* rope.c */
cohort_status cohort_rope_refuse_partial(const cohort_json_source *source);
cohort_status cohort_rope_read(const cohort_json_source *source,
                               cohort_model_config *out);

/* The tensors that Llama and its kin have. */
#define COHORT_ARCH_DECODER_TENSORS                                                   \
    .embedding = "model.embed_tokens", .final_norm = "model.norm", .head = "lm_head", \
    .layers = "model.layers", .attention_norm = "input_layernorm",                    \
    .q = "self_attn.q_proj", .k = "self_attn.k_proj", .v = "self_attn.v_proj",        \
    .out = "self_attn.o_proj", .mlp_norm = "post_attention_layernorm",                \
    .gate = "mlp.gate_proj", .up = "mlp.up_proj", .down = "mlp.down_proj"

#define COHORT_ARCH_HEAD_NORMS .q_norm = "self_attn.q_norm", .k_norm = "self_attn.k_norm"

static inline void cohort_arch_set_bit(uint64_t bits[4], int32_t layer) {
    bits[layer / 64] |= UINT64_C(1) << (layer % 64);
}

#endif /* COHORT_MODEL_ARCH_ARCH_H */
