/* SPDX-License-Identifier: Apache-2.0 */
#include "queue/stream.h"

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/poll.h"
#include "base/thread.h"
#include "cohort/clock.h"

/* Design notes.
 *
 * Acks are lazy: a reader that has nothing more to read acknowledges just before it
 * waits, so that a ping-pong pays for no ack on its way.  It acknowledges at once where
 * more lies in its socket or half the window is unacknowledged, because the writer may
 * be waiting.  (An ack for each message at once was measured: an 8 KB round trip on
 * loopback went from 1.24 to 1.78 of a raw socket's.)  A writer never waits for an ack
 * that a reader holds back for ever: either the reader calls again, or it is busy and
 * truly behind.
 *
 * The sender's lock covers what was sent.  The writer takes it when it looks at acks, so
 * a slot is overwritten only after the thread's last look at it.
 *
 * Closing: a socket closed over unread acks is reset, and a reset may overtake the last
 * message.  So finish() shuts down its direction, then eats acks until the peer's kernel
 * has everything.
 *
 * What if the peer's host dies here?  Keepalive ends an idle connection after about 15 s.
 * With bytes under way the kernel retries for minutes: the caller's deadline comes first.
 * TCP_USER_TIMEOUT would be quicker, but it also kills a reader that is only slow. */

typedef struct remote {
    cohort_link *link; /* NULL: not ours, or dropped */
    uint64_t sent;     /* slots handed to the kernel */
    size_t offset;     /* and bytes of the next */
    uint64_t acknowledged;
    uint8_t ack[8];
    size_t ack_got;
    bool broken;
    bool goodbye;
} remote;

struct cohort_sender {
    cohort_ring *ring;
    cohort_ring_shape shape;
    pthread_mutex_t lock; /* published, and of remotes: link, sent, offset, broken */
    uint64_t published;
    bool stop;
    atomic_bool broke;
    bool running;
    pthread_t thread;
    int wake_fd;
    struct pollfd *polled; /* the thread's; reader_count + 1 */
    remote remotes[];
};

static size_t frame_bytes(uint32_t size_bytes) {
    return (sizeof(cohort_slot) + size_bytes + 15) & ~(size_t)15;
}

cohort_status cohort_sender_open(cohort_ring *ring, const cohort_ring_shape *shape,
                                 cohort_sender **out_sender) {
    cohort_sender *sender =
        calloc(1, sizeof *sender + shape->reader_count * sizeof(remote));
    if (!sender) return COHORT_FAIL(COHORT_E_NOMEM, "allocating a sender");
    pthread_mutex_init(&sender->lock, NULL);
    sender->ring = ring;
    sender->shape = *shape;
    sender->polled = calloc(shape->reader_count + 1, sizeof *sender->polled);
    sender->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!sender->polled || sender->wake_fd < 0) {
        cohort_status status = sender->polled
                                   ? COHORT_FAIL_SYS(errno, "eventfd")
                                   : COHORT_FAIL(COHORT_E_NOMEM, "allocating a sender");
        cohort_sender_close(sender);
        return status;
    }
    *out_sender = sender;
    return COHORT_OK;
}

cohort_status cohort_sender_add(cohort_sender *sender, uint32_t reader,
                                cohort_link *link) {
    if (reader >= sender->shape.reader_count)
        return COHORT_FAIL(COHORT_E_INVALID, "reader %u of %u", reader,
                           sender->shape.reader_count);
    sender->remotes[reader] = (remote){.link = link};
    return COHORT_OK;
}

