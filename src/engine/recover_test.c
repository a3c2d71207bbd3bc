/* SPDX-License-Identifier: Apache-2.0 */
/* Deaths of a rank, as far as an engine sees them. */
#include "cut_executor.h"
#include "engine_world.h"

/* ---- requests of all kinds --------------------------------------------------------- */

#define PERSON                                                                       \
    "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\","            \
    "\"maxLength\":9},\"age\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":99}}," \
    "\"required\":[\"name\",\"age\"],\"additionalProperties\":false}"

static void submit_schema(cohort_engine *engine, float temperature) {
    cohort_request request = greedy(engine, 6, 90);
    request.sampling.temperature = temperature;
    request.sampling.seed = 3;
    request.has_seed = true;
    request.ignore_eos = false;
    assert_int_equal(cohort_engine_compile_grammar(engine, COHORT_GRAMMAR_JSON_SCHEMA,
                                                   PERSON, strlen(PERSON),
                                                   &request.grammar),
                     COHORT_OK);
    submit(engine, &request);
    cohort_grammar_release(request.grammar);
}

static void submit_all_kinds(cohort_engine *engine) {
    cohort_request request = greedy(engine, N_PROMPT, 40);
    submit(engine, &request);
    request.n = 3;
    request.has_seed = true;
    request.sampling.seed = 7;
    request.sampling.temperature = 1.2f;
    request.sampling.repetition_penalty = 1.3f;
    request.sampling.n_logprobs = 2;
    submit(engine, &request);
    request = greedy(engine, N_PROMPT, 12);
    request.sampling.n_prompt_logprobs = 1;
    submit(engine, &request);
    static const char *const stops[] = {"e", "\x01never said"};
    request = greedy(engine, 9, 60);
    request.stop = stops;
    request.n_stop = 2;
    submit(engine, &request);
    submit_schema(engine, 0);
    submit_schema(engine, 1);
}

/* Two more come on the way, the last of them like the first. */
static void run_all_kinds(cohort_engine *engine) {
    cohort_engine_outputs outputs;
    submit_all_kinds(engine);
    for (int32_t n_steps = 0; cohort_engine_has_unfinished(engine); n_steps++) {
        if (n_steps == 9 || n_steps == 15) {
            cohort_request request = greedy(engine, N_PROMPT - n_steps % 3, 20);
            submit(engine, &request);
        }
        cohort_status status =
            cohort_engine_step(engine, cohort_deadline_ms(60000), &outputs);
        if (status == COHORT_E_TIMEOUT) {
            assert_true(deaths.is_dead);
            continue;
        }
        if (status != COHORT_OK) fail_msg("%s", cohort_last_error()->message);
        for (size_t i = 0; i < outputs.n_completions; i++)
            take(&outputs.completions[i]);
    }
}

static void expect_same_answers(struct answer (*expected)[MAX_N]) {
    for (int32_t i = 0; i < MAX_REQUESTS; i++)
        for (int32_t k = 0; k < MAX_N; k++) {
            /* What the cache had is another matter where it was lost. */
            answers[i][k].n_cached = expected[i][k].n_cached;
            assert_memory_equal(&answers[i][k], &expected[i][k], sizeof answers[i][k]);
        }
}

static void expect_nothing_left(cohort_engine *engine, uint64_t n_convicted) {
    cohort_engine_stats stats;
    cohort_engine_info info;
    cohort_engine_outputs outputs;
    cohort_status status;
    while ((status = cohort_engine_step(engine, COHORT_NEVER, &outputs)) !=
           COHORT_PENDING)
        assert_true(status == COHORT_OK || status == COHORT_E_TIMEOUT);
    cohort_engine_get_stats(engine, &stats);
    cohort_engine_describe(engine, &info);
    assert_int_equal(stats.n_free_blocks, info.num_blocks);
    assert_int_equal(stats.n_running + stats.n_waiting, 0);
    assert_int_equal(stats.n_recoveries, deaths.n);
    assert_true(deaths.n == 0 || stats.n_recomputed_tokens > 0);
    assert_true(deaths.n == 0 || stats.n_recovered > 0);
    assert_int_equal(stats.n_convicted, n_convicted);
}

