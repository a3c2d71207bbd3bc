/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "jinja/jinja_internal.h"

/* Design notes.
 *
 * Jinja's own grammar, precedence by precedence.  Two things surprise: a filter and a
 * test bind closer than any operator but the sign before them, and `a is b c` takes c as
 * an argument of b, whatever stands there but `and`, `or` and `else`.
 *
 * A filter or a test that is not known is an error here, but within {% if %} and `a if b`
 * one that is told when it runs: templates ask for what only other programs have in
 * branches that are for those. */

typedef struct parser {
    jinja_arena *arena;
    const jinja_token *at;
    const jinja_node *unknown; /* a filter or test that is not known, outside branches */
} parser;

typedef struct node_list {
    const jinja_node **items;
    size_t n, capacity;
} node_list;

typedef struct name_list {
    const char **items;
    size_t n, capacity;
} name_list;

static const jinja_node *expression(parser *self);
static const jinja_node *choice(parser *self, bool with_condition);
static const jinja_node *unary(parser *self, bool with_filter);
static const jinja_node *body(parser *self, const char *const *ends);

/* ---- tokens ------------------------------------------------------------------------ */

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

_Noreturn static void unexpected(parser *self, const char *wanted) {
    char text[80];
    cohort_jinja_fail(self->arena, "expected %s, found %s", wanted,
                      describe(self->at, text, sizeof text));
}

static void next(parser *self) {
    self->at++;
    self->arena->line = self->at->line;
}

static bool is_sign(const parser *self, const char *sign) {
    return self->at->kind == TOKEN_SIGN && !strcmp(self->at->text, sign);
}

static bool is_word(const parser *self, const char *word) {
    return self->at->kind == TOKEN_NAME && !strcmp(self->at->text, word);
}

static bool take_sign(parser *self, const char *sign) {
    if (!is_sign(self, sign)) return false;
    next(self);
    return true;
}

static bool take_word(parser *self, const char *word) {
    if (!is_word(self, word)) return false;
    next(self);
    return true;
}

static void need_sign(parser *self, const char *sign) {
    char wanted[16];
    snprintf(wanted, sizeof wanted, "'%s'", sign);
    if (!take_sign(self, sign)) unexpected(self, wanted);
}

static void need_word(parser *self, const char *word) {
    char wanted[32];
    snprintf(wanted, sizeof wanted, "'%s'", word);
    if (!take_word(self, word)) unexpected(self, wanted);
}

static void need(parser *self, jinja_token_kind kind, const char *wanted) {
    if (self->at->kind != kind) unexpected(self, wanted);
    next(self);
}

static const char *need_name(parser *self) {
    const char *name = self->at->text;
    need(self, TOKEN_NAME, "a name");
    return name;
}

/* ---- nodes ------------------------------------------------------------------------- */

static jinja_node *make(parser *self, jinja_node_kind kind) {
    jinja_node *node = cohort_jinja_alloc(self->arena, sizeof *node);
    node->kind = kind;
    node->line = self->at->line;
    return node;
}

static void add(parser *self, node_list *list, const jinja_node *node) {
    if (list->n == list->capacity) {
        size_t capacity = list->capacity * 2 + 4;
        const jinja_node **grown =
            cohort_jinja_alloc(self->arena, capacity * sizeof *grown);
        if (list->n) memcpy(grown, list->items, list->n * sizeof *grown);
        list->items = grown;
        list->capacity = capacity;
    }
    list->items[list->n++] = node;
}

static void add_name(parser *self, name_list *list, const char *name) {
    if (list->n == list->capacity) {
        size_t capacity = list->capacity * 2 + 4;
        const char **grown = cohort_jinja_alloc(self->arena, capacity * sizeof *grown);
        if (list->n) memcpy(grown, list->items, list->n * sizeof *grown);
        list->items = grown;
        list->capacity = capacity;
    }
    list->items[list->n++] = name;
}

