/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <stdlib.h>

#include "base/fail.h"
#include "base/log.h"
#include "cohort/clock.h"
#include "executor/executor_internal.h"
#include "executor/failure.h"
#include "executor/frames.h"
#include "executor/views.h"

/* Design notes.
 *
 * What only the clock can tell: who is late, when a suspicion becomes the verdict, and
 * what a shutdown does next.  The time comes as an argument, so that tests hold the clock
 * and every bound is exact; the monitor's loop brings the real one, at least every
 * TICK_MS. */

enum {
    TICK_MS = 100,
    STOPPING_TICK_MS = 10,
    SUSPICION_MS = 300,
    /* How long ranks of a failed executor get to leave by themselves. */
    FAILED_TERM_MS = 50,
    FAILED_KILL_MS = 150,
};

void executor_suspect(cohort_executor *executor, const cohort_error *error,
                      int64_t now_ns) {
    if (executor->has_suspect) return;
    executor->has_suspect = true;
    executor->suspect = *error;
    executor->suspect_until_ns = now_ns + SUSPICION_MS * INT64_C(1000000);
}

static int64_t later(int64_t a_ns, int64_t b_ns) { return a_ns > b_ns ? a_ns : b_ns; }

/* Fills in what only the monitor knows. */
static void complete_views(cohort_executor *executor, cohort_rank_view *views,
                           int64_t now_ns) {
    for (int32_t i = 0; i < executor->world_size; i++) {
        executor_rank *rank = &executor->ranks[i];
        uint64_t progress =
            atomic_load_explicit(&rank->row->progress, memory_order_relaxed);
        if (progress != rank->progress) {
            rank->progress = progress;
            rank->progress_ns = now_ns;
        }
        /* No heartbeat yet: the rank has not mapped the counters; phases have deadlines
         * of their own. */
        views[i].is_watched =
            rank->is_started && !rank->has_ended && views[i].heartbeat_ns != 0;
        views[i].heartbeat_ns = later(views[i].heartbeat_ns, executor->resumed_ns);
        views[i].progress_ns =
            later(later(views[i].progress_ns, rank->progress_ns), executor->resumed_ns);
    }
}

static void check_hang(cohort_executor *executor, int64_t now_ns) {
    cohort_rank_view *views = calloc((size_t)executor->world_size, sizeof *views);
    if (!views) return; /* the next tick tries again */
    cohort_hang_limits limits = {.heartbeat_ns = executor->options.hang_timeout_ns,
                                 .execute_ns = executor->options.execute_timeout_ns};
    pthread_mutex_lock(&executor->lock);
    for (cohort_future *future = executor->head; future; future = future->next)
        if (future->is_step && future->next_rank == future->first_rank) {
            limits.pending_call = future->call;
            limits.pending_ns = future->sent_ns;
            break;
        }
    pthread_mutex_unlock(&executor->lock);
    executor_fill_views(executor, views);
    complete_views(executor, views, now_ns);
    cohort_hang hang = cohort_find_hang(views, executor->world_size, &limits, now_ns);
    if (hang.rank >= 0) {
        char text[COHORT_ERROR_MESSAGE_BYTES];
        cohort_describe_ranks(views, executor->world_size, text, sizeof text);
        char who[EXECUTOR_WHO_BYTES];
        executor_describe_rank(&executor->ranks[hang.rank].launch, who, sizeof who);
        COHORT_FAIL(COHORT_E_HUNG, "rank %d (%s) is hung: no %s for %.1f s; %.120s",
                    hang.rank, who, hang.is_silent ? "heartbeat" : "progress",
                    (double)(now_ns - hang.since_ns) * 1e-9, text);
        executor_fail_last(executor, hang.rank);
    }
    free(views);
}

