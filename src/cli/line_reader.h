/* SPDX-License-Identifier: Apache-2.0 */
/* cli/line_reader.h - lines that somebody types at a terminal, which may be edited
 * (line.h); and how wide what is shown there is.
 *
 * The terminal is in a mode of its own during cli_line_read only.  SIGINT, SIGTERM and
 * SIGHUP end a read where whoever reads has a handler for them.
 */
#ifndef COHORT_CLI_LINE_READER_H
#define COHORT_CLI_LINE_READER_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "cli/line.h"

enum { CLI_READ_LINE, CLI_READ_END, CLI_READ_INTERRUPTED };

/* Reads from standard input and writes to standard output, both terminals; the line is
 * the text of self.  interrupted: what those handlers set. */
int cli_line_read(cli_line *self, const char *prompt,
                  const volatile sig_atomic_t *interrupted);

/* Columns of one character, 0 to 2; of one that could command a terminal: -1. */
int cli_width_of(int32_t code);
/* The character that text begins with: its bytes, at least 1 of n.  A byte that is none
 * is U+FFFD. */
size_t cli_next_character(const char *text, size_t n, int32_t *out_code);

#endif /* COHORT_CLI_LINE_READER_H */
