/* SPDX-License-Identifier: Apache-2.0 */
/* base/cancel.h - is what this thread does still wanted?
 *
 * A thread that does long work for others says once how that is found out; whoever works
 * for long asks now and then, without knowing for whom it works.  Threads that say
 * nothing are never cancelled.
 */
#ifndef COHORT_BASE_CANCEL_H
#define COHORT_BASE_CANCEL_H

#include <stdbool.h>
#include <stddef.h>

#include "cohort/status.h"

typedef bool (*cohort_cancel_ask)(void *user_data);

/* For this thread, until the next call; NULL: it is not cancelled. */
void cohort_cancel_set(cohort_cancel_ask is_unwanted, void *user_data);
/* COHORT_E_CLOSED once what it does is unwanted.  To be called where it may be left:
 * asks when about COHORT_CANCEL_BYTES have been worked on since it asked last. */
cohort_status cohort_cancel_check(size_t n_bytes);

enum { COHORT_CANCEL_BYTES = 1 << 16 }; /* a few milliseconds of tokenizing */

#endif /* COHORT_BASE_CANCEL_H */
