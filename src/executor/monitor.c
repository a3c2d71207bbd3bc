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

/* Design notes.
 *
 * One thread from the first rank to the last: it places the ranks (so PR_SET_PDEATHSIG,
 * which watches the spawning thread, watches the executor), takes them from phase to
 * phase, notices deaths and hangs, and ends them.  It sleeps in epoll, with a timeout for
 * what only the clock can tell, and what else may hold it up is bounded: a frame to a
 * rank whose buffer is full (SEND_TIMEOUT_MS for each), and on Ray the reason of
 * the first death (REASON_MS in ray.c) and an order to a sidecar that does not read (its
 * SEND_TIMEOUT_MS, 5 s).
 *
 * Cause and consequence arrive in any order: a killed process closes its sockets before
 * its pidfd is readable, so its peers' "rank 1 is gone" may come first.  Such an error is
 * a suspect for a moment; a death in that time is the verdict instead.  So is the end of
 * its own link, unless the process is not exiting: that is told at once.  The other way
 * round, a rank that reports an error and exits has the report read before the exit.
 *
 * An error of the monitor itself (epoll, a control link) fails the executor or is logged;
 * it never ends the loop (vLLM's returns, and nobody watches any more, R19). */

enum {
    TICK_MS = 100,
    SUSPICION_MS = 300,
    SEND_TIMEOUT_MS = 1000,
    MAX_EVENTS = 32,
    /* How long ranks of a failed executor get to leave by themselves. */
    FAILED_TERM_MS = 50,
    FAILED_KILL_MS = 150,
};

#define WAKE_EVENT   UINT64_MAX
#define CANCEL_EVENT (UINT64_MAX - 1)

static const char *state_name(executor_state state) {
    static const char *const names[] = {"place", "configure", "connect", "load",
                                        "ready", "stop",      "closed"};
    return names[state];
}

static executor_state locked_state(cohort_executor *executor) {
    pthread_mutex_lock(&executor->lock);
    executor_state state = executor->state;
    pthread_mutex_unlock(&executor->lock);
    return state;
}

/* ---- frames to ranks ---------------------------------------------------------- */

static cohort_status send_frame(cohort_executor *executor, int32_t rank,
                                cohort_frame frame, uint8_t *buffer) {
    frame.rank = rank;
    frame.epoch = executor->epoch;
    size_t size_bytes = cohort_frame_encode(&frame, buffer);
    return cohort_link_send_frame(executor->ranks[rank].control, buffer, size_bytes,
                                  cohort_deadline_ms(SEND_TIMEOUT_MS));
}

static void send_small(cohort_executor *executor, int32_t rank, cohort_frame_kind kind,
                       const cohort_error *error) {
    uint8_t buffer[COHORT_FRAME_HEADER_BYTES + sizeof *error];
    if (!executor->ranks[rank].control || executor->ranks[rank].has_ended) return;
    /* A rank that cannot be told is dead or will be killed: no new failure. */
    send_frame(executor, rank,
               (cohort_frame){
                   .kind = kind, .body = error, .body_bytes = error ? sizeof *error : 0},
               buffer);
}

