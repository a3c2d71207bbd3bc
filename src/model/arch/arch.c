/* SPDX-License-Identifier: Apache-2.0 */
#include "model/arch/arch.h"

#include <string.h>

extern const cohort_arch cohort_arch_llama, cohort_arch_mistral, cohort_arch_opt,
    cohort_arch_qwen2, cohort_arch_qwen3, cohort_arch_qwen3_moe;

static const cohort_arch *const all[] = {
    &cohort_arch_llama, &cohort_arch_mistral, &cohort_arch_opt,
    &cohort_arch_qwen2, &cohort_arch_qwen3,   &cohort_arch_qwen3_moe,
};

const cohort_arch *cohort_arch_find(const char *name) {
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strcmp(name, all[i]->name) == 0 ||
            (all[i]->alias && strcmp(name, all[i]->alias) == 0))
            return all[i];
    return NULL;
}

const cohort_arch *cohort_arch_of_type(const char *model_type) {
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strcmp(model_type, all[i]->model_type) == 0) return all[i];
    return NULL;
}
