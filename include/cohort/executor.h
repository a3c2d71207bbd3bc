/* SPDX-License-Identifier: Apache-2.0 */
/* cohort/executor.h - start workers, call them all, and know at once when one fails.
 *
 * An executor owns tp * pp ranks; rank r is tp rank r % tp of pipeline stage r / tp.
 * Whether they are threads of this process ("uni"), processes ("mp") or actors on a Ray
 * cluster ("ray") is its secret.
 *
 *   start -> (collective_rpc | execute_model -> future)* -> shutdown -> destroy
 *
 * A call is broadcast to every rank; replies come back in the order of the calls.  One
 * failed rank fails the executor: all futures, pending and later, complete with that
 * rank's own error, and only shutdown and destroy are left to do.
 *
 * With max_rank_restarts (mp, ray; 5 by default) a rank that dies, hangs or fails after
 * the start is replaced instead, and the others live on, in a new epoch: pending futures,
 * and calls begun until all are ready, end with COHORT_E_INTERRUPTED, and nobody knows
 * whether they were carried out.  cohort_executor_await_ready waits for that and lets
 * steps be sent again.  Whoever wants every death to be a failure sets 0.
 *
 * Ownership: futures are the caller's to destroy, before the executor; replies belong to
 * their future.  Strings and payloads handed in are copied.
 * Threads:   every call from any thread, destroy excepted; one thread waits on a future.
 * Errors:    the rank that failed is in cohort_error.rank.  A timeout consumes nothing.
 */
#ifndef COHORT_EXECUTOR_H
#define COHORT_EXECUTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cohort/collective.h" /* COHORT_ALL_RANKS */
#include "cohort/launch.h"
#include "cohort/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cohort_executor cohort_executor;
typedef struct cohort_future cohort_future;

enum {
    COHORT_MAX_PENDING_CALLS = 32 /* futures not yet complete; a further call waits */
};

/* What the command has: tp 1, pp 1; to connect 60 s, to load 1800 s, to execute 300 s,
 * hang 10 s, shutdown 5 s; 5 restarts of a rank; steps and replies of up to 64 MiB. */
COHORT_API cohort_executor_options cohort_executor_defaults(void);

/* Returns when every rank has loaded; on an error nothing is left: no process, socket
 * or file.  COHORT_E_CANCELLED: cancel_fd said so. */
COHORT_API cohort_status cohort_executor_start(const cohort_executor_options *options,
                                               cohort_executor **out_executor);

typedef struct cohort_rpc {
    const char
        *method; /* of the worker's table; noop, echo and check_health always are */
    const void *payload;
    size_t size_bytes;
    int32_t reply_rank; /* the only rank to reply, or COHORT_ALL_RANKS */
    /* cohort_collective_rpc: once it was OK, a rank that is started again gets the call,
     * too, after its load.  All such calls together fit 512 KiB. */
    bool is_setup;
} cohort_rpc;

/* Calls the method on every rank and waits for the replies.  out_future: the completed
 * future, for its replies; NULL if nobody looks at them.  A rank that refuses the call
 * (COHORT_E_INVALID) fails the call, any other error of a rank fails the executor.  With
 * a reply_rank, what another rank refuses may come after that rank's reply: then it is
 * only logged. */
COHORT_API cohort_status cohort_collective_rpc(cohort_executor *executor,
                                               const cohort_rpc *rpc, int64_t deadline_ns,
                                               cohort_future **out_future);
/* Without waiting for the replies; the deadline is for sending. */
COHORT_API cohort_status cohort_collective_rpc_begin(cohort_executor *executor,
                                                     const cohort_rpc *rpc,
                                                     int64_t deadline_ns,
                                                     cohort_future **out_future);

/* Sends one step to every rank; the future's only reply is the output rank's.
 * COHORT_PENDING, and nothing sent, while cohort_executor_max_in_flight steps are under
 * way. */
COHORT_API cohort_status cohort_execute_model(cohort_executor *executor, const void *step,
                                              size_t size_bytes,
                                              cohort_future **out_future);
/* The same with a step that has masked entries: it is complete only after
 * cohort_execute_masks, for which the ranks wait before they sample.  What other threads
 * call meanwhile waits for the masks, too; any other call of this thread is refused
 * (COHORT_E_INVALID). */
COHORT_API cohort_status cohort_execute_masked_model(cohort_executor *executor,
                                                     const void *step, size_t size_bytes,
                                                     cohort_future **out_future);
COHORT_API cohort_status cohort_execute_masks(cohort_executor *executor,
                                              const void *masks, size_t size_bytes);

/* OK: complete.  COHORT_E_TIMEOUT: not yet; the text says which ranks are awaited and
 * what they do.  Otherwise the error the call ended with.  Older futures complete
 * first. */
COHORT_API cohort_status cohort_future_wait(cohort_future *future, int64_t deadline_ns);
/* The same without waiting: COHORT_PENDING instead of a timeout. */
COHORT_API cohort_status cohort_future_poll(cohort_future *future);
/* 0 before completion and after an error.  Replies are in rank order. */
COHORT_API int32_t cohort_future_reply_count(const cohort_future *future);
/* The bytes are 8-byte aligned and live as long as the future. */
COHORT_API void cohort_future_reply(const cohort_future *future, int32_t index,
                                    int32_t *out_rank, const void **out_bytes,
                                    size_t *out_size_bytes);
