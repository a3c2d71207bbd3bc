/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "base/fail.h"
#include "executor/carrier.h"
#include "executor/executor_internal.h"
#include "worker/worker.h"

/* The driver's ends of an epoch's queues, or of a relay's. */

/* Of the first epoch: callers read both without a lock. */
static cohort_status make_scratch(cohort_executor *executor,
                                  const cohort_queue_options *options) {
    if (executor->scratch) return COHORT_OK;
    executor->one_slot_bytes = options->chunk_bytes;
    executor->scratch = malloc(options->max_message_bytes);
    return executor->scratch
               ? COHORT_OK
               : COHORT_FAIL(COHORT_E_NOMEM, "allocating %zu bytes for calls",
                             options->max_message_bytes);
}

static cohort_status open_queues(cohort_executor *executor, const char *host) {
    _Static_assert((int)COHORT_MAX_PENDING_CALLS == (int)COHORT_WORKER_QUEUE_MESSAGES,
                   "a queue has room for every pending call");
    cohort_queue_options options = cohort_worker_queue_options(
        "broadcast", executor->options.max_step_bytes, executor->world_size);
    options.listen_host = host;
    cohort_queue *broadcast = NULL;
    COHORT_TRY(make_scratch(executor, &options));
    COHORT_TRY(cohort_queue_create(&options, &broadcast));
    pthread_mutex_lock(&executor->lock);
    executor->broadcast = broadcast;
    pthread_mutex_unlock(&executor->lock);
    return COHORT_OK;
}

static cohort_status export_queue(const cohort_executor *executor,
                                  cohort_queue_handle *out_handle) {
    return cohort_queue_export(executor->broadcast, out_handle);
}

static cohort_status link_queues(cohort_executor *executor, int64_t deadline_ns) {
    COHORT_TRY_WHILE(cohort_queue_wait_ready(executor->broadcast, deadline_ns),
                     "connecting the broadcast queue");
    for (int32_t i = 0; i < executor->world_size; i++) {
        cohort_queue *queue = NULL;
        pthread_mutex_lock(&executor->lock);
        cohort_queue_handle handle = executor->ranks[i].publish.response_queue;
        pthread_mutex_unlock(&executor->lock);
        COHORT_TRY_WHILE(cohort_queue_attach(&handle, 0, &queue),
                         "attaching to the response queue of rank %d", i);
        pthread_mutex_lock(&executor->lock);
        executor->ranks[i].response = queue;
        /* From then on it is interrupted as all the others. */
        bool is_vain = executor->is_failed || executor->state != EXECUTOR_CONNECT;
        pthread_mutex_unlock(&executor->lock);
        if (is_vain) return COHORT_FAIL(COHORT_E_CANCELLED, "the epoch ended meanwhile");
        COHORT_TRY_WHILE(cohort_queue_wait_ready(queue, deadline_ns),
                         "connecting the response queue of rank %d", i);
    }
    return COHORT_OK;
}

static cohort_status send_frame(cohort_executor *executor, const cohort_frame *frame,
                                int64_t deadline_ns) {
    size_t size_bytes = cohort_frame_prefix_bytes(frame->method) + frame->body_bytes;
    void *slot = NULL;
    if (size_bytes > executor->one_slot_bytes) {
        cohort_frame_encode(frame, executor->scratch);
        return cohort_queue_write(executor->broadcast, executor->scratch, size_bytes,
                                  deadline_ns);
    }
    COHORT_TRY(
        cohort_queue_write_begin(executor->broadcast, size_bytes, deadline_ns, &slot));
    cohort_frame_encode(frame, slot);
    cohort_queue_write_commit(executor->broadcast);
    return COHORT_OK;
}

static cohort_status read_response(cohort_executor *executor, int32_t rank,
                                   int64_t deadline_ns, const void **out_bytes,
                                   size_t *out_size_bytes) {
    return cohort_queue_read_begin(executor->ranks[rank].response, deadline_ns, out_bytes,
                                   out_size_bytes);
}

