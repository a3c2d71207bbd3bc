/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/thread.h"
#include "launcher/launcher.h"
#include "worker/worker.h"

/* Design notes.
 *
 * A rank is a thread that runs the very loop of a worker process, over the same queues
 * and the same control link: what holds for uni holds for mp.  An eventfd stands in for
 * the pidfd.  A thread cannot be killed; one that does not come back from its operation
 * keeps shutdown from succeeding, which says so. */

typedef struct uni_rank {
    pthread_t thread;
    cohort_worker_options options;
    int exit_fd;
} uni_rank;

static void *rank_main(void *argument) {
    uni_rank *self = argument;
    uint64_t one = 1;
    cohort_worker_run(&self->options);
    if (write(self->exit_fd, &one, sizeof one) < 0) abort(); /* an eventfd at 0 */
    return NULL;
}

static cohort_status uni_start(const cohort_executor_options *options, int32_t rank,
                               cohort_launch *out_launch) {
    (void)rank;
    int fds[2] = {-1, -1};
    uni_rank *self = calloc(1, sizeof *self);
    if (!self) return COHORT_FAIL(COHORT_E_NOMEM, "allocating a rank");
    cohort_status status = COHORT_OK;
    self->exit_fd = eventfd(0, EFD_CLOEXEC);
    if (self->exit_fd < 0) status = COHORT_FAIL_SYS(errno, "eventfd");
    if (status >= 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
        status = COHORT_FAIL_SYS(errno, "socketpair");
    self->options =
        (cohort_worker_options){.control_fd = fds[1], .ops = options->worker_ops};
    if (status >= 0)
        status = cohort_thread_start("cohort-rank", rank_main, self, &self->thread);
    if (status < 0) {
        for (int i = 0; i < 2; i++)
            if (fds[i] >= 0) close(fds[i]);
        if (self->exit_fd >= 0) close(self->exit_fd);
        free(self);
        return status;
    }
    *out_launch = (cohort_launch){.pid = (int32_t)getpid(),
                                  .control_fd = fds[0],
                                  .exit_fd = self->exit_fd,
                                  .own = self};
    return COHORT_OK;
}

static void uni_signal(cohort_launch *launch, int signal_number) {
    (void)launch;
    (void)signal_number;
}

static void uni_reap(cohort_launch *launch, cohort_launch_ending *out_ending) {
    uni_rank *self = launch->own;
    pthread_join(self->thread, NULL);
    close(self->exit_fd);
    free(self);
    *out_ending = (cohort_launch_ending){.is_known = false};
}

const cohort_launcher cohort_uni_launcher = {
    .name = "uni", .start = uni_start, .signal = uni_signal, .reap = uni_reap};
