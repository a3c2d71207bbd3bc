/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/step.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"

/* A step with something of everything: odd counts, so that padding matters. */
static const int32_t prompt[] = {5, 7, 11, 13, 17};
static const cohort_token_bias bias[] = {{3, 1.5f}, {900, -100.0f}, {4, 0.25f}};
static const int32_t stops[] = {2};
static const int32_t fresh[] = {42};
static const int32_t blocks[] = {9, 8, 1};
static const uint32_t finished[] = {3, 1, 6};

static const int32_t bad_words[] = {1, 7, 2, 7, 8};
static const int32_t wanted[] = {5, 4, 3, 2, 1};
static const uint32_t allowed[] = {0xfffffffe, 3};

static const cohort_step_request requests[] = {
    {
        .request_id = UINT64_C(0x123456789abcdef0),
        .slot = 2,
        .n_prompt_tokens = 4,
        .n_tokens = 5,
        .tokens = prompt,
        .sampling =
            {
                .temperature = 0.7f,
                .top_p = 0.9f,
                .min_p = 0.05f,
                .top_k = 40,
                .repetition_penalty = 1.1f,
                .presence_penalty = -0.5f,
                .frequency_penalty = 0.25f,
                .min_tokens = 3,
                .seed = UINT64_MAX - 1,
                .n_logprobs = 5,
                .n_prompt_logprobs = 0,
                .n_bias = 3,
                .n_stop_tokens = 1,
                .n_bad_word_ids = 5,
                .n_logprob_token_ids = 5,
                .bias = bias,
                .stop_tokens = stops,
                .bad_word_ids = bad_words,
                .logprob_token_ids = wanted,
            },
        .allowed = {2, allowed},
    },
    {
        .request_id = 1,
        .slot = 0,
        .n_prompt_tokens = 1,
        .n_tokens = 1,
        .tokens = prompt,
        .sampling = {.top_p = 1,
                     .repetition_penalty = 1,
                     .n_logprobs = -1,
                     .n_prompt_logprobs = -1},
    },
};
static const cohort_step_entry entries[] = {
    {.slot = 2,
     .flags = COHORT_ENTRY_SAMPLE | COHORT_ENTRY_MASKED,
     .n_scheduled_tokens = 5,
     .n_new_blocks = 3,
     .new_blocks = blocks},
    {.slot = 5,
     .n_computed_tokens = 31,
     .n_scheduled_tokens = 1,
     .n_new_tokens = 1,
     .new_tokens = fresh},
};
static const cohort_step step = {.n_finished = 3,
                                 .n_requests = 2,
                                 .n_entries = 2,
                                 .finished = finished,
                                 .requests = requests,
                                 .entries = entries};

static const uint32_t mask_words[] = {UINT32_MAX, 0, 0x80000001};
static const cohort_step_mask mask[] = {
    {.entry = 0, .n_words = 3, .words = mask_words},
    {.entry = 7, .n_words = 1, .words = mask_words + 2}};
static const cohort_step_masks masks = {.n_masks = 2, .masks = mask};

static const cohort_token_logprob logprobs[] = {
    {7, -0.5f, 2}, {9, -0.25f, 1}, {1, -9, 3}};
static const cohort_position_logprobs positions[] = {
    {.position = 4, .n = 3, .entries = logprobs},
    {.position = 5, .n = 1, .entries = logprobs + 2},
};
static const cohort_step_result results[] = {
    {.request_id = 77,
     .slot = 2,
     .token_id = 7,
     .n_positions = 2,
     .positions = positions},
    {.request_id = 78, .slot = 5, .token_id = -1},
};
static const cohort_step_output output = {.n_results = 2, .results = results};

static void *encoded_step(const cohort_step *from, size_t *out_size) {
    *out_size = cohort_step_encoded_bytes(from);
    void *bytes = malloc(*out_size);
    assert_non_null(bytes);
    cohort_step_encode(from, bytes);
    return bytes;
}

static void *encoded_masks(const cohort_step_masks *from, size_t *out_size) {
    *out_size = cohort_step_masks_encoded_bytes(from);
    void *bytes = malloc(*out_size);
    assert_non_null(bytes);
    cohort_step_masks_encode(from, bytes);
    return bytes;
}

