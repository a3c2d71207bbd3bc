/* SPDX-License-Identifier: Apache-2.0 */
#include "jinja/operate.h"

#include <math.h>
#include <string.h>

#include "jinja/access.h"
#include "jinja/format.h"
#include "jinja/scope.h"
#include "jinja/text.h"
#include "jinja/write.h"

static const char *operator_name(jinja_operator operator_) {
    static const char *const names[] = {"+", "-", "*", "/", "//", "%", "** or pow()"};
    return names[operator_];
}

_Noreturn static void fail_operands(jinja_run *run, jinja_operator operator_,
                                    const jinja_value *a, const jinja_value *b) {
    if (operator_ == OPERATOR_ADD && a->kind == JINJA_STRING)
        cohort_jinja_fail(run->arena, "can only concatenate str (not \"%s\") to str",
                          cohort_jinja_type_name(b));
    cohort_jinja_fail(run->arena, "unsupported operand type(s) for %s: '%s' and '%s'",
                      operator_name(operator_), cohort_jinja_type_name(a),
                      cohort_jinja_type_name(b));
}

static int64_t floor_divide(int64_t a, int64_t b) {
    return a / b - (a % b != 0 && (a < 0) != (b < 0));
}

static bool power_of(int64_t base, int64_t exponent, int64_t *out) {
    *out = 1;
    if (exponent > 64 && (base > 1 || base < -1)) return false;
    if (exponent > 64) exponent = 64 + exponent % 2;
    for (int64_t i = 0; i < exponent; i++)
        if (__builtin_mul_overflow(*out, base, out)) return false;
    return true;
}

/* False where the result is no int. */
static bool whole_result(jinja_run *run, jinja_operator operator_, int64_t a, int64_t b,
                         int64_t *out) {
    bool overflow = false;
    if (b == 0 && (operator_ == OPERATOR_FLOOR || operator_ == OPERATOR_MODULO ||
                   operator_ == OPERATOR_DIVIDE))
        cohort_jinja_fail(run->arena, "division by zero");
    switch (operator_) {
    case OPERATOR_ADD: overflow = __builtin_add_overflow(a, b, out); break;
    case OPERATOR_SUBTRACT: overflow = __builtin_sub_overflow(a, b, out); break;
    case OPERATOR_MULTIPLY: overflow = __builtin_mul_overflow(a, b, out); break;
    case OPERATOR_FLOOR:
    case OPERATOR_MODULO:
        overflow = a == INT64_MIN && b == -1;
        if (overflow) break;
        *out =
            operator_ == OPERATOR_FLOOR ? floor_divide(a, b) : a - floor_divide(a, b) * b;
        break;
    case OPERATOR_POWER:
        if (b < 0) return false;
        overflow = !power_of(a, b, out);
        break;
    case OPERATOR_DIVIDE: return false;
    }
    if (overflow) cohort_jinja_fail(run->arena, "a number is longer than 64 bits");
    return true;
}

/* a // b as Python has it: by the remainder, which is exact where a / b is not. */
static double floor_of(double a, double b) {
    double left = fmod(a, b), quotient = (a - left) / b;
    if (left != 0 && (left < 0) != (b < 0)) quotient -= 1;
    if (quotient == 0) return copysign(0, a / b);
    double whole = floor(quotient);
    return quotient - whole > 0.5 ? whole + 1 : whole;
}

static const jinja_value *real_result(jinja_run *run, jinja_operator operator_, double a,
                                      double b) {
    double out = 0;
    if (b == 0 && (operator_ == OPERATOR_FLOOR || operator_ == OPERATOR_MODULO ||
                   operator_ == OPERATOR_DIVIDE))
        cohort_jinja_fail(run->arena, "float division by zero");
    switch (operator_) {
    case OPERATOR_ADD: out = a + b; break;
    case OPERATOR_SUBTRACT: out = a - b; break;
    case OPERATOR_MULTIPLY: out = a * b; break;
    case OPERATOR_DIVIDE: out = a / b; break;
    case OPERATOR_FLOOR: out = floor_of(a, b); break;
    case OPERATOR_MODULO: out = fmod(a, b); break;
    case OPERATOR_POWER: out = pow(a, b); break;
    }
    if (operator_ == OPERATOR_MODULO && out != 0 && (out < 0) != (b < 0)) out += b;
    if (operator_ == OPERATOR_MODULO && out == 0) out = copysign(0, b);
    return cohort_jinja_float(run->arena, out);
}

