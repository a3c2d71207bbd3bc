/* SPDX-License-Identifier: Apache-2.0 */
#include "jinja/expression.h"

#include <string.h>

#include "jinja/filters.h"

/* Design notes.
 *
 * Jinja's own grammar, precedence by precedence.  Two things surprise: a filter and a
 * test bind closer than any operator but the sign before them, and `a is b c` takes c as
 * an argument of b, whatever stands there but `and`, `or` and `else`.
 *
 * A filter or a test that is not known is an error here, but within {% if %} and `a if b`
 * one that is told when it runs: templates ask for what only other programs have in
 * branches that are for those. */

static const jinja_node *choice(jinja_parser *self, bool with_condition);

static const jinja_node *binary(jinja_parser *self, jinja_operator operator_,
                                const jinja_node *a, const jinja_node *b) {
    jinja_node *node = cohort_jinja_make_node(self, NODE_BINARY);
    node->operator_ = operator_;
    node->a = a;
    node->b = b;
    return node;
}

/* ---- literals ---------------------------------------------------------------------- */

/* Items up to the closing sign, which is taken. */
static jinja_node_list items_until(jinja_parser *self, const char *close) {
    jinja_node_list items = {0};
    while (!cohort_jinja_is_sign(self, close)) {
        if (items.n) cohort_jinja_need_sign(self, ",");
        if (cohort_jinja_is_sign(self, close)) break;
        cohort_jinja_add_node(self, &items, cohort_jinja_parse_expression(self));
    }
    cohort_jinja_advance(self);
    return items;
}

static const jinja_node *dict(jinja_parser *self) {
    jinja_node *node = cohort_jinja_make_node(self, NODE_DICT);
    jinja_node_list items = {0};
    cohort_jinja_need_sign(self, "{");
    while (!cohort_jinja_is_sign(self, "}")) {
        if (items.n) cohort_jinja_need_sign(self, ",");
        if (cohort_jinja_is_sign(self, "}")) break;
        cohort_jinja_add_node(self, &items, cohort_jinja_parse_expression(self));
        cohort_jinja_need_sign(self, ":");
        cohort_jinja_add_node(self, &items, cohort_jinja_parse_expression(self));
    }
    cohort_jinja_advance(self);
    return cohort_jinja_with_kids(node, &items, NULL);
}

/* "a" or "a, b"; without conditions behind `in`. */
const jinja_node *cohort_jinja_parse_tuple(jinja_parser *self, bool with_condition) {
    jinja_node *node = cohort_jinja_make_node(self, NODE_TUPLE);
    jinja_node_list items = {0};
    bool has_comma = false;
    for (;;) {
        bool is_end = self->at->kind == TOKEN_BLOCK_END ||
                      self->at->kind == TOKEN_OUTPUT_END ||
                      cohort_jinja_is_sign(self, ")");
        if (is_end) break;
        cohort_jinja_add_node(self, &items, choice(self, with_condition));
        if (!cohort_jinja_is_sign(self, ",")) break;
        has_comma = true;
        cohort_jinja_advance(self);
    }
    if (items.n == 1 && !has_comma) return items.items[0];
    if (!items.n && !cohort_jinja_is_sign(self, ")"))
        cohort_jinja_unexpected(self, "an expression");
    return cohort_jinja_with_kids(node, &items, NULL);
}

static const jinja_node *literal(jinja_parser *self, const jinja_value *value) {
    jinja_node *node = cohort_jinja_make_node(self, NODE_LITERAL);
    node->literal = value;
    cohort_jinja_advance(self);
    return node;
}

static const jinja_node *string(jinja_parser *self) {
    jinja_node *node = cohort_jinja_make_node(self, NODE_LITERAL);
    jinja_text text = {.arena = self->arena};
    for (; self->at->kind == TOKEN_STRING; cohort_jinja_advance(self))
        cohort_jinja_append(&text, self->at->literal->string.bytes,
                            self->at->literal->string.size);
    node->literal = cohort_jinja_taken(&text);
    return node;
}

static const jinja_node *name_or_constant(jinja_parser *self) {
    static const struct {
        const char *name;
        const jinja_value *value;
    } constants[] = {{"true", &cohort_jinja_true},   {"True", &cohort_jinja_true},
                     {"false", &cohort_jinja_false}, {"False", &cohort_jinja_false},
                     {"none", &cohort_jinja_none},   {"None", &cohort_jinja_none}};
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        if (cohort_jinja_is_word(self, constants[i].name))
            return literal(self, constants[i].value);
    jinja_node *node = cohort_jinja_make_node(self, NODE_NAME);
    node->name = cohort_jinja_need_name(self);
    return node;
}