static void *encoded_output(const cohort_step_output *from, size_t *out_size) {
    *out_size = cohort_step_output_encoded_bytes(from);
    void *bytes = malloc(*out_size);
    assert_non_null(bytes);
    cohort_step_output_encode(from, bytes);
    return bytes;
}

static void step_comes_back_as_it_went(void **state) {
    (void)state;
    size_t size;
    void *bytes = encoded_step(&step, &size);
    assert_int_equal(size % 8, 0);
    cohort_step_view view = {0};
    assert_int_equal(cohort_step_decode(bytes, size, &view), COHORT_OK);
    const cohort_step *got = &view.step;
    assert_int_equal(got->n_finished, 3);
    assert_memory_equal(got->finished, finished, sizeof finished);
    assert_int_equal(got->n_requests, 2);
    for (uint32_t i = 0; i < 2; i++) {
        cohort_step_request a = got->requests[i], b = requests[i];
        assert_int_equal(a.n_tokens, b.n_tokens);
        assert_memory_equal(a.tokens, b.tokens, b.n_tokens * sizeof *b.tokens);
        if (b.sampling.n_bias)
            assert_memory_equal(a.sampling.bias, b.sampling.bias,
                                b.sampling.n_bias * sizeof *bias);
        if (b.sampling.n_stop_tokens)
            assert_memory_equal(a.sampling.stop_tokens, b.sampling.stop_tokens,
                                b.sampling.n_stop_tokens * sizeof *stops);
        if (b.sampling.n_bad_word_ids)
            assert_memory_equal(a.sampling.bad_word_ids, bad_words, sizeof bad_words);
        if (b.sampling.n_logprob_token_ids)
            assert_memory_equal(a.sampling.logprob_token_ids, wanted, sizeof wanted);
        assert_int_equal(a.allowed.n_words, b.allowed.n_words);
        if (b.allowed.n_words)
            assert_memory_equal(a.allowed.words, allowed, sizeof allowed);
        assert_int_equal(a.request_id, b.request_id);
        assert_int_equal(a.slot, b.slot);
        assert_int_equal(a.n_prompt_tokens, b.n_prompt_tokens);
        /* All before the pointers. */
        assert_memory_equal(&a.sampling, &b.sampling,
                            offsetof(cohort_sampling_params, n_logprob_token_ids) +
                                sizeof a.sampling.n_logprob_token_ids);
    }
    assert_int_equal(got->n_entries, 2);
    for (uint32_t i = 0; i < 2; i++) {
        cohort_step_entry a = got->entries[i], b = entries[i];
        if (b.n_new_tokens)
            assert_memory_equal(a.new_tokens, b.new_tokens, b.n_new_tokens * 4);
        if (b.n_new_blocks)
            assert_memory_equal(a.new_blocks, b.new_blocks, b.n_new_blocks * 4);
        a.new_tokens = b.new_tokens;
        a.new_blocks = b.new_blocks;
        assert_memory_equal(&a, &b, sizeof a);
    }
    cohort_step_view_deinit(&view);
    free(bytes);
}

static void masks_come_back_as_they_went(void **state) {
    (void)state;
    size_t size;
    void *bytes = encoded_masks(&masks, &size);
    cohort_step_masks_view view = {0};
    assert_int_equal(cohort_step_masks_decode(bytes, size, &view), COHORT_OK);
    assert_int_equal(view.masks.n_masks, 2);
    for (uint32_t i = 0; i < 2; i++) {
        const cohort_step_mask *got = &view.masks.masks[i];
        assert_int_equal(got->entry, mask[i].entry);
        assert_int_equal(got->n_words, mask[i].n_words);
        assert_memory_equal(got->words, mask[i].words, mask[i].n_words * 4);
    }
    free(bytes);
    const cohort_step_mask turned[] = {mask[1], mask[0]};
    bytes = encoded_masks(&(cohort_step_masks){2, turned}, &size);
    assert_int_equal(cohort_step_masks_decode(bytes, size, &view), COHORT_E_PROTOCOL);
    cohort_step_masks_view_deinit(&view);
    free(bytes);
}

