/* SPDX-License-Identifier: Apache-2.0 */
#include "base/thread.h"

#include <signal.h>
#include <stdatomic.h>

static atomic_int heard; /* 0: none */

void cohort_thread_hear(int signal_number) { atomic_store(&heard, signal_number); }

cohort_status cohort_thread_start(const char *name, void *(*run)(void *argument),
                                  void *argument, pthread_t *out_thread) {
    static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};
    sigset_t blocked, before;
    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        sigdelset(&blocked, own[i]);
    if (atomic_load(&heard)) sigdelset(&blocked, atomic_load(&heard));
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    int err = pthread_create(out_thread, NULL, run, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (err) return COHORT_FAIL_SYS(err, "starting thread %s", name);
    pthread_setname_np(*out_thread, name);
    return COHORT_OK;
}
