/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/scheduler.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "engine/order.h"

#undef NDEBUG /* bugs are asserted in every build; a step costs milliseconds */
#include <assert.h>

/* Design notes.
 *
 * Both lists are in order of priority and arrival, so that a request that was preempted,
 * or waited longer, comes first wherever it stands.
 *
 * Nothing here can wait for ever: the oldest request may take the blocks of all others
 * that no step holds, and a cache holds at least one whole sequence.  A request that a
 * step holds is never preempted, because that step reads its blocks; it comes back, and
 * then it can be.  Requests behind one that lacks blocks are held back meanwhile, so that
 * they do come back.
 *
 * A request is admitted when the blocks for all that is known of it are free, although
 * they are taken chunk by chunk: otherwise a long prompt would be half computed and then
 * preempted.
 *
 * vLLM puts all requests into one step, and with pp stages, of which each waits for the
 * one before, takes turns.  Here a step gets a pp-th of the sequences, and of waiting
 * prompts a chunk that leaves work for the other stages. */

struct step {
    cohort_schedule_entry *entries; /* max_num_seqs */
    int32_t n_entries;
    int32_t n_tokens;
    int64_t new_bytes; /* of limits.max_new_bytes */
};

struct cohort_scheduler {
    cohort_scheduler_limits limits;
    int32_t blocks_per_slot;
    cohort_blocks blocks;
    cohort_scheduler_order waiting, running;
    uint64_t last_arrival, n_preemptions;
    uint64_t n_cache_queries, n_cache_hits; /* tokens */

    int32_t *tables;     /* max_num_seqs * blocks_per_slot */
    int32_t *free_slots; /* a stack */
    int32_t n_free_slots;
    uint32_t *finished, *told; /* slots to forget: collected, and handed out last */
    int32_t n_finished;

    struct step *steps; /* a ring of max_in_flight + 1: the one completed last, too */
    int32_t first_step, n_steps;
    cohort_scheduler_request *alone; /* NULL: all may run */
};

/* ---- creation ---------------------------------------------------------------------- */

static cohort_status check_limits(const cohort_scheduler_limits *limits) {
    const struct {
        const char *name;
        int32_t value;
    } positive[] = {{"max_num_seqs", limits->max_num_seqs},
                    {"max_num_batched_tokens", limits->max_num_batched_tokens},
                    {"max_model_len", limits->max_model_len},
                    {"block_size", limits->block_size},
                    {"pp_size", limits->pp_size},
                    {"max_in_flight", limits->max_in_flight}};
    for (size_t i = 0; i < sizeof positive / sizeof *positive; i++)
        if (positive[i].value < 1)
            return COHORT_FAIL(COHORT_E_INVALID, "%s is %d, must be at least 1",
                               positive[i].name, positive[i].value);
    int64_t needed =
        ((int64_t)limits->max_model_len + limits->block_size - 1) / limits->block_size;
    if (limits->n_blocks < needed)
        return COHORT_FAIL(
            COHORT_E_INVALID,
            "a cache of %d blocks of %d tokens does not hold max_model_len "
            "%d; it takes %lld",
            limits->n_blocks, limits->block_size, limits->max_model_len,
            (long long)needed);
    return COHORT_OK;
}

static cohort_status allocate(cohort_scheduler *scheduler) {
    const cohort_scheduler_limits *limits = &scheduler->limits;
    size_t slots = (size_t)limits->max_num_seqs;
    size_t steps = (size_t)limits->max_in_flight + 1;
    scheduler->tables =
        calloc(slots * (size_t)scheduler->blocks_per_slot, sizeof *scheduler->tables);
    scheduler->free_slots = calloc(slots, sizeof *scheduler->free_slots);
    scheduler->finished = calloc(slots, sizeof *scheduler->finished);
    scheduler->told = calloc(slots, sizeof *scheduler->told);
    scheduler->steps = calloc(steps, sizeof *scheduler->steps);
    if (!scheduler->tables || !scheduler->free_slots || !scheduler->finished ||
        !scheduler->told || !scheduler->steps)
        return COHORT_FAIL(COHORT_E_NOMEM, "a scheduler of %zu sequences", slots);
    for (size_t i = 0; i < steps; i++) {
        struct step *step = &scheduler->steps[i];
        step->entries = calloc(slots, sizeof *step->entries);
        if (!step->entries)
            return COHORT_FAIL(COHORT_E_NOMEM, "a scheduler of %zu sequences", slots);
    }
    for (int32_t slot = limits->max_num_seqs; slot-- > 0;)
        scheduler->free_slots[scheduler->n_free_slots++] = slot;
    return cohort_blocks_init(&scheduler->blocks, limits->n_blocks);
}

