/* SPDX-License-Identifier: Apache-2.0 */
#include "jinja/parser.h"

#include <string.h>

#include "jinja/cursor.h"
#include "jinja/expression.h"

static const jinja_node *body(jinja_parser *self, const char *const *ends);

/* "a", "a, b" or "(a, b)" */
static jinja_name_list target(jinja_parser *self) {
    jinja_name_list names = {0};
    bool in_parentheses = cohort_jinja_take_sign(self, "(");
    do {
        if (cohort_jinja_is_sign(self, "("))
            cohort_jinja_fail(self->arena, "targets in targets are not supported");
        if (names.n && self->at->kind != TOKEN_NAME) break;
        cohort_jinja_add_name(self, &names, cohort_jinja_need_name(self));
    } while (cohort_jinja_take_sign(self, ","));
    if (in_parentheses) cohort_jinja_need_sign(self, ")");
    return names;
}

static void end_block(jinja_parser *self) {
    cohort_jinja_need(self, TOKEN_BLOCK_END, "the end of the tag");
}

/* A body and the "{% end %}" behind it. */
static const jinja_node *body_until(jinja_parser *self, const char *end) {
    const char *const ends[] = {end, NULL};
    end_block(self);
    const jinja_node *node = body(self, ends);
    cohort_jinja_need_word(self, end);
    return node;
}

static const jinja_node *if_statement(jinja_parser *self) {
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    jinja_node *node = cohort_jinja_make_node(self, NODE_IF);
    const jinja_node *unknown = self->unknown;
    cohort_jinja_enter(self->arena);
    node->a = cohort_jinja_parse_tuple(self, true);
    end_block(self);
    node->b = body(self, ends);
    if (cohort_jinja_take_word(self, "elif"))
        node->c = if_statement(self);
    else if (cohort_jinja_take_word(self, "else"))
        node->c = body_until(self, "endif");
    else
        cohort_jinja_need_word(self, "endif");
    self->unknown = unknown;
    cohort_jinja_leave(self->arena);
    return node;
}

static const jinja_node *for_statement(jinja_parser *self) {
    static const char *const ends[] = {"else", "endfor", NULL};
    jinja_node *node = cohort_jinja_make_node(self, NODE_FOR);
    jinja_name_list names = target(self);
    jinja_node_list none = {0};
    cohort_jinja_need_word(self, "in");
    node->a = cohort_jinja_parse_tuple(self, false);
    if (cohort_jinja_take_word(self, "if")) node->d = cohort_jinja_parse_expression(self);
    node->is_recursive = cohort_jinja_take_word(self, "recursive");
    end_block(self);
    node->b = body(self, ends);
    if (cohort_jinja_take_word(self, "else"))
        node->c = body_until(self, "endfor");
    else
        cohort_jinja_need_word(self, "endfor");
    return cohort_jinja_with_kids(node, &none, &names);
}

static const jinja_node *set_statement(jinja_parser *self) {
    jinja_node *node = cohort_jinja_make_node(self, NODE_SET);
    jinja_node_list none = {0};
    jinja_name_list names = {0};
    if (self->at->kind == TOKEN_NAME && self->at[1].kind == TOKEN_SIGN &&
        !strcmp(self->at[1].text, ".")) {
        node->name = cohort_jinja_need_name(self);
        cohort_jinja_advance(self);
        node->attribute = cohort_jinja_need_name(self);
    } else {
        names = target(self);
    }
    if (cohort_jinja_take_sign(self, "=")) {
        node->a = cohort_jinja_parse_tuple(self, true);
    } else {
        if (cohort_jinja_take_sign(self, "|")) {
            node->a = cohort_jinja_parse_filter(self, NULL);
            while (cohort_jinja_take_sign(self, "|"))
                node->a = cohort_jinja_parse_filter(self, node->a);
        }
        node->b = body_until(self, "endset");
    }
    return cohort_jinja_with_kids(node, &none, &names);
}

/* "(a, b=c)" of a macro: names, and the defaults of the last ones. */
static void parameters(jinja_parser *self, jinja_node *node) {
    jinja_node_list defaults = {0};
    jinja_name_list names = {0};
    cohort_jinja_need_sign(self, "(");
    while (!cohort_jinja_is_sign(self, ")")) {
        if (names.n) cohort_jinja_need_sign(self, ",");
        if (cohort_jinja_is_sign(self, ")")) break;
        cohort_jinja_add_name(self, &names, cohort_jinja_need_name(self));
        if (cohort_jinja_take_sign(self, "="))
            cohort_jinja_add_node(self, &defaults, cohort_jinja_parse_expression(self));
        else if (defaults.n)
            cohort_jinja_fail(self->arena, "a parameter without a default follows one "
                                           "with a default");
    }
    cohort_jinja_advance(self);
    cohort_jinja_with_kids(node, &defaults, &names);
}

static const jinja_node *macro_statement(jinja_parser *self) {
    jinja_node *node = cohort_jinja_make_node(self, NODE_MACRO);
    node->name = cohort_jinja_need_name(self);
    parameters(self, node);
    const jinja_token *begin = self->at;
    node->b = body_until(self, "endmacro");
    for (const jinja_token *token = begin; token < self->at; token++) {
        if (token->kind != TOKEN_NAME) continue;
        node->takes_varargs |= !strcmp(token->text, "varargs");
        node->takes_kwargs |= !strcmp(token->text, "kwargs");
    }
    return node;
}

