/* SPDX-License-Identifier: Apache-2.0 */
/* `cohort man` and `cohort completion`, from the tables of commands and options: what
 * --help says is what these say. */
#include <string.h>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/suggest.h"
#include "cli/vllm_options.h"

/* ---- man pages --------------------------------------------------------------------- */

/* Text for roff: nothing in it is a request, and dashes are dashes. */
static void put_roff(const char *text) {
    if (*text == '.' || *text == '\'') fputs("\\&", stdout);
    for (; *text; text++) {
        if (*text == '-')
            fputs("\\-", stdout);
        else if (*text == '\\')
            fputs("\\e", stdout);
        else
            putchar(*text);
    }
}

static void put_option_roff(void *user_data, const cli_option_text *option) {
    (void)user_data;
    printf(".TP\n");
    if (option->alias) {
        printf("\\fB\\-");
        put_roff(option->alias);
        printf("\\fR, ");
    }
    printf("\\fB\\-\\-");
    put_roff(option->name);
    printf("\\fR");
    if (option->words) {
        printf(" \\fI");
        put_roff(option->words);
        printf("\\fR");
    } else if (*option->value) {
        printf(" \\fI%s\\fR", option->value);
    }
    putchar('\n');
    put_roff(option->help);
    if (option->standard) {
        printf(" [");
        put_roff(option->standard);
        putchar(']');
    }
    putchar('\n');
}

static void put_vllm_option(void *user_data, const char *text) {
    (void)user_data;
    printf(" ");
    put_roff(text);
    printf(",");
}

static void put_vllm_options(void) {
    printf(
        ".SH OPTIONS OF VLLM SERVE\nThese are taken, too, without effect; where a value "
        "is named, for that only:");
    cli_vllm_each(put_vllm_option, NULL);
    printf(" and those of a feature that is not here, where they switch it off.\n");
}

/* "bench serve" is the page cohort-bench-serve. */
static void put_page_name(const char *command) {
    printf("cohort");
    for (const char *c = command; *c; c++) {
        if (c == command) printf("\\-");
        if (*c == ' ' || *c == '-')
            printf("\\-");
        else
            putchar(*c);
    }
}

static void put_head(const char *command, const char *help) {
    printf(".TH \"");
    put_page_name(command);
    printf("\" 1 \"\" \"cohort %s\" \"Cohort\"\n.SH NAME\n", COHORT_VERSION);
    put_page_name(command);
    printf(" \\- ");
    put_roff(help);
    printf("\n.SH SYNOPSIS\n");
}

static void put_command_page(const cli_command *command) {
    put_head(command->name, command->help);
    printf("\\fBcohort ");
    put_roff(command->name);
    printf("\\fR");
    if (command->operand) printf(" \\fI%s\\fR", command->operand);
    if (command->options) printf(" [\\fIoptions\\fR]");
    putchar('\n');
    if (command->text) {
        printf(".SH DESCRIPTION\n");
        put_roff(command->text);
        putchar('\n');
    }
    if (command->options) {
        printf(".SH OPTIONS\nDashes and underscores in names are the same. What is not "
               "given is taken from the environment, by the name in capitals behind "
               "COHORT_, as COHORT_LOG_LEVEL; else the default in brackets holds. A flag "
               "\\fB\\-\\-x\\fR is switched off by \\fB\\-\\-no\\-x\\fR.\n");
        cli_options_each(command->options, put_option_roff, NULL);
        if (command->options & (CLI_SERVE | CLI_BATCH)) put_vllm_options();
    }
    printf(".SH EXIT STATUS\n0: done; 1: it failed; 2: it was asked for wrongly; 128 and "
           "the signal's number: interrupted.\n.SH SEE ALSO\n\\fBcohort\\fR(1)\n");
}

static void put_overview(void) {
    put_head("", "large language models over many workers");
    printf("\\fBcohort\\fR \\fICOMMAND\\fR [\\fIoptions\\fR]\n.SH COMMANDS\n");
    for (size_t i = 0; i < cli_n_commands; i++) {
        printf(".TP\n\\fB");
        put_roff(cli_commands[i].name);
        printf("\\fR");
        if (cli_commands[i].operand) printf(" \\fI%s\\fR", cli_commands[i].operand);
        putchar('\n');
        put_roff(cli_commands[i].help);
        putchar('\n');
    }
    printf(".SH ENVIRONMENT\nHF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN, "
           "HF_HUB_OFFLINE: where models that are given by name come from. "
           "OPENAI_API_KEY: what clients bring to servers. COHORT_...: options.\n"
           ".SH FILES\n$XDG_RUNTIME_DIR/cohort: what \\fBcohort stat\\fR reads.\n");
}

int cli_man(int argc, char **argv) {
    if (argc == 2 && !strcmp(argv[1], "--list")) {
        for (size_t i = 0; i < cli_n_commands; i++)
            printf("%s\n", cli_commands[i].name);
        return CLI_OK;
    }
    if (argc > 1 && argv[1][0] == '-') {
        printf("usage: cohort man [COMMAND | --list]    for example: cohort man serve | "
               "man -l -\n");
        return !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") ? CLI_OK : CLI_USAGE;
    }
    const cli_command *command = cli_find_command(argc - 1, argv + 1);
    if (argc > 1 && !command) {
        return cli_complain_command(argv[1]);
    }
    if (command)
        put_command_page(command);
    else
        put_overview();
    return CLI_OK;
}

