/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/options.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "cli/config_file.h"
#include "cli/help.h"
#include "cli/option_words.h"
#include "cli/sections.h"
#include "cli/suggest.h"
#include "cli/vllm_options.h"
#include "cli/vllm_variables.h"
#include "engine/engine_options.h"

extern char **environ;

/* A row, where its field lies in cli_options, and the commands that take it. */
typedef struct entry {
    const cohort_option *row;
    size_t base;
    int commands;
    const char *whose; /* default, where it is not the row's */
    size_t group;
} entry;

/* All rows of all sections, in the order of groups, and of sections within. */
static entry entries[CLI_MAX_OPTIONS];
static size_t n_entries;

static size_t model_entry; /* the engine's first row: also the word without dashes */

static size_t group_of(const cohort_option *row, const cli_section *of) {
    for (size_t i = 0; i < cli_n_groups; i++)
        if (cli_is_among(row->name, cli_groups[i].options, strncmp)) return i;
    return of->group;
}

static void list_group(size_t group) {
    for (size_t i = 0; i < cli_n_sections; i++) {
        const cli_section *of = &cli_sections[i];
        for (size_t k = 0; k < of->table->n; k++) {
            const cohort_option *row = &of->table->rows[k];
            bool is_shared = of->names && cli_is_among(row->name, of->names, strncmp);
            if (n_entries == CLI_MAX_OPTIONS) abort(); /* a test has them all */
            int commands = of->commands | (is_shared ? of->also : 0);
            if (!commands || group_of(row, of) != group) continue;
            if (row == cohort_engine_option_table.rows) model_entry = n_entries;
            entries[n_entries++] = (entry){row, of->base, commands, of->whose, group};
        }
    }
}

static void list_entries(void) {
    if (n_entries) return;
    for (size_t i = 0; i < cli_n_groups; i++)
        list_group(i);
}

static void *struct_of(cli_options *options, const entry *at) {
    return (char *)options + at->base;
}

static const char **text_of(cli_options *options, const entry *at) {
    return (const char **)(void *)((char *)options + at->base + at->row->offset);
}

static bool is_list(const entry *at) { return at->row->type == COHORT_FIELD_TEXTS; }

bool cli_options_given(const cli_options *options, const void *field) {
    size_t offset = (size_t)((const char *)field - (const char *)options);
    for (size_t i = 0; i < n_entries; i++)
        if (entries[i].base + entries[i].row->offset == offset && options->is_set[i])
            return true;
    return false; /* several rows may set one field, each for its commands */
}

void cli_options_add_given(cJSON *object, const cli_options *options,
                           const cohort_option_table *table, const void *within) {
    for (size_t i = 0; i < table->n; i++) {
        const cohort_option *row = &table->rows[i];
        char text[40], key[40];
        if (!cli_option_given(options, row, within)) continue;
        cohort_option_key(row, key, sizeof key);
        cohort_option_format(row, within, 0, text, sizeof text);
        cJSON_DeleteItemFromObject(object, key);
        cJSON_AddRawToObject(object, key, text); /* a float as it was given */
    }
}

/* One word, or vLLM's form of several: '["a", "b"]'. */
static bool add_words(cli_options *options, const entry *at, const char *text) {
    cJSON *json = *text == '[' ? cJSON_Parse(text) : NULL;
    if (!cJSON_IsArray(json)) {
        cJSON_Delete(json);
        return cohort_option_parse(at->row, struct_of(options, at), text);
    }
    bool fits = true;
    const cJSON *item;
    cJSON_ArrayForEach(item, json) {
        const char *word = cJSON_IsString(item) ? cli_keep(item->valuestring) : NULL;
        fits = fits && word && cohort_option_parse(at->row, struct_of(options, at), word);
    }
    cJSON_Delete(json);
    return fits;
}

/* May it be left open, with None or an empty word? */
static bool is_optional(const entry *at) {
    const cohort_option *row = at->row;
    bool is_ours = row->type == COHORT_FIELD_TEXT && !row->standard;
    bool is_free = (row->kind == COHORT_KIND_COUNT || row->kind == COHORT_KIND_BYTES) &&
                   row->standard && !strcmp(row->standard, "0");
    return (is_ours || is_free) && at->commands & (CLI_ENGINE | CLI_SERVE) &&
           !(row->flags & COHORT_OPTION_NEEDED);
}

