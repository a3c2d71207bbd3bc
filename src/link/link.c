/* SPDX-License-Identifier: Apache-2.0 */
#include "link/link.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/poll.h"
#include "cohort/clock.h"
#include "link/link_internal.h"

/* Design notes.
 *
 * Sockets are non-blocking; every wait is a poll() up to an absolute deadline.  A link
 * keeps no buffer of its own, so what the kernel acknowledges is all there is to lose:
 * a dead peer shows as end of stream after its last byte.
 *
 * A timeout before the first byte leaves a link usable (callers poll that way); one in
 * the middle of a transfer does not, because nobody could find the next boundary. */

/* Where something is under way, probes do not count, but this limit, which ends a peer,
 * too, that reads nothing for so long once buffers are full: fine for a few frames of
 * control, no good for queues and collectives, whose peers may be slow.  Best effort:
 * without, it takes minutes. */
static void notice_lost_host(int fd) {
    unsigned limit_ms = COHORT_LOST_HOST_MS;
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &limit_ms, sizeof limit_ms);
}

cohort_status cohort_link_adopt(int fd, cohort_link **out_link) {
    int domain = AF_UNIX;
    socklen_t length = sizeof domain;
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length))
        return COHORT_FAIL_SYS(errno, "getsockopt SO_DOMAIN");
    if (domain != AF_UNIX) notice_lost_host(fd);
    return cohort_link_wrap(fd, domain == AF_UNIX ? COHORT_LINK_UNIX : COHORT_LINK_TCP,
                            out_link);
}

int cohort_link_release(cohort_link *link) {
    int fd = link->fd;
    free(link);
    return fd;
}

cohort_status cohort_link_wrap(int fd, cohort_link_kind kind, cohort_link **out_link) {
    cohort_link *link = calloc(1, sizeof *link);
    if (!link) return COHORT_FAIL(COHORT_E_NOMEM, "allocating a link");
    cohort_status status = cohort_socket_prepare(fd, kind == COHORT_LINK_TCP);
    if (status < 0) {
        free(link);
        return status;
    }
    link->fd = fd;
    link->cancel_fd = -1;
    link->kind = kind;
    *out_link = link;
    return COHORT_OK;
}

cohort_link_kind cohort_link_kind_of(const cohort_link *link) { return link->kind; }

int cohort_link_fd(const cohort_link *link) { return link->fd; }

void cohort_link_cancel_by(cohort_link *link, int cancel_fd) {
    link->cancel_fd = cancel_fd;
}

static cohort_status wait_for(const cohort_link *link, short events,
                              int64_t deadline_ns) {
    struct pollfd fds[2] = {{.fd = link->fd, .events = events},
                            {.fd = link->cancel_fd, .events = POLLIN}};
    for (;;) {
        int ready = poll(fds, 2, cohort_poll_timeout_ms(deadline_ns));
        if (ready > 0 && fds[0].revents) return COHORT_OK;
        if (ready > 0) return COHORT_FAIL(COHORT_E_CANCELLED, "waiting was cancelled");
        if (ready < 0 && errno != EINTR) return COHORT_FAIL_SYS(errno, "poll");
        if (cohort_clock_ns() >= deadline_ns)
            return COHORT_FAIL(COHORT_E_TIMEOUT, "the peer's link stayed silent");
    }
}

/* Of a socket that was connected; the last four are what the kernel heard of a lost host
 * before it gave up. */
static bool means_death(int err) {
    static const int errors[] = {ECONNRESET,   EPIPE,       ENOTCONN,  ETIMEDOUT,
                                 EHOSTUNREACH, ENETUNREACH, EHOSTDOWN, ENETDOWN};
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (errors[i] == err) return true;
    return false;
}

