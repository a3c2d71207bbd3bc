/* SPDX-License-Identifier: Apache-2.0 */
#include "base/grow.h"
#include "grammar/syntax_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* Design notes.
 *
 * Rules are written into those that name them as far as that stays small: then they are
 * part of one automaton, and nothing is left to choose or to come back to.  What is
 * called is at least one rule of every cycle, so that writing comes to an end. */

enum { MOST_PARTS_IN_PLACE = 256 }; /* of a rule that is not called */

struct syntax_node {
    uint8_t kind;
    bool is_nullable;
    uint32_t first, last, next, previous; /* children, and beside it */
    uint32_t rule;
    cohort_expr expr;
    int32_t least, most;
    size_t parts;
    size_t at;
};

enum { UNSEEN, OPEN, DONE };

struct syntax_rule {
    size_t name, name_size; /* in the text, where it is named first */
    size_t at;              /* where it is defined */
    uint32_t body;          /* COHORT_SYNTAX_NONE: not yet */
    bool is_nullable;
    uint8_t mark;
    uint32_t made; /* the builder's rule; COHORT_SYNTAX_NONE */
    cohort_expr expr;
    size_t parts;
};

void cohort_syntax_init(cohort_syntax *self, cohort_builder *builder, const char *text,
                        size_t size) {
    *self = (cohort_syntax){.builder = builder, .text = text, .size = size};
    if (size > COHORT_SYNTAX_MAX_BYTES)
        COHORT_BUILDER_FAIL(builder, COHORT_E_INVALID,
                            "the grammar has %zu bytes; at most %d can be", size,
                            COHORT_SYNTAX_MAX_BYTES);
}

void cohort_syntax_deinit(cohort_syntax *self) {
    free(self->nodes);
    free(self->rules);
    free(self->table);
    free(self->order);
}

void cohort_syntax_refuse(cohort_syntax *self, size_t at, const char *format, ...) {
    char words[256];
    size_t line = 1, column = 1;
    va_list arguments;
    if (self->builder->status < 0) return;
    va_start(arguments, format);
    vsnprintf(words, sizeof words, format, arguments);
    va_end(arguments);
    for (size_t i = 0; i < at && i < self->size; i++) {
        bool continues = ((uint8_t)self->text[i] & 0xc0) == 0x80;
        column = self->text[i] == '\n' ? 1 : column + !continues;
        line += self->text[i] == '\n';
    }
    COHORT_BUILDER_FAIL(self->builder, COHORT_E_INVALID,
                        "grammar, line %zu, column %zu: %s", line, column, words);
}

/* ---- nodes ------------------------------------------------------------------------- */

static bool make_room(cohort_syntax *self, void **items, size_t count, size_t *capacity,
                      size_t item_bytes) {
    if (self->builder->status < 0) return false;
    void *larger = cohort_grow(*items, count + 1, capacity, item_bytes);
    if (!larger) {
        COHORT_BUILDER_FAIL(self->builder, COHORT_E_NOMEM, "a grammar of %zu parts",
                            count + 1);
        return false;
    }
    *items = larger;
    return true;
}

static uint32_t add_node(cohort_syntax *self, const struct syntax_node *node) {
    void *nodes = self->nodes;
    if (!make_room(self, &nodes, self->n_nodes, &self->nodes_capacity,
                   sizeof *self->nodes))
        return COHORT_SYNTAX_NONE;
    self->nodes = nodes;
    struct syntax_node *added = &self->nodes[self->n_nodes];
    *added = *node;
    added->first = added->last = added->next = added->previous = COHORT_SYNTAX_NONE;
    added->at = self->at;
    return (uint32_t)self->n_nodes++;
}

uint32_t cohort_syntax_leaf(cohort_syntax *self, cohort_expr expr) {
    struct syntax_node node = {.kind = COHORT_SYNTAX_LEAF, .expr = expr};
    if (self->builder->status < 0) return COHORT_SYNTAX_NONE;
    node.parts = cohort_expr_measure(self->builder, expr, &node.is_nullable);
    return add_node(self, &node);
}

uint32_t cohort_syntax_group(cohort_syntax *self, cohort_syntax_kind kind) {
    return add_node(self, &(struct syntax_node){.kind = (uint8_t)kind});
}

