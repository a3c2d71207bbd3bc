/* SPDX-License-Identifier: Apache-2.0 */
/* From nothing to an executor whose two worker processes are ready, without a model;
 * floor: posix_spawn of two `cohort --version`, and their end.  Ours and floor take turns
 * within a round; outside the timed window: shutdown. */
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>

#include "bench.h"
#include "cohort/clock.h"
#include "cohort/executor.h"
#include "micro.h"

enum { WORKERS = 2, STARTS = 5, GOAL_MS = 30 };

extern char **environ;

static double spawn_us(void) {
    char *argv[] = {"cohort", "--version", NULL};
    posix_spawn_file_actions_t actions;
    pid_t pids[WORKERS];
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    int64_t start_ns = cohort_clock_ns();
    for (int k = 0; k < WORKERS; k++)
        if (posix_spawn(&pids[k], "/proc/self/exe", &actions, NULL, argv, environ))
            exit(1);
    for (int k = 0; k < WORKERS; k++)
        waitpid(pids[k], NULL, 0);
    double us = (double)(cohort_clock_ns() - start_ns) / 1e3;
    posix_spawn_file_actions_destroy(&actions);
    return us;
}

static double start_us(void) {
    cohort_executor_options options = cohort_executor_defaults();
    options.tp = WORKERS;
    cohort_executor *executor;
    int64_t start_ns = cohort_clock_ns();
    bench_check(cohort_executor_start(&options, &executor));
    double us = (double)(cohort_clock_ns() - start_ns) / 1e3;
    cohort_executor_destroy(executor);
    return us;
}

int bench_launch(int argc, char **argv) {
    int rounds = bench_rounds(argc, argv);
    if (!rounds) return 2;
    double ours_us[STARTS], floor_us[STARTS];
    bench_pair pair = {.name = "2 workers to ready"};
    setenv("COHORT_NO_MODEL", "1", 1);
    for (int round = 0; round < rounds; round++) {
        for (int i = 0; i < STARTS; i++) {
            floor_us[i] = spawn_us();
            ours_us[i] = start_us();
        }
        bench_add_round(&pair, ours_us, STARTS, floor_us, STARTS);
    }
    bench_print_header();
    bench_print_pair(&pair);
    double ms = pair.ours_p50[pair.rounds / 2] / 1e3;
    printf("%.1f ms, <= %d ms: %s\n", ms, GOAL_MS, ms <= GOAL_MS ? "met" : "MISSED");
    return 0;
}
