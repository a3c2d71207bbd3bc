/* SPDX-License-Identifier: Apache-2.0 */
/* The engine over a tiny model on one rank, a thread of this process. */
#include "engine_world.h"

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
    options.executor.max_rank_restarts = 0;
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
        cohort_worker_model_ops()->execute(context, payload, size_bytes, reply);
    if (n_steps++ >= 3) n_in_steps += n_allocations - before;
    return status;
}

static void a_step_does_not_allocate_on_the_rank(void **state) {
    (void)state;
    if (!CAN_COUNT) return;
    cohort_worker_ops ops = *cohort_worker_model_ops();
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
        return cohort_worker_main(atoi(argv[3]), cohort_worker_model_ops());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_that_of_all_tokens),
        cmocka_unit_test(a_prompt_may_be_text),
        cmocka_unit_test(stop_strings_end_the_text_before_them),
        cmocka_unit_test(stop_tokens_end_without_their_text),
        cmocka_unit_test(only_the_tokenizers_eos_ends_without_being_told),
        cmocka_unit_test(bad_words_may_be_token_ids),
        cmocka_unit_test(seeds_give_the_same_alone_and_beside_others),
        cmocka_unit_test(logprobs_agree_with_each_other),
        cmocka_unit_test(requests_that_cannot_be_are_refused),
        cmocka_unit_test(engines_that_cannot_be_are_refused),
        cmocka_unit_test(a_dead_worker_fails_the_step),
        cmocka_unit_test(a_step_does_not_allocate_on_the_rank),
        cmocka_unit_test(a_step_allocates_for_text_only_in_the_engine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
