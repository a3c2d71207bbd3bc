/* SPDX-License-Identifier: Apache-2.0 */
#include "ray/seat.h"

#include <cjson/cJSON.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/log.h"
#include "cohort/clock.h"
#include "link/link.h"
#include "ray/actor.h"
#include "ray/env.h"
#include "ray/event.h"
#include "ray/graph.h"
#include "ray/rules.h"
#include "ray/sidecar.h"
#include "ray/world.h"

extern char **environ;

/* The user's; vLLM's for Nsight beneath it. */
static cohort_status read_runtime_env(ray_world *world) {
    const cohort_ray_options *ray = &world->placing.options->ray;
    COHORT_TRY(cohort_ray_env_parse(ray->runtime_env, &world->runtime_env));
    if (!ray->workers_use_nsight ||
        cJSON_GetObjectItemCaseSensitive(world->runtime_env, "nsight"))
        return COHORT_OK;
    cJSON *nsight = cJSON_AddObjectToObject(world->runtime_env, "nsight");
    cJSON_AddStringToObject(nsight, "t", "cuda,cudnn,cublas");
    cJSON_AddStringToObject(nsight, "o", "'worker_process_%p'");
    cJSON_AddStringToObject(nsight, "cuda-graph-trace", "node");
    return COHORT_OK;
}

cohort_status ray_read_environment(ray_world *world) {
    char *excluded;
    COHORT_TRY(
        cohort_ray_env_excluded(world->placing.options->ray.excluded_env, &excluded));
    cohort_status status = cohort_ray_env_read(environ, excluded, &world->env);
    free(excluded);
    COHORT_TRY(status);
    COHORT_TRY(read_runtime_env(world));
    if (world->env.left_out[0])
        cohort_log(COHORT_LOG_WARNING, "ray", COHORT_RANK_LOCAL,
                   "event=environment_left_out names=%s reason=\"not UTF-8\"",
                   world->env.left_out);
    return COHORT_OK;
}

/* Of what must precede a process's start, a node may have a value of its own, or lack a
 * path: it is asked, which takes the start of a process there. */
static cohort_status look_at_nodes(ray_world *world, cJSON **out_event) {
    cJSON *order = cJSON_CreateObject();
    cJSON *nodes = cJSON_AddArrayToObject(order, "nodes");
    cJSON_AddStringToObject(order, "op", "look");
    for (int32_t i = 0; i < world->world_size; i++) {
        bool is_first = true;
        for (int32_t j = 0; is_first && j < i; j++)
            is_first = strcmp(world->ranks[j].bundle_node, world->ranks[i].bundle_node);
        if (is_first)
            cJSON_AddItemToArray(nodes, cJSON_CreateString(world->ranks[i].bundle_node));
    }
    cJSON_AddItemToObject(order, "names", cohort_ray_env_names(&world->env));
    cJSON_AddItemToObject(order, "paths", cohort_ray_env_paths(&world->env));
    COHORT_TRY(ray_tell(world, order));
    COHORT_TRY(ray_hear(world, "looking at the environment of its nodes", out_event));
    if (cohort_ray_event_is(*out_event, "looked")) return COHORT_OK;
    cJSON_Delete(*out_event);
    *out_event = NULL;
    return COHORT_FAIL(COHORT_E_PROTOCOL, "the Ray sidecar looked at no node");
}

/* The runtime_env of the actors of each node, by the node's id.  Nodes are not looked at
 * again for ranks that are started again. */
static cohort_status make_runtime_envs(ray_world *world) {
    cJSON *looked = NULL;
    bool is_first = !world->envs;
    if (is_first) world->envs = cJSON_CreateObject();
    cohort_status status = is_first && world->env.precedes->child
                               ? look_at_nodes(world, &looked)
                               : COHORT_OK;
    for (int32_t i = 0; status >= 0 && i < world->world_size; i++) {
        const char *node = world->ranks[i].bundle_node;
        if (cJSON_GetObjectItemCaseSensitive(world->envs, node)) continue;
        cJSON *env =
            cohort_ray_env_on_node(&world->env, cohort_ray_event_looked(looked, node));
        /* All of the node's stay visible, and each worker binds its own (R14). */
        if (strcmp(world->demand.key, "CPU") != 0)
            cJSON_AddStringToObject(env, "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES",
                                    "1");
        cJSON_AddItemToObject(world->envs, node,
                              cohort_ray_env_under(world->runtime_env, env));
    }
    cJSON_Delete(looked);
    return status;
}

/* vLLM names a replica where there are more. */
static int32_t dp_rank_of(const ray_world *world) {
    const cohort_executor_options *options = world->placing.options;
    return options->data_parallel_size > 1 ? options->data_parallel_rank : -1;
}

static bool ask_for(ray_world *world, int32_t index) {
    ray_rank *rank = &world->ranks[index];
    pthread_mutex_lock(&world->lock);
    bool is_wanted = rank->stage == RAY_WANTED;
    if (is_wanted) rank->stage = RAY_SEATING;
    pthread_mutex_unlock(&world->lock);
    return is_wanted;
}

