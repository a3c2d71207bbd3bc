/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "base/fail.h"
#include "grammar/syntax_internal.h"

/* Design notes.
 *
 * Lark's notation without its lexer: a terminal is a rule like any other, but that what
 * is ignored may stand behind it and not inside.  So two terminals of which one could be
 * longer are read in every way, where Lark takes the longest: a text that Lark takes is
 * taken here, too.  Priorities and aliases say nothing about which texts match.
 *
 * A rule's attributes are llguidance's, name[capture, temperature=0.5, max_tokens=9]: the
 * first two are for who reads the text.  Tokens are counted for the whole text only. */

typedef struct lark {
    cohort_syntax syntax;
    bool is_terminal;     /* what is read */
    uint32_t ignored;     /* the rule of what may stand between terminals; no name */
    uint32_t ignore_body; /* and what it is */
    uint32_t first_rule;
    uint32_t whole;   /* the rule that is all of the first rule, or of start; no name */
    uint32_t limited; /* a rule of so many tokens; no name */
    int32_t max_tokens;
    size_t limited_at;
    uint32_t
        root; /* of the builder, ahead of those of schemas; no name: there are none */
} lark;

static bool is_name_byte(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           c == '_';
}

static void skip_spaces(cohort_syntax *self) {
    while (self->at < self->size &&
           (self->text[self->at] == ' ' || self->text[self->at] == '\t'))
        self->at++;
}

/* White space, line ends and comments. */
static void skip(cohort_syntax *self) {
    for (; self->at < self->size; self->at++) {
        if (self->text[self->at] == '#' || cohort_syntax_peek(self, "//"))
            while (self->at < self->size && self->text[self->at] != '\n')
                self->at++;
        if (self->at >= self->size || !memchr(" \t\r\n", self->text[self->at], 4)) break;
    }
}

static size_t name_size(const cohort_syntax *self) {
    size_t size = 0;
    if (self->at < self->size && self->text[self->at] >= '0' &&
        self->text[self->at] <= '9')
        return 0;
    while (self->at + size < self->size && is_name_byte(self->text[self->at + size]))
        size++;
    return size;
}

static bool is_terminal_name(const char *name, size_t size) {
    size_t i = 0;
    while (i < size && name[i] == '_')
        i++;
    return i < size && name[i] >= 'A' && name[i] <= 'Z';
}

/* At the beginning of a definition or directive?  Then the one before has ended. */
static bool is_definition(const cohort_syntax *self) {
    cohort_syntax ahead = *self;
    if (cohort_syntax_peek(self, "%")) return !cohort_syntax_peek(self, "%json");
    while (cohort_syntax_take(&ahead, "?") || cohort_syntax_take(&ahead, "!"))
        continue;
    size_t size = name_size(&ahead);
    if (!size) return false;
    ahead.at += size;
    if (cohort_syntax_take(&ahead, ".")) {
        cohort_syntax_take(&ahead, "-");
        while (ahead.at < ahead.size && ahead.text[ahead.at] >= '0' &&
               ahead.text[ahead.at] <= '9')
            ahead.at++;
    }
    if (cohort_syntax_take(&ahead, "[")) { /* attributes */
        while (ahead.at < ahead.size && !memchr("]\n", ahead.text[ahead.at], 2))
            ahead.at++;
        if (!cohort_syntax_take(&ahead, "]")) return false;
    }
    skip_spaces(&ahead);
    if (!cohort_syntax_take(&ahead, "{")) return cohort_syntax_peek(&ahead, ":");
    skip_spaces(&ahead); /* a template, or how often */
    return ahead.at < ahead.size && !memchr("0123456789,", ahead.text[ahead.at], 11);
}

/* ---- terminals --------------------------------------------------------------------- */

