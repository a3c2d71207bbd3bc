/* SPDX-License-Identifier: Apache-2.0 */
/* worker/last_words.h - what a crashing rank leaves: its signal, and where it was.
 *
 * Handlers of SIGSEGV, SIGBUS, SIGABRT, SIGFPE and SIGILL, on a stack of their own, write
 * both into the rank's counters, and then hand the signal on to whoever had it before.
 * Where the driver cannot read the counters (another host) they are sent as a frame.
 *
 * Threads: install once, before calls; it concerns all threads of the process.
 */
#ifndef COHORT_WORKER_LAST_WORDS_H
#define COHORT_WORKER_LAST_WORDS_H

#include "base/counters.h"

/* row: the rank's, for the life of the process.  fd: -1, or the control link to send the
 * row over, as that rank and epoch. */
void cohort_last_words_install(cohort_counters_row *row, int fd, int32_t rank,
                               uint64_t epoch);

#endif /* COHORT_WORKER_LAST_WORDS_H */