/* False where the text is no value of this option. */
static bool set_value(cli_options *options, const entry *at, const char *text) {
    if (is_list(at)) return add_words(options, at, text);
    if (!is_optional(at) || !cli_is_none(text))
        return cohort_option_parse(at->row, struct_of(options, at), text);
    cohort_option_clear(at->row, struct_of(options, at));
    return true;
}

static void variable_of(const entry *at, char *out, size_t size) {
    size_t n = (size_t)snprintf(out, size, "COHORT_");
    for (const char *c = at->row->name; *c && n + 1 < size; c++)
        out[n++] = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
    out[n] = '\0';
}

static int complain_value(const entry *at, const char *where, const char *text) {
    char what[400];
    cohort_option_describe(at->row, what, sizeof what);
    cli_suggestion near = {.word = text};
    if (at->row->kind == COHORT_KIND_WORD) cli_suggest_words(&near, at->row->words);
    const char *meant = cli_suggested(&near);
    fprintf(stderr, "cohort: %s: '%s' is no value; it takes %s%s%s%s\n", where, text,
            what, meant ? "; did you mean '" : "", meant ? meant : "", meant ? "'?" : "");
    return CLI_USAGE;
}

/* COHORT_PORT=tcp://... in every pod beside a Kubernetes Service that is called cohort.
 */
static bool is_service_link(const entry *at, const char *text) {
    return !strcmp(at->row->name, "port") && !strncmp(text, "tcp://", 6);
}

static int read_environment(cli_options *options, int commands) {
    for (size_t i = 0; i < n_entries; i++) {
        const entry *at = &entries[i];
        char variable[80];
        variable_of(at, variable, sizeof variable);
        const char *text = getenv(variable);
        if (!text || !(at->commands & commands) || is_service_link(at, text)) continue;
        if (is_list(at)) cohort_option_clear(at->row, struct_of(options, at));
        if (!set_value(options, at, text)) return complain_value(at, variable, text);
        options->is_set[i] = true;
    }
    return CLI_OK;
}

/* Defaults, those of other commands' rows for a field first, then the environment. */
static int set_standard(cli_options *options, int commands) {
    list_entries();
    memset(options, 0, sizeof *options);
    options->engine = cohort_engine_defaults();
    options->server = cohort_server_defaults();
    for (int own = 0; own <= 1; own++)
        for (size_t i = 0; i < n_entries; i++) {
            const entry *at = &entries[i];
            if (!at->row->standard || own != !!(at->commands & commands)) continue;
            if (is_list(at)) cohort_option_clear(at->row, struct_of(options, at));
            cohort_option_parse(at->row, struct_of(options, at), at->row->standard);
        }
    return read_environment(options, commands);
}

static const entry *find_entry(const char *word, int commands) {
    bool is_long = word[1] == '-';
    const char *name = word + (is_long ? 2 : 1);
    for (size_t i = 0; i < n_entries; i++) {
        const cohort_option *row = entries[i].row;
        if (!(entries[i].commands & commands)) continue;
        if (is_long && cli_is_named(name, "=", row->name)) return &entries[i];
        if (cli_is_named(name, "=", row->alias)) return &entries[i];
    }
    return NULL;
}

/* "--no-NAME", for every flag. */
static const entry *find_negated(const char *word, int commands) {
    char positive[80];
    const char *name = cli_negated_name(word);
    if (!name) return NULL;
    snprintf(positive, sizeof positive, "--%s", name);
    const entry *at = find_entry(positive, commands);
    return at && at->row->kind == COHORT_KIND_FLAG ? at : NULL;
}

/* A flag's value under "--no-NAME"; what is no such value stays what it is. */
static const char *negate(const char *value) {
    bool flag;
    if (!cohort_flag_parse(value, &flag)) return value;
    return flag ? "0" : "1";
}

/* What `vllm serve` has and there is nothing to do for. */
static int take_vllm_option(const cli_vllm_option *option, const char *command, int argc,
                            char **argv, int *i) {
    const char *word = argv[*i], *value = cli_vllm_value(word);
    if (!value && cli_vllm_takes_value(option)) {
        if (*i + 1 == argc) {
            fprintf(stderr, "cohort %s: %s needs a value\n", command, word);
            return CLI_USAGE;
        }
        value = argv[++*i];
    }
    return cli_vllm_take(option, command, word, value) ? CLI_OK : CLI_USAGE;
}

/* "--name.key value" of an option that is JSON: the object with that key set. */
static const entry *find_json(const char *word, int commands) {
    for (size_t i = 0; i < n_entries; i++)
        if (entries[i].commands & commands &&
            entries[i].row->flags & COHORT_OPTION_JSON &&
            cli_is_named(word + 2, ".", entries[i].row->name))
            return &entries[i];
    return NULL;
}