/* Of parts that are to go out: what is left when the first bytes have gone. */
static struct msghdr skip(struct msghdr message, size_t bytes) {
    for (; message.msg_iovlen && bytes >= message.msg_iov->iov_len; message.msg_iovlen--)
        bytes -= message.msg_iov++->iov_len;
    if (message.msg_iovlen) {
        message.msg_iov->iov_base = (uint8_t *)message.msg_iov->iov_base + bytes;
        message.msg_iov->iov_len -= bytes;
    }
    return message;
}

enum { MAX_FDS = 8 };

typedef union fd_control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int) * MAX_FDS)];
} fd_control;

static void attach(struct msghdr *message, fd_control *control, const int *fds,
                   int count) {
    *control = (fd_control){0};
    message->msg_control = control;
    message->msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)count);
    struct cmsghdr *header = CMSG_FIRSTHDR(message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)count);
    memcpy(CMSG_DATA(header), fds, sizeof(int) * (size_t)count);
}

/* Takes all descriptors out of a message; closes them unless there are exactly count. */
static bool take_fds(struct msghdr *message, int *out_fds, int count) {
    int taken[MAX_FDS];
    int n = 0;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header;
         header = CMSG_NXTHDR(message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        int here = (int)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        for (int i = 0; i < here && n < MAX_FDS; i++, n++)
            memcpy(&taken[n], CMSG_DATA(header) + sizeof(int) * (size_t)i, sizeof(int));
    }
    if (n == count && !(message->msg_flags & MSG_CTRUNC)) {
        memcpy(out_fds, taken, sizeof(int) * (size_t)n);
        return true;
    }
    for (int i = 0; i < n; i++)
        close(taken[i]);
    return false;
}

/* fd >= 0: goes with the first byte. */
static cohort_status send_parts(cohort_link *link, struct iovec *parts, size_t n_parts,
                                int fd, int64_t deadline_ns) {
    struct msghdr left = {.msg_iov = parts, .msg_iovlen = n_parts};
    fd_control control;
    if (fd >= 0) attach(&left, &control, &fd, 1);
    for (left = skip(left, 0); left.msg_iovlen;) {
        ssize_t sent = sendmsg(link->fd, &left, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent > 0) {
            left = skip(left, (size_t)sent);
            left.msg_control = NULL;
            left.msg_controllen = 0;
        } else if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            COHORT_TRY(wait_for(link, POLLOUT, deadline_ns));
        } else if (sent < 0 && means_death(errno)) {
            return COHORT_FAIL(COHORT_E_PEER_DIED, "the peer closed its end");
        } else if (sent < 0 && errno != EINTR) {
            return COHORT_FAIL_SYS(errno, "send");
        }
    }
    return COHORT_OK;
}

cohort_status cohort_link_send(cohort_link *link, const void *bytes, size_t size_bytes,
                               int64_t deadline_ns) {
    struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = size_bytes};
    return send_parts(link, &part, 1, -1, deadline_ns);
}

/* As recv; fd, where it is not NULL, takes a descriptor, once: -1 before.  EBADMSG: more
 * came, and all are closed. */
static ssize_t recv_some(const cohort_link *link, void *bytes, size_t size_bytes,
                         int *fd) {
    if (!fd) return recv(link->fd, bytes, size_bytes, MSG_DONTWAIT);
    fd_control control;
    struct iovec iov = {.iov_base = bytes, .iov_len = size_bytes};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    ssize_t got = recvmsg(link->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got <= 0 || (!message.msg_controllen && !(message.msg_flags & MSG_CTRUNC)))
        return got;
    int taken = -1;
    bool is_one = take_fds(&message, &taken, 1);
    if (is_one && *fd < 0) {
        *fd = taken;
        return got;
    }
    if (is_one) close(taken);
    if (*fd >= 0) close(*fd);
    *fd = -1;
    errno = EBADMSG;
    return -1;
}

static cohort_status fail_recv(void) {
    if (errno == EBADMSG)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "more than one descriptor with a frame");
    return COHORT_FAIL_SYS(errno, "recv");
}

