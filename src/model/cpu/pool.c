/* SPDX-License-Identifier: Apache-2.0 */
#include "model/cpu/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/thread.h"
#include "base/wait.h"

/* Design notes.
 *
 * A run: the caller writes task and context, sets `pending` and moves `epoch` on with
 * release; a member that acquires the new epoch sees all of it.  Each member takes itself
 * off `pending` with release; the caller's acquire of 0 makes their results visible.
 * A member cannot miss an epoch, because the next one starts only at pending 0.
 *
 * A member that dies takes the process with it: they are threads. */

enum {
    CACHE_LINE = 64,
    SLEEP_SLICE_NS = 2000000000 /* a signal ends the sleep; this is only a bound */
};

struct member {
    pthread_t thread;
    cohort_pool *pool;
    int32_t index;
};

struct cohort_pool {
    int32_t n_threads;
    int32_t n_started; /* members that run; thread 0 is the caller */
    bool caller_pinned;
    cpu_set_t caller_cpus;  /* before it was pinned */
    cohort_pool_task *task; /* NULL: leave */
    void *context;
    struct member *members;

    _Alignas(CACHE_LINE) _Atomic uint32_t epoch;
    cohort_event started;
    _Alignas(CACHE_LINE) _Atomic int32_t pending;
    cohort_event finished;
};

/* ---- the members ------------------------------------------------------------------- */

static uint32_t await_epoch(cohort_pool *pool, uint32_t seen) {
    cohort_wait wait = cohort_wait_begin(COHORT_WAIT_SPIN_NS);
    for (;;) {
        /* Acquires what start_epoch released. */
        uint32_t epoch = atomic_load_explicit(&pool->epoch, memory_order_acquire);
        if (epoch != seen) return epoch;
        if (cohort_wait_spin(&wait)) continue;
        uint32_t ticket = cohort_event_prepare(&pool->started);
        if (atomic_load_explicit(&pool->epoch, memory_order_acquire) != seen)
            cohort_event_leave(&pool->started);
        else
            cohort_event_sleep(&pool->started, ticket, SLEEP_SLICE_NS);
    }
}

static void *member_main(void *argument) {
    struct member *member = argument;
    cohort_pool *pool = member->pool;
    for (uint32_t seen = 0;;) {
        seen = await_epoch(pool, seen);
        if (!pool->task) return NULL;
        pool->task(pool->context, member->index, pool->n_threads);
        /* Releases the results to await_members. */
        if (atomic_fetch_sub_explicit(&pool->pending, 1, memory_order_acq_rel) == 1)
            cohort_event_signal(&pool->finished);
    }
}

/* ---- the caller -------------------------------------------------------------------- */

static void start_epoch(cohort_pool *pool, cohort_pool_task *task, void *context) {
    pool->task = task;
    pool->context = context;
    atomic_store_explicit(&pool->pending, pool->n_started, memory_order_relaxed);
    atomic_fetch_add_explicit(&pool->epoch, 1, memory_order_release);
    cohort_event_signal(&pool->started);
}

static void await_members(cohort_pool *pool) {
    cohort_wait wait = cohort_wait_begin(COHORT_WAIT_SPIN_NS);
    while (atomic_load_explicit(&pool->pending, memory_order_acquire)) {
        if (cohort_wait_spin(&wait)) continue;
        uint32_t ticket = cohort_event_prepare(&pool->finished);
        if (!atomic_load_explicit(&pool->pending, memory_order_acquire))
            cohort_event_leave(&pool->finished);
        else
            cohort_event_sleep(&pool->finished, ticket, SLEEP_SLICE_NS);
    }
}

void cohort_pool_run(cohort_pool *pool, cohort_pool_task *task, void *context) {
    if (pool->n_threads > 1) start_epoch(pool, task, context);
    task(context, 0, pool->n_threads);
    if (pool->n_threads > 1) await_members(pool);
}

int32_t cohort_pool_size(const cohort_pool *pool) { return pool->n_threads; }

/* ---- start and end ----------------------------------------------------------------- */

static cohort_status pin(pthread_t thread, int32_t cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (cpu >= CPU_SETSIZE)
        return COHORT_FAIL(COHORT_E_INVALID, "CPU %d: numbers end at %d", cpu,
                           CPU_SETSIZE - 1);
    CPU_SET((size_t)cpu, &set);
    int err = pthread_setaffinity_np(thread, sizeof set, &set);
    if (err)
        return COHORT_FAIL_SYS(
            err, "binding a thread to CPU %d; is it there, and allowed?", cpu);
    return COHORT_OK;
}

static cohort_status pin_caller(cohort_pool *pool, int32_t cpu) {
    if (cpu < 0) return COHORT_OK;
    int err = pthread_getaffinity_np(pthread_self(), sizeof pool->caller_cpus,
                                     &pool->caller_cpus);
    if (err) return COHORT_FAIL_SYS(err, "reading the CPUs of this thread");
    COHORT_TRY(pin(pthread_self(), cpu));
    pool->caller_pinned = true;
    return COHORT_OK;
}

static cohort_status start_member(struct member *member) {
    char name[16];
    snprintf(name, sizeof name, "cohort-cpu-%u", (uint32_t)member->index % 1000);
    COHORT_TRY(cohort_thread_start(name, member_main, member, &member->thread));
    member->pool->n_started++;
    return COHORT_OK;
}

static cohort_status start_all(cohort_pool *pool, const int32_t *cpus) {
    for (int32_t i = 1; i < pool->n_threads; i++) {
        struct member *member = &pool->members[i];
        *member = (struct member){.pool = pool, .index = i};
        COHORT_TRY(start_member(member));
        if (cpus && cpus[i] >= 0) COHORT_TRY(pin(member->thread, cpus[i]));
    }
    /* Last, since members inherit the caller's CPUs. */
    return cpus ? pin_caller(pool, cpus[0]) : COHORT_OK;
}

cohort_status cohort_pool_create(const int32_t *cpus, int32_t n_threads,
                                 cohort_pool **out_pool) {
    *out_pool = NULL;
    if (n_threads < 1 || n_threads > CPU_SETSIZE)
        return COHORT_FAIL(COHORT_E_INVALID, "a team of %d compute threads", n_threads);
    cohort_pool *pool = aligned_alloc(CACHE_LINE, sizeof *pool);
    if (!pool) return COHORT_FAIL(COHORT_E_NOMEM, "a team of compute threads");
    memset(pool, 0, sizeof *pool);
    pool->n_threads = n_threads;
    pool->members = calloc((size_t)n_threads, sizeof *pool->members);
    cohort_status status = pool->members
                               ? start_all(pool, cpus)
                               : COHORT_FAIL(COHORT_E_NOMEM, "%d threads", n_threads);
    if (status < 0) {
        cohort_pool_destroy(pool);
        return status;
    }
    *out_pool = pool;
    return COHORT_OK;
}

void cohort_pool_destroy(cohort_pool *pool) {
    if (!pool) return;
    if (pool->n_started) start_epoch(pool, NULL, NULL);
    for (int32_t i = 1; i <= pool->n_started; i++)
        pthread_join(pool->members[i].thread, NULL);
    if (pool->caller_pinned)
        pthread_setaffinity_np(pthread_self(), sizeof pool->caller_cpus,
                               &pool->caller_cpus);
    free(pool->members);
    free(pool);
}
