/* SPDX-License-Identifier: Apache-2.0 */
/* A world in simulated time: ranks that start, die, hang, report each other and stop in
 * every order, thousands of lives a second.  COHORT_SEED: of the first; printed where one
 * goes wrong. */
#include "executor/judge.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "counters/counters.h"

enum { MOST_RANKS = 5, MOST_PLANS = 256, LIVES = 4000 };
#define MS     INT64_C(1000000)
#define SECOND (1000 * MS)
#define BEGIN  (100 * SECOND)

static const cohort_executor_options limits = {.hang_timeout_ns = 2 * SECOND,
                                               .execute_timeout_ns = 4 * SECOND,
                                               .connect_timeout_ns = 5 * SECOND,
                                               .load_timeout_ns = 9 * SECOND,
                                               .shutdown_timeout_ns = 3 * SECOND};

typedef enum fault { NO_FAULT, DIES, FAILS, STOPS, VANISHES, N_FAULTS } fault;

/* Something that will happen. */
typedef struct plan {
    int64_t at_ns;
    judge_event event;
    cohort_error error;
} plan;

typedef struct world {
    cohort_judge judge;
    uint64_t seed;
    uint64_t n_drawn;
    int64_t now_ns;
    plan plans[MOST_PLANS];
    size_t n_plans;
    int64_t heartbeat_ns[MOST_RANKS]; /* 0: it beats */
    bool is_gone[MOST_RANKS], obeys[MOST_RANKS];
    int32_t n_signals[MOST_RANKS];
    /* What was done to it, and what became of it. */
    fault fault;
    int32_t culprit;
    int64_t fault_ns, verdict_ns, stop_ns, closed_ns;
    int32_t n_verdicts, n_told, n_closed;
    executor_state entered;
} world;

static int64_t draw(world *self, int64_t from_ns, int64_t to_ns) {
    uint64_t number = cohort_random_u64(self->seed, self->n_drawn++);
    return from_ns + (int64_t)(number % (uint64_t)(to_ns - from_ns));
}

#define CHECK(self, condition)                           \
    do {                                                 \
        if (!(condition))                                \
            fail_msg("%s, COHORT_SEED=%llu", #condition, \
                     (unsigned long long)(self)->seed);  \
    } while (0)

static void plan_error(world *self, int64_t at_ns, judge_event event, cohort_status code,
                       int32_t about) {
    assert_true(self->n_plans < MOST_PLANS);
    self->plans[self->n_plans++] = (plan){at_ns, event, {.code = code, .rank = about}};
}

static void plan_event(world *self, int64_t at_ns, judge_event_kind kind, int32_t rank) {
    plan_error(self, at_ns, (judge_event){.kind = kind, .rank = rank}, COHORT_E_PEER_DIED,
               rank);
}

static void plan_reached(world *self, int32_t rank, executor_state reached) {
    plan_error(self, self->now_ns + draw(self, MS, 400 * MS),
               (judge_event){.kind = JUDGE_REACHED, .rank = rank, .reached = reached}, 0,
               rank);
}

/* Its link ends and its process, its peers tell: in any order, within the suspicion. */
static void plan_death(world *self, int32_t rank) {
    for (int32_t i = 0; i < self->judge.world_size; i++)
        if (i != rank && !self->is_gone[i] && draw(self, 0, 2))
            plan_error(self, self->now_ns + draw(self, 0, 280 * MS),
                       (judge_event){.kind = JUDGE_REPORTED, .rank = i},
                       COHORT_E_PEER_DIED, draw(self, 0, 2) ? rank : i);
    int64_t end_ns = self->now_ns + draw(self, 0, 280 * MS);
    if (draw(self, 0, 2)) plan_event(self, self->now_ns, JUDGE_UNLINKED, rank);
    plan_event(self, end_ns, JUDGE_ENDED, rank);
    self->is_gone[rank] = true;
}

/* ---- the ranks' and the monitor's part ------------------------------------------ */

static void leave(world *self, int32_t rank, int64_t within_ns) {
    if (self->is_gone[rank]) return;
    self->is_gone[rank] = true;
    plan_event(self, self->now_ns + draw(self, 0, within_ns), JUDGE_ENDED, rank);
}

