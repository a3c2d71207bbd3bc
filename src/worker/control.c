/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/control.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/log.h"
#include "cohort/clock.h"
#include "cohort/queue.h"
#include "counters/counters.h"
#include "link/link.h"
#include "wire/frame.h"
#include "worker/extension.h"
#include "worker/worker.h"

enum { SEND_TIMEOUT_MS = 10000 };

cohort_counters_row *worker_row_of(cohort_worker *worker) {
    return atomic_load_explicit(&worker->row, memory_order_acquire);
}

void worker_beat(cohort_worker *worker) {
    atomic_store_explicit(&worker_row_of(worker)->heartbeat_ns, cohort_clock_ns(),
                          memory_order_relaxed);
}

void worker_set_phase(cohort_worker *worker, cohort_rank_phase phase, uint64_t call) {
    cohort_counters_row *row = worker_row_of(worker);
    atomic_store_explicit(&row->call, call, memory_order_relaxed);
    atomic_store_explicit(&row->phase_ns, cohort_clock_ns(), memory_order_relaxed);
    /* Release: who reads the phase (the monitor, acquire) reads its call and time too. */
    atomic_store_explicit(&row->phase, phase, memory_order_release);
}

void worker_add(_Atomic uint64_t *counter, uint64_t amount) {
    /* One writer: no need for a locked instruction. */
    uint64_t now = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, now + amount, memory_order_relaxed);
}

void cohort_worker_progress(cohort_worker *worker, uint64_t done, uint64_t total) {
    cohort_counters_row *row = worker_row_of(worker);
    atomic_store_explicit(&row->done, done, memory_order_relaxed);
    atomic_store_explicit(&row->total, total, memory_order_relaxed);
    worker_add(&row->progress, 1);
}

void cohort_worker_waits_for(cohort_worker *worker, int32_t rank) {
    atomic_store_explicit(&worker_row_of(worker)->waits_for, rank, memory_order_relaxed);
}

void cohort_worker_count_tokens(cohort_worker *worker, uint64_t tokens) {
    worker_add(&worker_row_of(worker)->tokens, tokens);
}

void cohort_worker_choose(cohort_worker *worker, const char *key, const char *value) {
    snprintf(worker->ready.choice, sizeof worker->ready.choice, "%s=%s", key, value);
}

const char *cohort_worker_config(const cohort_worker_info *info, const char *key) {
    size_t length = strlen(key);
    for (const char *const *pair = info->config; pair && *pair; pair++)
        if (!strncmp(*pair, key, length) && (*pair)[length] == '=')
            return *pair + length + 1;
    return NULL;
}

cohort_status worker_send_control(cohort_worker *worker, cohort_frame frame) {
    return worker_send_control_fd(worker, frame, -1);
}

cohort_status worker_send_control_fd(void *self, cohort_frame frame, int fd) {
    cohort_worker *worker = self;
    uint8_t bytes[COHORT_FRAME_HEADER_BYTES + COHORT_METHOD_CHARS + 1 +
                  sizeof(cohort_frame_row)];
    _Static_assert(sizeof(cohort_frame_publish) <= sizeof(cohort_frame_row) &&
                       sizeof(cohort_error) <= sizeof(cohort_frame_row),
                   "the longest body");
    frame.rank = worker->info.rank;
    frame.epoch = atomic_load_explicit(&worker->epoch, memory_order_relaxed);
    size_t size_bytes = cohort_frame_encode(&frame, bytes);
    pthread_mutex_lock(&worker->send_lock);
    int64_t deadline_ns = cohort_deadline_ms(SEND_TIMEOUT_MS);
    cohort_status status =
        fd < 0 ? cohort_link_send_frame(worker->control, bytes, size_bytes, deadline_ns)
               : cohort_link_send_frame_fd(worker->control, bytes, size_bytes, fd,
                                           deadline_ns);
    pthread_mutex_unlock(&worker->send_lock);
    return status;
}

void worker_send_error(cohort_worker *worker, cohort_frame_kind kind) {
    cohort_error error = *cohort_last_error();
    if (error.rank == COHORT_RANK_LOCAL) error.rank = worker->info.rank;
    cohort_counters_row_error(worker_row_of(worker), error.message);
    cohort_log(COHORT_LOG_ERROR, "worker", worker->info.rank,
               "event=%s method=%s call=%llu text=\"%s\"", cohort_frame_kind_name(kind),
               worker->doing, (unsigned long long)worker->call, error.message);
    cohort_log_place("worker", &error);
    worker_send_control(worker, (cohort_frame){.kind = kind,
                                               .call = worker->call,
                                               .status = error.code,
                                               .method = worker->doing,
                                               .body = &error,
                                               .body_bytes = sizeof error});
}

/* These with worker->lock held. */
static void interrupt_waits(cohort_worker *worker) {
    worker->carrier->interrupt(worker->carrier_self);
    pthread_cond_broadcast(&worker->changed);
}