static void end_response(cohort_executor *executor, int32_t rank) {
    cohort_queue_read_end(executor->ranks[rank].response);
}

static void interrupt_queues(cohort_executor *executor) {
    if (executor->broadcast) cohort_queue_interrupt(executor->broadcast);
    for (int32_t i = 0; i < executor->world_size; i++)
        if (executor->ranks[i].response)
            cohort_queue_interrupt(executor->ranks[i].response);
}

static const char *transport_of(const cohort_executor *executor, int32_t rank) {
    return cohort_queue_transport(executor->broadcast, rank);
}

/* Nobody may interrupt what is being closed. */
static cohort_queue *take_away(cohort_executor *executor, cohort_queue **queue) {
    pthread_mutex_lock(&executor->lock);
    cohort_queue *taken = *queue;
    *queue = NULL;
    pthread_mutex_unlock(&executor->lock);
    return taken;
}

static void close_queues(cohort_executor *executor) {
    for (int32_t i = 0; executor->ranks && i < executor->world_size; i++)
        cohort_queue_close(take_away(executor, &executor->ranks[i].response));
    cohort_queue_close(take_away(executor, &executor->broadcast));
}

const executor_carrier executor_queues = {.open = open_queues,
                                          .export = export_queue,
                                          .link = link_queues,
                                          .send = send_frame,
                                          .read = read_response,
                                          .read_end = end_response,
                                          .interrupt = interrupt_queues,
                                          .transport = transport_of,
                                          .close = close_queues};

/* ---- a relay -------------------------------------------------------------------- */

static cohort_status open_relay(cohort_executor *executor, const char *host) {
    (void)host; /* whoever relays is on ours */
    cohort_queue_options options =
        cohort_worker_queue_options("calls", executor->options.max_step_bytes, 1);
    COHORT_TRY(make_scratch(executor, &options));
    pthread_mutex_lock(&executor->lock);
    executor->launcher->take_relay(executor->world, &executor->broadcast,
                                   &executor->replies);
    pthread_mutex_unlock(&executor->lock);
    return COHORT_OK;
}

/* Ranks are told of it by the launcher. */
static cohort_status export_nothing(const cohort_executor *executor,
                                    cohort_queue_handle *out_handle) {
    (void)executor;
    *out_handle = (cohort_queue_handle){.bytes = {0}};
    return COHORT_OK;
}

static cohort_status link_relay(cohort_executor *executor, int64_t deadline_ns) {
    COHORT_TRY_WHILE(cohort_queue_wait_ready(executor->broadcast, deadline_ns),
                     "connecting to what relays calls");
    return cohort_queue_wait_ready(executor->replies, deadline_ns);
}

/* They come in the order of the calls, and of a call in that of the ranks. */
static cohort_status read_reply(cohort_executor *executor, int32_t rank,
                                int64_t deadline_ns, const void **out_bytes,
                                size_t *out_size_bytes) {
    (void)rank;
    return cohort_queue_read_begin(executor->replies, deadline_ns, out_bytes,
                                   out_size_bytes);
}

static void end_reply(cohort_executor *executor, int32_t rank) {
    (void)rank;
    cohort_queue_read_end(executor->replies);
}

static void interrupt_relay(cohort_executor *executor) {
    if (executor->broadcast) cohort_queue_interrupt(executor->broadcast);
    if (executor->replies) cohort_queue_interrupt(executor->replies);
}

static const char *relay_of(const cohort_executor *executor, int32_t rank) {
    (void)executor;
    (void)rank;
    return "compiled graph";
}

static void close_relay(cohort_executor *executor) {
    cohort_queue_close(take_away(executor, &executor->replies));
    cohort_queue_close(take_away(executor, &executor->broadcast));
}

const executor_carrier executor_relay = {.open = open_relay,
                                         .export = export_nothing,
                                         .link = link_relay,
                                         .send = send_frame,
                                         .read = read_reply,
                                         .read_end = end_reply,
                                         .interrupt = interrupt_relay,
                                         .transport = relay_of,
                                         .close = close_relay};
