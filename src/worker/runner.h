/* SPDX-License-Identifier: Apache-2.0 */
/* worker/runner.h - what driver and model runner say to each other besides steps.
 *
 * The runner's operations are cohort_worker_model_ops() of worker/worker.h.  Its methods,
 * in vLLM's words and in this order after load:
 *
 *   determine_available_memory   () -> cohort_runner_memory, of each rank
 *   initialize_from_config       (cohort_runner_cache) -> (), once, the same on each rank
 *   start_profile, stop_profile  () -> (); () -> cohort_profile_head and its events
 *                                (model/profile.h)
 *
 * Configuration, "name=value": the rows of worker/runner_options.h, words parted by - or
 * _
 * ("max-model-len=64"), execute-model-timeout in seconds, and keep-tokens: 1
 * where every rank adds the tokens that a step samples to its requests, rather than be
 * told by later steps, which may then go out before this one is done; of one stage only.
 */
#ifndef COHORT_WORKER_RUNNER_H
#define COHORT_WORKER_RUNNER_H

#include <stdint.h>

#define COHORT_RUNNER_DETERMINE_MEMORY "determine_available_memory"
#define COHORT_RUNNER_INITIALIZE       "initialize_from_config"
#define COHORT_RUNNER_START_PROFILE    "start_profile"
#define COHORT_RUNNER_STOP_PROFILE     "stop_profile"

/* Both on the wire: little-endian, of one build. */
typedef struct cohort_runner_memory {
    uint64_t available_bytes; /* for the KV cache: as configured, or a part of what is */
    uint64_t block_bytes;
    uint64_t weight_bytes;
    int32_t max_model_len; /* resolved */
    int32_t vocab_size;
    char isa[32];
    char device[16]; /* its backend's name */
} cohort_runner_memory;
_Static_assert(sizeof(cohort_runner_memory) == 80, "wire layout");

typedef struct cohort_runner_cache {
    uint64_t n_blocks;
} cohort_runner_cache;
_Static_assert(sizeof(cohort_runner_cache) == 8, "wire layout");

#endif /* COHORT_WORKER_RUNNER_H */