void cohort_syntax_append(cohort_syntax *self, uint32_t group, uint32_t child) {
    if (self->builder->status < 0) return;
    struct syntax_node *parent = &self->nodes[group];
    self->nodes[child].previous = parent->last;
    self->nodes[child].next = COHORT_SYNTAX_NONE;
    if (parent->last == COHORT_SYNTAX_NONE)
        parent->first = child;
    else
        self->nodes[parent->last].next = child;
    parent->last = child;
}

uint32_t cohort_syntax_repeat(cohort_syntax *self, uint32_t child, int32_t least,
                              int32_t most) {
    uint32_t node =
        add_node(self, &(struct syntax_node){
                           .kind = COHORT_SYNTAX_REPEAT, .least = least, .most = most});
    cohort_syntax_append(self, node, child);
    return node;
}

uint32_t cohort_syntax_name(cohort_syntax *self, uint32_t rule) {
    return add_node(self,
                    &(struct syntax_node){.kind = COHORT_SYNTAX_NAME, .rule = rule});
}

/* ---- names ------------------------------------------------------------------------- */

static size_t hash_of(const char *name, size_t size) {
    uint64_t hash = 1469598103934665603u;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (uint8_t)name[i]) * 1099511628211u;
    return (size_t)(hash ^ hash >> 29);
}

/* Where the name's rule is in the table, or may be put. */
static size_t slot_of(const cohort_syntax *self, const char *name, size_t size) {
    size_t mask = self->table_capacity - 1, at = hash_of(name, size) & mask;
    for (; self->table[at]; at = (at + 1) & mask) {
        const struct syntax_rule *rule = &self->rules[self->table[at] - 1];
        if (rule->name_size == size && !memcmp(self->text + rule->name, name, size))
            break;
    }
    return at;
}

static void grow_table(cohort_syntax *self) {
    size_t capacity = self->table_capacity ? self->table_capacity * 2 : 64;
    uint32_t *table = calloc(capacity, sizeof *table);
    if (!table) {
        COHORT_BUILDER_FAIL(self->builder, COHORT_E_NOMEM, "%zu names", capacity);
        return;
    }
    free(self->table);
    self->table = table;
    self->table_capacity = capacity;
    for (uint32_t i = 0; i < self->n_rules; i++)
        self->table[slot_of(self, self->text + self->rules[i].name,
                            self->rules[i].name_size)] = i + 1;
}

uint32_t cohort_syntax_find(const cohort_syntax *self, const char *name) {
    if (!self->table_capacity) return COHORT_SYNTAX_NONE;
    return self->table[slot_of(self, name, strlen(name))] - 1;
}

uint32_t cohort_syntax_rule(cohort_syntax *self, size_t begin, size_t size) {
    if ((self->n_rules + 1) * 2 > self->table_capacity) grow_table(self);
    if (self->builder->status < 0) return 0;
    size_t slot = slot_of(self, self->text + begin, size);
    if (self->table[slot]) return self->table[slot] - 1;
    if (self->n_rules >= COHORT_GRAMMAR_MAX_RULES)
        cohort_syntax_refuse(self, begin, "more than %d rules", COHORT_GRAMMAR_MAX_RULES);
    void *rules = self->rules;
    if (!make_room(self, &rules, self->n_rules, &self->rules_capacity,
                   sizeof *self->rules))
        return 0;
    self->rules = rules;
    self->rules[self->n_rules] = (struct syntax_rule){.name = begin,
                                                      .name_size = size,
                                                      .body = COHORT_SYNTAX_NONE,
                                                      .made = COHORT_SYNTAX_NONE};
    self->table[slot] = (uint32_t)++self->n_rules;
    return (uint32_t)self->n_rules - 1;
}

static int name_of(const cohort_syntax *self, const struct syntax_rule *rule,
                   const char **out_name) {
    *out_name = self->text + rule->name;
    return rule->name_size < 60 ? (int)rule->name_size : 60;
}

/* ---- rules that begin with themselves ---------------------------------------------- */

static bool begins_with(const cohort_syntax *self, uint32_t sequence, uint32_t rule) {
    uint32_t first = self->nodes[sequence].first;
    return first != COHORT_SYNTAX_NONE && self->nodes[first].kind == COHORT_SYNTAX_NAME &&
           self->nodes[first].rule == rule;
}

