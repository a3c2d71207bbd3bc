/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/memory.h"

#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Design notes.
 *
 * A group is as good as its parents let it be, so every folder on the way up is asked.
 * What a group uses holds file pages that nobody has touched for long; they go when
 * memory is wanted, so they are no use of it (kubelet's working set).
 *
 * A container often sees the host's path in /proc/self/cgroup, while the folder that is
 * mounted is its own: folders that are not there are passed over, the mounted one is
 * always asked. */

/* The names that the two versions have for the same. */
typedef struct group_files {
    const char *mount, *limit, *usage, *reclaimable;
} group_files;

static const group_files version_1 = {"/sys/fs/cgroup/memory", "memory.limit_in_bytes",
                                      "memory.usage_in_bytes", "total_inactive_file"};
static const group_files version_2 = {"/sys/fs/cgroup", "memory.max", "memory.current",
                                      "inactive_file"};

static FILE *open_below(const char *root, const char *folder, const char *name) {
    char path[PATH_MAX];
    int n = snprintf(path, sizeof path, "%s%s/%s", root, folder, name);
    return n > 0 && (size_t)n < sizeof path ? fopen(path, "re") : NULL;
}

/* The number after key, at the beginning of a line; key "": the file's first word. */
static bool read_number(FILE *file, const char *key, uint64_t *out_number) {
    char line[256];
    size_t length = strlen(key);
    bool found = false;
    while (file && !found && fgets(line, sizeof line, file))
        found = !strncmp(line, key, length) &&
                sscanf(line + length, " %" SCNu64, out_number) == 1;
    if (file) fclose(file);
    return found;
}

static uint64_t group_leaves(const char *root, const char *folder,
                             const group_files *files) {
    uint64_t limit, used, reclaimable = 0;
    if (!read_number(open_below(root, folder, files->limit), "", &limit) ||
        !read_number(open_below(root, folder, files->usage), "", &used))
        return UINT64_MAX; /* "max", or no such folder */
    read_number(open_below(root, folder, "memory.stat"), files->reclaimable,
                &reclaimable);
    used -= reclaimable < used ? reclaimable : used;
    return limit > used ? limit - used : 0;
}

/* path: of the group, "/a/b", below the mount. */
static uint64_t path_leaves(const char *root, const char *path,
                            const group_files *files) {
    char folder[PATH_MAX];
    uint64_t least = UINT64_MAX;
    int n = snprintf(folder, sizeof folder, "%s%s", files->mount, path);
    if (n < 0 || (size_t)n >= sizeof folder) return least;
    for (size_t end = strlen(folder); end >= strlen(files->mount); end--) {
        if (folder[end] != '/' && folder[end] != '\0') continue;
        folder[end] = '\0';
        uint64_t left = group_leaves(root, folder, files);
        if (left < least) least = left;
    }
    return least;
}

/* Lines of /proc/self/cgroup: "0::/a/b" of version 2, "9:memory:/a/b" of version 1. */
static uint64_t groups_leave(const char *root) {
    char line[PATH_MAX + 64];
    uint64_t least = UINT64_MAX;
    FILE *file = open_below(root, "/proc/self", "cgroup");
    while (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        char *names = strchr(line, ':');
        char *path = names ? strchr(names + 1, ':') : NULL;
        if (!path) continue;
        *path++ = '\0';
        bool is_2 = !names[1];
        if (!is_2 && strcmp(names + 1, "memory") != 0) continue;
        uint64_t left = path_leaves(root, path, is_2 ? &version_2 : &version_1);
        if (left < least) least = left;
    }
    if (file) fclose(file);
    return least;
}

uint64_t cohort_memory_available_below(const char *root) {
    uint64_t kib = 0;
    read_number(open_below(root, "/proc", "meminfo"), "MemAvailable:", &kib);
    uint64_t groups = groups_leave(root);
    return kib * 1024 < groups ? kib * 1024 : groups;
}

uint64_t cohort_memory_available_bytes(void) { return cohort_memory_available_below(""); }
