/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>
#include <time.h>

#include "jinja/jinja_internal.h"

/* Tests and functions, by Jinja's names, and how all that we bring gets its arguments. */

#define FUNCTION(name)                                                       \
    static const jinja_value *name(jinja_run *run, const jinja_value *value, \
                                   const jinja_args *args)

/* ---- arguments --------------------------------------------------------------------- */

enum { MOST_PARAMETERS = 8 };

/* One of what a builtin takes. */
typedef struct parameter {
    const char *name;
    size_t size;
    bool is_optional;
} parameter;

/* The next; "/" is none. */
static bool next_parameter(const char **at, parameter *out) {
    *at += strspn(*at, " ");
    if (!**at || **at == '/') return false;
    size_t size = strcspn(*at, " ");
    out->name = *at;
    out->is_optional = (*at)[size - 1] == '?';
    out->size = size - out->is_optional;
    *at += size;
    return true;
}

static bool is_named(const parameter *one, const char *name) {
    return name && strlen(name) == one->size && !memcmp(name, one->name, one->size);
}

_Noreturn static void refuse_name(jinja_run *run, const jinja_builtin *builtin,
                                  const char *name) {
    cohort_jinja_fail(run->arena, "%s() takes no argument '%.60s'", builtin->name, name);
}

/* By position into values, of MOST_PARAMETERS. */
static jinja_args bind(jinja_run *run, const jinja_builtin *builtin,
                       const jinja_args *args, const jinja_value **values) {
    const char *at = builtin->takes;
    bool by_name = !strchr(builtin->takes, '/');
    size_t n = 0, n_used = 0;
    for (parameter one; next_parameter(&at, &one); n++) {
        if (n < args->n && !args->names[n]) values[n] = args->values[n];
        n_used += values[n] != NULL;
        for (size_t i = 0; by_name && i < args->n; i++) {
            if (!is_named(&one, args->names[i])) continue;
            if (values[n])
                cohort_jinja_fail(run->arena,
                                  "%s() got multiple values for argument '%s'",
                                  builtin->name, args->names[i]);
            values[n] = args->values[i];
            n_used++;
        }
        if (!values[n] && !one.is_optional)
            cohort_jinja_fail(run->arena, "%s() lacks its argument '%.*s'", builtin->name,
                              (int)one.size, one.name);
    }
    if (n_used < args->n) {
        if (args->names[args->n - 1]) refuse_name(run, builtin, args->names[args->n - 1]);
        cohort_jinja_fail(run->arena, "%s() takes at most %zu arguments (%zu given)",
                          builtin->name, n, args->n);
    }
    return (jinja_args){.values = values, .n = n};
}

const jinja_value *cohort_jinja_apply(jinja_run *run, const jinja_builtin *builtin,
                                      const jinja_value *self, const jinja_args *args) {
    const jinja_value *values[MOST_PARAMETERS] = {0};
    cohort_jinja_step(run->arena, (int64_t)(args->n / 2));
    bool any = builtin->takes[0] == '*';
    if (any && !builtin->takes[1] && args->n && args->names[args->n - 1])
        refuse_name(run, builtin, args->names[args->n - 1]);
    const jinja_args bound = any ? *args : bind(run, builtin, args, values);
    return builtin->function(run, self, &bound);
}

static const jinja_value *text_of(jinja_run *run, const jinja_value *value) {
    return cohort_jinja_to_string(run->arena, value);
}

static const jinja_value *need_number(jinja_run *run, const jinja_value *value) {
    if (!cohort_jinja_is_number(value))
        cohort_jinja_fail(run->arena, "a number is required, not %s",
                          cohort_jinja_type_name(value));
    return value;
}

/* ---- tests ------------------------------------------------------------------------- */

#define TEST_OF(name, truth) \
    FUNCTION(name) { return (void)run, (void)args, cohort_jinja_bool(truth); }

TEST_OF(is_defined, value->kind != JINJA_UNDEFINED)
TEST_OF(is_undefined, value->kind == JINJA_UNDEFINED)
TEST_OF(is_none, value->kind == JINJA_NONE)
TEST_OF(is_string, value->kind == JINJA_STRING)
TEST_OF(is_number, cohort_jinja_is_number(value))
TEST_OF(is_integer, value->kind == JINJA_INT)
TEST_OF(is_float, value->kind == JINJA_FLOAT)
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

