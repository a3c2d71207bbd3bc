/* SPDX-License-Identifier: Apache-2.0 */
/* The header of a safetensors file; what is accepted must lie within the file. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "model/safetensors.h"

bool fuzz_is_valid;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    cohort_tensor_list list;
    if (cohort_safetensors_parse(data, size, size, "fuzz.safetensors", 0, &list) < 0)
        return 0;
    fuzz_is_valid = true;
    uint64_t sum = 0;
    for (size_t i = 0; i < list.n_tensors; i++) {
        const cohort_tensor *tensor = &list.tensors[i];
        if (tensor->begin > tensor->end || tensor->end > size) abort();
        for (uint64_t j = tensor->begin; j < tensor->end; j++)
            sum += data[j];
    }
    __asm__ volatile("" : : "r"(sum)); /* keeps the reads */
    cohort_tensor_list_deinit(&list);
    return 0;
}