/* What is sampled under a mask is sampled. */
static void a_masked_entry_samples(void **state) {
    (void)state;
    size_t size;
    cohort_step_entry entry = entries[0];
    entry.flags = COHORT_ENTRY_MASKED;
    void *bytes = encoded_step(&(cohort_step){.n_entries = 1, .entries = &entry}, &size);
    cohort_step_view view = {0};
    assert_int_equal(cohort_step_decode(bytes, size, &view), COHORT_E_PROTOCOL);
    assert_non_null(strstr(cohort_last_error()->message, "flags"));
    cohort_step_view_deinit(&view);
    free(bytes);
}

static void sizes_are_known_beforehand(void **state) {
    (void)state;
    cohort_step bare = step;
    bare.n_requests = 0;
    size_t bare_bytes = cohort_step_encoded_bytes(&bare);
    assert_int_equal(cohort_step_encoded_bytes(&step) - bare_bytes,
                     cohort_step_request_bytes(&requests[0]) +
                         cohort_step_request_bytes(&requests[1]));
    size_t most = cohort_step_entries_bytes(3, 3);
    assert_in_range(bare_bytes, most / 2, most);
    most = cohort_step_masks_bytes(2, 3);
    assert_in_range(cohort_step_masks_encoded_bytes(&masks), most / 2, most);
    most = cohort_step_results_bytes(2, 2, 2);
    assert_in_range(cohort_step_output_encoded_bytes(&output), most / 2, most);
}

static void output_comes_back_as_it_went(void **state) {
    (void)state;
    size_t size;
    void *bytes = encoded_output(&output, &size);
    cohort_step_output_view view = {0};
    assert_int_equal(cohort_step_output_decode(bytes, size, &view), COHORT_OK);
    assert_int_equal(view.output.n_results, 2);
    const cohort_step_result *first = &view.output.results[0];
    assert_int_equal(first->request_id, 77);
    assert_int_equal(first->slot, 2);
    assert_int_equal(first->token_id, 7);
    assert_int_equal(first->n_positions, 2);
    assert_int_equal(first->positions[0].position, 4);
    assert_int_equal(first->positions[0].n, 3);
    assert_memory_equal(first->positions[0].entries, logprobs, sizeof logprobs);
    assert_int_equal(first->positions[1].position, 5);
    assert_memory_equal(first->positions[1].entries, logprobs + 2, sizeof *logprobs);
    assert_int_equal(view.output.results[1].token_id, -1);
    assert_int_equal(view.output.results[1].n_positions, 0);
    cohort_step_output_view_deinit(&view);
    free(bytes);
}

static void empty_messages_are_messages(void **state) {
    (void)state;
    size_t size;
    cohort_step_view view = {0};
    void *bytes = encoded_step(&(cohort_step){0}, &size);
    assert_int_equal(cohort_step_decode(bytes, size, &view), COHORT_OK);
    assert_int_equal(view.step.n_entries, 0);
    cohort_step_view_deinit(&view);
    free(bytes);
    cohort_step_output_view outputs = {0};
    bytes = encoded_output(&(cohort_step_output){0}, &size);
    assert_int_equal(cohort_step_output_decode(bytes, size, &outputs), COHORT_OK);
    assert_int_equal(outputs.output.n_results, 0);
    cohort_step_output_view_deinit(&outputs);
    free(bytes);
}

