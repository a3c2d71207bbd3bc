/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/options.h"
#include "cohort/clock.h"
#include "hub/hub.h"
#include "model/model_config.h"

typedef struct display {
    bool (*is_cancelled)(void *unused);
    int64_t shown_ns;
} display;

enum { BAR_CELLS = 24, REDRAW_MS = 100 };

static bool is_cancelled(void *user_data) {
    const display *self = user_data;
    return self->is_cancelled && self->is_cancelled(NULL);
}

/* A bar on a terminal; elsewhere one line for each file, once it is there. */
static void show(void *user_data, const cohort_hub_progress *of) {
    display *self = user_data;
    int64_t now_ns = cohort_clock_ns();
    bool is_terminal = isatty(STDERR_FILENO);
    double s = (double)(now_ns - of->begin_ns) / 1e9, total = (double)of->total_bytes;
    double rate = s > 0 ? (double)(of->done_bytes - of->resumed_bytes) / s : 0;
    if (!of->is_done &&
        (!is_terminal || now_ns - self->shown_ns < REDRAW_MS * INT64_C(1000000)))
        return;
    self->shown_ns = now_ns;
    if (is_terminal) {
        char bar[BAR_CELLS + 1];
        double part = total > 0 ? (double)of->done_bytes / total : 1;
        int filled = (int)(part * BAR_CELLS);
        memset(bar, '-', BAR_CELLS);
        memset(bar, '#', (size_t)filled);
        bar[BAR_CELLS] = '\0';
        fprintf(stderr, "\r%-28.28s [%s] %3.0f%% %9.1f MB %7.1f MB/s", of->file, bar,
                part * 100, (double)of->done_bytes / 1e6, rate / 1e6);
        if (!of->is_done && rate > 0)
            fprintf(stderr, " %5.0f s left", (total - (double)of->done_bytes) / rate);
        fprintf(stderr, "\033[K%s", of->is_done ? "\n" : "");
    } else if (of->resumed_bytes)
        fprintf(stderr, "fetched %s, %.1f MB, resumed at %.1f MB\n", of->file,
                total / 1e6, (double)of->resumed_bytes / 1e6);
    else
        fprintf(stderr, "fetched %s, %.1f MB\n", of->file, total / 1e6);
}

static void note(void *user_data, const char *text) {
    (void)user_data;
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
    display self = {.is_cancelled = options->is_cancelled};
    const cohort_hub_options hub = {.revision = options->revision,
                                    .cache = options->download_dir,
                                    .check_config = check_config,
                                    .on_progress = show,
                                    .on_note = note,
                                    .is_cancelled = is_cancelled,
                                    .user_data = &self};
    if (cohort_hub_find(model, &hub, options->model_dir, sizeof options->model_dir) >= 0)
        return CLI_OK;
    if (isatty(STDERR_FILENO) && self.shown_ns) fprintf(stderr, "\n");
    char what[160];
    snprintf(what, sizeof what, "model '%.100s', no directory here", model);
    return cli_fail(what);
}

int cli_find_tokenizer(const cli_options *options, const char *name,
                       char out_dir[CLI_PATH_BYTES]) {
    display self = {.is_cancelled = options->is_cancelled};
    const cohort_hub_options hub = {.without_weights = true,
                                    .cache = options->download_dir,
                                    .on_progress = show,
                                    .on_note = note,
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
    return cli_fail(what);
}

int cli_find_model(cli_options *options) {
    int result = find_model(options);
    if (result == CLI_OK && options->engine.tokenizer)
        return cli_find_tokenizer(options, options->engine.tokenizer,
                                  options->tokenizer_dir);
    if (result == CLI_OK) strcpy(options->tokenizer_dir, options->model_dir);
    return result;
}
