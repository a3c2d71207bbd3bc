/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/fail.h"
#include "text/text_internal.h"
#include "text/unicode_table.h"

/* Design notes.
 *
 * `tokenizers` runs Oniguruma with Ruby's syntax and Unicode 16.  Where PCRE2 would read
 * a pattern otherwise - \s, \w, \h, \b, flags, what its Unicode lacks - the pattern is
 * rewritten; where that cannot be done it is refused. */

typedef struct translator {
    const char *name, *from; /* file; the whole pattern, for messages */
    const char *at;
    cohort_text *out;
    bool in_class;
} translator;

static cohort_status refuse(const translator *self, const char *what) {
    return COHORT_FAIL(COHORT_E_INVALID,
                       "%s: regular expression with %s at %zu is not supported",
                       self->name, what, (size_t)(self->at - self->from));
}

static void put(translator *self, const char *text) {
    cohort_text_append(self->out, text, strlen(text));
}

/* Members of a category, as they stand within brackets. */
static void put_category(translator *self, const char *category) {
    char text[64];
    snprintf(text, sizeof text, "\\p{%s}", category);
    put(self, text);
    size_t length = strlen(category);
    for (size_t i = 0; i < sizeof newer / sizeof *newer; i++) {
        if (length > 2 || memcmp(newer[i].category, category, length)) continue;
        snprintf(text, sizeof text, "\\x{%x}-\\x{%x}", newer[i].first, newer[i].last);
        put(self, text);
    }
}

static void put_word(translator *self) {
    put(self, "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}\\p{Alphabetic}"); /* as Oniguruma */
    put_category(self, "L");
    put_category(self, "M");
    put_category(self, "Nd");
    put_category(self, "Pc");
}

static void put_word_or_digit(translator *self, bool word) {
    if (word)
        put_word(self);
    else
        put_category(self, "Nd");
}

/* \w \W \d \D */
static cohort_status put_class(translator *self, bool word, bool negated) {
    if (self->in_class && negated) return refuse(self, "\\W or \\D in a class");
    if (!self->in_class) put(self, negated ? "[^" : "[");
    put_word_or_digit(self, word);
    if (!self->in_class) put(self, "]");
    return COHORT_OK;
}

static void put_boundary(translator *self, bool negated) {
    static const char *const parts[2][4] = {
        {"(?:(?<=[", "])(?![", "])|(?<![", "])(?=["},
        {"(?:(?<=[", "])(?=[", "])|(?<![", "])(?!["},
    };
    for (int i = 0; i < 4; i++) {
        put(self, parts[negated][i]);
        put_word(self);
    }
    put(self, "]))");
}

/* \p{L}, \P{^Nd}, \pL: at is behind the p. */
static cohort_status property(translator *self, bool negated) {
    char name[32];
    size_t length = 1;
    const char *from = self->at;
    if (*from == '{') {
        from++;
        if (*from == '^') {
            negated = !negated;
            from++;
        }
        length = strcspn(from, "}");
        if (from[length] != '}') return refuse(self, "\\p without an end");
        self->at = from + length + 1;
    } else if (isalpha((unsigned char)*from)) {
        self->at = from + 1;
    } else {
        return refuse(self, "\\p without a name");
    }
    if (length == 0 || length >= sizeof name)
        return refuse(self, "a property of no name");
    memcpy(name, from, length);
    name[length] = '\0';
    if (self->in_class && negated) { /* nothing can be taken out of a class */
        char text[48];
        snprintf(text, sizeof text, "\\P{%s}", name);
        put(self, text);
        return COHORT_OK;
    }
    if (!self->in_class) put(self, negated ? "[^" : "[");
    put_category(self, name);
    if (!self->in_class) put(self, "]");
    return COHORT_OK;
}

