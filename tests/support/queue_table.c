/* SPDX-License-Identifier: Apache-2.0 */
#include "queue_table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cohort/clock.h"

int64_t patience(void) { return cohort_deadline_ms(PATIENCE_MS); }

void table_create(table *at, const transport *over, uint32_t chunk_bytes,
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

void table_seat(table *at) {
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

void table_set(table *at, const transport *over, uint32_t chunk_bytes,
               uint32_t chunk_count, size_t max_message_bytes) {
    table_create(at, over, chunk_bytes, chunk_count, max_message_bytes);
    table_seat(at);
}

void table_clear(table *at) {
    cohort_queue_close(at->writer);
    for (int32_t i = 0; i < at->over->readers; i++)
        agent_stop(&at->readers[i]);
}

cohort_status table_write(table *at, uint64_t number, size_t size_bytes,
                          int64_t deadline_ns) {
    uint8_t *bytes = malloc(size_bytes + 1);
    assert_non_null(bytes);
    message_fill(bytes, size_bytes, number);
    cohort_status status = cohort_queue_write(at->writer, bytes, size_bytes, deadline_ns);
    free(bytes);
    return status;
}

agent_order take_order(int32_t count, uint64_t first) {
    return (agent_order){.verb = AGENT_TAKE_MANY,
                         .count = count,
                         .value = first,
                         .timeout_ms = PATIENCE_MS};
}

static void heard_took(table *at, int32_t reader, int32_t count) {
    agent_report report = agent_hear(&at->readers[reader]);
    if (report.status < 0) print_error("%s\n", report.error.message);
    assert_int_equal(report.status, COHORT_OK);
    assert_int_equal(report.count, count);
}

void table_take(table *at, int32_t reader, int32_t count, uint64_t first) {
    agent_order take = take_order(count, first);
    agent_tell(&at->readers[reader], &take);
    heard_took(at, reader, count);
}

void tell_all(table *at, const agent_order *order) {
    for (int32_t i = 0; i < at->over->readers; i++)
        agent_tell(&at->readers[i], order);
}

void hear_all_took(table *at, int32_t count) {
    for (int32_t i = 0; i < at->over->readers; i++)
        heard_took(at, i, count);
}

agent_report take_within(table *at, int32_t reader, int64_t timeout_ms) {
    return agent_do(&at->readers[reader],
                    &(agent_order){.verb = AGENT_TAKE, .timeout_ms = timeout_ms});
}