static cohort_status send_configure(cohort_executor *executor, int32_t rank,
                                    uint8_t *buffer) {
    const cohort_executor_options *options = &executor->options;
    int64_t hang_ns = options->hang_timeout_ns;
    int64_t heartbeat_ns = hang_ns > 0 ? hang_ns / 8 : INT64_C(1000000000);
    if (heartbeat_ns > INT64_C(1000000000)) heartbeat_ns = INT64_C(1000000000);
    if (heartbeat_ns < 5000000) heartbeat_ns = 5000000;
    const cohort_launch *launch = &executor->ranks[rank].launch;
    bool is_one_host = !launch->local_world_size;
    cohort_frame_configure configure = {
        .rank = rank,
        .tp = options->tp,
        .pp = options->pp,
        .local_rank = is_one_host ? rank : launch->local_rank,
        .local_world_size = is_one_host ? executor->world_size : launch->local_world_size,
        .connect_timeout_ns =
            options->connect_timeout_ns > 0 ? options->connect_timeout_ns : 0,
        .heartbeat_ns = heartbeat_ns,
        .max_step_bytes = options->max_step_bytes,
        .max_reply_bytes = options->max_reply_bytes};
    memcpy(configure.listen_host, launch->address, sizeof configure.listen_host);
    uint8_t *body = buffer + COHORT_FRAME_HEADER_BYTES;
    uint8_t *next = body + sizeof configure;
    for (const char *const *pair = options->config; *pair; pair++) {
        next = (uint8_t *)stpcpy((char *)next, *pair) + 1;
        configure.n_config++;
    }
    memcpy(body, &configure, sizeof configure);
    cohort_frame frame = {.kind = COHORT_FRAME_CONFIGURE,
                          .rank = rank,
                          .epoch = executor->epoch,
                          .body_bytes = (size_t)(next - body)};
    cohort_frame_encode_prefix(&frame, buffer);
    int fd = cohort_counters_fd(executor->counters);
    int64_t deadline_ns = cohort_deadline_ms(SEND_TIMEOUT_MS);
    COHORT_TRY(cohort_link_send_frame(executor->ranks[rank].control, buffer,
                                      (size_t)(next - buffer), deadline_ns));
    /* A rank elsewhere sends its row instead. */
    if (cohort_link_kind_of(executor->ranks[rank].control) != COHORT_LINK_UNIX)
        return COHORT_OK;
    return cohort_link_send_fds(executor->ranks[rank].control, &fd, 1, deadline_ns);
}

static cohort_status send_table(cohort_executor *executor, int32_t rank,
                                uint8_t *buffer) {
    cohort_frame_table table = {.world_size = (uint32_t)executor->world_size};
    COHORT_TRY(cohort_queue_export(executor->broadcast, &table.broadcast_queue));
    uint8_t *body = buffer + COHORT_FRAME_HEADER_BYTES;
    uint8_t *next = body + sizeof table;
    memcpy(body, &table, sizeof table);
    for (int32_t i = 0; i < executor->world_size; i++, next += sizeof(cohort_mesh_handle))
        memcpy(next, &executor->ranks[i].publish.mesh, sizeof(cohort_mesh_handle));
    cohort_frame frame = {.kind = COHORT_FRAME_TABLE,
                          .rank = rank,
                          .epoch = executor->epoch,
                          .body_bytes = (size_t)(next - body)};
    cohort_frame_encode_prefix(&frame, buffer);
    return cohort_link_send_frame(executor->ranks[rank].control, buffer,
                                  (size_t)(next - buffer),
                                  cohort_deadline_ms(SEND_TIMEOUT_MS));
}

/* ---- verdicts ----------------------------------------------------------------- */

/* "during connect" while starting, "during execute (call 17)" later. */
static void describe_moment(cohort_executor *executor, int32_t rank, char *out_text,
                            size_t size) {
    cohort_counters_row *row = executor->ranks[rank].row;
    executor_state state = locked_state(executor);
    uint32_t phase = atomic_load_explicit(&row->phase, memory_order_acquire);
    unsigned long long call = atomic_load_explicit(&row->call, memory_order_relaxed);
    if (state < EXECUTOR_READY)
        snprintf(out_text, size, "during %s", state_name(state));
    else if (phase == COHORT_RANK_IDLE || !call)
        snprintf(out_text, size, "while idle (last call %llu)", call);
    else
        snprintf(out_text, size, "during %s (call %llu)", cohort_rank_phase_name(phase),
                 call);
}

enum { WHO_BYTES = COHORT_LAUNCH_NAME_BYTES + COHORT_HOST_BYTES + 32 };

static void describe_rank(const cohort_launch *launch, char *out_text, size_t size) {
    if (launch->name[0])
        snprintf(out_text, size, "%s, pid %d on %s", launch->name, launch->pid,
                 launch->address);
    else
        snprintf(out_text, size, "pid %d", launch->pid);
}

/* " at +0x12ab +0x34cd": for addr2line, innermost first; "" where nothing was left. */
static void describe_crash(const cohort_counters_row *row, char *out_text, size_t size) {
    enum { SHOWN = 3 };
    size_t used = (size_t)snprintf(out_text, size, " at");
    for (int i = 0; i < SHOWN && row->crash_frames[i] && used < size; i++)
        used += (size_t)snprintf(out_text + used, size - used, " +0x%llx",
                                 (unsigned long long)row->crash_frames[i]);
    if (!row->crash_frames[0]) out_text[0] = '\0';
}