static const jinja_node *primary(jinja_parser *self) {
    switch (self->at->kind) {
    case TOKEN_NAME: return name_or_constant(self);
    case TOKEN_STRING: return string(self);
    case TOKEN_INT:
    case TOKEN_FLOAT: return literal(self, self->at->literal);
    default: break;
    }
    if (cohort_jinja_take_sign(self, "(")) {
        const jinja_node *node = cohort_jinja_parse_tuple(self, true);
        cohort_jinja_need_sign(self, ")");
        return node;
    }
    if (cohort_jinja_is_sign(self, "[")) {
        jinja_node *node = cohort_jinja_make_node(self, NODE_LIST);
        cohort_jinja_advance(self);
        jinja_node_list items = items_until(self, "]");
        return cohort_jinja_with_kids(node, &items, NULL);
    }
    if (cohort_jinja_is_sign(self, "{")) return dict(self);
    cohort_jinja_unexpected(self, "an expression");
}

/* ---- behind a primary -------------------------------------------------------------- */

/* "*" or "**" before an argument, taken; NULL where there is none.  What may be before it
 * is as Jinja has it: "**" is the last one, and "*" comes once. */
static const char *many_arguments(jinja_parser *self, const char *before) {
    if (before && !strcmp(before, "**")) cohort_jinja_unexpected(self, "')'");
    if (cohort_jinja_take_sign(self, "**")) return "**";
    if (!cohort_jinja_is_sign(self, "*")) return NULL;
    if (before) cohort_jinja_unexpected(self, "a named argument");
    cohort_jinja_advance(self);
    return "*";
}

/* "(a, b=c)", into kids and names of node. */
static void arguments(jinja_parser *self, jinja_node *node) {
    jinja_node_list kids = {0};
    jinja_name_list names = {0};
    cohort_jinja_need_sign(self, "(");
    while (!cohort_jinja_is_sign(self, ")")) {
        if (kids.n) cohort_jinja_need_sign(self, ",");
        if (cohort_jinja_is_sign(self, ")")) break;
        const char *before = kids.n ? names.items[kids.n - 1] : NULL;
        const char *many = many_arguments(self, before);
        bool is_named = self->at->kind == TOKEN_NAME && self->at[1].kind == TOKEN_SIGN &&
                        !strcmp(self->at[1].text, "=");
        const char *name = many ? many : is_named ? self->at->text : NULL;
        if (is_named && !many) {
            cohort_jinja_advance(self);
            cohort_jinja_advance(self);
        } else if (before && !many) {
            cohort_jinja_unexpected(self, "a named argument");
        }
        cohort_jinja_add_name(self, &names, name);
        cohort_jinja_add_node(self, &kids, cohort_jinja_parse_expression(self));
    }
    cohort_jinja_advance(self);
    cohort_jinja_with_kids(node, &kids, &names);
}

/* "a", or the tuple "a, b" */
static const jinja_node *index_of(jinja_parser *self) {
    jinja_node *node = cohort_jinja_make_node(self, NODE_TUPLE);
    jinja_node_list items = {0};
    do
        cohort_jinja_add_node(self, &items, cohort_jinja_parse_expression(self));
    while (cohort_jinja_take_sign(self, ","));
    return items.n == 1 ? items.items[0] : cohort_jinja_with_kids(node, &items, NULL);
}

/* Behind "[". */
static const jinja_node *subscript(jinja_parser *self, const jinja_node *of) {
    jinja_node *node = cohort_jinja_make_node(self, NODE_ITEM);
    jinja_node_list parts = {0};
    bool is_slice = false;
    node->a = of;
    for (int i = 0; i < 3; i++) {
        bool is_empty =
            cohort_jinja_is_sign(self, ":") || cohort_jinja_is_sign(self, "]");
        if (is_empty && !is_slice && cohort_jinja_is_sign(self, "]"))
            cohort_jinja_unexpected(self, "an index");
        cohort_jinja_add_node(self, &parts,
                              is_empty   ? NULL
                              : is_slice ? cohort_jinja_parse_expression(self)
                                         : index_of(self));
        if (!cohort_jinja_is_sign(self, ":")) break;
        is_slice = true;
        cohort_jinja_advance(self);
    }
    cohort_jinja_need_sign(self, "]");
    if (!is_slice) {
        node->b = parts.items[0];
        return node;
    }
    while (parts.n < 3)
        cohort_jinja_add_node(self, &parts, NULL);
    node->kind = NODE_SLICE;
    return cohort_jinja_with_kids(node, &parts, NULL);
}

