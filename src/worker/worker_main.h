/* SPDX-License-Identifier: Apache-2.0 */
/* worker/worker_main.h - a rank that is a process of its own: `cohort worker`. */
#ifndef COHORT_WORKER_MAIN_H
#define COHORT_WORKER_MAIN_H

#include "worker/worker.h"

/* control_fd: the end of a socketpair that the driver kept the other end of.  Runs until
 * the driver says stop, or is gone; returns the process's exit status. */
int cohort_worker_main(int control_fd, const cohort_worker_ops *ops);

/* The same in a process that others (Ray) started and own: it is not tied to its parent,
 * still ends at once when the driver is gone, and returns the rank's own error.  carrier:
 * in place of the queues, or NULL. */
cohort_status cohort_worker_guest_main(int control_fd, const cohort_worker_ops *ops,
                                       const cohort_worker_carrier *carrier,
                                       void *carrier_self);

#endif /* COHORT_WORKER_MAIN_H */
