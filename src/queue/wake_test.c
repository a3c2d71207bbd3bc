/* SPDX-License-Identifier: Apache-2.0 */
/* Whoever sleeps on a ring is woken by what it waits for.  The slices, which would hide a
 * lost wake, are set to never; the sleeper is known to sleep, because it has to. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "cohort/clock.h"
#include "queue/queue_internal.h"
#include "sleeper.h"

/* Who is not woken sleeps for the first; who is takes less than the second. */
enum { LOST_MS = 15000, WOKEN_MS = 10000, READERS = 2, CHUNKS = 2 };

typedef struct scene {
    cohort_queue *writer;
    cohort_queue *readers[READERS];
    cohort_queue_handle handle;
} scene;

static void *attach(void *argument) {
    cohort_queue *reader = argument;
    assert_int_equal(cohort_queue_wait_ready(reader, cohort_deadline_ms(LOST_MS)),
                     COHORT_OK);
    return NULL;
}

static scene open_scene(void) {
    scene at = {0};
    pthread_t threads[READERS];
    const cohort_queue_options options = {.reader_count = READERS,
                                          .local_reader_count = READERS,
                                          .chunk_bytes = 64,
                                          .chunk_count = CHUNKS,
                                          .spin_ns = 0,
                                          .name = "wake"};
    assert_int_equal(cohort_queue_create(&options, &at.writer), COHORT_OK);
    assert_int_equal(cohort_queue_export(at.writer, &at.handle), COHORT_OK);
    assert_int_equal(at.writer->slice_ns, 100000000); /* a death is noticed after it */
    at.writer->slice_ns = COHORT_NEVER;
    for (int32_t i = 0; i < READERS; i++) {
        assert_int_equal(cohort_queue_attach(&at.handle, i, &at.readers[i]), COHORT_OK);
        at.readers[i]->slice_ns = COHORT_NEVER;
        pthread_create(&threads[i], NULL, attach, at.readers[i]);
    }
    assert_int_equal(cohort_queue_wait_ready(at.writer, cohort_deadline_ms(LOST_MS)),
                     COHORT_OK);
    for (int32_t i = 0; i < READERS; i++)
        pthread_join(threads[i], NULL);
    return at;
}

static void close_scene(scene *at) {
    cohort_queue_close(at->writer);
    for (int32_t i = 0; i < READERS; i++)
        cohort_queue_close(at->readers[i]);
}

typedef struct sleeper {
    cohort_queue *queue;
    pthread_t thread;
    _Atomic pid_t tid;
    cohort_status status;
    int64_t slept_ns;
} sleeper;

static cohort_status write_one(cohort_queue *writer) {
    return cohort_queue_write(writer, "message", 8, cohort_deadline_ms(LOST_MS));
}

static cohort_status read_one(cohort_queue *reader) {
    const void *payload;
    size_t size_bytes;
    cohort_status status = cohort_queue_read_begin(reader, cohort_deadline_ms(LOST_MS),
                                                   &payload, &size_bytes);
    cohort_queue_read_end(reader);
    return status;
}

static void *sleep_in_call(void *argument) {
    sleeper *self = argument;
    atomic_store(&self->tid, gettid());
    int64_t begin_ns = cohort_clock_ns();
    self->status = self->queue->writer ? write_one(self->queue) : read_one(self->queue);
    self->slept_ns = cohort_clock_ns() - begin_ns;
    return NULL;
}

/* Returns once a thread sleeps in a write, or a read, of that queue. */
static void fall_asleep(sleeper *self, cohort_queue *queue) {
    *self = (sleeper){.queue = queue};
    assert_int_equal(pthread_create(&self->thread, NULL, sleep_in_call, self), 0);
    while (!atomic_load(&self->tid))
        sched_yield();
    sleeper_await(self->tid, SYS_futex);
}

static void expect_woken(sleeper *self, cohort_status status) {
    pthread_join(self->thread, NULL);
    assert_int_equal(self->status, status);
    assert_true(self->slept_ns < WOKEN_MS * INT64_C(1000000));
}

