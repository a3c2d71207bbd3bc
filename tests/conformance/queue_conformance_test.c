/* SPDX-License-Identifier: Apache-2.0 */
/* One suite for every transport of a queue: it is written once, against agents that are
 * threads or processes, and runs over each row of the table of transports below. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/random.h"
#include "cohort/clock.h"
#include "queue/queue_internal.h"
#include "queue_agent.h"

/* Deadlines that are meant to be kept are generous, those meant to pass are short. */
enum { PATIENCE_MS = 60000, SHORT_MS = 60, MAX_READERS = 4 };

typedef struct transport {
    const char *name;
    const char *listen_host;
    int32_t readers;
    int32_t local;
    bool processes;
} transport;

static const transport TRANSPORTS[] = {
    {"shm threads", NULL, 2, 2, false},
    {"shm processes", NULL, 2, 2, true},
    {"tcp v4 threads", "127.0.0.1", 2, 0, false},
    {"tcp v4 processes", "127.0.0.1", 2, 0, true},
    {"tcp v6 threads", "::1", 2, 0, false},
    {"mixed processes", "127.0.0.1", 3, 2, true},
};

/* A queue whose writer is the test and whose readers are agents. */
typedef struct table {
    const transport *over;
    cohort_queue *writer;
    agent readers[MAX_READERS];
    cohort_queue_handle handle;
} table;

static int64_t patience(void) { return cohort_deadline_ms(PATIENCE_MS); }

static void seat_all(table *at) {
    for (int32_t i = 0; i < at->over->readers; i++) {
        agent_start(&at->readers[i], at->over->processes);
        agent_order attach = {.verb = AGENT_ATTACH, .count = i, .handle = at->handle};
        assert_int_equal(agent_do(&at->readers[i], &attach).status, COHORT_OK);
        agent_tell(&at->readers[i], &(agent_order){.verb = AGENT_WAIT_READY,
                                                   .count = i,
                                                   .timeout_ms = PATIENCE_MS});
    }
    assert_int_equal(cohort_queue_wait_ready(at->writer, patience()), COHORT_OK);
    for (int32_t i = 0; i < at->over->readers; i++) {
        agent_report report = agent_hear(&at->readers[i]);
        assert_int_equal(report.status, COHORT_OK);
        const char *expected = i < at->over->local ? "shared memory" : "tcp";
        assert_string_equal(report.transport, expected);
        assert_string_equal(cohort_queue_transport(at->writer, i), expected);
    }
}

static void create_writer(table *at, const transport *over, uint32_t chunk_bytes,
                          uint32_t chunk_count, size_t max_message_bytes) {
    *at = (table){.over = over};
    cohort_queue_options options = {.reader_count = over->readers,
                                    .local_reader_count = over->local,
                                    .chunk_bytes = chunk_bytes,
                                    .chunk_count = chunk_count,
                                    .max_message_bytes = max_message_bytes,
                                    .spin_ns = -1,
                                    .listen_host = over->listen_host,
                                    .name = "suite"};
    assert_int_equal(cohort_queue_create(&options, &at->writer), COHORT_OK);
    assert_int_equal(cohort_queue_export(at->writer, &at->handle), COHORT_OK);
}

static void set_table(table *at, const transport *over, uint32_t chunk_bytes,
                      uint32_t chunk_count, size_t max_message_bytes) {
    create_writer(at, over, chunk_bytes, chunk_count, max_message_bytes);
    seat_all(at);
}

static void clear_table(table *at) {
    cohort_queue_close(at->writer);
    for (int32_t i = 0; i < at->over->readers; i++)
        agent_stop(&at->readers[i]);
}

static agent_order take_order(int32_t count, uint64_t first) {
    return (agent_order){.verb = AGENT_TAKE_MANY,
                         .count = count,
                         .value = first,
                         .timeout_ms = PATIENCE_MS};
}

static void tell_all(table *at, const agent_order *order) {
    for (int32_t i = 0; i < at->over->readers; i++)
        agent_tell(&at->readers[i], order);
}

static void hear_all_took(table *at, int32_t count) {
    for (int32_t i = 0; i < at->over->readers; i++) {
        agent_report report = agent_hear(&at->readers[i]);
        if (report.status < 0) print_error("%s\n", report.error.message);
        assert_int_equal(report.status, COHORT_OK);
        assert_int_equal(report.count, count);
    }
}

/* ---- the suite ------------------------------------------------------------------ */

static void every_reader_gets_every_message_once_in_order(void **state) {
    const transport *over = *state;
    table at;
    enum { COUNT = 3000 };
    set_table(&at, over, 1024, 8, 0);
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
    clear_table(&at);
}

static const struct CMUnitTest SUITE[] = {
    cmocka_unit_test(every_reader_gets_every_message_once_in_order),
};

int main(int argc, char **argv) {
    enum { ROWS = sizeof TRANSPORTS / sizeof *TRANSPORTS };
    enum { TESTS = sizeof SUITE / sizeof *SUITE };
    static struct CMUnitTest all[ROWS * TESTS];
    static char names[ROWS * TESTS][128];
    int exit_code;
    if (agent_main(argc, argv, &exit_code)) return exit_code;
    for (size_t i = 0; i < ROWS * TESTS; i++) {
        all[i] = SUITE[i / ROWS];
        all[i].initial_state = (void *)&TRANSPORTS[i % ROWS];
        snprintf(names[i], sizeof names[i], "%s [%s]", SUITE[i / ROWS].name,
                 TRANSPORTS[i % ROWS].name);
        all[i].name = names[i];
    }
    return _cmocka_run_group_tests("queue", all, ROWS * TESTS, NULL, NULL);
}