static const jinja_node *with_kids(jinja_node *node, const node_list *kids,
                                   const name_list *names) {
    node->kids = kids->items;
    node->n_kids = kids->n;
    if (names) {
        node->names = names->items;
        node->n_names = names->n;
    }
    return node;
}

static const jinja_node *binary(parser *self, jinja_operator operator_,
                                const jinja_node *a, const jinja_node *b) {
    jinja_node *node = make(self, NODE_BINARY);
    node->operator_ = operator_;
    node->a = a;
    node->b = b;
    return node;
}

/* ---- literals ---------------------------------------------------------------------- */

/* Items up to the closing sign, which is taken. */
static node_list items_until(parser *self, const char *close) {
    node_list items = {0};
    while (!is_sign(self, close)) {
        if (items.n) need_sign(self, ",");
        if (is_sign(self, close)) break;
        add(self, &items, expression(self));
    }
    next(self);
    return items;
}

static const jinja_node *dict(parser *self) {
    jinja_node *node = make(self, NODE_DICT);
    node_list items = {0};
    need_sign(self, "{");
    while (!is_sign(self, "}")) {
        if (items.n) need_sign(self, ",");
        if (is_sign(self, "}")) break;
        add(self, &items, expression(self));
        need_sign(self, ":");
        add(self, &items, expression(self));
    }
    next(self);
    return with_kids(node, &items, NULL);
}

/* "a" or "a, b" up to any of the ends; simple: no conditions, as behind `in`. */
static const jinja_node *tuple(parser *self, bool with_condition) {
    jinja_node *node = make(self, NODE_TUPLE);
    node_list items = {0};
    bool has_comma = false;
    for (;;) {
        bool is_end = self->at->kind == TOKEN_BLOCK_END ||
                      self->at->kind == TOKEN_OUTPUT_END || is_sign(self, ")");
        if (is_end) break;
        add(self, &items, choice(self, with_condition));
        if (!is_sign(self, ",")) break;
        has_comma = true;
        next(self);
    }
    if (items.n == 1 && !has_comma) return items.items[0];
    if (!items.n && !is_sign(self, ")")) unexpected(self, "an expression");
    return with_kids(node, &items, NULL);
}

static const jinja_node *literal(parser *self, const jinja_value *value) {
    jinja_node *node = make(self, NODE_LITERAL);
    node->literal = value;
    next(self);
    return node;
}

static const jinja_node *string(parser *self) {
    jinja_node *node = make(self, NODE_LITERAL);
    jinja_text text = {.arena = self->arena};
    for (; self->at->kind == TOKEN_STRING; next(self))
        cohort_jinja_append(&text, self->at->literal->string.bytes,
                            self->at->literal->string.size);
    node->literal = cohort_jinja_taken(&text);
    return node;
}

static const jinja_node *name_or_constant(parser *self) {
    static const struct {
        const char *name;
        const jinja_value *value;
    } constants[] = {{"true", &cohort_jinja_true},   {"True", &cohort_jinja_true},
                     {"false", &cohort_jinja_false}, {"False", &cohort_jinja_false},
                     {"none", &cohort_jinja_none},   {"None", &cohort_jinja_none}};
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        if (is_word(self, constants[i].name)) return literal(self, constants[i].value);
    jinja_node *node = make(self, NODE_NAME);
    node->name = need_name(self);
    return node;
}

static const jinja_node *primary(parser *self) {
    switch (self->at->kind) {
    case TOKEN_NAME: return name_or_constant(self);
    case TOKEN_STRING: return string(self);
    case TOKEN_INT:
    case TOKEN_FLOAT: return literal(self, self->at->literal);
    default: break;
    }
    if (take_sign(self, "(")) {
        const jinja_node *node = tuple(self, true);
        need_sign(self, ")");
        return node;
    }
    if (is_sign(self, "[")) {
        jinja_node *node = make(self, NODE_LIST);
        next(self);
        node_list items = items_until(self, "]");
        return with_kids(node, &items, NULL);
    }
    if (is_sign(self, "{")) return dict(self);
    unexpected(self, "an expression");
}