cohort_status cohort_scheduler_create(const cohort_scheduler_limits *limits,
                                      cohort_scheduler **out_scheduler) {
    *out_scheduler = NULL;
    COHORT_TRY(check_limits(limits));
    cohort_scheduler *scheduler = calloc(1, sizeof *scheduler);
    if (!scheduler) return COHORT_FAIL(COHORT_E_NOMEM, "a scheduler");
    scheduler->limits = *limits;
    cohort_scheduler_order_init(&scheduler->waiting);
    cohort_scheduler_order_init(&scheduler->running);
    scheduler->blocks_per_slot =
        (int32_t)(((int64_t)limits->max_model_len + limits->block_size - 1) /
                  limits->block_size);
    cohort_status status = allocate(scheduler);
    if (status < 0) {
        cohort_scheduler_destroy(scheduler);
        return status;
    }
    *out_scheduler = scheduler;
    return COHORT_OK;
}

void cohort_scheduler_destroy(cohort_scheduler *scheduler) {
    if (!scheduler) return;
    for (int32_t i = 0; scheduler->steps && i <= scheduler->limits.max_in_flight; i++)
        free(scheduler->steps[i].entries);
    cohort_blocks_deinit(&scheduler->blocks);
    free(scheduler->tables);
    free(scheduler->free_slots);
    free(scheduler->finished);
    free(scheduler->told);
    free(scheduler->steps);
    free(scheduler);
}

/* ---- slots and blocks -------------------------------------------------------------- */

static int32_t *table_of(const cohort_scheduler *scheduler, int32_t slot) {
    return scheduler->tables + (size_t)slot * (size_t)scheduler->blocks_per_slot;
}

static int32_t blocks_for(const cohort_scheduler *scheduler, int32_t n_tokens) {
    int32_t block_size = scheduler->limits.block_size;
    return n_tokens / block_size + (n_tokens % block_size != 0);
}

/* Slot and blocks back; the ranks hear of it with the next step. */
static void release(cohort_scheduler *scheduler, cohort_scheduler_request *request) {
    assert(request->slot >= 0 && request->n_in_flight == 0);
    cohort_blocks_give_back(&scheduler->blocks, request->n_blocks,
                            table_of(scheduler, request->slot));
    scheduler->free_slots[scheduler->n_free_slots++] = request->slot;
    if (request->n_sent > 0)
        scheduler->finished[scheduler->n_finished++] = (uint32_t)request->slot;
    request->slot = -1;
    request->n_blocks = request->n_published = 0;
    request->n_scheduled = request->n_sent = 0;
}

/* From those that run back to those that wait, in its old place. */
static void requeue(cohort_scheduler *scheduler, cohort_scheduler_request *request) {
    cohort_scheduler_order_remove(&scheduler->running, request);
    request->is_running = false;
    release(scheduler, request);
    request->is_queued = true;
    cohort_scheduler_order_insert(&scheduler->waiting, request);
}

static void preempt(cohort_scheduler *scheduler, cohort_scheduler_request *request) {
    requeue(scheduler, request);
    request->n_preemptions++;
    scheduler->n_preemptions++;
}

/* The latest one after request that no step holds, or NULL. */
static cohort_scheduler_request *victim_for(const cohort_scheduler *scheduler,
                                            const cohort_scheduler_request *request) {
    cohort_scheduler_request *victim = scheduler->running.last;
    while (victim != request && victim->n_in_flight > 0)
        victim = victim->previous;
    return victim == request ? NULL : victim;
}

