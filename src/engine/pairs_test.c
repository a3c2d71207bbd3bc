/* SPDX-License-Identifier: Apache-2.0 */
/* Features together: every pair of levels of two of the factors below - options of the
 * engine, fields of a request - comes in one row at least of a table that is drawn here.
 * Each row's request runs beside others' and again, and answers what it answers alone on
 * the plainest engine there is: one sequence at a time, nothing cached, nothing ahead. */
#include <math.h>
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

#define MODEL COHORT_SOURCE_DIR "/tests/golden/llama-float32"

enum { MAX_LEN = 96, MAX_TOKENS = 24, MAX_N = 3, MAX_ROWS = 48, MOST_LEVELS = 3 };

#define FACTORS(X)                                                                   \
    X(BATCH, 3)     /* max_num_batched_tokens: 64, 8, 200 */                         \
    X(SEQS, 2)      /* max_num_seqs: 8, 2 */                                         \
    X(BLOCK, 3)     /* block_size: 16, 4, 8 */                                       \
    X(BLOCKS, 2)    /* as many as there is memory for; hardly more than one needs */ \
    X(CACHING, 2)   /* prefix caching: on, off */                                    \
    X(ASYNC, 2)     /* the next step ahead: yes, no */                               \
    X(TP, 2)        /* 1, 2 */                                                       \
    X(PP, 2)        /* 1, 2 */                                                       \
    X(PRIORITY, 2)  /* first come; priorities */                                     \
    X(SAMPLING, 3)  /* greedy; temperature; top_k, top_p and min_p */                \
    X(PENALTIES, 3) /* none; repetition and presence; frequency */                   \
    X(LOGPROBS, 3)  /* none, 0, 3 */                                                 \
    X(PROMPT_LOGPROBS, 3)                                                            \
    X(N, 2)       /* 1, 3 */                                                         \
    X(STOP, 3)    /* none, strings, tokens */                                        \
    X(INCLUDE, 2) /* the stop string in the text: no, yes */                         \
    X(MIN_TOKENS, 2)                                                                 \
    X(BAD_WORDS, 2)                                                                  \
    X(BIAS, 2)                                                                       \
    X(ALLOWED, 2)                                                                    \
    X(PROMPT, 3) /* 20, 3, 33 tokens */                                              \
    X(SALT, 2)   /* none, the row's */                                               \
    X(GRAMMAR, 2)                                                                    \
    X(TEXT, 2) /* text, token ids alone */

enum factor {
#define X(name, levels) name,
    FACTORS(X)
#undef X
        N_FACTORS
};

static const uint8_t n_levels[] = {
#define X(name, levels) levels,
    FACTORS(X)
#undef X
};

typedef struct row {
    uint8_t level[N_FACTORS];
} row;

static row rows[MAX_ROWS];
static int n_rows;

/* ---- the table --------------------------------------------------------------------- */

static bool is_covered[N_FACTORS][MOST_LEVELS][N_FACTORS][MOST_LEVELS];

/* Pairs that level of a factor makes, in a row whose factors of the mask are chosen. */
static int gain(const row *at, uint64_t chosen, int factor, uint8_t level) {
    int n = 0;
    for (int other = 0; other < N_FACTORS; other++)
        n += chosen >> other & 1 && other != factor &&
             !is_covered[factor][level][other][at->level[other]];
    return n;
}

