/* SPDX-License-Identifier: Apache-2.0 */
#include "base/body.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/grow.h"

void cohort_body_deinit(cohort_body *body) {
    free(body->bytes);
    *body = (cohort_body){0};
}

static bool reserve(cohort_body *body, size_t more) {
    if (body->is_short) return false;
    char *larger = cohort_grow(body->bytes, body->size + more + 1, &body->capacity, 1);
    body->is_short = !larger;
    if (larger) body->bytes = larger;
    return larger;
}

void cohort_body_add(cohort_body *body, const void *bytes, size_t size) {
    if (!reserve(body, size)) return;
    if (size) memcpy(body->bytes + body->size, bytes, size);
    body->size += size;
    body->bytes[body->size] = '\0';
}

void cohort_body_whole(cohort_body *body, int64_t value) {
    char text[20], *first = text + sizeof text; /* a sign and 19 digits */
    uint64_t left = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    do
        *--first = (char)('0' + left % 10);
    while (left /= 10);
    if (value < 0) *--first = '-';
    cohort_body_add(body, first, (size_t)(text + sizeof text - first));
}

void cohort_body_printf(cohort_body *body, const char *format, ...) {
    va_list args;
    for (int attempt = 0; attempt < 2; attempt++) {
        size_t room = body->capacity - body->size;
        va_start(args, format);
        int needed =
            vsnprintf(room ? body->bytes + body->size : NULL, room, format, args);
        va_end(args);
        if (needed < 0) return;
        if ((size_t)needed < room) {
            body->size += (size_t)needed;
            return;
        }
        if (!reserve(body, (size_t)needed + 1)) return;
    }
}

/* Length of the valid UTF-8 character at text, 0 where there is none. */
static size_t character_length(const unsigned char *text, size_t size) {
    unsigned char first = text[0];
    size_t length = first < 0x80   ? 1
                    : first < 0xc2 ? 0
                    : first < 0xe0 ? 2
                    : first < 0xf0 ? 3
                    : first < 0xf5 ? 4
                                   : 0;
    if (length == 0 || length > size) return 0;
    for (size_t i = 1; i < length; i++)
        if ((text[i] & 0xc0) != 0x80) return 0;
    if (first == 0xe0 && text[1] < 0xa0) return 0;
    if (first == 0xed && text[1] > 0x9f) return 0;
    if (first == 0xf0 && text[1] < 0x90) return 0;
    if (first == 0xf4 && text[1] > 0x8f) return 0;
    return length;
}

static void add_escaped(cohort_body *body, unsigned char c) {
    switch (c) {
    case '"': cohort_body_add(body, "\\\"", 2); break;
    case '\\': cohort_body_add(body, "\\\\", 2); break;
    case '\n': cohort_body_add(body, "\\n", 2); break;
    case '\r': cohort_body_add(body, "\\r", 2); break;
    case '\t': cohort_body_add(body, "\\t", 2); break;
    case '\b': cohort_body_add(body, "\\b", 2); break;
    case '\f': cohort_body_add(body, "\\f", 2); break;
    default: cohort_body_printf(body, "\\u%04x", c);
    }
}

/* As json_text.h has it. */
static bool is_nul(const unsigned char *bytes, size_t size) {
    return size >= 2 && bytes[0] == 0xc0 && bytes[1] == 0x80;
}

void cohort_body_json(cohort_body *body, const char *text, size_t size) {
    const unsigned char *bytes = (const unsigned char *)text;
    size_t plain = 0; /* bytes before i that go as they are */
    cohort_body_add(body, "\"", 1);
    for (size_t i = 0; i < size;) {
        size_t length = character_length(bytes + i, size - i);
        if (is_nul(bytes + i, size - i)) {
            cohort_body_add(body, bytes + plain, i - plain);
            cohort_body_puts(body, "\\u0000");
            plain = i += 2;
            continue;
        }
        bool escape = bytes[i] < 0x20 || bytes[i] == '"' || bytes[i] == '\\';
        if (length && !escape) {
            i += length;
            continue;
        }
        cohort_body_add(body, bytes + plain, i - plain);
        if (escape)
            add_escaped(body, bytes[i]);
        else
            cohort_body_puts(body, "\xef\xbf\xbd");
        plain = ++i;
    }
    cohort_body_add(body, bytes + plain, size - plain);
    cohort_body_add(body, "\"", 1);
}

static uint32_t code_point(const unsigned char *text, size_t length) {
    uint32_t code = length == 1 ? text[0] : text[0] & (0x7fu >> length);
    for (size_t i = 1; i < length; i++)
        code = code << 6 | (text[i] & 0x3f);
    return code;
}

static bool is_control(uint32_t code) {
    return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x61c ||
           code == 0x200e || code == 0x200f || (code >= 0x2028 && code <= 0x202e) ||
           (code >= 0x2066 && code <= 0x2069);
}

void cohort_body_printable(cohort_body *body, const char *text) {
    const unsigned char *bytes = (const unsigned char *)text;
    for (size_t left = strlen(text), length; left; left -= length, bytes += length) {
        length = character_length(bytes, left);
        uint32_t code = length ? code_point(bytes, length) : *bytes;
        if (length && !is_control(code))
            cohort_body_add(body, bytes, length);
        else
            cohort_body_printf(body, length && code > 0x7f ? "\\u%04x" : "\\x%02x", code);
        if (!length) length = 1;
    }
}

void cohort_body_json_or_null(cohort_body *body, const char *text) {
    if (text)
        cohort_body_json(body, text, strlen(text));
    else
        cohort_body_puts(body, "null");
}

void cohort_body_json_real(cohort_body *body, double value) {
    char text[40];
    if (!isfinite(value)) value = -9999;
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    cohort_body_puts(body, text);
    if (!strpbrk(text, ".e")) cohort_body_puts(body, ".0");
}

void cohort_body_json_ids(cohort_body *body, const int32_t *ids, size_t count) {
    cohort_body_add(body, "[", 1);
    for (size_t i = 0; i < count; i++) {
        if (i) cohort_body_add(body, ",", 1);
        cohort_body_whole(body, ids[i]);
    }
    cohort_body_add(body, "]", 1);
}
