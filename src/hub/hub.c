/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/hub.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hub/hub_internal.h"

#ifndef COHORT_HUB_ENDPOINT
#define COHORT_HUB_ENDPOINT ""
#endif

/* ---- names ------------------------------------------------------------------------- */

static bool is_part(const char *text, size_t size) {
    if (size == 0 || size > 96 || text[0] == '.' || text[0] == '-') return false;
    for (size_t i = 0; i < size; i++)
        if (!isalnum((unsigned char)text[i]) && !strchr("-_.", text[i])) return false;
    return true;
}

bool cohort_hub_is_name(const char *name) {
    const char *slash = strchr(name, '/');
    if (!slash) return is_part(name, strlen(name));
    return is_part(name, (size_t)(slash - name)) && is_part(slash + 1, strlen(slash + 1));
}

static bool is_hex(const char *text, size_t size) {
    return strlen(text) == size && strspn(text, "0123456789abcdef") == size;
}

bool hub_is_commit(const char *text) { return is_hex(text, HUB_COMMIT_CHARS); }

bool hub_is_file_name(const char *name) {
    size_t size = strlen(name);
    if (size == 0 || size > 200 || name[0] == '.') return false;
    for (size_t i = 0; i < size; i++)
        if (!isalnum((unsigned char)name[i]) && !strchr("-_.+", name[i])) return false;
    return true;
}

static bool is_revision(const char *text) {
    size_t size = strlen(text);
    if (size == 0 || size > 200 || text[0] == '/' || strstr(text, "..")) return false;
    for (size_t i = 0; i < size; i++)
        if (!isalnum((unsigned char)text[i]) && !strchr("-_.+/", text[i])) return false;
    return true;
}

/* What a model's directory needs here; weights of other kinds stay there. */
static bool is_wanted(const char *name, bool without_weights) {
    static const char *const endings[] = {".safetensors", ".json",  ".txt",
                                          ".model",       ".jinja", ".tiktoken"};
    if (!hub_is_file_name(name) || !strncmp(name, "consolidated", 12)) return false;
    for (size_t i = without_weights; i < sizeof endings / sizeof *endings; i++) {
        size_t n = strlen(name), m = strlen(endings[i]);
        if (n > m && !strcmp(name + n - m, endings[i])) return true;
    }
    return false;
}

/* ---- where things are -------------------------------------------------------------- */

