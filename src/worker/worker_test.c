/* SPDX-License-Identifier: Apache-2.0 */
/* A world of one rank whose driver says what none should: this file is the driver. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "cohort/clock.h"
#include "counters/counters.h"
#include "link/link.h"
#include "wire/frame.h"
#include "worker/worker.h"

enum { EPOCH = 5, PATIENCE_MS = 60000, MESSAGE_BYTES = 65536 };

static cohort_status open_nothing(const cohort_worker_info *info, void **out_context) {
    (void)info;
    *out_context = NULL;
    return COHORT_OK;
}

static cohort_status load_nothing(void *context) {
    (void)context;
    return COHORT_OK;
}

static const cohort_worker_ops ops = {.open = open_nothing, .load = load_nothing};

typedef struct world {
    cohort_worker_options options;
    pthread_t rank;
    cohort_status ended;
    cohort_link *control;
    cohort_counters *counters;
    cohort_queue *broadcast, *response;
    _Alignas(8) uint8_t bytes[COHORT_CONTROL_MAX_BYTES]; /* what came or goes */
} world;

static int64_t patience(void) { return cohort_deadline_ms(PATIENCE_MS); }

static void *rank_main(void *argument) {
    world *self = argument;
    self->ended = cohort_worker_run(&self->options);
    return NULL;
}

static void tell(world *self, cohort_frame frame) {
    frame.epoch = EPOCH;
    size_t size = cohort_frame_encode(&frame, self->bytes);
    assert_int_equal(cohort_link_send_frame(self->control, self->bytes, size, patience()),
                     COHORT_OK);
}

static cohort_frame hear(world *self, cohort_frame_kind kind) {
    size_t size;
    cohort_frame frame;
    cohort_error error;
    assert_int_equal(cohort_link_recv_frame(self->control, self->bytes,
                                            sizeof self->bytes, &size, patience()),
                     COHORT_OK);
    assert_int_equal(cohort_frame_decode(self->bytes, size, &frame), COHORT_OK);
    if (frame.kind != kind)
        fail_msg("a %s frame: %s", cohort_frame_kind_name(frame.kind),
                 frame.kind == COHORT_FRAME_ERROR &&
                         cohort_frame_read_error(&frame, &error) >= 0
                     ? error.message
                     : "");
    return frame;
}

static void configure(world *self) {
    cohort_frame_configure configure = {.tp = 1,
                                        .pp = 1,
                                        .local_world_size = 1,
                                        .heartbeat_ns = 100000000,
                                        .max_step_bytes = MESSAGE_BYTES,
                                        .max_reply_bytes = MESSAGE_BYTES};
    int fd = cohort_counters_fd(self->counters);
    hear(self, COHORT_FRAME_HELLO);
    tell(self, (cohort_frame){.kind = COHORT_FRAME_CONFIGURE,
                              .body = &configure,
                              .body_bytes = sizeof configure});
    assert_int_equal(cohort_link_send_fds(self->control, &fd, 1, patience()), COHORT_OK);
}

static void connect_queues(world *self) {
    cohort_frame_publish publish;
    struct {
        cohort_frame_table table;
        cohort_mesh_handle mesh;
    } body = {.table.world_size = 1};
    cohort_frame frame = hear(self, COHORT_FRAME_PUBLISH);
    assert_int_equal(cohort_frame_read_publish(&frame, &publish), COHORT_OK);
    cohort_queue_options options =
        cohort_worker_queue_options("broadcast", MESSAGE_BYTES, 1);
    assert_int_equal(cohort_queue_create(&options, &self->broadcast), COHORT_OK);
    cohort_queue_export(self->broadcast, &body.table.broadcast_queue);
    body.mesh = publish.mesh;
    tell(self, (cohort_frame){
                   .kind = COHORT_FRAME_TABLE, .body = &body, .body_bytes = sizeof body});
    assert_int_equal(cohort_queue_wait_ready(self->broadcast, patience()), COHORT_OK);
    assert_int_equal(cohort_queue_attach(&publish.response_queue, 0, &self->response),
                     COHORT_OK);
    assert_int_equal(cohort_queue_wait_ready(self->response, patience()), COHORT_OK);
    hear(self, COHORT_FRAME_CONNECTED);
}

