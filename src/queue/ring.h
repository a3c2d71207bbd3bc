/* SPDX-License-Identifier: Apache-2.0 */
/* queue/ring.h - the ring in shared memory: its layout, and the moves of its two sides.
 *
 *   | who am I | published, closed | data event | space event | reader 0 | reader 1 ..
 *   | slot 0: header, payload ... | slot 1 | ... | slot chunk_count-1 |
 *
 * A sequence counts slots from 0 and never wraps; slot number is sequence mod count.
 * The writer owns the slots in [published, min(consumed) + count), a reader those in
 * [its consumed, published).  A message is one slot, or several in a row (fragments).
 *
 * Everything that the other side wrote is checked before use: a ring full of hostile
 * bytes yields COHORT_E_PROTOCOL, never a wild access.  No call here waits or allocates.
 *
 * Ownership: the memory is the caller's.   Threads: one writer, one thread per reader.
 */
#ifndef COHORT_QUEUE_RING_H
#define COHORT_QUEUE_RING_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/wait.h"
#include "cohort/status.h"

/* Two cache lines: the adjacent-line prefetcher couples pairs of them. */
enum { COHORT_RING_LINE_BYTES = 128, COHORT_RING_VERSION = 1 };
enum { COHORT_RING_MAGIC = 0x474e5251 };
enum {
    COHORT_RING_MIN_CHUNK_BYTES = 64,
    COHORT_RING_MAX_CHUNK_BYTES = 1 << 30,
    COHORT_RING_MAX_CHUNKS = 1 << 16,
    COHORT_RING_MAX_READERS = 1024,
};

typedef struct cohort_ring_shape {
    uint32_t chunk_bytes;
    uint32_t chunk_count;
    uint32_t reader_count;
} cohort_ring_shape;

enum { COHORT_SEAT_OPEN = 0, COHORT_SEAT_LEFT = 1 };

typedef struct cohort_ring_seat {
    alignas(COHORT_RING_LINE_BYTES) _Atomic uint64_t consumed;
    _Atomic uint32_t state; /* COHORT_SEAT_*, written by the reader */
} cohort_ring_seat;

typedef struct cohort_ring {
    uint32_t magic;
    uint32_t version;
    uint64_t id;
    cohort_ring_shape shape;
    alignas(COHORT_RING_LINE_BYTES) _Atomic uint64_t published;
    _Atomic uint32_t closed;
    alignas(COHORT_RING_LINE_BYTES) cohort_event data;  /* readers sleep here */
    alignas(COHORT_RING_LINE_BYTES) cohort_event space; /* the writer sleeps here */
    cohort_ring_seat seats[];
} cohort_ring;
_Static_assert(offsetof(cohort_ring, published) == 128, "layout");
_Static_assert(offsetof(cohort_ring, data) == 256, "layout");
_Static_assert(offsetof(cohort_ring, space) == 384, "layout");
_Static_assert(offsetof(cohort_ring, seats) == 512, "layout");
_Static_assert(sizeof(cohort_ring_seat) == 128, "layout");

enum {
    COHORT_SLOT_FIRST = 1,
    COHORT_SLOT_LAST = 2,
    COHORT_SLOT_CLOSE = 4 /* on a stream only: the writer closed in an orderly way */
};

/* The payload follows at once, so that a small message shares a line with its length.
 * The same bytes are a frame of the TCP stream. */
typedef struct cohort_slot {
    uint32_t size_bytes; /* of this fragment */
    uint32_t flags;      /* COHORT_SLOT_* */
    uint64_t message_bytes;
} cohort_slot;
_Static_assert(sizeof(cohort_slot) == 16, "layout and wire");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the wire is little-endian");

cohort_status cohort_ring_shape_check(const cohort_ring_shape *shape);
/* Bytes that a ring of a checked shape needs. */
size_t cohort_ring_bytes(const cohort_ring_shape *shape);
/* ring: zeroed memory of that size, aligned to a page. */
void cohort_ring_format(cohort_ring *ring, const cohort_ring_shape *shape, uint64_t id);
/* PROTOCOL unless the memory says what the handle said. */
cohort_status cohort_ring_check(const cohort_ring *ring, size_t size_bytes,
                                const cohort_ring_shape *shape, uint64_t id);
/* Shape is the caller's own copy, never the one in shared memory. */
cohort_slot *cohort_ring_slot(cohort_ring *ring, const cohort_ring_shape *shape,
                              uint64_t sequence);

/* The writer's moves. */
void cohort_ring_publish(cohort_ring *ring, uint64_t published);
void cohort_ring_close(cohort_ring *ring);
/* Where that reader stands; PROTOCOL where it claims what cannot be, CLOSED where it
 * left. */
cohort_status cohort_ring_seat_look(cohort_ring *ring, uint32_t reader,
                                    uint64_t published, uint64_t *consumed);

/* The readers' moves.  look: OK and the new out_published where there is more than
 * `consumed`, PENDING where not, CLOSED after the last, PROTOCOL where it cannot be. */
cohort_status cohort_ring_look(cohort_ring *ring, const cohort_ring_shape *shape,
                               uint64_t consumed, uint64_t *out_published);
void cohort_ring_consume(cohort_ring *ring, uint32_t reader, uint64_t consumed);
void cohort_ring_leave(cohort_ring *ring, uint32_t reader);

/* Puts fragments together.  The buffer holds max_message_bytes and is the caller's; it
 * may be NULL where no message is longer than a chunk. */
typedef struct cohort_assembly {
    uint8_t *buffer;
    size_t max_message_bytes;
    uint32_t chunk_bytes;
    size_t message_bytes; /* of the message under way */
    size_t got_bytes;     /* 0: none under way */
} cohort_assembly;

/* Header is a private copy: what is checked here is what is used.  OK: a message is
 * complete, at payload itself or in the buffer; PENDING: fragments are missing. */
cohort_status cohort_assembly_feed(cohort_assembly *assembly, const cohort_slot *header,
                                   const void *payload, const void **out_message,
                                   size_t *out_size_bytes);

#endif /* COHORT_QUEUE_RING_H */