/* Blocks for n_tokens in all; sets *out_preempted where later requests gave way. */
static bool reserve(cohort_scheduler *scheduler, cohort_scheduler_request *request,
                    int32_t n_tokens, bool *out_preempted) {
    int32_t missing = blocks_for(scheduler, n_tokens) - request->n_blocks;
    if (missing <= 0) return true;
    while (missing > scheduler->blocks.n_free) {
        cohort_scheduler_request *victim = victim_for(scheduler, request);
        if (!victim) return false;
        preempt(scheduler, victim);
        *out_preempted = true;
    }
    assert(request->n_blocks + missing <= scheduler->blocks_per_slot);
    cohort_blocks_take(&scheduler->blocks, missing,
                       table_of(scheduler, request->slot) + request->n_blocks);
    request->n_blocks += missing;
    return true;
}

/* Blocks that are, or with the step being made will be, full. */
static void publish(cohort_scheduler *scheduler, cohort_scheduler_request *request) {
    const int32_t *table = table_of(scheduler, request->slot);
    int32_t n_full = request->n_scheduled / scheduler->limits.block_size;
    if (n_full > request->n_keys) n_full = request->n_keys;
    for (; request->n_published < n_full; request->n_published++)
        cohort_blocks_publish(&scheduler->blocks, table[request->n_published],
                              &request->keys[request->n_published]);
}

/* The blocks that the request may start behind; at least one token is left to compute.
 * out_n_idle: those that count as free. */
static int32_t find_cached(const cohort_scheduler *scheduler,
                           const cohort_scheduler_request *request, int32_t *out_blocks,
                           int32_t *out_n_idle) {
    int32_t most = (request->n_tokens - 1) / scheduler->limits.block_size, n = 0;
    *out_n_idle = 0;
    if (!request->reads_cache) return 0;
    if (most > request->n_keys) most = request->n_keys;
    for (; n < most; n++) {
        int32_t id = cohort_blocks_find(&scheduler->blocks, &request->keys[n]);
        if (id == COHORT_BLOCK_NONE) break;
        out_blocks[n] = id;
        *out_n_idle += !cohort_blocks_n_users(&scheduler->blocks, id);
    }
    return n;
}

static void start_behind(cohort_scheduler *scheduler, cohort_scheduler_request *request,
                         int32_t n_cached) {
    const int32_t *table = table_of(scheduler, request->slot);
    for (int32_t i = 0; i < n_cached; i++)
        cohort_blocks_share(&scheduler->blocks, table[i]);
    request->n_blocks = request->n_published = n_cached;
    request->n_scheduled = n_cached * scheduler->limits.block_size;
    if (!request->reads_cache || request->has_run) return;
    request->n_cached_tokens = request->n_scheduled;
    scheduler->n_cache_queries += (uint64_t)request->n_tokens;
    scheduler->n_cache_hits += (uint64_t)request->n_cached_tokens;
}

/* ---- a step ------------------------------------------------------------------------ */

/* Sequences that a step may have: a pp-th of what can run, so that pp steps have some. */
static int32_t sequence_limit(const cohort_scheduler *scheduler) {
    int32_t pp = scheduler->limits.pp_size;
    int32_t admissible = scheduler->waiting.n < scheduler->n_free_slots
                             ? scheduler->waiting.n
                             : scheduler->n_free_slots;
    int32_t active = scheduler->running.n + admissible;
    if (scheduler->limits.max_in_flight == 1 || pp == 1)
        return scheduler->limits.max_num_seqs;
    return active / pp + (active % pp != 0);
}

/* Tokens that a step may have: with stages to fill, a part of all that is pending, but
 * one for every sequence. */
static int32_t token_limit(const cohort_scheduler *scheduler, int32_t max_sequences) {
    int64_t most = scheduler->limits.max_num_batched_tokens;
    if (scheduler->limits.max_in_flight == 1 || scheduler->limits.pp_size == 1)
        return (int32_t)most;
    int64_t parts =
        (int64_t)COHORT_SCHEDULER_CHUNKS_PER_STAGE * scheduler->limits.pp_size;
    int64_t pending = 0;
    for (const cohort_scheduler_request *request = scheduler->running.first; request;
         request = request->next)
        pending += request->n_tokens - request->n_scheduled;
    for (const cohort_scheduler_request *request = scheduler->waiting.first;
         request && pending < most * parts; request = request->next)
        pending += request->n_tokens;
    int64_t share = (pending + parts - 1) / parts;
    if (share < COHORT_SCHEDULER_MIN_CHUNK_TOKENS)
        share = COHORT_SCHEDULER_MIN_CHUNK_TOKENS;
    if (share < max_sequences) share = max_sequences;
    return (int32_t)(share < most ? share : most);
}

