/* SPDX-License-Identifier: Apache-2.0 */
/* executor/launcher.h - how ranks come into being, are watched and are ended.
 *
 * All that an executor needs to know of a kind of worker is in this table; calls, futures
 * and errors are the same for all of them.  A rank is two descriptors: the control link's
 * end, and one that becomes readable when the rank has ended.
 *
 * Threads: every operation runs on the monitor thread, which lives as long as the ranks.
 */
#ifndef COHORT_EXECUTOR_LAUNCHER_H
#define COHORT_EXECUTOR_LAUNCHER_H

#include <stdbool.h>

#include "cohort/executor.h"

typedef struct cohort_launch {
    int32_t pid;
    int control_fd; /* the driver's end; the receiver of this struct owns it */
    int exit_fd;    /* readable once the rank has ended; the launch's own */
    void *own;      /* the launcher's */
} cohort_launch;

typedef struct cohort_ending {
    bool is_known; /* false: somebody else reaped it */
    int signal;    /* that killed it, or 0 */
    int status;    /* that it exited with */
} cohort_ending;

typedef struct cohort_launcher {
    const char *name;
    cohort_status (*start)(const cohort_executor_options *options, int32_t rank,
                           cohort_launch *out_launch);
    /* SIGTERM or SIGKILL to the rank and all that it started; does nothing to a thread,
     * which is asked by poison instead. */
    void (*signal)(cohort_launch *launch, int signal);
    /* Once exit_fd is readable: what it left is taken away, exit_fd too. */
    void (*reap)(cohort_launch *launch, cohort_ending *out_ending);
} cohort_launcher;

extern const cohort_launcher cohort_uni_launcher;
extern const cohort_launcher cohort_mp_launcher;

#endif /* COHORT_EXECUTOR_LAUNCHER_H */
