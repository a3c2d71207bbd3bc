/* SPDX-License-Identifier: Apache-2.0 */
#include "chat/json_text.h"

#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* Design notes.
 *
 * A loop with a stack of what is open in place of recursion: depth comes from a stranger.
 * Positions count characters, so a fault's byte offset is converted at the end.  Strings
 * only shrink when escapes are read: the longest, of six bytes, makes three. */

typedef struct loader {
    const char *text;
    size_t size, at;
    cohort_chat_json_fault *fault;
    char *name; /* of the member whose value comes next */
    int depth;
    cJSON *open[COHORT_CHAT_JSON_MAX_DEPTH]; /* the last of which is whole with what it
                                                has */
} loader;

static bool fail_as(loader *self, cohort_chat_json_fault_kind kind, const char *message,
                    size_t at) {
    size_t position = 0;
    for (size_t i = 0; i < at && i < self->size; i++)
        position += ((unsigned char)self->text[i] & 0xc0) != 0x80;
    *self->fault = (cohort_chat_json_fault){kind, message, position};
    return false;
}

static bool fail(loader *self, const char *message, size_t at) {
    return fail_as(self, COHORT_CHAT_JSON_BROKEN, message, at);
}

static bool no_memory(loader *self) {
    return fail_as(self, COHORT_CHAT_JSON_NO_MEMORY, "memory is short", 0);
}

static int peek(const loader *self) {
    return self->at < self->size ? (unsigned char)self->text[self->at] : -1;
}

static void skip_space(loader *self) {
    while (self->at < self->size && self->text[self->at] &&
           strchr(" \t\n\r", self->text[self->at]))
        self->at++;
}

/* ---- strings ----------------------------------------------------------------------- */

/* The number that n hexadecimal digits are; -1: they are none. */
static int32_t read_hex(const loader *self, size_t at) {
    int32_t code = 0;
    for (size_t i = at; i < at + 4; i++) {
        int c = i < self->size ? (unsigned char)self->text[i] | 0x20 : 0;
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) return -1;
        code = code << 4 | (c >= 'a' ? c - 'a' + 10 : c - '0');
    }
    return code;
}

static char *put_character(char *to, int32_t code) {
    if (!code) return memcpy(to, "\xc0\x80", 2), to + 2;
    return to + utf8proc_encode_char(code, (utf8proc_uint8_t *)to);
}

/* At \uXXXX, whose other half may follow. */
static bool read_code(loader *self, char **to) {
    size_t begin = self->at;
    int32_t code = read_hex(self, begin + 2), low = -1;
    if (code < 0) return fail(self, "Invalid \\uXXXX escape", begin + 1);
    self->at += 6;
    if (code >= 0xd800 && code <= 0xdbff && self->size - self->at >= 6 &&
        self->text[self->at] == '\\' && self->text[self->at + 1] == 'u')
        low = read_hex(self, self->at + 2);
    if (low >= 0xdc00 && low <= 0xdfff) {
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        self->at += 6;
    }
    /* Ours, not Python's, which fails later: half a character is no text. */
    if (code >= 0xd800 && code <= 0xdfff)
        return fail(self, "Invalid \\uXXXX escape", begin);
    *to = put_character(*to, code);
    return true;
}

