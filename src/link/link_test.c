/* SPDX-License-Identifier: Apache-2.0 */
#include "link/link.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cohort/clock.h"
#include "link/link_internal.h"

enum { PATIENCE_MS = 20000 };

typedef struct dialer {
    cohort_link_address address;
    bool tcp_only;
    cohort_status status;
    cohort_error error;
    cohort_link *link;
} dialer;

static void *dial_main(void *argument) {
    dialer *self = argument;
    cohort_link_hello hello = {.purpose = COHORT_LINK_QUEUE, .rank = 7, .epoch = 3};
    self->status = cohort_link_connect(&self->address, self->tcp_only, &hello,
                                       cohort_deadline_ms(PATIENCE_MS), -1, &self->link);
    self->error = *cohort_last_error();
    return NULL;
}

static cohort_listener *open_listener(const char *host,
                                      cohort_link_address *out_address) {
    cohort_listener *listener = NULL;
    assert_int_equal(cohort_listener_open(host, &listener), COHORT_OK);
    cohort_listener_address(listener, out_address);
    return listener;
}

/* The listener's end of a link; the other is the dialer's. */
static cohort_link *accept_dialer(cohort_listener *listener, dialer *self) {
    pthread_t thread;
    cohort_link *link = NULL;
    cohort_link_hello hello = {0};
    assert_int_equal(pthread_create(&thread, NULL, dial_main, self), 0);
    assert_int_equal(
        cohort_listener_accept(listener, cohort_deadline_ms(PATIENCE_MS), &hello, &link),
        COHORT_OK);
    pthread_join(thread, NULL);
    assert_int_equal(self->status, COHORT_OK);
    assert_int_equal(hello.purpose, COHORT_LINK_QUEUE);
    assert_int_equal(hello.rank, 7);
    assert_int_equal(hello.epoch, 3);
    return link;
}

static void connect_pair(const char *host, bool tcp_only, cohort_link **out_a,
                         cohort_link **out_b) {
    dialer self = {.tcp_only = tcp_only};
    cohort_listener *listener = open_listener(host, &self.address);
    *out_a = accept_dialer(listener, &self);
    cohort_listener_close(listener);
    *out_b = self.link;
}

static void exchange(const char *host, bool tcp_only, cohort_link_kind kind) {
    cohort_link *a, *b;
    connect_pair(host, tcp_only, &a, &b);
    assert_int_equal(cohort_link_kind_of(a), kind);
    assert_int_equal(cohort_link_kind_of(b), kind);
    char text[16];
    size_t size = 0;
    int64_t deadline_ns = cohort_deadline_ms(PATIENCE_MS);
    assert_int_equal(cohort_link_send_frame(a, "hello", 6, deadline_ns), COHORT_OK);
    assert_int_equal(cohort_link_recv_frame(b, text, sizeof text, &size, deadline_ns),
                     COHORT_OK);
    assert_int_equal(size, 6);
    assert_string_equal(text, "hello");
    assert_int_equal(cohort_link_recv(b, text, 1, cohort_deadline_ms(1)),
                     COHORT_E_TIMEOUT);
    assert_int_equal(cohort_link_send_frame(a, "a frame too long", 17, deadline_ns), 0);
    assert_int_equal(cohort_link_recv_frame(b, text, sizeof text, &size, deadline_ns),
                     COHORT_E_PROTOCOL);
    assert_false(cohort_link_peer_gone(a));
    cohort_link_close(b);
    assert_int_equal(cohort_link_recv(a, text, 1, deadline_ns), COHORT_E_PEER_DIED);
    assert_true(cohort_link_peer_gone(a));
    cohort_link_close(a);
}

