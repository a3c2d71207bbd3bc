/* SPDX-License-Identifier: Apache-2.0 */
/* jinja/methods.h - methods of strings, dicts and lists, by Python's names. */
#ifndef COHORT_JINJA_METHODS_H
#define COHORT_JINJA_METHODS_H

#include "jinja/value.h"

/* NULL: strings, or dicts, have no such method. */
const jinja_builtin *cohort_jinja_find_method(const jinja_value *of, const char *name);
bool cohort_jinja_is_alnum(int32_t character);
/* Another's method, of what str() makes of the value. */
const jinja_value *cohort_jinja_by_method(jinja_run *run, const jinja_value *value,
                                          const char *name, const jinja_args *args);

#endif /* COHORT_JINJA_METHODS_H */
