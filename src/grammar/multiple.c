/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "grammar/grammar_internal.h"

/* Multiples of m / 10^k, as plain decimals: a state for each remainder and number of
 * digits behind the point.  Digits after the k-th are zeros. */

enum { MAX_MULTIPLE = 3600, MAX_PLACES = 9, MAX_STATES = 12000 };

/* The step as a whole number of so many decimal places. */
static bool read_step(double step, uint32_t *out_whole, int *out_places) {
    char text[64];
    for (int places = 0; places <= MAX_PLACES; places++) {
        snprintf(text, sizeof text, "%.*f", places, step);
        if (strtod(text, NULL) != step) continue;
        double whole = round(step * pow(10, places));
        *out_whole = (uint32_t)whole;
        *out_places = places;
        return whole >= 1 && whole <= MAX_MULTIPLE && whole * (places + 1) <= MAX_STATES;
    }
    return false;
}

/* Is r, of so many more decimal places, a multiple? */
static bool is_multiple(uint32_t rest, uint32_t whole, int places) {
    uint64_t value = rest;
    for (int i = 0; i < places; i++)
        value = value * 10 % whole;
    return value % whole == 0;
}

static void add_digits(cohort_builder *builder, cohort_nfa *nfa, uint32_t whole,
                       uint32_t from, uint32_t to) {
    for (uint32_t rest = 0; rest < whole && builder->status >= 0; rest++)
        for (unsigned digit = 0; digit < 10; digit++)
            cohort_nfa_add(builder, nfa,
                           cohort_expr_range(builder, (uint8_t)('0' + digit),
                                             (uint8_t)('0' + digit)),
                           from + rest, to + (rest * 10 + digit) % whole);
}

cohort_expr cohort_grammar_json_multiple(cohort_builder *builder, double step) {
    uint32_t whole;
    int places;
    if (!read_step(step, &whole, &places)) {
        COHORT_BUILDER_FAIL(
            builder, COHORT_E_INVALID,
            "schema: 'multipleOf' must be above 0, with at most %d digits "
            "behind the point, and not above %d without its point",
            MAX_PLACES, MAX_MULTIPLE);
        return COHORT_EXPR_NEVER;
    }
    cohort_nfa nfa = {0};
    cohort_automaton automaton = {0};
    uint32_t start = cohort_nfa_state(builder, &nfa);
    uint32_t end = cohort_nfa_state(builder, &nfa);
    uint32_t open = cohort_nfa_state(builder, &nfa);
    uint32_t zeros = cohort_nfa_state(builder, &nfa);
    uint32_t first = nfa.n_states;
    for (uint32_t i = 0; i < whole * (uint32_t)(places + 1); i++)
        cohort_nfa_state(builder, &nfa);
    cohort_expr minus = cohort_expr_range(builder, '-', '-');
    cohort_nfa_add(builder, &nfa, cohort_expr_repeat(builder, minus, 0, 1), start, open);
    cohort_nfa_add(builder, &nfa, COHORT_EXPR_EMPTY, open, first);
    add_digits(builder, &nfa, whole, first, first);
    cohort_expr point = cohort_expr_range(builder, '.', '.');
    cohort_expr zero = cohort_expr_range(builder, '0', '0');
    for (int place = 0; place <= places; place++) {
        uint32_t at = first + whole * (uint32_t)place;
        /* A point begins the digits behind it; each leads to the next place. */
        uint32_t digits = at;
        if (place == 0 && places > 0) {
            digits = nfa.n_states;
            for (uint32_t i = 0; i < whole; i++) {
                cohort_nfa_state(builder, &nfa);
                cohort_nfa_add(builder, &nfa, point, at + i, digits + i);
            }
        }
        if (place < places) add_digits(builder, &nfa, whole, digits, at + whole);
        for (uint32_t rest = 0; rest < whole; rest++)
            if (is_multiple(rest, whole, places - place))
                cohort_nfa_add(builder, &nfa, COHORT_EXPR_EMPTY, at + rest, end);
    }
    uint32_t last = first + whole * (uint32_t)places;
    cohort_nfa_add(builder, &nfa,
                   places ? zero : cohort_expr_concat(builder, point, zero), last, zeros);
    cohort_nfa_add(builder, &nfa, zero, zeros, zeros);
    cohort_nfa_add(builder, &nfa, COHORT_EXPR_EMPTY, zeros, end);
    cohort_automaton_make(builder, &nfa, start, end, &automaton);
    cohort_nfa_deinit(&nfa);
    return cohort_expr_automaton(builder, &automaton);
}
