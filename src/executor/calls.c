/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/condition.h"
#include "base/fail.h"
#include "base/grow.h"
#include "cohort/clock.h"
#include "executor/executor_internal.h"
#include "executor/failure.h"
#include "executor/views.h"

/* Design notes.
 *
 * There is no thread between a caller and the carrier (carrier.h): the caller sends, and
 * whoever waits first reads replies (pumps), for itself and for all calls older than its
 * own; the others sleep on a condition.  Workers answer in the
 * order of the calls, so the oldest pending call is always the one to read for.
 *
 * What keeps driver and workers from waiting for each other: the rings have as many slots
 * as there may be pending calls, and a message that needs more than one slot is sent only
 * after all older replies were taken (worker.c's queue options hold the other end).
 *
 * A step's masks come right behind it, since a rank reads them in the middle of the step:
 * whoever calls in between waits, before it takes send_lock, which the masks need.  They
 * are answered by the step's reply, and are long where many are masked: then all replies
 * before that one are taken first, as above.
 *
 * An interruption ends all futures at once, under the lock; the queues stay until nobody
 * sends or pumps any more, and no call is begun before that (recovery.c).
 *
 * A failure does not touch futures: it sets a flag and interrupts.  Each future takes the
 * failure on at its next wait or poll, so nothing is shared with the monitor but the
 * flag.  The interrupt may hit between look and read; reads are sliced for that.  And
 * another waiter may end all calls under the one that reads for the oldest. */

/* The monitor knows who died, a queue only that somebody did: it may be long without a
 * processor before the wrong one is blamed. */
enum { READ_SLICE_MS = 1000, VERDICT_WAIT_MS = 10000 };

static int64_t sooner(int64_t a_ns, int64_t b_ns) { return a_ns < b_ns ? a_ns : b_ns; }

/* With lock held. */
static void wait_changed(cohort_executor *executor, int64_t deadline_ns) {
    executor->n_waiting++;
    cohort_condition_wait(&executor->changed, &executor->lock, deadline_ns);
    executor->n_waiting--;
}

/* ---- futures ------------------------------------------------------------------ */

/* With lock held. */
static cohort_future *take_future(cohort_executor *executor) {
    cohort_future *future = executor->pool;
    if (future) {
        executor->pool = future->next;
        reply_buffer *replies = future->replies;
        *future = (cohort_future){.replies = replies};
    } else {
        future = calloc(1, sizeof *future);
        if (!future) return NULL;
        future->replies = calloc((size_t)executor->world_size, sizeof *future->replies);
        if (!future->replies) {
            free(future);
            return NULL;
        }
    }
    future->executor = executor;
    return future;
}

/* With lock held. */
static void recycle(cohort_executor *executor, cohort_future *future) {
    future->next = executor->pool;
    executor->pool = future;
}

static void append(cohort_executor *executor, cohort_future *future) {
    future->next = NULL;
    if (executor->tail)
        executor->tail->next = future;
    else
        executor->head = future;
    executor->tail = future;
    executor->n_pending++;
    executor->n_steps += future->is_step;
}

/* The oldest call is complete, with lock held. */
static void finish_head(cohort_executor *executor) {
    cohort_future *future = executor->head;
    executor->head = future->next;
    if (!executor->head) executor->tail = NULL;
    executor->n_pending--;
    executor->n_steps -= future->is_step;
    executor->n_completed += future->is_step && future->status >= 0;
    future->is_done = true;
    if (future->is_abandoned) recycle(executor, future);
}

static void set_error(cohort_future *future, const cohort_error *error) {
    if (future->status < 0) return;
    future->error = *error;
    future->status = (cohort_status)error->code;
}

