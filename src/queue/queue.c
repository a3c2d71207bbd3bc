/* SPDX-License-Identifier: Apache-2.0 */
#include "cohort/queue.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fail.h"
#include "cohort/clock.h"
#include "queue/queue_internal.h"

/* Design notes.
 *
 * Waiting is written once, here: poll for a bounded time, then sleep on the ring's futex
 * or in poll(), in slices, because a dead peer cannot signal a futex.  After each slice
 * the peer's pulse is felt: its link, which the kernel closes when it dies.  A lost
 * wake-up would cost one slice, not a hang (R26).
 *
 * An interrupt sets a flag and makes every kind of sleep end: events for the futex, an
 * eventfd for poll().  Whoever waits takes the flag; a call that need not wait leaves it.
 */
/* 10 looks a second cost an idle reader 0.03 % of a processor. */
enum { SLICE_NS = 100000000, LONG_WAIT_NS = 1000000 };

static cohort_status draw_id(uint64_t *out_id) {
    if (getrandom(out_id, sizeof *out_id, 0) != (ssize_t)sizeof *out_id)
        return COHORT_FAIL_SYS(errno, "getrandom");
    return COHORT_OK;
}

static cohort_status queue_new(const cohort_ticket *ticket, cohort_queue **out_queue) {
    cohort_queue *queue = calloc(1, sizeof *queue);
    if (!queue) return COHORT_FAIL(COHORT_E_NOMEM, "allocating a queue");
    queue->ticket = *ticket;
    queue->slice_ns = SLICE_NS;
    queue->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (queue->wake_fd < 0) {
        cohort_status status = COHORT_FAIL_SYS(errno, "eventfd");
        free(queue);
        return status;
    }
    *out_queue = queue;
    return COHORT_OK;
}

static cohort_status ticket_check(const cohort_ticket *ticket) {
    COHORT_TRY(cohort_ring_shape_check(&ticket->shape));
    uint64_t slots_bytes =
        (uint64_t)ticket->shape.chunk_bytes * ticket->shape.chunk_count;
    if (slots_bytes > UINT64_C(1) << 32)
        return COHORT_FAIL(COHORT_E_INVALID, "a ring of %llu bytes; 4 GiB are the limit",
                           (unsigned long long)slots_bytes);
    if (ticket->local_reader_count < 0 ||
        (uint32_t)ticket->local_reader_count > ticket->shape.reader_count)
        return COHORT_FAIL(COHORT_E_INVALID, "%d local readers of %u",
                           ticket->local_reader_count, ticket->shape.reader_count);
    if (ticket->max_message_bytes < ticket->shape.chunk_bytes ||
        ticket->max_message_bytes > UINT64_C(1) << 40)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "max_message_bytes %llu is not from chunk_bytes (%u) to 1 TiB",
                           (unsigned long long)ticket->max_message_bytes,
                           ticket->shape.chunk_bytes);
    return COHORT_OK;
}

cohort_status cohort_queue_create(const cohort_queue_options *options,
                                  cohort_queue **out_queue) {
    *out_queue = NULL;
    cohort_ticket ticket = {
        .magic = COHORT_TICKET_MAGIC,
        .version = COHORT_RING_VERSION,
        .shape = {.chunk_bytes = options->chunk_bytes,
                  .chunk_count = options->chunk_count,
                  .reader_count =
                      options->reader_count < 0 ? 0 : (uint32_t)options->reader_count},
        .local_reader_count = options->local_reader_count,
        .max_message_bytes = options->max_message_bytes ? options->max_message_bytes
                                                        : options->chunk_bytes,
        .spin_ns = options->spin_ns < 0 ? COHORT_WAIT_SPIN_NS : options->spin_ns};
    snprintf(ticket.name, sizeof ticket.name, "%s",
             options->name ? options->name : "queue");
    COHORT_TRY(ticket_check(&ticket));
    if (options->local_reader_count < options->reader_count && !options->listen_host)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "queue '%s' has readers on other hosts but no listen_host",
                           ticket.name);
    COHORT_TRY(draw_id(&ticket.id));
    cohort_queue *queue = NULL;
    COHORT_TRY(queue_new(&ticket, &queue));
    cohort_status status = cohort_writer_open(queue, options->listen_host);
    if (status < 0) {
        cohort_queue_close(queue);
        return cohort_fail_while(status, "creating queue '%s'", ticket.name);
    }
    *out_queue = queue;
    return COHORT_OK;
}

cohort_status cohort_queue_export(const cohort_queue *queue,
                                  cohort_queue_handle *out_handle) {
    memset(out_handle, 0, sizeof *out_handle);
    memcpy(out_handle->bytes, &queue->ticket, sizeof queue->ticket);
    return COHORT_OK;
}

