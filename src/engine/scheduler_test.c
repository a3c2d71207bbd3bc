/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler_world.h"

/* ---- property ---------------------------------------------------------------------- */

enum { MOST_TOLD = 64 };

struct tally {
    uint64_t n_preempted, n_hits, n_ahead, n_filled, n_overtaken, n_retold, n_held_back;
};

/* Of any layout, small enough that blocks, tokens and bytes run out. */
static void random_limits(uint64_t seed, cohort_scheduler_limits *out_limits) {
    struct world probe = {.seed = seed};
    int32_t pp = 1 + (int32_t)pick(&probe, 3);
    int32_t block_size = 1 + (int32_t)pick(&probe, 5);
    int32_t max_len = 8 + (int32_t)pick(&probe, 40);
    int32_t least = (max_len + block_size - 1) / block_size;
    cohort_scheduler_limits limits = {
        .max_num_seqs = 1 + (int32_t)pick(&probe, MAX_SLOTS),
        .max_num_batched_tokens = 1 + (int32_t)pick(&probe, 40),
        .max_model_len = max_len,
        .block_size = block_size,
        .n_blocks = least + (int32_t)pick(&probe, (uint64_t)least * 3),
        .pp_size = pp,
        .max_in_flight = pp + (int32_t)pick(&probe, 2)};
    limits.ranks_keep_tokens = pp == 1 && limits.max_in_flight > 1;
    int32_t longest = MOST_TOLD + (max_len + 1 + least + 2) * 4;
    if (seed % 2) limits.max_new_bytes = longest + (int32_t)pick(&probe, 400);
    *out_limits = limits;
}

/* One random life: arrivals, returns and cancellations in any order, and perhaps deaths
 * of ranks, until all is done. */
static void random_life(uint64_t seed, bool has_deaths, struct tally *tally) {
    struct world *world = malloc(sizeof *world);
    cohort_scheduler_limits limits;
    random_limits(seed, &limits);
    int32_t max_len = limits.max_model_len;
    bool has_priorities = seed % 3 == 0;
    world_begin(world, &limits);
    world->seed = seed + 1000000;
    int32_t left = 1 + (int32_t)pick(world, MAX_JOBS), idle = 0;
    for (int32_t turn = 0; idle < 3; turn++) {
        assert_true(turn < 200000); /* nobody waits for ever */
        if (has_deaths && pick(world, 20) == 0) ranks_die(world, pick(world, 4) > 0);
        uint64_t what = pick(world, 10);
        cohort_schedule schedule;
        if (what < 2 && left > 0) {
            left--;
            int32_t n_prompt = 1 + (int32_t)pick(world, (uint64_t)max_len);
            int32_t room = max_len - n_prompt + 1; /* the last token needs no place */
            const struct job like = {
                .n_prompt = n_prompt,
                .n_generate = 1 + (int32_t)pick(world, (uint64_t)room),
                .family = pick(world, 4),
                .fork = (int32_t)pick(world, (uint64_t)max_len),
                .priority = has_priorities ? (int32_t)pick(world, 3) - 1 : 0,
                .told_bytes = 8 * (int32_t)pick(world, MOST_TOLD / 8)};
            add_like(world, &like);
        } else if (what == 2 && world->n_jobs > 0 && pick(world, 8) == 0) {
            struct job *job = &world->jobs[pick(world, (uint64_t)world->n_jobs)];
            if (!job->request.is_finished) {
                job->is_cancelled = true;
                end_job(world, job);
                check_blocks(world);
            }
        } else if (what < 7) {
            bool some = ranks_take_step(world, &schedule);
            bool busy = cohort_scheduler_n_in_flight(world->scheduler) > 0;
            bool work = cohort_scheduler_n_running(world->scheduler) +
                            cohort_scheduler_n_waiting(world->scheduler) >
                        0;
            if (!some && !busy) assert_false(work); /* no deadlock */
            if (!some && !busy && left == 0) idle++;
        } else if (cohort_scheduler_n_in_flight(world->scheduler) > 0) {
            step_returns(world);
        }
    }
    uint64_t n_queries, n_hits;
    cohort_scheduler_cache_use(world->scheduler, &n_queries, &n_hits);
    assert_true(n_hits <= n_queries);
    tally->n_preempted += (uint64_t)world->n_preempted;
    tally->n_hits += n_hits;
    tally->n_ahead += (uint64_t)world->n_ahead;
    tally->n_filled += (uint64_t)world->n_filled;
    tally->n_overtaken += (uint64_t)world->n_overtaken;
    tally->n_retold += (uint64_t)world->n_retold;
    tally->n_held_back += (uint64_t)world->n_held_back;
    if (!has_priorities) assert_int_equal(world->n_overtaken, 0);
    world_end(world);
    free(world);
}

