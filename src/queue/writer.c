/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/log.h"
#include "cohort/clock.h"
#include "queue/queue_internal.h"

/* Design notes.
 *
 * The writer keeps `floor`, the least that any reader had consumed when it last looked:
 * most writes look at no reader's line at all.
 *
 * Departures: a reader that died, left or broke the protocol is dropped where it is
 * found, its slots count as read, and that call fails naming it.  Local readers are only
 * looked at when the window seems full, or their death would cost each write a system
 * call; the executor that owns the processes hears of deaths sooner by other ways.
 *
 * A long message is withdrawn by beginning another: readers drop what they put together
 * when a first fragment comes (see cohort_assembly_feed). */
enum { LINGER_MS = 5000, REPLACE_MS = 2500 };

static cohort_queue_peer *peer_of(cohort_queue *queue, int32_t reader) {
    return &queue->writer->peers[reader];
}

static int32_t reader_count(const cohort_queue *queue) {
    return (int32_t)queue->ticket.shape.reader_count;
}

cohort_status cohort_writer_open(cohort_queue *queue, const char *listen_host) {
    const cohort_ring_shape *shape = &queue->ticket.shape;
    queue->writer = calloc(1, sizeof *queue->writer +
                                  shape->reader_count * sizeof(cohort_queue_peer));
    if (!queue->writer) return COHORT_FAIL(COHORT_E_NOMEM, "allocating a queue");
    COHORT_TRY(
        cohort_shm_create(queue->ticket.id, cohort_ring_bytes(shape), &queue->shm));
    queue->ring = cohort_shm_base(queue->shm);
    cohort_ring_format(queue->ring, shape, queue->ticket.id);
    COHORT_TRY(cohort_listener_open(listen_host, &queue->writer->listener));
    cohort_listener_address(queue->writer->listener, &queue->ticket.address);
    cohort_listener_cancel_by(queue->writer->listener, queue->wake_fd);
    return COHORT_OK;
}

/* Which readers have not got as far as that; for a message. */
static void list_missing(cohort_queue *queue, bool ready, char *out_text, size_t size) {
    size_t used = 0;
    int missing = 0;
    out_text[0] = '\0';
    for (int32_t i = 0; i < reader_count(queue); i++) {
        if (ready ? peer_of(queue, i)->ready : peer_of(queue, i)->link != NULL) continue;
        if (++missing > 8) break;
        used += (size_t)snprintf(out_text + used, size - used, "%s%d",
                                 missing > 1 ? ", " : "", i);
    }
    if (missing > 8) snprintf(out_text + used, size - used, ", ...");
}

/* Gives a connected stranger its seat, or turns it away. */
static void seat_reader(cohort_queue *queue, const cohort_link_hello *hello,
                        cohort_link *link) {
    cohort_queue_peer *peer = NULL;
    if (hello->purpose == COHORT_LINK_QUEUE && hello->detail == queue->ticket.id &&
        hello->rank >= 0 && hello->rank < reader_count(queue))
        peer = peer_of(queue, hello->rank);
    if (peer && peer->link && cohort_link_peer_gone(peer->link)) {
        cohort_link_close(peer->link); /* it tries again */
        *peer = (cohort_queue_peer){0};
    }
    if (!peer || peer->link) {
        cohort_log(COHORT_LOG_WARNING, "queue", hello->rank,
                   "event=reader_refused queue=%s reason=%s", queue->ticket.name,
                   peer ? "seat_taken" : "no_such_seat");
        cohort_link_close(link);
        return;
    }
    bool remote = cohort_link_kind_of(link) == COHORT_LINK_TCP;
    int fd = cohort_shm_fd(queue->shm);
    if (!remote &&
        cohort_link_send_fds(link, &fd, 1, cohort_queue_slice_end(COHORT_NEVER)) < 0) {
        cohort_link_close(link);
        return;
    }
    *peer = (cohort_queue_peer){.link = link, .remote = remote};
}

static cohort_status admit_readers(cohort_queue *queue, int64_t deadline_ns) {
    for (;;) {
        char missing[96];
        list_missing(queue, false, missing, sizeof missing);
        if (!missing[0]) return COHORT_OK;
        if (cohort_queue_heed_wake(queue) < 0)
            return COHORT_FAIL(COHORT_E_CANCELLED, "interrupted");
        cohort_link_hello hello;
        cohort_link *link = NULL;
        cohort_status status =
            cohort_listener_accept(queue->writer->listener, deadline_ns, &hello, &link);
        if (status == COHORT_OK)
            seat_reader(queue, &hello, link);
        else if (status != COHORT_E_TIMEOUT && status != COHORT_E_CANCELLED)
            return status;
        else if (status == COHORT_E_TIMEOUT)
            return COHORT_FAIL(COHORT_E_TIMEOUT,
                               "the writer waits for readers %s to attach", missing);
    }
}

