/* SPDX-License-Identifier: Apache-2.0 */
/* cli/progress.h - how far something is that takes long.
 *
 * On a terminal one line with a bar, drawn over and over and gone in the end; elsewhere a
 * line of text every few seconds, so that a log shows that it goes on, and how fast.
 *
 *   Loading weights [###########-------------]  46%  1.2/2.7 GB  812.0 MB/s  2 s left
 *   Loading weights: 46% Completed | 1.2/2.7 GB, 812.0 MB/s, 2 s left
 *
 * Threads: one at a time.
 */
#ifndef COHORT_CLI_PROGRESS_H
#define COHORT_CLI_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct cli_progress {
    char what[160];
    const char *unit; /* NULL: bytes */
    /* Where there is no terminal; NULL: standard error. */
    void (*say)(void *user_data, const char *line);
    void *user_data;
    bool is_log; /* lines also on a terminal, where others write lines, too */
    int64_t began_ns, shown_ns;
    int64_t first_done; /* that was there before */
    bool has_first;
} cli_progress;

/* On a terminal what is done is shown at once. */
void cli_progress_begin(cli_progress *self, const char *what);
void cli_progress_show(cli_progress *self, int64_t done, int64_t total);
/* Takes away the line that is drawn, if any, before others are written. */
void cli_progress_clear(void);

/* The line, of columns at most; 0: the text for a log. */
void cli_progress_format(const cli_progress *self, int64_t done, int64_t total,
                         int64_t now_ns, int columns, char *out, size_t size);

#endif /* COHORT_CLI_PROGRESS_H */
