/* SPDX-License-Identifier: Apache-2.0 */
#include "model/cpu/pool.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/fail.h"
#include "base/wait.h"

/* Design notes.
 *
 * Work and argument are plain fields: they are written before the release store of
 * `round` and read after its acquire load.  `left` counts the threads still at work; the
 * last release decrement is acquired by the caller, who then owns everything again.  The
 * two events keep the sleepers of the two directions apart. */

enum { SLICE_NS = 100000000 };

struct cohort_pool {
    _Alignas(64) _Atomic uint32_t round;
    cohort_event started;
    cohort_pool_work work; /* NULL: end */
    void *argument;
    _Alignas(64) _Atomic int32_t left;
    cohort_event finished;
    _Alignas(64) int32_t n_threads;
    struct member {
        cohort_pool *pool;
        pthread_t thread;
        int32_t index;
    } members[];
};

static void await_round(cohort_pool *pool, uint32_t seen) {
    cohort_wait wait = cohort_wait_begin(COHORT_WAIT_SPIN_NS);
    /* Acquires what cohort_pool_run released. */
    while (atomic_load_explicit(&pool->round, memory_order_acquire) == seen) {
        if (cohort_wait_spin(&wait)) continue;
        uint32_t ticket = cohort_event_prepare(&pool->started);
        if (atomic_load_explicit(&pool->round, memory_order_acquire) == seen)
            cohort_event_sleep(&pool->started, ticket, SLICE_NS);
        else
            cohort_event_leave(&pool->started);
    }
}

static void *member_main(void *argument) {
    struct member *self = argument;
    cohort_pool *pool = self->pool;
    for (uint32_t seen = 0;; seen++) {
        await_round(pool, seen);
        if (!pool->work) return NULL;
        pool->work(pool->argument, self->index, pool->n_threads);
        /* Releases this thread's results to the caller. */
        if (atomic_fetch_sub_explicit(&pool->left, 1, memory_order_acq_rel) == 1)
            cohort_event_signal(&pool->finished);
    }
}

static void start_round(cohort_pool *pool, cohort_pool_work work, void *argument) {
    pool->work = work;
    pool->argument = argument;
    atomic_store_explicit(&pool->left, pool->n_threads - 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&pool->round, 1, memory_order_release);
    cohort_event_signal(&pool->started);
}

void cohort_pool_run(cohort_pool *pool, cohort_pool_work work, void *argument) {
    if (pool->n_threads == 1) {
        work(argument, 0, 1);
        return;
    }
    start_round(pool, work, argument);
    work(argument, 0, pool->n_threads);
    cohort_wait wait = cohort_wait_begin(COHORT_WAIT_SPIN_NS);
    while (atomic_load_explicit(&pool->left, memory_order_acquire)) {
        if (cohort_wait_spin(&wait)) continue;
        uint32_t ticket = cohort_event_prepare(&pool->finished);
        if (atomic_load_explicit(&pool->left, memory_order_acquire))
            cohort_event_sleep(&pool->finished, ticket, SLICE_NS);
        else
            cohort_event_leave(&pool->finished);
    }
}

static void pin(pthread_t thread, int32_t cpu) {
    if (cpu < 0 || cpu >= CPU_SETSIZE) return;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    /* A core that we may not use leaves the thread where the system puts it. */
    pthread_setaffinity_np(thread, sizeof set, &set);
}

int32_t cohort_pool_size(const cohort_pool *pool) { return pool->n_threads; }

cohort_status cohort_pool_create(const int32_t *cpus, int32_t n_threads,
                                 cohort_pool **out_pool) {
    if (n_threads < 1 || n_threads > 1024)
        return COHORT_FAIL(COHORT_E_INVALID, "%d threads; ask for 1 to 1024", n_threads);
    cohort_pool *pool = NULL;
    size_t bytes = sizeof *pool + sizeof pool->members[0] * (size_t)n_threads;
    pool = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!pool) return COHORT_FAIL(COHORT_E_NOMEM, "a pool of %d threads", n_threads);
    *pool = (cohort_pool){.n_threads = 1};
    if (cpus) pin(pthread_self(), cpus[0]);
    for (int32_t i = 1; i < n_threads; i++) {
        struct member *member = &pool->members[i];
        *member = (struct member){.pool = pool, .index = i};
        int failure = pthread_create(&member->thread, NULL, member_main, member);
        if (failure) {
            cohort_pool_destroy(pool);
            return COHORT_FAIL_SYS(failure, "starting thread %d of %d", i, n_threads);
        }
        pool->n_threads = i + 1;
        if (cpus) pin(member->thread, cpus[i]);
    }
    *out_pool = pool;
    return COHORT_OK;
}

void cohort_pool_destroy(cohort_pool *pool) {
    if (!pool) return;
    start_round(pool, NULL, NULL);
    for (int32_t i = 1; i < pool->n_threads; i++)
        pthread_join(pool->members[i].thread, NULL);
    free(pool);
}
