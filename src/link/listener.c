/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/log.h"
#include "base/poll.h"
#include "cohort/clock.h"
#include "link/link_internal.h"

/* Design notes.
 *
 * The port is bound once, with number 0, and stays bound: what is published is what the
 * kernel gave (R2-R7).  Strangers can reach the TCP port, so a connection is a guest
 * until it has proved itself: guests are few, each has a second and 120 bytes, and one
 * that dawdles holds up nobody because all guests are served by one poll().  When the
 * seats are taken the longest seated goes. */

enum { MAX_GUESTS = 64, GUEST_MS = 1000 };

typedef struct guest {
    int fd; /* -1: the seat is free */
    cohort_link_kind kind;
    int64_t deadline_ns;
    cohort_challenge challenge;
    size_t received_bytes;
    cohort_claim claim;
} guest;

struct cohort_listener {
    int unix_fd;
    int tcp_fd;    /* -1: none */
    int cancel_fd; /* the same */
    cohort_address address;
    guest guests[MAX_GUESTS];
};

static cohort_status bind_unix(cohort_listener *listener) {
    uint8_t name[12];
    COHORT_TRY(cohort_link_random_bytes(name, sizeof name));
    memcpy(listener->address.unix_name, "cohort-", 7);
    sodium_bin2hex(listener->address.unix_name + 7,
                   sizeof listener->address.unix_name - 7, name, sizeof name);
    listener->unix_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener->unix_fd < 0) return COHORT_FAIL_SYS(errno, "unix socket");
    struct sockaddr_storage to;
    socklen_t length = cohort_address_unix(&listener->address, &to);
    if (bind(listener->unix_fd, (struct sockaddr *)&to, length) ||
        listen(listener->unix_fd, SOMAXCONN))
        return COHORT_FAIL_SYS(errno, "listening on an abstract unix socket");
    return COHORT_OK;
}

static void remember_port(cohort_address *address, const struct sockaddr_storage *bound) {
    address->tcp_family = bound->ss_family;
    if (bound->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)bound;
        address->tcp_port = ntohs(in->sin_port);
        memcpy(address->tcp_addr, &in->sin_addr, 4);
    } else {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)bound;
        address->tcp_port = ntohs(in->sin6_port);
        address->tcp_scope = in->sin6_scope_id;
        memcpy(address->tcp_addr, &in->sin6_addr, 16);
    }
}

static cohort_status bind_tcp(cohort_listener *listener, const char *host) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    int failure = getaddrinfo(host, "0", &hints, &found);
    if (failure)
        return COHORT_FAIL(COHORT_E_INVALID, "cannot resolve '%s' to listen on: %s", host,
                           gai_strerror(failure));
    cohort_status status =
        COHORT_FAIL(COHORT_E_INVALID, "'%s' is no address of this host", host);
    for (struct addrinfo *entry = found; entry && status < 0; entry = entry->ai_next) {
        int fd = socket(entry->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0) continue;
        struct sockaddr_storage bound = {0};
        socklen_t length = sizeof bound;
        if (bind(fd, entry->ai_addr, entry->ai_addrlen) || listen(fd, SOMAXCONN) ||
            getsockname(fd, (struct sockaddr *)&bound, &length)) {
            status = COHORT_FAIL_SYS(errno, "cannot listen on '%s'", host);
            close(fd);
            continue;
        }
        listener->tcp_fd = fd;
        remember_port(&listener->address, &bound);
        status = COHORT_OK;
    }
    freeaddrinfo(found);
    return status;
}

