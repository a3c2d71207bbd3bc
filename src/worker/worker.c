/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/worker.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/thread.h"
#include "cohort/clock.h"
#include "cohort/queue.h"
#include "counters/counters.h"
#include "link/link.h"
#include "wire/frame.h"
#include "worker/control.h"
#include "worker/extension.h"
#include "worker/join.h"
#include "worker/last_words.h"

/* Design notes.
 *
 * Two threads.  The main one lives the phases and then the calls.  The watcher owns the
 * receiving side of the control link from the first moment: it hands phase frames to the
 * main thread through a mailbox of one, and acts on stop, poison and end of stream
 * itself, because the main thread may be stuck in a load, a kernel or a collective
 * (vLLM's watcher cannot help there, R32).  Sending on the link is under a lock.
 *
 * What if the driver dies here?  Its end of the socketpair closes, the watcher ends the
 * process; a stopped process cannot, and has PR_SET_PDEATHSIG for that (worker_main.c).
 * What if this rank dies?  The driver sees it by itself; the row in the counters file
 * stays as a last word.
 *
 * Stop and poison are flags plus an interrupt of whatever the main thread waits for.  The
 * idle wait is sliced, so that an interrupt that came between look and wait costs a slice
 * and never more (R26).
 *
 * An error is reported once, the first one; what follows from poison is not news.  Of an
 * epoch that ends with another rank's death the next one is lived (join.c). */

enum {
    IDLE_SLICE_MS = 1000,
    DEFAULT_HEARTBEAT_MS = 250,
};

static cohort_status say_hello(cohort_worker *worker) {
    cohort_frame_hello hello = {.pid = (int32_t)getpid()};
    snprintf(hello.build_id, sizeof hello.build_id, "%s", cohort_build_id());
    return worker_send_control(worker, (cohort_frame){.kind = COHORT_FRAME_HELLO,
                                                      .body = &hello,
                                                      .body_bytes = sizeof hello});
}

/* As many slots as calls can be pending: a one-slot message never waits for a worker that
 * itself waits for the driver to take its replies. */
cohort_queue_options cohort_worker_queue_options(const char *name,
                                                 size_t max_message_bytes,
                                                 int32_t reader_count) {
    enum { MIN_CHUNK_BYTES = 4096, MAX_CHUNK_BYTES = 32768 };
    size_t longest =
        max_message_bytes + COHORT_FRAME_HEADER_BYTES + COHORT_METHOD_CHARS + 1;
    uint32_t chunk_bytes = MIN_CHUNK_BYTES;
    while (chunk_bytes < MAX_CHUNK_BYTES && chunk_bytes < longest)
        chunk_bytes *= 2;
    return (cohort_queue_options){.reader_count = reader_count,
                                  .local_reader_count = reader_count,
                                  .chunk_bytes = chunk_bytes,
                                  .chunk_count = COHORT_WORKER_QUEUE_MESSAGES,
                                  .max_message_bytes =
                                      longest < chunk_bytes ? chunk_bytes : longest,
                                  .spin_ns = -1,
                                  .name = name};
}

/* ---- calls -------------------------------------------------------------------- */

static cohort_status call_noop(void *context, const void *payload, size_t size_bytes,
                               cohort_worker_reply *reply) {
    (void)context;
    (void)payload;
    (void)size_bytes;
    (void)reply;
    return COHORT_OK;
}

static cohort_status call_echo(void *context, const void *payload, size_t size_bytes,
                               cohort_worker_reply *reply) {
    (void)context;
    if (size_bytes > reply->capacity_bytes)
        return COHORT_FAIL(COHORT_E_INVALID, "%zu bytes do not fit a reply of %zu",
                           size_bytes, reply->capacity_bytes);
    if (size_bytes) memcpy(reply->bytes, payload, size_bytes);
    reply->size_bytes = size_bytes;
    return COHORT_OK;
}

