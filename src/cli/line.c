/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/line.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ESCAPE = 27, CONTROL = 0x1f };

#define KEY(letter) ((letter)&CONTROL)

static const char paste_end[] = "\033[201~";

static char *copy(const char *text, size_t size) {
    char *made = strndup(text, size);
    if (!made) abort();
    return made;
}

/* ---- text and cursor --------------------------------------------------------------- */

static void replace(cli_line *self, size_t from, size_t to, const char *with, size_t n) {
    size_t size = self->size - (to - from) + n;
    if (size + 1 > self->capacity) {
        self->capacity = 2 * size + 64;
        self->text = realloc(self->text, self->capacity);
        if (!self->text) abort();
    }
    memmove(self->text + from + n, self->text + to, self->size - to);
    if (n) memcpy(self->text + from, with, n);
    self->size = size;
    self->text[size] = '\0';
    self->at = from + n;
}

static bool continues(char c) { return (c & 0xc0) == 0x80; }

static size_t before(const cli_line *self, size_t at) {
    while (at && continues(self->text[--at]))
        continue;
    return at;
}

static size_t behind(const cli_line *self, size_t at) {
    if (at < self->size) at++;
    while (at < self->size && continues(self->text[at]))
        at++;
    return at;
}

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n'; }

static size_t word_before(const cli_line *self) {
    size_t at = self->at;
    while (at && is_space(self->text[at - 1]))
        at--;
    while (at && !is_space(self->text[at - 1]))
        at--;
    return at;
}

static size_t word_behind(const cli_line *self) {
    size_t at = self->at;
    while (at < self->size && is_space(self->text[at]))
        at++;
    while (at < self->size && !is_space(self->text[at]))
        at++;
    return at;
}

static cli_line_event move_to(cli_line *self, size_t at) {
    bool is_same = at == self->at;
    self->at = at;
    return is_same ? CLI_LINE_NOTHING : CLI_LINE_CHANGED;
}

static cli_line_event cut(cli_line *self, size_t from, size_t to, bool keeps) {
    if (from == to) return CLI_LINE_NOTHING;
    if (keeps) {
        free(self->killed);
        self->killed = copy(self->text + from, to - from);
    }
    replace(self, from, to, NULL, 0);
    return CLI_LINE_CHANGED;
}

static cli_line_event insert(cli_line *self, const char *bytes, size_t n) {
    replace(self, self->at, self->at, bytes, n);
    return CLI_LINE_CHANGED;
}

/* ---- history ----------------------------------------------------------------------- */

static cli_line_event recall(cli_line *self, size_t index) {
    if (index > self->n_history || index == self->history_at) return CLI_LINE_NOTHING;
    if (self->history_at == self->n_history) {
        free(self->typed);
        self->typed = copy(self->text, self->size);
    }
    const char *text = index == self->n_history ? self->typed : self->history[index];
    self->history_at = index;
    replace(self, 0, self->size, text, strlen(text));
    return CLI_LINE_CHANGED;
}

bool cli_line_remember(cli_line *self, const char *text) {
    size_t n = self->n_history;
    if (n && !strcmp(self->history[n - 1], text)) return false;
    if (n == CLI_LINE_HISTORY) {
        free(self->history[0]);
        memmove(self->history, self->history + 1, (n - 1) * sizeof *self->history);
        n--;
    }
    self->history[n] = copy(text, strlen(text));
    self->n_history = n + 1;
    return true;
}

bool cli_line_load_history(cli_line *self, const char *path) {
    char *line = NULL;
    size_t capacity = 0, n_lines = 0;
    FILE *file = fopen(path, "re");
    if (!file) return errno == ENOENT;
    for (ssize_t n; (n = getline(&line, &capacity, file)) > 0;) {
        char *to = line;
        for (const char *c = line; *c && *c != '\n'; c++) {
            bool is_escape = *c == '\\' && (c[1] == 'n' || c[1] == '\\');
            if (is_escape) c++;
            *to++ = is_escape && *c == 'n' ? '\n' : *c;
        }
        *to = '\0';
        if (*line) cli_line_remember(self, line);
        n_lines++;
    }
    bool fine = !ferror(file);
    free(line);
    fclose(file);
    if (fine && n_lines > 2 * CLI_LINE_HISTORY) /* lines were only ever added */
        fine = cli_line_save_history(self, path);
    return fine;
}

/* Nobody but its user reads what was said, also where the file was there before. */
static FILE *open_history(const char *path, int flag) {
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | flag, 0600);
    struct stat found;
    /* A device, /dev/null as a rule, is not this user's alone. */
    if (fd >= 0 && fstat(fd, &found) == 0 && S_ISREG(found.st_mode)) fchmod(fd, 0600);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "w");
    if (!file && fd >= 0) close(fd);
    return file;
}

static void put_line(FILE *file, const char *text) {
    for (const char *c = text; *c; c++)
        if (*c == '\n' || *c == '\\')
            fprintf(file, "\\%c", *c == '\n' ? 'n' : '\\');
        else
            putc(*c, file);
    putc('\n', file);
}

static bool close_history(FILE *file) {
    bool fine = !ferror(file);
    return fclose(file) == 0 && fine;
}

bool cli_line_save_history(const cli_line *self, const char *path) {
    FILE *file = open_history(path, O_TRUNC);
    if (!file) return false;
    for (size_t i = 0; i < self->n_history; i++)
        put_line(file, self->history[i]);
    return close_history(file);
}

bool cli_line_append_history(const char *path, const char *text) {
    FILE *file = open_history(path, O_APPEND);
    if (!file) return false;
    put_line(file, text);
    return close_history(file);
}