static cohort_expr read_regex(cohort_syntax *self, size_t at, const char *pattern,
                              size_t size, const cohort_regex_options *options) {
    char words[240];
    if (self->builder->status < 0) return COHORT_EXPR_NEVER;
    cohort_expr expr = cohort_regex_parse(self->builder, pattern, size, options);
    if (self->builder->status != COHORT_E_INVALID) return expr;
    /* The same with the place. */
    snprintf(words, sizeof words, "%s", cohort_last_error()->message);
    self->builder->status = COHORT_OK;
    cohort_syntax_refuse(self, at, "%s", words);
    return COHORT_EXPR_NEVER;
}

/* Behind the slash. */
static cohort_expr parse_regex(cohort_syntax *self) {
    cohort_regex_options options = {.name = "regex"};
    size_t begin = self->at, end = begin;
    while (end < self->size && self->text[end] != '/' && self->text[end] != '\n')
        end += self->text[end] == '\\' ? 2 : 1;
    if (end >= self->size || self->text[end] != '/') {
        cohort_syntax_refuse(self, begin - 1, "a / without its closing /");
        return COHORT_EXPR_NEVER;
    }
    for (self->at = end + 1; self->at < self->size && is_name_byte(self->text[self->at]);
         self->at++) {
        char flag = self->text[self->at];
        options.ignores_case |= flag == 'i';
        options.dot_is_all |= flag == 's';
        if (!memchr("isul", flag, 4))
            cohort_syntax_refuse(self, self->at, "flag '%c' of a regex is not supported",
                                 flag);
    }
    return read_regex(self, begin - 1, self->text + begin, end - begin, &options);
}

static bool take_one_character(cohort_syntax *self, uint32_t *out_code) {
    if (!cohort_syntax_take(self, "\"") || self->at >= self->size ||
        cohort_syntax_peek(self, "\"") || cohort_syntax_peek(self, "\n"))
        return false;
    *out_code = cohort_syntax_take(self, "\\") ? cohort_syntax_escape(self)
                                               : cohort_syntax_code(self);
    return cohort_syntax_take(self, "\"");
}

/* "a".."z" */
static bool take_range(cohort_syntax *self, cohort_expr *out_expr) {
    cohort_syntax ahead = *self;
    uint32_t first, last;
    if (!take_one_character(&ahead, &first)) return false;
    skip_spaces(&ahead);
    if (!cohort_syntax_take(&ahead, "..")) return false;
    skip_spaces(&ahead);
    if (!take_one_character(&ahead, &last) || last < first) {
        cohort_syntax_refuse(self, self->at,
                             "a range must be of two characters, \"a\"..\"z\"");
        return false;
    }
    cohort_code_set set = {0};
    cohort_code_set_add(self->builder, &set, first, last);
    *out_expr = cohort_expr_codes(self->builder, &set, false);
    cohort_code_set_deinit(&set);
    self->at = ahead.at;
    return true;
}

static cohort_expr parse_string(cohort_syntax *self) {
    size_t end = self->at + 1;
    while (end < self->size && self->text[end] != '"' && self->text[end] != '\n')
        end += self->text[end] == '\\' ? 2 : 1;
    bool ignores_case = end + 1 < self->size && self->text[end + 1] == 'i';
    self->at++;
    cohort_expr expr = cohort_syntax_string(self, ignores_case);
    if (ignores_case) cohort_syntax_take(self, "i");
    return expr;
}

/* ---- expansions -------------------------------------------------------------------- */

static uint32_t parse_alternatives(lark *self);

static uint32_t parse_group(lark *self, const char *closing) {
    cohort_syntax *syntax = &self->syntax;
    size_t begin = syntax->at - 1;
    if (++syntax->depth > COHORT_GRAMMAR_MAX_NESTING)
        cohort_syntax_refuse(syntax, begin, "groups nest deeper than %d",
                             COHORT_GRAMMAR_MAX_NESTING);
    if (syntax->builder->status < 0) return COHORT_SYNTAX_NONE;
    uint32_t node = parse_alternatives(self);
    syntax->depth--;
    if (!cohort_syntax_take(syntax, closing))
        cohort_syntax_refuse(syntax, begin, "a group without its %s", closing);
    if (*closing == ']') node = cohort_syntax_repeat(syntax, node, 0, 1);
    return node;
}

