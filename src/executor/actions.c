/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <stdlib.h>

#include "base/fail.h"
#include "base/log.h"
#include "cohort/clock.h"
#include "executor/executor_internal.h"
#include "executor/failure.h"
#include "executor/frames.h"
#include "executor/stacks.h"
#include "executor/views.h"

/* Design notes.
 *
 * The judge decides, here it is done.  What other threads have brought about, a failure
 * or a shutdown, is told to it under the lock under which its own verdict becomes the
 * failure: so there is one of either, and both know which.  Actions that fail are events
 * again. */

/* With lock held. */
static void tell_what_others_did(cohort_executor *executor, int64_t now_ns) {
    cohort_judge *judge = &executor->judge;
    judge_event event = {.kind = JUDGE_FAILED,
                         .n_completed = executor->n_completed,
                         .n_explained = executor->n_explained,
                         .rank = COHORT_RANK_LOCAL,
                         .now_ns = now_ns,
                         .error = &executor->failure};
    if (executor->is_failed && !judge->is_failed) judge_step(judge, &event);
    event.kind = JUDGE_STOP;
    if (executor->state == EXECUTOR_STOPPING && judge->state < EXECUTOR_STOPPING)
        judge_step(judge, &event);
}

/* The failure, once it is known, is everybody's: poison for the ranks, the callback. */
static void tell_failure(cohort_executor *executor) {
    pthread_mutex_lock(&executor->lock);
    cohort_error error = executor->failure;
    cohort_failure_callback callback = executor->is_told ? NULL : executor->callback;
    void *user_data = executor->callback_data;
    if (callback) executor->is_told = true;
    pthread_mutex_unlock(&executor->lock);
    for (int32_t rank = 0; rank < executor->world_size; rank++)
        executor_send_small(executor, rank, COHORT_FRAME_POISON, &error);
    if (callback) callback(user_data, &error);
}

/* No rank is started again: nobody takes what the dead have left. */
static void drop_kept(cohort_executor *executor) {
    for (int32_t rank = 0; rank < executor->world_size; rank++)
        executor_keep_close(&executor->ranks[rank].kept);
}

static void signal_rank(cohort_executor *executor, const judge_action *action) {
    cohort_launch *launch = &executor->ranks[action->rank].launch;
    /* Of a failed executor it is what was to be expected. */
    cohort_log(executor->judge.is_failed ? COHORT_LOG_INFO : COHORT_LOG_WARNING,
               "executor", action->rank, "event=rank_lingers pid=%d signal=%d",
               launch->pid, action->signal);
    executor->launcher->signal(launch, action->signal);
}

static void give_up_rank(cohort_executor *executor, int32_t rank) {
    cohort_launch *launch = &executor->ranks[rank].launch;
    if (executor->launcher->give_up)
        executor->launcher->give_up(launch);
    else
        executor->launcher->signal(launch, SIGKILL);
}

/* Gets what is left of the limit; without one, as long as anything sensible takes. */
static void close_world(cohort_executor *executor) {
    enum { UNLIMITED_MS = 60000 };
    int64_t limit_ns = executor->options.shutdown_timeout_ns;
    int64_t deadline_ns = limit_ns > 0 ? executor->judge.stop_ns + limit_ns
                                       : cohort_deadline_ms(UNLIMITED_MS);
    if (executor->world) executor->launcher->close(executor->world, deadline_ns);
    executor->world = NULL;
}

static void close_executor(cohort_executor *executor) {
    const cohort_judge *judge = &executor->judge;
    close_world(executor);
    executor_end_linking(executor);
    drop_kept(executor);
    cohort_counters_unlink(executor->counters);
    pthread_mutex_lock(&executor->lock);
    bool is_failure = executor->is_failed && judge->stayed_rank < 0;
    executor->shutdown_error = is_failure ? executor->failure : judge->late;
    executor->shutdown_status = (cohort_status)executor->shutdown_error.code;
    executor_set_state(executor, EXECUTOR_CLOSED);
    pthread_mutex_unlock(&executor->lock);
}

static void log_interruption(const cohort_executor *executor) {
    const cohort_error *cause = &executor->judge.cause;
    cohort_log(COHORT_LOG_WARNING, "executor", cause->rank,
               "event=rank_replaced epoch=%llu code=%s text=\"%s\"",
               (unsigned long long)executor->epoch,
               cohort_status_name((cohort_status)cause->code), cause->message);
}

/* A process of ours, before it is killed for it. */
static void examine(cohort_executor *executor, int32_t rank) {
    const cohort_launch *launch = &executor->ranks[rank].launch;
    executor->has_examined = true;
    executor->examined_rank = rank;
    executor->examined[0] = '\0';
    if (!launch->is_process) return;
    executor_write_stacks(launch->pid, rank, executor->ranks[rank].row,
                          judge_restarts(&executor->judge) ? COHORT_LOG_WARNING
                                                           : COHORT_LOG_ERROR,
                          executor->examined, sizeof executor->examined);
}

