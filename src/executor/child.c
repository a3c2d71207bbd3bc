/* SPDX-License-Identifier: Apache-2.0 */
#include "executor/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

enum { CONTROL_FD = 3 };

static int prepare(posix_spawn_file_actions_t *actions, posix_spawnattr_t *attr,
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

static int spawn(const char *const *words, const char *const *variables, int control_fd,
                 pid_t *out_pid) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attr);
    int err = prepare(&actions, &attr, control_fd);
    if (!err)
        err = posix_spawnp(out_pid, words[0], &actions, &attr,
                           (char *const *)(uintptr_t)words,
                           (char *const *)(uintptr_t)variables);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&actions);
    return err;
}

cohort_status cohort_child_start(const char *const *words, const char *const *variables,
                                 const char *hint, cohort_child *out_child) {
    int fds[2];
    pid_t pid;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
        return COHORT_FAIL_SYS(errno, "socketpair");
    int err = spawn(words, variables, fds[1], &pid);
    close(fds[1]);
    if (err) {
        close(fds[0]);
        return COHORT_FAIL_SYS(err, "running '%.120s' (%s)", words[0], hint);
    }
    /* Even where the kernel reaps, pids do not go round in so short a time. */
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0) {
        cohort_status status = COHORT_FAIL_SYS(errno, "pidfd_open of pid %d", (int)pid);
        siginfo_t info;
        close(fds[0]);
        if (!waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT)) {
            kill(-pid, SIGKILL);
            waitpid(pid, NULL, 0);
        }
        return status;
    }
    *out_child = (cohort_child){.pid = pid, .pidfd = pidfd, .control_fd = fds[0]};
    return COHORT_OK;
}

bool cohort_child_reap(pid_t pid, int pidfd, siginfo_t *out_info) {
    bool is_ours;
    int failed;
    do
        failed = waitid((idtype_t)P_PIDFD, (id_t)pidfd, out_info, WEXITED | WNOWAIT);
    while (failed && errno == EINTR);
    is_ours = !failed;
    if (is_ours) { /* the pid is still its own */
        kill(-pid, SIGKILL);
        waitid((idtype_t)P_PIDFD, (id_t)pidfd, out_info, WEXITED);
    }
    close(pidfd);
    return is_ours;
}
