/* SPDX-License-Identifier: Apache-2.0 */
/* cli/commands.h - every command, in one table: what main runs, --help lists, and man
 * pages and completions are made from. */
#ifndef COHORT_CLI_COMMANDS_H
#define COHORT_CLI_COMMANDS_H

#include <stddef.h>

typedef struct cli_command {
    const char *name;                  /* "bench serve" is one of bench */
    int (*run)(int argc, char **argv); /* NULL: its first word's */
    int options;                       /* of the table; 0: none */
    const char *operand;               /* what goes without dashes, or NULL */
    const char *help;                  /* one line */
    const char *text;                  /* paragraphs of the man page, or NULL */
} cli_command;

extern const cli_command cli_commands[];
extern const size_t cli_n_commands;

/* The command that the words name, as "bench", "serve"; or NULL. */
const cli_command *cli_find_command(int n_words, char **words);

/* Tells that there is no such command, and which is like it; CLI_USAGE. */
int cli_complain_command(const char *word);

int cli_man(int argc, char **argv);
int cli_completion(int argc, char **argv);

#endif /* COHORT_CLI_COMMANDS_H */