/* The only name of ours and vLLM's that a word abbreviates, spelled out; NULL: none. */
static const char *complete(const char *word, int commands) {
    const char *name = NULL, *negated = cli_negated_name(word);
    if (word[1] != '-' || !(commands & (CLI_SERVE | CLI_BATCH))) return NULL;
    int count = cli_vllm_complete(word, &name);
    for (size_t i = 0; i < n_entries; i++) {
        const entry *at = &entries[i];
        if (!(at->commands & commands) ||
            (negated && at->row->kind != COHORT_KIND_FLAG) ||
            (name && !strcmp(at->row->name, name)) || /* vLLM's table has it, too */
            !cli_abbreviates(negated ? negated : word + 2, at->row->name))
            continue;
        name = at->row->name;
        count++;
    }
    const char *whole = count == 1 ? cli_spell_out(word, name) : NULL;
    return whole && strcmp(whole, word) != 0 ? whole : NULL; /* "--port.x" stays that */
}

/* A word without dashes. */
static int take_model(cli_options *options, int commands, const char *command,
                      const char *word) {
    if (!(commands & CLI_ENGINE) || options->is_set[model_entry]) {
        fprintf(stderr, "cohort %s: '%s' is one word too many; see --help\n", command,
                word);
        return CLI_USAGE;
    }
    options->engine.model = word;
    options->is_set[model_entry] = true;
    return CLI_OK;
}

/* The option of the word at i, with what stands in or behind the word. */
static int take_option(cli_options *options, const entry *at, const char *command,
                       int argc, char **argv, int *i) {
    const char *word = argv[*i], *value = strchr(word, '=');
    const size_t index = (size_t)(at - entries), name_size = strcspn(word, "=.");
    const bool is_flag = at->row->kind == COHORT_KIND_FLAG;
    if (value)
        value++;
    else if (is_flag)
        value = "1";
    else if (*i + 1 < argc)
        value = argv[++*i];
    else {
        fprintf(stderr, "cohort %s: %s needs a value\n", command, word);
        return CLI_USAGE;
    }
    /* Where vLLM's table has it, too, that tells the values that are taken. */
    char own[96]; /* not the alias: another command's may be the same letter */
    snprintf(own, sizeof own, "--%s", at->row->name);
    const cli_vllm_option *both = cli_vllm_find(own);
    if (both && !cli_vllm_take(both, command, word, value)) return CLI_USAGE;
    if (is_flag && !cli_is_named(word + 2, "=", at->row->name)) value = negate(value);
    if (at->row->flags & COHORT_OPTION_JSON && word[name_size] == '.')
        value = cli_set_key(*text_of(options, at), word + name_size + 1, value);
    if (!value) return complain_value(at, word, "that key");
    /* The command line takes the place of the environment, word by word of a list. */
    if (is_list(at) && !options->is_given[index])
        cohort_option_clear(at->row, struct_of(options, at));
    options->is_set[index] = options->is_given[index] = true;
    if (!set_value(options, at, value)) return complain_value(at, word, value);
    while (at->row->kind == COHORT_KIND_LIST && *i + 1 < argc && argv[*i + 1][0] != '-')
        if (!set_value(options, at, argv[++*i]))
            return complain_value(at, word, argv[*i]);
    return CLI_OK;
}

static void suggest_vllm_option(void *user_data, const char *text) {
    cli_suggest(user_data, text + 2, strcspn(text + 2, " "));
}

static int complain_option(const char *word, int commands, const char *command) {
    const char *negated = cli_negated_name(word);
    const char *dashes = negated ? "--no-" : "--", *name = negated ? negated : word + 1;
    cli_suggestion near = {.word = name + (*name == '-')};
    for (size_t i = 0; i < n_entries; i++)
        if (entries[i].commands & commands &&
            (!negated || entries[i].row->kind == COHORT_KIND_FLAG))
            cli_suggest(&near, entries[i].row->name, strlen(entries[i].row->name));
    if (commands & (CLI_SERVE | CLI_BATCH) && !negated)
        cli_vllm_each(suggest_vllm_option, &near);
    const char *meant = cli_suggested(&near);
    fprintf(stderr, "cohort %s: unknown option '%s'; %s%s%s%ssee cohort %s --help\n",
            command, word, meant ? "did you mean " : "", meant ? dashes : "",
            meant ? meant : "", meant ? "? or " : "", command);
    return CLI_USAGE;
}