/* What is ignored may stand behind a terminal, but inside another. */
static uint32_t with_ignored(lark *self, uint32_t terminal) {
    cohort_syntax *syntax = &self->syntax;
    if (self->is_terminal) return terminal;
    uint32_t both = cohort_syntax_group(syntax, COHORT_SYNTAX_SEQUENCE);
    uint32_t ignored = cohort_syntax_name(syntax, self->ignored);
    cohort_syntax_append(syntax, both, terminal);
    cohort_syntax_append(syntax, both,
                         cohort_syntax_repeat(syntax, ignored, 0, COHORT_UNBOUNDED));
    return both;
}

static uint32_t parse_named(lark *self, size_t size) {
    cohort_syntax *syntax = &self->syntax;
    size_t begin = syntax->at;
    bool is_terminal = is_terminal_name(syntax->text + begin, size);
    if (self->is_terminal && !is_terminal)
        cohort_syntax_refuse(syntax, begin,
                             "a terminal cannot be made of the rule '%.*s'",
                             (int)(size < 60 ? size : 60), syntax->text + begin);
    syntax->at += size;
    uint32_t node = cohort_syntax_name(syntax, cohort_syntax_rule(syntax, begin, size));
    return is_terminal ? with_ignored(self, node) : node;
}

/* Behind %json: a schema.  The grammar's first rule is where a text begins. */
static uint32_t parse_schema(lark *self) {
    cohort_syntax *syntax = &self->syntax;
    cohort_builder *builder = syntax->builder;
    const char *end = NULL;
    skip(syntax);
    size_t at = syntax->at;
    cJSON *json =
        cJSON_ParseWithLengthOpts(syntax->text + at, syntax->size - at, &end, 0);
    if (!cJSON_IsObject(json)) cohort_syntax_refuse(syntax, at, "%%json {...} is wanted");
    if (self->is_terminal)
        cohort_syntax_refuse(syntax, at, "%%json in a terminal is not supported");
    cJSON_Delete(json);
    if (builder->status < 0) return COHORT_SYNTAX_NONE;
    if (self->root == COHORT_SYNTAX_NONE) self->root = cohort_rule_reserve(builder);
    syntax->at = (size_t)(end - syntax->text);
    uint32_t rule = cohort_schema_compile(builder, syntax->text + at, syntax->at - at);
    return with_ignored(self,
                        cohort_syntax_leaf(syntax, cohort_expr_call(builder, rule)));
}

static uint32_t parse_atom(lark *self) {
    cohort_syntax *syntax = &self->syntax;
    cohort_expr expr;
    size_t at = syntax->at, size = name_size(syntax);
    if (size) return parse_named(self, size);
    if (cohort_syntax_take(syntax, "%json")) return parse_schema(self);
    if (cohort_syntax_take(syntax, "(")) return parse_group(self, ")");
    if (cohort_syntax_take(syntax, "[")) return parse_group(self, "]");
    if (cohort_syntax_take(syntax, "/"))
        return with_ignored(self, cohort_syntax_leaf(syntax, parse_regex(syntax)));
    if (cohort_syntax_peek(syntax, "\"")) {
        if (!take_range(syntax, &expr)) expr = parse_string(syntax);
        return with_ignored(self, cohort_syntax_leaf(syntax, expr));
    }
    cohort_syntax_code(syntax);
    cohort_syntax_refuse(syntax, at, "'%.*s' means nothing here", (int)(syntax->at - at),
                         syntax->text + at);
    return COHORT_SYNTAX_NONE;
}

