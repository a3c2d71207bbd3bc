/* SPDX-License-Identifier: Apache-2.0 */
#include "leftovers.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cohort/clock.h"
#include "counters/counters.h"

int count_entries(const char *path) {
    int n = 0;
    DIR *directory = opendir(path);
    if (!directory) return 0;
    while (readdir(directory))
        n++;
    closedir(directory);
    return n;
}

static void count_file(void *user_data, const char *path) {
    (void)path;
    ++*(int *)user_data;
}

int count_counters(void) {
    int n = 0;
    cohort_counters_list(count_file, &n);
    return n;
}

void await_threads(int threads) {
    enum { PATIENCE_MS = 60000 };
    int64_t until_ns = cohort_deadline_ms(PATIENCE_MS);
    while (count_entries("/proc/self/task") > threads && cohort_clock_ns() < until_ns)
        usleep(1000);
    assert_int_equal(count_entries("/proc/self/task"), threads);
}

bool has_children(void) { return waitpid(-1, NULL, WNOHANG) != -1; }

/* The first line of a file of /proc, or nothing. */
static void read_line(const char *path, char *out_line, int size) {
    FILE *file = fopen(path, "r");
    if (!file || !fgets(out_line, size, file)) out_line[0] = '\0';
    if (file) fclose(file);
}

void assert_no_children(void) {
    char living[64], path[64], stat[160];
    siginfo_t ended = {0};
    if (waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT)) return; /* none */
    read_line("/proc/thread-self/children", living, sizeof living);
    snprintf(path, sizeof path, "/proc/%d/stat",
             ended.si_pid ? ended.si_pid : atoi(living));
    read_line(path, stat, sizeof stat);
    fail_msg("a child is left: %s", stat);
}