/* One row, its factors in a drawn order, each at the level that makes most pairs. */
static int draw_row(uint64_t seed, row *out_row) {
    int order[N_FACTORS], total = 0;
    uint64_t chosen = 0;
    for (int i = 0; i < N_FACTORS; i++)
        order[i] = i;
    for (int i = N_FACTORS - 1; i > 0; i--) {
        int j = (int)(cohort_random_u64(seed, (uint64_t)i) % (uint64_t)(i + 1));
        int factor = order[i];
        order[i] = order[j];
        order[j] = factor;
    }
    for (int i = 0; i < N_FACTORS; i++) {
        int factor = order[i], best = -1;
        uint8_t first =
            (uint8_t)(cohort_random_u64(seed, 100 + (uint64_t)i) % n_levels[factor]);
        for (uint8_t k = 0; k < n_levels[factor]; k++) {
            uint8_t level = (uint8_t)((first + k) % n_levels[factor]);
            int made = gain(out_row, chosen, factor, level);
            if (made <= best) continue;
            best = made;
            out_row->level[factor] = level;
        }
        chosen |= UINT64_C(1) << factor;
        total += best;
    }
    return total;
}

static int cover(const row *at) {
    int n = 0;
    for (int a = 0; a < N_FACTORS; a++)
        for (int b = 0; b < N_FACTORS; b++) {
            bool *pair = &is_covered[a][at->level[a]][b][at->level[b]];
            n += a < b && !*pair;
            *pair = true;
        }
    return n;
}

static int count_pairs(void) {
    int n = 0;
    for (int a = 0; a < N_FACTORS; a++)
        for (int b = a + 1; b < N_FACTORS; b++)
            n += n_levels[a] * n_levels[b];
    return n;
}

static void draw_rows(uint64_t seed) {
    enum { CANDIDATES = 40 };
    int left = count_pairs();
    for (n_rows = 0; left; n_rows++) {
        int best = 0;
        assert_true(n_rows < MAX_ROWS);
        for (uint64_t i = 0; i < CANDIDATES; i++) {
            row candidate = {0};
            int made = draw_row(seed + (uint64_t)n_rows * CANDIDATES + i, &candidate);
            if (made <= best) continue;
            best = made;
            rows[n_rows] = candidate;
        }
        left -= cover(&rows[n_rows]);
    }
    print_message("%d pairs in %d rows\n", count_pairs(), n_rows);
}

/* ---- engines and requests ---------------------------------------------------------- */

static cohort_engine *start(const row *at) {
    cohort_engine_options options = cohort_engine_defaults();
    cohort_engine *engine;
    static const int32_t batches[] = {64, 8, 200}, blocks[] = {16, 4, 8};
    options.executor.backend = "uni";
    options.model = MODEL;
    options.max_model_len = MAX_LEN;
    options.cpu_threads_bind = "nobind";
    options.kv_cache_memory_bytes = 16 << 20;
    options.max_num_seqs = 1;
    options.max_num_batched_tokens = MAX_LEN;
    options.enable_prefix_caching = false;
    options.executor.async_scheduling = false;
    if (at) {
        options.max_num_batched_tokens = batches[at->level[BATCH]];
        options.max_num_seqs = at->level[SEQS] ? 2 : 8;
        options.block_size = blocks[at->level[BLOCK]];
        if (at->level[BLOCKS]) options.num_blocks = MAX_LEN / options.block_size + 2;
        options.enable_prefix_caching = !at->level[CACHING];
        options.executor.async_scheduling = !at->level[ASYNC];
        options.executor.tp = at->level[TP] ? 2 : 1;
        options.executor.pp = at->level[PP] ? 2 : 1;
        options.priority_scheduling = at->level[PRIORITY];
    }
    if (cohort_engine_start(&options, &engine) < 0)
        fail_msg("%s", cohort_last_error()->message);
    return engine;
}

