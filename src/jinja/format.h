/* SPDX-License-Identifier: Apache-2.0 */
/* jinja/format.h - Python's two ways to format. */
#ifndef COHORT_JINJA_FORMAT_H
#define COHORT_JINJA_FORMAT_H

#include "jinja/value.h"

/* So many times a character. */
void cohort_jinja_pad(jinja_text *out, int32_t fill, int64_t count);
/* "%s and %d" % values */
const jinja_value *cohort_jinja_format(jinja_arena *arena, const jinja_value *format,
                                       const jinja_value *values);
/* "{} and {name}".format(args) */
const jinja_value *cohort_jinja_format_fields(jinja_run *run, const jinja_value *format,
                                              const jinja_args *args);

#endif /* COHORT_JINJA_FORMAT_H */
