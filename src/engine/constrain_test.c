/* SPDX-License-Identifier: Apache-2.0 */
/* Requests whose output must match, over a tiny model with random weights: what it would
 * rather write is nonsense. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cohort/clock.h"
#include "cohort/engine.h"
#include "engine/engine_internal.h"
#include "grammar/grammar.h"

enum { MAX_REQUESTS = 64, MAX_N = 4, MAX_TEXT = 8192, MAX_TOKENS = 1024 };

#define MODEL  COHORT_SOURCE_DIR "/tests/golden/llama-float32"
#define SCHEMA COHORT_GRAMMAR_JSON_SCHEMA

/* Small enough to be written within the context, whatever the model likes. */
#define PERSON                                                                          \
    "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":" \
    "12},"                                                                              \
    "\"age\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":150},\"tags\":{\"type\":"  \
    "\"array\",\"items\":{\"enum\":[\"a\",\"bc\",null]},\"maxItems\":3}},\"required\":" \
    "[\"name\",\"age\",\"tags\"],\"additionalProperties\":false}"

#define LETTERS "[a-z]{250}" /* long enough to be preempted */

struct answer {
    int32_t tokens[MAX_TOKENS];
    int32_t n_tokens, n_preemptions;
    char text[MAX_TEXT];
    cohort_finish_reason reason;
};

static struct answer answers[MAX_REQUESTS][MAX_N];
static cohort_tokenizer *tokenizer;
static cohort_vocabulary *vocabulary;

static int open_vocabulary(void **state) {
    (void)state;
    return cohort_tokenizer_open(MODEL, &tokenizer) < 0 ||
           cohort_vocabulary_create(tokenizer, &vocabulary) < 0;
}

static int close_vocabulary(void **state) {
    (void)state;
    cohort_vocabulary_destroy(vocabulary);
    cohort_tokenizer_close(tokenizer);
    return 0;
}

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

static const int32_t prompt[] = {17, 301, 45, 722, 9, 88, 512, 33};

static cohort_request request_of(const cohort_engine *engine, uint64_t seed) {
    cohort_request request = cohort_engine_request_defaults(engine);
    request.sampling = cohort_sampling_defaults();
    request.sampling.temperature = seed % 3 ? 1.0f : 0;
    request.sampling.seed = seed;
    request.has_seed = true;
    request.prompt_token_ids = prompt;
    request.n_prompt_token_ids = sizeof prompt / sizeof *prompt;
    request.max_tokens = 400;
    return request;
}

static uint64_t submit(cohort_engine *engine, cohort_request *request,
                       cohort_grammar_kind kind, const char *text) {
    cohort_request_id id;
    request->grammar = NULL;
    if (text && cohort_engine_compile_grammar(engine, kind, text, strlen(text),
                                              &request->grammar) < 0)
        fail_msg("%s", cohort_last_error()->message);
    if (cohort_engine_submit(engine, request, &id) < 0)
        fail_msg("%s", cohort_last_error()->message);
    cohort_grammar_release(request->grammar);
    assert_true(id.value < MAX_REQUESTS);
    return id.value;
}

static void take(const cohort_completion *completion) {
    struct answer *answer = &answers[completion->request_id.value][completion->index];
    assert_int_equal(answer->reason, COHORT_FINISH_NONE);
    for (int32_t i = 0; i < completion->n_token_ids; i++)
        answer->tokens[answer->n_tokens++] = completion->token_ids[i];
    assert_true(strlen(answer->text) + completion->text_bytes < MAX_TEXT);
    strncat(answer->text, completion->text, completion->text_bytes);
    answer->reason = completion->finish_reason;
    answer->n_preemptions = completion->n_preemptions;
}

static void finish_all(cohort_engine *engine) {
    cohort_engine_outputs outputs;
    while (cohort_engine_has_unfinished(engine)) {
        if (cohort_engine_step(engine, cohort_deadline_ms(60000), &outputs) < 0)
            fail_msg("%s", cohort_last_error()->message);
        for (size_t i = 0; i < outputs.n_completions; i++)
            take(&outputs.completions[i]);
    }
}

