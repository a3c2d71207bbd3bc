/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <utf8proc.h>

#include "base/fail.h"
#include "grammar/grammar_internal.h"

/* Design notes.
 *
 * The regular part of what Python and ECMAScript have in common.  Where they differ in
 * what a class holds (\d of other scripts, \w of letters with accents), a class and its
 * complement are both taken in the narrower sense, so that what we write matches in
 * either; inside a negative look-ahead it is the wider one.  A look-ahead at the
 * outermost level is the product of its pattern with all that is still to come; \b and
 * anchors in odd places are marks, checked against the characters beside them once the
 * whole is an automaton (product.c), which then forgets them.  So are look-aheads inside
 * groups, where what follows may be anything: each is a mark of its own, and texts where
 * what comes behind it is not as it says are taken out.  What no
 * automaton can do (references back), and looking behind, is refused by name. */

/* Look-aheads inside groups; equal ones are one. */
struct aheads {
    struct ahead {
        size_t begin, size; /* in the pattern */
        unsigned flags;
        cohort_expr expr;
        bool is_negative;
    } items[COHORT_MAX_MARKED_AHEADS];
    size_t count;
};

typedef struct parser {
    cohort_builder *builder;
    const char *text;
    size_t size, at;
    const cohort_regex_options *options;
    int depth;   /* of groups, from the pattern's or the look-ahead's top */
    int nesting; /* of all */
    unsigned flags;
    bool is_wide;  /* in a negative look-ahead: what is here will be left out */
    bool is_ahead; /* in any */
    bool is_first; /* nothing but what has no width was before */
    bool has_marks;
    struct aheads *aheads; /* inside groups */
} parser;

enum { IGNORE_CASE = 1, DOT_IS_ALL = 2, MULTILINE = 4 };

enum { MAX_REPEAT = 10000, MAX_PATTERN_BYTES = 1 << 16 };

static cohort_expr parse_alternatives(parser *self);

static cohort_expr refuse(parser *self, const char *what) {
    COHORT_BUILDER_FAIL(self->builder, COHORT_E_INVALID, "%s '%.*s': %s at byte %zu",
                        self->options->name, self->size < 60 ? (int)self->size : 60,
                        self->text, what, self->at);
    self->at = self->size;
    return COHORT_EXPR_NEVER;
}

static bool peek(const parser *self, char byte) {
    return self->at < self->size && self->text[self->at] == byte;
}

static bool take(parser *self, const char *token) {
    size_t size = strlen(token);
    if (self->size - self->at < size || memcmp(self->text + self->at, token, size) != 0)
        return false;
    self->at += size;
    return true;
}

static uint32_t take_code(parser *self) {
    utf8proc_int32_t code;
    utf8proc_ssize_t size =
        utf8proc_iterate((const utf8proc_uint8_t *)self->text + self->at,
                         (utf8proc_ssize_t)(self->size - self->at), &code);
    if (size <= 0) {
        refuse(self, "bytes that are not UTF-8");
        return 0;
    }
    self->at += (size_t)size;
    return (uint32_t)code;
}

/* The other case of letters, where one code stands for one. */
static void add_cases(parser *self, cohort_code_set *set) {
    enum { LAST_CASED = 0x1ffff };
    size_t count = set->count;
    for (size_t i = 0; i < count && self->builder->status >= 0; i++) {
        const struct code_range range = set->items[i];
        uint32_t end = range.last < LAST_CASED ? range.last : LAST_CASED;
        if (end >= range.first)
            cohort_builder_work(self->builder, (end - range.first) / 4 + 1);
        for (uint32_t code = range.first; code <= range.last && code <= LAST_CASED;
             code++) {
            uint32_t low = (uint32_t)utf8proc_tolower((utf8proc_int32_t)code);
            uint32_t high = (uint32_t)utf8proc_toupper((utf8proc_int32_t)code);
            if (low != code) cohort_code_set_add(self->builder, set, low, low);
            if (high != code) cohort_code_set_add(self->builder, set, high, high);
            /* Python has two more of these. */
            if (self->is_wide && low == 'k')
                cohort_code_set_add(self->builder, set, 0x212a, 0x212a);
            if (self->is_wide && low == 's')
                cohort_code_set_add(self->builder, set, 0x17f, 0x17f);
        }
    }
}

