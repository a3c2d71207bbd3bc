/* SPDX-License-Identifier: Apache-2.0 */
/* server/request_queue.h - a thread for requests that take long to read.
 *
 * Megabytes of text are parsed and tokenized for seconds, a schema is compiled for some
 * milliseconds or more; meanwhile the HTTP thread has the tokens of others to send.  Such
 * requests wait here, one after another; who leaves meanwhile is passed over.
 *
 * The thread has no lower priority than others: on cores that are busy SCHED_IDLE took
 * seven times as long for a body, nice 10 four times, and streams gained nothing by
 * either or by SCHED_BATCH: their threads sleep most of the time, and come first when
 * they wake.
 *
 * Ownership: an exchange in the queue is its, until serve or refuse takes it.
 * Threads:   add from the HTTP thread, until destroy; the others from one.
 */
#ifndef COHORT_SERVER_REQUEST_QUEUE_H
#define COHORT_SERVER_REQUEST_QUEUE_H

#include "http/http.h"

typedef struct cohort_request_queue cohort_request_queue;

typedef void (*cohort_request_queue_take)(void *user_data, cohort_exchange *exchange);

/* serve: on the queue's own thread.  refuse: on that of close.  capacity: how many may
 * wait; one of as many as there may be connections is never full, as each has one
 * exchange. */
cohort_status cohort_request_queue_start(size_t capacity, cohort_request_queue_take serve,
                                         cohort_request_queue_take refuse,
                                         void *user_data,
                                         cohort_request_queue **out_queue);
/* False where it is closed, or full: the exchange is still the caller's. */
bool cohort_request_queue_add(cohort_request_queue *queue, cohort_exchange *exchange);
/* The caller is the thread of a queue, which serves. */
bool cohort_request_queue_is_current(void);
/* All that came were served; false: not yet at the deadline. */
bool cohort_request_queue_wait_idle(cohort_request_queue *queue, int64_t deadline_ns);
/* Refuses all that wait, and all that would come, but for the one that is being served.
 * Accepts NULL. */
void cohort_request_queue_close(cohort_request_queue *queue);
/* Closes, cancels that one (base/cancel.h), as it is when its client leaves, and returns
 * when it was served; idempotent.  Accepts NULL. */
void cohort_request_queue_stop(cohort_request_queue *queue);
/* Stops.  Accepts NULL. */
void cohort_request_queue_destroy(cohort_request_queue *queue);

#endif /* COHORT_SERVER_REQUEST_QUEUE_H */
