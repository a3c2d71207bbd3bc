/* SPDX-License-Identifier: Apache-2.0 */
/* All that may come next, and by that all that may not. */
#include "http/exchange_state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const struct {
    exchange_state from;
    exchange_event event;
    exchange_state to;
} moves[] = {
    {EXCHANGE_READING, EXCHANGE_DISPATCH, EXCHANGE_WAITING},
    {EXCHANGE_WAITING, EXCHANGE_REPLY, EXCHANGE_REPLIED},
    {EXCHANGE_WAITING, EXCHANGE_BEGIN, EXCHANGE_STREAMING},
    {EXCHANGE_STREAMING, EXCHANGE_END, EXCHANGE_ENDED},
    {EXCHANGE_STREAMING, EXCHANGE_BREAK, EXCHANGE_BROKEN},
    {EXCHANGE_WAITING, EXCHANGE_LEAVE, EXCHANGE_GONE},
    {EXCHANGE_STREAMING, EXCHANGE_LEAVE, EXCHANGE_GONE},
    {EXCHANGE_ENDED, EXCHANGE_LEAVE, EXCHANGE_GONE},
    {EXCHANGE_BROKEN, EXCHANGE_LEAVE, EXCHANGE_GONE},
    {EXCHANGE_REPLIED, EXCHANGE_LEAVE, EXCHANGE_GONE},
};

static void only_what_fits_moves_it(void **unused) {
    (void)unused;
    for (int from = 0; from < EXCHANGE_N_STATES; from++)
        for (int event = 0; event < EXCHANGE_N_EVENTS; event++) {
            exchange_state state = (exchange_state)from, wanted = state;
            for (size_t i = 0; i < sizeof moves / sizeof *moves; i++)
                if ((int)moves[i].from == from && (int)moves[i].event == event)
                    wanted = moves[i].to;
            bool moved = cohort_exchange_move(&state, (exchange_event)event);
            assert_int_equal(state, wanted);
            assert_int_equal(moved, (int)wanted != from);
        }
}

static void what_is_to_be_sent_follows_from_it(void **unused) {
    (void)unused;
    static const struct {
        bool has_begun, is_answered;
    } wanted[EXCHANGE_N_STATES] = {
        [EXCHANGE_STREAMING] = {true, false},
        [EXCHANGE_ENDED] = {true, true},
        [EXCHANGE_BROKEN] = {true, true},
        [EXCHANGE_REPLIED] = {true, true},
    };
    for (int state = 0; state < EXCHANGE_N_STATES; state++) {
        assert_int_equal(exchange_has_begun((exchange_state)state),
                         wanted[state].has_begun);
        assert_int_equal(exchange_is_answered((exchange_state)state),
                         wanted[state].is_answered);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_what_fits_moves_it),
        cmocka_unit_test(what_is_to_be_sent_follows_from_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
