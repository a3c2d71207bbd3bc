/* SPDX-License-Identifier: Apache-2.0 */
/* cli/option_words.h - words of a command line as argparse and vLLM's parser take them.
 */
#ifndef COHORT_CLI_OPTION_WORDS_H
#define COHORT_CLI_OPTION_WORDS_H

#include <stdbool.h>
#include <stddef.h>

/* A copy that lives as long as the process, as words of argv do; NULL: no memory. */
char *cli_keep(const char *text);
/* Is what there is before one of the ends the name, dashes and underscores the same?
 * NULL is no name. */
bool cli_is_named(const char *text, const char *ends, const char *name);
/* What is behind "--no-" or "--no_", or NULL. */
const char *cli_negated_name(const char *word);
/* Is it one of "a|b|c", by strncmp or strncasecmp? */
bool cli_is_among(const char *text, const char *words,
                  int (*compare)(const char *a, const char *b, size_t size));
/* "" and "None": as if it were not given. */
bool cli_is_none(const char *text);
/* Does a word's name, behind "--" and up to "=" or ".", begin this name? */
bool cli_abbreviates(const char *text, const char *name);
/* The word with its whole name; kept for ever. */
const char *cli_spell_out(const char *word, const char *full);
/* A JSON object with what "key.key" names set; kept for ever, NULL where that cannot be.
 */
const char *cli_set_key(const char *json, const char *path, const char *value);

#endif /* COHORT_CLI_OPTION_WORDS_H */