static void random_lives_keep_all_promises(void **state) {
    (void)state;
    struct tally tally = {0};
    for (uint64_t seed = 0; seed < 600; seed++)
        random_life(seed, false, &tally);
    /* Or the test looks away from what is hard. */
    assert_true(tally.n_preempted > 100);
    assert_true(tally.n_hits > 1000);
    assert_true(tally.n_ahead > 1000);
    assert_true(tally.n_filled > 1000);
    assert_true(tally.n_overtaken > 100);
    assert_true(tally.n_retold == 0);
}

static void random_deaths_keep_all_promises(void **state) {
    (void)state;
    struct tally tally = {0};
    for (uint64_t seed = 0; seed < 600; seed++)
        random_life(seed, true, &tally);
    assert_true(tally.n_preempted > 100);
    assert_true(tally.n_hits > 1000);
    assert_true(tally.n_ahead > 1000);
    assert_true(tally.n_retold > 1000);
    assert_true(tally.n_held_back > 100);
}

/* ---- traces ------------------------------------------------------------------------ */

/* And the long one leaves room for the short one behind it. */
static void prompts_are_cut_into_chunks(void **state) {
    (void)state;
    struct world *world = malloc(sizeof *world);
    world_begin(world, &one_stage);
    add_job(world, 17, 2);
    add_job(world, 3, 1);
    const struct {
        int32_t n_entries, first, second;
        bool samples;
    } expected[] = {{2, 4, 3, false}, {1, 7, 0, false}, {1, 6, 0, true}, {1, 1, 0, true}};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        cohort_schedule schedule;
        assert_true(ranks_take_step(world, &schedule));
        assert_int_equal(schedule.n_entries, expected[i].n_entries);
        assert_int_equal(schedule.entries[0].n_scheduled_tokens, expected[i].first);
        assert_int_equal(schedule.entries[0].samples, expected[i].samples);
        if (expected[i].second)
            assert_int_equal(schedule.entries[1].n_scheduled_tokens, expected[i].second);
        assert_false(ranks_take_step(world, &schedule)); /* one in flight at most */
        step_returns(world);
    }
    world_end(world);
    free(world);
}

static void many_long_prompts_leave_room_for_a_short_one(void **state) {
    (void)state;
    cohort_scheduler_limits limits = one_stage;
    limits.max_num_batched_tokens = 40;
    struct world *world = malloc(sizeof *world);
    world_begin(world, &limits);
    for (int i = 0; i < 3; i++)
        add_job(world, 60, 1);
    const struct job *last = add_job(world, 4, 1);
    const int32_t shares[] = {20, 10, 6, 4};
    cohort_schedule schedule;
    assert_true(ranks_take_step(world, &schedule));
    assert_int_equal(schedule.n_entries, 4);
    for (int i = 0; i < 4; i++)
        assert_int_equal(schedule.entries[i].n_scheduled_tokens, shares[i]);
    step_returns(world);
    assert_int_equal(last->n_ends, 1);
    while (ranks_take_step(world, &schedule))
        step_returns(world);
    world_end(world);
    free(world);
}

/* Also where the rest of the long one would fill a step to the last token. */
static void the_end_of_a_long_prompt_leaves_room(void **state) {
    (void)state;
    cohort_scheduler_limits limits = one_stage;
    limits.max_num_batched_tokens = 20;
    struct world *world = malloc(sizeof *world);
    world_begin(world, &limits);
    cohort_schedule schedule;
    add_job(world, 40, 1);
    assert_true(ranks_take_step(world, &schedule));
    const struct job *last = add_job(world, 4, 1);
    step_returns(world);
    assert_true(ranks_take_step(world, &schedule));
    assert_int_equal(schedule.n_tokens, 20);
    step_returns(world);
    assert_int_equal(last->n_ends, 1);
    while (ranks_take_step(world, &schedule))
        step_returns(world);
    world_end(world);
    free(world);
}

/* Those that run get their token with every step, whoever comes first, while a long
 * prompt is computed: it never stalls them by more than a chunk. */
static void a_long_prompt_stalls_nobody(void **state) {
    (void)state;
    enum { N_SHORT = 12, CHUNK = 16 };
    for (int way = 0; way < 4; way++) {
        bool is_async = way & 2;
        const cohort_scheduler_limits limits = {.max_num_seqs = 16,
                                                .max_num_batched_tokens = CHUNK,
                                                .max_model_len = 128,
                                                .block_size = 16,
                                                .n_blocks = 128,
                                                .pp_size = 1,
                                                .max_in_flight = is_async ? 2 : 1,
                                                .ranks_keep_tokens = is_async};
        const struct job heavy_like = {
            .n_prompt = 120, .n_generate = 1, .priority = way & 1 ? -1 : 0};
        struct world *world = malloc(sizeof *world);
        world_begin(world, &limits);
        cohort_schedule schedule;
        for (int i = 0; i < N_SHORT; i++)
            add_job(world, 1, 100);
        ranks_take_step(world, &schedule);
        const struct job *heavy = add_like(world, &heavy_like);
        int32_t n_chunks = 0;
        while (heavy->n_ends == 0) {
            if (!is_async || cohort_scheduler_n_in_flight(world->scheduler) == 2)
                step_returns(world);
            assert_true(ranks_take_step(world, &schedule));
            n_chunks += is_in(&schedule, heavy);
            for (int i = 0; i < N_SHORT; i++)
                assert_true(is_in(&schedule, &world->jobs[i]));
        }
        assert_int_equal(n_chunks, 120 / (CHUNK - N_SHORT));
        do
            step_returns(world);
        while (ranks_take_step(world, &schedule) ||
               cohort_scheduler_n_in_flight(world->scheduler));
        world_end(world);
        free(world);
    }
}