static void judge_death(cohort_executor *executor, int32_t rank,
                        const cohort_launch_ending *ending) {
    char moment[80];
    describe_moment(executor, rank, moment, sizeof moment);
    cohort_counters_row *row = executor->ranks[rank].row;
    int32_t crash = atomic_load_explicit(&row->crash_signal, memory_order_acquire);
    int32_t signal_number = ending->signal ? ending->signal : crash;
    /* Of a process that others reap this is all there is to know. */
    uint32_t exited = atomic_load_explicit(&row->exited, memory_order_acquire);
    int32_t exit_status = exited && !ending->is_known ? (int32_t)exited - 1 : -1;
    if (ending->is_known && !ending->signal) exit_status = ending->status;
    char who[WHO_BYTES];
    char where[80] = "";
    if (crash) describe_crash(row, where, sizeof where);
    describe_rank(&executor->ranks[rank].launch, who, sizeof who);
    if (signal_number)
        COHORT_FAIL(COHORT_E_PEER_DIED, "rank %d (%s) was killed by signal %d (%s)%s %s",
                    rank, who, signal_number, sigdescr_np(signal_number), where, moment);
    else if (exit_status >= 0)
        COHORT_FAIL(COHORT_E_PEER_DIED, "rank %d (%s) exited with status %d %s", rank,
                    who, exit_status, moment);
    else
        COHORT_FAIL(COHORT_E_PEER_DIED, "rank %d (%s) %s %s", rank, who,
                    ending->text[0] ? ending->text : "ended", moment);
    cohort_error error = *cohort_last_error();
    error.rank = rank;
    /* Nothing is lost with a rank that was only asked to leave, but a crash is told. */
    bool is_crash = crash || ending->signal || exit_status > 0;
    if (!executor_fail(executor, &error) && is_crash && executor->stop_stage < 2 &&
        !executor->late_death.code)
        executor->late_death = error;
}

/* An error that a rank reported, with who and what in front. */
static void judge_error(cohort_executor *executor, int32_t rank,
                        const cohort_frame *frame, const cohort_error *reported) {
    char call[40] = "";
    if (frame->call)
        snprintf(call, sizeof call, " (call %llu)", (unsigned long long)frame->call);
    cohort_error error = *reported;
    int used = snprintf(error.message, sizeof error.message, "rank %d, %s%s: ", rank,
                        frame->method, call);
    snprintf(error.message + used, sizeof error.message - (size_t)used, "%s",
             reported->message);
    if (error.rank < 0 || error.rank >= executor->world_size) error.rank = rank;
    /* "Connection refused" and the like, too, where the error is about somebody else. */
    bool is_about_peer = error.rank != rank || error.code == COHORT_E_PEER_DIED ||
                         error.code == COHORT_E_CLOSED;
    if (!is_about_peer) {
        executor_fail(executor, &error);
    } else if (!executor->has_suspect) {
        executor->has_suspect = true;
        executor->suspect = error;
        executor->suspect_until_ns = cohort_deadline_ms(SUSPICION_MS);
    }
}

/* ---- events of one rank ------------------------------------------------------- */

static void unwatch_link(cohort_executor *executor, int32_t rank) {
    if (!executor->ranks[rank].has_link) return;
    epoll_ctl(executor->epoll_fd, EPOLL_CTL_DEL,
              cohort_link_fd(executor->ranks[rank].control), NULL);
    executor->ranks[rank].has_link = false;
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
    executor->ranks[rank].reached = EXECUTOR_CONFIGURE;
    return COHORT_OK;
}

