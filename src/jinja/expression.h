/* SPDX-License-Identifier: Apache-2.0 */
/* jinja/expression.h - nodes of expressions, precedence by precedence. */
#ifndef COHORT_JINJA_EXPRESSION_H
#define COHORT_JINJA_EXPRESSION_H

#include "jinja/cursor.h"

/* "a" or "a, b"; without conditions behind `in`. */
const jinja_node *cohort_jinja_parse_tuple(jinja_parser *self, bool with_condition);
/* Behind "|". */
const jinja_node *cohort_jinja_parse_filter(jinja_parser *self, const jinja_node *of);
const jinja_node *cohort_jinja_parse_unary(jinja_parser *self, bool with_filter);
const jinja_node *cohort_jinja_parse_expression(jinja_parser *self);

#endif /* COHORT_JINJA_EXPRESSION_H */