/* With lock held: why there is no future for calls, or false. */
static bool is_over(cohort_executor *executor, cohort_error *out_error) {
    if (executor->is_failed) {
        *out_error = executor->failure;
        return true;
    }
    if (executor->state >= EXECUTOR_STOPPING)
        COHORT_FAIL(COHORT_E_CLOSED, "the executor was shut down");
    else if (executor->is_recovering)
        COHORT_FAIL(COHORT_E_INTERRUPTED,
                    "interrupted, carried out or not: a rank is replaced; %.160s",
                    executor->recovery.cause.message);
    else
        return false;
    *out_error = *cohort_last_error();
    if (out_error->code == COHORT_E_INTERRUPTED)
        out_error->rank = executor->recovery.rank;
    return true;
}

bool executor_end_calls(cohort_executor *executor) {
    cohort_error error;
    if (!is_over(executor, &error)) return false;
    while (executor->head) {
        set_error(executor->head, &error);
        finish_head(executor);
    }
    if (executor->n_waiting) pthread_cond_broadcast(&executor->changed);
    return true;
}

static void free_future(cohort_executor *executor, cohort_future *future) {
    for (int32_t i = 0; i < executor->world_size; i++)
        free(future->replies[i].bytes);
    free(future->replies);
    free(future);
}

void executor_free_futures(cohort_executor *executor) {
    while (executor->head) {
        executor->head->is_abandoned = true;
        finish_head(executor);
    }
    while (executor->pool) {
        cohort_future *future = executor->pool;
        executor->pool = future->next;
        free_future(executor, future);
    }
}

bool executor_refuse(cohort_executor *executor, uint64_t call,
                     const cohort_error *error) {
    bool is_found = false;
    pthread_mutex_lock(&executor->lock);
    for (cohort_future *future = executor->head; future; future = future->next)
        if (future->call == call) {
            set_error(future, error);
            is_found = true;
        }
    pthread_mutex_unlock(&executor->lock);
    return is_found;
}

/* ---- replies ------------------------------------------------------------------ */

static cohort_status keep_reply(reply_buffer *buffer, const cohort_frame *frame) {
    if (frame->body_bytes) {
        uint8_t *bytes =
            cohort_grow(buffer->bytes, frame->body_bytes, &buffer->capacity_bytes, 1);
        if (!bytes)
            return COHORT_FAIL(COHORT_E_NOMEM, "allocating %zu bytes for a reply",
                               frame->body_bytes);
        buffer->bytes = bytes;
        memcpy(bytes, frame->body, frame->body_bytes);
    }
    buffer->size_bytes = frame->body_bytes;
    return COHORT_OK;
}

cohort_status executor_take_reply(cohort_executor *executor, cohort_future *future,
                                  int32_t rank, const void *bytes, size_t size_bytes) {
    cohort_frame frame;
    cohort_error error;
    COHORT_TRY(cohort_frame_decode(bytes, size_bytes, &frame));
    if (frame.epoch < executor->calls_epoch) return COHORT_PENDING;
    if (frame.kind != COHORT_FRAME_REPLY || frame.epoch != executor->calls_epoch ||
        frame.rank != rank || frame.call != future->call)
        return COHORT_FAIL(COHORT_E_PROTOCOL,
                           "a %s frame of rank %d for call %llu where rank %d's reply to "
                           "call %llu was due",
                           cohort_frame_kind_name(frame.kind), frame.rank,
                           (unsigned long long)frame.call, rank,
                           (unsigned long long)future->call);
    if (frame.status >= 0) return keep_reply(&future->replies[rank], &frame);
    COHORT_TRY(cohort_frame_read_error(&frame, &error));
    pthread_mutex_lock(&executor->lock);
    set_error(future, &error);
    pthread_mutex_unlock(&executor->lock);
    return COHORT_OK;
}

/* One reply for the oldest call, without the lock, by the pumping thread. */
static cohort_status read_reply(cohort_executor *executor, cohort_future *future,
                                int64_t deadline_ns) {
    int32_t rank = future->next_rank;
    const void *bytes = NULL;
    size_t size_bytes = 0;
    COHORT_TRY(executor->carrier->read(executor, rank, deadline_ns, &bytes, &size_bytes));
    cohort_status status = executor_take_reply(executor, future, rank, bytes, size_bytes);
    executor->carrier->read_end(executor, rank);
    return status;
}

