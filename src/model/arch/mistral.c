/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fail.h"
#include "model/arch/arch.h"

/* The window holds for all layers, and is 4096 where the key is missing, null being none.
 */
static cohort_status read(const cohort_json_source *source, cohort_model_config *out) {
    bool named =
        cJSON_GetObjectItemCaseSensitive(source->object, "sliding_window") != NULL;
    COHORT_TRY(cohort_arch_read_decoder(source, out));
    return cohort_json_int(source, "sliding_window", 1, COHORT_ARCH_MAX_POSITIONS,
                           named ? 0 : 4096, &out->sliding_window);
}

extern const cohort_arch cohort_arch_mistral;
const cohort_arch cohort_arch_mistral = {.name = "MistralForCausalLM",
                                         .model_type = "mistral",
                                         .positions = 131072,
                                         .read = read,
                                         .tensors = {COHORT_ARCH_DECODER_TENSORS},
                                         .activation = COHORT_SILU};
