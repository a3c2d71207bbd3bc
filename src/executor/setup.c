/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "base/fail.h"
#include "executor/executor_internal.h"

/* Calls that a rank which is started again is told, nested in its LOAD frame. */

static cohort_frame setup_frame(const cohort_rpc *rpc) {
    return (cohort_frame){.kind = COHORT_FRAME_RPC,
                          .rank = COHORT_ALL_RANKS,
                          .method = rpc->method,
                          .body = rpc->payload,
                          .body_bytes = rpc->size_bytes};
}

/* With lock held. */
static cohort_status check_room(const cohort_executor *executor, const cohort_rpc *rpc) {
    cohort_frame frame = setup_frame(rpc);
    size_t before_bytes = executor->setup_bytes;
    if (rpc->size_bytes < COHORT_CONTROL_MAX_BYTES / 2 &&
        before_bytes + cohort_frame_nested_bytes(&frame) <= COHORT_CONTROL_MAX_BYTES / 2)
        return COHORT_OK;
    return COHORT_FAIL(COHORT_E_INVALID,
                       "set-up call %.60s of %zu bytes: all of them together have %d",
                       rpc->method, rpc->size_bytes, COHORT_CONTROL_MAX_BYTES / 2);
}

cohort_status executor_check_setup(cohort_executor *executor, const cohort_rpc *rpc,
                                   uint64_t *out_epoch) {
    pthread_mutex_lock(&executor->lock);
    *out_epoch = executor->epoch;
    cohort_status status = check_room(executor, rpc);
    pthread_mutex_unlock(&executor->lock);
    return status;
}

/* With lock held. */
static cohort_status nest(cohort_executor *executor, const cohort_rpc *rpc) {
    cohort_frame frame = setup_frame(rpc);
    size_t added_bytes = cohort_frame_nested_bytes(&frame);
    /* Once more: others may have added theirs since. */
    COHORT_TRY(check_room(executor, rpc));
    uint8_t *setup = realloc(executor->setup, executor->setup_bytes + added_bytes);
    if (!setup)
        return COHORT_FAIL(COHORT_E_NOMEM, "keeping set-up call %.60s", rpc->method);
    cohort_frame_nest(&frame, setup + executor->setup_bytes);
    executor->setup = setup;
    executor->setup_bytes += added_bytes;
    return COHORT_OK;
}

cohort_status executor_keep_setup(cohort_executor *executor, const cohort_rpc *rpc,
                                  uint64_t epoch) {
    cohort_status status;
    pthread_mutex_lock(&executor->lock);
    if (executor->epoch == epoch)
        status = nest(executor, rpc);
    else /* who is started again may have been told what to load before this was kept */
        status =
            COHORT_FAIL(COHORT_E_INTERRUPTED,
                        "a rank was replaced while set-up call %.60s was made: repeat it",
                        rpc->method);
    pthread_mutex_unlock(&executor->lock);
    return status;
}
