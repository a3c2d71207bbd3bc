/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cancel.h"

#include "base/fail.h"

static _Thread_local struct {
    cohort_cancel_ask is_unwanted;
    void *user_data;
    size_t n_bytes; /* since it was asked */
} current;

void cohort_cancel_set(cohort_cancel_ask is_unwanted, void *user_data) {
    current.is_unwanted = is_unwanted;
    current.user_data = user_data;
    current.n_bytes = 0;
}

cohort_status cohort_cancel_check(size_t n_bytes) {
    current.n_bytes += n_bytes;
    if (current.n_bytes < COHORT_CANCEL_BYTES) return COHORT_OK;
    current.n_bytes = 0;
    if (!current.is_unwanted || !current.is_unwanted(current.user_data)) return COHORT_OK;
    return COHORT_FAIL(COHORT_E_CLOSED, "nobody wants it any more");
}
