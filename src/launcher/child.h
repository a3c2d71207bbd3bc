/* SPDX-License-Identifier: Apache-2.0 */
/* launcher/child.h - a process that is started on this host, and a socket to it.
 *
 * It gets three things: /dev/null, our standard error (as its output too, so that it
 * cannot write into an answer), and its end of a socketpair as descriptor 3.  All else is
 * closed in it: an inherited copy of another rank's link would keep that rank from ever
 * seeing the driver's death (R32).
 *
 * It leads a process group of its own: ^C at the terminal reaches the driver alone, and
 * what it starts dies with it.  Until it is reaped its pid, and so the group's id, cannot
 * be reused; therefore the group is killed first, then reaped.  Where the application
 * ignores SIGCHLD the kernel reaps: then the group is left alone.
 */
#ifndef COHORT_LAUNCHER_CHILD_H
#define COHORT_LAUNCHER_CHILD_H

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/fail.h"

typedef struct cohort_child {
    pid_t pid;
    int pidfd, control_fd; /* the receiver's; pidfd is readable once it has ended */
} cohort_child;

/* words and variables end with NULL; a program without a slash is looked up in PATH.
 * hint: what a user may do where it does not run.  On an error nothing is left. */
cohort_status cohort_child_start(const char *const *words, const char *const *variables,
                                 const char *hint, cohort_child *out_child);
/* Waits for its end, kills what is left of its group, reaps it and closes pidfd.  False
 * where the kernel has reaped it: nothing is known of its end. */
bool cohort_child_reap(pid_t pid, int pidfd, siginfo_t *out_info);

#endif /* COHORT_LAUNCHER_CHILD_H */