/* All of the text matches, by a matcher of our own. */
static void expect_match(cohort_grammar_kind kind, const char *grammar_text,
                         const struct answer *answer) {
    cohort_grammar *grammar;
    cohort_matcher *matcher;
    assert_int_equal(
        cohort_grammar_compile(kind, grammar_text, strlen(grammar_text), &grammar),
        COHORT_OK);
    assert_int_equal(cohort_matcher_create(grammar, vocabulary, &matcher), COHORT_OK);
    if (answer->reason != COHORT_FINISH_STOP ||
        !cohort_matcher_accept_bytes(matcher, answer->text, strlen(answer->text)) ||
        !cohort_matcher_is_complete(matcher))
        fail_msg("'%s' ends by %d", answer->text, answer->reason);
    cohort_matcher_destroy(matcher);
    cohort_grammar_release(grammar);
}

static void outputs_match_their_grammars(void **state) {
    (void)state;
    const struct {
        cohort_grammar_kind kind;
        const char *text;
    } grammars[] = {
        {SCHEMA, PERSON},
        {COHORT_GRAMMAR_REGEX, "(\\d{3}-){2}[\xc3\xa4\xe2\x82\xac]{4}"},
        {COHORT_GRAMMAR_CHOICE, "[\"yes\", \"no\", \"\xf0\x9f\x98\x80\"]"},
        {SCHEMA, "{\"type\":\"array\",\"items\":{\"type\":\"integer\",\"minimum\":-2,"
                 "\"maximum\":25},\"minItems\":2,\"maxItems\":4}"},
        {COHORT_GRAMMAR_REGEX, "x{0,5}"},
    };
    enum { KINDS = sizeof grammars / sizeof *grammars, EACH = 6 };
    static const int32_t layouts[][2] = {{1, 1}, {2, 1}, {1, 2}};
    for (size_t layout = 0; layout < 3; layout++) {
        cohort_engine_options options = small_options();
        options.executor.tp = layouts[layout][0];
        options.executor.pp = layouts[layout][1];
        cohort_engine *engine = start(&options);
        uint64_t ids[KINDS * EACH];
        for (uint64_t i = 0; i < KINDS * EACH; i++) {
            cohort_request request = request_of(engine, i);
            ids[i] = submit(engine, &request, grammars[i % KINDS].kind,
                            grammars[i % KINDS].text);
        }
        finish_all(engine);
        for (size_t i = 0; i < KINDS * EACH; i++)
            expect_match(grammars[i % KINDS].kind, grammars[i % KINDS].text,
                         &answers[ids[i]][0]);
        cohort_engine_destroy(engine);
    }
}

/* A grammar holds nobody up: steps go out before the tokens, and so the masks, of the
 * last one are here, and everybody is in each of them. */
static void steps_go_out_ahead_of_their_masks(void **state) {
    (void)state;
    const cohort_engine_options options = small_options();
    cohort_engine *engine = start(&options);
    cohort_request request = request_of(engine, 1);
    request.ignore_eos = true;
    request.max_tokens = 60;
    submit(engine, &request, SCHEMA, NULL);
    uint64_t constrained =
        submit(engine, &request, COHORT_GRAMMAR_REGEX, LETTERS LETTERS);
    cohort_engine_outputs outputs;
    for (int i = 0; i < 50; i++) {
        assert_int_equal(cohort_engine_step(engine, cohort_deadline_ms(60000), &outputs),
                         COHORT_OK);
        assert_int_equal(outputs.n_completions, 2);
        assert_int_equal(cohort_scheduler_n_in_flight(engine->scheduler), 2);
        for (int32_t c = 0; c < 2; c++)
            take(&outputs.completions[c]);
    }
    finish_all(engine);
    cohort_engine_stats stats;
    cohort_engine_get_stats(engine, &stats);
    assert_int_equal(stats.n_steps, 60);
    assert_int_equal(strspn(answers[constrained][0].text, "abcdefghijklmnopqrstuvwxyz"),
                     strlen(answers[constrained][0].text));
    cohort_engine_destroy(engine);
}

/* The same tokens with and without constrained requests beside, with and without steps
 * ahead and preemption. */
