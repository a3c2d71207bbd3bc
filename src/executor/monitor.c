/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/log.h"
#include "base/thread.h"
#include "cohort/clock.h"
#include "executor/executor_internal.h"
#include "executor/failure.h"
#include "executor/frames.h"
#include "executor/stacks.h"
#include "executor/views.h"

/* Design notes.
 *
 * One thread from the first rank to the last: it places the ranks (so PR_SET_PDEATHSIG,
 * which watches the spawning thread, watches the executor), and turns what it hears of
 * them into events of the judge (judge.c), which decides.  It sleeps in epoll, with a
 * timeout for
 * what only the clock can tell, and what else may hold it up is bounded: a frame to a
 * rank whose buffer is full (SEND_TIMEOUT_MS of frames.c for each), and on Ray the reason
 * of the first death (REASON_MS of ray/ray.c) and an order to a sidecar that does not
 * read (its SEND_TIMEOUT_MS, 5 s).
 *
 * An error of the monitor itself (epoll, a control link) fails the executor or is logged;
 * it never ends the loop (vLLM's returns, and nobody watches any more, R19). */

enum {
    MAX_EVENTS = 32,
};

/* How long a rank's death may take to explain why the driver's ends were not made. */
static const int64_t UNLINKED_NS = INT64_C(10000000000);

#define WAKE_EVENT   UINT64_MAX
#define CANCEL_EVENT (UINT64_MAX - 1)

/* ---- evidence ----------------------------------------------------------------- */

/* "during connect" while starting, "during execute (call 17)" later. */
static void describe_moment(cohort_executor *executor, int32_t rank, char *out_text,
                            size_t size) {
    cohort_counters_row *row = executor->ranks[rank].row;
    executor_state state = executor->judge.state;
    uint32_t phase = atomic_load_explicit(&row->phase, memory_order_acquire);
    unsigned long long call = atomic_load_explicit(&row->call, memory_order_relaxed);
    if (state < EXECUTOR_READY)
        snprintf(out_text, size, "during %s", executor_state_name(state));
    else if (phase == COHORT_RANK_IDLE || !call)
        snprintf(out_text, size, "while idle (last call %llu)", call);
    else
        snprintf(out_text, size, "during %s (call %llu)", cohort_rank_phase_name(phase),
                 call);
}

/* " at +0x12ab +0x34cd"; "" where nothing was left. */
static void describe_crash(const cohort_counters_row *row, char *out_text, size_t size) {
    enum { SHOWN = 3 };
    char frames[64];
    executor_describe_frames(row->crash_frames, SHOWN, frames, sizeof frames);
    snprintf(out_text, size, "%s%s", *frames ? " at " : "", frames);
}

/* Returns whether it ended badly; how is the thread's last error. */
static bool describe_ending(cohort_executor *executor, int32_t rank,
                            const cohort_launch_ending *ending, bool is_oom) {
    char moment[80];
    describe_moment(executor, rank, moment, sizeof moment);
    cohort_counters_row *row = executor->ranks[rank].row;
    int32_t crash = atomic_load_explicit(&row->crash_signal, memory_order_acquire);
    int32_t signal_number = ending->signal ? ending->signal : crash;
    /* Of a process that others reap this is all there is to know. */
    uint32_t exited = atomic_load_explicit(&row->exited, memory_order_acquire);
    int32_t exit_status = exited && !ending->is_known ? (int32_t)exited - 1 : -1;
    if (ending->is_known && !ending->signal) exit_status = ending->status;
    const char *who = executor->judge.ranks[rank].who;
    char where[80] = "";
    if (crash) describe_crash(row, where, sizeof where);
    if (signal_number)
        COHORT_FAIL(COHORT_E_PEER_DIED,
                    "rank %d (%s) was killed by signal %d (%s)%s%s %s", rank, who,
                    signal_number, sigdescr_np(signal_number), where,
                    is_oom ? " as memory ran out," : "", moment);
    else if (exit_status >= 0)
        COHORT_FAIL(COHORT_E_PEER_DIED, "rank %d (%s) exited with status %d %s", rank,
                    who, exit_status, moment);
    else
        COHORT_FAIL(COHORT_E_PEER_DIED, "rank %d (%s) %s %s", rank, who,
                    ending->text[0] ? ending->text : "ended", moment);
    return crash || ending->signal || exit_status > 0;
}

