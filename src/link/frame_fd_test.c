/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors that come with frames, also from who sends them as it should not. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "cohort/clock.h"
#include "link/link.h"

enum { PATIENCE_MS = 20000 };

/* Descriptors that this process holds. */
static int count_fds(void) {
    int n = 0;
    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

/* One frame of four bytes, the first of `whole` of its eight going with n descriptors. */
static void send_raw(int socket, const int *fds, int n, size_t whole) {
    uint32_t frame[2] = {4, 0x6c6c6877};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * 9)];
    } control = {0};
    struct iovec iov = {.iov_base = frame, .iov_len = whole};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    if (n) {
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)n);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)n);
        memcpy(CMSG_DATA(header), fds, sizeof(int) * (size_t)n);
    }
    assert_int_equal(sendmsg(socket, &message, 0), (ssize_t)whole);
}

static void descriptor_comes_with_its_frame(void **state) {
    (void)state;
    int ends[2], fd, memory = memfd_create("kept", MFD_CLOEXEC);
    cohort_link *a = NULL, *b = NULL;
    cohort_link_inbox inbox = {0};
    const void *bytes;
    size_t size;
    char text[8];
    int64_t deadline_ns = cohort_deadline_ms(PATIENCE_MS);
    int before = count_fds();
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    assert_int_equal(cohort_link_adopt(ends[0], &a), COHORT_OK);
    assert_int_equal(cohort_link_adopt(ends[1], &b), COHORT_OK);
    assert_int_equal(pwrite(memory, "x", 1, 0), 1);
    for (int i = 0; i < 3; i++) {
        bool with = i != 1; /* and a frame without is one without */
        if (with)
            assert_int_equal(cohort_link_send_frame_fd(a, "abc", 4, memory, deadline_ns),
                             COHORT_OK);
        else
            assert_int_equal(cohort_link_send_frame(a, "abc", 4, deadline_ns), COHORT_OK);
        if (i < 2) {
            assert_int_equal(
                cohort_link_recv_frame_fd(b, text, sizeof text, &size, &fd, deadline_ns),
                COHORT_OK);
        } else {
            assert_int_equal(cohort_link_take_frame(b, &inbox, &bytes, &size), COHORT_OK);
            memcpy(text, bytes, size);
            fd = cohort_link_inbox_take_fd(&inbox);
            assert_int_equal(cohort_link_inbox_take_fd(&inbox), -1);
        }
        assert_int_equal(size, 4);
        assert_string_equal(text, "abc");
        assert_int_equal(fd >= 0, with);
        if (!with) continue;
        assert_int_equal(pread(fd, text, 1, 0), 1);
        assert_int_equal(text[0], 'x');
        assert_int_not_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
        close(fd);
    }
    assert_int_equal(cohort_link_send_frame_fd(a, "abc", 4, -1, deadline_ns),
                     COHORT_E_INVALID);
    cohort_link_close(a);
    cohort_link_close(b);
    assert_int_equal(count_fds(), before);
    close(memory);
}

/* Whoever is at the other end: nothing of what it sends stays open here. */
static void descriptors_out_of_place_leave_none(void **state) {
    (void)state;
    const struct {
        int n_first, n_second; /* with either half of the frame */
        size_t first;          /* bytes of it */
        bool ends;             /* after the first half */
        cohort_status takes, receives;
    } cases[] = {
        {2, 0, 8, false, COHORT_E_PROTOCOL, COHORT_E_PROTOCOL},
        {9, 0, 8, false, COHORT_E_PROTOCOL, COHORT_E_PROTOCOL},
        {1, 1, 4, false, COHORT_E_PROTOCOL, COHORT_E_PROTOCOL},
        {1, 2, 4, false, COHORT_E_PROTOCOL, COHORT_E_PROTOCOL},
        {1, 0, 8, false, COHORT_OK, COHORT_OK}, /* taken by nobody */
        {1, 0, 2, true, COHORT_E_PEER_DIED, COHORT_E_PEER_DIED},
        {1, 0, 6, true, COHORT_E_PEER_DIED, COHORT_E_PEER_DIED},
    };
    for (size_t i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
        bool waits = i % 2;
        int before = count_fds(), ends[2], fd = -1, many[9];
        cohort_link *link = NULL;
        cohort_link_inbox inbox = {0};
        const void *bytes;
        size_t size;
        char text[8];
        for (int k = 0; k < 9; k++)
            many[k] = 2;
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
        assert_int_equal(cohort_link_adopt(ends[0], &link), COHORT_OK);
        send_raw(ends[1], many, cases[i / 2].n_first, cases[i / 2].first);
        if (cases[i / 2].n_second) send_raw(ends[1], many, cases[i / 2].n_second, 4);
        if (cases[i / 2].ends) {
            close(ends[1]);
            ends[1] = -1;
        }
        if (waits)
            assert_int_equal(cohort_link_recv_frame_fd(link, text, sizeof text, &size,
                                                       &fd,
                                                       cohort_deadline_ms(PATIENCE_MS)),
                             cases[i / 2].receives);
        else
            assert_int_equal(cohort_link_take_frame(link, &inbox, &bytes, &size),
                             cases[i / 2].takes);
        if (fd >= 0) close(fd);
        cohort_link_inbox_clear(&inbox);
        cohort_link_close(link);
        if (ends[1] >= 0) close(ends[1]);
        assert_int_equal(count_fds(), before);
    }
}

/* One that nobody asks for is closed by the frame behind it. */
static void descriptor_not_taken_goes_with_its_frame(void **state) {
    (void)state;
    int ends[2], one = 2, before = count_fds();
    cohort_link *link = NULL;
    cohort_link_inbox inbox = {0};
    const void *bytes;
    size_t size;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    assert_int_equal(cohort_link_adopt(ends[0], &link), COHORT_OK);
    send_raw(ends[1], &one, 1, 8);
    send_raw(ends[1], NULL, 0, 8);
    assert_int_equal(cohort_link_take_frame(link, &inbox, &bytes, &size), COHORT_OK);
    assert_int_equal(count_fds(), before + 3);
    assert_int_equal(cohort_link_take_frame(link, &inbox, &bytes, &size), COHORT_OK);
    assert_int_equal(count_fds(), before + 2);
    assert_int_equal(cohort_link_inbox_take_fd(&inbox), -1);
    cohort_link_close(link);
    close(ends[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(descriptor_comes_with_its_frame),
        cmocka_unit_test(descriptors_out_of_place_leave_none),
        cmocka_unit_test(descriptor_not_taken_goes_with_its_frame),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
