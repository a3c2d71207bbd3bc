/* SPDX-License-Identifier: Apache-2.0 */
/* base/memory.h - memory behind a descriptor, for processes that share it.
 *
 * A memfd.  Where a sandbox forbids memfd_create, a file without a name in /dev/shm or a
 * temporary folder; where it forbids fallocate, the bytes are written instead.
 *
 * Threads: any.
 * Errors:  COHORT_E_NOMEM where there is no room, COHORT_E_IO.
 */
#ifndef COHORT_BASE_MEMORY_H
#define COHORT_BASE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

#include "cohort/status.h"

/* Of zeros and reserved; a memfd is of a size that nobody can change.
 * name: for /proc. */
cohort_status cohort_memory_create(const char *name, size_t size_bytes, int *out_fd);
/* Is it a file of this size that its maker cannot shrink under us? */
bool cohort_memory_is_sealed(int fd, size_t size_bytes);
/* Reserves a new file's bytes: a full disk is an error here, not a SIGBUS later. */
cohort_status cohort_memory_reserve(int fd, size_t size_bytes);

#endif /* COHORT_BASE_MEMORY_H */
