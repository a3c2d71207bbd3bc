/* SPDX-License-Identifier: Apache-2.0 */
#include "executor/executor_options.h"

#define OPTIONS_OF cohort_executor_options

static const cohort_option rows[] = {
    OPTION_ROW(COUNT, "tensor-parallel-size", tp, "1", 1, COHORT_MAX_WORLD_SIZE,
               "ranks that share every layer", .alias = "tp"),
    OPTION_ROW(COUNT, "pipeline-parallel-size", pp, "1", 1, COHORT_MAX_WORLD_SIZE,
               "stages of layers", .alias = "pp"),
    OPTION_ROW(COUNT, "data-parallel-size", data_parallel_size, "1", 1, 1 << 16,
               "engines behind a balancer of yours, each a server of its own with its "
               "--data-parallel-rank",
               .alias = "dp"),
    OPTION_ROW(COUNT, "data-parallel-rank", data_parallel_rank, "-1", -1, (1 << 16) - 1,
               "which of them this is; it is in the names of its workers (-1: there is "
               "one)",
               .alias = "dpn"),
    OPTION_WORD("distributed-executor-backend", backend, NULL, "uni|mp|ray",
                "uni: ranks are threads; mp: processes; ray: actors on a Ray cluster "
                "(default: uni for one rank, else mp)"),
    OPTION_TEXT("worker-extension-cls", worker_extension, NULL,
                "LIB.so:SYMBOL, which every worker loads and calls before its model "
                "(cohort/worker.h)"),
    OPTION_SECONDS("connect-timeout", connect_timeout_ns, "60", 0.001, 1e6,
                   "for workers to start and find each other"),
    OPTION_SECONDS("load-timeout", load_timeout_ns, "1800", 0.001, 1e6,
                   "for loading weights"),
    OPTION_SECONDS("execute-model-timeout", execute_timeout_ns, "300", 0.001, 1e6,
                   "a rank busy for so long without progress is hung"),
    OPTION_SECONDS("hang-timeout", hang_timeout_ns, "10", 0.001, 1e6,
                   "a rank without a heartbeat for so long is hung"),
    OPTION_SECONDS("worker-shutdown-timeout", shutdown_timeout_ns, "5", 0.001, 1e6,
                   "for ending all workers"),
    OPTION_ROW(
        COUNT, "max-rank-restarts", max_rank_restarts, "5", 0, 1000000,
        "a rank that dies (mp, ray) is started again so many times in a row without a "
        "step between; 0: a death ends all, as in vLLM"),
    OPTION_SECONDS("rank-restart-window", rank_restart_window_ns, "60", 0.001, 1e6,
                   "in which a rank is started again at most six times as often"),
    OPTION_WORD(
        "kept-kv", kept_kv, "auto", "auto|always|never",
        "the KV cache of a rank that is started again: auto, kept unless it crashed; "
        "always; or never, computed again"),
    OPTION_TEXT("ray-address", ray.address, NULL,
                "of the cluster (default: RAY_ADDRESS, else the one that runs here, else "
                "a new one)"),
    OPTION_TEXT("ray-node-address", ray.node_address, NULL,
                "this host's address in the cluster (default: as Ray finds it)"),
    OPTION_TEXT("ray-placement-group", ray.placement_group, NULL,
                "id or name of a group to use and leave in place (default: a new one)"),
    OPTION_TEXT("ray-namespace", ray.ray_namespace, NULL,
                "Ray namespace, where a group's name is found (default: this run's own)"),
    OPTION_ROW(TEXT, "ray-placement-strategy", ray.strategy, "PACK", 0, 0,
               "PACK, STRICT_PACK, SPREAD or STRICT_SPREAD",
               .words = "PACK|STRICT_PACK|SPREAD|STRICT_SPREAD"),
    OPTION_TEXT("ray-worker-resource", ray.resource, "CPU=1",
                "of each rank: CPU=2, GPU, GPU=0.5, or a resource of your cluster's"),
    OPTION_TEXT("ray-bundle-indices", ray.bundle_indices, NULL,
                "bundles for the ranks, in their order: 2,1 (VLLM_RAY_BUNDLE_INDICES is "
                "heeded too)"),
    OPTION_TEXT("ray-excluded-env", ray.excluded_env, NULL,
                "variables that workers shall not get: A,B_*"),
    OPTION_ROW(TEXT, "ray-runtime-env", ray.runtime_env, NULL, 0, 0,
               "JSON object, of the workers' runtime_env in Ray: {\"env_vars\": {\"A\": "
               "\"b\"}}",
               .flags = COHORT_OPTION_JSON),
    OPTION_FLAG("ray-log-to-driver", ray.log_to_driver, NULL,
                "show here what workers write, with rank and node"),
    OPTION_FLAG("ray-workers-use-nsight", ray.workers_use_nsight, NULL,
                "Ray runs the workers under nsys, which is to be on every node"),
    OPTION_ROW(COUNT, "spare-workers", ray.spare_workers, "0", 0, 64,
               "actors that wait on each node of ranks, to take the place of one that "
               "dies in a tenth of the time; each takes some 100 MiB"),
    OPTION_WORD("use-ray-v2-executor-backend", ray.control_plane, "1", "1|0",
                "1: steps go to ray's ranks through queues; 0: through a compiled graph "
                "of Ray's, the older way"),
    OPTION_SECONDS("ray-placement-timeout", ray.placement_timeout_ns, "300", 0.001, 1e6,
                   "for the cluster to have room"),
    OPTION_TEXT("instance", instance, NULL,
                "name of this run for `cohort stat` (default: drawn)"),
};

const cohort_option_table cohort_executor_option_table = OPTION_TABLE(rows);
