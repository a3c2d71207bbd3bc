/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/scheduler.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"

/* What the ranks know, kept from schedules alone: if this goes wrong, so would they. */
struct rank_slot {
    cohort_scheduler_request *request;
    int32_t n_tokens, n_computed, n_blocks;
    int32_t blocks[64];
};

struct job {
    cohort_scheduler_request request;
    uint64_t family; /* whose tokens it has, before the fork; then its own */
    int32_t fork;
    int32_t n_prompt, n_generate, n_generated;
    int32_t n_admissions, n_ends;
    bool is_cancelled;
    cohort_block_key keys[64];
};

enum { MAX_SLOTS = 16, MAX_JOBS = 60, MAX_CACHE_TOKENS = 4096 };

struct world {
    cohort_scheduler_limits limits;
    cohort_scheduler *scheduler;
    struct rank_slot slots[MAX_SLOTS];
    struct job jobs[MAX_JOBS];
    int32_t n_jobs;
    uint64_t content[MAX_CACHE_TOKENS]; /* what the cache holds, token by token */
    uint64_t last_admitted;             /* arrival of the latest first admission */
    uint64_t seed, draws;
    int32_t n_preempted, n_ahead; /* entries whose last token was not known yet */
};

static uint64_t pick(struct world *world, uint64_t below) {
    return cohort_random_u64(world->seed, world->draws++) % below;
}

static void world_begin(struct world *world, const cohort_scheduler_limits *limits) {
    memset(world, 0, sizeof *world);
    world->limits = *limits;
    assert_int_equal(cohort_scheduler_create(limits, &world->scheduler), COHORT_OK);
}

/* A token and all before it, as one number. */
static uint64_t past_of(const struct job *job, int32_t position) {
    return position < job->fork ? job->family * 1000 + (uint64_t)position
                                : (uint64_t)(uintptr_t)job + (uint64_t)position;
}

static void extend_keys(const struct world *world, struct job *job) {
    int32_t block_size = world->limits.block_size;
    for (int32_t *n = &job->request.n_keys;
         (*n + 1) * block_size <= job->request.n_tokens; ++*n)
        job->keys[*n] = (cohort_block_key){{past_of(job, (*n + 1) * block_size - 1), 1}};
}

/* Like a job of its family up to the fork. */
static struct job *add_relative(struct world *world, int32_t n_prompt, int32_t n_generate,
                                uint64_t family, int32_t fork) {
    struct job *job = &world->jobs[world->n_jobs++];
    *job = (struct job){
        .n_prompt = n_prompt, .n_generate = n_generate, .family = family, .fork = fork};
    job->request =
        (cohort_scheduler_request){.n_tokens = n_prompt,
                                   .max_tokens = n_prompt + n_generate,
                                   .runs_ahead = world->limits.ranks_keep_tokens,
                                   .reads_cache = family > 0,
                                   .keys = job->keys};
    if (family > 0) extend_keys(world, job);
    cohort_scheduler_add(world->scheduler, &job->request);
    return job;
}

static struct job *add_job(struct world *world, int32_t n_prompt, int32_t n_generate) {
    return add_relative(world, n_prompt, n_generate, 0, 0);
}

static struct job *job_of(const cohort_scheduler_request *request) {
    return (struct job *)(uintptr_t)request; /* its first member */
}

/* Keys and values of its tokens are written, all of the step before any is read. */
static void ranks_store(struct world *world, const cohort_schedule_entry *entry) {
    int32_t block_size = world->limits.block_size;
    const struct rank_slot *slot = &world->slots[entry->request->slot];
    for (int32_t i = 0; i < entry->n_scheduled_tokens; i++) {
        int32_t at = entry->n_computed_tokens + i;
        world->content[slot->blocks[at / block_size] * block_size + at % block_size] =
            past_of(job_of(entry->request), at);
    }
}

static void ranks_read(const struct world *world, const cohort_schedule_entry *entry) {
    int32_t block_size = world->limits.block_size;
    const struct rank_slot *slot = &world->slots[entry->request->slot];
    for (int32_t at = 0; at < slot->n_computed; at++)
        assert_int_equal(
            world->content[slot->blocks[at / block_size] * block_size + at % block_size],
            past_of(job_of(entry->request), at));
}