static const jinja_value *join_lists(jinja_run *run, const jinja_value *a,
                                     const jinja_value *b) {
    jinja_value *list = cohort_jinja_list(run->arena, a->kind, a->list.n + b->list.n);
    memcpy(list->list.items, a->list.items, a->list.n * sizeof *a->list.items);
    memcpy(list->list.items + a->list.n, b->list.items,
           b->list.n * sizeof *b->list.items);
    return list;
}

static const jinja_value *repeat(jinja_run *run, const jinja_value *value,
                                 int64_t count) {
    if (count < 0) count = 0;
    cohort_jinja_step(run->arena, count);
    if (value->kind == JINJA_STRING) {
        jinja_text text = {.arena = run->arena};
        for (int64_t i = 0; i < count; i++)
            cohort_jinja_append(&text, value->string.bytes, value->string.size);
        return cohort_jinja_like(run->arena, value, cohort_jinja_taken(&text));
    }
    size_t n = value->list.n;
    jinja_value *list = cohort_jinja_list(run->arena, value->kind, n * (size_t)count);
    for (size_t i = 0; i < n * (size_t)count; i++)
        list->list.items[i] = value->list.items[i % n];
    return list;
}

static const jinja_value *join_strings(jinja_run *run, const jinja_value *a,
                                       const jinja_value *b) {
    jinja_text text = {.arena = run->arena};
    bool is_markup = cohort_jinja_is_markup(a) || cohort_jinja_is_markup(b);
    cohort_jinja_write(&text, is_markup ? cohort_jinja_escaped(run->arena, a) : a);
    cohort_jinja_write(&text, is_markup ? cohort_jinja_escaped(run->arena, b) : b);
    const jinja_value *joined = cohort_jinja_taken(&text);
    return is_markup ? cohort_jinja_marked(run->arena, joined) : joined;
}

static bool is_whole(const jinja_value *value) {
    return value->kind == JINJA_INT || value->kind == JINJA_BOOL;
}

const jinja_value *cohort_jinja_operate(jinja_run *run, jinja_operator operator_,
                                        const jinja_value *a, const jinja_value *b) {
    int64_t whole = 0;
    if (operator_ == OPERATOR_MODULO && a->kind == JINJA_STRING)
        return cohort_jinja_format(run->arena, a, b);
    cohort_jinja_defined(run, a);
    cohort_jinja_defined(run, b);
    if (is_whole(a) && is_whole(b) &&
        whole_result(run, operator_, cohort_jinja_whole(a), cohort_jinja_whole(b),
                     &whole))
        return cohort_jinja_int(run->arena, whole);
    if (cohort_jinja_is_number(a) && cohort_jinja_is_number(b))
        return real_result(run, operator_, cohort_jinja_real(a), cohort_jinja_real(b));
    if (operator_ == OPERATOR_ADD && a->kind == JINJA_STRING && b->kind == JINJA_STRING)
        return join_strings(run, a, b);
    if (operator_ == OPERATOR_ADD && cohort_jinja_is_list(a) && a->kind == b->kind)
        return join_lists(run, a, b);
    bool a_repeats = a->kind == JINJA_STRING || cohort_jinja_is_list(a);
    bool b_repeats = b->kind == JINJA_STRING || cohort_jinja_is_list(b);
    if (operator_ == OPERATOR_MULTIPLY && a_repeats && is_whole(b))
        return repeat(run, a, cohort_jinja_whole(b));
    if (operator_ == OPERATOR_MULTIPLY && b_repeats && is_whole(a))
        return repeat(run, b, cohort_jinja_whole(a));
    fail_operands(run, operator_, a, b);
}

const jinja_value *cohort_jinja_add(jinja_run *run, const jinja_value *a,
                                    const jinja_value *b) {
    return cohort_jinja_operate(run, OPERATOR_ADD, a, b);
}

bool cohort_jinja_compares(jinja_run *run, const char *sign, const jinja_value *a,
                           const jinja_value *b) {
    if (!strcmp(sign, "==")) return cohort_jinja_equal(run->arena, a, b);
    if (!strcmp(sign, "!=")) return !cohort_jinja_equal(run->arena, a, b);
    if (!strcmp(sign, "in")) return cohort_jinja_contains(run->arena, b, a);
    if (!strcmp(sign, "not in")) return !cohort_jinja_contains(run->arena, b, a);
    cohort_jinja_defined(run, a);
    cohort_jinja_defined(run, b);
    bool is_nan = (a->kind == JINJA_FLOAT && isnan(a->real)) ||
                  (b->kind == JINJA_FLOAT && isnan(b->real));
    int order = cohort_jinja_compare(run->arena, a, b, sign);
    if (is_nan) return false;
    if (sign[0] == '<') return sign[1] ? order <= 0 : order < 0;
    return sign[1] ? order >= 0 : order > 0;
}