static bool read_escape(loader *self, size_t string, char **to) {
    static const char escapes[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    size_t begin = self->at++;
    int c = peek(self);
    if (c < 0) return fail(self, "Unterminated string starting at", string);
    if (c == 'u') {
        self->at = begin;
        return read_code(self, to);
    }
    const char *found = c ? strchr(escapes, c) : NULL;
    if (!found) return fail(self, "Invalid \\escape", begin);
    *(*to)++ = meanings[found - escapes];
    self->at++;
    return true;
}

/* What no text may have as it is: control characters, our own NUL among them, and halves
 * of characters, which Python's decoder lets pass and vLLM's tokenizer does not. */
static const char *refusal_of(const loader *self) {
    int c = peek(self), next = -1;
    if (c < 0x20) return "Invalid control character at";
    if (self->at + 1 < self->size) next = (unsigned char)self->text[self->at + 1];
    if (c == 0xc0 && next == 0x80) return "Invalid control character at";
    return c == 0xed && next >= 0xa0 ? "Half a character at" : NULL;
}

/* Bytes up to the quote that ends the string, or to what does not belong there. */
static size_t most_bytes(const loader *self) {
    size_t i = self->at;
    while (i < self->size && self->text[i] != '"')
        i += self->text[i] == '\\' ? 2 : 1;
    return (i < self->size ? i : self->size) - self->at;
}

static bool read_string(loader *self, char **out_text) {
    size_t begin = self->at++;
    char *text = cJSON_malloc(most_bytes(self) + 1), *to = text;
    if (!text) return no_memory(self);
    for (int c; (c = peek(self)) != '"';) {
        const char *refusal = c < 0 ? NULL : refusal_of(self);
        bool fine = c >= 0 && !refusal;
        if (c < 0) fail(self, "Unterminated string starting at", begin);
        if (refusal) fail(self, refusal, self->at);
        if (fine && c == '\\')
            fine = read_escape(self, begin, &to);
        else if (fine)
            *to++ = self->text[self->at++];
        if (!fine) {
            cJSON_free(text);
            return false;
        }
    }
    self->at++;
    *to = '\0';
    *out_text = text;
    return true;
}

/* ---- values ------------------------------------------------------------------------ */

/* The new item, in its place; NULL: memory is short. */
static cJSON *add(loader *self, int type) {
    cJSON *item = cJSON_CreateNull();
    if (!item) {
        no_memory(self);
        return NULL;
    }
    item->type = type;
    if (!self->depth) return self->open[0] = item;
    cJSON *parent = self->open[self->depth - 1], *first = parent->child;
    item->string = self->name;
    self->name = NULL;
    if (!first) {
        parent->child = item->prev = item;
    } else {
        item->prev = first->prev; /* the last */
        first->prev->next = item;
        first->prev = item;
    }
    return item;
}

static void set_number(cJSON *item, double number) {
    item->valuedouble = number;
    item->valueint = number >= INT_MAX   ? INT_MAX
                     : number <= INT_MIN ? INT_MIN
                     : isnan(number)     ? 0
                                         : (int)number;
}

/* Where the digits alone do not say it. */
static bool keep_digits(loader *self, cJSON *item, const char *digits, size_t size) {
    item->valuestring = cJSON_malloc(size + 1);
    if (!item->valuestring) return no_memory(self);
    memcpy(item->valuestring, digits, size);
    item->valuestring[size] = '\0';
    return true;
}

static bool skip_digits(loader *self) {
    size_t begin = self->at;
    while (peek(self) >= '0' && peek(self) <= '9')
        self->at++;
    return self->at > begin;
}

/* Passes a number; out_is_whole: it has neither point nor exponent. */
static bool skip_number(loader *self, bool *out_is_whole) {
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
    *out_is_whole = self->at == whole;
    return true;
}

static bool read_number(loader *self) {
    enum { EXACT = 15 }; /* digits that a double has */
    const char *digits = self->text + self->at;
    size_t begin = self->at;
    bool is_whole;
    if (!skip_number(self, &is_whole)) return false;
    size_t size = self->at - begin;
    if (is_whole && size > COHORT_CHAT_JSON_MAX_DIGITS + (*digits == '-'))
        return fail_as(self, COHORT_CHAT_JSON_UNREADABLE,
                       "a whole number has more than 4300 digits", begin);
    cJSON *item = add(self, cJSON_Number);
    if (!item) return false;
    if (!is_whole || size > EXACT) {
        if (!keep_digits(self, item, digits, size)) return false;
        set_number(item, strtod(item->valuestring, NULL));
        return true;
    }
    int64_t whole = 0;
    for (size_t i = *digits == '-'; i < size; i++)
        whole = whole * 10 + (digits[i] - '0');
    set_number(item, (double)(*digits == '-' ? -whole : whole));
    return true;
}

static bool takes(loader *self, const char *word) {
    size_t length = strlen(word);
    if (self->size - self->at < length ||
        memcmp(self->text + self->at, word, length) != 0)
        return false;
    self->at += length;
    return true;
}

/* A word, or a number that only Python's JSON has. */
static bool read_word(loader *self) {
    static const struct {
        const char *word;
        int type;
        double number;
    } words[] = {{"true", cJSON_True, 0},
                 {"false", cJSON_False, 0},
                 {"null", cJSON_NULL, 0},
                 {"NaN", cJSON_Number, NAN},
                 {"Infinity", cJSON_Number, INFINITY},
                 {"-Infinity", cJSON_Number, -INFINITY}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (!takes(self, words[i].word)) continue;
        cJSON *item = add(self, words[i].type);
        if (!item || words[i].type != cJSON_Number) return item;
        set_number(item, words[i].number);
        return keep_digits(self, item, words[i].word, strlen(words[i].word));
    }
    return peek(self) == '-' ? read_number(self)
                             : fail(self, "Expecting value", self->at);
}

/* A value that holds no others. */
static bool read_plain(loader *self) {
    int c = peek(self);
    char *text;
    if (c >= '0' && c <= '9') return read_number(self);
    if (c != '"') return read_word(self);
    if (!read_string(self, &text)) return false;
    cJSON *item = add(self, cJSON_String);
    if (item)
        item->valuestring = text;
    else
        cJSON_free(text);
    return item;
}

static bool read_key(loader *self) {
    if (peek(self) != '"')
        return fail(self, "Expecting property name enclosed in double quotes", self->at);
    if (!read_string(self, &self->name)) return false;
    skip_space(self);
    if (peek(self) != ':') return fail(self, "Expecting ':' delimiter", self->at);
    self->at++;
    skip_space(self);
    return true;
}

/* At a value: opens what it opens; out_is_done: the value is complete. */
static bool open_value(loader *self, bool *out_is_done) {
    int c = peek(self);
    *out_is_done = true;
    if (c != '{' && c != '[') return read_plain(self);
    if (self->depth == COHORT_CHAT_JSON_MAX_DEPTH)
        return fail_as(self, COHORT_CHAT_JSON_UNREADABLE,
                       "it is nested more than 990 deep", self->at);
    cJSON *item = add(self, c == '{' ? cJSON_Object : cJSON_Array);
    if (!item) return false;
    self->at++;
    skip_space(self);
    if (peek(self) == (c == '{' ? '}' : ']')) {
        self->at++;
        return true;
    }
    *out_is_done = false;
    self->open[self->depth++] = item;
    return c == '[' || read_key(self);
}

/* After a value: closes what ends there; out_is_next: another value follows. */
static bool close_value(loader *self, bool *out_is_next) {
    *out_is_next = false;
    while (self->depth) {
        bool is_object = cJSON_IsObject(self->open[self->depth - 1]);
        skip_space(self);
        int c = peek(self);
        if (c == ',') {
            self->at++;
            skip_space(self);
            *out_is_next = true;
            return !is_object || read_key(self);
        }
        if (c != (is_object ? '}' : ']'))
            return fail(self, "Expecting ',' delimiter", self->at);
        self->at++;
        self->depth--;
    }
    return true;
}

static bool load(loader *self) {
    bool is_done, is_next = true;
    skip_space(self);
    while (is_next) {
        if (!open_value(self, &is_done)) return false;
        if (is_done && !close_value(self, &is_next)) return false;
    }
    skip_space(self);
    return self->at == self->size || fail(self, "Extra data", self->at);
}

bool cohort_chat_json_load(const char *text, size_t size, cJSON **out_json,
                           cohort_chat_json_fault *out_fault) {
    loader self;
    self.text = text;
    self.size = size;
    self.at = 0;
    self.fault = out_fault;
    self.name = NULL;
    self.depth = 0;
    self.open[0] = NULL;
    bool fine = load(&self);
    *out_json = self.open[0]; /* the root, first and last */
    if (fine) return true;
    cJSON_free(self.name);
    cJSON_Delete(*out_json);
    *out_json = NULL;
    return false;
}

/* Each value but the first is behind a comma, a colon or what opens its parent. */
size_t cohort_chat_json_most_values(const char *text, size_t size) {
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

/* ---- encodings --------------------------------------------------------------------- */

/* How many bytes a unit has, and which of them counts most. */
typedef struct encoding {
    size_t unit_bytes;
    bool is_big_endian;
    size_t mark_bytes;
} encoding;

/* As json.detect_encoding does: by the mark, or else by where the first characters, which
 * are ASCII in all JSON, have zeros. */
static encoding detect(const unsigned char *b, size_t size) {
    if (size >= 4 && !memcmp(b, "\0\0\xfe\xff", 4)) return (encoding){4, true, 4};
    if (size >= 4 && !memcmp(b, "\xff\xfe\0\0", 4)) return (encoding){4, false, 4};
    if (size >= 2 && !memcmp(b, "\xfe\xff", 2)) return (encoding){2, true, 2};
    if (size >= 2 && !memcmp(b, "\xff\xfe", 2)) return (encoding){2, false, 2};
    if (size >= 3 && !memcmp(b, "\xef\xbb\xbf", 3)) return (encoding){1, false, 3};
    if (size >= 4 && !b[0]) return (encoding){b[1] ? 2 : 4, true, 0};
    if (size >= 4 && !b[1]) return (encoding){b[2] || b[3] ? 2 : 4, false, 0};
    if (size == 2 && !b[0]) return (encoding){2, true, 0};
    if (size == 2 && !b[1]) return (encoding){2, false, 0};
    return (encoding){1, false, 0};
}

/* UTF-8, in which halves of characters may be encoded. */
static bool is_utf8(const char *text, size_t size) {
    const utf8proc_uint8_t *bytes = (const utf8proc_uint8_t *)text;
    for (size_t i = 0; i < size;) {
        utf8proc_int32_t code;
        if (bytes[i] < 0x80) {
            i++;
            continue;
        }
        utf8proc_ssize_t n =
            utf8proc_iterate(bytes + i, (utf8proc_ssize_t)(size - i), &code);
        bool is_half = n <= 0 && size - i >= 3 && bytes[i] == 0xed &&
                       bytes[i + 1] >= 0xa0 && bytes[i + 1] <= 0xbf &&
                       (bytes[i + 2] & 0xc0) == 0x80;
        if (n <= 0 && !is_half) return false;
        i += is_half ? 3 : (size_t)n;
    }
    return true;
}

static uint32_t unit_at(const unsigned char *bytes, const encoding *as) {
    uint32_t unit = 0;
    for (size_t i = 0; i < as->unit_bytes; i++)
        unit = unit << 8 | bytes[as->is_big_endian ? i : as->unit_bytes - 1 - i];
    return unit;
}

/* Halves without the other stay what they are: three bytes.  False: no character. */
static bool transcode(const unsigned char *bytes, size_t size, const encoding *as,
                      char *to, size_t *out_size) {
    char *begin = to;
    for (size_t i = 0; i < size; i += as->unit_bytes) {
        uint32_t code = unit_at(bytes + i, as), low = 0;
        if (as->unit_bytes == 2 && code >= 0xd800 && code <= 0xdbff && i + 4 <= size)
            low = unit_at(bytes + i + 2, as);
        if (low >= 0xdc00 && low <= 0xdfff) {
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
            i += 2;
        }
        if (code > 0x10ffff) return false;
        if (code >= 0xd800 && code <= 0xdfff) {
            *to++ = (char)0xed;
            *to++ = (char)(0x80 | (code >> 6 & 0x3f));
            *to++ = (char)(0x80 | (code & 0x3f));
        } else {
            to += utf8proc_encode_char((utf8proc_int32_t)code, (utf8proc_uint8_t *)to);
        }
    }
    *out_size = (size_t)(to - begin);
    return true;
}

bool cohort_chat_json_decode(const char *bytes, size_t size, char **out_copy,
                             const char **out_text, size_t *out_size,
                             cohort_chat_json_fault *out_fault) {
    const encoding as = detect((const unsigned char *)bytes, size);
    *out_copy = NULL;
    *out_text = bytes + as.mark_bytes;
    *out_size = size - as.mark_bytes;
    *out_fault =
        (cohort_chat_json_fault){COHORT_CHAT_JSON_UNREADABLE,
                                 "it is neither UTF-8 nor what its first bytes say", 0};
    if (as.unit_bytes == 1) return is_utf8(*out_text, *out_size);
    if (*out_size % as.unit_bytes) return false;
    char *copy = malloc(*out_size / as.unit_bytes * (as.unit_bytes == 2 ? 3 : 4) + 1);
    if (!copy) {
        out_fault->kind = COHORT_CHAT_JSON_NO_MEMORY;
        return false;
    }
    if (!transcode((const unsigned char *)*out_text, *out_size, &as, copy, out_size)) {
        free(copy);
        return false;
    }
    *out_text = *out_copy = copy;
    return true;
}
