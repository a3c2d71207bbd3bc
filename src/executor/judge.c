/* SPDX-License-Identifier: Apache-2.0 */
#include "executor/judge.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fail.h"

/* Design notes.
 *
 * Cause and consequence arrive in any order: a killed process closes its sockets before
 * its pidfd is readable, so its peers' "rank 1 is gone" may come first.  Such an error is
 * a suspect for a moment; a death in that time is the verdict instead.  So is the end of
 * its own link, unless the process is not exiting: that is told at once.  The other way
 * round, a rank that reports an error and exits has the report read before the exit.
 *
 * There is one verdict, the first; what comes after it is its consequence, or is told at
 * the end of a shutdown (late).
 *
 * Every bound is exact: the time comes with the event. */

enum {
    TICK_MS = 100,
    STOPPING_TICK_MS = 10,
    SUSPICION_MS = 300,
    /* How long ranks of a failed executor get to leave by themselves. */
    FAILED_TERM_MS = 50,
    FAILED_KILL_MS = 150,
    /* Poison and a signal for each rank, and some for all. */
    ACTIONS_PER_RANK = 3,
    ACTIONS_FOR_ALL = 8,
};

#define MS INT64_C(1000000)

const char *executor_state_name(executor_state state) {
    static const char *const names[] = {"place", "configure", "connect", "load",
                                        "ready", "stop",      "closed"};
    return names[state];
}

cohort_status judge_open(cohort_judge *self, const cohort_executor_options *options,
                         int32_t world_size, bool closes_world, int64_t now_ns) {
    size_t n = (size_t)world_size;
    *self = (cohort_judge){
        .options = options,
        .world_size = world_size,
        .closes_world = closes_world,
        .stayed_rank = -1,
        .ranks = calloc(n, sizeof *self->ranks),
        .views = calloc(n, sizeof *self->views),
        .actions = calloc(n * ACTIONS_PER_RANK + ACTIONS_FOR_ALL, sizeof *self->actions)};
    self->opened_ns = self->phase_ns = self->tick_ns = self->resumed_ns = now_ns;
    if (self->ranks && self->views && self->actions) return COHORT_OK;
    judge_close(self);
    return COHORT_FAIL(COHORT_E_NOMEM, "allocating what is known of %d ranks",
                       world_size);
}

void judge_close(cohort_judge *self) {
    free(self->ranks);
    free(self->views);
    free(self->actions);
    self->ranks = NULL;
    self->views = NULL;
    self->actions = NULL;
}

static judge_action *act(cohort_judge *self, judge_action_kind kind, int32_t rank) {
    judge_action *action = &self->actions[self->n_actions++];
    *action = (judge_action){.kind = kind, .rank = rank};
    return action;
}

static int64_t later(int64_t a_ns, int64_t b_ns) { return a_ns > b_ns ? a_ns : b_ns; }

static bool is_here(const judge_rank *rank) {
    return rank->is_started && !rank->has_ended;
}

/* ---- verdicts ----------------------------------------------------------------- */

/* False where there is a verdict already, or none is wanted any more. */
static bool convict(cohort_judge *self, int32_t rank, const cohort_error *error) {
    if (self->is_failed || self->state >= EXECUTOR_STOPPING) return false;
    self->is_failed = true;
    self->verdict = *error;
    if (error->rank == COHORT_RANK_LOCAL) self->verdict.rank = rank;
    act(self, JUDGE_DO_FAIL, rank);
    return true;
}

static void convict_last(cohort_judge *self, int32_t rank) {
    convict(self, rank, cohort_last_error());
}

/* An error that may be another rank's death: the verdict, unless that is told soon. */
static void suspect(cohort_judge *self, const cohort_error *error, int64_t now_ns) {
    if (self->has_suspect) return;
    self->has_suspect = true;
    self->suspect = *error;
    self->suspect_until_ns = now_ns + SUSPICION_MS * MS;
}

static void on_report(cohort_judge *self, const judge_event *event) {
    const cohort_error *error = event->error;
    self->ranks[event->rank].has_reported = true;
    /* "Connection refused" and the like, too, where the error is about somebody else. */
    bool is_about_peer = error->rank != event->rank ||
                         error->code == COHORT_E_PEER_DIED ||
                         error->code == COHORT_E_CLOSED;
    if (is_about_peer)
        suspect(self, error, event->now_ns);
    else
        convict(self, event->rank, error);
}