static const jinja_node *attribute(jinja_parser *self, const jinja_node *of) {
    jinja_node *node = cohort_jinja_make_node(self, NODE_ATTRIBUTE);
    node->a = of;
    if (self->at->kind == TOKEN_INT) { /* a.0 is a[0] */
        node->kind = NODE_ITEM;
        node->b = literal(self, self->at->literal);
        return node;
    }
    node->name = cohort_jinja_need_name(self);
    return node;
}

static const jinja_node *call(jinja_parser *self, const jinja_node *of) {
    jinja_node *node = cohort_jinja_make_node(self, NODE_CALL);
    node->a = of;
    arguments(self, node);
    return node;
}

static const jinja_node *postfix(jinja_parser *self, const jinja_node *node) {
    for (;;) {
        if (cohort_jinja_take_sign(self, "."))
            node = attribute(self, node);
        else if (cohort_jinja_take_sign(self, "["))
            node = subscript(self, node);
        else if (cohort_jinja_is_sign(self, "("))
            node = call(self, node);
        else
            return node;
    }
}

static const char *dotted_name(jinja_parser *self) {
    const char *name = cohort_jinja_need_name(self);
    if (cohort_jinja_is_sign(self, "."))
        cohort_jinja_fail(self->arena, "the filter or test '%s.' is not known", name);
    return name;
}

/* Behind "|". */
const jinja_node *cohort_jinja_parse_filter(jinja_parser *self, const jinja_node *of) {
    jinja_node *node = cohort_jinja_make_node(self, NODE_FILTER);
    node->a = of;
    node->name = dotted_name(self);
    node->builtin = cohort_jinja_find_filter(node->name);
    if (!node->builtin && !self->unknown) self->unknown = node;
    if (cohort_jinja_is_sign(self, "(")) arguments(self, node);
    return node;
}

static bool begins_argument(const jinja_parser *self) {
    if (self->at->kind == TOKEN_NAME)
        return !cohort_jinja_is_word(self, "else") && !cohort_jinja_is_word(self, "or") &&
               !cohort_jinja_is_word(self, "and");
    return self->at->kind == TOKEN_STRING || self->at->kind == TOKEN_INT ||
           self->at->kind == TOKEN_FLOAT || cohort_jinja_is_sign(self, "[") ||
           cohort_jinja_is_sign(self, "{");
}

static const jinja_node *negated(jinja_parser *self, const jinja_node *of) {
    jinja_node *node = cohort_jinja_make_node(self, NODE_NOT);
    node->a = of;
    return node;
}

/* Behind "is". */
static const jinja_node *test(jinja_parser *self, const jinja_node *of) {
    jinja_node *node = cohort_jinja_make_node(self, NODE_TEST);
    bool is_negated = cohort_jinja_take_word(self, "not");
    node->a = of;
    node->name = dotted_name(self);
    node->builtin = cohort_jinja_find_test(node->name);
    if (!node->builtin && !self->unknown) self->unknown = node;
    if (cohort_jinja_is_sign(self, "(")) {
        arguments(self, node);
    } else if (cohort_jinja_is_word(self, "is")) {
        cohort_jinja_fail(self->arena, "You cannot chain multiple tests with is");
    } else if (begins_argument(self)) {
        jinja_node_list kids = {0};
        jinja_name_list names = {0};
        cohort_jinja_add_node(self, &kids, postfix(self, primary(self)));
        cohort_jinja_add_name(self, &names, NULL);
        cohort_jinja_with_kids(node, &kids, &names);
    }
    return is_negated ? negated(self, node) : node;
}

static const jinja_node *filters(jinja_parser *self, const jinja_node *node) {
    for (;;) {
        if (cohort_jinja_take_sign(self, "|"))
            node = cohort_jinja_parse_filter(self, node);
        else if (cohort_jinja_take_word(self, "is"))
            node = test(self, node);
        else if (cohort_jinja_is_sign(self, "("))
            node = call(self, node);
        else
            return node;
    }
}

/* ---- operators --------------------------------------------------------------------- */

static const jinja_node *signed_(jinja_parser *self, jinja_node_kind kind) {
    jinja_node *node = cohort_jinja_make_node(self, kind);
    cohort_jinja_advance(self);
    node->a = cohort_jinja_parse_unary(self, false);
    return node;
}

const jinja_node *cohort_jinja_parse_unary(jinja_parser *self, bool with_filter) {
    cohort_jinja_enter(self->arena);
    const jinja_node *node =
        cohort_jinja_is_sign(self, "-")   ? signed_(self, NODE_NEGATIVE)
        : cohort_jinja_is_sign(self, "+") ? signed_(self, NODE_POSITIVE)
                                          : primary(self);
    node = postfix(self, node);
    if (with_filter) node = filters(self, node);
    cohort_jinja_leave(self->arena);
    return node;
}

