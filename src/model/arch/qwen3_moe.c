/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fail.h"
#include "model/arch/arch.h"

static cohort_status read_experts(const cohort_json_source *source,
                                  cohort_model_config *out) {
    const char *key =
        cohort_json_field(source, "num_experts") ? "num_experts" : "num_local_experts";
    COHORT_TRY(cohort_json_int(source, key, 1, COHORT_MAX_EXPERTS, 128, &out->n_experts));
    COHORT_TRY(cohort_json_int(source, "num_experts_per_tok", 1, out->n_experts, 8,
                               &out->n_experts_per_token));
    COHORT_TRY(cohort_json_int(source, "moe_intermediate_size", 1, COHORT_ARCH_MAX_WIDTH,
                               768, &out->moe_intermediate_size));
    COHORT_TRY(cohort_json_int(source, "decoder_sparse_step", 1, COHORT_MAX_LAYERS, 1,
                               &out->decoder_sparse_step));
    COHORT_TRY(cohort_json_bool(source, "norm_topk_prob", false, &out->norm_topk_prob));
    for (int32_t i = 0; i < out->n_layers; i++)
        if ((i + 1) % out->decoder_sparse_step) cohort_arch_set_bit(out->dense_layers, i);
    const cJSON *dense = cohort_json_field(source, "mlp_only_layers");
    if (dense && !cJSON_IsArray(dense))
        return COHORT_FAIL(COHORT_E_INVALID, "%s: mlp_only_layers is not a list",
                           source->name);
    for (const cJSON *item = dense ? dense->child : NULL; item; item = item->next) {
        uint64_t layer = 0;
        if (!cohort_json_is_size(item, &layer) || layer >= COHORT_MAX_LAYERS)
            return COHORT_FAIL(COHORT_E_INVALID,
                               "%s: mlp_only_layers holds what is no layer's number",
                               source->name);
        cohort_arch_set_bit(out->dense_layers, (int32_t)layer);
    }
    return COHORT_OK;
}

static cohort_status read(const cohort_json_source *source, cohort_model_config *out) {
    bool windows = false;
    COHORT_TRY(cohort_arch_read_decoder(source, out));
    COHORT_TRY(cohort_json_bool(source, "attention_bias", false, &out->attention_bias));
    out->attention_out_bias = out->attention_bias;
    COHORT_TRY(cohort_json_bool(source, "use_sliding_window", false, &windows));
    if (windows)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "%s: use_sliding_window of Qwen3-MoE is not supported",
                           source->name);
    return read_experts(source, out);
}

extern const cohort_arch cohort_arch_qwen3_moe;
const cohort_arch cohort_arch_qwen3_moe = {
    .name = "Qwen3MoeForCausalLM",
    .model_type = "qwen3_moe",
    .positions = 32768,
    .read = read,
    .tensors = {COHORT_ARCH_DECODER_TENSORS, COHORT_ARCH_HEAD_NORMS, .router = "mlp.gate",
                .experts = "mlp.experts", .expert_gate = "gate_proj",
                .expert_up = "up_proj", .expert_down = "down_proj"},
    .activation = COHORT_SILU};
