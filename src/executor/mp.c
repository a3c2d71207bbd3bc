/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fail.h"
#include "executor/launcher.h"

/* Design notes.
 *
 * A worker gets three things: /dev/null, the driver's standard error (as its output too,
 * so that it cannot write into an answer), and one end of a socketpair as descriptor 3.
 * Everything else is closed in the child: an inherited copy of another rank's link would
 * keep that rank from ever seeing the driver's death (R32).
 *
 * It leads a process group of its own: ^C at the terminal reaches the driver alone, and
 * what a worker starts dies with it.  Until it is reaped its pid, and so the group's id,
 * cannot be reused; therefore the group is killed first, then reaped. */

enum { CONTROL_FD = 3 };

extern char **environ;

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

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

static int prepare_child(posix_spawn_file_actions_t *actions, posix_spawnattr_t *attr,
                         int control_fd) {
    sigset_t none;
    sigset_t defaults;
    sigemptyset(&none);
    sigfillset(&defaults);
    sigdelset(&defaults, SIGKILL);
    sigdelset(&defaults, SIGSTOP);
    int err = posix_spawn_file_actions_addopen(actions, 0, "/dev/null", O_RDONLY, 0);
    if (!err) err = posix_spawn_file_actions_adddup2(actions, 2, 1);
    if (!err) err = posix_spawn_file_actions_adddup2(actions, control_fd, CONTROL_FD);
    if (!err) err = posix_spawn_file_actions_addclosefrom_np(actions, CONTROL_FD + 1);
    if (!err) err = posix_spawnattr_setpgroup(attr, 0);
    if (!err) err = posix_spawnattr_setsigmask(attr, &none);
    if (!err) err = posix_spawnattr_setsigdefault(attr, &defaults);
    if (!err)
        err = posix_spawnattr_setflags(
            attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    return err;
}

static cohort_status spawn(const char *program, int control_fd, pid_t *out_pid) {
    char name[] = "worker";
    char option[] = "--control-fd";
    char number[] = "3";
    char *path = strdup(program);
    char *argv[] = {path, name, option, number, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    if (!path) return COHORT_FAIL(COHORT_E_NOMEM, "allocating a path");
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attr);
    int err = prepare_child(&actions, &attr, control_fd);
    if (!err) err = posix_spawnp(out_pid, program, &actions, &attr, argv, environ);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&actions);
    free(path);
    if (!err) return COHORT_OK;
    return COHORT_FAIL_SYS(err,
                           "running the worker program '%.120s' (set COHORT_WORKER to "
                           "the path of cohort)",
                           program);
}

static cohort_status mp_start(const cohort_executor_options *options, int32_t rank,
                              cohort_launch *out_launch) {
    (void)rank;
    char program[4096];
    int fds[2];
    pid_t pid = 0;
    find_program(options, program, sizeof program);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
        return COHORT_FAIL_SYS(errno, "socketpair");
    cohort_status status = spawn(program, fds[1], &pid);
    close(fds[1]);
    if (status < 0) {
        close(fds[0]);
        return status;
    }
    /* The child is not reaped by anybody but us, so its pid is still its own. */
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0) {
        status = COHORT_FAIL_SYS(errno, "pidfd_open of pid %d", (int)pid);
        kill(-pid, SIGKILL);
        waitpid(pid, NULL, 0);
        close(fds[0]);
        return status;
    }
    *out_launch =
        (cohort_launch){.pid = (int32_t)pid, .control_fd = fds[0], .exit_fd = pidfd};
    return COHORT_OK;
}

static void mp_signal(cohort_launch *launch, int signal_number) {
    kill(-(pid_t)launch->pid, signal_number);
}

static void mp_reap(cohort_launch *launch, cohort_ending *out_ending) {
    siginfo_t info = {0};
    *out_ending = (cohort_ending){0};
    /* An application that ignores SIGCHLD has the kernel reap: then nothing is known, and
     * the pid may be somebody else's by now. */
    if (!waitid((idtype_t)P_PIDFD, (id_t)launch->exit_fd, &info, WEXITED | WNOWAIT)) {
        kill(-(pid_t)launch->pid, SIGKILL); /* its children, if it had any */
        waitid((idtype_t)P_PIDFD, (id_t)launch->exit_fd, &info, WEXITED);
        out_ending->is_known = true;
        if (info.si_code == CLD_EXITED)
            out_ending->status = info.si_status;
        else
            out_ending->signal = info.si_status;
    }
    close(launch->exit_fd);
}

const cohort_launcher cohort_mp_launcher = {
    .name = "mp", .start = mp_start, .signal = mp_signal, .reap = mp_reap};
