/* SPDX-License-Identifier: Apache-2.0 */
#include "test_worker.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/fail.h"
#include "cohort/clock.h"
#include "link/link.h"
#include "wire/frame.h"
#include "worker/worker_main.h"

typedef struct test_context {
    const cohort_worker_info *info; /* of the epoch that it lives in */
    int32_t n_told, told;           /* by tell */
} test_context;

static int process_control_fd; /* of a worker that is a process */

static void sleep_ms(long ms) {
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    while (nanosleep(&time, &time) && errno == EINTR) /* it was asked where it is */
        continue;
}

static cohort_status do_fault(const cohort_worker_info *info, const char *what) {
    if (!strcmp(what, "error"))
        return COHORT_FAIL(COHORT_E_DEVICE, "planted error of rank %d", info->rank);
    if (!strcmp(what, "exit")) exit(3);
    if (!strcmp(what, "kill")) raise(SIGKILL);
    if (!strcmp(what, "stop")) raise(SIGSTOP);
    if (!strcmp(what, "mute")) { /* for the driver its link has ended, and it lives on */
        shutdown(process_control_fd, SHUT_WR);
        sleep_ms(60000);
    }
    if (!strcmp(what, "children") && !fork()) {
        sleep_ms(600000);
        _exit(0);
    }
    /* It ends one day, so that a broken test leaves nothing behind. */
    const char *spin_ms = cohort_worker_config(info, "spin_ms");
    if (!strcmp(what, "spin")) sleep_ms(spin_ms ? atol(spin_ms) : 60000);
    /* As long as it likes, but it asks. */
    while (!strcmp(what, "obey")) {
        COHORT_TRY(cohort_worker_check(info->worker));
        sleep_ms(5);
    }
    return COHORT_OK;
}

static cohort_status fault(const cohort_worker_info *info, const char *where) {
    const char *planted = cohort_worker_config(info, "fault");
    const char *pause = cohort_worker_config(info, "pause_ms");
    char at[16] = "";
    char what[16] = "";
    int rank = -1;
    if (pause && strcmp(where, "execute") != 0) sleep_ms(atol(pause));
    if (!planted || sscanf(planted, "%15[a-z]:%d:%15[a-z]", at, &rank, what) != 3 ||
        rank != info->rank || strcmp(at, where) != 0)
        return COHORT_OK;
    return do_fault(info, what);
}

static cohort_status test_open(const cohort_worker_info *info, void **out_context) {
    test_context *self = calloc(1, sizeof *self);
    if (!self) return COHORT_FAIL(COHORT_E_NOMEM, "allocating a test context");
    self->info = info;
    *out_context = self;
    return fault(info, "open");
}

static cohort_status test_load(void *context) {
    test_context *self = context;
    cohort_worker_progress(self->info->worker, 1, 2);
    COHORT_TRY(fault(self->info, "load"));
    cohort_worker_progress(self->info->worker, 2, 2);
    return COHORT_OK;
}

static cohort_status test_execute(void *context, const void *step, size_t size_bytes,
                                  cohort_worker_reply *reply) {
    test_context *self = context;
    int32_t rank = self->info->rank;
    COHORT_TRY(fault(self->info, "execute"));
    if (cohort_worker_config(self->info, "barrier")) {
        cohort_worker_waits_for(self->info->worker, (rank + 1) % self->info->world_size);
        COHORT_TRY(cohort_barrier(self->info->world_group, cohort_deadline_ms(60000)));
        cohort_worker_waits_for(self->info->worker, COHORT_RANK_LOCAL);
    }
    /* What it is to answer with comes behind it. */
    if (size_bytes == sizeof TEST_MASKED && !memcmp(step, TEST_MASKED, size_bytes))
        COHORT_TRY(cohort_worker_await_masks(self->info->worker, &step, &size_bytes));
    memcpy(reply->bytes, &rank, sizeof rank);
    if (size_bytes) memcpy(reply->bytes + sizeof rank, step, size_bytes);
    reply->size_bytes = sizeof rank + size_bytes;
    return COHORT_OK;
}