/* ---- behind a primary -------------------------------------------------------------- */

/* "*" or "**" before an argument, taken; NULL where there is none.  What may be before it
 * is as Jinja has it: "**" is the last one, and "*" comes once. */
static const char *many_arguments(parser *self, const char *before) {
    if (before && !strcmp(before, "**")) unexpected(self, "')'");
    if (take_sign(self, "**")) return "**";
    if (!is_sign(self, "*")) return NULL;
    if (before) unexpected(self, "a named argument");
    next(self);
    return "*";
}

/* "(a, b=c)", into kids and names of node. */
static void arguments(parser *self, jinja_node *node) {
    node_list kids = {0};
    name_list names = {0};
    need_sign(self, "(");
    while (!is_sign(self, ")")) {
        if (kids.n) need_sign(self, ",");
        if (is_sign(self, ")")) break;
        const char *before = kids.n ? names.items[kids.n - 1] : NULL;
        const char *many = many_arguments(self, before);
        bool is_named = self->at->kind == TOKEN_NAME && self->at[1].kind == TOKEN_SIGN &&
                        !strcmp(self->at[1].text, "=");
        const char *name = many ? many : is_named ? self->at->text : NULL;
        if (is_named && !many) {
            next(self);
            next(self);
        } else if (before && !many) {
            unexpected(self, "a named argument");
        }
        add_name(self, &names, name);
        add(self, &kids, expression(self));
    }
    next(self);
    with_kids(node, &kids, &names);
}

/* "a", or the tuple "a, b" */
static const jinja_node *index_of(parser *self) {
    jinja_node *node = make(self, NODE_TUPLE);
    node_list items = {0};
    do
        add(self, &items, expression(self));
    while (take_sign(self, ","));
    return items.n == 1 ? items.items[0] : with_kids(node, &items, NULL);
}

/* Behind "[". */
static const jinja_node *subscript(parser *self, const jinja_node *of) {
    jinja_node *node = make(self, NODE_ITEM);
    node_list parts = {0};
    bool is_slice = false;
    node->a = of;
    for (int i = 0; i < 3; i++) {
        bool is_empty = is_sign(self, ":") || is_sign(self, "]");
        if (is_empty && !is_slice && is_sign(self, "]")) unexpected(self, "an index");
        add(self, &parts, is_empty ? NULL : is_slice ? expression(self) : index_of(self));
        if (!is_sign(self, ":")) break;
        is_slice = true;
        next(self);
    }
    need_sign(self, "]");
    if (!is_slice) {
        node->b = parts.items[0];
        return node;
    }
    while (parts.n < 3)
        add(self, &parts, NULL);
    node->kind = NODE_SLICE;
    return with_kids(node, &parts, NULL);
}

static const jinja_node *attribute(parser *self, const jinja_node *of) {
    jinja_node *node = make(self, NODE_ATTRIBUTE);
    node->a = of;
    if (self->at->kind == TOKEN_INT) { /* a.0 is a[0] */
        node->kind = NODE_ITEM;
        node->b = literal(self, self->at->literal);
        return node;
    }
    node->name = need_name(self);
    return node;
}

static const jinja_node *call(parser *self, const jinja_node *of) {
    jinja_node *node = make(self, NODE_CALL);
    node->a = of;
    arguments(self, node);
    return node;
}

static const jinja_node *postfix(parser *self, const jinja_node *node) {
    for (;;) {
        if (take_sign(self, "."))
            node = attribute(self, node);
        else if (take_sign(self, "["))
            node = subscript(self, node);
        else if (is_sign(self, "("))
            node = call(self, node);
        else
            return node;
    }
}