/* Tokens that a step could compute; the last of them may be one that is still sampled. */
static int32_t pending_tokens(const cohort_scheduler *scheduler,
                              const cohort_scheduler_request *request) {
    int32_t expected = request->n_tokens + request->n_sampling;
    bool ahead = scheduler->limits.ranks_keep_tokens && expected < request->max_tokens;
    return (ahead ? expected : request->n_tokens) - request->n_scheduled;
}

/* Tokens that those behind a request, n_behind of which run, could have in this step, as
 * far as it matters. */
static int32_t wanted_behind(const cohort_scheduler *scheduler,
                             const cohort_scheduler_request *request, int32_t n_behind,
                             int32_t max_sequences, int32_t enough) {
    int32_t wanted = 0, n_slots = scheduler->n_free_slots;
    int64_t n_blocks = 0;
    while (wanted < enough && n_behind > 0 && max_sequences > 0 &&
           (request = request->next)) {
        bool wants = pending_tokens(scheduler, request) > 0;
        wanted += pending_tokens(scheduler, request);
        max_sequences -= wants;
        n_behind -= wants;
    }
    for (request = scheduler->waiting.first;
         request && wanted < enough && max_sequences-- > 0 && n_slots-- > 0;
         request = request->next) {
        n_blocks += blocks_for(scheduler, request->n_tokens);
        if (n_blocks > scheduler->blocks.n_free) break;
        wanted += request->n_tokens;
    }
    return wanted < enough ? wanted : enough;
}

/* What a request that has a slot computes in this step of the tokens pending; n_behind
 * run behind it and want some, too: each has at least one. */
static int32_t share_of(const cohort_scheduler *scheduler, const struct step *step,
                        const cohort_scheduler_request *request, int32_t n_behind,
                        int32_t max_sequences, int32_t max_tokens) {
    int32_t n_tokens = pending_tokens(scheduler, request),
            left = max_tokens - step->n_tokens;
    int32_t n_others = max_sequences - step->n_entries - 1;
    int32_t kept = n_behind < n_others ? n_behind : n_others;
    if (n_tokens > max_tokens / 2 && !scheduler->alone) {
        int32_t wanted = wanted_behind(scheduler, request, n_behind, n_others, left / 2);
        if (kept < wanted) kept = wanted;
    }
    if (kept > left - 1) kept = left - 1;
    return n_tokens < left - kept ? n_tokens : left - kept;
}

/* Tokens and blocks are numbers of 32 bits, each list in whole words of 64. */
static int64_t bytes_to_tell(const cohort_scheduler *scheduler,
                             const cohort_scheduler_request *request) {
    int64_t n = (int64_t)request->n_tokens + blocks_for(scheduler, request->n_tokens) + 2;
    return request->told_bytes + n * (int64_t)sizeof(int32_t);
}

/* One may always come: none takes more than a step has. */
static bool can_tell(const cohort_scheduler *scheduler, const struct step *step,
                     const cohort_scheduler_request *request) {
    int64_t limit = scheduler->limits.max_new_bytes;
    return !limit || step->new_bytes == 0 ||
           step->new_bytes + bytes_to_tell(scheduler, request) <= limit;
}

static void enter(struct step *step, cohort_scheduler *scheduler,
                  cohort_scheduler_request *request, int32_t n_tokens,
                  int32_t n_old_blocks) {
    bool is_new = request->n_sent == 0;
    int32_t n_expected = request->n_tokens + request->n_sampling;
    bool samples = request->n_scheduled + n_tokens == n_expected;
    step->entries[step->n_entries++] = (cohort_schedule_entry){
        .request = request,
        .is_new = is_new,
        .samples = samples,
        .n_computed_tokens = request->n_scheduled,
        .n_scheduled_tokens = n_tokens,
        .n_new_tokens = is_new ? 0 : n_expected - request->n_sent,
        .n_new_blocks = request->n_blocks - n_old_blocks,
        .new_blocks = table_of(scheduler, request->slot) + n_old_blocks,
    };
    step->n_tokens += n_tokens;
    if (is_new) step->new_bytes += bytes_to_tell(scheduler, request);
    request->n_scheduled += n_tokens;
    request->n_sent = n_expected + (samples && scheduler->limits.ranks_keep_tokens);
    request->n_sampling += samples;
    request->n_in_flight++;
    publish(scheduler, request);
}

