/* SPDX-License-Identifier: Apache-2.0 */
/* worker/memory.h - how much memory a rank may still take on this host. */
#ifndef COHORT_WORKER_MEMORY_H
#define COHORT_WORKER_MEMORY_H

#include <stdint.h>

/* What the kernel thinks it can hand out without swapping (MemAvailable), and no more
 * than the control groups of this process leave it: a container's limit, of version 1 or
 * 2.  0: nobody knows. */
uint64_t cohort_worker_available_bytes(void);
/* The same of a tree that looks like a host's: "" is this one's. */
uint64_t cohort_worker_available_below(const char *root);

#endif /* COHORT_WORKER_MEMORY_H */