/* An error that a rank reported, with who and what in front. */
static void on_report(cohort_executor *executor, int32_t rank, const cohort_frame *frame,
                      const cohort_error *reported) {
    char call[40] = "";
    if (frame->call)
        snprintf(call, sizeof call, " (call %llu)", (unsigned long long)frame->call);
    cohort_error error = *reported;
    int used = snprintf(error.message, sizeof error.message, "rank %d, %s%s: ", rank,
                        frame->method, call);
    snprintf(error.message + used, sizeof error.message - (size_t)used, "%s",
             reported->message);
    if (error.rank < 0 || error.rank >= executor->world_size) error.rank = rank;
    executor_judge(executor, (judge_event){.kind = JUDGE_REPORTED,
                                           .rank = rank,
                                           .now_ns = cohort_clock_ns(),
                                           .error = &error});
}

/* ---- events of one rank ------------------------------------------------------- */

static void unwatch_link(cohort_executor *executor, int32_t rank) {
    if (!executor->ranks[rank].has_link) return;
    epoll_ctl(executor->epoll_fd, EPOLL_CTL_DEL,
              cohort_link_fd(executor->ranks[rank].control), NULL);
    executor->ranks[rank].has_link = false;
}

static void on_reached(cohort_executor *executor, int32_t rank, executor_state reached) {
    executor_judge(executor, (judge_event){.kind = JUDGE_REACHED,
                                           .rank = rank,
                                           .now_ns = cohort_clock_ns(),
                                           .reached = reached});
}

static cohort_status on_hello(cohort_executor *executor, int32_t rank,
                              const cohort_frame *frame) {
    cohort_frame_hello hello;
    COHORT_TRY(cohort_frame_read_hello(frame, &hello));
    if (strcmp(hello.build_id, cohort_build_id()) != 0)
        return COHORT_FAIL(COHORT_E_PROTOCOL,
                           "rank %d (pid %d) is of build %.12s, the driver of %.12s: run "
                           "worker and library of one build",
                           rank, hello.pid, hello.build_id, cohort_build_id());
    on_reached(executor, rank, EXECUTOR_CONFIGURE);
    return COHORT_OK;
}

static cohort_status on_keep(cohort_executor *executor, int32_t rank,
                             const cohort_frame *frame) {
    executor_rank *self = &executor->ranks[rank];
    cohort_status status =
        executor_keep_take(&self->kept, frame, cohort_link_inbox_take_fd(&self->inbox));
    if (executor->judge.is_failed) executor_keep_close(&self->kept); /* no use any more */
    return status;
}

