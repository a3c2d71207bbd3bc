/* SPDX-License-Identifier: Apache-2.0 */
/* cli/prose.h - an answer as it comes, for a terminal.
 *
 * Lines break between words; code between ``` does not.  Nothing that a model writes
 * commands the terminal: escapes and their like show as a mark.  Thoughts are dim, also
 * those that come as <think>...</think> within the text.
 */
#ifndef COHORT_CLI_PROSE_H
#define COHORT_CLI_PROSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

typedef struct cli_prose {
    FILE *out;
    int columns;
    int column;
    char word[256]; /* drawn so far, of what may have to move to the next line */
    size_t word_bytes;
    int word_columns;
    int n_ticks; /* at the beginning of the line; -1: something else stood there */
    bool is_code, is_dim;
    char held[16]; /* what may become a tag */
    size_t n_held;
    bool has_text; /* but spaces: only what comes first is a thought's tag */
    bool is_told;  /* dim, because the caller said so */
} cli_prose;

/* dim: a thought; else a tag in the text says so. */
void cli_prose_put(cli_prose *self, const char *text, bool dim);
/* What is held back, and the terminal as it was. */
void cli_prose_end(cli_prose *self);

#endif /* COHORT_CLI_PROSE_H */