static void poison(cohort_worker *worker, const cohort_error *error) {
    if (worker->is_poisoned) return;
    worker->is_poisoned = true;
    worker->poison = *error;
    if (worker->mesh) cohort_mesh_poison(worker->mesh, error);
    interrupt_waits(worker);
}

static void poison_locked(cohort_worker *worker, const cohort_error *error) {
    pthread_mutex_lock(&worker->lock);
    poison(worker, error);
    pthread_mutex_unlock(&worker->lock);
}

/* A rank that is alive is to come into that epoch, whatever it does. */
static void begin_epoch(cohort_worker *worker, uint64_t epoch) {
    if (epoch <= worker->told_epoch) return; /* overtaken */
    worker->told_epoch = epoch;
    if (worker->mail && worker->mail_kind != COHORT_FRAME_CONFIGURE) {
        free(worker->mail); /* of the epoch before */
        worker->mail = NULL;
    }
    cohort_error error = {.code = COHORT_E_INTERRUPTED, .rank = COHORT_RANK_LOCAL};
    snprintf(error.message, sizeof error.message, "epoch %llu begins",
             (unsigned long long)epoch);
    if (worker->mesh) cohort_mesh_poison(worker->mesh, &error);
    interrupt_waits(worker);
}

/* Takes over bytes; false: they came before their time. */
static bool put_in_mailbox(cohort_worker *worker, uint8_t *bytes, size_t size_bytes,
                           const cohort_frame *frame) {
    bool is_configure = frame->kind == COHORT_FRAME_CONFIGURE;
    if (is_configure && frame->epoch > worker->told_epoch)
        worker->told_epoch = frame->epoch;
    if (!is_configure && frame->epoch < worker->told_epoch) {
        free(bytes); /* late: the world has moved on */
        return true;
    }
    if (worker->mail || (!is_configure && frame->epoch != worker->told_epoch))
        return false;
    worker->mail = bytes;
    worker->mail_bytes = size_bytes;
    worker->mail_kind = frame->kind;
    pthread_cond_broadcast(&worker->changed);
    return true;
}

static void deliver(cohort_worker *worker, const cohort_frame *frame, const void *bytes,
                    size_t size_bytes, int counters_fd) {
    uint8_t *copy = malloc(size_bytes);
    if (copy) memcpy(copy, bytes, size_bytes);
    pthread_mutex_lock(&worker->lock);
    if (copy && put_in_mailbox(worker, copy, size_bytes, frame)) {
        if (counters_fd >= 0) worker->counters_fd = counters_fd;
    } else {
        COHORT_FAIL(COHORT_E_PROTOCOL, "the driver sent a phase before its time");
        poison(worker, cohort_last_error());
        free(copy);
        if (counters_fd >= 0) close(counters_fd);
    }
    pthread_mutex_unlock(&worker->lock);
}

/* One frame from the driver; an error means that the link is of no more use. */
static cohort_status take_control(cohort_worker *worker, uint8_t *buffer) {
    size_t size_bytes = 0;
    int kept_fd = -1;
    cohort_frame frame;
    cohort_error error;
    COHORT_TRY(cohort_link_recv_frame_fd(worker->control, buffer,
                                         COHORT_CONTROL_MAX_BYTES, &size_bytes, &kept_fd,
                                         cohort_deadline_ms(SEND_TIMEOUT_MS)));
    cohort_status status = cohort_frame_decode(buffer, size_bytes, &frame);
    if (status >= 0 && frame.kind == COHORT_FRAME_KEEP)
        return worker_kept_put(&worker->kept, &frame, kept_fd);
    if (kept_fd >= 0) close(kept_fd);
    COHORT_TRY(status);
    switch (frame.kind) {
    case COHORT_FRAME_CONFIGURE: {
        int fd = -1;
        if (cohort_link_kind_of(worker->control) == COHORT_LINK_UNIX)
            COHORT_TRY(cohort_link_recv_fds(worker->control, &fd, 1,
                                            cohort_deadline_ms(SEND_TIMEOUT_MS)));
        deliver(worker, &frame, buffer, size_bytes, fd);
        return COHORT_OK;
    }
    case COHORT_FRAME_TABLE:
    case COHORT_FRAME_LOAD:
        deliver(worker, &frame, buffer, size_bytes, -1);
        return COHORT_OK;
    case COHORT_FRAME_REJOIN:
        pthread_mutex_lock(&worker->lock);
        begin_epoch(worker, frame.epoch);
        pthread_mutex_unlock(&worker->lock);
        return COHORT_OK;
    case COHORT_FRAME_STOP:
        pthread_mutex_lock(&worker->lock);
        worker->is_stopping = true;
        interrupt_waits(worker);
        pthread_mutex_unlock(&worker->lock);
        return COHORT_OK;
    case COHORT_FRAME_POISON:
        COHORT_TRY(cohort_frame_read_error(&frame, &error));
        poison_locked(worker, &error);
        return COHORT_OK;
    default:
        return COHORT_FAIL(COHORT_E_PROTOCOL, "a %s frame from the driver",
                           cohort_frame_kind_name(frame.kind));
    }
}