static void ranks_take_entry(struct world *world, const cohort_schedule_entry *entry) {
    const cohort_scheduler_limits *limits = &world->limits;
    cohort_scheduler_request *request = entry->request;
    assert_in_range(request->slot, 0, limits->max_num_seqs - 1);
    struct rank_slot *slot = &world->slots[request->slot];
    if (entry->is_new) {
        assert_null(slot->request);
        assert_int_equal(entry->n_new_tokens, 0);
        *slot = (struct rank_slot){.request = request,
                                   .n_tokens = request->n_tokens,
                                   .n_computed = entry->n_computed_tokens};
        assert_int_equal(entry->n_computed_tokens % limits->block_size, 0);
        assert_true(request->reads_cache || entry->n_computed_tokens == 0);
        if (job_of(request)->n_admissions++ == 0) {
            /* First come, first served. */
            assert_true(request->arrival > world->last_admitted);
            world->last_admitted = request->arrival;
        }
    }
    assert_ptr_equal(slot->request, request);
    slot->n_tokens += entry->n_new_tokens;
    assert_true(slot->n_tokens <=
                job_of(request)->n_prompt + job_of(request)->n_generate);
    for (int32_t b = 0; b < entry->n_new_blocks; b++)
        slot->blocks[slot->n_blocks++] = entry->new_blocks[b];
    assert_int_equal(entry->n_computed_tokens, slot->n_computed);
    assert_true(entry->n_scheduled_tokens > 0);
    slot->n_computed += entry->n_scheduled_tokens;
    world->n_ahead += slot->n_computed > request->n_tokens;
    assert_true(slot->n_computed <= slot->n_tokens);
    assert_int_equal(entry->samples, slot->n_computed == slot->n_tokens);
    assert_true(slot->n_blocks * limits->block_size >= slot->n_computed);
    ranks_store(world, entry);
    if (entry->samples && limits->ranks_keep_tokens)
        slot->n_tokens++;
    else
        assert_int_equal(slot->n_tokens, request->n_tokens);
}

/* Every block has as many users as are seen to use it, none is lost. */
static void check_blocks(struct world *world) {
    const cohort_blocks *blocks = cohort_scheduler_blocks(world->scheduler);
    int32_t *n_users = calloc((size_t)blocks->n_blocks, sizeof *n_users);
    int32_t n_used = 0;
    for (int32_t i = 0; i < world->n_jobs; i++) {
        const cohort_scheduler_request *request = &world->jobs[i].request;
        if (request->slot < 0) continue;
        const int32_t *table = cohort_scheduler_block_table(world->scheduler, request);
        for (int32_t b = 0; b < request->n_blocks; b++)
            n_users[table[b]]++;
    }
    for (int32_t b = 0; b < blocks->n_blocks; b++) {
        assert_int_equal(n_users[b], cohort_blocks_n_users(blocks, b));
        n_used += n_users[b] > 0;
    }
    assert_int_equal(n_used + blocks->n_free, blocks->n_blocks);
    free(n_users);
}

/* Returns false where there is nothing to schedule. */
static bool ranks_take_step(struct world *world, cohort_schedule *schedule) {
    int32_t preempted = 0, before = 0;
    for (int32_t i = 0; i < world->n_jobs; i++)
        before += world->jobs[i].request.n_preemptions;
    bool some = cohort_scheduler_next(world->scheduler, schedule);
    for (int32_t i = 0; i < world->n_jobs; i++)
        preempted += world->jobs[i].request.n_preemptions;
    world->n_preempted += preempted - before;
    check_blocks(world);
    if (!some) return false;
    int32_t n_tokens = 0;
    for (int32_t i = 0; i < schedule->n_finished; i++) {
        assert_non_null(world->slots[schedule->finished[i]].request);
        world->slots[schedule->finished[i]] = (struct rank_slot){0};
    }
    assert_in_range(schedule->n_entries, 1, world->limits.max_num_seqs);
    for (int32_t i = 0; i < schedule->n_entries; i++) {
        ranks_take_entry(world, &schedule->entries[i]);
        n_tokens += schedule->entries[i].n_scheduled_tokens;
        for (int32_t j = 0; j < i; j++)
            assert_ptr_not_equal(schedule->entries[i].request,
                                 schedule->entries[j].request);
    }
    for (int32_t i = 0; i < schedule->n_entries; i++)
        ranks_read(world, &schedule->entries[i]);
    assert_int_equal(n_tokens, schedule->n_tokens);
    assert_true(n_tokens <= world->limits.max_num_batched_tokens);
    assert_true(cohort_scheduler_n_in_flight(world->scheduler) <=
                world->limits.max_in_flight);
    return true;
}

static void end_job(struct world *world, struct job *job) {
    job->n_ends++;
    cohort_scheduler_finish(world->scheduler, &job->request);
}

static void step_returns(struct world *world) {
    cohort_schedule done;
    cohort_scheduler_complete(world->scheduler, &done);
    for (int32_t i = 0; i < done.n_entries; i++) {
        struct job *job = job_of(done.entries[i].request);
        if (!done.entries[i].samples || job->request.is_finished) continue;
        /* Some stop where nobody could know. */
        bool stops = job->family > 0 && pick(world, 10) == 0;
        if (++job->n_generated == job->n_generate || stops) {
            job->n_generate = job->n_generated;
            end_job(world, job);
        } else {
            cohort_scheduler_append(world->scheduler, &job->request);
            if (job->family > 0) extend_keys(world, job);
        }
    }
    check_blocks(world);
}

static void world_end(struct world *world) {
    const cohort_blocks *blocks = cohort_scheduler_blocks(world->scheduler);
    for (int32_t i = 0; i < world->n_jobs; i++) {
        assert_int_equal(world->jobs[i].n_ends, 1);
        assert_int_equal(world->jobs[i].request.slot, -1);
        if (!world->jobs[i].is_cancelled)
            assert_int_equal(world->jobs[i].n_generated, world->jobs[i].n_generate);
    }
    assert_int_equal(blocks->n_free, blocks->n_blocks);
    assert_int_equal(cohort_scheduler_n_running(world->scheduler), 0);
    assert_int_equal(cohort_scheduler_n_waiting(world->scheduler), 0);
    cohort_scheduler_destroy(world->scheduler);
}