static int set_up(void **state) {
    static world self;
    int fds[2];
    const cohort_counters_options options = {
        .backend = "test", .tp = 1, .pp = 1, .n_rows = 1};
    memset(&self, 0, sizeof self);
    *state = &self;
    assert_int_equal(cohort_counters_create(&options, &self.counters), COHORT_OK);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(cohort_link_adopt(fds[0], &self.control), COHORT_OK);
    self.options = (cohort_worker_options){.control_fd = fds[1], .ops = &ops};
    assert_int_equal(pthread_create(&self.rank, NULL, rank_main, &self), 0);
    configure(&self);
    connect_queues(&self);
    tell(&self, (cohort_frame){.kind = COHORT_FRAME_LOAD});
    hear(&self, COHORT_FRAME_READY);
    return 0;
}

static int tear_down(void **state) {
    world *self = *state;
    cohort_queue_close(self->response);
    cohort_queue_close(self->broadcast);
    cohort_link_close(self->control);
    cohort_counters_close(self->counters);
    return 0;
}

static void call(world *self, uint64_t number, uint64_t epoch) {
    cohort_frame frame = {.kind = COHORT_FRAME_RPC,
                          .rank = COHORT_ALL_RANKS,
                          .epoch = epoch,
                          .call = number,
                          .method = "noop"};
    size_t size = cohort_frame_encode(&frame, self->bytes);
    assert_int_equal(cohort_queue_write(self->broadcast, self->bytes, size, patience()),
                     COHORT_OK);
}

static void late_call_of_an_older_epoch_is_dropped(void **state) {
    world *self = *state;
    cohort_counters_row *row = cohort_counters_row_of(self->counters, 0);
    const void *bytes;
    size_t size;
    cohort_frame reply;
    call(self, 1, EPOCH - 1);
    call(self, 2, EPOCH);
    assert_int_equal(cohort_queue_read_begin(self->response, patience(), &bytes, &size),
                     COHORT_OK);
    assert_int_equal(cohort_frame_decode(bytes, size, &reply), COHORT_OK);
    assert_int_equal(reply.call, 2);
    assert_int_equal(reply.status, COHORT_OK);
    assert_int_equal(reply.epoch, EPOCH);
    cohort_queue_read_end(self->response);
    assert_int_equal(row->rpcs, 1);
    assert_int_equal(row->errors, 1);
    assert_string_equal(row->text, "a late call of an older epoch");
    tell(self, (cohort_frame){.kind = COHORT_FRAME_STOP});
    pthread_join(self->rank, NULL);
    assert_int_equal(self->ended, COHORT_OK);
}

/* With nothing to do, it still says that it lives. */
static void idle_rank_beats(void **state) {
    world *self = *state;
    cohort_counters_row *row = cohort_counters_row_of(self->counters, 0);
    int64_t first_ns = cohort_clock_ns(), until_ns = patience();
    while (atomic_load(&row->heartbeat_ns) <= first_ns && cohort_clock_ns() < until_ns)
        usleep(1000);
    assert_true(atomic_load(&row->heartbeat_ns) > first_ns);
    tell(self, (cohort_frame){.kind = COHORT_FRAME_STOP});
    pthread_join(self->rank, NULL);
    assert_int_equal(self->ended, COHORT_OK);
}

/* The world has gone on without this rank. */
static void call_of_a_newer_epoch_ends_the_rank(void **state) {
    world *self = *state;
    cohort_error error;
    call(self, 1, EPOCH + 1);
    cohort_frame frame = hear(self, COHORT_FRAME_ERROR);
    assert_int_equal(cohort_frame_read_error(&frame, &error), COHORT_OK);
    assert_non_null(strstr(error.message, "a call of epoch 6 in epoch 5"));
    pthread_join(self->rank, NULL);
    assert_int_equal(self->ended, COHORT_E_PROTOCOL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(late_call_of_an_older_epoch_is_dropped, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(idle_rank_beats, set_up, tear_down),
        cmocka_unit_test_setup_teardown(call_of_a_newer_epoch_ends_the_rank, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
