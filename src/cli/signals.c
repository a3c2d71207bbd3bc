/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "cli/options.h"

static _Atomic int first;
static _Atomic bool counts_all;
static int count_fd = -1;

static bool is_first(int number) {
    int none = 0;
    return atomic_compare_exchange_strong(&first, &none, number);
}

static void count_one(void) {
    static const uint64_t one = 1;
    ssize_t ignored = write(count_fd, &one, sizeof one);
    (void)ignored;
}

void cli_signals_note(int number) {
    is_first(number);
    count_one();
}

/* On whichever thread the kernel picks. */
static void on_signal(int number) {
    int err = errno;
    if (!is_first(number) && !atomic_load(&counts_all)) {
        signal(number, SIG_DFL);
        raise(number); /* blocked until we return */
    }
    count_one();
    errno = err;
}

int cli_signals_catch(void) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    count_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
    if (count_fd == 0) { /* stdin is closed, and no cancel_fd is 0 */
        count_fd = fcntl(0, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
        close(0);
    }
    if (count_fd < 0 || sigaction(SIGINT, &action, NULL) ||
        sigaction(SIGTERM, &action, NULL)) {
        fprintf(stderr, "cohort: catching signals: %s\n", strerror(errno));
        return CLI_FAILED;
    }
    return CLI_OK;
}

void cli_signals_count_all(void) { atomic_store(&counts_all, true); }

int cli_signals_first(void) { return atomic_load(&first); }

bool cli_signals_seen(void *unused) {
    (void)unused;
    return cli_signals_first() != 0;
}

int cli_signals_fd(void) { return count_fd; }

bool cli_signals_take(void) {
    uint64_t count;
    return read(count_fd, &count, sizeof count) == sizeof count;
}