static cohort_status on_frame(cohort_executor *executor, int32_t rank,
                              const cohort_frame *frame) {
    executor_rank *self = &executor->ranks[rank];
    cohort_error error;
    cohort_frame_row sent;
    if (frame->kind != COHORT_FRAME_HELLO && frame->kind != COHORT_FRAME_ERROR &&
        frame->epoch != executor->epoch)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "rank %d sent a %s frame of epoch %llu",
                           rank, cohort_frame_kind_name(frame->kind),
                           (unsigned long long)frame->epoch);
    switch (frame->kind) {
    case COHORT_FRAME_HELLO: return on_hello(executor, rank, frame);
    case COHORT_FRAME_PUBLISH:
        COHORT_TRY(cohort_frame_read_publish(frame, &self->publish));
        self->reached = EXECUTOR_CONNECT;
        return COHORT_OK;
    case COHORT_FRAME_CONNECTED: self->reached = EXECUTOR_LOAD; return COHORT_OK;
    case COHORT_FRAME_READY: self->reached = EXECUTOR_READY; return COHORT_OK;
    case COHORT_FRAME_BYE: return COHORT_OK;
    case COHORT_FRAME_ROW:
        COHORT_TRY(cohort_frame_read_row(frame, &sent));
        cohort_counters_row_take(self->row, &sent.row, sent.sent_ns, cohort_clock_ns());
        return COHORT_OK;
    case COHORT_FRAME_ERROR:
        COHORT_TRY(cohort_frame_read_error(frame, &error));
        self->has_reported = true;
        judge_error(executor, rank, frame, &error);
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
        if (status >= 0) status = on_frame(executor, rank, &frame);
        if (status < 0) {
            char who[WHO_BYTES];
            describe_rank(&self->launch, who, sizeof who);
            cohort_fail_while(status, "hearing rank %d (%s)", rank, who);
            executor_fail_last(executor, rank);
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
    if (self->has_reported) return; /* and leaves because of it */
    char who[WHO_BYTES], moment[80];
    bool is_living = lives_on(&self->launch);
    describe_rank(&self->launch, who, sizeof who);
    describe_moment(executor, rank, moment, sizeof moment);
    COHORT_FAIL(COHORT_E_PEER_DIED, "rank %d (%s) %s %s", rank, who,
                is_living ? "lives, but its control link broke"
                          : "vanished (its control link ended)",
                moment);
    if (is_living) executor_fail_last(executor, rank);
    if (is_living || executor->has_suspect) return;
    executor->has_suspect = true;
    executor->suspect = *cohort_last_error();
    executor->suspect.rank = rank;
    executor->suspect_until_ns = cohort_deadline_ms(SUSPICION_MS);
}

static void on_ended(cohort_executor *executor, int32_t rank) {
    executor_rank *self = &executor->ranks[rank];
    cohort_launch_ending ending;
    if (self->has_ended) return;
    if (self->has_link) read_link(executor, rank); /* its last words come first */
    unwatch_link(executor, rank);
    epoll_ctl(executor->epoll_fd, EPOLL_CTL_DEL, self->launch.exit_fd, NULL);
    self->has_ended = true;
    executor->launcher->reap(&self->launch, &ending);
    cohort_log(COHORT_LOG_INFO, "executor", rank,
               "event=rank_ended pid=%d signal=%d status=%d", self->launch.pid,
               ending.signal, ending.status);
    /* Who has reported an error leaves because of it: that is no news. */
    if (!self->has_reported) judge_death(executor, rank, &ending);
    atomic_store_explicit(&self->row->phase, COHORT_RANK_DEAD, memory_order_release);
}

/* ---- phases ------------------------------------------------------------------- */

static cohort_status watch(cohort_executor *executor, int fd, uint64_t data) {
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = data};
    if (epoll_ctl(executor->epoll_fd, EPOLL_CTL_ADD, fd, &event))
        return COHORT_FAIL_SYS(errno, "epoll_ctl");
    return COHORT_OK;
}

static cohort_status place_rank(cohort_executor *executor, int32_t rank) {
    executor_rank *self = &executor->ranks[rank];
    self->launch.world = executor->world;
    COHORT_TRY(executor->launcher->start(&executor->options, rank, &self->launch));
    self->is_started = true;
    self->progress_ns = cohort_clock_ns();
    cohort_counters_row_set_address(self->row, self->launch.address);
    atomic_store_explicit(&self->row->pid, self->launch.pid, memory_order_release);
    COHORT_TRY(watch(executor, self->launch.exit_fd, (uint64_t)rank * 2 + 1));
    cohort_status status = cohort_link_adopt(self->launch.control_fd, &self->control);
    if (status < 0) close(self->launch.control_fd);
    COHORT_TRY(status);
    COHORT_TRY(watch(executor, cohort_link_fd(self->control), (uint64_t)rank * 2));
    self->has_link = true;
    cohort_log(COHORT_LOG_INFO, "executor", rank, "event=rank_started backend=%s pid=%d",
               executor->launcher->name, self->launch.pid);
    return COHORT_OK;
}

