/* SPDX-License-Identifier: Apache-2.0 */
/* One suite for every transport of a queue: it is written once, against agents that are
 * threads or processes, and runs over each row of the table of transports below. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

#include "base/random.h"
#include "cohort/clock.h"
#include "link/link.h"
#include "queue_table.h"

static const transport TRANSPORTS[] = {
    {"shm threads", NULL, 2, 2, false},
    {"shm processes", NULL, 2, 2, true},
    {"tcp v4 threads", "127.0.0.1", 2, 0, false},
    {"tcp v4 processes", "127.0.0.1", 2, 0, true},
    {"mixed processes", "127.0.0.1", 3, 2, true},
    {"tcp v6 threads", "::1", 2, 0, false}, /* the last: left out without IPv6 */
};
enum { ROWS = sizeof TRANSPORTS / sizeof *TRANSPORTS };

static void nap_ms(int64_t ms) {
    struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

static void every_reader_gets_every_message_once_in_order(void **state) {
    table at;
    enum { COUNT = 3000 };
    table_set(&at, *state, 1024, 8, 0);
    agent_order take = take_order(COUNT, 0);
    tell_all(&at, &take);
    for (uint64_t i = 0; i < COUNT; i++) {
        size_t size_bytes = (size_t)(cohort_random_u64(5, i) % 1025);
        void *payload = NULL;
        assert_int_equal(
            cohort_queue_write_begin(at.writer, size_bytes, patience(), &payload),
            COHORT_OK);
        assert_int_equal((uintptr_t)payload % 16, 0);
        message_fill(payload, size_bytes, i);
        cohort_queue_write_commit(at.writer);
    }
    hear_all_took(&at, COUNT);
    table_clear(&at);
}

/* The narrowest ring, so that every message overwrites one just read. */
static void r25_payload_is_complete_when_its_flag_is_seen(void **state) {
    table at;
    enum { COUNT = 4000 };
    table_set(&at, *state, 64, 2, 0);
    agent_order take = take_order(COUNT, 9);
    tell_all(&at, &take);
    for (uint64_t i = 0; i < COUNT; i++)
        assert_int_equal(table_write(&at, 9 + i, 64, patience()), COHORT_OK);
    hear_all_took(&at, COUNT);
    table_clear(&at);
}

/* Readers are asleep when a message comes, each time. */
static void r26_sleeping_readers_lose_no_wake_up(void **state) {
    table at;
    enum { COUNT = 40 };
    table_set(&at, *state, 256, 4, 0);
    agent_order take = take_order(COUNT, 0);
    tell_all(&at, &take);
    for (uint64_t i = 0; i < COUNT; i++) {
        nap_ms(1);
        assert_int_equal(table_write(&at, i, 100, patience()), COHORT_OK);
    }
    hear_all_took(&at, COUNT);
    table_clear(&at);
}

static void r26_retry_after_a_timeout_reads_the_right_slot(void **state) {
    table at;
    table_set(&at, *state, 256, 4, 0);
    for (uint64_t i = 0; i < 6; i++) {
        agent_report report = take_within(&at, 0, 2);
        assert_int_equal(report.status, COHORT_E_TIMEOUT);
        assert_int_equal(table_write(&at, i, 77, patience()), COHORT_OK);
        table_take(&at, 0, 1, i);
        for (int32_t k = 1; k < at.over->readers; k++)
            table_take(&at, k, 1, i);
    }
    table_clear(&at);
}

static void r26_held_slot_is_released_by_read_end_alone(void **state) {
    table at;
    table_set(&at, *state, 256, 1, 0);
    assert_int_equal(table_write(&at, 0, 10, patience()), COHORT_OK);
    for (int32_t k = 1; k < at.over->readers; k++)
        table_take(&at, k, 1, 0);
    agent_order hold = {.verb = AGENT_HOLD, .timeout_ms = PATIENCE_MS};
    assert_int_equal(agent_do(&at.readers[0], &hold).status, COHORT_OK);
    assert_int_equal(table_write(&at, 1, 10, cohort_deadline_ms(SHORT_MS)),
                     COHORT_E_TIMEOUT);
    agent_do(&at.readers[0], &(agent_order){.verb = AGENT_RELEASE});
    assert_int_equal(table_write(&at, 1, 10, patience()), COHORT_OK);
    for (int32_t k = 0; k < at.over->readers; k++)
        table_take(&at, k, 1, 1);
    table_clear(&at);
}

static void r27_timeout_names_who_waits_for_whom(void **state) {
    table at;
    table_set(&at, *state, 256, 4, 0);
    for (uint64_t i = 0; i < 4; i++)
        assert_int_equal(table_write(&at, i, 32, patience()), COHORT_OK);
    table_take(&at, 0, 4, 0); /* the other readers lag */
    assert_int_equal(table_write(&at, 4, 32, cohort_deadline_ms(SHORT_MS)),
                     COHORT_E_TIMEOUT);
    const cohort_error *error = cohort_last_error();
    assert_non_null(strstr(error->message, "writer of queue 'suite' waits for reader 1"));
    assert_non_null(strstr(error->message, "4 messages behind"));
    assert_non_null(strstr(error->message, at.over->local > 1 ? "pid " : "tcp "));
    assert_int_equal(error->rank, 1);
    agent_report report = take_within(&at, 0, SHORT_MS);
    assert_int_equal(report.status, COHORT_E_TIMEOUT);
    assert_non_null(
        strstr(report.error.message, "reader 0 of queue 'suite' waits for the writer"));
    table_clear(&at);
}

static uint64_t idle_cpu_ns(table *at, int32_t idle_ms) {
    agent_order ask = {.verb = AGENT_CPU};
    uint64_t before_ns = agent_do(&at->readers[0], &ask).value;
    assert_int_equal(take_within(at, 0, idle_ms).status, COHORT_E_TIMEOUT);
    return agent_do(&at->readers[0], &ask).value - before_ns;
}

/* The least of some seconds: a busy machine adds to any one of them, a reader that spins
 * to all. */
static void r28_idle_reader_leaves_the_processor_alone(void **state) {
    table at;
    enum { IDLE_MS = 1000, TRIES = 4 };
    /* 0.1 % is 1 ms; the measuring itself and sanitizers cost some of the rest. */
    const uint64_t allowed_ns = IDLE_MS * UINT64_C(4000);
    table_set(&at, *state, 256, 4, 0);
    uint64_t used_ns = idle_cpu_ns(&at, IDLE_MS);
    for (int i = 1; i < TRIES && used_ns > allowed_ns; i++)
        used_ns = idle_cpu_ns(&at, IDLE_MS);
    assert_in_range(used_ns, 0, allowed_ns);
    table_clear(&at);
}

static void r37_64_mib_pass_through_a_ring_of_1_mib(void **state) {
    table at;
    size_t size_bytes = (64u << 20) - 5;
    table_set(&at, *state, 65536, 16, 64u << 20);
    agent_order take = take_order(1, 3);
    for (int round = 0; round < 2; round++) {
        tell_all(&at, &take);
        assert_int_equal(table_write(&at, 3, size_bytes, patience()), COHORT_OK);
        hear_all_took(&at, 1);
    }
    assert_int_equal(table_write(&at, 3, (64u << 20) + 1, patience()), COHORT_E_INVALID);
    table_clear(&at);
}

static void r38_message_written_at_once_reaches_readers_who_come_late(void **state) {
    table at;
    table_create(&at, *state, 256, 4, 0);
    assert_int_equal(cohort_queue_wait_ready(at.writer, cohort_deadline_ms(SHORT_MS)),
                     COHORT_E_TIMEOUT);
    assert_non_null(strstr(cohort_last_error()->message, "waits for readers 0, 1"));
    table_seat(&at);
    for (uint64_t i = 0; i < 4; i++)
        assert_int_equal(table_write(&at, i, 8, patience()), COHORT_OK);
    nap_ms(20);
    for (int32_t k = 0; k < at.over->readers; k++)
        table_take(&at, k, 4, 0);
    table_clear(&at);
}

static void r39_full_ring_waits_for_its_own_slot(void **state) {
    table at;
    int32_t last = ((const transport *)*state)->readers - 1;
    table_set(&at, *state, 256, 2, 0);
    assert_int_equal(table_write(&at, 0, 50, patience()), COHORT_OK);
    assert_int_equal(table_write(&at, 1, 50, patience()), COHORT_OK);
    for (int32_t k = 0; k < last; k++)
        table_take(&at, k, 2, 0);
    assert_int_equal(table_write(&at, 2, 50, cohort_deadline_ms(SHORT_MS)),
                     COHORT_E_TIMEOUT);
    table_take(&at, last, 1, 0);
    assert_int_equal(table_write(&at, 2, 50, patience()), COHORT_OK);
    assert_int_equal(table_write(&at, 3, 50, cohort_deadline_ms(SHORT_MS)),
                     COHORT_E_TIMEOUT);
    table_take(&at, last, 2, 1);
    for (int32_t k = 0; k < last; k++)
        table_take(&at, k, 1, 2);
    table_clear(&at);
}

/* Two fragments of five fit; the third waits too long: nobody ever sees the message. */
static void message_cut_by_a_deadline_is_withdrawn(void **state) {
    table at;
    table_set(&at, *state, 128, 2, 4096);
    assert_int_equal(table_write(&at, 0, 640, cohort_deadline_ms(SHORT_MS)),
                     COHORT_E_TIMEOUT);
    assert_non_null(strstr(cohort_last_error()->message, "fragments behind"));
    agent_order take = take_order(2, 1);
    tell_all(&at, &take);
    assert_int_equal(table_write(&at, 1, 640, patience()), COHORT_OK);
    assert_int_equal(table_write(&at, 2, 30, patience()), COHORT_OK);
    hear_all_took(&at, 2);
    table_clear(&at);
}

/* More than sockets hold; the reader comes when the writer has long gone idle. */
static void r37_big_message_arrives_without_another_call_of_the_writer(void **state) {
    table at;
    size_t size_bytes = 16u << 20;
    table_set(&at, *state, 16u << 20, 1, 0);
    assert_int_equal(table_write(&at, 8, size_bytes, patience()), COHORT_OK);
    for (int32_t k = 0; k < at.over->readers; k++)
        table_take(&at, k, 1, 8);
    table_clear(&at);
}

static void cancelled_write_is_never_seen(void **state) {
    table at;
    void *payload = NULL;
    table_set(&at, *state, 128, 2, 0);
    assert_int_equal(cohort_queue_write_begin(at.writer, 99, patience(), &payload),
                     COHORT_OK);
    memset(payload, 0xee, 99);
    void *again = NULL;
    assert_int_equal(cohort_queue_write_begin(at.writer, 99, patience(), &again),
                     COHORT_E_INVALID);
    cohort_queue_write_cancel(at.writer);
    assert_int_equal(table_write(&at, 7, 99, patience()), COHORT_OK);
    for (int32_t k = 0; k < at.over->readers; k++)
        table_take(&at, k, 1, 7);
    table_clear(&at);
}

static void interrupt_cancels_a_waiting_reader_once(void **state) {
    table at;
    table_set(&at, *state, 128, 2, 0);
    agent_do(&at.readers[0], &(agent_order){.verb = AGENT_INTERRUPT, .value = 20});
    agent_report report = take_within(&at, 0, PATIENCE_MS);
    assert_int_equal(report.status, COHORT_E_CANCELLED);
    assert_int_equal(take_within(&at, 0, 2).status, COHORT_E_TIMEOUT);
    assert_int_equal(table_write(&at, 1, 99, patience()), COHORT_OK);
    for (int32_t k = 0; k < at.over->readers; k++)
        table_take(&at, k, 1, 1);
    table_clear(&at);
}

static void *interrupt_soon(void *argument) {
    nap_ms(20);
    cohort_queue_interrupt(argument);
    return NULL;
}

static void interrupt_cancels_a_waiting_writer_once(void **state) {
    table at;
    pthread_t thread;
    table_create(&at, *state, 128, 1, 0);
    assert_int_equal(pthread_create(&thread, NULL, interrupt_soon, at.writer), 0);
    assert_int_equal(cohort_queue_wait_ready(at.writer, patience()), COHORT_E_CANCELLED);
    pthread_join(thread, NULL);
    table_seat(&at);
    assert_int_equal(table_write(&at, 0, 9, patience()), COHORT_OK);
    assert_int_equal(pthread_create(&thread, NULL, interrupt_soon, at.writer), 0);
    assert_int_equal(table_write(&at, 1, 9, patience()), COHORT_E_CANCELLED);
    pthread_join(thread, NULL);
    for (int32_t k = 0; k < at.over->readers; k++)
        table_take(&at, k, 1, 0);
    assert_int_equal(table_write(&at, 1, 9, patience()), COHORT_OK);
    for (int32_t k = 0; k < at.over->readers; k++)
        table_take(&at, k, 1, 1);
    table_clear(&at);
}

static void reader_sees_close_after_last_message(void **state) {
    table at;
    table_set(&at, *state, 4096, 8, 65536);
    agent_order take = take_order(2, 0);
    tell_all(&at, &take);
    assert_int_equal(table_write(&at, 0, 20000, patience()), COHORT_OK);
    assert_int_equal(table_write(&at, 1, 20000, patience()), COHORT_OK);
    assert_int_equal(table_write(&at, 2, 20000, patience()), COHORT_OK);
    cohort_queue_close(at.writer);
    at.writer = NULL;
    hear_all_took(&at, 2);
    for (int32_t k = 0; k < at.over->readers; k++) {
        table_take(&at, k, 1, 2);
        for (int again = 0; again < 2; again++)
            assert_int_equal(take_within(&at, k, PATIENCE_MS).status, COHORT_E_CLOSED);
    }
    table_clear(&at);
}

static void waiting_reader_sees_close(void **state) {
    table at;
    table_set(&at, *state, 4096, 8, 0);
    agent_order take = {.verb = AGENT_TAKE, .timeout_ms = PATIENCE_MS};
    tell_all(&at, &take);
    nap_ms(5);
    cohort_queue_close(at.writer);
    at.writer = NULL;
    for (int32_t k = 0; k < at.over->readers; k++)
        assert_int_equal(agent_hear(&at.readers[k]).status, COHORT_E_CLOSED);
    table_clear(&at);
}

/* Writes until the loss of a reader shows, which it must, once. */
static cohort_status write_until_loss(table *at, uint64_t *number) {
    for (;;) {
        cohort_status status = table_write(at, *number, 40, patience());
        if (status < 0) return status;
        ++*number;
    }
}

static void reader_that_leaves_is_named_and_the_rest_goes_on(void **state) {
    table at;
    uint64_t number = 0;
    int32_t last = ((const transport *)*state)->readers - 1;
    table_set(&at, *state, 128, 2, 0);
    for (int32_t k = 0; k < last; k++) {
        agent_order take = take_order(4, 0);
        agent_tell(&at.readers[k], &take);
    }
    agent_do(&at.readers[last], &(agent_order){.verb = AGENT_CLOSE});
    assert_int_equal(write_until_loss(&at, &number), COHORT_E_CLOSED);
    assert_int_equal(cohort_last_error()->rank, last);
    assert_non_null(strstr(cohort_last_error()->message, "has left"));
    while (number < 4)
        assert_int_equal(table_write(&at, number++, 40, patience()), COHORT_OK);
    for (int32_t k = 0; k < last; k++)
        assert_int_equal(agent_hear(&at.readers[k]).status, COHORT_OK);
    for (int32_t k = 0; k < last; k++)
        agent_do(&at.readers[k], &(agent_order){.verb = AGENT_CLOSE});
    for (int32_t k = 0; k < last; k++)
        assert_int_equal(write_until_loss(&at, &number), COHORT_E_CLOSED);
    assert_int_equal(table_write(&at, 0, 1, patience()), COHORT_E_PEER_DIED);
    table_clear(&at);
}

/* Killed while it holds a slot of a full ring: the writer is told and goes on. */
static void reader_killed_holding_a_slot_is_named_and_dropped(void **state) {
    const transport *over = *state;
    table at;
    uint64_t number = 0;
    table_set(&at, over, 128, 2, 0);
    for (; number < 2; number++)
        assert_int_equal(table_write(&at, number, 40, patience()), COHORT_OK);
    for (int32_t k = 0; k < over->readers; k++)
        if (k != 1) table_take(&at, k, 2, 0);
    agent_order hold = {.verb = AGENT_HOLD, .timeout_ms = PATIENCE_MS};
    assert_int_equal(agent_do(&at.readers[1], &hold).status, COHORT_OK);
    agent_kill(&at.readers[1]);
    assert_int_equal(write_until_loss(&at, &number), COHORT_E_PEER_DIED);
    assert_int_equal(cohort_last_error()->rank, 1);
    assert_non_null(strstr(cohort_last_error()->message, "reader 1"));
    for (int32_t k = 0; k < over->readers; k++) {
        agent_order take = take_order(20, 2);
        if (k != 1) agent_tell(&at.readers[k], &take);
    }
    while (number < 22)
        assert_int_equal(table_write(&at, number++, 40, patience()), COHORT_OK);
    for (int32_t k = 0; k < over->readers; k++)
        if (k != 1) assert_int_equal(agent_hear(&at.readers[k]).status, COHORT_OK);
    table_clear(&at);
}

/* The test as reader, the agent as writer. */
static void killed_writer_is_seen_after_its_last_message(void **state) {
    const transport *over = *state;
    agent writer;
    agent_start(&writer, true);
    agent_order create = {.verb = AGENT_CREATE,
                          .count = 1,
                          .local_reader_count = over->local ? 1 : 0,
                          .chunk_bytes = 256,
                          .chunk_count = 8,
                          .size_bytes = 4096};
    if (!over->local)
        snprintf(create.listen_host, sizeof create.listen_host, "%s", over->listen_host);
    agent_report report = agent_do(&writer, &create);
    assert_int_equal(report.status, COHORT_OK);
    cohort_queue *reader = NULL;
    assert_int_equal(cohort_queue_attach(&report.handle, 0, &reader), COHORT_OK);
    agent_tell(&writer,
               &(agent_order){.verb = AGENT_WAIT_READY, .timeout_ms = PATIENCE_MS});
    assert_int_equal(cohort_queue_wait_ready(reader, patience()), COHORT_OK);
    assert_int_equal(agent_hear(&writer).status, COHORT_OK);
    agent_order write = {.verb = AGENT_WRITE_MANY,
                         .count = 3,
                         .value = 5,
                         .size_bytes = 600,
                         .timeout_ms = 500}; /* two fit, the third is cut */
    assert_int_equal(agent_do(&writer, &write).count, 2);
    agent_kill(&writer);
    for (uint64_t i = 0; i < 2; i++) {
        const void *payload;
        size_t size_bytes;
        assert_int_equal(
            cohort_queue_read_begin(reader, patience(), &payload, &size_bytes),
            COHORT_OK);
        assert_int_equal(size_bytes, 600);
        assert_true(message_check(payload, size_bytes, 5 + i));
        cohort_queue_read_end(reader);
    }
    const void *payload;
    size_t size_bytes;
    assert_int_equal(cohort_queue_read_begin(reader, patience(), &payload, &size_bytes),
                     COHORT_E_PEER_DIED);
    assert_non_null(strstr(cohort_last_error()->message, "died"));
    cohort_queue_close(reader);
}

/* The model queue: how many slots are taken, and what each will say. */
typedef struct model {
    uint64_t next, consumed[MAX_READERS]; /* slots */
    struct {
        uint64_t number;
        size_t size_bytes;
        bool last; /* false: a fragment, or what was withdrawn */
    } slots[65536];
} model;

static uint64_t model_free(const model *m, const transport *over, uint64_t count) {
    uint64_t least = m->next;
    for (int32_t k = 0; k < over->readers; k++)
        if (m->consumed[k] < least) least = m->consumed[k];
    return count - (m->next - least);
}

/* Takes what the model says there is; over TCP a message may still be on its way. */
static void model_take(model *m, table *at, int32_t reader) {
    uint64_t *consumed = &m->consumed[reader];
    while (*consumed < m->next && !m->slots[*consumed].last)
        ++*consumed;
    bool some = *consumed < m->next;
    agent_report report = take_within(at, reader, some ? PATIENCE_MS : 0);
    assert_int_equal(report.status, some ? COHORT_OK : COHORT_E_TIMEOUT);
    if (!some) return;
    size_t size_bytes = m->slots[*consumed].size_bytes;
    uint8_t *bytes = malloc(size_bytes + 1);
    message_fill(bytes, size_bytes, m->slots[*consumed].number);
    assert_int_equal(report.size_bytes, size_bytes);
    assert_int_equal(report.digest, message_digest(bytes, size_bytes));
    free(bytes);
    ++*consumed;
}

static void model_write(model *m, table *at, uint64_t number, size_t size_bytes,
                        uint64_t count) {
    uint64_t needed = size_bytes ? (size_bytes + 127) / 128 : 1;
    uint64_t room = model_free(m, at->over, count);
    /* Over TCP acks may lag by half the ring: write what surely fits, and wait for it. */
    bool exact = at->over->local == at->over->readers;
    if (!exact && needed + count / 2 > room) return;
    cohort_status status = table_write(at, number, size_bytes, exact ? 0 : patience());
    assert_int_equal(status, needed <= room ? COHORT_OK : COHORT_E_TIMEOUT);
    uint64_t used = needed <= room ? needed : room;
    for (uint64_t i = 0; i < used; i++) {
        m->slots[m->next].number = number;
        m->slots[m->next].size_bytes = size_bytes;
        m->slots[m->next++].last = i == needed - 1;
    }
}

static void random_schedules_agree_with_a_model(void **state) {
    static model m;
    table at;
    enum { STEPS = 600, CHUNKS = 7 };
    const char *given = getenv("COHORT_TEST_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)cohort_clock_ns();
    print_message("COHORT_TEST_SEED=%llu\n", (unsigned long long)seed);
    memset(&m, 0, sizeof m);
    table_set(&at, *state, 128, CHUNKS, 2048);
    for (uint64_t i = 0; i < STEPS; i++) {
        uint64_t dice = cohort_random_u64(seed, i);
        if (dice % 3)
            model_take(&m, &at, (int32_t)((dice >> 8) % (uint64_t)at.over->readers));
        else
            model_write(&m, &at, i,
                        (size_t)((dice >> 20) % ((dice >> 16 & 3) ? 129 : 1200)), CHUNKS);
    }
    table_clear(&at);
}

static const struct CMUnitTest SUITE[] = {
    cmocka_unit_test(every_reader_gets_every_message_once_in_order),
    cmocka_unit_test(r25_payload_is_complete_when_its_flag_is_seen),
    cmocka_unit_test(r26_sleeping_readers_lose_no_wake_up),
    cmocka_unit_test(r26_retry_after_a_timeout_reads_the_right_slot),
    cmocka_unit_test(r26_held_slot_is_released_by_read_end_alone),
    cmocka_unit_test(r27_timeout_names_who_waits_for_whom),
    cmocka_unit_test(r28_idle_reader_leaves_the_processor_alone),
    cmocka_unit_test(r37_64_mib_pass_through_a_ring_of_1_mib),
    cmocka_unit_test(r37_big_message_arrives_without_another_call_of_the_writer),
    cmocka_unit_test(r38_message_written_at_once_reaches_readers_who_come_late),
    cmocka_unit_test(r39_full_ring_waits_for_its_own_slot),
    cmocka_unit_test(message_cut_by_a_deadline_is_withdrawn),
    cmocka_unit_test(cancelled_write_is_never_seen),
    cmocka_unit_test(interrupt_cancels_a_waiting_reader_once),
    cmocka_unit_test(interrupt_cancels_a_waiting_writer_once),
    cmocka_unit_test(reader_sees_close_after_last_message),
    cmocka_unit_test(waiting_reader_sees_close),
    cmocka_unit_test(reader_that_leaves_is_named_and_the_rest_goes_on),
    cmocka_unit_test(random_schedules_agree_with_a_model),
};

/* A thread cannot be killed. */
static const struct CMUnitTest KILLS[] = {
    cmocka_unit_test(reader_killed_holding_a_slot_is_named_and_dropped),
    cmocka_unit_test(killed_writer_is_seen_after_its_last_message),
};
enum { TESTS = sizeof SUITE / sizeof *SUITE, DEATHS = sizeof KILLS / sizeof *KILLS };

static bool has_ipv6(void) {
    cohort_listener *probe = NULL;
    bool can = cohort_listener_open("::1", &probe) == COHORT_OK;
    cohort_listener_close(probe);
    return can;
}

static size_t add_rows(const struct CMUnitTest *tests, size_t n_tests, size_t rows,
                       bool processes_only, struct CMUnitTest *out_all, size_t n) {
    static char names[ROWS * (TESTS + DEATHS)][128];
    for (size_t i = 0; i < n_tests * rows; i++) {
        const transport *over = &TRANSPORTS[i % rows];
        if (processes_only && !over->processes) continue;
        out_all[n] = tests[i / rows];
        out_all[n].initial_state = (void *)over;
        snprintf(names[n], sizeof names[n], "%s [%s]", tests[i / rows].name, over->name);
        out_all[n].name = names[n];
        n++;
    }
    return n;
}

int main(int argc, char **argv) {
    static struct CMUnitTest all[ROWS * (TESTS + DEATHS)];
    int exit_code;
    if (agent_main(argc, argv, &exit_code)) return exit_code;
    size_t rows = ROWS - !has_ipv6();
    if (rows < ROWS) print_message("no IPv6 on this host: its row is left out\n");
    size_t n = add_rows(SUITE, TESTS, rows, false, all, 0);
    n = add_rows(KILLS, DEATHS, rows, true, all, n);
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    return _cmocka_run_group_tests("queue", all, n, NULL, NULL);
}