static cohort_expr codes(parser *self, cohort_code_set *set) {
    cohort_expr expr = cohort_expr_codes(self->builder, set, self->options->in_json);
    cohort_code_set_deinit(set);
    return expr;
}

static cohort_expr any_text(parser *self) {
    cohort_code_set all = {0};
    cohort_code_set_add(self->builder, &all, 0, 0x10ffff);
    return cohort_expr_repeat(self->builder, codes(self, &all), 0, COHORT_UNBOUNDED);
}

static cohort_expr line_end(parser *self) {
    cohort_code_set set = {0};
    cohort_code_set_add(self->builder, &set, '\n', '\n');
    return codes(self, &set);
}

/* ---- classes ----------------------------------------------------------------------- */

/* \d and the like; false where the letter names no class.  is_inverted: what is added
 * here will be left out, so that the wider sense is the narrower one. */
static bool add_class(parser *self, char letter, bool is_inverted, cohort_code_set *set) {
    bool is_complement = letter >= 'A' && letter <= 'Z';
    char name = is_complement ? (char)(letter - 'A' + 'a') : letter;
    cohort_code_set one = {0};
    if (name != 'w' && name != 'd' && name != 's') return false;
    if (is_complement == is_inverted)
        cohort_regex_add_narrow(self->builder, name, &one);
    else
        cohort_regex_add_outside(self->builder, name, &one);
    if (is_inverted) cohort_code_set_invert(self->builder, &one);
    for (size_t i = 0; i < one.count; i++)
        cohort_code_set_add(self->builder, set, one.items[i].first, one.items[i].last);
    cohort_code_set_deinit(&one);
    return true;
}

/* Names of Unicode's general categories, the long ones of groups too. */
static const char *const categories[] = {"Cn", "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc",
                                         "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe",
                                         "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So", "Zs",
                                         "Zl", "Zp", "Cc", "Cf", "Cs", "Co"};

static bool is_named(const char *category, const char *name) {
    static const char *const names[] = {"Letter", "Mark",      "Number", "Punctuation",
                                        "Symbol", "Separator", "Other"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(name, names[i]))
            return category[0] == (strcmp(name, "Other") ? name[0] : 'C');
    return !strcmp(name, "Any") || !strcmp(category, name) ||
           (strlen(name) == 1 && category[0] == name[0]);
}

/* \p{L}, behind the p; all of them: a million codes are looked at. */
static void add_category(parser *self, bool is_complement, cohort_code_set *set) {
    char name[32] = "";
    bool is_in[sizeof categories / sizeof *categories], is_any = false;
    size_t n = 0;
    if (!take(self, "{")) {
        refuse(self, "\\p without its {name}");
        return;
    }
    take(self, "gc=");
    take(self, "General_Category=");
    while (self->at < self->size && !peek(self, '}') && n + 1 < sizeof name)
        name[n++] = self->text[self->at++];
    for (size_t i = 0; i < sizeof categories / sizeof *categories; i++)
        is_any = (is_in[i] = is_named(categories[i], name)) || is_any;
    if (!take(self, "}") || !is_any) {
        refuse(self, "a \\p{class} that is no general category is not supported");
        return;
    }
    cohort_builder_work(self->builder, 0x110000);
    for (uint32_t code = 0, first; code <= 0x10ffff && self->builder->status >= 0;
         code++) {
        if (is_in[utf8proc_category((utf8proc_int32_t)code)] == is_complement) continue;
        first = code;
        while (code < 0x10ffff &&
               is_in[utf8proc_category((utf8proc_int32_t)code + 1)] != is_complement)
            code++;
        cohort_code_set_add(self->builder, set, first, code);
    }
}

/* So many hexadecimal digits, as a number. */
static uint32_t take_hex(parser *self, int count) {
    uint32_t value = 0;
    for (int i = 0; i < count; i++, self->at++) {
        uint32_t digit =
            cohort_hex_digit(self->at < self->size ? self->text[self->at] : '\0');
        if (digit == 16) {
            refuse(self, "hexadecimal digits are missing");
            return 0;
        }
        value = value * 16 + digit;
    }
    return value;
}