cohort_status cohort_listener_open(const char *tcp_host, cohort_listener **out_listener) {
    cohort_listener *listener = calloc(1, sizeof *listener);
    if (!listener) return COHORT_FAIL(COHORT_E_NOMEM, "allocating a listener");
    listener->unix_fd = listener->tcp_fd = listener->cancel_fd = -1;
    for (int i = 0; i < MAX_GUESTS; i++)
        listener->guests[i].fd = -1;
    listener->address.magic = COHORT_ADDRESS_MAGIC;
    cohort_status status = cohort_link_random_bytes(listener->address.secret,
                                                    sizeof listener->address.secret);
    if (status == COHORT_OK) status = cohort_host_identity(listener->address.host);
    if (status == COHORT_OK) status = bind_unix(listener);
    if (status == COHORT_OK && tcp_host) status = bind_tcp(listener, tcp_host);
    if (status < 0) {
        cohort_listener_close(listener);
        return status;
    }
    *out_listener = listener;
    return COHORT_OK;
}

void cohort_listener_address(const cohort_listener *listener,
                             cohort_link_address *out_address) {
    memset(out_address, 0, sizeof *out_address);
    memcpy(out_address->bytes, &listener->address, sizeof listener->address);
}

static void dismiss(guest *seat) {
    if (seat->fd >= 0) close(seat->fd);
    seat->fd = -1;
}

static guest *find_seat(cohort_listener *listener) {
    guest *oldest = &listener->guests[0];
    for (int i = 0; i < MAX_GUESTS; i++) {
        guest *seat = &listener->guests[i];
        if (seat->fd < 0) return seat;
        if (seat->deadline_ns < oldest->deadline_ns) oldest = seat;
    }
    dismiss(oldest);
    return oldest;
}

/* Of a connection that is gone already, as accept(2) lists them; the next may be well. */
static bool is_the_guests(int err) {
    static const int errors[] = {EAGAIN,   EWOULDBLOCK,  EINTR,       ECONNABORTED,
                                 ENETDOWN, EPROTO,       ENOPROTOOPT, EHOSTDOWN,
                                 ENONET,   EHOSTUNREACH, EOPNOTSUPP,  ENETUNREACH,
                                 EPERM};
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (errors[i] == err) return true;
    return false;
}

/* Seats one connection and sends it its challenge.  An error is ours, of descriptors or
 * memory: the connection stays in the backlog, and poll would never wait again. */
static cohort_status seat_guest(cohort_listener *listener, int listen_fd,
                                cohort_link_kind kind) {
    int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0 && is_the_guests(errno)) return COHORT_OK;
    if (fd < 0) return COHORT_FAIL_SYS(errno, "accepting a connection");
    guest *seat = find_seat(listener);
    *seat = (guest){.fd = fd, .kind = kind, .deadline_ns = cohort_deadline_ms(GUEST_MS)};
    bool trusted = kind == COHORT_LINK_TCP || cohort_link_peer_check(fd) == COHORT_OK;
    /* 40 bytes always fit into a fresh socket's buffer. */
    if (!trusted || cohort_challenge_make(&seat->challenge) < 0 ||
        send(fd, &seat->challenge, sizeof seat->challenge, MSG_NOSIGNAL) !=
            (ssize_t)sizeof seat->challenge)
        dismiss(seat);
    return COHORT_OK;
}

