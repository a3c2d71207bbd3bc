/* SPDX-License-Identifier: Apache-2.0 */
/* executor/carrier.h - by what calls travel to the ranks, and replies back.
 *
 *   calls.c --send--> carrier ~~> ranks ~~> carrier --read, read_end--> calls.c
 *
 * What a call is, who replies and who waits is the same for all of them.  An executor
 * keeps to one; each epoch opens it anew.
 *
 * Threads: send with send_lock held, read and read_end by whoever pumps; interrupt and
 * transport with lock held, beside them; open by the monitor, link by whoever starts the
 * epoch; close while nobody else does any of it.
 * Errors:  those of cohort/queue.h.
 */
#ifndef COHORT_EXECUTOR_CARRIER_H
#define COHORT_EXECUTOR_CARRIER_H

#include "cohort/queue.h"
#include "wire/frame.h"

typedef struct cohort_executor cohort_executor;

typedef struct executor_carrier {
    /* Before ranks are told where to connect.  host: to bind for ranks on other hosts;
     * NULL: there are none. */
    cohort_status (*open)(cohort_executor *executor, const char *host);
    /* What a rank is told of it, in its table. */
    cohort_status (*export)(const cohort_executor *executor,
                            cohort_queue_handle *out_handle);
    /* The driver's ends, while the ranks do theirs; gives up where they are of no more
     * use. */
    cohort_status (*link)(cohort_executor *executor, int64_t deadline_ns);
    cohort_status (*send)(cohort_executor *executor, const cohort_frame *frame,
                          int64_t deadline_ns);
    /* The next message of that rank, whose reply is due; lent until read_end. */
    cohort_status (*read)(cohort_executor *executor, int32_t rank, int64_t deadline_ns,
                          const void **out_bytes, size_t *out_size_bytes);
    void (*read_end)(cohort_executor *executor, int32_t rank);
    /* Whoever waits in one of them returns. */
    void (*interrupt)(cohort_executor *executor);
    /* How a rank is reached; static text. */
    const char *(*transport)(const cohort_executor *executor, int32_t rank);
    void (*close)(cohort_executor *executor);
} executor_carrier;

/* A queue to all ranks, and one of each (queues.c). */
extern const executor_carrier executor_queues;
/* Two queues, to and from what the launcher has between us and the ranks; one epoch. */
extern const executor_carrier executor_relay;

#endif /* COHORT_EXECUTOR_CARRIER_H */
