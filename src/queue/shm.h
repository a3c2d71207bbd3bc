/* SPDX-License-Identifier: Apache-2.0 */
/* queue/shm.h - memory that processes share by descriptor: no name, no file, no leak.
 *
 * A memfd of fixed size (sealed against shrinking, so that no access can fault) whose
 * pages are reserved when it is made (R34) and gone with its last user (R35).
 *
 * Within a process all users of one id share one mapping, so that thread sanitizer sees
 * what threads do to each other; a small table of the process counts them.
 *
 * Threads: any.   Ownership: release gives back what create and attach gave.
 */
#ifndef COHORT_QUEUE_SHM_H
#define COHORT_QUEUE_SHM_H

#include <stddef.h>
#include <stdint.h>

#include "cohort/status.h"

typedef struct cohort_shm cohort_shm;

cohort_status cohort_shm_create(uint64_t id, size_t size_bytes, cohort_shm **out_shm);
/* Takes the descriptor over, also on failure.  PROTOCOL where it is no such memory. */
cohort_status cohort_shm_attach(uint64_t id, int fd, size_t size_bytes,
                                cohort_shm **out_shm);
void *cohort_shm_base(const cohort_shm *shm);
int cohort_shm_fd(const cohort_shm *shm);
void cohort_shm_release(cohort_shm *shm); /* accepts NULL */

#endif /* COHORT_QUEUE_SHM_H */
