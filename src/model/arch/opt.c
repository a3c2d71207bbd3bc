/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fail.h"
#include "model/arch/arch.h"

static cohort_status read(const cohort_json_source *source, cohort_model_config *out) {
    COHORT_TRY(cohort_arch_expect(source, "activation_function", "relu", "relu"));
    COHORT_TRY(cohort_json_int(source, "ffn_dim", 1, COHORT_ARCH_MAX_WIDTH,
                               COHORT_JSON_REQUIRED, &out->intermediate_size));
    int32_t embedding = 0;
    COHORT_TRY(cohort_json_int(source, "word_embed_proj_dim", 1, COHORT_ARCH_MAX_WIDTH,
                               out->hidden_size, &embedding));
    if (embedding != out->hidden_size)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "%s: word_embed_proj_dim %d differs from hidden_size %d: "
                           "project_in and project_out are not supported",
                           source->name, embedding, out->hidden_size);
    if (out->hidden_size % out->n_heads)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "%s: hidden_size %d is no multiple of num_attention_heads %d",
                           source->name, out->hidden_size, out->n_heads);
    bool affine = true, before = true, removed = false, bias = true;
    COHORT_TRY(cohort_json_bool(source, "layer_norm_elementwise_affine", true, &affine));
    COHORT_TRY(cohort_json_bool(source, "do_layer_norm_before", true, &before));
    COHORT_TRY(cohort_json_bool(source, "_remove_final_layer_norm", false, &removed));
    COHORT_TRY(cohort_json_bool(source, "enable_bias", true, &bias));
    COHORT_TRY(
        cohort_json_bool(source, "tie_word_embeddings", true, &out->tie_word_embeddings));
    if (!affine)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "%s: layer_norm_elementwise_affine false is not supported",
                           source->name);
    out->n_kv_heads = out->n_heads;
    out->head_dim = out->hidden_size / out->n_heads;
    if (out->head_dim < 2 || out->head_dim > COHORT_ARCH_MAX_HEAD_DIM)
        return COHORT_FAIL(COHORT_E_INVALID, "%s: heads of %d values are not supported",
                           source->name, out->head_dim);
    out->norm_eps = 1e-5F; /* nn.LayerNorm's default: the config has no field for it */
    out->norm_after = !before;
    out->final_norm = before && !removed;
    out->attention_bias = out->attention_out_bias = out->mlp_bias = bias;
    out->rope =
        (cohort_rope){.type = COHORT_ROPE_NONE, .factor = 1, .attention_factor = 1};
    return COHORT_OK;
}

extern const cohort_arch cohort_arch_opt;
const cohort_arch cohort_arch_opt = {
    .name = "OPTForCausalLM",
    .model_type = "opt",
    .positions = 2048,
    .read = read,
    .tensors = {.embedding = "model.decoder.embed_tokens",
                .positions = "model.decoder.embed_positions",
                .final_norm = "model.decoder.final_layer_norm",
                .head = "lm_head",
                .layers = "model.decoder.layers",
                .attention_norm = "self_attn_layer_norm",
                .q = "self_attn.q_proj",
                .k = "self_attn.k_proj",
                .v = "self_attn.v_proj",
                .out = "self_attn.out_proj",
                .mlp_norm = "final_layer_norm",
                .up = "fc1",
                .down = "fc2"},
    .centred_norms = true,
    .activation = COHORT_RELU,
    .position_shift = 2, /* the table begins with two rows for padding */
};
