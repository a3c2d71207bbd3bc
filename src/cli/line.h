/* SPDX-License-Identifier: Apache-2.0 */
/* cli/line.h - a line that is being typed: keys in, a text and a cursor out.
 *
 * The keys are those of shells: arrows, Home, End, Ctrl-A E B F P N D K U W Y, Alt-B F,
 * Ctrl-arrows.  What a terminal pastes between brackets (ESC[200~ ... ESC[201~) is text,
 * line feeds as well; Alt-Enter adds one.  There is no terminal here: line_reader.h has.
 *
 * Ownership: texts belong to the line, and are valid until the next key.
 */
#ifndef COHORT_CLI_LINE_H
#define COHORT_CLI_LINE_H

#include <stdbool.h>
#include <stddef.h>

enum { CLI_LINE_HISTORY = 500 };

typedef enum cli_line_event {
    CLI_LINE_NOTHING,  /* the same is to be shown */
    CLI_LINE_APPENDED, /* one character at the end, which the cursor is behind */
    CLI_LINE_CHANGED,
    CLI_LINE_DONE,
    CLI_LINE_END, /* Ctrl-D on an empty line */
    CLI_LINE_REDRAW_ALL,
} cli_line_event;

typedef struct cli_line {
    char *text; /* NUL-terminated */
    size_t size, capacity;
    size_t at; /* cursor: a byte of the text */
    char *killed;
    char sequence[16]; /* of an escape sequence, so far */
    size_t n_sequence;
    int n_left; /* bytes of the character under way */
    bool is_pasting;
    char *history[CLI_LINE_HISTORY];
    size_t n_history, history_at; /* n_history: what is typed, kept in typed meanwhile */
    char *typed;
} cli_line;

cli_line_event cli_line_feed(cli_line *self, unsigned char byte);
/* An empty line. */
void cli_line_begin(cli_line *self);
/* The last one; false: it is the same as the one before. */
bool cli_line_remember(cli_line *self, const char *text);
/* A line of the file each, with \n and \\ in place of line feeds and backslashes.  False,
 * with errno, where the file cannot be read or written; one that is not there is empty.
 */
bool cli_line_load_history(cli_line *self, const char *path);
bool cli_line_save_history(const cli_line *self, const char *path);
/* One more line, behind those of others that write there at the same time. */
bool cli_line_append_history(const char *path, const char *text);
void cli_line_deinit(cli_line *self);

#endif /* COHORT_CLI_LINE_H */