static void deaths_change_no_answer(void **state) {
    (void)state;
    static struct answer expected[MAX_REQUESTS][MAX_N];
    const struct {
        int32_t pp;
        bool is_async;
    } ways[] = {{1, false}, {1, true}, {2, false}, {2, true}};
    for (size_t way = 0; way < sizeof ways / sizeof *ways; way++)
        for (uint64_t seed = 0; seed < 4; seed++) {
            cohort_engine_options options = small_options();
            options.max_num_batched_tokens = 32; /* prompts are cut */
            options.executor.pp = ways[way].pp;
            options.executor.async_scheduling = ways[way].is_async;
            plan_deaths(seed, seed ? 4 + seed * 3 : 0, seed % 2);
            cohort_engine *engine = start(&options);
            run_all_kinds(engine);
            if (seed == 0)
                memcpy(expected, answers, sizeof expected);
            else
                assert_true(deaths.n > 3);
            expect_same_answers(expected);
            expect_nothing_left(engine, 0);
            cohort_engine_destroy(engine);
        }
}

enum { POISON = 555 };

static void submit_poison(cohort_engine *engine, int32_t *tokens) {
    cohort_request request = greedy(engine, N_PROMPT, 30);
    memcpy(tokens, prompt, sizeof prompt);
    tokens[0] = POISON;
    request.prompt_token_ids = tokens;
    submit(engine, &request);
}

/* With others beside it that came before and after it. */
static cohort_engine *run_poison(bool is_async) {
    int32_t tokens[N_PROMPT];
    cohort_engine_outputs outputs;
    cohort_engine_options options = small_options();
    options.executor.async_scheduling = is_async;
    cohort_engine *engine = start(&options);
    cohort_request request = greedy(engine, N_PROMPT, 40);
    submit(engine, &request);
    request.n = 2;
    submit(engine, &request);
    for (int32_t n_steps = 0; cohort_engine_has_unfinished(engine); n_steps++) {
        request.n_prompt_token_ids = 9;
        if (n_steps == 5) submit_poison(engine, tokens);
        if (n_steps == 6) submit(engine, &request);
        cohort_status status = cohort_engine_step(engine, COHORT_NEVER, &outputs);
        assert_true(status == COHORT_OK || status == COHORT_E_TIMEOUT);
        for (size_t i = 0; i < outputs.n_completions; i++)
            take(&outputs.completions[i]);
    }
    return engine;
}

static void a_request_that_kills_fails_alone(void **state) {
    (void)state;
    enum { KILLER = 3 }; /* ids count from 1 */
    static struct answer expected[MAX_REQUESTS][MAX_N];
    for (int way = 0; way < 8; way++) {
        bool is_harmless = way < 2;
        plan_deaths(0, 0, way & 4);
        deaths.poison = is_harmless ? 0 : POISON;
        deaths.n_harmless = way & 2 ? 26 : 0; /* it kills with its prompt, or later */
        cohort_engine *engine = run_poison(way & 1);
        if (is_harmless) memcpy(expected, answers, sizeof expected);
        if (!is_harmless) {
            int32_t tokens[N_PROMPT];
            memcpy(tokens, prompt, sizeof prompt);
            tokens[0] = POISON;
            cohort_request again = greedy(engine, N_PROMPT, 30);
            cohort_request_id id;
            submit(engine, &again); /* another */
            run(engine);
            again.prompt_token_ids = tokens;
            assert_int_equal(cohort_engine_submit(engine, &again, &id), COHORT_E_INVALID);
            assert_non_null(strstr(cohort_last_error()->message, "killed"));
            assert_in_range(deaths.n, 2, 3);
            assert_int_equal(answers[KILLER][0].reason, COHORT_FINISH_KILLER);
            assert_int_equal(answers[KILLER][0].n_ends, 1);
            assert_int_equal(answers[5][0].n_tokens, 30);
            memset(&answers[5], 0, sizeof answers[5]);
            answers[KILLER][0] = expected[KILLER][0];
        }
        expect_same_answers(expected);
        expect_nothing_left(engine, !is_harmless);
        cohort_engine_destroy(engine);
    }
}

/* Killers in a row, no step completed between: each is found within three deaths, and
 * what one did is not added to what the next does. */