static void drop_first(cohort_syntax *self, uint32_t sequence) {
    struct syntax_node *node = &self->nodes[sequence];
    uint32_t second = self->nodes[node->first].next;
    node->first = second;
    if (second == COHORT_SYNTAX_NONE)
        node->last = second;
    else
        self->nodes[second].previous = COHORT_SYNTAX_NONE;
}

/* a ::= a x | y is a ::= y x*. */
static uint32_t without_left_recursion(cohort_syntax *self, uint32_t rule, uint32_t body,
                                       size_t at) {
    const char *name;
    bool begins = false, others = false;
    for (uint32_t i = self->nodes[body].first; i != COHORT_SYNTAX_NONE;
         i = self->nodes[i].next) {
        bool is_one = begins_with(self, i, rule);
        begins |= is_one;
        others |= !is_one;
    }
    if (!begins) return body;
    int size = name_of(self, &self->rules[rule], &name);
    if (!others) {
        cohort_syntax_refuse(self, at, "rule '%.*s' has nothing but itself to begin with",
                             size, name);
        return body;
    }
    uint32_t starts = cohort_syntax_group(self, COHORT_SYNTAX_EITHER);
    uint32_t rests = cohort_syntax_group(self, COHORT_SYNTAX_EITHER);
    uint32_t repeat = cohort_syntax_repeat(self, rests, 0, COHORT_UNBOUNDED);
    uint32_t whole = cohort_syntax_group(self, COHORT_SYNTAX_SEQUENCE);
    uint32_t next;
    if (self->builder->status < 0) return body;
    for (uint32_t i = self->nodes[body].first; i != COHORT_SYNTAX_NONE; i = next) {
        bool is_one = begins_with(self, i, rule);
        next = self->nodes[i].next;
        if (is_one) drop_first(self, i);
        cohort_syntax_append(self, is_one ? rests : starts, i);
    }
    cohort_syntax_append(self, whole, starts);
    cohort_syntax_append(self, whole, repeat);
    return whole;
}

void cohort_syntax_define(cohort_syntax *self, uint32_t rule, uint32_t body, size_t at) {
    const char *name;
    if (self->builder->status < 0) return;
    int size = name_of(self, &self->rules[rule], &name);
    if (self->rules[rule].body != COHORT_SYNTAX_NONE) {
        cohort_syntax_refuse(self, at, "rule '%.*s' is defined twice", size, name);
        return;
    }
    self->rules[rule].at = at;
    body = without_left_recursion(self, rule, body, at);
    self->rules[rule].body = body;
}

/* ---- what is named, what may be empty ---------------------------------------------- */

static bool descend(cohort_syntax *self, size_t at) {
    if (++self->depth > COHORT_SYNTAX_MAX_CHAIN)
        cohort_syntax_refuse(self, at, "rules and groups nest deeper than %d",
                             COHORT_SYNTAX_MAX_CHAIN);
    return self->builder->status >= 0;
}

/* Puts the rules that a node names in order, and those that they name before them. */
static void order_rules(cohort_syntax *self, uint32_t node) {
    const char *name;
    if (!descend(self, self->nodes[node].at)) return;
    if (self->nodes[node].kind == COHORT_SYNTAX_NAME) {
        uint32_t index = self->nodes[node].rule;
        struct syntax_rule *rule = &self->rules[index];
        if (rule->body == COHORT_SYNTAX_NONE) {
            int size = name_of(self, rule, &name);
            cohort_syntax_refuse(self, rule->name, "rule '%.*s' is not defined", size,
                                 name);
        } else if (rule->mark == UNSEEN) {
            rule->mark = DONE;
            order_rules(self, rule->body);
            self->order[self->n_order++] = index;
        }
    }
    for (uint32_t i = self->nodes[node].first;
         i != COHORT_SYNTAX_NONE && self->builder->status >= 0; i = self->nodes[i].next)
        order_rules(self, i);
    self->depth--;
}

static bool may_be_empty(cohort_syntax *self, uint32_t index) {
    struct syntax_node *node = &self->nodes[index];
    bool all = true, any = false;
    cohort_builder_work(self->builder, 1);
    for (uint32_t i = node->first; i != COHORT_SYNTAX_NONE; i = self->nodes[i].next) {
        bool one = may_be_empty(self, i);
        all &= one;
        any |= one;
    }
    switch (node->kind) {
    case COHORT_SYNTAX_LEAF: return node->is_nullable;
    case COHORT_SYNTAX_NAME: return self->rules[node->rule].is_nullable;
    case COHORT_SYNTAX_SEQUENCE: node->is_nullable = all; break;
    case COHORT_SYNTAX_EITHER: node->is_nullable = any; break;
    default: node->is_nullable = all || !node->least; break;
    }
    return node->is_nullable;
}

