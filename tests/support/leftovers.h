/* SPDX-License-Identifier: Apache-2.0 */
/* support/leftovers.h - what there is of this process and its runs, to be counted before
 * and after. */
#ifndef COHORT_TESTS_LEFTOVERS_H
#define COHORT_TESTS_LEFTOVERS_H

#include <stdbool.h>

/* Of a folder: /proc/self/fd, /proc/self/task. */
int count_entries(const char *path);
int count_counters(void);
/* Until there are no more entries in /proc/self/task: a joined thread leaves it a moment
 * later.  Fails where there are other threads. */
void await_threads(int threads);
bool has_children(void);
/* Fails, and says of one child what it is and what state it is in, where there is any. */
void assert_no_children(void);

#endif /* COHORT_TESTS_LEFTOVERS_H */
