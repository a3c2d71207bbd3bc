/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chat/output_internal.h"

/* Calls in a text that is there as a whole: here JSON is checked to the last byte, as one
 * fault makes all of it content.  What is right is spelt anew the way json.dumps would,
 * except that numbers stay as they are: a model's 12345678901234567890 or 1.10 loses
 * nothing on its way. */

enum { MAX_DEPTH = 200 };

typedef struct reader {
    const char *at, *end;
    output_text *out; /* NULL: nowhere */
    int depth;
    bool takes_python; /* and what no JSON is: NaN, Infinity */
} reader;

static void put(reader *self, const char *bytes, size_t size) {
    if (self->out) cohort_output_text_add(self->out, bytes, size);
}

static void skip_space(reader *self) {
    while (self->at < self->end && (*self->at == ' ' || *self->at == '\n' ||
                                    *self->at == '\t' || *self->at == '\r'))
        self->at++;
}

static bool take(reader *self, const char *word) {
    size_t size = strlen(word);
    if ((size_t)(self->end - self->at) < size || memcmp(self->at, word, size) != 0)
        return false;
    self->at += size;
    return true;
}

/* ---- strings ----------------------------------------------------------------------- */

/* The four digits behind "\u"; -1: they are not. */
static long take_code(reader *self) {
    long code = 0;
    if (self->end - self->at < 4) return -1;
    for (int i = 0; i < 4; i++) {
        static const char digits[] = "0123456789abcdef0123456789ABCDEF";
        const char *found = memchr(digits, *self->at++, sizeof digits - 1);
        if (!found) return -1;
        code = code * 16 + (found - digits) % 16;
    }
    return code;
}

static size_t write_utf8(long code, char out[4]) {
    static const unsigned char leads[] = {0, 0, 0xc0, 0xe0, 0xf0};
    size_t size = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = size - 1; i; i--, code >>= 6)
        out[i] = (char)(0x80 | (code & 0x3f));
    out[0] = (char)(code | leads[size]);
    return size;
}

/* A character in a string of JSON. */
static void put_character(reader *self, const char *bytes, size_t size, bool spells) {
    static const char special[] = "\"\\\n\r\t\f\b", letters[] = "\"\\nrtfb";
    const char *found = size == 1 && *bytes ? strchr(special, *bytes) : NULL;
    char escape[8];
    if (!spells || (!found && (unsigned char)*bytes >= 0x20)) {
        put(self, bytes, size);
        return;
    }
    int length = found ? snprintf(escape, sizeof escape, "\\%c", letters[found - special])
                       : snprintf(escape, sizeof escape, "\\u%04x", (unsigned)*bytes);
    put(self, escape, (size_t)length);
}

/* Half a pair cannot be written as UTF-8: it stays an escape. */
static void put_half(reader *self, long code) {
    char escape[16];
    int length = snprintf(escape, sizeof escape, "\\u%04lx", (unsigned long)code);
    put(self, escape, (size_t)length);
}

static bool copy_code(reader *self, bool spells) {
    char bytes[4];
    long code = take_code(self);
    if (code < 0) return false;
    if (code >= 0xd800 && code < 0xdc00) {
        const char *behind = self->at;
        long low = take(self, "\\u") ? take_code(self) : -1;
        if (low >= 0xdc00 && low < 0xe000)
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        else
            self->at = behind;
    }
    if (code >= 0xd800 && code < 0xe000)
        put_half(self, code);
    else
        put_character(self, bytes, write_utf8(code, bytes), spells);
    return true;
}

static bool copy_escape(reader *self, bool spells) {
    static const char letters[] = "\"\\/nrtfb", meant[] = "\"\\/\n\r\t\f\b";
    if (self->at == self->end) return false;
    char c = *self->at++;
    if (c == 'u') return copy_code(self, spells);
    const char *found = c ? strchr(letters, c) : NULL;
    if (found) put_character(self, &meant[found - letters], 1, spells);
    return found != NULL;
}

/* Behind the quote that opens it.  spells: with its escapes, without its quotes. */
static bool copy_string(reader *self, bool spells) {
    while (self->at < self->end) {
        char c = *self->at++;
        if (c == '"') return true;
        if ((unsigned char)c < 0x20) return false;
        if (c != '\\')
            put(self, &c, 1);
        else if (!copy_escape(self, spells))
            return false;
    }
    return false;
}

static bool copy_quoted(reader *self) {
    if (!take(self, "\"")) return false;
    put(self, "\"", 1);
    if (!copy_string(self, true)) return false;
    put(self, "\"", 1);
    return true;
}

/* ---- values ------------------------------------------------------------------------ */

static bool copy_value(reader *self);

static size_t skip_digits(reader *self) {
    const char *begin = self->at;
    while (self->at < self->end && *self->at >= '0' && *self->at <= '9')
        self->at++;
    return (size_t)(self->at - begin);
}

static bool copy_number(reader *self) {
    const char *begin = self->at;
    take(self, "-");
    if (!take(self, "0") && !skip_digits(self)) return false;
    if (take(self, ".") && !skip_digits(self)) return false;
    if (take(self, "e") || take(self, "E")) {
        if (!take(self, "+")) take(self, "-");
        if (!skip_digits(self)) return false;
    }
    put(self, begin, (size_t)(self->at - begin));
    return true;
}

static bool copy_member(reader *self) {
    skip_space(self);
    if (!copy_quoted(self)) return false;
    skip_space(self);
    if (!take(self, ":")) return false;
    put(self, ": ", 2);
    return copy_value(self);
}

