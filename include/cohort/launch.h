/* SPDX-License-Identifier: Apache-2.0 */
/* cohort/launch.h - what is said of an executor before its ranks come into being.
 *
 * cohort_executor_defaults() fills it, cohort_executor_start() copies what it needs.
 */
#ifndef COHORT_LAUNCH_H
#define COHORT_LAUNCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cohort_worker_ops
    cohort_worker_ops; /* what a worker runs: worker/worker.h */

/* By what calls go to ranks of "ray", and replies come back. */
typedef enum cohort_ray_control_plane {
    COHORT_RAY_QUEUES,        /* ours, without Ray: vLLM's RayExecutorV2 */
    COHORT_RAY_COMPILED_GRAPH /* of Ray's: vLLM's RayDistributedExecutor */
} cohort_ray_control_plane;

/* Where "ray" places ranks.  NULL and 0: what is said in brackets. */
typedef struct cohort_ray_options {
    const char *address; /* of the cluster [RAY_ADDRESS, else one that runs here, else a
                            new one on this host alone] */
    const char *node_address;    /* this host's in the cluster [as Ray finds it] */
    const char *placement_group; /* one that exists: its id or name; it is left in place
                                    [a new one] */
    const char *ray_namespace;   /* where that name is found [this run's own] */
    const char *strategy;        /* PACK, STRICT_PACK, SPREAD, STRICT_SPREAD [PACK] */
    const char *resource;        /* of each rank, "CPU=2", "GPU", "GPU=0.5" [CPU=1] */
    const char *bundle_indices; /* "2,1": of rank 0, of rank 1 [COHORT_RAY_BUNDLE_INDICES,
                                   VLLM_RAY_BUNDLE_INDICES, else driver's node first] */
    const char *excluded_env;   /* variables that do not go to workers: "A,B_*" [none] */
    /* JSON object, of the actors' runtime_env: {"env_vars": {"A": "b"}, "pip": [...]};
     * its env_vars go before ours [none] */
    const char *runtime_env;
    bool log_to_driver;      /* what workers write comes to our standard error, too */
    bool workers_use_nsight; /* Ray runs them under Nsight, as vLLM asks it to */
    cohort_ray_control_plane control_plane;
    int32_t spare_workers;        /* on each node of ranks, for one that dies [0] */
    int64_t placement_timeout_ns; /* for the group's resources [5 minutes] */
} cohort_ray_options;

/* Does the KV cache of a rank that died go to the one in its place? */
typedef enum cohort_kept_kv {
    COHORT_KEPT_KV_AUTO,   /* where it cannot have been spoilt: not after a crash */
    COHORT_KEPT_KV_ALWAYS, /* whatever it died of */
    COHORT_KEPT_KV_NEVER   /* it is computed again */
} cohort_kept_kv;

/* Timeouts are durations; 0 or less: never. */
typedef struct cohort_executor_options {
    const char *backend; /* "uni": threads of this process; "mp": processes; "ray": actors
                            of a Ray cluster; NULL: uni for one rank with worker_ops, else
                            mp */
    int32_t tp;
    int32_t pp;
    /* Of how many engines, each started by somebody else behind a balancer of theirs,
     * this is which: in the names of its workers.  1 and below: there is no other. */
    int32_t data_parallel_size, data_parallel_rank;
    bool async_scheduling; /* one more step in flight than stages */

    /* "key=value" strings that every worker's open() receives, NULL-terminated; NULL:
     * none. */
    const char *const *config;
    /* mp: the program that is run as `PROGRAM worker --control-fd 3`.  NULL:
     * $COHORT_WORKER, else this executable where it is called cohort, else the cohort
     * beside this executable, else the one in PATH. */
    const char *worker_command;
    const cohort_worker_ops *worker_ops; /* uni; NULL: the model runner */
    /* "LIB.so:SYMBOL", which every worker loads before its model (cohort/worker.h); a
     * path is of the driver's folder.  NULL: none. */
    const char *worker_extension;
    cohort_ray_options ray;
    const char *instance; /* names the counters file; NULL: drawn from pid and chance */
    /* Gives up the start as soon as it is readable: an eventfd that a signal handler
     * writes, the end of a pipe.  Only looked at, and only until start returns.  0 or
     * less: none. */
    int cancel_fd;

    int64_t connect_timeout_ns; /* place, configure and connect together */
    int64_t load_timeout_ns;
    int64_t execute_timeout_ns;  /* a rank busy for so long without progress is hung */
    int64_t hang_timeout_ns;     /* a rank without a heartbeat for so long is hung */
    int64_t shutdown_timeout_ns; /* all of shutdown: asking, SIGTERM, SIGKILL, reaping */

    /* A rank that dies after the start is started again, so many times in a row with no
     * step completed between, and six times as often within the window; the others live
     * on.  0: a death is the end of the executor.  5 by default; not
     * heeded by uni, whose ranks are threads. */
    int32_t max_rank_restarts;
    int64_t rank_restart_window_ns;
    cohort_kept_kv kept_kv; /* with max_rank_restarts: weights are kept anyway */

    size_t max_step_bytes;  /* longest step or RPC payload */
    size_t max_reply_bytes; /* longest reply of a rank */

    /* Loading, as each rank counts it (the model runner: bytes of weights); called on a
     * thread of the executor, also for a rank that is started again. */
    void (*on_progress)(void *user_data, int32_t rank, uint64_t done, uint64_t total);
    void *user_data;
} cohort_executor_options;

#ifdef __cplusplus
}
#endif

#endif /* COHORT_LAUNCH_H */