void executor_await_verdict(cohort_executor *executor, int32_t rank) {
    int64_t until_ns = cohort_deadline_ms(VERDICT_WAIT_MS);
    while (!executor->is_failed && executor->state < EXECUTOR_STOPPING &&
           !executor->is_recovering && cohort_clock_ns() < until_ns)
        wait_changed(executor, until_ns);
    if (executor->is_recovering) return; /* that is the verdict */
    pthread_mutex_unlock(&executor->lock);
    executor_fail_last(executor, rank); /* no effect where it has failed */
    pthread_mutex_lock(&executor->lock);
}

/* With lock held and is_pumping set: reads until future is done, the deadline or a
 * failure. */
static void pump(cohort_executor *executor, cohort_future *future, int64_t deadline_ns) {
    for (;;) {
        if (executor_end_calls(executor) || future->is_done) return;
        cohort_future *oldest = executor->head;
        int32_t rank = oldest->next_rank;
        pthread_mutex_unlock(&executor->lock);
        int64_t slice_ns = sooner(deadline_ns, cohort_deadline_ms(READ_SLICE_MS));
        cohort_status status = read_reply(executor, oldest, slice_ns);
        pthread_mutex_lock(&executor->lock);
        /* Whoever else waits has ended all calls meanwhile.  Its address tells: a failed
         * executor takes no future from the pool. */
        if (executor->head != oldest) continue;
        if (status == COHORT_OK && ++oldest->next_rank == oldest->end_rank) {
            bool is_mine = oldest == future;
            finish_head(executor);
            if (executor->n_waiting) pthread_cond_broadcast(&executor->changed);
            if (is_mine) return;
        } else if (status == COHORT_E_TIMEOUT) {
            if (cohort_clock_ns() >= deadline_ns) return;
        } else if (status < 0 && status != COHORT_E_CANCELLED) {
            executor_await_verdict(executor, rank);
        }
    }
}

/* With lock held.  COHORT_PENDING at the deadline. */
static cohort_status wait_done(cohort_future *future, int64_t deadline_ns) {
    cohort_executor *executor = future->executor;
    bool is_first_look = true;
    while (!future->is_done) {
        if (executor_end_calls(executor)) continue;
        if (executor->is_pumping) {
            if (!is_first_look && cohort_clock_ns() >= deadline_ns) return COHORT_PENDING;
            wait_changed(executor, deadline_ns);
            is_first_look = false;
            continue;
        }
        executor->is_pumping = true;
        pump(executor, future, deadline_ns);
        executor->is_pumping = false;
        if (executor->n_waiting) pthread_cond_broadcast(&executor->changed);
        if (!future->is_done && cohort_clock_ns() >= deadline_ns) return COHORT_PENDING;
    }
    return COHORT_OK;
}

/* Says what everybody does (R27).  rank: who is awaited, or COHORT_RANK_LOCAL. */
static cohort_status fail_timeout(cohort_executor *executor, const char *method,
                                  uint64_t call, int32_t rank, const char *what) {
    char text[COHORT_ERROR_MESSAGE_BYTES] = "";
    char from[32] = "";
    cohort_rank_view *views = calloc((size_t)executor->world_size, sizeof *views);
    if (views) {
        executor_fill_views(executor, views);
        cohort_describe_ranks(views, executor->world_size, text, sizeof text);
    }
    free(views);
    if (rank >= 0) snprintf(from, sizeof from, " from rank %d", rank);
    COHORT_FAIL(COHORT_E_TIMEOUT, "%s%s: %s (call %llu); %.120s", what, from, method,
                (unsigned long long)call, text);
    cohort_error error = *cohort_last_error();
    error.rank = rank;
    return cohort_fail_adopt(&error);
}

