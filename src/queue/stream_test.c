/* SPDX-License-Identifier: Apache-2.0 */
#include "queue/stream.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "cohort/clock.h"

static const cohort_ring_shape SHAPE = {
    .chunk_bytes = 64, .chunk_count = 4, .reader_count = 1};

/* A sender, and the bare socket where its reader would be. */
typedef struct wire {
    cohort_ring *ring;
    cohort_sender *sender;
    cohort_link *link;
    int fd;
} wire;

static wire open_wire(void) {
    wire at = {0};
    int fds[2];
    size_t bytes = cohort_ring_bytes(&SHAPE);
    at.ring = aligned_alloc(4096, bytes);
    memset(at.ring, 0, bytes);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_int_equal(cohort_link_adopt(fds[0], &at.link), COHORT_OK);
    at.fd = fds[1];
    assert_int_equal(cohort_sender_open(at.ring, &SHAPE, &at.sender), COHORT_OK);
    assert_int_equal(cohort_sender_add(at.sender, 0, at.link), COHORT_OK);
    assert_int_equal(cohort_sender_start(at.sender), COHORT_OK);
    for (uint64_t i = 0; i < 3; i++)
        *cohort_ring_slot(at.ring, &SHAPE, i) =
            (cohort_slot){.size_bytes = 20, .flags = 3, .message_bytes = 20};
    cohort_sender_publish(at.sender, 3);
    return at;
}

static void close_wire(wire *at) {
    cohort_sender_close(at->sender);
    cohort_link_close(at->link);
    if (at->fd >= 0) close(at->fd);
    free(at->ring);
}

static void acknowledge(const wire *at, uint64_t count) {
    assert_int_equal(send(at->fd, &count, sizeof count, 0), sizeof count);
}

static void acks_move_the_reader(void **state) {
    (void)state;
    wire at = open_wire();
    uint64_t consumed = 9;
    uint8_t frames[256];
    /* 16 bytes of header and 20 of payload, padded: 48 each. */
    assert_int_equal(recv(at.fd, frames, sizeof frames, 0), 144);
    assert_int_equal(cohort_sender_look(at.sender, 0, &consumed), COHORT_OK);
    assert_int_equal(consumed, 0);
    uint64_t two = 2; /* in two pieces */
    assert_int_equal(send(at.fd, &two, 3, 0), 3);
    assert_int_equal(cohort_sender_look(at.sender, 0, &consumed), COHORT_OK);
    assert_int_equal(consumed, 0);
    assert_int_equal(send(at.fd, (uint8_t *)&two + 3, 5, 0), 5);
    assert_int_equal(cohort_sender_look(at.sender, 0, &consumed), COHORT_OK);
    assert_int_equal(consumed, 2);
    close_wire(&at);
}

static void acks_that_cannot_be_are_refused(void **state) {
    (void)state;
    const uint64_t wrong[] = {4, 1, UINT64_MAX - 1};
    for (size_t i = 0; i < 3; i++) {
        wire at = open_wire();
        uint64_t consumed = 0;
        acknowledge(&at, 2);
        acknowledge(&at, wrong[i]);
        assert_int_equal(cohort_sender_look(at.sender, 0, &consumed), COHORT_E_PROTOCOL);
        assert_int_equal(consumed, 2);
        close_wire(&at);
    }
}

static void goodbye_tells_leaving_from_dying(void **state) {
    (void)state;
    for (int polite = 0; polite < 2; polite++) {
        wire at = open_wire();
        uint64_t consumed = 0;
        uint8_t frames[256];
        assert_int_equal(recv(at.fd, frames, sizeof frames, 0), 144);
        if (polite) acknowledge(&at, COHORT_ACK_GOODBYE);
        close(at.fd);
        at.fd = -1;
        assert_int_equal(cohort_sender_look(at.sender, 0, &consumed),
                         polite ? COHORT_E_CLOSED : COHORT_E_PEER_DIED);
        close_wire(&at);
    }
}

/* More than a socket takes, for the second of two readers, the first being local: the
 * sender's thread brings the rest without another call. */
static void backlog_of_any_reader_is_sent(void **state) {
    (void)state;
    const cohort_ring_shape shape = {
        .chunk_bytes = 1 << 22, .chunk_count = 1, .reader_count = 2};
    const struct timeval patience = {.tv_sec = 20};
    int fds[2];
    cohort_link *link = NULL;
    cohort_sender *sender = NULL;
    size_t bytes = cohort_ring_bytes(&shape), got = 0;
    cohort_ring *ring = aligned_alloc(4096, bytes);
    memset(ring, 0, bytes);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_int_equal(cohort_link_adopt(fds[0], &link), COHORT_OK);
    assert_int_equal(cohort_sender_open(ring, &shape, &sender), COHORT_OK);
    assert_int_equal(cohort_sender_add(sender, 1, link), COHORT_OK);
    assert_int_equal(cohort_sender_start(sender), COHORT_OK);
    *cohort_ring_slot(ring, &shape, 0) = (cohort_slot){
        .size_bytes = shape.chunk_bytes, .flags = 3, .message_bytes = shape.chunk_bytes};
    cohort_sender_publish(sender, 1);
    setsockopt(fds[1], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    while (got < sizeof(cohort_slot) + shape.chunk_bytes) {
        static uint8_t some[65536];
        ssize_t n = recv(fds[1], some, sizeof some, 0);
        assert_true(n > 0);
        got += (size_t)n;
    }
    assert_int_equal(got, sizeof(cohort_slot) + shape.chunk_bytes);
    cohort_sender_close(sender);
    cohort_link_close(link);
    close(fds[1]);
    free(ring);
}

static void frames_in_pieces_are_put_together(void **state) {
    (void)state;
    int fds[2];
    cohort_link *link = NULL;
    cohort_inbox inbox;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_int_equal(cohort_link_adopt(fds[0], &link), COHORT_OK);
    assert_int_equal(cohort_inbox_init(&inbox, &SHAPE, link), COHORT_OK);
    uint8_t frame[48] = {0};
    cohort_slot header = {.size_bytes = 20, .flags = 3, .message_bytes = 20};
    const void *payload = NULL;
    memcpy(frame, &header, sizeof header);
    memset(frame + 16, 'p', 20);
    for (size_t i = 0; i < sizeof frame; i++) {
        assert_int_equal(cohort_inbox_look(&inbox, &header, &payload), COHORT_PENDING);
        assert_int_equal(send(fds[1], frame + i, 1, 0), 1);
    }
    assert_int_equal(cohort_inbox_look(&inbox, &header, &payload), COHORT_OK);
    assert_int_equal(header.size_bytes, 20);
    assert_memory_equal(payload, frame + 16, 20);
    cohort_inbox_consume(&inbox);
    cohort_inbox_acknowledge(&inbox, true);
    uint64_t count = 0;
    assert_int_equal(recv(fds[1], &count, sizeof count, 0), sizeof count);
    assert_int_equal(count, 1);
    header = (cohort_slot){.size_bytes = 65, .flags = 3, .message_bytes = 65};
    assert_int_equal(send(fds[1], &header, sizeof header, 0), sizeof header);
    assert_int_equal(cohort_inbox_look(&inbox, &header, &payload), COHORT_E_PROTOCOL);
    cohort_inbox_deinit(&inbox);
    cohort_link_close(link);
    close(fds[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(acks_move_the_reader),
        cmocka_unit_test(acks_that_cannot_be_are_refused),
        cmocka_unit_test(goodbye_tells_leaving_from_dying),
        cmocka_unit_test(backlog_of_any_reader_is_sent),
        cmocka_unit_test(frames_in_pieces_are_put_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