static void do_enter(world *self, executor_state state) {
    CHECK(self, state == self->entered + 1);
    CHECK(self, self->n_verdicts == 0);
    self->entered = state;
    if (state == EXECUTOR_CONNECT)
        plan_event(self, self->now_ns + draw(self, MS, 400 * MS), JUDGE_LINKED,
                   COHORT_RANK_LOCAL);
    for (int32_t i = 0; state < EXECUTOR_READY && i < self->judge.world_size; i++)
        if (!self->is_gone[i] && !self->heartbeat_ns[i])
            plan_reached(self, i, (executor_state)(state + 1));
}

static void do_signal(world *self, int32_t rank, int32_t signal_number) {
    CHECK(self, !self->judge.ranks[rank].has_ended);
    CHECK(self, ++self->n_signals[rank] <= 2);
    CHECK(self, signal_number == (self->n_signals[rank] == 1 ? SIGTERM : SIGKILL));
    if (signal_number == SIGKILL) leave(self, rank, 5 * MS);
}

static void carry_out(world *self, const judge_action *action) {
    int32_t rank = action->rank;
    switch (action->kind) {
    case JUDGE_DO_ENTER: do_enter(self, action->state); break;
    case JUDGE_DO_FAIL:
        self->n_verdicts++;
        self->verdict_ns = self->now_ns;
        break;
    case JUDGE_DO_TELL:
        self->n_told++;
        CHECK(self, self->n_verdicts == 1);
        if (!self->stop_ns)
            plan_event(self, self->now_ns + draw(self, 0, 50 * MS), JUDGE_STOP,
                       COHORT_RANK_LOCAL);
        for (int32_t i = 0; i < self->judge.world_size; i++)
            if (self->obeys[i]) leave(self, i, 40 * MS);
        break;
    case JUDGE_DO_ASK:
        CHECK(self, !self->judge.ranks[rank].has_ended);
        if (self->obeys[rank]) leave(self, rank, 40 * MS);
        break;
    case JUDGE_DO_POISON: CHECK(self, !self->judge.ranks[rank].has_ended); break;
    case JUDGE_DO_SIGNAL: do_signal(self, rank, action->signal); break;
    case JUDGE_DO_CLOSE:
        self->n_closed++;
        self->closed_ns = self->now_ns;
        break;
    }
}

static void step(world *self, judge_event event) {
    cohort_judge *judge = &self->judge;
    event.now_ns = self->now_ns;
    if (event.kind == JUDGE_STOP && judge->state < EXECUTOR_STOPPING)
        self->stop_ns = self->now_ns;
    for (int32_t i = 0; i < judge->world_size; i++)
        judge->views[i] = (cohort_rank_view){
            .waits_for = COHORT_RANK_LOCAL,
            .heartbeat_ns = self->heartbeat_ns[i] ? self->heartbeat_ns[i] : self->now_ns};
    judge_step(judge, &event);
    for (size_t i = 0; i < judge->n_actions; i++)
        carry_out(self, &judge->actions[i]);
}

static void strike(world *self) {
    self->fault_ns = self->now_ns;
    if (self->judge.state >= EXECUTOR_STOPPING) self->fault = NO_FAULT;
    switch (self->fault) {
    case DIES: plan_death(self, self->culprit); break;
    case FAILS:
        plan_error(self, self->now_ns,
                   (judge_event){.kind = JUDGE_REPORTED, .rank = self->culprit},
                   COHORT_E_NOMEM, self->culprit);
        leave(self, self->culprit, 100 * MS);
        break;
    case STOPS:
        self->heartbeat_ns[self->culprit] = self->now_ns;
        self->obeys[self->culprit] = false;
        break;
    case VANISHES: /* a link ends, and nobody hears of its process */
        plan_event(self, self->now_ns, JUDGE_UNLINKED, self->culprit);
        self->obeys[self->culprit] = false;
        break;
    case NO_FAULT:
    case N_FAULTS: break;
    }
}

/* The next thing that happens; false: nothing before until_ns. */
static bool take_plan(world *self, int64_t until_ns, plan *out_plan) {
    size_t first = self->n_plans;
    for (size_t i = 0; i < self->n_plans; i++)
        if (self->plans[i].at_ns < until_ns &&
            (first == self->n_plans || self->plans[i].at_ns < self->plans[first].at_ns))
            first = i;
    if (first == self->n_plans) return false;
    *out_plan = self->plans[first];
    memmove(&self->plans[first], &self->plans[first + 1],
            (--self->n_plans - first) * sizeof *self->plans);
    return true;
}

