/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/join.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fail.h"
#include "cohort/clock.h"
#include "cohort/queue.h"
#include "counters/counters.h"
#include "link/link.h"
#include "wire/frame.h"
#include "worker/extension.h"
#include "worker/last_words.h"

/* Design notes.
 *
 * An epoch is one wiring of the world: a mesh, groups, two queues.  A rank comes into
 * each by the same phases; into its first one also with a configuration and a load.
 *
 * REJOIN finds the main thread anywhere.  The watcher notes the epoch, poisons the mesh
 * and interrupts the queues; whatever waits ends with an error, which is none of this
 * rank's own where it is about others or about the call to leave.  What is made meanwhile
 * is shown to the watcher under the lock, and the epoch looked at under the same: one of
 * the two sees the other.
 *
 * What if a rank dies in here?  The driver finds out, as ever, and its next REJOIN takes
 * the others out of whatever phase they are in. */

/* ---- configuration ------------------------------------------------------------ */

static cohort_status map_counters(cohort_worker *worker) {
    if (worker->counters_fd < 0) {
        if (worker->options->owns_process)
            cohort_last_words_install(&worker->spare_row, cohort_link_fd(worker->control),
                                      worker->info.rank, worker->info.epoch);
        /* Release: the watcher sees our rank. */
        atomic_store_explicit(&worker->sends_row, true, memory_order_release);
        return COHORT_OK;
    }
    cohort_status status = cohort_counters_map(worker->counters_fd, &worker->counters);
    close(worker->counters_fd);
    worker->counters_fd = -1;
    COHORT_TRY(status);
    cohort_counters_row *row =
        cohort_counters_row_of(worker->counters, worker->info.rank);
    if (!row)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "the counters have no row for rank %d",
                           worker->info.rank);
    atomic_store_explicit(&row->pid, (int32_t)getpid(), memory_order_relaxed);
    /* Release: the watcher's acquire in worker_row_of() sees the mapping. */
    atomic_store_explicit(&worker->row, row, memory_order_release);
    worker_beat(worker);
    if (worker->options->owns_process)
        cohort_last_words_install(row, -1, worker->info.rank, worker->info.epoch);
    return COHORT_OK;
}

static bool can_send_fds(const cohort_worker *worker) {
    return cohort_link_kind_of(worker->control) == COHORT_LINK_UNIX;
}

static void fill_info(cohort_worker *worker, const cohort_frame *frame) {
    const cohort_frame_configure *settings = &worker->settings;
    worker->info = (cohort_worker_info){
        .rank = settings->rank,
        .world_size = settings->tp * settings->pp,
        .tp = settings->tp,
        .pp = settings->pp,
        .tp_rank = settings->rank % settings->tp,
        .pp_rank = settings->rank / settings->tp,
        .local_rank = settings->local_rank,
        .local_world_size = settings->local_world_size,
        .is_output_rank = settings->rank == (settings->pp - 1) * settings->tp,
        .epoch = frame->epoch,
        .config = worker->config,
        .keeper = settings->keeps && can_send_fds(worker) ? &worker->kept.keeper : NULL,
        .keeps_kv = settings->keeps & COHORT_KEEP_KV,
        .worker = worker};
    atomic_store_explicit(&worker->epoch, frame->epoch, memory_order_relaxed);
    atomic_store_explicit(&worker->heartbeat_ns, settings->heartbeat_ns,
                          memory_order_relaxed);
}

cohort_status worker_configure(cohort_worker *worker) {
    cohort_frame frame;
    COHORT_TRY(
        worker_await_phase(worker, COHORT_FRAME_CONFIGURE, &worker->configure, &frame));
    COHORT_TRY(cohort_frame_read_configure(&frame, &worker->settings, worker->config));
    fill_info(worker, &frame);
    COHORT_TRY(map_counters(worker));
    size_t reply_bytes = worker->settings.max_reply_bytes;
    if (reply_bytes < sizeof(cohort_error)) reply_bytes = sizeof(cohort_error);
    reply_bytes += COHORT_FRAME_HEADER_BYTES;
    worker->reply = malloc(reply_bytes);
    return worker->reply ? COHORT_OK
                         : COHORT_FAIL(COHORT_E_NOMEM, "allocating %zu bytes for replies",
                                       reply_bytes);
}