/* Cut anywhere, and with the length in the header set right for the cut. */
static void every_cut_is_refused(void **state) {
    (void)state;
    size_t size;
    uint8_t *bytes = encoded_step(&step, &size);
    cohort_step_view view = {0};
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *part = malloc(cut + 1); /* exactly as long, so that ASan sees overruns */
        memcpy(part, bytes, cut);
        assert_int_equal(cohort_step_decode(part, cut, &view), COHORT_E_PROTOCOL);
        uint64_t said = cut;
        if (cut >= 16) memcpy(part + 8, &said, sizeof said);
        assert_int_equal(cohort_step_decode(part, cut, &view), COHORT_E_PROTOCOL);
        free(part);
    }
    free(bytes);
    cohort_step_view_deinit(&view);
    bytes = encoded_output(&output, &size);
    cohort_step_output_view outputs = {0};
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *part = malloc(cut + 1);
        memcpy(part, bytes, cut);
        uint64_t said = cut;
        if (cut >= 16) memcpy(part + 8, &said, sizeof said);
        assert_int_equal(cohort_step_output_decode(part, cut, &outputs),
                         COHORT_E_PROTOCOL);
        free(part);
    }
    /* Nor is one that is longer than it says, or says that it is. */
    bytes = realloc(bytes, size + 8);
    memset(bytes + size, 0, 8);
    assert_int_equal(cohort_step_output_decode(bytes, size + 8, &outputs),
                     COHORT_E_PROTOCOL);
    uint64_t longer = size + 8;
    memcpy(bytes + 8, &longer, sizeof longer);
    assert_int_equal(cohort_step_output_decode(bytes, size + 8, &outputs),
                     COHORT_E_PROTOCOL);
    free(bytes);
    cohort_step_output_view_deinit(&outputs);
    bytes = encoded_masks(&masks, &size);
    cohort_step_masks_view masked = {0};
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *part = malloc(cut + 1);
        memcpy(part, bytes, cut);
        uint64_t said = cut;
        if (cut >= 16) memcpy(part + 8, &said, sizeof said);
        assert_int_equal(cohort_step_masks_decode(part, cut, &masked), COHORT_E_PROTOCOL);
        free(part);
    }
    free(bytes);
    cohort_step_masks_view_deinit(&masked);
}

/* Any bytes may change: the decoder answers, and what it accepts can be read. */
static void changed_bytes_never_crash(void **state) {
    (void)state;
    size_t size;
    uint8_t *bytes = encoded_step(&step, &size), *changed = malloc(size);
    cohort_step_view view = {0};
    int refused = 0;
    for (uint64_t round = 0; round < 20000; round++) {
        memcpy(changed, bytes, size);
        for (uint64_t i = 0; i < 1 + round % 3; i++)
            changed[cohort_random_u64(round, 2 * i) % size] =
                (uint8_t)cohort_random_u64(round, 2 * i + 1);
        if (cohort_step_decode(changed, size, &view) < 0) {
            refused++;
            continue;
        }
        for (uint32_t i = 0; i < view.step.n_requests; i++)
            assert_true(view.step.requests[i].sampling.n_bias <= COHORT_MAX_LOGIT_BIAS);
    }
    assert_true(refused > 100);
    cohort_step_view_deinit(&view);
    free(changed);
    free(bytes);
}

static void refuse(cohort_step_request request, const char *word) {
    size_t size;
    cohort_step_view view = {0};
    void *bytes =
        encoded_step(&(cohort_step){.n_requests = 1, .requests = &request}, &size);
    assert_int_equal(cohort_step_decode(bytes, size, &view), COHORT_E_PROTOCOL);
    if (!strstr(cohort_last_error()->message, word))
        fail_msg("'%s' lacks '%s'", cohort_last_error()->message, word);
    cohort_step_view_deinit(&view);
    free(bytes);
}

static void values_out_of_range_are_refused_by_name(void **state) {
    (void)state;
    cohort_step_request request = requests[1];
    request.sampling.temperature = NAN;
    refuse(request, "temperature");
    request = requests[1];
    request.sampling.top_p = 1.5f;
    refuse(request, "top_p");
    request = requests[1];
    request.sampling.repetition_penalty = 0;
    refuse(request, "repetition_penalty");
    request = requests[1];
    request.sampling.n_logprobs = COHORT_MAX_LOGPROBS + 1;
    refuse(request, "logprobs");
    request = requests[1];
    request.n_prompt_tokens = 2;
    refuse(request, "n_prompt_tokens");
    const cohort_token_bias infinite = {1, INFINITY};
    request = requests[1];
    request.sampling.n_bias = 1;
    request.sampling.bias = &infinite;
    refuse(request, "bias");
    request = requests[1];
    request.sampling.n_logprobs = 4;
    request.sampling.n_logprob_token_ids = 5;
    request.sampling.logprob_token_ids = wanted;
    refuse(request, "logprobs");
    static const int32_t words[][3] = {{3, 1, 1}, {1, 1, 1}, {0, 1, 1}, {-1, 1, 1}};
    for (size_t i = 0; i < 4; i++) {
        request = requests[1];
        request.sampling.n_bad_word_ids = 3;
        request.sampling.bad_word_ids = words[i];
        refuse(request, "bad word");
    }
}