/* Requests that run, in order of arrival.  Returns whether some had to give way, or wait
 * until the ranks can be told of them again. */
static bool schedule_running(cohort_scheduler *scheduler, struct step *step,
                             int32_t max_sequences, int32_t max_tokens) {
    bool held_back = false;
    int32_t n_behind = 0;
    for (const cohort_scheduler_request *request = scheduler->running.first; request;
         request = request->next)
        n_behind += !scheduler->alone && pending_tokens(scheduler, request) > 0;
    for (cohort_scheduler_request *request = scheduler->running.first;
         request && step->n_entries < max_sequences && step->n_tokens < max_tokens;
         request = request->next) {
        if (pending_tokens(scheduler, request) == 0)
            continue; /* its last token is on the way */
        if (scheduler->alone && request != scheduler->alone) continue;
        n_behind -= !scheduler->alone;
        if (request->n_sent == 0 && !can_tell(scheduler, step, request)) {
            held_back = true;
            continue;
        }
        int32_t n_tokens =
            share_of(scheduler, step, request, n_behind, max_sequences, max_tokens);
        int32_t n_old_blocks = request->n_sent ? request->n_blocks : 0;
        /* Later ones must not take what this one waits for. */
        if (!reserve(scheduler, request, request->n_scheduled + n_tokens, &held_back))
            return true;
        enter(step, scheduler, request, n_tokens, n_old_blocks);
    }
    return held_back;
}

/* Takes a slot, and the blocks that the cache has; false where there is no room. */
static bool admit(cohort_scheduler *scheduler, cohort_scheduler_request *request) {
    if (scheduler->n_free_slots == 0) return false;
    int32_t n_idle, slot = scheduler->free_slots[scheduler->n_free_slots - 1];
    int32_t n_cached =
        find_cached(scheduler, request, table_of(scheduler, slot), &n_idle);
    if (blocks_for(scheduler, request->n_tokens) - n_cached >
        scheduler->blocks.n_free - n_idle)
        return false;
    scheduler->n_free_slots--;
    request->slot = slot;
    start_behind(scheduler, request, n_cached);
    request->has_run = true;
    cohort_scheduler_order_remove(&scheduler->waiting, request);
    request->is_queued = false;
    request->is_running = true;
    cohort_scheduler_order_insert(&scheduler->running, request);
    return true;
}

static cohort_scheduler_request *next_waiting(const cohort_scheduler *scheduler) {
    cohort_scheduler_request *alone = scheduler->alone;
    if (!alone) return scheduler->waiting.first;
    return alone->is_queued ? alone : NULL;
}

static void admit_waiting(cohort_scheduler *scheduler, struct step *step,
                          int32_t max_sequences, int32_t max_tokens) {
    cohort_scheduler_request *request;
    while ((request = next_waiting(scheduler)) && step->n_entries < max_sequences &&
           step->n_tokens < max_tokens && can_tell(scheduler, step, request) &&
           admit(scheduler, request)) {
        int32_t n_tokens =
            share_of(scheduler, step, request, 0, max_sequences, max_tokens);
        bool preempted = false,
             reserved =
                 reserve(scheduler, request, request->n_scheduled + n_tokens, &preempted);
        assert(reserved && !preempted);
        enter(step, scheduler, request, n_tokens, 0);
        step->entries[step->n_entries - 1].is_admitted = true;
    }
}

/* Nothing is sent ahead of the last step under way where that would not pay. */
static bool is_last_awaited(const cohort_scheduler *scheduler) {
    int32_t ring = scheduler->limits.max_in_flight + 1, n = scheduler->n_steps;
    if (n < scheduler->limits.pp_size) return false;
    const struct step *last = &scheduler->steps[(scheduler->first_step + n - 1) % ring];
    return last->n_tokens >= COHORT_SCHEDULER_LONG_STEP_TOKENS;
}

