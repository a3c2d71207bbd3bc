/* SPDX-License-Identifier: Apache-2.0 */
#include "http/framing.h"

#include <string.h>
#include <strings.h>

enum {
    MAX_HEAD_BYTES = 64 << 10,
    MAX_LINE_BYTES = 4 << 10,
    MAX_BLANK_LINES = 8,
    MAX_LENGTH_DIGITS = 18, /* fit in 63 bits, */
    MAX_CHUNK_DIGITS = 15   /* so do these */
};

/* A part of the head's text. */
typedef struct slice {
    const char *at;
    size_t size;
} slice;

/* What a head says of its body. */
typedef struct head {
    slice method, target;
    bool is_1_0, has_length, has_chunks, has_host;
    uint64_t length;
} head;

void cohort_framing_deinit(cohort_framing *self) { cohort_body_deinit(&self->held); }

/* In its place in the stream: the parser behind us must be able to read it there. */
static void refuse(cohort_framing *self, int status, const char *fault,
                   cohort_body *out) {
    if (self->state == COHORT_FRAMING_HEAD) {
        self->n_heads++;
        cohort_body_puts(out, COHORT_FRAMING_MARK
                         " / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    } else {
        if (self->state == COHORT_FRAMING_CHUNK_END) cohort_body_puts(out, "\r\n");
        cohort_body_puts(out, "0\r\n" COHORT_FRAMING_MARK ": 1\r\n\r\n");
    }
    self->state = COHORT_FRAMING_REFUSED;
    self->status = status;
    self->fault = fault;
    cohort_body_deinit(&self->held);
}

/* ---- one head ---------------------------------------------------------------------- */

static bool is_token(slice text) {
    static const char marks[] = "!#$%&'*+-.^_`|~";
    for (size_t i = 0; i < text.size; i++) {
        char c = text.at[i];
        bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!is_letter && !(c >= '0' && c <= '9') && (!c || !strchr(marks, c)))
            return false;
    }
    return text.size > 0;
}

/* No controls; a tab is one that a value may have. */
static bool is_text(slice text, bool has_tabs) {
    for (size_t i = 0; i < text.size; i++) {
        unsigned char c = (unsigned char)text.at[i];
        if ((c < 0x20 && !(c == '\t' && has_tabs)) || c == 0x7f) return false;
    }
    return true;
}

static bool equals(slice text, const char *word) {
    return text.size == strlen(word) && !strncasecmp(text.at, word, text.size);
}

static slice trim(slice text) {
    while (text.size && (*text.at == ' ' || *text.at == '\t'))
        text = (slice){text.at + 1, text.size - 1};
    while (text.size && (text.at[text.size - 1] == ' ' || text.at[text.size - 1] == '\t'))
        text.size--;
    return text;
}

static slice until(slice text, char end) {
    const char *found = text.size ? memchr(text.at, end, text.size) : NULL;
    return found ? (slice){text.at, (size_t)(found - text.at)} : text;
}

static slice after(slice text, size_t size) {
    return (slice){text.at + size, text.size - size};
}

/* Of "http://host:1/path?query" what follows the host. */
static bool read_target(slice text, head *out) {
    static const char *const schemes[] = {"http://", "https://"};
    out->target = text;
    for (size_t i = 0; i < 2; i++) {
        size_t size = strlen(schemes[i]);
        if (text.size <= size || strncasecmp(text.at, schemes[i], size)) continue;
        slice rest = after(text, size);
        size_t host = 0;
        while (host < rest.size && rest.at[host] != '/' && rest.at[host] != '?')
            host++;
        out->target = after(rest, host);
        return host > 0;
    }
    return *text.at == '/' || equals(text, "*");
}

static const char *read_request_line(slice line, head *out) {
    static const char fault[] = "the request line is not METHOD TARGET HTTP/1.1";
    out->method = until(line, ' ');
    if (!is_token(out->method) || out->method.size == line.size) return fault;
    slice rest = after(line, out->method.size + 1);
    slice target = until(rest, ' ');
    if (!target.size || target.size == rest.size || !is_text(target, false)) return fault;
    slice version = after(rest, target.size + 1);
    out->is_1_0 = version.size == 8 && !memcmp(version.at, "HTTP/1.0", 8);
    if (!out->is_1_0 && !(version.size == 8 && !memcmp(version.at, "HTTP/1.1", 8)))
        return fault;
    return read_target(target, out) ? NULL : "the target is neither path nor http URL";
}