/* ---- keys -------------------------------------------------------------------------- */

static cli_line_event take_sequence(cli_line *self) {
    static const struct {
        const char *sequence;
        char key; /* of Ctrl, or a digit of its own */
    } keys[] = {{"[A", 'P'},    {"[B", 'N'},    {"[C", 'F'},    {"[D", 'B'},
                {"[H", 'A'},    {"[F", 'E'},    {"OH", 'A'},    {"OF", 'E'},
                {"[1~", 'A'},   {"[4~", 'E'},   {"[7~", 'A'},   {"[8~", 'E'},
                {"[3~", '1'},   {"b", '2'},     {"f", '3'},     {"[1;5D", '2'},
                {"[1;5C", '3'}, {"[1;3D", '2'}, {"[1;3C", '3'}, {"[200~", '4'},
                {"\n", '5'},    {"\r", '5'},    {"OA", 'P'},    {"OB", 'N'},
                {"OC", 'F'},    {"OD", 'B'}};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (strcmp(self->sequence, keys[i].sequence) != 0) continue;
        switch (keys[i].key) {
        case '1': return cut(self, self->at, behind(self, self->at), false);
        case '2': return move_to(self, word_before(self));
        case '3': return move_to(self, word_behind(self));
        case '4': self->is_pasting = true; return CLI_LINE_NOTHING;
        case '5': return insert(self, "\n", 1);
        default: return cli_line_feed(self, (unsigned char)KEY(keys[i].key));
        }
    }
    return CLI_LINE_NOTHING; /* a key that means nothing here */
}

/* ESC has come; the sequence is whole at a letter or '~', or is one character. */
static cli_line_event add_to_sequence(cli_line *self, char c) {
    bool is_first = self->n_sequence == 1;
    if (is_first && c == ESCAPE) return CLI_LINE_NOTHING; /* it begins anew */
    self->sequence[self->n_sequence - 1] = c;
    self->sequence[self->n_sequence++] = '\0';
    bool goes_on = is_first ? c == '[' || c == 'O' : c < 0x40 || c > 0x7e;
    if (goes_on && self->n_sequence + 1 < sizeof self->sequence) return CLI_LINE_NOTHING;
    self->n_sequence = 0;
    return goes_on ? CLI_LINE_NOTHING : take_sequence(self);
}

static cli_line_event paste(cli_line *self, char c) {
    const size_t n = sizeof paste_end - 1;
    c = c == '\r' ? '\n' : c;
    if (c) insert(self, &c, 1);
    if (self->at < n || memcmp(self->text + self->at - n, paste_end, n) != 0)
        return CLI_LINE_NOTHING; /* shown as a whole */
    size_t from = self->at - n;
    if (from && self->text[from - 1] == '\n')
        from--; /* of the last line that was copied */
    replace(self, from, self->at, NULL, 0);
    self->is_pasting = false;
    return CLI_LINE_CHANGED;
}

static cli_line_event type(cli_line *self, char c) {
    unsigned char byte = (unsigned char)c;
    bool is_at_end = self->at == self->size;
    insert(self, &c, 1);
    if (self->n_left && continues(c))
        self->n_left--;
    else /* also where a character broke off */
        self->n_left = byte >= 0xf0 ? 3 : byte >= 0xe0 ? 2 : byte >= 0xc0 ? 1 : 0;
    if (self->n_left) return CLI_LINE_NOTHING;
    return is_at_end ? CLI_LINE_APPENDED : CLI_LINE_CHANGED;
}

cli_line_event cli_line_feed(cli_line *self, unsigned char byte) {
    if (self->is_pasting) return paste(self, (char)byte);
    if (self->n_sequence) return add_to_sequence(self, (char)byte);
    switch (byte) {
    case ESCAPE: self->n_sequence = 1; return CLI_LINE_NOTHING;
    case '\n':
    case '\r': return CLI_LINE_DONE;
    case KEY('D'):
        if (!self->size) return CLI_LINE_END;
        return cut(self, self->at, behind(self, self->at), false);
    case KEY('H'):
    case 127: return cut(self, before(self, self->at), self->at, false);
    case KEY('A'): return move_to(self, 0);
    case KEY('E'): return move_to(self, self->size);
    case KEY('B'): return move_to(self, before(self, self->at));
    case KEY('F'): return move_to(self, behind(self, self->at));
    case KEY('K'): return cut(self, self->at, self->size, true);
    case KEY('U'): return cut(self, 0, self->at, true);
    case KEY('W'): return cut(self, word_before(self), self->at, true);
    case KEY('Y'):
        if (!self->killed) return CLI_LINE_NOTHING;
        return insert(self, self->killed, strlen(self->killed));
    case KEY('P'):
        return self->history_at ? recall(self, self->history_at - 1) : CLI_LINE_NOTHING;
    case KEY('N'): return recall(self, self->history_at + 1);
    case KEY('L'): return CLI_LINE_REDRAW_ALL;
    case '\t': return type(self, ' ');
    default: return byte < 32 ? CLI_LINE_NOTHING : type(self, (char)byte);
    }
}

void cli_line_begin(cli_line *self) {
    replace(self, 0, self->size, NULL, 0);
    self->history_at = self->n_history;
    self->n_sequence = 0;
    self->n_left = 0;
    self->is_pasting = false;
}

void cli_line_deinit(cli_line *self) {
    for (size_t i = 0; i < self->n_history; i++)
        free(self->history[i]);
    free(self->text);
    free(self->killed);
    free(self->typed);
}