static void check_phase(cohort_executor *executor, executor_state state, int64_t now_ns) {
    bool is_load = state == EXECUTOR_LOAD;
    int64_t limit_ns = is_load ? executor->options.load_timeout_ns
                               : executor->options.connect_timeout_ns;
    int64_t since_ns = is_load ? executor->phase_ns : executor->opened_ns;
    if (limit_ns <= 0 || now_ns - since_ns <= limit_ns) return;
    int32_t rank = 0;
    while (rank + 1 < executor->world_size && executor->ranks[rank].reached > state)
        rank++;
    char who[EXECUTOR_WHO_BYTES];
    executor_describe_rank(&executor->ranks[rank].launch, who, sizeof who);
    COHORT_FAIL(COHORT_E_HUNG, "rank %d (%s) has not finished %s after %.1f s", rank, who,
                executor_state_name(state), (double)(now_ns - since_ns) * 1e-9);
    executor_fail_last(executor, rank);
}

static void report_progress(cohort_executor *executor) {
    if (!executor->options.on_progress) return;
    for (int32_t i = 0; i < executor->world_size; i++) {
        executor_rank *rank = &executor->ranks[i];
        uint64_t done = atomic_load_explicit(&rank->row->done, memory_order_relaxed);
        uint64_t total = atomic_load_explicit(&rank->row->total, memory_order_relaxed);
        if (done == rank->reported_done) continue;
        rank->reported_done = done;
        executor->options.on_progress(executor->options.user_data, i, done, total);
    }
}

/* The failure, once it is known, is everybody's: poison for the ranks, the callback. */
static void tell_failure(cohort_executor *executor) {
    if (executor->is_poison_sent) return;
    pthread_mutex_lock(&executor->lock);
    bool is_failed = executor->is_failed;
    cohort_error error = executor->failure;
    cohort_failure_callback callback = executor->callback;
    void *user_data = executor->callback_data;
    if (!is_failed || executor->is_told) callback = NULL;
    if (callback) executor->is_told = true;
    pthread_mutex_unlock(&executor->lock);
    if (!is_failed) return;
    executor->is_poison_sent = true;
    for (int32_t rank = 0; rank < executor->world_size; rank++)
        executor_send_small(executor, rank, COHORT_FRAME_POISON, &error);
    if (callback) callback(user_data, &error);
}

/* ---- the end ------------------------------------------------------------------ */

/* One deadline for everything (R33): ask, then SIGTERM after 60 % of what the ranks have
 * of it, SIGKILL after 80 %.  A failed executor's ranks were asked by poison already. */
static void signal_stage(cohort_executor *executor, int32_t stage, int signal_number) {
    static const cohort_error shutdown_error = {.code = COHORT_E_CLOSED,
                                                .rank = COHORT_RANK_LOCAL,
                                                .message = "the driver shuts down"};
    if (executor->stop_stage >= stage) return;
    executor->stop_stage = stage;
    bool is_failed = cohort_executor_failure(executor, NULL) < 0;
    for (int32_t rank = 0; rank < executor->world_size; rank++) {
        executor_rank *self = &executor->ranks[rank];
        if (!self->is_started || self->has_ended) continue;
        if (stage > 1) /* Of a failed executor it is what was to be expected. */
            cohort_log(is_failed ? COHORT_LOG_INFO : COHORT_LOG_WARNING, "executor", rank,
                       "event=rank_lingers pid=%d signal=%d", self->launch.pid,
                       signal_number);
        /* A thread cannot be killed, but it can be made to give up. */
        if (stage == 2)
            executor_send_small(executor, rank, COHORT_FRAME_POISON, &shutdown_error);
        if (signal_number)
            executor->launcher->signal(&self->launch, signal_number);
        else
            executor_send_small(executor, rank, COHORT_FRAME_STOP, NULL);
    }
}

/* Gets what is left of the limit; without one, as long as anything sensible takes. */
static void close_world(cohort_executor *executor) {
    enum { UNLIMITED_MS = 60000 };
    int64_t limit_ns = executor->options.shutdown_timeout_ns;
    int64_t deadline_ns =
        limit_ns > 0 ? executor->stop_ns + limit_ns : cohort_deadline_ms(UNLIMITED_MS);
    cohort_error error = *cohort_last_error();
    if (executor->world) executor->launcher->close(executor->world, deadline_ns);
    executor->world = NULL;
    cohort_fail_adopt(&error);
}

