/* SPDX-License-Identifier: Apache-2.0 */
/* server/driver.h - the thread that owns the engine, and the jobs it works on.
 *
 * A job is what one HTTP request asks for: one engine request per prompt.  It is posted
 * from any thread; everything that happens to it afterwards happens on the driver's:
 *
 *   post -> on_accepted -> on_output* -> on_end        or: post -> on_end(error)
 *
 * on_end comes exactly once and is the last: the job may be freed in it.
 *
 * Ownership: the engine is borrowed, and the driver's thread's alone until stop, apart
 *            from what engine.h allows to any thread.  A job is its owner's.
 * Threads:   post, cancel and the questions: any.
 * Errors:    an engine that fails ends every job with the failed rank's error, at once,
 *            also while it has nothing to do.
 */
#ifndef COHORT_SERVER_DRIVER_H
#define COHORT_SERVER_DRIVER_H

#include "cohort/engine.h"

typedef struct cohort_driver cohort_driver;
typedef struct cohort_job cohort_job;

struct cohort_job {
    /* Read once, before on_accepted. */
    const cohort_request *requests;
    size_t n_requests;
    void (*on_accepted)(cohort_job *job);
    /* which: of requests.  completion is valid during the call. */
    void (*on_output)(cohort_job *job, size_t which, const cohort_completion *completion);
    /* A rank is being replaced, and nothing has come for a while; NULL: no matter. */
    void (*on_wait)(cohort_job *job);
    /* error: NULL where every completion came to its end, an abort included. */
    void (*on_end)(cohort_job *job, const cohort_error *error);

    /* The driver's own; zero before post. */
    cohort_job *previous, *next;
    int32_t n_left;     /* completions without an end */
    int64_t n_asked;    /* completions, when it was submitted */
    size_t n_abandoned; /* of requests, the first ones */
    uint64_t first_id;  /* engine requests have ids first_id and up, in order */
    bool is_cancelled, is_active;
};

/* Called on the driver's thread after every step; outputs: NULL where nothing was left to
 * do, while a rank is being replaced, and when the engine failed, of which nothing runs
 * or waits then. */
typedef void (*cohort_driver_observer)(void *user_data, const cohort_engine_stats *stats,
                                       const cohort_engine_outputs *outputs);

/* Called on the driver's thread when all jobs were told what there was to tell. */
typedef void (*cohort_driver_flush)(void *user_data);

/* Called on the driver's thread, once, when the engine has failed and all jobs were told.
 */
typedef void (*cohort_driver_failed)(void *user_data);

typedef struct cohort_driver_options {
    cohort_engine *engine;
    int32_t max_jobs; /* waiting and running; 0: no limit */
    int64_t wait_ns;  /* from one on_wait to the next; 0: 5 s */
    cohort_driver_observer observer;
    cohort_driver_flush flush;   /* or NULL, as observer */
    cohort_driver_failed failed; /* or NULL */
    void *user_data;
} cohort_driver_options;

cohort_status cohort_driver_create(const cohort_driver_options *options,
                                   cohort_driver **out_driver);

/* COHORT_E_CLOSED: draining; COHORT_E_NOMEM: over the limit; else the engine's failure.
 * No callback comes then. */
cohort_status cohort_driver_post(cohort_driver *driver, cohort_job *job);
/* Its completions end with an abort within a step, or of the first step where it was
 * not posted yet.  The job must not have ended. */
void cohort_driver_cancel(cohort_driver *driver, cohort_job *job);

/* Nothing new from here on. */
void cohort_driver_drain(cohort_driver *driver);
/* COHORT_OK: no job is left; COHORT_E_TIMEOUT. */
cohort_status cohort_driver_wait_idle(cohort_driver *driver, int64_t deadline_ns);
/* While paused, jobs are taken and wait.  The order is carried out within a step. */
void cohort_driver_pause(cohort_driver *driver, bool is_paused);
bool cohort_driver_is_paused(cohort_driver *driver);
int32_t cohort_driver_n_jobs(cohort_driver *driver);
bool cohort_driver_is_draining(cohort_driver *driver);
/* COHORT_OK, or what the engine failed with. */
cohort_status cohort_driver_failure(cohort_driver *driver, cohort_error *out_error);

/* Ends what is left with an error and joins the thread; idempotent. */
void cohort_driver_stop(cohort_driver *driver);
/* After the engine's end, which may still tell of a failure.  Accepts NULL. */
void cohort_driver_destroy(cohort_driver *driver);

#endif /* COHORT_SERVER_DRIVER_H */
