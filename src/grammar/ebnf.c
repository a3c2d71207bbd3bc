/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/fail.h"
#include "grammar/syntax_internal.h"

/* Design notes.
 *
 * The notation of GBNF and of EBNF as vLLM's backend xgrammar takes it.  A rule goes on
 * until the name of the next one, whatever lines it takes. */

static bool is_name_byte(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           c == '_' || c == '-' || c == '.';
}

/* White space, line ends and comments. */
static void skip(cohort_syntax *self) {
    for (; self->at < self->size; self->at++) {
        if (self->text[self->at] == '#')
            while (self->at < self->size && self->text[self->at] != '\n')
                self->at++;
        if (self->at >= self->size || !strchr(" \t\r\n", self->text[self->at]) ||
            !self->text[self->at])
            break;
    }
}

static size_t name_size(const cohort_syntax *self) {
    size_t size = 0;
    /* A name begins with none of what stands in numbers. */
    if (self->at < self->size &&
        (strchr("-.", self->text[self->at]) ||
         (self->text[self->at] >= '0' && self->text[self->at] <= '9')))
        return 0;
    while (self->at + size < self->size && is_name_byte(self->text[self->at + size]))
        size++;
    return size;
}

/* Does the next rule begin here? */
static bool is_definition(const cohort_syntax *self) {
    cohort_syntax ahead = *self;
    ahead.at += name_size(self);
    if (ahead.at == self->at) return false;
    skip(&ahead);
    return cohort_syntax_peek(&ahead, "::=");
}

static uint32_t class_code(cohort_syntax *self) {
    return cohort_syntax_take(self, "\\") ? cohort_syntax_escape(self)
                                          : cohort_syntax_code(self);
}

static cohort_expr parse_class(cohort_syntax *self) {
    cohort_code_set set = {0};
    size_t begin = self->at - 1;
    bool inverts = cohort_syntax_take(self, "^");
    while (self->builder->status >= 0 && !cohort_syntax_take(self, "]")) {
        if (self->at >= self->size || self->text[self->at] == '\n') {
            cohort_syntax_refuse(self, begin, "a [ without its ]");
            break;
        }
        size_t at = self->at;
        uint32_t first = class_code(self), last = first;
        bool is_range = cohort_syntax_peek(self, "-") && !cohort_syntax_peek(self, "-]");
        if (is_range && cohort_syntax_take(self, "-")) last = class_code(self);
        if (last < first)
            cohort_syntax_refuse(self, at, "a range that ends before it begins");
        cohort_code_set_add(self->builder, &set, first, last);
    }
    if (!inverts && !set.count) cohort_syntax_refuse(self, begin, "an empty class");
    if (inverts) cohort_code_set_invert(self->builder, &set);
    cohort_expr expr = cohort_expr_codes(self->builder, &set, false);
    cohort_code_set_deinit(&set);
    return expr;
}

static cohort_expr any_character(cohort_syntax *self) {
    cohort_code_set set = {0};
    cohort_code_set_add(self->builder, &set, 0, 0x10ffff);
    cohort_expr expr = cohort_expr_codes(self->builder, &set, false);
    cohort_code_set_deinit(&set);
    return expr;
}

static uint32_t parse_alternatives(cohort_syntax *self);

static uint32_t parse_group(cohort_syntax *self) {
    size_t begin = self->at - 1;
    if (++self->depth > COHORT_GRAMMAR_MAX_NESTING)
        cohort_syntax_refuse(self, begin, "groups nest deeper than %d",
                             COHORT_GRAMMAR_MAX_NESTING);
    skip(self);
    if (cohort_syntax_peek(self, "="))
        cohort_syntax_refuse(self, begin, "look-ahead (=...) is not supported");
    if (self->builder->status < 0) return COHORT_SYNTAX_NONE;
    uint32_t node = parse_alternatives(self);
    self->depth--;
    if (!cohort_syntax_take(self, ")"))
        cohort_syntax_refuse(self, begin, "a ( without its )");
    return node;
}

