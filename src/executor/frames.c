/* SPDX-License-Identifier: Apache-2.0 */
#include "executor/frames.h"

#include <string.h>

#include "base/fail.h"
#include "cohort/clock.h"
#include "executor/executor_internal.h"

enum { SEND_TIMEOUT_MS = 1000 };

cohort_status executor_send_frame(cohort_executor *executor, int32_t rank,
                                  cohort_frame frame, uint8_t *buffer) {
    frame.rank = rank;
    frame.epoch = executor->epoch;
    size_t size_bytes = cohort_frame_encode(&frame, buffer);
    return cohort_link_send_frame(executor->ranks[rank].control, buffer, size_bytes,
                                  cohort_deadline_ms(SEND_TIMEOUT_MS));
}

void executor_send_small(cohort_executor *executor, int32_t rank, cohort_frame_kind kind,
                         const cohort_error *error) {
    uint8_t buffer[COHORT_FRAME_HEADER_BYTES + sizeof *error];
    if (!executor->ranks[rank].control || executor->judge.ranks[rank].has_ended) return;
    /* A rank that cannot be told is dead or will be killed: no new failure. */
    executor_send_frame(executor, rank,
                        (cohort_frame){.kind = kind,
                                       .body = error,
                                       .body_bytes = error ? sizeof *error : 0},
                        buffer);
}

cohort_status executor_send_configure(cohort_executor *executor, int32_t rank,
                                      uint8_t *buffer) {
    const cohort_executor_options *options = &executor->options;
    int64_t hang_ns = options->hang_timeout_ns;
    int64_t heartbeat_ns = hang_ns > 0 ? hang_ns / 8 : INT64_C(1000000000);
    if (heartbeat_ns > INT64_C(1000000000)) heartbeat_ns = INT64_C(1000000000);
    if (heartbeat_ns < 5000000) heartbeat_ns = 5000000;
    const cohort_launch *launch = &executor->ranks[rank].launch;
    bool is_one_host = !launch->local_world_size;
    cohort_frame_configure configure = {
        .rank = rank,
        .tp = options->tp,
        .pp = options->pp,
        .local_rank = is_one_host ? rank : launch->local_rank,
        .local_world_size = is_one_host ? executor->world_size : launch->local_world_size,
        .connect_timeout_ns =
            options->connect_timeout_ns > 0 ? options->connect_timeout_ns : 0,
        .heartbeat_ns = heartbeat_ns,
        .survives_peers = judge_restarts(&executor->judge),
        .keeps =
            judge_restarts(&executor->judge) ? executor_keep_asked(options->kept_kv) : 0,
        .max_step_bytes = options->max_step_bytes,
        .max_reply_bytes = options->max_reply_bytes};
    memcpy(configure.listen_host, launch->address, sizeof configure.listen_host);
    uint8_t *body = buffer + COHORT_FRAME_HEADER_BYTES;
    uint8_t *next = body + sizeof configure;
    for (const char *const *pair = options->config; *pair; pair++) {
        next = (uint8_t *)stpcpy((char *)next, *pair) + 1;
        configure.n_config++;
    }
    /* What the rank before it chose, or its results would differ: the last pair counts.
     */
    if (*executor->ranks[rank].kept.choice) {
        next = (uint8_t *)stpcpy((char *)next, executor->ranks[rank].kept.choice) + 1;
        configure.n_config++;
    }
    memcpy(body, &configure, sizeof configure);
    cohort_frame frame = {.kind = COHORT_FRAME_CONFIGURE,
                          .rank = rank,
                          .epoch = executor->epoch,
                          .body_bytes = (size_t)(next - body)};
    cohort_frame_encode_prefix(&frame, buffer);
    int fd = cohort_counters_fd(executor->counters);
    int64_t deadline_ns = cohort_deadline_ms(SEND_TIMEOUT_MS);
    COHORT_TRY(cohort_link_send_frame(executor->ranks[rank].control, buffer,
                                      (size_t)(next - buffer), deadline_ns));
    /* A rank elsewhere sends its row instead. */
    if (cohort_link_kind_of(executor->ranks[rank].control) != COHORT_LINK_UNIX)
        return COHORT_OK;
    return cohort_link_send_fds(executor->ranks[rank].control, &fd, 1, deadline_ns);
}

cohort_status executor_send_table(cohort_executor *executor, int32_t rank,
                                  uint8_t *buffer) {
    cohort_frame_table table = {.world_size = (uint32_t)executor->world_size};
    COHORT_TRY(executor->carrier->export(executor, &table.broadcast_queue));
    uint8_t *body = buffer + COHORT_FRAME_HEADER_BYTES;
    uint8_t *next = body + sizeof table;
    memcpy(body, &table, sizeof table);
    for (int32_t i = 0; i < executor->world_size; i++, next += sizeof(cohort_mesh_handle))
        memcpy(next, &executor->ranks[i].publish.mesh, sizeof(cohort_mesh_handle));
    cohort_frame frame = {.kind = COHORT_FRAME_TABLE,
                          .rank = rank,
                          .epoch = executor->epoch,
                          .body_bytes = (size_t)(next - body)};
    cohort_frame_encode_prefix(&frame, buffer);
    return cohort_link_send_frame(executor->ranks[rank].control, buffer,
                                  (size_t)(next - buffer),
                                  cohort_deadline_ms(SEND_TIMEOUT_MS));
}

cohort_status executor_send_load(cohort_executor *executor, int32_t rank,
                                 uint8_t *buffer) {
    COHORT_TRY(executor_keep_give(&executor->ranks[rank].kept,
                                  executor->ranks[rank].control, rank, executor->epoch,
                                  cohort_deadline_ms(SEND_TIMEOUT_MS)));
    cohort_frame frame = {
        .kind = COHORT_FRAME_LOAD, .rank = rank, .epoch = executor->epoch};
    pthread_mutex_lock(&executor->lock);
    frame.body_bytes = executor->setup_bytes;
    if (executor->setup)
        memcpy(buffer + COHORT_FRAME_HEADER_BYTES, executor->setup, frame.body_bytes);
    pthread_mutex_unlock(&executor->lock);
    cohort_frame_encode_prefix(&frame, buffer);
    return cohort_link_send_frame(executor->ranks[rank].control, buffer,
                                  COHORT_FRAME_HEADER_BYTES + frame.body_bytes,
                                  cohort_deadline_ms(SEND_TIMEOUT_MS));
}