static const char *read_length(slice value, head *out) {
    if (out->has_length) return "Content-Length is there twice";
    out->has_length = true;
    if (!value.size || value.size > MAX_LENGTH_DIGITS)
        return "Content-Length is no number of bytes";
    for (size_t i = 0; i < value.size; i++) {
        if (value.at[i] < '0' || value.at[i] > '9')
            return "Content-Length is no number of bytes";
        out->length = out->length * 10 + (uint64_t)(value.at[i] - '0');
    }
    return NULL;
}

static const char *read_field(slice line, head *out) {
    if (*line.at == ' ' || *line.at == '\t') return "a header is folded";
    slice name = until(line, ':');
    if (name.size == line.size || !is_token(name)) return "a header's name is not one";
    slice value = after(line, name.size + 1);
    if (!is_text(value, true)) return "a header's value has control characters";
    value = trim(value);
    if (equals(name, "Content-Length")) return read_length(value, out);
    if (equals(name, "Transfer-Encoding")) {
        if (out->has_chunks) return "Transfer-Encoding is there twice";
        out->has_chunks = true;
        return equals(value, "chunked") ? NULL : "Transfer-Encoding is not chunked";
    }
    if (equals(name, "Host")) {
        if (out->has_host) return "Host is there twice";
        out->has_host = true;
    }
    return NULL;
}

/* Every line of it ends in CRLF.  NULL: it is right. */
static const char *read_head(slice text, head *out) {
    slice line = until(text, '\n');
    const char *fault = read_request_line((slice){line.at, line.size - 1}, out);
    while (!fault) {
        text = after(text, line.size + 1);
        line = until(text, '\n');
        if (line.size == 1) break;
        fault = read_field((slice){line.at, line.size - 1}, out);
    }
    if (fault) return fault;
    if (out->has_chunks && out->has_length)
        return "Content-Length and Transfer-Encoding exclude each other";
    if (out->has_chunks && out->is_1_0) return "HTTP/1.0 has no Transfer-Encoding";
    return NULL;
}

static void write_head(const head *of, slice text, cohort_body *out) {
    cohort_body_add(out, of->method.at, of->method.size);
    bool has_path = of->target.size && *of->target.at != '?';
    cohort_body_puts(out, has_path ? " " : " /");
    const char *rest = of->target.at;
    cohort_body_add(out, rest, (size_t)(text.at + text.size - rest));
}

/* ---- lines ------------------------------------------------------------------------- */

static void end_head(cohort_framing *self, cohort_body *out) {
    head found = {0};
    slice text = {self->held.bytes, self->held.size};
    const char *fault = read_head(text, &found);
    if (fault) {
        refuse(self, 400, fault, out);
        return;
    }
    write_head(&found, text, out);
    self->n_heads++;
    self->n_blank = 0;
    self->left = found.length;
    self->state = found.has_chunks ? COHORT_FRAMING_CHUNK_LINE
                  : found.length   ? COHORT_FRAMING_BODY
                                   : COHORT_FRAMING_HEAD;
    cohort_body_deinit(&self->held);
}