static void set_sampling(cohort_sampling_params *sampling, const row *at) {
    static const int32_t logprobs[] = {-1, 0, 3};
    static const int32_t bad[] = {1, 301, 2, 45, 9}, stops[] = {110, 120, 130, 140, 150};
    static const cohort_token_bias bias[] = {{17, 3}, {722, -4}, {88, 2.5f}};
    *sampling = cohort_sampling_defaults();
    sampling->temperature = at->level[SAMPLING] ? 1.2f : 0;
    if (at->level[SAMPLING] == 2) {
        sampling->top_k = 40;
        sampling->top_p = 0.8f;
        sampling->min_p = 0.02f;
    }
    if (at->level[PENALTIES] == 1) {
        sampling->repetition_penalty = 1.3f;
        sampling->presence_penalty = 0.5f;
    }
    if (at->level[PENALTIES] == 2) sampling->frequency_penalty = 0.7f;
    sampling->n_logprobs = logprobs[at->level[LOGPROBS]];
    sampling->n_prompt_logprobs = logprobs[at->level[PROMPT_LOGPROBS]];
    if (at->level[STOP] == 2) sampling->stop_tokens = stops, sampling->n_stop_tokens = 5;
    if (at->level[MIN_TOKENS]) sampling->min_tokens = 7;
    if (at->level[BAD_WORDS]) sampling->bad_word_ids = bad, sampling->n_bad_word_ids = 5;
    if (at->level[BIAS]) sampling->bias = bias, sampling->n_bias = 3;
}

static int32_t n_prompt_of(const row *at) {
    static const int32_t lengths[] = {20, 3, 33};
    return lengths[at->level[PROMPT]];
}

/* Rows of one prompt length share it, so that caches have something to find. */
static cohort_request make_request(const cohort_engine *engine, const row *at) {
    static int32_t prompt[MAX_LEN], allowed[600];
    static const char *const stops[] = {"e", "it"};
    cohort_request request = cohort_engine_request_defaults(engine);
    for (int32_t i = 0; i < MAX_LEN; i++)
        prompt[i] = 3 + (i * i * 7 + i * 31) % 900;
    for (int32_t i = 0; i < 600; i++)
        allowed[i] = 2 + i;
    set_sampling(&request.sampling, at);
    request.prompt_token_ids = prompt;
    request.n_prompt_token_ids = (size_t)n_prompt_of(at);
    request.max_tokens = MAX_TOKENS;
    request.has_seed = true;
    request.sampling.seed = (uint64_t)(at - rows);
    request.n = at->level[N] ? MAX_N : 1;
    request.detokenize = !at->level[TEXT];
    if (at->level[STOP] == 1 && request.detokenize)
        request.stop = stops, request.n_stop = 2;
    request.include_stop_str_in_output = at->level[INCLUDE];
    if (at->level[ALLOWED])
        request.allowed_token_ids = allowed, request.n_allowed_token_ids = 600;
    if (at->level[SALT]) request.cache_salt = at->level[N] ? "one tenant" : "another";
    static const char words[] = "[a-z]+( [a-z]+)*";
    if (at->level[GRAMMAR] &&
        cohort_engine_compile_grammar(engine, COHORT_GRAMMAR_REGEX, words,
                                      sizeof words - 1, &request.grammar) < 0)
        fail_msg("%s", cohort_last_error()->message);
    return request;
}

/* ---- answers ----------------------------------------------------------------------- */

typedef struct answer {
    int32_t tokens[MAX_TOKENS];
    float logprobs[MAX_TOKENS * 4], prompt_logprobs[MAX_LEN * 4];
    int32_t n_tokens, n_logprobs, n_prompt_logprobs, n_ends, n_cached, stop_token;
    char text[512], stop[16];
    cohort_finish_reason reason;
} answer;

enum { MOST_REQUESTS = 256 };
static answer answers[MOST_REQUESTS][MAX_N], plain[MAX_ROWS][MAX_N];

static int32_t add_logprobs(const cohort_position_logprobs *from, int32_t n, float *to,
                            int32_t n_to) {
    for (int32_t i = 0; from && i < n; i++)
        for (uint32_t k = 0; k < from[i].n; k++)
            to[n_to++] = from[i].entries[k].logprob;
    return n_to;
}

