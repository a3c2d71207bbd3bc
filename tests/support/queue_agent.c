/* SPDX-License-Identifier: Apache-2.0 */
#include "queue_agent.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/random.h"
#include "cohort/clock.h"

extern char **environ;

void message_fill(void *out_bytes, size_t size_bytes, uint64_t number) {
    uint8_t *bytes = out_bytes;
    for (size_t i = 0; i < size_bytes; i += 8) {
        uint64_t word = cohort_random_u64(number, i) ^ size_bytes;
        memcpy(bytes + i, &word, size_bytes - i < 8 ? size_bytes - i : 8);
    }
}

bool message_check(const void *bytes, size_t size_bytes, uint64_t number) {
    const uint8_t *have = bytes;
    for (size_t i = 0; i < size_bytes; i += 8) {
        uint64_t word = cohort_random_u64(number, i) ^ size_bytes;
        if (memcmp(have + i, &word, size_bytes - i < 8 ? size_bytes - i : 8) != 0)
            return false;
    }
    return true;
}

uint64_t message_digest(const void *bytes, size_t size_bytes) {
    const uint8_t *have = bytes;
    uint64_t digest = UINT64_C(0xcbf29ce484222325) ^ size_bytes;
    for (size_t i = 0; i < size_bytes; i++)
        digest = (digest ^ have[i]) * UINT64_C(0x100000001b3);
    return digest;
}

