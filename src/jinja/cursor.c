/* SPDX-License-Identifier: Apache-2.0 */
#include "jinja/cursor.h"

#include <stdio.h>
#include <string.h>

static const char *describe(const jinja_token *token, char *out, size_t size) {
    static const char *const kinds[] = {"the end of the template",
                                        "text",
                                        "'{{'",
                                        "'}}'",
                                        "'{%'",
                                        "the end of the tag",
                                        NULL,
                                        "a number",
                                        "a number",
                                        "a string",
                                        NULL};
    if (kinds[token->kind]) return kinds[token->kind];
    snprintf(out, size, "'%.60s'", token->text);
    return out;
}

_Noreturn void cohort_jinja_unexpected(jinja_parser *self, const char *wanted) {
    char text[80];
    cohort_jinja_fail(self->arena, "expected %s, found %s", wanted,
                      describe(self->at, text, sizeof text));
}

void cohort_jinja_advance(jinja_parser *self) {
    self->at++;
    self->arena->line = self->at->line;
}

bool cohort_jinja_is_sign(const jinja_parser *self, const char *sign) {
    return self->at->kind == TOKEN_SIGN && !strcmp(self->at->text, sign);
}

bool cohort_jinja_is_word(const jinja_parser *self, const char *word) {
    return self->at->kind == TOKEN_NAME && !strcmp(self->at->text, word);
}

bool cohort_jinja_take_sign(jinja_parser *self, const char *sign) {
    if (!cohort_jinja_is_sign(self, sign)) return false;
    cohort_jinja_advance(self);
    return true;
}

bool cohort_jinja_take_word(jinja_parser *self, const char *word) {
    if (!cohort_jinja_is_word(self, word)) return false;
    cohort_jinja_advance(self);
    return true;
}

void cohort_jinja_need_sign(jinja_parser *self, const char *sign) {
    char wanted[16];
    snprintf(wanted, sizeof wanted, "'%s'", sign);
    if (!cohort_jinja_take_sign(self, sign)) cohort_jinja_unexpected(self, wanted);
}

void cohort_jinja_need_word(jinja_parser *self, const char *word) {
    char wanted[32];
    snprintf(wanted, sizeof wanted, "'%s'", word);
    if (!cohort_jinja_take_word(self, word)) cohort_jinja_unexpected(self, wanted);
}

void cohort_jinja_need(jinja_parser *self, jinja_token_kind kind, const char *wanted) {
    if (self->at->kind != kind) cohort_jinja_unexpected(self, wanted);
    cohort_jinja_advance(self);
}

const char *cohort_jinja_need_name(jinja_parser *self) {
    const char *name = self->at->text;
    cohort_jinja_need(self, TOKEN_NAME, "a name");
    return name;
}

jinja_node *cohort_jinja_make_node(jinja_parser *self, jinja_node_kind kind) {
    jinja_node *node = cohort_jinja_alloc(self->arena, sizeof *node);
    node->kind = kind;
    node->line = self->at->line;
    return node;
}

void cohort_jinja_add_node(jinja_parser *self, jinja_node_list *list,
                           const jinja_node *node) {
    list->items = cohort_jinja_grow(self->arena, list->items, list->n, &list->capacity,
                                    sizeof *list->items);
    list->items[list->n++] = node;
}

void cohort_jinja_add_name(jinja_parser *self, jinja_name_list *list, const char *name) {
    list->items = cohort_jinja_grow(self->arena, list->items, list->n, &list->capacity,
                                    sizeof *list->items);
    list->items[list->n++] = name;
}

const jinja_node *cohort_jinja_with_kids(jinja_node *node, const jinja_node_list *kids,
                                         const jinja_name_list *names) {
    node->kids = kids->items;
    node->n_kids = kids->n;
    if (names) {
        node->names = names->items;
        node->n_names = names->n;
    }
    return node;
}
