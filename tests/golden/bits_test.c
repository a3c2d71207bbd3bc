/* SPDX-License-Identifier: Apache-2.0 */
/* A sequence's bits depend on nothing but itself: the same tokens and logprobs, bit for
 * bit, alone, with 32 others, in chunks of any size, and computed anew after a
 * preemption; on every set of kernels that runs here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "cohort/clock.h"
#include "cohort/engine.h"

enum {
    TOGETHER = 33,
    NEW_TOKENS = 10,
    TOP = 5,
    PROMPT_MOST = 508,
    LONG = 20,
    VOCAB = 1024
};

/* What one request answers: tokens, and logits' worth of each. */
struct answer {
    int32_t n_tokens;
    int32_t tokens[NEW_TOKENS];
    cohort_token_logprob logprobs[NEW_TOKENS][1 + TOP];
};

/* One way to run them. */
struct way {
    const char *name;
    int32_t max_num_seqs, max_num_batched_tokens;
    int64_t num_blocks; /* of 16 tokens */
};

static const struct way alone = {"alone", 1, 2048, 200};
static const struct way ways[] = {
    {"together", TOGETHER, 8192, 600},
    {"one token at a time", 1, 1, 200},
    {"together in chunks of 7", TOGETHER, 40, 600},
    {"in chunks of 65", 3, 65, 200},
    {"preempted", TOGETHER, 512, 36},
};
enum { WAYS = sizeof ways / sizeof *ways };

/* Lengths around the tile of the cache, 64 tokens, and its group, 16; a long one goes on
 * in a second part, of 512. */
static int32_t prompt_length(int32_t i) {
    static const int32_t lengths[] = {1, 15, 16, 17, 31, 63, 64, 65, 97, 128, 150};
    if (i == LONG) return PROMPT_MOST;
    return lengths[i % (int32_t)(sizeof lengths / sizeof *lengths)];
}

static cohort_engine *start(const char *model, const char *isa, const struct way *way) {
    char dir[512];
    cohort_engine_options options = cohort_engine_defaults();
    snprintf(dir, sizeof dir, "%s/tests/golden/%s", COHORT_SOURCE_DIR, model);
    options.executor.backend = "uni";
    options.model = dir;
    options.isa = isa;
    options.max_num_seqs = way->max_num_seqs;
    options.max_num_batched_tokens = way->max_num_batched_tokens;
    options.num_blocks = way->num_blocks;
    options.max_model_len = PROMPT_MOST + NEW_TOKENS;
    options.kv_cache_memory_bytes = 16 << 20;
    options.cpu_threads_bind = "nobind"; /* other tests run beside this one */
    options.skip_tokenizer_init = true;
    cohort_engine *engine;
    if (cohort_engine_start(&options, &engine) < 0) {
        const char *message = cohort_last_error()->message;
        if (strstr(message, "this CPU has no")) return NULL;
        fail_msg("%s on %s, %s: %s", model, isa, way->name, message);
    }
    return engine;
}

static void submit(cohort_engine *engine, int32_t i) {
    int32_t prompt[PROMPT_MOST], n = prompt_length(i);
    cohort_request request = cohort_engine_request_defaults(engine);
    cohort_request_id id;
    for (int32_t t = 0; t < n; t++)
        prompt[t] =
            (int32_t)(cohort_random_u64((uint64_t)i, (uint64_t)t) % (VOCAB - 8)) + 8;
    request.prompt_token_ids = prompt;
    request.n_prompt_token_ids = (size_t)n;
    request.sampling = cohort_sampling_defaults();
    request.sampling.temperature = 0.7f;
    request.sampling.top_p = 0.9f;
    request.sampling.seed = 100 + (uint64_t)i;
    request.sampling.n_logprobs = TOP;
    request.has_seed = true;
    request.max_tokens = NEW_TOKENS;
    request.ignore_eos = true;
    if (cohort_engine_submit(engine, &request, &id) < 0)
        fail_msg("%s", cohort_last_error()->message);
    assert_int_equal(id.value, i + 1);
}