static cohort_status call_where(void *context, const void *payload, size_t size_bytes,
                                cohort_worker_reply *reply) {
    (void)payload;
    (void)size_bytes;
    const cohort_worker_info *info = ((test_context *)context)->info;
    test_where where = {.rank = info->rank,
                        .world_size = info->world_size,
                        .tp_rank = info->tp_rank,
                        .pp_rank = info->pp_rank,
                        .pid = (int32_t)getpid(),
                        .is_output_rank = info->is_output_rank};
    memcpy(reply->bytes, &where, sizeof where);
    reply->size_bytes = sizeof where;
    return COHORT_OK;
}

static int32_t number_of(const void *payload, size_t size_bytes) {
    int32_t number = -1;
    if (size_bytes == sizeof number) memcpy(&number, payload, sizeof number);
    return number;
}

/* payload: the rank that fails. */
static cohort_status call_fail(void *context, const void *payload, size_t size_bytes,
                               cohort_worker_reply *reply) {
    (void)reply;
    const cohort_worker_info *info = ((test_context *)context)->info;
    if (number_of(payload, size_bytes) != info->rank) return COHORT_OK;
    return COHORT_FAIL(COHORT_E_DEVICE, "planted error of rank %d", info->rank);
}

/* payload: the rank that refuses. */
static cohort_status call_refuse(void *context, const void *payload, size_t size_bytes,
                                 cohort_worker_reply *reply) {
    (void)reply;
    const cohort_worker_info *info = ((test_context *)context)->info;
    if (number_of(payload, size_bytes) != info->rank) return COHORT_OK;
    return COHORT_FAIL(COHORT_E_INVALID, "rank %d will not", info->rank);
}

/* payload: a number to remember; the reply of told: it, and how often one was told. */
static cohort_status call_tell(void *context, const void *payload, size_t size_bytes,
                               cohort_worker_reply *reply) {
    test_context *self = context;
    (void)reply;
    self->told = number_of(payload, size_bytes);
    self->n_told++;
    return COHORT_OK;
}

static cohort_status call_told(void *context, const void *payload, size_t size_bytes,
                               cohort_worker_reply *reply) {
    const test_context *self = context;
    const int32_t told[] = {self->told, self->n_told};
    (void)payload;
    (void)size_bytes;
    memcpy(reply->bytes, told, sizeof told);
    reply->size_bytes = sizeof told;
    return COHORT_OK;
}

/* payload: the path of a file, NUL-terminated; returns when that is no more, or after a
 * minute, so that a broken test leaves nothing behind. */
static cohort_status call_hold(void *context, const void *payload, size_t size_bytes,
                               cohort_worker_reply *reply) {
    (void)context;
    (void)reply;
    const char *path = payload;
    if (!size_bytes || path[size_bytes - 1])
        return COHORT_FAIL(COHORT_E_INVALID, "no path");
    int64_t until_ns = cohort_deadline_ms(60000);
    while (!access(path, F_OK) && cohort_clock_ns() < until_ns)
        sleep_ms(1);
    return COHORT_OK;
}

/* payload: bytes of the reply. */
static cohort_status call_fill(void *context, const void *payload, size_t size_bytes,
                               cohort_worker_reply *reply) {
    int32_t n = number_of(payload, size_bytes);
    const cohort_worker_info *info = ((test_context *)context)->info;
    if (n < 0 || (size_t)n > reply->capacity_bytes)
        return COHORT_FAIL(COHORT_E_INVALID, "a reply of %d bytes", n);
    memset(reply->bytes, 'a' + info->rank, (size_t)n);
    reply->size_bytes = (size_t)n;
    return COHORT_OK;
}

/* payload: a key, NUL-terminated. */
static cohort_status call_config(void *context, const void *payload, size_t size_bytes,
                                 cohort_worker_reply *reply) {
    const cohort_worker_info *info = ((test_context *)context)->info;
    const char *key = payload;
    if (!size_bytes || key[size_bytes - 1])
        return COHORT_FAIL(COHORT_E_INVALID, "no key");
    const char *value = cohort_worker_config(info, key);
    if (!value) return COHORT_FAIL(COHORT_E_INVALID, "no value of %s", key);
    reply->size_bytes = strlen(value);
    memcpy(reply->bytes, value, reply->size_bytes);
    return COHORT_OK;
}

/* Whether the worker ignores SIGUSR2; payload: nothing. */
static cohort_status call_ignores(void *context, const void *payload, size_t size_bytes,
                                  cohort_worker_reply *reply) {
    struct sigaction action;
    (void)context;
    (void)payload;
    (void)size_bytes;
    if (sigaction(SIGUSR2, NULL, &action)) return COHORT_FAIL_SYS(errno, "sigaction");
    *(bool *)reply->bytes = action.sa_handler == SIG_IGN;
    reply->size_bytes = sizeof(bool);
    return COHORT_OK;
}