static void on_unlinked(cohort_judge *self, const judge_event *event) {
    if (self->ranks[event->rank].has_reported) return; /* and leaves because of it */
    if (event->is_living)
        convict(self, event->rank, event->error);
    else
        suspect(self, event->error, event->now_ns);
}

static void on_ended(cohort_judge *self, const judge_event *event) {
    judge_rank *rank = &self->ranks[event->rank];
    rank->has_ended = true;
    /* Who has reported an error leaves because of it: that is no news. */
    if (rank->has_reported || convict(self, event->rank, event->error)) return;
    /* Nothing is lost with a rank that was only asked to leave, but a crash is told. */
    if (event->is_crash && self->stop_stage < 2 && !self->late.code)
        self->late = *event->error;
}

/* ---- the clock ---------------------------------------------------------------- */

/* Fills in what the counters do not know. */
static void complete_views(cohort_judge *self, int64_t now_ns) {
    for (int32_t i = 0; i < self->world_size; i++) {
        judge_rank *rank = &self->ranks[i];
        cohort_rank_view *view = &self->views[i];
        if (view->progress != rank->progress) {
            rank->progress = view->progress;
            rank->progress_ns = now_ns;
        }
        /* No heartbeat yet: the rank has not mapped the counters; phases have deadlines
         * of their own. */
        view->is_watched = is_here(rank) && view->heartbeat_ns != 0;
        view->heartbeat_ns = later(view->heartbeat_ns, self->resumed_ns);
        view->progress_ns =
            later(later(view->progress_ns, rank->progress_ns), self->resumed_ns);
    }
}

static void check_hang(cohort_judge *self, const judge_event *event) {
    const cohort_hang_limits limits = {.heartbeat_ns = self->options->hang_timeout_ns,
                                       .execute_ns = self->options->execute_timeout_ns,
                                       .pending_call = event->pending_call,
                                       .pending_ns = event->pending_ns};
    char text[COHORT_ERROR_MESSAGE_BYTES];
    complete_views(self, event->now_ns);
    cohort_hang hang =
        cohort_find_hang(self->views, self->world_size, &limits, event->now_ns);
    if (hang.rank < 0) return;
    cohort_describe_ranks(self->views, self->world_size, text, sizeof text);
    COHORT_FAIL(COHORT_E_HUNG, "rank %d (%s) is hung: no %s for %.1f s; %.120s",
                hang.rank, self->ranks[hang.rank].who,
                hang.is_silent ? "heartbeat" : "progress",
                (double)(event->now_ns - hang.since_ns) * 1e-9, text);
    convict_last(self, hang.rank);
}

static void check_phase(cohort_judge *self, int64_t now_ns) {
    bool is_load = self->state == EXECUTOR_LOAD;
    int64_t limit_ns =
        is_load ? self->options->load_timeout_ns : self->options->connect_timeout_ns;
    int64_t since_ns = is_load ? self->phase_ns : self->opened_ns;
    if (limit_ns <= 0 || now_ns - since_ns <= limit_ns) return;
    int32_t rank = 0;
    while (rank + 1 < self->world_size && self->ranks[rank].reached > self->state)
        rank++;
    COHORT_FAIL(COHORT_E_HUNG, "rank %d (%s) has not finished %s after %.1f s", rank,
                self->ranks[rank].who, executor_state_name(self->state),
                (double)(now_ns - since_ns) * 1e-9);
    convict_last(self, rank);
}

/* Goes on to the next phase once all ranks, and the driver's own ends, have done theirs.
 */
static void advance(cohort_judge *self, int64_t now_ns) {
    executor_state state = self->state;
    if (self->is_failed || state >= EXECUTOR_READY) return;
    if (state == EXECUTOR_CONNECT && !self->is_linked) return;
    for (int32_t rank = 0; rank < self->world_size; rank++)
        if (self->ranks[rank].reached <= state) return;
    self->state = (executor_state)(state + 1);
    self->phase_ns = now_ns;
    act(self, JUDGE_DO_ENTER, COHORT_RANK_LOCAL)->state = self->state;
}

/* ---- the end ------------------------------------------------------------------ */

/* One deadline for everything (R33): ask, then SIGTERM after 60 % of what the ranks have
 * of it, SIGKILL after 80 %.  A failed executor's ranks were asked by poison already. */
