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
                                               .shutdown_timeout_ns = 3 * SECOND,
                                               .rank_restart_window_ns = 60 * SECOND};

typedef enum fault { NO_FAULT, DIES, FAILS, STOPS, VANISHES, N_FAULTS } fault;

/* Something that will happen. */
typedef struct plan {
    int64_t at_ns;
    judge_event event;
    cohort_error error;
    uint64_t epoch; /* what is of another one is dropped */
    int32_t life;   /* of the rank */
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
    int32_t n_signals[MOST_RANKS], life[MOST_RANKS];
    /* What was done to it, and what became of it. */
    fault fault;
    int32_t culprit;
    int64_t fault_ns, verdict_ns, stop_ns, closed_ns;
    int32_t n_verdicts, n_told, n_closed;
    executor_state entered;
    cohort_executor_options limits;
    uint64_t epoch, n_completed, n_explained;
    int32_t n_interruptions;
    bool completes; /* steps, while it is ready */
} world;

static int64_t draw(world *self, int64_t from_ns, int64_t to_ns) {
    uint64_t number = cohort_random_u64(self->seed, self->n_drawn++);
    return from_ns + (int64_t)(number % (uint64_t)(to_ns - from_ns));
}

static uint64_t first_seed(void) {
    const char *given = getenv("COHORT_SEED");
    return given ? strtoull(given, NULL, 10) : 1;
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
    self->plans[self->n_plans++] =
        (plan){.at_ns = at_ns,
               .event = event,
               .error = {.code = code, .rank = about},
               .epoch = self->epoch,
               .life = event.rank < 0 ? 0 : self->life[event.rank]};
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
    CHECK(self, state == self->entered + 1 || self->epoch);
    CHECK(self, self->n_verdicts == 0);
    for (int32_t i = 0; i < self->judge.world_size; i++) {
        CHECK(self, !self->judge.ranks[i].has_ended);
        CHECK(self, self->judge.ranks[i].reached >= state);
    }
    self->entered = state;
    if (state == EXECUTOR_CONNECT)
        plan_event(self, self->now_ns + draw(self, MS, 400 * MS), JUDGE_LINKED,
                   COHORT_RANK_LOCAL);
    bool is_step = state == EXECUTOR_CONNECT || state == EXECUTOR_LOAD;
    for (int32_t i = 0; is_step && i < self->judge.world_size; i++)
        plan_reached(self, i, (executor_state)(state + 1));
}

static void do_interrupt(world *self) {
    CHECK(self, self->limits.max_rank_restarts > 0);
    self->epoch++;
    self->n_interruptions++;
    plan_event(self, self->now_ns + draw(self, 0, 50 * MS), JUDGE_DRAINED,
               COHORT_RANK_LOCAL);
}

static void step(world *self, judge_event event);

static void do_start(world *self, int32_t rank) {
    CHECK(self, self->is_gone[rank]);
    self->life[rank]++;
    self->is_gone[rank] = false;
    self->heartbeat_ns[rank] = 0;
    self->obeys[rank] = true;
    step(self, (judge_event){.kind = JUDGE_STARTED, .rank = rank, .who = "pid 2"});
    plan_reached(self, rank, EXECUTOR_CONFIGURE);
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
    case JUDGE_DO_CONFIGURE:
    case JUDGE_DO_REJOIN: plan_reached(self, rank, EXECUTOR_CONNECT); break;
    case JUDGE_DO_INTERRUPT: do_interrupt(self); break;
    case JUDGE_DO_EXAMINE:
        CHECK(self, self->heartbeat_ns[rank]);
        self->plans[self->n_plans++] =
            (plan){.at_ns = self->now_ns,
                   .event = {.kind = JUDGE_EXAMINED, .rank = rank, .who = "at +0x1"},
                   .epoch = self->epoch,
                   .life = self->life[rank]};
        break;
    case JUDGE_DO_KILL:
        CHECK(self, !self->judge.ranks[rank].has_ended);
        leave(self, rank, 5 * MS);
        break;
    case JUDGE_DO_START: do_start(self, rank); break;
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
    event.n_completed = self->n_completed;
    event.n_explained = self->n_explained;
    if (event.kind == JUDGE_STOP && judge->state < EXECUTOR_STOPPING)
        self->stop_ns = self->now_ns;
    for (int32_t i = 0; i < judge->world_size; i++)
        judge->views[i] = (cohort_rank_view){
            .waits_for = COHORT_RANK_LOCAL,
            .heartbeat_ns = self->heartbeat_ns[i] ? self->heartbeat_ns[i] : self->now_ns};
    judge_step(judge, &event);
    for (size_t i = 0, n = judge->n_actions; i < n; i++)
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
    bool is_frame =
        next->event.kind == JUDGE_REACHED || next->event.kind == JUDGE_REPORTED;
    if (rank >= 0 && next->life != self->life[rank]) return false;
    if (next->event.kind == JUDGE_STOP || next->event.kind == JUDGE_EXAMINED) return true;
    if ((is_frame || rank < 0) && next->epoch != self->epoch)
        return next->event.kind == JUDGE_REACHED &&
               next->event.reached == EXECUTOR_CONFIGURE;
    if (rank < 0 || next->event.kind == JUDGE_ENDED) return true;
    return !self->judge.ranks[rank].has_ended && !self->heartbeat_ns[rank];
}