cohort_status cohort_future_wait(cohort_future *future, int64_t deadline_ns) {
    cohort_executor *executor = future->executor;
    pthread_mutex_lock(&executor->lock);
    cohort_status status = wait_done(future, deadline_ns);
    int32_t rank = future->next_rank;
    pthread_mutex_unlock(&executor->lock);
    if (status == COHORT_PENDING)
        return fail_timeout(executor, future->method, future->call, rank,
                            "no reply in time");
    return future->status < 0 ? cohort_fail_adopt(&future->error) : COHORT_OK;
}

cohort_status cohort_future_poll(cohort_future *future) {
    cohort_executor *executor = future->executor;
    pthread_mutex_lock(&executor->lock);
    if (!future->is_done && !executor_end_calls(executor) && !executor->is_pumping) {
        executor->is_pumping = true;
        pump(executor, future, 0);
        executor->is_pumping = false;
        if (executor->n_waiting) pthread_cond_broadcast(&executor->changed);
    }
    bool is_done = future->is_done;
    pthread_mutex_unlock(&executor->lock);
    if (!is_done) return COHORT_PENDING;
    return future->status < 0 ? cohort_fail_adopt(&future->error) : COHORT_OK;
}

int32_t cohort_future_reply_count(const cohort_future *future) {
    if (!future->is_done || future->status < 0) return 0;
    return future->end_rank - future->first_rank;
}

void cohort_future_reply(const cohort_future *future, int32_t index, int32_t *out_rank,
                         const void **out_bytes, size_t *out_size_bytes) {
    int32_t rank = future->first_rank + index;
    if (out_rank) *out_rank = rank;
    if (out_bytes) *out_bytes = future->replies[rank].bytes;
    if (out_size_bytes) *out_size_bytes = future->replies[rank].size_bytes;
}

void cohort_future_destroy(cohort_future *future) {
    if (!future) return;
    cohort_executor *executor = future->executor;
    pthread_mutex_lock(&executor->lock);
    if (future->is_done)
        recycle(executor, future);
    else
        future->is_abandoned = true;
    pthread_mutex_unlock(&executor->lock);
}

/* ---- sending ------------------------------------------------------------------ */

cohort_status executor_check_open(cohort_executor *executor) {
    cohort_error error;
    if (is_over(executor, &error)) return cohort_fail_adopt(&error);
    if (executor->state < EXECUTOR_READY)
        return COHORT_FAIL(COHORT_E_INVALID, "the executor is not ready");
    return COHORT_OK;
}

/* With lock held: a step, or its masks, may be of an epoch that was given up since. */
static cohort_status check_allowed(cohort_executor *executor) {
    COHORT_TRY(executor_check_open(executor));
    if (executor->allowed_epoch == executor->calls_epoch) {
        executor->has_lost_kv = false; /* of what was lost before, the caller knows */
        executor->has_stepped = true;
        return COHORT_OK;
    }
    return COHORT_FAIL(COHORT_E_INTERRUPTED,
                       "a rank was replaced: no step before cohort_executor_await_ready");
}

/* With lock and send_lock held: until at most n calls are pending.  The oldest may be
 * somebody else's and go back to the pool when complete; nobody takes it from there
 * without send_lock. */
static cohort_status drain(cohort_executor *executor, int32_t n, int64_t deadline_ns) {
    COHORT_TRY(executor_check_open(executor));
    while (executor->n_pending > n) {
        if (executor->is_pumping) {
            wait_changed(executor, sooner(deadline_ns, cohort_deadline_ms(1)));
        } else {
            executor->is_pumping = true;
            pump(executor, executor->head, deadline_ns);
            executor->is_pumping = false;
            if (executor->n_waiting) pthread_cond_broadcast(&executor->changed);
        }
        COHORT_TRY(executor_check_open(executor));
        if (executor->n_pending > n && cohort_clock_ns() >= deadline_ns)
            return COHORT_PENDING;
    }
    return COHORT_OK;
}

