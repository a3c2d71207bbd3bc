/* SPDX-License-Identifier: Apache-2.0 */
#include <cjson/cJSON.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/log.h"
#include "base/poll.h"
#include "base/thread.h"
#include "cohort/clock.h"
#include "launcher/launcher.h"
#include "link/link.h"
#include "ray/actor.h"
#include "ray/env.h"
#include "ray/event.h"
#include "ray/rules.h"
#include "ray/sidecar.h"

/* Design notes.
 *
 *   sidecar --connected, placed--> order of bundles --spawn--> actors
 *   actors --seated--> seats, masks, specs --run--> actors connect to our listener
 *
 * Ray places and watches.  From run() on, a rank is a control link like any other's, and
 * no step, token or weight meets Ray again.  Whoever binds a port publishes what he got:
 * the listener's address travels in the spec, the queues' in the handles (R2-R7).
 *
 * An end of a rank is told by whoever sees it first: its process (a pidfd, where it runs
 * on our kernel) or Ray (the sidecar's event, by way of an eventfd).  Ray has one text
 * for every kind of death; what is known beyond it, the rank has said itself.
 *
 * What if the sidecar dies?  Ray ends the actors of a driver that is gone: all ranks end
 * with its name.  What if we die?  The sidecar reads the end of its socket and takes the
 * actors and the group away, and the actors read the end of theirs. */

enum {
    DEFAULT_PLACEMENT_S = 300,
    TELL_EVERY_MS = 5000,
    ACCEPT_SLICE_MS = 20,
    GONE_MS = 200, /* at least, for killed processes to be gone */
    /* For Ray to say why a process of ours is gone: it takes 4 to 11 ms of an idle host.
     */
    REASON_MS = 60,
    LIST_BYTES = 150, /* of ranks, in an error */
};

typedef struct ray_rank {
    char name[COHORT_RAY_NAME_BYTES];
    char node[COHORT_RAY_NODE_BYTES];
    char address[COHORT_HOST_BYTES]; /* of its bundle's node, then its own */
    char bundle_node[COHORT_RAY_NODE_BYTES];
    char *device_ids[COHORT_RAY_MAX_DEVICES];
    int32_t n_devices;
    int32_t pid; /* 0: not seated yet */
    int32_t bundle;
    int pidfd;    /* -1: not of our kernel */
    int ended_fd; /* eventfd: Ray says so */
    int exit_fd;  /* epoll of both */
    int control_fd;
    bool has_ended;              /* with the world's lock */
    cohort_launch_ending ending; /* the same; no text: nobody knows why */
} ray_rank;

typedef struct ray_world {
    const cohort_placing *placing; /* while opening */
    cohort_ray_demand demand;
    cohort_ray_strategy strategy;
    int32_t world_size;
    char need[320];  /* of the group that is waited for; "": none is */
    bool is_adopted; /* the group is somebody else's */
    bool has_waited; /* for a reason of Ray's */
    cohort_ray_env env;
    int64_t deadline_ns;
    char driver_node[COHORT_RAY_NODE_BYTES];
    char driver_address[COHORT_HOST_BYTES];
    cohort_sidecar *sidecar;
    cohort_listener *listener; /* until all ranks have called */
    pthread_t reader;
    bool has_reader;
    pthread_mutex_t lock;
    cohort_error trouble; /* an order failed; with lock */
    ray_rank *ranks;
    cohort_ray_seat *seats;
} ray_world;

extern char **environ;

static void add_option(cJSON *object, const char *name, const char *text) {
    if (text && text[0]) cJSON_AddStringToObject(object, name, text);
}

/* ---- which ranks ----------------------------------------------------------------- */

static bool is_not_seated(const ray_rank *rank) { return !rank->pid; }
static bool is_not_connected(const ray_rank *rank) { return rank->control_fd < 0; }

static int32_t count_ranks(const ray_world *world, bool (*is_meant)(const ray_rank *)) {
    int32_t n = 0;
    for (int32_t i = 0; i < world->world_size; i++)
        n += is_meant(&world->ranks[i]);
    return n;
}

