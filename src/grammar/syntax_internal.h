/* SPDX-License-Identifier: Apache-2.0 */
/* grammar/syntax_internal.h - grammars of named rules, on their way from a text (ebnf.c,
 * lark.c)
 * to the rules of a builder.
 *
 * A parser makes nodes and defines rules by them, in any order; compile checks that all
 * that is named is defined and that no rule begins with itself, and writes the nodes as
 * expressions.  A rule becomes a part of those that name it, unless it is recursive or
 * large: then it is called.
 *
 * A rule that begins with itself (a ::= a "x" | "y") is read as a repetition; where it
 * does so by way of another rule it is refused.
 */
#ifndef COHORT_GRAMMAR_SYNTAX_INTERNAL_H
#define COHORT_GRAMMAR_SYNTAX_INTERNAL_H

#include "grammar/grammar_internal.h"

enum {
    COHORT_SYNTAX_MAX_BYTES = 1 << 18,
    COHORT_SYNTAX_MAX_REPEAT = 10000,
    COHORT_SYNTAX_MAX_CHAIN = 2000, /* groups and rules, one in the other */
};

typedef enum cohort_syntax_kind {
    COHORT_SYNTAX_LEAF,
    COHORT_SYNTAX_SEQUENCE,
    COHORT_SYNTAX_EITHER,
    COHORT_SYNTAX_REPEAT, /* of one child */
    COHORT_SYNTAX_NAME,
} cohort_syntax_kind;

#define COHORT_SYNTAX_NONE UINT32_MAX

typedef struct cohort_syntax {
    cohort_builder *builder;
    const char *text;
    size_t size, at;
    int depth;
    struct syntax_node *nodes;
    size_t n_nodes, nodes_capacity;
    struct syntax_rule *rules; /* by the order of their first mention */
    size_t n_rules, rules_capacity;
    uint32_t *table; /* hash of names: index + 1 */
    size_t table_capacity;
    uint32_t *order; /* rules that the root reaches: those that are named first */
    size_t n_order;
} cohort_syntax;

/* Zero-initialises; the text is borrowed until deinit. */
void cohort_syntax_init(cohort_syntax *self, cohort_builder *builder, const char *text,
                        size_t size);
void cohort_syntax_deinit(cohort_syntax *self);

/* Fails the builder with the line and column of a byte of the text. */
void cohort_syntax_refuse(cohort_syntax *self, size_t at, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Nodes; each is a child of at most one. */
uint32_t cohort_syntax_leaf(cohort_syntax *self, cohort_expr expr);
uint32_t cohort_syntax_group(cohort_syntax *self, cohort_syntax_kind kind);
void cohort_syntax_append(cohort_syntax *self, uint32_t group, uint32_t child);
uint32_t cohort_syntax_repeat(cohort_syntax *self, uint32_t child, int32_t least,
                              int32_t most);
uint32_t cohort_syntax_name(cohort_syntax *self, uint32_t rule);

/* The rule of a name, text[begin, begin + size). */
uint32_t cohort_syntax_rule(cohort_syntax *self, size_t begin, size_t size);
/* The same where there is one; COHORT_SYNTAX_NONE. */
uint32_t cohort_syntax_find(const cohort_syntax *self, const char *name);
/* body: a group of kind EITHER, of SEQUENCEs. */
void cohort_syntax_define(cohort_syntax *self, uint32_t rule, uint32_t body, size_t at);

/* Makes a rule of the builder from a node: 0 where it is the first. */
uint32_t cohort_syntax_compile(cohort_syntax *self, uint32_t start);

/* ---- reading ----------------------------------------------------------------------- */

bool cohort_syntax_peek(const cohort_syntax *self, const char *token);
bool cohort_syntax_take(cohort_syntax *self, const char *token);
/* One character of the text, which is UTF-8; refuses what is not. */
uint32_t cohort_syntax_code(cohort_syntax *self);
/* Behind a backslash: the character that is meant. */
uint32_t cohort_syntax_escape(cohort_syntax *self);
/* Behind the opening quote, up to the closing one. */
cohort_expr cohort_syntax_string(cohort_syntax *self, bool ignores_case);
bool cohort_syntax_number(cohort_syntax *self, int32_t *out);
/* {m}, {m,}, {m,n} behind the brace. */
bool cohort_syntax_counts(cohort_syntax *self, int32_t *least, int32_t *most);

#endif /* COHORT_GRAMMAR_SYNTAX_INTERNAL_H */