static uint32_t parse_named(cohort_syntax *self) {
    size_t begin = self->at, size = name_size(self);
    self->at += size;
    static const char *const functions[] = {"TagDispatch", "TokenTagDispatch", "Token",
                                            "ExcludeToken"};
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        if (cohort_syntax_peek(self, "(") && strlen(functions[i]) == size &&
            !memcmp(self->text + begin, functions[i], size))
            cohort_syntax_refuse(self, begin, "%s(...) is not supported", functions[i]);
    return cohort_syntax_name(self, cohort_syntax_rule(self, begin, size));
}

static uint32_t parse_atom(cohort_syntax *self) {
    if (cohort_syntax_take(self, "(")) return parse_group(self);
    if (cohort_syntax_take(self, "\""))
        return cohort_syntax_leaf(self, cohort_syntax_string(self, false));
    if (cohort_syntax_take(self, "[")) return cohort_syntax_leaf(self, parse_class(self));
    if (cohort_syntax_take(self, "."))
        return cohort_syntax_leaf(self, any_character(self));
    if (name_size(self)) return parse_named(self);
    size_t at = self->at;
    cohort_syntax_code(self);
    cohort_syntax_refuse(self, at, "'%.*s' means nothing here", (int)(self->at - at),
                         self->text + at);
    return COHORT_SYNTAX_NONE;
}

static uint32_t parse_piece(cohort_syntax *self) {
    uint32_t node = parse_atom(self);
    /* One behind the other, as in ("a"?)*; each is a level of nesting. */
    for (int i = 0; self->builder->status >= 0; i++) {
        int32_t least = 0, most = COHORT_UNBOUNDED;
        skip(self);
        size_t at = self->at;
        if (cohort_syntax_take(self, "+"))
            least = 1;
        else if (cohort_syntax_take(self, "?"))
            most = 1;
        else if (cohort_syntax_take(self, "{"))
            cohort_syntax_counts(self, &least, &most);
        else if (!cohort_syntax_take(self, "*"))
            break;
        if (i == COHORT_GRAMMAR_MAX_NESTING)
            cohort_syntax_refuse(self, at, "repetitions nest deeper than %d",
                                 COHORT_GRAMMAR_MAX_NESTING);
        node = cohort_syntax_repeat(self, node, least, most);
    }
    return node;
}

static uint32_t parse_sequence(cohort_syntax *self) {
    uint32_t sequence = cohort_syntax_group(self, COHORT_SYNTAX_SEQUENCE);
    for (;;) {
        skip(self);
        if (self->builder->status < 0 || self->at >= self->size ||
            cohort_syntax_peek(self, "|") || cohort_syntax_peek(self, ")") ||
            is_definition(self))
            return sequence;
        cohort_syntax_append(self, sequence, parse_piece(self));
    }
}

static uint32_t parse_alternatives(cohort_syntax *self) {
    uint32_t either = cohort_syntax_group(self, COHORT_SYNTAX_EITHER);
    do
        cohort_syntax_append(self, either, parse_sequence(self));
    while (self->builder->status >= 0 && cohort_syntax_take(self, "|"));
    return either;
}

static void parse_rule(cohort_syntax *self) {
    size_t begin = self->at, size = name_size(self);
    if (!size || !is_definition(self)) {
        cohort_syntax_refuse(self, begin, "a rule (name ::= ...) is wanted here");
        return;
    }
    uint32_t rule = cohort_syntax_rule(self, begin, size);
    self->at += size;
    skip(self);
    cohort_syntax_take(self, "::=");
    uint32_t body = parse_alternatives(self);
    if (cohort_syntax_peek(self, ")"))
        cohort_syntax_refuse(self, self->at, "a ) without its (");
    cohort_syntax_define(self, rule, body, begin);
}

uint32_t cohort_ebnf_compile(cohort_builder *builder, const char *text, size_t size) {
    cohort_syntax self;
    uint32_t made = 0;
    cohort_syntax_init(&self, builder, text, size);
    for (skip(&self); self.at < self.size && builder->status >= 0; skip(&self))
        parse_rule(&self);
    uint32_t root = builder->status < 0 ? 0 : cohort_syntax_find(&self, "root");
    if (root == COHORT_SYNTAX_NONE)
        cohort_syntax_refuse(&self, size, "there is no rule 'root' to begin at");
    if (builder->status >= 0)
        made = cohort_syntax_compile(&self, cohort_syntax_name(&self, root));
    cohort_syntax_deinit(&self);
    return made;
}