/* Where the driver cannot read our row it is sent to it, once a heartbeat: some 20 us. */
static void send_row(cohort_worker *worker, int64_t interval_ns) {
    static const int64_t early_ns = 1000000; /* poll() may wake a little early */
    int64_t now_ns = cohort_clock_ns();
    if (!atomic_load_explicit(&worker->sends_row, memory_order_acquire) ||
        now_ns - worker->row_sent_ns < interval_ns - early_ns)
        return;
    cohort_frame_row body = {.sent_ns = now_ns};
    cohort_counters_row_copy(&body.row, &worker->spare_row);
    worker->row_sent_ns = now_ns;
    /* A driver that is gone shows as the end of the link. */
    worker_send_control(worker, (cohort_frame){.kind = COHORT_FRAME_ROW,
                                               .body = &body,
                                               .body_bytes = sizeof body});
}

void *worker_watcher_main(void *argument) {
    cohort_worker *worker = argument;
    uint8_t *buffer = malloc(COHORT_CONTROL_MAX_BYTES);
    cohort_status status =
        buffer ? COHORT_OK : COHORT_FAIL(COHORT_E_NOMEM, "allocating a control frame");
    while (status >= 0) {
        struct pollfd fds[2] = {{.fd = cohort_link_fd(worker->control), .events = POLLIN},
                                {.fd = worker->wake_fd, .events = POLLIN}};
        int64_t interval_ns =
            atomic_load_explicit(&worker->heartbeat_ns, memory_order_relaxed);
        int ready = poll(fds, 2, (int)(interval_ns / 1000000));
        worker_beat(worker);
        send_row(worker, interval_ns);
        if (ready > 0 && fds[1].revents) break;
        if (ready > 0 && fds[0].revents) status = take_control(worker, buffer);
    }
    free(buffer);
    if (status < 0) {
        bool is_gone = status == COHORT_E_PEER_DIED || status == COHORT_E_IO;
        if (is_gone && worker->options->driver_gone) worker->options->driver_gone();
        cohort_fail_while(status, "listening to the driver");
        poison_locked(worker, cohort_last_error());
    }
    return NULL;
}

cohort_status worker_check_poison(cohort_worker *worker) {
    pthread_mutex_lock(&worker->lock);
    cohort_status status =
        worker->is_poisoned ? cohort_fail_adopt(&worker->poison) : COHORT_OK;
    pthread_mutex_unlock(&worker->lock);
    return status;
}

bool worker_is_stopping(cohort_worker *worker) {
    pthread_mutex_lock(&worker->lock);
    bool result = worker->is_stopping;
    pthread_mutex_unlock(&worker->lock);
    return result;
}

/* With the lock held.  Before its configuration a rank is in no epoch. */
static bool is_overtaken(const cohort_worker *worker) {
    return worker->configure && worker->told_epoch != worker->info.epoch;
}

cohort_status cohort_worker_check(cohort_worker *worker) {
    pthread_mutex_lock(&worker->lock);
    cohort_status status = COHORT_OK;
    if (worker->is_poisoned)
        status = cohort_fail_adopt(&worker->poison);
    else if (worker->is_stopping)
        status = COHORT_FAIL(COHORT_E_CLOSED, "stopped by the driver");
    else if (is_overtaken(worker))
        status = COHORT_FAIL(COHORT_E_INTERRUPTED, "epoch %llu begins",
                             (unsigned long long)worker->told_epoch);
    pthread_mutex_unlock(&worker->lock);
    return status;
}

cohort_status worker_await_phase(cohort_worker *worker, cohort_frame_kind kind,
                                 uint8_t **out_bytes, cohort_frame *out_frame) {
    pthread_mutex_lock(&worker->lock);
    while (!worker->mail && !worker->is_stopping && !worker->is_poisoned &&
           !is_overtaken(worker))
        pthread_cond_wait(&worker->changed, &worker->lock);
    uint8_t *mail = worker->mail;
    size_t mail_bytes = worker->mail_bytes;
    worker->mail = NULL;
    pthread_mutex_unlock(&worker->lock);
    *out_bytes = mail;
    if (!mail) return cohort_worker_check(worker);
    COHORT_TRY(cohort_frame_decode(mail, mail_bytes, out_frame));
    if (out_frame->kind != kind)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "a %s frame where %s was due",
                           cohort_frame_kind_name(out_frame->kind),
                           cohort_frame_kind_name(kind));
    return COHORT_OK;
}

void worker_set_doing(cohort_worker *worker, const char *what, uint64_t call) {
    snprintf(worker->doing, sizeof worker->doing, "%s", what);
    worker->call = call;
}
