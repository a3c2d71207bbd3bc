/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/suggest.h"
#include "cli/talk.h"

/* ---- commands ---------------------------------------------------------------------- */

/* The system prompt is the first message, or there is none. */
static const char *system_of(const talk *self) {
    const cJSON *first = cJSON_GetArrayItem(self->messages, 0);
    const char *role = cJSON_GetStringValue(cJSON_GetObjectItem(first, "role"));
    if (!role || strcmp(role, "system") != 0) return NULL;
    return cJSON_GetStringValue(cJSON_GetObjectItem(first, "content"));
}

static void clear(talk *self, const char *unused) {
    (void)unused;
    char *system = system_of(self) ? strdup(system_of(self)) : NULL;
    cJSON_Delete(self->messages);
    self->messages = cJSON_CreateArray();
    if (system) talk_add_message(self, "system", system);
    free(system);
    printf("The conversation begins anew%s.\n", system ? ", with its system prompt" : "");
}

static void set_system(talk *self, const char *text) {
    const char *now = system_of(self);
    if (!*text) {
        printf("%s\n", now ? now : "There is no system prompt; /system TEXT sets one.");
        return;
    }
    if (now) cJSON_DeleteItemFromArray(self->messages, 0);
    talk_add_message(self, "system", text);
    int last = cJSON_GetArraySize(self->messages) - 1;
    cJSON *added = cJSON_DetachItemFromArray(self->messages, last);
    if (last)
        cJSON_InsertItemInArray(self->messages, 0, added);
    else
        cJSON_AddItemToArray(self->messages, added);
    printf("The system prompt is set; what was said stays (/clear forgets it).\n");
}

/* As a line that `cohort generate --input` and the API take. */
static void save(talk *self, const char *path) {
    if (!*path) {
        printf("/save FILE: give a name\n");
        return;
    }
    cJSON *all = cJSON_CreateObject();
    cJSON_AddStringToObject(all, "model", self->model);
    cJSON_AddItemReferenceToObject(all, "messages", self->messages);
    char *text = cJSON_PrintUnformatted(all);
    cJSON_Delete(all);
    if (!text) abort();
    FILE *file = fopen(path, "wxe"); /* never over another file */
    bool fine = file && fprintf(file, "%s\n", text) > 0;
    if (file && fclose(file)) fine = false;
    free(text);
    if (fine)
        printf("%d messages are in %s\n", cJSON_GetArraySize(self->messages), path);
    else
        printf("%s cannot be written: %s\n", path, strerror(errno));
}

static void choose_model(talk *self, const char *name) {
    if (talk_find_models(self) != CLI_OK) return;
    const char *list = self->models.size ? self->models.bytes : "";
    size_t size = strlen(name);
    for (const char *at = list; *at; at += strcspn(at, "\n") + 1) {
        size_t n = strcspn(at, "\n");
        if (!size)
            printf("%s %.*s\n",
                   !strncmp(at, self->model, n) && !self->model[n] ? "*" : " ", (int)n,
                   at);
        if (!size || n != size || strncmp(at, name, n) != 0) continue;
        free(self->model);
        if (!(self->model = strdup(name))) abort();
        printf("Using model: %s\n", self->model);
        return;
    }
    if (size) printf("The server has no model '%s'; /model lists them\n", name);
}

static void leave(talk *self, const char *unused) {
    (void)unused;
    self->has_ended = true;
}

static void help(talk *self, const char *unused);

static const struct {
    const char *name, *operand, *about;
    void (*run)(talk *self, const char *rest);
} commands[] = {
    {"help", "", "show this", help},
    {"system", " [TEXT]", "set the system prompt, or show it", set_system},
    {"clear", "", "forget the conversation, but for its system prompt", clear},
    {"save", " FILE", "write the conversation as a line of JSON", save},
    {"model", " [NAME]", "ask another of the server's models, or list them",
     choose_model},
    {"quit", "", "end, as Ctrl-D does", leave},
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static void help(talk *self, const char *unused) {
    (void)self, (void)unused;
    for (int i = 0; i < N_COMMANDS; i++) {
        int n = printf("  /%s%s", commands[i].name, commands[i].operand);
        printf("%*s%s\n", 18 - n, "", commands[i].about);
    }
    printf("Alt-Enter begins a new line; what is pasted is one message, whatever its "
           "lines.\n");
}

bool talk_command(talk *self, const char *line) {
    size_t size = strcspn(line + 1, " ");
    cli_suggestion near;
    char name[40];
    /* A path, or more than one line, is something to talk about. */
    if (line[0] != '/' || memchr(line + 1, '/', size) || strchr(line, '\n')) return false;
    snprintf(name, sizeof name, "%.*s", (int)(size < 39 ? size : 39), line + 1);
    const char *rest = line + 1 + size + strspn(line + 1 + size, " ");
    near = (cli_suggestion){.word = name};
    for (int i = 0; i < N_COMMANDS; i++) {
        cli_suggest(&near, commands[i].name, strlen(commands[i].name));
        if (strcmp(commands[i].name, name) != 0) continue;
        commands[i].run(self, rest);
        return true;
    }
    const char *meant = cli_suggested(&near);
    printf("There is no command /%s; %s%s%s/help lists them\n", name,
           meant ? "did you mean /" : "", meant ? meant : "", meant ? "? " : "");
    return true;
}

/* ---- history ----------------------------------------------------------------------- */

static bool history_path(const talk *self, char *out, size_t size) {
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    bool has_state = state && *state;
    if (!self->is_typed || (!has_state && !(home && *home))) return false;
    int n = snprintf(out, size, "%s%s/cohort", has_state ? state : home,
                     has_state ? "" : "/.local/state");
    if (n < 0 || (size_t)n >= size) return false;
    for (char *c = out + 1; *c; c++) {
        if (*c != '/') continue;
        *c = '\0';
        mkdir(out, 0700); /* what fails shows when the file is opened */
        *c = '/';
    }
    mkdir(out, 0700);
    int rest = snprintf(out + n, size - (size_t)n, "/chat_history");
    return rest > 0 && (size_t)rest < size - (size_t)n;
}

void talk_load_history(talk *self) {
    char path[CLI_PATH_BYTES];
    if (history_path(self, path, sizeof path) &&
        !cli_line_load_history(&self->line, path))
        fprintf(stderr, "cohort: the history in %s cannot be read: %s\n", path,
                strerror(errno));
}

void talk_keep_line(talk *self, const char *line) {
    char path[CLI_PATH_BYTES];
    if (self->keeps_none || !history_path(self, path, sizeof path) ||
        cli_line_append_history(path, line))
        return;
    fprintf(stderr, "cohort: the history cannot be kept in %s: %s\n", path,
            strerror(errno));
    self->keeps_none = true;
}