/* However a frame comes in pieces, nobody waits for the rest of it. */
static void frame_in_pieces_is_kept(void **state) {
    (void)state;
    int fds[2];
    static const uint8_t two_frames[] = {3, 0, 0, 0, 'a', 'b', 'c', 0, 0, 0, 0};
    cohort_link_inbox inbox = {0};
    cohort_link *link;
    const void *bytes;
    size_t size, n_frames = 0;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_int_equal(cohort_link_adopt(fds[0], &link), COHORT_OK);
    for (size_t i = 0; i < sizeof two_frames; i++) {
        assert_int_equal(cohort_link_take_frame(link, &inbox, &bytes, &size),
                         COHORT_PENDING);
        assert_int_equal(write(fds[1], &two_frames[i], 1), 1);
        if (i != 6 && i != 10) continue;
        assert_int_equal(cohort_link_take_frame(link, &inbox, &bytes, &size), COHORT_OK);
        assert_int_equal(size, n_frames++ ? 0 : 3);
        assert_memory_equal(bytes, "abc", size);
    }
    static const uint32_t too_long = COHORT_INBOX_BYTES + 1;
    assert_int_equal(write(fds[1], &too_long, sizeof too_long), sizeof too_long);
    assert_int_equal(cohort_link_take_frame(link, &inbox, &bytes, &size),
                     COHORT_E_PROTOCOL);
    inbox = (cohort_link_inbox){0};
    assert_int_equal(write(fds[1], two_frames, 5), 5);
    close(fds[1]);
    assert_int_equal(cohort_link_take_frame(link, &inbox, &bytes, &size),
                     COHORT_E_PEER_DIED);
    cohort_link_close(link);
}

/* A socket buffer that takes a frame in many bites. */
static void *read_slowly(void *argument) {
    int fd = *(int *)argument;
    uint8_t *all = calloc(1, 1 << 20);
    size_t n = 0;
    ssize_t got;
    while ((got = read(fd, all + n, 777)) > 0)
        n += (size_t)got;
    assert_int_equal(n, 4 + 500000);
    for (size_t i = 0; i < 500000; i++)
        assert_int_equal(all[4 + i], (uint8_t)(i * 7));
    free(all);
    return NULL;
}

static void long_frame_goes_out_whole(void **state) {
    (void)state;
    int fds[2];
    cohort_link *link;
    pthread_t thread;
    uint8_t *bytes = malloc(500000);
    for (size_t i = 0; i < 500000; i++)
        bytes[i] = (uint8_t)(i * 7);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_int_equal(cohort_link_adopt(fds[0], &link), COHORT_OK);
    assert_int_equal(pthread_create(&thread, NULL, read_slowly, &fds[1]), 0);
    assert_int_equal(
        cohort_link_send_frame(link, bytes, 500000, cohort_deadline_ms(PATIENCE_MS)),
        COHORT_OK);
    cohort_link_close(link);
    pthread_join(thread, NULL);
    close(fds[1]);
    free(bytes);
}

static int socket_option(const cohort_link *link, int level, int name) {
    int value = 0;
    socklen_t length = sizeof value;
    assert_int_equal(getsockopt(cohort_link_fd(link), level, name, &value, &length), 0);
    return value;
}

static int tcp_option(const cohort_link *link, int name) {
    return socket_option(link, IPPROTO_TCP, name);
}

/* Every idle link ends when its peer's host is gone, a control link also while something
 * is under way; a queue's waits for a slow reader. */
static void links_notice_a_lost_host(void **state) {
    (void)state;
    cohort_link *a, *b;
    connect_pair("127.0.0.1", true, &a, &b);
    assert_int_equal(socket_option(a, SOL_SOCKET, SO_KEEPALIVE), 1);
    assert_int_equal(1000 * (tcp_option(a, TCP_KEEPIDLE) +
                             tcp_option(a, TCP_KEEPINTVL) * tcp_option(a, TCP_KEEPCNT)),
                     COHORT_LOST_HOST_MS);
    assert_int_equal(tcp_option(a, TCP_USER_TIMEOUT), 0);
    assert_int_equal(cohort_link_adopt(cohort_link_release(a), &a), COHORT_OK);
    assert_int_equal(tcp_option(a, TCP_USER_TIMEOUT), COHORT_LOST_HOST_MS);
    cohort_link_close(a);
    cohort_link_close(b);
}