static cohort_status recv_all(cohort_link *link, void *bytes, size_t size_bytes, int *fd,
                              int64_t deadline_ns) {
    uint8_t *next = bytes;
    while (size_bytes) {
        ssize_t got = recv_some(link, next, size_bytes, fd);
        if (got > 0) {
            next += got;
            size_bytes -= (size_t)got;
        } else if (got == 0 || means_death(errno)) {
            return COHORT_FAIL(COHORT_E_PEER_DIED, "the peer closed its end");
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            COHORT_TRY(wait_for(link, POLLIN, deadline_ns));
        } else if (errno != EINTR) {
            return fail_recv();
        }
    }
    return COHORT_OK;
}

cohort_status cohort_link_recv(cohort_link *link, void *bytes, size_t size_bytes,
                               int64_t deadline_ns) {
    return recv_all(link, bytes, size_bytes, NULL, deadline_ns);
}

static cohort_status send_frame(cohort_link *link, const void *bytes, size_t size_bytes,
                                int fd, int64_t deadline_ns) {
    if (size_bytes > UINT32_MAX)
        return COHORT_FAIL(COHORT_E_INVALID, "a frame of %zu bytes", size_bytes);
    uint32_t length = (uint32_t)size_bytes;
    struct iovec parts[2] = {
        {.iov_base = &length, .iov_len = sizeof length},
        {.iov_base = (void *)(uintptr_t)bytes, .iov_len = size_bytes}};
    return send_parts(link, parts, 2, fd, deadline_ns);
}

cohort_status cohort_link_send_frame(cohort_link *link, const void *bytes,
                                     size_t size_bytes, int64_t deadline_ns) {
    return send_frame(link, bytes, size_bytes, -1, deadline_ns);
}

cohort_status cohort_link_send_frame_fd(cohort_link *link, const void *bytes,
                                        size_t size_bytes, int fd, int64_t deadline_ns) {
    if (link->kind != COHORT_LINK_UNIX || fd < 0)
        return COHORT_FAIL(COHORT_E_INVALID, "descriptor %d cannot be sent here", fd);
    return send_frame(link, bytes, size_bytes, fd, deadline_ns);
}

static cohort_status recv_frame(cohort_link *link, void *bytes, size_t capacity_bytes,
                                size_t *out_size_bytes, int *fd, int64_t deadline_ns) {
    uint32_t length;
    COHORT_TRY(recv_all(link, &length, sizeof length, fd, deadline_ns));
    if (length > capacity_bytes)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "a frame of %u bytes where %zu are allowed",
                           length, capacity_bytes);
    COHORT_TRY(recv_all(link, bytes, length, fd, deadline_ns));
    *out_size_bytes = length;
    return COHORT_OK;
}

cohort_status cohort_link_recv_frame(cohort_link *link, void *bytes,
                                     size_t capacity_bytes, size_t *out_size_bytes,
                                     int64_t deadline_ns) {
    return recv_frame(link, bytes, capacity_bytes, out_size_bytes, NULL, deadline_ns);
}

cohort_status cohort_link_recv_frame_fd(cohort_link *link, void *bytes,
                                        size_t capacity_bytes, size_t *out_size_bytes,
                                        int *out_fd, int64_t deadline_ns) {
    *out_fd = -1;
    cohort_status status =
        recv_frame(link, bytes, capacity_bytes, out_size_bytes, out_fd, deadline_ns);
    if (status < 0 && *out_fd >= 0) {
        close(*out_fd);
        *out_fd = -1;
    }
    return status;
}

int cohort_link_inbox_take_fd(cohort_link_inbox *inbox) {
    int fd = inbox->has_fd ? inbox->fd : -1;
    inbox->has_fd = false;
    return fd;
}

void cohort_link_inbox_clear(cohort_link_inbox *inbox) {
    if (inbox->has_fd) close(inbox->fd);
    inbox->has_fd = false;
}

