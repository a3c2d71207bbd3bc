/* SPDX-License-Identifier: Apache-2.0 */
#include "http/exchange_state.h"

/* READING, where nothing leads, stands for "this does not come next". */
static const exchange_state next_states[EXCHANGE_N_STATES][EXCHANGE_N_EVENTS] = {
    [EXCHANGE_READING] = {[EXCHANGE_DISPATCH] = EXCHANGE_WAITING},
    [EXCHANGE_WAITING] = {[EXCHANGE_REPLY] = EXCHANGE_REPLIED,
                          [EXCHANGE_BEGIN] = EXCHANGE_STREAMING,
                          [EXCHANGE_LEAVE] = EXCHANGE_GONE},
    [EXCHANGE_STREAMING] = {[EXCHANGE_END] = EXCHANGE_ENDED,
                            [EXCHANGE_BREAK] = EXCHANGE_BROKEN,
                            [EXCHANGE_LEAVE] = EXCHANGE_GONE},
    [EXCHANGE_ENDED] = {[EXCHANGE_LEAVE] = EXCHANGE_GONE},
    [EXCHANGE_BROKEN] = {[EXCHANGE_LEAVE] = EXCHANGE_GONE},
    [EXCHANGE_REPLIED] = {[EXCHANGE_LEAVE] = EXCHANGE_GONE},
};

bool cohort_exchange_move(exchange_state *state, exchange_event event) {
    exchange_state next = next_states[*state][event];
    if (next == EXCHANGE_READING) return false;
    *state = next;
    return true;
}
