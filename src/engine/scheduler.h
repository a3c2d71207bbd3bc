/* SPDX-License-Identifier: Apache-2.0 */
/* engine/scheduler.h - which tokens of which requests the next step computes.
 *
 *   add -> waiting -> (next: admitted) running -> finish
 *             ^------- preempted ---------'        (blocks gone, computed anew later)
 *
 * Pure: events in (add, complete, append, finish, rollback), a step out (next); no clock,
 * no I/O, and token counts only, never tokens.  First come, first served, within one
 * priority: requests run in that order, and the last of it gives way where blocks run
 * out.  Of a step, who wants more than half leaves up to half to those behind.
 *
 * A request may be in several steps under way at once with consecutive parts of it: ranks
 * carry steps out in order.  Those are parts of its prompt or, where the ranks keep what
 * they sample, a token that is not known here yet (async scheduling).  With pp stages the
 * sequences and prompt tokens are dealt out over pp steps and more, so that all stages
 * have work; one stage gets all in one step.
 *
 * Full blocks are published under the keys that the caller gives, and whoever begins with
 * the same keys starts behind them: the ranks store a step's keys and values before they
 * read any, so that even requests of one step share.
 *
 * A request that the ranks don't know is sent with all of its tokens, of which nearly all
 * may be cached: so a step has a limit of bytes for these beside that of computed tokens.
 *
 * Ownership: requests are the caller's, at a fixed place from add until they are finished
 *            and no step holds them; their keys as well.  A schedule is valid until the
 *            next call.
 * Threads:   belongs to one thread.
 */
#ifndef COHORT_ENGINE_SCHEDULER_H
#define COHORT_ENGINE_SCHEDULER_H

#include <stdbool.h>
#include <stdint.h>

#include "cohort/status.h"
#include "engine/blocks.h"

enum {
    /* A prompt is not cut finer for the pipeline's sake: below some 128 rows reading the
     * weights costs more than the stages gain by overlapping. */
    COHORT_SCHEDULER_MIN_CHUNK_TOKENS = 128,
    /* Chunks per stage: a pipeline is empty for (pp - 1) chunks of all. */
    COHORT_SCHEDULER_CHUNKS_PER_STAGE = 4,
    /* Behind a step of so many tokens none is scheduled ahead: the pause that this would
     * save is nothing beside the step, and who arrives meanwhile would wait for two. */
    COHORT_SCHEDULER_LONG_STEP_TOKENS = 256,
};

typedef struct cohort_scheduler_limits {
    int32_t max_num_seqs;
    int32_t max_num_batched_tokens;
    int32_t max_model_len;
    int32_t block_size;
    int32_t n_blocks; /* enough for one sequence of max_model_len */
    int32_t pp_size;
    int32_t max_in_flight;
    bool ranks_keep_tokens; /* that they sample: they are not told them */
    /* That a step may take to tell the ranks of requests which they don't know, and that
     * one of them never takes alone; 0: any number. */
    int64_t max_new_bytes;
} cohort_scheduler_limits;

typedef struct cohort_scheduler_request {
    /* The caller's, before add. */
    int32_t n_tokens;   /* known: the prompt; the scheduler's from then on */
    int32_t max_tokens; /* prompt and generated: it ends with these at the latest */
    int32_t priority;   /* the smaller, the earlier */
    bool reads_cache;   /* may start behind blocks that others published */
    int64_t told_bytes; /* to tell the ranks of it, beside tokens and blocks */
    /* Of its full blocks as far as tokens are known; may be more at any time.  0: it
     * publishes nothing. */
    const cohort_block_key *keys;
    int32_t n_keys;

    /* The scheduler's; zero before add. */
    uint64_t arrival;
    int32_t n_scheduled; /* tokens in the cache, or under way to it */
    int32_t n_sent;      /* tokens that the ranks know; 0: not even the request */
    int32_t n_sampling;  /* tokens that steps under way will give */
    int32_t n_blocks, n_published;
    int32_t n_cached_tokens; /* that it found in the cache when it first ran */
    int32_t slot;            /* -1: none; among the ranks, the request's name */
    int32_t n_in_flight;     /* steps under way that hold it */
    int32_t n_preemptions;
    bool is_queued, is_running, is_finished;
    bool has_run; /* once, at least: n_cached_tokens stays */
    struct cohort_scheduler_request *previous, *next;
    struct cohort_scheduler_request *lower, *higher; /* a tree over the same order */
    uint64_t weight;
} cohort_scheduler_request;