/* The only phase in which the monitor waits for others: there is no rank to watch yet. */
static cohort_status open_world(cohort_executor *executor) {
    const char *host = NULL;
    cohort_placing placing = {
        .options = &executor->options,
        .instance = cohort_counters_header_of(executor->counters)->instance,
        .epoch = executor->epoch,
        .cancel_fd = executor->options.cancel_fd > 0 ? executor->options.cancel_fd : -1};
    if (executor->launcher->open)
        COHORT_TRY(executor->launcher->open(&placing, &executor->world, &host));
    return executor_make_broadcast(executor, host);
}

static void place_all(cohort_executor *executor) {
    if (open_world(executor) < 0) {
        executor_fail_last(executor, COHORT_RANK_LOCAL);
        return;
    }
    executor->opened_ns = cohort_clock_ns();
    for (int32_t rank = 0; rank < executor->world_size; rank++) {
        if (place_rank(executor, rank) >= 0) continue;
        cohort_fail_while(COHORT_E_IO, "placing rank %d", rank);
        executor_fail_last(executor, rank);
        return;
    }
}

static cohort_status enter_phase(cohort_executor *executor, executor_state state) {
    size_t most_bytes = COHORT_FRAME_HEADER_BYTES + COHORT_CONTROL_MAX_BYTES;
    uint8_t *buffer = malloc(most_bytes);
    cohort_status status = buffer ? COHORT_OK : COHORT_FAIL(COHORT_E_NOMEM, "a frame");
    for (int32_t rank = 0; status >= 0 && rank < executor->world_size; rank++) {
        if (state == EXECUTOR_CONFIGURE)
            status = send_configure(executor, rank, buffer);
        else if (state == EXECUTOR_CONNECT)
            status = send_table(executor, rank, buffer);
        else if (state == EXECUTOR_LOAD)
            status = send_frame(executor, rank, (cohort_frame){.kind = COHORT_FRAME_LOAD},
                                buffer);
        /* Who cannot be told is dying, and its death says more. */
        if (status == COHORT_E_PEER_DIED) status = COHORT_OK;
        if (status < 0) {
            cohort_fail_while(status, "telling rank %d to %s", rank, state_name(state));
            executor_fail_last(executor, rank);
        }
    }
    free(buffer);
    return status;
}

static void stamp_phase(cohort_executor *executor, executor_state left, int64_t now_ns) {
    int64_t spent_ns = now_ns - executor->phase_ns;
    executor->phase_ns = now_ns;
    if (left == EXECUTOR_PLACE) executor->phases.place_ns = spent_ns;
    if (left == EXECUTOR_CONFIGURE) executor->phases.configure_ns = spent_ns;
    if (left == EXECUTOR_CONNECT) executor->phases.connect_ns = spent_ns;
    if (left == EXECUTOR_LOAD) executor->phases.load_ns = spent_ns;
    executor->phases.total_ns = now_ns - executor->started_ns;
    cohort_log(COHORT_LOG_INFO, "executor", COHORT_RANK_LOCAL,
               "event=phase_done phase=%s us=%lld", state_name(left),
               (long long)(spent_ns / 1000));
}

/* Goes on to the next phase once all ranks, and the starting thread, have done theirs. */
static void advance(cohort_executor *executor) {
    pthread_mutex_lock(&executor->lock);
    executor_state state = executor->state;
    bool may_go = !executor->is_failed && state < EXECUTOR_READY &&
                  (state != EXECUTOR_CONNECT || executor->is_linked);
    pthread_mutex_unlock(&executor->lock);
    for (int32_t rank = 0; may_go && rank < executor->world_size; rank++)
        may_go = executor->ranks[rank].reached > state;
    if (!may_go) return;
    stamp_phase(executor, state, cohort_clock_ns());
    executor_state next = (executor_state)(state + 1);
    if (enter_phase(executor, next) < 0) return;
    if (next == EXECUTOR_READY && executor->options.cancel_fd > 0)
        epoll_ctl(executor->epoll_fd, EPOLL_CTL_DEL, executor->options.cancel_fd, NULL);
    pthread_mutex_lock(&executor->lock);
    if (executor->state == state) executor_set_state(executor, next);
    pthread_mutex_unlock(&executor->lock);
}