/* To be answered at all is the health. */
static const cohort_worker_method built_in[] = {
    {"noop", call_noop}, {"echo", call_echo}, {"check_health", call_noop}, {NULL, NULL}};

/* What a driver can make a worker do is in these tables, and in the extension that the
 * user named (R43). */
static cohort_worker_call find_method(const cohort_worker_method *methods,
                                      const char *name) {
    for (; methods && methods->name; methods++)
        if (!strcmp(methods->name, name)) return methods->call;
    return NULL;
}

bool worker_is_own_method(cohort_worker *worker, const char *name) {
    return find_method(built_in, name) ||
           find_method(worker->options->ops->methods, name);
}

cohort_status worker_run_call(cohort_worker *worker, const cohort_frame *frame,
                              cohort_worker_reply *reply) {
    if (frame->kind == COHORT_FRAME_EXECUTE)
        return worker->options->ops->execute(worker->context, frame->body,
                                             frame->body_bytes, reply);
    cohort_worker_call call = find_method(built_in, frame->method);
    if (!call) call = find_method(worker->options->ops->methods, frame->method);
    const cohort_extension_method *added =
        call ? NULL : cohort_extension_find(&worker->extension, frame->method);
    if (added) return cohort_extension_call(added, frame->body, frame->body_bytes, reply);
    if (!call)
        return COHORT_FAIL(COHORT_E_INVALID, "no method '%s' in this worker's table",
                           frame->method);
    return call(worker->context, frame->body, frame->body_bytes, reply);
}

static cohort_status send_reply(cohort_worker *worker, const cohort_frame *call,
                                cohort_status status, size_t size_bytes) {
    uint8_t *body = worker->reply + COHORT_FRAME_HEADER_BYTES;
    if (status < 0) {
        cohort_error error = *cohort_last_error();
        if (error.rank == COHORT_RANK_LOCAL) error.rank = worker->info.rank;
        memcpy(body, &error, sizeof error);
        size_bytes = sizeof error;
    }
    cohort_frame frame = {.kind = COHORT_FRAME_REPLY,
                          .rank = worker->info.rank,
                          .epoch = worker->info.epoch,
                          .call = call->call,
                          .status = status,
                          .body_bytes = size_bytes};
    cohort_frame_encode_prefix(&frame, worker->reply);
    worker_add(&worker_row_of(worker)->bytes_out, size_bytes);
    return worker->carrier->reply(worker->carrier_self, worker->reply,
                                  COHORT_FRAME_HEADER_BYTES + size_bytes);
}

static bool is_replying(const cohort_worker *worker, const cohort_frame *frame) {
    if (frame->kind == COHORT_FRAME_EXECUTE) return worker->info.is_output_rank;
    return frame->rank == COHORT_ALL_RANKS || frame->rank == worker->info.rank;
}

/* One call from first to last; an error is the end of this rank. */
static cohort_status serve(cohort_worker *worker, const cohort_frame *frame) {
    bool is_step = frame->kind == COHORT_FRAME_EXECUTE;
    cohort_counters_row *row = worker_row_of(worker);
    cohort_worker_reply reply = {.bytes = worker->reply + COHORT_FRAME_HEADER_BYTES,
                                 .capacity_bytes = worker->settings.max_reply_bytes};
    worker_set_doing(worker, is_step ? "execute" : frame->method, frame->call);
    worker_set_phase(worker, is_step ? COHORT_RANK_EXECUTE : COHORT_RANK_RPC,
                     frame->call);
    worker_add(is_step ? &row->steps : &row->rpcs, 1);
    worker_add(&row->bytes_in, frame->body_bytes);
    cohort_status status = worker_run_call(worker, frame, &reply);
    if (status < 0 && (is_step || status != COHORT_E_INVALID)) return status;
    if (status < 0 && !is_replying(worker, frame)) {
        worker_send_error(worker, COHORT_FRAME_REFUSED);
        return COHORT_OK;
    }
    if (reply.size_bytes > reply.capacity_bytes)
        return COHORT_FAIL(COHORT_E_INVALID, "a reply of %zu bytes where %zu are allowed",
                           reply.size_bytes, reply.capacity_bytes);
    if (!is_replying(worker, frame)) return COHORT_OK;
    worker_set_phase(worker, COHORT_RANK_REPLY, frame->call);
    return send_reply(worker, frame, status, reply.size_bytes);
}

