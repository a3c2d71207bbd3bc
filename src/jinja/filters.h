/* SPDX-License-Identifier: Apache-2.0 */
/* jinja/filters.h - filters and tests, by Jinja's names; NULL: there is none. */
#ifndef COHORT_JINJA_FILTERS_H
#define COHORT_JINJA_FILTERS_H

#include "jinja/value.h"

#define FILTER(name)                                                         \
    static const jinja_value *name(jinja_run *run, const jinja_value *value, \
                                   const jinja_args *args)

const jinja_builtin *cohort_jinja_find_filter(const char *name);
/* Of those alone that take several values: a list and its like. */
const jinja_builtin *cohort_jinja_find_list_filter(const char *name);
const jinja_builtin *cohort_jinja_find_test(const char *name);

#endif /* COHORT_JINJA_FILTERS_H */
