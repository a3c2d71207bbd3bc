/* SPDX-License-Identifier: Apache-2.0 */
/* start_executor.h - how executors of tests are started, and how long they are waited
 * for. */
#ifndef START_EXECUTOR_H
#define START_EXECUTOR_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cohort/clock.h"
#include "cohort/executor.h"

enum { PATIENCE_MS = 60000 }; /* of waits that are meant to end */

static inline int64_t patience(void) { return cohort_deadline_ms(PATIENCE_MS); }

static inline cohort_executor *start(const cohort_executor_options *options) {
    cohort_executor *executor = NULL;
    if (cohort_executor_start(options, &executor) < 0)
        fail_msg("%s", cohort_last_error()->message);
    return executor;
}

#endif /* START_EXECUTOR_H */