/* ~ n or ~ n..m, behind the ~ */
static void take_times(cohort_syntax *self, int32_t *least, int32_t *most) {
    size_t begin = self->at;
    skip_spaces(self);
    bool has_number = cohort_syntax_number(self, least);
    *most = *least;
    skip_spaces(self);
    if (cohort_syntax_take(self, "..")) {
        skip_spaces(self);
        has_number &= cohort_syntax_number(self, most);
    }
    if (!has_number || *most < *least)
        cohort_syntax_refuse(self, begin, "~n or ~n..m is wanted here");
}

static uint32_t parse_piece(lark *self) {
    cohort_syntax *syntax = &self->syntax;
    uint32_t node = parse_atom(self);
    for (int i = 0; syntax->builder->status >= 0; i++) {
        int32_t least = 0, most = COHORT_UNBOUNDED;
        skip_spaces(syntax);
        size_t at = syntax->at;
        if (cohort_syntax_take(syntax, "+"))
            least = 1;
        else if (cohort_syntax_take(syntax, "?"))
            most = 1;
        else if (cohort_syntax_take(syntax, "~"))
            take_times(syntax, &least, &most);
        else if (cohort_syntax_take(syntax, "{")) /* as llguidance takes it */
            cohort_syntax_counts(syntax, &least, &most);
        else if (!cohort_syntax_take(syntax, "*"))
            break;
        if (i == COHORT_GRAMMAR_MAX_NESTING)
            cohort_syntax_refuse(syntax, at, "repetitions nest deeper than %d",
                                 COHORT_GRAMMAR_MAX_NESTING);
        node = cohort_syntax_repeat(syntax, node, least, most);
    }
    return node;
}

static void skip_alias(cohort_syntax *self) {
    size_t at = self->at;
    if (!cohort_syntax_take(self, "->")) return;
    skip_spaces(self);
    size_t size = name_size(self);
    if (!size) cohort_syntax_refuse(self, at, "a name is wanted behind ->");
    self->at += size;
    skip(self);
}

static uint32_t parse_sequence(lark *self) {
    cohort_syntax *syntax = &self->syntax;
    uint32_t sequence = cohort_syntax_group(syntax, COHORT_SYNTAX_SEQUENCE);
    for (;;) {
        skip(syntax);
        skip_alias(syntax);
        if (syntax->builder->status < 0 || syntax->at >= syntax->size ||
            cohort_syntax_peek(syntax, "|") || cohort_syntax_peek(syntax, ")") ||
            cohort_syntax_peek(syntax, "]") || is_definition(syntax))
            return sequence;
        cohort_syntax_append(syntax, sequence, parse_piece(self));
    }
}

static uint32_t parse_alternatives(lark *self) {
    uint32_t either = cohort_syntax_group(&self->syntax, COHORT_SYNTAX_EITHER);
    do
        cohort_syntax_append(&self->syntax, either, parse_sequence(self));
    while (self->syntax.builder->status >= 0 && cohort_syntax_take(&self->syntax, "|"));
    return either;
}

/* ---- definitions ------------------------------------------------------------------- */

static void refuse_rest(cohort_syntax *self) {
    if (cohort_syntax_peek(self, ")") || cohort_syntax_peek(self, "]"))
        cohort_syntax_refuse(self, self->at, "a %c without its beginning",
                             self->text[self->at]);
}

/* Behind an attribute's name: ="text" or =number. */
static void skip_value(cohort_syntax *self) {
    skip_spaces(self);
    if (!cohort_syntax_take(self, "=")) return;
    skip_spaces(self);
    if (cohort_syntax_take(self, "\""))
        cohort_syntax_string(self, false);
    else
        while (self->at < self->size &&
               memchr("0123456789.eE+-", self->text[self->at], 15))
            self->at++;
}