typedef struct cohort_schedule_entry {
    cohort_scheduler_request *request;
    bool is_new; /* the ranks don't know it: send the request and all of its tokens */
    bool is_admitted; /* and before this step it waited: nothing of it was computed */
    bool samples;     /* ends the known tokens: a token comes back */
    int32_t n_computed_tokens;
    int32_t n_scheduled_tokens;
    int32_t n_new_tokens; /* the last of the known ones, that the ranks don't know yet */
    int32_t n_new_blocks;
    const int32_t *new_blocks;
} cohort_schedule_entry;

typedef struct cohort_schedule {
    const cohort_schedule_entry *entries;
    int32_t n_entries;
    const uint32_t *finished; /* slots that the ranks forget first */
    int32_t n_finished;
    int32_t n_tokens;
} cohort_schedule;

typedef struct cohort_scheduler cohort_scheduler;

cohort_status cohort_scheduler_create(const cohort_scheduler_limits *limits,
                                      cohort_scheduler **out_scheduler);
void cohort_scheduler_destroy(cohort_scheduler *scheduler);

void cohort_scheduler_add(cohort_scheduler *scheduler, cohort_scheduler_request *request);
/* False: there is nothing to do until a step completes or a request is added. */
bool cohort_scheduler_next(cohort_scheduler *scheduler, cohort_schedule *out_schedule);
/* The oldest step under way came back.  Its entries are valid until the next call; every
 * one that samples must be answered by append or finish, unless it is finished. */
void cohort_scheduler_complete(cohort_scheduler *scheduler,
                               cohort_schedule *out_schedule);
/* The step that completed gave the request one more token. */
void cohort_scheduler_append(cohort_scheduler *scheduler,
                             cohort_scheduler_request *request);
/* At any time.  Slot and blocks are free once no step under way holds the request. */
void cohort_scheduler_finish(cohort_scheduler *scheduler,
                             cohort_scheduler_request *request);

/* The step handed out last was not sent after all: nothing is handed out before rollback.
 */
void cohort_scheduler_withdraw(cohort_scheduler *scheduler);
/* The steps under way will not come back, and the ranks have forgotten all requests, but
 * not their caches: as if the last step that completed had been the last one sent.  Those
 * first admitted since wait again, in their old places; the others are told to the ranks
 * anew, go on behind the tokens that completed steps computed, and are in each later step
 * that max_new_bytes lets them in.  Returns the tokens that are to be computed again. */
int64_t cohort_scheduler_rollback(cohort_scheduler *scheduler);
/* The same where the caches are lost, too: all that ran waits again, and is computed anew
 * from its tokens. */
int64_t cohort_scheduler_forget_kv(cohort_scheduler *scheduler);

/* Until it is called with NULL, this one alone is in steps, one at a time, and all others
 * give way.  Those of a step under way do so once it came back or was rolled back: call
 * it after that. */
void cohort_scheduler_run_alone(cohort_scheduler *scheduler,
                                cohort_scheduler_request *request);

int32_t cohort_scheduler_n_running(const cohort_scheduler *scheduler);
int32_t cohort_scheduler_n_waiting(const cohort_scheduler *scheduler);
int32_t cohort_scheduler_n_in_flight(const cohort_scheduler *scheduler); /* steps */
uint64_t cohort_scheduler_n_preemptions(const cohort_scheduler *scheduler);
/* Tokens of requests that looked into the cache, and those that they found there. */
void cohort_scheduler_cache_use(const cohort_scheduler *scheduler, uint64_t *out_queries,
                                uint64_t *out_hits);
/* Comparisons that the order cost. */
uint64_t cohort_scheduler_n_looks(const cohort_scheduler *scheduler);
/* For tests and metrics. */
const cohort_blocks *cohort_scheduler_blocks(const cohort_scheduler *scheduler);
const int32_t *cohort_scheduler_block_table(const cohort_scheduler *scheduler,
                                            const cohort_scheduler_request *request);

#endif /* COHORT_ENGINE_SCHEDULER_H */
