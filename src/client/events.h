/* SPDX-License-Identifier: Apache-2.0 */
/* client/events.h - a server's event stream, cut into events.
 *
 *   data: {"choices":...}\n\n : a comment\n\n data: [DONE]\n\n
 *
 * Bytes come in pieces of any size; every event comes out once, as soon as its empty line
 * has been read.  Fields other than data are left aside, as are comments.
 *
 * Ownership: zero-initialise, deinit frees.  An event is valid during the call.
 * Errors:    COHORT_E_PROTOCOL where an event is longer than COHORT_MAX_EVENT_BYTES.
 */
#ifndef COHORT_CLIENT_EVENTS_H
#define COHORT_CLIENT_EVENTS_H

#include "base/body.h"

enum { COHORT_MAX_EVENT_BYTES = 16 << 20 };

typedef struct cohort_events {
    cohort_body line, data;
    bool has_data, after_return;
} cohort_events;

/* data is NUL-terminated. */
typedef void (*cohort_on_event)(void *user_data, const char *data, size_t size);

cohort_status cohort_events_feed(cohort_events *events, const char *bytes, size_t size,
                                 cohort_on_event on_event, void *user_data);
void cohort_events_deinit(cohort_events *events);

#endif /* COHORT_CLIENT_EVENTS_H */
