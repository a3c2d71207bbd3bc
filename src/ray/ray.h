/* SPDX-License-Identifier: Apache-2.0 */
/* ray/ray.h - ranks that are actors of a Ray cluster, and whether they would run there.
 *
 * A sidecar looks at every node of a cluster that runs (versions, build of libcohort,
 * clock, ways between nodes); each finding is one line, and says what to do.
 *
 * Threads: one.   Errors: where nothing could be looked at; findings are none.
 */
#ifndef COHORT_RAY_H
#define COHORT_RAY_H

#include <stdbool.h>
#include <stdint.h>

#include "cohort/launch.h"
#include "cohort/status.h"
#include "launcher/launcher.h"

extern const cohort_launcher cohort_ray_launcher;

typedef struct cohort_doctor_tally {
    int32_t n_findings, n_faults;
} cohort_doctor_tally;

/* `cohort doctor ray`.  tell: for each finding, in order. */
cohort_status cohort_ray_examine(const cohort_ray_options *options, int64_t deadline_ns,
                                 void (*tell)(void *user_data, bool is_fault,
                                              const char *text),
                                 void *user_data, cohort_doctor_tally *out_tally);

#endif /* COHORT_RAY_H */