static int digit_of(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void end_chunk_line(cohort_framing *self, cohort_body *out) {
    slice line = {self->held.bytes, self->held.size - 2};
    size_t n = 0;
    self->left = 0;
    for (; n < line.size && digit_of(line.at[n]) >= 0 && n <= MAX_CHUNK_DIGITS; n++)
        self->left = self->left * 16 + (uint64_t)digit_of(line.at[n]);
    slice rest = trim(after(line, n));
    if (!n || n > MAX_CHUNK_DIGITS || !is_text(rest, true) ||
        (rest.size && *rest.at != ';')) {
        refuse(self, 400, "a chunk's size is not one", out);
        return;
    }
    self->held.size = 0;
    self->state = self->left ? COHORT_FRAMING_CHUNK : COHORT_FRAMING_TRAILERS;
    if (self->left) cohort_body_printf(out, "%llx\r\n", (unsigned long long)self->left);
}

/* Trailers are looked at, and dropped. */
static void end_trailer(cohort_framing *self, slice line, cohort_body *out) {
    if (!line.size) {
        cohort_body_puts(out, "0\r\n\r\n");
        self->state = COHORT_FRAMING_HEAD;
        cohort_body_deinit(&self->held);
        return;
    }
    slice name = until(line, ':');
    if (name.size == line.size || !is_token(name) ||
        !is_text(after(line, name.size), true))
        refuse(self, 400, "a trailer is not one", out);
}

static void end_line(cohort_framing *self, size_t begin, cohort_body *out) {
    size_t size = self->held.size - begin; /* of the line, with its LF */
    const char *line = self->held.bytes + begin;
    bool is_blank = size == 2;
    if (size < 2 || line[size - 2] != '\r') {
        refuse(self, 400, "a line does not end in CRLF", out);
    } else if (self->state == COHORT_FRAMING_HEAD) {
        if (is_blank && begin) end_head(self, out);
        if (!is_blank || begin) return;
        self->held.size = 0;
        if (++self->n_blank > MAX_BLANK_LINES)
            refuse(self, 400, "there are blank lines in place of a request", out);
    } else if (self->state == COHORT_FRAMING_CHUNK_LINE) {
        end_chunk_line(self, out);
    } else if (self->state == COHORT_FRAMING_TRAILERS) {
        end_trailer(self, (slice){line, size - 2}, out);
    } else if (is_blank) { /* COHORT_FRAMING_CHUNK_END */
        cohort_body_puts(out, "\r\n");
        self->held.size = 0;
        self->state = COHORT_FRAMING_CHUNK_LINE;
    } else {
        refuse(self, 400, "a chunk is longer than its size", out);
    }
}

/* Up to the end of a line, if it is there.  Returns how many were taken. */
static size_t take_line(cohort_framing *self, slice bytes, cohort_body *out) {
    const cohort_body *held = &self->held;
    bool is_head =
        self->state == COHORT_FRAMING_HEAD || self->state == COHORT_FRAMING_TRAILERS;
    size_t most = is_head                                   ? MAX_HEAD_BYTES
                  : self->state == COHORT_FRAMING_CHUNK_END ? 2
                                                            : MAX_LINE_BYTES;
    const char *end = memchr(bytes.at, '\n', bytes.size);
    size_t taken = end ? (size_t)(end - bytes.at) + 1 : bytes.size;
    if (taken > most - held->size) {
        if (self->state == COHORT_FRAMING_CHUNK_END)
            refuse(self, 400, "a chunk is longer than its size", out);
        else
            refuse(self, 431, "a head or line is too long", out);
        return bytes.size;
    }
    cohort_body_add(&self->held, bytes.at, taken);
    if (held->is_short)
        refuse(self, 431, "memory is short", out);
    else if (end)
        end_line(self, self->line_at, out);
    if (end) self->line_at = held->size; /* 0 where that was the last */
    return taken;
}

/* ---- the stream -------------------------------------------------------------------- */

uint64_t cohort_framing_through(const cohort_framing *self) {
    bool passes =
        self->state == COHORT_FRAMING_BODY || self->state == COHORT_FRAMING_CHUNK;
    return passes ? self->left : 0;
}

void cohort_framing_pass(cohort_framing *self, uint64_t size) {
    self->left -= size;
    if (self->left) return;
    self->state = self->state == COHORT_FRAMING_CHUNK ? COHORT_FRAMING_CHUNK_END
                                                      : COHORT_FRAMING_HEAD;
}

void cohort_framing_feed(cohort_framing *self, const char *bytes, size_t size,
                         cohort_body *out) {
    while (size && self->state != COHORT_FRAMING_REFUSED) {
        uint64_t through = cohort_framing_through(self);
        size_t taken = through < size ? (size_t)through : size;
        if (through) {
            cohort_body_add(out, bytes, taken);
            cohort_framing_pass(self, taken);
        } else {
            taken = take_line(self, (slice){bytes, size}, out);
        }
        bytes += taken;
        size -= taken;
    }
}
