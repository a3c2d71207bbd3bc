/* SPDX-License-Identifier: Apache-2.0 */
/* collective/outbox.h - what one rank shows to the others of its host: a memfd.
 *
 * Only its owner writes data into it; the others read, and store the tails of the pipes
 * that lead to them.
 *
 *   | doorbell | board of group 0 | ... | board 15 | pipes to rank 0 | ... |
 *
 * doorbell says whether the owner sleeps; whoever changes what it may wait for rings it
 *        (an eventfd that travels with the memfd), so that a rank waits in one place.
 * board  the owner's part in a group: a counter of the steps it has entered and two slots
 *        of data that everybody may read.  board.c has the rules.
 * pipe   bytes in order to one rank; one for the messages of cohort_send, and one for
 *        collectives of groups that reach other hosts too.
 *
 * Ownership: attach counts, detach uncounts; meshes that are threads of one process get
 * the same mapping, so that a thread sanitizer sees what they share.
 * Threads:   create, attach and detach from any; one thread at either end of a pipe.
 * Errors:    a peer's positions are checked before use: COHORT_E_PROTOCOL.
 */
#ifndef COHORT_COLLECTIVE_OUTBOX_H
#define COHORT_COLLECTIVE_OUTBOX_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "cohort/status.h"

enum {
    COHORT_PIPE_BYTES = 4 << 20, /* two sends of 1 MiB never wait; see cohort_send */
    COHORT_SLOT_BYTES = 128 << 10,
    COHORT_MAX_BOARDS = 16, /* groups of a mesh within one host */
    COHORT_OUTBOX_MAGIC = 0x4f425832
};

/* The streams between two ranks, which never mix: a message may lie unread while
 * collectives go on. */
typedef enum cohort_channel {
    COHORT_CHANNEL_COLLECTIVE,
    COHORT_CHANNEL_MESSAGE,
    COHORT_CHANNELS
} cohort_channel;

/* Positions count bytes from the beginning and never wrap; each on its own cache line. */
typedef struct cohort_pipe {
    _Alignas(64) _Atomic uint64_t head; /* written by the sender */
    _Alignas(64) _Atomic uint64_t tail; /* written by the receiver */
    _Alignas(64) uint8_t bytes[COHORT_PIPE_BYTES];
} cohort_pipe;

typedef struct cohort_board {
    _Alignas(64) _Atomic uint64_t key;     /* which group; 0: none */
    _Alignas(128) _Atomic uint64_t posted; /* steps entered */
    uint64_t given[2];                     /* what lies in each slot: kind and bytes */
    _Alignas(128) uint8_t slots[2][COHORT_SLOT_BYTES];
} cohort_board;

typedef struct cohort_outbox {
    _Atomic uint32_t magic; /* stored last */
    int32_t rank;
    int32_t world_size;
    _Atomic int32_t parting;              /* COHORT_PARTING_*, or the rank to blame */
    _Alignas(64) _Atomic uint32_t asleep; /* the doorbell */
    cohort_board boards[COHORT_MAX_BOARDS];
    cohort_pipe pipes[][COHORT_CHANNELS]; /* by receiving rank */
} cohort_outbox;

/* Why an owner hung up, for those who wonder: at work, closed in order, or a rank. */
enum { COHORT_PARTING_NOT = -2, COHORT_PARTING_IN_ORDER = -1 };

cohort_status cohort_outbox_create(int32_t rank, int32_t world_size, int *out_fd,
                                   cohort_outbox **out_outbox);
/* The outbox of that rank, if it is what it should be; fd stays the caller's. */
cohort_status cohort_outbox_attach(int fd, int32_t rank, int32_t world_size,
                                   cohort_outbox **out_outbox);
void cohort_outbox_detach(cohort_outbox *outbox); /* accepts NULL */

/* Wakes the owner if it sleeps; without a sleeper a fence and a load. */
void cohort_bell_ring(cohort_outbox *outbox, int bell_fd);

/* Move what they can without waiting: byte counts, or COHORT_E_PROTOCOL. */
int64_t cohort_pipe_put(cohort_pipe *pipe, const void *bytes, size_t size_bytes);
int64_t cohort_pipe_take(cohort_pipe *pipe, void *bytes, size_t size_bytes);

#endif /* COHORT_COLLECTIVE_OUTBOX_H */
