/* SPDX-License-Identifier: Apache-2.0 */
/* cli/suggest.h - "did you mean": the name that a mistyped word is nearest to.
 *
 *   cli_suggestion near = {.word = "sevre"};
 *   cli_suggest(&near, "serve", strlen("serve"));   for every name there is
 *   cli_suggested(&near)                            "serve", or NULL: none is near
 */
#ifndef COHORT_CLI_SUGGEST_H
#define COHORT_CLI_SUGGEST_H

#include <stddef.h>

enum { CLI_SUGGESTION_BYTES = 80 };

typedef struct cli_suggestion {
    const char *word; /* as it was typed; may go on behind '=' */
    size_t distance;  /* of name: letters to change */
    char name[CLI_SUGGESTION_BYTES];
} cli_suggestion;

/* Dashes and underscores are the same, as are capitals and small letters. */
void cli_suggest(cli_suggestion *self, const char *name, size_t size);
/* Each of "a|b|c". */
void cli_suggest_words(cli_suggestion *self, const char *words);
/* NULL where more than every third letter is another. */
const char *cli_suggested(const cli_suggestion *self);
/* Tells on stderr that `cohort` or `cohort GROUP` has no such command; group: "" or
 * " GROUP". */
void cli_suggest_command(const char *group, const cli_suggestion *self);

#endif /* COHORT_CLI_SUGGEST_H */