static cohort_status add_actor(ray_world *world, int32_t index, cJSON *actors) {
    ray_rank *rank = &world->ranks[index];
    const cohort_ray_identity identity = {.instance = world->placing.instance,
                                          .dp_rank = dp_rank_of(world),
                                          .tp = world->placing.options->tp,
                                          .pp = world->placing.options->pp};
    cJSON *actor = cJSON_CreateObject();
    cJSON_AddItemToArray(actors, actor);
    COHORT_TRY(cohort_ray_actor_name(&identity, index, rank->life, rank->name,
                                     sizeof rank->name));
    cJSON_AddNumberToObject(actor, "rank", index);
    cJSON_AddNumberToObject(actor, "life", rank->life);
    cJSON_AddNumberToObject(actor, "bundle", rank->bundle);
    cJSON_AddBoolToObject(actor, "moved", rank->is_moved);
    cJSON_AddStringToObject(actor, "node", rank->bundle_node);
    cJSON_AddStringToObject(actor, "name", rank->name);
    return COHORT_OK;
}

/* A device is its bundle's, and not given to who waits beside it. */
static int32_t count_spares(const ray_world *world) {
    const cohort_executor_options *options = world->placing.options;
    bool is_of_use = options->max_rank_restarts > 0 && !ray_has_graph(world) &&
                     !strcmp(world->demand.key, "CPU");
    return is_of_use ? options->ray.spare_workers : 0;
}

cohort_status ray_send_spawn(ray_world *world) {
    cohort_status status = make_runtime_envs(world);
    cJSON *order = cJSON_CreateObject();
    cJSON *actors = cJSON_AddArrayToObject(order, "actors");
    for (int32_t i = 0; status >= 0 && i < world->world_size; i++)
        if (ask_for(world, i)) status = add_actor(world, i, actors);
    cJSON_AddStringToObject(order, "op", "spawn");
    cJSON_AddItemReferenceToObject(order, "envs", world->envs);
    cJSON_AddStringToObject(order, "key", world->demand.key);
    cJSON_AddNumberToObject(order, "spares", count_spares(world));
    cJSON_AddStringToObject(order, "library", world->library);
    cJSON *resources = cJSON_AddObjectToObject(order, "resources");
    cJSON_AddNumberToObject(resources, world->demand.key, world->demand.amount);
    if (status < 0) {
        cJSON_Delete(order);
        return status;
    }
    return ray_tell(world, order);
}

static cohort_status take_seat(ray_rank *rank, const cohort_ray_seated *seated) {
    if (seated->life != rank->life || rank->stage != RAY_SEATING)
        return COHORT_OK; /* it has died since */
    if (rank->pid)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "the Ray sidecar seated rank %d twice",
                           seated->rank);
    snprintf(rank->node, sizeof rank->node, "%s", seated->node);
    snprintf(rank->address, sizeof rank->address, "%s", seated->address);
    rank->pid = seated->pid;
    if (strcmp(seated->build, cohort_ray_actor_build_id()) != 0)
        return COHORT_FAIL(
            COHORT_E_INVALID,
            "node %s has libcohort of build %.12s, this host %.12s: install "
            "one build on every node",
            rank->address, seated->build, cohort_ray_actor_build_id());
    for (int32_t k = 0; k < seated->n_devices; k++) {
        char *copy = strdup(seated->devices[k]);
        if (!copy) return COHORT_FAIL(COHORT_E_NOMEM, "allocating a device's id");
        rank->device_ids[rank->n_devices++] = copy;
    }
    return COHORT_OK;
}

cohort_status ray_seat_rank(ray_world *world, const cJSON *event) {
    cohort_ray_seated seated;
    COHORT_TRY(cohort_ray_event_seated(event, world->world_size, &seated));
    pthread_mutex_lock(&world->lock);
    cohort_status status = take_seat(&world->ranks[seated.rank], &seated);
    pthread_mutex_unlock(&world->lock);
    return status;
}

static cohort_status hear_seats(ray_world *world) {
    while (ray_count_ranks(world, ray_is_not_seated) > 0) {
        cJSON *event = NULL;
        char list[RAY_LIST_BYTES];
        cohort_status status = ray_hear(world, "starting actors", &event);
        if (status == COHORT_E_TIMEOUT) {
            ray_name_ranks(world, ray_is_not_seated, list, sizeof list);
            return COHORT_FAIL(
                COHORT_E_TIMEOUT,
                "Ray has not started %d of %d actors in time: %s: are these "
                "bundles in use?",
                ray_count_ranks(world, ray_is_not_seated), world->world_size, list);
        }
        COHORT_TRY(status);
        if (cohort_ray_event_is(event, "seated")) status = ray_seat_rank(world, event);
        cJSON_Delete(event);
        COHORT_TRY(status);
    }
    return COHORT_OK;
}

