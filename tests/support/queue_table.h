/* SPDX-License-Identifier: Apache-2.0 */
/* queue_table.h - a queue laid out for a test: the writer here, readers as agents. */
#ifndef COHORT_TESTS_QUEUE_TABLE_H
#define COHORT_TESTS_QUEUE_TABLE_H

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

typedef struct table {
    const transport *over;
    cohort_queue *writer;
    agent readers[MAX_READERS];
    cohort_queue_handle handle;
} table;

int64_t patience(void);
/* The writer alone. */
void table_create(table *at, const transport *over, uint32_t chunk_bytes,
                  uint32_t chunk_count, size_t max_message_bytes);
/* The agents of a created table. */
void table_seat(table *at);
void table_set(table *at, const transport *over, uint32_t chunk_bytes,
               uint32_t chunk_count, size_t max_message_bytes);
void table_clear(table *at);

cohort_status table_write(table *at, uint64_t number, size_t size_bytes,
                          int64_t deadline_ns);
/* Reader i takes count messages, numbered from first; all of them or the test fails. */
void table_take(table *at, int32_t reader, int32_t count, uint64_t first);
agent_order take_order(int32_t count, uint64_t first);
void tell_all(table *at, const agent_order *order);
void hear_all_took(table *at, int32_t count);
agent_report take_within(table *at, int32_t reader, int64_t timeout_ms);

#endif /* COHORT_TESTS_QUEUE_TABLE_H */
