/* SPDX-License-Identifier: Apache-2.0 */
#include "jinja/access.h"

#include <string.h>

#include "jinja/characters.h"
#include "jinja/methods.h"
#include "jinja/scope.h"
#include "jinja/write.h"

_Noreturn static void fail_undefined(jinja_run *run, const jinja_value *value) {
    if (!value->undefined.of)
        cohort_jinja_fail(run->arena, "'%.100s' is undefined", value->undefined.name);
    cohort_jinja_fail(run->arena, "'%s object' has no attribute '%.100s'",
                      value->undefined.of, value->undefined.name);
}

const jinja_value *cohort_jinja_defined(jinja_run *run, const jinja_value *value) {
    if (value->kind == JINJA_UNDEFINED) fail_undefined(run, value);
    return value;
}

const jinja_value *cohort_jinja_bind(jinja_run *run, const jinja_value *self,
                                     const jinja_builtin *builtin) {
    jinja_value *method = cohort_jinja_alloc(run->arena, sizeof *method);
    method->kind = JINJA_CALLABLE;
    method->callable.builtin = builtin;
    method->callable.self = self;
    return method;
}

const jinja_value *cohort_jinja_attribute(jinja_run *run, const jinja_value *of,
                                          const char *name) {
    cohort_jinja_defined(run, of);
    const jinja_builtin *method = cohort_jinja_find_method(of, name);
    if (method) return cohort_jinja_bind(run, of, method);
    const jinja_value *value = NULL;
    if (of->kind == JINJA_TUPLE && of->list.is_group) {
        if (!strcmp(name, "grouper")) return of->list.items[0];
        if (!strcmp(name, "list")) return of->list.items[1];
    }
    if (of->kind == JINJA_DICT || of->kind == JINJA_NAMESPACE) {
        value = cohort_jinja_member(of, name);
    }
    return value ? value
                 : cohort_jinja_undefined(run->arena, name, cohort_jinja_type_name(of));
}

/* Of a string or a list; undefined where it is outside. */
static const jinja_value *at_index(jinja_run *run, const jinja_value *of, int64_t index) {
    bool is_string = of->kind == JINJA_STRING;
    const char *bytes = of->string.bytes;
    size_t size = of->string.size;
    if (is_string) cohort_jinja_look_chars(run->arena, size);
    int64_t n = (int64_t)(is_string ? cohort_jinja_n_chars(bytes, size) : of->list.n);
    if (index < 0) index += n;
    if (index < 0 || index >= n)
        return cohort_jinja_undefined(run->arena, "index out of range",
                                      cohort_jinja_type_name(of));
    if (!is_string) return of->list.items[index];
    size_t length, at = cohort_jinja_char_at(bytes, size, (size_t)index);
    cohort_jinja_char(bytes + at, size - at, &length);
    return cohort_jinja_like(run->arena, of,
                             cohort_jinja_string(run->arena, bytes + at, length));
}

const jinja_value *cohort_jinja_item(jinja_run *run, const jinja_value *of,
                                     const jinja_value *key) {
    cohort_jinja_defined(run, of);
    const jinja_value *value = NULL;
    bool is_whole = key->kind == JINJA_INT || key->kind == JINJA_BOOL;
    if (of->kind == JINJA_DICT)
        value = cohort_jinja_get(run->arena, of, key);
    else if (is_whole && (of->kind == JINJA_STRING || cohort_jinja_is_list(of)))
        return at_index(run, of, cohort_jinja_whole(key));
    if (value) return value;
    if (key->kind == JINJA_STRING)
        return cohort_jinja_attribute(run, of, key->string.bytes);
    return cohort_jinja_undefined(run->arena,
                                  cohort_jinja_to_string(run->arena, key)->string.bytes,
                                  cohort_jinja_type_name(of));
}
