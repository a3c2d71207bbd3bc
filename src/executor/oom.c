/* SPDX-License-Identifier: Apache-2.0 */
#include "executor/oom.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int64_t VICTIMS_NS = INT64_C(1000000000);

/* A number behind its name at the beginning of a line; false: there is none. */
static bool read_count(const char *path, const char *name, uint64_t *out_count) {
    char line[1024];
    bool is_found = false;
    size_t length = strlen(name);
    FILE *file = fopen(path, "re");
    while (file && !is_found && fgets(line, sizeof line, file)) {
        is_found = !strncmp(line, name, length) && line[length] == ' ';
        if (is_found) *out_count = strtoull(line + length, NULL, 10);
    }
    if (file) fclose(file);
    return is_found;
}

/* The file of that name in a folder. */
static bool counts_at(executor_oom *self, const char *root, const char *folder,
                      const char *group, const char *name) {
    int length =
        snprintf(self->path, sizeof self->path, "%s%s%s%s", root, folder, group, name);
    if (length > 0 && (size_t)length < sizeof self->path &&
        read_count(self->path, "oom_kill", &self->n_kills))
        return true;
    self->path[0] = '\0';
    return false;
}

/* A line is NUMBER:CONTROLLERS:PATH, without controllers in v2.  In a container the path
 * may be the host's, and its files lie at the top. */
static bool find_group(executor_oom *self, const char *root, const char *line) {
    const char *controllers = strchr(line, ':');
    const char *group = controllers ? strchr(++controllers, ':') : NULL;
    if (!group) return false;
    size_t length = (size_t)(group++ - controllers);
    bool is_v1 = length == 6 && !strncmp(controllers, "memory", length);
    if (!is_v1 && length > 0) return false;
    const char *folder = is_v1 ? "/sys/fs/cgroup/memory" : "/sys/fs/cgroup";
    const char *name = is_v1 ? "/memory.oom_control" : "/memory.events";
    if (!strcmp(group, "/")) group = "";
    return counts_at(self, root, folder, group, name) ||
           counts_at(self, root, folder, "", name);
}

/* Beside memory.events. */
static bool kills_all(const char *path) {
    char beside[sizeof((executor_oom *)0)->path + 16];
    const char *slash = strrchr(path, '/');
    char digit = '0';
    if (!slash || strcmp(slash, "/memory.events") != 0) return false;
    snprintf(beside, sizeof beside, "%.*s/memory.oom.group", (int)(slash - path), path);
    FILE *file = fopen(beside, "re");
    if (!file) return false;
    bool is_read = fread(&digit, 1, 1, file) == 1;
    fclose(file);
    return is_read && digit == '1';
}

void executor_oom_open(executor_oom *self, const char *root) {
    char path[256], line[1024];
    bool is_found = false;
    *self = (executor_oom){0};
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *file = fopen(path, "re");
    while (file && !is_found && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        is_found = find_group(self, root, line);
    }
    if (file) fclose(file);
    if (!is_found) counts_at(self, root, "/proc", "", "/vmstat");
    self->kills_all = kills_all(self->path);
}

static bool read_kills(executor_oom *self, int64_t now_ns) {
    uint64_t before = self->n_kills;
    self->read_ns = now_ns;
    if (!self->path[0] || !read_count(self->path, "oom_kill", &self->n_kills))
        return false;
    if (now_ns - self->seen_ns > VICTIMS_NS) self->n_open = 0;
    if (self->n_kills != before) self->seen_ns = now_ns;
    self->n_open += self->n_kills - before;
    return true;
}

void executor_oom_look(executor_oom *self, int64_t now_ns) {
    if (now_ns - self->read_ns >= VICTIMS_NS) read_kills(self, now_ns);
}

bool executor_oom_has_killed(executor_oom *self, int64_t now_ns) {
    if (!read_kills(self, now_ns) || !self->n_open) return false;
    self->n_open--;
    return true;
}