cohort_status cohort_queue_attach(const cohort_queue_handle *handle, int32_t reader,
                                  cohort_queue **out_queue) {
    *out_queue = NULL;
    cohort_ticket ticket;
    memcpy(&ticket, handle->bytes, sizeof ticket);
    if (ticket.magic != COHORT_TICKET_MAGIC || ticket.version != COHORT_RING_VERSION ||
        !memchr(ticket.name, 0, sizeof ticket.name))
        return COHORT_FAIL(COHORT_E_PROTOCOL, "these bytes are no handle of a queue");
    if (ticket_check(&ticket) < 0)
        return cohort_fail_while(COHORT_E_PROTOCOL, "reading a queue's handle");
    if (reader < 0 || (uint32_t)reader >= ticket.shape.reader_count)
        return COHORT_FAIL(COHORT_E_INVALID, "reader %d of queue '%s', which has %u",
                           reader, ticket.name, ticket.shape.reader_count);
    cohort_queue *queue = NULL;
    COHORT_TRY(queue_new(&ticket, &queue));
    cohort_status status = cohort_reader_open(queue, reader);
    if (status < 0) {
        cohort_queue_close(queue);
        return cohort_fail_while(status, "attaching to queue '%s'", ticket.name);
    }
    *out_queue = queue;
    return COHORT_OK;
}

cohort_status cohort_queue_wait_ready(cohort_queue *queue, int64_t deadline_ns) {
    if (queue->open) return COHORT_OK;
    return queue->writer ? cohort_writer_wait_ready(queue, deadline_ns)
                         : cohort_reader_wait_ready(queue, deadline_ns);
}

const char *cohort_queue_transport(const cohort_queue *queue, int32_t reader) {
    bool remote = false, known = false;
    if (queue->writer && reader >= 0 &&
        (uint32_t)reader < queue->ticket.shape.reader_count) {
        known = queue->writer->peers[reader].link;
        remote = queue->writer->peers[reader].remote;
    } else if (queue->reader && reader == queue->reader->index) {
        known = queue->reader->link;
        remote = queue->reader->remote;
    }
    if (!known) return "not connected";
    return remote ? "tcp" : "shared memory";
}

void cohort_queue_interrupt(cohort_queue *queue) {
    atomic_store(&queue->interrupted, true);
    uint64_t one = 1;
    while (write(queue->wake_fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
    /* The ring's events are known from creation for a writer, for a reader once it is
     * connected; before, its waits are short slices. */
    cohort_ring *ring = atomic_load(&queue->ring);
    if (!ring) return;
    cohort_event_signal(queue->writer ? &ring->space : &ring->data);
}

static void drain_wake(cohort_queue *queue) {
    uint64_t count;
    while (read(queue->wake_fd, &count, sizeof count) < 0 && errno == EINTR)
        ;
}

cohort_status cohort_queue_check_interrupt(cohort_queue *queue) {
    /* Relaxed: polled in a loop, and the exchange orders. */
    if (!atomic_load_explicit(&queue->interrupted, memory_order_relaxed) ||
        !atomic_exchange(&queue->interrupted, false))
        return COHORT_OK;
    drain_wake(queue);
    return COHORT_E_CANCELLED;
}

cohort_status cohort_queue_heed_wake(cohort_queue *queue) {
    drain_wake(queue); /* the flag comes before the ring, so none is lost */
    return cohort_queue_check_interrupt(queue);
}

int64_t cohort_queue_slice_end(int64_t deadline_ns) {
    int64_t slice_ns = cohort_clock_ns() + SLICE_NS;
    return slice_ns < deadline_ns ? slice_ns : deadline_ns;
}

cohort_status cohort_queue_blame(cohort_status status, int32_t rank) {
    cohort_error error = *cohort_last_error();
    error.code = status;
    error.rank = rank;
    return cohort_fail_adopt(&error);
}

void cohort_queue_peer_describe(cohort_link *link, bool remote, char *out_text,
                                size_t size) {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } peer;
    memset(&peer, 0, sizeof peer);
    socklen_t length = sizeof peer;
    char host[INET6_ADDRSTRLEN] = "?";
    if (!remote) {
        struct ucred who = {0};
        length = sizeof who;
        getsockopt(cohort_link_fd(link), SOL_SOCKET, SO_PEERCRED, &who, &length);
        snprintf(out_text, size, "shared memory, pid %d", (int)who.pid);
    } else if (getpeername(cohort_link_fd(link), &peer.any, &length)) {
        snprintf(out_text, size, "tcp");
    } else if (peer.any.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &peer.v6.sin6_addr, host, sizeof host);
        snprintf(out_text, size, "tcp [%s]:%u", host, ntohs(peer.v6.sin6_port));
    } else {
        inet_ntop(AF_INET, &peer.v4.sin_addr, host, sizeof host);
        snprintf(out_text, size, "tcp %s:%u", host, ntohs(peer.v4.sin_port));
    }
}