static bool copy_items(reader *self, bool is_object, const char *close) {
    bool is_first = true;
    for (skip_space(self); !take(self, close); is_first = false) {
        if (!is_first && !take(self, ",")) return false;
        if (!is_first) put(self, ", ", 2);
        if (!(is_object ? copy_member(self) : copy_value(self))) return false;
        skip_space(self);
    }
    put(self, close, 1);
    return true;
}

static bool copy_value(reader *self) {
    static const char *const words[] = {"true", "false",    "null",
                                        "NaN",  "Infinity", "-Infinity"};
    const size_t n_words = self->takes_python ? 6 : 3;
    bool done;
    if (++self->depth > MAX_DEPTH) return false;
    skip_space(self);
    char c = self->at < self->end ? *self->at : '\0';
    if (c == '{' || c == '[') {
        self->at++;
        put(self, &c, 1);
        done = copy_items(self, c == '{', c == '{' ? "}" : "]");
    } else if (c == '"') {
        done = copy_quoted(self);
    } else {
        done = false;
        for (size_t i = 0; i < n_words && !done; i++)
            if (take(self, words[i])) {
                put(self, words[i], strlen(words[i]));
                done = true;
            }
        done = done || copy_number(self);
    }
    self->depth--;
    return done;
}

static bool copy_json(const char **at, const char *end, bool takes_python,
                      output_text *out) {
    reader self = {.at = *at, .end = end, .out = out, .takes_python = takes_python};
    bool done = copy_value(&self);
    *at = self.at;
    return done;
}

bool cohort_output_copy_json(const char **at, const char *end, output_text *out) {
    return copy_json(at, end, false, out);
}

bool cohort_output_read_string(const char **at, const char *end, output_text *out) {
    reader self = {.at = *at, .end = end, .out = out};
    bool done = take(&self, "\"") && copy_string(&self, false);
    *at = self.at;
    return done;
}

/* ---- calls ------------------------------------------------------------------------- */

static bool is_key(const output_text *key, const char *name) {
    return key->size == strlen(name) && !memcmp(key->bytes, name, key->size);
}

/* Hermes' own takes what Python's json does, as vLLM's. */
static bool read_member(reader *self, bool takes_parameters, output_call *out) {
    output_text key = {0};
    bool done = cohort_output_read_string(&self->at, self->end, &key);
    skip_space(self);
    done = done && take(self, ":");
    skip_space(self);
    if (done && is_key(&key, "name")) {
        out->name.size = 0;
        done = cohort_output_read_string(&self->at, self->end, &out->name);
    } else if (done && (is_key(&key, "arguments") ||
                        (takes_parameters && is_key(&key, "parameters")))) {
        out->arguments.size = 0;
        out->has_arguments = true;
        done = copy_json(&self->at, self->end, !takes_parameters, &out->arguments);
    } else if (done) {
        done = copy_json(&self->at, self->end, !takes_parameters, NULL);
    }
    skip_space(self);
    free(key.bytes);
    return done && !key.is_short;
}

bool cohort_output_read_call(const char **at, const char *end, bool takes_parameters,
                             output_call *out) {
    reader self = {.at = *at, .end = end};
    skip_space(&self);
    if (!take(&self, "{")) return false;
    do {
        skip_space(&self);
        if (!read_member(&self, takes_parameters, out)) return false;
    } while (take(&self, ","));
    if (!take(&self, "}")) return false;
    *at = self.at;
    return out->name.size && out->has_arguments && !out->name.is_short &&
           !out->arguments.is_short;
}

/* Up to the tag that ends the call, which is where its object ends: strings within may
 * have that tag, too. */
static bool read_body(const char **at, const char *end, output_call *out) {
    if (!cohort_output_read_call(at, end, false, out)) return false;
    reader self = {.at = *at, .end = end};
    skip_space(&self);
    bool is_over = self.at == self.end || take(&self, OUTPUT_CALL_END);
    *at = self.at;
    return is_over;
}

/* The next call from *at on; *at is behind it then.  False: there is none, or *is_right
 * is false. */
static bool next_call(const char **at, const char *end, output_call *out,
                      bool *is_right) {
    const size_t begin_size = strlen(OUTPUT_CALL_BEGIN);
    const char *begin = memmem(*at, (size_t)(end - *at), OUTPUT_CALL_BEGIN, begin_size);
    if (!begin) return false;
    *at = begin + begin_size;
    *is_right = read_body(at, end, out);
    return *is_right;
}

static bool is_blank(const char *text, size_t size) {
    for (size_t i = 0; i < size; i++)
        if (!strchr(" \t\r\n", text[i]) || !text[i]) return false;
    return true;
}

bool cohort_output_find_calls(const char *content, size_t size, bool only_calls,
                              cohort_output_sink sink, void *user_data) {
    const char *at = content, *end = content + size;
    const char *first =
        size ? memmem(content, size, OUTPUT_CALL_BEGIN, strlen(OUTPUT_CALL_BEGIN)) : NULL;
    bool is_right = true;
    int32_t n = 0;
    output_call one = {0};
    if (!first) return only_calls;
    /* Twice: nothing is told before all of them are known to be right. */
    while (next_call(&at, end, &one, &is_right))
        cohort_output_call_deinit(&one);
    cohort_output_call_deinit(&one);
    if (!is_right && !only_calls) return false;
    if (!only_calls && !is_blank(content, (size_t)(first - content)))
        sink(user_data, COHORT_OUTPUT_CONTENT, -1, content, (size_t)(first - content));
    for (at = content; next_call(&at, end, &one, &is_right); n++) {
        sink(user_data, COHORT_OUTPUT_CALL, n, one.name.bytes, one.name.size);
        sink(user_data, COHORT_OUTPUT_ARGUMENTS, n, one.arguments.bytes,
             one.arguments.size);
        cohort_output_call_deinit(&one);
    }
    cohort_output_call_deinit(&one);
    return true;
}
