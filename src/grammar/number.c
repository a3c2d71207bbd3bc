/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "grammar/grammar_internal.h"

/* Design notes.
 *
 * Numbers within bounds: plain decimals, and those that may have a fraction in normalised
 * scientific form, too.  Digits are written from the left; while those so far are the
 * bound's own, the next is held against the bound's next (the number is "tight" there),
 * and once they differ the bound is met for good.  So a state is (digits so far, tight
 * below, tight above), for the counts of digits before the point that a bound has; all
 * others are free.  Below zero the bounds change places.
 *
 * A bound is a double.  From 2^53 on it stands for several whole numbers: the digits that
 * were written decide.  Where there are none (it was written with an exponent), plain
 * decimals end one double before it: never is one let through that is out. */

enum {
    WHOLE_DIGITS = 310,
    FRACTION_DIGITS = 15, /* that may be those of a bound */
    LEAST_EXPONENT = -323,
    MOST_EXPONENT = 308,
    SIGNIFICANT_DIGITS = 17,
    TEXT_BYTES = 352,
};

struct decimal {
    char whole[TEXT_BYTES];
    char fraction[TEXT_BYTES];
    int n_whole, n_fraction;
    char digits[SIGNIFICANT_DIGITS + 1]; /* without zeros at either end */
    int n_digits, exponent;              /* of the first digit */
};

struct magnitude {
    struct decimal low, high;
    bool above, below, is_bounded; /* is_bounded: there is a high */
    bool is_integer;
};

/* The fewest digits that mean a double above 0. */
static void to_digits(double value, struct decimal *out) {
    char text[TEXT_BYTES];
    for (int precision = 1; precision <= SIGNIFICANT_DIGITS; precision++) {
        snprintf(text, sizeof text, "%.*e", precision - 1, value);
        if (strtod(text, NULL) == value) break;
    }
    out->exponent = atoi(strchr(text, 'e') + 1);
    for (const char *at = text; *at != 'e'; at++)
        if (*at != '.') out->digits[out->n_digits++] = *at;
    while (out->n_digits > 1 && out->digits[out->n_digits - 1] == '0')
        out->n_digits--;
}

/* Takes a finite double of at least 0 apart. */
static void to_decimal(double value, struct decimal *out) {
    *out = (struct decimal){0};
    if (value > 0) to_digits(value, out);
    int n = out->n_digits, exponent = out->exponent;
    if (value == 0 || exponent < 0) {
        out->whole[out->n_whole++] = '0';
    } else if (value >= 0x1p53) { /* it is whole, and these are its own digits */
        out->n_whole = snprintf(out->whole, sizeof out->whole, "%.0f", value);
    } else {
        for (int i = 0; i <= exponent; i++)
            out->whole[out->n_whole++] = i < n ? out->digits[i] : '0';
    }
    if (value == 0 || value >= 0x1p53) return;
    for (int i = exponent + 1; i < 0; i++)
        out->fraction[out->n_fraction++] = '0';
    for (int i = exponent < 0 ? 0 : exponent + 1; i < n; i++)
        out->fraction[out->n_fraction++] = out->digits[i];
}

static char digit_at(const struct decimal *decimal, int i) {
    return i < decimal->n_fraction ? decimal->fraction[i] : '0';
}

/* A bound of magnitudes. */
struct limit {
    double value;
    const char *digits; /* as of cohort_number_range */
    bool is_out;
};

static void read_limit(const struct limit *limit, struct decimal *out) {
    to_decimal(limit->value, out);
    if (limit->digits)
        out->n_whole = snprintf(out->whole, sizeof out->whole, "%s", limit->digits);
}

