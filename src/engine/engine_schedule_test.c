/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever a step holds and whoever leaves: everybody gets the same answer. */
#include "engine_world.h"

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

int main(int argc, char **argv) {
    if (argc == 4 && !strcmp(argv[1], "worker"))
        return cohort_worker_main(atoi(argv[3]), cohort_worker_model_ops());
    const struct CMUnitTest tests[] = {
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
