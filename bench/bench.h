/* SPDX-License-Identifier: Apache-2.0 */
/* bench/bench.h - what benchmarks share: the machine's name, pinning, percentiles, and
 * rounds in which ours and the floor take turns.
 *
 * A figure is a ratio: each round measures both, its ratio is theirs, and the median of
 * the rounds is printed with the least and the greatest.
 */
#ifndef COHORT_BENCH_H
#define COHORT_BENCH_H

#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "cohort/status.h"

enum { BENCH_MAX_ROUNDS = 64 };

static inline int bench_by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts the samples; p from 0 to 1. */
static inline double bench_percentile(double *samples, size_t n, double p) {
    qsort(samples, n, sizeof *samples, bench_by_value);
    return samples[(size_t)((double)(n - 1) * p + 0.5)];
}

static inline int bench_cpus(void) { return (int)sysconf(_SC_NPROCESSORS_ONLN); }

/* One thread alone is timed by its own clock: others may use the processor, too. */
static inline double bench_now_us(int32_t n_threads) {
    struct timespec now;
    clock_gettime(n_threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec * 1e-3;
}

static inline void bench_pin(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((unsigned)(cpu % bench_cpus()), &set);
    sched_setaffinity(0, sizeof set, &set);
}

/* The first line of that key in /proc/cpuinfo. */
static inline void bench_cpuinfo(const char *key, char *out_text, size_t size) {
    static char line[8192];
    FILE *file = fopen("/proc/cpuinfo", "re");
    snprintf(out_text, size, "?");
    while (file && fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, key, strlen(key)) != 0 || !colon) continue;
        colon[strcspn(colon, "\n")] = '\0';
        snprintf(out_text, size, "%.*s", (int)(size - 1), colon + 2);
        break;
    }
    if (file) fclose(file);
}

/* One line: processor by name and numbers (the name of a guest's may say little), count,
 * the feature bits that matter to us, kernel. */
static inline void bench_print_machine(void) {
    static const char *const bits[] = {
        "avx2",        "fma",         "f16c",     "avx512f",  "avx512bw", "avx512_vnni",
        "avx512_bf16", "avx512_fp16", "avx_vnni", "amx_tile", "amx_bf16", "amx_int8"};
    char name[128], family[16], model[16];
    static char flags[8192], wanted[32];
    struct utsname system;
    bench_cpuinfo("model name", name, sizeof name);
    bench_cpuinfo("cpu family", family, sizeof family);
    bench_cpuinfo("model", model, sizeof model);
    bench_cpuinfo("flags", flags, sizeof flags - 2);
    strcat(flags, " ");
    uname(&system);
    printf("machine: %s (family %s, model %s), %d CPUs,", name, family, model,
           bench_cpus());
    for (size_t i = 0; i < sizeof bits / sizeof *bits; i++) {
        snprintf(wanted, sizeof wanted, " %s ", bits[i]);
        if (strstr(flags, wanted)) printf(" %s", bits[i]);
    }
    printf(", %s %s\n", system.sysname, system.release);
}

/* A child that does not outlive us. */
static inline pid_t bench_fork(void) {
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0) exit(1);
    if (pid == 0) prctl(PR_SET_PDEATHSIG, SIGKILL);
    return pid;
}

static inline void bench_check(cohort_status status) {
    if (status >= 0) return;
    fprintf(stderr, "bench: %s\n", cohort_last_error()->message);
    exit(1);
}

/* The only argument of most, 7 by default; 0 and a word where it cannot be.  Prints the
 * machine. */
static inline int bench_rounds(int argc, char **argv) {
    int rounds = argc > 1 ? atoi(argv[1]) : 7;
    if (argc > 2 || rounds < 5 || rounds > BENCH_MAX_ROUNDS) {
        fprintf(stderr, "usage: %s [ROUNDS], 5 to %d\n", argv[0], BENCH_MAX_ROUNDS);
        return 0;
    }
    bench_print_machine();
    return rounds;
}

typedef struct bench_pair {
    const char *name;
    double goal; /* ours / floor; 0: none */
    size_t rounds;
    double ours_p50[BENCH_MAX_ROUNDS], ours_p99[BENCH_MAX_ROUNDS];
    double floor_p50[BENCH_MAX_ROUNDS], floor_p99[BENCH_MAX_ROUNDS];
} bench_pair;

/* Samples in microseconds; both arrays get sorted. */
static inline void bench_add_round(bench_pair *pair, double *ours, size_t n_ours,
                                   double *bare, size_t n_floor) {
    size_t i = pair->rounds++;
    pair->ours_p50[i] = bench_percentile(ours, n_ours, 0.50);
    pair->ours_p99[i] = bench_percentile(ours, n_ours, 0.99);
    pair->floor_p50[i] = bench_percentile(bare, n_floor, 0.50);
    pair->floor_p99[i] = bench_percentile(bare, n_floor, 0.99);
}

static inline void bench_print_header(void) {
    printf("%-34s %9s %9s | %9s %9s | %s\n", "median of the rounds, us", "ours p50",
           "p99", "floor p50", "p99", "p50 ratio: median (least - greatest), goal");
}

static inline void bench_print_pair(bench_pair *pair) {
    double ratios[BENCH_MAX_ROUNDS];
    size_t n = pair->rounds;
    for (size_t i = 0; i < n; i++)
        ratios[i] = pair->ours_p50[i] / pair->floor_p50[i];
    double ratio = bench_percentile(ratios, n, 0.5);
    printf("%-34s %9.2f %9.2f | %9.2f %9.2f | %.2f (%.2f - %.2f)", pair->name,
           bench_percentile(pair->ours_p50, n, 0.5),
           bench_percentile(pair->ours_p99, n, 0.5),
           bench_percentile(pair->floor_p50, n, 0.5),
           bench_percentile(pair->floor_p99, n, 0.5), ratio, ratios[0], ratios[n - 1]);
    if (pair->goal > 0)
        printf(", <= %.2f: %s", pair->goal, ratio <= pair->goal ? "met" : "MISSED");
    printf("\n");
    fflush(stdout);
}

#endif /* COHORT_BENCH_H */
