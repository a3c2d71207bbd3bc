/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fail.h"
#include "launcher/child.h"
#include "launcher/launcher.h"

extern char **environ;

static bool ends_path(const char *path, const char *name) {
    const char *slash = strrchr(path, '/');
    return !strcmp(slash ? slash + 1 : path, name);
}

/* A name without a slash is looked up in PATH. */
static void find_program(const cohort_executor_options *options, char *out_path,
                         size_t size) {
    const char *named = options->worker_command;
    if (!named || !named[0]) named = getenv("COHORT_WORKER");
    if (named && named[0]) {
        snprintf(out_path, size, "%s", named);
        return;
    }
    ssize_t length = readlink("/proc/self/exe", out_path, size - sizeof "/cohort");
    out_path[length > 0 ? length : 0] = '\0';
    if (ends_path(out_path, "cohort")) return;
    char *slash = strrchr(out_path, '/');
    if (slash) {
        memcpy(slash, "/cohort", sizeof "/cohort");
        if (!access(out_path, X_OK)) return;
    }
    snprintf(out_path, size, "cohort");
}

static cohort_status mp_start(const cohort_executor_options *options, int32_t rank,
                              cohort_launch *out_launch) {
    (void)rank;
    char program[4096];
    cohort_child child;
    find_program(options, program, sizeof program);
    const char *words[] = {program, "worker", "--control-fd", "3", NULL};
    COHORT_TRY(cohort_child_start(words, (const char *const *)environ,
                                  "set COHORT_WORKER to the path of cohort", &child));
    *out_launch = (cohort_launch){.pid = (int32_t)child.pid,
                                  .is_process = true,
                                  .control_fd = child.control_fd,
                                  .exit_fd = child.pidfd};
    return COHORT_OK;
}

static void mp_signal(cohort_launch *launch, int signal_number) {
    kill(-(pid_t)launch->pid, signal_number);
}

static void mp_reap(cohort_launch *launch, cohort_launch_ending *out_ending) {
    siginfo_t info = {0};
    *out_ending = (cohort_launch_ending){0};
    if (!cohort_child_reap(launch->pid, launch->exit_fd, &info)) return;
    out_ending->is_known = true;
    if (info.si_code == CLD_EXITED)
        out_ending->status = info.si_status;
    else
        out_ending->signal = info.si_status;
}

const cohort_launcher cohort_mp_launcher = {.name = "mp",
                                            .can_restart = true,
                                            .start = mp_start,
                                            .signal = mp_signal,
                                            .reap = mp_reap};
