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
    int32_t priority, told_bytes;
    int32_t n_admissions, n_ends;
    int32_t n_held, n_given_way; /* its steps under way, and preemptions, before a step */
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
    int32_t n_filled;             /* steps that could tell of no more */
    int32_t n_overtaken;          /* first admissions before earlier arrivals */
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
static struct job *add_like(struct world *world, const struct job *like) {
    struct job *job = &world->jobs[world->n_jobs++];
    *job = *like;
    job->request =
        (cohort_scheduler_request){.n_tokens = job->n_prompt,
                                   .max_tokens = job->n_prompt + job->n_generate,
                                   .priority = job->priority,
                                   .reads_cache = job->family > 0,
                                   .told_bytes = job->told_bytes,
                                   .keys = job->keys};
    if (job->family > 0) extend_keys(world, job);
    cohort_scheduler_add(world->scheduler, &job->request);
    return job;
}

static struct job *add_job(struct world *world, int32_t n_prompt, int32_t n_generate) {
    const struct job like = {.n_prompt = n_prompt, .n_generate = n_generate};
    return add_like(world, &like);
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
            world->n_overtaken += request->arrival < world->last_admitted;
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

/* ---- order ------------------------------------------------------------------------- */

static bool is_before(const cohort_scheduler_request *a,
                      const cohort_scheduler_request *b) {
    return a->priority < b->priority ||
           (a->priority == b->priority && a->arrival < b->arrival);
}

/* Who runs and comes first.  NULL: nobody runs. */
static const struct job *note_state(struct world *world) {
    const struct job *head = NULL;
    for (int32_t i = 0; i < world->n_jobs; i++) {
        struct job *job = &world->jobs[i];
        job->n_held = job->request.n_in_flight;
        job->n_given_way = job->request.n_preemptions;
        if (!job->request.is_running) continue;
        if (!head || is_before(&job->request, &head->request)) head = job;
    }
    return head;
}

/* Only the last gives way that no step holds. */
static int32_t check_preemptions(const struct world *world) {
    int32_t n = 0;
    for (int32_t i = 0; i < world->n_jobs; i++) {
        const struct job *victim = &world->jobs[i];
        if (victim->request.n_preemptions == victim->n_given_way) continue;
        n++;
        for (int32_t j = 0; j < world->n_jobs; j++) {
            const struct job *other = &world->jobs[j];
            if (other->request.is_running && is_before(&victim->request, &other->request))
                assert_true(other->n_held > 0);
        }
    }
    return n;
}

static bool is_in(const cohort_schedule *schedule, const struct job *job) {
    for (int32_t i = 0; i < schedule->n_entries; i++)
        if (schedule->entries[i].request == &job->request) return true;
    return false;
}

/* First come, first served, within a priority: nobody who waits comes before one that is
 * let in, and the first of those that run is in every step that does not wait for it: so
 * nobody starves. */
static void check_order(const struct world *world, const cohort_schedule *schedule,
                        const struct job *head) {
    for (int32_t i = 0; i < schedule->n_entries; i++) {
        const cohort_scheduler_request *request = schedule->entries[i].request;
        for (int32_t j = 0; schedule->entries[i].is_new && j < world->n_jobs; j++)
            if (world->jobs[j].request.is_queued)
                assert_true(is_before(request, &world->jobs[j].request));
    }
    if (head && head->n_held == 0) assert_true(is_in(schedule, head));
}

/* With one stage, all that run are in it where there are tokens and blocks for all,
 * however long the prompts beside them. */
static void check_nobody_stalls(const struct world *world,
                                const cohort_schedule *schedule) {
    const cohort_scheduler_limits *limits = &world->limits;
    int32_t most_blocks = limits->max_num_batched_tokens / limits->block_size + 1;
    if (limits->pp_size > 1 || limits->max_num_batched_tokens < limits->max_num_seqs ||
        cohort_scheduler_blocks(world->scheduler)->n_free < most_blocks)
        return;
    for (int32_t i = 0; i < world->n_jobs; i++)
        if (world->jobs[i].request.is_running && world->jobs[i].n_held == 0)
            assert_true(is_in(schedule, &world->jobs[i]));
}

/* As much as a step may tell of requests that are new, tokens and blocks as they are
 * sent, or one of them. */
static void check_bytes(struct world *world, const cohort_schedule *schedule) {
    int64_t bytes = 0, limit = world->limits.max_new_bytes;
    for (int32_t i = 0; limit && i < schedule->n_entries; i++) {
        const cohort_schedule_entry *entry = &schedule->entries[i];
        if (!entry->is_new) continue;
        bytes += job_of(entry->request)->told_bytes;
        bytes += (int64_t)(entry->request->n_tokens + 1) / 2 * 8;
        bytes += (int64_t)(entry->n_new_blocks + 1) / 2 * 8;
    }
    assert_true(bytes <= limit);
    world->n_filled += bytes > 0 && bytes > limit / 2;
}

/* Returns false where there is nothing to schedule. */
static bool ranks_take_step(struct world *world, cohort_schedule *schedule) {
    const struct job *head = note_state(world);
    bool some = cohort_scheduler_next(world->scheduler, schedule);
    world->n_preempted += check_preemptions(world);
    check_blocks(world);
    if (!some) return false;
    check_order(world, schedule, head);
    check_nobody_stalls(world, schedule);
    check_bytes(world, schedule);
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
    uint64_t n_preempted, n_hits, n_ahead, n_filled, n_overtaken;
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
    enum { MOST_TOLD = 64 };
    int32_t longest = MOST_TOLD + (max_len + 1 + least + 2) * 4;
    if (seed % 2) limits.max_new_bytes = longest + (int32_t)pick(&probe, 400);
    bool has_priorities = seed % 3 == 0;
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
    if (!has_priorities) assert_int_equal(world->n_overtaken, 0);
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
    assert_true(tally.n_filled > 1000);
    assert_true(tally.n_overtaken > 100);
}

/* ---- traces ------------------------------------------------------------------------ */

static const cohort_scheduler_limits one_stage = {.max_num_seqs = 8,
                                                  .max_num_batched_tokens = 7,
                                                  .max_model_len = 64,
                                                  .block_size = 16,
                                                  .n_blocks = 16,
                                                  .pp_size = 1,
                                                  .max_in_flight = 1};

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

/* Comparisons for n requests that come in the worst order for a list, wait, and leave. */
static double looks_for(int32_t n) {
    const cohort_scheduler_limits limits = {.max_num_seqs = 1,
                                            .max_num_batched_tokens = 8,
                                            .max_model_len = 8,
                                            .block_size = 8,
                                            .n_blocks = 1,
                                            .pp_size = 1,
                                            .max_in_flight = 1};
    cohort_scheduler *scheduler;
    assert_int_equal(cohort_scheduler_create(&limits, &scheduler), COHORT_OK);
    cohort_scheduler_request *requests = calloc((size_t)n, sizeof *requests);
    assert_non_null(requests);
    for (int32_t i = 0; i < n; i++) {
        requests[i] = (cohort_scheduler_request){
            .n_tokens = 1, .max_tokens = 2, .priority = -i / 2};
        cohort_scheduler_add(scheduler, &requests[i]);
    }
    int32_t n_seen = 0;
    int32_t order = n - (n % 2 ? 1 : 2); /* the first of the last pair */
    for (const cohort_scheduler_request *at = &requests[order]; at; at = at->next) {
        assert_true(
            !at->next || at->priority < at->next->priority ||
            (at->priority == at->next->priority && at->arrival < at->next->arrival));
        n_seen++;
    }
    assert_in_range(n_seen, n - 1, n);
    for (int32_t i = 0; i < n; i++)
        cohort_scheduler_finish(scheduler, &requests[i]);
    assert_int_equal(cohort_scheduler_n_waiting(scheduler), 0);
    double looks = (double)cohort_scheduler_n_looks(scheduler);
    cohort_scheduler_destroy(scheduler);
    free(requests);
    return looks;
}

static void any_order_of_priorities_costs_little(void **state) {
    (void)state;
    for (int32_t n = 2000; n <= 64000; n *= 2)
        assert_true(looks_for(2 * n) < 3 * looks_for(n)); /* 4 where each walks a list */
    assert_true(looks_for(100000) < 100000 * 200.0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_lives_keep_all_promises),
        cmocka_unit_test(prompts_are_cut_into_chunks),
        cmocka_unit_test(many_long_prompts_leave_room_for_a_short_one),
        cmocka_unit_test(the_end_of_a_long_prompt_leaves_room),
        cmocka_unit_test(a_long_prompt_stalls_nobody),
        cmocka_unit_test(a_step_tells_of_as_many_as_it_holds),
        cmocka_unit_test(nothing_is_sent_ahead_of_a_long_step),
        cmocka_unit_test(latest_gives_way_when_blocks_run_out),
        cmocka_unit_test(a_cache_too_small_is_refused_with_numbers),
        cmocka_unit_test(stages_overlap),
        cmocka_unit_test(any_order_of_priorities_costs_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
