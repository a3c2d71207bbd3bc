/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/memory.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "worker/groups.h"

/* Design notes.
 *
 * What a group uses holds file pages that nobody has touched for long; they go when
 * memory is wanted, so they are no use of it (kubelet's working set). */

/* The names that the two versions have for the same. */
typedef struct group_files {
    const char *limit, *usage, *reclaimable;
} group_files;

static const group_files version_1 = {"memory.limit_in_bytes", "memory.usage_in_bytes",
                                      "total_inactive_file"};
static const group_files version_2 = {"memory.max", "memory.current", "inactive_file"};

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

static uint64_t group_leaves(const char *root, const char *folder, bool is_version_2) {
    const group_files *files = is_version_2 ? &version_2 : &version_1;
    uint64_t limit, used, reclaimable = 0;
    if (!read_number(cohort_groups_open(root, folder, files->limit), "", &limit) ||
        !read_number(cohort_groups_open(root, folder, files->usage), "", &used))
        return UINT64_MAX; /* "max", or no such folder */
    read_number(cohort_groups_open(root, folder, "memory.stat"), files->reclaimable,
                &reclaimable);
    used -= reclaimable < used ? reclaimable : used;
    return limit > used ? limit - used : 0;
}

uint64_t cohort_worker_available_below(const char *root) {
    uint64_t kib = 0;
    read_number(cohort_groups_open(root, "/proc", "meminfo"), "MemAvailable:", &kib);
    uint64_t groups = cohort_groups_least(root, "memory", group_leaves);
    return kib * 1024 < groups ? kib * 1024 : groups;
}

uint64_t cohort_worker_available_bytes(void) { return cohort_worker_available_below(""); }
