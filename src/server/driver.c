/* SPDX-License-Identifier: Apache-2.0 */
#include "server/driver.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/condition.h"
#include "base/fail.h"
#include "cohort/clock.h"

/* Design notes.
 *
 * Posts and cancels are noted under the lock and carried out by the thread between two
 * steps.  Callbacks run without the lock, so that they may answer clients.
 *
 * Engine ids count up, and a job's requests are submitted together: a job is found by
 * its range of ids, and active jobs are kept in that order.  Outputs come in the order of
 * submission too, so one walk over both lists serves a step.
 *
 * Many that come or leave together do so in portions, with a step of the others between
 * two of them: hundreds of jobs of thousands of sequences would stop all streams. */

enum { STEP_MS = 100, PORTION_SEQUENCES = 8192 };

/* Proxies take a stream for dead that is silent for a minute or so. */
static const int64_t WAIT_NS = INT64_C(5000000000);

struct cohort_driver {
    cohort_driver_options options;
    pthread_t thread;
    bool has_thread;
    bool is_busy; /* the thread's own, as the following: the engine has something to do */
    cohort_job *active_first, *active_last;
    int64_t waits_since_ns; /* for a rank; 0: it does not */

    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    cohort_job *posted_first, *posted_last;
    bool has_cancelled, is_draining, is_stopping, has_failed, is_settled;
    bool is_paused;
    cohort_error failure;
    int32_t n_jobs;
};

/* ---- lists ------------------------------------------------------------------------- */

static void append(cohort_job **first, cohort_job **last, cohort_job *job) {
    job->previous = *last;
    job->next = NULL;
    *(*last ? &(*last)->next : first) = job;
    *last = job;
}

static void detach(cohort_job **first, cohort_job **last, cohort_job *job) {
    *(job->previous ? &job->previous->next : first) = job->next;
    *(job->next ? &job->next->previous : last) = job->previous;
}

/* ---- jobs, on the thread ----------------------------------------------------------- */

static void end_job(cohort_driver *driver, cohort_job *job, const cohort_error *error) {
    if (job->is_active) detach(&driver->active_first, &driver->active_last, job);
    job->is_active = false;
    job->on_end(job, error);
    pthread_mutex_lock(&driver->lock);
    driver->n_jobs--;
    pthread_cond_broadcast(&driver->changed);
    pthread_mutex_unlock(&driver->lock);
}

static void abandon(cohort_driver *driver, const cohort_job *job, size_t n_submitted) {
    cohort_engine_cancel_many(driver->options.engine, (cohort_request_id){job->first_id},
                              n_submitted);
}

static void submit(cohort_driver *driver, cohort_job *job) {
    for (size_t i = 0; i < job->n_requests; i++) {
        cohort_request_id id;
        if (cohort_engine_submit(driver->options.engine, &job->requests[i], &id) < 0) {
            cohort_error error = *cohort_last_error();
            abandon(driver, job, i);
            end_job(driver, job, &error);
            return;
        }
        if (i == 0) job->first_id = id.value;
        job->n_left += job->requests[i].n;
        job->n_asked += job->requests[i].n;
    }
    job->is_active = true;
    append(&driver->active_first, &driver->active_last, job);
    job->on_accepted(job);
}

/* Returns whether some are left for the next turn. */
static bool cancel_marked(cohort_driver *driver) {
    int64_t n_sequences = 0;
    for (cohort_job *job = driver->active_first; job; job = job->next) {
        pthread_mutex_lock(&driver->lock);
        bool is_cancelled = job->is_cancelled;
        pthread_mutex_unlock(&driver->lock);
        for (; is_cancelled && job->n_abandoned < job->n_requests; job->n_abandoned++) {
            if (n_sequences >= PORTION_SEQUENCES) return true;
            uint64_t id = job->first_id + job->n_abandoned;
            cohort_engine_cancel(driver->options.engine, (cohort_request_id){id});
            n_sequences += job->n_asked / (int64_t)job->n_requests + 1;
        }
    }
    return false;
}

