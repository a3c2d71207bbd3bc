/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "cli/commands.h"
#include "cli/options.h"

/* Options print as they come in the table, under the commands that have them. */
typedef struct listing {
    cli_options values; /* as the commands of this heading would find them */
    int commands;       /* of this heading */
    int result;
} listing;

static void begin_heading(listing *self, int commands) {
    char *none[] = {NULL};
    int n = 0;
    self->result = cli_options_parse(&self->values, commands, "config", 1, none);
    if (self->result != CLI_OK) return;
    printf("%s#", self->commands ? "\n" : "");
    for (size_t i = 0; i < cli_n_commands; i++)
        if (cli_commands[i].options & commands)
            printf("%s%s", n++ ? ", " : " ", cli_commands[i].name);
    printf("\n");
    self->commands = commands;
}

static void print_option(void *user_data, const cli_option_text *option) {
    listing *self = user_data;
    if (self->result != CLI_OK) return;
    if (option->commands != self->commands) begin_heading(self, option->commands);
    if (self->result != CLI_OK) return;
    printf("%s=", option->variable);
    cli_options_print_value(stdout, &self->values, option->index);
    printf("\n    # --%s%s%s: %s", option->name, *option->value ? " " : "", option->value,
           option->help);
    if (option->standard) printf(" (default: %s)", option->standard);
    printf("\n");
}

int cli_config(int argc, char **argv) {
    static listing self;
    int all = 0;
    const cli_command *only = argc > 1 ? cli_find_command(argc - 1, argv + 1) : NULL;
    if (argc > 1 && (!only || !only->options)) {
        bool is_asked = !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h");
        if (!is_asked)
            fprintf(stderr, "cohort config: '%s' is no command with options\n", argv[1]);
        fprintf(is_asked ? stdout : stderr,
                "usage: cohort config [COMMAND]    for example: cohort config serve\n");
        return is_asked ? CLI_OK : CLI_USAGE;
    }
    for (size_t i = 0; i < cli_n_commands; i++)
        all |= cli_commands[i].options;
    cli_options_each(only ? only->options : all, print_option, &self);
    return self.result;
}
