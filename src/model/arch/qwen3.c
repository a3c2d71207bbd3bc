/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fail.h"
#include "model/arch/arch.h"

static cohort_status read(const cohort_json_source *source, cohort_model_config *out) {
    COHORT_TRY(cohort_arch_read_decoder(source, out));
    COHORT_TRY(cohort_json_bool(source, "attention_bias", false, &out->attention_bias));
    out->attention_out_bias = out->attention_bias;
    return cohort_arch_read_windows(source, out);
}

extern const cohort_arch cohort_arch_qwen3;
const cohort_arch cohort_arch_qwen3 = {
    .name = "Qwen3ForCausalLM",
    .model_type = "qwen3",
    .positions = 32768,
    .read = read,
    .tensors = {COHORT_ARCH_DECODER_TENSORS, COHORT_ARCH_HEAD_NORMS},
    .activation = COHORT_SILU};
