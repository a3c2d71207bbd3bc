/* SPDX-License-Identifier: Apache-2.0 */
/* jinja/text.h - strings that are made of strings. */
#ifndef COHORT_JINJA_TEXT_H
#define COHORT_JINJA_TEXT_H

#include "jinja/value.h"

/* As HTML, and markup; markup is already. */
const jinja_value *cohort_jinja_escaped(jinja_arena *arena, const jinja_value *value);
/* Without what is at its ends: any of the characters, or white space where chars is NULL.
 */
const jinja_value *cohort_jinja_strip(jinja_arena *arena, const jinja_value *string,
                                      const jinja_value *chars, bool left, bool right);
typedef enum jinja_case {
    JINJA_UPPER,
    JINJA_LOWER,
    JINJA_TITLE,
    JINJA_CAPITALIZE,
    JINJA_SWAP,
    JINJA_FOLD
} jinja_case;
const jinja_value *cohort_jinja_recase(jinja_arena *arena, const jinja_value *string,
                                       jinja_case to);
const jinja_value *cohort_jinja_replace(jinja_arena *arena, const jinja_value *string,
                                        const jinja_value *from, const jinja_value *to,
                                        int64_t count);

#endif /* COHORT_JINJA_TEXT_H */
