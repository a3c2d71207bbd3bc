/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "worker/groups.h"

static char root[] = "/tmp/cohort-memory-test-XXXXXX";

/* A file of the tree, with the folders above it. */
static void put(const char *path, const char *text) {
    char whole[256];
    snprintf(whole, sizeof whole, "%s%s", root, path);
    for (char *at = whole + sizeof root; (at = strchr(at, '/')); at++) {
        *at = '\0';
        mkdir(whole, 0700);
        *at = '/';
    }
    FILE *file = fopen(whole, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void clear(void) {
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s/*", root);
    assert_int_equal(system(command), 0);
    put("/proc/meminfo",
        "MemTotal:       9000 kB\nMemFree: 10 kB\nMemAvailable:   4000 kB\n");
}

static uint64_t available(void) { return cohort_worker_available_below(root); }

enum { KIB = 1024 };

static void host_without_groups_says_it_alone(void **state) {
    (void)state;
    clear();
    assert_int_equal(available(), 4000 * KIB);
    put("/proc/self/cgroup", "0::/\n"); /* the root has no limit, and no files */
    assert_int_equal(available(), 4000 * KIB);
}

static void version_2_takes_the_tightest_of_a_path(void **state) {
    (void)state;
    clear();
    put("/proc/self/cgroup", "0::/pods/one\n");
    put("/sys/fs/cgroup/pods/one/memory.max", "max\n");
    put("/sys/fs/cgroup/pods/one/memory.current", "1024\n");
    assert_int_equal(available(), 4000 * KIB);
    put("/sys/fs/cgroup/pods/memory.max", "2048000\n");
    put("/sys/fs/cgroup/pods/memory.current", "1024000\n");
    put("/sys/fs/cgroup/pods/memory.stat", "anon 5\ninactive_file 24000\nfile 7\n");
    assert_int_equal(available(), 2048000 - 1000000);
    put("/sys/fs/cgroup/pods/one/memory.max", "500\n"); /* over its limit already */
    assert_int_equal(available(), 0);
}

static void container_sees_its_own_group_at_the_mount(void **state) {
    (void)state;
    clear();
    put("/proc/self/cgroup", "0::/docker/0123\n"); /* the host's path, not there */
    put("/sys/fs/cgroup/memory.max", "100000\n");
    put("/sys/fs/cgroup/memory.current", "40000\n");
    assert_int_equal(available(), 60000);
}

static void version_1_has_other_names(void **state) {
    (void)state;
    clear();
    put("/proc/self/cgroup", "12:cpu,cpuacct:/a\n9:memory:/a\n0::/b\n");
    put("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "300000\n");
    put("/sys/fs/cgroup/memory/a/memory.usage_in_bytes", "200000\n");
    put("/sys/fs/cgroup/memory/a/memory.stat",
        "inactive_file 1\ntotal_inactive_file 50000\n");
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    put("/sys/fs/cgroup/memory/memory.usage_in_bytes", "200000\n");
    assert_int_equal(available(), 150000);
}

static void a_quota_of_version_2_is_rounded_up(void **state) {
    (void)state;
    clear();
    assert_int_equal(cohort_groups_cpus(root), INT32_MAX);
    put("/proc/self/cgroup", "0::/pods/one\n");
    put("/sys/fs/cgroup/pods/one/cpu.max", "max 100000\n");
    assert_int_equal(cohort_groups_cpus(root), INT32_MAX);
    put("/sys/fs/cgroup/pods/cpu.max", "350000 100000\n");
    assert_int_equal(cohort_groups_cpus(root), 4);
    put("/sys/fs/cgroup/pods/one/cpu.max", "30000 100000\n");
    assert_int_equal(cohort_groups_cpus(root), 1);
    put("/sys/fs/cgroup/pods/one/cpu.max", "200000 100000\n");
    assert_int_equal(cohort_groups_cpus(root), 2);
}

static void a_quota_of_version_1_is_two_files(void **state) {
    (void)state;
    clear();
    put("/proc/self/cgroup", "12:cpu,cpuacct:/a\n9:memory:/a\n4:cpuset:/c\n");
    put("/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "-1\n");
    put("/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n");
    assert_int_equal(cohort_groups_cpus(root), INT32_MAX);
    put("/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "250000\n");
    assert_int_equal(cohort_groups_cpus(root), 3);
    put("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "100000\n"); /* as a container sees it */
    put("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "50000\n");
    assert_int_equal(cohort_groups_cpus(root), 2);
}

static void this_host_has_some(void **state) {
    (void)state;
    assert_true(cohort_worker_available_bytes() > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(host_without_groups_says_it_alone),
        cmocka_unit_test(version_2_takes_the_tightest_of_a_path),
        cmocka_unit_test(container_sees_its_own_group_at_the_mount),
        cmocka_unit_test(version_1_has_other_names),
        cmocka_unit_test(a_quota_of_version_2_is_rounded_up),
        cmocka_unit_test(a_quota_of_version_1_is_two_files),
        cmocka_unit_test(this_host_has_some),
    };
    if (!mkdtemp(root)) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command) || failed;
}
