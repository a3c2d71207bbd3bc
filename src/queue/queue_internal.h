/* SPDX-License-Identifier: Apache-2.0 */
/* queue/queue_internal.h - what queue.c, writer.c and reader.c share. */
#ifndef COHORT_QUEUE_INTERNAL_H
#define COHORT_QUEUE_INTERNAL_H

#include "cohort/queue.h"
#include "link/link.h"
#include "queue/ring.h"
#include "queue/shm.h"
#include "queue/stream.h"

enum { COHORT_TICKET_MAGIC = 0x55455143, COHORT_QUEUE_NAME_BYTES = 32 };

/* What a handle's bytes mean.  Written by one build, read by the same. */
typedef struct cohort_ticket {
    uint32_t magic;
    uint32_t version;
    uint64_t id;
    cohort_ring_shape shape;
    int32_t local_reader_count;
    uint64_t max_message_bytes;
    int64_t spin_ns;
    char name[COHORT_QUEUE_NAME_BYTES];
    cohort_link_address address;
} cohort_ticket;
_Static_assert(sizeof(cohort_ticket) <= sizeof(cohort_queue_handle), "fits the handle");

typedef struct cohort_queue_peer {
    cohort_link *link; /* NULL: not connected yet, or gone */
    bool remote;
    bool ready;
    bool gone;
    uint64_t consumed;
} cohort_queue_peer;

typedef struct cohort_writer {
    cohort_listener *listener;
    cohort_sender *sender; /* NULL: no remote readers */
    uint64_t next;         /* the slot to be written */
    uint64_t floor;        /* no live reader is behind it, when last looked */
    int32_t live_count;
    int32_t local_count;
    bool begun;
    bool fragmenting;
    size_t begun_bytes;
    cohort_queue_peer peers[];
} cohort_writer;

typedef struct cohort_reader {
    int32_t index;
    bool remote;
    bool said_ready;
    bool borrowed;
    cohort_link *link;
    cohort_inbox inbox; /* where remote */
    uint64_t consumed;
    uint64_t seen; /* published, when last looked */
    uint64_t messages;
    size_t buffer_bytes;
    cohort_assembly assembly;
} cohort_reader;

struct cohort_queue {
    cohort_ticket ticket;
    cohort_shm *shm;
    cohort_ring *_Atomic ring; /* set once; interrupt reads it from other threads */
    bool open;                 /* wait_ready has passed */
    atomic_bool interrupted;
    int64_t slice_ns; /* the longest sleep on memory; a test sets it to COHORT_NEVER */
    int64_t slept_ns; /* of the last wait */
    int wake_fd;      /* readable after an interrupt, for those who poll() */
    cohort_writer *writer; /* one of the two */
    cohort_reader *reader;
};

/* Something that a queue's thread waits for.  look: PENDING means not yet. */
typedef struct cohort_awaited {
    cohort_status (*look)(cohort_queue *queue, int32_t peer);
    int32_t peer;
    cohort_link *link;   /* its pulse, and what is polled where there is no event */
    cohort_event *event; /* NULL: poll the link */
} cohort_awaited;

/* Polls, then sleeps.  OK or look's error; TIMEOUT, PEER_DIED and CANCELLED come bare:
 * the caller knows who waits for whom. */
cohort_status cohort_queue_await(cohort_queue *queue, const cohort_awaited *awaited,
                                 int64_t deadline_ns);
/* CANCELLED, once, where somebody has interrupted; else OK. */
cohort_status cohort_queue_check_interrupt(cohort_queue *queue);
/* The same after a call that wake_fd has ended: a late ring of it may be an old one. */
cohort_status cohort_queue_heed_wake(cohort_queue *queue);
/* Sets the failed rank in the error just raised. */
cohort_status cohort_queue_blame(cohort_status status, int32_t rank);
/* The end of a wait: now + a slice, at most the deadline. */
int64_t cohort_queue_slice_end(int64_t deadline_ns);
/* "tcp 10.0.0.2:4242" or "shared memory, pid 4711". */
void cohort_queue_peer_describe(cohort_link *link, bool remote, char *out_text,
                                size_t size);

cohort_status cohort_writer_open(cohort_queue *queue, const char *listen_host);
cohort_status cohort_writer_wait_ready(cohort_queue *queue, int64_t deadline_ns);
void cohort_writer_close(cohort_queue *queue);

cohort_status cohort_reader_open(cohort_queue *queue, int32_t index);
cohort_status cohort_reader_wait_ready(cohort_queue *queue, int64_t deadline_ns);
void cohort_reader_close(cohort_queue *queue);

/* What both ends say to each other in wait_ready. */
#define COHORT_QUEUE_READY UINT64_C(0x5944414552514843)
#define COHORT_QUEUE_GO    UINT64_C(0x4f47515154524843)

#endif /* COHORT_QUEUE_INTERNAL_H */
