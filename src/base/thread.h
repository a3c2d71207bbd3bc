/* SPDX-License-Identifier: Apache-2.0 */
/* base/thread.h - threads of the library in a program that has its own.
 *
 * Signals are the application's threads' business: ours are born with all of them
 * blocked, but for those that a thread brings upon itself.  Were these blocked, too, the
 * kernel would end the process without a word of its handlers'.
 */
#ifndef COHORT_BASE_THREAD_H
#define COHORT_BASE_THREAD_H

#include <pthread.h>

#include "base/fail.h"

/* name: "cohort-<what>", of at most 15 characters. */
cohort_status cohort_thread_start(const char *name, void *(*run)(void *argument),
                                  void *argument, pthread_t *out_thread);

/* In a process of our own: threads that are started from here on hear that signal. */
void cohort_thread_hear(int signal_number);

#endif /* COHORT_BASE_THREAD_H */