static void find_empty(cohort_syntax *self) {
    bool changed = true;
    while (changed && self->builder->status >= 0) {
        changed = false;
        for (size_t i = 0; i < self->n_order && self->builder->status >= 0; i++) {
            struct syntax_rule *rule = &self->rules[self->order[i]];
            bool is_nullable = may_be_empty(self, rule->body);
            changed |= is_nullable != rule->is_nullable;
            rule->is_nullable = is_nullable;
        }
    }
}

static void check_rule_start(cohort_syntax *self, uint32_t index);

/* Of all rules that may begin a node, none is one that the node is the beginning of. */
static void check_start(cohort_syntax *self, uint32_t index) {
    const struct syntax_node *node = &self->nodes[index];
    if (!descend(self, node->at)) return;
    if (node->kind == COHORT_SYNTAX_NAME) check_rule_start(self, node->rule);
    for (uint32_t i = node->first; i != COHORT_SYNTAX_NONE; i = self->nodes[i].next) {
        const struct syntax_node *child = &self->nodes[i];
        bool is_nullable = child->kind == COHORT_SYNTAX_NAME
                               ? self->rules[child->rule].is_nullable
                               : child->is_nullable;
        check_start(self, i);
        if (self->builder->status < 0) return;
        if (node->kind == COHORT_SYNTAX_SEQUENCE && !is_nullable) break;
    }
    self->depth--;
}

static void check_rule_start(cohort_syntax *self, uint32_t index) {
    struct syntax_rule *rule = &self->rules[index];
    const char *name;
    int size = name_of(self, rule, &name);
    if (rule->mark == OPEN)
        cohort_syntax_refuse(self, rule->at,
                             "rule '%.*s' begins with itself by way of another rule or "
                             "behind what may be empty; write it as a repetition",
                             size, name);
    if (rule->mark != UNSEEN) return;
    rule->mark = OPEN;
    check_start(self, rule->body);
    rule->mark = DONE;
}

/* ---- expressions ------------------------------------------------------------------- */

static size_t at_most_parts(size_t parts) {
    return parts < COHORT_GRAMMAR_MAX_PARTS ? parts : COHORT_GRAMMAR_MAX_PARTS;
}

static cohort_expr write_node(cohort_syntax *self, uint32_t index, size_t *out_parts);

static void call_from_now_on(cohort_syntax *self, struct syntax_rule *rule) {
    if (rule->made == COHORT_SYNTAX_NONE) rule->made = cohort_rule_reserve(self->builder);
}

/* A rule as part of another. */
static cohort_expr write_rule(cohort_syntax *self, uint32_t index, size_t *out_parts) {
    struct syntax_rule *rule = &self->rules[index];
    if (rule->mark == UNSEEN) {
        rule->mark = OPEN;
        rule->expr = write_node(self, rule->body, &rule->parts);
        rule->mark = DONE;
        if (rule->parts > MOST_PARTS_IN_PLACE) call_from_now_on(self, rule);
        if (rule->made != COHORT_SYNTAX_NONE && self->builder->status >= 0)
            cohort_rule_make_expr(self->builder, rule->made, rule->expr);
    }
    if (rule->mark == OPEN) call_from_now_on(self, rule);
    *out_parts = rule->made == COHORT_SYNTAX_NONE ? rule->parts : 1;
    return rule->made == COHORT_SYNTAX_NONE ? rule->expr
                                            : cohort_expr_call(self->builder, rule->made);
}

/* The last first, so that the expression leans to the right. */
static cohort_expr write_children(cohort_syntax *self, uint32_t index,
                                  size_t *out_parts) {
    bool is_either = self->nodes[index].kind == COHORT_SYNTAX_EITHER;
    cohort_expr expr = is_either ? COHORT_EXPR_NEVER : COHORT_EXPR_EMPTY;
    for (uint32_t i = self->nodes[index].last;
         i != COHORT_SYNTAX_NONE && self->builder->status >= 0;
         i = self->nodes[i].previous) {
        size_t parts;
        cohort_expr one = write_node(self, i, &parts);
        *out_parts = at_most_parts(*out_parts + parts);
        expr = is_either ? cohort_expr_either(self->builder, one, expr)
                         : cohort_expr_concat(self->builder, one, expr);
    }
    return expr;
}