/* Every layer's sums go from node to node there. */
static void warn_of_straddlers(const ray_world *world) {
    const int32_t tp = world->placing.options->tp;
    for (int32_t first = 0; first < world->world_size; first += tp) {
        int32_t n = cohort_ray_count_nodes(world->seats + first, tp);
        if (n < 2) continue;
        cohort_log(
            COHORT_LOG_WARNING, "ray", COHORT_RANK_LOCAL,
            "event=straddles text=\"ranks %d to %d, which sum every layer, are on %d "
            "nodes: this is slow; take a --tensor-parallel-size that fits one node, "
            "or --ray-placement-strategy STRICT_PACK\"",
            first, first + tp - 1, n);
    }
}

cohort_status ray_number_seats(ray_world *world) {
    for (int32_t i = 0; i < world->world_size; i++) {
        ray_rank *rank = &world->ranks[i];
        world->seats[i] = (cohort_ray_seat){.node_id = rank->node,
                                            .bundle_node = rank->bundle_node,
                                            .bundle = rank->bundle,
                                            .device_ids = rank->device_ids,
                                            .n_devices = rank->n_devices};
    }
    cohort_ray_number_seats(world->seats, world->world_size);
    /* An adopted group's strategy is its owner's. */
    return cohort_ray_check_placement(
        world->seats, world->world_size,
        world->is_adopted ? COHORT_RAY_PACK : world->strategy, &world->demand);
}

/* Where everybody came to sit. */
cohort_status ray_await_seats(ray_world *world) {
    COHORT_TRY(hear_seats(world));
    pthread_mutex_lock(&world->lock);
    cohort_status status = ray_number_seats(world);
    pthread_mutex_unlock(&world->lock);
    COHORT_TRY(status);
    warn_of_straddlers(world);
    return COHORT_OK;
}

/* What is visible stays as the node and Ray have it: a worker binds its device by id.
 * The map is that of the engine's devices on the node, which are all visible (R14). */
static cohort_status add_device(const ray_world *world, int32_t rank, cJSON *spec) {
    char map[COHORT_RAY_MAP_BYTES];
    if (strcmp(world->demand.key, "GPU") != 0) return COHORT_OK;
    COHORT_TRY(
        cohort_ray_device_map(world->seats, world->world_size, rank, map, sizeof map));
    const char *id = cohort_ray_device_of(world->seats, world->world_size, rank);
    if (!id) return COHORT_OK;
    cJSON_AddStringToObject(spec, "devices", map);
    cJSON_AddStringToObject(spec, "device", id);
    cJSON_AddNumberToObject(
        spec, "device_shared_by",
        cohort_ray_count_sharing(world->seats, world->world_size, rank));
    return COHORT_OK;
}

static cohort_status add_spec(ray_world *world, int32_t rank, cJSON *actors) {
    cohort_link_address address;
    char hex[2 * sizeof address + 1];
    cJSON *spec = cJSON_CreateObject();
    cohort_listener_address(world->listener, &address);
    sodium_bin2hex(hex, sizeof hex, address.bytes, sizeof address.bytes);
    cJSON_AddStringToObject(spec, "link", hex);
    cJSON_AddNumberToObject(spec, "rank", rank);
    cJSON_AddNumberToObject(spec, "epoch", world->ranks[rank].life);
    cJSON_AddNumberToObject(spec, "timeout_ms",
                            (double)((world->deadline_ns - cohort_clock_ns()) / 1000000));
    cJSON_AddBoolToObject(spec, "graph", ray_has_graph(world));
    cohort_status status = add_device(world, rank, spec);
    char *text = status >= 0 ? cJSON_PrintUnformatted(spec) : NULL;
    cJSON_Delete(spec);
    COHORT_TRY(status);
    cJSON *actor = cJSON_CreateObject();
    cJSON_AddNumberToObject(actor, "rank", rank);
    cJSON_AddNumberToObject(actor, "life", world->ranks[rank].life);
    cJSON_AddStringToObject(actor, "spec", text ? text : "");
    cJSON_AddItemToArray(actors, actor);
    cJSON_free(text);
    return COHORT_OK;
}

cohort_status ray_write_run(ray_world *world, cJSON **out_order) {
    cJSON *order = cJSON_CreateObject();
    cJSON *actors = cJSON_AddArrayToObject(order, "actors");
    /* A text already: the sidecar passes it on. */
    char *env = cJSON_PrintUnformatted(world->env.follows);
    cohort_status status =
        env ? COHORT_OK : COHORT_FAIL(COHORT_E_NOMEM, "writing an environment");
    cJSON_AddStringToObject(order, "op", "run");
    cJSON_AddStringToObject(order, "env", env ? env : "");
    cJSON_free(env);
    for (int32_t i = 0; status >= 0 && i < world->world_size; i++) {
        if (world->ranks[i].stage != RAY_SEATING) continue;
        world->ranks[i].stage = RAY_CALLING;
        status = add_spec(world, i, actors);
    }
    if (status < 0) {
        cJSON_Delete(order);
        return status;
    }
    *out_order = order;
    return COHORT_OK;
}

cohort_status ray_send_run(ray_world *world) {
    cJSON *order = NULL;
    pthread_mutex_lock(&world->lock);
    cohort_status status = ray_write_run(world, &order);
    pthread_mutex_unlock(&world->lock);
    return status < 0 ? status : ray_tell(world, order);
}
