/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/line_reader.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include <utf8proc.h>

#include "cli/terminal.h"

/* Design notes.
 *
 * What is typed at the end is written as it comes; anything else draws all of the line
 * anew, from the row that its prompt is in.  A text of more rows than fit is shown by its
 * last line alone, behind the number of those before. */

enum { MOST_ROWS = 12, REPLACEMENT = 0xfffd };

size_t cli_next_character(const char *text, size_t n, int32_t *out_code) {
    utf8proc_int32_t code;
    utf8proc_ssize_t size =
        utf8proc_iterate((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)n, &code);
    *out_code = size > 0 ? code : REPLACEMENT;
    return size > 0 ? (size_t)size : 1;
}

int cli_width_of(int32_t code) {
    bool is_override = (code >= 0x202a && code <= 0x202e) || /* turn text around */
                       (code >= 0x2066 && code <= 0x2069);
    if (code < 32 || (code >= 127 && code < 160) || is_override) return -1;
    return utf8proc_charwidth(code);
}

/* ---- drawing ----------------------------------------------------------------------- */

typedef struct place {
    int row, column;
} place;

typedef struct view {
    cli_line *line;
    const char *prompt;
    int columns;
    place cursor; /* as it is drawn */
} view;

/* Where what stands at a place goes on behind a character. */
static place advance(place at, int32_t code, int columns) {
    if (code == '\n') return (place){at.row + 1, 0};
    int width = cli_width_of(code);
    if (width < 0) width = 1;
    if (at.column + width > columns) at = (place){at.row + 1, 0};
    at.column += width;
    return at.column == columns ? (place){at.row + 1, 0} : at;
}

static place place_of(const view *self, size_t from, size_t to, place at) {
    int32_t code;
    while (from < to) {
        from += cli_next_character(self->line->text + from, to - from, &code);
        at = advance(at, code, self->columns);
    }
    return at;
}

/* A terminal goes on from a full row with the next character only, and with a line feed
 * to the same place as without: so a full row ends in a line feed of its own. */
static void put_text(const view *self, size_t from, place start) {
    const char *text = self->line->text;
    size_t size = self->line->size;
    int32_t code;
    for (size_t at = from, n; at < size; at += n) {
        n = cli_next_character(text + at, size - at, &code);
        if (code == '\n')
            fputs("\033[K\n", stdout);
        else if (cli_width_of(code) < 0 || code == REPLACEMENT)
            putchar('?');
        else
            fwrite(text + at, 1, n, stdout);
        start = advance(start, code, self->columns);
        if (start.column == 0 && code != '\n') putchar('\n');
    }
}

/* The beginning of the last line, where all of it is too much; else 0. */
static size_t shown_from(const view *self, int *out_lines) {
    const cli_line *line = self->line;
    size_t from = 0;
    *out_lines = 0;
    if (place_of(self, 0, line->size, (place){0, 0}).row < MOST_ROWS) return 0;
    for (size_t i = 0; i < line->at; i++)
        if (line->text[i] == '\n') {
            from = i + 1;
            ++*out_lines;
        }
    return from;
}

static void draw(view *self) {
    const cli_line *line = self->line;
    char before[48] = "";
    int lines;
    size_t from = shown_from(self, &lines);
    if (lines) snprintf(before, sizeof before, "[%d lines before] ", lines);
    if (self->cursor.row) printf("\033[%dA", self->cursor.row);
    printf("\r%s%s", self->prompt, before);
    place start = {0, (int)(strlen(self->prompt) + strlen(before))};
    put_text(self, from, start);
    self->cursor = place_of(self, from, line->at, start);
    place end = place_of(self, from, line->size, start);
    printf("\033[J");
    if (end.row > self->cursor.row) printf("\033[%dA", end.row - self->cursor.row);
    printf("\r");
    if (self->cursor.column) printf("\033[%dC", self->cursor.column);
}

static void draw_last(view *self, size_t from) {
    const cli_line *line = self->line;
    place next = place_of(self, from, line->size, self->cursor);
    if (next.row != self->cursor.row || self->cursor.row >= MOST_ROWS - 1) {
        draw(self);
        return;
    }
    put_text(self, from, self->cursor);
    self->cursor = next;
}

/* Below all of it, wherever the cursor was. */
static void leave(view *self) {
    bool is_within = self->line->at < self->line->size;
    self->line->at = self->line->size;
    if (is_within) draw(self);
    printf("\n");
}

/* ---- reading ----------------------------------------------------------------------- */

static bool set_mode(struct termios *out_before) {
    struct termios mode;
    if (tcgetattr(STDIN_FILENO, out_before) < 0) return false;
    mode = *out_before;
    mode.c_lflag &= ~(tcflag_t)(ICANON | ECHO | IEXTEN);
    mode.c_iflag &= ~(tcflag_t)(IXON);
    mode.c_cc[VMIN] = 1;
    mode.c_cc[VTIME] = 0;
    mode.c_cc[VSUSP] = _POSIX_VDISABLE; /* stopped, it would leave this mode */
    return tcsetattr(STDIN_FILENO, TCSADRAIN, &mode) == 0;
}

/* A byte, or -1: an interrupt, or the end.  A signal between look and read is not lost.
 */
static int next_byte(const volatile sig_atomic_t *interrupted) {
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    unsigned char byte;
    sigset_t own, before;
    sigemptyset(&own);
    sigaddset(&own, SIGINT);
    sigaddset(&own, SIGTERM);
    sigaddset(&own, SIGHUP);
    sigprocmask(SIG_BLOCK, &own, &before);
    while (!*interrupted && ppoll(&input, 1, NULL, &before) < 0 && errno == EINTR)
        continue;
    sigprocmask(SIG_SETMASK, &before, NULL);
    return !*interrupted && read(STDIN_FILENO, &byte, 1) == 1 ? byte : -1;
}

static int edit(view *self, const volatile sig_atomic_t *interrupted) {
    size_t size_before = 0;
    for (;;) {
        fflush(stdout);
        int byte = next_byte(interrupted);
        if (byte < 0) {
            leave(self);
            return *interrupted ? CLI_READ_INTERRUPTED : CLI_READ_END;
        }
        int columns = cli_columns(STDOUT_FILENO); /* the window may have changed */
        self->columns = columns > 4 ? columns : 4;
        switch (cli_line_feed(self->line, (unsigned char)byte)) {
        case CLI_LINE_NOTHING: continue; /* of a character that is not whole, too */
        case CLI_LINE_APPENDED: draw_last(self, size_before); break;
        case CLI_LINE_CHANGED: draw(self); break;
        case CLI_LINE_REDRAW_ALL:
            printf("\033[H\033[2J");
            self->cursor = (place){0, 0};
            draw(self);
            break;
        case CLI_LINE_DONE: leave(self); return CLI_READ_LINE;
        case CLI_LINE_END: return CLI_READ_END;
        }
        size_before = self->line->size;
    }
}

int cli_line_read(cli_line *self, const char *prompt,
                  const volatile sig_atomic_t *interrupted) {
    struct termios before;
    view of = {.line = self, .prompt = prompt, .cursor = {0, (int)strlen(prompt)}};
    cli_line_begin(self);
    bool is_set = set_mode(&before);
    printf("\033[?2004h%s", prompt); /* pastes come between brackets */
    int result = edit(&of, interrupted);
    printf("\033[?2004l");
    fflush(stdout);
    if (is_set) tcsetattr(STDIN_FILENO, TCSADRAIN, &before);
    return result;
}