static void take(const cohort_completion *got) {
    answer *to = &answers[got->request_id.value][got->index];
    assert_int_equal(to->n_ends, 0);
    for (int32_t i = 0; i < got->n_token_ids; i++)
        to->tokens[to->n_tokens++] = got->token_ids[i];
    to->n_logprobs =
        add_logprobs(got->logprobs, got->n_token_ids, to->logprobs, to->n_logprobs);
    to->n_prompt_logprobs = add_logprobs(got->prompt_logprobs, got->n_prompt_logprobs,
                                         to->prompt_logprobs, to->n_prompt_logprobs);
    strncat(to->text, got->text_bytes ? got->text : "", got->text_bytes);
    to->reason = got->finish_reason;
    to->stop_token = got->stop_token_id;
    to->n_cached = got->n_cached_tokens;
    if (got->stop_string) snprintf(to->stop, sizeof to->stop, "%s", got->stop_string);
    to->n_ends += got->finish_reason != COHORT_FINISH_NONE;
}

static uint64_t submit(cohort_engine *engine, const row *at) {
    cohort_request request = make_request(engine, at);
    cohort_request_id id;
    request.priority = 0;
    cohort_status status = cohort_engine_submit(engine, &request, &id);
    if (status < 0) fail_msg("%s", cohort_last_error()->message);
    cohort_grammar_release(request.grammar);
    assert_true(id.value < MOST_REQUESTS);
    memset(answers[id.value], 0, sizeof answers[id.value]);
    return id.value;
}

static void run(cohort_engine *engine) {
    while (cohort_engine_has_unfinished(engine)) {
        cohort_engine_outputs outputs;
        if (cohort_engine_step(engine, cohort_deadline_ms(60000), &outputs) < 0)
            fail_msg("%s", cohort_last_error()->message);
        for (size_t i = 0; i < outputs.n_completions; i++)
            take(&outputs.completions[i]);
    }
}

static void print_row(int number) {
    static const char *const names[] = {
#define X(name, levels) #name,
        FACTORS(X)
#undef X
    };
    print_error("row %d:", number);
    for (int i = 0; i < N_FACTORS; i++)
        print_error(" %s=%d", names[i], rows[number].level[i]);
    print_error("\n");
}

/* Reductions over two ranks add in another order than one rank does. */
static bool are_close(const float *a, const float *b, int32_t n) {
    for (int32_t i = 0; i < n; i++)
        if (fabsf(a[i] - b[i]) > 1e-3f && !(isinf(a[i]) && isinf(b[i]))) return false;
    return true;
}

static void expect_same(uint64_t id, int number, int asked_of) {
    for (int n = 0; n < MAX_N; n++) {
        const answer *got = &answers[id][n], *want = &plain[number][n];
        bool same = got->n_tokens == want->n_tokens && got->n_ends == want->n_ends &&
                    got->n_logprobs == want->n_logprobs &&
                    got->n_prompt_logprobs == want->n_prompt_logprobs &&
                    got->reason == want->reason && got->stop_token == want->stop_token &&
                    !memcmp(got->tokens, want->tokens, sizeof want->tokens) &&
                    !strcmp(got->text, want->text) && !strcmp(got->stop, want->stop) &&
                    are_close(got->logprobs, want->logprobs, want->n_logprobs) &&
                    are_close(got->prompt_logprobs, want->prompt_logprobs,
                              want->n_prompt_logprobs);
        if (same) continue;
        print_row(asked_of);
        print_row(number);
        fail_msg("completion %d: %d tokens, \"%s\" (%s), where alone %d, \"%s\" (%s)", n,
                 got->n_tokens, got->text, cohort_finish_reason_name(got->reason),
                 want->n_tokens, want->text, cohort_finish_reason_name(want->reason));
    }
}

/* What was cached is the own tenant's, and whole blocks of it. */
static void check_cached(uint64_t id, int number, bool is_first) {
    static const int32_t blocks[] = {16, 4, 8};
    int32_t cached = answers[id][0].n_cached;
    const row *at = &rows[number];
    if (at->level[CACHING]) assert_int_equal(cached, 0);
    assert_int_equal(cached % blocks[at->level[BLOCK]], 0);
    assert_true(cached < n_prompt_of(at));
    if (is_first && at->level[SALT]) assert_int_equal(cached, 0);
}