/* One word from a reader that has a seat; bare codes. */
static cohort_status hear_word(cohort_queue *queue, cohort_queue_peer *peer,
                               int64_t deadline_ns) {
    if (peer->ready)
        return cohort_link_peer_gone(peer->link)
                   ? COHORT_FAIL(COHORT_E_PEER_DIED, "its link is closed")
                   : COHORT_OK;
    if (cohort_queue_heed_wake(queue) < 0)
        return COHORT_FAIL(COHORT_E_CANCELLED, "interrupted");
    uint64_t word = 0;
    cohort_link_cancel_by(peer->link, queue->wake_fd);
    cohort_status status = cohort_link_recv(peer->link, &word, sizeof word, deadline_ns);
    cohort_link_cancel_by(peer->link, -1);
    if (status == COHORT_E_CANCELLED) return COHORT_PENDING;
    COHORT_TRY(status);
    if (word != COHORT_QUEUE_READY)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "it says what it cannot mean");
    peer->ready = true;
    return COHORT_OK;
}

static cohort_status hear_ready(cohort_queue *queue, int32_t reader,
                                int64_t deadline_ns) {
    cohort_queue_peer *peer = peer_of(queue, reader);
    for (;;) {
        cohort_status status = hear_word(queue, peer, deadline_ns);
        if (status == COHORT_OK || status == COHORT_E_CANCELLED) return status;
        if (status == COHORT_PENDING) continue;
        if (status == COHORT_E_TIMEOUT) {
            char missing[96];
            list_missing(queue, true, missing, sizeof missing);
            return COHORT_FAIL(COHORT_E_TIMEOUT,
                               "the writer waits for readers %s to be ready", missing);
        }
        /* It may come again, as a new process. */
        cohort_link_close(peer->link);
        *peer = (cohort_queue_peer){0};
        return cohort_queue_blame(
            cohort_fail_while(status, "waiting for reader %d", reader), reader);
    }
}

/* A reader whose connection ended before it was ready gets the time to come again: it
 * connects in slices, and may have given up a slice just when it was admitted. */
static cohort_status hear_ready_again(cohort_queue *queue, int32_t reader,
                                      int64_t deadline_ns) {
    for (;;) {
        cohort_status status = hear_ready(queue, reader, deadline_ns);
        if (status != COHORT_E_PEER_DIED) return status;
        cohort_error died = *cohort_last_error();
        int64_t until_ns = cohort_deadline_ms(REPLACE_MS);
        status = admit_readers(queue, until_ns < deadline_ns ? until_ns : deadline_ns);
        if (status == COHORT_E_TIMEOUT) return cohort_fail_adopt(&died);
        COHORT_TRY(status);
    }
}

/* Drops a reader and says why. */
static cohort_status depart(cohort_queue *queue, int32_t reader, cohort_status status) {
    cohort_writer *writer = queue->writer;
    cohort_queue_peer *peer = peer_of(queue, reader);
    char who[80];
    cohort_queue_peer_describe(peer->link, peer->remote, who, sizeof who);
    if (status == COHORT_E_PEER_DIED || status == COHORT_E_CLOSED)
        COHORT_FAIL(status, "reader %d (%s) of queue '%s' %s", reader, who,
                    queue->ticket.name, status == COHORT_E_CLOSED ? "has left" : "died");
    else
        cohort_fail_while(status, "writing to reader %d (%s) of queue '%s'", reader, who,
                          queue->ticket.name);
    if (peer->remote) cohort_sender_drop(writer->sender, (uint32_t)reader);
    writer->local_count -= !peer->remote;
    writer->live_count--;
    cohort_link_close(peer->link);
    peer->link = NULL;
    peer->gone = true;
    writer->floor = writer->next - queue->ticket.shape.chunk_count; /* look again */
    return cohort_queue_blame(status, reader);
}

