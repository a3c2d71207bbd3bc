/* SPDX-License-Identifier: Apache-2.0 */
#include "server/json_scan.h"

#include <stdint.h>
#include <string.h>

/* Design notes.
 *
 * A loop with a bit of nesting per level in place of recursion: depth comes from a
 * stranger.  Positions count characters, so a fault's byte offset is converted at the
 * end. */

typedef struct scanner {
    const char *text;
    size_t size, at;
    cohort_server_json_fault *fault;
} scanner;

static bool fail(scanner *self, const char *message, size_t at) {
    size_t position = 0;
    for (size_t i = 0; i < at && i < self->size; i++)
        position += ((unsigned char)self->text[i] & 0xc0) != 0x80;
    *self->fault = (cohort_server_json_fault){message, position};
    return false;
}

static int peek(const scanner *self) {
    return self->at < self->size ? (unsigned char)self->text[self->at] : -1;
}

static void skip_space(scanner *self) {
    while (self->at < self->size && self->text[self->at] &&
           strchr(" \t\n\r", self->text[self->at]))
        self->at++;
}

static bool is_hex(int c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool scan_escape(scanner *self) {
    size_t begin = self->at; /* of the backslash */
    self->at++;
    int c = peek(self);
    if (c < 0) return fail(self, "Unterminated string starting at", begin);
    if (c != 'u') {
        if (!c || !strchr("\"\\/bfnrt", c)) return fail(self, "Invalid \\escape", begin);
        self->at++;
        return true;
    }
    bool is_zero = true;
    for (int i = 1; i <= 4; i++) {
        size_t at = self->at + (size_t)i;
        if (at >= self->size || !is_hex((unsigned char)self->text[at]))
            return fail(self, "Invalid \\uXXXX escape", begin + 1);
        is_zero &= self->text[at] == '0';
    }
    /* Ours, not Python's: texts end at a NUL from here on. */
    if (is_zero) return fail(self, "A NUL character is not supported", begin);
    self->at += 5;
    return true;
}

static bool scan_string(scanner *self) {
    size_t begin = self->at++;
    for (;;) {
        int c = peek(self);
        if (c < 0) return fail(self, "Unterminated string starting at", begin);
        if (c == '"') break;
        if (c < 0x20) return fail(self, "Invalid control character at", self->at);
        if (c != '\\')
            self->at++;
        else if (!scan_escape(self))
            return false;
    }
    self->at++;
    return true;
}

static bool skip_digits(scanner *self) {
    size_t begin = self->at;
    while (peek(self) >= '0' && peek(self) <= '9')
        self->at++;
    return self->at > begin;
}

static bool scan_number(scanner *self) {
    size_t begin = self->at;
    if (peek(self) == '-') self->at++;
    if (peek(self) == '0')
        self->at++;
    else if (!skip_digits(self))
        return fail(self, "Expecting value", begin);
    size_t whole = self->at;
    if (peek(self) == '.') {
        self->at++;
        if (!skip_digits(self)) self->at = whole;
    }
    size_t fraction = self->at;
    if (peek(self) == 'e' || peek(self) == 'E') {
        self->at++;
        if (peek(self) == '+' || peek(self) == '-') self->at++;
        if (!skip_digits(self)) self->at = fraction;
    }
    return true;
}

/* A value that holds no others. */
static bool scan_plain(scanner *self) {
    static const char *const words[] = {"true", "false", "null"};
    int c = peek(self);
    if (c == '"') return scan_string(self);
    if (c == '-' || (c >= '0' && c <= '9')) return scan_number(self);
    for (size_t i = 0; i < 3; i++) {
        size_t length = strlen(words[i]);
        if (self->size - self->at < length ||
            memcmp(self->text + self->at, words[i], length))
            continue;
        self->at += length;
        return true;
    }
    return fail(self, "Expecting value", self->at);
}

static bool scan_key(scanner *self) {
    if (peek(self) != '"')
        return fail(self, "Expecting property name enclosed in double quotes", self->at);
    if (!scan_string(self)) return false;
    skip_space(self);
    if (peek(self) != ':') return fail(self, "Expecting ':' delimiter", self->at);
    self->at++;
    skip_space(self);
    return true;
}

typedef struct nesting {
    bool is_object[COHORT_SERVER_JSON_MAX_DEPTH];
    int depth;
} nesting;

/* At a value: opens what it opens; out_is_done: the value is complete. */
static bool open_value(scanner *self, nesting *stack, bool *out_is_done) {
    int c = peek(self);
    *out_is_done = true;
    if (c != '{' && c != '[') return scan_plain(self);
    if (stack->depth == COHORT_SERVER_JSON_MAX_DEPTH)
        return fail(self, "Nested too deeply", self->at);
    self->at++;
    skip_space(self);
    if (peek(self) == (c == '{' ? '}' : ']')) {
        self->at++;
        return true;
    }
    *out_is_done = false;
    stack->is_object[stack->depth++] = c == '{';
    return c == '[' || scan_key(self);
}

/* After a value: closes what ends there; out_is_next: another value follows. */
static bool close_value(scanner *self, nesting *stack, bool *out_is_next) {
    *out_is_next = false;
    while (stack->depth) {
        bool is_object = stack->is_object[stack->depth - 1];
        skip_space(self);
        int c = peek(self);
        if (c == ',') {
            self->at++;
            skip_space(self);
            *out_is_next = true;
            return !is_object || scan_key(self);
        }
        if (c != (is_object ? '}' : ']'))
            return fail(self, "Expecting ',' delimiter", self->at);
        self->at++;
        stack->depth--;
    }
    return true;
}

bool cohort_server_json_scan(const char *text, size_t size,
                             cohort_server_json_fault *out_fault) {
    scanner self = {text, size, 0, out_fault};
    nesting stack;
    stack.depth = 0;
    bool is_done, is_next = true;
    skip_space(&self);
    while (is_next) {
        if (!open_value(&self, &stack, &is_done)) return false;
        if (is_done && !close_value(&self, &stack, &is_next)) return false;
    }
    skip_space(&self);
    return self.at == size || fail(&self, "Extra data", self.at);
}

/* Each value but the first is behind a comma, a colon or what opens its parent. */
size_t cohort_server_json_most_values(const char *text, size_t size) {
    size_t n = 1;
    bool in_string = false;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if (c == '"')
            in_string = !in_string;
        else if (in_string)
            i += c == '\\';
        else
            n += c == ',' || c == '[' || c == '{';
    }
    return n;
}

/* Of the four digits behind a \u. */
static unsigned code_of(const char *digits) {
    unsigned code = 0;
    for (int i = 0; i < 4; i++) {
        unsigned c = (unsigned char)digits[i] | 0x20u;
        code = code << 4 | (c >= 'a' ? c - 'a' + 10 : (c & 0xf));
    }
    return code;
}

bool cohort_server_json_has_lone_surrogate(const char *text, size_t size) {
    for (size_t i = 0; i + 1 < size; i++) {
        if (text[i] != '\\' || text[++i] != 'u' || i + 4 >= size) continue;
        unsigned code = code_of(text + i + 1);
        i += 4;
        if (code < 0xd800 || code > 0xdfff) continue;
        if (code > 0xdbff || i + 6 >= size || text[i + 1] != '\\' || text[i + 2] != 'u')
            return true;
        code = code_of(text + i + 3);
        if (code < 0xdc00 || code > 0xdfff) return true;
        i += 6;
    }
    return false;
}
