/* SPDX-License-Identifier: Apache-2.0 */
/* queue/stream.h - the ring's slots over TCP, for readers on other hosts.
 *
 *   writer: sender  -- frames: slot header, payload, padded to 16 -->  inbox :reader
 *                   <-- acks: u64, how many slots were read --
 *
 * A frame is a slot's own bytes.  A slot stays in the writer's ring until it was
 * acknowledged, so the ring is the send buffer, and back-pressure is the same as in
 * shared memory: nothing is dropped.  What a socket does not take at once is sent by a
 * thread of the sender, which sleeps otherwise.
 *
 * Ownership: links are borrowed; they outlive sender and inbox.
 * Threads:   sender and inbox belong to one thread each (the sender has its own beside).
 * Errors:    bare codes where a caller knows better what to say.
 */
#ifndef COHORT_QUEUE_STREAM_H
#define COHORT_QUEUE_STREAM_H

#include "link/link.h"
#include "queue/ring.h"

/* Acknowledged in place of a number by a reader that leaves in an orderly way. */
#define COHORT_ACK_GOODBYE UINT64_MAX

typedef struct cohort_sender cohort_sender;

/* The ring outlives the sender. */
cohort_status cohort_sender_open(cohort_ring *ring, const cohort_ring_shape *shape,
                                 cohort_sender **out_sender);
cohort_status cohort_sender_add(cohort_sender *sender, uint32_t reader,
                                cohort_link *link);
cohort_status cohort_sender_start(cohort_sender *sender);
/* Sends what the sockets take; the thread sends the rest.  Never waits. */
void cohort_sender_publish(cohort_sender *sender, uint64_t published);
/* Where that reader stands, as its acks say: OK, CLOSED, PEER_DIED or PROTOCOL. */
cohort_status cohort_sender_look(cohort_sender *sender, uint32_t reader,
                                 uint64_t *consumed);
/* True once after a send failed: look at the readers. */
bool cohort_sender_broke(cohort_sender *sender);
void cohort_sender_drop(cohort_sender *sender, uint32_t reader);
/* Sends the rest and the word that this was all, until the deadline at most. */
void cohort_sender_finish(cohort_sender *sender, int64_t deadline_ns);
void cohort_sender_close(cohort_sender *sender); /* accepts NULL */

typedef struct cohort_inbox {
    cohort_link *link;
    cohort_ring_shape shape;
    uint8_t *bytes;
    size_t capacity_bytes, begin, end;
    uint64_t consumed, acknowledged;
    uint8_t ack[8]; /* the tail of an ack that the socket did not take */
    size_t ack_left;
} cohort_inbox;

cohort_status cohort_inbox_init(cohort_inbox *inbox, const cohort_ring_shape *shape,
                                cohort_link *link);
void cohort_inbox_deinit(cohort_inbox *inbox);
/* OK: the next frame is here, borrowed until consume; PENDING, CLOSED, PEER_DIED,
 * PROTOCOL. */
cohort_status cohort_inbox_look(cohort_inbox *inbox, cohort_slot *out_header,
                                const void **out_payload);
void cohort_inbox_consume(cohort_inbox *inbox);
/* Tells the writer how far we are: at once, or when it may be waiting for it. */
void cohort_inbox_acknowledge(cohort_inbox *inbox, bool now);
void cohort_inbox_goodbye(cohort_inbox *inbox);
/* Looks at bytes as if they had come from the link; for tests. */
cohort_status cohort_inbox_parse(const cohort_inbox *inbox, cohort_slot *out_header,
                                 const void **out_payload);

#endif /* COHORT_QUEUE_STREAM_H */
