/* SPDX-License-Identifier: Apache-2.0 */
/* cohort/clock.h - the clock that every deadline in this library is read on. */
#ifndef COHORT_CLOCK_H
#define COHORT_CLOCK_H

#include <stdint.h>

#include "cohort/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A deadline that never passes. */
#define COHORT_NEVER INT64_MAX

/* CLOCK_MONOTONIC in nanoseconds.  Deadlines are absolute times on it. */
COHORT_API int64_t cohort_clock_ns(void);

/* The deadline that lies delay_ms from now; a negative delay means COHORT_NEVER. */
COHORT_API int64_t cohort_deadline_ms(int64_t delay_ms);

#ifdef __cplusplus
}
#endif

#endif /* COHORT_CLOCK_H */