static void close_executor(cohort_executor *executor, cohort_status status) {
    if (executor->world) close_world(executor);
    cohort_counters_unlink(executor->counters);
    pthread_mutex_lock(&executor->lock);
    if (status >= 0 && executor->is_failed)
        status = cohort_fail_adopt(&executor->failure);
    else if (status >= 0 && executor->late_death.code < 0)
        status = cohort_fail_adopt(&executor->late_death);
    executor->shutdown_status = status;
    if (status < 0) executor->shutdown_error = *cohort_last_error();
    executor_set_state(executor, EXECUTOR_CLOSED);
    pthread_mutex_unlock(&executor->lock);
}

/* Of the limit for all: a launcher that has a world to close gets its part, too. */
static int64_t ranks_limit_ns(const cohort_executor *executor) {
    int64_t limit_ns = executor->options.shutdown_timeout_ns;
    return executor->launcher->close ? limit_ns / 10 * 6 : limit_ns;
}

static void stop_step(cohort_executor *executor, int64_t now_ns) {
    int64_t limit_ns = ranks_limit_ns(executor);
    pthread_mutex_lock(&executor->lock);
    bool is_failed = executor->is_failed;
    pthread_mutex_unlock(&executor->lock);
    if (!executor->stop_ns) executor->stop_ns = now_ns;
    int64_t spent_ns = now_ns - executor->stop_ns;
    int64_t term_ns = limit_ns / 10 * 6;
    int64_t kill_ns = limit_ns / 10 * 8;
    if (is_failed && (limit_ns <= 0 || term_ns > FAILED_TERM_MS * INT64_C(1000000))) {
        term_ns = FAILED_TERM_MS * INT64_C(1000000);
        kill_ns = FAILED_KILL_MS * INT64_C(1000000);
    }
    bool is_limited = limit_ns > 0 || is_failed;
    signal_stage(executor, 1, 0);
    if (is_limited && spent_ns >= term_ns) signal_stage(executor, 2, SIGTERM);
    if (is_limited && spent_ns >= kill_ns) signal_stage(executor, 3, SIGKILL);
    for (int32_t rank = 0; rank < executor->world_size; rank++) {
        if (!executor->ranks[rank].is_started || executor->ranks[rank].has_ended)
            continue;
        if (limit_ns <= 0 || spent_ns < limit_ns) return;
        executor->has_stayed = true;
        close_executor(
            executor,
            COHORT_FAIL(COHORT_E_TIMEOUT, "rank %d (pid %d) could not be ended in %.1f s",
                        rank, executor->ranks[rank].launch.pid, (double)limit_ns * 1e-9));
        return;
    }
    close_executor(executor, COHORT_OK);
}

void executor_on_clock(cohort_executor *executor, int64_t now_ns) {
    pthread_mutex_lock(&executor->lock);
    executor_state state = executor->state;
    pthread_mutex_unlock(&executor->lock);
    /* If we did not run (a frozen container), neither did they: count from now. */
    if (now_ns - executor->tick_ns > 5 * TICK_MS * INT64_C(1000000))
        executor->resumed_ns = now_ns;
    executor->tick_ns = now_ns;
    if (executor->has_suspect && now_ns >= executor->suspect_until_ns)
        executor_fail(executor, &executor->suspect);
    if (state <= EXECUTOR_READY && cohort_executor_failure(executor, NULL) >= 0) {
        if (state < EXECUTOR_READY) check_phase(executor, state, now_ns);
        if (state == EXECUTOR_LOAD || state == EXECUTOR_READY) report_progress(executor);
        check_hang(executor, now_ns);
    }
    tell_failure(executor);
    if (state == EXECUTOR_STOPPING) stop_step(executor, now_ns);
}

int executor_tick_ms(const cohort_executor *executor, executor_state state) {
    if (state == EXECUTOR_STOPPING) return STOPPING_TICK_MS;
    if (!executor->has_suspect) return TICK_MS;
    return TICK_MS / 10;
}
