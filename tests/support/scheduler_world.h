/* SPDX-License-Identifier: Apache-2.0 */
/* scheduler_world.h - ranks that are told by a scheduler alone, and what they may expect.
 */
#ifndef SCHEDULER_WORLD_H
#define SCHEDULER_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "engine/scheduler.h"

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
    bool is_cancelled, was_told; /* the ranks knew it before a step */
    cohort_block_key keys[64];
};

enum { MAX_SLOTS = 16, MAX_JOBS = 60, MAX_CACHE_TOKENS = 4096, MAX_UNDER_WAY = 8 };

/* Where a step under way stores keys and values. */
struct under_way {
    int32_t n_places, places[MAX_CACHE_TOKENS];
};

struct world {
    cohort_scheduler_limits limits;
    cohort_scheduler *scheduler;
    struct rank_slot slots[MAX_SLOTS];
    struct job jobs[MAX_JOBS];
    int32_t n_jobs;
    uint64_t content[MAX_CACHE_TOKENS];        /* what the cache holds, token by token */
    struct under_way under_way[MAX_UNDER_WAY]; /* a ring */
    uint32_t n_sent, n_returned;               /* steps */
    uint64_t last_admitted;                    /* arrival of the latest first admission */
    uint64_t seed, draws;
    int32_t n_preempted, n_ahead; /* entries whose last token was not known yet */
    int32_t n_filled;             /* steps that could tell of no more */
    int32_t n_retold;             /* entries of requests that the ranks had forgotten */
    int32_t n_held_back;          /* such that could not be told at once */
    int32_t n_overtaken;          /* first admissions before earlier arrivals */
};

static inline uint64_t pick(struct world *world, uint64_t below) {
    return cohort_random_u64(world->seed, world->draws++) % below;
}

static inline void world_begin(struct world *world,
                               const cohort_scheduler_limits *limits) {
    memset(world, 0, sizeof *world);
    world->limits = *limits;
    assert_int_equal(cohort_scheduler_create(limits, &world->scheduler), COHORT_OK);
}

/* A token and all before it, as one number. */
static inline uint64_t past_of(const struct job *job, int32_t position) {
    return position < job->fork ? job->family * 1000 + (uint64_t)position
                                : (uint64_t)(uintptr_t)job + (uint64_t)position;
}

static inline void extend_keys(const struct world *world, struct job *job) {
    int32_t block_size = world->limits.block_size;
    for (int32_t *n = &job->request.n_keys;
         (*n + 1) * block_size <= job->request.n_tokens; ++*n)
        job->keys[*n] = (cohort_block_key){{past_of(job, (*n + 1) * block_size - 1), 1}};
}

