/* SPDX-License-Identifier: Apache-2.0 */
/* The engine over a tiny model on one rank, a thread of this process. */
#include "cohort/engine.h"

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

static cohort_engine_options small_options(void) {
    cohort_engine_options options = cohort_engine_defaults();
    options.executor.backend = "uni";
    options.model = MODEL;
    options.max_num_seqs = 8;
    options.max_num_batched_tokens = 64;
    options.kv_cache_memory_bytes = 16 << 20;
    options.cpu_threads_bind = "nobind";
    return options;
}

static cohort_engine *start(const cohort_engine_options *options) {
    cohort_engine *engine;
    if (cohort_engine_start(options, &engine) < 0)
        fail_msg("%s", cohort_last_error()->message);
    memset(answers, 0, sizeof answers);
    return engine;
}

static cohort_engine *start_small(void) {
    const cohort_engine_options options = small_options();
    return start(&options);
}

static const int32_t prompt[] = {17, 301, 45, 722, 9, 88, 512, 33, 640, 71,
                                 5,  410, 99, 230, 7, 19, 350, 81, 900, 4};
enum { N_PROMPT = sizeof prompt / sizeof *prompt };

static cohort_request greedy(const cohort_engine *engine, int32_t n_prompt,
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

static uint64_t submit(cohort_engine *engine, const cohort_request *request) {
    cohort_request_id id;
    if (cohort_engine_submit(engine, request, &id) < 0)
        fail_msg("%s", cohort_last_error()->message);
    assert_true(id.value < MAX_REQUESTS);
    return id.value;
}

static void take(const cohort_completion *completion) {
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

static void step(cohort_engine *engine) {
    cohort_engine_outputs outputs;
    if (cohort_engine_step(engine, cohort_deadline_ms(60000), &outputs) < 0)
        fail_msg("%s", cohort_last_error()->message);
    for (size_t i = 0; i < outputs.n_completions; i++)
        take(&outputs.completions[i]);
}

static void run(cohort_engine *engine) {
    while (cohort_engine_has_unfinished(engine))
        step(engine);
    cohort_engine_outputs outputs;
    assert_int_equal(cohort_engine_step(engine, COHORT_NEVER, &outputs), COHORT_PENDING);
}

/* ---- text and ends ----------------------------------------------------------------- */

static void text_is_that_of_all_tokens(void **state) {
    (void)state;
    cohort_engine *engine = start_small();
    cohort_request request = greedy(engine, N_PROMPT, 60);
    uint64_t id = submit(engine, &request);
    run(engine);
    const struct answer *answer = &answers[id][0];
    char *text;
    size_t size;
    assert_int_equal(
        cohort_engine_detokenize(engine, answer->tokens, 60, true, &text, &size),
        COHORT_OK);
    assert_int_equal(answer->n_tokens, 60);
    assert_int_equal(answer->reason, COHORT_FINISH_LENGTH);
    assert_int_equal(strlen(answer->text), size);
    assert_memory_equal(answer->text, text, size);
    free(text);
    cohort_engine_destroy(engine);
}

static void a_prompt_may_be_text(void **state) {
    (void)state;
    cohort_engine *engine = start_small();
    static const char words[] = "Hello, world";
    int32_t *ids;
    size_t count;
    assert_int_equal(
        cohort_engine_tokenize(engine, words, strlen(words), true, &ids, &count),
        COHORT_OK);
    cohort_request request = greedy(engine, 0, 8);
    request.prompt_token_ids = ids;
    request.n_prompt_token_ids = count;
    uint64_t one = submit(engine, &request);
    request.prompt_token_ids = NULL;
    request.prompt = words;
    request.prompt_bytes = strlen(words);
    uint64_t two = submit(engine, &request);
    run(engine);
    assert_memory_equal(answers[one][0].tokens, answers[two][0].tokens, 8 * 4);
    free(ids);
    cohort_engine_destroy(engine);
}

/* Three bytes in the middle of what it says anyway. */
static void stop_strings_end_the_text_before_them(void **state) {
    (void)state;
    cohort_engine *engine = start_small();
    cohort_request request = greedy(engine, N_PROMPT, 60);
    uint64_t whole = submit(engine, &request);
    run(engine);
    const char *all = answers[whole][0].text;
    size_t at = strlen(all) / 2;
    while (((unsigned char)all[at] & 0xc0) == 0x80)
        at++;
    char stop[16] = "";
    strncat(stop, all + at, 3);
    size_t first = (size_t)(strstr(all, stop) - all);
    const char *const stops[] = {"\x01never said", stop};
    request.stop = stops;
    request.n_stop = 2;
    uint64_t cut = submit(engine, &request);
    request.include_stop_str_in_output = true;
    uint64_t with = submit(engine, &request);
    request.include_stop_str_in_output = false;
    request.sampling.min_tokens = 60; /* nothing can stop it then */
    uint64_t protected = submit(engine, &request);
    run(engine);
    assert_int_equal(answers[cut][0].reason, COHORT_FINISH_STOP);
    assert_string_equal(answers[cut][0].stop_string, stop);
    assert_int_equal(strlen(answers[cut][0].text), first);
    assert_memory_equal(answers[cut][0].text, all, first);
    assert_int_equal(strlen(answers[with][0].text), first + strlen(stop));
    assert_int_equal(answers[protected][0].reason, COHORT_FINISH_LENGTH);
    assert_string_equal(answers[protected][0].text, all);
    cohort_engine_destroy(engine);
}

static void stop_tokens_end_without_their_text(void **state) {
    (void)state;
    cohort_engine *engine = start_small();
    cohort_request request = greedy(engine, N_PROMPT, 20);
    uint64_t whole = submit(engine, &request);
    run(engine);
    int32_t stop = answers[whole][0].tokens[7], first = 0;
    while (answers[whole][0].tokens[first] != stop)
        first++;
    request.sampling.stop_tokens = &stop;
    request.sampling.n_stop_tokens = 1;
    uint64_t cut = submit(engine, &request);
    /* Masked until then, so that something else is said. */
    request.sampling.min_tokens = first + 2;
    uint64_t later = submit(engine, &request);
    run(engine);
    const struct answer *answer = &answers[cut][0];
    assert_int_equal(answer->reason, COHORT_FINISH_STOP);
    assert_int_equal(answer->stop_token_id, stop);
    assert_int_equal(answer->n_tokens, first + 1); /* the token itself is told */
    char *text;
    size_t size;
    cohort_engine_detokenize(engine, answer->tokens, (size_t)first, true, &text, &size);
    assert_string_equal(answer->text, text);
    free(text);
    assert_int_not_equal(answers[later][0].tokens[first], stop);
    assert_true(answers[later][0].n_tokens >= first + 2);
    cohort_engine_destroy(engine);
}

/* How a sequence ends whose first token is this one; the eos of the model's configs is 2.
 */
static struct answer end_of(cohort_engine *engine, int32_t token) {
    cohort_request request = greedy(engine, N_PROMPT, 3);
    request.ignore_eos = false;
    request.allowed_token_ids = &token;
    request.n_allowed_token_ids = 1;
    uint64_t id = submit(engine, &request);
    while (cohort_engine_has_unfinished(engine)) /* one more step is under way then */
        step(engine);
    assert_int_equal(answers[id][0].tokens[0], token);
    return answers[id][0];
}

static cohort_engine *start_with_tokenizer_config(const char *text) {
    char dir[] = "/tmp/cohort-tokenizer-XXXXXX", config[64], vocabulary[64];
    assert_non_null(mkdtemp(dir));
    snprintf(config, sizeof config, "%s/tokenizer_config.json", dir);
    snprintf(vocabulary, sizeof vocabulary, "%s/tokenizer.json", dir);
    FILE *file = fopen(config, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    assert_int_equal(symlink(MODEL "/tokenizer.json", vocabulary), 0);
    cohort_engine_options options = small_options();
    options.tokenizer = dir;
    cohort_engine *engine = start(&options);
    unlink(config);
    unlink(vocabulary);
    rmdir(dir);
    return engine;
}

static void only_the_tokenizers_eos_ends_without_being_told(void **state) {
    (void)state;
    cohort_engine *engine =
        start_with_tokenizer_config("{\"eos_token\": {\"content\": \"<|endoftext|>\"}}");
    struct answer ended = end_of(engine, 0), told = end_of(engine, 2);
    assert_int_equal(ended.reason, COHORT_FINISH_STOP);
    assert_int_equal(ended.stop_token_id, -1);
    assert_int_equal(told.reason, COHORT_FINISH_STOP);
    assert_int_equal(told.stop_token_id, 2);
    cohort_engine_destroy(engine);
    /* One that names none is taken to have the model's. */
    engine = start_with_tokenizer_config("{}");
    ended = end_of(engine, 2);
    assert_int_equal(ended.reason, COHORT_FINISH_STOP);
    assert_int_equal(ended.stop_token_id, -1);
    assert_int_equal(end_of(engine, 0).reason, COHORT_FINISH_LENGTH);
    cohort_engine_destroy(engine);
    cohort_engine_options options = small_options();
    options.skip_tokenizer_init = true;
    engine = start(&options);
    assert_int_equal(end_of(engine, 2).stop_token_id, 2);
    cohort_engine_destroy(engine);
}

static void bad_words_may_be_token_ids(void **state) {
    (void)state;
    cohort_engine *engine = start_small();
    cohort_request request = greedy(engine, N_PROMPT, 8);
    const char *const words[] = {" 0", "the", "a b c"};
    int32_t *ids;
    uint32_t n_ids;
    assert_int_equal(cohort_engine_bad_word_ids(engine, words, 3, &ids, &n_ids),
                     COHORT_OK);
    request.sampling.bad_word_ids = ids;
    request.sampling.n_bad_word_ids = n_ids;
    uint64_t given = submit(engine, &request);
    const cohort_sampling_params *kept = &engine->last->request->sampling;
    assert_int_equal(kept->n_bad_word_ids, n_ids);
    assert_memory_equal(kept->bad_word_ids, ids, n_ids * sizeof *ids);
    /* Of its own making they are the same. */
    request.sampling.n_bad_word_ids = 0;
    request.bad_words = words;
    request.n_bad_words = 3;
    uint64_t made = submit(engine, &request);
    kept = &engine->last->request->sampling;
    assert_int_equal(kept->n_bad_word_ids, n_ids);
    assert_memory_equal(kept->bad_word_ids, ids, n_ids * sizeof *ids);
    run(engine);
    assert_memory_equal(answers[given][0].tokens, answers[made][0].tokens,
                        8 * sizeof(int32_t));
    free(ids);
    cohort_engine_destroy(engine);
}

/* ---- sampling ---------------------------------------------------------------------- */

static void seeds_give_the_same_alone_and_beside_others(void **state) {
    (void)state;
    cohort_engine *engine = start_small();
    cohort_request request = greedy(engine, N_PROMPT, 30);
    request.sampling.temperature = 1.5f;
    request.has_seed = true;
    request.sampling.seed = 4711;
    uint64_t alone = submit(engine, &request);
    run(engine);
    cohort_request other = greedy(engine, 7, 40);
    submit(engine, &other);
    request.n = 3;
    uint64_t beside = submit(engine, &request);
    request.n = 1;
    request.sampling.seed = 4712; /* that of completion 1 */
    uint64_t next = submit(engine, &request);
    run(engine);
    assert_memory_equal(answers[alone][0].tokens, answers[beside][0].tokens, 30 * 4);
    assert_memory_equal(answers[next][0].tokens, answers[beside][1].tokens, 30 * 4);
    assert_memory_not_equal(answers[beside][0].tokens, answers[beside][1].tokens, 30 * 4);
    assert_memory_not_equal(answers[beside][1].tokens, answers[beside][2].tokens, 30 * 4);
    cohort_engine_destroy(engine);
}

/* Greedy: the token told is the likeliest; a prompt's logprobs do not depend on chunks,
 * and are those that generating the same tokens gave. */
static void logprobs_agree_with_each_other(void **state) {
    (void)state;
    float first[N_PROMPT];
    for (int32_t chunk = 64; chunk; chunk = chunk == 64 ? 8 : 0) {
        cohort_engine_options options = small_options();
        options.max_num_batched_tokens = chunk;
        cohort_engine *engine = start(&options);
        cohort_request request = greedy(engine, N_PROMPT, 10);
        request.sampling.n_logprobs = 3;
        request.sampling.n_prompt_logprobs = 2;
        request.n = 2;
        uint64_t id = submit(engine, &request);
        run(engine);
        const struct answer *answer = &answers[id][0];
        assert_int_equal(answer->n_prompt_logprobs, N_PROMPT - 1);
        assert_int_equal(answers[id][1].n_prompt_logprobs, 0);
        assert_int_equal(answer->n_logprobs, 10);
        for (int32_t i = 0; i < 10; i++)
            assert_int_equal(answer->ranks[i], 1);
        if (chunk == 64) memcpy(first, answer->prompt_logprobs, sizeof first);
        for (int32_t i = 0; i < N_PROMPT - 1; i++)
            assert_float_equal(answer->prompt_logprobs[i], first[i], 1e-4);

        int32_t again[N_PROMPT + 10];
        memcpy(again, prompt, sizeof prompt);
        memcpy(again + N_PROMPT, answer->tokens, 10 * sizeof *again);
        request.prompt_token_ids = again;
        request.n_prompt_token_ids = N_PROMPT + 10;
        request.max_tokens = 1;
        uint64_t echo = submit(engine, &request);
        run(engine);
        for (int32_t i = 0; i < 10; i++)
            assert_float_equal(answers[echo][0].prompt_logprobs[N_PROMPT - 1 + i],
                               answers[id][0].logprobs[i], 1e-4);
        cohort_engine_destroy(engine);
    }
}

/* ---- scheduling -------------------------------------------------------------------- */

static void preempted_requests_answer_the_same(void **state) {
    (void)state;
    static struct answer roomy[MAX_REQUESTS];
    for (int tight = 0; tight < 2; tight++) {
        cohort_engine_options options = small_options();
        options.max_model_len = 96;
        options.num_blocks = tight ? 8 : 0;
        cohort_engine *engine = start(&options);
        for (int32_t i = 0; i < 5; i++) {
            cohort_request request = greedy(engine, N_PROMPT - i, 70);
            request.sampling.temperature = i % 2 ? 0 : 1;
            request.has_seed = true;
            request.sampling.seed = (uint64_t)i;
            request.sampling.n_prompt_logprobs = 0;
            submit(engine, &request);
        }
        run(engine);
        for (int32_t id = 1; id <= 5; id++) {
            if (!tight) roomy[id] = answers[id][0];
            assert_int_equal(answers[id][0].n_ends, 1);
            assert_int_equal(answers[id][0].n_tokens, 70);
            assert_memory_equal(answers[id][0].tokens, roomy[id].tokens, 70 * 4);
            assert_int_equal(answers[id][0].n_prompt_logprobs, N_PROMPT - id);
        }
        cohort_engine_destroy(engine);
    }
}

/* Requests of every kind, some alike, some ending where nobody knew; the same on every
 * way through the scheduler. */
static void submit_mixture(cohort_engine *engine) {
    static const int32_t lengths[] = {20, 20, 3, 17, 20, 16, 19, 1};
    for (int32_t i = 0; i < 8; i++) {
        cohort_request request = greedy(engine, lengths[i], 5 + i * 6);
        request.sampling.temperature = i % 3 ? 0 : 1;
        request.has_seed = true;
        request.sampling.seed = (uint64_t)i;
        request.sampling.repetition_penalty = i == 5 ? 1.3f : 1;
        request.sampling.n_logprobs = i == 6 ? 2 : -1;
        request.sampling.n_prompt_logprobs = i == 4 ? 1 : -1;
        request.n = i == 3 ? 3 : 1;
        const char *stop = "e";
        if (i == 1) request.stop = &stop, request.n_stop = 1;
        submit(engine, &request);
    }
    run(engine);
}

static void every_way_of_scheduling_answers_the_same(void **state) {
    (void)state;
    static struct answer plain[MAX_REQUESTS][MAX_N];
    for (int way = 0; way < 16; way++) {
        cohort_engine_options options = small_options();
        options.enable_prefix_caching = way & 1;
        options.executor.async_scheduling = way & 2;
        options.executor.tp = way & 4 ? 2 : 1;
        options.executor.pp = way & 8 ? 2 : 1;
        options.max_model_len = 96;
        options.num_blocks = way % 3 ? 9 : 0;
        cohort_engine *engine = start(&options);
        submit_mixture(engine);
        for (int32_t id = 1; id <= 8; id++)
            for (int32_t n = 0; n < MAX_N; n++) {
                if (way == 0) plain[id][n] = answers[id][n];
                const struct answer *got = &answers[id][n], *want = &plain[id][n];
                assert_int_equal(got->n_tokens, want->n_tokens);
                assert_memory_equal(got->tokens, want->tokens, sizeof want->tokens);
                assert_string_equal(got->text, want->text);
                assert_int_equal(got->reason, want->reason);
                assert_int_equal(got->n_prompt_logprobs, want->n_prompt_logprobs);
                assert_int_equal(got->n_logprobs, want->n_logprobs);
            }
        cohort_engine_stats stats;
        cohort_engine_get_stats(engine, &stats);
        assert_true(way & 1 ? stats.n_cache_hits > 0 : stats.n_cache_queries == 0);
        assert_int_equal(stats.n_free_blocks, options.num_blocks ? 9 : 48);
        cohort_engine_destroy(engine);
    }
}

static uint64_t computed(cohort_engine *engine, const cohort_request *request) {
    cohort_engine_stats before, after;
    cohort_engine_get_stats(engine, &before);
    uint64_t id = submit(engine, request);
    run(engine);
    cohort_engine_get_stats(engine, &after);
    uint64_t n = after.n_computed_tokens - before.n_computed_tokens;
    assert_int_equal(n, request->n_prompt_token_ids - (size_t)answers[id][0].n_cached);
    return n;
}

static void what_steps_took_is_in_parts(void **state) {
    (void)state;
    cohort_engine_options options = small_options();
    cohort_engine *engine = start(&options);
    cohort_request request = greedy(engine, N_PROMPT, 20);
    int64_t start_ns = cohort_clock_ns();
    submit(engine, &request);
    run(engine);
    int64_t took_ns = cohort_clock_ns() - start_ns;
    cohort_engine_stats stats;
    cohort_engine_get_stats(engine, &stats);
    assert_true(stats.schedule_ns > 0 && stats.wait_ns > 0 && stats.output_ns > 0);
    int64_t parts_ns =
        stats.schedule_ns + stats.wait_ns + stats.output_ns + stats.caller_ns;
    assert_true(parts_ns <= took_ns);
    cohort_engine_destroy(engine);
}

static void a_prompt_seen_before_is_computed_from_its_last_block(void **state) {
    (void)state;
    int32_t ids[32];
    cohort_engine_options options = small_options();
    options.block_size = 8;
    cohort_engine *engine = start(&options);
    for (int32_t i = 0; i < 32; i++)
        ids[i] = 3 + i * 7;
    cohort_request request = greedy(engine, N_PROMPT, 1);
    request.prompt_token_ids = ids;
    request.n_prompt_token_ids = 32;
    assert_int_equal(computed(engine, &request), 32);
    assert_int_equal(computed(engine, &request), 8); /* of four full blocks the last */
    request.n_prompt_token_ids = 31;
    assert_int_equal(computed(engine, &request), 7);
    request.cache_salt = "mine"; /* shared with nobody else */
    assert_int_equal(computed(engine, &request), 31);
    assert_int_equal(computed(engine, &request), 7);
    request.cache_salt = NULL;
    ids[9] = 1; /* all from there on is another past */
    assert_int_equal(computed(engine, &request), 23);
    request.sampling.n_prompt_logprobs = 0; /* takes the logits of all */
    assert_int_equal(computed(engine, &request), 31);
    request.sampling.n_prompt_logprobs = -1;
    request.max_tokens = 20; /* what was generated is known as well */
    ids[0] = 2;
    uint64_t id = submit(engine, &request);
    run(engine);
    memcpy(ids + 31, answers[id][0].tokens, 4);
    request.n_prompt_token_ids = 32;
    request.max_tokens = 1;
    assert_int_equal(computed(engine, &request), 8);
    assert_int_equal(answers[id + 1][0].tokens[0], answers[id][0].tokens[1]);
    cohort_engine_destroy(engine);
}

/* Completion 0 computes the prompt, the others begin behind its full blocks. */
static void completions_share_the_blocks_of_their_prompt(void **state) {
    (void)state;
    enum { N = 4, BLOCKS = N_PROMPT / 8 };
    for (int sharing = 0; sharing < 2; sharing++) {
        cohort_engine_options options = small_options();
        options.block_size = 8;
        options.max_num_batched_tokens = N * N_PROMPT;
        options.enable_prefix_caching = sharing;
        cohort_engine *engine = start(&options);
        cohort_request request = greedy(engine, N_PROMPT, 3);
        request.n = N;
        uint64_t id = submit(engine, &request);
        cohort_engine_stats stats;
        cohort_engine_info info;
        cohort_engine_describe(engine, &info);
        step(engine);
        cohort_engine_get_stats(engine, &stats);
        assert_int_equal(stats.n_running, N);
        int64_t n_used = info.num_blocks - stats.n_free_blocks;
        assert_int_equal(n_used, sharing ? BLOCKS + N : (BLOCKS + 1) * N);
        run(engine);
        cohort_engine_get_stats(engine, &stats);
        uint64_t n_shared = sharing ? (N - 1) * BLOCKS * 8 : 0;
        assert_int_equal(stats.n_computed_tokens, N * (N_PROMPT + 2) - n_shared);
        for (int i = 0; i < N; i++) {
            assert_int_equal(answers[id][i].n_cached, i && sharing ? BLOCKS * 8 : 0);
            assert_memory_equal(answers[id][i].tokens, answers[id][0].tokens, 3 * 4);
        }
        assert_int_equal(stats.n_free_blocks, info.num_blocks);
        cohort_engine_destroy(engine);
    }
}

/* Nearly all of these prompts is cached, so that many would come into one step, and each
 * is sent whole. */
static void a_step_holds_whatever_is_new(void **state) {
    (void)state;
    enum { LONG = 1800, N = 4 };
    static int32_t ids[LONG];
    for (int32_t i = 0; i < LONG; i++)
        ids[i] = 3 + i * 7 % 1000;
    cohort_engine_options options = small_options();
    options.max_num_batched_tokens = 512;
    options.kv_cache_memory_bytes = 64 << 20;
    options.executor.max_step_bytes = 32 << 10;
    cohort_engine *engine = start(&options);
    cohort_request request = greedy(engine, 0, 4);
    request.prompt_token_ids = ids;
    request.n_prompt_token_ids = LONG;
    request.n = N;
    uint64_t first = submit(engine, &request);
    run(engine);
    for (int i = 0; i < 8; i++)
        submit(engine, &request);
    run(engine);
    for (uint64_t id = first; id <= first + 8; id++)
        for (int i = 0; i < N; i++)
            assert_memory_equal(answers[id][i].tokens, answers[first][0].tokens, 4 * 4);
    /* Or nothing was held back. */
    assert_true(8 * LONG * 4 > engine->max_new_bytes);
    cohort_engine_destroy(engine);
}

/* As many steps are under way as there are stages, and one more where scheduling is
 * asynchronous. */
static void steps_are_under_way_for_every_stage(void **state) {
    (void)state;
    for (int way = 0; way < 4; way++) {
        cohort_engine_options options = small_options();
        options.executor.pp = way & 1 ? 2 : 1;
        options.executor.async_scheduling = way & 2;
        options.max_num_batched_tokens = 128;
        cohort_engine *engine = start(&options);
        static int32_t ids[1500];
        for (int32_t i = 0; i < 1500; i++)
            ids[i] = 5 + i % 900;
        cohort_request request = greedy(engine, 0, 20);
        request.prompt_token_ids = ids;
        for (int i = 0; i < 6; i++) {
            request.n_prompt_token_ids = i ? (size_t)(i * 3) : 1500;
            submit(engine, &request);
        }
        int32_t most = 0, decoding = 0;
        while (cohort_engine_has_unfinished(engine)) {
            step(engine);
            if (engine->n_futures > most) most = engine->n_futures;
            if (answers[1][0].n_tokens > 1 && engine->n_futures > decoding)
                decoding = engine->n_futures;
        }
        run(engine);
        assert_int_equal(most, options.executor.pp + (way & 2 ? 1 : 0));
        /* Beyond the prompt the sequences are dealt out over the stages. */
        assert_true(decoding >= options.executor.pp);
        cohort_engine_destroy(engine);
    }
}

static void the_smaller_priority_comes_first(void **state) {
    (void)state;
    cohort_engine_options options = small_options();
    cohort_request_id refused;
    options.max_num_seqs = 1;
    cohort_engine *engine = start(&options);
    cohort_request request = greedy(engine, N_PROMPT, 3);
    request.priority = 1;
    assert_int_equal(cohort_engine_submit(engine, &request, &refused), COHORT_E_INVALID);
    assert_non_null(strstr(cohort_last_error()->message, "priority"));
    cohort_engine_destroy(engine);
    options.priority_scheduling = true;
    engine = start(&options);
    static const int32_t priorities[] = {5, 0, 5, -2}, order[] = {4, 2, 1, 3};
    for (int32_t i = 0; i < 4; i++) {
        request.priority = priorities[i];
        submit(engine, &request);
    }
    for (int32_t i = 0; i < 4; i++) {
        while (!answers[order[i]][0].n_ends)
            step(engine);
        for (int32_t later = i + 1; later < 4; later++)
            assert_int_equal(answers[order[later]][0].n_ends, 0);
    }
    cohort_engine_destroy(engine);
}

static void cancelled_requests_abort_and_leave_others_alone(void **state) {
    (void)state;
    cohort_engine *engine = start_small();
    cohort_request request = greedy(engine, N_PROMPT, 40);
    uint64_t kept = submit(engine, &request);
    request.n = 2;
    uint64_t running = submit(engine, &request);
    step(engine);
    step(engine);
    cohort_engine_cancel(engine, (cohort_request_id){running});
    uint64_t waiting = submit(engine, &request);
    cohort_engine_cancel(engine, (cohort_request_id){waiting});
    cohort_engine_cancel(engine, (cohort_request_id){999});
    run(engine);
    assert_int_equal(answers[kept][0].n_tokens, 40);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(answers[running][i].reason, COHORT_FINISH_ABORT);
        assert_int_equal(answers[waiting][i].reason, COHORT_FINISH_ABORT);
        assert_true(answers[running][i].n_tokens < 5);
        assert_int_equal(answers[waiting][i].n_tokens, 0);
    }
    uint64_t after = submit(engine, &request);
    run(engine);
    assert_memory_equal(answers[after][1].tokens, answers[kept][0].tokens, 40 * 4);
    cohort_engine_destroy(engine);
}

/* Looks at requests and sequences that it takes to cancel n requests, every other first.
 */
static uint64_t looks_for(uint64_t n) {
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

static void a_cancel_costs_its_own_sequences(void **state) {
    (void)state;
    uint64_t some = looks_for(500), twice = looks_for(1000);
    assert_true(some > 0 && twice <= 2 * some + 1000);
    assert_true(twice <= 1000 * 4 * 4);
}

/* Waiting, in the middle of a prompt, decoding, preempted, with steps under way. */
static void cancels_at_any_time_leave_the_others_alone(void **state) {
    (void)state;
    enum { LAST = 8 };
    static struct answer alone[MAX_REQUESTS];
    uint64_t n_preempted = 0;
    for (uint32_t turn = 0; turn < 24; turn++) {
        cohort_engine_options options = small_options();
        options.max_num_seqs = 5;
        options.max_num_batched_tokens = 16;
        options.max_model_len = 96;
        options.block_size = 8;
        options.num_blocks = turn ? 14 : 0;
        options.executor.pp = turn % 3 == 2 ? 2 : 1;
        options.executor.async_scheduling = turn % 2;
        options.enable_prefix_caching = turn % 4 < 3;
        cohort_engine *engine = start(&options);
        for (int32_t i = 0; i < LAST; i++) {
            cohort_request request = greedy(engine, N_PROMPT - i % 3, 40 + i);
            submit(engine, &request);
        }
        uint32_t cancelled = 0;
        for (uint32_t n = 0; turn && n < 4; n++) {
            for (uint32_t i = 0; i < (turn * 7 + n * 5) % 23; i++)
                if (cohort_engine_has_unfinished(engine)) step(engine);
            uint64_t id = 1 + (turn * 3 + n * 2) % LAST;
            if (answers[id][0].n_ends == 0) cancelled |= 1u << id;
            cohort_engine_cancel(engine, (cohort_request_id){id});
        }
        run(engine);
        for (uint32_t id = 1; id <= LAST; id++) {
            const struct answer *answer = &answers[id][0];
            if (turn == 0) alone[id] = *answer;
            assert_int_equal(answer->n_ends, 1);
            if (!(cancelled >> id & 1))
                assert_int_equal(answer->n_tokens, alone[id].n_tokens);
            assert_int_equal(answer->reason, cancelled >> id & 1 ? COHORT_FINISH_ABORT
                                                                 : COHORT_FINISH_LENGTH);
            assert_memory_equal(answer->tokens, alone[id].tokens,
                                (size_t)answer->n_tokens * sizeof *answer->tokens);
        }
        cohort_engine_stats stats;
        cohort_engine_info info;
        cohort_engine_get_stats(engine, &stats);
        cohort_engine_describe(engine, &info);
        assert_int_equal(stats.n_free_blocks, info.num_blocks);
        n_preempted += stats.n_preemptions;
        cohort_engine_destroy(engine);
    }
    assert_true(n_preempted > 10);
}

static void a_deadline_that_passes_loses_nothing(void **state) {
    (void)state;
    cohort_engine *engine = start_small();
    cohort_request request = greedy(engine, N_PROMPT, 30);
    uint64_t id = submit(engine, &request);
    int32_t late = 0;
    while (cohort_engine_has_unfinished(engine)) {
        cohort_engine_outputs outputs;
        cohort_status status =
            cohort_engine_step(engine, cohort_clock_ns() - 1, &outputs);
        if (status == COHORT_E_TIMEOUT)
            late++;
        else
            assert_int_equal(status, COHORT_OK);
        for (size_t i = 0; i < outputs.n_completions; i++)
            take(&outputs.completions[i]);
    }
    assert_true(late > 0);
    assert_int_equal(answers[id][0].n_tokens, 30);
    cohort_engine_destroy(engine);
}

/* ---- refusals ---------------------------------------------------------------------- */

static void assert_refused(cohort_engine *engine, cohort_request request,
                           const char *words) {
    cohort_request_id id;
    assert_int_equal(cohort_engine_submit(engine, &request, &id), COHORT_E_INVALID);
    if (!strstr(cohort_last_error()->message, words))
        fail_msg("'%s' lacks '%s'", cohort_last_error()->message, words);
    assert_false(cohort_engine_has_unfinished(engine));
}

static void requests_that_cannot_be_are_refused(void **state) {
    (void)state;
    cohort_engine_options options = small_options();
    options.max_model_len = 16;
    cohort_engine *engine = start(&options);
    assert_refused(engine, greedy(engine, N_PROMPT, 4),
                   "20 tokens and max_model_len is 16");
    assert_refused(engine, greedy(engine, 0, 4), "empty");
    cohort_request request = greedy(engine, 4, 4);
    request.prompt_token_ids = (int32_t[]){1, 2, 5000, 3};
    assert_refused(engine, request, "token id 5000 is outside the vocabulary of 1024");
    request = greedy(engine, 4, 4);
    request.sampling.top_p = 0;
    assert_refused(engine, request, "top_p");
    request = greedy(engine, 4, 4);
    request.sampling.temperature = NAN;
    assert_refused(engine, request, "temperature");
    request = greedy(engine, 4, 4);
    request.sampling.min_tokens = 5;
    assert_refused(engine, request, "min_tokens is 5, must be from 0 to 4");
    request = greedy(engine, 4, 4);
    request.stop = (const char *const[]){""};
    request.n_stop = 1;
    assert_refused(engine, request, "stop string 0");
    request = greedy(engine, 4, 4);
    request.sampling.bad_word_ids = (int32_t[]){1, 7, 2, 7};
    request.sampling.n_bad_word_ids = 4;
    assert_refused(engine, request, "a word of 2 tokens");
    request.sampling.bad_word_ids = (int32_t[]){1, 5000};
    request.sampling.n_bad_word_ids = 2;
    assert_refused(engine, request, "token id 5000");
    char long_word[COHORT_MAX_BAD_WORD_BYTES + 2] = "";
    memset(long_word, 'a', sizeof long_word - 1);
    request.bad_words = (const char *const[]){long_word};
    request.n_bad_words = 1;
    assert_refused(engine, request, "not as both");
    request.sampling.n_bad_word_ids = 0;
    assert_refused(engine, request, "a bad word has 1025 bytes");
    request = greedy(engine, 4, 4);
    request.n = 0;
    assert_refused(engine, request, "n is 0");
    /* And what is no error ends at the model's length. */
    request = greedy(engine, 10, 100);
    uint64_t id = submit(engine, &request);
    run(engine);
    assert_int_equal(answers[id][0].n_tokens, 6);
    assert_int_equal(answers[id][0].reason, COHORT_FINISH_LENGTH);
    cohort_engine_destroy(engine);
}

static void engines_that_cannot_be_are_refused(void **state) {
    (void)state;
    const struct {
        const char *model, *words;
        int32_t tp, max_model_len, num_blocks, batched;
    } cases[] = {
        {"/nonexistent", "config.json", 1, 0, 0, 64},
        {MODEL, "tensor_parallel_size 5", 5, 0, 0, 64},
        {MODEL, "99999", 1, 99999, 0, 64},
        {MODEL,
         "needs 10 blocks and has room for 4; raise kv_cache_memory_bytes, or lower "
         "max_model_len to 64",
         1, 160, 4, 64},
        {MODEL, "max_num_batched_tokens 4 must be", 1, 0, 0, 4},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cohort_engine_options options = small_options();
        cohort_engine *engine;
        options.model = cases[i].model;
        options.executor.tp = cases[i].tp;
        options.max_model_len = cases[i].max_model_len;
        options.num_blocks = cases[i].num_blocks;
        options.max_num_batched_tokens = cases[i].batched;
        assert_true(cohort_engine_start(&options, &engine) < 0);
        assert_null(engine);
        if (!strstr(cohort_last_error()->message, cases[i].words))
            fail_msg("'%s' lacks '%s'", cohort_last_error()->message, cases[i].words);
    }
}

/* ---- the ranks --------------------------------------------------------------------- */

static void a_dead_worker_fails_the_step(void **state) {
    (void)state;
    cohort_engine_options options = small_options();
    options.executor.backend = "mp";
    options.executor.tp = 2;
    options.executor.worker_command = "/proc/self/exe";
    cohort_engine *engine = start(&options);
    cohort_request request = greedy(engine, N_PROMPT, 200);
    cohort_request_id id;
    submit(engine, &request);
    step(engine);
    cohort_rank_info info;
    cohort_executor_describe_rank(cohort_engine_executor(engine), 1, &info);
    assert_int_equal(kill(info.pid, SIGKILL), 0);
    cohort_engine_outputs outputs;
    cohort_status status = COHORT_OK;
    for (int i = 0; i < 300 && status >= 0; i++)
        status = cohort_engine_step(engine, cohort_deadline_ms(60000), &outputs);
    assert_int_equal(status, COHORT_E_PEER_DIED);
    assert_int_equal(cohort_last_error()->rank, 1);
    assert_true(cohort_engine_submit(engine, &request, &id) < 0);
    cohort_engine_destroy(engine);
}

/* Allocations of the calling thread: glibc's malloc is wrapped by the one below. */
static _Thread_local int64_t n_allocations;
static _Atomic int64_t n_steps, n_in_steps;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { CAN_COUNT = 0 };
#else
enum { CAN_COUNT = 1 };
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);

void *malloc(size_t size) {
    n_allocations++;
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size) {
    n_allocations++;
    return __libc_calloc(count, size);
}

void *realloc(void *old, size_t size) {
    n_allocations++;
    return __libc_realloc(old, size);
}
#endif

static cohort_status counted_execute(void *context, const void *payload,
                                     size_t size_bytes, cohort_worker_reply *reply) {
    int64_t before = n_allocations;
    cohort_status status =
        cohort_model_worker_ops()->execute(context, payload, size_bytes, reply);
    if (n_steps++ >= 3) n_in_steps += n_allocations - before;
    return status;
}

static void a_step_does_not_allocate_on_the_rank(void **state) {
    (void)state;
    if (!CAN_COUNT) return;
    cohort_worker_ops ops = *cohort_model_worker_ops();
    ops.execute = counted_execute;
    cohort_engine_options options = small_options();
    options.executor.worker_ops = &ops;
    cohort_engine *engine = start(&options);
    for (int round = 0; round < 2; round++) { /* histories grow in the first */
        cohort_request request = greedy(engine, N_PROMPT, 50);
        request.sampling.n_logprobs = 5;
        submit(engine, &request);
        request.sampling.temperature = 1;
        request.sampling.top_p = 0.9f;
        request.sampling.top_k = 100;
        request.sampling.repetition_penalty = 1.1f;
        submit(engine, &request);
        run(engine);
        if (round == 0) n_in_steps = 0;
    }
    assert_true(n_allocations > 0); /* they are counted at all */
    assert_true(n_steps > 90);
    assert_int_equal(n_in_steps, 0);
    cohort_engine_destroy(engine);
}

/* Text grows by doubling; all else was there before. */
static void a_step_allocates_for_text_only_in_the_engine(void **state) {
    (void)state;
    if (!CAN_COUNT) return;
    for (int way = 0; way < 4; way++) {
        cohort_engine_options options = small_options();
        options.executor.async_scheduling = way & 1;
        cohort_engine *engine = start(&options);
        cohort_request request = greedy(engine, N_PROMPT, 200);
        request.detokenize = way & 2;
        for (int i = 0; i < 3; i++)
            submit(engine, &request);
        for (int i = 0; i < 10; i++)
            step(engine);
        int64_t before = n_allocations;
        for (int i = 0; i < 180; i++)
            step(engine);
        assert_in_range(n_allocations - before, 0, way & 2 ? 3 * 8 : 0);
        run(engine);
        cohort_engine_destroy(engine);
    }
}

int main(int argc, char **argv) {
    if (argc == 4 && !strcmp(argv[1], "worker"))
        return cohort_worker_main(atoi(argv[3]), cohort_model_worker_ops());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_that_of_all_tokens),
        cmocka_unit_test(a_prompt_may_be_text),
        cmocka_unit_test(stop_strings_end_the_text_before_them),
        cmocka_unit_test(stop_tokens_end_without_their_text),
        cmocka_unit_test(only_the_tokenizers_eos_ends_without_being_told),
        cmocka_unit_test(bad_words_may_be_token_ids),
        cmocka_unit_test(seeds_give_the_same_alone_and_beside_others),
        cmocka_unit_test(logprobs_agree_with_each_other),
        cmocka_unit_test(preempted_requests_answer_the_same),
        cmocka_unit_test(every_way_of_scheduling_answers_the_same),
        cmocka_unit_test(what_steps_took_is_in_parts),
        cmocka_unit_test(a_prompt_seen_before_is_computed_from_its_last_block),
        cmocka_unit_test(completions_share_the_blocks_of_their_prompt),
        cmocka_unit_test(a_step_holds_whatever_is_new),
        cmocka_unit_test(steps_are_under_way_for_every_stage),
        cmocka_unit_test(the_smaller_priority_comes_first),
        cmocka_unit_test(cancelled_requests_abort_and_leave_others_alone),
        cmocka_unit_test(a_cancel_costs_its_own_sequences),
        cmocka_unit_test(cancels_at_any_time_leave_the_others_alone),
        cmocka_unit_test(a_deadline_that_passes_loses_nothing),
        cmocka_unit_test(requests_that_cannot_be_are_refused),
        cmocka_unit_test(engines_that_cannot_be_are_refused),
        cmocka_unit_test(a_dead_worker_fails_the_step),
        cmocka_unit_test(a_step_does_not_allocate_on_the_rank),
        cmocka_unit_test(a_step_allocates_for_text_only_in_the_engine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