static cohort_status escape(translator *self) {
    char c = self->at[1], text[3] = {'\\', c};
    if (!c) return refuse(self, "a backslash at its end");
    self->at += 2;
    switch (c) {
    case 's': put(self, "\\p{White_Space}"); return COHORT_OK;
    case 'S': put(self, "\\P{White_Space}"); return COHORT_OK;
    case 'w': return put_class(self, true, false);
    case 'W': return put_class(self, true, true);
    case 'd': return put_class(self, false, false);
    case 'D': return put_class(self, false, true);
    case 'h': put(self, self->in_class ? "0-9a-fA-F" : "[0-9a-fA-F]"); return COHORT_OK;
    case 'v': put(self, "\\x{0b}"); return COHORT_OK;
    case 'p': return property(self, false);
    case 'P': return property(self, true);
    case 'b':
        if (self->in_class)
            put(self, "\\x{08}");
        else
            put_boundary(self, false);
        return COHORT_OK;
    case 'B': put_boundary(self, true); return COHORT_OK;
    case 'u':
        put(self, "\\x{");
        for (int i = 0; i < 4; i++, self->at++) {
            if (!isxdigit((unsigned char)*self->at)) return refuse(self, "\\u");
            cohort_text_append(self->out, self->at, 1);
        }
        put(self, "}");
        return COHORT_OK;
    default: break;
    }
    if (isalpha((unsigned char)c) && !strchr("ntrfaexAzZRXK", c)) {
        self->at -= 2;
        return refuse(self, text);
    }
    put(self, text);
    return COHORT_OK;
}

/* "(?im-x" is copied; Ruby's m is everybody else's s. */
static cohort_status group(translator *self) {
    const char *at = self->at + 1;
    if (*at == '*') return refuse(self, "(*");
    put(self, "(");
    self->at++;
    if (*at != '?') return COHORT_OK;
    put(self, "?");
    for (at++; *at == '-' || isalpha((unsigned char)*at); at++) {
        if (!strchr("imx-", *at)) return refuse(self, "an unknown flag");
        put(self, *at == 'm' ? "s" : (char[]){*at, '\0'});
    }
    self->at = at;
    return COHORT_OK;
}

/* {n,m}: {,m} is {0,m}; {n,m}+ is not possessive in Ruby's syntax. */
static cohort_status quantifier(translator *self) {
    size_t length = strspn(self->at + 1, "0123456789,") + 1;
    bool is_one = self->at[length] == '}' && length > 1;
    if (is_one && self->at[length + 1] == '+') return refuse(self, "{n,m}+");
    put(self, is_one && self->at[1] == ',' ? "{0" : "{");
    self->at++;
    return COHORT_OK;
}

static cohort_status in_class(translator *self) {
    const char *end;
    if (*self->at == ']') {
        self->in_class = false;
    } else if (self->at[0] == '[' && self->at[1] == ':' &&
               (end = strstr(self->at, ":]"))) {
        cohort_text_append(self->out, self->at, (size_t)(end + 2 - self->at));
        self->at = end + 2;
        return COHORT_OK;
    } else if (*self->at == '[' || (self->at[0] == '&' && self->at[1] == '&')) {
        return refuse(self, "a class in a class");
    }
    cohort_text_append(self->out, self->at++, 1);
    return COHORT_OK;
}

static void begin_class(translator *self) {
    size_t length = 1;
    length += self->at[length] == '^';
    cohort_text_append(self->out, self->at, length);
    self->at += length;
    if (*self->at == ']') { /* there it is a bracket */
        put(self, "\\]");
        self->at++;
    }
    self->in_class = true;
}

cohort_status cohort_pattern_translate(const char *pattern, const char *name,
                                       cohort_text *out) {
    translator self = {.name = name, .from = pattern, .at = pattern, .out = out};
    cohort_text_append(out, "", 0);
    while (*self.at) {
        if (*self.at == '\\') {
            COHORT_TRY(escape(&self));
        } else if (self.in_class) {
            COHORT_TRY(in_class(&self));
        } else if (*self.at == '[') {
            begin_class(&self);
        } else if (*self.at == '(') {
            COHORT_TRY(group(&self));
        } else if (*self.at == '{') {
            COHORT_TRY(quantifier(&self));
        } else {
            cohort_text_append(out, self.at++, 1);
        }
    }
    return out->failed ? COHORT_FAIL(COHORT_E_NOMEM, "%s", name) : COHORT_OK;
}

/* Both tables are sorted. */
#define IS_IN(table, code)                                                      \
    for (size_t low = 0, high = sizeof(table) / sizeof *(table); low < high;) { \
        size_t middle = (low + high) / 2;                                       \
        if ((code) > (table)[middle].last)                                      \
            low = middle + 1;                                                   \
        else if ((code) < (table)[middle].first)                                \
            high = middle;                                                      \
        else                                                                    \
            return true;                                                        \
    }

bool cohort_unicode_inert(uint32_t code) {
    IS_IN(inert, code)
    IS_IN(newer, code)
    return false;
}