static void sleeping_readers_are_woken_by_a_message(void **state) {
    (void)state;
    scene at = open_scene();
    sleeper sleepers[READERS];
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < READERS; i++)
            fall_asleep(&sleepers[i], at.readers[i]);
        assert_int_equal(write_one(at.writer), COHORT_OK);
        for (int i = 0; i < READERS; i++)
            expect_woken(&sleepers[i], COHORT_OK);
    }
    close_scene(&at);
}

static void sleeping_readers_are_woken_by_close(void **state) {
    (void)state;
    scene at = open_scene();
    sleeper sleepers[READERS];
    for (int i = 0; i < READERS; i++)
        fall_asleep(&sleepers[i], at.readers[i]);
    cohort_queue_close(at.writer);
    at.writer = NULL;
    for (int i = 0; i < READERS; i++)
        expect_woken(&sleepers[i], COHORT_E_CLOSED);
    close_scene(&at);
}

static void sleeping_reader_is_woken_by_an_interrupt(void **state) {
    (void)state;
    scene at = open_scene();
    sleeper reader;
    fall_asleep(&reader, at.readers[1]);
    cohort_queue_interrupt(at.readers[1]);
    expect_woken(&reader, COHORT_E_CANCELLED);
    close_scene(&at);
}

static void fill(scene *at) {
    for (int i = 0; i < CHUNKS; i++)
        assert_int_equal(write_one(at->writer), COHORT_OK);
}

static void sleeping_writer_is_woken_by_the_last_reader_to_consume(void **state) {
    (void)state;
    scene at = open_scene();
    sleeper writer;
    fill(&at);
    for (int round = 0; round < 20; round++) {
        assert_int_equal(read_one(at.readers[0]), COHORT_OK);
        fall_asleep(&writer, at.writer);
        assert_int_equal(read_one(at.readers[1]), COHORT_OK);
        expect_woken(&writer, COHORT_OK);
    }
    close_scene(&at);
}

static void sleeping_writer_is_woken_by_a_reader_that_leaves(void **state) {
    (void)state;
    scene at = open_scene();
    sleeper writer;
    fill(&at);
    assert_int_equal(read_one(at.readers[0]), COHORT_OK);
    fall_asleep(&writer, at.writer);
    cohort_queue_close(at.readers[1]);
    at.readers[1] = NULL;
    expect_woken(&writer, COHORT_E_CLOSED);
    close_scene(&at);
}

static void sleeping_writer_is_woken_by_an_interrupt(void **state) {
    (void)state;
    scene at = open_scene();
    sleeper writer;
    fill(&at);
    fall_asleep(&writer, at.writer);
    cohort_queue_interrupt(at.writer);
    expect_woken(&writer, COHORT_E_CANCELLED);
    close_scene(&at);
}

/* A sleep that was not needed leaves no count behind: a signal would cost a system call.
 */
static void nobody_is_counted_as_a_sleeper_afterwards(void **state) {
    (void)state;
    scene at = open_scene();
    sleeper reader;
    fall_asleep(&reader, at.readers[0]);
    assert_int_equal(write_one(at.writer), COHORT_OK);
    expect_woken(&reader, COHORT_OK);
    assert_int_equal(read_one(at.readers[1]), COHORT_OK);
    assert_int_equal(atomic_load(&at.writer->ring->data.sleepers), 0);
    assert_int_equal(atomic_load(&at.writer->ring->space.sleepers), 0);
    close_scene(&at);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sleeping_readers_are_woken_by_a_message),
        cmocka_unit_test(sleeping_readers_are_woken_by_close),
        cmocka_unit_test(sleeping_reader_is_woken_by_an_interrupt),
        cmocka_unit_test(sleeping_writer_is_woken_by_the_last_reader_to_consume),
        cmocka_unit_test(sleeping_writer_is_woken_by_a_reader_that_leaves),
        cmocka_unit_test(sleeping_writer_is_woken_by_an_interrupt),
        cmocka_unit_test(nobody_is_counted_as_a_sleeper_afterwards),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