/* ---- property ---------------------------------------------------------------------- */

struct tally {
    uint64_t n_preempted, n_hits, n_ahead;
};

/* One random life: arrivals, returns and cancellations in any order, until all is done.
 */
static void random_life(uint64_t seed, struct tally *tally) {
    struct world *world = malloc(sizeof *world);
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
    world_begin(world, &limits);
    world->seed = seed + 1000000;
    int32_t left = 1 + (int32_t)pick(world, MAX_JOBS), idle = 0;
    for (int32_t turn = 0; idle < 3; turn++) {
        assert_true(turn < 200000); /* nobody waits for ever */
        uint64_t what = pick(world, 10);
        cohort_schedule schedule;
        if (what < 2 && left > 0) {
            left--;
            int32_t n_prompt = 1 + (int32_t)pick(world, (uint64_t)max_len);
            int32_t room = max_len - n_prompt + 1; /* the last token needs no place */
            int32_t n_generate = 1 + (int32_t)pick(world, (uint64_t)room);
            int32_t fork = (int32_t)pick(world, (uint64_t)max_len);
            add_relative(world, n_prompt, n_generate, pick(world, 4), fork);
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
    world_end(world);
    free(world);
}

static void random_lives_keep_all_promises(void **state) {
    (void)state;
    struct tally tally = {0};
    for (uint64_t seed = 0; seed < 600; seed++)
        random_life(seed, &tally);
    /* Or the test looks away from what is hard. */
    assert_true(tally.n_preempted > 100);
    assert_true(tally.n_hits > 1000);
    assert_true(tally.n_ahead > 1000);
}

/* ---- traces ------------------------------------------------------------------------ */

static const cohort_scheduler_limits one_stage = {.max_num_seqs = 8,
                                                  .max_num_batched_tokens = 7,
                                                  .max_model_len = 64,
                                                  .block_size = 16,
                                                  .n_blocks = 16,
                                                  .pp_size = 1,
                                                  .max_in_flight = 1};

static void prompts_are_cut_into_chunks(void **state) {
    (void)state;
    struct world *world = malloc(sizeof *world);
    world_begin(world, &one_stage);
    add_job(world, 17, 2);
    add_job(world, 3, 1);
    const struct {
        int32_t n_entries, first, second;
        bool samples;
    } expected[] = {{1, 7, 0, false}, {1, 7, 0, false}, {2, 3, 3, true}, {1, 1, 0, true}};
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

/* ---- pipelines --------------------------------------------------------------------- */

/* Time until all is done, of stages that take a step in order, each when the one before
 * has: a token costs 1 in all, a step 4 more. */
static double pipeline_time(struct world *world, int32_t stages) {
    double stage_free[4] = {0}, returned[8] = {0}, now = 0;
    int32_t first = 0, n = 0;
    cohort_schedule schedule;
    for (;;) {
        while (ranks_take_step(world, &schedule)) {
            double at = now, cost = ((double)schedule.n_tokens + 4) / stages;
            for (int32_t s = 0; s < stages; s++)
                at = stage_free[s] = (at > stage_free[s] ? at : stage_free[s]) + cost;
            returned[(first + n++) % 8] = at;
        }
        if (n == 0) break;
        now = returned[first];
        first = (first + 1) % 8;
        n--;
        step_returns(world);
    }
    return now;
}

static double time_of(int32_t stages, int32_t n_prompts, int32_t n_prompt,
                      int32_t n_generate) {
    const cohort_scheduler_limits limits = {.max_num_seqs = 16,
                                            .max_num_batched_tokens = 2048,
                                            .max_model_len = 1024,
                                            .block_size = 64,
                                            .n_blocks = 1024,
                                            .pp_size = stages,
                                            .max_in_flight = stages};
    struct world *world = malloc(sizeof *world);
    world_begin(world, &limits);
    for (int32_t i = 0; i < n_prompts; i++)
        add_job(world, n_prompt, n_generate);
    double time = pipeline_time(world, stages);
    world_end(world);
    free(world);
    return time;
}

static void stages_overlap(void **state) {
    (void)state;
    /* Four prompts of 512 over two stages: near twice as fast as one stage. */
    assert_true(time_of(1, 4, 512, 1) > 1.6 * time_of(2, 4, 512, 1));
    assert_true(time_of(1, 1, 1000, 1) > 1.5 * time_of(2, 1, 1000, 1));
    /* Eight decoding: the halves take turns in the stages. */
    assert_true(time_of(1, 8, 1, 200) > 1.3 * time_of(2, 8, 1, 200));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_lives_keep_all_promises),
        cmocka_unit_test(prompts_are_cut_into_chunks),
        cmocka_unit_test(latest_gives_way_when_blocks_run_out),
        cmocka_unit_test(a_cache_too_small_is_refused_with_numbers),
        cmocka_unit_test(stages_overlap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