static void killers_in_a_row_fail_one_by_one(void **state) {
    (void)state;
    enum { N_KILLERS = 6, MOST_IN_A_ROW = 3 };
    static struct answer expected[MAX_REQUESTS][MAX_N];
    for (int way = 0; way < 6; way++) {
        bool is_harmless = way < 2;
        int32_t tokens[N_PROMPT];
        cohort_engine_options options = small_options();
        options.executor.async_scheduling = way & 1;
        plan_deaths(0, 0, way & 2);
        deaths.poison = is_harmless ? 0 : POISON;
        cohort_engine *engine = start(&options);
        cohort_request request = greedy(engine, N_PROMPT, 40);
        submit(engine, &request);
        step(engine);
        for (int32_t i = 0; i < N_KILLERS; i++) {
            request = greedy(engine, N_PROMPT, 30);
            memcpy(tokens, prompt, sizeof prompt);
            tokens[0] = POISON;
            tokens[1] = i;
            request.prompt_token_ids = tokens;
            submit(engine, &request);
        }
        request = greedy(engine, 9, 20);
        submit(engine, &request);
        run(engine);
        if (is_harmless) memcpy(expected, answers, sizeof expected);
        for (int32_t id = 2; id < 2 + N_KILLERS && !is_harmless; id++) {
            assert_int_equal(answers[id][0].reason, COHORT_FINISH_KILLER);
            answers[id][0] = expected[id][0];
        }
        expect_same_answers(expected);
        assert_in_range(deaths.most_in_a_row, is_harmless ? 0 : 1, MOST_IN_A_ROW);
        assert_true(deaths.n_faults <= 3 * N_KILLERS);
        expect_nothing_left(engine, is_harmless ? 0 : N_KILLERS);
        cohort_engine_destroy(engine);
    }
}

/* Refused, as others' step killed a rank: what was never computed has killed nobody. */
static void a_step_that_was_refused_makes_no_suspects(void **state) {
    (void)state;
    plan_deaths(0, 0, true);
    cohort_engine *engine = start_small();
    cohort_request request = greedy(engine, N_PROMPT, 30);
    uint64_t id = submit(engine, &request);
    deaths.is_dead = true;
    deaths.n_at_rest = 4;
    run(engine);
    assert_int_equal(deaths.n_faults, 4);
    assert_int_equal(answers[id][0].n_tokens, 30);
    cohort_engine_stats stats;
    cohort_engine_get_stats(engine, &stats);
    assert_int_equal(stats.n_convicted, 0);
    assert_int_equal(stats.n_recomputed_tokens, 0);
    cohort_engine_destroy(engine);
}

/* What waits for a rank can be cancelled, and something else can be asked for. */
static void a_recovery_holds_up_no_cancel(void **state) {
    (void)state;
    cohort_engine_outputs outputs;
    plan_deaths(0, 0, true);
    cohort_engine *engine = start_small();
    cohort_request request = greedy(engine, N_PROMPT, 30);
    uint64_t first = submit(engine, &request);
    step(engine);
    deaths.is_dead = true;
    deaths.n = 2; /* and what was sent does not come back */
    deaths.n_waits = 3;
    assert_int_equal(cohort_engine_step(engine, COHORT_NEVER, &outputs),
                     COHORT_E_TIMEOUT);
    cohort_engine_stats stats;
    cohort_engine_get_stats(engine, &stats);
    assert_true(stats.is_recovering);
    cohort_engine_cancel(engine, (cohort_request_id){first});
    step(engine); /* reports it */
    assert_int_equal(answers[first][0].reason, COHORT_FINISH_ABORT);
    uint64_t second = submit(engine, &request);
    assert_int_equal(cohort_engine_step(engine, COHORT_NEVER, &outputs),
                     COHORT_E_TIMEOUT);
    deaths.n_waits = 0;
    run(engine);
    assert_int_equal(answers[second][0].n_tokens, 30);
    cohort_engine_get_stats(engine, &stats);
    assert_false(stats.is_recovering);
    cohort_engine_destroy(engine);
}

/* Tokens that are computed again are those of the steps under way, where the caches were
 * kept. */
static void kept_caches_cost_the_steps_under_way_alone(void **state) {
    (void)state;
    cohort_engine_options options = small_options();
    options.executor.async_scheduling = false;
    plan_deaths(0, 0, true);
    cohort_engine *engine = start(&options);
    cohort_request request = greedy(engine, N_PROMPT, 30);
    for (int i = 0; i < 3; i++)
        submit(engine, &request);
    while (answers[3][0].n_tokens < 10)
        step(engine);
    deaths.is_dead = true;
    deaths.n = 2;
    run(engine);
    cohort_engine_stats stats;
    cohort_engine_get_stats(engine, &stats);
    assert_int_equal(stats.n_recomputed_tokens, 3);
    assert_int_equal(stats.n_recovered, 3);
    cohort_engine_destroy(engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deaths_change_no_answer),
        cmocka_unit_test(a_request_that_kills_fails_alone),
        cmocka_unit_test(killers_in_a_row_fail_one_by_one),
        cmocka_unit_test(a_step_that_was_refused_makes_no_suspects),
        cmocka_unit_test(a_recovery_holds_up_no_cancel),
        cmocka_unit_test(kept_caches_cost_the_steps_under_way_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
