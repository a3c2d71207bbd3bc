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
 * Where ranks may be started again, whoever would be convicted is: killed if it lives,
 * and started in the next epoch, in which the others rejoin.  As long as no table was
 * sent, a further death is of the same epoch.  A rank that was started again too often
 * in vain, no step completed between, is a verdict after all; it is counted by rank, so
 * that all dying together is one time for each.
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
    /* A rank that lives on leaves its step within this, or is killed as well. */
    REJOIN_MS = 2000,
    DRAIN_TICK_MS = 1,
    /* In the window a rank may be started again so many times as often as in vain. */
    WINDOW_FACTOR = 6,
    /* The most that one step says to a rank, and to all. */
    ACTIONS_PER_RANK = 6,
    ACTIONS_FOR_ALL = 8,
};

#define MS INT64_C(1000000)

const char *executor_state_name(executor_state state) {
    static const char *const names[] = {"place", "configure", "connect", "load",
                                        "ready", "stop",      "closed"};
    return names[state];
}

cohort_status judge_open(cohort_judge *self, const cohort_executor_options *options,
                         int32_t world_size, int64_t now_ns) {
    size_t n = (size_t)world_size;
    *self = (cohort_judge){
        .options = options,
        .world_size = world_size,
        .stayed_rank = -1,
        .is_drained = true,
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

bool judge_restarts(const cohort_judge *self) {
    return self->can_restart && self->options->max_rank_restarts > 0;
}

bool judge_recovers(const cohort_judge *self) {
    return self->n_epochs > 0 && self->state < EXECUTOR_READY;
}

static void begin_epoch(cohort_judge *self, int64_t now_ns) {
    self->n_epochs++;
    self->is_linked = self->is_drained = false;
    act(self, JUDGE_DO_INTERRUPT, self->cause.rank);
    for (int32_t i = 0; i < self->world_size; i++) {
        judge_rank *rank = &self->ranks[i];
        if (!is_here(rank) || rank->is_doomed || !rank->is_configured) continue;
        rank->reached = EXECUTOR_CONFIGURE;
        rank->rejoin_ns = now_ns;
        act(self, JUDGE_DO_REJOIN, i);
    }
}

/* False where that was too often, and has become *out_error. */
static bool may_start_again(cohort_judge *self, int32_t culprit,
                            const cohort_error *error, int64_t now_ns,
                            cohort_error *out_error) {
    judge_rank *rank = &self->ranks[culprit];
    int32_t most = self->options->max_rank_restarts;
    if (!self->first_cause.code) self->first_cause = *error;
    if (!rank->n_window ||
        now_ns - rank->window_ns > self->options->rank_restart_window_ns) {
        rank->window_ns = now_ns;
        rank->n_window = 0;
        rank->window_cause = *error;
    }
    *out_error = *error;
    if (++rank->n_vain <= most && ++rank->n_window <= most * WINDOW_FACTOR) return true;
    bool is_vain = rank->n_vain > most;
    /* From the copy: error may be the thread's last one, which this writes. */
    COHORT_FAIL(out_error->code, "%.120s; started again %d times before, first: %.80s",
                out_error->message, is_vain ? most : most * WINDOW_FACTOR,
                is_vain ? self->first_cause.message : rank->window_cause.message);
    *out_error = *cohort_last_error();
    out_error->rank = culprit;
    return false;
}

static void start_again(cohort_judge *self, int32_t culprit, bool is_fault,
                        int64_t now_ns) {
    static const int32_t backoff_ms[] = {0, 0, 100, 500, 2000};
    enum { N_BACKOFFS = sizeof backoff_ms / sizeof *backoff_ms };
    judge_rank *rank = &self->ranks[culprit];
    for (int32_t other = 0; other < self->world_size; other++)
        self->ranks[other].told.code = COHORT_OK; /* this explains it */
    int32_t i = rank->n_vain <= N_BACKOFFS ? rank->n_vain - 1 : N_BACKOFFS - 1;
    self->n_deaths++;
    /* While it recovers no request is under way that could have caused it. */
    self->n_faults += is_fault && self->state == EXECUTOR_READY;
    self->has_suspect = false;
    rank->start_ns = now_ns + backoff_ms[i] * MS;
    rank->reached = EXECUTOR_PLACE;
    rank->rejoin_ns = 0;
    self->phase_ns = self->opened_ns = now_ns;
    if (is_here(rank)) {
        rank->is_doomed = true;
        act(self, JUDGE_DO_KILL, culprit);
    }
    /* The table of this epoch has been sent, with its ends in it. */
    if (self->state >= EXECUTOR_CONNECT) begin_epoch(self, now_ns);
    self->state = EXECUTOR_PLACE;
}

/* False where there is a verdict already, or none is wanted any more. */
static bool convict(cohort_judge *self, int32_t rank, const cohort_error *error,
                    bool is_fault, int64_t now_ns) {
    if (self->is_failed || self->state >= EXECUTOR_STOPPING) return false;
    cohort_error verdict = *error;
    int32_t culprit =
        error->rank >= 0 && error->rank < self->world_size ? error->rank : rank;
    if (judge_restarts(self) && self->was_ready && culprit >= 0) {
        if (self->ranks[culprit].is_doomed) return true; /* that is known */
        self->cause = *error;
        self->cause.rank = culprit;
        if (may_start_again(self, culprit, error, now_ns, &verdict)) {
            start_again(self, culprit, is_fault, now_ns);
            return true;
        }
    }
    self->is_failed = true;
    self->verdict = verdict;
    if (verdict.rank == COHORT_RANK_LOCAL) self->verdict.rank = rank;
    act(self, JUDGE_DO_FAIL, rank);
    return true;
}

static void convict_last(cohort_judge *self, int32_t rank, bool is_fault,
                         int64_t now_ns) {
    convict(self, rank, cohort_last_error(), is_fault, now_ns);
}

/* An error that may be another rank's death: the verdict, unless that is told soon. */
static void suspect(cohort_judge *self, const cohort_error *error, int64_t now_ns) {
    if (self->has_suspect) return;
    self->has_suspect = true;
    self->suspect = *error;
    self->suspect_until_ns = now_ns + SUSPICION_MS * MS;
}

bool judge_has_reported(const cohort_judge *self, int32_t rank) {
    return self->ranks[rank].has_reported || self->ranks[rank].told.code;
}

static void on_report(cohort_judge *self, const judge_event *event) {
    const cohort_error *error = event->error;
    /* "Connection refused" and the like, too, where the error is about somebody else. */
    bool is_about_peer = error->rank != event->rank ||
                         error->code == COHORT_E_PEER_DIED ||
                         error->code == COHORT_E_CLOSED;
    /* Of another's death it tells, be it a listener that is gone, and waits to rejoin. */
    if (judge_restarts(self) &&
        (error->code == COHORT_E_IO || error->code == COHORT_E_TIMEOUT))
        is_about_peer = true;
    if (!is_about_peer || !judge_restarts(self))
        self->ranks[event->rank].has_reported = true;
    if (!is_about_peer) {
        convict(self, event->rank, error, true, event->now_ns);
        return;
    }
    if (error->rank == event->rank) self->ranks[event->rank].told = *error;
    suspect(self, error, event->now_ns);
}

static void on_unlinked(cohort_judge *self, const judge_event *event) {
    if (judge_has_reported(self, event->rank) || self->ranks[event->rank].is_doomed)
        return; /* and leaves because of it */
    if (event->is_living)
        convict(self, event->rank, event->error, false, event->now_ns);
    else
        suspect(self, event->error, event->now_ns);
}

static void on_ended(cohort_judge *self, const judge_event *event) {
    judge_rank *rank = &self->ranks[event->rank];
    bool is_known = rank->is_doomed;
    /* It left because of that error: no other's death made it. */
    bool is_own = judge_restarts(self) && rank->told.code && !event->is_killed;
    const cohort_error *error = is_own ? &rank->told : event->error;
    rank->has_ended = true;
    rank->is_doomed = false;
    if (judge_restarts(self) && self->suspect.rank == event->rank)
        self->has_suspect = false; /* it is told now, or was */
    if (is_known) return;
    /* Who has reported an error leaves because of it: that is no news. */
    if (rank->has_reported ||
        convict(self, event->rank, error, event->is_fault || is_own, event->now_ns))
        return;
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
        view->is_watched = is_here(rank) && !rank->is_doomed && view->heartbeat_ns != 0;
        view->heartbeat_ns = later(view->heartbeat_ns, self->resumed_ns);
        view->progress_ns =
            later(later(view->progress_ns, rank->progress_ns), self->resumed_ns);
    }
}

/* where: "", or what was found out about the rank. */
static void convict_hung(cohort_judge *self, const char *where, int64_t now_ns) {
    char text[COHORT_ERROR_MESSAGE_BYTES];
    const cohort_hang *hang = &self->hang;
    self->is_examined = false;
    cohort_describe_ranks(self->views, self->world_size, text, sizeof text);
    COHORT_FAIL(COHORT_E_HUNG, "rank %d (%s) is hung: no %s for %.1f s%s%.60s; %.120s",
                hang->rank, self->ranks[hang->rank].who,
                hang->is_silent ? "heartbeat" : "progress",
                (double)(now_ns - hang->since_ns) * 1e-9, *where ? ", " : "", where,
                text);
    convict_last(self, hang->rank, true, now_ns);
}

static void check_hang(cohort_judge *self, const judge_event *event) {
    const cohort_hang_limits limits = {.heartbeat_ns = self->options->hang_timeout_ns,
                                       .execute_ns = self->options->execute_timeout_ns,
                                       .pending_call = event->pending_call,
                                       .pending_ns = event->pending_ns};
    complete_views(self, event->now_ns);
    cohort_hang hang =
        cohort_find_hang(self->views, self->world_size, &limits, event->now_ns);
    bool was_examined = self->is_examined && self->hang.rank == hang.rank;
    self->hang = hang;
    self->is_examined = hang.rank >= 0;
    if (hang.rank < 0) return;
    if (was_examined) /* in vain */
        convict_hung(self, "", event->now_ns);
    else
        act(self, JUDGE_DO_EXAMINE, hang.rank);
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
    self->ranks[rank].is_doomed = false; /* once more, where even SIGKILL was in vain */
    COHORT_FAIL(COHORT_E_HUNG, "rank %d (%s) has not finished %s after %.1f s", rank,
                self->ranks[rank].who, executor_state_name(self->state),
                (double)(now_ns - since_ns) * 1e-9);
    convict_last(self, rank, false, now_ns);
}

static void enter(cohort_judge *self, executor_state state, int64_t now_ns) {
    self->state = state;
    self->phase_ns = now_ns;
    act(self, JUDGE_DO_ENTER, COHORT_RANK_LOCAL)->state = state;
    for (int32_t i = 0; i < self->world_size; i++) {
        judge_rank *rank = &self->ranks[i];
        if (state == EXECUTOR_READY) rank->rejoin_ns = 0;
        if (state != EXECUTOR_CONFIGURE || rank->is_configured) continue;
        rank->is_configured = true;
        act(self, JUDGE_DO_CONFIGURE, i);
    }
    if (state == EXECUTOR_READY) self->was_ready = true;
}

/* All ranks, and the driver's own ends, have done what the phase is for. */
static bool is_phase_over(const cohort_judge *self) {
    executor_state state = self->state;
    if (self->is_failed || state >= EXECUTOR_READY) return false;
    if (state == EXECUTOR_CONFIGURE && !self->is_drained) return false;
    if (state == EXECUTOR_CONNECT && !self->is_linked) return false;
    for (int32_t rank = 0; rank < self->world_size; rank++)
        if (self->ranks[rank].reached <= state) return false;
    return true;
}

/* What recovery asks of the clock: who is started again, who does not leave its step. */
static void go_on_recovering(cohort_judge *self, int64_t now_ns) {
    for (int32_t i = 0; i < self->world_size && !self->is_failed; i++) {
        judge_rank *rank = &self->ranks[i];
        int64_t since_ns = later(rank->rejoin_ns, self->resumed_ns);
        if (rank->has_ended && self->state == EXECUTOR_PLACE &&
            now_ns >= rank->start_ns) {
            rank->has_ended = rank->is_started = false;
            rank->has_reported = rank->is_configured = false;
            rank->told.code = COHORT_OK;
            act(self, JUDGE_DO_START, i);
        } else if (is_here(rank) && !rank->is_doomed && rank->rejoin_ns &&
                   rank->reached == EXECUTOR_CONFIGURE &&
                   now_ns - since_ns > REJOIN_MS * MS) {
            COHORT_FAIL(COHORT_E_HUNG, "rank %d (%s) has not left its step after %.1f s",
                        i, rank->who, (double)(now_ns - since_ns) * 1e-9);
            convict_last(self, i, false, now_ns);
        }
    }
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

/* Nobody has died of whom it may have told.  Where it named nobody else, it was its own
 * doing, however long it takes to leave. */
static void end_suspicion(cohort_judge *self, int64_t now_ns) {
    int32_t rank = self->suspect.rank;
    bool is_own = judge_restarts(self) && rank >= 0 && self->ranks[rank].told.code;
    if (is_own) self->ranks[rank].has_reported = true;
    convict(self, rank, &self->suspect, is_own, now_ns);
}

/* What is too late by now. */
static void check_time(cohort_judge *self, const judge_event *event) {
    int64_t now_ns = event->now_ns;
    if (self->has_suspect && now_ns >= self->suspect_until_ns)
        end_suspicion(self, now_ns);
    if (self->state <= EXECUTOR_READY && !self->is_failed) {
        if (self->state < EXECUTOR_READY && !is_phase_over(self))
            check_phase(self, now_ns);
        check_hang(self, event);
    }
    if (judge_recovers(self)) go_on_recovering(self, now_ns);
}

static void on_tick(cohort_judge *self, const judge_event *event) {
    int64_t now_ns = event->now_ns;
    /* If we did not run (a frozen container), neither did they: count from now. */
    if (now_ns - self->tick_ns > 5 * TICK_MS * MS) self->resumed_ns = now_ns;
    self->tick_ns = now_ns;
    check_time(self, event);
    /* A phase is not entered and given up in one step: the ranks would hear both. */
    if (is_phase_over(self)) enter(self, (executor_state)(self->state + 1), now_ns);
    if (self->is_failed && !self->is_told) act(self, JUDGE_DO_TELL, COHORT_RANK_LOCAL);
    self->is_told = self->is_failed;
    if (self->state == EXECUTOR_STOPPING) go_on_stopping(self, now_ns);
}

/* ---- the step ----------------------------------------------------------------- */

/* A step is the proof that those who were started again are of use. */
static void on_completed(cohort_judge *self, uint64_t n_completed) {
    self->n_completed = n_completed;
    self->first_cause.code = COHORT_OK;
    for (int32_t rank = 0; rank < self->world_size; rank++)
        self->ranks[rank].n_vain = 0;
}

/* Whatever killed them is not computed again: no death before is held against a rank. */
static void on_explained(cohort_judge *self, uint64_t n_explained) {
    self->n_explained = n_explained;
    self->first_cause.code = COHORT_OK;
    for (int32_t rank = 0; rank < self->world_size; rank++)
        self->ranks[rank].n_vain = self->ranks[rank].n_window = 0;
}

void judge_step(cohort_judge *self, const judge_event *event) {
    judge_rank *rank = event->rank >= 0 ? &self->ranks[event->rank] : NULL;
    self->n_actions = 0;
    if (event->n_completed != self->n_completed) on_completed(self, event->n_completed);
    if (event->n_explained != self->n_explained) on_explained(self, event->n_explained);
    switch (event->kind) {
    case JUDGE_STARTED:
        snprintf(rank->who, sizeof rank->who, "%s", event->who);
        rank->is_started = true;
        rank->reached = EXECUTOR_PLACE;
        rank->progress_ns = event->now_ns;
        break;
    case JUDGE_REACHED:
        if (is_here(rank) && !rank->is_doomed) rank->reached = event->reached;
        break;
    case JUDGE_DRAINED: self->is_drained = true; break;
    case JUDGE_LINKED: self->is_linked = true; break;
    case JUDGE_REPORTED: on_report(self, event); break;
    case JUDGE_UNLINKED: on_unlinked(self, event); break;
    case JUDGE_BROKEN:
        if (!rank->is_started) rank->has_ended = true; /* it could not be */
        convict(self, event->rank, event->error, false, event->now_ns);
        break;
    case JUDGE_ENDED: on_ended(self, event); break;
    case JUDGE_EXAMINED:
        if (self->is_examined && self->hang.rank == event->rank)
            convict_hung(self, event->who, event->now_ns);
        break;
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
    if (!self->is_drained) return DRAIN_TICK_MS;
    return self->has_suspect ? TICK_MS / 10 : TICK_MS;
}