static void take(const cohort_completion *completion, struct answer *answers) {
    struct answer *answer = &answers[completion->request_id.value - 1];
    for (int32_t t = 0; t < completion->n_token_ids; t++) {
        assert_true(answer->n_tokens < NEW_TOKENS);
        assert_int_equal(completion->logprobs[t].n, 1 + TOP);
        memcpy(answer->logprobs[answer->n_tokens], completion->logprobs[t].entries,
               sizeof answer->logprobs[0]);
        answer->tokens[answer->n_tokens++] = completion->token_ids[t];
    }
}

/* Returns how often a request lost its blocks. */
static uint64_t run(cohort_engine *engine, struct answer *answers) {
    memset(answers, 0, TOGETHER * sizeof *answers);
    for (int32_t i = 0; i < TOGETHER; i++)
        submit(engine, i);
    while (cohort_engine_has_unfinished(engine)) {
        cohort_engine_outputs outputs;
        if (cohort_engine_step(engine, cohort_deadline_ms(60000), &outputs) != COHORT_OK)
            fail_msg("%s", cohort_last_error()->message);
        for (size_t i = 0; i < outputs.n_completions; i++)
            take(&outputs.completions[i], answers);
    }
    cohort_engine_stats stats;
    cohort_engine_get_stats(engine, &stats);
    return stats.n_preemptions;
}

static void compare(const char *model, const char *isa, const struct way *way,
                    const struct answer *expected, const struct answer *got) {
    for (int32_t i = 0; i < TOGETHER; i++) {
        assert_int_equal(expected[i].n_tokens, NEW_TOKENS);
        if (memcmp(&expected[i], &got[i], sizeof *got))
            fail_msg("%s on %s, %s: request %d (%d tokens) differs from itself alone",
                     model, isa, way->name, i, prompt_length(i));
    }
}

/* Every set of kernels runs every way with every model.  Under a sanitizer, where each
 * takes many times as long and shows the same again, it is every other set, one way each:
 * all sets and all ways have their turn with some model. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { EVERY_SET = 2, EVERY_WAY = WAYS };
#else
enum { EVERY_SET = 1, EVERY_WAY = 1 };
#endif

static void check(size_t number, const char *model) {
    static const char *const sets[] = {"portable", "avx2", "avx512", "avx512_bf16",
                                       "amx"};
    static struct answer expected[TOGETHER], got[TOGETHER];
    for (size_t s = number % EVERY_SET; s < sizeof sets / sizeof *sets; s += EVERY_SET) {
        cohort_engine *engine = start(model, sets[s], &alone);
        if (!engine) continue; /* not here */
        run(engine, expected);
        cohort_engine_destroy(engine);
        for (size_t w = (number + 2 * s) % EVERY_WAY; w < WAYS; w += EVERY_WAY) {
            engine = start(model, sets[s], &ways[w]);
            assert_non_null(engine);
            uint64_t n_preemptions = run(engine, got);
            if (!strcmp(ways[w].name, "preempted")) assert_true(n_preemptions > 0);
            cohort_engine_destroy(engine);
            compare(model, sets[s], &ways[w], expected, got);
        }
    }
}

static void bits_of_f32_are_its_own(void **state) {
    (void)state;
    check(0, "qwen3-float32");
}

static void bits_of_bf16_are_its_own(void **state) {
    (void)state;
    check(1, "llama-bfloat16");
}

static void bits_of_experts_are_its_own(void **state) {
    (void)state;
    check(2, "qwen3_moe-float32");
}

static void bits_of_a_window_are_its_own(void **state) {
    (void)state;
    check(3, "mistral_swa-float32");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bits_of_f32_are_its_own),
        cmocka_unit_test(bits_of_bf16_are_its_own),
        cmocka_unit_test(bits_of_experts_are_its_own),
        cmocka_unit_test(bits_of_a_window_are_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
