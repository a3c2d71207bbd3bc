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

cohort_status executor_check_setup(cohort_executor *executor, const cohort_rpc *rpc) {
    cohort_frame frame = setup_frame(rpc);
    pthread_mutex_lock(&executor->lock);
    size_t before_bytes = executor->setup_bytes;
    pthread_mutex_unlock(&executor->lock);
    if (rpc->size_bytes < COHORT_CONTROL_MAX_BYTES / 2 &&
        before_bytes + cohort_frame_nested_bytes(&frame) <= COHORT_CONTROL_MAX_BYTES / 2)
        return COHORT_OK;
    return COHORT_FAIL(COHORT_E_INVALID,
                       "set-up call %.60s of %zu bytes: all of them together have %d",
                       rpc->method, rpc->size_bytes, COHORT_CONTROL_MAX_BYTES / 2);
}

cohort_status executor_keep_setup(cohort_executor *executor, const cohort_rpc *rpc) {
    cohort_frame frame = setup_frame(rpc);
    size_t added_bytes = cohort_frame_nested_bytes(&frame);
    pthread_mutex_lock(&executor->lock);
    uint8_t *setup = realloc(executor->setup, executor->setup_bytes + added_bytes);
    if (setup) {
        cohort_frame_nest(&frame, setup + executor->setup_bytes);
        executor->setup = setup;
        executor->setup_bytes += added_bytes;
    }
    pthread_mutex_unlock(&executor->lock);
    if (setup) return COHORT_OK;
    return COHORT_FAIL(COHORT_E_NOMEM, "keeping set-up call %.60s", rpc->method);
}