bool cohort_scheduler_next(cohort_scheduler *scheduler, cohort_schedule *out_schedule) {
    *out_schedule = (cohort_schedule){0};
    int32_t ring = scheduler->limits.max_in_flight + 1;
    if (scheduler->n_steps == scheduler->limits.max_in_flight ||
        (scheduler->alone && scheduler->n_steps > 0) || is_last_awaited(scheduler))
        return false;
    struct step *step =
        &scheduler->steps[(scheduler->first_step + scheduler->n_steps) % ring];
    step->n_entries = step->n_tokens = 0;
    step->new_bytes = 0;
    int32_t max_sequences = sequence_limit(scheduler);
    int32_t max_tokens = token_limit(scheduler, max_sequences);
    if (!schedule_running(scheduler, step, max_sequences, max_tokens))
        admit_waiting(scheduler, step, max_sequences, max_tokens);
    if (step->n_entries == 0) return false;
    scheduler->n_steps++;
    memcpy(scheduler->told, scheduler->finished,
           (size_t)scheduler->n_finished * sizeof *scheduler->told);
    *out_schedule = (cohort_schedule){.entries = step->entries,
                                      .n_entries = step->n_entries,
                                      .finished = scheduler->told,
                                      .n_finished = scheduler->n_finished,
                                      .n_tokens = step->n_tokens};
    scheduler->n_finished = 0;
    return true;
}

/* ---- events ------------------------------------------------------------------------ */

void cohort_scheduler_add(cohort_scheduler *scheduler,
                          cohort_scheduler_request *request) {
    assert(request->n_tokens > 0 && request->n_tokens <= request->max_tokens &&
           request->max_tokens <= scheduler->limits.max_model_len + 1);
    request->arrival = ++scheduler->last_arrival;
    request->slot = -1;
    request->is_queued = true;
    cohort_scheduler_order_insert(&scheduler->waiting, request);
}

void cohort_scheduler_complete(cohort_scheduler *scheduler,
                               cohort_schedule *out_schedule) {
    assert(scheduler->n_steps > 0);
    struct step *step = &scheduler->steps[scheduler->first_step];
    scheduler->first_step =
        (scheduler->first_step + 1) % (scheduler->limits.max_in_flight + 1);
    scheduler->n_steps--;
    for (int32_t i = 0; i < step->n_entries; i++) {
        cohort_scheduler_request *request = step->entries[i].request;
        request->n_in_flight--;
        if (request->is_finished && request->n_in_flight == 0)
            release(scheduler, request);
    }
    *out_schedule = (cohort_schedule){.entries = step->entries,
                                      .n_entries = step->n_entries,
                                      .n_tokens = step->n_tokens};
}

void cohort_scheduler_append(cohort_scheduler *scheduler,
                             cohort_scheduler_request *request) {
    assert(request->is_running && request->n_sampling > 0 &&
           request->n_scheduled >= request->n_tokens &&
           request->n_tokens < scheduler->limits.max_model_len);
    request->n_tokens++;
    request->n_sampling--;
}

void cohort_scheduler_finish(cohort_scheduler *scheduler,
                             cohort_scheduler_request *request) {
    if (request->is_finished) return;
    request->is_finished = true;
    if (request->is_queued) cohort_scheduler_order_remove(&scheduler->waiting, request);
    if (request->is_running) cohort_scheduler_order_remove(&scheduler->running, request);
    request->is_queued = request->is_running = false;
    if (request->slot >= 0 && request->n_in_flight == 0) release(scheduler, request);
}

/* ---- steps that will not come back ------------------------------------------------- */

/* A block is published before the step that fills it has come back. */
static void unpublish(cohort_scheduler *scheduler, cohort_scheduler_request *request) {
    const int32_t *table = table_of(scheduler, request->slot);
    int32_t n_full = request->n_scheduled / scheduler->limits.block_size;
    while (request->n_published > n_full)
        cohort_blocks_forget(&scheduler->blocks, table[--request->n_published]);
}