/* Like a job of its family up to the fork. */
static inline struct job *add_like(struct world *world, const struct job *like) {
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

static inline struct job *add_job(struct world *world, int32_t n_prompt,
                                  int32_t n_generate) {
    const struct job like = {.n_prompt = n_prompt, .n_generate = n_generate};
    return add_like(world, &like);
}

static inline struct job *job_of(const cohort_scheduler_request *request) {
    return (struct job *)(uintptr_t)request; /* its first member */
}

/* Keys and values of its tokens are written, all of the step before any is read. */
static inline void ranks_store(struct world *world, const cohort_schedule_entry *entry) {
    int32_t block_size = world->limits.block_size;
    const struct rank_slot *slot = &world->slots[entry->request->slot];
    struct under_way *step = &world->under_way[world->n_sent % MAX_UNDER_WAY];
    for (int32_t i = 0; i < entry->n_scheduled_tokens; i++) {
        int32_t at = entry->n_computed_tokens + i;
        int32_t place = slot->blocks[at / block_size] * block_size + at % block_size;
        world->content[place] = past_of(job_of(entry->request), at);
        step->places[step->n_places++] = place;
    }
}

static inline void ranks_read(const struct world *world,
                              const cohort_schedule_entry *entry) {
    int32_t block_size = world->limits.block_size;
    const struct rank_slot *slot = &world->slots[entry->request->slot];
    for (int32_t at = 0; at < slot->n_computed; at++)
        assert_int_equal(
            world->content[slot->blocks[at / block_size] * block_size + at % block_size],
            past_of(job_of(entry->request), at));
}

static inline void ranks_take_entry(struct world *world,
                                    const cohort_schedule_entry *entry) {
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
        world->n_retold += !entry->is_admitted;
    }
    if (entry->is_admitted) {
        assert_true(entry->is_new);
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
static inline void check_blocks(struct world *world) {
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

static inline bool is_before(const cohort_scheduler_request *a,
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
        job->was_told = job->request.n_sent > 0;
        if (!job->request.is_running) continue;
        if (!head || is_before(&job->request, &head->request)) head = job;
    }
    return head;
}

/* Only the last gives way that no step holds. */
static inline int32_t check_preemptions(const struct world *world) {
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

static inline bool is_in(const cohort_schedule *schedule, const struct job *job) {
    for (int32_t i = 0; i < schedule->n_entries; i++)
        if (schedule->entries[i].request == &job->request) return true;
    return false;
}

/* First come, first served, within a priority: nobody who waits, or is to be told to the
 * ranks again, comes before one that is let in, and the first of those that run is in
 * every step that does not wait for it: so nobody starves. */
static inline void check_order(const struct world *world, const cohort_schedule *schedule,
                               const struct job *head) {
    for (int32_t i = 0; i < schedule->n_entries; i++) {
        const cohort_scheduler_request *request = schedule->entries[i].request;
        for (int32_t j = 0; schedule->entries[i].is_admitted && j < world->n_jobs; j++) {
            const cohort_scheduler_request *other = &world->jobs[j].request;
            if (other->is_queued) assert_true(is_before(request, other));
            if (other->is_running) assert_true(other->n_sent > 0);
        }
    }
    if (head && head->n_held == 0) assert_true(is_in(schedule, head));
}

/* With one stage, all that run are in it where there are tokens and blocks for all, and
 * bytes to tell of those that the ranks forgot, however long the prompts beside them. */
static inline void check_nobody_stalls(struct world *world,
                                       const cohort_schedule *schedule) {
    const cohort_scheduler_limits *limits = &world->limits;
    int32_t most_blocks = limits->max_num_batched_tokens / limits->block_size + 1;
    if (limits->pp_size > 1 || limits->max_num_batched_tokens < limits->max_num_seqs ||
        cohort_scheduler_blocks(world->scheduler)->n_free < most_blocks)
        return;
    for (int32_t i = 0; i < world->n_jobs; i++) {
        const struct job *job = &world->jobs[i];
        if (!job->request.is_running || job->n_held > 0 || is_in(schedule, job)) continue;
        assert_true(!job->was_told && limits->max_new_bytes > 0);
        world->n_held_back++;
    }
}

/* As much as a step may tell of requests that are new, tokens and blocks as they are
 * sent, or one of them. */
static inline void check_bytes(struct world *world, const cohort_schedule *schedule) {
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
static inline bool ranks_take_step(struct world *world, cohort_schedule *schedule) {
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
    assert_true(world->n_sent - world->n_returned < MAX_UNDER_WAY);
    world->under_way[world->n_sent % MAX_UNDER_WAY].n_places = 0;
    for (int32_t i = 0; i < schedule->n_entries; i++) {
        ranks_take_entry(world, &schedule->entries[i]);
        n_tokens += schedule->entries[i].n_scheduled_tokens;
        for (int32_t j = 0; j < i; j++)
            assert_ptr_not_equal(schedule->entries[i].request,
                                 schedule->entries[j].request);
    }
    for (int32_t i = 0; i < schedule->n_entries; i++)
        ranks_read(world, &schedule->entries[i]);
    world->n_sent++;
    assert_int_equal(n_tokens, schedule->n_tokens);
    assert_true(n_tokens <= world->limits.max_num_batched_tokens);
    assert_true(cohort_scheduler_n_in_flight(world->scheduler) <=
                world->limits.max_in_flight);
    return true;
}

static inline void end_job(struct world *world, struct job *job) {
    job->n_ends++;
    cohort_scheduler_finish(world->scheduler, &job->request);
}

static inline void step_returns(struct world *world) {
    cohort_schedule done;
    cohort_scheduler_complete(world->scheduler, &done);
    world->n_returned++;
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

/* What is found by a key is what the key says. */
static inline void check_keys(const struct world *world) {
    int32_t block_size = world->limits.block_size;
    for (int32_t i = 0; i < world->n_jobs; i++) {
        const struct job *job = &world->jobs[i];
        for (int32_t k = 0; k < job->request.n_keys; k++) {
            int32_t id = cohort_blocks_find(cohort_scheduler_blocks(world->scheduler),
                                            &job->keys[k]);
            for (int32_t t = 0; id >= 0 && t < block_size; t++)
                assert_int_equal(world->content[id * block_size + t],
                                 past_of(job, k * block_size + t));
        }
    }
}

/* A rank dies: of the steps under way nobody knows what was stored, the ranks forget all
 * requests, and their caches, too, where these are not kept. */
static inline void ranks_die(struct world *world, bool keeps_kv) {
    int64_t n_tokens = 0, n_lost;
    for (; world->n_returned != world->n_sent; world->n_returned++) {
        const struct under_way *step =
            &world->under_way[world->n_returned % MAX_UNDER_WAY];
        n_tokens += step->n_places;
        for (int32_t i = 0; i < step->n_places; i++)
            if (pick(world, 2)) world->content[step->places[i]] = UINT64_MAX;
    }
    memset(world->slots, 0, sizeof world->slots);
    if (keeps_kv) {
        n_lost = cohort_scheduler_rollback(world->scheduler);
        assert_int_equal(n_lost, n_tokens);
    } else {
        memset(world->content, 0xff, sizeof world->content);
        n_lost = cohort_scheduler_forget_kv(world->scheduler);
        assert_true(n_lost >= n_tokens);
        assert_int_equal(cohort_scheduler_n_running(world->scheduler), 0);
    }
    assert_int_equal(cohort_scheduler_n_in_flight(world->scheduler), 0);
    check_blocks(world);
    check_keys(world);
}

static inline void world_end(struct world *world) {
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

static const cohort_scheduler_limits one_stage = {.max_num_seqs = 8,
                                                  .max_num_batched_tokens = 7,
                                                  .max_model_len = 64,
                                                  .block_size = 16,
                                                  .n_blocks = 16,
                                                  .pp_size = 1,
                                                  .max_in_flight = 1};

#endif /* SCHEDULER_WORLD_H */