static void other_messages_and_versions_are_refused(void **state) {
    (void)state;
    size_t size;
    cohort_step_view view = {0};
    cohort_step_output_view outputs = {0};
    uint8_t *bytes = encoded_step(&step, &size);
    assert_int_equal(cohort_step_output_decode(bytes, size, &outputs), COHORT_E_PROTOCOL);
    assert_non_null(strstr(cohort_last_error()->message, "magic"));
    bytes[4]++;
    assert_int_equal(cohort_step_decode(bytes, size, &view), COHORT_E_PROTOCOL);
    assert_non_null(strstr(cohort_last_error()->message, "version"));
    free(bytes);
    cohort_step_view_deinit(&view);
    cohort_step_output_view_deinit(&outputs);
}

/* Every bit of magic, version and size, of each kind of message. */
static void heads_are_checked_in_every_message(void **state) {
    (void)state;
    enum { HEAD_BYTES = 16 };
    size_t sizes[3];
    uint8_t *messages[] = {encoded_step(&step, &sizes[0]),
                           encoded_masks(&masks, &sizes[1]),
                           encoded_output(&output, &sizes[2])};
    cohort_step_view view = {0};
    cohort_step_masks_view masked = {0};
    cohort_step_output_view outputs = {0};
    for (int kind = 0; kind < 3; kind++) {
        for (int bit = 0; bit < HEAD_BYTES * 8; bit++) {
            uint8_t *bytes = messages[kind];
            bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
            cohort_status status =
                kind == 0   ? cohort_step_decode(bytes, sizes[0], &view)
                : kind == 1 ? cohort_step_masks_decode(bytes, sizes[1], &masked)
                            : cohort_step_output_decode(bytes, sizes[2], &outputs);
            assert_int_equal(status, COHORT_E_PROTOCOL);
            bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        free(messages[kind]);
    }
    cohort_step_view_deinit(&view);
    cohort_step_masks_view_deinit(&masked);
    cohort_step_output_view_deinit(&outputs);
}

/* Nothing of what a buffer held goes out: padding is zeros. */
static void no_byte_of_a_message_is_of_its_buffer(void **state) {
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        size_t size = kind == 0   ? cohort_step_encoded_bytes(&step)
                      : kind == 1 ? cohort_step_masks_encoded_bytes(&masks)
                                  : cohort_step_output_encoded_bytes(&output);
        uint8_t *copies[2];
        for (int i = 0; i < 2; i++) {
            copies[i] = malloc(size);
            assert_non_null(copies[i]);
            memset(copies[i], i ? 0xaa : 0x55, size);
            if (kind == 0)
                cohort_step_encode(&step, copies[i]);
            else if (kind == 1)
                cohort_step_masks_encode(&masks, copies[i]);
            else
                cohort_step_output_encode(&output, copies[i]);
        }
        assert_memory_equal(copies[0], copies[1], size);
        free(copies[0]);
        free(copies[1]);
    }
}

/* The step path must not allocate: storage grows once and is kept. */
static void storage_is_kept_between_messages(void **state) {
    (void)state;
    size_t size;
    void *bytes = encoded_step(&step, &size);
    cohort_step_view view = {0};
    assert_int_equal(cohort_step_decode(bytes, size, &view), COHORT_OK);
    void *storage = view.storage;
    for (int i = 0; i < 10; i++) {
        assert_int_equal(cohort_step_decode(bytes, size, &view), COHORT_OK);
        assert_ptr_equal(view.storage, storage);
    }
    cohort_step_view_deinit(&view);
    free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(step_comes_back_as_it_went),
        cmocka_unit_test(masks_come_back_as_they_went),
        cmocka_unit_test(a_masked_entry_samples),
        cmocka_unit_test(sizes_are_known_beforehand),
        cmocka_unit_test(output_comes_back_as_it_went),
        cmocka_unit_test(empty_messages_are_messages),
        cmocka_unit_test(every_cut_is_refused),
        cmocka_unit_test(changed_bytes_never_crash),
        cmocka_unit_test(values_out_of_range_are_refused_by_name),
        cmocka_unit_test(other_messages_and_versions_are_refused),
        cmocka_unit_test(heads_are_checked_in_every_message),
        cmocka_unit_test(no_byte_of_a_message_is_of_its_buffer),
        cmocka_unit_test(storage_is_kept_between_messages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
