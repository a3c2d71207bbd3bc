/* SPDX-License-Identifier: Apache-2.0 */
#include "jinja/scope.h"

#include <string.h>

void cohort_jinja_set(jinja_run *run, const char *name, const jinja_value *value) {
    struct jinja_variable *variable;
    int64_t n = 0;
    for (variable = run->scope->first; variable; variable = variable->next, n++)
        if (!strcmp(variable->name, name)) {
            variable->value = value;
            return;
        }
    cohort_jinja_step(run->arena, n / 16);
    variable = cohort_jinja_alloc(run->arena, sizeof *variable);
    *variable = (struct jinja_variable){name, value, run->scope->first};
    run->scope->first = variable;
}

/* Scopes lie in the arena: a macro may keep its own beyond the block that made it. */
jinja_scope *cohort_jinja_open_scope(jinja_run *run, jinja_scope *parent) {
    jinja_scope *outer = run->scope;
    run->scope = cohort_jinja_alloc(run->arena, sizeof *run->scope);
    run->scope->parent = parent;
    return outer;
}

const jinja_value *cohort_jinja_look_up(const jinja_run *run, const char *name) {
    int64_t n = 0;
    for (const jinja_scope *scope = run->scope; scope; scope = scope->parent, n++) {
        for (const struct jinja_variable *variable = scope->first; variable;
             variable = variable->next, n++)
            if (!strcmp(variable->name, name)) {
                cohort_jinja_step(run->arena, n / 16);
                return variable->value;
            }
        const jinja_value *value =
            scope->given ? cohort_jinja_member(scope->given, name) : NULL;
        if (value) return value;
    }
    cohort_jinja_step(run->arena, n / 16);
    return cohort_jinja_undefined(run->arena, name, NULL);
}
