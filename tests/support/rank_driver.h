/* SPDX-License-Identifier: Apache-2.0 */
/* rank_driver.h - the driver of a world of one rank, by hand: it says what a test wants
 * said. */
#ifndef RANK_DRIVER_H
#define RANK_DRIVER_H

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

typedef struct rank_driver rank_driver;

struct rank_driver {
    cohort_link *control;
    cohort_counters *counters;
    cohort_queue *broadcast, *response;
    /* What is to be kept, with its descriptor, comes whenever it is ready; NULL: never.
     */
    void (*on_keep)(rank_driver *self, const cohort_frame *frame, int fd);
    _Alignas(8) uint8_t bytes[COHORT_CONTROL_MAX_BYTES]; /* what came or goes */
};

static inline int64_t patience(void) { return cohort_deadline_ms(PATIENCE_MS); }

static inline void tell_with(rank_driver *self, cohort_frame frame, int fd) {
    frame.epoch = EPOCH;
    size_t size = cohort_frame_encode(&frame, self->bytes);
    assert_int_equal(
        fd < 0
            ? cohort_link_send_frame(self->control, self->bytes, size, patience())
            : cohort_link_send_frame_fd(self->control, self->bytes, size, fd, patience()),
        COHORT_OK);
}

static inline void tell(rank_driver *self, cohort_frame frame) {
    tell_with(self, frame, -1);
}

static inline cohort_frame hear(rank_driver *self, cohort_frame_kind kind) {
    for (;;) {
        size_t size;
        int fd = -1;
        cohort_frame frame;
        cohort_error error;
        assert_int_equal(cohort_link_recv_frame_fd(self->control, self->bytes,
                                                   sizeof self->bytes, &size, &fd,
                                                   patience()),
                         COHORT_OK);
        assert_int_equal(cohort_frame_decode(self->bytes, size, &frame), COHORT_OK);
        bool is_keep = frame.kind == COHORT_FRAME_KEEP && self->on_keep;
        if (is_keep) self->on_keep(self, &frame, fd);
        if (frame.kind == kind) return frame;
        if (!is_keep)
            fail_msg("a %s frame: %s", cohort_frame_kind_name(frame.kind),
                     frame.kind == COHORT_FRAME_ERROR &&
                             cohort_frame_read_error(&frame, &error) >= 0
                         ? error.message
                         : "");
    }
}

/* Makes the control link; the rank's end of it. */
static inline int open_control(rank_driver *self) {
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(cohort_link_adopt(fds[0], &self->control), COHORT_OK);
    return fds[1];
}

static inline void open_counters(rank_driver *self) {
    const cohort_counters_options options = {
        .backend = "test", .tp = 1, .pp = 1, .n_rows = 1};
    assert_int_equal(cohort_counters_create(&options, &self->counters), COHORT_OK);
}

/* config: n_config NUL-terminated pairs. */
static inline void configure(rank_driver *self, cohort_frame_configure more,
                             const char *config, size_t config_bytes) {
    struct {
        cohort_frame_configure fixed;
        char text[1024];
    } body = {.fixed = more};
    assert_true(config_bytes <= sizeof body.text);
    body.fixed.tp = body.fixed.pp = body.fixed.local_world_size = 1;
    body.fixed.heartbeat_ns = 100000000;
    body.fixed.max_step_bytes = body.fixed.max_reply_bytes = MESSAGE_BYTES;
    if (config_bytes) memcpy(body.text, config, config_bytes);
    int fd = cohort_counters_fd(self->counters);
    hear(self, COHORT_FRAME_HELLO);
    tell(self, (cohort_frame){.kind = COHORT_FRAME_CONFIGURE,
                              .body = &body,
                              .body_bytes = sizeof body.fixed + config_bytes});
    assert_int_equal(cohort_link_send_fds(self->control, &fd, 1, patience()), COHORT_OK);
}

static inline void connect_queues(rank_driver *self) {
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

/* The links to a rank that is gone. */
static inline void close_links(rank_driver *self) {
    cohort_queue_close(self->response);
    cohort_queue_close(self->broadcast);
    cohort_link_close(self->control);
    self->response = self->broadcast = NULL;
    self->control = NULL;
}

#endif /* RANK_DRIVER_H */
