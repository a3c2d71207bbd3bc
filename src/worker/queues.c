/* SPDX-License-Identifier: Apache-2.0 */
#include "cohort/clock.h"
#include "cohort/queue.h"
#include "worker/control.h"

static cohort_status read_call(void *self, int64_t deadline_ns, const void **out_bytes,
                               size_t *out_size_bytes) {
    cohort_worker *worker = self;
    return cohort_queue_read_begin(worker->broadcast, deadline_ns, out_bytes,
                                   out_size_bytes);
}

static void end_call(void *self) {
    cohort_worker *worker = self;
    cohort_queue_read_end(worker->broadcast);
}

static cohort_status reply(void *self, const void *bytes, size_t size_bytes) {
    cohort_worker *worker = self;
    return cohort_queue_write(worker->response, bytes, size_bytes, COHORT_NEVER);
}

/* With worker->lock held. */
static void interrupt_queues(void *self) {
    cohort_worker *worker = self;
    if (worker->broadcast) cohort_queue_interrupt(worker->broadcast);
    if (worker->response) cohort_queue_interrupt(worker->response);
}

const cohort_worker_carrier cohort_worker_queues = {.read = read_call,
                                                    .read_end = end_call,
                                                    .reply = reply,
                                                    .interrupt = interrupt_queues};