/* "rank 1 (bundle 3 on 10.0.0.2), rank 2 (...) and 5 more" */
static void name_ranks(const ray_world *world, bool (*is_meant)(const ray_rank *),
                       char *out_list, size_t size) {
    size_t used = 0;
    int32_t n_left = count_ranks(world, is_meant);
    out_list[0] = '\0';
    for (int32_t i = 0; i < world->world_size; i++) {
        char one[COHORT_HOST_BYTES + 48];
        const ray_rank *rank = &world->ranks[i];
        if (!is_meant(rank)) continue;
        size_t length =
            (size_t)snprintf(one, sizeof one, "%srank %d (bundle %d on %s)",
                             used ? ", " : "", i, rank->bundle, rank->address);
        if (used + length + sizeof " and 1000 more" > size) {
            snprintf(out_list + used, size - used, " and %d more", n_left);
            return;
        }
        memcpy(out_list + used, one, length + 1);
        used += length;
        n_left--;
    }
}

/* ---- hearing the sidecar while the world is made ------------------------------- */

static cohort_status out_of_time(const ray_world *world, const char *what) {
    if (world->need[0])
        return COHORT_FAIL(COHORT_E_TIMEOUT, "no room on the cluster in time: %s",
                           world->need);
    return COHORT_FAIL(COHORT_E_TIMEOUT, "no answer from Ray in time: %s", what);
}

static void fail_as_told(const ray_world *world, const cJSON *event, const char *what) {
    const char *text = cohort_ray_event_text(event, "text");
    int32_t index = cohort_ray_event_rank(event, world->world_size);
    if (index < 0)
        COHORT_FAIL(COHORT_E_IO, "Ray, %s: %s", what, text);
    else
        COHORT_FAIL(COHORT_E_IO, "Ray, %s: rank %d (bundle %d on %s): %s", what, index,
                    world->ranks[index].bundle, world->ranks[index].address, text);
}

/* The next event; what failed there is the error here. */
static cohort_status hear(ray_world *world, const char *what, cJSON **out_event) {
    struct pollfd fds[2] = {{.fd = cohort_sidecar_fd(world->sidecar), .events = POLLIN},
                            {.fd = world->placing->cancel_fd, .events = POLLIN}};
    int ready;
    do {
        if (cohort_clock_ns() >= world->deadline_ns) return out_of_time(world, what);
        ready = poll(fds, 2, cohort_poll_timeout_ms(world->deadline_ns));
    } while (ready == 0 || (ready < 0 && errno == EINTR));
    if (ready < 0) return COHORT_FAIL_SYS(errno, "poll of the Ray sidecar");
    if (fds[1].revents)
        return COHORT_FAIL(COHORT_E_CANCELLED, "told to stop while Ray was %s", what);
    COHORT_TRY_WHILE(
        cohort_sidecar_receive(world->sidecar, world->deadline_ns, out_event), "%s",
        what);
    if (!cohort_ray_event_is(*out_event, "failed")) return COHORT_OK;
    fail_as_told(world, *out_event, what);
    cJSON_Delete(*out_event);
    *out_event = NULL;
    return COHORT_E_IO;
}

/* ---- connecting and the placement group ---------------------------------------- */

static const char *option(const char *text, const char *standard) {
    return text && text[0] ? text : standard;
}

static bool is_group_id(const char *text) {
    return strlen(text) == 36 && strspn(text, "0123456789abcdef") == 36;
}

static cohort_status send_open(ray_world *world) {
    const cohort_ray_options *ray = &world->placing->options->ray;
    char own_namespace[COHORT_RAY_NAME_BYTES];
    cJSON *order = cJSON_CreateObject();
    cJSON *bundles = cJSON_AddArrayToObject(order, "bundles");
    double cpus = (double)sysconf(_SC_NPROCESSORS_ONLN);
    snprintf(own_namespace, sizeof own_namespace, "cohort_%s", world->placing->instance);
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
                            option(ray->ray_namespace, own_namespace));
    cJSON_AddNumberToObject(order, "local_cpus", (double)(int64_t)(cpus + 0.999));
    cJSON_AddStringToObject(order, "strategy", cohort_ray_strategy_name(world->strategy));
    add_option(order, "address", option(ray->address, getenv("RAY_ADDRESS")));
    add_option(order, "node_address", ray->node_address);
    if (world->is_adopted)
        add_option(order, is_group_id(ray->placement_group) ? "group_id" : "group_name",
                   ray->placement_group);
    return cohort_sidecar_send(world->sidecar, order);
}