/* True where the guest has become a link; false: not yet, or dismissed. */
static bool hear_guest(cohort_listener *listener, guest *seat,
                       cohort_link_hello *out_hello, cohort_link **out_link) {
    uint8_t *claim = (uint8_t *)&seat->claim;
    ssize_t got = recv(seat->fd, claim + seat->received_bytes,
                       sizeof seat->claim - seat->received_bytes, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    if (got > 0) seat->received_bytes += (size_t)got;
    if (got > 0 && seat->received_bytes < sizeof seat->claim) return false;
    cohort_verdict verdict;
    bool welcome = false;
    if (got <= 0) { /* nobody to warn of: a peer that died, as a rule */
        cohort_log(COHORT_LOG_INFO, "link", COHORT_RANK_LOCAL, "event=guest_left");
        dismiss(seat);
        return false;
    }
    if (cohort_claim_judge(listener->address.secret, &seat->challenge, &seat->claim,
                           &verdict, &welcome) < 0) {
        cohort_log(COHORT_LOG_WARNING, "link", COHORT_RANK_LOCAL,
                   "event=stranger_refused");
        dismiss(seat);
        return false;
    }
    ssize_t sent = send(seat->fd, &verdict, sizeof verdict, MSG_NOSIGNAL);
    if (!welcome || sent != (ssize_t)sizeof verdict ||
        cohort_link_wrap(seat->fd, seat->kind, out_link) < 0) {
        cohort_log(welcome ? COHORT_LOG_INFO : COHORT_LOG_WARNING, "link",
                   COHORT_RANK_LOCAL, "event=%s build=%.12s",
                   welcome ? "guest_left" : "peer_refused", seat->claim.build);
        dismiss(seat);
        return false;
    }
    seat->fd = -1; /* the link owns it now */
    *out_hello = seat->claim.hello;
    return true;
}

static int64_t next_deadline(cohort_listener *listener, int64_t deadline_ns) {
    int64_t now_ns = cohort_clock_ns();
    for (int i = 0; i < MAX_GUESTS; i++) {
        guest *seat = &listener->guests[i];
        if (seat->fd >= 0 && seat->deadline_ns <= now_ns) dismiss(seat);
        if (seat->fd >= 0 && seat->deadline_ns < deadline_ns)
            deadline_ns = seat->deadline_ns;
    }
    return deadline_ns;
}

cohort_status cohort_listener_accept(cohort_listener *listener, int64_t deadline_ns,
                                     cohort_link_hello *out_hello,
                                     cohort_link **out_link) {
    for (;;) {
        int64_t wake_ns = next_deadline(listener, deadline_ns);
        struct pollfd fds[MAX_GUESTS + 3] = {
            {.fd = listener->unix_fd, .events = POLLIN},
            {.fd = listener->tcp_fd, .events = POLLIN},
            [MAX_GUESTS + 2] = {.fd = listener->cancel_fd, .events = POLLIN}};
        for (int i = 0; i < MAX_GUESTS; i++)
            fds[i + 2] = (struct pollfd){.fd = listener->guests[i].fd, .events = POLLIN};
        int ready = poll(fds, MAX_GUESTS + 3, cohort_poll_timeout_ms(wake_ns));
        if (ready > 0 && fds[MAX_GUESTS + 2].revents)
            return COHORT_FAIL(COHORT_E_CANCELLED, "accepting was cancelled");
        if (ready < 0 && errno != EINTR)
            /* poll() takes no more than there may be open, and says that oddly. */
            return COHORT_FAIL_SYS(errno == EINVAL ? EMFILE : errno,
                                   "poll of a listener");
        for (int i = 0; ready > 0 && i < MAX_GUESTS; i++)
            if (fds[i + 2].revents &&
                hear_guest(listener, &listener->guests[i], out_hello, out_link))
                return COHORT_OK;
        if (ready > 0 && fds[0].revents)
            COHORT_TRY(seat_guest(listener, listener->unix_fd, COHORT_LINK_UNIX));
        if (ready > 0 && fds[1].revents)
            COHORT_TRY(seat_guest(listener, listener->tcp_fd, COHORT_LINK_TCP));
        /* Also where something was ready: strangers may keep coming. */
        if (cohort_clock_ns() >= deadline_ns)
            return COHORT_FAIL(COHORT_E_TIMEOUT, "nobody connected");
    }
}

void cohort_listener_cancel_by(cohort_listener *listener, int cancel_fd) {
    listener->cancel_fd = cancel_fd;
}

void cohort_listener_close(cohort_listener *listener) {
    if (!listener) return;
    for (int i = 0; i < MAX_GUESTS; i++)
        dismiss(&listener->guests[i]);
    if (listener->unix_fd >= 0) close(listener->unix_fd);
    if (listener->tcp_fd >= 0) close(listener->tcp_fd);
    sodium_memzero(listener->address.secret, sizeof listener->address.secret);
    free(listener);
}

static cohort_status finish_connect(int fd, int64_t deadline_ns, int cancel_fd) {
    struct pollfd fds[2] = {{.fd = fd, .events = POLLOUT},
                            {.fd = cancel_fd, .events = POLLIN}};
    int ready;
    do
        ready = poll(fds, 2, cohort_poll_timeout_ms(deadline_ns));
    while (ready < 0 && errno == EINTR);
    if (ready == 0) return COHORT_FAIL(COHORT_E_TIMEOUT, "nobody answered");
    if (ready > 0 && !fds[0].revents)
        return COHORT_FAIL(COHORT_E_CANCELLED, "connecting was cancelled");
    int failure = 0;
    socklen_t length = sizeof failure;
    if (ready < 0 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &length))
        failure = errno;
    if (failure) return COHORT_FAIL_SYS(failure, "connect");
    return COHORT_OK;
}