static const char *dotted_name(parser *self) {
    const char *name = need_name(self);
    if (is_sign(self, "."))
        cohort_jinja_fail(self->arena, "the filter or test '%s.' is not known", name);
    return name;
}

/* Behind "|". */
static const jinja_node *filter(parser *self, const jinja_node *of) {
    jinja_node *node = make(self, NODE_FILTER);
    node->a = of;
    node->name = dotted_name(self);
    node->builtin = cohort_jinja_find_filter(node->name);
    if (!node->builtin && !self->unknown) self->unknown = node;
    if (is_sign(self, "(")) arguments(self, node);
    return node;
}

static bool begins_argument(const parser *self) {
    if (self->at->kind == TOKEN_NAME)
        return !is_word(self, "else") && !is_word(self, "or") && !is_word(self, "and");
    return self->at->kind == TOKEN_STRING || self->at->kind == TOKEN_INT ||
           self->at->kind == TOKEN_FLOAT || is_sign(self, "[") || is_sign(self, "{");
}

static const jinja_node *negated(parser *self, const jinja_node *of) {
    jinja_node *node = make(self, NODE_NOT);
    node->a = of;
    return node;
}

/* Behind "is". */
static const jinja_node *test(parser *self, const jinja_node *of) {
    jinja_node *node = make(self, NODE_TEST);
    bool is_negated = take_word(self, "not");
    node->a = of;
    node->name = dotted_name(self);
    node->builtin = cohort_jinja_find_test(node->name);
    if (!node->builtin && !self->unknown) self->unknown = node;
    if (is_sign(self, "(")) {
        arguments(self, node);
    } else if (is_word(self, "is")) {
        cohort_jinja_fail(self->arena, "You cannot chain multiple tests with is");
    } else if (begins_argument(self)) {
        node_list kids = {0};
        name_list names = {0};
        add(self, &kids, postfix(self, primary(self)));
        add_name(self, &names, NULL);
        with_kids(node, &kids, &names);
    }
    return is_negated ? negated(self, node) : node;
}

static const jinja_node *filters(parser *self, const jinja_node *node) {
    for (;;) {
        if (take_sign(self, "|"))
            node = filter(self, node);
        else if (take_word(self, "is"))
            node = test(self, node);
        else if (is_sign(self, "("))
            node = call(self, node);
        else
            return node;
    }
}

/* ---- operators --------------------------------------------------------------------- */

static const jinja_node *signed_(parser *self, jinja_node_kind kind) {
    jinja_node *node = make(self, kind);
    next(self);
    node->a = unary(self, false);
    return node;
}

static const jinja_node *unary(parser *self, bool with_filter) {
    cohort_jinja_enter(self->arena);
    const jinja_node *node = is_sign(self, "-")   ? signed_(self, NODE_NEGATIVE)
                             : is_sign(self, "+") ? signed_(self, NODE_POSITIVE)
                                                  : primary(self);
    node = postfix(self, node);
    if (with_filter) node = filters(self, node);
    cohort_jinja_leave(self->arena);
    return node;
}

static const jinja_node *power(parser *self) {
    const jinja_node *node = unary(self, true);
    while (take_sign(self, "**"))
        node = binary(self, OPERATOR_POWER, node, unary(self, true));
    return node;
}

static const jinja_node *product(parser *self) {
    static const struct {
        const char *sign;
        jinja_operator operator_;
    } signs[] = {{"*", OPERATOR_MULTIPLY},
                 {"/", OPERATOR_DIVIDE},
                 {"//", OPERATOR_FLOOR},
                 {"%", OPERATOR_MODULO}};
    const jinja_node *node = power(self);
    for (size_t i = 0; i < 4; i++)
        if (take_sign(self, signs[i].sign)) {
            node = binary(self, signs[i].operator_, node, power(self));
            i = (size_t)-1; /* from the start */
        }
    return node;
}