/* Accepts NULL.  A pending call is not undone: its replies are dropped as they come. */
COHORT_API void cohort_future_destroy(cohort_future *future);

/* An RPC round over all ranks. */
COHORT_API cohort_status cohort_executor_check_health(cohort_executor *executor,
                                                      int64_t deadline_ns);
/* COHORT_OK while healthy; else the failure's code, and the failure in out_error. */
COHORT_API cohort_status cohort_executor_failure(cohort_executor *executor,
                                                 cohort_error *out_error);

/* COHORT_OK: all ranks are ready, and steps may be sent, which were refused since the
 * interruption with COHORT_E_INTERRUPTED: whoever sends them has to know of it.
 * COHORT_PENDING: not by the deadline.  Otherwise the failure, or COHORT_E_CLOSED. */
COHORT_API cohort_status cohort_executor_await_ready(cohort_executor *executor,
                                                     int64_t deadline_ns);
/* 1 at first; one more with every interruption. */
COHORT_API uint64_t cohort_executor_epoch(cohort_executor *executor);

typedef struct cohort_executor_recovery {
    uint64_t epoch;
    uint64_t n_deaths; /* of ranks that were started again, since the start */
    /* Of these, what a request may have caused: a fault's signal, an error of the rank's
     * own, a hang; no signal or exit that came from elsewhere, and no death before a step
     * was sent. */
    uint64_t n_faults;
    bool is_recovering;
    /* Every rank that died since the last step was sent has left its KV cache to the one
     * in its place. */
    bool kv_kept;
    int32_t rank; /* that died last, and why; -1: none has */
    cohort_error cause;
    int64_t began_ns; /* the last interruption, cohort_clock_ns(); 0: none */
    int64_t took_ns;  /* until all were ready; 0 while is_recovering */
} cohort_executor_recovery;
COHORT_API void cohort_executor_get_recovery(cohort_executor *executor,
                                             cohort_executor_recovery *out_recovery);
/* What killed ranks was found and is not sent again: no death up to here counts against
 * max_rank_restarts, nor in the window. */
COHORT_API void cohort_executor_forget_deaths(cohort_executor *executor);

/* Called once, on a thread of the executor; at once, on the calling thread, where the
 * executor has already failed.  Not called by an orderly shutdown.  The callback may call
 * the executor, shutdown too, but not destroy. */
typedef void (*cohort_failure_callback)(void *user_data, const cohort_error *error);
COHORT_API void cohort_executor_register_failure_callback(
    cohort_executor *executor, cohort_failure_callback callback, void *user_data);

/* Ends all ranks: asks, then SIGTERM, then SIGKILL, all within shutdown_timeout_ns, and
 * returns when none is left.  The error is the failure that the executor had before, or a
 * rank's that crashed on the way, or stayed.  Pending futures end with COHORT_E_CLOSED.
 * Idempotent; from the failure callback it asks only and returns COHORT_PENDING. */
COHORT_API cohort_status cohort_executor_shutdown(cohort_executor *executor);
/* Shuts down first where nobody did.  Accepts NULL. */
COHORT_API void cohort_executor_destroy(cohort_executor *executor);

typedef struct cohort_rank_info {
    int32_t rank;
    int32_t tp_rank;
    int32_t pp_rank;
    int32_t pid;           /* uni: this process */
    const char *backend;   /* "uni", "mp" or "ray"; static text, as the following */
    const char *transport; /* of the queues: "shared memory" or "tcp" */
    const char *phase;     /* "idle", "execute", ..., "dead" */
    uint64_t call;         /* number of the call it is at, or was last */
    /* Ray's node id, its address, and "GPU 0,1"; "" elsewhere. */
    char node[64];
    char address[64];
    char devices[256];
} cohort_rank_info;

/* What it has done so far; times are of cohort_clock_ns(), 0: none yet. */
typedef struct cohort_rank_work {
    uint64_t steps, tokens, errors;
    int32_t waits_for; /* a rank, or -1 */
    int64_t phase_ns;  /* when its phase or call changed */
    int64_t heartbeat_ns;
} cohort_rank_work;

typedef struct cohort_executor_phases {
    int64_t place_ns; /* durations */
    int64_t configure_ns;
    int64_t connect_ns;
    int64_t load_ns;
    int64_t total_ns; /* from start to ready */
} cohort_executor_phases;

/* What `cohort stat` says that this run is for: a model's name, and an address. */
COHORT_API void cohort_executor_set_title(cohort_executor *executor, const char *title);

COHORT_API int32_t cohort_executor_world_size(const cohort_executor *executor);
COHORT_API int32_t cohort_executor_output_rank(const cohort_executor *executor);
/* pp, and one more with async_scheduling. */
COHORT_API int32_t cohort_executor_max_in_flight(const cohort_executor *executor);
COHORT_API void cohort_executor_describe_rank(const cohort_executor *executor,
                                              int32_t rank, cohort_rank_info *out_info);
COHORT_API void cohort_executor_describe_work(const cohort_executor *executor,
                                              int32_t rank, cohort_rank_work *out_work);
COHORT_API void cohort_executor_get_phases(const cohort_executor *executor,
                                           cohort_executor_phases *out_phases);
/* The file that `cohort stat` reads; NULL where none could be made. */
COHORT_API const char *cohort_executor_counters_path(const cohort_executor *executor);

#ifdef __cplusplus
}
#endif

#endif /* COHORT_EXECUTOR_H */
