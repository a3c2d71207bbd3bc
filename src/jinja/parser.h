/* SPDX-License-Identifier: Apache-2.0 */
/* jinja/parser.h - nodes of tokens. */
#ifndef COHORT_JINJA_PARSER_H
#define COHORT_JINJA_PARSER_H

#include "jinja/lexer.h"
#include "jinja/node.h"

const jinja_node *cohort_jinja_parse(jinja_arena *arena, const jinja_token *tokens);

#endif /* COHORT_JINJA_PARSER_H */