/* All are ready: from here on nobody can join. */
static cohort_status open_for_writing(cohort_queue *queue, int64_t deadline_ns) {
    cohort_writer *writer = queue->writer;
    for (int32_t i = 0; i < reader_count(queue); i++) {
        cohort_queue_peer *peer = peer_of(queue, i);
        writer->live_count++;
        writer->local_count += !peer->remote;
        if (!peer->remote) continue;
        if (!writer->sender)
            COHORT_TRY(
                cohort_sender_open(queue->ring, &queue->ticket.shape, &writer->sender));
        COHORT_TRY(cohort_sender_add(writer->sender, (uint32_t)i, peer->link));
    }
    if (writer->sender) COHORT_TRY(cohort_sender_start(writer->sender));
    cohort_listener_close(writer->listener);
    writer->listener = NULL;
    queue->open = true;
    uint64_t go = COHORT_QUEUE_GO;
    cohort_status status = COHORT_OK;
    for (int32_t i = 0; i < reader_count(queue); i++)
        if (cohort_link_send(peer_of(queue, i)->link, &go, sizeof go, deadline_ns) < 0)
            status = depart(queue, i, COHORT_E_PEER_DIED); /* the rest goes on */
    return status;
}

cohort_status cohort_writer_wait_ready(cohort_queue *queue, int64_t deadline_ns) {
    if (!queue->writer->listener || queue->writer->live_count)
        return COHORT_FAIL(COHORT_E_INVALID, "queue '%s' failed to open before",
                           queue->ticket.name);
    COHORT_TRY_WHILE(admit_readers(queue, deadline_ns), "opening queue '%s'",
                     queue->ticket.name);
    /* Twice: the second time only feels whether the early ones are still there. */
    for (int32_t i = 0; i < 2 * reader_count(queue); i++)
        COHORT_TRY_WHILE(hear_ready_again(queue, i % reader_count(queue), deadline_ns),
                         "opening queue '%s'", queue->ticket.name);
    COHORT_TRY_WHILE(open_for_writing(queue, deadline_ns), "opening queue '%s'",
                     queue->ticket.name);
    return COHORT_OK;
}

static bool has_space(const cohort_queue *queue, uint64_t consumed) {
    return queue->writer->next - consumed < queue->ticket.shape.chunk_count;
}

/* OK or an error: where the reader stands is news; consumed is brought up to date. */
static cohort_status look_at(cohort_queue *queue, int32_t reader) {
    cohort_queue_peer *peer = peer_of(queue, reader);
    if (peer->remote)
        return cohort_sender_look(queue->writer->sender, (uint32_t)reader,
                                  &peer->consumed);
    return cohort_ring_seat_look(queue->ring, (uint32_t)reader, queue->writer->next,
                                 &peer->consumed);
}

static cohort_status look_for_space(cohort_queue *queue, int32_t reader) {
    COHORT_TRY(look_at(queue, reader));
    return has_space(queue, peer_of(queue, reader)->consumed) ? COHORT_OK
                                                              : COHORT_PENDING;
}

static cohort_status wait_for_reader(cohort_queue *queue, int32_t reader,
                                     int64_t deadline_ns) {
    cohort_queue_peer *peer = peer_of(queue, reader);
    cohort_awaited awaited = {.look = look_for_space,
                              .peer = reader,
                              .link = peer->link,
                              .event = peer->remote ? NULL : &queue->ring->space};
    cohort_status status = cohort_queue_await(queue, &awaited, deadline_ns);
    if (status >= 0) return status;
    if (status == COHORT_E_CANCELLED)
        return COHORT_FAIL(status, "interrupted while writing to queue '%s'",
                           queue->ticket.name);
    if (status != COHORT_E_TIMEOUT) return depart(queue, reader, status);
    char who[80];
    cohort_queue_peer_describe(peer->link, peer->remote, who, sizeof who);
    COHORT_FAIL(status, "writer of queue '%s' waits for reader %d (%s), %llu %s behind",
                queue->ticket.name, reader, who,
                (unsigned long long)(queue->writer->next - peer->consumed),
                queue->writer->fragmenting ? "fragments" : "messages");
    return cohort_queue_blame(status, reader);
}

/* Returns once the next slot is free of all readers. */
static cohort_status find_space(cohort_queue *queue, int64_t deadline_ns) {
    cohort_writer *writer = queue->writer;
    for (;;) {
        if (!writer->live_count)
            return COHORT_FAIL(COHORT_E_PEER_DIED, "queue '%s' has no reader left",
                               queue->ticket.name);
        int32_t slowest = -1;
        for (int32_t i = 0; i < reader_count(queue); i++) {
            cohort_queue_peer *peer = peer_of(queue, i);
            if (peer->gone) continue;
            cohort_status status = look_at(queue, i);
            if (status < 0) return depart(queue, i, status);
            if (slowest < 0 || peer->consumed < peer_of(queue, slowest)->consumed)
                slowest = i;
        }
        writer->floor = peer_of(queue, slowest)->consumed;
        if (has_space(queue, writer->floor)) return COHORT_OK;
        COHORT_TRY(wait_for_reader(queue, slowest, deadline_ns));
    }
}