static const char *variable(const char *name) {
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

static cohort_status home_of_hub(char *out, size_t size) {
    const char *home = variable("HF_HOME"), *caches = variable("XDG_CACHE_HOME");
    const char *user = variable("HOME");
    int n = -1;
    if (home)
        n = snprintf(out, size, "%s", home);
    else if (caches)
        n = snprintf(out, size, "%s/huggingface", caches);
    else if (user)
        n = snprintf(out, size, "%s/.cache/huggingface", user);
    if (n >= 0 && (size_t)n < size) return COHORT_OK;
    return COHORT_FAIL(COHORT_E_INVALID, "no folder for models: set HF_HOME");
}

cohort_status cohort_hub_cache(const cohort_hub_options *options, char *out_path,
                               size_t size) {
    const char *cache = options->cache;
    char home[PATH_MAX];
    if (!cache) cache = variable("HF_HUB_CACHE");
    if (!cache) cache = variable("HUGGINGFACE_HUB_CACHE");
    int n;
    if (cache)
        n = snprintf(out_path, size, "%s", cache);
    else {
        COHORT_TRY(home_of_hub(home, sizeof home));
        n = snprintf(out_path, size, "%s/hub", home);
    }
    if (n < 0 || (size_t)n >= size)
        return COHORT_FAIL(COHORT_E_INVALID, "the path of the cache is too long");
    return COHORT_OK;
}

static void read_line(const char *path, char *out, size_t size) {
    FILE *file = fopen(path, "re");
    out[0] = '\0';
    if (!file) return;
    if (!fgets(out, (int)size, file)) out[0] = '\0';
    out[strcspn(out, "\r\n \t")] = '\0';
    fclose(file);
}

static void find_token(hub_search *self) {
    char path[PATH_MAX + 16], home[PATH_MAX];
    const char *token = self->options->token;
    if (!token) token = variable("HF_TOKEN");
    if (!token) token = variable("HUGGING_FACE_HUB_TOKEN");
    if (token) {
        snprintf(self->token, sizeof self->token, "%s", token);
        return;
    }
    const char *at = variable("HF_TOKEN_PATH");
    if (at)
        snprintf(path, sizeof path, "%s", at);
    else if (home_of_hub(home, sizeof home) == COHORT_OK)
        snprintf(path, sizeof path, "%s/token", home);
    else
        return;
    read_line(path, self->token, sizeof self->token);
}

static bool is_offline(const cohort_hub_options *options) {
    const char *value = variable("HF_HUB_OFFLINE");
    if (options->offline) return true;
    return value && (!strcmp(value, "1") || !strcasecmp(value, "true") ||
                     !strcasecmp(value, "yes") || !strcasecmp(value, "on"));
}

static cohort_status make_folders(const char *path) {
    char part[COHORT_HUB_PATH_BYTES + 256];
    size_t n = strlen(path);
    if (n >= sizeof part) return COHORT_FAIL(COHORT_E_INVALID, "%s: too long", path);
    for (size_t i = 1; i <= n; i++) {
        if (path[i] != '/' && path[i] != '\0') continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdir(part, 0777) < 0 && errno != EEXIST)
            return COHORT_FAIL_SYS(errno, "making the folder %s", part);
    }
    return COHORT_OK;
}

/* ---- what is there ----------------------------------------------------------------- */

static cohort_status snapshot_of(const hub_search *self, char *out, size_t size) {
    int n = snprintf(out, size, "%s/snapshots/%s", self->folder, self->commit);
    if (n < 0 || (size_t)n >= size)
        return COHORT_FAIL(COHORT_E_INVALID, "the path of the cache is too long");
    return COHORT_OK;
}

static bool has_file(const char *folder, const char *name) {
    char path[COHORT_HUB_PATH_BYTES + 256];
    struct stat found;
    int n = snprintf(path, sizeof path, "%s/%s", folder, name);
    return n > 0 && (size_t)n < sizeof path && stat(path, &found) == 0 &&
           S_ISREG(found.st_mode);
}

/* Every file that an index of weights names. */
static bool has_shards(const char *folder) {
    char path[COHORT_HUB_PATH_BYTES + 256];
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", folder);
    FILE *file = fopen(path, "re");
    struct stat found;
    bool whole = false;
    if (!file) return false;
    if (fstat(fileno(file), &found) == 0 && found.st_size > 0 &&
        found.st_size < (64 << 20)) {
        size_t size = (size_t)found.st_size;
        char *text = malloc(size);
        cJSON *json = NULL;
        if (text && fread(text, 1, size, file) == size)
            json = cJSON_ParseWithLength(text, size);
        const cJSON *map = cJSON_GetObjectItem(json, "weight_map"), *entry;
        whole = cJSON_IsObject(map) && map->child;
        cJSON_ArrayForEach(entry, map) {
            whole = whole && cJSON_IsString(entry) &&
                    hub_is_file_name(entry->valuestring) &&
                    has_file(folder, entry->valuestring);
        }
        cJSON_Delete(json);
        free(text);
    }
    fclose(file);
    return whole;
}

/* Where no index says which files there are, one of them has to do. */
static bool has_unlisted(const char *folder) {
    bool found = false;
    DIR *entries =
        has_file(folder, "model.safetensors.index.json") ? NULL : opendir(folder);
    for (const struct dirent *entry; entries && (entry = readdir(entries));) {
        const char *end = strrchr(entry->d_name, '.');
        found =
            found || (end && !strcmp(end, ".safetensors") &&
                      hub_is_file_name(entry->d_name) && has_file(folder, entry->d_name));
    }
    if (entries) closedir(entries);
    return found;
}

