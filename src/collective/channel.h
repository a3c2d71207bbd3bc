/* SPDX-License-Identifier: Apache-2.0 */
/* collective/channel.h - bytes from one rank to another, in order: a ring in shared
 * memory or a TCP link.
 *
 * Each ordered pair of ranks on one host has a ring in the sender's outbox, a memfd that
 * all its neighbours map.  The outbox also holds the owner's doorbell: whoever puts bytes
 * in for it or takes bytes out of its rings rings it, so a rank waits in one place
 * whatever it waits for.
 *
 *   outbox of rank s:  | doorbell | ring s->0 | ring s->1 | ... |   (s->s is not used)
 *
 * Threads: one at either end of a ring.  Errors: a peer's positions are checked before
 * use.
 */
#ifndef COHORT_COLLECTIVE_CHANNEL_H
#define COHORT_COLLECTIVE_CHANNEL_H

#include <stdatomic.h>

#include "base/wait.h"
#include "cohort/status.h"
#include "link/link.h"

enum {
    COHORT_RING_BYTES = 4 << 20, /* two sends of 1 MiB never wait; see cohort_send */
    COHORT_OUTBOX_MAGIC = 0x4f425831
};

/* Positions count bytes from the beginning and never wrap; each on its own cache line. */
typedef struct cohort_ring {
    _Alignas(64) _Atomic uint64_t head; /* written by the sender */
    _Alignas(64) _Atomic uint64_t tail; /* written by the receiver */
    _Alignas(64) uint8_t bytes[COHORT_RING_BYTES];
} cohort_ring;

typedef struct cohort_outbox {
    uint32_t magic;
    int32_t rank;
    int32_t world_size;
    _Alignas(64) cohort_event doorbell;
    cohort_ring rings[]; /* by receiving rank */
} cohort_outbox;

size_t cohort_outbox_bytes(int32_t world_size);

/* One direction's end at this rank: moves what it can without waiting.  Results are byte
 * counts, or COHORT_E_PROTOCOL or COHORT_E_PEER_DIED. */
int64_t cohort_ring_put(cohort_ring *ring, const void *bytes, size_t size_bytes);
int64_t cohort_ring_take(cohort_ring *ring, void *bytes, size_t size_bytes);
int64_t cohort_stream_put(cohort_link *link, const void *bytes, size_t size_bytes);
int64_t cohort_stream_take(cohort_link *link, void *bytes, size_t size_bytes);

#endif /* COHORT_COLLECTIVE_CHANNEL_H */