const cli_command *cli_find_command(int n_words, char **words) {
    char name[64] = "";
    for (int i = 0; i < n_words; i++) {
        size_t used = strlen(name);
        snprintf(name + used, sizeof name - used, "%s%s", i ? " " : "", words[i]);
    }
    for (size_t i = 0; i < cli_n_commands; i++)
        if (!strcmp(cli_commands[i].name, name)) return &cli_commands[i];
    return NULL;
}

int cli_complain_command(const char *word) {
    cli_suggestion near = {.word = word};
    for (size_t i = 0; i < cli_n_commands; i++)
        if (cli_commands[i].run)
            cli_suggest(&near, cli_commands[i].name, strlen(cli_commands[i].name));
    cli_suggest_command("", &near);
    return CLI_USAGE;
}

/* ---- completions ------------------------------------------------------------------- */

/* Inside of '...' and, for zsh, of [...]. */
static void put_quoted(const char *text, const char *escaped) {
    for (; *text; text++) {
        if (*text == '\'') {
            fputs("'\\''", stdout);
            continue;
        }
        if (strchr(escaped, *text)) putchar('\\');
        putchar(*text);
    }
}

/* Words that may follow: behind NULL the commands' first, behind one of these the second.
 */
static void put_words(const char *first) {
    for (size_t i = 0; i < cli_n_commands; i++) {
        const char *name = cli_commands[i].name, *space = strchr(name, ' ');
        if (first ? !space || strlen(first) != (size_t)(space - name) ||
                        strncmp(name, first, strlen(first)) != 0
                  : space != NULL)
            continue;
        printf(" %s", first ? space + 1 : name);
    }
}

/* Is it a first word of others, as "bench"? */
static bool is_group(const cli_command *command) {
    size_t n = strlen(command->name);
    for (size_t i = 0; i < cli_n_commands; i++)
        if (!strncmp(cli_commands[i].name, command->name, n) &&
            cli_commands[i].name[n] == ' ')
            return true;
    return false;
}

static void put_option_bash(void *user_data, const cli_option_text *option) {
    (void)user_data;
    printf(" --%s", option->name);
    if (option->alias) printf(" -%s", option->alias);
}

/* The values that an option names, with this before each. */
static void put_values(const char *words, const char *before) {
    for (; *words; words += *words == '|') {
        size_t size = strcspn(words, "|");
        printf("%s%.*s", before, (int)size, words);
        words += size;
        before = " ";
    }
}

static void put_values_bash(void *user_data, const cli_option_text *option) {
    (void)user_data;
    if (!option->words) return;
    printf("        --%s", option->name);
    if (option->alias) printf(" | -%s", option->alias);
    printf(") COMPREPLY=($(compgen -W '");
    put_values(option->words, "");
    printf("' -- \"$word\")); return ;;\n");
}

/* The word before decides: an option that takes any value completes files. */
static void put_valued_bash(void *user_data, const cli_option_text *option) {
    (void)user_data;
    if (!*option->value || option->words) return;
    printf("|--%s", option->name);
    if (option->alias) printf("|-%s", option->alias);
}

static void put_bash(void) {
    printf(
        "# bash completion of cohort\n_cohort() {\n"
        "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}\n"
        "    local command=${COMP_WORDS[1]}\n    COMPREPLY=()\n"
        "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
        "        COMPREPLY=($(compgen -W '");
    put_words(NULL);
    printf(" --help --version' -- \"$word\"))\n        return\n    fi\n"
           "    local more=\n    case $command in\n");
    for (size_t i = 0; i < cli_n_commands; i++) {
        if (!is_group(&cli_commands[i])) continue;
        printf("    %s) more='", cli_commands[i].name);
        put_words(cli_commands[i].name);
        printf("' ;;\n");
    }
    printf("    esac\n    if [ -n \"$more\" ]; then\n"
           "        if [ \"$COMP_CWORD\" -eq 2 ]; then\n"
           "            COMPREPLY=($(compgen -W \"$more\" -- \"$word\"))\n"
           "            return\n        fi\n"
           "        command=\"$command ${COMP_WORDS[2]}\"\n    fi\n"
           "    case $command in\n");
    for (size_t i = 0; i < cli_n_commands; i++) {
        const cli_command *command = &cli_commands[i];
        if (!command->options) continue;
        printf("    '%s')\n        case $before in\n", command->name);
        cli_options_each(command->options, put_values_bash, NULL);
        printf("        -");
        cli_options_each(command->options, put_valued_bash, NULL);
        printf(") return ;;\n        esac\n        case $word in\n"
               "        -*) COMPREPLY=($(compgen -W '--help");
        cli_options_each(command->options, put_option_bash, NULL);
        printf("' -- \"$word\")) ;;\n        esac ;;\n");
    }
    printf("    man | config) COMPREPLY=($(compgen -W '");
    put_words(NULL);
    printf("' -- \"$word\")) ;;\n"
           "    completion) COMPREPLY=($(compgen -W 'bash zsh fish' -- \"$word\")) ;;\n"
           "    esac\n}\ncomplete -o default -F _cohort cohort\n");
}

