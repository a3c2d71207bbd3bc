/* SPDX-License-Identifier: Apache-2.0 */
/* http/exchange_state.h - how far an exchange is, and what may come next; private to
 * http.
 *
 *    READING --dispatch--> WAITING --begin--> STREAMING --end----> ENDED
 *                             |                   +-------break--> BROKEN
 *                             +--reply---------------------------> REPLIED
 *
 *    and from each but READING --leave--> GONE
 *
 * A request that never was whole has no holder: its connection just ends.  The two sides
 * act in any order, so what does not fit any more, such as the answer to a client that
 * has left, is no error: the state stays, and the caller lets it be.
 */
#ifndef COHORT_HTTP_EXCHANGE_STATE_H
#define COHORT_HTTP_EXCHANGE_STATE_H

#include <stdbool.h>

typedef enum exchange_state {
    EXCHANGE_READING,   /* the request is not there yet, whole */
    EXCHANGE_WAITING,   /* the holder has it, and has said nothing */
    EXCHANGE_STREAMING, /* parts of the answer come */
    EXCHANGE_ENDED,     /* they have come, */
    EXCHANGE_BROKEN,    /* but for some: the connection is to break off */
    EXCHANGE_REPLIED,   /* the answer came at once */
    EXCHANGE_GONE,      /* the client left, or all of http ends: nobody listens */
    EXCHANGE_N_STATES
} exchange_state;

typedef enum exchange_event {
    EXCHANGE_DISPATCH, /* to the holder */
    EXCHANGE_REPLY,
    EXCHANGE_BEGIN,
    EXCHANGE_END,
    EXCHANGE_BREAK,
    EXCHANGE_LEAVE,
    EXCHANGE_N_EVENTS
} exchange_event;

/* False: that does not come next, and the state stays. */
bool cohort_exchange_move(exchange_state *state, exchange_event event);

/* There is a head to send. */
static inline bool exchange_has_begun(exchange_state state) {
    return state >= EXCHANGE_STREAMING && state <= EXCHANGE_REPLIED;
}

/* All of the answer is there, or will be. */
static inline bool exchange_is_answered(exchange_state state) {
    return state >= EXCHANGE_ENDED && state <= EXCHANGE_REPLIED;
}

#endif /* COHORT_HTTP_EXCHANGE_STATE_H */