static const jinja_node *concatenation(parser *self) {
    node_list parts = {0};
    jinja_node *node = make(self, NODE_CONCAT);
    add(self, &parts, product(self));
    while (take_sign(self, "~"))
        add(self, &parts, product(self));
    return parts.n == 1 ? parts.items[0] : with_kids(node, &parts, NULL);
}

static const jinja_node *sum(parser *self) {
    const jinja_node *node = concatenation(self);
    for (;;) {
        if (take_sign(self, "+"))
            node = binary(self, OPERATOR_ADD, node, concatenation(self));
        else if (take_sign(self, "-"))
            node = binary(self, OPERATOR_SUBTRACT, node, concatenation(self));
        else
            return node;
    }
}

/* The comparison that stands here, taken; NULL where there is none. */
static const char *comparison_sign(parser *self) {
    static const char *const signs[] = {"==", "!=", "<", "<=", ">", ">="};
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++)
        if (take_sign(self, signs[i])) return signs[i];
    if (take_word(self, "in")) return "in";
    bool is_not_in = is_word(self, "not") && self->at[1].kind == TOKEN_NAME &&
                     !strcmp(self->at[1].text, "in");
    if (!is_not_in) return NULL;
    next(self);
    next(self);
    return "not in";
}

static const jinja_node *comparison(parser *self) {
    jinja_node *node = make(self, NODE_COMPARE);
    node_list kids = {0};
    name_list names = {0};
    node->a = sum(self);
    for (const char *sign; (sign = comparison_sign(self));) {
        add_name(self, &names, sign);
        add(self, &kids, sum(self));
    }
    return kids.n ? with_kids(node, &kids, &names) : node->a;
}

static const jinja_node *negation(parser *self) {
    if (!take_word(self, "not")) return comparison(self);
    cohort_jinja_enter(self->arena);
    const jinja_node *node = negated(self, negation(self));
    cohort_jinja_leave(self->arena);
    return node;
}

static const jinja_node *conjunction(parser *self) {
    const jinja_node *node = negation(self);
    while (take_word(self, "and")) {
        jinja_node *both = make(self, NODE_AND);
        both->a = node;
        both->b = negation(self);
        node = both;
    }
    return node;
}

static const jinja_node *disjunction(parser *self) {
    const jinja_node *node = conjunction(self);
    while (take_word(self, "or")) {
        jinja_node *either = make(self, NODE_OR);
        either->a = node;
        either->b = conjunction(self);
        node = either;
    }
    return node;
}

/* "a if b else c" */
static const jinja_node *choice(parser *self, bool with_condition) {
    cohort_jinja_enter(self->arena);
    const jinja_node *unknown = self->unknown;
    const jinja_node *node = disjunction(self);
    while (with_condition && take_word(self, "if")) {
        jinja_node *chosen = make(self, NODE_CHOICE);
        chosen->b = node;
        chosen->a = disjunction(self);
        if (take_word(self, "else")) chosen->c = choice(self, true);
        self->unknown = unknown;
        node = chosen;
    }
    cohort_jinja_leave(self->arena);
    return node;
}

static const jinja_node *expression(parser *self) { return choice(self, true); }

/* ---- statements -------------------------------------------------------------------- */

/* "a", "a, b" or "(a, b)" */
static name_list target(parser *self) {
    name_list names = {0};
    bool in_parentheses = take_sign(self, "(");
    do {
        if (is_sign(self, "("))
            cohort_jinja_fail(self->arena, "targets in targets are not supported");
        if (names.n && self->at->kind != TOKEN_NAME) break;
        add_name(self, &names, need_name(self));
    } while (take_sign(self, ","));
    if (in_parentheses) need_sign(self, ")");
    return names;
}

static void end_block(parser *self) { need(self, TOKEN_BLOCK_END, "the end of the tag"); }

/* A body and the "{% end %}" behind it. */
static const jinja_node *body_until(parser *self, const char *end) {
    const char *const ends[] = {end, NULL};
    end_block(self);
    const jinja_node *node = body(self, ends);
    need_word(self, end);
    return node;
}