cohort_status executor_on_frame(cohort_executor *executor, int32_t rank,
                                const cohort_frame *frame) {
    executor_rank *self = &executor->ranks[rank];
    cohort_error error;
    cohort_frame_row sent;
    cohort_frame_publish publish;
    if (frame->kind == COHORT_FRAME_KEEP) /* of whichever epoch: it is the same memory */
        return on_keep(executor, rank, frame);
    /* What a rank said before it heard of the next epoch. */
    if (frame->epoch > 0 && frame->epoch < executor->epoch && executor->judge.n_epochs)
        return COHORT_OK;
    if (frame->kind != COHORT_FRAME_HELLO && frame->kind != COHORT_FRAME_ERROR &&
        frame->epoch != executor->epoch)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "rank %d sent a %s frame of epoch %llu",
                           rank, cohort_frame_kind_name(frame->kind),
                           (unsigned long long)frame->epoch);
    switch (frame->kind) {
    case COHORT_FRAME_HELLO: return on_hello(executor, rank, frame);
    case COHORT_FRAME_PUBLISH:
        COHORT_TRY(cohort_frame_read_publish(frame, &publish));
        pthread_mutex_lock(&executor->lock);
        self->publish = publish;
        pthread_mutex_unlock(&executor->lock);
        on_reached(executor, rank, EXECUTOR_CONNECT);
        return COHORT_OK;
    case COHORT_FRAME_CONNECTED:
        on_reached(executor, rank, EXECUTOR_LOAD);
        return COHORT_OK;
    case COHORT_FRAME_READY:
        COHORT_TRY(executor_keep_choice(&self->kept, frame));
        on_reached(executor, rank, EXECUTOR_READY);
        return COHORT_OK;
    case COHORT_FRAME_BYE: return COHORT_OK;
    case COHORT_FRAME_ROW:
        COHORT_TRY(cohort_frame_read_row(frame, &sent));
        cohort_counters_row_take(self->row, &sent.row, sent.sent_ns, cohort_clock_ns());
        return COHORT_OK;
    case COHORT_FRAME_ERROR:
        COHORT_TRY(cohort_frame_read_error(frame, &error));
        on_report(executor, rank, frame, &error);
        return COHORT_OK;
    case COHORT_FRAME_REFUSED:
        COHORT_TRY(cohort_frame_read_error(frame, &error));
        if (!executor_refuse(executor, frame->call, &error))
            cohort_log(COHORT_LOG_WARNING, "executor", rank,
                       "event=refused_unheard method=%s call=%llu text=\"%s\"",
                       frame->method, (unsigned long long)frame->call, error.message);
        return COHORT_OK;
    default:
        return COHORT_FAIL(COHORT_E_PROTOCOL, "rank %d sent a %s frame", rank,
                           cohort_frame_kind_name(frame->kind));
    }
}

/* Everything that lies unread on the link; false at its end. */
static bool read_link(cohort_executor *executor, int32_t rank) {
    executor_rank *self = &executor->ranks[rank];
    for (;;) {
        const void *bytes = NULL;
        size_t size_bytes = 0;
        cohort_frame frame;
        cohort_status status =
            cohort_link_take_frame(self->control, &self->inbox, &bytes, &size_bytes);
        if (status == COHORT_PENDING) return true;
        if (status == COHORT_E_PEER_DIED) return false;
        if (status >= 0) status = cohort_frame_decode(bytes, size_bytes, &frame);
        if (status >= 0) status = executor_on_frame(executor, rank, &frame);
        if (status < 0) {
            cohort_fail_while(status, "hearing rank %d (%s)", rank,
                              executor->judge.ranks[rank].who);
            executor_judge_last(executor, JUDGE_BROKEN, rank);
            return false;
        }
    }
}

/* Of a link that has ended: did its process close it and go on?  One that dies closes its
 * files before its pidfd is readable, but with PF_EXITING among its flags in /proc.  Of
 * threads, and of processes elsewhere, nobody can say. */
static bool lives_on(const cohort_launch *launch) {
    enum { PF_EXITING_BIT = 0x4 };
    char path[40], text[512] = "";
    unsigned flags = 0;
    if (!launch->is_process) return false;
    snprintf(path, sizeof path, "/proc/%d/stat", launch->pid);
    FILE *file = fopen(path, "re");
    if (!file) return false;
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    const char *rest = strrchr(text, ')'); /* the name may hold anything */
    /* No flags at all are those of a kernel that does not tell. */
    return rest && sscanf(rest + 1, " %*c %*d %*d %*d %*d %*d %u", &flags) == 1 &&
           flags && !(flags & PF_EXITING_BIT);
}

static void on_link(cohort_executor *executor, int32_t rank) {
    executor_rank *self = &executor->ranks[rank];
    if (!self->has_link || read_link(executor, rank)) return;
    unwatch_link(executor, rank);
    char moment[80];
    bool is_living = lives_on(&self->launch);
    describe_moment(executor, rank, moment, sizeof moment);
    COHORT_FAIL(COHORT_E_PEER_DIED, "rank %d (%s) %s %s", rank,
                executor->judge.ranks[rank].who,
                is_living ? "lives, but its control link broke"
                          : "vanished (its control link ended)",
                moment);
    cohort_error error = *cohort_last_error();
    error.rank = rank;
    executor_judge(executor, (judge_event){.kind = JUDGE_UNLINKED,
                                           .rank = rank,
                                           .now_ns = cohort_clock_ns(),
                                           .is_living = is_living,
                                           .error = &error});
}