static void every_pair_of_features_answers_as_one_alone(void **state) {
    (void)state;
    const char *given = getenv("COHORT_TEST_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : 1;
    draw_rows(seed);
    cohort_engine *engine = start(NULL);
    for (int i = 0; i < n_rows; i++) {
        uint64_t id = submit(engine, &rows[i]);
        run(engine);
        memcpy(plain[i], answers[id], sizeof plain[i]);
        assert_int_equal(plain[i][0].n_ends, 1);
    }
    cohort_engine_destroy(engine);
    uint64_t n_preemptions = 0, n_hits = 0;
    for (int i = 0; i < n_rows; i++) {
        int others[] = {(i + 1) % n_rows, (i + 5) % n_rows};
        engine = start(&rows[i]);
        uint64_t id = submit(engine, &rows[i]);
        uint64_t beside[] = {submit(engine, &rows[others[0]]),
                             submit(engine, &rows[others[1]])};
        run(engine);
        expect_same(id, i, i);
        check_cached(id, i, true);
        for (int k = 0; k < 2; k++)
            expect_same(beside[k], others[k], i);
        id = submit(engine, &rows[i]); /* what was cached is what was computed */
        run(engine);
        expect_same(id, i, i);
        check_cached(id, i, false);
        cohort_engine_stats stats;
        cohort_engine_get_stats(engine, &stats);
        n_preemptions += stats.n_preemptions;
        n_hits += stats.n_cache_hits;
        cohort_engine_destroy(engine);
    }
    assert_true(n_preemptions > 0 && n_hits > 0); /* the table reaches both */
}

/* A prompt that is shorter than a block, whose block fills while it is generated: what
 * comes to lie in it is found by nobody of another salt. */
static void what_one_tenant_generates_is_found_by_no_other(void **state) {
    (void)state;
    enum { TENANTS = 4, PROMPTED = 3, FOUND = (PROMPTED + MAX_TOKENS - 1) / 4 * 4 };
    static const char *const salts[TENANTS] = {NULL, "a", "b", "ab"};
    row short_blocks = {.level = {[BLOCK] = 1, [PROMPT] = 1}};
    for (int owner = 0; owner < TENANTS; owner++) {
        cohort_engine *engine = start(&short_blocks);
        int32_t said[PROMPTED + MAX_TOKENS];
        cohort_request request = make_request(engine, &short_blocks);
        cohort_request_id id;
        request.ignore_eos = true;
        request.cache_salt = salts[owner];
        memset(answers, 0, sizeof answers);
        memcpy(said, request.prompt_token_ids, PROMPTED * sizeof *said);
        assert_int_equal(cohort_engine_submit(engine, &request, &id), COHORT_OK);
        run(engine);
        assert_int_equal(answers[id.value][0].n_tokens, MAX_TOKENS);
        memcpy(said + PROMPTED, answers[id.value][0].tokens, MAX_TOKENS * sizeof *said);
        request.prompt_token_ids = said;
        request.n_prompt_token_ids = PROMPTED + MAX_TOKENS;
        request.max_tokens = 1;
        for (int asker = TENANTS - 1; asker >= 0; asker--) {
            request.cache_salt = salts[asker];
            memset(answers, 0, sizeof answers);
            assert_int_equal(cohort_engine_submit(engine, &request, &id), COHORT_OK);
            run(engine);
            assert_int_equal(answers[id.value][0].n_cached, asker == owner ? FOUND : 0);
        }
        cohort_engine_destroy(engine);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pair_of_features_answers_as_one_alone),
        cmocka_unit_test(what_one_tenant_generates_is_found_by_no_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
