/* SPDX-License-Identifier: Apache-2.0 */
#include "ray/place.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/log.h"
#include "cohort/clock.h"
#include "ray/event.h"
#include "ray/rules.h"
#include "ray/sidecar.h"
#include "ray/world.h"

enum { TELL_EVERY_MS = 5000 };

extern char **environ;

const char *ray_option(const char *text, const char *standard) {
    return text && text[0] ? text : standard;
}

static bool is_group_id(const char *text) {
    return strlen(text) == 36 && strspn(text, "0123456789abcdef") == 36;
}

cohort_status ray_send_open(ray_world *world) {
    const cohort_ray_options *ray = &world->placing.options->ray;
    char own_namespace[COHORT_RAY_NAME_BYTES];
    cJSON *order = cJSON_CreateObject();
    cJSON *bundles = cJSON_AddArrayToObject(order, "bundles");
    double cpus = (double)sysconf(_SC_NPROCESSORS_ONLN);
    snprintf(own_namespace, sizeof own_namespace, "cohort_%s", world->placing.instance);
    for (int32_t i = 0; i < world->world_size; i++) {
        cJSON *bundle = cJSON_CreateObject();
        cJSON_AddNumberToObject(bundle, world->demand.key, world->demand.amount);
        cJSON_AddItemToArray(bundles, bundle);
    }
    /* Of a cluster that is ours alone CPUs are a number, not cores. */
    if (!strcmp(world->demand.key, "CPU") &&
        world->demand.amount * world->world_size > cpus)
        cpus = world->demand.amount * world->world_size;
    cJSON_AddStringToObject(order, "op", "open");
    cJSON_AddStringToObject(order, "namespace",
                            ray_option(ray->ray_namespace, own_namespace));
    cJSON_AddNumberToObject(order, "local_cpus", (double)(int64_t)(cpus + 0.999));
    cJSON_AddStringToObject(order, "strategy", cohort_ray_strategy_name(world->strategy));
    ray_add_option(order, "address", ray_option(ray->address, getenv("RAY_ADDRESS")));
    ray_add_option(order, "node_address", ray->node_address);
    cJSON_AddBoolToObject(order, "log_to_driver", ray->log_to_driver);
    if (world->is_adopted)
        ray_add_option(order,
                       is_group_id(ray->placement_group) ? "group_id" : "group_name",
                       ray->placement_group);
    return ray_tell(world, order);
}

static void describe_need(ray_world *world, const cJSON *event) {
    const char *key = world->demand.key;
    char wanted[128];
    if (world->is_adopted)
        snprintf(wanted, sizeof wanted, "placement group '%.80s' has no place yet",
                 world->placing.options->ray.placement_group);
    else
        snprintf(wanted, sizeof wanted, "%d bundles of {%s: %g}, %s, are wanted",
                 world->world_size, key, world->demand.amount,
                 cohort_ray_strategy_name(world->strategy));
    snprintf(world->need, sizeof world->need,
             "%s; the cluster has %g %s, of which %g are free", wanted,
             cohort_ray_event_amount(event, "total", key), key,
             cohort_ray_event_amount(event, "free", key));
}

/* Ray never raises for a group that can never be (R16); 2.60 says so when asked. */
static bool is_infeasible(const ray_world *world, const cJSON *event) {
    double total = cohort_ray_event_amount(event, "total", world->demand.key);
    double wanted = world->demand.amount * world->world_size;
    return !strcmp(cohort_ray_event_text(event, "scheduling"), "INFEASIBLE") ||
           (!world->is_adopted && wanted > total);
}

/* A group of somebody else's can be gone, or never have been. */
static cohort_status check_adopted(const ray_world *world, const char *state) {
    const char *group = world->placing.options->ray.placement_group;
    if (!world->is_adopted) return COHORT_OK;
    if (!strcmp(state, "REMOVED"))
        return COHORT_FAIL(COHORT_E_INVALID, "placement group '%.80s' is removed", group);
    if (!strcmp(state, "UNKNOWN"))
        return COHORT_FAIL(COHORT_E_INVALID,
                           "no placement group '%.80s' is in this cluster: is it of "
                           "another one?",
                           group);
    return COHORT_OK;
}