static const jinja_value *by_method(jinja_run *run, const jinja_value *value,
                                    const char *name, const jinja_args *args) {
    const jinja_value *text = text_of(run, value);
    return cohort_jinja_find_method(text, name)->function(run, text, args);
}
FUNCTION(is_lower) { return by_method(run, value, "islower", args); }
FUNCTION(is_upper) { return by_method(run, value, "isupper", args); }

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
FUNCTION(is_odd) { return (void)args, leaves(run, value, &two, 1); }
FUNCTION(is_even) { return (void)args, leaves(run, value, &two, 0); }
FUNCTION(is_divisibleby) { return leaves(run, value, args->values[0], 0); }

FUNCTION(is_equal) {
    return cohort_jinja_bool(cohort_jinja_equal(run->arena, value, args->values[0]));
}
FUNCTION(is_unequal) {
    return cohort_jinja_bool(!cohort_jinja_equal(run->arena, value, args->values[0]));
}
FUNCTION(is_sameas) {
    const jinja_value *other = args->values[0];
    return cohort_jinja_bool(value == other ||
                             (value->kind == other->kind && value->kind <= JINJA_INT &&
                              cohort_jinja_equal(run->arena, value, other)));
}
FUNCTION(is_in) {
    return cohort_jinja_bool(cohort_jinja_contains(run->arena, args->values[0], value));
}
static int order_of(jinja_run *run, const jinja_value *a, const jinja_args *args,
                    const char *sign) {
    return cohort_jinja_compare(run->arena, a, args->values[0], sign);
}
FUNCTION(is_less) { return cohort_jinja_bool(order_of(run, value, args, "<") < 0); }
FUNCTION(is_at_most) { return cohort_jinja_bool(order_of(run, value, args, "<=") <= 0); }
FUNCTION(is_greater) { return cohort_jinja_bool(order_of(run, value, args, ">") > 0); }
FUNCTION(is_at_least) { return cohort_jinja_bool(order_of(run, value, args, ">=") >= 0); }
static const char *name_in(const jinja_value *value) {
    return value->kind == JINJA_STRING ? value->string.bytes : "";
}
FUNCTION(is_filter) {
    (void)run;
    return (void)args, cohort_jinja_bool(cohort_jinja_find_filter(name_in(value)));
}
FUNCTION(is_test) {
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

/* ---- functions --------------------------------------------------------------------- */

FUNCTION(call_raise) {
    const jinja_value *text = args->values[0];
    (void)value;
    run->arena->line = 0; /* what the template says, as it says it */
    cohort_jinja_fail(run->arena, "%.300s", text_of(run, text)->string.bytes);
}

FUNCTION(call_strftime) {
    const jinja_value *format = args->values[0];
    time_t now = (time_t)run->arena->now_s;
    char text[256];
    struct tm parts;
    (void)value;
    if (format->kind != JINJA_STRING || format->string.size > 100)
        cohort_jinja_fail(run->arena, "strftime_now takes a short format");
    localtime_r(&now, &parts);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* of strftime: it reads no memory \
                                                      */
    size_t n = strftime(text, sizeof text, format->string.bytes, &parts);
#pragma GCC diagnostic pop
    return cohort_jinja_string(run->arena, text, n);
}

static int64_t whole_arg(jinja_run *run, const jinja_args *args, size_t index,
                         int64_t otherwise) {
    const jinja_value *value = args->values[index];
    if (!value) return otherwise;
    if (value->kind != JINJA_INT && value->kind != JINJA_BOOL)
        cohort_jinja_fail(run->arena, "'%s' object cannot be interpreted as an integer",
                          cohort_jinja_type_name(value));
    return cohort_jinja_whole(value);
}

FUNCTION(call_range) {
    enum { MOST = 100000 };
    int64_t begin = whole_arg(run, args, 0, 0), end = whole_arg(run, args, 1, 0);
    int64_t step = whole_arg(run, args, 2, 1);
    (void)value;
    if (!args->values[1]) {
        end = begin;
        begin = 0;
    }
    if (!step) cohort_jinja_fail(run->arena, "range() arg 3 must not be zero");
    double wide = ((double)end - (double)begin) / (double)step;
    if (wide > MOST)
        cohort_jinja_fail(run->arena, "a range of more than %d numbers", MOST);
    size_t n = wide > 0 ? (size_t)ceil(wide) : 0;
    jinja_value *list = cohort_jinja_list(run->arena, JINJA_LIST, n);
    for (size_t i = 0; i < n; i++)
        list->list.items[i] = cohort_jinja_int(run->arena, begin + (int64_t)i * step);
    return list;
}

static const jinja_value *named(jinja_run *run, const jinja_args *args, jinja_kind kind) {
    jinja_value *dict = cohort_jinja_dict(run->arena, kind);
    for (size_t i = 0; i < args->n; i++) {
        const jinja_value *given = args->values[i];
        if (args->names[i]) {
            cohort_jinja_put(run->arena, dict,
                             cohort_jinja_word(run->arena, args->names[i]), given);
            continue;
        }
        if (given->kind != JINJA_DICT)
            cohort_jinja_fail(run->arena, "a mapping is required, not %s",
                              cohort_jinja_type_name(given));
        for (size_t p = 0; p < given->dict.n; p++)
            cohort_jinja_put(run->arena, dict, given->dict.pairs[p].key,
                             given->dict.pairs[p].value);
    }
    return dict;
}
FUNCTION(call_namespace) { return (void)value, named(run, args, JINJA_NAMESPACE); }
FUNCTION(call_dict) { return (void)value, named(run, args, JINJA_DICT); }

/* What changes is in a namespace, which is the object itself. */
static jinja_value *changing(const jinja_value *object) {
    jinja_value *changed;
    memcpy(&changed, &object, sizeof changed);
    return changed;
}
static void remember(jinja_run *run, jinja_value *object, const char *name,
                     const jinja_value *value) {
    cohort_jinja_put(run->arena, object, cohort_jinja_word(run->arena, name), value);
}

/* Nothing at first, and then what it was made of. */
FUNCTION(join_next) {
    (void)args;
    const jinja_value *text = cohort_jinja_member(value, "next");
    remember(run, changing(value), "next", cohort_jinja_member(value, "sep"));
    return text;
}
FUNCTION(call_joiner) {
    static const jinja_builtin next = {"joiner", "", join_next};
    jinja_value *joiner = cohort_jinja_dict(run->arena, JINJA_NAMESPACE);
    (void)value;
    remember(run, joiner, "next", cohort_jinja_word(run->arena, ""));
    remember(run, joiner, "sep",
             args->values[0] ? args->values[0] : cohort_jinja_word(run->arena, ", "));
    return cohort_jinja_bind(run, joiner, &next);
}

static void turn_to(jinja_run *run, const jinja_value *cycler, int64_t at) {
    const jinja_value *items = cohort_jinja_member(cycler, "items");
    remember(run, changing(cycler), "pos", cohort_jinja_int(run->arena, at));
    remember(run, changing(cycler), "current", items->list.items[at]);
}
FUNCTION(cycle_next) {
    const jinja_value *current = cohort_jinja_member(value, "current");
    int64_t n = (int64_t)cohort_jinja_member(value, "items")->list.n;
    (void)args;
    turn_to(run, value, (cohort_jinja_member(value, "pos")->whole + 1) % n);
    return current;
}
FUNCTION(cycle_reset) {
    (void)args;
    turn_to(run, value, 0);
    return &cohort_jinja_none;
}
FUNCTION(call_cycler) {
    static const jinja_builtin next = {"next", "", cycle_next};
    static const jinja_builtin reset = {"reset", "", cycle_reset};
    jinja_value *cycler = cohort_jinja_dict(run->arena, JINJA_NAMESPACE);
    jinja_value *items = cohort_jinja_list(run->arena, JINJA_TUPLE, args->n);
    (void)value;
    if (!args->n) cohort_jinja_fail(run->arena, "at least one item has to be provided");
    memcpy(items->list.items, args->values, args->n * sizeof *args->values);
    remember(run, cycler, "items", items);
    remember(run, cycler, "next", cohort_jinja_bind(run, cycler, &next));
    remember(run, cycler, "reset", cohort_jinja_bind(run, cycler, &reset));
    turn_to(run, cycler, 0);
    return cycler;
}

void cohort_jinja_add_globals(jinja_run *run) {
    static const jinja_builtin globals[] = {{"raise_exception", "message", call_raise},
                                            {"strftime_now", "format", call_strftime},
                                            {"range", "start stop? step? /", call_range},
                                            {"namespace", "**", call_namespace},
                                            {"dict", "**", call_dict},
                                            {"joiner", "sep?", call_joiner},
                                            {"cycler", "*", call_cycler}};
    for (size_t i = 0; i < sizeof globals / sizeof *globals; i++)
        cohort_jinja_set(run, globals[i].name, cohort_jinja_bind(run, NULL, &globals[i]));
}