/* Behind a backslash: a class into set, or one code. */
static bool take_escape(parser *self, bool is_inverted, cohort_code_set *set,
                        uint32_t *out_code) {
    static const char names[] = "n\nr\rt\tf\fv\v";
    *out_code = 0;
    if (self->at >= self->size) {
        refuse(self, "a backslash at the end");
        return false;
    }
    char letter = self->text[self->at];
    if (add_class(self, letter, is_inverted, set)) {
        self->at++;
        return false;
    }
    if (letter == 'p' || letter == 'P') {
        self->at++;
        add_category(self, letter == 'P', set);
        return false;
    }
    for (const char *name = names; *name; name += 2)
        if (*name == letter) {
            self->at++;
            *out_code = (uint32_t)name[1];
            return true;
        }
    bool is_letter = (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z');
    bool is_digit = letter >= '0' && letter <= '9';
    if (take(self, "x")) {
        *out_code = take_hex(self, 2);
    } else if (take(self, "u")) {
        *out_code = take_hex(self, 4);
        if (*out_code >= 0xd800 && *out_code <= 0xdfff)
            refuse(self, "half of a surrogate pair");
    } else if (letter == '0' && take(self, "0")) {
        *out_code = 0;
    } else if (is_digit || letter == 'k') {
        refuse(self, "a reference back is not supported");
    } else if (is_letter) {
        char what[] = "\\? is not supported";
        what[1] = letter;
        refuse(self, what);
    } else {
        *out_code = take_code(self);
    }
    return true;
}

/* One member of a class: a code, or a class of its own (false). */
static bool take_member(parser *self, bool is_inverted, cohort_code_set *set,
                        uint32_t *out_code) {
    if (take(self, "\\b")) {
        *out_code = '\b';
        return true;
    }
    if (take(self, "\\")) return take_escape(self, is_inverted, set, out_code);
    if (peek(self, '[') && self->size - self->at > 1 && self->text[self->at + 1] == ':') {
        refuse(self, "[:classes:] are not supported");
        return false;
    }
    *out_code = take_code(self);
    return true;
}

static cohort_expr parse_class(parser *self) {
    cohort_code_set set = {0};
    bool invert = take(self, "^");
    bool is_first = true;
    while (self->at < self->size && (is_first || !peek(self, ']'))) {
        uint32_t first, last;
        if (is_first && peek(self, ']')) {
            refuse(self, "an empty class");
            break;
        }
        is_first = false;
        if (!take_member(self, invert != self->is_wide, &set, &first)) continue;
        last = first;
        if (peek(self, '-') && self->size - self->at > 1 &&
            self->text[self->at + 1] != ']') {
            self->at++;
            cohort_code_set ignored = {0};
            bool is_code = take_member(self, invert != self->is_wide, &ignored, &last);
            cohort_code_set_deinit(&ignored);
            if (!is_code || last < first) {
                refuse(self, "a range that is none");
                break;
            }
        }
        cohort_code_set_add(self->builder, &set, first, last);
    }
    if (!take(self, "]") && self->builder->status >= 0) refuse(self, "a [ without its ]");
    if (self->flags & IGNORE_CASE) add_cases(self, &set);
    if (invert) cohort_code_set_invert(self->builder, &set);
    return codes(self, &set);
}

/* ---- parts ------------------------------------------------------------------------- */

/* Marks stand for what has no width; no text has these bytes. */
static cohort_expr mark(parser *self, uint8_t byte) {
    if (self->is_ahead)
        return refuse(self, "\\b, or an anchor inside, in look-ahead is not supported");
    self->has_marks = true;
    return cohort_expr_range(self->builder, byte, byte);
}

static bool take_mark(parser *self, cohort_expr *out) {
    static const struct {
        const char *text;
        uint8_t byte;
    } marks[] = {{"\\b", COHORT_MARK_BOUNDARY}, {"\\B", COHORT_MARK_INSIDE},
                 {"\\A", COHORT_MARK_BEGIN},    {"^", COHORT_MARK_BEGIN},
                 {"\\Z", COHORT_MARK_END},      {"\\z", COHORT_MARK_END},
                 {"$", COHORT_MARK_END}};
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
        if (take(self, marks[i].text)) {
            *out = mark(self, marks[i].byte);
            return true;
        }
    return false;
}

/* Behind "(?": the letters of flags; false: these are none. */
static bool take_flags(parser *self) {
    static const char letters[] = "ismau";
    static const unsigned bits[] = {IGNORE_CASE, DOT_IS_ALL, MULTILINE, 0, 0};
    parser ahead = *self;
    if (!take(&ahead, "?")) return false;
    size_t begin = ahead.at;
    for (; ahead.at < ahead.size; ahead.at++) {
        const char *letter = memchr(letters, ahead.text[ahead.at], sizeof letters - 1);
        if (!letter) break;
        ahead.flags |= bits[letter - letters];
    }
    if (ahead.at == begin || (!peek(&ahead, ')') && !peek(&ahead, ':'))) return false;
    self->at = ahead.at;
    self->flags = ahead.flags;
    return true;
}

/* (?i) and the like, for all that follows. */
static bool take_flags_of_rest(parser *self) {
    parser ahead = *self;
    if (!take(&ahead, "(") || !take_flags(&ahead) || !take(&ahead, ")")) return false;
    self->at = ahead.at;
    self->flags = ahead.flags;
    return true;
}

static cohort_expr parse_ahead(parser *self, bool is_negative);

static cohort_expr mark_ahead(parser *self, bool is_negative) {
    struct aheads *aheads = self->aheads;
    size_t begin = self->at, i = 0;
    if (self->is_ahead)
        return refuse(self, "look-ahead inside a group of another is not supported");
    bool was_first = self->is_first;
    self->is_first = false; /* a group may come again: ^ here is none of the pattern's */
    cohort_expr expr = parse_ahead(self, is_negative);
    self->is_first = was_first;
    const struct ahead made = {begin, self->at - begin, self->flags, expr, is_negative};
    for (; i < aheads->count; i++) {
        const struct ahead *known = &aheads->items[i];
        if (known->size == made.size && known->flags == made.flags &&
            known->is_negative == is_negative &&
            !memcmp(self->text + known->begin, self->text + begin, made.size))
            break;
    }
    if (i == COHORT_MAX_MARKED_AHEADS)
        return refuse(self, "more than 4 look-aheads inside groups are not supported");
    if (i == aheads->count) aheads->items[aheads->count++] = made;
    uint8_t byte = (uint8_t)(COHORT_MARK_AHEAD + i);
    self->has_marks = true;
    return cohort_expr_range(self->builder, byte, byte);
}

static cohort_expr parse_group(parser *self) {
    bool is_negative = false;
    unsigned flags = self->flags;
    if (take_flags(self)) {
        /* For all that follows, where nothing is grouped. */
        if (take(self, ")")) return COHORT_EXPR_EMPTY;
        take(self, ":");
    } else if (take(self, "?:")) {
        /* no name */
    } else if (take(self, "?P=")) {
        return refuse(self, "a reference back is not supported");
    } else if (take(self, "?P<") ||
               (self->size - self->at > 2 &&
                memcmp(self->text + self->at, "?<", 2) == 0 &&
                self->text[self->at + 2] != '=' && self->text[self->at + 2] != '!' &&
                take(self, "?<"))) {
        while (self->at < self->size && !peek(self, '>'))
            self->at++;
        if (!take(self, ">")) return refuse(self, "a group's name without its end");
    } else if (take(self, "?=") || (is_negative = take(self, "?!"))) {
        return mark_ahead(self, is_negative);
    } else if (take(self, "?<")) {
        return refuse(self, "look-behind is not supported");
    } else if (peek(self, '?')) {
        return refuse(self, "this kind of group is not supported");
    }
    if (++self->nesting > COHORT_GRAMMAR_MAX_NESTING)
        return refuse(self, "groups nest too deep");
    self->depth++;
    cohort_expr expr = parse_alternatives(self);
    self->depth--;
    self->nesting--;
    self->flags = flags;
    if (!take(self, ")") && self->builder->status >= 0)
        return refuse(self, "a ( without its )");
    return expr;
}

static cohort_expr parse_atom(parser *self) {
    cohort_code_set set = {0};
    uint32_t code;
    if (take(self, "(")) return parse_group(self);
    if (take(self, "[")) return parse_class(self);
    if (take(self, ".")) {
        if (!(self->flags & DOT_IS_ALL))
            cohort_code_set_add(self->builder, &set, '\n', '\n');
        if (!(self->flags & DOT_IS_ALL) && !self->is_wide) {
            cohort_code_set_add(self->builder, &set, '\r', '\r');
            cohort_code_set_add(self->builder, &set, 0x2028, 0x2029);
        }
        cohort_code_set_invert(self->builder, &set);
        return codes(self, &set);
    }
    cohort_expr marked;
    if (take_mark(self, &marked)) return marked;
    if (peek(self, '*') || peek(self, '+') || peek(self, '?'))
        return refuse(self, "nothing to repeat");
    if (take(self, "\\")) {
        if (!take_escape(self, self->is_wide, &set, &code)) return codes(self, &set);
    } else {
        code = take_code(self);
    }
    cohort_code_set_add(self->builder, &set, code, code);
    if (self->flags & IGNORE_CASE) add_cases(self, &set);
    return codes(self, &set);
}

static bool take_number(parser *self, int32_t *out) {
    size_t begin = self->at;
    int64_t value = 0;
    for (; self->at < self->size && self->text[self->at] >= '0' &&
           self->text[self->at] <= '9';
         self->at++)
        value = value > MAX_REPEAT ? value : value * 10 + (self->text[self->at] - '0');
    *out = (int32_t)value;
    return self->at > begin;
}

/* {,3}: none to three of what is before it to Python, text to ECMAScript. */
static bool lacks_least(const parser *self) {
    parser ahead = *self;
    int32_t most;
    bool is_one = take(&ahead, "{,");
    take_number(&ahead, &most);
    return is_one && peek(&ahead, '}');
}

/* {2} {2,} {2,3}; what looks otherwise is text. */
static bool take_counts(parser *self, int32_t *least, int32_t *most) {
    size_t begin = self->at;
    bool is_one = take(self, "{") && take_number(self, least);
    *most = *least;
    if (is_one && take(self, ",") && !take_number(self, most)) *most = COHORT_UNBOUNDED;
    if (is_one && take(self, "}")) return true;
    self->at = begin;
    return false;
}

static cohort_expr parse_piece(parser *self) {
    if (lacks_least(self))
        return refuse(self, "'{,n}' is read in two ways (write '{0,n}' or '\\{,n}')");
    cohort_expr expr = parse_atom(self);
    int32_t least = 1, most = 1;
    if (take(self, "*")) {
        least = 0;
        most = COHORT_UNBOUNDED;
    } else if (take(self, "+")) {
        most = COHORT_UNBOUNDED;
    } else if (take(self, "?")) {
        least = 0;
    } else if (!take_counts(self, &least, &most)) {
        return expr;
    }
    if (least > MAX_REPEAT || most > MAX_REPEAT)
        return refuse(self, "a repetition of more than 10000");
    if (most != COHORT_UNBOUNDED && most < least)
        return refuse(self, "a repetition whose bounds are the wrong way round");
    take(self, "?"); /* lazy: the same texts */
    if (peek(self, '+')) return refuse(self, "possessive repetition is not supported");
    if (peek(self, '*') || peek(self, '?')) return refuse(self, "multiple repeat");
    return cohort_expr_repeat(self->builder, expr, least, most);
}

static bool at_end(const parser *self) {
    return self->at >= self->size || peek(self, '|') || peek(self, ')');
}

/* Only where it ends the whole pattern, or a branch of it. */
static bool at_last_anchor(const parser *self) {
    parser ahead = *self;
    if (self->depth > 0 ||
        !(take(&ahead, "$") || take(&ahead, "\\Z") || take(&ahead, "\\z")))
        return false;
    return ahead.at == ahead.size || peek(&ahead, '|') ||
           (self->is_ahead && peek(&ahead, ')'));
}

/* (?=X) or (?!X): X and anything; its branches begin here. */
static cohort_expr parse_ahead(parser *self, bool is_negative) {
    parser inner = *self;
    if (is_negative && self->flags & MULTILINE)
        return refuse(self, "(?m) beside a negative look-ahead is not supported");
    if (++inner.nesting > COHORT_GRAMMAR_MAX_NESTING)
        return refuse(self, "groups nest too deep");
    inner.depth = 0;
    inner.is_ahead = true;
    inner.is_wide = self->is_wide != is_negative;
    cohort_expr expr = parse_alternatives(&inner);
    self->at = inner.at;
    if (!take(self, ")") && self->builder->status >= 0)
        return refuse(self, "a ( without its )");
    return expr;
}

struct piece {
    cohort_expr expr;
    bool is_ahead, is_negative;
};

static struct piece take_piece(parser *self) {
    bool is_negative = false;
    if (self->depth == 0 && (take(self, "(?=") || (is_negative = take(self, "(?!")))) {
        cohort_expr ahead = parse_ahead(self, is_negative);
        /* What follows may have marks. */
        if (!self->is_ahead) ahead = cohort_expr_with_marks(self->builder, ahead);
        return (struct piece){ahead, true, is_negative};
    }
    size_t begin = self->at;
    struct piece piece = {.expr = parse_piece(self)};
    if (piece.expr != COHORT_EXPR_EMPTY || self->at == begin) self->is_first = false;
    return piece;
}

/* Pieces in a row, from the end on so that the expression leans to the right; a
 * look-ahead sees all that is behind it. */
static cohort_expr parse_pieces(parser *self) {
    struct piece pieces[64];
    size_t count = 0;
    while (!at_end(self) && count < sizeof pieces / sizeof *pieces &&
           self->builder->status >= 0 && !at_last_anchor(self))
        pieces[count++] = take_piece(self);
    bool is_full = count == sizeof pieces / sizeof *pieces;
    bool goes_on = self->depth == 0 && (self->options->is_search || self->is_ahead);
    cohort_expr expr = COHORT_EXPR_EMPTY;
    if (is_full && self->builder->status >= 0)
        expr = parse_pieces(self);
    else if (goes_on && !at_last_anchor(self) && self->builder->status >= 0)
        expr = any_text(self);
    else if (self->is_wide &&
             at_last_anchor(self)) /* to Python a line's end may follow */
        expr = cohort_expr_repeat(self->builder, line_end(self), 0, 1);
    while (count > 0) {
        const struct piece *piece = &pieces[--count];
        if (!piece->is_ahead)
            expr = cohort_expr_concat(self->builder, piece->expr, expr);
        else if (piece->is_negative)
            expr = cohort_expr_without(self->builder, expr, piece->expr);
        else
            expr = cohort_expr_both(self->builder, expr, piece->expr);
    }
    return expr;
}

static cohort_expr parse_branch(parser *self) {
    bool is_top = self->depth == 0 && !self->is_ahead;
    bool was_first = self->is_first, is_anchored = false;
    while (self->depth == 0 && self->is_first) {
        bool is_anchor = take(self, "^") || take(self, "\\A");
        if (!is_anchor && !take_flags_of_rest(self)) break;
        is_anchored = is_anchored || is_anchor;
    }
    if (is_top && self->options->is_search && !is_anchored) self->is_first = false;
    cohort_expr expr = parse_pieces(self);
    self->is_first = was_first;
    if (at_last_anchor(self) && !take(self, "$")) self->at += 2;
    if (is_top && self->options->is_search && !is_anchored)
        expr = cohort_expr_concat(self->builder, any_text(self), expr);
    return expr;
}

static cohort_expr parse_alternatives(parser *self) {
    cohort_expr expr = parse_branch(self);
    while (self->builder->status >= 0 && take(self, "|"))
        expr = cohort_expr_either(self->builder, parse_branch(self), expr);
    return expr;
}

cohort_expr cohort_regex_parse(cohort_builder *builder, const char *pattern, size_t size,
                               const cohort_regex_options *options) {
    struct aheads aheads = {0};
    parser self = {.builder = builder,
                   .text = pattern,
                   .size = size,
                   .options = options,
                   .flags = (options->ignores_case ? IGNORE_CASE : 0) |
                            (options->dot_is_all ? DOT_IS_ALL : 0),
                   .is_first = true,
                   .aheads = &aheads};
    if (size > MAX_PATTERN_BYTES) return refuse(&self, "a pattern of more than 64 KiB");
    cohort_expr expr = parse_alternatives(&self);
    if (self.at < self.size && builder->status >= 0) refuse(&self, "a ) without its (");
    for (size_t i = 0; i < aheads.count && builder->status >= 0; i++)
        expr = cohort_expr_with_ahead(builder, expr, (uint8_t)(COHORT_MARK_AHEAD + i),
                                      aheads.items[i].expr, aheads.items[i].is_negative);
    if (self.has_marks) expr = cohort_expr_checked(builder, expr, options->in_json);
    return builder->status < 0 ? COHORT_EXPR_NEVER : expr;
}
