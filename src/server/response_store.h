/* SPDX-License-Identifier: Apache-2.0 */
/* server/response_store.h - responses that may be asked for again, within bounds.
 *
 *   put                                   of a response that is whole
 *   begin -> (cancel) -> put | drop       of one that is made in the background
 *
 * Beyond a number of responses or of bytes the oldest that is whole goes; one that is
 * being made stays.  What is kept of each is the response as it was sent and the messages
 * of the conversation up to its end.
 *
 * Ownership: texts that are put are copied.
 * Threads:   any.
 */
#ifndef COHORT_SERVER_RESPONSE_STORE_H
#define COHORT_SERVER_RESPONSE_STORE_H

#include "base/body.h"

typedef struct cohort_response_store cohort_response_store;

typedef struct cohort_response_store_stats {
    size_t n_kept, n_running; /* of n_kept */
    size_t kept_bytes;
    uint64_t n_evicted;
} cohort_response_store_stats;

/* most 0: nothing is kept. */
cohort_status cohort_response_store_create(size_t most, size_t most_bytes,
                                           cohort_response_store **out_store);
void cohort_response_store_destroy(cohort_response_store *store); /* accepts NULL */

/* text: the response as it is so far; its status is "queued" at status_at.  cancel is
 * called at most once, until put or drop, from any thread, and must not call the store.
 * False: there is one of that id, or no room. */
bool cohort_response_store_begin(cohort_response_store *store, const char *id,
                                 const cohort_body *text, size_t status_at,
                                 void (*cancel)(void *user_data), void *user_data);
/* The whole response, and its conversation.  maker: begin's user_data; NULL: it was not
 * begun.  Where there is another one of that id, that one stays as it is.  Of one that
 * was cancelled nothing changes but that it is no longer being made. */
void cohort_response_store_put(cohort_response_store *store, const char *id,
                               const cohort_body *text, const cohort_body *history,
                               const void *maker);
void cohort_response_store_drop(cohort_response_store *store, const char *id);

/* Appends what there is; false: there is none of that id.  out_text or out_history may be
 * NULL. */
bool cohort_response_store_get(cohort_response_store *store, const char *id,
                               cohort_body *out_text, cohort_body *out_history);
/* 0: there is none. */
size_t cohort_response_store_history_size(cohort_response_store *store, const char *id);

typedef enum cohort_response_cancelled {
    COHORT_RESPONSE_CANCELLED,
    COHORT_RESPONSE_UNKNOWN,
    COHORT_RESPONSE_IS_WHOLE, /* too late */
} cohort_response_cancelled;

/* Of one that is being made: its status becomes "cancelled", and out_text is what it is
 * then. */
cohort_response_cancelled cohort_response_store_cancel(cohort_response_store *store,
                                                       const char *id,
                                                       cohort_body *out_text);

cohort_response_store_stats cohort_response_store_look(cohort_response_store *store);

#endif /* COHORT_SERVER_RESPONSE_STORE_H */
