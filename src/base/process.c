/* SPDX-License-Identifier: Apache-2.0 */
#include "base/process.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static double count_fds(void) {
    int n = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (dir && readdir(dir))
        n++;
    if (dir) closedir(dir);
    return n > 3 ? n - 3 : 0; /* ".", ".." and the directory's own */
}

/* /proc/self/stat: memory, and the start in clock ticks since the machine's. */
static void read_stat(cohort_process_usage *out) {
    char text[1024] = "";
    struct timespec since_boot, now;
    unsigned long long start = 0, virtual_bytes = 0;
    long pages = 0;
    FILE *file = fopen("/proc/self/stat", "re");
    if (!file) return;
    size_t got = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[got] = '\0';
    const char *rest = strrchr(text, ')'); /* the name may hold anything */
    if (!rest || sscanf(rest + 1,
                        " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d "
                        "%*d %*d %*d %*d %llu %llu %ld",
                        &start, &virtual_bytes, &pages) != 3)
        return;
    clock_gettime(CLOCK_BOOTTIME, &since_boot);
    clock_gettime(CLOCK_REALTIME, &now);
    double age_s = (double)since_boot.tv_sec + (double)since_boot.tv_nsec / 1e9 -
                   (double)start / (double)sysconf(_SC_CLK_TCK);
    out->started_s = (double)now.tv_sec + (double)now.tv_nsec / 1e9 - age_s;
    out->virtual_bytes = (double)virtual_bytes;
    out->resident_bytes = (double)pages * (double)sysconf(_SC_PAGESIZE);
}

cohort_process_usage cohort_process_measure(void) {
    cohort_process_usage usage = {.n_fds = count_fds()};
    struct rusage used;
    struct rlimit files;
    read_stat(&usage);
    if (getrusage(RUSAGE_SELF, &used) == 0)
        usage.cpu_s = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                      (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) usage.max_fds = (double)files.rlim_cur;
    return usage;
}
