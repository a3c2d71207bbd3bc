/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/options.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "cli/terminal.h"
#include "hub/hub.h"
#include "model/model_config.h"

typedef struct display {
    const cli_options *options;
    const char *name; /* of the model */
    cli_progress bar;
    bool has_begun;
    bool is_tokenizer; /* alone: the command fetches something else */
    char remedy[64];   /* a variable to set; "": none */
    bool has_remedy;
} display;

static bool is_cancelled(void *user_data) {
    const cli_options *options = ((const display *)user_data)->options;
    return options->is_cancelled && options->is_cancelled(NULL);
}

/* Elsewhere than on a terminal also a line for each file, once it is there. */
static void tell_file(const cohort_hub_progress *of) {
    fprintf(stderr, "fetched %s, %.1f MB", of->file, (double)of->total_bytes / 1e6);
    if (of->resumed_bytes)
        fprintf(stderr, ", resumed at %.1f MB", (double)of->resumed_bytes / 1e6);
    fprintf(stderr, "\n");
}

static void show(void *user_data, const cohort_hub_progress *of) {
    display *self = user_data;
    char what[160];
    int file = of->n_done + !of->is_done;
    snprintf(what, sizeof what, "Fetching %s (file %d of %d)", self->name, file,
             of->n_files);
    if (!self->has_begun) cli_progress_begin(&self->bar, what);
    self->has_begun = true;
    snprintf(self->bar.what, sizeof self->bar.what, "%s", what);
    if (of->is_done && !cli_columns(STDERR_FILENO)) tell_file(of);
    cli_progress_show(&self->bar, of->all_done_bytes, of->all_total_bytes);
    if (!of->is_done || of->n_done < of->n_files || !cli_columns(STDERR_FILENO)) return;
    cli_progress_clear();
    fprintf(stderr, "fetched %s: %d files, %.1f MB\n", self->name, of->n_files,
            (double)of->all_total_bytes / 1e6);
}

static void take_remedy(void *user_data, const char *assignment) {
    display *self = user_data;
    self->has_remedy = true;
    snprintf(self->remedy, sizeof self->remedy, "%s", assignment);
}

/* What went wrong, and the whole command that would have fetched it. */
static int fail(const display *self, const char *what) {
    const cli_options *options = self->options;
    bool is_other = options->revision && strcmp(options->revision, "main") != 0;
    const char *folder = options->download_dir;
    char advice[CLI_PATH_BYTES + 400];
    if (self->is_tokenizer)
        snprintf(advice, sizeof advice, *self->remedy ? "; %s would have it fetched" : "",
                 self->remedy);
    else
        snprintf(advice, sizeof advice, "; %s: %s%scohort %s %s%s%s%s%s",
                 *self->remedy ? "to fetch it" : "to go on where it was", self->remedy,
                 *self->remedy ? " " : "", options->command, self->name,
                 is_other ? " --revision " : "", is_other ? options->revision : "",
                 folder ? " --download-dir " : "", folder ? folder : "");
    return cli_fail_advising(what,
                             self->has_remedy && !cli_signals_first() ? advice : "");
}

static void note(void *user_data, const char *text) {
    (void)user_data;
    cli_progress_clear();
    fprintf(stderr, "cohort: %s\n", text);
}

static cohort_status check_config(void *user_data, const char *text, size_t size) {
    cohort_model_config config;
    cohort_model_defaults defaults;
    (void)user_data;
    return cohort_model_config_parse(text, size, NULL, 0, "config.json", &config,
                                     &defaults);
}

static bool is_folder(const char *path) {
    struct stat found;
    return stat(path, &found) == 0 && S_ISDIR(found.st_mode);
}

/* What scripts/fetch_model.sh brought, by its folder's name. */
static bool is_fetched(const char *name, char *out_dir, size_t size) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char path[CLI_PATH_BYTES + sizeof "/config.json"];
    int n = -1;
    if (strchr(name, '/') || *name == '.') return false;
    if (cache && *cache)
        n = snprintf(out_dir, size, "%s/cohort/%s", cache, name);
    else if (home && *home)
        n = snprintf(out_dir, size, "%s/.cache/cohort/%s", home, name);
    if (n < 0 || (size_t)n >= size) return false;
    snprintf(path, sizeof path, "%s/config.json", out_dir);
    return access(path, R_OK) == 0;
}

static int find_model(cli_options *options) {
    const char *model = options->engine.model;
    if (!model) {
        fprintf(stderr, "cohort: no model; give the directory of a Hugging Face model, "
                        "or its name\n");
        return CLI_USAGE;
    }
    if (is_folder(model) && strlen(model) < sizeof options->model_dir) {
        strcpy(options->model_dir, model);
        return CLI_OK;
    }
    if (!cohort_hub_is_name(model)) {
        fprintf(stderr, "cohort: model '%s' is no directory here, and no name\n", model);
        return CLI_USAGE;
    }
    if (is_fetched(model, options->model_dir, sizeof options->model_dir)) return CLI_OK;
    display self = {.options = options, .name = model};
    const cohort_hub_options hub = {.revision = options->revision,
                                    .cache = options->download_dir,
                                    .check_config = check_config,
                                    .on_progress = show,
                                    .on_note = note,
                                    .on_remedy = take_remedy,
                                    .is_cancelled = is_cancelled,
                                    .user_data = &self};
    if (cohort_hub_find(model, &hub, options->model_dir, sizeof options->model_dir) >= 0)
        return CLI_OK;
    char what[160];
    snprintf(what, sizeof what, "model '%.100s', no directory here", model);
    return fail(&self, what);
}

int cli_find_tokenizer(const cli_options *options, const char *name,
                       char out_dir[CLI_PATH_BYTES]) {
    display self = {.options = options, .name = name, .is_tokenizer = true};
    const cohort_hub_options hub = {.without_weights = true,
                                    .cache = options->download_dir,
                                    .on_progress = show,
                                    .on_note = note,
                                    .on_remedy = take_remedy,
                                    .is_cancelled = is_cancelled,
                                    .user_data = &self};
    if (is_folder(name) || !cohort_hub_is_name(name)) {
        snprintf(out_dir, CLI_PATH_BYTES, "%s", name);
        return CLI_OK; /* who opens it says what is wrong with it */
    }
    if (is_fetched(name, out_dir, CLI_PATH_BYTES) ||
        cohort_hub_find(name, &hub, out_dir, CLI_PATH_BYTES) >= 0)
        return CLI_OK;
    char what[200];
    snprintf(what, sizeof what, "--tokenizer '%.100s', no directory here", name);
    return fail(&self, what);
}

int cli_find_model(cli_options *options) {
    int result = find_model(options);
    if (result == CLI_OK && options->engine.tokenizer)
        return cli_find_tokenizer(options, options->engine.tokenizer,
                                  options->tokenizer_dir);
    if (result == CLI_OK) strcpy(options->tokenizer_dir, options->model_dir);
    return result;
}
