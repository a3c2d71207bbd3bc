/* SPDX-License-Identifier: Apache-2.0 */
#include "jinja/globals.h"

#include <math.h>
#include <string.h>
#include <time.h>

#include "jinja/access.h"
#include "jinja/arguments.h"
#include "jinja/write.h"

/* Functions, by Jinja's names. */

#define FUNCTION(name)                                                       \
    static const jinja_value *name(jinja_run *run, const jinja_value *value, \
                                   const jinja_args *args)

FUNCTION(call_raise) {
    const jinja_value *text = args->values[0];
    (void)value;
    run->arena->line = 0; /* what the template says, as it says it */
    cohort_jinja_fail(run->arena, "%.300s",
                      cohort_jinja_to_string(run->arena, text)->string.bytes);
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

FUNCTION(call_range) {
    enum { MOST = 100000 };
    int64_t begin = cohort_jinja_whole_arg(run, args, 0, 0),
            end = cohort_jinja_whole_arg(run, args, 1, 0);
    int64_t step = cohort_jinja_whole_arg(run, args, 2, 1);
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