/* What a process does to itself, whatever the cause; others send SIGKILL or SIGTERM. */
static bool is_fault(int32_t signal) {
    return signal == SIGSEGV || signal == SIGBUS || signal == SIGILL ||
           signal == SIGFPE || signal == SIGABRT;
}

void executor_on_ended(cohort_executor *executor, int32_t rank) {
    executor_rank *self = &executor->ranks[rank];
    cohort_launch_ending ending;
    if (executor->judge.ranks[rank].has_ended) return;
    if (self->has_link) read_link(executor, rank); /* its last words come first */
    unwatch_link(executor, rank);
    epoll_ctl(executor->epoll_fd, EPOLL_CTL_DEL, self->launch.exit_fd, NULL);
    executor->launcher->reap(&self->launch, &ending);
    cohort_log(COHORT_LOG_INFO, "executor", rank,
               "event=rank_ended pid=%d signal=%d status=%d", self->launch.pid,
               ending.signal, ending.status);
    int32_t crash = atomic_load_explicit(&self->row->crash_signal, memory_order_acquire);
    bool is_killed = crash || ending.signal;
    bool has_reported = is_killed ? executor->judge.ranks[rank].has_reported
                                  : judge_has_reported(&executor->judge, rank);
    bool is_oom = ending.signal == SIGKILL && self->launch.is_process &&
                  !executor->judge.ranks[rank].is_doomed &&
                  executor_oom_has_killed(&executor->oom, cohort_clock_ns());
    executor_keep_only(&self->kept, executor_keep_trusted(
                                        executor->options.kept_kv,
                                        executor_death_of(crash ? crash : ending.signal,
                                                          has_reported, is_oom)));
    bool is_crash = describe_ending(executor, rank, &ending, is_oom);
    cohort_error error = *cohort_last_error();
    error.rank = rank;
    executor_judge(executor,
                   (judge_event){.kind = JUDGE_ENDED,
                                 .rank = rank,
                                 .now_ns = cohort_clock_ns(),
                                 .is_crash = is_crash,
                                 .is_killed = is_killed,
                                 .is_fault = is_fault(crash ? crash : ending.signal),
                                 .error = &error});
    atomic_store_explicit(&self->row->phase, COHORT_RANK_DEAD, memory_order_release);
}

/* ---- phases ------------------------------------------------------------------- */

static cohort_status watch(cohort_executor *executor, int fd, uint64_t data) {
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = data};
    if (epoll_ctl(executor->epoll_fd, EPOLL_CTL_ADD, fd, &event))
        return COHORT_FAIL_SYS(errno, "epoll_ctl");
    return COHORT_OK;
}

/* A process whose end nobody would hear of: it never was. */
static cohort_status take_back(cohort_executor *executor, cohort_launch *launch) {
    cohort_error error = *cohort_last_error();
    cohort_launch_ending ending;
    close(launch->control_fd);
    executor->launcher->signal(launch, SIGKILL);
    executor->launcher->reap(launch, &ending);
    return cohort_fail_adopt(&error);
}

static cohort_status place_rank(cohort_executor *executor, int32_t rank) {
    executor_rank *self = &executor->ranks[rank];
    cohort_launch launch = {.world = executor->world};
    cohort_status status = executor->launcher->start(&executor->options, rank, &launch);
    COHORT_TRY(status);
    self->coming_fd = -1;
    if (status == COHORT_PENDING) {
        COHORT_TRY(watch(executor, launch.exit_fd, (uint64_t)rank * 2 + 1));
        self->coming_fd = launch.exit_fd;
        return COHORT_OK;
    }
    if (watch(executor, launch.exit_fd, (uint64_t)rank * 2 + 1) < 0)
        return take_back(executor, &launch);
    pthread_mutex_lock(&executor->lock);
    self->launch = launch;
    pthread_mutex_unlock(&executor->lock);
    char who[JUDGE_WHO_BYTES];
    executor_describe_rank(&self->launch, who, sizeof who);
    executor_judge(executor, (judge_event){.kind = JUDGE_STARTED,
                                           .rank = rank,
                                           .now_ns = cohort_clock_ns(),
                                           .who = who});
    cohort_counters_row_set_address(self->row, self->launch.address);
    atomic_store_explicit(&self->row->pid, self->launch.pid, memory_order_release);
    status = cohort_link_adopt(self->launch.control_fd, &self->control);
    if (status < 0) close(self->launch.control_fd);
    COHORT_TRY(status);
    COHORT_TRY(watch(executor, cohort_link_fd(self->control), (uint64_t)rank * 2));
    self->has_link = true;
    cohort_log(COHORT_LOG_INFO, "executor", rank, "event=rank_started backend=%s pid=%d",
               executor->launcher->name, self->launch.pid);
    return COHORT_OK;
}

