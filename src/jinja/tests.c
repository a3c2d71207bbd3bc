/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>

#include "jinja/filters.h"
#include "jinja/methods.h"
#include "jinja/scope.h"

/* Tests, by Jinja's names. */

#define TEST_OF(name, truth) \
    FILTER(name) { return (void)run, (void)args, cohort_jinja_bool(truth); }

TEST_OF(is_defined, value->kind != JINJA_UNDEFINED)
TEST_OF(is_undefined, value->kind == JINJA_UNDEFINED)
TEST_OF(is_none, value->kind == JINJA_NONE)
TEST_OF(is_string, value->kind == JINJA_STRING)
TEST_OF(is_number, cohort_jinja_is_number(value))
TEST_OF(is_integer,
        value->kind == JINJA_INT || (value->kind == JINJA_FLOAT && value->digits))
TEST_OF(is_float, value->kind == JINJA_FLOAT && !value->digits)
TEST_OF(is_boolean, value->kind == JINJA_BOOL)
TEST_OF(is_true, value->kind == JINJA_BOOL && value->truth)
TEST_OF(is_false, value->kind == JINJA_BOOL && !value->truth)
TEST_OF(is_mapping, value->kind == JINJA_DICT)
TEST_OF(is_escaped, cohort_jinja_is_markup(value))
TEST_OF(is_callable, value->kind == JINJA_CALLABLE)
TEST_OF(is_iterable, value->kind == JINJA_STRING || value->kind == JINJA_DICT ||
                         value->kind == JINJA_UNDEFINED ||
                         value->kind == JINJA_GENERATOR || cohort_jinja_is_list(value))
TEST_OF(is_sequence, value->kind == JINJA_STRING || value->kind == JINJA_DICT ||
                         value->kind == JINJA_UNDEFINED || cohort_jinja_is_list(value))

FILTER(is_lower) { return cohort_jinja_by_method(run, value, "islower", args); }
FILTER(is_upper) { return cohort_jinja_by_method(run, value, "isupper", args); }

static const jinja_value *need_number(jinja_run *run, const jinja_value *value) {
    if (!cohort_jinja_is_number(value))
        cohort_jinja_fail(run->arena, "a number is required, not %s",
                          cohort_jinja_type_name(value));
    return value;
}

/* value % by == rest, as Python divides. */
static const jinja_value *leaves(jinja_run *run, const jinja_value *value,
                                 const jinja_value *by, int64_t rest) {
    need_number(run, value);
    need_number(run, by);
    if (cohort_jinja_real(by) == 0) cohort_jinja_fail(run->arena, "division by zero");
    if (value->kind == JINJA_FLOAT || by->kind == JINJA_FLOAT) {
        double divisor = cohort_jinja_real(by);
        double left = fmod(cohort_jinja_real(value), divisor);
        if (left != 0 && (left < 0) != (divisor < 0)) left += divisor;
        return cohort_jinja_bool(left == (double)rest);
    }
    int64_t divisor = cohort_jinja_whole(by);
    if (divisor == -1) return cohort_jinja_bool(rest == 0);
    int64_t left = cohort_jinja_whole(value) % divisor;
    if (left && (left < 0) != (divisor < 0)) left += divisor;
    return cohort_jinja_bool(left == rest);
}
static const jinja_value two = {.kind = JINJA_INT, .whole = 2};
FILTER(is_odd) { return (void)args, leaves(run, value, &two, 1); }
FILTER(is_even) { return (void)args, leaves(run, value, &two, 0); }
FILTER(is_divisibleby) { return leaves(run, value, args->values[0], 0); }

FILTER(is_equal) {
    return cohort_jinja_bool(cohort_jinja_equal(run->arena, value, args->values[0]));
}
FILTER(is_unequal) {
    return cohort_jinja_bool(!cohort_jinja_equal(run->arena, value, args->values[0]));
}
FILTER(is_sameas) {
    const jinja_value *other = args->values[0];
    return cohort_jinja_bool(value == other ||
                             (value->kind == other->kind && value->kind <= JINJA_INT &&
                              cohort_jinja_equal(run->arena, value, other)));
}
FILTER(is_in) {
    return cohort_jinja_bool(cohort_jinja_contains(run->arena, args->values[0], value));
}
static int order_of(jinja_run *run, const jinja_value *a, const jinja_args *args,
                    const char *sign) {
    return cohort_jinja_compare(run->arena, a, args->values[0], sign);
}
FILTER(is_less) { return cohort_jinja_bool(order_of(run, value, args, "<") < 0); }
FILTER(is_at_most) { return cohort_jinja_bool(order_of(run, value, args, "<=") <= 0); }
FILTER(is_greater) { return cohort_jinja_bool(order_of(run, value, args, ">") > 0); }
FILTER(is_at_least) { return cohort_jinja_bool(order_of(run, value, args, ">=") >= 0); }
static const char *name_in(const jinja_value *value) {
    return value->kind == JINJA_STRING ? value->string.bytes : "";
}
FILTER(is_filter) {
    (void)run;
    return (void)args, cohort_jinja_bool(cohort_jinja_find_filter(name_in(value)));
}
FILTER(is_test) {
    (void)run;
    return (void)args, cohort_jinja_bool(cohort_jinja_find_test(name_in(value)));
}

const jinja_builtin *cohort_jinja_find_test(const char *name) {
    static const jinja_builtin tests[] = {{"!=", "other /", is_unequal},
                                          {"<", "other /", is_less},
                                          {"<=", "other /", is_at_most},
                                          {"==", "other /", is_equal},
                                          {">", "other /", is_greater},
                                          {">=", "other /", is_at_least},
                                          {"boolean", "", is_boolean},
                                          {"callable", "", is_callable},
                                          {"defined", "", is_defined},
                                          {"divisibleby", "num", is_divisibleby},
                                          {"eq", "other /", is_equal},
                                          {"equalto", "other /", is_equal},
                                          {"escaped", "", is_escaped},
                                          {"even", "", is_even},
                                          {"false", "", is_false},
                                          {"filter", "", is_filter},
                                          {"float", "", is_float},
                                          {"ge", "other /", is_at_least},
                                          {"greaterthan", "other /", is_greater},
                                          {"gt", "other /", is_greater},
                                          {"in", "seq", is_in},
                                          {"integer", "", is_integer},
                                          {"iterable", "", is_iterable},
                                          {"le", "other /", is_at_most},
                                          {"lessthan", "other /", is_less},
                                          {"lower", "", is_lower},
                                          {"lt", "other /", is_less},
                                          {"mapping", "", is_mapping},
                                          {"ne", "other /", is_unequal},
                                          {"none", "", is_none},
                                          {"number", "", is_number},
                                          {"odd", "", is_odd},
                                          {"sameas", "other", is_sameas},
                                          {"sequence", "", is_sequence},
                                          {"string", "", is_string},
                                          {"test", "", is_test},
                                          {"true", "", is_true},
                                          {"undefined", "", is_undefined},
                                          {"upper", "", is_upper}};
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        if (!strcmp(tests[i].name, name)) return &tests[i];
    return NULL;
}