/* As the monitor's loop: it looks at the clock after all that it hears, too. */
static void live(world *self, int64_t until_ns) {
    const judge_event tick = {.kind = JUDGE_TICK, .rank = COHORT_RANK_LOCAL};
    while (self->judge.state < EXECUTOR_CLOSED && self->now_ns < until_ns) {
        plan next;
        int64_t tick_ns = self->now_ns + judge_tick_ms(&self->judge) * MS;
        if (tick_ns > until_ns) tick_ns = until_ns;
        if (!take_plan(self, tick_ns, &next)) {
            self->now_ns = tick_ns;
        } else {
            if (next.at_ns > self->now_ns) self->now_ns = next.at_ns;
            next.event.error = &next.error;
            if (happens(self, &next)) step(self, next.event);
        }
        if (self->judge.state == EXECUTOR_READY && self->completes) self->n_completed++;
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

static world *begin(uint64_t seed, int32_t max_rank_restarts) {
    static world self;
    self = (world){.seed = seed,
                   .now_ns = BEGIN,
                   .entered = EXECUTOR_PLACE,
                   .limits = limits,
                   .completes = true};
    self.limits.max_rank_restarts = max_rank_restarts;
    int32_t n = (int32_t)draw(&self, 1, MOST_RANKS + 1);
    assert_int_equal(judge_open(&self.judge, &self.limits, n, BEGIN), COHORT_OK);
    self.judge.can_restart = true;
    for (int32_t i = 0; i < n; i++) {
        self.obeys[i] = draw(&self, 0, 4) > 0;
        step(&self, (judge_event){.kind = JUDGE_STARTED, .rank = i, .who = "pid 1"});
        plan_reached(&self, i, EXECUTOR_CONFIGURE);
    }
    return &self;
}

static void one_life(uint64_t seed) {
    world *self = begin(seed, 0);
    self->fault = (fault)draw(self, 0, N_FAULTS);
    self->culprit = (int32_t)draw(self, 0, self->judge.world_size);
    int64_t end_ns = BEGIN + draw(self, SECOND, 8 * SECOND);
    plan_event(self, end_ns, JUDGE_STOP, COHORT_RANK_LOCAL);
    live(self, BEGIN + draw(self, 1, 4 * SECOND));
    if (self->judge.state < EXECUTOR_CLOSED) strike(self);
    live(self, BEGIN + 60 * SECOND);
    check_life(self);
    judge_close(&self->judge);
}

/* ---- worlds that heal ------------------------------------------------------------- */

static void check_healed(world *self) {
    CHECK(self, self->judge.state == EXECUTOR_READY);
    CHECK(self, self->n_verdicts == 0 && self->n_told == 0);
    CHECK(self, self->judge.n_epochs == self->epoch);
    for (int32_t i = 0; i < self->judge.world_size; i++) {
        CHECK(self, !self->is_gone[i] && !self->heartbeat_ns[i]);
        CHECK(self, !self->judge.ranks[i].has_ended && !self->judge.ranks[i].is_doomed);
    }
}

static void stop(world *self) {
    plan_event(self, self->now_ns, JUDGE_STOP, COHORT_RANK_LOCAL);
    live(self, self->now_ns + 10 * SECOND);
    CHECK(self, self->n_closed == 1);
    CHECK(self, self->judge.stayed_rank == -1);
    judge_close(&self->judge);
}

/* Up to eight faults, most of them while it still heals from the one before. */
static void one_healing(uint64_t seed) {
    world *self = begin(seed, 1000);
    live(self, BEGIN + 3 * SECOND);
    CHECK(self, self->judge.state == EXECUTOR_READY);
    int64_t n_strikes = draw(self, 1, 9);
    for (int64_t i = 0; i < n_strikes; i++) {
        self->fault = (fault)draw(self, DIES, N_FAULTS);
        self->culprit = (int32_t)draw(self, 0, self->judge.world_size);
        if (!self->is_gone[self->culprit] && !self->heartbeat_ns[self->culprit])
            strike(self);
        live(self, self->now_ns + draw(self, 1, SECOND));
    }
    live(self, self->now_ns + 120 * SECOND);
    check_healed(self);
    CHECK(self, self->n_interruptions >= 1);
    stop(self);
}

static void every_world_heals_and_ends(void **state) {
    (void)state;
    for (uint64_t i = 0; i < LIVES / 4; i++)
        one_healing(first_seed() + i);
}

/* In a row of deaths the one after the last restart is the verdict, and names the first;
 * where a step was completed between there is none. */
static void deaths_in_vain_are_counted(void **state) {
    (void)state;
    enum { MOST = 3 };
    for (int completes = 0; completes < 2; completes++) {
        world *self = begin(first_seed(), MOST);
        self->completes = completes;
        live(self, BEGIN + 3 * SECOND);
        for (int i = 0; i <= MOST; i++) {
            assert_int_equal(self->n_verdicts, 0);
            char text[32];
            snprintf(text, sizeof text, "death %d", i + 1);
            cohort_error error = {.code = COHORT_E_PEER_DIED, .rank = 0};
            memcpy(error.message, text, sizeof text);
            self->is_gone[0] = true;
            step(self, (judge_event){.kind = JUDGE_ENDED, .rank = 0, .error = &error});
            live(self, self->now_ns + 10 * SECOND);
        }
        assert_int_equal(self->n_verdicts, completes ? 0 : 1);
        if (!completes)
            assert_string_equal(self->judge.verdict.message,
                                "death 4; started again 3 times before, first: death 1");
        stop(self);
    }
}

/* However much is done between. */
static void deaths_in_a_window_are_counted(void **state) {
    (void)state;
    world *self = begin(first_seed(), 1);
    int32_t n = 0;
    self->limits.rank_restart_window_ns = 3600 * SECOND;
    live(self, BEGIN + 3 * SECOND);
    for (; !self->n_verdicts && n < 20; n++) {
        cohort_error error = {.code = COHORT_E_PEER_DIED, .rank = 0};
        snprintf(error.message, sizeof error.message, "death %d", n + 1);
        self->is_gone[0] = true;
        step(self,
             (judge_event){
                 .kind = JUDGE_ENDED, .rank = 0, .is_fault = n % 2, .error = &error});
        live(self, self->now_ns + 10 * SECOND);
    }
    assert_int_equal(n, 7);
    assert_int_equal(self->judge.n_deaths, 6);
    assert_int_equal(self->judge.n_faults, 3);
    assert_string_equal(self->judge.verdict.message,
                        "death 7; started again 6 times before, first: death 1");
    stop(self);
}

/* Of what killed them, and was found, others are to know nothing; however often. */
static void deaths_that_are_explained_count_no_more(void **state) {
    (void)state;
    enum { MOST = 3 };
    world *self = begin(first_seed(), MOST);
    self->completes = false;
    self->limits.rank_restart_window_ns = 3600 * SECOND;
    live(self, BEGIN + 3 * SECOND);
    for (int32_t n = 0; n < 20 * MOST; n++) {
        cohort_error error = {.code = COHORT_E_PEER_DIED, .rank = 0};
        self->is_gone[0] = true;
        step(self,
             (judge_event){
                 .kind = JUDGE_ENDED, .rank = 0, .is_fault = true, .error = &error});
        live(self, self->now_ns + 10 * SECOND);
        self->n_explained += n % MOST == MOST - 1;
    }
    check_healed(self);
    stop(self);
}

/* The second time it is the verdict, which the text of the first one is part of. */
static void a_verdict_on_who_is_silent_has_its_whole_text(void **state) {
    (void)state;
    world *self = begin(first_seed(), 1);
    self->completes = false;
    live(self, BEGIN + 3 * SECOND);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(self->n_verdicts, 0);
        self->heartbeat_ns[0] = self->now_ns;
        live(self, self->now_ns + 10 * SECOND);
    }
    assert_int_equal(self->n_verdicts, 1);
    const char *text = self->judge.verdict.message;
    if (strncmp(text, "rank 0 (pid 2) is hung: no heartbeat", 36) ||
        !strstr(text, "; started again 1 times before, first: rank 0 (pid 1) is hung"))
        fail_msg("%s", text);
    stop(self);
}

/* What it told of, and may have been another's death, was its own: it left. */
static void who_leaves_with_an_error_that_names_nobody_else_had_it(void **state) {
    (void)state;
    for (int is_killed = 0; is_killed < 2; is_killed++) {
        world *self = begin(first_seed(), 5);
        cohort_error told = {.code = COHORT_E_IO, .rank = 0, .message = "disk"};
        cohort_error end = {.code = COHORT_E_PEER_DIED, .rank = 0, .message = "exit"};
        live(self, BEGIN + 3 * SECOND);
        step(self, (judge_event){.kind = JUDGE_REPORTED, .rank = 0, .error = &told});
        assert_true(judge_has_reported(&self->judge, 0));
        step(self,
             (judge_event){
                 .kind = JUDGE_UNLINKED, .rank = 0, .is_living = true, .error = &end});
        assert_int_equal(self->judge.n_deaths, 0);
        self->is_gone[0] = true;
        step(self, (judge_event){.kind = JUDGE_ENDED,
                                 .rank = 0,
                                 .is_crash = true,
                                 .is_killed = is_killed,
                                 .error = &end});
        assert_string_equal(self->judge.cause.message, is_killed ? "exit" : "disk");
        assert_int_equal(self->judge.n_faults, !is_killed);
        live(self, self->now_ns + 10 * SECOND);
        check_healed(self);
        stop(self);
    }
}

/* Two at once, as where something is missing for both: each is told by its own words. */
static void who_leaves_with_an_error_beside_another_had_it_as_well(void **state) {
    (void)state;
    world *self = begin(first_seed(), 5);
    while (self->judge.world_size < 2)
        judge_close(&self->judge), self = begin(self->seed + 1, 5);
    cohort_error told[] = {{.code = COHORT_E_IO, .rank = 0, .message = "disk"},
                           {.code = COHORT_E_IO, .rank = 1, .message = "disk, too"}};
    cohort_error end = {.code = COHORT_E_PEER_DIED, .rank = 1, .message = "exit"};
    live(self, BEGIN + 3 * SECOND);
    for (int32_t rank = 0; rank < 2; rank++)
        step(self,
             (judge_event){.kind = JUDGE_REPORTED, .rank = rank, .error = &told[rank]});
    step(self, (judge_event){
                   .kind = JUDGE_UNLINKED, .rank = 1, .is_living = true, .error = &end});
    assert_int_equal(self->judge.n_deaths, 0);
    self->is_gone[1] = true;
    step(self, (judge_event){.kind = JUDGE_ENDED, .rank = 1, .error = &end});
    assert_string_equal(self->judge.cause.message, "disk, too");
    assert_false(judge_has_reported(&self->judge, 0)); /* that was perhaps of this */
    live(self, self->now_ns + 10 * SECOND);
    check_healed(self);
    stop(self);
}

/* Also where it takes its time to leave, and is killed at last. */
static void who_tells_of_an_error_and_stays_had_it(void **state) {
    (void)state;
    world *self = begin(first_seed(), 5);
    cohort_error told = {.code = COHORT_E_IO, .rank = 0, .message = "disk"};
    live(self, BEGIN + 3 * SECOND);
    step(self, (judge_event){.kind = JUDGE_REPORTED, .rank = 0, .error = &told});
    int64_t told_ns = self->now_ns;
    while (!self->judge.n_deaths)
        live(self, self->now_ns + MS);
    assert_in_range(self->now_ns - told_ns, 300 * MS, 310 * MS);
    assert_string_equal(self->judge.cause.message, "disk");
    assert_int_equal(self->judge.n_faults, 1);
    assert_true(judge_has_reported(&self->judge, 0)); /* so its cache is not trusted */
    live(self, self->now_ns + 10 * SECOND);
    check_healed(self);
    stop(self);
}

/* No request is under way then. */
static void a_fault_of_who_was_started_again_is_no_requests(void **state) {
    (void)state;
    world *self = begin(first_seed(), 5);
    live(self, BEGIN + 3 * SECOND);
    for (int i = 0; i < 2; i++) {
        cohort_error error = {.code = COHORT_E_PEER_DIED, .rank = 0};
        while (i && self->judge.state < EXECUTOR_CONNECT)
            live(self, self->now_ns + MS);
        self->is_gone[0] = true;
        step(self,
             (judge_event){
                 .kind = JUDGE_ENDED, .rank = 0, .is_fault = true, .error = &error});
    }
    assert_int_equal(self->judge.n_deaths, 2);
    assert_int_equal(self->judge.n_faults, 1);
    live(self, self->now_ns + 10 * SECOND);
    check_healed(self);
    stop(self);
}

/* Two seconds after it was told, and not before; the others are not told again. */
static void who_does_not_leave_its_step_is_killed(void **state) {
    (void)state;
    world *self = begin(3, 5);
    while (self->judge.world_size < 3)
        judge_close(&self->judge), self = begin(self->seed + 1, 5);
    live(self, BEGIN + 3 * SECOND);
    cohort_error error = {.code = COHORT_E_PEER_DIED, .rank = 0};
    self->is_gone[0] = true;
    self->heartbeat_ns[1] = self->now_ns;
    step(self, (judge_event){.kind = JUDGE_ENDED, .rank = 0, .error = &error});
    int64_t told_ns = self->now_ns;
    live(self, told_ns + 2 * SECOND);
    assert_false(self->judge.ranks[1].is_doomed);
    live(self, told_ns + 2 * SECOND + 101 * MS);
    assert_int_equal(self->judge.cause.code, COHORT_E_HUNG);
    assert_int_equal(self->judge.cause.rank, 1);
    live(self, told_ns + 10 * SECOND);
    check_healed(self);
    assert_int_equal(self->n_interruptions, 1);
    stop(self);
}

static void every_life_has_one_verdict_in_time_and_an_end(void **state) {
    (void)state;
    for (uint64_t i = 0; i < LIVES; i++)
        one_life(first_seed() + i);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_life_has_one_verdict_in_time_and_an_end),
        cmocka_unit_test(every_world_heals_and_ends),
        cmocka_unit_test(deaths_in_vain_are_counted),
        cmocka_unit_test(deaths_in_a_window_are_counted),
        cmocka_unit_test(deaths_that_are_explained_count_no_more),
        cmocka_unit_test(a_verdict_on_who_is_silent_has_its_whole_text),
        cmocka_unit_test(who_leaves_with_an_error_that_names_nobody_else_had_it),
        cmocka_unit_test(who_leaves_with_an_error_beside_another_had_it_as_well),
        cmocka_unit_test(who_tells_of_an_error_and_stays_had_it),
        cmocka_unit_test(a_fault_of_who_was_started_again_is_no_requests),
        cmocka_unit_test(who_does_not_leave_its_step_is_killed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
