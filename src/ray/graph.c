/* SPDX-License-Identifier: Apache-2.0 */
#include "ray/graph.h"

#include <cjson/cJSON.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "base/fail.h"
#include "base/log.h"
#include "ray/event.h"
#include "ray/relay.h"
#include "ray/sidecar.h"
#include "worker/worker.h"

/* Steps that may be under way, each of which may have its masks behind it. */
enum { MESSAGES_OF_A_STEP = 2 };

bool ray_has_graph(const ray_world *world) {
    return world->placing.options->ray.control_plane == COHORT_RAY_COMPILED_GRAPH;
}

static cohort_status send_order(ray_world *world) {
    const cohort_executor_options *options = world->placing.options;
    cohort_queue_handle handle;
    char hex[COHORT_RAY_HANDLE_HEX_BYTES];
    COHORT_TRY(cohort_queue_export(world->calls, &handle));
    cJSON *order = cJSON_CreateObject();
    sodium_bin2hex(hex, sizeof hex, handle.bytes, sizeof handle.bytes);
    cJSON_AddStringToObject(order, "op", "graph");
    cJSON_AddStringToObject(order, "library", world->library);
    cJSON_AddStringToObject(order, "calls", hex);
    cJSON_AddNumberToObject(order, "max_call_bytes", (double)options->max_step_bytes);
    cJSON_AddNumberToObject(order, "max_reply_bytes", (double)options->max_reply_bytes);
    cJSON_AddNumberToObject(order, "in_flight",
                            (double)MESSAGES_OF_A_STEP *
                                (options->pp + options->async_scheduling));
    cJSON_AddNumberToObject(order, "timeout_ms",
                            (double)(options->connect_timeout_ns / 1000000));
    return cohort_sidecar_send(world->sidecar, order);
}

static cohort_status attach_replies(ray_world *world, const cJSON *event) {
    cohort_queue_handle handle;
    size_t size = 0;
    const char *hex = cohort_ray_event_text(event, "replies");
    if (!cohort_ray_event_is(event, "graph") ||
        sodium_hex2bin(handle.bytes, sizeof handle.bytes, hex, strlen(hex), NULL, &size,
                       NULL) ||
        size != sizeof handle.bytes)
        return COHORT_FAIL(COHORT_E_PROTOCOL,
                           "the Ray sidecar told of no queue of its graph");
    return cohort_queue_attach(&handle, 0, &world->replies);
}

cohort_status ray_graph_open(ray_world *world) {
    cJSON *event = NULL;
    if (!ray_has_graph(world)) return COHORT_OK;
    cohort_log(COHORT_LOG_WARNING, "ray", COHORT_RANK_LOCAL,
               "event=graph text=\"calls go through a compiled graph of Ray's "
               "(COHORT_USE_RAY_V2_EXECUTOR_BACKEND=0): each of the %d actors keeps a "
               "core busy also while it waits, and a rank's death is the end\"",
               world->world_size);
    cohort_queue_options options = cohort_worker_queue_options(
        "calls of the graph", world->placing.options->max_step_bytes, 1);
    COHORT_TRY(cohort_queue_create(&options, &world->calls));
    COHORT_TRY(send_order(world));
    COHORT_TRY(ray_hear(world, "preparing a compiled graph", &event));
    cohort_status status = attach_replies(world, event);
    cJSON_Delete(event);
    return status;
}

void ray_graph_take(void *opened, cohort_queue **out_calls, cohort_queue **out_replies) {
    ray_world *world = opened;
    *out_calls = world->calls;
    *out_replies = world->replies;
    world->calls = world->replies = NULL;
}

void ray_graph_close(ray_world *world) {
    cohort_queue_close(world->replies);
    cohort_queue_close(world->calls);
}
