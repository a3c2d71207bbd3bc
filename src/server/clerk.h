/* SPDX-License-Identifier: Apache-2.0 */
/* server/clerk.h - a thread for requests that take long to read.
 *
 * Megabytes of text are parsed and tokenized for seconds, a schema is compiled for some
 * milliseconds or more; meanwhile the HTTP thread has the tokens of others to send.  Such
 * requests stand in line here, one after another; who leaves meanwhile is passed over.
 *
 * Ownership: an exchange in the line is that clerk's, until serve or refuse takes it.
 * Threads:   hand_over from the HTTP thread, until destroy; the others from one.
 */
#ifndef COHORT_SERVER_CLERK_H
#define COHORT_SERVER_CLERK_H

#include "http/http.h"

typedef struct cohort_clerk cohort_clerk;

typedef void (*cohort_clerk_take)(void *user_data, cohort_exchange *exchange);

/* serve: on the clerk's thread.  refuse: on that of close.  capacity: of the line; one of
 * as many as there may be connections is never full, as each has one exchange. */
cohort_status cohort_clerk_start(size_t capacity, cohort_clerk_take serve,
                                 cohort_clerk_take refuse, void *user_data,
                                 cohort_clerk **out_clerk);
/* False where the line is closed, or full: the exchange is still the caller's. */
bool cohort_clerk_hand_over(cohort_clerk *clerk, cohort_exchange *exchange);
/* The caller is a clerk, who serves. */
bool cohort_clerk_is_here(void);
/* Refuses all that stand in line, but for the one that is being served.  Accepts NULL. */
void cohort_clerk_close(cohort_clerk *clerk);
/* Closes, and returns when that one was served; idempotent.  Accepts NULL. */
void cohort_clerk_stop(cohort_clerk *clerk);
/* Stops.  Accepts NULL. */
void cohort_clerk_destroy(cohort_clerk *clerk);

#endif /* COHORT_SERVER_CLERK_H */