static int parse_word(cli_options *options, int commands, const char *command, int argc,
                      char **argv, int *i) {
    char *word = argv[*i];
    if (word[0] != '-' || !word[1]) return take_model(options, commands, command, word);
    const entry *at = find_entry(word, commands);
    if (!at) at = find_negated(word, commands);
    if (!at) at = find_json(word, commands);
    if (at) return take_option(options, at, command, argc, argv, i);
    bool is_server = commands & (CLI_SERVE | CLI_BATCH);
    const cli_vllm_option *of_vllm = is_server ? cli_vllm_find(word) : NULL;
    if (of_vllm) return take_vllm_option(of_vllm, command, argc, argv, i);
    const char *whole = complete(word, commands);
    if (whole) {
        argv[*i] = (char *)(uintptr_t)whole;
        return parse_word(options, commands, command, argc, argv, i);
    }
    return complain_option(word, commands, command);
}

/* The file of --config, or of its variable. */
static int parse_config(cli_options *options, int commands, const char *command, int argc,
                        char **argv) {
    static cli_config_words words; /* some KiB */
    const char *path = options->config_file;
    for (int i = 1; i < argc && commands & (CLI_SERVE | CLI_BATCH); i++)
        if (!strncmp(argv[i], "--config=", 9))
            path = argv[i] + 9;
        else if (!strcmp(argv[i], "--config") && i + 1 < argc)
            path = argv[++i];
    if (!path) return CLI_OK;
    int result = cli_config_read(path, &words) ? CLI_OK : CLI_USAGE;
    for (int i = 0; i < words.n && result == CLI_OK; i++) {
        result = parse_word(options, commands, command, words.n, words.items, &i);
        if (result != CLI_OK)
            fprintf(stderr, "cohort %s: that is of %s\n", command, path);
    }
    memset(options->is_given, 0, sizeof options->is_given); /* not on the command line */
    return result;
}

/* ---- variables of vLLM's ------------------------------------------------------------
 */

/* Where nothing of ours says what the option is to be. */
static int set_from_vllm(cli_options *options, int commands,
                         const cli_vllm_variable *variable, const char *name,
                         const char *value) {
    char word[80], text[CLI_PATH_BYTES];
    snprintf(word, sizeof word, "--%s", variable->sets);
    const entry *at = find_entry(word, commands);
    if (!at || cli_options_given(options, (char *)options + at->base + at->row->offset) ||
        !cli_vllm_variable_text(variable, value, text, sizeof text))
        return CLI_OK;
    const char *kept = cli_keep(text);
    if (!kept || !set_value(options, at, kept)) return complain_value(at, name, value);
    options->is_set[at - entries] = true;
    return CLI_OK;
}

/* A KV cache of the CPU's is none of a GPU's, nor is a GPU the CPU's. */
static bool is_of_other_device(const cli_options *options,
                               const cli_vllm_variable *variable) {
    const char *device = options->engine.device ? options->engine.device : "auto";
    if (variable->form == CLI_AS_GPUS) return !strcmp(device, "cpu");
    return variable->form == CLI_AS_GIB && !strcmp(device, "cuda");
}

/* Of a variable that sets nothing. */
static int tell_variable(const cli_options *options, const char *command,
                         const cli_vllm_variable *variable, const char *name,
                         const char *value) {
    if (!variable)
        fprintf(stderr, "cohort %s: %s is no variable of vLLM 0.32's%s\n", command, name,
                options->check_environment ? "; --fail-on-environ-validation is set"
                                           : "");
    else if (is_of_other_device(options, variable))
        fprintf(stderr, "cohort %s: %s has no effect with --device %s\n", command, name,
                options->engine.device);
    else if (!cli_vllm_variable_is_fine(variable, value))
        fprintf(stderr, "cohort %s: %s has no effect: %s\n", command, name,
                variable->why);
    return !variable && options->check_environment ? CLI_USAGE : CLI_OK;
}

static int take_variable(cli_options *options, int commands, const char *command,
                         const char *name, const char *value) {
    const cli_vllm_variable *variable = cli_vllm_variable_find(name);
    if (cli_vllm_variable_is_service_link(name, value)) return CLI_OK;
    if (variable && variable->sets && !is_of_other_device(options, variable))
        return set_from_vllm(options, commands, variable, name, value);
    /* It starts nothing, and parses once for each of its headings. */
    if (!strcmp(command, "config")) return CLI_OK;
    return tell_variable(options, command, variable, name, value);
}