static bool is_whole(const hub_search *self, const char *folder) {
    if (self->options->without_weights) return has_file(folder, "tokenizer.json");
    return has_file(folder, "config.json") &&
           (has_file(folder, "model.safetensors") || has_shards(folder) ||
            has_unlisted(folder));
}

/* The snapshot that the cache has of the revision; false where there is none, or not all
 * of it. */
static bool find_cached(hub_search *self, char *out_dir, size_t size) {
    char path[COHORT_HUB_PATH_BYTES + 256];
    if (hub_is_commit(self->revision))
        snprintf(self->commit, sizeof self->commit, "%s", self->revision);
    else {
        snprintf(path, sizeof path, "%s/refs/%s", self->folder, self->revision);
        read_line(path, self->commit, sizeof self->commit);
    }
    return hub_is_commit(self->commit) && snapshot_of(self, out_dir, size) == COHORT_OK &&
           is_whole(self, out_dir);
}

/* ---- bringing it ------------------------------------------------------------------- */

/* Puts a file or link at path in one move. */
static cohort_status put_link(const char *target, const char *path) {
    char temporary[COHORT_HUB_PATH_BYTES + 300];
    snprintf(temporary, sizeof temporary, "%s.%d", path, (int)getpid());
    unlink(temporary);
    if (symlink(target, temporary) < 0 || rename(temporary, path) < 0) {
        int err = errno;
        unlink(temporary);
        return COHORT_FAIL_SYS(err, "linking %s", path);
    }
    return COHORT_OK;
}

static cohort_status put_ref(const hub_search *self) {
    char path[COHORT_HUB_PATH_BYTES + 256], temporary[COHORT_HUB_PATH_BYTES + 300];
    if (hub_is_commit(self->revision)) return COHORT_OK;
    snprintf(path, sizeof path, "%s/refs/%s", self->folder, self->revision);
    char *slash = strrchr(path, '/');
    *slash = '\0';
    COHORT_TRY(make_folders(path));
    *slash = '/';
    snprintf(temporary, sizeof temporary, "%s.%d", path, (int)getpid());
    FILE *file = fopen(temporary, "we");
    bool fine = file && fputs(self->commit, file) >= 0;
    if (file && fclose(file)) fine = false;
    if (fine && rename(temporary, path) == 0) return COHORT_OK;
    int err = errno;
    unlink(temporary);
    return COHORT_FAIL_SYS(err, "writing %s", path);
}

/* A snapshot is believed by its config.json (without weights: its tokenizer.json), so
 * those come when the rest is there, wherever this process dies. */
enum { TURNS = 3 };

static int turn_of(const char *name) {
    if (!strcmp(name, "config.json")) return 2;
    return !strcmp(name, "tokenizer.json");
}

static cohort_status link_files(const hub_search *self, const char *folder, int turn) {
    char path[COHORT_HUB_PATH_BYTES + 256], target[128];
    for (size_t i = 0; i < self->n_files; i++) {
        const hub_file *file = &self->files[i];
        if (!is_wanted(file->name, self->options->without_weights) ||
            turn_of(file->name) != turn)
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, file->name);
        snprintf(target, sizeof target, "../../blobs/%s", file->digest);
        COHORT_TRY(put_link(target, path));
    }
    return COHORT_OK;
}

/* Others may have brought it meanwhile. */
static cohort_status fetch_one(hub_search *self, hub_file *file) {
    COHORT_TRY_WHILE(hub_fetch(self, file), "fetching %s of %s", file->name, self->name);
    self->n_done += file->is_missing;
    self->done_bytes += file->is_missing ? file->size_bytes : 0;
    file->is_missing = false;
    return COHORT_OK;
}

