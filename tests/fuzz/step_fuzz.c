/* SPDX-License-Identifier: Apache-2.0 */
/* Steps, their masks and their outputs: what is accepted can be read through to its end,
 * and encodes to the same bytes, padding aside. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "wire/step.h"

bool fuzz_is_valid;

static uint64_t read_bytes(const void *bytes, size_t size) {
    uint64_t sum = 0;
    for (size_t i = 0; i < size; i++)
        sum += ((const uint8_t *)bytes)[i];
    return sum;
}

static uint64_t read_step(const cohort_step *step) {
    uint64_t sum = read_bytes(step->finished, step->n_finished * sizeof *step->finished);
    for (uint32_t i = 0; i < step->n_requests; i++) {
        const cohort_step_request *request = &step->requests[i];
        const cohort_sampling_params *sampling = &request->sampling;
        sum += read_bytes(request->tokens, request->n_tokens * sizeof *request->tokens);
        sum += read_bytes(sampling->bias, sampling->n_bias * sizeof *sampling->bias);
        sum += read_bytes(sampling->stop_tokens,
                          sampling->n_stop_tokens * sizeof *sampling->stop_tokens);
        sum += read_bytes(sampling->bad_word_ids,
                          sampling->n_bad_word_ids * sizeof *sampling->bad_word_ids);
        sum += read_bytes(sampling->logprob_token_ids,
                          sampling->n_logprob_token_ids *
                              sizeof *sampling->logprob_token_ids);
        sum += read_bytes(request->allowed.words,
                          request->allowed.n_words * sizeof *request->allowed.words);
    }
    for (uint32_t i = 0; i < step->n_entries; i++) {
        const cohort_step_entry *entry = &step->entries[i];
        sum += read_bytes(entry->new_tokens,
                          entry->n_new_tokens * sizeof *entry->new_tokens);
        sum += read_bytes(entry->new_blocks,
                          entry->n_new_blocks * sizeof *entry->new_blocks);
    }
    return sum;
}

static uint64_t read_masks(const cohort_step_masks *masks) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < masks->n_masks; i++)
        sum += read_bytes(masks->masks[i].words,
                          masks->masks[i].n_words * sizeof *masks->masks[i].words);
    return sum;
}

static uint64_t read_output(const cohort_step_output *output) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < output->n_results; i++)
        for (uint32_t p = 0; p < output->results[i].n_positions; p++) {
            const cohort_position_logprobs *position = &output->results[i].positions[p];
            sum += read_bytes(position->entries, position->n * sizeof *position->entries);
        }
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static cohort_step_view step;
    static cohort_step_masks_view masks;
    static cohort_step_output_view output;
    static volatile uint64_t sum;
    (void)sum; /* keeps the reads */
    uint8_t *bytes = malloc(size + 1), *again = malloc(size + 1);
    memcpy(bytes, data, size);
    size_t encoded = SIZE_MAX;
    if (cohort_step_decode(bytes, size, &step) == COHORT_OK) {
        sum = read_step(&step.step);
        encoded = cohort_step_encoded_bytes(&step.step);
        if (encoded != size) abort();
        cohort_step_encode(&step.step, again);
        if (cohort_step_decode(again, size, &step) != COHORT_OK) abort();
    }
    if (cohort_step_masks_decode(bytes, size, &masks) == COHORT_OK) {
        sum = read_masks(&masks.masks);
        encoded = cohort_step_masks_encoded_bytes(&masks.masks);
        if (encoded != size) abort();
        cohort_step_masks_encode(&masks.masks, again);
        if (cohort_step_masks_decode(again, size, &masks) != COHORT_OK) abort();
    }
    if (cohort_step_output_decode(bytes, size, &output) == COHORT_OK) {
        sum = read_output(&output.output);
        encoded = cohort_step_output_encoded_bytes(&output.output);
        if (encoded != size) abort();
        cohort_step_output_encode(&output.output, again);
        if (cohort_step_output_decode(again, size, &output) != COHORT_OK) abort();
    }
    fuzz_is_valid = encoded != SIZE_MAX;
    free(bytes);
    free(again);
    return 0;
}