static const jinja_node *if_statement(parser *self) {
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    jinja_node *node = make(self, NODE_IF);
    const jinja_node *unknown = self->unknown;
    cohort_jinja_enter(self->arena);
    node->a = tuple(self, true);
    end_block(self);
    node->b = body(self, ends);
    if (take_word(self, "elif"))
        node->c = if_statement(self);
    else if (take_word(self, "else"))
        node->c = body_until(self, "endif");
    else
        need_word(self, "endif");
    self->unknown = unknown;
    cohort_jinja_leave(self->arena);
    return node;
}

static const jinja_node *for_statement(parser *self) {
    static const char *const ends[] = {"else", "endfor", NULL};
    jinja_node *node = make(self, NODE_FOR);
    name_list names = target(self);
    node_list none = {0};
    need_word(self, "in");
    node->a = tuple(self, false);
    if (take_word(self, "if")) node->d = expression(self);
    node->is_recursive = take_word(self, "recursive");
    end_block(self);
    node->b = body(self, ends);
    if (take_word(self, "else"))
        node->c = body_until(self, "endfor");
    else
        need_word(self, "endfor");
    return with_kids(node, &none, &names);
}

static const jinja_node *set_statement(parser *self) {
    jinja_node *node = make(self, NODE_SET);
    node_list none = {0};
    name_list names = {0};
    if (self->at->kind == TOKEN_NAME && self->at[1].kind == TOKEN_SIGN &&
        !strcmp(self->at[1].text, ".")) {
        node->name = need_name(self);
        next(self);
        node->attribute = need_name(self);
    } else {
        names = target(self);
    }
    if (take_sign(self, "=")) {
        node->a = tuple(self, true);
    } else {
        if (take_sign(self, "|")) {
            node->a = filter(self, NULL);
            while (take_sign(self, "|"))
                node->a = filter(self, node->a);
        }
        node->b = body_until(self, "endset");
    }
    return with_kids(node, &none, &names);
}

/* "(a, b=c)" of a macro: names, and the defaults of the last ones. */
static void parameters(parser *self, jinja_node *node) {
    node_list defaults = {0};
    name_list names = {0};
    need_sign(self, "(");
    while (!is_sign(self, ")")) {
        if (names.n) need_sign(self, ",");
        if (is_sign(self, ")")) break;
        add_name(self, &names, need_name(self));
        if (take_sign(self, "="))
            add(self, &defaults, expression(self));
        else if (defaults.n)
            cohort_jinja_fail(self->arena, "a parameter without a default follows one "
                                           "with a default");
    }
    next(self);
    with_kids(node, &defaults, &names);
}

static const jinja_node *macro_statement(parser *self) {
    jinja_node *node = make(self, NODE_MACRO);
    node->name = need_name(self);
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

static const jinja_node *call_statement(parser *self) {
    jinja_node *node = make(self, NODE_CALL_BLOCK);
    node->name = "caller";
    if (is_sign(self, "(")) parameters(self, node);
    node->a = unary(self, true);
    if (node->a->kind != NODE_CALL) unexpected(self, "a call");
    node->b = body_until(self, "endcall");
    return node;
}

static const jinja_node *filter_statement(parser *self) {
    jinja_node *node = make(self, NODE_FILTER_BLOCK);
    node->a = filter(self, NULL);
    while (take_sign(self, "|"))
        node->a = filter(self, node->a);
    node->b = body_until(self, "endfilter");
    return node;
}

static const jinja_node *with_statement(parser *self) {
    jinja_node *node = make(self, NODE_WITH);
    node_list kids = {0};
    name_list names = {0};
    while (self->at->kind != TOKEN_BLOCK_END) {
        if (kids.n) need_sign(self, ",");
        add_name(self, &names, need_name(self));
        need_sign(self, "=");
        add(self, &kids, expression(self));
    }
    node->b = body_until(self, "endwith");
    return with_kids(node, &kids, &names);
}

static const jinja_node *generation_statement(parser *self) {
    return body_until(self, "endgeneration");
}

static const jinja_node *break_statement(parser *self) { return make(self, NODE_BREAK); }

static const jinja_node *continue_statement(parser *self) {
    return make(self, NODE_CONTINUE);
}

static const jinja_node *statement(parser *self) {
    static const struct {
        const char *name;
        const jinja_node *(*parse)(parser *self);
    } statements[] = {{"if", if_statement},       {"for", for_statement},
                      {"set", set_statement},     {"macro", macro_statement},
                      {"call", call_statement},   {"filter", filter_statement},
                      {"with", with_statement},   {"generation", generation_statement},
                      {"break", break_statement}, {"continue", continue_statement}};
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++)
        if (take_word(self, statements[i].name)) return statements[i].parse(self);
    if (self->at->kind == TOKEN_NAME)
        cohort_jinja_fail(self->arena, "the tag '%.40s' is not supported here",
                          self->at->text);
    unexpected(self, "the name of a tag");
}