/* What was drawn is bound, all of it: /proc/net/unix shows an abstract name behind an @.
 */
static void whole_name_of_the_unix_socket_is_bound(void **state) {
    (void)state;
    cohort_link_address published;
    cohort_address address;
    char line[256], name[64];
    bool found = false;
    cohort_listener *listener = open_listener(NULL, &published);
    assert_int_equal(cohort_address_read(&published, &address), COHORT_OK);
    assert_int_equal(strlen(address.unix_name), 7 + 24);
    FILE *file = fopen("/proc/net/unix", "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "%*s %*s %*s %*s %*s %*s %*s @%63s", name) == 1)
            found |= !strcmp(name, address.unix_name);
    fclose(file);
    assert_true(found);
    cohort_listener_close(listener);
}

static void unix_link_carries_frames(void **state) {
    (void)state;
    exchange("127.0.0.1", false, COHORT_LINK_UNIX);
}

static void tcp_link_carries_frames(void **state) {
    (void)state;
    exchange("127.0.0.1", true, COHORT_LINK_TCP);
}

static void r41_ipv6_link_carries_frames(void **state) {
    (void)state;
    cohort_listener *probe = NULL;
    if (cohort_listener_open("::1", &probe) < 0) skip(); /* a host without IPv6 */
    cohort_link_address address;
    char text[64];
    cohort_listener_address(probe, &address);
    cohort_link_describe(&address, text, sizeof text);
    assert_int_equal(strncmp(text, "[::1]:", 6), 0);
    cohort_listener_close(probe);
    exchange("::1", true, COHORT_LINK_TCP);
}

static void descriptors_travel(void **state) {
    (void)state;
    cohort_link *a, *b;
    connect_pair(NULL, false, &a, &b);
    int fds[2] = {memfd_create("one", MFD_CLOEXEC), memfd_create("two", MFD_CLOEXEC)};
    int got[2] = {-1, -1};
    assert_int_equal(pwrite(fds[1], "x", 1, 0), 1);
    int64_t deadline_ns = cohort_deadline_ms(PATIENCE_MS);
    assert_int_equal(cohort_link_send_fds(a, fds, 2, deadline_ns), COHORT_OK);
    assert_int_equal(cohort_link_recv_fds(b, got, 2, deadline_ns), COHORT_OK);
    char byte = 0;
    assert_int_equal(pread(got[1], &byte, 1, 0), 1);
    assert_int_equal(byte, 'x');
    for (int i = 0; i < 2; i++) {
        close(fds[i]);
        close(got[i]);
    }
    cohort_link_close(a);
    cohort_link_close(b);
}

static int count_descriptors(void) {
    int n = 0;
    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

/* More or fewer than were asked for are all closed again. */
static void wrong_number_of_descriptors_leaves_none(void **state) {
    (void)state;
    cohort_link *a, *b;
    connect_pair(NULL, false, &a, &b);
    int64_t deadline_ns = cohort_deadline_ms(PATIENCE_MS);
    int fds[3] = {dup(0), dup(0), dup(0)}, got[3] = {-1, -1, -1};
    int before = count_descriptors();
    for (int sent = 1; sent <= 3; sent += 2) {
        assert_int_equal(cohort_link_send_fds(a, fds, sent, deadline_ns), COHORT_OK);
        assert_int_equal(cohort_link_recv_fds(b, got, 2, deadline_ns), COHORT_E_PROTOCOL);
        assert_int_equal(count_descriptors(), before);
        assert_int_equal(got[0], -1);
    }
    assert_int_equal(cohort_link_send_fds(a, fds, 0, deadline_ns), COHORT_E_INVALID);
    assert_int_equal(cohort_link_send_fds(a, fds, 9, deadline_ns), COHORT_E_INVALID);
    for (int i = 0; i < 3; i++)
        close(fds[i]);
    cohort_link_close(a);
    cohort_link_close(b);
}

/* The address with one byte changed at the place of what. */
static cohort_status connect_changed(size_t offset, uint8_t flip, bool tcp_only) {
    dialer self = {.tcp_only = tcp_only};
    cohort_listener *listener = open_listener("127.0.0.1", &self.address);
    self.address.bytes[offset] ^= flip;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, dial_main, &self), 0);
    cohort_link_hello hello;
    cohort_link *link = NULL;
    assert_int_equal(
        cohort_listener_accept(listener, cohort_deadline_ms(300), &hello, &link),
        COHORT_E_TIMEOUT);
    cohort_listener_close(listener);
    pthread_join(thread, NULL);
    assert_null(self.link);
    return self.status;
}