/* What a rank tells of itself, and what is kept of its link, is a new life's. */
static void forget_life(cohort_executor *executor, int32_t rank) {
    executor_rank *self = &executor->ranks[rank];
    cohort_counters_row *row = self->row;
    cohort_link_close(self->control);
    self->control = NULL;
    cohort_link_inbox_clear(&self->inbox);
    memset(&self->inbox, 0, sizeof self->inbox);
    self->reported_done = 0;
    atomic_store_explicit(&row->heartbeat_ns, 0, memory_order_relaxed);
    atomic_store_explicit(&row->waits_for, COHORT_RANK_LOCAL, memory_order_relaxed);
    atomic_store_explicit(&row->done, 0, memory_order_relaxed);
    atomic_store_explicit(&row->total, 0, memory_order_relaxed);
    atomic_store_explicit(&row->exited, 0, memory_order_relaxed);
    atomic_store_explicit(&row->crash_signal, 0, memory_order_relaxed);
    memset(row->crash_frames, 0, sizeof row->crash_frames);
    atomic_store_explicit(&row->phase, COHORT_RANK_START, memory_order_release);
}

void executor_place_rank(cohort_executor *executor, int32_t rank) {
    forget_life(executor, rank);
    if (place_rank(executor, rank) >= 0) return;
    cohort_fail_while(COHORT_E_IO, "placing rank %d again", rank);
    executor_was_untold(executor, rank);
}

void executor_on_come(cohort_executor *executor, int32_t rank) {
    executor_rank *self = &executor->ranks[rank];
    epoll_ctl(executor->epoll_fd, EPOLL_CTL_DEL, self->coming_fd, NULL);
    self->coming_fd = -1;
    /* Too late: nobody would ask it to stop.  It ends with the world. */
    if (executor->judge.is_failed || executor->judge.state >= EXECUTOR_STOPPING) return;
    if (place_rank(executor, rank) >= 0) return;
    cohort_fail_while(COHORT_E_IO, "placing rank %d again", rank);
    executor_judge_last(executor, JUDGE_BROKEN, rank);
}

/* The only phase in which the monitor waits for others: there is no rank to watch yet. */
static cohort_status open_world(cohort_executor *executor) {
    cohort_placing placing = {
        .options = &executor->options,
        .instance = cohort_counters_header_of(executor->counters)->instance,
        .epoch = executor->epoch,
        .cancel_fd = executor->options.cancel_fd > 0 ? executor->options.cancel_fd : -1};
    if (executor->launcher->open)
        COHORT_TRY(executor->launcher->open(&placing, &executor->world, &executor->host));
    return executor->carrier->open(executor, executor->host);
}

static void place_all(cohort_executor *executor) {
    if (open_world(executor) < 0) {
        executor_fail_last(executor, COHORT_RANK_LOCAL);
        return;
    }
    executor->judge.opened_ns = cohort_clock_ns();
    for (int32_t rank = 0; rank < executor->world_size; rank++) {
        if (place_rank(executor, rank) >= 0) continue;
        cohort_fail_while(COHORT_E_IO, "placing rank %d", rank);
        executor_fail_last(executor, rank);
        return;
    }
}

