/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/fail.h"
#include "base/log.h"
#include "cohort/clock.h"
#include "queue/queue_internal.h"

/* Design notes.
 *
 * A reader remembers nothing between calls but how far it consumed: after a timeout or
 * an interrupt the next call computes its slot anew (R26: a cached slot read the wrong
 * block).  Fragments are consumed as they are copied out; what is put together so far
 * survives a timeout.
 *
 * The buffer for long messages is reserved address space: pages exist once written. */

/* One that was never answered is begun anew. */
enum { CONNECT_SLICE_MS = 1000 };

cohort_status cohort_reader_open(cohort_queue *queue, int32_t index) {
    const cohort_ticket *ticket = &queue->ticket;
    cohort_reader *reader = queue->reader = calloc(1, sizeof *queue->reader);
    if (!reader) return COHORT_FAIL(COHORT_E_NOMEM, "allocating a reader");
    reader->index = index;
    reader->assembly = (cohort_assembly){.max_message_bytes = ticket->max_message_bytes,
                                         .chunk_bytes = ticket->shape.chunk_bytes};
    if (ticket->max_message_bytes <= ticket->shape.chunk_bytes) return COHORT_OK;
    void *buffer = mmap(NULL, ticket->max_message_bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (buffer == MAP_FAILED)
        return COHORT_FAIL(COHORT_E_NOMEM, "reserving %llu bytes for a message",
                           (unsigned long long)ticket->max_message_bytes);
    reader->assembly.buffer = buffer;
    reader->buffer_bytes = ticket->max_message_bytes;
    return COHORT_OK;
}

static cohort_status connect_once(cohort_queue *queue, int64_t deadline_ns) {
    cohort_reader *reader = queue->reader;
    const cohort_ticket *ticket = &queue->ticket;
    cohort_link_hello hello = {
        .purpose = COHORT_LINK_QUEUE, .rank = reader->index, .detail = ticket->id};
    bool tcp_only = reader->index >= ticket->local_reader_count;
    cohort_status status = cohort_link_connect(
        &ticket->address, tcp_only, &hello, deadline_ns, queue->wake_fd, &reader->link);
    if (status == COHORT_E_IO && !tcp_only) {
        /* This host, but its unix socket is out of reach. */
        cohort_error first = *cohort_last_error();
        status = cohort_link_connect(&ticket->address, true, &hello, deadline_ns,
                                     queue->wake_fd, &reader->link);
        if (status < 0) return cohort_fail_adopt(&first);
    }
    COHORT_TRY(status);
    reader->remote = cohort_link_kind_of(reader->link) == COHORT_LINK_TCP;
    if (reader->remote && !tcp_only)
        cohort_log(COHORT_LOG_INFO, "queue", reader->index,
                   "event=local_reader_uses_tcp queue=%s", ticket->name);
    return COHORT_OK;
}

static cohort_status connect_to_writer(cohort_queue *queue, int64_t deadline_ns) {
    while (!queue->reader->link) {
        if (cohort_queue_heed_wake(queue) < 0)
            return COHORT_FAIL(COHORT_E_CANCELLED, "interrupted");
        int64_t slice_ns = cohort_deadline_ms(CONNECT_SLICE_MS);
        cohort_status status =
            connect_once(queue, slice_ns < deadline_ns ? slice_ns : deadline_ns);
        if (status == COHORT_E_CANCELLED) continue;
        if (status == COHORT_E_TIMEOUT && cohort_clock_ns() < deadline_ns) continue;
        if (status == COHORT_E_TIMEOUT)
            return COHORT_FAIL(status, "reader %d waits for the writer to admit it",
                               queue->reader->index);
        COHORT_TRY(status);
    }
    return COHORT_OK;
}

/* The ring where it is shared, the inbox where not. */
static cohort_status receive_ring(cohort_queue *queue, int64_t deadline_ns) {
    cohort_reader *reader = queue->reader;
    const cohort_ticket *ticket = &queue->ticket;
    if (reader->remote)
        return reader->inbox.bytes
                   ? COHORT_OK
                   : cohort_inbox_init(&reader->inbox, &ticket->shape, reader->link);
    if (queue->ring) return COHORT_OK;
    int fd = -1;
    size_t size_bytes = cohort_ring_bytes(&ticket->shape);
    COHORT_TRY(cohort_link_recv_fds(reader->link, &fd, 1, deadline_ns));
    COHORT_TRY(cohort_shm_attach(ticket->id, fd, size_bytes, &queue->shm));
    cohort_ring *ring = cohort_shm_base(queue->shm);
    COHORT_TRY(cohort_ring_check(ring, size_bytes, &ticket->shape, ticket->id));
    queue->ring = ring;
    return COHORT_OK;
}

static cohort_status hear_go(cohort_queue *queue, int64_t deadline_ns) {
    for (;;) {
        if (cohort_queue_heed_wake(queue) < 0)
            return COHORT_FAIL(COHORT_E_CANCELLED, "interrupted");
        uint64_t word = 0;
        cohort_link_cancel_by(queue->reader->link, queue->wake_fd);
        cohort_status status =
            cohort_link_recv(queue->reader->link, &word, sizeof word, deadline_ns);
        cohort_link_cancel_by(queue->reader->link, -1);
        if (status == COHORT_OK && word != COHORT_QUEUE_GO)
            return COHORT_FAIL(COHORT_E_PROTOCOL, "the writer says what it cannot mean");
        if (status == COHORT_E_TIMEOUT)
            return COHORT_FAIL(status, "reader %d waits for the other readers",
                               queue->reader->index);
        if (status != COHORT_E_CANCELLED) return status;
    }
}

static cohort_status wait_ready(cohort_queue *queue, int64_t deadline_ns) {
    cohort_reader *reader = queue->reader;
    COHORT_TRY(connect_to_writer(queue, deadline_ns));
    COHORT_TRY(receive_ring(queue, deadline_ns));
    if (!reader->said_ready) {
        uint64_t ready = COHORT_QUEUE_READY;
        COHORT_TRY(cohort_link_send(reader->link, &ready, sizeof ready, deadline_ns));
        reader->said_ready = true;
    }
    return hear_go(queue, deadline_ns);
}

cohort_status cohort_reader_wait_ready(cohort_queue *queue, int64_t deadline_ns) {
    COHORT_TRY_WHILE(wait_ready(queue, deadline_ns), "reader %d opens queue '%s'",
                     queue->reader->index, queue->ticket.name);
    queue->open = true;
    return COHORT_OK;
}

static cohort_status look_for_data(cohort_queue *queue, int32_t unused) {
    (void)unused;
    cohort_reader *reader = queue->reader;
    if (reader->remote) {
        cohort_slot header;
        const void *payload;
        cohort_status status = cohort_inbox_look(&reader->inbox, &header, &payload);
        if (status == COHORT_PENDING) cohort_inbox_acknowledge(&reader->inbox, true);
        return status;
    }
    if (reader->seen != reader->consumed) return COHORT_OK;
    return cohort_ring_look(queue->ring, &queue->ticket.shape, reader->consumed,
                            &reader->seen);
}

static cohort_status explain(cohort_queue *queue, cohort_status status) {
    cohort_reader *reader = queue->reader;
    char who[80];
    cohort_queue_peer_describe(reader->link, reader->remote, who, sizeof who);
    const char *name = queue->ticket.name;
    switch (status) {
    case COHORT_E_TIMEOUT:
        return COHORT_FAIL(
            status,
            "reader %d of queue '%s' waits for the writer (%s), %llu messages read",
            reader->index, name, who, (unsigned long long)reader->messages);
    case COHORT_E_PEER_DIED:
        return COHORT_FAIL(status, "the writer (%s) of queue '%s' died", who, name);
    case COHORT_E_CLOSED:
        return COHORT_FAIL(status, "the writer (%s) closed queue '%s'", who, name);
    case COHORT_E_CANCELLED:
        return COHORT_FAIL(status, "interrupted while reading queue '%s'", name);
    default:
        return cohort_fail_while(status, "reader %d reads queue '%s' (%s)", reader->index,
                                 name, who);
    }
}

static void consume(cohort_queue *queue) {
    cohort_reader *reader = queue->reader;
    reader->consumed++;
    if (reader->remote)
        cohort_inbox_consume(&reader->inbox);
    else
        cohort_ring_consume(queue->ring, (uint32_t)reader->index, reader->consumed);
}

/* Takes the slot that look_for_data found.  PENDING: it was not the last fragment. */
static cohort_status take_slot(cohort_queue *queue, const void **out_payload,
                               size_t *out_size_bytes) {
    cohort_reader *reader = queue->reader;
    cohort_slot header;
    const void *payload;
    if (reader->remote) {
        COHORT_TRY(cohort_inbox_look(&reader->inbox, &header, &payload));
    } else {
        const cohort_slot *slot =
            cohort_ring_slot(queue->ring, &queue->ticket.shape, reader->consumed);
        header = *slot; /* once: what is checked is what is used */
        payload = slot + 1;
    }
    cohort_status status = cohort_assembly_feed(&reader->assembly, &header, payload,
                                                out_payload, out_size_bytes);
    if (status == COHORT_PENDING) {
        consume(queue);
        if (reader->remote) cohort_inbox_acknowledge(&reader->inbox, false);
    }
    return status;
}

cohort_status cohort_queue_read_begin(cohort_queue *queue, int64_t deadline_ns,
                                      const void **out_payload, size_t *out_size_bytes) {
    cohort_reader *reader = queue->reader;
    if (!reader || !queue->open)
        return COHORT_FAIL(COHORT_E_INVALID, "queue '%s': %s", queue->ticket.name,
                           reader ? "wait_ready comes before read"
                                  : "its writer cannot read it");
    if (reader->borrowed)
        return COHORT_FAIL(COHORT_E_INVALID, "queue '%s': the last read was not ended",
                           queue->ticket.name);
    cohort_awaited awaited = {.look = look_for_data,
                              .link = reader->link,
                              .event = reader->remote ? NULL : &queue->ring->data};
    for (;;) {
        cohort_status status = look_for_data(queue, 0);
        if (status == COHORT_PENDING)
            status = cohort_queue_await(queue, &awaited, deadline_ns);
        if (status == COHORT_OK) status = take_slot(queue, out_payload, out_size_bytes);
        if (status < 0) return explain(queue, status);
        if (status == COHORT_PENDING) continue;
        reader->borrowed = true;
        return COHORT_OK;
    }
}

void cohort_queue_read_end(cohort_queue *queue) {
    cohort_reader *reader = queue->reader;
    if (!reader || !reader->borrowed) return;
    reader->borrowed = false;
    reader->messages++;
    consume(queue);
    if (reader->remote) cohort_inbox_acknowledge(&reader->inbox, false);
}

void cohort_reader_close(cohort_queue *queue) {
    cohort_reader *reader = queue->reader;
    if (queue->open && reader->remote)
        cohort_inbox_goodbye(&reader->inbox);
    else if (queue->open)
        cohort_ring_leave(queue->ring, (uint32_t)reader->index);
    cohort_inbox_deinit(&reader->inbox);
    if (reader->assembly.buffer) munmap(reader->assembly.buffer, reader->buffer_bytes);
    cohort_link_close(reader->link);
    free(reader);
}