static void wrong_secret_is_refused(void **state) {
    (void)state;
    size_t at = offsetof(cohort_address, secret) + 5;
    assert_true(connect_changed(at, 1, true) < 0);
    assert_true(connect_changed(at, 1, false) < 0);
}

static void other_build_is_refused_and_told(void **state) {
    (void)state;
    uint8_t secret[COHORT_SECRET_BYTES] = {1, 2, 3};
    cohort_challenge challenge;
    cohort_claim claim;
    cohort_verdict verdict;
    cohort_link_hello hello = {.purpose = COHORT_LINK_QUEUE};
    bool welcome = true;
    assert_int_equal(cohort_challenge_make(&challenge), COHORT_OK);
    assert_int_equal(cohort_claim_make(secret, &challenge, &hello, &claim), COHORT_OK);
    assert_int_equal(cohort_claim_judge(secret, &challenge, &claim, &verdict, &welcome),
                     COHORT_OK);
    assert_true(welcome);
    assert_int_equal(cohort_verdict_check(secret, &challenge, &claim, &verdict),
                     COHORT_OK);
    /* A verdict that says "other build" must be signed to be believed. */
    verdict.status = COHORT_VERDICT_OTHER_BUILD;
    assert_int_equal(cohort_verdict_check(secret, &challenge, &claim, &verdict),
                     COHORT_E_PROTOCOL);
    assert_non_null(strstr(cohort_last_error()->message, "secret"));
    claim.build[0] ^= 1; /* the mac covers it */
    assert_int_equal(cohort_claim_judge(secret, &challenge, &claim, &verdict, &welcome),
                     COHORT_E_PROTOCOL);
}

/* A connection that the listener has not seen yet. */
static int connect_raw(const cohort_link_address *published, bool tcp) {
    cohort_address address;
    struct sockaddr_storage to;
    assert_int_equal(cohort_address_read(published, &address), COHORT_OK);
    socklen_t length =
        tcp ? cohort_address_tcp(&address, &to) : cohort_address_unix(&address, &to);
    int fd = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, length), 0);
    return fd;
}

static void accept_nobody(cohort_listener *listener, int64_t for_ms) {
    cohort_link_hello hello;
    cohort_link *link = NULL;
    assert_int_equal(
        cohort_listener_accept(listener, cohort_deadline_ms(for_ms), &hello, &link),
        COHORT_E_TIMEOUT);
}

/* As root a user's socket can be tried: no challenge is given to it. */
static void other_users_are_refused(void **state) {
    (void)state;
    enum { NOBODY = 65534 };
    if (geteuid()) skip();
    dialer self = {0};
    cohort_listener *listener = open_listener(NULL, &self.address);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (!pid) {
        uint8_t byte;
        if (setuid(NOBODY)) _exit(2);
        int fd = connect_raw(&self.address, false);
        _exit(recv(fd, &byte, 1, 0) != 0); /* the end, and nothing before it */
    }
    int status = -1;
    while (waitpid(pid, &status, WNOHANG) == 0)
        accept_nobody(listener, 20);
    assert_int_equal(status, 0);
    /* The other way round: who listens there is another user. */
    assert_int_equal(seteuid(NOBODY), 0);
    dial_main(&self);
    assert_int_equal(seteuid(0), 0);
    assert_int_equal(self.status, COHORT_E_PROTOCOL);
    assert_non_null(strstr(self.error.message, "runs as user 0, not 65534"));
    cohort_listener_close(listener);
}

