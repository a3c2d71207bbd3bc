/* SPDX-License-Identifier: Apache-2.0 */
/* queue_agent.h - an end of a queue that does what it is told, in a thread or a process.
 *
 * The test holds one end itself and drives the others by commands over a socket, so that
 * the same test runs with threads, with processes, and over every transport.
 *
 *   agent_start --> agent_attach/agent_create --> agent_tell, agent_hear --> agent_stop
 *
 * A process is this very executable, started with "queue-agent <fd>".
 */
#ifndef COHORT_TESTS_QUEUE_AGENT_H
#define COHORT_TESTS_QUEUE_AGENT_H

#include <pthread.h>
#include <stdbool.h>
#include <sys/types.h>

#include "cohort/queue.h"

typedef enum agent_verb {
    AGENT_ATTACH, /* handle, count: reader index */
    AGENT_CREATE, /* shape and counts of the order; answers with the handle */
    AGENT_WAIT_READY,
    AGENT_TAKE,       /* one message: size, digest */
    AGENT_TAKE_MANY,  /* count messages, each checked to be number value, value+1, ... */
    AGENT_HOLD,       /* read_begin alone */
    AGENT_RELEASE,    /* read_end */
    AGENT_WRITE_MANY, /* count messages numbered from value, of size_bytes each */
    AGENT_INTERRUPT,  /* interrupts itself after value ms; comes before another verb */
    AGENT_CPU,        /* answers with the processor time used so far, ns, in value */
    AGENT_CLOSE,
    AGENT_EXIT
} agent_verb;

typedef struct agent_order {
    agent_verb verb;
    int32_t count;
    int64_t timeout_ms;
    uint64_t value;
    uint64_t size_bytes;
    cohort_queue_handle handle;
    int32_t local_reader_count;
    uint32_t chunk_bytes, chunk_count;
    char listen_host[64];
} agent_order;

typedef struct agent_report {
    int32_t status;
    int32_t count;
    uint64_t value;
    uint64_t size_bytes;
    uint64_t digest;
    cohort_error error;
    cohort_queue_handle handle;
    char transport[32];
} agent_report;

typedef struct agent {
    int fd; /* the test's end */
    int their_fd;
    pid_t pid; /* 0: a thread */
    pthread_t thread;
} agent;

void agent_start(agent *self, bool process);
void agent_tell(agent *self, const agent_order *order);
agent_report agent_hear(agent *self);
agent_report agent_do(agent *self, const agent_order *order);
/* SIGKILL, and reaped. */
void agent_kill(agent *self);
void agent_stop(agent *self);

/* main() calls it first: returns false unless this process is an agent. */
bool agent_main(int argc, char **argv, int *out_exit);

/* Message number `number` of a stream: its bytes follow from number and size. */
void message_fill(void *out_bytes, size_t size_bytes, uint64_t number);
uint64_t message_digest(const void *bytes, size_t size_bytes);
bool message_check(const void *bytes, size_t size_bytes, uint64_t number);

#endif /* COHORT_TESTS_QUEUE_AGENT_H */
