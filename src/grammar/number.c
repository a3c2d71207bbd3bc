/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "grammar/grammar_internal.h"

/* Design notes.
 *
 * Numbers within bounds, as decimals without an exponent.  Digits are written from the
 * left; while those so far are the bound's own, the next is held against the bound's next
 * (the number is "tight" there), and once they differ the bound is met for good.  So a
 * state is (digits so far, tight below, tight above), for each count of digits before the
 * point.  Below zero the bounds change places. */

enum { WHOLE_DIGITS = 18, FRACTION_DIGITS = 15, TEXT_BYTES = 64 };

struct decimal {
    char whole[WHOLE_DIGITS + 2];
    char fraction[TEXT_BYTES];
    int n_whole, n_fraction;
};

struct magnitude {
    struct decimal low, high;
    bool above, below, is_bounded; /* is_bounded: there is a high */
    bool is_integer;
};

/* Takes a double of at least 0 apart, into the fewest digits that mean it. */
static bool to_decimal(double value, struct decimal *out) {
    char text[TEXT_BYTES];
    *out = (struct decimal){0};
    if (!(value < 1e17)) return false;
    for (int precision = 1; precision <= 17; precision++) {
        snprintf(text, sizeof text, "%.*e", precision - 1, value);
        if (strtod(text, NULL) == value) break;
    }
    char digits[TEXT_BYTES] = "";
    int n = 0, exponent = atoi(strchr(text, 'e') + 1);
    for (const char *at = text; *at != 'e'; at++)
        if (*at != '.') digits[n++] = *at;
    while (n > 1 && digits[n - 1] == '0')
        n--;
    if (value == 0) n = 0;
    for (int i = 0; i <= exponent; i++)
        out->whole[out->n_whole++] = i < n ? digits[i] : '0';
    if (value == 0 || exponent < 0) {
        out->n_whole = 0;
        out->whole[out->n_whole++] = '0';
    }
    if (value > 0 && -exponent - 1 + n > FRACTION_DIGITS) return false;
    for (int i = exponent + 1; i < 0 && value > 0; i++)
        out->fraction[out->n_fraction++] = '0';
    for (int i = exponent < 0 ? 0 : exponent + 1; i < n; i++)
        out->fraction[out->n_fraction++] = digits[i];
    return true;
}

static char digit_at(const struct decimal *decimal, int i) {
    return i < decimal->n_fraction ? decimal->fraction[i] : '0';
}

/* Digits so far are written in states[tight below][tight above]. */
struct frontier {
    uint32_t states[2][2];
    bool is_used[2][2];
};

static uint32_t state_in(cohort_builder *builder, cohort_nfa *nfa,
                         struct frontier *frontier, bool low, bool high) {
    if (!frontier->is_used[low][high]) {
        frontier->is_used[low][high] = true;
        frontier->states[low][high] = cohort_nfa_state(builder, nfa);
    }
    return frontier->states[low][high];
}

/* One more digit: low and high are the bounds' own at this place. */
static void add_digits(cohort_builder *builder, cohort_nfa *nfa,
                       const struct frontier *from, struct frontier *to, char first,
                       char low, char high) {
    for (int flags = 0; flags < 4; flags++) {
        bool is_low = flags & 1, is_high = flags & 2;
        if (!from->is_used[is_low][is_high]) continue;
        for (char digit = first; digit <= '9'; digit++) {
            if ((is_low && digit < low) || (is_high && digit > high)) continue;
            uint32_t next = state_in(builder, nfa, to, is_low && digit == low,
                                     is_high && digit == high);
            cohort_nfa_add(builder, nfa,
                           cohort_expr_range(builder, (uint8_t)digit, (uint8_t)digit),
                           from->states[is_low][is_high], next);
        }
    }
}

/* A number may end after n digits of its fraction where what is left of a bound lets it.
 */
static void add_ends(cohort_builder *builder, cohort_nfa *nfa,
                     const struct magnitude *range, const struct frontier *at, int n,
                     uint32_t end) {
    for (int flags = 0; flags < 4; flags++) {
        bool is_low = flags & 1, is_high = flags & 2;
        if (!at->is_used[is_low][is_high]) continue;
        bool low_rest = n < range->low.n_fraction, high_rest = n < range->high.n_fraction;
        if (is_low && (low_rest || range->above)) continue;
        if (is_high && !high_rest && range->below) continue;
        cohort_nfa_add(builder, nfa, COHORT_EXPR_EMPTY, at->states[is_low][is_high], end);
    }
}

