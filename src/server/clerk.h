/* SPDX-License-Identifier: Apache-2.0 */
/* server/clerk.h - a thread for requests whose body takes long to read.
 *
 * Megabytes of text are parsed and tokenized for seconds; meanwhile the HTTP thread has
 * the tokens of others to send.  Such requests stand in line here, one after another.
 *
 * Threads: hand_over from the HTTP thread; start and stop from one.
 */
#ifndef COHORT_SERVER_CLERK_H
#define COHORT_SERVER_CLERK_H

#include "server/http.h"

typedef struct cohort_clerk cohort_clerk;

typedef void (*cohort_clerk_serve)(void *user_data, cohort_exchange *exchange);

cohort_status cohort_clerk_start(void *user_data, cohort_clerk **out_clerk);
/* False where there is no memory: the exchange is still the caller's. */
bool cohort_clerk_hand_over(cohort_clerk *clerk, cohort_clerk_serve serve,
                            cohort_exchange *exchange);
/* Returns when all that stood in line was served.  Accepts NULL. */
void cohort_clerk_stop(cohort_clerk *clerk);

#endif /* COHORT_SERVER_CLERK_H */
