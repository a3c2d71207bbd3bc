/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/prose.h"

#include <stdint.h>
#include <string.h>

#include "cli/line_reader.h"

static const char mark[] = "\xef\xbf\xbd"; /* U+FFFD */

static void set_dim(cli_prose *self, bool dim) {
    if (self->is_dim == dim) return;
    fputs(dim ? "\033[2m" : "\033[0m", self->out);
    self->is_dim = dim;
}

static void end_word(cli_prose *self) {
    self->word_bytes = 0;
    self->word_columns = 0;
}

static void new_line(cli_prose *self) {
    putc('\n', self->out);
    self->column = 0;
    if (self->n_ticks >= 3) self->is_code = !self->is_code;
    self->n_ticks = 0;
    end_word(self);
}

/* The line is full: the word that began on it goes on in the next. */
static void wrap(cli_prose *self) {
    bool moves = self->word_columns && self->word_columns < self->column;
    /* Behind the last column the cursor is still in it. */
    int back = self->word_columns - (self->column == self->columns);
    if (moves && back > 0) fprintf(self->out, "\033[%dD", back);
    if (moves) fputs("\033[K", self->out);
    putc('\n', self->out);
    self->column = 0;
    if (moves) {
        fwrite(self->word, 1, self->word_bytes, self->out);
        self->column = self->word_columns;
    } else {
        end_word(self);
    }
}

static void put_character(cli_prose *self, const char *bytes, size_t n, int32_t code) {
    int width = cli_width_of(code);
    if (code == '\r') return;
    if (code == '\n') {
        new_line(self);
        return;
    }
    if (code == '\t') { /* as wide as a terminal may make it, and never more */
        bytes = "    ";
        n = 4;
        width = 4;
    } else if (width < 0 || code == 0xfffd) {
        bytes = mark;
        n = sizeof mark - 1;
        width = 1;
    }
    if (self->n_ticks >= 0) {
        if (code == '`')
            self->n_ticks++;
        else if (self->n_ticks < 3)
            self->n_ticks = -1;
    }
    bool is_space = code == ' ' || code == '\t';
    if (!self->is_code && self->column + width > self->columns) {
        if (is_space) { /* the break is in its place */
            putc('\n', self->out);
            self->column = 0;
            end_word(self);
            return;
        }
        wrap(self);
    }
    fwrite(bytes, 1, n, self->out);
    self->column += width;
    if (is_space || self->word_bytes + n > sizeof self->word) {
        end_word(self);
        return;
    }
    memcpy(self->word + self->word_bytes, bytes, n);
    self->word_bytes += n;
    self->word_columns += width;
}

static void put_plain(cli_prose *self, const char *text, size_t size) {
    int32_t code;
    for (size_t at = 0, n; at < size; at += n) {
        n = cli_next_character(text + at, size - at, &code);
        if (code != ' ' && code != '\n') self->has_text = true;
        put_character(self, text + at, n, code);
    }
}

/* Is the byte one of a tag where one would begin or end a thought? */
static bool take_tag(cli_prose *self, char c) {
    const char *tag = self->is_dim ? "</think>" : "<think>";
    if (tag[self->n_held] == c) {
        self->held[self->n_held++] = c;
        if (tag[self->n_held]) return true; /* it may still become one */
        self->n_held = 0;
        set_dim(self, !self->is_dim);
        return true;
    }
    size_t n = self->n_held;
    self->n_held = 0;
    put_plain(self, self->held, n);
    return n && (self->is_dim || !self->has_text) && take_tag(self, c);
}

void cli_prose_put(cli_prose *self, const char *text, bool dim) {
    size_t size = strlen(text);
    if (dim) {
        self->is_told = true;
        set_dim(self, true);
        put_plain(self, text, size);
        return;
    }
    if (self->is_told) { /* the answer begins */
        self->is_told = false;
        set_dim(self, false);
        if (self->column) new_line(self);
        new_line(self);
    }
    for (size_t i = 0, n; i < size; i += n) {
        bool may_be_tag = self->n_held || self->is_dim || !self->has_text;
        n = 1;
        if (may_be_tag && take_tag(self, text[i])) continue;
        while (i + n < size && ((text[i + n] & 0xc0) == 0x80))
            n++; /* a character is whole within a text */
        put_plain(self, text + i, n);
    }
}

void cli_prose_end(cli_prose *self) {
    size_t n = self->n_held;
    self->n_held = 0;
    put_plain(self, self->held, n);
    set_dim(self, false);
    self->column = 0;
    self->n_ticks = 0;
    self->is_code = self->has_text = self->is_told = false;
    end_word(self);
}
