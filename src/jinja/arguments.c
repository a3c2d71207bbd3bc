/* SPDX-License-Identifier: Apache-2.0 */
#include "jinja/arguments.h"

#include <string.h>

#include "jinja/scope.h"
#include "jinja/write.h"

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

const jinja_value *cohort_jinja_arg(const jinja_args *args, size_t index,
                                    const char *name) {
    for (size_t i = 0; i < args->n; i++)
        if (args->names[i] ? name && !strcmp(args->names[i], name) : i == index)
            return args->values[i];
    return NULL;
}

const jinja_value *cohort_jinja_need_text(jinja_run *run, const jinja_value *value) {
    if (value->kind != JINJA_STRING)
        cohort_jinja_fail(run->arena, "a string is required, not %s",
                          cohort_jinja_type_name(value));
    return value;
}

int64_t cohort_jinja_need_whole(jinja_run *run, const jinja_value *value) {
    if (value->kind != JINJA_INT && value->kind != JINJA_BOOL)
        cohort_jinja_fail(run->arena, "'%s' object cannot be interpreted as an integer",
                          cohort_jinja_type_name(value));
    return cohort_jinja_whole(value);
}

int64_t cohort_jinja_whole_arg(jinja_run *run, const jinja_args *args, size_t index,
                               int64_t otherwise) {
    const jinja_value *value = args->values[index];
    return value ? cohort_jinja_need_whole(run, value) : otherwise;
}

bool cohort_jinja_flag_arg(const jinja_args *args, size_t index) {
    return args->values[index] && cohort_jinja_is_true(args->values[index]);
}

const jinja_value *cohort_jinja_given_arg(const jinja_args *args, size_t index) {
    const jinja_value *value = args->values[index];
    return value && value->kind != JINJA_NONE ? value : NULL;
}

const char *cohort_jinja_word_arg(jinja_run *run, const jinja_args *args, size_t index,
                                  const char *const *words) {
    const jinja_value *value = args->values[index];
    if (!value) return words[0];
    for (size_t i = 0; words[i] && value->kind == JINJA_STRING; i++)
        if (!strcmp(words[i], value->string.bytes)) return words[i];
    cohort_jinja_fail(run->arena, "%.40s is none of the words that are known here: '%s'",
                      cohort_jinja_to_string(run->arena, value)->string.bytes, words[0]);
}
