/* SPDX-License-Identifier: Apache-2.0 */
/* Guests of a listener that dawdle, and a listener that does: to the millisecond, by a
 * clock that goes on only while poll() has nothing to tell.  One thread plays both sides.
 */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "cohort/clock.h"
#include "link/link_internal.h"

enum { GUEST_MS = 1000 }; /* for a whole claim */

static int64_t now_ms = 1000000;
static const cohort_link_address *besieged; /* a stranger comes every millisecond */
static int n_strangers;

static int connect_raw(const cohort_link_address *published);

/* In place of libc's, for the library in this program. */
int held_clock(clockid_t clock, struct timespec *out_now) __asm__("clock_gettime");
int held_poll(struct pollfd *fds, nfds_t n, int timeout_ms) __asm__("poll");

int held_clock(clockid_t clock, struct timespec *out_now) {
    (void)clock;
    *out_now = (struct timespec){.tv_sec = (time_t)(now_ms / 1000),
                                 .tv_nsec = (long)(now_ms % 1000) * 1000000};
    return 0;
}

int held_poll(struct pollfd *fds, nfds_t n, int timeout_ms) {
    if (besieged) {
        close(connect_raw(besieged));
        n_strangers++;
        now_ms++;
    }
    int ready = (int)syscall(SYS_poll, fds, n, 0);
    if (!ready && timeout_ms > 0) now_ms += timeout_ms;
    return ready;
}

static cohort_listener *open_listener(cohort_link_address *out_address) {
    cohort_listener *listener = NULL;
    assert_int_equal(cohort_listener_open(NULL, &listener), COHORT_OK);
    cohort_listener_address(listener, out_address);
    return listener;
}

/* A connection that the listener has not seen yet. */
static int connect_raw(const cohort_link_address *published) {
    cohort_address address;
    struct sockaddr_storage to;
    assert_int_equal(cohort_address_read(published, &address), COHORT_OK);
    socklen_t length = cohort_address_unix(&address, &to);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
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

/* True where the listener has hung up; its challenge is read and forgotten. */
static bool is_dismissed(int fd) {
    uint8_t bytes[256];
    ssize_t got;
    while ((got = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT)) > 0)
        ;
    return got == 0 || errno == ECONNRESET;
}

/* Whoever sends half a claim has a second for the rest. */
static void half_a_claim_is_not_waited_for(void **state) {
    (void)state;
    static const uint8_t half[sizeof(cohort_claim) / 2];
    cohort_link_address address;
    cohort_listener *listener = open_listener(&address);
    int fd = connect_raw(&address);
    assert_int_equal(send(fd, half, sizeof half, 0), sizeof half);
    accept_nobody(listener, GUEST_MS - 1);
    assert_false(is_dismissed(fd));
    accept_nobody(listener, 1);
    accept_nobody(listener, 0);
    assert_true(is_dismissed(fd));
    close(fd);
    cohort_listener_close(listener);
}

/* Claims that come byte by byte are put together; the last comes so long after the guest
 * had its seat. */
static cohort_status claim_in_pieces(int64_t takes_ms) {
    cohort_link_address published;
    cohort_address address;
    cohort_challenge challenge;
    cohort_claim claim;
    cohort_link_hello hello = {.purpose = COHORT_LINK_MESH, .rank = 5}, heard = {0};
    cohort_link *link = NULL;
    cohort_listener *listener = open_listener(&published);
    assert_int_equal(cohort_address_read(&published, &address), COHORT_OK);
    int fd = connect_raw(&published);
    int64_t end_ms = now_ms + takes_ms;
    accept_nobody(listener, 1); /* seats it */
    assert_int_equal(recv(fd, &challenge, sizeof challenge, MSG_WAITALL),
                     sizeof challenge);
    assert_int_equal(cohort_claim_make(address.secret, &challenge, &hello, &claim),
                     COHORT_OK);
    for (size_t i = 0; i + 1 < sizeof claim; i++) {
        assert_int_equal(send(fd, (uint8_t *)&claim + i, 1, 0), 1);
        if (i % 16 == 0 || i + 2 == sizeof claim) accept_nobody(listener, 1);
    }
    accept_nobody(listener, end_ms - now_ms);
    assert_int_equal(send(fd, (uint8_t *)&claim + sizeof claim - 1, 1, MSG_NOSIGNAL), 1);
    cohort_status status =
        cohort_listener_accept(listener, cohort_deadline_ms(1), &heard, &link);
    if (status == COHORT_OK)
        assert_memory_equal(&heard, &hello, sizeof hello);
    else
        assert_true(is_dismissed(fd));
    cohort_link_close(link);
    close(fd);
    cohort_listener_close(listener);
    return status;
}

static void claim_in_pieces_is_taken_within_its_second(void **state) {
    (void)state;
    assert_int_equal(claim_in_pieces(500), COHORT_OK);
    assert_int_equal(claim_in_pieces(GUEST_MS - 1), COHORT_OK);
    assert_int_equal(claim_in_pieces(GUEST_MS), COHORT_E_TIMEOUT);
}

/* More guests than seats, within the second that each has: the longest seated goes. */
static void longest_seated_guest_makes_room(void **state) {
    (void)state;
    enum { SEATS = 64, GUESTS = SEATS + 2 };
    cohort_link_address address;
    cohort_listener *listener = open_listener(&address);
    int fds[GUESTS];
    for (int i = 0; i < GUESTS; i++) {
        fds[i] = connect_raw(&address);
        accept_nobody(listener, 1);
    }
    for (int i = 0; i < GUESTS; i++) {
        assert_int_equal(is_dismissed(fds[i]), i < GUESTS - SEATS);
        close(fds[i]);
    }
    cohort_listener_close(listener);
}

/* There is always somebody at the door, and never a peer. */
static void strangers_do_not_stretch_the_deadline(void **state) {
    (void)state;
    cohort_link_address address;
    cohort_listener *listener = open_listener(&address);
    int64_t begin_ms = now_ms;
    besieged = &address;
    accept_nobody(listener, 100);
    besieged = NULL;
    assert_int_equal(now_ms - begin_ms, 100);
    assert_int_equal(n_strangers, 100);
    cohort_listener_close(listener);
}

/* Whoever listens there says nothing: the deadline is kept, and not stretched. */
static void silent_listener_is_a_timeout_in_time(void **state) {
    (void)state;
    cohort_link_hello hello = {.purpose = COHORT_LINK_QUEUE};
    cohort_address address = {.magic = COHORT_ADDRESS_MAGIC, .tcp_family = AF_INET};
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof at;
    cohort_link_address published = {0};
    cohort_link *link = NULL;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(listener, 4), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &length), 0);
    address.tcp_port = ntohs(at.sin_port);
    memcpy(address.tcp_addr, &at.sin_addr, 4);
    memcpy(published.bytes, &address, sizeof address);
    int64_t begin_ms = now_ms;
    assert_int_equal(
        cohort_link_connect(&published, true, &hello, cohort_deadline_ms(100), -1, &link),
        COHORT_E_TIMEOUT);
    assert_int_equal(now_ms - begin_ms, 100);
    close(listener);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(half_a_claim_is_not_waited_for),
        cmocka_unit_test(claim_in_pieces_is_taken_within_its_second),
        cmocka_unit_test(longest_seated_guest_makes_room),
        cmocka_unit_test(strangers_do_not_stretch_the_deadline),
        cmocka_unit_test(silent_listener_is_a_timeout_in_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