/* ---- the clock ---------------------------------------------------------------- */

void executor_fill_views(cohort_executor *executor, cohort_rank_view *views) {
    for (int32_t i = 0; i < executor->world_size; i++) {
        executor_rank *rank = &executor->ranks[i];
        cohort_counters_row *row = rank->row;
        /* Pairs with set_phase in worker.c. */
        uint32_t phase = atomic_load_explicit(&row->phase, memory_order_acquire);
        views[i] = (cohort_rank_view){
            .is_watched = phase != COHORT_RANK_DEAD,
            .pid = atomic_load_explicit(&row->pid, memory_order_relaxed),
            .phase = phase,
            .waits_for = atomic_load_explicit(&row->waits_for, memory_order_relaxed),
            .call = atomic_load_explicit(&row->call, memory_order_relaxed),
            .heartbeat_ns =
                atomic_load_explicit(&row->heartbeat_ns, memory_order_relaxed),
            .progress_ns = atomic_load_explicit(&row->phase_ns, memory_order_relaxed)};
    }
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
        char who[WHO_BYTES];
        describe_rank(&executor->ranks[hang.rank].launch, who, sizeof who);
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
    char who[WHO_BYTES];
    describe_rank(&executor->ranks[rank].launch, who, sizeof who);
    COHORT_FAIL(COHORT_E_HUNG, "rank %d (%s) has not finished %s after %.1f s", rank, who,
                state_name(state), (double)(now_ns - since_ns) * 1e-9);
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
        send_small(executor, rank, COHORT_FRAME_POISON, &error);
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
        if (stage == 2) send_small(executor, rank, COHORT_FRAME_POISON, &shutdown_error);
        if (signal_number)
            executor->launcher->signal(&self->launch, signal_number);
        else
            send_small(executor, rank, COHORT_FRAME_STOP, NULL);
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

/* ---- the loop ----------------------------------------------------------------- */

static void on_clock(cohort_executor *executor, executor_state state) {
    int64_t now_ns = cohort_clock_ns();
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
}

static int timeout_ms(cohort_executor *executor, executor_state state) {
    if (state == EXECUTOR_STOPPING) return 10;
    if (!executor->has_suspect) return TICK_MS;
    return TICK_MS / 10;
}

/* It stays readable, so it is watched no longer. */
static void on_cancel(cohort_executor *executor) {
    executor_state state = locked_state(executor);
    epoll_ctl(executor->epoll_fd, EPOLL_CTL_DEL, executor->options.cancel_fd, NULL);
    if (state >= EXECUTOR_READY) return;
    COHORT_FAIL(COHORT_E_CANCELLED, "told to stop during %s", state_name(state));
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
        on_ended(executor, (int32_t)(data / 2));
    } else {
        on_link(executor, (int32_t)(data / 2));
    }
}

static void *monitor_main(void *argument) {
    cohort_executor *executor = argument;
    struct epoll_event events[MAX_EVENTS];
    executor->tick_ns = executor->phase_ns = executor->resumed_ns = cohort_clock_ns();
    place_all(executor);
    executor->tick_ns = cohort_clock_ns();
    for (;;) {
        executor_state state = locked_state(executor);
        if (state == EXECUTOR_CLOSED) return NULL;
        int n = epoll_wait(executor->epoll_fd, events, MAX_EVENTS,
                           timeout_ms(executor, state));
        for (int i = 0; i < n; i++)
            on_event(executor, events[i].data.u64);
        advance(executor);
        state = locked_state(executor);
        on_clock(executor, state);
        if (state == EXECUTOR_STOPPING) stop_step(executor, cohort_clock_ns());
    }
}

cohort_status executor_monitor_start(cohort_executor *executor) {
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
