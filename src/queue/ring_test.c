/* SPDX-License-Identifier: Apache-2.0 */
#include "queue/ring.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const cohort_ring_shape SHAPE = {
    .chunk_bytes = 64, .chunk_count = 3, .reader_count = 2};

static cohort_ring *make_ring(void) {
    size_t bytes = cohort_ring_bytes(&SHAPE);
    cohort_ring *ring = aligned_alloc(4096, bytes);
    assert_non_null(ring);
    memset(ring, 0, bytes);
    cohort_ring_format(ring, &SHAPE, 42);
    return ring;
}

static void slots_lie_apart_and_inside(void **state) {
    (void)state;
    cohort_ring *ring = make_ring();
    uint8_t *base = (uint8_t *)ring;
    for (uint64_t i = 0; i < 9; i++) {
        uint8_t *slot = (uint8_t *)cohort_ring_slot(ring, &SHAPE, i);
        uint8_t *next = (uint8_t *)cohort_ring_slot(ring, &SHAPE, i + 1);
        assert_true(slot >= base + sizeof *ring + 2 * sizeof(cohort_ring_seat));
        assert_true(slot + sizeof(cohort_slot) + SHAPE.chunk_bytes <=
                    base + cohort_ring_bytes(&SHAPE));
        assert_int_equal((uintptr_t)slot % 64, 0);
        assert_ptr_equal(slot, cohort_ring_slot(ring, &SHAPE, i + SHAPE.chunk_count));
        if (next > slot)
            assert_true(next - slot >=
                        (ptrdiff_t)(sizeof(cohort_slot) + SHAPE.chunk_bytes));
    }
    free(ring);
}

static void another_ring_is_refused(void **state) {
    (void)state;
    cohort_ring *ring = make_ring();
    size_t bytes = cohort_ring_bytes(&SHAPE);
    cohort_ring_shape other = SHAPE;
    other.reader_count = 1;
    assert_int_equal(cohort_ring_check(ring, bytes, &SHAPE, 42), COHORT_OK);
    assert_int_equal(cohort_ring_check(ring, bytes, &SHAPE, 43), COHORT_E_PROTOCOL);
    assert_int_equal(cohort_ring_check(ring, bytes, &other, 42), COHORT_E_PROTOCOL);
    assert_int_equal(cohort_ring_check(ring, bytes - 1, &SHAPE, 42), COHORT_E_PROTOCOL);
    ring->version++;
    assert_int_equal(cohort_ring_check(ring, bytes, &SHAPE, 42), COHORT_E_PROTOCOL);
    free(ring);
}

static void counters_that_cannot_be_are_refused(void **state) {
    (void)state;
    cohort_ring *ring = make_ring();
    uint64_t seen = 0, consumed = 4;
    assert_int_equal(cohort_ring_look(ring, &SHAPE, 0, &seen), COHORT_PENDING);
    cohort_ring_publish(ring, 7);
    assert_int_equal(cohort_ring_look(ring, &SHAPE, 4, &seen), COHORT_OK);
    assert_int_equal(seen, 7);
    assert_int_equal(cohort_ring_look(ring, &SHAPE, 3, &seen), COHORT_E_PROTOCOL);
    assert_int_equal(cohort_ring_look(ring, &SHAPE, 8, &seen), COHORT_E_PROTOCOL);
    cohort_ring_consume(ring, 1, 5);
    assert_int_equal(cohort_ring_seat_look(ring, 1, 7, &consumed), COHORT_OK);
    assert_int_equal(consumed, 5);
    cohort_ring_consume(ring, 1, 8); /* more than was published */
    assert_int_equal(cohort_ring_seat_look(ring, 1, 7, &consumed), COHORT_E_PROTOCOL);
    cohort_ring_consume(ring, 1, 4); /* backwards */
    assert_int_equal(cohort_ring_seat_look(ring, 1, 7, &consumed), COHORT_E_PROTOCOL);
    assert_int_equal(consumed, 5);
    free(ring);
}

