/* SPDX-License-Identifier: Apache-2.0 */
/* worker/groups.h - limits of the control groups of this process, versions 1 and 2.
 *
 * root: a tree that looks like a host's; "" is this one's.  Threads: any.
 */
#ifndef COHORT_WORKER_GROUPS_H
#define COHORT_WORKER_GROUPS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* What the group in root/folder allows; UINT64_MAX: it has no limit, or is not there. */
typedef uint64_t cohort_group_ask(const char *root, const char *folder,
                                  bool is_version_2);

/* The least that the groups of this process allow, on all the way up.  controller: as
 * version 1 names it, "memory" or "cpu". */
uint64_t cohort_groups_least(const char *root, const char *controller,
                             cohort_group_ask *ask);
/* NULL where it is not there. */
FILE *cohort_groups_open(const char *root, const char *folder, const char *name);
/* How many CPUs' time this process may use, rounded up; INT32_MAX: no limit. */
int32_t cohort_groups_cpus(const char *root);

#endif /* COHORT_WORKER_GROUPS_H */
