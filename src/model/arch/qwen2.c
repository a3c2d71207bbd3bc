/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fail.h"
#include "model/arch/arch.h"

static cohort_status read(const cohort_json_source *source, cohort_model_config *out) {
    COHORT_TRY(cohort_arch_read_decoder(source, out));
    out->attention_bias = true;
    return cohort_arch_read_windows(source, out);
}

extern const cohort_arch cohort_arch_qwen2;
const cohort_arch cohort_arch_qwen2 = {.name = "Qwen2ForCausalLM",
                                       .model_type = "qwen2",
                                       .positions = 32768,
                                       .read = read,
                                       .tensors = {COHORT_ARCH_DECODER_TENSORS},
                                       .activation = COHORT_SILU};
