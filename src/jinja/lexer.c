/* SPDX-License-Identifier: Apache-2.0 */
#include "jinja/lexer.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Design notes.
 *
 * White space around tags is settled here, as Jinja does it: a dash takes all of it away,
 * trim_blocks the line feed behind a block tag, lstrip_blocks the indentation before one;
 * a plus sign keeps both.  The parser sees texts as they are printed. */

typedef struct lexer {
    jinja_arena *arena;
    const char *source;
    size_t size, at;
    int line;
    bool line_starting; /* nothing, or a line feed, was last */
    bool strip_next;    /* the last tag ended in a dash */
    jinja_token *tokens;
    size_t n, capacity;
} lexer;

static jinja_token *add(lexer *self, jinja_token_kind kind) {
    self->tokens = cohort_jinja_grow(self->arena, self->tokens, self->n, &self->capacity,
                                     sizeof *self->tokens);
    jinja_token *token = &self->tokens[self->n++];
    *token = (jinja_token){.kind = kind, .line = self->line};
    return token;
}

static bool starts_with(const lexer *self, size_t at, const char *text) {
    size_t length = strlen(text);
    return self->size - at >= length && !memcmp(self->source + at, text, length);
}

static void advance(lexer *self, size_t n) {
    for (size_t i = 0; i < n; i++)
        self->line += self->source[self->at + i] == '\n';
    self->at += n;
    self->arena->line = self->line;
}

static bool is_white(char c) { return c != '\0' && strchr(" \t\n\r\f\v", c); }

/* ---- texts ------------------------------------------------------------------------- */

/* Where the next tag begins, or the end. */
static size_t find_tag(const lexer *self) {
    for (size_t i = self->at; i + 1 < self->size; i++)
        if (self->source[i] == '{' && strchr("{%#", self->source[i + 1])) return i;
    return self->size;
}

/* The text up to a tag, less what the tag's signs take away. */
static void add_text(lexer *self, size_t end) {
    size_t begin = self->at, keep = end;
    bool is_tag = end < self->size;
    char kind = '\0', sign = '\0';
    if (is_tag) {
        kind = self->source[end + 1];
        sign = end + 2 < self->size ? self->source[end + 2] : '\0';
    }
    while (self->strip_next && begin < keep && is_white(self->source[begin]))
        begin++;
    if (sign == '-') {
        while (keep > begin && is_white(self->source[keep - 1]))
            keep--;
    } else if (is_tag && sign != '+' && kind != '{') {
        size_t blank = keep;
        while (blank > begin &&
               (self->source[blank - 1] == ' ' || self->source[blank - 1] == '\t'))
            blank--;
        bool at_line_start = blank > begin
                                 ? self->source[blank - 1] == '\n'
                                 : (begin > 0 && self->source[begin - 1] == '\n') ||
                                       (begin == self->at && self->line_starting);
        if (at_line_start) keep = blank;
    }
    if (!is_tag && keep > begin && self->source[keep - 1] == '\n')
        keep--; /* keep_trailing_newline is off */
    if (keep > begin)
        add(self, TOKEN_TEXT)->literal =
            cohort_jinja_string(self->arena, self->source + begin, keep - begin);
    self->line_starting = false;
    self->strip_next = false;
    advance(self, end - self->at);
}

/* What a tag's end takes away of the text behind it. */
static void end_tag(lexer *self, bool dash, bool is_block) {
    self->strip_next = dash;
    self->line_starting = false;
    if (dash || !is_block || self->at >= self->size || self->source[self->at] != '\n')
        return;
    advance(self, 1);
    self->line_starting = true;
}

static void skip_comment(lexer *self) {
    size_t end = self->at + 2;
    while (end + 1 < self->size && !starts_with(self, end, "#}"))
        end++;
    if (end + 1 >= self->size) cohort_jinja_fail(self->arena, "a comment has no end");
    char sign = end > self->at + 2 ? self->source[end - 1] : '\0';
    advance(self, end + 2 - self->at);
    end_tag(self, sign == '-', sign != '+');
}

/* "{%- name -%}" at a place: its length, or 0. */
static size_t match_simple_block(const lexer *self, size_t at, const char *name,
                                 char *out_sign) {
    size_t i = at + 2;
    if (!starts_with(self, at, "{%")) return 0;
    if (i < self->size && (self->source[i] == '-' || self->source[i] == '+')) i++;
    while (i < self->size && is_white(self->source[i]))
        i++;
    if (!starts_with(self, i, name)) return 0;
    i += strlen(name);
    while (i < self->size && is_white(self->source[i]))
        i++;
    *out_sign = '\0';
    if (i < self->size && (self->source[i] == '-' || self->source[i] == '+'))
        *out_sign = self->source[i++];
    return starts_with(self, i, "%}") ? i + 2 - at : 0;
}