static const jinja_node *call_statement(jinja_parser *self) {
    jinja_node *node = cohort_jinja_make_node(self, NODE_CALL_BLOCK);
    node->name = "caller";
    if (cohort_jinja_is_sign(self, "(")) parameters(self, node);
    node->a = cohort_jinja_parse_unary(self, true);
    if (node->a->kind != NODE_CALL) cohort_jinja_unexpected(self, "a call");
    node->b = body_until(self, "endcall");
    return node;
}

static const jinja_node *filter_statement(jinja_parser *self) {
    jinja_node *node = cohort_jinja_make_node(self, NODE_FILTER_BLOCK);
    node->a = cohort_jinja_parse_filter(self, NULL);
    while (cohort_jinja_take_sign(self, "|"))
        node->a = cohort_jinja_parse_filter(self, node->a);
    node->b = body_until(self, "endfilter");
    return node;
}

static const jinja_node *with_statement(jinja_parser *self) {
    jinja_node *node = cohort_jinja_make_node(self, NODE_WITH);
    jinja_node_list kids = {0};
    jinja_name_list names = {0};
    while (self->at->kind != TOKEN_BLOCK_END) {
        if (kids.n) cohort_jinja_need_sign(self, ",");
        cohort_jinja_add_name(self, &names, cohort_jinja_need_name(self));
        cohort_jinja_need_sign(self, "=");
        cohort_jinja_add_node(self, &kids, cohort_jinja_parse_expression(self));
    }
    node->b = body_until(self, "endwith");
    return cohort_jinja_with_kids(node, &kids, &names);
}

static const jinja_node *generation_statement(jinja_parser *self) {
    return body_until(self, "endgeneration");
}

static const jinja_node *break_statement(jinja_parser *self) {
    return cohort_jinja_make_node(self, NODE_BREAK);
}

static const jinja_node *continue_statement(jinja_parser *self) {
    return cohort_jinja_make_node(self, NODE_CONTINUE);
}

static const jinja_node *statement(jinja_parser *self) {
    static const struct {
        const char *name;
        const jinja_node *(*parse)(jinja_parser *self);
    } statements[] = {{"if", if_statement},       {"for", for_statement},
                      {"set", set_statement},     {"macro", macro_statement},
                      {"call", call_statement},   {"filter", filter_statement},
                      {"with", with_statement},   {"generation", generation_statement},
                      {"break", break_statement}, {"continue", continue_statement}};
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++)
        if (cohort_jinja_take_word(self, statements[i].name))
            return statements[i].parse(self);
    if (self->at->kind == TOKEN_NAME)
        cohort_jinja_fail(self->arena, "the tag '%.40s' is not supported here",
                          self->at->text);
    cohort_jinja_unexpected(self, "the name of a tag");
}

static bool is_end(const jinja_parser *self, const char *const *ends) {
    for (size_t i = 0; ends[i]; i++)
        if (cohort_jinja_is_word(self, ends[i])) return true;
    return false;
}

/* Up to a tag of one of the ends, whose name is next then; or the template's end. */
static const jinja_node *body(jinja_parser *self, const char *const *ends) {
    jinja_node *node = cohort_jinja_make_node(self, NODE_BODY);
    jinja_node_list kids = {0};
    cohort_jinja_enter(self->arena);
    while (self->at->kind != TOKEN_END) {
        if (self->at->kind == TOKEN_TEXT) {
            jinja_node *text = cohort_jinja_make_node(self, NODE_TEXT);
            text->literal = self->at->literal;
            cohort_jinja_add_node(self, &kids, text);
            cohort_jinja_advance(self);
        } else if (self->at->kind == TOKEN_OUTPUT_BEGIN) {
            jinja_node *output = cohort_jinja_make_node(self, NODE_OUTPUT);
            cohort_jinja_advance(self);
            output->a = cohort_jinja_parse_tuple(self, true);
            cohort_jinja_need(self, TOKEN_OUTPUT_END, "'}}'");
            cohort_jinja_add_node(self, &kids, output);
        } else {
            cohort_jinja_need(self, TOKEN_BLOCK_BEGIN, "a tag");
            if (is_end(self, ends)) break;
            cohort_jinja_add_node(self, &kids, statement(self));
            end_block(self);
        }
    }
    if (ends[0] && self->at->kind == TOKEN_END) cohort_jinja_unexpected(self, ends[0]);
    cohort_jinja_leave(self->arena);
    return cohort_jinja_with_kids(node, &kids, NULL);
}

const jinja_node *cohort_jinja_parse(jinja_arena *arena, const jinja_token *tokens) {
    static const char *const no_ends[] = {NULL};
    jinja_parser self = {.arena = arena, .at = tokens};
    const jinja_node *whole = body(&self, no_ends);
    if (self.unknown) {
        arena->line = self.unknown->line;
        cohort_jinja_refuse_unknown(arena, self.unknown);
    }
    cohort_jinja_check_depth(arena, whole);
    return whole;
}