static cohort_status still_open(cohort_executor *executor) {
    pthread_mutex_lock(&executor->lock);
    cohort_status status = executor_check_open(executor);
    pthread_mutex_unlock(&executor->lock);
    return status;
}

/* With send_lock held. */
static cohort_status send_frame(cohort_executor *executor, cohort_frame *frame,
                                const char *method, uint64_t call, int64_t deadline_ns) {
    frame->epoch = executor->calls_epoch;
    frame->call = call;
    cohort_status status = executor->carrier->send(executor, frame, deadline_ns);
    /* An interrupt that was meant for an earlier wait. */
    while (status == COHORT_E_CANCELLED && still_open(executor) >= 0)
        status = executor->carrier->send(executor, frame, deadline_ns);
    if (status >= 0) return COHORT_OK;
    if (status == COHORT_E_TIMEOUT)
        return fail_timeout(executor, method, call, COHORT_RANK_LOCAL,
                            "a reader of the broadcast queue lags, cannot send");
    pthread_mutex_lock(&executor->lock);
    if (status != COHORT_E_CANCELLED) executor_await_verdict(executor, COHORT_RANK_LOCAL);
    status = executor_check_open(executor);
    pthread_mutex_unlock(&executor->lock);
    return status;
}

static cohort_status send_call(cohort_executor *executor, cohort_frame *frame,
                               cohort_future *future, int64_t deadline_ns) {
    future->call = executor->last_call + 1;
    future->sent_ns = cohort_clock_ns();
    COHORT_TRY(send_frame(executor, frame, future->method, future->call, deadline_ns));
    executor->last_call++;
    return COHORT_OK;
}

/* Takes send_lock as soon as no step waits for masks.  COHORT_PENDING at the deadline. */
static cohort_status lock_sending(cohort_executor *executor, int64_t deadline_ns) {
    cohort_status status = COHORT_OK;
    pthread_mutex_lock(&executor->send_lock);
    pthread_mutex_lock(&executor->lock);
    while (executor->awaits_masks &&
           (status = executor_check_open(executor)) == COHORT_OK) {
        bool is_own = pthread_equal(executor->masks_owner, pthread_self());
        if (is_own)
            status = COHORT_FAIL(COHORT_E_INVALID,
                                 "a step waits for its masks; call from another thread, "
                                 "or once they were sent");
        else if (cohort_clock_ns() >= deadline_ns)
            status = COHORT_PENDING;
        if (status != COHORT_OK) break;
        pthread_mutex_unlock(&executor->send_lock);
        wait_changed(executor, deadline_ns);
        /* In the order in which all take them. */
        pthread_mutex_unlock(&executor->lock);
        pthread_mutex_lock(&executor->send_lock);
        pthread_mutex_lock(&executor->lock);
    }
    pthread_mutex_unlock(&executor->lock);
    if (status != COHORT_OK) pthread_mutex_unlock(&executor->send_lock);
    return status;
}

static cohort_status begin(cohort_executor *executor, cohort_frame *frame, bool is_step,
                           int64_t deadline_ns, cohort_future **out_future) {
    size_t size_bytes = cohort_frame_prefix_bytes(frame->method) + frame->body_bytes;
    bool is_long = size_bytes > executor->one_slot_bytes;
    pthread_mutex_lock(&executor->lock);
    cohort_status status =
        drain(executor, is_long ? 0 : COHORT_MAX_PENDING_CALLS - 1, deadline_ns);
    cohort_future *future = status == COHORT_OK ? take_future(executor) : NULL;
    pthread_mutex_unlock(&executor->lock);
    const char *method = is_step ? "execute" : frame->method;
    if (status == COHORT_PENDING)
        return fail_timeout(executor, method, executor->last_call + 1, COHORT_RANK_LOCAL,
                            "older calls are not answered, cannot send");
    COHORT_TRY(status);
    if (!future) return COHORT_FAIL(COHORT_E_NOMEM, "allocating a future");
    bool is_for_all = frame->rank == COHORT_ALL_RANKS;
    memccpy(future->method, method, '\0', sizeof future->method);
    future->is_step = is_step;
    future->first_rank = is_for_all ? 0 : frame->rank;
    future->end_rank = is_for_all ? executor->world_size : frame->rank + 1;
    future->next_rank = future->first_rank;
    status = send_call(executor, frame, future, deadline_ns);
    pthread_mutex_lock(&executor->lock);
    if (status >= 0)
        append(executor, future);
    else
        recycle(executor, future);
    pthread_mutex_unlock(&executor->lock);
    *out_future = future;
    return status;
}