/* ---- into an epoch ------------------------------------------------------------ */

static void take_epoch(cohort_worker *worker) {
    pthread_mutex_lock(&worker->lock);
    worker->info.epoch = worker->told_epoch;
    pthread_mutex_unlock(&worker->lock);
    atomic_store_explicit(&worker->epoch, worker->info.epoch, memory_order_relaxed);
    if (worker->options->owns_process) cohort_last_words_epoch(worker->info.epoch);
}

/* Shows the watcher what it is to interrupt from here on; what came before counts. */
static cohort_status show(cohort_worker *worker, cohort_mesh *mesh,
                          cohort_queue *broadcast, cohort_queue *response) {
    pthread_mutex_lock(&worker->lock);
    if (mesh) worker->mesh = mesh;
    if (broadcast) worker->broadcast = broadcast;
    if (response) worker->response = response;
    pthread_mutex_unlock(&worker->lock);
    return cohort_worker_check(worker);
}

static bool uses_queues(const cohort_worker *worker) {
    return worker->carrier == &cohort_worker_queues;
}

static cohort_status open_response(cohort_worker *worker, const char *host,
                                   cohort_queue_handle *out_handle) {
    char name[32];
    cohort_queue *response = NULL;
    snprintf(name, sizeof name, "response of rank %d", worker->info.rank);
    cohort_queue_options options =
        cohort_worker_queue_options(name, worker->settings.max_reply_bytes, 1);
    options.listen_host = host;
    COHORT_TRY(cohort_queue_create(&options, &response));
    COHORT_TRY(show(worker, NULL, NULL, response));
    return cohort_queue_export(response, out_handle);
}

static cohort_status open_ends(cohort_worker *worker, cohort_frame_publish *out_publish) {
    const char *host =
        worker->settings.listen_host[0] ? worker->settings.listen_host : NULL;
    cohort_mesh_options mesh_options = {.rank = worker->info.rank,
                                        .world_size = worker->info.world_size,
                                        .listen_host = host,
                                        .spin_ns = -1};
    cohort_mesh *mesh = NULL;
    COHORT_TRY(cohort_mesh_open(&mesh_options, &mesh));
    COHORT_TRY(show(worker, mesh, NULL, NULL));
    if (uses_queues(worker))
        COHORT_TRY(open_response(worker, host, &out_publish->response_queue));
    return cohort_mesh_export(mesh, &out_publish->mesh);
}

static cohort_status publish(cohort_worker *worker) {
    cohort_frame_publish publish = {0};
    worker_set_phase(worker, COHORT_RANK_CONFIGURE, 0);
    COHORT_TRY(open_ends(worker, &publish));
    return worker_send_control(worker, (cohort_frame){.kind = COHORT_FRAME_PUBLISH,
                                                      .body = &publish,
                                                      .body_bytes = sizeof publish});
}

static cohort_status open_groups(cohort_worker *worker) {
    int32_t ranks[COHORT_MAX_WORLD_SIZE];
    cohort_worker_info *info = &worker->info;
    for (int32_t i = 0; i < info->world_size; i++)
        ranks[i] = i;
    COHORT_TRY(
        cohort_group_open(worker->mesh, ranks, info->world_size, &info->world_group));
    for (int32_t i = 0; i < info->tp; i++)
        ranks[i] = info->pp_rank * info->tp + i;
    COHORT_TRY(cohort_group_open(worker->mesh, ranks, info->tp, &info->tp_group));
    for (int32_t i = 0; i < info->pp; i++)
        ranks[i] = i * info->tp + info->tp_rank;
    return cohort_group_open(worker->mesh, ranks, info->pp, &info->pp_group);
}

static cohort_status await_queues(cohort_worker *worker, int64_t deadline_ns) {
    COHORT_TRY(cohort_queue_wait_ready(worker->broadcast, deadline_ns));
    return cohort_queue_wait_ready(worker->response, deadline_ns);
}

