/* SPDX-License-Identifier: Apache-2.0 */
/* support/killer.h - SIGKILL at a chosen moment, and what may be left afterwards:
 * nothing.
 *
 * A killer is a thread that watches a run through its counters file, as `cohort stat`
 * does, and kills a random rank a random time after the moment has come.
 *
 * COHORT_KILLS: how many (100).  COHORT_SEED: of all choices; printed, so that a failure
 * can be repeated.
 */
#ifndef COHORT_TESTS_KILLER_H
#define COHORT_TESTS_KILLER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "counters/counters.h"
#include "leftovers.h"

/* From the kill to the error in the caller's hands and everything cleaned up; LAST_MS is
 * for the few that a busy machine keeps waiting. */
enum { LAST_MS = 30000 };
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
enum { LIMIT_MS = 10000 };
#else
enum { LIMIT_MS = 1000 };
#endif

typedef bool killer_moment(cohort_counters *counters, int32_t rank);
killer_moment killer_at_spawn, killer_at_connect, killer_at_load, killer_at_execute,
    killer_at_shutdown;

enum { KILLER_WAITS, KILLER_STRIKES, KILLER_GAVE_UP };

typedef struct killer {
    pthread_t thread;
    char instance[32]; /* the run to watch has this name */
    killer_moment *is_time;
    int32_t rank;
    uint64_t delay_us;
    cohort_counters *counters;
    _Atomic bool is_over; /* the run has ended: give up waiting */
    _Atomic int decision; /* KILLER_WAITS for its moment, and then one of the others */
    bool has_killed;
    bool is_late; /* the run was ending of itself by then: nobody may have noticed */
    int64_t killed_ns;
} killer;

void killer_start(killer *self, killer_moment *is_time, int32_t n_ranks,
                  uint64_t spread_us, uint64_t seed, uint64_t number);
/* True where its moment has not come: then it will not strike. */
bool killer_give_up(killer *self);
void killer_finish(killer *self);

/* Kills at one of the moments; the time from the kill to the end, 0 where none came. */
typedef int64_t killer_attempt(uint64_t seed, uint64_t number, int moment);
/* COHORT_KILLS attempts at all moments in turn, and more until each moment has got at
 * least a twentieth of that; fails where one took longer than LAST_MS, or more than one
 * in twenty took longer than LIMIT_MS. */
void killer_run(const char *const *moments, int n_moments, killer_attempt *attempt);

void sleep_us(uint64_t us);

/* Group set-up: the process adopts orphans, so that none can hide with init, and has a
 * folder of its own for counters and temporary files, which must be empty at tear-down.
 */
int killer_enter_home(void **state);
int killer_leave_home(void **state);

#endif /* COHORT_TESTS_KILLER_H */
