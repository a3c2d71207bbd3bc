/* SPDX-License-Identifier: Apache-2.0 */
/* worker/last_words.h - what a rank leaves that ends without being asked: the signal that
 * it crashed with, and where it was; or the status of an exit() that somebody called.
 *
 * Handlers of SIGSEGV, SIGBUS, SIGABRT, SIGFPE and SIGILL, on a stack of their own, write
 * it into the rank's counters, and then hand the signal on to whoever had it before.
 * Where the driver cannot read the counters (another host) they are sent as a frame.
 * SIGKILL and _exit() leave nobody a word.
 *
 * SIGURG, which does nothing by default, asks a thread where it is: its frames and then
 * its id go into the counters.
 *
 * Threads: install before calls, uninstall after them, all on one thread; it concerns all
 * threads of the process.
 */
#ifndef COHORT_WORKER_LAST_WORDS_H
#define COHORT_WORKER_LAST_WORDS_H

#include "counters/counters.h"

/* row: the rank's, until uninstall.  fd: -1, or the control link to send the row over, as
 * that rank and epoch. */
void cohort_last_words_install(cohort_counters_row *row, int fd, int32_t rank,
                               uint64_t epoch);
/* From here on the rank is of that epoch. */
void cohort_last_words_epoch(uint64_t epoch);
/* The process goes on without the rank. */
void cohort_last_words_uninstall(void);

#endif /* COHORT_WORKER_LAST_WORDS_H */