static void describe_need(ray_world *world, const cJSON *event) {
    const char *key = world->demand.key;
    char wanted[128];
    if (world->is_adopted)
        snprintf(wanted, sizeof wanted, "placement group '%.80s' has no place yet",
                 world->placing->options->ray.placement_group);
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
    const char *group = world->placing->options->ray.placement_group;
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
    const char *named = option(world->placing->options->ray.bundle_indices,
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
    snprintf(world->driver_address, sizeof world->driver_address, "%s",
             connected.address);
    cohort_log(COHORT_LOG_INFO, "ray", COHORT_RANK_LOCAL,
               "event=connected version=%s node=%s address=%s", connected.version,
               world->driver_node, world->driver_address);
    return COHORT_OK;
}

static cohort_status await_group(ray_world *world) {
    int64_t told_ns = 0;
    for (;;) {
        cJSON *event = NULL;
        COHORT_TRY(hear(world, "placing", &event));
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

/* ---- environment ------------------------------------------------------------------ */

static cohort_status read_environment(ray_world *world) {
    COHORT_TRY(cohort_ray_env_read(environ, world->placing->options->ray.excluded_env,
                                   &world->env));
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
    COHORT_TRY(cohort_sidecar_send(world->sidecar, order));
    COHORT_TRY(hear(world, "looking at the environment of its nodes", out_event));
    if (cohort_ray_event_is(*out_event, "looked")) return COHORT_OK;
    cJSON_Delete(*out_event);
    *out_event = NULL;
    return COHORT_FAIL(COHORT_E_PROTOCOL, "the Ray sidecar looked at no node");
}

/* The runtime_env of the actors of each node, by the node's id. */
static cohort_status make_runtime_envs(ray_world *world, cJSON *envs) {
    cJSON *looked = NULL;
    if (world->env.precedes->child) COHORT_TRY(look_at_nodes(world, &looked));
    for (int32_t i = 0; i < world->world_size; i++) {
        const char *node = world->ranks[i].bundle_node;
        if (cJSON_GetObjectItemCaseSensitive(envs, node)) continue;
        cJSON *env =
            cohort_ray_env_on_node(&world->env, cohort_ray_event_looked(looked, node));
        /* We mask devices ourselves, once all of a node's are known (R14). */
        if (strcmp(world->demand.key, "CPU") != 0)
            cJSON_AddStringToObject(env, "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES",
                                    "1");
        cJSON_AddItemToObject(envs, node, env);
    }
    cJSON_Delete(looked);
    return COHORT_OK;
}

/* ---- actors --------------------------------------------------------------------- */

static cohort_status send_spawn(ray_world *world, const char *library) {
    cJSON *order = cJSON_CreateObject();
    cJSON *actors = cJSON_AddArrayToObject(order, "actors");
    cohort_ray_identity identity = {.instance = world->placing->instance,
                                    .dp_rank = -1,
                                    .tp = world->placing->options->tp,
                                    .pp = world->placing->options->pp};
    cohort_status status =
        make_runtime_envs(world, cJSON_AddObjectToObject(order, "envs"));
    for (int32_t i = 0; status >= 0 && i < world->world_size; i++) {
        ray_rank *rank = &world->ranks[i];
        cJSON *actor = cJSON_CreateObject();
        status = cohort_ray_actor_name(&identity, i, rank->name, sizeof rank->name);
        cJSON_AddNumberToObject(actor, "rank", i);
        cJSON_AddNumberToObject(actor, "bundle", rank->bundle);
        cJSON_AddStringToObject(actor, "node", rank->bundle_node);
        cJSON_AddStringToObject(actor, "name", rank->name);
        cJSON_AddItemToArray(actors, actor);
    }
    cJSON_AddStringToObject(order, "op", "spawn");
    cJSON_AddStringToObject(order, "key", world->demand.key);
    cJSON_AddStringToObject(order, "library", library);
    cJSON *resources = cJSON_AddObjectToObject(order, "resources");
    cJSON_AddNumberToObject(resources, world->demand.key, world->demand.amount);
    if (status < 0) {
        cJSON_Delete(order);
        return status;
    }
    return cohort_sidecar_send(world->sidecar, order);
}

static cohort_status seat_rank(ray_world *world, const cJSON *event) {
    cohort_ray_seated seated;
    COHORT_TRY(cohort_ray_event_seated(event, world->world_size, &seated));
    ray_rank *rank = &world->ranks[seated.rank];
    if (rank->pid)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "the Ray sidecar seated rank %d twice",
                           seated.rank);
    snprintf(rank->node, sizeof rank->node, "%s", seated.node);
    snprintf(rank->address, sizeof rank->address, "%s", seated.address);
    rank->pid = seated.pid;
    if (strcmp(seated.build, cohort_ray_actor_build_id()) != 0)
        return COHORT_FAIL(
            COHORT_E_INVALID,
            "node %s has libcohort of build %.12s, this host %.12s: install "
            "one build on every node",
            rank->address, seated.build, cohort_ray_actor_build_id());
    for (int32_t k = 0; k < seated.n_devices; k++) {
        char *copy = strdup(seated.devices[k]);
        if (!copy) return COHORT_FAIL(COHORT_E_NOMEM, "allocating a device's id");
        rank->device_ids[rank->n_devices++] = copy;
    }
    return COHORT_OK;
}

static cohort_status hear_seats(ray_world *world) {
    while (count_ranks(world, is_not_seated) > 0) {
        cJSON *event = NULL;
        char list[LIST_BYTES];
        cohort_status status = hear(world, "starting actors", &event);
        if (status == COHORT_E_TIMEOUT) {
            name_ranks(world, is_not_seated, list, sizeof list);
            return COHORT_FAIL(
                COHORT_E_TIMEOUT,
                "Ray has not started %d of %d actors in time: %s: are these "
                "bundles in use?",
                count_ranks(world, is_not_seated), world->world_size, list);
        }
        COHORT_TRY(status);
        if (cohort_ray_event_is(event, "seated")) status = seat_rank(world, event);
        cJSON_Delete(event);
        COHORT_TRY(status);
    }
    return COHORT_OK;
}

/* Where everybody came to sit. */
static cohort_status await_seats(ray_world *world) {
    COHORT_TRY(hear_seats(world));
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

/* The whole of the engine's devices on a node are visible to each of its workers (R14).
 */
static cohort_status add_mask(const ray_world *world, int32_t rank, cJSON *spec) {
    char mask[COHORT_RAY_MASK_BYTES];
    cJSON *object = cJSON_AddObjectToObject(spec, "mask");
    if (strcmp(world->demand.key, "GPU") != 0) return COHORT_OK;
    COHORT_TRY(
        cohort_ray_device_mask(world->seats, world->world_size, rank, mask, sizeof mask));
    char ordinal[16];
    snprintf(ordinal, sizeof ordinal, "%d",
             cohort_ray_device_ordinal(world->seats, world->world_size, rank));
    cJSON_AddStringToObject(object, "CUDA_VISIBLE_DEVICES", mask);
    cJSON_AddStringToObject(object, "COHORT_DEVICE_ORDINAL", ordinal);
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
    cJSON_AddNumberToObject(spec, "epoch", (double)world->placing->epoch);
    cJSON_AddNumberToObject(spec, "timeout_ms",
                            (double)((world->deadline_ns - cohort_clock_ns()) / 1000000));
    cohort_status status = add_mask(world, rank, spec);
    char *text = status >= 0 ? cJSON_PrintUnformatted(spec) : NULL;
    cJSON_Delete(spec);
    COHORT_TRY(status);
    cJSON *actor = cJSON_CreateObject();
    cJSON_AddNumberToObject(actor, "rank", rank);
    cJSON_AddStringToObject(actor, "spec", text ? text : "");
    cJSON_AddItemToArray(actors, actor);
    cJSON_free(text);
    return COHORT_OK;
}

static cohort_status send_run(ray_world *world) {
    cJSON *order = cJSON_CreateObject();
    cJSON *actors = cJSON_AddArrayToObject(order, "actors");
    /* A text already: the sidecar passes it on. */
    char *env = cJSON_PrintUnformatted(world->env.follows);
    cohort_status status =
        env ? COHORT_OK : COHORT_FAIL(COHORT_E_NOMEM, "writing an environment");
    cJSON_AddStringToObject(order, "op", "run");
    cJSON_AddStringToObject(order, "env", env ? env : "");
    cJSON_free(env);
    for (int32_t i = 0; status >= 0 && i < world->world_size; i++)
        status = add_spec(world, i, actors);
    if (status < 0) {
        cJSON_Delete(order);
        return status;
    }
    return cohort_sidecar_send(world->sidecar, order);
}

/* ---- watching ------------------------------------------------------------------- */

static void mark_ended(ray_world *world, int32_t index, const char *text) {
    uint64_t one = 1;
    ray_rank *rank = &world->ranks[index];
    pthread_mutex_lock(&world->lock);
    bool is_first = !rank->has_ended;
    rank->has_ended = true;
    if (is_first) snprintf(rank->ending.text, sizeof rank->ending.text, "%s", text);
    pthread_mutex_unlock(&world->lock);
    if (is_first && write(rank->ended_fd, &one, sizeof one) < 0) abort(); /* it was 0 */
}

static void on_ended(ray_world *world, const cJSON *event) {
    char text[COHORT_LAUNCH_ENDING_BYTES] = "";
    cohort_ray_ended ended;
    if (cohort_ray_event_ended(event, world->world_size, &ended) < 0) {
        cohort_log(COHORT_LOG_WARNING, "ray", COHORT_RANK_LOCAL,
                   "event=trouble text=\"%.300s\"", cohort_last_error()->message);
        return;
    }
    cohort_log(COHORT_LOG_INFO, "ray", ended.rank, "event=actor_ended text=\"%.200s\"",
               ended.text);
    /* Ray cannot tell a SIGKILL from an exit, but knows what it did itself. */
    const char *reason = cohort_ray_reason(ended.text);
    if (ended.has_returned && ended.text[0])
        snprintf(text, sizeof text, "gave up: %.100s", ended.text);
    else if (ended.has_returned)
        snprintf(text, sizeof text, "left by itself");
    else if (reason)
        snprintf(text, sizeof text, "vanished (%s)", reason);
    mark_ended(world, ended.rank, text);
}

/* Where nobody knows why: with the world's lock. */
static cohort_launch_ending ending_of(const ray_rank *rank) {
    cohort_launch_ending ending = rank->ending;
    if (!ending.text[0])
        snprintf(ending.text, sizeof ending.text, "vanished (killed?%s)",
                 rank->pidfd >= 0 ? "" : " is its node lost?");
    return ending;
}

static void on_failed(ray_world *world, const cJSON *event) {
    pthread_mutex_lock(&world->lock);
    if (!world->trouble.code) {
        world->trouble.code = COHORT_E_IO;
        world->trouble.rank = COHORT_RANK_LOCAL;
        snprintf(world->trouble.message, sizeof world->trouble.message, "Ray: %s",
                 cohort_ray_event_text(event, "text"));
    }
    pthread_mutex_unlock(&world->lock);
}

/* Until the sidecar is gone; a message that is none does not end it (R19), one without an
 * end does: what follows would be read from its middle. */
static void *reader_main(void *argument) {
    ray_world *world = argument;
    char text[COHORT_LAUNCH_ENDING_BYTES];
    for (;;) {
        cJSON *event = NULL;
        cohort_status status =
            cohort_sidecar_receive(world->sidecar, COHORT_NEVER, &event);
        if (status == COHORT_E_PEER_DIED || status == COHORT_E_IO) break;
        if (status < 0) continue;
        if (cohort_ray_event_is(event, "ended")) on_ended(world, event);
        if (cohort_ray_event_is(event, "failed")) on_failed(world, event);
        if (cohort_ray_event_is(event, "failed") || cohort_ray_event_is(event, "trouble"))
            cohort_log(COHORT_LOG_WARNING, "ray", COHORT_RANK_LOCAL,
                       "event=trouble text=\"%.300s\"",
                       cohort_ray_event_text(event, "text"));
        cJSON_Delete(event);
    }
    snprintf(text, sizeof text,
             "was given up: its Ray driver, the sidecar (pid %d), ended",
             cohort_sidecar_pid(world->sidecar));
    for (int32_t i = 0; i < world->world_size; i++)
        mark_ended(world, i, text);
    return NULL;
}

static cohort_status start_reader(ray_world *world) {
    COHORT_TRY(cohort_thread_start("cohort-sidecar", reader_main, world, &world->reader));
    world->has_reader = true;
    return COHORT_OK;
}

static cohort_status add_watch(int epoll_fd, int fd) {
    struct epoll_event event = {.events = EPOLLIN};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event))
        return COHORT_FAIL_SYS(errno, "epoll_ctl");
    return COHORT_OK;
}

/* Only where our kernel's pid is that very process: it told us its pid, and connects with
 * it over a unix socket (SO_PEERCRED), which no other pid namespace can. */
static int open_local_pid(const ray_rank *rank) {
    struct ucred peer = {0};
    socklen_t length = sizeof peer;
    if (getsockopt(rank->control_fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) ||
        peer.pid <= 0 || peer.pid != rank->pid)
        return -1;
    return (int)syscall(SYS_pidfd_open, rank->pid, 0);
}

static cohort_status watch_rank(ray_rank *rank) {
    rank->pidfd = open_local_pid(rank);
    rank->exit_fd = epoll_create1(EPOLL_CLOEXEC);
    if (rank->exit_fd < 0) return COHORT_FAIL_SYS(errno, "epoll_create1");
    COHORT_TRY(add_watch(rank->exit_fd, rank->ended_fd));
    return rank->pidfd < 0 ? COHORT_OK : add_watch(rank->exit_fd, rank->pidfd);
}

/* ---- the ranks call ------------------------------------------------------------- */

/* An actor that ended, an order that failed: no use in waiting for the rest. */
static cohort_status check_actors(ray_world *world) {
    cohort_status status = COHORT_OK;
    pthread_mutex_lock(&world->lock);
    if (world->trouble.code < 0) status = cohort_fail_adopt(&world->trouble);
    for (int32_t i = 0; status >= 0 && i < world->world_size; i++)
        if (world->ranks[i].has_ended)
            status = COHORT_FAIL(COHORT_E_PEER_DIED, "rank %d (%s on %s) %s", i,
                                 world->ranks[i].name, world->ranks[i].address,
                                 ending_of(&world->ranks[i]).text);
    pthread_mutex_unlock(&world->lock);
    struct pollfd cancel = {.fd = world->placing->cancel_fd, .events = POLLIN};
    if (status >= 0 && poll(&cancel, 1, 0) > 0)
        status =
            COHORT_FAIL(COHORT_E_CANCELLED, "told to stop while ranks were starting");
    return status;
}

static cohort_status take_call(ray_world *world, const cohort_link_hello *hello,
                               cohort_link *link) {
    bool is_known = hello->purpose == COHORT_LINK_CONTROL &&
                    hello->epoch == world->placing->epoch && hello->rank >= 0 &&
                    hello->rank < world->world_size &&
                    world->ranks[hello->rank].control_fd < 0;
    if (!is_known) {
        cohort_link_close(link);
        return COHORT_OK; /* late, of another epoch: its link's end tells it */
    }
    ray_rank *rank = &world->ranks[hello->rank];
    rank->control_fd = cohort_link_release(link);
    return watch_rank(rank);
}

static cohort_status accept_ranks(ray_world *world) {
    while (count_ranks(world, is_not_connected) > 0) {
        cohort_link_hello hello;
        cohort_link *link = NULL;
        COHORT_TRY(check_actors(world));
        if (cohort_clock_ns() > world->deadline_ns) {
            char list[LIST_BYTES];
            name_ranks(world, is_not_connected, list, sizeof list);
            return COHORT_FAIL(COHORT_E_TIMEOUT,
                               "%d of %d ranks have not connected: %s: do they reach %s?",
                               count_ranks(world, is_not_connected), world->world_size,
                               list, world->driver_address);
        }
        cohort_status status = cohort_listener_accept(
            world->listener, cohort_deadline_ms(ACCEPT_SLICE_MS), &hello, &link);
        if (status == COHORT_E_TIMEOUT) continue;
        COHORT_TRY(status);
        COHORT_TRY(take_call(world, &hello, link));
    }
    /* Who comes later is refused by the kernel; nobody would answer here. */
    cohort_listener_close(world->listener);
    world->listener = NULL;
    return COHORT_OK;
}

/* ---- the launcher --------------------------------------------------------------- */

static void close_fd(int fd) {
    if (fd >= 0) close(fd);
}

/* Ranks of ours that Ray did not end are ended here; a pidfd keeps the pid its own. */
static void end_local(ray_world *world, int64_t deadline_ns) {
    if (deadline_ns < cohort_deadline_ms(GONE_MS))
        deadline_ns = cohort_deadline_ms(GONE_MS);
    for (int32_t i = 0; world->ranks && i < world->world_size; i++)
        if (world->ranks[i].pidfd >= 0)
            syscall(SYS_pidfd_send_signal, world->ranks[i].pidfd, SIGKILL, NULL, 0);
    for (int32_t i = 0; world->ranks && i < world->world_size; i++) {
        struct pollfd gone = {.fd = world->ranks[i].pidfd, .events = POLLIN};
        if (gone.fd < 0) continue; /* poll of nothing takes all the time */
        poll(&gone, 1, cohort_poll_timeout_ms(deadline_ns));
    }
}

static void ray_close(void *opened, int64_t deadline_ns) {
    ray_world *world = opened;
    if (world->sidecar) cohort_sidecar_end(world->sidecar, deadline_ns);
    if (world->has_reader) pthread_join(world->reader, NULL);
    cohort_sidecar_free(world->sidecar);
    cohort_listener_close(world->listener);
    end_local(world, deadline_ns);
    for (int32_t i = 0; world->ranks && i < world->world_size; i++) {
        ray_rank *rank = &world->ranks[i];
        close_fd(rank->pidfd);
        close_fd(rank->ended_fd);
        close_fd(rank->exit_fd);
        close_fd(rank->control_fd);
        for (int32_t k = 0; k < rank->n_devices; k++)
            free(rank->device_ids[k]);
    }
    pthread_mutex_destroy(&world->lock);
    cohort_ray_env_free(&world->env);
    free(world->seats);
    free(world->ranks);
    free(world);
}

static cohort_status make_world(const cohort_placing *placing, ray_world **out_world) {
    const cohort_executor_options *options = placing->options;
    ray_world *world = calloc(1, sizeof *world);
    if (!world) return COHORT_FAIL(COHORT_E_NOMEM, "allocating a world");
    pthread_mutex_init(&world->lock, NULL);
    *out_world = world;
    world->placing = placing;
    world->world_size = options->tp * options->pp;
    world->is_adopted = options->ray.placement_group && options->ray.placement_group[0];
    world->ranks = calloc((size_t)world->world_size, sizeof *world->ranks);
    for (int32_t i = 0; world->ranks && i < world->world_size; i++)
        world->ranks[i].pidfd = world->ranks[i].ended_fd = world->ranks[i].exit_fd =
            world->ranks[i].control_fd = -1;
    world->seats = calloc((size_t)world->world_size, sizeof *world->seats);
    if (!world->ranks || !world->seats)
        return COHORT_FAIL(COHORT_E_NOMEM, "allocating %d ranks", world->world_size);
    for (int32_t i = 0; i < world->world_size; i++) {
        world->ranks[i].ended_fd = eventfd(0, EFD_CLOEXEC);
        if (world->ranks[i].ended_fd < 0) return COHORT_FAIL_SYS(errno, "eventfd");
    }
    COHORT_TRY(
        cohort_ray_parse_demand(option(options->ray.resource, "CPU"), &world->demand));
    return cohort_ray_parse_strategy(option(options->ray.strategy, "PACK"),
                                     &world->strategy);
}

static cohort_status open_world(const cohort_placing *placing, ray_world *world) {
    char library[4096];
    const cohort_executor_options *options = placing->options;
    int64_t wait_ns = options->ray.placement_timeout_ns;
    if (wait_ns <= 0) wait_ns = INT64_C(1000000000) * DEFAULT_PLACEMENT_S;
    COHORT_TRY(read_environment(world));
    COHORT_TRY(cohort_sidecar_find_library(library, sizeof library));
    COHORT_TRY(cohort_sidecar_start(&world->sidecar));
    world->deadline_ns = cohort_clock_ns() + wait_ns;
    COHORT_TRY(send_open(world));
    COHORT_TRY(await_group(world));
    world->deadline_ns = options->connect_timeout_ns > 0
                             ? cohort_clock_ns() + options->connect_timeout_ns
                             : COHORT_NEVER;
    COHORT_TRY(send_spawn(world, library));
    COHORT_TRY(await_seats(world));
    COHORT_TRY(cohort_listener_open(world->driver_address, &world->listener));
    COHORT_TRY(send_run(world));
    COHORT_TRY(start_reader(world));
    return accept_ranks(world);
}

static cohort_status ray_open(const cohort_placing *placing, void **out_world,
                              const char **out_host) {
    ray_world *world = NULL;
    cohort_status status = make_world(placing, &world);
    if (status >= 0) status = open_world(placing, world);
    if (status < 0) {
        cohort_error error = *cohort_last_error();
        if (world) ray_close(world, cohort_deadline_ms(6000));
        return cohort_fail_adopt(&error);
    }
    world->placing = NULL;
    *out_world = world;
    *out_host = world->driver_address;
    return COHORT_OK;
}

static void describe_devices(const ray_rank *rank, const char *key, char *out_text,
                             size_t size) {
    size_t used = 0;
    out_text[0] = '\0';
    for (int32_t k = 0; k < rank->n_devices && used < size; k++)
        used +=
            (size_t)snprintf(out_text + used, size - used, k ? ",%s" : "%s%s",
                             k ? rank->device_ids[k] : key, k ? "" : rank->device_ids[0]);
}

static cohort_status ray_start(const cohort_executor_options *options, int32_t index,
                               cohort_launch *launch) {
    (void)options;
    ray_world *world = launch->world;
    ray_rank *rank = &world->ranks[index];
    const cohort_ray_seat *seat = &world->seats[index];
    char key[COHORT_RAY_RESOURCE_BYTES + 2];
    snprintf(key, sizeof key, "%s ", world->demand.key);
    launch->pid = rank->pid;
    launch->is_process = rank->pidfd >= 0;
    launch->control_fd = rank->control_fd;
    launch->exit_fd = rank->exit_fd;
    launch->own = rank;
    launch->local_rank = seat->local_rank;
    launch->local_world_size = seat->local_world_size;
    snprintf(launch->name, sizeof launch->name, "%s", rank->name);
    snprintf(launch->node, sizeof launch->node, "%s", rank->node);
    snprintf(launch->address, sizeof launch->address, "%s", rank->address);
    describe_devices(rank, key, launch->devices, sizeof launch->devices);
    rank->control_fd = -1; /* the launch's now */
    cohort_log(COHORT_LOG_INFO, "ray", index,
               "event=seated name=%s pid=%d bundle=%d node=%s address=%s devices=\"%s\"",
               rank->name, rank->pid, rank->bundle, rank->node, rank->address,
               launch->devices);
    return COHORT_OK;
}

/* SIGTERM waits until C returns (and it will: the rank was told): only SIGKILL helps. */
static void ray_signal(cohort_launch *launch, int signal_number) {
    ray_world *world = launch->world;
    ray_rank *rank = launch->own;
    if (signal_number != SIGKILL) return;
    if (rank->pidfd >= 0) syscall(SYS_pidfd_send_signal, rank->pidfd, SIGKILL, NULL, 0);
    cJSON *order = cJSON_CreateObject();
    cJSON_AddStringToObject(order, "op", "kill");
    cJSON_AddNumberToObject(order, "rank", (double)(rank - world->ranks));
    /* A sidecar that is gone cannot be told: then Ray ends the rank. */
    cohort_sidecar_send(world->sidecar, order);
}

static void ray_reap(cohort_launch *launch, cohort_launch_ending *out_ending) {
    ray_world *world = launch->world;
    ray_rank *rank = launch->own;
    /* Its process was seen to be gone before Ray said a word, which may be why.  Of many
     * deaths at once only the first is waited for: it is the one that is told. */
    struct pollfd word = {.fd = rank->ended_fd, .events = POLLIN};
    if (!world->has_waited) poll(&word, 1, REASON_MS);
    world->has_waited = true;
    pthread_mutex_lock(&world->lock);
    *out_ending = ending_of(rank);
    pthread_mutex_unlock(&world->lock);
    close_fd(rank->exit_fd);
    rank->exit_fd = -1;
}

const cohort_launcher cohort_ray_launcher = {.name = "ray",
                                             .open = ray_open,
                                             .start = ray_start,
                                             .signal = ray_signal,
                                             .reap = ray_reap,
                                             .close = ray_close};
