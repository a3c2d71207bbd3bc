/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/groups.h"

#include <inttypes.h>
#include <limits.h>
#include <string.h>

/* Design notes.
 *
 * A group is as good as its parents let it be, so every folder on the way up is asked.
 *
 * A container often sees the host's path in /proc/self/cgroup, while the folder that is
 * mounted is its own: folders that are not there are passed over, the mounted one is
 * always asked. */

#define MOUNT "/sys/fs/cgroup"

FILE *cohort_groups_open(const char *root, const char *folder, const char *name) {
    char path[PATH_MAX];
    int n = snprintf(path, sizeof path, "%s%s/%s", root, folder, name);
    return n > 0 && (size_t)n < sizeof path ? fopen(path, "re") : NULL;
}

/* path: of the group, "/a/b", below the mount. */
static uint64_t path_allows(const char *root, const char *mount, const char *path,
                            cohort_group_ask *ask, bool is_version_2) {
    char folder[PATH_MAX];
    uint64_t least = UINT64_MAX;
    int n = snprintf(folder, sizeof folder, "%s%s", mount, path);
    if (n < 0 || (size_t)n >= sizeof folder) return least;
    for (size_t end = strlen(folder); end >= strlen(mount); end--) {
        if (folder[end] != '/' && folder[end] != '\0') continue;
        folder[end] = '\0';
        uint64_t allowed = ask(root, folder, is_version_2);
        if (allowed < least) least = allowed;
    }
    return least;
}

/* Is the controller among names, "cpu,cpuacct"? */
static bool names_controller(const char *names, const char *controller) {
    size_t length = strlen(controller);
    for (const char *at = names; at; at = strchr(at, ',')) {
        if (*at == ',') at++;
        if (!strncmp(at, controller, length) && (at[length] == ',' || !at[length]))
            return true;
    }
    return false;
}

/* Lines of /proc/self/cgroup: "0::/a/b" of version 2, "9:memory:/a/b" of version 1. */
uint64_t cohort_groups_least(const char *root, const char *controller,
                             cohort_group_ask *ask) {
    char line[PATH_MAX + 64], mount[128];
    uint64_t least = UINT64_MAX;
    FILE *file = cohort_groups_open(root, "/proc/self", "cgroup");
    while (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        char *names = strchr(line, ':');
        char *path = names ? strchr(names + 1, ':') : NULL;
        if (!path) continue;
        *path++ = '\0';
        bool is_2 = !*++names;
        if (!is_2 && !names_controller(names, controller)) continue;
        /* Of version 1 each has a mount, by its name or by all that are mounted there. */
        for (int i = 0; i < (is_2 || !strcmp(names, controller) ? 1 : 2); i++) {
            const char *name = i ? names : controller;
            snprintf(mount, sizeof mount, "%s%s%.64s", MOUNT, is_2 ? "" : "/",
                     is_2 ? "" : name);
            uint64_t allowed = path_allows(root, mount, path, ask, is_2);
            if (allowed < least) least = allowed;
        }
    }
    if (file) fclose(file);
    return least;
}

static bool read_two(FILE *file, int64_t *out_first, int64_t *out_second) {
    int n = file ? fscanf(file, "%" SCNd64 " %" SCNd64, out_first, out_second) : 0;
    if (file) fclose(file);
    return n == 2;
}

static bool read_one(FILE *file, int64_t *out_number) {
    bool found = file && fscanf(file, "%" SCNd64, out_number) == 1;
    if (file) fclose(file);
    return found;
}

/* cpu.max: "QUOTA PERIOD" or "max PERIOD"; of version 1 a file each, the quota -1. */
static uint64_t group_cpus(const char *root, const char *folder, bool is_version_2) {
    int64_t quota = -1, period = 0;
    bool is_known =
        is_version_2
            ? read_two(cohort_groups_open(root, folder, "cpu.max"), &quota, &period)
            : read_one(cohort_groups_open(root, folder, "cpu.cfs_quota_us"), &quota) &&
                  read_one(cohort_groups_open(root, folder, "cpu.cfs_period_us"),
                           &period);
    if (!is_known || quota <= 0 || period <= 0) return UINT64_MAX;
    return (uint64_t)(quota / period + (quota % period != 0));
}

int32_t cohort_groups_cpus(const char *root) {
    uint64_t cpus = cohort_groups_least(root, "cpu", group_cpus);
    return cpus < INT32_MAX ? (int32_t)cpus : INT32_MAX;
}