static bool lex_raw(lexer *self) {
    char sign, end_sign;
    size_t head = match_simple_block(self, self->at, "raw", &sign), tail = 0;
    if (!head) return false;
    advance(self, head);
    end_tag(self, sign == '-', false); /* trim_blocks leaves this one alone */
    size_t end = self->at;
    while (end < self->size &&
           !(tail = match_simple_block(self, end, "endraw", &end_sign)))
        end++;
    if (!tail) cohort_jinja_fail(self->arena, "a raw block has no end");
    add_text(self, end);
    advance(self, tail);
    end_tag(self, end_sign == '-', end_sign != '+');
    return true;
}

/* ---- expressions ------------------------------------------------------------------- */

static void append_utf8(jinja_text *out, uint32_t c) {
    char bytes[4];
    size_t n = 1;
    if (c < 0x80) {
        bytes[0] = (char)c;
    } else {
        n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        for (size_t i = n - 1; i > 0; i--, c >>= 6)
            bytes[i] = (char)(0x80 | (c & 0x3f));
        bytes[0] = (char)((0xf00 >> n & 0xff) | c);
    }
    cohort_jinja_append(out, bytes, n);
}

/* "\x41", "A": digits behind the letter; false where they are none. */
static bool unescape_number(lexer *self, jinja_text *out, size_t n_digits) {
    char digits[9] = {0}, *end;
    if (self->size - self->at < n_digits) return false;
    memcpy(digits, self->source + self->at, n_digits);
    unsigned long code = strtoul(digits, &end, 16);
    if (*end || !isxdigit((unsigned char)digits[0]) || code > 0x10ffff ||
        (code >= 0xd800 && code < 0xe000))
        return false;
    append_utf8(out, (uint32_t)code);
    advance(self, n_digits);
    return true;
}

/* Behind a backslash. */
static void unescape(lexer *self, jinja_text *out) {
    static const char letters[] = "abfnrtv\\'\"";
    static const char meanings[] = "\a\b\f\n\r\t\v\\'\"";
    char c = self->source[self->at];
    const char *found = c ? strchr(letters, c) : NULL;
    advance(self, 1);
    if (c == '\n') return;
    if (found) {
        cohort_jinja_append(out, &meanings[found - letters], 1);
    } else if (c >= '0' && c <= '7') {
        uint32_t code = (uint32_t)(c - '0');
        for (int i = 0; i < 2 && self->at < self->size; i++) {
            c = self->source[self->at];
            if (c < '0' || c > '7') break;
            code = code * 8 + (uint32_t)(c - '0');
            advance(self, 1);
        }
        append_utf8(out, code);
    } else if (c == 'x' || c == 'u' || c == 'U') {
        if (!unescape_number(self, out, c == 'x' ? 2 : c == 'u' ? 4 : 8))
            cohort_jinja_fail(self->arena, "a string has a truncated \\%c escape", c);
    } else {
        cohort_jinja_append(out, (char[]){'\\', c}, 2);
    }
}

static void lex_string(lexer *self) {
    jinja_text text = {.arena = self->arena};
    char quote = self->source[self->at];
    jinja_token *token = add(self, TOKEN_STRING);
    size_t index = (size_t)(token - self->tokens);
    advance(self, 1);
    cohort_jinja_append(&text, "", 0);
    for (;;) {
        if (self->at >= self->size) cohort_jinja_fail(self->arena, "a string has no end");
        char c = self->source[self->at];
        if (c == quote) break;
        size_t run = strcspn(self->source + self->at, quote == '"' ? "\"\\" : "'\\");
        if (!run && c == '\0') run = 1;
        cohort_jinja_append(&text, self->source + self->at, run);
        advance(self, run);
        if (self->at + 1 < self->size && self->source[self->at] == '\\') {
            advance(self, 1);
            unescape(self, &text);
        } else if (self->at < self->size && self->source[self->at] == '\\') {
            advance(self, 1);
        }
    }
    advance(self, 1);
    self->tokens[index].literal = cohort_jinja_taken(&text);
}

static void lex_number(lexer *self) {
    char digits[64];
    size_t n = 0, i = self->at;
    bool is_float = false;
    for (; i < self->size && n + 1 < sizeof digits; i++) {
        char c = self->source[i];
        bool sign = (c == '+' || c == '-') && n && tolower(digits[n - 1]) == 'e';
        bool exponent = (c == 'e' || c == 'E') && i + 1 < self->size &&
                        (isdigit((unsigned char)self->source[i + 1]) ||
                         strchr("+-", self->source[i + 1]));
        bool dot = c == '.' && !is_float && i + 1 < self->size &&
                   isdigit((unsigned char)self->source[i + 1]);
        if (c == '_' && n) continue;
        if (!isdigit((unsigned char)c) && !sign && !exponent && !dot) break;
        is_float |= exponent || dot;
        digits[n++] = c;
    }
    digits[n] = '\0';
    errno = 0;
    jinja_token *token = add(self, is_float ? TOKEN_FLOAT : TOKEN_INT);
    if (is_float) {
        token->literal = cohort_jinja_float(self->arena, strtod(digits, NULL));
    } else {
        long long whole = strtoll(digits, NULL, 10);
        if (errno) cohort_jinja_fail(self->arena, "the number %s is too long", digits);
        token->literal = cohort_jinja_int(self->arena, whole);
    }
    advance(self, i - self->at);
}