/* A rank that was stopped or has gone does nothing more. */
static bool happens(const world *self, const plan *next) {
    int32_t rank = next->event.rank;
    if (rank < 0 || next->event.kind == JUDGE_ENDED) return true;
    return !self->judge.ranks[rank].has_ended && !self->heartbeat_ns[rank];
}

/* As the monitor's loop: it looks at the clock after all that it hears, too. */
static void live(world *self, int64_t until_ns, int64_t strike_ns) {
    const judge_event tick = {.kind = JUDGE_TICK, .rank = COHORT_RANK_LOCAL};
    bool has_struck = false;
    while (self->judge.state < EXECUTOR_CLOSED && self->now_ns < until_ns) {
        plan next;
        int64_t tick_ns = self->now_ns + judge_tick_ms(&self->judge) * MS;
        if (!take_plan(self, tick_ns, &next)) {
            self->now_ns = tick_ns;
        } else {
            if (next.at_ns > self->now_ns) self->now_ns = next.at_ns;
            next.event.error = &next.error;
            if (happens(self, &next)) step(self, next.event);
        }
        if (!has_struck && self->now_ns >= strike_ns) {
            has_struck = true;
            strike(self);
        }
        step(self, tick);
    }
}

/* ---- what holds, whatever happens ------------------------------------------------ */

static void check_life(world *self) {
    if (!self->fault_ns) self->fault = NO_FAULT; /* it had ended before */
    int64_t late_ns = self->fault == STOPS ? limits.hang_timeout_ns + 100 * MS : 300 * MS;
    bool is_awaited = self->fault && (!self->stop_ns ||
                                      self->stop_ns > self->fault_ns + late_ns + 10 * MS);
    CHECK(self, self->n_closed == 1);
    CHECK(self, self->n_verdicts == self->n_told);
    CHECK(self, self->n_verdicts <= (self->fault ? 1 : 0));
    if (is_awaited) CHECK(self, self->n_verdicts == 1);
    if (self->n_verdicts) {
        CHECK(self, self->judge.verdict.rank == self->culprit);
        CHECK(self, self->verdict_ns - self->fault_ns <= late_ns + 10 * MS);
        if (self->fault == STOPS || self->fault == VANISHES)
            CHECK(self, self->verdict_ns - self->fault_ns >= late_ns - 100 * MS);
    }
    CHECK(self, self->judge.stayed_rank == -1);
    for (int32_t i = 0; i < self->judge.world_size; i++)
        CHECK(self, self->judge.ranks[i].has_ended);
    int64_t limit_ns = self->n_verdicts ? 200 * MS : limits.shutdown_timeout_ns;
    CHECK(self, self->closed_ns - self->stop_ns <= limit_ns);
}

static void one_life(uint64_t seed) {
    static world self;
    self = (world){.seed = seed, .now_ns = BEGIN, .entered = EXECUTOR_PLACE};
    int32_t n = (int32_t)draw(&self, 1, MOST_RANKS + 1);
    self.fault = (fault)draw(&self, 0, N_FAULTS);
    self.culprit = (int32_t)draw(&self, 0, n);
    assert_int_equal(judge_open(&self.judge, &limits, n, false, BEGIN), COHORT_OK);
    for (int32_t i = 0; i < n; i++) {
        self.obeys[i] = draw(&self, 0, 4) > 0;
        step(&self, (judge_event){.kind = JUDGE_STARTED, .rank = i, .who = "pid 1"});
        plan_reached(&self, i, EXECUTOR_CONFIGURE);
    }
    int64_t end_ns = BEGIN + draw(&self, SECOND, 8 * SECOND);
    plan_event(&self, end_ns, JUDGE_STOP, COHORT_RANK_LOCAL);
    live(&self, BEGIN + 60 * SECOND, BEGIN + draw(&self, 0, 4 * SECOND));
    check_life(&self);
    judge_close(&self.judge);
}

static void every_life_has_one_verdict_in_time_and_an_end(void **state) {
    (void)state;
    const char *given = getenv("COHORT_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 10) : 1;
    for (uint64_t i = 0; i < LIVES; i++)
        one_life(seed + i);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_life_has_one_verdict_in_time_and_an_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