static cohort_status dial(const cohort_address *address, cohort_link_kind kind,
                          int64_t deadline_ns, int cancel_fd, int *out_fd) {
    struct sockaddr_storage to;
    socklen_t length = kind == COHORT_LINK_UNIX ? cohort_address_unix(address, &to)
                                                : cohort_address_tcp(address, &to);
    int fd = socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return COHORT_FAIL_SYS(errno, "socket");
    cohort_status status = COHORT_OK;
    while (connect(fd, (struct sockaddr *)&to, length) && status == COHORT_OK) {
        if (errno == EINPROGRESS) {
            status = finish_connect(fd, deadline_ns, cancel_fd);
            break;
        }
        if (errno == EAGAIN && cohort_clock_ns() < deadline_ns)
            usleep(200); /* a unix listener whose backlog is full: no event to wait for */
        else if (errno != EINTR)
            status = COHORT_FAIL_SYS(errno, "connect");
    }
    if (status == COHORT_OK && kind == COHORT_LINK_UNIX)
        status = cohort_link_peer_check(fd);
    if (status < 0)
        close(fd);
    else
        *out_fd = fd;
    return status;
}

static cohort_status prove(cohort_link *link, const cohort_address *address,
                           const cohort_link_hello *hello, int64_t deadline_ns) {
    cohort_challenge challenge;
    cohort_claim claim;
    cohort_verdict verdict;
    COHORT_TRY(cohort_link_recv(link, &challenge, sizeof challenge, deadline_ns));
    COHORT_TRY(cohort_claim_make(address->secret, &challenge, hello, &claim));
    COHORT_TRY(cohort_link_send(link, &claim, sizeof claim, deadline_ns));
    COHORT_TRY_WHILE(cohort_link_recv(link, &verdict, sizeof verdict, deadline_ns),
                     "waiting to be admitted");
    return cohort_verdict_check(address->secret, &challenge, &claim, &verdict);
}

cohort_status cohort_link_connect(const cohort_link_address *bytes, bool tcp_only,
                                  const cohort_link_hello *hello, int64_t deadline_ns,
                                  int cancel_fd, cohort_link **out_link) {
    cohort_address address;
    char text[64];
    cohort_link_describe(bytes, text, sizeof text);
    COHORT_TRY(cohort_address_read(bytes, &address));
    bool local = !tcp_only && cohort_link_is_local(bytes);
    if (!local && !address.tcp_family)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "the listener is on another host and has no TCP address");
    cohort_link_kind kind = local ? COHORT_LINK_UNIX : COHORT_LINK_TCP;
    int fd = -1;
    COHORT_TRY_WHILE(dial(&address, kind, deadline_ns, cancel_fd, &fd),
                     "connecting to %s", text);
    cohort_link *link = NULL;
    cohort_status status = cohort_link_wrap(fd, kind, &link);
    if (status < 0) {
        close(fd);
        return status;
    }
    cohort_link_cancel_by(link, cancel_fd);
    status = prove(link, &address, hello, deadline_ns);
    cohort_link_cancel_by(link, -1);
    if (status < 0) {
        cohort_link_close(link);
        return cohort_fail_while(status, "connecting to %s", text);
    }
    *out_link = link;
    return COHORT_OK;
}