/* A prompt of which all but the end is cached is sent whole: as many as a step holds. */
static void a_step_tells_of_as_many_as_it_holds(void **state) {
    (void)state;
    cohort_scheduler_limits limits = one_stage;
    limits.max_num_batched_tokens = 400;
    limits.n_blocks = 64;
    limits.max_new_bytes = 3 * (49 + 4 + 2) * 4;
    struct world *world = malloc(sizeof *world);
    world_begin(world, &limits);
    const struct job like = {
        .n_prompt = 49, .n_generate = 4, .family = 1, .fork = 49, .told_bytes = 0};
    for (int i = 0; i < 8; i++)
        add_like(world, &like);
    const int32_t expected[] = {3, 3, 2};
    cohort_schedule schedule;
    for (int i = 0; i < 3; i++) {
        int32_t n_new = 0;
        assert_true(ranks_take_step(world, &schedule));
        for (int32_t j = 0; j < schedule.n_entries; j++)
            n_new += schedule.entries[j].is_new;
        assert_int_equal(n_new, expected[i]);
        step_returns(world);
    }
    while (ranks_take_step(world, &schedule))
        step_returns(world);
    world_end(world);
    free(world);
}

static void nothing_is_sent_ahead_of_a_long_step(void **state) {
    (void)state;
    const cohort_scheduler_limits limits = {.max_num_seqs = 8,
                                            .max_num_batched_tokens = 512,
                                            .max_model_len = 1024,
                                            .block_size = 64,
                                            .n_blocks = 64,
                                            .pp_size = 1,
                                            .max_in_flight = 2,
                                            .ranks_keep_tokens = true};
    struct world *world = malloc(sizeof *world);
    cohort_schedule schedule;
    world_begin(world, &limits);
    add_job(world, 1000, 4);
    for (int i = 0; i < 2; i++) { /* 512 and 488 tokens */
        assert_true(ranks_take_step(world, &schedule));
        assert_false(ranks_take_step(world, &schedule));
        step_returns(world);
    }
    assert_true(ranks_take_step(world, &schedule));
    assert_true(ranks_take_step(world, &schedule)); /* a token each */
    do
        step_returns(world);
    while (ranks_take_step(world, &schedule) ||
           cohort_scheduler_n_in_flight(world->scheduler));
    world_end(world);
    free(world);
}

static void latest_gives_way_when_blocks_run_out(void **state) {
    (void)state;
    cohort_scheduler_limits limits = one_stage;
    limits.max_num_batched_tokens = 64;
    limits.n_blocks = 4;
    struct world *world = malloc(sizeof *world);
    world_begin(world, &limits);
    struct job *first = add_job(world, 31, 20), *second = add_job(world, 31, 20);
    cohort_schedule schedule;
    while (second->request.n_preemptions == 0) {
        assert_true(ranks_take_step(world, &schedule));
        step_returns(world);
    }
    assert_int_equal(first->request.n_preemptions, 0);
    assert_int_equal(second->request.slot, -1);
    while (ranks_take_step(world, &schedule))
        step_returns(world);
    assert_int_equal(second->n_admissions, 2);
    world_end(world);
    free(world);
}

static void a_cache_too_small_is_refused_with_numbers(void **state) {
    (void)state;
    cohort_scheduler_limits limits = one_stage;
    limits.n_blocks = 3;
    cohort_scheduler *scheduler;
    assert_int_equal(cohort_scheduler_create(&limits, &scheduler), COHORT_E_INVALID);
    assert_non_null(strstr(cohort_last_error()->message, "3 blocks of 16"));
    assert_non_null(strstr(cohort_last_error()->message, "64"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_lives_keep_all_promises),
        cmocka_unit_test(random_deaths_keep_all_promises),
        cmocka_unit_test(prompts_are_cut_into_chunks),
        cmocka_unit_test(many_long_prompts_leave_room_for_a_short_one),
        cmocka_unit_test(the_end_of_a_long_prompt_leaves_room),
        cmocka_unit_test(a_long_prompt_stalls_nobody),
        cmocka_unit_test(a_step_tells_of_as_many_as_it_holds),
        cmocka_unit_test(nothing_is_sent_ahead_of_a_long_step),
        cmocka_unit_test(latest_gives_way_when_blocks_run_out),
        cmocka_unit_test(a_cache_too_small_is_refused_with_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