static cohort_status meet(cohort_worker *worker, const cohort_frame *frame) {
    cohort_frame_table table;
    const cohort_mesh_handle *meshes = NULL;
    cohort_queue *broadcast = NULL;
    int64_t deadline_ns = worker->settings.connect_timeout_ns
                              ? cohort_clock_ns() + worker->settings.connect_timeout_ns
                              : COHORT_NEVER;
    COHORT_TRY(cohort_frame_read_table(frame, &table, &meshes));
    if (table.world_size != (uint32_t)worker->info.world_size)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "a table of %u ranks in a world of %d",
                           table.world_size, worker->info.world_size);
    if (uses_queues(worker))
        COHORT_TRY(
            cohort_queue_attach(&table.broadcast_queue, worker->info.rank, &broadcast));
    COHORT_TRY(show(worker, NULL, broadcast, NULL));
    COHORT_TRY(cohort_mesh_connect(worker->mesh, meshes, deadline_ns));
    if (uses_queues(worker)) COHORT_TRY(await_queues(worker, deadline_ns));
    /* Last: until then an error that names no rank is one of the set-up. */
    return open_groups(worker);
}

static cohort_status connect_all(cohort_worker *worker) {
    uint8_t *bytes = NULL;
    cohort_frame frame;
    cohort_status status = worker_await_phase(worker, COHORT_FRAME_TABLE, &bytes, &frame);
    if (status >= 0) {
        worker_set_phase(worker, COHORT_RANK_CONNECT, 0);
        status = meet(worker, &frame);
    }
    free(bytes);
    COHORT_TRY(status);
    return worker_send_control(worker, (cohort_frame){.kind = COHORT_FRAME_CONNECTED});
}

/* Before the model: it may be there to prepare the process for it. */
static cohort_status extend(cohort_worker *worker) {
    const char *spec = cohort_worker_config(&worker->info, COHORT_EXTENSION_KEY);
    if (worker->is_extended || !spec) return COHORT_OK;
    worker->extension.worker = worker;
    worker->extension.is_taken = worker_is_own_method;
    COHORT_TRY(cohort_extension_load(&worker->extension, spec, &worker->info));
    worker->is_extended = true;
    return COHORT_OK;
}

/* What the world was told before this rank came; nobody waits for the replies. */
static cohort_status carry_out_calls(cohort_worker *worker, const cohort_frame *load) {
    cohort_frame call;
    size_t offset = 0;
    for (;;) {
        cohort_status status = cohort_frame_next(load, &offset, &call);
        if (status != COHORT_OK) return status < 0 ? status : COHORT_OK;
        if (call.kind != COHORT_FRAME_RPC)
            return COHORT_FAIL(COHORT_E_PROTOCOL, "a %s frame in a load",
                               cohort_frame_kind_name(call.kind));
        cohort_worker_reply reply = {.bytes = worker->reply + COHORT_FRAME_HEADER_BYTES,
                                     .capacity_bytes = worker->settings.max_reply_bytes};
        worker_set_doing(worker, call.method, call.call);
        COHORT_TRY_WHILE(worker_run_call(worker, &call, &reply),
                         "repeating %s for a rank that is new", call.method);
    }
}

static cohort_status load_anew(cohort_worker *worker, const cohort_frame *frame) {
    const cohort_worker_ops *ops = worker->options->ops;
    if (worker->context && ops->close) ops->close(worker->context); /* half a load */
    worker->context = NULL;
    COHORT_TRY(extend(worker));
    COHORT_TRY(ops->open(&worker->info, &worker->context));
    COHORT_TRY(ops->load(worker->context));
    COHORT_TRY(carry_out_calls(worker, frame));
    worker->is_loaded = true;
    return COHORT_OK;
}

static cohort_status rejoin(cohort_worker *worker) {
    const cohort_worker_ops *ops = worker->options->ops;
    if (ops->rejoin) COHORT_TRY(ops->rejoin(worker->context));
    cohort_extension_rejoined(&worker->extension, worker->info.epoch);
    return COHORT_OK;
}