static void add_fraction(cohort_builder *builder, cohort_nfa *nfa,
                         const struct magnitude *range, const struct frontier *whole,
                         uint32_t end) {
    struct frontier at = {0};
    cohort_expr point = cohort_expr_range(builder, '.', '.');
    for (int flags = 0; flags < 4; flags++) {
        bool is_low = flags & 1, is_high = flags & 2;
        if (!whole->is_used[is_low][is_high]) continue;
        cohort_nfa_add(builder, nfa, point, whole->states[is_low][is_high],
                       state_in(builder, nfa, &at, is_low, is_high));
    }
    for (int i = 0; i < FRACTION_DIGITS; i++) {
        struct frontier next = {0};
        add_digits(builder, nfa, &at, &next, '0', digit_at(&range->low, i),
                   digit_at(&range->high, i));
        add_ends(builder, nfa, range, &next, i + 1, end);
        at = next;
    }
}

/* Numbers of so many digits before the point. */
static void add_length(cohort_builder *builder, cohort_nfa *nfa,
                       const struct magnitude *range, int length, uint32_t start,
                       uint32_t end) {
    struct frontier at = {0};
    bool low = length == range->low.n_whole;
    bool high = range->is_bounded && length == range->high.n_whole;
    at.is_used[low][high] = true;
    at.states[low][high] = start;
    for (int i = 0; i < length; i++) {
        struct frontier next = {0};
        add_digits(builder, nfa, &at, &next, i == 0 && length > 1 ? '1' : '0',
                   low ? range->low.whole[i] : '0', high ? range->high.whole[i] : '9');
        at = next;
    }
    add_ends(builder, nfa, range, &at, 0, end);
    if (!range->is_integer) add_fraction(builder, nfa, range, &at, end);
}

static cohort_expr magnitude_expr(cohort_builder *builder, bool is_integer, double low,
                                  bool above, double high, bool below) {
    struct magnitude range = {.above = above,
                              .below = below,
                              .is_bounded = high < INFINITY,
                              .is_integer = is_integer};
    if (low > high || (low == high && (above || below))) return COHORT_EXPR_NEVER;
    if (!to_decimal(low, &range.low) ||
        (range.is_bounded && !to_decimal(high, &range.high))) {
        COHORT_BUILDER_FAIL(
            builder, COHORT_E_INVALID,
            "bounds of numbers must be below 1e17, with at most %d digits "
            "behind the point",
            FRACTION_DIGITS);
        return COHORT_EXPR_NEVER;
    }
    cohort_nfa nfa = {0};
    cohort_automaton automaton = {0};
    uint32_t start = cohort_nfa_state(builder, &nfa);
    uint32_t end = cohort_nfa_state(builder, &nfa);
    int most = range.is_bounded ? range.high.n_whole : WHOLE_DIGITS - 3;
    if (most < range.low.n_whole) most = range.low.n_whole;
    for (int length = range.low.n_whole; length <= most; length++)
        add_length(builder, &nfa, &range, length, start, end);
    cohort_automaton_make(builder, &nfa, start, end, &automaton);
    cohort_nfa_deinit(&nfa);
    return cohort_expr_automaton(builder, &automaton);
}

cohort_expr cohort_json_number(cohort_builder *builder, bool is_integer,
                               const cohort_number_range *given) {
    cohort_number_range range = *given;
    if (!is_integer && range.least == -INFINITY && range.most == INFINITY)
        return cohort_json_any_number(builder);
    if (is_integer) {
        /* To closed bounds that are whole. */
        double low = ceil(range.least), high = floor(range.most);
        if (range.above && low == range.least) low += 1;
        if (range.below && high == range.most) high -= 1;
        range = (cohort_number_range){.least = low, .most = high};
    }
    cohort_expr expr = COHORT_EXPR_NEVER;
    if (range.most >= 0)
        expr = magnitude_expr(builder, is_integer, fmax(range.least, 0),
                              range.above && range.least >= 0, range.most, range.below);
    if (range.least >= 0) return expr;
    cohort_expr minus = cohort_expr_range(builder, '-', '-');
    bool reaches_zero = range.most >= 0; /* which has no sign */
    cohort_expr negative = magnitude_expr(
        builder, is_integer, reaches_zero ? (is_integer ? 1 : 0) : -range.most,
        reaches_zero ? !is_integer : range.below, -range.least, range.above);
    return cohort_expr_either(builder, cohort_expr_concat(builder, minus, negative),
                              expr);
}