static cohort_expr write_node(cohort_syntax *self, uint32_t index, size_t *out_parts) {
    const struct syntax_node *node = &self->nodes[index];
    cohort_expr expr = COHORT_EXPR_NEVER;
    *out_parts = 1;
    if (!descend(self, node->at)) return expr;
    switch (node->kind) {
    case COHORT_SYNTAX_LEAF:
        *out_parts = node->parts;
        expr = node->expr;
        break;
    case COHORT_SYNTAX_NAME: expr = write_rule(self, node->rule, out_parts); break;
    case COHORT_SYNTAX_REPEAT: {
        size_t parts;
        int32_t times = node->most > node->least ? node->most : node->least;
        expr = write_node(self, node->first, &parts);
        expr = cohort_expr_repeat(self->builder, expr, node->least, node->most);
        *out_parts = at_most_parts(parts * ((size_t)times + 2));
        break;
    }
    default: expr = write_children(self, index, out_parts); break;
    }
    self->depth--;
    return expr;
}

static void forget_marks(cohort_syntax *self) {
    for (size_t i = 0; i < self->n_rules; i++)
        self->rules[i].mark = UNSEEN;
    self->depth = 0;
}

uint32_t cohort_syntax_compile(cohort_syntax *self, uint32_t start) {
    cohort_builder *builder = self->builder;
    const char *name;
    size_t parts;
    uint32_t made = cohort_rule_reserve(builder);
    if (builder->status < 0) return made;
    self->order = malloc(self->n_rules * sizeof *self->order);
    if (!self->order) COHORT_BUILDER_FAIL(builder, COHORT_E_NOMEM, "a grammar");
    for (size_t i = 0; i < self->n_rules; i++)
        if (self->rules[i].body == COHORT_SYNTAX_NONE) {
            int size = name_of(self, &self->rules[i], &name);
            cohort_syntax_refuse(self, self->rules[i].name, "rule '%.*s' is not defined",
                                 size, name);
        }
    forget_marks(self);
    if (builder->status >= 0) order_rules(self, start);
    if (builder->status >= 0) find_empty(self);
    if (builder->status >= 0) may_be_empty(self, start);
    forget_marks(self);
    if (builder->status >= 0) check_start(self, start);
    forget_marks(self);
    if (builder->status < 0) return made;
    cohort_expr expr = write_node(self, start, &parts);
    cohort_rule_make_expr(builder, made, expr);
    return made;
}

/* ---- reading ----------------------------------------------------------------------- */

bool cohort_syntax_peek(const cohort_syntax *self, const char *token) {
    size_t size = strlen(token);
    return self->size - self->at >= size && !memcmp(self->text + self->at, token, size);
}

bool cohort_syntax_take(cohort_syntax *self, const char *token) {
    if (!cohort_syntax_peek(self, token)) return false;
    self->at += strlen(token);
    return true;
}

uint32_t cohort_syntax_code(cohort_syntax *self) {
    utf8proc_int32_t code;
    utf8proc_ssize_t size =
        utf8proc_iterate((const utf8proc_uint8_t *)self->text + self->at,
                         (utf8proc_ssize_t)(self->size - self->at), &code);
    if (self->at >= self->size || size <= 0) {
        cohort_syntax_refuse(self, self->at,
                             self->at >= self->size ? "the text ends too early"
                                                    : "bytes that are not UTF-8");
        return 0;
    }
    self->at += (size_t)size;
    return (uint32_t)code;
}

static uint32_t take_hex(cohort_syntax *self, int count) {
    uint32_t value = 0;
    for (int i = 0; i < count; i++, self->at++) {
        uint32_t digit =
            cohort_hex_digit(self->at < self->size ? self->text[self->at] : '\0');
        if (digit == 16) {
            cohort_syntax_refuse(self, self->at, "%d hexadecimal digits are wanted here",
                                 count);
            return 0;
        }
        value = value << 4 | digit;
    }
    if (value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff))
        cohort_syntax_refuse(self, self->at, "U+%04X is no character", value);
    return value;
}