static void silent_stranger_keeps_nobody_waiting(void **state) {
    (void)state;
    dialer self = {.tcp_only = true};
    cohort_listener *listener = open_listener("127.0.0.1", &self.address);
    cohort_address address;
    assert_int_equal(cohort_address_read(&self.address, &address), COHORT_OK);
    struct sockaddr_storage to;
    socklen_t length = cohort_address_tcp(&address, &to);
    int strangers[100];
    for (int i = 0; i < 100; i++) {
        strangers[i] = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(connect(strangers[i], (struct sockaddr *)&to, length), 0);
        if (i % 2) assert_int_equal(send(strangers[i], "GET / HTTP/1.1\r\n", 16, 0), 16);
    }
    cohort_link *link = accept_dialer(listener, &self);
    for (int i = 0; i < 100; i++)
        close(strangers[i]);
    cohort_link_close(link);
    cohort_link_close(self.link);
    cohort_listener_close(listener);
}

static void foreign_address_bytes_are_refused(void **state) {
    (void)state;
    dialer self = {0};
    memset(self.address.bytes, 0xa5, sizeof self.address.bytes);
    dial_main(&self);
    assert_int_equal(self.status, COHORT_E_PROTOCOL);
    assert_false(cohort_link_is_local(&self.address));
}

static in_port_t bound_port(const cohort_link_address *published,
                            struct sockaddr_in *out_to) {
    cohort_address address;
    struct sockaddr_storage to;
    assert_int_equal(cohort_address_read(published, &address), COHORT_OK);
    assert_int_equal(cohort_address_tcp(&address, &to), sizeof *out_to);
    memcpy(out_to, &to, sizeof *out_to);
    return ntohs(out_to->sin_port);
}

/* vLLM's test_dist_init_store_owns_port: what was published is held, not free again. */
static void contender_cannot_bind_a_published_port(void **state) {
    (void)state;
    cohort_link_address published;
    struct sockaddr_in to;
    int yes = 1;
    cohort_listener *listener = open_listener("127.0.0.1", &published);
    assert_int_not_equal(bound_port(&published, &to), 0);
    for (int is_greedy = 0; is_greedy < 2; is_greedy++) {
        int contender = socket(AF_INET, SOCK_STREAM, 0);
        if (is_greedy) {
            setsockopt(contender, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
            setsockopt(contender, SOL_SOCKET, SO_REUSEPORT, &yes, sizeof yes);
        }
        assert_int_equal(bind(contender, (struct sockaddr *)&to, sizeof to), -1);
        assert_int_equal(errno, EADDRINUSE);
        close(contender);
    }
    /* And it is the owner who answers there. */
    dialer self = {.address = published, .tcp_only = true};
    cohort_link *link = accept_dialer(listener, &self);
    cohort_link_close(link);
    cohort_link_close(self.link);
    cohort_listener_close(listener);
}

/* vLLM's test_colocated_dist_init_stores_hold_distinct_ports. */
static void listeners_of_one_host_hold_distinct_ports(void **state) {
    (void)state;
    enum { LISTENERS = 3 };
    cohort_listener *listeners[LISTENERS];
    struct sockaddr_in to[LISTENERS];
    for (int i = 0; i < LISTENERS; i++) {
        cohort_link_address published;
        listeners[i] = open_listener("127.0.0.1", &published);
        assert_true(bound_port(&published, &to[i]) >= 1024);
        for (int k = 0; k < i; k++)
            assert_int_not_equal(to[i].sin_port, to[k].sin_port);
    }
    for (int i = 0; i < LISTENERS; i++) { /* all of them still */
        int contender = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(bind(contender, (struct sockaddr *)&to[i], sizeof to[i]), -1);
        assert_int_equal(errno, EADDRINUSE);
        close(contender);
    }
    for (int i = 0; i < LISTENERS; i++)
        cohort_listener_close(listeners[i]);
}

/* Who cannot accept would else find the same connection waiting, for ever. */
static void listener_without_descriptors_says_so(void **state) {
    (void)state;
    enum { LIMIT = 100 }; /* poll() takes no fewer than it is asked about */
    struct rlimit before, low;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    low = (struct rlimit){.rlim_cur = LIMIT, .rlim_max = before.rlim_max};
    for (int tcp_only = 0; tcp_only < 2; tcp_only++) {
        dialer self = {.tcp_only = tcp_only};
        cohort_listener *listener = open_listener("127.0.0.1", &self.address);
        cohort_link *link = NULL;
        cohort_link_hello hello = {0};
        struct sockaddr_storage to;
        cohort_address address;
        assert_int_equal(cohort_address_read(&self.address, &address), COHORT_OK);
        socklen_t length = tcp_only ? cohort_address_tcp(&address, &to)
                                    : cohort_address_unix(&address, &to);
        int fd = socket(to.ss_family, SOCK_STREAM, 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&to, length), 0);
        int last = fd;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
        for (int next = fd; next >= 0; next = dup(fd))
            last = next;
        cohort_status status = cohort_listener_accept(
            listener, cohort_deadline_ms(PATIENCE_MS), &hello, &link);
        for (; last > fd; last--)
            close(last);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
        assert_int_equal(status, COHORT_E_IO);
        assert_int_equal(cohort_last_error()->sys_errno, EMFILE);
        close(fd);
        cohort_link_close(accept_dialer(listener, &self)); /* and is none the worse */
        cohort_link_close(self.link);
        cohort_listener_close(listener);
    }
}