static void count_missing(hub_search *self) {
    for (size_t i = 0; i < self->n_files; i++) {
        hub_file *file = &self->files[i];
        if (!is_wanted(file->name, self->options->without_weights) ||
            hub_has_blob(self, file))
            continue;
        file->is_missing = true;
        self->n_missing++;
        self->total_bytes += file->size_bytes;
    }
}

void hub_advise(const hub_search *self, const char *assignment) {
    const cohort_hub_options *options = self->options;
    if (options->on_remedy) options->on_remedy(options->user_data, assignment);
}

static cohort_status read_blob(const hub_search *self, const hub_file *file,
                               char **out_text, size_t *out_size) {
    enum { MOST_BYTES = 4 << 20 };
    char path[COHORT_HUB_PATH_BYTES + 256];
    snprintf(path, sizeof path, "%s/blobs/%s", self->folder, file->digest);
    size_t size = (size_t)file->size_bytes;
    if (file->size_bytes > MOST_BYTES)
        return COHORT_FAIL(COHORT_E_INVALID, "%s of %s is too large", file->name,
                           self->name);
    FILE *from = fopen(path, "re");
    if (!from) return COHORT_FAIL_SYS(errno, "opening %s", path);
    char *text = malloc(size + 1);
    *out_size = text ? fread(text, 1, size, from) : 0;
    fclose(from);
    *out_text = text;
    return text ? COHORT_OK : COHORT_FAIL(COHORT_E_NOMEM, "%zu bytes", size);
}

/* Gigabytes of weights are not fetched where config.json, or the list of files, says that
 * they will not do. */
static cohort_status check_first(hub_search *self) {
    const char *other = NULL;
    bool has_weights = false;
    const cohort_hub_options *options = self->options;
    if (options->without_weights) return COHORT_OK;
    for (size_t i = 0; i < self->n_files; i++) {
        const char *end = strrchr(self->files[i].name, '.');
        if (!end) continue;
        if (!strcmp(end, ".safetensors")) has_weights = true;
        if (!strcmp(end, ".gguf") || !strcmp(end, ".bin") || !strcmp(end, ".pt") ||
            !strcmp(end, ".pth"))
            other = self->files[i].name;
    }
    for (size_t i = 0; i < self->n_files && options->check_config; i++) {
        char *text = NULL;
        size_t size = 0;
        if (strcmp(self->files[i].name, "config.json") != 0) continue;
        COHORT_TRY(fetch_one(self, &self->files[i]));
        COHORT_TRY(read_blob(self, &self->files[i], &text, &size));
        cohort_status status = options->check_config(options->user_data, text, size);
        free(text);
        COHORT_TRY_WHILE(status, "looking at %s", self->name);
    }
    if (has_weights) return COHORT_OK;
    return COHORT_FAIL(COHORT_E_INVALID,
                       "%s has no safetensors weights%s%.100s%s; other formats are not "
                       "read",
                       self->name, other ? " (but " : "", other ? other : "",
                       other ? ")" : "");
}

static cohort_status bring(hub_search *self, char *out_dir, size_t size) {
    char path[COHORT_HUB_PATH_BYTES + 256];
    COHORT_TRY(snapshot_of(self, out_dir, size));
    COHORT_TRY(make_folders(out_dir));
    snprintf(path, sizeof path, "%s/blobs", self->folder);
    COHORT_TRY(make_folders(path));
    snprintf(path, sizeof path, "%s/.locks/%s", self->cache,
             strrchr(self->folder, '/') + 1);
    COHORT_TRY(make_folders(path));
    count_missing(self);
    COHORT_TRY(check_first(self));
    for (size_t i = 0; i < self->n_files; i++)
        if (is_wanted(self->files[i].name, self->options->without_weights))
            COHORT_TRY(fetch_one(self, &self->files[i]));
    for (int turn = 0; turn < TURNS; turn++)
        COHORT_TRY(link_files(self, out_dir, turn));
    if (!is_whole(self, out_dir))
        return COHORT_FAIL(COHORT_E_INVALID, "%s has no %s", self->name,
                           self->options->without_weights
                               ? "tokenizer.json"
                               : "config.json and safetensors weights for all of it");
    return put_ref(self);
}

