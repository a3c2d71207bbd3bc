/* SPDX-License-Identifier: Apache-2.0 */
/* cli/signals.h - SIGINT and SIGTERM as something to wait for, not to be struck by.
 *
 *   catch -> (the command starts: the first signal is seen, the second ends it) -> count
 *
 * Handlers only count; signals are not blocked, because workers would inherit that.
 *
 * Threads: any, after catch.
 */
#ifndef COHORT_CLI_SIGNALS_H
#define COHORT_CLI_SIGNALS_H

#include <stdbool.h>

/* CLI_OK, or CLI_FAILED with a line on stderr.  Until cli_signals_count_all is called the
 * second signal ends the process as if nobody had caught it. */
int cli_signals_catch(void);
void cli_signals_count_all(void);
/* Counts as a signal: the end of standard input, a reader that is gone. */
void cli_signals_note(int number);
/* Number of the first signal; 0: none has come. */
int cli_signals_first(void);
/* For options that ask. */
bool cli_signals_seen(void *unused);
/* Readable while there is a signal that nobody took. */
int cli_signals_fd(void);
bool cli_signals_take(void);

#endif /* COHORT_CLI_SIGNALS_H */