static void parse_max_tokens(lark *self, uint32_t rule, size_t at) {
    cohort_syntax *syntax = &self->syntax;
    skip_spaces(syntax);
    bool has_value = cohort_syntax_take(syntax, "=");
    skip_spaces(syntax);
    int64_t wanted = 0; /* of more digits than any text has tokens: no limit */
    size_t begin = syntax->at;
    for (; syntax->at < syntax->size && syntax->text[syntax->at] >= '0' &&
           syntax->text[syntax->at] <= '9';
         syntax->at++)
        if (wanted <= INT32_MAX) wanted = wanted * 10 + (syntax->text[syntax->at] - '0');
    self->max_tokens = (int32_t)(wanted < INT32_MAX ? wanted : INT32_MAX);
    if (!has_value || begin == syntax->at || self->max_tokens < 1)
        cohort_syntax_refuse(syntax, at, "max_tokens=n is wanted here, n from 1 on");
    if (self->limited != COHORT_SYNTAX_NONE)
        cohort_syntax_refuse(syntax, at, "max_tokens is supported for one rule");
    self->limited = rule;
    self->limited_at = at;
}

/* [capture, temperature=0.5, max_tokens=9] behind a rule's name. */
static void parse_attributes(lark *self, uint32_t rule) {
    cohort_syntax *syntax = &self->syntax;
    if (!cohort_syntax_take(syntax, "[")) return;
    do {
        skip_spaces(syntax);
        size_t at = syntax->at, size = name_size(syntax);
        const char *name = syntax->text + at;
        syntax->at += size;
        if (size == 10 && !memcmp(name, "max_tokens", 10))
            parse_max_tokens(self, rule, at);
        else if ((size == 7 && !memcmp(name, "capture", 7)) ||
                 (size == 11 && !memcmp(name, "temperature", 11)))
            skip_value(syntax);
        else
            cohort_syntax_refuse(syntax, at,
                                 "attribute '%.*s' of a rule is not supported",
                                 (int)(size < 60 ? size : 60), name);
        skip_spaces(syntax);
    } while (syntax->builder->status >= 0 && cohort_syntax_take(syntax, ","));
    if (!cohort_syntax_take(syntax, "]"))
        cohort_syntax_refuse(syntax, syntax->at, "attributes without their ]");
}

/* text[begin, end) is a rule's name and nothing else: that rule. */
static uint32_t only_name(const cohort_syntax *syntax, size_t begin, size_t end) {
    cohort_syntax at = *syntax;
    at.at = begin;
    skip_spaces(&at);
    size_t size = name_size(&at);
    char name[128];
    if (!size || size >= sizeof name) return COHORT_SYNTAX_NONE;
    memcpy(name, at.text + at.at, size);
    name[size] = '\0';
    at.at += size;
    skip(&at);
    return at.at >= end ? cohort_syntax_find(syntax, name) : COHORT_SYNTAX_NONE;
}

static void parse_rule(lark *self) {
    cohort_syntax *syntax = &self->syntax;
    if (!is_definition(syntax)) {
        cohort_syntax_refuse(syntax, syntax->at, "a rule (name: ...) is wanted here");
        return;
    }
    while (cohort_syntax_take(syntax, "?") || cohort_syntax_take(syntax, "!"))
        continue;
    size_t begin = syntax->at, size = name_size(syntax);
    uint32_t rule = cohort_syntax_rule(syntax, begin, size);
    self->is_terminal = is_terminal_name(syntax->text + begin, size);
    syntax->at += size;
    while (syntax->at < syntax->size && !memchr(":{[", syntax->text[syntax->at], 3))
        syntax->at++; /* a priority */
    parse_attributes(self, rule);
    skip_spaces(syntax);
    if (!cohort_syntax_take(syntax, ":"))
        cohort_syntax_refuse(syntax, syntax->at, "templates are not supported");
    size_t body_at = syntax->at;
    uint32_t body = parse_alternatives(self);
    refuse_rest(syntax);
    bool is_first = !self->is_terminal && self->first_rule == COHORT_SYNTAX_NONE;
    if (is_first) self->first_rule = rule;
    if (is_first || (size == 5 && !memcmp(syntax->text + begin, "start", 5)))
        self->whole = only_name(syntax, body_at, syntax->at);
    cohort_syntax_define(syntax, rule, body, begin);
}