static int read_vllm_environment(cli_options *options, int commands,
                                 const char *command) {
    char name[128];
    int result = CLI_OK;
    for (char **at = environ; *at && result == CLI_OK; at++) {
        size_t size = strcspn(*at, "=");
        if (strncmp(*at, "VLLM_", 5) != 0 || size >= sizeof name || !(*at)[size])
            continue;
        memcpy(name, *at, size);
        name[size] = '\0';
        result = take_variable(options, commands, command, name, *at + size + 1);
    }
    return result;
}

/* One server is one engine: of several, whoever starts them says which it is. */
static int check_replica(const cohort_executor_options *options, const char *command) {
    int32_t size = options->data_parallel_size, rank = options->data_parallel_rank;
    if (rank < size && (size == 1 || rank >= 0)) return CLI_OK;
    if (rank < 0)
        fprintf(
            stderr,
            "cohort %s: --data-parallel-size %d without a --data-parallel-rank is not "
            "supported: a server has no replicas; start %d, each with its rank, and "
            "put a balancer before them\n",
            command, size, size);
    else
        fprintf(
            stderr,
            "cohort %s: --data-parallel-rank %d: ranks of --data-parallel-size %d are "
            "0 to %d\n",
            command, rank, size, size - 1);
    return CLI_USAGE;
}

int cli_options_parse(cli_options *options, int commands, const char *command, int argc,
                      char **argv) {
    int result = set_standard(options, commands);
    options->command = command;
    if (result == CLI_OK) result = parse_config(options, commands, command, argc, argv);
    bool has_model = options->is_set[model_entry];
    options->is_set[model_entry] = false;
    for (int i = 1; result == CLI_OK && i < argc; i++) {
        if (!strcmp(argv[i], "-h") || cli_is_named(argv[i], "=", "--help"))
            return cli_help(commands, command, argv[i]);
        result = parse_word(options, commands, command, argc, argv, &i);
    }
    options->is_set[model_entry] |= has_model;
    if (result == CLI_OK && commands & CLI_ENGINE)
        result = read_vllm_environment(options, commands, command);
    if (result == CLI_OK && commands & CLI_ENGINE)
        result = check_replica(&options->engine.executor, command);
    return result;
}

void cli_options_print_value(FILE *out, const cli_options *options, size_t index) {
    const entry *at = &entries[index];
    const void *of = (const char *)options + at->base;
    char text[CLI_PATH_BYTES];
    if (at->row->flags & COHORT_OPTION_SECRET) { /* who looks at a list need not see it */
        fprintf(out, "%s", options->is_set[index] ? "***" : "");
        return;
    }
    for (size_t n = 0; cohort_option_format(at->row, of, n, text, sizeof text); n++)
        fprintf(out, "%s%s", n ? " " : "", text);
}

/* By kind. */
static const char *const units[] = {"TEXT", "N",       "BYTES", "SECONDS", "X",
                                    "",     "TEXT...", "TEXT",  "TEXT"};
_Static_assert(sizeof units / sizeof *units == COHORT_N_KINDS, "a word for each kind");

void cli_options_each(int commands,
                      void (*each)(void *user_data, const cli_option_text *option),
                      void *user_data) {
    list_entries();
    for (size_t i = 0; i < n_entries; i++) {
        const entry *at = &entries[i];
        if (!(at->commands & commands)) continue;
        cli_option_text text = {.name = at->row->name,
                                .alias = at->row->alias,
                                .value = units[at->row->kind],
                                .words = at->row->words,
                                .group = at->group,
                                .standard = at->whose ? at->whose : at->row->standard,
                                .help = at->row->help,
                                .commands = at->commands,
                                .index = i};
        variable_of(at, text.variable, sizeof text.variable);
        each(user_data, &text);
    }
}

bool cli_parse_ids(const char *text, int32_t **out_ids, size_t *out_count) {
    size_t capacity = 1, n = 0;
    for (const char *c = text; *c; c++)
        capacity += *c == ',';
    int32_t *ids = malloc(capacity * sizeof *ids);
    for (const char *at = text; ids; at++) {
        char *end;
        errno = 0;
        long id = strtol(at, &end, 10);
        if (end == at || errno || id < 0 || id > INT32_MAX) break;
        ids[n++] = (int32_t)id;
        at = end;
        if (*at == '\0') {
            *out_ids = ids;
            *out_count = n;
            return true;
        }
        if (*at != ',') break;
    }
    free(ids);
    return false;
}
