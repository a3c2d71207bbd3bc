/* SPDX-License-Identifier: Apache-2.0 */
/* sleeper.h - seeing that a thread of this process sleeps in the kernel. */
#ifndef COHORT_TESTS_SLEEPER_H
#define COHORT_TESTS_SLEEPER_H

#include <sys/types.h>

/* Returns once thread tid (gettid) sleeps in the system call of that number. */
void sleeper_await(pid_t tid, long system_call);

#endif /* COHORT_TESTS_SLEEPER_H */