#define EXPONENT "[eE][+-]?[0-9]+"
#define DECIMAL  "([0-9]+\\.[0-9]*|\\.[0-9]+)"
#define FLOAT    "([0-9]+" EXPONENT "|" DECIMAL "(" EXPONENT ")?)"

/* What %import common offers. */
static const struct {
    const char *name, *pattern;
} common[] = {
    {"DIGIT", "[0-9]"},
    {"HEXDIGIT", "[0-9a-fA-F]"},
    {"INT", "[0-9]+"},
    {"SIGNED_INT", "[+-]?[0-9]+"},
    {"DECIMAL", DECIMAL},
    {"FLOAT", FLOAT},
    {"SIGNED_FLOAT", "[+-]?" FLOAT},
    {"NUMBER", "(" FLOAT "|[0-9]+)"},
    {"SIGNED_NUMBER", "[+-]?(" FLOAT "|[0-9]+)"},
    {"ESCAPED_STRING", "\"([^\"\\\\\\n]|\\\\[^\\n])*\""},
    {"LCASE_LETTER", "[a-z]"},
    {"UCASE_LETTER", "[A-Z]"},
    {"LETTER", "[a-zA-Z]"},
    {"WORD", "[a-zA-Z]+"},
    {"CNAME", "[_a-zA-Z][_a-zA-Z0-9]*"},
    {"WS_INLINE", "[ \\t]+"},
    {"WS", "[ \\t\\f\\r\\n]+"},
    {"CR", "\\r"},
    {"LF", "\\n"},
    {"NEWLINE", "(\\r?\\n)+"},
    {"SH_COMMENT", "#[^\\n]*"},
    {"CPP_COMMENT", "//[^\\n]*"},
    {"C_COMMENT", "/\\*([^*]|\\*+[^*/])*\\*+/"},
    {"SQL_COMMENT", "--[^\\n]*"},
};

/* text[at, at + size) of common, by the name text[as, as + as_size). */
static void import_one(cohort_syntax *self, size_t at, size_t size, size_t as,
                       size_t as_size) {
    static const cohort_regex_options options = {.name = "regex"};
    const char *pattern = NULL;
    for (size_t i = 0; i < sizeof common / sizeof *common; i++)
        if (strlen(common[i].name) == size &&
            !memcmp(common[i].name, self->text + at, size))
            pattern = common[i].pattern;
    if (!pattern) {
        cohort_syntax_refuse(self, at, "no terminal of common is '%.*s'",
                             (int)(size < 60 ? size : 60), self->text + at);
        return;
    }
    uint32_t rule = cohort_syntax_rule(self, as, as_size);
    uint32_t body = cohort_syntax_group(self, COHORT_SYNTAX_EITHER);
    uint32_t sequence = cohort_syntax_group(self, COHORT_SYNTAX_SEQUENCE);
    cohort_expr expr = read_regex(self, at, pattern, strlen(pattern), &options);
    cohort_syntax_append(self, sequence, cohort_syntax_leaf(self, expr));
    cohort_syntax_append(self, body, sequence);
    cohort_syntax_define(self, rule, body, at);
}

/* Behind %import */
static void parse_import(cohort_syntax *self) {
    size_t begin = self->at;
    skip_spaces(self);
    if (!cohort_syntax_take(self, "common")) {
        cohort_syntax_refuse(self, begin,
                             "%%import of anything but common is not "
                             "supported");
        return;
    }
    skip_spaces(self);
    bool is_list = cohort_syntax_take(self, "(");
    if (!is_list && !cohort_syntax_take(self, "."))
        cohort_syntax_refuse(self, self->at, ".NAME or (NAME, ...) is wanted here");
    while (self->builder->status >= 0) {
        skip_spaces(self);
        size_t at = self->at, size = name_size(self), as = at, as_size = size;
        self->at += size;
        skip_spaces(self);
        if (!is_list && cohort_syntax_take(self, "->")) {
            skip_spaces(self);
            as = self->at;
            as_size = name_size(self);
            self->at += as_size;
        }
        if (!size || !as_size)
            cohort_syntax_refuse(self, self->at, "a name is wanted here");
        if (self->builder->status >= 0) import_one(self, at, size, as, as_size);
        if (!is_list || !cohort_syntax_take(self, ",")) break;
    }
    if (is_list && !cohort_syntax_take(self, ")"))
        cohort_syntax_refuse(self, self->at, "a ( without its )");
}

