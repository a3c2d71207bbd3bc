/* SPDX-License-Identifier: Apache-2.0 */
/* base/wait.h - waiting for another thread or process to change a word of shared memory.
 *
 * A waiter polls for a bounded time, giving up its core at each turn, and then sleeps
 * on a futex; it counts itself as a sleeper first, so that whoever changes the word makes
 * no system call while nobody sleeps.  The loop reads:
 *
 *   cohort_wait wait = cohort_wait_begin(spin_ns);
 *   while (!ready()) {
 *       if (cohort_wait_spin(&wait)) continue;
 *       uint32_t ticket = cohort_event_prepare(event);     counted as a sleeper from here
 *       if (ready()) { cohort_event_leave(event); break; }
 *       cohort_event_sleep(event, ticket, slice_ns);       leaves by itself
 *       ...look at deadline, interrupt and the peer's pulse...
 *   }
 *
 * and the other side: store what ready() looks at (release), then cohort_event_signal().
 * Sleeps are always sliced: a peer that dies cannot signal.
 *
 * Threads: an event may be used by any thread of any process that maps it.
 */
#ifndef COHORT_BASE_WAIT_H
#define COHORT_BASE_WAIT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Zero-initialised; lies in shared memory, 8 bytes. */
typedef struct cohort_event {
    _Atomic uint32_t word;     /* futex; changes at every signal that found a sleeper */
    _Atomic uint32_t sleepers; /* waiters past the point of spinning */
} cohort_event;
_Static_assert(sizeof(cohort_event) == 8, "shared between processes");

typedef struct cohort_wait {
    int64_t spin_until_ns; /* 0 until the first unsuccessful poll */
    int64_t spin_ns;
    uint32_t polls;
} cohort_wait;

/* How long a waiter polls before it sleeps: long enough to catch a peer that is awake,
 * short enough that idleness costs nothing (floors: 50 us of sched_yield, then futex). */
enum { COHORT_WAIT_SPIN_NS = 50000 };

static inline cohort_wait cohort_wait_begin(int64_t spin_ns) {
    return (cohort_wait){.spin_ns = spin_ns};
}

/* True: look again.  False: the time for polling is over, sleep. */
bool cohort_wait_spin(cohort_wait *wait);

uint32_t cohort_event_prepare(cohort_event *event);
void cohort_event_leave(cohort_event *event);
/* Sleeps until a signal later than prepare, or for timeout_ns: then it returns false. */
bool cohort_event_sleep(cohort_event *event, uint32_t ticket, int64_t timeout_ns);
/* Wakes all sleepers; without sleepers a fence and a load. */
void cohort_event_signal(cohort_event *event);

#endif /* COHORT_BASE_WAIT_H */