static void close_is_seen_after_the_last_slot(void **state) {
    (void)state;
    cohort_ring *ring = make_ring();
    uint64_t seen = 0, consumed = 0;
    cohort_ring_publish(ring, 1);
    cohort_ring_close(ring);
    assert_int_equal(cohort_ring_look(ring, &SHAPE, 0, &seen), COHORT_OK);
    assert_int_equal(cohort_ring_look(ring, &SHAPE, 1, &seen), COHORT_E_CLOSED);
    cohort_ring_consume(ring, 0, 1);
    cohort_ring_leave(ring, 0);
    assert_int_equal(cohort_ring_seat_look(ring, 0, 1, &consumed), COHORT_E_CLOSED);
    assert_int_equal(consumed, 1);
    free(ring);
}

static cohort_status feed(cohort_assembly *assembly, uint32_t flags, uint32_t size,
                          uint64_t total) {
    static const uint8_t payload[4096];
    const void *message;
    size_t message_bytes;
    cohort_slot header = {.size_bytes = size, .flags = flags, .message_bytes = total};
    cohort_status status =
        cohort_assembly_feed(assembly, &header, payload, &message, &message_bytes);
    if (status == COHORT_OK) assert_int_equal(message_bytes, total);
    return status;
}

static void fragments_that_do_not_fit_are_refused(void **state) {
    (void)state;
    uint8_t buffer[200];
    enum { FIRST = COHORT_SLOT_FIRST, LAST = COHORT_SLOT_LAST };
    cohort_assembly fresh = {
        .buffer = buffer, .max_message_bytes = sizeof buffer, .chunk_bytes = 64};
    cohort_assembly at = fresh;
    assert_int_equal(feed(&at, FIRST | LAST, 64, 64), COHORT_OK);
    assert_int_equal(feed(&at, FIRST | LAST, 0, 0), COHORT_OK);
    assert_int_equal(feed(&at, FIRST, 64, 150), COHORT_PENDING);
    assert_int_equal(feed(&at, 0, 64, 150), COHORT_PENDING);
    assert_int_equal(feed(&at, LAST, 22, 150), COHORT_OK);
    assert_int_equal(feed(&at, FIRST, 64, 150), COHORT_PENDING);
    assert_int_equal(feed(&at, FIRST | LAST, 9, 9), COHORT_OK); /* withdrawn */
    const struct {
        uint32_t flags, size;
        uint64_t total;
    } wrong[] = {
        {FIRST | LAST, 65, 65},    /* longer than a slot */
        {FIRST, 64, 201},          /* longer than a message may be */
        {FIRST, 64, UINT64_MAX},   /* the same, by far */
        {FIRST | LAST, 64, 63},    /* more than the message */
        {FIRST | LAST, 60, 63},    /* last, but not all of it */
        {FIRST, 64, 64},           /* all of it, but not last */
        {FIRST, 0, 10},            /* nothing */
        {0, 64, 150},              /* continues nothing */
        {LAST, 20, 20},            /* ends nothing */
        {FIRST | LAST | 8, 1, 1},  /* an unknown flag */
        {COHORT_SLOT_CLOSE, 0, 0}, /* the stream's alone */
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        at = fresh;
        assert_int_equal(feed(&at, wrong[i].flags, wrong[i].size, wrong[i].total),
                         COHORT_E_PROTOCOL);
    }
    at = fresh;
    assert_int_equal(feed(&at, FIRST, 64, 150), COHORT_PENDING);
    assert_int_equal(feed(&at, 0, 64, 160), COHORT_E_PROTOCOL); /* another total */
    at = fresh;
    at.buffer = NULL;
    assert_int_equal(feed(&at, FIRST, 64, 150), COHORT_E_PROTOCOL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots_lie_apart_and_inside),
        cmocka_unit_test(another_ring_is_refused),
        cmocka_unit_test(counters_that_cannot_be_are_refused),
        cmocka_unit_test(close_is_seen_after_the_last_slot),
        cmocka_unit_test(fragments_that_do_not_fit_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