static void neighbours_change_nothing(void **state) {
    (void)state;
    struct answer *alone = calloc(4, sizeof *alone);
    assert_non_null(alone);
    for (int turn = 0; turn < 4; turn++) {
        cohort_engine_options options = small_options();
        options.executor.async_scheduling = turn != 2;
        if (turn == 3) {
            options.max_model_len = 256;
            options.num_blocks = 17; /* one of full length, and little more */
        }
        cohort_engine *engine = start(&options);
        uint64_t ids[4];
        for (uint64_t i = 0; i < 4; i++) {
            cohort_request request = request_of(engine, i);
            request.max_tokens = 200;
            request.ignore_eos = i < 2;
            ids[i] = i < 3 ? submit(engine, &request, SCHEMA, i < 2 ? NULL : PERSON)
                           : submit(engine, &request, COHORT_GRAMMAR_REGEX, LETTERS);
            if (turn == 0) finish_all(engine);
        }
        finish_all(engine);
        for (size_t i = 0; i < 4; i++) {
            const struct answer *now = &answers[ids[i]][0];
            if (turn == 0) alone[i] = *now;
            assert_int_equal(now->n_tokens, alone[i].n_tokens);
            assert_memory_equal(now->tokens, alone[i].tokens,
                                (size_t)now->n_tokens * sizeof *now->tokens);
            assert_string_equal(now->text, alone[i].text);
        }
        if (turn == 3) assert_true(answers[ids[3]][0].n_preemptions > 0);
        cohort_engine_destroy(engine);
    }
    free(alone);
}

static void it_ends_with_eos_or_without(void **state) {
    (void)state;
    const cohort_engine_options options = small_options();
    cohort_engine *engine = start(&options);
    cohort_request request = request_of(engine, 1);
    uint64_t plain = submit(engine, &request, COHORT_GRAMMAR_REGEX, "abc");
    request.ignore_eos = true;
    uint64_t ignoring = submit(engine, &request, COHORT_GRAMMAR_REGEX, "abc");
    uint64_t empty = submit(engine, &request, COHORT_GRAMMAR_REGEX, "");
    request.ignore_eos = false;
    request.sampling.min_tokens = 50; /* which a grammar that has ended overrules */
    uint64_t short_of_min = submit(engine, &request, COHORT_GRAMMAR_REGEX, "abc");
    uint64_t open_end = submit(engine, &request, COHORT_GRAMMAR_REGEX, "[a-z]*");
    request.sampling.min_tokens = 0;
    uint64_t limited = submit(engine, &request, COHORT_GRAMMAR_LARK,
                              "start: a\na[max_tokens=5]: /[a-z]{100}/");
    request.n = 3;
    uint64_t many = submit(engine, &request, SCHEMA, PERSON);
    finish_all(engine);
    const struct answer *answer = &answers[plain][0];
    assert_string_equal(answer->text, "abc");
    assert_int_equal(answer->tokens[answer->n_tokens - 1], 2); /* <|im_end|> */
    assert_int_equal(answers[ignoring][0].n_tokens, answer->n_tokens - 1);
    assert_string_equal(answers[ignoring][0].text, "abc");
    assert_int_equal(answers[ignoring][0].reason, COHORT_FINISH_STOP);
    assert_string_equal(answers[empty][0].text, "");
    assert_int_equal(answers[empty][0].reason, COHORT_FINISH_STOP);
    assert_int_equal(answers[empty][0].n_tokens, 0);
    expect_match(COHORT_GRAMMAR_REGEX, "abc", &answers[short_of_min][0]);
    assert_true(answers[open_end][0].n_tokens >= 50);
    assert_int_equal(answers[limited][0].n_tokens, 5);
    for (int i = 0; i < 3; i++)
        expect_match(SCHEMA, PERSON, &answers[many][i]);
    cohort_engine_destroy(engine);
}

static void grammars_are_kept_by_their_text(void **state) {
    (void)state;
    const cohort_engine_options options = small_options();
    cohort_engine *engine = start(&options);
    cohort_grammar *first, *again, *other;
    const char *text = "[\"a\"]";
    assert_int_equal(
        cohort_engine_compile_grammar(engine, COHORT_GRAMMAR_CHOICE, text, 5, &first), 0);
    assert_int_equal(
        cohort_engine_compile_grammar(engine, COHORT_GRAMMAR_CHOICE, text, 5, &again), 0);
    assert_int_equal(
        cohort_engine_compile_grammar(engine, COHORT_GRAMMAR_REGEX, text, 5, &other), 0);
    assert_ptr_equal(first, again);
    assert_ptr_not_equal(first, other);
    for (int i = 0; i < 100; i++) {
        char pattern[16];
        cohort_grammar *one;
        snprintf(pattern, sizeof pattern, "a{%d}", i);
        assert_int_equal(cohort_engine_compile_grammar(engine, COHORT_GRAMMAR_REGEX,
                                                       pattern, strlen(pattern), &one),
                         0);
        cohort_grammar_release(one);
    }
    cohort_grammar_release(first);
    cohort_grammar_release(again);
    cohort_grammar_release(other);
    assert_int_equal(
        cohort_engine_compile_grammar(engine, COHORT_GRAMMAR_REGEX, "(", 1, &first),
        COHORT_E_INVALID);
    cohort_engine_destroy(engine);
}