/* Of a request's entries, the newest first. */
static void undo(cohort_scheduler *scheduler, const cohort_schedule_entry *entry) {
    cohort_scheduler_request *request = entry->request;
    request->n_scheduled = entry->n_computed_tokens;
    request->n_sampling -= entry->samples;
    unpublish(scheduler, request);
    if (--request->n_in_flight > 0) return;
    if (request->is_finished)
        release(scheduler, request);
    else if (entry->is_admitted)
        /* It may stand on blocks that another request of these steps was to fill. */
        requeue(scheduler, request);
}

static int32_t undo_last(cohort_scheduler *scheduler) {
    int32_t ring = scheduler->limits.max_in_flight + 1;
    const struct step *step =
        &scheduler->steps[(scheduler->first_step + --scheduler->n_steps) % ring];
    for (int32_t i = 0; i < step->n_entries; i++)
        undo(scheduler, &step->entries[i]);
    return step->n_tokens;
}

void cohort_scheduler_withdraw(cohort_scheduler *scheduler) {
    assert(scheduler->n_steps > 0);
    undo_last(scheduler);
}

/* Nobody loses blocks or slot while a step holds it, and who lost them is computed anew
 * from its tokens: so what the entries say is enough to go back.
 *
 * Caches of ranks that live on, or whose memory was kept, may be used: a rank stores keys
 * and values of a step before it sums or sends what the logits of that step need, so a
 * reply says that all ranks have stored all of this step and of those before.  What later
 * steps stored in part lies behind the tokens that count, in blocks that nobody else
 * shares, and is written again before it is read. */
int64_t cohort_scheduler_rollback(cohort_scheduler *scheduler) {
    int64_t n_tokens = 0;
    while (scheduler->n_steps > 0)
        n_tokens += undo_last(scheduler);
    for (cohort_scheduler_request *request = scheduler->running.first; request;
         request = request->next) {
        assert(request->n_in_flight == 0 && request->n_sampling == 0);
        request->n_sent = 0;
    }
    scheduler->n_finished = 0;
    return n_tokens;
}

int64_t cohort_scheduler_forget_kv(cohort_scheduler *scheduler) {
    int64_t n_tokens = cohort_scheduler_rollback(scheduler);
    while (scheduler->running.first) {
        n_tokens += scheduler->running.first->n_scheduled;
        requeue(scheduler, scheduler->running.first);
    }
    cohort_blocks_forget_all(&scheduler->blocks);
    return n_tokens;
}

void cohort_scheduler_run_alone(cohort_scheduler *scheduler,
                                cohort_scheduler_request *request) {
    scheduler->alone = request;
    for (cohort_scheduler_request *other = scheduler->running.first, *next;
         request && other; other = next) {
        next = other->next;
        if (other != request && other->n_in_flight == 0) requeue(scheduler, other);
    }
}

/* ---- what there is ----------------------------------------------------------------- */

int32_t cohort_scheduler_n_running(const cohort_scheduler *scheduler) {
    return scheduler->running.n;
}

int32_t cohort_scheduler_n_waiting(const cohort_scheduler *scheduler) {
    return scheduler->waiting.n;
}

int32_t cohort_scheduler_n_in_flight(const cohort_scheduler *scheduler) {
    return scheduler->n_steps;
}

uint64_t cohort_scheduler_n_preemptions(const cohort_scheduler *scheduler) {
    return scheduler->n_preemptions;
}

uint64_t cohort_scheduler_n_looks(const cohort_scheduler *scheduler) {
    return scheduler->waiting.n_looks + scheduler->running.n_looks;
}

void cohort_scheduler_cache_use(const cohort_scheduler *scheduler, uint64_t *out_queries,
                                uint64_t *out_hits) {
    *out_queries = scheduler->n_cache_queries;
    *out_hits = scheduler->n_cache_hits;
}

const cohort_blocks *cohort_scheduler_blocks(const cohort_scheduler *scheduler) {
    return &scheduler->blocks;
}

const int32_t *cohort_scheduler_block_table(const cohort_scheduler *scheduler,
                                            const cohort_scheduler_request *request) {
    return table_of(scheduler, request->slot);
}
