/* SPDX-License-Identifier: Apache-2.0 */
/* jinja/access.h - obj.name and obj[key]. */
#ifndef COHORT_JINJA_ACCESS_H
#define COHORT_JINJA_ACCESS_H

#include "jinja/value.h"

/* obj.name and obj[key]; undefined where there is none. */
const jinja_value *cohort_jinja_attribute(jinja_run *run, const jinja_value *of,
                                          const char *name);
const jinja_value *cohort_jinja_item(jinja_run *run, const jinja_value *of,
                                     const jinja_value *key);
/* The value, or the end of the run where it is undefined. */
const jinja_value *cohort_jinja_defined(jinja_run *run, const jinja_value *value);
/* A builtin as a method of self. */
const jinja_value *cohort_jinja_bind(jinja_run *run, const jinja_value *self,
                                     const jinja_builtin *builtin);

#endif /* COHORT_JINJA_ACCESS_H */