/* Large ones push earlier ones out, and what is counted is what there is. */
static void kept_grammars_are_bounded_in_bytes(void **state) {
    (void)state;
    enum { N = 8 };
    const cohort_engine_options options = small_options();
    size_t before = cohort_grammar_held_bytes(), most = 0, sum = 0;
    cohort_engine *engine = start(&options);
    cohort_engine_stats stats;
    for (int i = 0; i < N; i++) {
        char pattern[128];
        cohort_grammar *one;
        snprintf(pattern, sizeof pattern,
                 "(abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789){%d}",
                 1400 - i);
        assert_int_equal(cohort_engine_compile_grammar(engine, COHORT_GRAMMAR_REGEX,
                                                       pattern, strlen(pattern), &one),
                         0);
        sum += cohort_grammar_bytes(one);
        cohort_grammar_release(one);
        cohort_engine_get_stats(engine, &stats);
        assert_true(stats.kept_grammar_bytes <= COHORT_MAX_KEPT_GRAMMAR_BYTES);
        assert_in_range(cohort_grammar_held_bytes() - before,
                        stats.kept_grammar_bytes - N * 128, stats.kept_grammar_bytes);
        if ((size_t)stats.kept_grammar_bytes > most)
            most = (size_t)stats.kept_grammar_bytes;
    }
    /* Or the test keeps too little. */
    assert_true(sum > COHORT_MAX_KEPT_GRAMMAR_BYTES);
    assert_true(most > COHORT_MAX_KEPT_GRAMMAR_BYTES / 2);
    cohort_engine_destroy(engine);
    assert_int_equal(cohort_grammar_held_bytes(), before);
}

static void a_grammar_needs_a_tokenizer(void **state) {
    (void)state;
    cohort_engine_options options = small_options();
    options.skip_tokenizer_init = true;
    cohort_engine *engine = start(&options);
    cohort_grammar *grammar;
    cohort_request_id id;
    assert_int_equal(
        cohort_engine_compile_grammar(engine, COHORT_GRAMMAR_REGEX, "a", 1, &grammar),
        COHORT_E_INVALID);
    assert_int_equal(cohort_grammar_compile(COHORT_GRAMMAR_REGEX, "a", 1, &grammar),
                     COHORT_OK);
    cohort_request request = request_of(engine, 0);
    request.grammar = grammar;
    assert_int_equal(cohort_engine_submit(engine, &request, &id), COHORT_E_INVALID);
    assert_non_null(strstr(cohort_last_error()->message, "tokenizer"));
    cohort_grammar_release(grammar);
    cohort_engine_destroy(engine);
}

/* The first tokens are those of an answer without a grammar, up to what it begins behind.
 */
static void a_grammar_begins_behind_its_mark(void **state) {
    (void)state;
    enum { BEFORE = 6, MARK = 5 };
    const cohort_engine_options options = small_options();
    cohort_engine *engine = start(&options);
    cohort_request request = request_of(engine, 3); /* greedy */
    request.max_tokens = 30;
    uint64_t free_id = submit(engine, &request, COHORT_GRAMMAR_REGEX, NULL);
    finish_all(engine);
    const struct answer *unbound = &answers[free_id][0];
    char *text, mark[MARK + 1] = "";
    size_t size;
    assert_int_equal(
        cohort_engine_detokenize(engine, unbound->tokens, BEFORE, true, &text, &size),
        COHORT_OK);
    assert_true(size > MARK);
    memcpy(mark, text + size - MARK, MARK);
    assert_ptr_equal(strstr(text, mark), text + size - MARK);
    request.grammar_after = mark;
    uint64_t id = submit(engine, &request, COHORT_GRAMMAR_REGEX, "[ab]{7}");
    finish_all(engine);
    const struct answer *bound = &answers[id][0];
    assert_memory_equal(bound->text, text, size);
    assert_int_equal(strspn(bound->text + size, "ab"), 7);
    assert_int_equal(strlen(bound->text), size + 7);
    assert_int_equal(bound->reason, COHORT_FINISH_STOP);
    /* One that never comes binds nothing. */
    request.grammar_after = "</nothing like this>";
    id = submit(engine, &request, COHORT_GRAMMAR_REGEX, "[ab]{7}");
    finish_all(engine);
    assert_string_equal(answers[id][0].text, unbound->text);
    free(text);
    cohort_engine_destroy(engine);
}

