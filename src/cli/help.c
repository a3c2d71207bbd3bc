/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/help.h"

#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "cli/option_words.h"
#include "cli/options.h"
#include "cli/sections.h"
#include "cli/suggest.h"
#include "cli/terminal.h"
#include "cli/vllm_options.h"

enum { HELP_COLUMN = 39, NO_GROUP = -1 };

typedef struct help {
    int commands, columns; /* columns: 0, not a terminal: a line each */
    const char *wanted;    /* NULL: all */
    int group;             /* that wanted names; NO_GROUP */
    bool is_exact;         /* wanted is an option's whole name */
    int heading;           /* printed last */
    int n_printed, n_groups;
    cli_suggestion near;
} help;

/* Words from a column on, within the terminal. */
static void put_wrapped(const help *self, const char *text) {
    int room = self->columns - HELP_COLUMN - 1, used = 0;
    while (*text) {
        int size = (int)strcspn(text, " ");
        if (used && room >= 12 && used + 1 + size > room) {
            printf("\n%*s", HELP_COLUMN, "");
            used = 0;
        }
        used += printf("%s%.*s", used ? " " : "", size, text);
        text += size + (text[size] == ' ');
    }
}

static void print_option(help *self, const cli_option_text *option) {
    const char *alias = option->alias ? option->alias : "";
    const char *value = option->words ? option->words : option->value;
    char name[160], text[600];
    int width = snprintf(name, sizeof name, "%s%s%s--%s%s%s", *alias ? "-" : "", alias,
                         *alias ? ", " : "", option->name, *value ? " " : "", value);
    int left = HELP_COLUMN - 2 - width;
    bool breaks = left < 1 && self->columns;
    printf("  %s%s%*s", name, breaks ? "\n" : "",
           breaks     ? HELP_COLUMN
           : left > 0 ? left
                      : 1,
           "");
    snprintf(text, sizeof text, "%s%s%s%s", option->help, option->standard ? " [" : "",
             option->standard ? option->standard : "", option->standard ? "]" : "");
    put_wrapped(self, text);
    printf("\n");
    self->n_printed++;
}

static bool is_wanted(const help *self, const cli_option_text *option) {
    if (!self->wanted) return true;
    if (self->group != NO_GROUP) return option->group == (size_t)self->group;
    if (self->is_exact) return cli_is_named(self->wanted, "", option->name);
    return strcasestr(option->name, self->wanted) != NULL;
}

static void take_option(void *user_data, const cli_option_text *option) {
    help *self = user_data;
    const cli_group *group = &cli_groups[option->group];
    if (!is_wanted(self, option)) return;
    if (self->heading != (int)option->group)
        printf("%s%s: %s\n", self->heading == NO_GROUP ? "" : "\n", group->name,
               group->about);
    self->heading = (int)option->group;
    print_option(self, option);
}

/* "cacheconfig", or "cache". */
static bool is_group(const char *wanted, const char *name) {
    size_t size = strlen(wanted);
    if (!size || strncasecmp(wanted, name, size) != 0) return false;
    return !name[size] || !strcmp(name + size, "Config");
}

/* Which groups there are, and what the wanted word is. */
static void look_at(void *user_data, const cli_option_text *option) {
    help *self = user_data;
    const cli_group *group = &cli_groups[option->group];
    if (self->heading != (int)option->group) {
        self->heading = (int)option->group;
        self->n_groups++;
        if (!self->wanted) return;
        if (is_group(self->wanted, group->name)) self->group = (int)option->group;
        cli_suggest(&self->near, group->name, strlen(group->name));
    }
    if (!self->wanted) return;
    if (cli_is_named(self->wanted, "", option->name)) self->is_exact = true;
    cli_suggest(&self->near, option->name, strlen(option->name));
}

static void print_group_name(void *user_data, const cli_option_text *option) {
    help *self = user_data;
    const cli_group *group = &cli_groups[option->group];
    if (self->heading != (int)option->group)
        printf("  %-16s %s\n", group->name, group->about);
    self->heading = (int)option->group;
}

static void print_vllm_option(void *user_data, const char *text) {
    size_t *column = user_data, size = strlen(text) + 1;
    bool is_first = *column == 0, breaks = *column + size > 90;
    printf("%s%s%s", is_first ? "" : ",", is_first || breaks ? "\n    " : " ", text);
    *column = is_first || breaks ? 4 + size : *column + size + 1;
}

/* In a few lines: nobody chooses these, they come with a command line of vLLM's. */
static void print_vllm_options(void) {
    size_t column = 0;
    printf(
        "\nalso taken, as vllm serve has them, without effect; where a value is named, "
        "for that\nonly:");
    cli_vllm_each(print_vllm_option, &column);
    printf("\n");
}

static void print_all(help *self, const char *command) {
    printf("usage: cohort %s%s [options]\n\n", command,
           self->commands & CLI_ENGINE ? " MODEL" : "");
    cli_options_each(self->commands, take_option, self);
    if (self->commands & (CLI_SERVE | CLI_BATCH)) print_vllm_options();
    if (self->n_groups > 1)
        printf("\n--help=listgroup names the groups, --help=GROUP shows one, and "
               "--help=WORD the options\nwith that word in their names. cohort man %s is "
               "the manual.\n",
               command);
}

int cli_help(int commands, const char *command, const char *word) {
    const char *equals = strchr(word, '=');
    help self = {.commands = commands,
                 .columns = cli_columns(STDOUT_FILENO),
                 .wanted = equals && strcasecmp(equals + 1, "all") ? equals + 1 : NULL,
                 .group = NO_GROUP,
                 .heading = NO_GROUP};
    self.near.word = self.wanted ? self.wanted : "";
    cli_options_each(commands, look_at, &self);
    self.heading = NO_GROUP;
    if (!self.wanted) {
        print_all(&self, command);
        return CLI_HELP;
    }
    if (!strcasecmp(self.wanted, "listgroup")) {
        cli_options_each(commands, print_group_name, &self);
        return CLI_HELP;
    }
    cli_options_each(commands, take_option, &self);
    if (self.n_printed) return CLI_HELP;
    const char *meant = cli_suggested(&self.near);
    fprintf(stderr,
            "cohort %s: no option has '%s' in its name, and no group is called that; "
            "%s%s%ssee cohort %s --help=listgroup\n",
            command, self.wanted, meant ? "did you mean --help=" : "", meant ? meant : "",
            meant ? "? or " : "", command);
    return CLI_USAGE;
}