static bool is_end(const parser *self, const char *const *ends) {
    for (size_t i = 0; ends[i]; i++)
        if (is_word(self, ends[i])) return true;
    return false;
}

/* Up to a tag of one of the ends, whose name is next then; or the template's end. */
static const jinja_node *body(parser *self, const char *const *ends) {
    jinja_node *node = make(self, NODE_BODY);
    node_list kids = {0};
    cohort_jinja_enter(self->arena);
    while (self->at->kind != TOKEN_END) {
        if (self->at->kind == TOKEN_TEXT) {
            jinja_node *text = make(self, NODE_TEXT);
            text->literal = self->at->literal;
            add(self, &kids, text);
            next(self);
        } else if (self->at->kind == TOKEN_OUTPUT_BEGIN) {
            jinja_node *output = make(self, NODE_OUTPUT);
            next(self);
            output->a = tuple(self, true);
            need(self, TOKEN_OUTPUT_END, "'}}'");
            add(self, &kids, output);
        } else {
            need(self, TOKEN_BLOCK_BEGIN, "a tag");
            if (is_end(self, ends)) break;
            add(self, &kids, statement(self));
            end_block(self);
        }
    }
    if (ends[0] && self->at->kind == TOKEN_END) unexpected(self, ends[0]);
    cohort_jinja_leave(self->arena);
    return with_kids(node, &kids, NULL);
}

/* Chains grow to the left without the parser going deeper: `a|d|d|d`, `a.b.b`, `a + a +
 * a`. Whatever walks the tree later goes as deep as it is: it must not be deeper than an
 * evaluation may be. */
static void check_depth(jinja_arena *arena, const jinja_node *node) {
    if (!node) return;
    arena->line = node->line;
    cohort_jinja_enter(arena);
    check_depth(arena, node->a);
    check_depth(arena, node->b);
    check_depth(arena, node->c);
    check_depth(arena, node->d);
    for (size_t i = 0; i < node->n_kids; i++)
        check_depth(arena, node->kids[i]);
    cohort_jinja_leave(arena);
}

_Noreturn void cohort_jinja_refuse_unknown(jinja_arena *arena, const jinja_node *node) {
    cohort_jinja_fail(arena, "the %s '%s' is not supported",
                      node->kind == NODE_TEST ? "test" : "filter", node->name);
}

const jinja_node *cohort_jinja_parse(jinja_arena *arena, const jinja_token *tokens) {
    static const char *const no_ends[] = {NULL};
    parser self = {.arena = arena, .at = tokens};
    const jinja_node *whole = body(&self, no_ends);
    if (self.unknown) {
        arena->line = self.unknown->line;
        cohort_jinja_refuse_unknown(arena, self.unknown);
    }
    check_depth(arena, whole);
    return whole;
}
