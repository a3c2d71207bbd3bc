/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fail.h"
#include "model/arch/arch.h"

static cohort_status read(const cohort_json_source *source, cohort_model_config *out) {
    COHORT_TRY(cohort_arch_read_decoder(source, out));
    COHORT_TRY(cohort_json_bool(source, "attention_bias", false, &out->attention_bias));
    out->attention_out_bias = out->attention_bias;
    return cohort_json_bool(source, "mlp_bias", false, &out->mlp_bias);
}

extern const cohort_arch cohort_arch_llama;
const cohort_arch cohort_arch_llama = {.name = "LlamaForCausalLM",
                                       .alias = "LLaMAForCausalLM",
                                       .model_type = "llama",
                                       .positions = 2048,
                                       .read = read,
                                       .tensors = {COHORT_ARCH_DECODER_TENSORS},
                                       .activation = COHORT_SILU};