static void unknown_listen_host_is_named(void **state) {
    (void)state;
    cohort_listener *listener = NULL;
    assert_int_equal(cohort_listener_open("203.0.113.77", &listener), COHORT_E_IO);
    assert_non_null(strstr(cohort_last_error()->message, "203.0.113.77"));
    assert_null(listener);
}

/* Another network of the same machine has other sockets: it is another host. */
static void another_network_is_another_host(void **state) {
    (void)state;
    enum { NO_LEAVE = 77 };
    uint8_t here[16], there[16];
    int ended;
    assert_int_equal(cohort_host_identity(here), COHORT_OK);
    assert_int_equal(cohort_host_identity(there), COHORT_OK);
    assert_memory_equal(here, there, sizeof here);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWNET)) _exit(NO_LEAVE);
        _exit(cohort_host_identity(there) < 0 || !memcmp(here, there, sizeof here));
    }
    assert_int_equal(waitpid(child, &ended, 0), child);
    assert_true(WIFEXITED(ended));
    if (WEXITSTATUS(ended) == NO_LEAVE) skip(); /* a sandbox without namespaces */
    assert_int_equal(WEXITSTATUS(ended), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(another_network_is_another_host),
        cmocka_unit_test(frame_in_pieces_is_kept),
        cmocka_unit_test(long_frame_goes_out_whole),
        cmocka_unit_test(links_notice_a_lost_host),
        cmocka_unit_test(whole_name_of_the_unix_socket_is_bound),
        cmocka_unit_test(unix_link_carries_frames),
        cmocka_unit_test(tcp_link_carries_frames),
        cmocka_unit_test(r41_ipv6_link_carries_frames),
        cmocka_unit_test(descriptors_travel),
        cmocka_unit_test(wrong_number_of_descriptors_leaves_none),
        cmocka_unit_test(wrong_secret_is_refused),
        cmocka_unit_test(other_build_is_refused_and_told),
        cmocka_unit_test(other_users_are_refused),
        cmocka_unit_test(silent_stranger_keeps_nobody_waiting),
        cmocka_unit_test(foreign_address_bytes_are_refused),
        cmocka_unit_test(contender_cannot_bind_a_published_port),
        cmocka_unit_test(listeners_of_one_host_hold_distinct_ports),
        cmocka_unit_test(listener_without_descriptors_says_so),
        cmocka_unit_test(unknown_listen_host_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
