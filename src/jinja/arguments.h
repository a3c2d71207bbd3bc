/* SPDX-License-Identifier: Apache-2.0 */
/* jinja/arguments.h - how all that we bring gets its arguments. */
#ifndef COHORT_JINJA_ARGUMENTS_H
#define COHORT_JINJA_ARGUMENTS_H

#include "jinja/value.h"

/* Fails where the arguments are not those that it takes. */
const jinja_value *cohort_jinja_apply(jinja_run *run, const jinja_builtin *builtin,
                                      const jinja_value *self, const jinja_args *args);
/* The index-th argument or the one of that name; NULL where it was not given. */
const jinja_value *cohort_jinja_arg(const jinja_args *args, size_t index,
                                    const char *name);
/* A string, an int or a bool; or the end of the run. */
const jinja_value *cohort_jinja_need_text(jinja_run *run, const jinja_value *value);
int64_t cohort_jinja_need_whole(jinja_run *run, const jinja_value *value);
int64_t cohort_jinja_whole_arg(jinja_run *run, const jinja_args *args, size_t index,
                               int64_t otherwise);
bool cohort_jinja_flag_arg(const jinja_args *args, size_t index);
/* NULL where it was not given, or is None. */
const jinja_value *cohort_jinja_given_arg(const jinja_args *args, size_t index);
/* One of a few words; the first where it was not given. */
const char *cohort_jinja_word_arg(jinja_run *run, const jinja_args *args, size_t index,
                                  const char *const *words);

#endif /* COHORT_JINJA_ARGUMENTS_H */
