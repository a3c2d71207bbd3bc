/* SPDX-License-Identifier: Apache-2.0 */
#include "base/wait.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "cohort/clock.h"

/* Design notes.
 *
 * The handshake is Dekker's: the waiter stores (sleepers) and then loads (what it waits
 * for), the signaller stores (what is waited for) and then loads (sleepers).  Each puts a
 * seq_cst fence between its two; with one of the fences missing both may read the old
 * values, and the waiter sleeps through the signal.
 *
 * The ticket is read before the last look, so that a signal between look and futex
 * changes the word and FUTEX_WAIT returns at once.  A process killed between prepare and
 * leave leaves its count behind: signals then cost a needless system call, no more. */

/* sched_yield before pause: on a machine with more waiters than cores the writer may
 * need the very core that we poll on. */
enum { POLLS_PER_CLOCK_READ = 8 };

bool cohort_wait_spin(cohort_wait *wait) {
    if (wait->spin_ns <= 0) return false;
    /* The first polls cost nothing but a pause: most of what we wait for is on its way.
     */
    if (wait->polls < 32) {
        wait->polls++;
        __builtin_ia32_pause();
        return true;
    }
    sched_yield();
    if (wait->polls++ % POLLS_PER_CLOCK_READ) return true;
    int64_t now_ns = cohort_clock_ns();
    if (!wait->spin_until_ns) wait->spin_until_ns = now_ns + wait->spin_ns;
    return now_ns < wait->spin_until_ns;
}

uint32_t cohort_event_prepare(cohort_event *event) {
    uint32_t ticket = atomic_load_explicit(&event->word, memory_order_acquire);
    atomic_fetch_add_explicit(&event->sleepers, 1, memory_order_relaxed);
    /* Pairs with the fence in cohort_event_signal. */
    atomic_thread_fence(memory_order_seq_cst);
    return ticket;
}

void cohort_event_leave(cohort_event *event) {
    atomic_fetch_sub_explicit(&event->sleepers, 1, memory_order_relaxed);
}

bool cohort_event_sleep(cohort_event *event, uint32_t ticket, int64_t timeout_ns) {
    struct timespec timeout = {.tv_sec = timeout_ns / 1000000000,
                               .tv_nsec = timeout_ns % 1000000000};
    bool is_late = timeout_ns <= 0 || (syscall(SYS_futex, &event->word, FUTEX_WAIT,
                                               ticket, &timeout, NULL, 0) < 0 &&
                                       errno == ETIMEDOUT);
    cohort_event_leave(event);
    return !is_late;
}

void cohort_event_signal(cohort_event *event) {
    /* Pairs with the fence in cohort_event_prepare. */
    atomic_thread_fence(memory_order_seq_cst);
    if (!atomic_load_explicit(&event->sleepers, memory_order_relaxed)) return;
    atomic_fetch_add_explicit(&event->word, 1, memory_order_release);
    syscall(SYS_futex, &event->word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}