/* The token that completes the mark goes on with what the grammar does not begin with. */
static void an_output_that_cannot_go_on_is_no_whole_one(void **state) {
    (void)state;
    enum { BEFORE = 2, MARK = 2 };
    const cohort_engine_options options = small_options();
    cohort_engine *engine = start(&options);
    cohort_request request = request_of(engine, 3); /* greedy */
    request.max_tokens = 30;
    uint64_t free_id = submit(engine, &request, COHORT_GRAMMAR_REGEX, NULL);
    finish_all(engine);
    const struct answer *unbound = &answers[free_id][0];
    char *text = NULL, mark[MARK + 1] = "";
    size_t size = 0;
    for (int32_t n = BEFORE; n < 30; n++) { /* up to a token of two letters or more */
        size_t before = size;
        free(text);
        assert_int_equal(cohort_engine_detokenize(engine, unbound->tokens, (size_t)n,
                                                  true, &text, &size),
                         COHORT_OK);
        if (n == BEFORE || size < before + 2) continue;
        size_t plain = 0;
        while (plain < size && text[size - 1 - plain] > ' ' &&
               text[size - 1 - plain] <= '~')
            plain++;
        memcpy(mark, text + size - MARK - 1, MARK);
        if (plain > MARK && strstr(text, mark) == text + size - MARK - 1) break;
        mark[0] = '\0';
    }
    assert_int_equal(strlen(mark), MARK);
    request.grammar_after = mark;
    bool is_a = text[size - 1] == 'a';
    uint64_t elsewhere =
        submit(engine, &request, COHORT_GRAMMAR_REGEX, is_a ? "b{7}" : "a{7}");
    /* Also where the grammar would have been content with nothing. */
    uint64_t content = submit(engine, &request, COHORT_GRAMMAR_REGEX, is_a ? "b*" : "a*");
    finish_all(engine);
    for (uint64_t id = elsewhere; id <= content; id++) {
        assert_int_equal(answers[id][0].reason, COHORT_FINISH_ERROR);
        assert_string_equal(answers[id][0].text, text);
    }
    assert_string_equal(cohort_finish_reason_name(COHORT_FINISH_ERROR), "error");
    free(text);
    cohort_engine_destroy(engine);
}

/* Masks have what grammars have; were it not so, one sequence would end and no more. */
static void a_token_that_is_refused_ends_its_sequence_alone(void **state) {
    (void)state;
    const cohort_engine_options options = small_options();
    cohort_engine *engine = start(&options);
    engine_request request = {0};
    engine_sequence sequence = {.request = &request};
    cohort_finish_reason reason;
    assert_int_equal(cohort_engine_compile_grammar(engine, COHORT_GRAMMAR_REGEX, "a", 1,
                                                   &request.grammar),
                     COHORT_OK);
    assert_int_equal(cohort_engine_constrain(engine, &sequence), COHORT_OK);
    assert_int_equal(cohort_engine_follow(engine, &sequence,
                                          cohort_tokenizer_find(tokenizer, "b"), &reason),
                     COHORT_OK);
    assert_int_equal(reason, COHORT_FINISH_ERROR);
    assert_int_equal(cohort_engine_follow(engine, &sequence,
                                          cohort_tokenizer_find(tokenizer, "a"), &reason),
                     COHORT_OK);
    assert_int_equal(reason, COHORT_FINISH_NONE);
    cohort_matcher_destroy(sequence.matcher);
    cohort_grammar_release(request.grammar);
    cohort_engine_destroy(engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_grammar_begins_behind_its_mark),
        cmocka_unit_test(an_output_that_cannot_go_on_is_no_whole_one),
        cmocka_unit_test(outputs_match_their_grammars),
        cmocka_unit_test(steps_go_out_ahead_of_their_masks),
        cmocka_unit_test(a_token_that_is_refused_ends_its_sequence_alone),
        cmocka_unit_test(neighbours_change_nothing),
        cmocka_unit_test(it_ends_with_eos_or_without),
        cmocka_unit_test(grammars_are_kept_by_their_text),
        cmocka_unit_test(kept_grammars_are_bounded_in_bytes),
        cmocka_unit_test(a_grammar_needs_a_tokenizer),
    };
    return cmocka_run_group_tests(tests, open_vocabulary, close_vocabulary);
}