static bool is_empty(const struct limit *low, const struct limit *high) {
    struct decimal a, b;
    if (!(low->value < INFINITY) || low->value > high->value) return true;
    if (low->value < high->value) return false;
    read_limit(low, &a);
    read_limit(high, &b);
    int order = a.n_whole != b.n_whole ? a.n_whole - b.n_whole
                                       : memcmp(a.whole, b.whole, (size_t)a.n_whole);
    return order > 0 || (order == 0 && (low->is_out || high->is_out));
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

static int larger(int a, int b) { return a > b ? a : b; }

static cohort_expr digits_of(cohort_builder *builder, int32_t least, int32_t most) {
    return cohort_expr_repeat(builder, cohort_expr_range(builder, '0', '9'), least, most);
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
    int n_digits =
        larger(FRACTION_DIGITS, larger(range->low.n_fraction, range->high.n_fraction));
    for (int i = 0; i < n_digits; i++) {
        struct frontier next = {0};
        /* Met for good: any digits, and the end. */
        if (at.is_used[false][false])
            cohort_nfa_add(builder, nfa, digits_of(builder, 1, COHORT_UNBOUNDED),
                           at.states[false][false], end);
        at.is_used[false][false] = false;
        add_digits(builder, nfa, &at, &next, '0', digit_at(&range->low, i),
                   digit_at(&range->high, i));
        add_ends(builder, nfa, range, &next, i + 1, end);
        at = next;
    }
}

/* Numbers of so many digits before the point, as a bound has. */
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

/* Those that are longer than the lower bound and shorter than the upper one. */
static cohort_expr free_lengths(cohort_builder *builder, const struct magnitude *range) {
    int32_t least = range->low.n_whole + 1;
    int32_t most = range->is_bounded ? range->high.n_whole - 1 : COHORT_UNBOUNDED;
    if (range->is_bounded && most < least) return COHORT_EXPR_NEVER;
    cohort_expr expr = cohort_expr_concat(
        builder, cohort_expr_range(builder, '1', '9'),
        digits_of(builder, least - 1, range->is_bounded ? most - 1 : most));
    if (range->is_integer) return expr;
    cohort_expr fraction =
        cohort_expr_concat(builder, cohort_expr_range(builder, '.', '.'),
                           digits_of(builder, 1, COHORT_UNBOUNDED));
    return cohort_expr_concat(builder, expr, cohort_expr_repeat(builder, fraction, 0, 1));
}

static cohort_expr plain_expr(cohort_builder *builder, bool is_integer,
                              const struct limit *low, const struct limit *high) {
    struct magnitude range = {.above = low->is_out,
                              .below = high->is_out,
                              .is_bounded = high->value < INFINITY,
                              .is_integer = is_integer};
    if (is_empty(low, high)) return COHORT_EXPR_NEVER;
    read_limit(low, &range.low);
    if (range.is_bounded) read_limit(high, &range.high);
    cohort_nfa nfa = {0};
    cohort_automaton automaton = {0};
    uint32_t start = cohort_nfa_state(builder, &nfa);
    uint32_t end = cohort_nfa_state(builder, &nfa);
    add_length(builder, &nfa, &range, range.low.n_whole, start, end);
    cohort_nfa_add(builder, &nfa, free_lengths(builder, &range), start, end);
    if (range.is_bounded && range.high.n_whole != range.low.n_whole)
        add_length(builder, &nfa, &range, range.high.n_whole, start, end);
    cohort_automaton_make(builder, &nfa, start, end, &automaton);
    cohort_nfa_deinit(&nfa);
    return cohort_expr_automaton(builder, &automaton);
}

/* ---- scientific form --------------------------------------------------------------- */

/* How the digits so far stand to a bound's. */
enum { LESS, SAME, MORE, N_ORDERS };

struct mantissas {
    uint32_t states[N_ORDERS][N_ORDERS]; /* to the lower bound, to the upper one */
    bool is_used[N_ORDERS][N_ORDERS];
};

static int order_after(int order, char digit, const struct decimal *bound, int i) {
    char own = i < bound->n_digits ? bound->digits[i] : '0';
    if (order != SAME || digit == own) return order;
    return digit < own ? LESS : MORE;
}

/* An exponent from one to another, which may have zeros before it. */
static cohort_expr exponent_expr(cohort_builder *builder, int least, int most) {
    cohort_expr expr = COHORT_EXPR_NEVER;
    if (least > most) return expr;
    cohort_byte_set marks = {{0}};
    marks.bits['E' / 64] |= UINT64_C(1) << 'E' % 64 | UINT64_C(1) << 'e' % 64;
    cohort_expr zeros =
        cohort_expr_repeat(builder, cohort_expr_range(builder, '0', '0'), 0, 2);
    if (most >= 0) {
        cohort_expr plus =
            cohort_expr_repeat(builder, cohort_expr_range(builder, '+', '+'), 0, 1);
        cohort_expr number =
            plain_expr(builder, true, &(struct limit){.value = larger(least, 0)},
                       &(struct limit){.value = most});
        expr =
            cohort_expr_concat(builder, plus, cohort_expr_concat(builder, zeros, number));
    }
    if (least < 0) {
        cohort_expr number =
            plain_expr(builder, true, &(struct limit){.value = larger(-most, 1)},
                       &(struct limit){.value = -least});
        cohort_expr minus = cohort_expr_range(builder, '-', '-');
        expr = cohort_expr_either(
            builder,
            cohort_expr_concat(builder, minus,
                               cohort_expr_concat(builder, zeros, number)),
            expr);
    }
    return cohort_expr_concat(builder, cohort_expr_bytes(builder, &marks), expr);
}

/* After n digits the number may end in an exponent that keeps the bounds.  Digits that
 * are the first of a bound's are less than the bound. */
static void add_exponents(cohort_builder *builder, cohort_nfa *nfa,
                          const struct magnitude *range, const struct mantissas *at,
                          int n, cohort_expr known[N_ORDERS][N_ORDERS], uint32_t end) {
    bool has_low = range->low.n_digits > 0;
    for (int low = 0; low < N_ORDERS; low++)
        for (int high = 0; high < N_ORDERS; high++) {
            if (!at->is_used[low][high]) continue;
            int to_low = low == SAME && n < range->low.n_digits ? LESS : low;
            int to_high = high == SAME && n < range->high.n_digits ? LESS : high;
            int least = LEAST_EXPONENT, most = MOST_EXPONENT;
            if (has_low)
                least = range->low.exponent +
                        (to_low == LESS || (to_low == SAME && range->above));
            if (range->is_bounded)
                most = range->high.exponent -
                       (to_high == MORE || (to_high == SAME && range->below));
            cohort_expr *expr = &known[to_low][to_high];
            if (!*expr)
                *expr = exponent_expr(builder, larger(least, LEAST_EXPONENT), most);
            cohort_nfa_add(builder, nfa, *expr, at->states[low][high], end);
        }
}

static void add_mantissa_digit(cohort_builder *builder, cohort_nfa *nfa,
                               const struct magnitude *range,
                               const struct mantissas *from, struct mantissas *to,
                               int i) {
    for (int low = 0; low < N_ORDERS; low++)
        for (int high = 0; high < N_ORDERS; high++)
            for (char digit = i ? '0' : '1'; from->is_used[low][high] && digit <= '9';
                 digit++) {
                int x = order_after(low, digit, &range->low, i);
                int y = order_after(high, digit, &range->high, i);
                if (!to->is_used[x][y]) to->states[x][y] = cohort_nfa_state(builder, nfa);
                to->is_used[x][y] = true;
                cohort_nfa_add(builder, nfa,
                               cohort_expr_range(builder, (uint8_t)digit, (uint8_t)digit),
                               from->states[low][high], to->states[x][y]);
            }
}

static void add_point(cohort_builder *builder, cohort_nfa *nfa,
                      const struct mantissas *from, struct mantissas *to) {
    cohort_expr point = cohort_expr_range(builder, '.', '.');
    for (int low = 0; low < N_ORDERS; low++)
        for (int high = 0; high < N_ORDERS; high++) {
            if (!from->is_used[low][high]) continue;
            to->is_used[low][high] = true;
            to->states[low][high] = cohort_nfa_state(builder, nfa);
            cohort_nfa_add(builder, nfa, point, from->states[low][high],
                           to->states[low][high]);
        }
}

/* d.ddde-ddd, the first digit not 0. */
static cohort_expr scientific_expr(cohort_builder *builder, const struct limit *low,
                                   const struct limit *high) {
    struct magnitude range = {.above = low->is_out,
                              .below = high->is_out,
                              .is_bounded = high->value < INFINITY};
    if (high->value == 0 || is_empty(low, high)) return COHORT_EXPR_NEVER;
    to_decimal(low->value, &range.low);
    if (range.is_bounded) to_decimal(high->value, &range.high);
    cohort_nfa nfa = {0};
    cohort_automaton automaton = {0};
    cohort_expr known[N_ORDERS][N_ORDERS] = {{COHORT_EXPR_EMPTY}};
    struct mantissas start = {0}, at = {0}, behind = {0};
    start.states[SAME][SAME] = cohort_nfa_state(builder, &nfa);
    start.is_used[SAME][SAME] = true;
    uint32_t end = cohort_nfa_state(builder, &nfa);
    add_mantissa_digit(builder, &nfa, &range, &start, &at, 0);
    add_exponents(builder, &nfa, &range, &at, 1, known, end);
    add_point(builder, &nfa, &at, &behind);
    int n_digits = larger(1, larger(range.low.n_digits, range.high.n_digits));
    for (int i = 1; i <= n_digits; i++) {
        struct mantissas next = {0};
        add_mantissa_digit(builder, &nfa, &range, &behind, &next, i);
        if (i < n_digits) add_exponents(builder, &nfa, &range, &next, i + 1, known, end);
        behind = next;
    }
    /* Behind both bounds' digits, the same states again and again; those that this makes
     * are met behind the ones that lead to them. */
    add_mantissa_digit(builder, &nfa, &range, &behind, &behind, n_digits + 1);
    add_exponents(builder, &nfa, &range, &behind, n_digits + 1, known, end);
    cohort_automaton_make(builder, &nfa, start.states[SAME][SAME], end, &automaton);
    cohort_nfa_deinit(&nfa);
    return cohort_expr_automaton(builder, &automaton);
}

/* ---- numbers ----------------------------------------------------------------------- */

/* From 2^53 on, a bound without digits may have been written as any number that this
 * double is the nearest to.  2^63 and 2^64 come of the largest whole numbers of machines.
 */
static void narrow(cohort_number_range *range) {
    if (isfinite(range->most) && fabs(range->most) >= 0x1p53 && !range->most_digits) {
        if (range->most == 0x1p63 || range->most == 0x1p64)
            range->below = true;
        else
            range->most = nextafter(range->most, -INFINITY);
    }
    if (isfinite(range->least) && fabs(range->least) >= 0x1p53 && !range->least_digits &&
        (range->least != -0x1p63 || range->above))
        range->least = nextafter(range->least, INFINITY);
}

/* Are the digits those that scientific form has the double by? */
static bool has_digits(double value, const char *digits) {
    struct decimal own = {0};
    to_digits(fabs(value), &own);
    size_t n = (size_t)own.n_digits;
    return strlen(digits) == (size_t)own.exponent + 1 && n <= strlen(digits) &&
           !memcmp(digits, own.digits, n) &&
           strspn(digits + n, "0") == strlen(digits + n);
}

/* Scientific form has no bounds but doubles: the next one within stands for digits that
 * are another number. */
static void narrow_to_doubles(cohort_number_range *range) {
    if (range->most_digits && !has_digits(range->most, range->most_digits)) {
        range->most = nextafter(range->most, -INFINITY);
        range->most_digits = NULL;
        range->below = false;
    }
    if (range->least_digits && !has_digits(range->least, range->least_digits)) {
        range->least = nextafter(range->least, INFINITY);
        range->least_digits = NULL;
        range->above = false;
    }
}

/* By magnitude: those from 0 up, and those below it behind a minus. */
static cohort_expr signed_expr(cohort_builder *builder, const cohort_number_range *range,
                               bool is_integer, bool is_plain) {
    const struct limit zero = {.value = 0},
                       least = {range->least, range->least_digits, range->above},
                       most = {range->most, range->most_digits, range->below},
                       from_least = {-range->least, range->least_digits, range->above},
                       from_most = {-range->most, range->most_digits, range->below},
                       below_zero = {.value = is_integer, .is_out = !is_integer};
    cohort_expr expr = COHORT_EXPR_NEVER, negative;
    if (range->most >= 0) {
        const struct limit *low = range->least >= 0 ? &least : &zero;
        expr = is_plain ? plain_expr(builder, is_integer, low, &most)
                        : scientific_expr(builder, low, &most);
    }
    if (range->least >= 0) return expr;
    /* Zero has no sign. */
    const struct limit *low = range->most >= 0 ? &below_zero : &from_most;
    negative = is_plain ? plain_expr(builder, is_integer, low, &from_least)
                        : scientific_expr(builder, low, &from_least);
    cohort_expr minus = cohort_expr_range(builder, '-', '-');
    return cohort_expr_either(builder, cohort_expr_concat(builder, minus, negative),
                              expr);
}

cohort_expr cohort_grammar_json_number(cohort_builder *builder, bool is_integer,
                                       const cohort_number_range *given) {
    cohort_number_range range = *given, doubles = *given;
    if (!is_integer && range.least == -INFINITY && range.most == INFINITY)
        return cohort_grammar_json_any_number(builder);
    narrow(&range);
    if (is_integer) {
        /* To closed bounds that are whole, where there are doubles between them. */
        bool above = range.above, below = range.below;
        double low = ceil(range.least), high = floor(range.most);
        if (above && low == range.least && fabs(low) < 0x1p53) low += 1;
        if (below && high == range.most && fabs(high) < 0x1p53) high -= 1;
        range.least = low;
        range.most = high;
        range.above = above && fabs(low) >= 0x1p53;
        range.below = below && fabs(high) >= 0x1p53;
    }
    cohort_expr expr = signed_expr(builder, &range, is_integer, true);
    if (is_integer) return expr;
    narrow_to_doubles(&doubles);
    return cohort_expr_either(builder, signed_expr(builder, &doubles, false, false),
                              expr);
}