/* One sleep on the ring's event.  PENDING: look again.  The peer's pulse is felt only
 * when a sleep lasted its time: a system call more for every wait is what steps would
 * pay. */
static cohort_status doze_on_event(cohort_queue *queue, const cohort_awaited *awaited,
                                   int64_t sleep_ns) {
    uint32_t ticket = cohort_event_prepare(awaited->event); /* F */
    cohort_status status = awaited->look(queue, awaited->peer);
    if (status != COHORT_PENDING ||
        atomic_load_explicit(&queue->interrupted, memory_order_relaxed)) {
        cohort_event_leave(awaited->event);
        return status;
    }
    if (cohort_event_sleep(awaited->event, ticket, sleep_ns) ||
        !cohort_link_peer_gone(awaited->link))
        return COHORT_PENDING;
    /* Its last word may have come just before. */
    status = awaited->look(queue, awaited->peer);
    return status != COHORT_PENDING ? status : COHORT_E_PEER_DIED;
}

static cohort_status doze_on_link(cohort_queue *queue, const cohort_awaited *awaited,
                                  int64_t sleep_ns) {
    /* An ack that did not fit is owed as soon as it does: the writer waits for it. */
    bool owes = queue->reader && queue->reader->inbox.ack_left;
    struct pollfd fds[2] = {{.fd = cohort_link_fd(awaited->link),
                             .events = (short)(POLLIN | (owes ? POLLOUT : 0))},
                            {.fd = queue->wake_fd, .events = POLLIN}};
    struct timespec timeout = {.tv_sec = sleep_ns / 1000000000,
                               .tv_nsec = sleep_ns % 1000000000};
    if (ppoll(fds, 2, &timeout, NULL) > 0 && fds[1].revents) {
        uint64_t count; /* the flag says whether it is new */
        if (read(queue->wake_fd, &count, sizeof count) < 0 && errno == EBADF)
            return COHORT_FAIL_SYS(errno, "a queue was closed while it waited");
    }
    return COHORT_PENDING;
}

/* Polling is for what comes soon.  Where the wait before was long this one will be, too,
 * and polling would only take a core from those who are waited for. */
static int64_t spin_time(const cohort_queue *queue, int64_t deadline_ns) {
    int64_t spin_ns = queue->slept_ns > LONG_WAIT_NS ? 0 : queue->ticket.spin_ns;
    if (deadline_ns == COHORT_NEVER) return spin_ns;
    int64_t left_ns = deadline_ns - cohort_clock_ns();
    return left_ns < spin_ns ? left_ns : spin_ns;
}

static cohort_status poll_and_doze(cohort_queue *queue, const cohort_awaited *awaited,
                                   int64_t deadline_ns, int64_t *out_asleep_ns) {
    cohort_wait wait = cohort_wait_begin(spin_time(queue, deadline_ns));
    for (;;) {
        cohort_status status = awaited->look(queue, awaited->peer);
        if (status != COHORT_PENDING) return status;
        status = cohort_queue_check_interrupt(queue);
        if (status < 0) return status;
        if (cohort_wait_spin(&wait)) continue;
        int64_t now_ns = cohort_clock_ns(), left_ns = deadline_ns - now_ns;
        if (!*out_asleep_ns) *out_asleep_ns = now_ns;
        if (left_ns <= 0) return COHORT_E_TIMEOUT;
        /* A socket tells of its peer's death by itself, memory does not. */
        int64_t most_ns = awaited->event ? queue->slice_ns : INT64_C(3600000000000);
        if (left_ns > most_ns) left_ns = most_ns;
        status = awaited->event ? doze_on_event(queue, awaited, left_ns)
                                : doze_on_link(queue, awaited, left_ns);
        if (status != COHORT_PENDING) return status;
    }
}

cohort_status cohort_queue_await(cohort_queue *queue, const cohort_awaited *awaited,
                                 int64_t deadline_ns) {
    int64_t asleep_ns = 0; /* when it went to sleep */
    cohort_status status = poll_and_doze(queue, awaited, deadline_ns, &asleep_ns);
    queue->slept_ns = asleep_ns ? cohort_clock_ns() - asleep_ns : 0;
    return status;
}

void cohort_queue_close(cohort_queue *queue) {
    if (!queue) return;
    if (queue->writer) cohort_writer_close(queue);
    if (queue->reader) cohort_reader_close(queue);
    cohort_shm_release(queue->shm);
    if (queue->wake_fd >= 0) close(queue->wake_fd);
    free(queue);
}