/* Sends as much as the socket takes.  The caller holds the lock. */
static void push(cohort_sender *sender, remote *to) {
    while (to->link && !to->broken && to->sent < sender->published) {
        const cohort_slot *slot =
            cohort_ring_slot(sender->ring, &sender->shape, to->sent);
        /* Our own header, but it lies where readers can write: bound it. */
        uint32_t size = slot->size_bytes;
        if (size > sender->shape.chunk_bytes) size = sender->shape.chunk_bytes;
        size_t total = frame_bytes(size);
        if (to->offset >= total) to->offset = 0;
        ssize_t sent = send(cohort_link_fd(to->link), (const uint8_t *)slot + to->offset,
                            total - to->offset, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
        if (sent < 0) {
            to->broken = true;
            atomic_store_explicit(&sender->broke, true, memory_order_relaxed);
            return;
        }
        to->offset += (size_t)sent;
        if (to->offset < total) continue;
        to->offset = 0;
        to->sent++;
    }
}

static bool has_backlog(const cohort_sender *sender, const remote *to) {
    return to->link && !to->broken && to->sent < sender->published;
}

static void *send_rest(void *argument) {
    cohort_sender *sender = argument;
    for (;;) {
        uint32_t n = sender->shape.reader_count;
        pthread_mutex_lock(&sender->lock);
        bool stop = sender->stop;
        for (uint32_t i = 0; i < n; i++) {
            remote *to = &sender->remotes[i];
            push(sender, to);
            sender->polled[i] = (struct pollfd){
                .fd = has_backlog(sender, to) ? cohort_link_fd(to->link) : -1,
                .events = POLLOUT};
        }
        pthread_mutex_unlock(&sender->lock);
        if (stop) return NULL;
        sender->polled[n] = (struct pollfd){.fd = sender->wake_fd, .events = POLLIN};
        poll(sender->polled, n + 1, -1);
        uint64_t count;
        if (sender->polled[n].revents &&
            read(sender->wake_fd, &count, sizeof count) < 0 && errno == EBADF)
            return NULL;
    }
}

cohort_status cohort_sender_start(cohort_sender *sender) {
    COHORT_TRY(cohort_thread_start("cohort-sender", send_rest, sender, &sender->thread));
    sender->running = true;
    return COHORT_OK;
}

static void wake_thread(cohort_sender *sender) {
    uint64_t one = 1;
    while (write(sender->wake_fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

void cohort_sender_publish(cohort_sender *sender, uint64_t published) {
    bool backlog = false;
    pthread_mutex_lock(&sender->lock);
    sender->published = published;
    for (uint32_t i = 0; i < sender->shape.reader_count; i++) {
        push(sender, &sender->remotes[i]);
        backlog |= has_backlog(sender, &sender->remotes[i]);
    }
    pthread_mutex_unlock(&sender->lock);
    if (backlog) wake_thread(sender);
}

bool cohort_sender_broke(cohort_sender *sender) {
    /* The lock orders everything else; this is only a hint to look. */
    return atomic_load_explicit(&sender->broke, memory_order_relaxed) &&
           atomic_exchange_explicit(&sender->broke, false, memory_order_relaxed);
}

/* One ack has come.  The caller holds the lock. */
static cohort_status take_ack(remote *from) {
    uint64_t count;
    memcpy(&count, from->ack, sizeof count);
    from->ack_got = 0;
    if (count == COHORT_ACK_GOODBYE) {
        from->goodbye = true;
    } else if (count < from->acknowledged || count > from->sent) {
        return COHORT_FAIL(COHORT_E_PROTOCOL, "an ack of %llu slots where %llu were sent",
                           (unsigned long long)count, (unsigned long long)from->sent);
    } else {
        from->acknowledged = count;
    }
    return COHORT_OK;
}

static cohort_status drain_acks(remote *from) {
    for (;;) {
        ssize_t got = recv(cohort_link_fd(from->link), from->ack + from->ack_got,
                           sizeof from->ack - from->ack_got, MSG_DONTWAIT);
        if (got > 0) {
            from->ack_got += (size_t)got;
            if (from->ack_got == sizeof from->ack) COHORT_TRY(take_ack(from));
        } else if (got < 0 && errno == EINTR) {
            continue;
        } else if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            if (from->broken) return from->goodbye ? COHORT_E_CLOSED : COHORT_E_PEER_DIED;
            return COHORT_OK;
        } else {
            return from->goodbye ? COHORT_E_CLOSED : COHORT_E_PEER_DIED;
        }
    }
}

cohort_status cohort_sender_look(cohort_sender *sender, uint32_t reader,
                                 uint64_t *consumed) {
    remote *from = &sender->remotes[reader];
    pthread_mutex_lock(&sender->lock);
    cohort_status status = from->link ? drain_acks(from) : COHORT_E_PEER_DIED;
    *consumed = from->acknowledged;
    pthread_mutex_unlock(&sender->lock);
    return status;
}

void cohort_sender_drop(cohort_sender *sender, uint32_t reader) {
    pthread_mutex_lock(&sender->lock);
    sender->remotes[reader].link = NULL;
    pthread_mutex_unlock(&sender->lock);
    wake_thread(sender); /* it may be polling that socket */
}

static void stop_thread(cohort_sender *sender) {
    if (!sender->running) return;
    pthread_mutex_lock(&sender->lock);
    sender->stop = true;
    pthread_mutex_unlock(&sender->lock);
    wake_thread(sender);
    pthread_join(sender->thread, NULL);
    sender->running = false;
}

/* Sends the backlog and the closing frame; false: the peer is gone or too slow. */
static bool send_last(cohort_sender *sender, remote *to, int64_t deadline_ns) {
    cohort_slot last = {.flags = COHORT_SLOT_CLOSE};
    while (has_backlog(sender, to)) {
        push(sender, to);
        int left_ms = cohort_poll_timeout_ms(deadline_ns);
        if (!has_backlog(sender, to)) break;
        struct pollfd out = {.fd = cohort_link_fd(to->link), .events = POLLOUT};
        if (!left_ms || (poll(&out, 1, left_ms) < 0 && errno != EINTR)) return false;
    }
    if (to->broken ||
        cohort_link_send(to->link, &last, sizeof last, deadline_ns) != COHORT_OK)
        return false;
    shutdown(cohort_link_fd(to->link), SHUT_WR);
    return true;
}

void cohort_sender_finish(cohort_sender *sender, int64_t deadline_ns) {
    stop_thread(sender);
    for (uint32_t i = 0; i < sender->shape.reader_count; i++) {
        remote *to = &sender->remotes[i];
        if (!to->link || !send_last(sender, to, deadline_ns)) continue;
        int unsent = 1;
        while (cohort_clock_ns() < deadline_ns && drain_acks(to) == COHORT_OK &&
               !ioctl(cohort_link_fd(to->link), SIOCOUTQ, &unsent) && unsent > 0) {
            struct pollfd in = {.fd = cohort_link_fd(to->link), .events = POLLIN};
            poll(&in, 1, 1); /* the peer's kernel acknowledges without an event here */
        }
    }
}

void cohort_sender_close(cohort_sender *sender) {
    if (!sender) return;
    stop_thread(sender);
    if (sender->wake_fd >= 0) close(sender->wake_fd);
    pthread_mutex_destroy(&sender->lock);
    free(sender->polled);
    free(sender);
}

cohort_status cohort_inbox_init(cohort_inbox *inbox, const cohort_ring_shape *shape,
                                cohort_link *link) {
    size_t capacity = 2 * frame_bytes(shape->chunk_bytes);
    if (capacity < 65536) capacity = 65536;
    *inbox = (cohort_inbox){.link = link, .shape = *shape, .capacity_bytes = capacity};
    inbox->bytes = aligned_alloc(64, (capacity + 63) & ~(size_t)63);
    if (!inbox->bytes)
        return COHORT_FAIL(COHORT_E_NOMEM, "allocating %zu bytes to receive", capacity);
    return COHORT_OK;
}

void cohort_inbox_deinit(cohort_inbox *inbox) {
    free(inbox->bytes);
    inbox->bytes = NULL;
}

cohort_status cohort_inbox_parse(const cohort_inbox *inbox, cohort_slot *out_header,
                                 const void **out_payload) {
    size_t held = inbox->end - inbox->begin;
    if (held < sizeof *out_header) return COHORT_PENDING;
    memcpy(out_header, inbox->bytes + inbox->begin, sizeof *out_header);
    if (out_header->flags == COHORT_SLOT_CLOSE) return COHORT_E_CLOSED;
    if (out_header->size_bytes > inbox->shape.chunk_bytes)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "a frame of %u bytes where %u are allowed",
                           out_header->size_bytes, inbox->shape.chunk_bytes);
    if (held < frame_bytes(out_header->size_bytes)) return COHORT_PENDING;
    *out_payload = inbox->bytes + inbox->begin + sizeof *out_header;
    return COHORT_OK;
}

/* One recv() into the free end; makes room for a whole frame first. */
static cohort_status fill(cohort_inbox *inbox) {
    if (inbox->begin == inbox->end) inbox->begin = inbox->end = 0;
    if (inbox->capacity_bytes - inbox->begin < frame_bytes(inbox->shape.chunk_bytes)) {
        memmove(inbox->bytes, inbox->bytes + inbox->begin, inbox->end - inbox->begin);
        inbox->end -= inbox->begin;
        inbox->begin = 0;
    }
    for (;;) {
        ssize_t got = recv(cohort_link_fd(inbox->link), inbox->bytes + inbox->end,
                           inbox->capacity_bytes - inbox->end, MSG_DONTWAIT);
        if (got > 0) {
            inbox->end += (size_t)got;
            return COHORT_OK;
        }
        if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return COHORT_PENDING;
        if (got == 0 || errno != EINTR) return COHORT_E_PEER_DIED;
    }
}

cohort_status cohort_inbox_look(cohort_inbox *inbox, cohort_slot *out_header,
                                const void **out_payload) {
    for (;;) {
        cohort_status status = cohort_inbox_parse(inbox, out_header, out_payload);
        if (status != COHORT_PENDING) return status;
        status = fill(inbox);
        if (status != COHORT_OK) return status;
    }
}

void cohort_inbox_consume(cohort_inbox *inbox) {
    cohort_slot header;
    memcpy(&header, inbox->bytes + inbox->begin, sizeof header);
    /* Checked when it was parsed, and the bytes are ours alone. */
    inbox->begin += frame_bytes(header.size_bytes);
    inbox->consumed++;
}

static bool writer_may_wait(const cohort_inbox *inbox) {
    uint64_t held_back = inbox->consumed - inbox->acknowledged;
    int waiting = 0;
    return 2 * held_back >= inbox->shape.chunk_count || inbox->begin != inbox->end ||
           (!ioctl(cohort_link_fd(inbox->link), FIONREAD, &waiting) && waiting > 0);
}

/* Sends what is left of an ack.  An ack that does not fit now is not lost: a later one
 * says as much.  Errors show when reading. */
static bool send_ack(cohort_inbox *inbox) {
    while (inbox->ack_left) {
        ssize_t sent = send(cohort_link_fd(inbox->link),
                            inbox->ack + sizeof inbox->ack - inbox->ack_left,
                            inbox->ack_left, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0) return false;
        inbox->ack_left -= (size_t)sent;
    }
    return true;
}

void cohort_inbox_acknowledge(cohort_inbox *inbox, bool now) {
    if (inbox->consumed == inbox->acknowledged && !inbox->ack_left) return;
    if (!now && !writer_may_wait(inbox)) return;
    if (!send_ack(inbox) || inbox->consumed == inbox->acknowledged) return;
    memcpy(inbox->ack, &inbox->consumed, sizeof inbox->ack);
    inbox->ack_left = sizeof inbox->ack;
    inbox->acknowledged = inbox->consumed;
    send_ack(inbox);
}

void cohort_inbox_goodbye(cohort_inbox *inbox) {
    uint64_t goodbye = COHORT_ACK_GOODBYE;
    if (!send_ack(inbox)) return;
    memcpy(inbox->ack, &goodbye, sizeof inbox->ack);
    inbox->ack_left = sizeof inbox->ack;
    send_ack(inbox);
}