cohort_status cohort_collective_rpc_begin(cohort_executor *executor,
                                          const cohort_rpc *rpc, int64_t deadline_ns,
                                          cohort_future **out_future) {
    *out_future = NULL;
    if (!rpc->method || !rpc->method[0] || strlen(rpc->method) > COHORT_METHOD_CHARS)
        return COHORT_FAIL(COHORT_E_INVALID, "a method's name has 1 to %d characters",
                           COHORT_METHOD_CHARS);
    if (rpc->reply_rank < COHORT_ALL_RANKS || rpc->reply_rank >= executor->world_size)
        return COHORT_FAIL(COHORT_E_INVALID, "reply rank %d in a world of %d",
                           rpc->reply_rank, executor->world_size);
    if (rpc->size_bytes > executor->options.max_step_bytes)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "a payload of %zu bytes where max_step_bytes allows %zu",
                           rpc->size_bytes, executor->options.max_step_bytes);
    cohort_frame frame = {.kind = COHORT_FRAME_RPC,
                          .rank = rpc->reply_rank,
                          .method = rpc->method,
                          .body = rpc->payload,
                          .body_bytes = rpc->size_bytes};
    cohort_status status = lock_sending(executor, deadline_ns);
    if (status == COHORT_PENDING)
        return fail_timeout(executor, rpc->method, 0, COHORT_RANK_LOCAL,
                            "a step waits for its masks, cannot send");
    COHORT_TRY(status);
    status = begin(executor, &frame, false, deadline_ns, out_future);
    pthread_mutex_unlock(&executor->send_lock);
    if (status < 0) *out_future = NULL;
    return status;
}

cohort_status cohort_collective_rpc(cohort_executor *executor, const cohort_rpc *rpc,
                                    int64_t deadline_ns, cohort_future **out_future) {
    cohort_future *future = NULL;
    if (out_future) *out_future = NULL;
    uint64_t epoch = 0;
    if (rpc->is_setup) COHORT_TRY(executor_check_setup(executor, rpc, &epoch));
    COHORT_TRY(cohort_collective_rpc_begin(executor, rpc, deadline_ns, &future));
    cohort_status status = cohort_future_wait(future, deadline_ns);
    if (status >= 0 && rpc->is_setup) status = executor_keep_setup(executor, rpc, epoch);
    if (status < 0 || !out_future)
        cohort_future_destroy(future);
    else
        *out_future = future;
    return status;
}

/* With send_lock held: is there room for one more step?  Steps that are complete but
 * unread are read first. */
static cohort_status check_in_flight(cohort_executor *executor) {
    pthread_mutex_lock(&executor->lock);
    cohort_status status = check_allowed(executor);
    while (status == COHORT_OK && executor->n_steps >= executor->max_in_flight) {
        int32_t before = executor->n_pending;
        status = executor->is_pumping ? COHORT_PENDING : drain(executor, before - 1, 0);
    }
    pthread_mutex_unlock(&executor->lock);
    return status;
}

static int64_t execute_deadline(const cohort_executor *executor) {
    int64_t timeout_ns = executor->options.execute_timeout_ns;
    return timeout_ns > 0 ? cohort_clock_ns() + timeout_ns : COHORT_NEVER;
}

