/* SPDX-License-Identifier: Apache-2.0 */
/* engine_world.h - engines of a small model, and what they answer. */
#ifndef ENGINE_WORLD_H
#define ENGINE_WORLD_H

#include <malloc.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cohort/clock.h"
#include "cohort/engine.h"
#include "engine/engine_internal.h"
#include "worker/worker.h"
#include "worker/worker_main.h"

enum { MAX_REQUESTS = 16, MAX_N = 4, MAX_TOKENS = 256 };

#define MODEL COHORT_SOURCE_DIR "/tests/golden/llama-float32"

/* All that a completion gave, put together. */
struct answer {
    int32_t tokens[MAX_TOKENS];
    int32_t n_tokens;
    char text[4096];
    float logprobs[MAX_TOKENS];
    int32_t ranks[MAX_TOKENS];
    int32_t n_logprobs;
    float prompt_logprobs[MAX_TOKENS];
    int32_t n_prompt_logprobs;
    cohort_finish_reason reason;
    int32_t stop_token_id;
    char stop_string[64];
    int32_t n_ends, n_cached;
};

static struct answer answers[MAX_REQUESTS][MAX_N];

static inline cohort_engine_options small_options(void) {
    cohort_engine_options options = cohort_engine_defaults();
    options.executor.backend = "uni";
    options.model = MODEL;
    options.max_num_seqs = 8;
    options.max_num_batched_tokens = 64;
    options.kv_cache_memory_bytes = 16 << 20;
    options.cpu_threads_bind = "nobind";
    return options;
}

static inline cohort_engine *start(const cohort_engine_options *options) {
    cohort_engine *engine;
    if (cohort_engine_start(options, &engine) < 0)
        fail_msg("%s", cohort_last_error()->message);
    memset(answers, 0, sizeof answers);
    return engine;
}

static inline cohort_engine *start_small(void) {
    const cohort_engine_options options = small_options();
    return start(&options);
}

static const int32_t prompt[] = {17, 301, 45, 722, 9, 88, 512, 33, 640, 71,
                                 5,  410, 99, 230, 7, 19, 350, 81, 900, 4};
enum { N_PROMPT = sizeof prompt / sizeof *prompt };

static inline cohort_request greedy(const cohort_engine *engine, int32_t n_prompt,
                                    int32_t max_tokens) {
    cohort_request request = cohort_engine_request_defaults(engine);
    request.sampling = cohort_sampling_defaults();
    request.sampling.temperature = 0;
    request.prompt_token_ids = prompt;
    request.n_prompt_token_ids = (size_t)n_prompt;
    request.max_tokens = max_tokens;
    request.ignore_eos = true;
    return request;
}

static inline uint64_t submit(cohort_engine *engine, const cohort_request *request) {
    cohort_request_id id;
    if (cohort_engine_submit(engine, request, &id) < 0)
        fail_msg("%s", cohort_last_error()->message);
    assert_true(id.value < MAX_REQUESTS);
    return id.value;
}

static inline void take(const cohort_completion *completion) {
    struct answer *answer = &answers[completion->request_id.value][completion->index];
    assert_int_equal(answer->n_ends, 0); /* nothing comes after the end */
    for (int32_t i = 0; i < completion->n_token_ids; i++) {
        if (completion->logprobs) {
            answer->logprobs[answer->n_logprobs] =
                completion->logprobs[i].entries[0].logprob;
            assert_int_equal(completion->logprobs[i].entries[0].token_id,
                             completion->token_ids[i]);
            answer->ranks[answer->n_logprobs++] = completion->logprobs[i].entries[0].rank;
        }
        answer->tokens[answer->n_tokens++] = completion->token_ids[i];
    }
    for (int32_t i = 0; i < completion->n_prompt_logprobs; i++) {
        assert_int_equal(completion->prompt_logprobs[i].position, i + 1);
        answer->prompt_logprobs[answer->n_prompt_logprobs++] =
            completion->prompt_logprobs[i].entries[0].logprob;
    }
    assert_int_equal(completion->n_generated, answer->n_tokens);
    assert_true(strlen(answer->text) + completion->text_bytes < sizeof answer->text);
    strncat(answer->text, completion->text, completion->text_bytes);
    answer->n_cached = completion->n_cached_tokens;
    answer->reason = completion->finish_reason;
    answer->stop_token_id = completion->stop_token_id;
    if (completion->stop_string)
        snprintf(answer->stop_string, sizeof answer->stop_string, "%s",
                 completion->stop_string);
    answer->n_ends += completion->finish_reason != COHORT_FINISH_NONE;
}

static inline void step(cohort_engine *engine) {
    cohort_engine_outputs outputs;
    if (cohort_engine_step(engine, cohort_deadline_ms(60000), &outputs) < 0)
        fail_msg("%s", cohort_last_error()->message);
    for (size_t i = 0; i < outputs.n_completions; i++)
        take(&outputs.completions[i]);
}

static inline void run(cohort_engine *engine) {
    while (cohort_engine_has_unfinished(engine))
        step(engine);
    cohort_engine_outputs outputs;
    assert_int_equal(cohort_engine_step(engine, COHORT_NEVER, &outputs), COHORT_PENDING);
}

/* Looks at requests and sequences that it takes to cancel n requests, every other first.
 */
static inline uint64_t looks_for(uint64_t n) {
    cohort_engine *engine = start_small();
    cohort_request request = greedy(engine, N_PROMPT, 40);
    request.n = 4;
    cohort_request_id id;
    for (uint64_t i = 0; i < n; i++)
        assert_int_equal(cohort_engine_submit(engine, &request, &id), COHORT_OK);
    for (uint64_t i = 1; i <= n; i += 2)
        cohort_engine_cancel(engine, (cohort_request_id){i});
    cohort_engine_cancel_many(engine, (cohort_request_id){1}, (size_t)-1);
    cohort_engine_outputs outputs;
    assert_int_equal(cohort_engine_step(engine, COHORT_NEVER, &outputs), COHORT_OK);
    assert_int_equal(outputs.n_completions, 4 * n);
    for (size_t i = 0; i < 4 * n; i++) {
        assert_int_equal(outputs.completions[i].request_id.value, i / 4 + 1);
        assert_int_equal(outputs.completions[i].index, i % 4);
        assert_int_equal(outputs.completions[i].finish_reason, COHORT_FINISH_ABORT);
    }
    assert_false(cohort_engine_has_unfinished(engine));
    uint64_t looks = engine->by_id.n_looks;
    cohort_engine_destroy(engine);
    return looks;
}

#endif /* ENGINE_WORLD_H */