static cohort_status load(cohort_worker *worker) {
    uint8_t *bytes = NULL;
    cohort_frame frame;
    cohort_status status = worker_await_phase(worker, COHORT_FRAME_LOAD, &bytes, &frame);
    if (status >= 0) {
        worker_set_phase(worker, COHORT_RANK_LOAD, 0);
        status = worker->is_loaded ? rejoin(worker) : load_anew(worker, &frame);
    }
    free(bytes);
    COHORT_TRY(status);
    worker_set_phase(worker, COHORT_RANK_IDLE, 0);
    COHORT_TRY(
        worker_send_control(worker, (cohort_frame){.kind = COHORT_FRAME_READY,
                                                   .body = &worker->ready,
                                                   .body_bytes = sizeof worker->ready}));
    worker_kept_start(&worker->kept,
                      worker->info.keeper ? worker->options->ops->keep : NULL,
                      worker->context, worker_row_of(worker));
    return COHORT_OK;
}

cohort_status worker_join(cohort_worker *worker) {
    take_epoch(worker);
    worker_set_doing(worker, "configure", 0);
    COHORT_TRY(publish(worker));
    worker_set_doing(worker, "connect", 0);
    COHORT_TRY(connect_all(worker));
    worker_set_doing(worker, "load", 0);
    return load(worker);
}

/* ---- out of it ---------------------------------------------------------------- */

/* Queues and links name no rank; whom they lead to is alive or the driver's to judge. */
static bool is_about_others(const cohort_worker *worker, const cohort_error *error,
                            bool is_called_away) {
    switch (error->code) {
    case COHORT_E_INTERRUPTED:
    case COHORT_E_CANCELLED:
    case COHORT_E_CLOSED:
    case COHORT_E_PEER_DIED: return true;
    case COHORT_E_IO: /* whose listener is gone refuses */
    case COHORT_E_TIMEOUT:
        if (is_called_away) return true; /* somebody has died: of that it tells */
        return error->rank != worker->info.rank &&
               (error->rank >= 0 || worker->info.world_group == NULL);
    default: return error->rank >= 0 && error->rank != worker->info.rank;
    }
}

static cohort_status await_told(cohort_worker *worker) {
    pthread_mutex_lock(&worker->lock);
    while (worker->told_epoch == worker->info.epoch && !worker->is_stopping &&
           !worker->is_poisoned)
        pthread_cond_wait(&worker->changed, &worker->lock);
    pthread_mutex_unlock(&worker->lock);
    cohort_status status = cohort_worker_check(worker);
    return status == COHORT_E_INTERRUPTED ? COHORT_OK : status;
}

cohort_status worker_await_epoch(cohort_worker *worker, cohort_status status) {
    cohort_error error = *cohort_last_error();
    cohort_status news = cohort_worker_check(worker);
    bool is_called_away = news == COHORT_E_INTERRUPTED;
    if (!worker->settings.survives_peers ||
        !is_about_others(worker, &error, is_called_away) ||
        (news < 0 && news != COHORT_E_INTERRUPTED)) {
        cohort_fail_adopt(&error);
        return status;
    }
    if (news < 0) return COHORT_OK;
    cohort_fail_adopt(&error);
    worker_send_error(worker, COHORT_FRAME_ERROR);
    /* It is not at work: nobody is to take it for hung. */
    worker_set_phase(worker, COHORT_RANK_CONFIGURE, worker->call);
    return await_told(worker);
}

/* The watcher must not meet what is being closed: it works on the pointers under the
 * lock. */
void worker_leave(cohort_worker *worker) {
    pthread_mutex_lock(&worker->lock);
    cohort_mesh *mesh = worker->mesh;
    cohort_queue *broadcast = worker->broadcast;
    cohort_queue *response = worker->response;
    worker->mesh = NULL;
    worker->broadcast = NULL;
    worker->response = NULL;
    pthread_mutex_unlock(&worker->lock);
    worker->info.world_group = worker->info.tp_group = worker->info.pp_group = NULL;
    cohort_queue_close(response);
    cohort_queue_close(broadcast);
    cohort_mesh_close(mesh);
}
