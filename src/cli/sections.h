/* SPDX-License-Identifier: Apache-2.0 */
/* cli/sections.h - which commands take which tables of options, the rows of the
 * commands' own, and the groups of --help. */
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
    size_t group; /* of rows that no group names */
} cli_section;

/* What --help puts under one heading; names are vLLM's where it has such a group. */
typedef struct cli_group {
    const char *name, *about;
    const char *options; /* "a|b": rows that are its own, whatever their section */
} cli_group;

/* Over cli_load_options. */
extern const cohort_option_table cli_load_option_table;

extern const cli_section cli_sections[];
extern const size_t cli_n_sections;
extern const cli_group cli_groups[];
extern const size_t cli_n_groups;

#endif /* COHORT_CLI_SECTIONS_H */