static bool move_all(int fd, void *bytes, size_t size_bytes, bool out) {
    uint8_t *next = bytes;
    while (size_bytes) {
        ssize_t n = out ? send(fd, next, size_bytes, MSG_NOSIGNAL)
                        : recv(fd, next, size_bytes, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        next += n;
        size_bytes -= (size_t)n;
    }
    return true;
}

/* ---- the agent's own side ---------------------------------------------------------- */

typedef struct agent_state {
    cohort_queue *queue;
    int64_t interrupt_after_ns;
} agent_state;

static void take_many(cohort_queue *queue, const agent_order *order,
                      agent_report *report) {
    int64_t deadline_ns = cohort_deadline_ms(order->timeout_ms);
    for (int32_t i = 0; i < order->count; i++) {
        const void *payload;
        size_t size_bytes;
        report->status =
            cohort_queue_read_begin(queue, deadline_ns, &payload, &size_bytes);
        if (report->status < 0) return;
        bool right = message_check(payload, size_bytes, order->value + (uint64_t)i);
        cohort_queue_read_end(queue);
        if (!right) {
            report->status = COHORT_E_PROTOCOL;
            snprintf(report->error.message, sizeof report->error.message,
                     "message %d of %d is wrong", i, order->count);
            return;
        }
        report->count++;
    }
}

static void write_many(cohort_queue *queue, const agent_order *order,
                       agent_report *report) {
    uint8_t *bytes = malloc(order->size_bytes + 1);
    int64_t deadline_ns = cohort_deadline_ms(order->timeout_ms);
    for (int32_t i = 0; i < order->count && report->status >= 0; i++) {
        message_fill(bytes, order->size_bytes, order->value + (uint64_t)i);
        report->status = cohort_queue_write(queue, bytes, order->size_bytes, deadline_ns);
        report->count += report->status >= 0;
    }
    free(bytes);
}

static void hold(cohort_queue *queue, const agent_order *order, agent_report *report) {
    const void *payload = NULL;
    size_t size_bytes = 0;
    report->status = cohort_queue_read_begin(queue, cohort_deadline_ms(order->timeout_ms),
                                             &payload, &size_bytes);
    if (report->status < 0) return;
    report->size_bytes = size_bytes;
    report->digest = message_digest(payload, size_bytes);
    if (order->verb == AGENT_TAKE) cohort_queue_read_end(queue);
}

static void create(agent_state *state, const agent_order *order, agent_report *report) {
    cohort_queue_options options = {.reader_count = order->count,
                                    .local_reader_count = order->local_reader_count,
                                    .chunk_bytes = order->chunk_bytes,
                                    .chunk_count = order->chunk_count,
                                    .max_message_bytes = order->size_bytes,
                                    .spin_ns = -1,
                                    .listen_host =
                                        order->listen_host[0] ? order->listen_host : NULL,
                                    .name = "agent"};
    report->status = cohort_queue_create(&options, &state->queue);
    if (report->status == COHORT_OK) cohort_queue_export(state->queue, &report->handle);
}

typedef struct alarm_clock {
    cohort_queue *queue;
    int64_t after_ns;
} alarm_clock;

static void *interrupt_later(void *argument) {
    alarm_clock *alarm = argument;
    struct timespec pause = {.tv_nsec = (long)alarm->after_ns};
    nanosleep(&pause, NULL);
    cohort_queue_interrupt(alarm->queue);
    return NULL;
}

static uint64_t processor_time_ns(void) {
    struct timespec used;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

static void obey(agent_state *state, const agent_order *order, agent_report *report) {
    switch (order->verb) {
    case AGENT_ATTACH:
        report->status = cohort_queue_attach(&order->handle, order->count, &state->queue);
        break;
    case AGENT_CREATE: create(state, order, report); break;
    case AGENT_WAIT_READY:
        report->status =
            cohort_queue_wait_ready(state->queue, cohort_deadline_ms(order->timeout_ms));
        snprintf(report->transport, sizeof report->transport, "%s",
                 cohort_queue_transport(state->queue, order->count));
        break;
    case AGENT_TAKE:
    case AGENT_HOLD: hold(state->queue, order, report); break;
    case AGENT_RELEASE: cohort_queue_read_end(state->queue); break;
    case AGENT_TAKE_MANY: take_many(state->queue, order, report); break;
    case AGENT_WRITE_MANY: write_many(state->queue, order, report); break;
    case AGENT_CPU: report->value = processor_time_ns(); break;
    case AGENT_INTERRUPT:
        state->interrupt_after_ns = (int64_t)order->value * 1000000;
        break;
    case AGENT_CLOSE:
    case AGENT_EXIT:
        cohort_queue_close(state->queue);
        state->queue = NULL;
        break;
    }
}

static void serve(int fd) {
    agent_state state = {0};
    agent_order order;
    while (move_all(fd, &order, sizeof order, false)) {
        agent_report report = {0};
        alarm_clock alarm = {.queue = state.queue, .after_ns = state.interrupt_after_ns};
        pthread_t thread;
        bool alarmed = state.interrupt_after_ns && order.verb != AGENT_INTERRUPT &&
                       !pthread_create(&thread, NULL, interrupt_later, &alarm);
        obey(&state, &order, &report);
        if (alarmed) {
            pthread_join(thread, NULL);
            state.interrupt_after_ns = 0;
        }
        if (report.status < 0 && !report.error.message[0])
            report.error = *cohort_last_error();
        if (!move_all(fd, &report, sizeof report, true) || order.verb == AGENT_EXIT)
            break;
    }
    cohort_queue_close(state.queue);
    close(fd);
}

static void *serve_thread(void *argument) {
    agent *self = argument;
    serve(self->their_fd);
    return NULL;
}

bool agent_main(int argc, char **argv, int *out_exit) {
    if (argc != 3 || strcmp(argv[1], "queue-agent") != 0) return false;
    serve(atoi(argv[2]));
    *out_exit = 0;
    return true;
}

/* ---- the test's side ----------------------------------------------------------------
 */

void agent_start(agent *self, bool process) {
    int fds[2];
    *self = (agent){0};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    self->fd = fds[0];
    self->their_fd = fds[1];
    if (!process) {
        assert_int_equal(pthread_create(&self->thread, NULL, serve_thread, self), 0);
        return;
    }
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fds[1], 3); /* without close-on-exec */
    char *arguments[] = {"queue-agent", "queue-agent", "3", NULL};
    assert_int_equal(
        posix_spawn(&self->pid, "/proc/self/exe", &actions, NULL, arguments, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    close(fds[1]);
}

void agent_tell(agent *self, const agent_order *order) {
    agent_order copy = *order;
    assert_true(move_all(self->fd, &copy, sizeof copy, true));
}

agent_report agent_hear(agent *self) {
    agent_report report;
    assert_true(move_all(self->fd, &report, sizeof report, false));
    return report;
}

agent_report agent_do(agent *self, const agent_order *order) {
    agent_tell(self, order);
    return agent_hear(self);
}

void agent_kill(agent *self) {
    assert_true(self->pid > 0);
    kill(self->pid, SIGKILL);
    waitpid(self->pid, NULL, 0);
    close(self->fd);
    self->fd = -1;
}

void agent_stop(agent *self) {
    if (self->fd < 0) return;
    agent_do(self, &(agent_order){.verb = AGENT_EXIT});
    if (self->pid)
        waitpid(self->pid, NULL, 0);
    else
        pthread_join(self->thread, NULL);
    close(self->fd);
    self->fd = -1;
}
