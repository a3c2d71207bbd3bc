/* SPDX-License-Identifier: Apache-2.0 */
/* A reader and a writer over a ring whose every byte is hostile, and a remote reader
 * whose stream is: nothing but an error or bytes within bounds may come of it.
 *
 * Input: 4 bytes choose the shape, the rest is laid over the ring's memory (readers'
 * lines, counters, slots), round after round, and is then a TCP stream. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz.h"
#include "link/link.h"
#include "queue/ring.h"
#include "queue/stream.h"

enum { MAX_MESSAGE_BYTES = 4096, MAX_RING_BYTES = 1 << 16 };

bool fuzz_is_valid;

/* Every byte that a message claims to have is read: a sanitizer sees where that is not
 * memory of ours. */
static void touch(const void *bytes, size_t size) {
    static volatile uint8_t sink;
    const uint8_t *next = bytes;
    uint8_t sum = 0;
    for (size_t i = 0; i < size; i++)
        sum ^= next[i];
    sink = sum;
    fuzz_is_valid = true; /* a message came of it */
    (void)sink;
}

static void expect(bool truth) {
    if (!truth) abort();
}

static void read_hostile_ring(cohort_ring *ring, const cohort_ring_shape *shape,
                              uint64_t consumed) {
    uint8_t buffer[MAX_MESSAGE_BYTES];
    cohort_assembly assembly = {.buffer = buffer,
                                .max_message_bytes = sizeof buffer,
                                .chunk_bytes = shape->chunk_bytes};
    uint64_t seen = consumed;
    if (cohort_ring_look(ring, shape, consumed, &seen) != COHORT_OK) return;
    expect(seen - consumed <= shape->chunk_count);
    for (; consumed != seen; consumed++) {
        const cohort_slot *slot = cohort_ring_slot(ring, shape, consumed);
        cohort_slot header = *slot;
        const void *message = NULL;
        size_t size = 0;
        cohort_status status =
            cohort_assembly_feed(&assembly, &header, slot + 1, &message, &size);
        if (status < 0) return;
        expect(assembly.got_bytes <= sizeof buffer);
        if (status == COHORT_PENDING) continue;
        expect(size <= sizeof buffer);
        touch(message, size);
    }
}

static void write_to_hostile_readers(cohort_ring *ring, const cohort_ring_shape *shape,
                                     uint64_t published) {
    for (uint32_t i = 0; i < shape->reader_count; i++) {
        uint64_t before = published < shape->chunk_count ? 0 : published - 1;
        uint64_t consumed = before;
        if (cohort_ring_seat_look(ring, i, published, &consumed) == COHORT_E_PROTOCOL)
            expect(consumed == before);
        expect(consumed >= before && consumed <= published);
    }
}

static void read_hostile_stream(const cohort_ring_shape *shape, const uint8_t *data,
                                size_t size) {
    int fds[2];
    cohort_link *link = NULL;
    if (size > 32768 || socketpair(AF_UNIX, SOCK_STREAM, 0, fds)) return;
    expect(send(fds[1], data, size, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)size ||
           size == 0);
    close(fds[1]);
    expect(cohort_link_adopt(fds[0], &link) == COHORT_OK);
    uint8_t buffer[MAX_MESSAGE_BYTES];
    cohort_assembly assembly = {.buffer = buffer,
                                .max_message_bytes = sizeof buffer,
                                .chunk_bytes = shape->chunk_bytes};
    cohort_inbox inbox;
    expect(cohort_inbox_init(&inbox, shape, link) == COHORT_OK);
    cohort_slot header;
    const void *payload, *message;
    size_t message_bytes;
    while (cohort_inbox_look(&inbox, &header, &payload) == COHORT_OK) {
        cohort_status status =
            cohort_assembly_feed(&assembly, &header, payload, &message, &message_bytes);
        if (status < 0) break;
        if (status == COHORT_OK) touch(message, message_bytes);
        cohort_inbox_consume(&inbox);
        cohort_inbox_acknowledge(&inbox, true);
    }
    cohort_inbox_deinit(&inbox);
    cohort_link_close(link);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 4) return 0;
    cohort_ring_shape shape = {.chunk_bytes = 64u << (data[0] & 3),
                               .chunk_count = 1 + (data[1] & 15),
                               .reader_count = 1 + (data[2] & 3)};
    uint64_t sequence = data[3];
    data += 4;
    size -= 4;
    size_t bytes = cohort_ring_bytes(&shape);
    expect(bytes <= MAX_RING_BYTES && cohort_ring_shape_check(&shape) == COHORT_OK);
    cohort_ring *ring = aligned_alloc(4096, bytes);
    memset(ring, 0, bytes);
    cohort_ring_format(ring, &shape, 7);
    /* Counters near the truth, so that slots are reached: then whatever the input says.
     */
    atomic_store(&ring->published, sequence + shape.chunk_count);
    if (size) {
        uint8_t *slots = (uint8_t *)cohort_ring_slot(ring, &shape, 0);
        size_t room = bytes - (size_t)(slots - (uint8_t *)ring);
        memcpy(slots, data, size < room ? size : room);
    }
    read_hostile_ring(ring, &shape, sequence);
    memcpy((uint8_t *)ring, data, size < bytes ? size : bytes);
    if (cohort_ring_check(ring, bytes, &shape, 7) < 0)
        cohort_ring_format(ring, &shape, 7);
    read_hostile_ring(ring, &shape, sequence);
    write_to_hostile_readers(ring, &shape, sequence);
    free(ring);
    read_hostile_stream(&shape, data, size);
    return 0;
}