static void dispatch(cohort_driver *driver, const cohort_engine_outputs *outputs) {
    cohort_job *job = driver->active_first;
    for (size_t i = 0; i < outputs->n_completions; i++) {
        const cohort_completion *completion = &outputs->completions[i];
        uint64_t id = completion->request_id.value;
        if (!job || id < job->first_id) job = driver->active_first;
        while (job && id >= job->first_id + job->n_requests)
            job = job->next;
        /* Of a job that was abandoned halfway through its submission. */
        if (!job || id < job->first_id) continue;
        job->on_output(job, (size_t)(id - job->first_id), completion);
        if (completion->finish_reason == COHORT_FINISH_NONE || --job->n_left > 0)
            continue;
        cohort_job *next = job->next;
        end_job(driver, job, NULL);
        job = next;
    }
}

static void fail_all(cohort_driver *driver, const cohort_error *error) {
    while (driver->active_first)
        end_job(driver, driver->active_first, error);
}

/* ---- the thread -------------------------------------------------------------------- */

static void note_failure(cohort_driver *driver, const cohort_error *error) {
    pthread_mutex_lock(&driver->lock);
    if (!driver->has_failed) {
        driver->has_failed = true;
        driver->failure = *error;
    }
    pthread_cond_broadcast(&driver->changed);
    pthread_mutex_unlock(&driver->lock);
}

/* A thread of the executor: also while the engine idles. */
static void on_failure(void *user_data, const cohort_error *error) {
    note_failure(user_data, error);
}

typedef struct orders {
    cohort_job *posted;
    bool cancels, stops, fails, is_paused;
    cohort_error failure;
} orders;

static void take_orders(cohort_driver *driver, bool busy, orders *out) {
    pthread_mutex_lock(&driver->lock);
    while (!busy && !driver->posted_first && !driver->has_cancelled &&
           !driver->is_stopping && !(driver->has_failed && !driver->is_settled))
        pthread_cond_wait(&driver->changed, &driver->lock);
    out->posted = driver->posted_first;
    out->cancels = driver->has_cancelled;
    out->stops = driver->is_stopping;
    out->fails = driver->has_failed;
    out->is_paused = driver->is_paused;
    out->failure = driver->failure;
    driver->posted_first = driver->posted_last = NULL;
    driver->has_cancelled = false;
    driver->is_settled = driver->has_failed;
    pthread_mutex_unlock(&driver->lock);
}

static void observe(cohort_driver *driver, const cohort_engine_outputs *outputs) {
    const cohort_driver_options *options = &driver->options;
    cohort_engine_stats stats;
    if (!options->observer) return;
    cohort_engine_get_stats(options->engine, &stats);
    options->observer(options->user_data, &stats, outputs);
}

/* It was in the middle of its work, and counts it for ever. */
static void observe_failure(cohort_driver *driver) {
    const cohort_driver_options *options = &driver->options;
    cohort_engine_stats stats;
    cohort_engine_info info;
    if (!options->observer) return;
    cohort_engine_get_stats(options->engine, &stats);
    cohort_engine_describe(options->engine, &info);
    stats.n_running = stats.n_waiting = 0;
    stats.n_free_blocks = info.num_blocks;
    options->observer(options->user_data, &stats, NULL);
}

static void flush(cohort_driver *driver) {
    if (driver->options.flush) driver->options.flush(driver->options.user_data);
}

/* Tells those who wait for a rank so, now and then. */
static void keep_waiting(cohort_driver *driver) {
    const cohort_driver_options *options = &driver->options;
    int64_t now_ns = cohort_clock_ns();
    cohort_engine_stats stats;
    cohort_engine_get_stats(options->engine, &stats);
    if (!stats.is_recovering) return;
    observe(driver, NULL);
    if (!driver->waits_since_ns) driver->waits_since_ns = now_ns;
    if (now_ns - driver->waits_since_ns < (options->wait_ns ? options->wait_ns : WAIT_NS))
        return;
    driver->waits_since_ns = now_ns;
    for (cohort_job *job = driver->active_first; job; job = job->next)
        if (job->on_wait) job->on_wait(job);
    flush(driver);
}

