/* SPDX-License-Identifier: Apache-2.0 */
/* cli/terminal.h - who is at the other end: a person at a terminal, or a file. */
#ifndef COHORT_CLI_TERMINAL_H
#define COHORT_CLI_TERMINAL_H

/* Columns of the terminal that fd is; 0: it is none. */
int cli_columns(int fd);

#endif /* COHORT_CLI_TERMINAL_H */
