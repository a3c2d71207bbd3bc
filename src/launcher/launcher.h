/* SPDX-License-Identifier: Apache-2.0 */
/* launcher/launcher.h - how ranks come into being, are watched and are ended.
 *
 * All that an executor needs to know of a kind of worker is in this table; calls, futures
 * and errors are the same for all of them.  A rank is two descriptors: the control link's
 * end, and one that becomes readable when the rank has ended.
 *
 * Threads: every operation runs on the monitor thread, which lives as long as the ranks.
 */
#ifndef COHORT_LAUNCHER_H
#define COHORT_LAUNCHER_H

#include <stdbool.h>

#include "cohort/launch.h"
#include "wire/frame.h"

enum { COHORT_LAUNCH_NAME_BYTES = 128, COHORT_LAUNCH_DEVICES_BYTES = 256 };

typedef struct cohort_launch {
    int32_t pid;
    bool is_process; /* here, under that pid until exit_fd is readable */
    int control_fd;  /* the driver's end; the receiver of this struct owns it */
    int exit_fd;     /* readable once the rank has ended; the launch's own */
    void *own;       /* the launcher's */
    void *world;     /* what open made; set before start is called */
    /* Empty where it is a process or thread of ours: the name that people know it by, and
     * where it runs, on which devices. */
    char name[COHORT_LAUNCH_NAME_BYTES];
    char node[COHORT_HOST_BYTES];
    char address[COHORT_HOST_BYTES]; /* also what it binds for ranks on other hosts */
    char devices[COHORT_LAUNCH_DEVICES_BYTES];
    /* Among the ranks of its host; a local_world_size of 0: all ranks are of one host. */
    int32_t local_rank, local_world_size;
} cohort_launch;

enum { COHORT_LAUNCH_ENDING_BYTES = 120 };

typedef struct cohort_launch_ending {
    bool is_known;                         /* false: somebody else reaped it */
    int signal;                            /* that killed it, or 0 */
    int status;                            /* that it exited with */
    char text[COHORT_LAUNCH_ENDING_BYTES]; /* instead of the two: "vanished"; "" where
                                              unused */
} cohort_launch_ending;

typedef struct cohort_placing {
    const cohort_executor_options *options;
    const char *instance;
    uint64_t epoch;
    int cancel_fd; /* readable: give up, with COHORT_E_CANCELLED */
} cohort_placing;

typedef struct cohort_launcher {
    const char *name;
    bool can_restart; /* start may be called again for a rank that was reaped */
    /* Before the first start, where ranks come into being together; on an error nothing
     * is left.  out_host: what the driver binds for ranks on other hosts; the world's.
     * NULL: there is nothing to do. */
    cohort_status (*open)(const cohort_placing *placing, void **out_world,
                          const char **out_host);
    /* COHORT_PENDING, for a rank that was reaped: it comes into being meanwhile, and
     * start is to be called once more when exit_fd, which is all that is filled in and
     * stays the launcher's, is readable. */
    cohort_status (*start)(const cohort_executor_options *options, int32_t rank,
                           cohort_launch *out_launch);
    /* SIGTERM or SIGKILL to the rank and all that it started; does nothing to a thread,
     * which is asked by poison instead. */
    void (*signal)(cohort_launch *launch, int signal);
    /* SIGKILL to a rank that is to be started again; where nobody may hear of its end, it
     * counts as ended.  NULL: it always is heard of. */
    void (*give_up)(cohort_launch *launch);
    /* Once exit_fd is readable: what it left is taken away, exit_fd too. */
    void (*reap)(cohort_launch *launch, cohort_launch_ending *out_ending);
    /* Where the ranks do not meet the executor's queues: the driver's ends of two that
     * carry calls to them all and replies of them all, the caller's from then on. */
    void (*take_relay)(void *world, cohort_queue **out_calls, cohort_queue **out_replies);
    /* After the last reap: takes away what open made, and ranks that were not started. */
    void (*close)(void *world, int64_t deadline_ns);
} cohort_launcher;

extern const cohort_launcher cohort_uni_launcher;
extern const cohort_launcher cohort_mp_launcher;

#endif /* COHORT_LAUNCHER_H */
