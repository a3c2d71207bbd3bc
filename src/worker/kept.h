/* SPDX-License-Identifier: Apache-2.0 */
/* worker/kept.h - memory of a rank that outlives it: what the driver hands to a rank that
 * takes a dead one's place, and what a rank hands to the driver.
 *
 * Ownership: descriptors that nobody took are closed by start and deinit.
 * Threads:   put is the watcher's, the keeper is whose the model is, or keeps it.
 */
#ifndef COHORT_WORKER_KEPT_H
#define COHORT_WORKER_KEPT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "counters/counters.h"
#include "model/keeper.h"
#include "wire/frame.h"

enum { WORKER_KEPT_KINDS = 2 };

typedef struct worker_kept {
    cohort_keeper keeper;
    /* To the driver, with a descriptor, which is lent. */
    cohort_status (*send)(void *self, cohort_frame frame, int fd);
    void *self;
    pthread_mutex_t lock;
    int fds[WORKER_KEPT_KINDS]; /* of the driver, not taken yet; -1: none */
    cohort_status (*work)(void *context);
    void *context;
    const cohort_counters_row *row;
    pthread_t thread;
    bool has_thread;
    _Atomic bool is_stopping;
} worker_kept;

/* send and self are set. */
void worker_kept_init(worker_kept *kept);
void worker_kept_deinit(worker_kept *kept);
/* A KEEP frame of the driver; fd is taken over, -1: there came none. */
cohort_status worker_kept_put(worker_kept *kept, const cohort_frame *frame, int fd);
/* The rank is READY: descriptors that it did not want are closed, and work (of its
 * operations; NULL: none) is called beside its steps, whose row tells when it is idle. */
void worker_kept_start(worker_kept *kept, cohort_status (*work)(void *context),
                       void *context, const cohort_counters_row *row);
void worker_kept_stop(worker_kept *kept);

#endif /* COHORT_WORKER_KEPT_H */