static void stamp_phase(cohort_executor *executor, executor_state left, int64_t now_ns) {
    int64_t spent_ns = now_ns - executor->phase_ns;
    executor->phase_ns = now_ns;
    cohort_log(COHORT_LOG_INFO, "executor", COHORT_RANK_LOCAL,
               "event=phase_done phase=%s us=%lld", executor_state_name(left),
               (long long)(spent_ns / 1000));
    if (executor->judge.n_epochs) return; /* they are the start's */
    if (left == EXECUTOR_PLACE) executor->phases.place_ns = spent_ns;
    if (left == EXECUTOR_CONFIGURE) executor->phases.configure_ns = spent_ns;
    if (left == EXECUTOR_CONNECT) executor->phases.connect_ns = spent_ns;
    if (left == EXECUTOR_LOAD) executor->phases.load_ns = spent_ns;
    executor->phases.total_ns = now_ns - executor->started_ns;
}

static uint8_t *control_buffer(void) {
    uint8_t *buffer = malloc(COHORT_FRAME_HEADER_BYTES + COHORT_CONTROL_MAX_BYTES);
    if (!buffer) COHORT_FAIL(COHORT_E_NOMEM, "allocating a frame");
    return buffer;
}

/* What became of telling a rank to enter a phase. */
static cohort_status check_told(cohort_executor *executor, int32_t rank,
                                executor_state state, cohort_status status) {
    /* Who cannot be told is dying, and its death says more. */
    if (status >= 0 || status == COHORT_E_PEER_DIED) return COHORT_OK;
    cohort_fail_while(status, "telling rank %d to %s", rank, executor_state_name(state));
    executor_was_untold(executor, rank);
    return status;
}

void executor_configure_rank(cohort_executor *executor, int32_t rank) {
    uint8_t *buffer = control_buffer();
    cohort_status status =
        buffer ? executor_send_configure(executor, rank, buffer) : COHORT_E_NOMEM;
    check_told(executor, rank, EXECUTOR_CONFIGURE, status);
    free(buffer);
}

static cohort_status tell_all(cohort_executor *executor, executor_state state) {
    if (state != EXECUTOR_CONNECT && state != EXECUTOR_LOAD) return COHORT_OK;
    uint8_t *buffer = control_buffer();
    cohort_status status = buffer ? COHORT_OK : COHORT_E_NOMEM;
    if (!buffer) check_told(executor, 0, state, status);
    for (int32_t rank = 0; status >= 0 && rank < executor->world_size; rank++) {
        status = state == EXECUTOR_CONNECT ? executor_send_table(executor, rank, buffer)
                                           : executor_send_load(executor, rank, buffer);
        status = check_told(executor, rank, state, status);
    }
    free(buffer);
    return status;
}

static void log_recovery(const cohort_executor *executor) {
    const cohort_executor_recovery *recovery = &executor->recovery;
    cohort_log(COHORT_LOG_WARNING, "executor", recovery->rank,
               "event=recovered epoch=%llu deaths=%llu kv_kept=%d us=%lld",
               (unsigned long long)recovery->epoch,
               (unsigned long long)recovery->n_deaths, recovery->kv_kept,
               (long long)(recovery->took_ns / 1000));
}

/* Start returns: from now on the number may be any other file's. */
static void forget_cancel(cohort_executor *executor) {
    if (executor->options.cancel_fd > 0)
        epoll_ctl(executor->epoll_fd, EPOLL_CTL_DEL, executor->options.cancel_fd, NULL);
    executor->options.cancel_fd = -1;
}

void executor_enter_phase(cohort_executor *executor, executor_state state,
                          int64_t now_ns) {
    executor_state before = (executor_state)(state - 1);
    stamp_phase(executor, before, now_ns);
    if (tell_all(executor, state) < 0) return;
    if (state == EXECUTOR_READY) forget_cancel(executor);
    pthread_mutex_lock(&executor->lock);
    if (state == EXECUTOR_READY) executor_end_recovery(executor, now_ns);
    if (executor->state == before) executor_set_state(executor, state);
    pthread_mutex_unlock(&executor->lock);
    if (!executor->judge.n_epochs) return;
    if (state == EXECUTOR_READY) log_recovery(executor);
    if (state != EXECUTOR_CONNECT) return;
    if (executor_start_linking(executor) < 0)
        executor_fail_last(executor, COHORT_RANK_LOCAL);
}