static void parse_directive(lark *self) {
    cohort_syntax *syntax = &self->syntax;
    size_t begin = syntax->at;
    if (cohort_syntax_take(syntax, "%import")) {
        parse_import(syntax);
    } else if (cohort_syntax_take(syntax, "%ignore")) {
        uint32_t sequence = cohort_syntax_group(syntax, COHORT_SYNTAX_SEQUENCE);
        self->is_terminal = true;
        cohort_syntax_append(syntax, sequence, parse_alternatives(self));
        cohort_syntax_append(syntax, self->ignore_body, sequence);
        refuse_rest(syntax);
    } else if (cohort_syntax_take(syntax, "%llguidance")) {
        while (syntax->at < syntax->size && !cohort_syntax_peek(syntax, "\n"))
            syntax->at++;
    } else {
        syntax->at++;
        size_t size = name_size(syntax);
        cohort_syntax_refuse(syntax, begin, "%%%.*s is not supported",
                             (int)(size < 60 ? size : 60), syntax->text + syntax->at);
    }
}

/* What is ignored may come first. */
static uint32_t compile(lark *self, uint32_t start) {
    cohort_syntax *syntax = &self->syntax;
    size_t end = syntax->size;
    cohort_syntax_define(syntax, self->ignored, self->ignore_body, end);
    self->is_terminal = false;
    uint32_t both = with_ignored(self, cohort_syntax_leaf(syntax, COHORT_EXPR_EMPTY));
    cohort_syntax_append(syntax, both, cohort_syntax_name(syntax, start));
    return syntax->builder->status < 0 ? 0 : cohort_syntax_compile(syntax, both);
}

uint32_t cohort_lark_compile(cohort_builder *builder, const char *text, size_t size) {
    lark self = {.first_rule = COHORT_SYNTAX_NONE,
                 .whole = COHORT_SYNTAX_NONE,
                 .limited = COHORT_SYNTAX_NONE,
                 .root = COHORT_SYNTAX_NONE};
    cohort_syntax *syntax = &self.syntax;
    uint32_t made = 0;
    cohort_syntax_init(syntax, builder, text, size);
    self.ignored = cohort_syntax_rule(syntax, 0, 0);
    self.ignore_body = cohort_syntax_group(syntax, COHORT_SYNTAX_EITHER);
    for (skip(syntax); syntax->at < size && builder->status >= 0; skip(syntax)) {
        if (cohort_syntax_peek(syntax, "%"))
            parse_directive(&self);
        else
            parse_rule(&self);
    }
    uint32_t start = builder->status < 0 ? 0 : cohort_syntax_find(syntax, "start");
    if (start == COHORT_SYNTAX_NONE) start = self.first_rule;
    if (start == COHORT_SYNTAX_NONE)
        cohort_syntax_refuse(syntax, size, "there is no rule to begin at");
    if (self.limited != COHORT_SYNTAX_NONE && self.limited != start &&
        self.limited != self.whole)
        cohort_syntax_refuse(syntax, self.limited_at,
                             "max_tokens of a part of the text is not supported");
    builder->max_tokens = self.max_tokens;
    if (builder->status >= 0) made = compile(&self, start);
    if (self.root != COHORT_SYNTAX_NONE) {
        cohort_rule_make_expr(builder, self.root, cohort_expr_call(builder, made));
        made = self.root;
    }
    cohort_syntax_deinit(syntax);
    return made;
}
