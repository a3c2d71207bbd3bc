/* SPDX-License-Identifier: Apache-2.0 */
/* base/log.h - one line per control-plane event, key=value, with component and rank.
 *
 *   cohort_log(COHORT_LOG_INFO, "executor", rank, "event=worker_ready pid=%d", pid);
 *
 * The library is silent until a sink is set.  The step path never logs.
 * Threads: any; the sink must allow for it.  Setting the sink is for start-up.
 */
#ifndef COHORT_BASE_LOG_H
#define COHORT_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/fail.h"

typedef enum cohort_log_level {
    COHORT_LOG_DEBUG,
    COHORT_LOG_INFO,
    COHORT_LOG_WARNING,
    COHORT_LOG_ERROR
} cohort_log_level;

/* line is NUL-terminated, without a newline, valid during the call. */
typedef void (*cohort_log_sink)(void *user_data, cohort_log_level level,
                                const char *line);

void cohort_log_set_sink(cohort_log_sink sink, cohort_log_level least, void *user_data);
/* A ready sink: one write(2) per line to standard error. */
void cohort_log_to_stderr(void *user_data, cohort_log_level level, const char *line);
/* debug, info, warning, error, and what Python has beside these; false where the name is
 * none. */
bool cohort_log_level_parse(const char *name, cohort_log_level *out_level);

/* rank: COHORT_RANK_LOCAL where the event belongs to no rank. */
void cohort_log(cohort_log_level level, const char *component, int32_t rank,
                const char *format, ...) COHORT_PRINTF(4, 5);
/* Where an error was raised that was just told; at level debug. */
void cohort_log_place(const char *component, const cohort_error *error);

#endif /* COHORT_BASE_LOG_H */