/* ---- the loop ----------------------------------------------------------------- */

/* It stays readable, so it is watched no longer. */
static void on_cancel(cohort_executor *executor) {
    executor_state state = executor->judge.state;
    epoll_ctl(executor->epoll_fd, EPOLL_CTL_DEL, executor->options.cancel_fd, NULL);
    if (state >= EXECUTOR_READY) return;
    COHORT_FAIL(COHORT_E_CANCELLED, "told to stop during %s", executor_state_name(state));
    executor_fail_last(executor, COHORT_RANK_LOCAL);
}

static void on_event(cohort_executor *executor, uint64_t data) {
    if (data == CANCEL_EVENT) {
        on_cancel(executor);
    } else if (data == WAKE_EVENT) {
        uint64_t count;
        ssize_t ignored = read(executor->wake_fd, &count, sizeof count);
        (void)ignored;
    } else if (data % 2) {
        int32_t rank = (int32_t)(data / 2);
        if (executor->ranks[rank].coming_fd >= 0)
            executor_on_come(executor, rank);
        else
            executor_on_ended(executor, rank);
    } else {
        on_link(executor, (int32_t)(data / 2));
    }
}

/* What other threads have done, or do no more. */
static void tell_of_queues(cohort_executor *executor) {
    if (!executor->judge.is_drained && executor_drain(executor)) {
        if (executor->carrier->open(executor, executor->host) < 0)
            executor_fail_last(executor, COHORT_RANK_LOCAL);
        executor_judge(executor,
                       (judge_event){.kind = JUDGE_DRAINED, .rank = COHORT_RANK_LOCAL});
    }
    pthread_mutex_lock(&executor->lock);
    bool is_linked = executor->is_linked;
    bool is_late = executor->state == EXECUTOR_CONNECT && executor->unlinked_ns &&
                   cohort_clock_ns() - executor->unlinked_ns > UNLINKED_NS;
    cohort_error error = executor->link_error;
    pthread_mutex_unlock(&executor->lock);
    if (is_late) executor_fail(executor, &error);
    if (is_linked && !executor->judge.is_linked)
        executor_judge(executor,
                       (judge_event){.kind = JUDGE_LINKED, .rank = COHORT_RANK_LOCAL});
}

static void *monitor_main(void *argument) {
    cohort_executor *executor = argument;
    struct epoll_event events[MAX_EVENTS];
    executor->phase_ns = cohort_clock_ns();
    place_all(executor);
    executor->judge.tick_ns = cohort_clock_ns();
    while (executor->judge.state < EXECUTOR_CLOSED) {
        int n = epoll_wait(executor->epoll_fd, events, MAX_EVENTS,
                           judge_tick_ms(&executor->judge));
        for (int i = 0; i < n; i++)
            on_event(executor, events[i].data.u64);
        tell_of_queues(executor);
        executor_oom_look(&executor->oom, cohort_clock_ns());
        executor_on_clock(executor, cohort_clock_ns());
    }
    return NULL;
}

cohort_status executor_monitor_start(cohort_executor *executor) {
    executor_oom_open(&executor->oom, "");
    if (executor->oom.kills_all)
        cohort_log(
            COHORT_LOG_INFO, "executor", COHORT_RANK_LOCAL,
            "event=oom_kills_all text=\"memory.oom.group is set: where memory runs "
            "out the kernel kills the driver with the rank\"");
    executor->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (executor->epoll_fd < 0) return COHORT_FAIL_SYS(errno, "epoll_create1");
    COHORT_TRY(watch(executor, executor->wake_fd, WAKE_EVENT));
    if (executor->options.cancel_fd > 0)
        COHORT_TRY(watch(executor, executor->options.cancel_fd, CANCEL_EVENT));
    COHORT_TRY(cohort_thread_start("cohort-monitor", monitor_main, executor,
                                   &executor->monitor));
    executor->has_monitor = true;
    return COHORT_OK;
}