static void enter_stage(cohort_judge *self, int32_t stage, int signal_number) {
    if (self->stop_stage >= stage) return;
    self->stop_stage = stage;
    for (int32_t rank = 0; rank < self->world_size; rank++) {
        if (!is_here(&self->ranks[rank])) continue;
        /* A thread cannot be killed, but it can be made to give up. */
        if (stage == 2) act(self, JUDGE_DO_POISON, rank);
        if (signal_number)
            act(self, JUDGE_DO_SIGNAL, rank)->signal = signal_number;
        else
            act(self, JUDGE_DO_ASK, rank);
    }
}

static void go_on_stopping(cohort_judge *self, int64_t now_ns) {
    int64_t limit_ns = self->options->shutdown_timeout_ns;
    /* Of the limit for all: a launcher that has a world to close gets its part, too. */
    if (self->closes_world) limit_ns = limit_ns / 10 * 6;
    if (!self->stop_ns) self->stop_ns = now_ns;
    int64_t spent_ns = now_ns - self->stop_ns;
    int64_t term_ns = limit_ns / 10 * 6;
    int64_t kill_ns = limit_ns / 10 * 8;
    if (self->is_failed && (limit_ns <= 0 || term_ns > FAILED_TERM_MS * MS)) {
        term_ns = FAILED_TERM_MS * MS;
        kill_ns = FAILED_KILL_MS * MS;
    }
    bool is_limited = limit_ns > 0 || self->is_failed;
    enter_stage(self, 1, 0);
    if (is_limited && spent_ns >= term_ns) enter_stage(self, 2, SIGTERM);
    if (is_limited && spent_ns >= kill_ns) enter_stage(self, 3, SIGKILL);
    int32_t rank = 0;
    while (rank < self->world_size && !is_here(&self->ranks[rank]))
        rank++;
    if (rank < self->world_size) {
        if (limit_ns <= 0 || spent_ns < limit_ns) return;
        self->stayed_rank = rank;
        COHORT_FAIL(COHORT_E_TIMEOUT, "rank %d (%s) could not be ended in %.1f s", rank,
                    self->ranks[rank].who, (double)limit_ns * 1e-9);
        self->late = *cohort_last_error();
    }
    self->state = EXECUTOR_CLOSED;
    act(self, JUDGE_DO_CLOSE, self->stayed_rank);
}

static void on_tick(cohort_judge *self, const judge_event *event) {
    int64_t now_ns = event->now_ns;
    advance(self, now_ns);
    /* If we did not run (a frozen container), neither did they: count from now. */
    if (now_ns - self->tick_ns > 5 * TICK_MS * MS) self->resumed_ns = now_ns;
    self->tick_ns = now_ns;
    if (self->has_suspect && now_ns >= self->suspect_until_ns)
        convict(self, self->suspect.rank, &self->suspect);
    if (self->state <= EXECUTOR_READY && !self->is_failed) {
        if (self->state < EXECUTOR_READY) check_phase(self, now_ns);
        check_hang(self, event);
    }
    if (self->is_failed && !self->is_told) act(self, JUDGE_DO_TELL, COHORT_RANK_LOCAL);
    self->is_told = self->is_failed;
    if (self->state == EXECUTOR_STOPPING) go_on_stopping(self, now_ns);
}

/* ---- the step ----------------------------------------------------------------- */

void judge_step(cohort_judge *self, const judge_event *event) {
    judge_rank *rank = event->rank >= 0 ? &self->ranks[event->rank] : NULL;
    self->n_actions = 0;
    switch (event->kind) {
    case JUDGE_STARTED:
        snprintf(rank->who, sizeof rank->who, "%s", event->who);
        rank->is_started = true;
        rank->progress_ns = event->now_ns;
        break;
    case JUDGE_REACHED: rank->reached = event->reached; break;
    case JUDGE_LINKED: self->is_linked = true; break;
    case JUDGE_REPORTED: on_report(self, event); break;
    case JUDGE_UNLINKED: on_unlinked(self, event); break;
    case JUDGE_BROKEN: convict(self, event->rank, event->error); break;
    case JUDGE_ENDED: on_ended(self, event); break;
    case JUDGE_FAILED:
        self->is_failed = true;
        self->verdict = *event->error;
        break;
    case JUDGE_STOP: self->state = EXECUTOR_STOPPING; break;
    case JUDGE_TICK: on_tick(self, event); break;
    }
}

int32_t judge_tick_ms(const cohort_judge *self) {
    if (self->state >= EXECUTOR_STOPPING) return STOPPING_TICK_MS;
    return self->has_suspect ? TICK_MS / 10 : TICK_MS;
}