static void step(cohort_driver *driver) {
    cohort_engine_outputs outputs;
    cohort_engine *engine = driver->options.engine;
    cohort_status status =
        cohort_engine_step(engine, cohort_deadline_ms(STEP_MS), &outputs);
    /* Not before: steps of what was cancelled still hold blocks. */
    driver->is_busy = status != COHORT_PENDING;
    if (!driver->is_busy) {
        observe(driver, NULL);
        return;
    }
    if (status < 0) {
        /* Our deadline, or the executor's, which tells of its failures itself. */
        if (status == COHORT_E_TIMEOUT)
            keep_waiting(driver);
        else
            note_failure(driver, cohort_last_error());
        return;
    }
    driver->waits_since_ns = 0;
    observe(driver, &outputs);
    dispatch(driver, &outputs);
    flush(driver);
}

/* Those beyond a portion go back to the front of the line. */
static void put_back(cohort_driver *driver, cohort_job *first) {
    cohort_job *last = first;
    while (last->next)
        last = last->next;
    pthread_mutex_lock(&driver->lock);
    last->next = driver->posted_first;
    *(driver->posted_first ? &driver->posted_first->previous : &driver->posted_last) =
        last;
    first->previous = NULL;
    driver->posted_first = first;
    driver->has_cancelled = true; /* perhaps one of them */
    pthread_mutex_unlock(&driver->lock);
}

static void take_posted(cohort_driver *driver, cohort_job *posted,
                        const cohort_error *reason) {
    int64_t n_sequences = 0;
    while (posted) {
        cohort_job *next = posted->next;
        if (!reason && n_sequences >= PORTION_SEQUENCES) {
            put_back(driver, posted);
            return;
        }
        for (size_t i = 0; i < posted->n_requests; i++)
            n_sequences += posted->requests[i].n;
        if (reason)
            end_job(driver, posted, reason);
        else
            submit(driver, posted);
        posted = next;
    }
}

/* What was cancelled is reported in a turn of its own, which computes nothing. */
static void cancel(cohort_driver *driver) {
    if (cancel_marked(driver)) {
        pthread_mutex_lock(&driver->lock);
        driver->has_cancelled = true;
        pthread_mutex_unlock(&driver->lock);
    }
    step(driver);
}

/* After all jobs were told, the first time. */
static void tell_failure(cohort_driver *driver, bool *is_told) {
    if (!*is_told && driver->options.failed)
        driver->options.failed(driver->options.user_data);
    *is_told = true;
}

static void *run(void *user_data) {
    cohort_driver *driver = user_data;
    bool is_failure_told = false;
    const cohort_error stopped = {.code = COHORT_E_CLOSED,
                                  .rank = COHORT_RANK_LOCAL,
                                  .message = "the server is shutting down"};
    for (;;) {
        orders now;
        take_orders(driver, driver->is_busy, &now);
        const cohort_error *reason = now.stops   ? &stopped
                                     : now.fails ? &now.failure
                                                 : NULL;
        bool took = now.posted != NULL;
        /* First: who hears of the failure and looks finds nothing that runs. */
        if (now.fails) observe_failure(driver);
        cohort_engine_pause(driver->options.engine, now.is_paused);
        take_posted(driver, now.posted, reason);
        driver->is_busy = !reason;
        if (reason) fail_all(driver, reason);
        if (took || reason) flush(driver);
        if (now.fails) tell_failure(driver, &is_failure_told);
        if (now.stops) return NULL;
        if (reason) continue;
        if (now.cancels) cancel(driver);
        if (driver->is_busy) step(driver);
    }
}

/* ---- any thread -------------------------------------------------------------------- */

cohort_status cohort_driver_create(const cohort_driver_options *options,
                                   cohort_driver **out_driver) {
    *out_driver = NULL;
    cohort_driver *driver = calloc(1, sizeof *driver);
    if (!driver) return COHORT_FAIL(COHORT_E_NOMEM, "the engine's thread");
    driver->options = *options;
    cohort_condition_init(&driver->changed);
    pthread_mutex_init(&driver->lock, NULL);
    if (pthread_create(&driver->thread, NULL, run, driver)) {
        cohort_driver_destroy(driver);
        return COHORT_FAIL(COHORT_E_NOMEM, "the engine's thread");
    }
    driver->has_thread = true;
    pthread_setname_np(driver->thread, "cohort-engine");
    cohort_executor_register_failure_callback(cohort_engine_executor(options->engine),
                                              on_failure, driver);
    *out_driver = driver;
    return COHORT_OK;
}

