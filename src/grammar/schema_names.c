/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "grammar/schema_internal.h"

/* A name as it is written, without its quotes. */
cohort_expr cohort_schema_spelled(cohort_schema_compiler *self, const char *name) {
    cohort_expr expr = COHORT_EXPR_EMPTY;
    for (size_t i = strlen(name); i-- > 0;)
        expr = cohort_expr_concat(
            self->builder, cohort_grammar_json_escaped(self->builder, name[i]), expr);
    return expr;
}

/* Is the name among those of the expression? */
bool cohort_schema_is_named_by(cohort_schema_compiler *self, cohort_expr names,
                               const char *name) {
    return !cohort_expr_is_never(
        self->builder,
        cohort_expr_both(self->builder, cohort_schema_spelled(self, name), names));
}

cohort_expr cohort_schema_pattern(cohort_schema_compiler *self, const char *pattern) {
    const cohort_regex_options options = {
        .in_json = true, .is_search = true, .name = "schema: pattern"};
    return cohort_regex_parse(self->builder, pattern, strlen(pattern), &options);
}

bool cohort_schema_matches(cohort_schema_compiler *self, const char *pattern,
                           const char *name) {
    return cohort_schema_is_named_by(self, cohort_schema_pattern(self, pattern), name);
}