static cohort_status check_size(const cohort_executor *executor, const char *what,
                                size_t size_bytes) {
    if (size_bytes <= executor->options.max_step_bytes) return COHORT_OK;
    return COHORT_FAIL(COHORT_E_INVALID,
                       "%s of %zu bytes where max_step_bytes allows %zu", what,
                       size_bytes, executor->options.max_step_bytes);
}

static cohort_status execute(cohort_executor *executor, const void *step,
                             size_t size_bytes, bool is_masked,
                             cohort_future **out_future) {
    *out_future = NULL;
    COHORT_TRY(check_size(executor, "a step", size_bytes));
    cohort_frame frame = {.kind = COHORT_FRAME_EXECUTE,
                          .rank = executor->output_rank,
                          .method = "",
                          .body = step,
                          .body_bytes = size_bytes};
    int64_t deadline_ns = execute_deadline(executor);
    cohort_status status = lock_sending(executor, deadline_ns);
    if (status == COHORT_PENDING)
        return fail_timeout(executor, "execute", 0, COHORT_RANK_LOCAL,
                            "a step waits for its masks, cannot send");
    COHORT_TRY(status);
    status = check_in_flight(executor);
    if (status == COHORT_OK)
        status = begin(executor, &frame, true, deadline_ns, out_future);
    pthread_mutex_lock(&executor->lock);
    executor->awaits_masks = is_masked && status == COHORT_OK;
    executor->masks_owner = pthread_self();
    pthread_mutex_unlock(&executor->lock);
    pthread_mutex_unlock(&executor->send_lock);
    if (status != COHORT_OK) *out_future = NULL;
    return status;
}

cohort_status cohort_execute_model(cohort_executor *executor, const void *step,
                                   size_t size_bytes, cohort_future **out_future) {
    return execute(executor, step, size_bytes, false, out_future);
}

cohort_status cohort_execute_masked_model(cohort_executor *executor, const void *step,
                                          size_t size_bytes, cohort_future **out_future) {
    return execute(executor, step, size_bytes, true, out_future);
}

/* With send_lock held.  The step is the last of the pending calls. */
static cohort_status send_masks(cohort_executor *executor, cohort_frame *frame) {
    int64_t deadline_ns = execute_deadline(executor);
    pthread_mutex_lock(&executor->lock);
    cohort_status status = check_allowed(executor);
    if (status == COHORT_OK && !executor->awaits_masks)
        status = COHORT_FAIL(COHORT_E_INVALID, "no step waits for masks");
    size_t size_bytes = cohort_frame_prefix_bytes("") + frame->body_bytes;
    bool may_lack_slots =
        size_bytes > executor->one_slot_bytes ||
        executor->n_pending + executor->n_steps >= COHORT_MAX_PENDING_CALLS;
    if (status == COHORT_OK && may_lack_slots) status = drain(executor, 1, deadline_ns);
    pthread_mutex_unlock(&executor->lock);
    if (status == COHORT_PENDING)
        return fail_timeout(executor, "masks", executor->last_call, COHORT_RANK_LOCAL,
                            "older calls are not answered, cannot send");
    COHORT_TRY(status);
    COHORT_TRY(send_frame(executor, frame, "masks", executor->last_call, deadline_ns));
    pthread_mutex_lock(&executor->lock);
    executor->awaits_masks = false;
    if (executor->n_waiting) pthread_cond_broadcast(&executor->changed);
    pthread_mutex_unlock(&executor->lock);
    return COHORT_OK;
}

cohort_status cohort_execute_masks(cohort_executor *executor, const void *masks,
                                   size_t size_bytes) {
    COHORT_TRY(check_size(executor, "masks", size_bytes));
    cohort_frame frame = {.kind = COHORT_FRAME_MASKS,
                          .rank = executor->output_rank,
                          .method = "",
                          .body = masks,
                          .body_bytes = size_bytes};
    pthread_mutex_lock(&executor->send_lock);
    cohort_status status = send_masks(executor, &frame);
    pthread_mutex_unlock(&executor->send_lock);
    return status;
}