uint32_t cohort_syntax_escape(cohort_syntax *self) {
    static const char names[] = "n\nr\rt\tf\fv\vb\ba\a0\0";
    size_t begin = self->at;
    uint32_t code = cohort_syntax_code(self);
    for (size_t i = 0; i + 1 < sizeof names - 1; i += 2)
        if ((uint32_t)names[i] == code) return (uint32_t)names[i + 1];
    if (code == 'x') return take_hex(self, 2);
    if (code == 'u') return take_hex(self, 4);
    if (code == 'U') return take_hex(self, 8);
    bool is_other = (code >= '1' && code <= '9') || (code >= 'a' && code <= 'z') ||
                    (code >= 'A' && code <= 'Z');
    if (is_other) cohort_syntax_refuse(self, begin, "no escape is \\%c", (int)code);
    return code;
}

static cohort_expr letter(cohort_syntax *self, uint32_t code, bool ignores_case) {
    cohort_code_set set = {0};
    cohort_code_set_add(self->builder, &set, code, code);
    if (ignores_case) {
        uint32_t lower = (uint32_t)utf8proc_tolower((utf8proc_int32_t)code);
        uint32_t upper = (uint32_t)utf8proc_toupper((utf8proc_int32_t)code);
        cohort_code_set_add(self->builder, &set, lower, lower);
        cohort_code_set_add(self->builder, &set, upper, upper);
    }
    cohort_expr expr = cohort_expr_codes(self->builder, &set, false);
    cohort_code_set_deinit(&set);
    return expr;
}

cohort_expr cohort_syntax_string(cohort_syntax *self, bool ignores_case) {
    size_t begin = self->at - 1, end = self->at, n = 0;
    while (end < self->size && self->text[end] != '"' && self->text[end] != '\n')
        end += self->text[end] == '\\' ? 2 : 1;
    uint32_t *codes = malloc((end - begin + 1) * sizeof *codes);
    if (!codes) COHORT_BUILDER_FAIL(self->builder, COHORT_E_NOMEM, "a string");
    while (self->builder->status >= 0 && !cohort_syntax_take(self, "\"")) {
        if (self->at >= self->size || self->text[self->at] == '\n')
            cohort_syntax_refuse(self, begin, "a string without its closing \"");
        else if (codes)
            codes[n++] = cohort_syntax_take(self, "\\") ? cohort_syntax_escape(self)
                                                        : cohort_syntax_code(self);
    }
    cohort_expr expr = COHORT_EXPR_EMPTY;
    while (n > 0 && self->builder->status >= 0) {
        cohort_expr one = letter(self, codes[--n], ignores_case);
        expr = cohort_expr_concat(self->builder, one, expr);
    }
    free(codes);
    return expr;
}

bool cohort_syntax_number(cohort_syntax *self, int32_t *out) {
    size_t begin = self->at;
    int32_t value = 0;
    for (; self->at < self->size && self->text[self->at] >= '0' &&
           self->text[self->at] <= '9';
         self->at++)
        if (value <= COHORT_SYNTAX_MAX_REPEAT)
            value = value * 10 + (self->text[self->at] - '0');
    if (value > COHORT_SYNTAX_MAX_REPEAT)
        cohort_syntax_refuse(self, begin, "a repetition of more than %d",
                             COHORT_SYNTAX_MAX_REPEAT);
    *out = value;
    return self->at > begin;
}

static void skip_blanks(cohort_syntax *self) {
    while (self->at < self->size && strchr(" \t", self->text[self->at]))
        self->at++;
}

bool cohort_syntax_counts(cohort_syntax *self, int32_t *least, int32_t *most) {
    size_t begin = self->at;
    skip_blanks(self);
    bool has_least = cohort_syntax_number(self, least);
    *most = *least;
    skip_blanks(self);
    if (cohort_syntax_take(self, ",")) {
        skip_blanks(self);
        if (!cohort_syntax_number(self, most)) *most = COHORT_UNBOUNDED;
        has_least |= *most != COHORT_UNBOUNDED;
        skip_blanks(self);
    }
    if (!has_least || !cohort_syntax_take(self, "}"))
        cohort_syntax_refuse(self, begin, "{m}, {m,} or {m,n} is wanted here");
    else if (*most != COHORT_UNBOUNDED && *most < *least)
        cohort_syntax_refuse(self, begin,
                             "a repetition whose bounds are the wrong way "
                             "round");
    return self->builder->status >= 0;
}