/* COHORT_PENDING: the frame is none of ours and was dropped. */
static cohort_status accept_frame(cohort_worker *worker, const void *bytes,
                                  size_t size_bytes, cohort_frame *out_frame) {
    COHORT_TRY(cohort_frame_decode(bytes, size_bytes, out_frame));
    if (out_frame->epoch < worker->info.epoch) {
        cohort_counters_row_error(worker_row_of(worker), "a late call of an older epoch");
        return COHORT_PENDING;
    }
    if (out_frame->epoch != worker->info.epoch)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "a call of epoch %llu in epoch %llu",
                           (unsigned long long)out_frame->epoch,
                           (unsigned long long)worker->info.epoch);
    if (out_frame->kind != COHORT_FRAME_RPC && out_frame->kind != COHORT_FRAME_EXECUTE)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "a %s frame in the broadcast queue",
                           cohort_frame_kind_name(out_frame->kind));
    return COHORT_OK;
}

/* The next message.  COHORT_E_CLOSED: the rank is to stop. */
static cohort_status read_message(cohort_worker *worker, const void **out_bytes,
                                  size_t *out_size_bytes) {
    for (;;) {
        COHORT_TRY(cohort_worker_check(worker));
        cohort_status status =
            worker->carrier->read(worker->carrier_self, cohort_deadline_ms(IDLE_SLICE_MS),
                                  out_bytes, out_size_bytes);
        worker->holds_message = status == COHORT_OK;
        if (status != COHORT_E_TIMEOUT && status != COHORT_E_CANCELLED) return status;
    }
}

static void end_message(cohort_worker *worker) {
    if (worker->holds_message) worker->carrier->read_end(worker->carrier_self);
    worker->holds_message = false;
}

cohort_status cohort_worker_await_masks(cohort_worker *worker, const void **out_masks,
                                        size_t *out_size_bytes) {
    const void *bytes = NULL;
    size_t size_bytes = 0;
    cohort_frame frame;
    end_message(worker);
    /* Meanwhile it is not at work, or the driver's rest would look like a hang. */
    worker_set_phase(worker, COHORT_RANK_IDLE, worker->call);
    COHORT_TRY(read_message(worker, &bytes, &size_bytes));
    worker_set_phase(worker, COHORT_RANK_EXECUTE, worker->call);
    COHORT_TRY(cohort_frame_decode(bytes, size_bytes, &frame));
    if (frame.kind != COHORT_FRAME_MASKS || frame.call != worker->call ||
        frame.epoch != worker->info.epoch)
        return COHORT_FAIL(
            COHORT_E_PROTOCOL,
            "a %s frame of call %llu where the masks of call %llu were due",
            cohort_frame_kind_name(frame.kind), (unsigned long long)frame.call,
            (unsigned long long)worker->call);
    worker_add(&worker_row_of(worker)->bytes_in, frame.body_bytes);
    *out_masks = frame.body;
    *out_size_bytes = frame.body_bytes;
    return COHORT_OK;
}

static cohort_status serve_all(cohort_worker *worker) {
    for (;;) {
        const void *bytes = NULL;
        size_t size_bytes = 0;
        cohort_frame frame;
        COHORT_TRY(read_message(worker, &bytes, &size_bytes));
        cohort_status status = accept_frame(worker, bytes, size_bytes, &frame);
        if (status == COHORT_OK) status = serve(worker, &frame);
        end_message(worker);
        COHORT_TRY(status);
        worker_set_phase(worker, COHORT_RANK_IDLE, frame.call);
    }
}

