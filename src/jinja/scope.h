/* SPDX-License-Identifier: Apache-2.0 */
/* jinja/scope.h - names and their values while a template is rendered. */
#ifndef COHORT_JINJA_SCOPE_H
#define COHORT_JINJA_SCOPE_H

#include "jinja/value.h"

struct jinja_scope {
    jinja_scope *parent;
    struct jinja_variable {
        const char *name;
        const jinja_value *value;
        struct jinja_variable *next;
    } * first;
    const jinja_value *given; /* a dict of further ones; NULL: none */
};

struct jinja_run {
    jinja_arena *arena;
    jinja_scope *scope;
    jinja_text *out;
};

void cohort_jinja_set(jinja_run *run, const char *name, const jinja_value *value);
/* Undefined where nothing has the name. */
const jinja_value *cohort_jinja_look_up(const jinja_run *run, const char *name);
/* Makes it the run's and returns the one before. */
jinja_scope *cohort_jinja_open_scope(jinja_run *run, jinja_scope *parent);

#endif /* COHORT_JINJA_SCOPE_H */