static cohort_status on_waiting(ray_world *world, const cJSON *event, int64_t *told_ns) {
    int64_t now_ns = cohort_clock_ns();
    describe_need(world, event);
    COHORT_TRY(check_adopted(world, cohort_ray_event_text(event, "state")));
    if (is_infeasible(world, event))
        return COHORT_FAIL(COHORT_E_INVALID,
                           "the placement group is infeasible: %s; ask for less, or add "
                           "nodes",
                           world->need);
    if (now_ns < *told_ns) return COHORT_OK;
    if (*told_ns)
        cohort_log(COHORT_LOG_WARNING, "ray", COHORT_RANK_LOCAL,
                   "event=waiting text=\"%s\"", world->need);
    *told_ns = cohort_deadline_ms(TELL_EVERY_MS);
    return COHORT_OK;
}

/* The rank's bundle for every rank. */
static cohort_status pick(const ray_world *world, cohort_ray_bundle *bundles, int32_t n,
                          int32_t *out_positions) {
    const char *named = ray_option(world->placing.options->ray.bundle_indices,
                                   cohort_ray_bundle_indices(environ));
    COHORT_TRY(
        cohort_ray_leave_held(getenv("COHORT_RAY_HELD"), &world->demand, bundles, n));
    if (named)
        return cohort_ray_name_bundles(named, bundles, n, &world->demand,
                                       world->world_size, out_positions);
    return cohort_ray_order_bundles(bundles, n, &world->demand, world->driver_node,
                                    world->world_size, out_positions);
}

static cohort_status choose_bundles(ray_world *world, const cJSON *event) {
    int32_t n = 0;
    cohort_ray_bundle *bundles = NULL;
    COHORT_TRY(cohort_ray_event_bundles(event, world->demand.key, &bundles, &n));
    int32_t *positions = calloc((size_t)world->world_size, sizeof *positions);
    cohort_status status = positions ? pick(world, bundles, n, positions)
                                     : COHORT_FAIL(COHORT_E_NOMEM, "allocating bundles");
    for (int32_t i = 0; status >= 0 && i < world->world_size; i++) {
        const cohort_ray_bundle *bundle = &bundles[positions[i]];
        ray_rank *rank = &world->ranks[i];
        rank->bundle = bundle->index;
        rank->is_moved = false;
        snprintf(rank->bundle_node, sizeof rank->bundle_node, "%s", bundle->node_id);
        snprintf(rank->address, sizeof rank->address, "%s", bundle->address);
    }
    free(bundles);
    free(positions);
    return status;
}

static cohort_status on_connected(ray_world *world, const cJSON *event) {
    cohort_ray_connected connected;
    COHORT_TRY(cohort_ray_event_connected(event, &connected));
    snprintf(world->driver_node, sizeof world->driver_node, "%s", connected.node);
    /* Others read it: another sidecar's is no other. */
    if (world->driver_address[0] && strcmp(world->driver_address, connected.address) != 0)
        return COHORT_FAIL(COHORT_E_IO, "this host was %s to Ray, and now is %s",
                           world->driver_address, connected.address);
    if (!world->driver_address[0])
        snprintf(world->driver_address, sizeof world->driver_address, "%s",
                 connected.address);
    cohort_log(COHORT_LOG_INFO, "ray", COHORT_RANK_LOCAL,
               "event=connected version=%s node=%s address=%s", connected.version,
               world->driver_node, world->driver_address);
    return COHORT_OK;
}

cohort_status ray_await_group(ray_world *world) {
    int64_t told_ns = 0;
    for (;;) {
        cJSON *event = NULL;
        COHORT_TRY(ray_hear(world, "placing", &event));
        cohort_status status = COHORT_OK;
        bool is_placed = cohort_ray_event_is(event, "placed");
        if (cohort_ray_event_is(event, "connected")) {
            status = on_connected(world, event);
        } else if (cohort_ray_event_is(event, "waiting")) {
            status = on_waiting(world, event, &told_ns);
        } else if (is_placed) {
            world->need[0] = '\0';
            status = choose_bundles(world, event);
        }
        cJSON_Delete(event);
        COHORT_TRY(status);
        if (is_placed) return COHORT_OK;
    }
}
