/* SPDX-License-Identifier: Apache-2.0 */
/* executor/stacks.h - where the threads of a rank are that does not get on: asked from
 * outside, without a debugger.
 *
 * The kernel tells state, wait and system call of each; the rank's own handler of SIGURG
 * (worker/last_words.h) writes a thread's frames into the counters, unless it is stopped.
 * All of it takes 100 ms at most, whatever the rank does.
 */
#ifndef COHORT_EXECUTOR_STACKS_H
#define COHORT_EXECUTOR_STACKS_H

#include <stddef.h>
#include <stdint.h>

#include "base/log.h"
#include "counters/counters.h"

/* "+0x12ab +0x34cd": for addr2line, innermost first; "" where nothing was left.  A 0 ends
 * them, or most. */
void executor_describe_frames(const uint64_t *frames, size_t most, char *out_text,
                              size_t size);

/* Of a process of this host: a line of the log for each thread; out_text, for an error,
 * says where its first one is: "at +0x12ab +0x34cd", "its process is stopped"; "" where
 * nothing can be known. */
void executor_write_stacks(int32_t pid, int32_t rank, cohort_counters_row *row,
                           cohort_log_level level, char *out_text, size_t size);

#endif /* COHORT_EXECUTOR_STACKS_H */
