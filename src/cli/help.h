/* SPDX-License-Identifier: Apache-2.0 */
/* cli/help.h - what `cohort COMMAND --help` prints.
 *
 *   --help             every option, under the headings of its groups
 *   --help=listgroup   the groups
 *   --help=GROUP       one group: --help=ParallelConfig
 *   --help=WORD        the option of that name, or all with the word in their names
 */
#ifndef COHORT_CLI_HELP_H
#define COHORT_CLI_HELP_H

/* word: "--help", "--help=..." or "-h".  CLI_HELP, or CLI_USAGE with a line on stderr
 * where nothing has that name. */
int cli_help(int commands, const char *command, const char *word);

#endif /* COHORT_CLI_HELP_H */
