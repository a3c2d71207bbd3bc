/* SPDX-License-Identifier: Apache-2.0 */
#include "collective/channel.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fail.h"

/* Design notes.
 *
 * The sender stores bytes, then head (release); the receiver loads head (acquire),
 * copies, then stores tail (release); the sender loads tail (acquire) before it
 * overwrites.  If either dies its position stays where it is: the other sees a ring that
 * is full or empty, and the pulse of the link tells it why. */

size_t cohort_outbox_bytes(int32_t world_size) {
    return sizeof(cohort_outbox) + sizeof(cohort_ring) * (size_t)world_size;
}

static cohort_status broken(uint64_t head, uint64_t tail) {
    return COHORT_FAIL(COHORT_E_PROTOCOL, "a ring at %llu of %llu bytes",
                       (unsigned long long)tail, (unsigned long long)head);
}

static size_t lesser(size_t a, size_t b) { return a < b ? a : b; }

int64_t cohort_ring_put(cohort_ring *ring, const void *bytes, size_t size_bytes) {
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed); /* ours */
    /* Acquires the receiver's release of the space. */
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
    if (head - tail > COHORT_RING_BYTES) return broken(head, tail);
    size_t n = lesser(size_bytes, COHORT_RING_BYTES - (size_t)(head - tail));
    if (!n) return 0;
    size_t at = (size_t)(head % COHORT_RING_BYTES);
    size_t first = lesser(n, COHORT_RING_BYTES - at);
    memcpy(ring->bytes + at, bytes, first);
    memcpy(ring->bytes, (const uint8_t *)bytes + first, n - first);
    atomic_store_explicit(&ring->head, head + n, memory_order_release);
    return (int64_t)n;
}

int64_t cohort_ring_take(cohort_ring *ring, void *bytes, size_t size_bytes) {
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed); /* ours */
    /* Acquires the sender's release of the bytes. */
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_acquire);
    if (head - tail > COHORT_RING_BYTES) return broken(head, tail);
    size_t n = lesser(size_bytes, (size_t)(head - tail));
    if (!n) return 0;
    size_t at = (size_t)(tail % COHORT_RING_BYTES);
    size_t first = lesser(n, COHORT_RING_BYTES - at);
    memcpy(bytes, ring->bytes + at, first);
    memcpy((uint8_t *)bytes + first, ring->bytes, n - first);
    atomic_store_explicit(&ring->tail, tail + n, memory_order_release);
    return (int64_t)n;
}

static int64_t stream_result(ssize_t moved, bool closed) {
    if (moved > 0) return moved;
    if (moved < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return 0;
    if (closed || errno == ECONNRESET || errno == EPIPE || errno == ETIMEDOUT)
        return COHORT_FAIL(COHORT_E_PEER_DIED, "the connection ended");
    return COHORT_FAIL_SYS(errno, "a socket of the mesh");
}

int64_t cohort_stream_put(cohort_link *link, const void *bytes, size_t size_bytes) {
    return stream_result(
        send(cohort_link_fd(link), bytes, size_bytes, MSG_DONTWAIT | MSG_NOSIGNAL),
        false);
}

int64_t cohort_stream_take(cohort_link *link, void *bytes, size_t size_bytes) {
    ssize_t got = recv(cohort_link_fd(link), bytes, size_bytes, MSG_DONTWAIT);
    return stream_result(got, got == 0);
}
