/* SPDX-License-Identifier: Apache-2.0 */
/* base/poll.h - what poll(2) takes for a deadline of ours. */
#ifndef COHORT_BASE_POLL_H
#define COHORT_BASE_POLL_H

#include <stdint.h>

/* Rounded up: who sleeps so long does not wake before the deadline.  0 once it has
 * passed, -1 for COHORT_NEVER. */
int cohort_poll_timeout_ms(int64_t deadline_ns);

#endif /* COHORT_BASE_POLL_H */
