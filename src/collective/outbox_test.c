/* SPDX-License-Identifier: Apache-2.0 */
/* The memory that ranks of a host share: what a peer may have written into it is checked.
 */
#include "collective/outbox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fail.h"
#include "base/random.h"

static cohort_outbox *create(int32_t rank, int32_t world_size, int *out_fd) {
    cohort_outbox *outbox = NULL;
    assert_int_equal(cohort_outbox_create(rank, world_size, out_fd, &outbox), COHORT_OK);
    return outbox;
}

/* Pieces of all sizes, over the end many times, against a count of bytes. */
static void bytes_come_out_as_they_went_in(void **state) {
    (void)state;
    enum { MOST = 1 << 20, PIECES = 400 };
    static uint8_t in[MOST], out[MOST];
    int fd;
    cohort_outbox *outbox = create(0, 2, &fd);
    cohort_pipe *pipe = &outbox->pipes[1][COHORT_CHANNEL_MESSAGE];
    uint64_t put = 0, taken = 0;
    for (uint64_t i = 0; i < PIECES; i++) {
        size_t size = (size_t)(cohort_random_u64(1, i) % MOST);
        for (size_t k = 0; k < size; k++)
            in[k] = (uint8_t)((put + k) * 31 >> 3);
        size_t room = COHORT_PIPE_BYTES - (size_t)(put - taken);
        assert_int_equal(cohort_pipe_put(pipe, in, size), size < room ? size : room);
        put += size < room ? size : room;
        size = (size_t)(cohort_random_u64(2, i) % MOST);
        size_t there = (size_t)(put - taken);
        int64_t got = cohort_pipe_take(pipe, out, size);
        assert_int_equal(got, size < there ? size : there);
        for (int64_t k = 0; k < got; k++)
            assert_int_equal(out[k], (uint8_t)((taken + (uint64_t)k) * 31 >> 3));
        taken += (uint64_t)got;
    }
    assert_true(put > 2 * COHORT_PIPE_BYTES);
    cohort_outbox_detach(outbox);
    close(fd);
}

/* Positions are the peer's: those that cannot be are told, before anything is copied. */
static void positions_that_cannot_be_are_refused(void **state) {
    (void)state;
    int fd;
    uint8_t byte = 7;
    cohort_outbox *outbox = create(0, 2, &fd);
    cohort_pipe *pipe = &outbox->pipes[1][COHORT_CHANNEL_COLLECTIVE];
    atomic_store(&pipe->head, COHORT_PIPE_BYTES);
    assert_int_equal(cohort_pipe_put(pipe, &byte, 1), 0); /* full, which can be */
    assert_int_equal(cohort_pipe_take(pipe, &byte, 1), 1);
    atomic_store(&pipe->head, COHORT_PIPE_BYTES + 2);
    assert_int_equal(cohort_pipe_take(pipe, &byte, 1), COHORT_E_PROTOCOL);
    assert_string_equal(cohort_last_error()->message, "a pipe at 1 of 4194306 bytes");
    assert_int_equal(cohort_pipe_put(pipe, &byte, 1), COHORT_E_PROTOCOL);
    atomic_store(&pipe->head, 5);
    atomic_store(&pipe->tail, 6); /* read ahead of what was written */
    assert_int_equal(cohort_pipe_put(pipe, &byte, 1), COHORT_E_PROTOCOL);
    assert_string_equal(cohort_last_error()->message, "a pipe at 6 of 5 bytes");
    assert_int_equal(cohort_pipe_take(pipe, &byte, 1), COHORT_E_PROTOCOL);
    cohort_outbox_detach(outbox);
    close(fd);
}

static void another_ranks_outbox_is_refused(void **state) {
    (void)state;
    int fd, other_fd;
    cohort_outbox *outbox = create(1, 3, &fd), *attached = NULL;
    assert_int_equal(cohort_outbox_attach(fd, 2, 3, &attached), COHORT_E_PROTOCOL);
    assert_int_equal(cohort_outbox_attach(fd, 1, 2, &attached), COHORT_E_PROTOCOL);
    assert_int_equal(cohort_outbox_attach(fd, 1, 4, &attached), COHORT_E_PROTOCOL);
    assert_int_equal(cohort_outbox_attach(fd, 1, 3, &attached), COHORT_OK);
    assert_ptr_equal(attached, outbox); /* one mapping, for as long as there are users */
    cohort_outbox_detach(attached);
    outbox->magic ^= 1;
    assert_int_equal(cohort_outbox_attach(fd, 1, 3, &attached), COHORT_E_PROTOCOL);
    outbox->world_size = 4;
    outbox->magic ^= 1;
    assert_int_equal(cohort_outbox_attach(fd, 1, 3, &attached), COHORT_E_PROTOCOL);
    outbox->world_size = 3;
    /* One that may shrink under us is none. */
    struct stat file;
    assert_int_equal(fstat(fd, &file), 0);
    other_fd = memfd_create("plain", MFD_CLOEXEC);
    assert_int_equal(ftruncate(other_fd, file.st_size), 0);
    assert_int_equal(pwrite(other_fd, outbox, 16, 0), 16); /* its head is right */
    assert_int_equal(cohort_outbox_attach(other_fd, 1, 3, &attached), COHORT_E_PROTOCOL);
    close(other_fd);
    cohort_outbox_detach(outbox);
    close(fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_come_out_as_they_went_in),
        cmocka_unit_test(positions_that_cannot_be_are_refused),
        cmocka_unit_test(another_ranks_outbox_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
