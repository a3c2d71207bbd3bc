/* SPDX-License-Identifier: Apache-2.0 */
#include "launcher/child.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/thread.h"

/* Design notes.
 *
 * Where a sandbox or an old kernel has no pidfd_open, a thread waits for the child, whose
 * end it does not take, and makes an eventfd readable: poll() sees no difference. */

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

typedef struct watch {
    pid_t pid;
    int fd;
} watch;

static void *watch_main(void *argument) {
    watch *self = argument;
    siginfo_t info;
    while (waitid(P_PID, (id_t)self->pid, &info, WEXITED | WNOWAIT) && errno == EINTR)
        ;
    eventfd_write(self->fd, 1);
    close(self->fd);
    free(self);
    return NULL;
}

/* Readable once the child has ended; or -1. */
static int watch_child(pid_t pid) {
    pthread_t thread;
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    watch *self = malloc(sizeof *self);
    if (self) *self = (watch){.pid = pid, .fd = fcntl(fd, F_DUPFD_CLOEXEC, 0)};
    if (self && self->fd >= 0 &&
        cohort_thread_start("cohort-child", watch_main, self, &thread) >= 0) {
        pthread_detach(thread);
        return fd;
    }
    if (self && self->fd >= 0) close(self->fd);
    free(self);
    if (fd >= 0) close(fd);
    return -1;
}

/* Even where the kernel reaps, pids do not go round in so short a time. */
static int open_child(pid_t pid) {
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    return fd < 0 && errno != EMFILE && errno != ENFILE ? watch_child(pid) : fd;
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
    int pidfd = open_child(pid);
    if (pidfd < 0) {
        cohort_status status = COHORT_FAIL_SYS(errno, "watching pid %d", (int)pid);
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
    idtype_t kind = (idtype_t)P_PIDFD;
    id_t id = (id_t)pidfd;
    do {
        failed = waitid(kind, id, out_info, WEXITED | WNOWAIT);
        if (failed && errno != EINTR && errno != ECHILD && kind != P_PID) {
            kind = P_PID; /* it is no pidfd, or the kernel cannot wait for one */
            id = (id_t)pid;
            errno = EINTR;
        }
    } while (failed && errno == EINTR);
    is_ours = !failed;
    if (is_ours) { /* the pid is still its own */
        kill(-pid, SIGKILL);
        waitid(kind, id, out_info, WEXITED);
    }
    close(pidfd);
    return is_ours;
}