static void put_option_zsh(void *user_data, const cli_option_text *option) {
    (void)user_data;
    printf(" \\\n            '--%s[", option->name);
    put_quoted(option->help, "[]:\\");
    printf("]");
    if (option->words) {
        printf(":%s:(", option->value);
        put_values(option->words, "");
        printf(")'");
        return;
    }
    if (*option->value) printf(":%s:_files", option->value);
    printf("'");
}

static void put_zsh(void) {
    printf("#compdef cohort\n# zsh completion of cohort\n_cohort() {\n"
           "    local command=$words[2]\n    if (( CURRENT == 2 )); then\n"
           "        compadd -- --help --version");
    put_words(NULL);
    printf("\n        return\n    fi\n    local -a more\n    case $command in\n");
    for (size_t i = 0; i < cli_n_commands; i++) {
        if (!is_group(&cli_commands[i])) continue;
        printf("    %s) more=(", cli_commands[i].name);
        put_words(cli_commands[i].name);
        printf(") ;;\n");
    }
    printf("    esac\n    if (( $#more )); then\n"
           "        if (( CURRENT == 3 )); then\n            compadd -- $more\n"
           "            return\n        fi\n        command=\"$command $words[3]\"\n"
           "        shift words; (( CURRENT-- ))\n    fi\n"
           "    shift words; (( CURRENT-- ))\n    case $command in\n");
    for (size_t i = 0; i < cli_n_commands; i++) {
        const cli_command *command = &cli_commands[i];
        if (!command->options) continue;
        printf("    '%s')\n        _arguments '--help[show the options]'", command->name);
        cli_options_each(command->options, put_option_zsh, NULL);
        printf(" \\\n            '*:file:_files' ;;\n");
    }
    printf("    man | config) compadd --");
    put_words(NULL);
    printf(
        " ;;\n    completion) compadd -- bash zsh fish ;;\n    esac\n}\n"
        "if [ \"$funcstack[1]\" = _cohort ]; then _cohort \"$@\"; else compdef _cohort "
        "cohort; fi\n");
}

static void put_option_fish(void *user_data, const cli_option_text *option) {
    printf("complete -c cohort -n '__cohort_is %s' -l %s", (const char *)user_data,
           option->name);
    if (option->alias) printf(" %s %s", option->alias[1] ? "-o" : "-s", option->alias);
    if (option->words) {
        printf(" -x -a '");
        put_values(option->words, "");
        printf("'");
    }
    printf("%s -d '", *option->value && !option->words ? " -r" : "");
    for (const char *c = option->help; *c; c++) { /* '...' of fish has escapes */
        if (*c == '\'' || *c == '\\') putchar('\\');
        putchar(*c);
    }
    printf("'\n");
}

static void put_fish(void) {
    printf("# fish completion of cohort\nfunction __cohort_is\n"
           "    set -l words (commandline -opc)\n"
           "    set -l last (math 1 + (count $argv))\n"
           "    test \"$words[2..$last]\" = \"$argv\"\nend\n"
           "complete -c cohort -n 'test (count (commandline -opc)) -eq 1' -f -a '");
    put_words(NULL);
    printf("'\n");
    for (size_t i = 0; i < cli_n_commands; i++) {
        if (!is_group(&cli_commands[i])) continue;
        printf("complete -c cohort -n '__cohort_is %s; and test (count (commandline "
               "-opc)) -eq 2' -f -a '",
               cli_commands[i].name);
        put_words(cli_commands[i].name);
        printf("'\n");
    }
    printf("complete -c cohort -n '__cohort_is man; or __cohort_is config' -f -a '");
    put_words(NULL);
    printf("'\ncomplete -c cohort -n '__cohort_is completion' -f -a 'bash zsh fish'\n");
    for (size_t i = 0; i < cli_n_commands; i++)
        if (cli_commands[i].options)
            cli_options_each(cli_commands[i].options, put_option_fish,
                             (void *)(size_t)(const void *)cli_commands[i].name);
}

int cli_completion(int argc, char **argv) {
    static const struct {
        const char *shell;
        void (*put)(void);
    } shells[] = {{"bash", put_bash}, {"zsh", put_zsh}, {"fish", put_fish}};
    for (size_t i = 0; argc == 2 && i < sizeof shells / sizeof *shells; i++) {
        if (strcmp(argv[1], shells[i].shell) != 0) continue;
        shells[i].put();
        return CLI_OK;
    }
    bool is_asked = argc == 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"));
    fprintf(is_asked ? stdout : stderr,
            "usage: cohort completion bash|zsh|fish    for example, in .bashrc:\n"
            "       source <(cohort completion bash)\n");
    return is_asked ? CLI_OK : CLI_USAGE;
}
