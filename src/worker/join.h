/* SPDX-License-Identifier: Apache-2.0 */
/* worker/join.h - how a rank comes into an epoch of the world, and out of it.
 *
 *   configure -> (join: publish, connect, load or rejoin, ready -> calls -> leave)*
 *
 * Threads: the rank's main one.
 * Errors:  COHORT_E_INTERRUPTED once the driver has begun another epoch.
 */
#ifndef COHORT_WORKER_JOIN_H
#define COHORT_WORKER_JOIN_H

#include "worker/control.h"

/* What joining needs of the calls (worker.c). */
cohort_status worker_run_call(cohort_worker *worker, const cohort_frame *frame,
                              cohort_worker_reply *reply);
bool worker_is_own_method(cohort_worker *worker, const char *name);

/* Once: who this rank is. */
cohort_status worker_configure(cohort_worker *worker);
/* Into the newest epoch, up to READY. */
cohort_status worker_join(cohort_worker *worker);
/* After an epoch that ended with that status, its error the last one of this thread: OK
 * once there is another for this rank to join, else why there is none. */
cohort_status worker_await_epoch(cohort_worker *worker, cohort_status status);
/* Closes mesh and queues. */
void worker_leave(cohort_worker *worker);

#endif /* COHORT_WORKER_JOIN_H */