static const char *copy(lexer *self, size_t size) {
    char *text = cohort_jinja_alloc(self->arena, size + 1);
    return memcpy(text, self->source + self->at, size);
}

static bool is_name_byte(char c) {
    return isalnum((unsigned char)c) || c == '_' || (unsigned char)c >= 0x80;
}

static size_t sign_length(const lexer *self) {
    static const char *const pairs[] = {"//", "**", "==", "!=", "<=", ">="};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (starts_with(self, self->at, pairs[i])) return 2;
    return self->source[self->at] &&
                   strchr("+-*/%~[](){}<>=.:|,;", self->source[self->at])
               ? 1
               : 0;
}

/* Is this the end of the tag?  0, or its length; braces inside are counted by depth. */
static size_t tag_end(const lexer *self, const char *close, int depth, char *out_sign) {
    size_t at = self->at;
    *out_sign = '\0';
    if (depth > 0) return 0;
    if ((self->source[at] == '-' || self->source[at] == '+') &&
        starts_with(self, at + 1, close)) {
        *out_sign = self->source[at];
        return 3;
    }
    return starts_with(self, at, close) ? 2 : 0;
}

static void lex_token(lexer *self, int *depth) {
    char c = self->source[self->at];
    if (c == '"' || c == '\'') {
        lex_string(self);
    } else if (isdigit((unsigned char)c)) {
        lex_number(self);
    } else if (is_name_byte(c)) {
        size_t n = 1;
        while (self->at + n < self->size && is_name_byte(self->source[self->at + n]))
            n++;
        add(self, TOKEN_NAME)->text = copy(self, n);
        advance(self, n);
    } else {
        size_t n = sign_length(self);
        if (!n) cohort_jinja_fail(self->arena, "unexpected character '%c'", c);
        *depth += strchr("([{", c) ? 1 : strchr(")]}", c) ? -1 : 0;
        add(self, TOKEN_SIGN)->text = copy(self, n);
        advance(self, n);
    }
}

static void lex_tag(lexer *self, bool is_block) {
    const char *close = is_block ? "%}" : "}}";
    int depth = 0;
    char sign;
    add(self, is_block ? TOKEN_BLOCK_BEGIN : TOKEN_OUTPUT_BEGIN);
    advance(self, 2);
    if (self->at < self->size &&
        (self->source[self->at] == '-' || (is_block && self->source[self->at] == '+')))
        advance(self, 1);
    for (;;) {
        while (self->at < self->size && is_white(self->source[self->at]))
            advance(self, 1);
        if (self->at >= self->size)
            cohort_jinja_fail(self->arena, "a tag has no end; '%s' is missing", close);
        size_t n = tag_end(self, close, depth, &sign);
        if (n && !(sign == '+' && !is_block)) {
            add(self, is_block ? TOKEN_BLOCK_END : TOKEN_OUTPUT_END);
            advance(self, n);
            end_tag(self, sign == '-', is_block && sign != '+');
            return;
        }
        lex_token(self, &depth);
    }
}

/* A copy with "\n" for every other end of a line. */
static const char *normalize(jinja_arena *arena, const char *source, size_t *size) {
    char *out = cohort_jinja_alloc(arena, *size + 1);
    size_t n = 0;
    for (size_t i = 0; i < *size; i++) {
        if (source[i] == '\r') {
            out[n++] = '\n';
            i += i + 1 < *size && source[i + 1] == '\n';
        } else {
            out[n++] = source[i];
        }
    }
    *size = n;
    return out;
}

const jinja_token *cohort_jinja_lex(jinja_arena *arena, const char *source, size_t size) {
    lexer self = {.arena = arena, .size = size, .line = 1, .line_starting = true};
    self.source = normalize(arena, source, &self.size);
    arena->line = 1;
    while (self.at < self.size) {
        add_text(&self, find_tag(&self));
        if (self.at >= self.size) break;
        char kind = self.source[self.at + 1];
        if (kind == '#')
            skip_comment(&self);
        else if (kind == '{' || !lex_raw(&self))
            lex_tag(&self, kind == '%');
    }
    add(&self, TOKEN_END);
    return self.tokens;
}
