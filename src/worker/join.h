/* SPDX-License-Identifier: Apache-2.0 */
/* worker/join.h - how a rank comes into the world, and out of it.
 *
 * Threads: the rank's main one.
 */
#ifndef COHORT_WORKER_JOIN_H
#define COHORT_WORKER_JOIN_H

#include "worker/control.h"

/* What joining needs of the calls (worker.c). */
bool worker_is_own_method(cohort_worker *worker, const char *name);

/* The phases, in this order. */
cohort_status worker_configure(cohort_worker *worker);
cohort_status worker_connect(cohort_worker *worker);
cohort_status worker_load(cohort_worker *worker);
/* Closes the operations' context, mesh and queues. */
void worker_leave(cohort_worker *worker);

#endif /* COHORT_WORKER_JOIN_H */