static cohort_status ensure_space(cohort_queue *queue, int64_t deadline_ns) {
    cohort_writer *writer = queue->writer;
    if (has_space(queue, writer->floor) &&
        !(writer->sender && cohort_sender_broke(writer->sender)))
        return COHORT_OK;
    return find_space(queue, deadline_ns);
}

static void publish(cohort_queue *queue, size_t size_bytes, uint32_t flags,
                    size_t message_bytes) {
    cohort_writer *writer = queue->writer;
    cohort_slot *slot = cohort_ring_slot(queue->ring, &queue->ticket.shape, writer->next);
    *slot = (cohort_slot){.size_bytes = (uint32_t)size_bytes,
                          .flags = flags,
                          .message_bytes = message_bytes};
    writer->next++;
    if (writer->local_count) cohort_ring_publish(queue->ring, writer->next);
    if (writer->sender) cohort_sender_publish(writer->sender, writer->next);
}

static cohort_status check_writable(const cohort_queue *queue, size_t size_bytes,
                                    size_t limit_bytes) {
    if (!queue->writer)
        return COHORT_FAIL(COHORT_E_INVALID, "a reader of queue '%s' cannot write to it",
                           queue->ticket.name);
    if (!queue->open)
        return COHORT_FAIL(COHORT_E_INVALID, "queue '%s': wait_ready comes before write",
                           queue->ticket.name);
    if (queue->writer->begun)
        return COHORT_FAIL(COHORT_E_INVALID, "queue '%s': the last write was not ended",
                           queue->ticket.name);
    if (size_bytes > limit_bytes)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "a message of %zu bytes; queue '%s' takes %zu here",
                           size_bytes, queue->ticket.name, limit_bytes);
    return COHORT_OK;
}

cohort_status cohort_queue_write_begin(cohort_queue *queue, size_t size_bytes,
                                       int64_t deadline_ns, void **out_payload) {
    COHORT_TRY(check_writable(queue, size_bytes, queue->ticket.shape.chunk_bytes));
    COHORT_TRY(ensure_space(queue, deadline_ns));
    cohort_writer *writer = queue->writer;
    writer->begun = true;
    writer->begun_bytes = size_bytes;
    *out_payload = cohort_ring_slot(queue->ring, &queue->ticket.shape, writer->next) + 1;
    return COHORT_OK;
}

void cohort_queue_write_commit(cohort_queue *queue) {
    cohort_writer *writer = queue->writer;
    if (!writer || !writer->begun) return;
    writer->begun = false;
    publish(queue, writer->begun_bytes, COHORT_SLOT_FIRST | COHORT_SLOT_LAST,
            writer->begun_bytes);
}

void cohort_queue_write_cancel(cohort_queue *queue) {
    if (queue->writer) queue->writer->begun = false;
}

cohort_status cohort_queue_write(cohort_queue *queue, const void *payload,
                                 size_t size_bytes, int64_t deadline_ns) {
    COHORT_TRY(check_writable(queue, size_bytes, queue->ticket.max_message_bytes));
    cohort_writer *writer = queue->writer;
    size_t chunk_bytes = queue->ticket.shape.chunk_bytes;
    const uint8_t *bytes = payload;
    size_t done = 0;
    writer->fragmenting = size_bytes > chunk_bytes;
    do {
        COHORT_TRY(ensure_space(queue, deadline_ns));
        size_t size = size_bytes - done < chunk_bytes ? size_bytes - done : chunk_bytes;
        uint32_t flags = (done ? 0 : COHORT_SLOT_FIRST) |
                         (done + size == size_bytes ? COHORT_SLOT_LAST : 0);
        if (size)
            memcpy(cohort_ring_slot(queue->ring, &queue->ticket.shape, writer->next) + 1,
                   bytes + done, size);
        publish(queue, size, flags, size_bytes);
        done += size;
    } while (done < size_bytes);
    writer->fragmenting = false;
    return COHORT_OK;
}

void cohort_writer_close(cohort_queue *queue) {
    cohort_writer *writer = queue->writer;
    if (queue->open) cohort_ring_close(queue->ring);
    if (writer->sender && queue->open)
        cohort_sender_finish(writer->sender, cohort_deadline_ms(LINGER_MS));
    cohort_sender_close(writer->sender);
    for (int32_t i = 0; i < reader_count(queue); i++)
        cohort_link_close(writer->peers[i].link);
    cohort_listener_close(writer->listener);
    free(writer);
}