cohort_status cohort_driver_post(cohort_driver *driver, cohort_job *job) {
    cohort_status status = COHORT_OK;
    pthread_mutex_lock(&driver->lock);
    int32_t limit = driver->options.max_jobs;
    if (driver->is_draining || driver->is_stopping)
        status = COHORT_FAIL(COHORT_E_CLOSED, "the server is shutting down");
    else if (driver->has_failed)
        status = cohort_fail_adopt(&driver->failure);
    else if (limit && driver->n_jobs >= limit)
        status = COHORT_FAIL(COHORT_E_NOMEM,
                             "the server has %d requests already; try again later",
                             driver->n_jobs);
    if (status >= 0) {
        driver->has_cancelled |= job->is_cancelled; /* its client left meanwhile */
        append(&driver->posted_first, &driver->posted_last, job);
        driver->n_jobs++;
        pthread_cond_broadcast(&driver->changed);
    }
    pthread_mutex_unlock(&driver->lock);
    return status;
}

void cohort_driver_cancel(cohort_driver *driver, cohort_job *job) {
    pthread_mutex_lock(&driver->lock);
    job->is_cancelled = driver->has_cancelled = true;
    pthread_cond_broadcast(&driver->changed);
    pthread_mutex_unlock(&driver->lock);
}

void cohort_driver_drain(cohort_driver *driver) {
    pthread_mutex_lock(&driver->lock);
    driver->is_draining = true;
    driver->is_paused = false; /* what runs may finish */
    driver->has_cancelled = true;
    pthread_cond_broadcast(&driver->changed);
    pthread_mutex_unlock(&driver->lock);
}

cohort_status cohort_driver_wait_idle(cohort_driver *driver, int64_t deadline_ns) {
    pthread_mutex_lock(&driver->lock);
    while (driver->n_jobs &&
           cohort_condition_wait(&driver->changed, &driver->lock, deadline_ns))
        ;
    int32_t left = driver->n_jobs;
    pthread_mutex_unlock(&driver->lock);
    if (!left) return COHORT_OK;
    return COHORT_FAIL(COHORT_E_TIMEOUT, "%d requests are still running", left);
}

void cohort_driver_pause(cohort_driver *driver, bool is_paused) {
    pthread_mutex_lock(&driver->lock);
    driver->is_paused = is_paused && !driver->is_draining;
    driver->has_cancelled = true; /* wakes it, and cancels nothing */
    pthread_cond_broadcast(&driver->changed);
    pthread_mutex_unlock(&driver->lock);
}

bool cohort_driver_is_paused(cohort_driver *driver) {
    pthread_mutex_lock(&driver->lock);
    bool is_paused = driver->is_paused;
    pthread_mutex_unlock(&driver->lock);
    return is_paused;
}

int32_t cohort_driver_n_jobs(cohort_driver *driver) {
    pthread_mutex_lock(&driver->lock);
    int32_t n = driver->n_jobs;
    pthread_mutex_unlock(&driver->lock);
    return n;
}

bool cohort_driver_is_draining(cohort_driver *driver) {
    pthread_mutex_lock(&driver->lock);
    bool is_draining = driver->is_draining || driver->is_stopping;
    pthread_mutex_unlock(&driver->lock);
    return is_draining;
}

cohort_status cohort_driver_failure(cohort_driver *driver, cohort_error *out_error) {
    pthread_mutex_lock(&driver->lock);
    *out_error = driver->failure;
    bool has_failed = driver->has_failed;
    pthread_mutex_unlock(&driver->lock);
    return has_failed ? cohort_fail_adopt(out_error) : COHORT_OK;
}

void cohort_driver_stop(cohort_driver *driver) {
    pthread_mutex_lock(&driver->lock);
    driver->is_stopping = true;
    pthread_cond_broadcast(&driver->changed);
    pthread_mutex_unlock(&driver->lock);
    if (driver->has_thread) pthread_join(driver->thread, NULL);
    driver->has_thread = false;
}

void cohort_driver_destroy(cohort_driver *driver) {
    if (!driver) return;
    cohort_driver_stop(driver);
    pthread_mutex_destroy(&driver->lock);
    pthread_cond_destroy(&driver->changed);
    free(driver);
}
