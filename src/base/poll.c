/* SPDX-License-Identifier: Apache-2.0 */
#include "base/poll.h"

#include <limits.h>

#include "cohort/clock.h"

int cohort_poll_timeout_ms(int64_t deadline_ns) {
    if (deadline_ns == COHORT_NEVER) return -1;
    int64_t left_ns = deadline_ns - cohort_clock_ns();
    if (left_ns <= 0) return 0;
    int64_t left_ms = (left_ns + 999999) / 1000000;
    return left_ms > INT_MAX ? INT_MAX : (int)left_ms;
}
