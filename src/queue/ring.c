/* SPDX-License-Identifier: Apache-2.0 */
#include "queue/ring.h"

#include <string.h>

#include "base/fail.h"

/* Design notes.
 *
 * What if this process dies here?  The writer before publish: nothing was visible.  The
 * writer after it: readers finish what is published, then see its link gone.  A reader
 * while it holds slots: its consumed stands still, the writer fills the rest, waits, sees
 * the reader's link gone and forgets the seat.  No lock exists that could stay taken.
 *
 * Memory orders.  models/ring.pml has each of them by its letter, and fails without it
 * (models/orders.tsv ties the two):
 *   A  publish: release store of published.  The payload is written before.
 *   B  look: acquire load of published.  Pairs with A: the payload is read after it.
 *   C  consume: release store of consumed.  The payload's last read is before.
 *   D  seat_look: acquire load of consumed.  Pairs with C: the slot is overwritten after.
 *   E  cohort_event_signal: seq_cst fence between A (or C) and the load of sleepers.
 *   F  cohort_event_prepare: seq_cst fence between the count of sleepers and the last
 *      look.  Without E or F both sides may read the old value, and a wake-up is lost.
 *      (The model has E1 and F1 for data, E2 and F2 for space.)
 *   closed is released after the last publish and acquired before the last look, so that
 *   CLOSED comes after the last message.
 *
 * Disruptor layout: published is written by the writer alone, each consumed by one reader
 * alone, all on lines of their own; waiting sides poll a line that changes only when
 * there is news.  Private copies of the own counter are kept by both sides and never read
 * back: whoever can write the ring cannot move them. */

static size_t slots_offset(const cohort_ring_shape *shape) {
    size_t bytes = sizeof(cohort_ring) + shape->reader_count * sizeof(cohort_ring_seat);
    return (bytes + 4095) & ~(size_t)4095;
}

static size_t slot_stride(const cohort_ring_shape *shape) {
    /* chunk_bytes is a power of two of at least 64; one more line for the header. */
    return shape->chunk_bytes + (size_t)64;
}

cohort_status cohort_ring_shape_check(const cohort_ring_shape *shape) {
    uint32_t chunk = shape->chunk_bytes;
    if (chunk < COHORT_RING_MIN_CHUNK_BYTES || chunk > COHORT_RING_MAX_CHUNK_BYTES ||
        (chunk & (chunk - 1)))
        return COHORT_FAIL(COHORT_E_INVALID,
                           "chunk_bytes %u is not a power of two from %d to %d", chunk,
                           COHORT_RING_MIN_CHUNK_BYTES, COHORT_RING_MAX_CHUNK_BYTES);
    if (!shape->chunk_count || shape->chunk_count > COHORT_RING_MAX_CHUNKS)
        return COHORT_FAIL(COHORT_E_INVALID, "chunk_count %u is not from 1 to %d",
                           shape->chunk_count, COHORT_RING_MAX_CHUNKS);
    if (!shape->reader_count || shape->reader_count > COHORT_RING_MAX_READERS)
        return COHORT_FAIL(COHORT_E_INVALID, "reader_count %u is not from 1 to %d",
                           shape->reader_count, COHORT_RING_MAX_READERS);
    return COHORT_OK;
}

size_t cohort_ring_bytes(const cohort_ring_shape *shape) {
    size_t bytes = slots_offset(shape) + slot_stride(shape) * shape->chunk_count;
    return (bytes + 4095) & ~(size_t)4095;
}

void cohort_ring_format(cohort_ring *ring, const cohort_ring_shape *shape, uint64_t id) {
    ring->magic = COHORT_RING_MAGIC;
    ring->version = COHORT_RING_VERSION;
    ring->id = id;
    ring->shape = *shape;
}

cohort_status cohort_ring_check(const cohort_ring *ring, size_t size_bytes,
                                const cohort_ring_shape *shape, uint64_t id) {
    if (size_bytes != cohort_ring_bytes(shape))
        return COHORT_FAIL(COHORT_E_PROTOCOL, "a ring of %zu bytes where %zu belong",
                           size_bytes, cohort_ring_bytes(shape));
    if (ring->magic != COHORT_RING_MAGIC || ring->version != COHORT_RING_VERSION)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "this memory is no ring of version %d",
                           COHORT_RING_VERSION);
    if (ring->id != id || memcmp(&ring->shape, shape, sizeof *shape) != 0)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "the ring is not the one of the handle");
    return COHORT_OK;
}

cohort_slot *cohort_ring_slot(cohort_ring *ring, const cohort_ring_shape *shape,
                              uint64_t sequence) {
    uint32_t count = shape->chunk_count;
    size_t index = count & (count - 1) ? sequence % count : sequence & (count - 1);
    return (cohort_slot *)((uint8_t *)ring + slots_offset(shape) +
                           slot_stride(shape) * index);
}

void cohort_ring_publish(cohort_ring *ring, uint64_t published) {
    atomic_store_explicit(&ring->published, published, memory_order_release); /* A */
    cohort_event_signal(&ring->data);                                         /* E */
}