static void test_close(void *context) {
    test_context *self = context;
    if (self) fault(self->info, "close");
    free(self);
}

const cohort_worker_ops *test_worker_ops(void) {
    static const cohort_worker_method methods[] = {
        {"where", call_where}, {"fail", call_fail}, {"refuse", call_refuse},
        {"hold", call_hold},   {"fill", call_fill}, {"config", call_config},
        {"tell", call_tell},   {"told", call_told}, {"ignores", call_ignores},
        {NULL, NULL}};
    static const cohort_worker_ops ops = {.open = test_open,
                                          .load = test_load,
                                          .execute = test_execute,
                                          .methods = methods,
                                          .close = test_close};
    return &ops;
}

bool test_worker_is_asked(int argc, char **argv) {
    return argc == 4 && !strcmp(argv[1], "worker") && !strcmp(argv[2], "--control-fd");
}

/* Says hello as the worker of that build would, and to all that it hears that it is
 * ready, in the epoch before. */
static int speak_of_the_past(int control_fd, const char *build_id) {
    _Alignas(8) uint8_t bytes[1024];
    size_t size_bytes = 0;
    cohort_link *link = NULL;
    cohort_frame_hello hello = {.pid = (int32_t)getpid()};
    snprintf(hello.build_id, sizeof hello.build_id, "%s", build_id);
    cohort_frame frame = {
        .kind = COHORT_FRAME_HELLO, .body = &hello, .body_bytes = sizeof hello};
    cohort_status status = cohort_link_adopt(control_fd, &link);
    while (status >= 0) {
        size_bytes = cohort_frame_encode(&frame, bytes);
        status = cohort_link_send_frame(link, bytes, size_bytes, COHORT_NEVER);
        if (status >= 0)
            status = cohort_link_recv_frame(link, bytes, sizeof bytes, &size_bytes,
                                            COHORT_NEVER);
        if (status >= 0) status = cohort_frame_decode(bytes, size_bytes, &frame);
        frame = (cohort_frame){.kind = COHORT_FRAME_READY, .epoch = frame.epoch - 1};
    }
    return 0;
}

/* An error, of which the second half comes late. */
static int speak_slowly(int control_fd) {
    uint8_t bytes[1024];
    cohort_error error = {.code = COHORT_E_DEVICE, .rank = 0, .message = "said slowly"};
    cohort_frame frame = {.kind = COHORT_FRAME_ERROR,
                          .method = "start",
                          .body = &error,
                          .body_bytes = sizeof error};
    uint32_t length = (uint32_t)cohort_frame_encode(&frame, bytes + sizeof length);
    memcpy(bytes, &length, sizeof length);
    if (write(control_fd, bytes, 50) != 50) return 1;
    sleep_ms(1500);
    if (write(control_fd, bytes + 50, length + sizeof length - 50) < 0) return 1;
    sleep_ms(60000);
    return 0;
}

/* A frame's length, and no frame. */
static int speak_gibberish(int control_fd) {
    uint8_t bytes[64] = {sizeof bytes - sizeof(uint32_t)};
    if (write(control_fd, bytes, sizeof bytes) != sizeof bytes) return 1;
    sleep_ms(60000);
    return 0;
}

/* Lives on, but has hung up. */
static int hang_up(int control_fd) {
    close(control_fd);
    sleep_ms(60000);
    return 0;
}

int test_worker_main(char **argv) {
    process_control_fd = atoi(argv[3]);
    if (getenv("TEST_WORKER_SLOW")) return speak_slowly(process_control_fd);
    if (getenv("TEST_WORKER_RAVES")) return speak_gibberish(process_control_fd);
    if (getenv("TEST_WORKER_HANGS_UP")) return hang_up(process_control_fd);
    if (getenv("TEST_WORKER_FOREIGN"))
        return speak_of_the_past(process_control_fd, "0123456789abcdef");
    if (getenv("TEST_WORKER_LATE"))
        return speak_of_the_past(process_control_fd, cohort_build_id());
    return cohort_worker_main(process_control_fd, test_worker_ops());
}