void hub_search_deinit(hub_search *self) {
    for (size_t i = 0; i < self->n_files; i++)
        free(self->files[i].name);
    free(self->files);
}

static cohort_status prepare(hub_search *self, const char *name) {
    if (!cohort_hub_is_name(name))
        return COHORT_FAIL(COHORT_E_INVALID, "'%.100s' is no model's name: Org/Name",
                           name);
    if (!is_revision(self->revision))
        return COHORT_FAIL(COHORT_E_INVALID, "'%.100s' is no revision", self->revision);
    COHORT_TRY(cohort_hub_cache(self->options, self->cache, sizeof self->cache - 256));
    size_t n =
        (size_t)snprintf(self->folder, sizeof self->folder, "%s/models--", self->cache);
    for (; *name; name++) /* '/' becomes "--" */
        n += (size_t)snprintf(self->folder + n, sizeof self->folder - n, "%s%.*s",
                              *name == '/' ? "--" : "", *name != '/', name);
    const char *endpoint = self->options->endpoint;
    if (!endpoint) endpoint = variable("HF_ENDPOINT");
    if (!endpoint) endpoint = COHORT_HUB_ENDPOINT;
    size_t length = strlen(endpoint);
    while (length && endpoint[length - 1] == '/')
        length--;
    if (length >= sizeof self->endpoint)
        return COHORT_FAIL(COHORT_E_INVALID, "HF_ENDPOINT is too long");
    memcpy(self->endpoint, endpoint, length);
    find_token(self);
    self->token[strcspn(self->token, "\r\n \t")] = '\0'; /* part of a header */
    return COHORT_OK;
}

cohort_status cohort_hub_find(const char *name, const cohort_hub_options *options,
                              char *out_dir, size_t size) {
    hub_search self = {.options = options, .name = name};
    self.revision = options->revision ? options->revision : "main";
    COHORT_TRY(prepare(&self, name));
    if (is_offline(options) || !*self.endpoint || hub_is_commit(self.revision)) {
        if (find_cached(&self, out_dir, size)) return COHORT_OK;
        if (is_offline(options)) {
            hub_advise(&self, "HF_HUB_OFFLINE=0");
            return COHORT_FAIL(COHORT_E_INVALID,
                               "%s at %s is not in %s, and HF_HUB_OFFLINE is set", name,
                               self.revision, self.cache);
        }
        if (!*self.endpoint) {
            hub_advise(&self, "HF_ENDPOINT=https://HUB");
            return COHORT_FAIL(COHORT_E_INVALID,
                               "%s at %s is not in %s; to fetch it, set HF_ENDPOINT to "
                               "the hub's address",
                               name, self.revision, self.cache);
        }
    }
    cohort_status status = hub_ask(&self);
    if (status == COHORT_OK) status = bring(&self, out_dir, size);
    /* A hub that is away, or something else in its place (a hotel's page of terms), is no
     * reason not to serve what is here. */
    else if ((status == COHORT_E_IO || status == COHORT_E_PROTOCOL) &&
             find_cached(&self, out_dir, size)) {
        if (options->on_note) {
            char text[COHORT_ERROR_MESSAGE_BYTES + 160];
            snprintf(text, sizeof text, "%.100s is taken from the cache as it is: %s",
                     name, cohort_last_error()->message);
            options->on_note(options->user_data, text);
        }
        status = COHORT_OK;
    }
    if (status == COHORT_E_IO) hub_advise(&self, "");
    hub_search_deinit(&self);
    return status;
}
