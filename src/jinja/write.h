/* SPDX-License-Identifier: Apache-2.0 */
/* jinja/write.h - values as Python's str(), repr() and json.dumps write them. */
#ifndef COHORT_JINJA_WRITE_H
#define COHORT_JINJA_WRITE_H

#include "jinja/value.h"

void cohort_jinja_write(jinja_text *out, const jinja_value *value);
void cohort_jinja_write_repr(jinja_text *out, const jinja_value *value);
typedef struct jinja_json_style {
    const char *indent; /* NULL: all on one line */
    bool is_ascii;      /* all else escaped */
    bool sort_keys;
    const char *item_separator, *key_separator;
} jinja_json_style;
/* ensure_ascii=False and all on one line, or as the style has it. */
void cohort_jinja_write_json(jinja_text *out, const jinja_value *value,
                             const jinja_json_style *style, int level);
const jinja_value *cohort_jinja_to_string(jinja_arena *arena, const jinja_value *value);

#endif /* COHORT_JINJA_WRITE_H */
