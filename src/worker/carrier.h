/* SPDX-License-Identifier: Apache-2.0 */
/* worker/carrier.h - by what calls come to a rank, and its replies leave.
 *
 * As a rule the driver's broadcast queue and a response queue of the rank's own; a
 * carrier that whoever runs the worker brings along stands in for both.
 *
 * Threads: interrupt from any; the rest from the rank's main thread.
 * Errors:  those of cohort/queue.h.
 */
#ifndef COHORT_WORKER_CARRIER_H
#define COHORT_WORKER_CARRIER_H

#include <stddef.h>
#include <stdint.h>

#include "cohort/status.h"

typedef struct cohort_worker_carrier {
    /* The next call, 8-byte aligned; lent until read_end. */
    cohort_status (*read)(void *self, int64_t deadline_ns, const void **out_bytes,
                          size_t *out_size_bytes);
    /* The reply to the call that is read, if there is to be one, comes before this. */
    void (*read_end)(void *self);
    /* The bytes are the rank's and stay as they are until the next call is read. */
    cohort_status (*reply)(void *self, const void *bytes, size_t size_bytes);
    /* Who waits in one of them returns COHORT_E_CANCELLED, once. */
    void (*interrupt)(void *self);
} cohort_worker_carrier;

#endif /* COHORT_WORKER_CARRIER_H */
