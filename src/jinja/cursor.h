/* SPDX-License-Identifier: Apache-2.0 */
/* jinja/cursor.h - where a parser is among the tokens, and the nodes that it makes. */
#ifndef COHORT_JINJA_CURSOR_H
#define COHORT_JINJA_CURSOR_H

#include "jinja/lexer.h"
#include "jinja/node.h"

typedef struct jinja_parser {
    jinja_arena *arena;
    const jinja_token *at;
    const jinja_node *unknown; /* a filter or test that is not known, outside branches */
} jinja_parser;

typedef struct jinja_node_list {
    const jinja_node **items;
    size_t n, capacity;
} jinja_node_list;

typedef struct jinja_name_list {
    const char **items;
    size_t n, capacity;
} jinja_name_list;

/* take: goes on where it is there; need: fails where it is not. */
_Noreturn void cohort_jinja_unexpected(jinja_parser *self, const char *wanted);
void cohort_jinja_advance(jinja_parser *self);
bool cohort_jinja_is_sign(const jinja_parser *self, const char *sign);
bool cohort_jinja_is_word(const jinja_parser *self, const char *word);
bool cohort_jinja_take_sign(jinja_parser *self, const char *sign);
bool cohort_jinja_take_word(jinja_parser *self, const char *word);
void cohort_jinja_need_sign(jinja_parser *self, const char *sign);
void cohort_jinja_need_word(jinja_parser *self, const char *word);
void cohort_jinja_need(jinja_parser *self, jinja_token_kind kind, const char *wanted);
const char *cohort_jinja_need_name(jinja_parser *self);
jinja_node *cohort_jinja_make_node(jinja_parser *self, jinja_node_kind kind);
void cohort_jinja_add_node(jinja_parser *self, jinja_node_list *list,
                           const jinja_node *node);
void cohort_jinja_add_name(jinja_parser *self, jinja_name_list *list, const char *name);
const jinja_node *cohort_jinja_with_kids(jinja_node *node, const jinja_node_list *kids,
                                         const jinja_name_list *names);

#endif /* COHORT_JINJA_CURSOR_H */