/* ---- life --------------------------------------------------------------------- */

static cohort_status live(cohort_worker *worker) {
    worker_set_doing(worker, "start", 0);
    COHORT_TRY(say_hello(worker));
    worker_set_doing(worker, "configure", 0);
    COHORT_TRY(worker_configure(worker));
    for (;;) {
        cohort_status status = worker_join(worker);
        if (status >= 0) status = serve_all(worker);
        end_message(worker);
        COHORT_TRY(worker_await_epoch(worker, status));
        worker_leave(worker);
    }
}

static cohort_status start(cohort_worker *worker) {
    COHORT_TRY(cohort_link_adopt(worker->options->control_fd, &worker->control));
    worker->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (worker->wake_fd < 0) return COHORT_FAIL_SYS(errno, "eventfd");
    if (worker->options->owns_process) cohort_thread_hear(SIGURG); /* last_words.h */
    COHORT_TRY(cohort_thread_start("cohort-watcher", worker_watcher_main, worker,
                                   &worker->watcher));
    worker->has_watcher = true;
    return COHORT_OK;
}

static void destroy(cohort_worker *worker) {
    uint64_t one = 1;
    if (worker->has_watcher) {
        if (write(worker->wake_fd, &one, sizeof one) < 0) abort(); /* an eventfd at 0 */
        pthread_join(worker->watcher, NULL);
    }
    if (worker->options->owns_process) cohort_last_words_uninstall();
    if (worker->wake_fd >= 0) close(worker->wake_fd);
    if (worker->counters_fd >= 0) close(worker->counters_fd);
    if (worker->control)
        cohort_link_close(worker->control);
    else
        close(worker->options->control_fd);
    worker_kept_deinit(&worker->kept);
    cohort_counters_close(worker->counters);
    pthread_cond_destroy(&worker->changed);
    pthread_mutex_destroy(&worker->send_lock);
    pthread_mutex_destroy(&worker->lock);
    free(worker->mail);
    free(worker->configure);
    free(worker->reply);
    free(worker);
}

cohort_status cohort_worker_run(const cohort_worker_options *options) {
    cohort_worker *worker = calloc(1, sizeof *worker);
    if (!worker) {
        close(options->control_fd);
        return COHORT_FAIL(COHORT_E_NOMEM, "allocating a worker");
    }
    worker->options = options;
    worker->carrier = options->carrier ? options->carrier : &cohort_worker_queues;
    worker->carrier_self = options->carrier ? options->carrier_self : worker;
    worker->wake_fd = -1;
    worker->counters_fd = -1;
    atomic_init(&worker->heartbeat_ns, DEFAULT_HEARTBEAT_MS * INT64_C(1000000));
    atomic_init(&worker->row, &worker->spare_row);
    pthread_mutex_init(&worker->lock, NULL);
    pthread_mutex_init(&worker->send_lock, NULL);
    pthread_cond_init(&worker->changed, NULL);
    worker->kept.send = worker_send_control_fd;
    worker->kept.self = worker;
    worker_kept_init(&worker->kept);
    cohort_status status = start(worker);
    if (status >= 0) status = live(worker);
    if (status < 0 && worker_is_stopping(worker)) status = COHORT_OK;
    if (status < 0 && worker->control && worker_check_poison(worker) >= 0)
        worker_send_error(worker, COHORT_FRAME_ERROR);
    worker_set_phase(worker, status < 0 ? COHORT_RANK_FAILED : COHORT_RANK_STOP,
                     worker->call);
    cohort_error error = *cohort_last_error();
    worker_kept_stop(&worker->kept);
    if (options->ops->close) options->ops->close(worker->context);
    worker_leave(worker);
    if (status >= 0)
        worker_send_control(worker, (cohort_frame){.kind = COHORT_FRAME_BYE});
    destroy(worker);
    return status < 0 ? cohort_fail_adopt(&error) : COHORT_OK;
}
