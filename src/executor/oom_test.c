/* SPDX-License-Identifier: Apache-2.0 */
/* Counters of kills for want of memory, as kernels of both kinds show them. */
#include "executor/oom.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char root[64];

static void put(const char *path, const char *text) {
    char whole[512];
    snprintf(whole, sizeof whole, "%s%s", root, path);
    for (char *slash = strchr(whole + strlen(root) + 1, '/'); slash;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(whole, 0700);
        *slash = '/';
    }
    FILE *file = fopen(whole, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int make_root(void **state) {
    (void)state;
    snprintf(root, sizeof root, "/tmp/oom_test.XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int drop_root(void **state) {
    char command[96];
    (void)state;
    snprintf(command, sizeof command, "rm -r %s", root);
    return system(command);
}

static void expect_kills_in(const char *path, const char *before, const char *after) {
    executor_oom oom;
    put(path, before);
    executor_oom_open(&oom, root);
    assert_false(executor_oom_has_killed(&oom, 5));
    put(path, after);
    assert_true(executor_oom_has_killed(&oom, 6));
    assert_false(executor_oom_has_killed(&oom, 7));
}

/* Two kills have two victims; of an old one nobody asks any more. */
static void every_kill_has_a_victim(void **state) {
    (void)state;
    const int64_t long_after = 1100000000, later = 3 * long_after;
    executor_oom oom;
    put("/proc/self/cgroup", "0::/\n");
    put("/sys/fs/cgroup/memory.events", "oom_kill 1\n");
    executor_oom_open(&oom, root);
    put("/sys/fs/cgroup/memory.events", "oom_kill 3\n");
    assert_true(executor_oom_has_killed(&oom, 5));
    assert_true(executor_oom_has_killed(&oom, 6));
    assert_false(executor_oom_has_killed(&oom, 7));
    put("/sys/fs/cgroup/memory.events", "oom_kill 5\n");
    assert_true(executor_oom_has_killed(&oom, 8));
    assert_false(executor_oom_has_killed(&oom, long_after));
    put("/sys/fs/cgroup/memory.events", "oom_kill 6\n"); /* of somebody else */
    executor_oom_look(&oom, 2 * long_after);
    assert_false(executor_oom_has_killed(&oom, later + 1));
    put("/sys/fs/cgroup/memory.events", "oom_kill 7\n");
    executor_oom_look(&oom, later + 2); /* too soon to read it again */
    assert_int_equal(oom.n_kills, 6);
    assert_true(executor_oom_has_killed(&oom, later + 3));
}

static void kills_are_seen_in_a_group_of_version_2(void **state) {
    (void)state;
    executor_oom oom;
    put("/proc/self/cgroup", "0::/kubepods/pod1/c\n");
    expect_kills_in("/sys/fs/cgroup/kubepods/pod1/c/memory.events",
                    "low 0\noom 1\noom_kill 3\noom_group_kill 9\n",
                    "low 0\noom 2\noom_kill 4\noom_group_kill 9\n");
    executor_oom_open(&oom, root);
    assert_false(oom.kills_all);
    put("/sys/fs/cgroup/kubepods/pod1/c/memory.oom.group", "1\n");
    executor_oom_open(&oom, root);
    assert_true(oom.kills_all);
}

/* Its name is that of the host, its files are at the top. */
static void kills_are_seen_where_a_container_is_the_top(void **state) {
    (void)state;
    put("/proc/self/cgroup", "0::/\n");
    expect_kills_in("/sys/fs/cgroup/memory.events", "oom_kill 0\n", "oom_kill 1\n");
    put("/proc/self/cgroup", "0::/of/the/host\n");
    expect_kills_in("/sys/fs/cgroup/memory.events", "oom_kill 0\n", "oom_kill 1\n");
}

static void kills_are_seen_in_a_group_of_version_1(void **state) {
    (void)state;
    put("/proc/self/cgroup", "9:name=systemd:/\n4:memory:/box/a\n0::/\n");
    expect_kills_in("/sys/fs/cgroup/memory/box/a/memory.oom_control",
                    "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n",
                    "oom_kill_disable 0\nunder_oom 0\noom_kill 8\n");
}

static void kills_of_the_whole_system_are_seen_where_there_is_no_group(void **state) {
    (void)state;
    put("/proc/self/cgroup", "0::/\n");
    expect_kills_in("/proc/vmstat", "nr_free_pages 7\noom_kill 0\n",
                    "nr_free_pages 7\noom_kill 1\n");
}

static void nothing_is_known_where_nothing_can_be(void **state) {
    (void)state;
    executor_oom oom;
    executor_oom_open(&oom, root);
    assert_false(executor_oom_has_killed(&oom, 5));
    assert_false(oom.kills_all);
}

#define IN_ROOT(test) cmocka_unit_test_setup_teardown(test, make_root, drop_root)

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_ROOT(kills_are_seen_in_a_group_of_version_2),
        IN_ROOT(kills_are_seen_where_a_container_is_the_top),
        IN_ROOT(kills_are_seen_in_a_group_of_version_1),
        IN_ROOT(every_kill_has_a_victim),
        IN_ROOT(kills_of_the_whole_system_are_seen_where_there_is_no_group),
        IN_ROOT(nothing_is_known_where_nothing_can_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
