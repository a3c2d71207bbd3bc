/* SPDX-License-Identifier: Apache-2.0 */
/* cli/sections.h - which commands take which tables of options, and the rows of the
 * commands' own. */
#ifndef COHORT_CLI_SECTIONS_H
#define COHORT_CLI_SECTIONS_H

#include "cli/options.h"

/* A table, and where in cli_options the struct lies that it is over. */
typedef struct cli_section {
    int commands;
    const cohort_option_table *table;
    size_t base;
    /* Other commands that take a few of its rows, and the names of these: "a|b". */
    int also;
    const char *names;
    /* Whose default holds for its options, where it is not the rows': "the model's". */
    const char *whose;
} cli_section;

/* Over cli_load_options. */
extern const cohort_option_table cli_load_option_table;

extern const cli_section cli_sections[];
extern const size_t cli_n_sections;

#endif /* COHORT_CLI_SECTIONS_H */
