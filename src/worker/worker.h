/* SPDX-License-Identifier: Apache-2.0 */
/* worker/worker.h - one rank: joins the world, loads, and carries out calls in order.
 *
 * The loop is the same for a thread (uni) and a process (mp); what it runs is a table of
 * operations, the model runner in earnest and something light in tests.
 *
 *   control link:    hello, configure, publish, table, load, ready; errors; rejoin; stop
 *   broadcast queue: calls from the driver      response queue: replies to it
 *
 * A second thread, the watcher, listens to the control link all the time: it notices the
 * driver's death and poison while the first is stuck, and keeps the heartbeat.
 *
 * Where the driver may replace ranks that die, those that live on rejoin: at its word a
 * rank leaves whatever it does, and comes into the next epoch with new links and what it
 * has in memory.
 *
 * Ownership: see each operation.
 * Threads:   all operations run on one thread, in order.
 * Errors:    an operation's error is reported to the driver at once, with its text; after
 * it the rank does no more work, or none before it has rejoined where it was another
 * rank's error.
 */
#ifndef COHORT_WORKER_H
#define COHORT_WORKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cohort/collective.h"
#include "cohort/queue.h"
#include "cohort/status.h"
#include "cohort/worker.h"
#include "worker/carrier.h"
#include "worker/info.h"

typedef struct cohort_worker_ops cohort_worker_ops;

typedef struct cohort_worker_method {
    const char *name; /* up to 63 characters */
    cohort_worker_call call;
} cohort_worker_method;

struct cohort_worker_ops {
    /* After the ranks are connected, before load: no weights yet. */
    cohort_status (*open)(const cohort_worker_info *info, void **out_context);
    /* May take long: reports itself with cohort_worker_progress. */
    cohort_status (*load)(void *context);
    /* One step, on every rank; 8-byte aligned.  Only the output rank's reply is sent, and
     * every error fails the rank. */
    cohort_worker_call execute;
    /* After load, in place of open and load: info has a new epoch and new groups, and a
     * step or a call may have ended anywhere.  What was loaded and created stays; what
     * steps told is forgotten.  NULL: nothing to do. */
    cohort_status (*rejoin)(void *context);
    /* After READY, on a thread of its own beside all other calls but close, while it
     * returns COHORT_PENDING: a few milliseconds of what is left until info->keeper has
     * all that it is to have.  NULL: nothing to do. */
    cohort_status (*keep)(void *context);
    /* What cohort_collective_rpc can reach besides noop, echo and check_health: this
     * table, what an extension adds (cohort/worker.h), and nothing else.  Ends with a
     * NULL name; may be NULL. */
    const cohort_worker_method *methods;
    /* Accepts NULL and what a failed open left in out_context. */
    void (*close)(void *context);
};

/* The model runner (worker/runner.c). */
const cohort_worker_ops *cohort_worker_model_ops(void);

/* "I am alive, and this far": for load and long steps.  A few nanoseconds. */
void cohort_worker_progress(cohort_worker *worker, uint64_t done, uint64_t total);
/* COHORT_OK, or why the rank is to give up what it does: load asks now and then, because
 * a thread cannot be killed.  COHORT_E_INTERRUPTED: to rejoin. */
cohort_status cohort_worker_check(cohort_worker *worker);
/* From execute, once, where the step has masked entries: ends the step's payload and
 * waits for the message of masks behind it, which lives until execute returns.  Without a
 * deadline: whoever calls the engine may take a rest. */
cohort_status cohort_worker_await_masks(cohort_worker *worker, const void **out_masks,
                                        size_t *out_size_bytes);
/* Before and after waiting for another rank: world rank, or COHORT_RANK_LOCAL for nobody.
 * A hang is then blamed on the one that all wait for. */
void cohort_worker_waits_for(cohort_worker *worker, int32_t rank);
/* Adds to this rank's token count in the counters file. */
void cohort_worker_count_tokens(cohort_worker *worker, uint64_t tokens);
/* From open: what this rank chose by itself, as "key=value", is told to the rank that
 * takes its place one day.  One such thing. */
void cohort_worker_choose(cohort_worker *worker, const char *key, const char *value);
/* Value of "key=value" in the configuration, or NULL. */
const char *cohort_worker_config(const cohort_worker_info *info, const char *key);

/* One rule sizes every queue of a run, the driver's and the workers' (R22): by the
 * longest message, and so many of the short ones. */
enum { COHORT_WORKER_QUEUE_MESSAGES = 32 };
cohort_queue_options cohort_worker_queue_options(const char *name,
                                                 size_t max_message_bytes,
                                                 int32_t reader_count);

/* The pair of a configuration that names an extension, "LIB.so:SYMBOL". */
#define COHORT_EXTENSION_KEY "worker_extension"

typedef struct cohort_worker_options {
    int control_fd; /* one end of a socketpair; the worker's from here on */
    const cohort_worker_ops *ops;
    /* The driver is gone, on the watcher thread: a process ends itself here.  NULL: the
     * loop is poisoned and returns. */
    void (*driver_gone)(void);
    /* The process is ours alone or Ray's for us: crashes are noted (last_words.h). */
    bool owns_process;
    /* In place of the queues, for one epoch (carrier.h); NULL: the queues. */
    const cohort_worker_carrier *carrier;
    void *carrier_self;
} cohort_worker_options;

/* The whole life of a rank; returns when the driver asked it to stop or it has failed. */
cohort_status cohort_worker_run(const cohort_worker_options *options);

#endif /* COHORT_WORKER_H */