/* Reads up to the frame's end and no further: what follows may be of another kind. */
cohort_status cohort_link_take_frame(cohort_link *link, cohort_link_inbox *inbox,
                                     const void **out_bytes, size_t *out_size_bytes) {
    const size_t head = sizeof inbox->length;
    if (!inbox->used_bytes) cohort_link_inbox_clear(inbox);
    for (;;) {
        size_t end = inbox->used_bytes < head ? head : head + inbox->length;
        if (end > head + sizeof inbox->bytes)
            return COHORT_FAIL(COHORT_E_PROTOCOL,
                               "a frame of %u bytes where %zu are allowed", inbox->length,
                               sizeof inbox->bytes);
        if (inbox->used_bytes == end && inbox->used_bytes >= head) break;
        uint8_t *to = inbox->used_bytes < head
                          ? (uint8_t *)&inbox->length + inbox->used_bytes
                          : inbox->bytes + (inbox->used_bytes - head);
        int fd = inbox->has_fd ? inbox->fd : -1;
        ssize_t got = recv_some(link, to, end - inbox->used_bytes, &fd);
        inbox->has_fd = fd >= 0;
        inbox->fd = fd;
        if (got > 0)
            inbox->used_bytes += (size_t)got;
        else if (got == 0 || means_death(errno))
            return COHORT_FAIL(COHORT_E_PEER_DIED, "the peer closed its end");
        else if (errno == EAGAIN || errno == EWOULDBLOCK)
            return COHORT_PENDING;
        else if (errno != EINTR)
            return fail_recv();
    }
    inbox->used_bytes = 0;
    *out_bytes = inbox->bytes;
    *out_size_bytes = inbox->length;
    return COHORT_OK;
}

cohort_status cohort_link_send_fds(cohort_link *link, const int *fds, int count,
                                   int64_t deadline_ns) {
    if (link->kind != COHORT_LINK_UNIX || count < 1 || count > MAX_FDS)
        return COHORT_FAIL(COHORT_E_INVALID, "%d descriptors cannot be sent here", count);
    fd_control control;
    char byte = 'F';
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    attach(&message, &control, fds, count);
    for (;;) {
        if (sendmsg(link->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == 1)
            return COHORT_OK;
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            COHORT_TRY(wait_for(link, POLLOUT, deadline_ns));
        else if (means_death(errno))
            return COHORT_FAIL(COHORT_E_PEER_DIED, "the peer closed its end");
        else if (errno != EINTR)
            return COHORT_FAIL_SYS(errno, "sendmsg with %d descriptors", count);
    }
}

cohort_status cohort_link_recv_fds(cohort_link *link, int *out_fds, int count,
                                   int64_t deadline_ns) {
    for (;;) {
        fd_control control = {0};
        char byte = 0;
        struct iovec iov = {.iov_base = &byte, .iov_len = 1};
        struct msghdr message = {.msg_iov = &iov,
                                 .msg_iovlen = 1,
                                 .msg_control = &control,
                                 .msg_controllen = sizeof control};
        ssize_t got = recvmsg(link->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (got == 1) {
            if (take_fds(&message, out_fds, count) && byte == 'F') return COHORT_OK;
            return COHORT_FAIL(COHORT_E_PROTOCOL, "the peer did not send %d descriptors",
                               count);
        }
        if (got == 0 || means_death(errno))
            return COHORT_FAIL(COHORT_E_PEER_DIED, "the peer closed its end");
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            COHORT_TRY(wait_for(link, POLLIN, deadline_ns));
        else if (errno != EINTR)
            return COHORT_FAIL_SYS(errno, "recvmsg");
    }
}

bool cohort_link_peer_gone(cohort_link *link) {
    char byte;
    ssize_t got = recv(link->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (got > 0) return false;
    return got == 0 || means_death(errno);
}

void cohort_link_shutdown(cohort_link *link) { shutdown(link->fd, SHUT_RDWR); }

void cohort_link_close(cohort_link *link) {
    if (!link) return;
    close(link->fd);
    free(link);
}
