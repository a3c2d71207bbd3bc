/* SPDX-License-Identifier: Apache-2.0 */
/* cli/vllm_options.h - options of `vllm serve` that leave nothing to do.
 *
 * Whoever comes from there brings a command line that works.  What it says is either what
 * happens here anyway, or a hint to machinery that is not here: both are taken, the
 * second with a line that says so.  What asks for something that is not done is refused
 * by name.  Options that mean something are in the components' tables, not here.
 */
#ifndef COHORT_CLI_VLLM_OPTIONS_H
#define COHORT_CLI_VLLM_OPTIONS_H

#include <stdbool.h>

typedef struct cli_vllm_option cli_vllm_option;

/* The option that "--name", "--name=value", "--no-name" or "-alias" is; NULL: none.  A
 * JSON option may be set key by key, "--name.key". */
const cli_vllm_option *cli_vllm_find(const char *word);
/* How many of them the word abbreviates, and the last one's name. */
int cli_vllm_complete(const char *word, const char **out_name);
/* The value within the word, behind '=' or as in "-O3"; NULL: none. */
const char *cli_vllm_value(const char *word);
/* Does it take a word behind it? */
bool cli_vllm_takes_value(const cli_vllm_option *option);
/* value: what was given, NULL for a flag alone.  False where that is refused; either way
 * stderr is told what a user should know. */
bool cli_vllm_take(const cli_vllm_option *option, const char *command, const char *word,
                   const char *value);
/* "--name" of each that is taken, with the values where not all are. */
void cli_vllm_each(void (*each)(void *user_data, const char *text), void *user_data);

#endif /* COHORT_CLI_VLLM_OPTIONS_H */