static const jinja_node *power(jinja_parser *self) {
    const jinja_node *node = cohort_jinja_parse_unary(self, true);
    while (cohort_jinja_take_sign(self, "**"))
        node = binary(self, OPERATOR_POWER, node, cohort_jinja_parse_unary(self, true));
    return node;
}

static const jinja_node *product(jinja_parser *self) {
    static const struct {
        const char *sign;
        jinja_operator operator_;
    } signs[] = {{"*", OPERATOR_MULTIPLY},
                 {"/", OPERATOR_DIVIDE},
                 {"//", OPERATOR_FLOOR},
                 {"%", OPERATOR_MODULO}};
    const jinja_node *node = power(self);
    for (size_t i = 0; i < 4; i++)
        if (cohort_jinja_take_sign(self, signs[i].sign)) {
            node = binary(self, signs[i].operator_, node, power(self));
            i = (size_t)-1; /* from the start */
        }
    return node;
}

static const jinja_node *concatenation(jinja_parser *self) {
    jinja_node_list parts = {0};
    jinja_node *node = cohort_jinja_make_node(self, NODE_CONCAT);
    cohort_jinja_add_node(self, &parts, product(self));
    while (cohort_jinja_take_sign(self, "~"))
        cohort_jinja_add_node(self, &parts, product(self));
    return parts.n == 1 ? parts.items[0] : cohort_jinja_with_kids(node, &parts, NULL);
}

static const jinja_node *sum(jinja_parser *self) {
    const jinja_node *node = concatenation(self);
    for (;;) {
        if (cohort_jinja_take_sign(self, "+"))
            node = binary(self, OPERATOR_ADD, node, concatenation(self));
        else if (cohort_jinja_take_sign(self, "-"))
            node = binary(self, OPERATOR_SUBTRACT, node, concatenation(self));
        else
            return node;
    }
}

/* The comparison that stands here, taken; NULL where there is none. */
static const char *comparison_sign(jinja_parser *self) {
    static const char *const signs[] = {"==", "!=", "<", "<=", ">", ">="};
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++)
        if (cohort_jinja_take_sign(self, signs[i])) return signs[i];
    if (cohort_jinja_take_word(self, "in")) return "in";
    bool is_not_in = cohort_jinja_is_word(self, "not") &&
                     self->at[1].kind == TOKEN_NAME && !strcmp(self->at[1].text, "in");
    if (!is_not_in) return NULL;
    cohort_jinja_advance(self);
    cohort_jinja_advance(self);
    return "not in";
}

static const jinja_node *comparison(jinja_parser *self) {
    jinja_node *node = cohort_jinja_make_node(self, NODE_COMPARE);
    jinja_node_list kids = {0};
    jinja_name_list names = {0};
    node->a = sum(self);
    for (const char *sign; (sign = comparison_sign(self));) {
        cohort_jinja_add_name(self, &names, sign);
        cohort_jinja_add_node(self, &kids, sum(self));
    }
    return kids.n ? cohort_jinja_with_kids(node, &kids, &names) : node->a;
}

static const jinja_node *negation(jinja_parser *self) {
    if (!cohort_jinja_take_word(self, "not")) return comparison(self);
    cohort_jinja_enter(self->arena);
    const jinja_node *node = negated(self, negation(self));
    cohort_jinja_leave(self->arena);
    return node;
}

static const jinja_node *conjunction(jinja_parser *self) {
    const jinja_node *node = negation(self);
    while (cohort_jinja_take_word(self, "and")) {
        jinja_node *both = cohort_jinja_make_node(self, NODE_AND);
        both->a = node;
        both->b = negation(self);
        node = both;
    }
    return node;
}

static const jinja_node *disjunction(jinja_parser *self) {
    const jinja_node *node = conjunction(self);
    while (cohort_jinja_take_word(self, "or")) {
        jinja_node *either = cohort_jinja_make_node(self, NODE_OR);
        either->a = node;
        either->b = conjunction(self);
        node = either;
    }
    return node;
}

/* "a if b else c" */
static const jinja_node *choice(jinja_parser *self, bool with_condition) {
    cohort_jinja_enter(self->arena);
    const jinja_node *unknown = self->unknown;
    const jinja_node *node = disjunction(self);
    while (with_condition && cohort_jinja_take_word(self, "if")) {
        jinja_node *chosen = cohort_jinja_make_node(self, NODE_CHOICE);
        chosen->b = node;
        chosen->a = disjunction(self);
        if (cohort_jinja_take_word(self, "else")) chosen->c = choice(self, true);
        self->unknown = unknown;
        node = chosen;
    }
    cohort_jinja_leave(self->arena);
    return node;
}

const jinja_node *cohort_jinja_parse_expression(jinja_parser *self) {
    return choice(self, true);
}
