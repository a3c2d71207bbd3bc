/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "base/fail.h"
#include "executor/executor_internal.h"
#include "worker/worker.h"

/* The driver's ends of an epoch's queues. */

cohort_status executor_make_broadcast(cohort_executor *executor, const char *host) {
    _Static_assert((int)COHORT_MAX_PENDING_CALLS == (int)COHORT_WORKER_QUEUE_MESSAGES,
                   "a queue has room for every pending call");
    cohort_queue_options options = cohort_worker_queue_options(
        "broadcast", executor->options.max_step_bytes, executor->world_size);
    options.listen_host = host;
    if (!executor->scratch) { /* of the first epoch: callers read both without a lock */
        executor->one_slot_bytes = options.chunk_bytes;
        executor->scratch = malloc(options.max_message_bytes);
    }
    if (!executor->scratch)
        return COHORT_FAIL(COHORT_E_NOMEM, "allocating %zu bytes for calls",
                           options.max_message_bytes);
    cohort_queue *broadcast = NULL;
    COHORT_TRY(cohort_queue_create(&options, &broadcast));
    pthread_mutex_lock(&executor->lock);
    executor->broadcast = broadcast;
    pthread_mutex_unlock(&executor->lock);
    return COHORT_OK;
}

cohort_status executor_link_queues(cohort_executor *executor, int64_t deadline_ns) {
    COHORT_TRY_WHILE(cohort_queue_wait_ready(executor->broadcast, deadline_ns),
                     "connecting the broadcast queue");
    for (int32_t i = 0; i < executor->world_size; i++) {
        cohort_queue *queue = NULL;
        pthread_mutex_lock(&executor->lock);
        cohort_queue_handle handle = executor->ranks[i].publish.response_queue;
        pthread_mutex_unlock(&executor->lock);
        COHORT_TRY_WHILE(cohort_queue_attach(&handle, 0, &queue),
                         "attaching to the response queue of rank %d", i);
        pthread_mutex_lock(&executor->lock);
        executor->ranks[i].response = queue;
        /* From then on it is interrupted as all the others. */
        bool is_vain = executor->is_failed || executor->state != EXECUTOR_CONNECT;
        pthread_mutex_unlock(&executor->lock);
        if (is_vain) return COHORT_FAIL(COHORT_E_CANCELLED, "the epoch ended meanwhile");
        COHORT_TRY_WHILE(cohort_queue_wait_ready(queue, deadline_ns),
                         "connecting the response queue of rank %d", i);
    }
    return COHORT_OK;
}