void cohort_ring_close(cohort_ring *ring) {
    /* After the last publish; acquired in cohort_ring_look. */
    atomic_store_explicit(&ring->closed, 1, memory_order_release);
    cohort_event_signal(&ring->data);
}

cohort_status cohort_ring_seat_look(cohort_ring *ring, uint32_t reader,
                                    uint64_t published, uint64_t *consumed) {
    cohort_ring_seat *seat = &ring->seats[reader];
    /* Pairs with cohort_ring_leave: what the reader read, it read before. */
    uint32_t state = atomic_load_explicit(&seat->state, memory_order_acquire);
    uint64_t now = atomic_load_explicit(&seat->consumed, memory_order_acquire); /* D */
    if (now < *consumed || now > published)
        return COHORT_FAIL(COHORT_E_PROTOCOL,
                           "reader %u claims to have read %llu slots of %llu", reader,
                           (unsigned long long)now, (unsigned long long)published);
    *consumed = now;
    return state == COHORT_SEAT_OPEN ? COHORT_OK : COHORT_E_CLOSED;
}

cohort_status cohort_ring_look(cohort_ring *ring, const cohort_ring_shape *shape,
                               uint64_t consumed, uint64_t *out_published) {
    /* Read before published: once closed is seen, nothing is published any more.  Pairs
     * with cohort_ring_close. */
    uint32_t closed = atomic_load_explicit(&ring->closed, memory_order_acquire);
    uint64_t published =
        atomic_load_explicit(&ring->published, memory_order_acquire); /* B */
    if (published - consumed > shape->chunk_count)
        return COHORT_FAIL(COHORT_E_PROTOCOL,
                           "the writer claims %llu slots where %llu were read of %u",
                           (unsigned long long)published, (unsigned long long)consumed,
                           shape->chunk_count);
    *out_published = published;
    if (published != consumed) return COHORT_OK;
    return closed ? COHORT_E_CLOSED : COHORT_PENDING;
}

void cohort_ring_consume(cohort_ring *ring, uint32_t reader, uint64_t consumed) {
    atomic_store_explicit(&ring->seats[reader].consumed, consumed,
                          memory_order_release); /* C */
    cohort_event_signal(&ring->space);           /* E */
}

void cohort_ring_leave(cohort_ring *ring, uint32_t reader) {
    atomic_store_explicit(&ring->seats[reader].state, COHORT_SEAT_LEFT,
                          memory_order_release);
    cohort_event_signal(&ring->space);
}

static cohort_status check_header(const cohort_assembly *assembly,
                                  const cohort_slot *header) {
    bool first = header->flags & COHORT_SLOT_FIRST;
    bool last = header->flags & COHORT_SLOT_LAST;
    size_t before = first ? 0 : assembly->got_bytes;
    if (header->flags & ~(uint32_t)(COHORT_SLOT_FIRST | COHORT_SLOT_LAST))
        return COHORT_FAIL(COHORT_E_PROTOCOL, "a fragment with flags %x", header->flags);
    if (header->size_bytes > assembly->chunk_bytes ||
        header->message_bytes > assembly->max_message_bytes)
        return COHORT_FAIL(
            COHORT_E_PROTOCOL,
            "a fragment of %u bytes and a message of %llu where %u and %zu are allowed",
            header->size_bytes, (unsigned long long)header->message_bytes,
            assembly->chunk_bytes, assembly->max_message_bytes);
    if (!first && (!before || header->message_bytes != assembly->message_bytes))
        return COHORT_FAIL(COHORT_E_PROTOCOL, "a fragment that continues no message");
    if (header->size_bytes > header->message_bytes - before ||
        last != (header->size_bytes == header->message_bytes - before) ||
        (!last && !header->size_bytes))
        return COHORT_FAIL(COHORT_E_PROTOCOL, "fragments of %zu + %u of %llu bytes",
                           before, header->size_bytes,
                           (unsigned long long)header->message_bytes);
    return COHORT_OK;
}

cohort_status cohort_assembly_feed(cohort_assembly *assembly, const cohort_slot *header,
                                   const void *payload, const void **out_message,
                                   size_t *out_size_bytes) {
    COHORT_TRY(check_header(assembly, header));
    /* A first fragment in the middle of a message: the writer withdrew what it began. */
    if (header->flags & COHORT_SLOT_FIRST) assembly->got_bytes = 0;
    bool last = header->flags & COHORT_SLOT_LAST;
    if (last && !assembly->got_bytes) {
        *out_message = payload;
        *out_size_bytes = header->size_bytes;
        return COHORT_OK;
    }
    if (!assembly->buffer)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "a fragment where messages are one slot");
    memcpy(assembly->buffer + assembly->got_bytes, payload, header->size_bytes);
    assembly->got_bytes += header->size_bytes;
    assembly->message_bytes = header->message_bytes;
    if (!last) return COHORT_PENDING;
    *out_message = assembly->buffer;
    *out_size_bytes = assembly->got_bytes;
    assembly->got_bytes = 0;
    return COHORT_OK;
}