static void tell_examined(cohort_executor *executor, int64_t now_ns) {
    if (!executor->has_examined) return;
    executor->has_examined = false;
    executor_judge(executor, (judge_event){.kind = JUDGE_EXAMINED,
                                           .rank = executor->examined_rank,
                                           .now_ns = now_ns,
                                           .who = executor->examined});
}

static void carry_out(cohort_executor *executor, const judge_action *action,
                      int64_t now_ns) {
    static const cohort_error shutdown_error = {.code = COHORT_E_CLOSED,
                                                .rank = COHORT_RANK_LOCAL,
                                                .message = "the driver shuts down"};
    switch (action->kind) {
    case JUDGE_DO_ENTER: executor_enter_phase(executor, action->state, now_ns); break;
    case JUDGE_DO_CONFIGURE: executor_configure_rank(executor, action->rank); break;
    case JUDGE_DO_INTERRUPT: log_interruption(executor); break;
    case JUDGE_DO_REJOIN:
        executor_send_small(executor, action->rank, COHORT_FRAME_REJOIN, NULL);
        break;
    case JUDGE_DO_EXAMINE: examine(executor, action->rank); break;
    case JUDGE_DO_KILL: give_up_rank(executor, action->rank); break;
    case JUDGE_DO_START: executor_place_rank(executor, action->rank); break;
    case JUDGE_DO_FAIL: executor_log_failure(&executor->judge.verdict); break;
    case JUDGE_DO_TELL:
        drop_kept(executor);
        tell_failure(executor);
        break;
    case JUDGE_DO_ASK:
        executor_send_small(executor, action->rank, COHORT_FRAME_STOP, NULL);
        break;
    case JUDGE_DO_POISON:
        executor_send_small(executor, action->rank, COHORT_FRAME_POISON, &shutdown_error);
        break;
    case JUDGE_DO_SIGNAL: signal_rank(executor, action); break;
    case JUDGE_DO_CLOSE: close_executor(executor); break;
    }
}

void executor_judge(cohort_executor *executor, judge_event event) {
    cohort_judge *judge = &executor->judge;
    pthread_mutex_lock(&executor->lock);
    event.n_completed = executor->n_completed;
    event.n_explained = executor->n_explained;
    tell_what_others_did(executor, event.now_ns);
    judge_step(judge, &event);
    for (size_t i = 0; i < judge->n_actions; i++) {
        if (judge->actions[i].kind == JUDGE_DO_FAIL)
            executor_set_failure(executor, &judge->verdict);
        else if (judge->actions[i].kind == JUDGE_DO_INTERRUPT)
            executor_interrupt(executor, &judge->cause, event.now_ns);
    }
    pthread_mutex_unlock(&executor->lock);
    /* A rank that is started in the middle of it is a fact that nothing follows from. */
    if (executor->is_carrying_out) return;
    executor->is_carrying_out = true;
    for (size_t i = 0, n = judge->n_actions; i < n; i++)
        carry_out(executor, &judge->actions[i], event.now_ns);
    executor->is_carrying_out = false;
    tell_examined(executor, event.now_ns);
    for (int32_t rank = 0; rank < executor->world_size; rank++) {
        if (!executor->ranks[rank].is_untold) continue;
        executor->ranks[rank].is_untold = false;
        cohort_fail_adopt(&executor->untold);
        executor_judge_last(executor, JUDGE_BROKEN, rank);
    }
}

void executor_was_untold(cohort_executor *executor, int32_t rank) {
    executor->untold = *cohort_last_error();
    executor->untold.rank = COHORT_RANK_LOCAL;
    executor->ranks[rank].is_untold = true;
}

void executor_judge_last(cohort_executor *executor, judge_event_kind kind, int32_t rank) {
    cohort_error error = *cohort_last_error();
    if (error.rank == COHORT_RANK_LOCAL) error.rank = rank;
    executor_judge(executor, (judge_event){.kind = kind,
                                           .rank = rank,
                                           .now_ns = cohort_clock_ns(),
                                           .error = &error});
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

void executor_on_clock(cohort_executor *executor, int64_t now_ns) {
    judge_event event = {.kind = JUDGE_TICK, .rank = COHORT_RANK_LOCAL, .now_ns = now_ns};
    const cohort_judge *judge = &executor->judge;
    pthread_mutex_lock(&executor->lock);
    for (cohort_future *future = executor->head; future; future = future->next)
        if (future->is_step && future->next_rank == future->first_rank) {
            event.pending_call = future->call;
            event.pending_ns = future->sent_ns;
            break;
        }
    pthread_mutex_unlock(&executor->lock);
    executor_fill_views(executor, judge->views);
    if (!judge->is_failed &&
        (judge->state == EXECUTOR_LOAD || judge->state == EXECUTOR_READY))
        report_progress(executor);
    executor_judge(executor, event);
}
