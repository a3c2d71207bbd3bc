/* SPDX-License-Identifier: Apache-2.0 */
#include "killer.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/random.h"
#include "cohort/clock.h"

enum { MAX_MOMENTS = 8 };
enum { STATE_READY = 4, STATE_STOPPING = 5 }; /* executor_state, as counters show it */

static uint32_t phase_of(cohort_counters *counters, int32_t rank) {
    return atomic_load(&cohort_counters_row_of(counters, rank)->phase);
}

static uint32_t state_of(cohort_counters *counters) {
    return atomic_load(&cohort_counters_header_of(counters)->state);
}

bool killer_at_spawn(cohort_counters *counters, int32_t rank) {
    (void)counters;
    (void)rank;
    return true;
}

bool killer_at_connect(cohort_counters *counters, int32_t rank) {
    uint32_t phase = phase_of(counters, rank);
    return phase == COHORT_RANK_CONFIGURE || phase == COHORT_RANK_CONNECT;
}

bool killer_at_load(cohort_counters *counters, int32_t rank) {
    return phase_of(counters, rank) == COHORT_RANK_LOAD;
}

bool killer_at_execute(cohort_counters *counters, int32_t rank) {
    return state_of(counters) == STATE_READY &&
           atomic_load(&cohort_counters_row_of(counters, rank)->steps) > 0;
}

bool killer_at_shutdown(cohort_counters *counters, int32_t rank) {
    (void)rank;
    return state_of(counters) == STATE_STOPPING;
}

/* One of the two decides, once. */
static bool decide(killer *self, int decision) {
    int undecided = KILLER_WAITS;
    return atomic_compare_exchange_strong(&self->decision, &undecided, decision);
}

bool killer_give_up(killer *self) { return decide(self, KILLER_GAVE_UP); }

static void *killer_main(void *argument) {
    killer *self = argument;
    char folder[400];
    char path[512];
    if (cohort_counters_folder(folder, sizeof folder) < 0) return NULL;
    snprintf(path, sizeof path, "%s/%s.stat", folder, self->instance);
    while (cohort_counters_open(path, &self->counters) < 0)
        if (atomic_load(&self->is_over)) return NULL;
    _Atomic int32_t *pid = &cohort_counters_row_of(self->counters, self->rank)->pid;
    while (!atomic_load(pid) || !self->is_time(self->counters, self->rank))
        if (atomic_load(&self->is_over)) return NULL;
    if (!decide(self, KILLER_STRIKES)) return NULL;
    sleep_us(self->delay_us);
    self->killed_ns = cohort_clock_ns();
    self->has_killed = !kill(atomic_load(pid), SIGKILL);
    self->is_late = state_of(self->counters) >= STATE_STOPPING;
    return NULL;
}

void killer_start(killer *self, killer_moment *is_time, int32_t n_ranks,
                  uint64_t spread_us, uint64_t seed, uint64_t number) {
    *self = (killer){
        .is_time = is_time,
        .rank = (int32_t)(cohort_random_u64(seed, 2 * number) % (uint64_t)n_ranks),
        .delay_us = cohort_random_u64(seed, 2 * number + 1) % spread_us};
    snprintf(self->instance, sizeof self->instance, "kill-%d-%llu", (int)getpid(),
             (unsigned long long)number);
    assert_int_equal(pthread_create(&self->thread, NULL, killer_main, self), 0);
}

void killer_finish(killer *self) {
    atomic_store(&self->is_over, true);
    pthread_join(self->thread, NULL);
    cohort_counters_close(self->counters);
}

static uint64_t number_from(const char *name, uint64_t otherwise) {
    const char *text = getenv(name);
    return text && text[0] ? strtoull(text, NULL, 0) : otherwise;
}

static bool has_shares(const uint64_t *n_delivered, int n_moments, uint64_t n) {
    for (int i = 0; i < n_moments; i++)
        if (n_delivered[i] < n / 20) return false;
    return true;
}

void killer_run(const char *const *moments, int n_moments, killer_attempt *attempt) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t seed = number_from("COHORT_SEED", (uint64_t)now.tv_nsec);
    uint64_t n = number_from("COHORT_KILLS", 100);
    uint64_t n_delivered[MAX_MOMENTS] = {0}, n_kills = 0, n_late = 0;
    int64_t longest_ns = 0;
    print_message("COHORT_SEED=%llu COHORT_KILLS=%llu\n", (unsigned long long)seed,
                  (unsigned long long)n);
    /* On a busy machine the killer often comes too late for a short moment. */
    for (uint64_t i = 0; i < n || !has_shares(n_delivered, n_moments, n); i++) {
        int moment = (int)(i % (uint64_t)n_moments);
        int64_t spent_ns = attempt(seed, i, moment);
        n_delivered[moment] += spent_ns != 0;
        n_kills += spent_ns != 0;
        n_late += spent_ns > LIMIT_MS * INT64_C(1000000);
        if (spent_ns > longest_ns) longest_ns = spent_ns;
        if (spent_ns > LAST_MS * INT64_C(1000000))
            fail_msg("kill %llu (%s) took %.0f ms", (unsigned long long)i,
                     moments[moment], (double)spent_ns * 1e-6);
        if (i > 10 * n) fail_msg("too few kills were delivered in a moment");
    }
    for (int i = 0; i < n_moments; i++)
        print_message("%s: %llu kills delivered\n", moments[i],
                      (unsigned long long)n_delivered[i]);
    print_message("longest way from kill to clean end: %.1f ms\n",
                  (double)longest_ns * 1e-6);
    if (n_late > n_kills / 20)
        fail_msg("%llu of %llu kills took more than %d ms", (unsigned long long)n_late,
                 (unsigned long long)n_kills, LIMIT_MS);
}

void sleep_us(uint64_t us) {
    struct timespec time = {.tv_sec = (time_t)(us / 1000000),
                            .tv_nsec = (long)(us % 1000000) * 1000};
    nanosleep(&time, NULL);
}

static char home[] = "/tmp/cohort-kill-test-XXXXXX";

int killer_enter_home(void **state) {
    (void)state;
    /* LeakSanitizer looks on from a process of its own, which the SIGKILL of the one that
     * it looks at leaves to us: not for the programs that we start. */
    return setenv("ASAN_OPTIONS", "detect_leaks=0", 1) || !mkdtemp(home) ||
           setenv("XDG_RUNTIME_DIR", home, 1) || setenv("TMPDIR", home, 1) ||
           prctl(PR_SET_CHILD_SUBREAPER, 1);
}

int killer_leave_home(void **state) {
    (void)state;
    char folder[64];
    snprintf(folder, sizeof folder, "%s/cohort", home);
    return rmdir(folder) || rmdir(home); /* fails where a file was left */
}
