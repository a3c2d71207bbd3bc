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
#include "cohort/clock.h"
#include "executor/launcher.h"
#include "executor/ray_actor.h"
#include "executor/ray_rules.h"
#include "executor/ray_sidecar.h"
#include "link/link.h"

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
    GONE_MS = 2000, /* for a killed process to be gone */
    ID_BYTES = 64,
};

typedef struct ray_rank {
    char name[COHORT_RAY_NAME_BYTES];
    char node[ID_BYTES];
    char address[COHORT_HOST_BYTES];
    char *device_ids[COHORT_RAY_MAX_DEVICES];
    int32_t n_devices;
    int32_t pid;
    int32_t bundle;
    int pidfd;    /* -1: not of our kernel */
    int ended_fd; /* eventfd: Ray says so */
    int exit_fd;  /* epoll of both */
    int control_fd;
    bool has_ended;       /* with the world's lock */
    cohort_ending ending; /* with the world's lock */
} ray_rank;

typedef struct ray_world {
    const cohort_placing *placing; /* while opening */
    cohort_ray_demand demand;
    cohort_ray_strategy strategy;
    int32_t world_size;
    char need[320];  /* of the group that is waited for; "": none is */
    bool is_adopted; /* the group is somebody else's */
    int64_t deadline_ns;
    char driver_node[ID_BYTES];
    char driver_address[COHORT_HOST_BYTES];
    cohort_sidecar *sidecar;
    cohort_listener *listener;
    pthread_t reader;
    bool has_reader;
    pthread_mutex_t lock;
    cohort_error trouble; /* an order failed; with lock */
    ray_rank *ranks;
    cohort_ray_seat *seats;
} ray_world;

extern char **environ;

/* ---- small things of JSON ------------------------------------------------------ */

static const char *text_of(const cJSON *object, const char *name) {
    const char *text =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
    return text ? text : "";
}

static double number_of(const cJSON *object, const char *name) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(item) ? item->valuedouble : -1;
}

static bool is_event(const cJSON *event, const char *name) {
    return !strcmp(text_of(event, "event"), name);
}

static void add_option(cJSON *object, const char *name, const char *text) {
    if (text && text[0]) cJSON_AddStringToObject(object, name, text);
}

static cohort_status bad_event(const char *name) {
    return COHORT_FAIL(COHORT_E_PROTOCOL,
                       "the Ray sidecar's event '%s' lacks what belongs into it", name);
}

/* ---- hearing the sidecar while the world is made ------------------------------- */

static cohort_status out_of_time(const ray_world *world, const char *what) {
    if (world->need[0])
        return COHORT_FAIL(COHORT_E_TIMEOUT, "no room on the cluster in time: %s",
                           world->need);
    return COHORT_FAIL(COHORT_E_TIMEOUT, "no answer from Ray in time: %s", what);
}

/* The next event; what failed there is the error here. */
static cohort_status hear(ray_world *world, const char *what, cJSON **out_event) {
    struct pollfd fds[2] = {{.fd = cohort_sidecar_fd(world->sidecar), .events = POLLIN},
                            {.fd = world->placing->cancel_fd, .events = POLLIN}};
    int ready;
    do {
        int64_t left_ns = world->deadline_ns - cohort_clock_ns();
        if (left_ns <= 0) return out_of_time(world, what);
        ready = poll(fds, 2, (int)(left_ns / 1000000) + 1);
    } while (ready == 0 || (ready < 0 && errno == EINTR));
    if (ready < 0) return COHORT_FAIL_SYS(errno, "poll of the Ray sidecar");
    if (fds[1].revents)
        return COHORT_FAIL(COHORT_E_CANCELLED, "told to stop while Ray was %s", what);
    cohort_status status =
        cohort_sidecar_receive(world->sidecar, world->deadline_ns, out_event);
    if (status == COHORT_E_PEER_DIED)
        return COHORT_FAIL(COHORT_E_PEER_DIED,
                           "the Ray sidecar (pid %d) ended while %s; what it said is "
                           "above",
                           cohort_sidecar_pid(world->sidecar), what);
    COHORT_TRY(status);
    if (!is_event(*out_event, "failed")) return COHORT_OK;
    COHORT_FAIL(COHORT_E_IO, "Ray, %s: %s", what, text_of(*out_event, "text"));
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
    double total = number_of(cJSON_GetObjectItemCaseSensitive(event, "total"), key);
    double free_now = number_of(cJSON_GetObjectItemCaseSensitive(event, "free"), key);
    snprintf(world->need, sizeof world->need,
             "%d bundles of {%s: %g}, %s, are wanted; the cluster has %g %s, of which %g "
             "are free",
             world->world_size, key, world->demand.amount,
             cohort_ray_strategy_name(world->strategy), total < 0 ? 0 : total, key,
             free_now < 0 ? 0 : free_now);
}

/* Ray never raises for a group that can never be (R16); it only says so when asked. */
static cohort_status on_waiting(ray_world *world, const cJSON *event, int64_t *told_ns) {
    int64_t now_ns = cohort_clock_ns();
    const char *scheduling = text_of(event, "scheduling");
    describe_need(world, event);
    if (world->is_adopted && !strcmp(text_of(event, "state"), "REMOVED"))
        return COHORT_FAIL(COHORT_E_INVALID, "placement group '%.80s' is removed",
                           world->placing->options->ray.placement_group);
    if (!strcmp(scheduling, "INFEASIBLE"))
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
static cohort_status choose_bundles(ray_world *world, const cJSON *event) {
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(event, "bundles");
    const char *named = option(world->placing->options->ray.bundle_indices,
                               cohort_ray_bundle_indices(environ));
    int32_t n = 0;
    int32_t n_list = cJSON_GetArraySize(list);
    cohort_ray_bundle *bundles = calloc((size_t)n_list + 1, sizeof *bundles);
    int32_t *positions = calloc((size_t)world->world_size, sizeof *positions);
    cohort_status status = bundles && positions
                               ? COHORT_OK
                               : COHORT_FAIL(COHORT_E_NOMEM, "allocating bundles");
    const cJSON *item;
    cJSON_ArrayForEach(item, list) {
        if (status < 0) break;
        double amount = number_of(cJSON_GetObjectItemCaseSensitive(item, "amounts"),
                                  world->demand.key);
        bundles[n++] = (cohort_ray_bundle){.index = (int32_t)number_of(item, "index"),
                                           .node_id = text_of(item, "node"),
                                           .amount = amount < 0 ? 0 : amount};
    }
    if (status >= 0)
        status = named ? cohort_ray_name_bundles(named, bundles, n, &world->demand,
                                                 world->world_size, positions)
                       : cohort_ray_order_bundles(bundles, n, &world->demand,
                                                  world->driver_node, world->world_size,
                                                  positions);
    for (int32_t i = 0; status >= 0 && i < world->world_size; i++)
        world->ranks[i].bundle = bundles[positions[i]].index;
    free(bundles);
    free(positions);
    return status;
}

static cohort_status await_group(ray_world *world) {
    int64_t told_ns = 0;
    for (;;) {
        cJSON *event = NULL;
        COHORT_TRY(hear(world, "placing", &event));
        cohort_status status = COHORT_OK;
        bool is_placed = is_event(event, "placed");
        if (is_event(event, "connected")) {
            snprintf(world->driver_node, ID_BYTES, "%s", text_of(event, "node"));
            snprintf(world->driver_address, COHORT_HOST_BYTES, "%s",
                     text_of(event, "address"));
            cohort_log(COHORT_LOG_INFO, "ray", COHORT_RANK_LOCAL,
                       "event=connected version=%s node=%s address=%s",
                       text_of(event, "version"), world->driver_node,
                       world->driver_address);
        } else if (is_event(event, "waiting")) {
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

/* ---- actors --------------------------------------------------------------------- */

/* The part of our environment that travels so. */
static cJSON *environment_of(const ray_world *world, cohort_ray_travel travel) {
    cJSON *object = cJSON_CreateObject();
    for (char **entry = environ; *entry; entry++) {
        char name[256];
        size_t length = strcspn(*entry, "=");
        if (length == 0 || length >= sizeof name || !(*entry)[length]) continue;
        memcpy(name, *entry, length);
        name[length] = '\0';
        if (cohort_ray_travel_of(name, world->placing->options->ray.excluded_env) ==
            travel)
            cJSON_AddStringToObject(object, name, *entry + length + 1);
    }
    return object;
}

static cohort_status send_spawn(ray_world *world, const char *library) {
    cJSON *order = cJSON_CreateObject();
    cJSON *actors = cJSON_AddArrayToObject(order, "actors");
    cJSON *env = environment_of(world, COHORT_RAY_PRECEDES);
    cohort_ray_identity identity = {.instance = world->placing->instance,
                                    .dp_rank = -1,
                                    .tp = world->placing->options->tp,
                                    .pp = world->placing->options->pp};
    cohort_status status = COHORT_OK;
    for (int32_t i = 0; status >= 0 && i < world->world_size; i++) {
        ray_rank *rank = &world->ranks[i];
        cJSON *actor = cJSON_CreateObject();
        status = cohort_ray_actor_name(&identity, i, rank->name, sizeof rank->name);
        cJSON_AddNumberToObject(actor, "rank", i);
        cJSON_AddNumberToObject(actor, "bundle", rank->bundle);
        cJSON_AddStringToObject(actor, "name", rank->name);
        cJSON_AddItemToArray(actors, actor);
    }
    /* We mask devices ourselves, once all of a node's are known (R14). */
    if (strcmp(world->demand.key, "CPU") != 0)
        cJSON_AddStringToObject(env, "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES", "1");
    cJSON_AddStringToObject(order, "op", "spawn");
    cJSON_AddStringToObject(order, "key", world->demand.key);
    cJSON_AddStringToObject(order, "library", library);
    cJSON_AddItemToObject(order, "env", env);
    cJSON *resources = cJSON_AddObjectToObject(order, "resources");
    cJSON_AddNumberToObject(resources, world->demand.key, world->demand.amount);
    if (status < 0) {
        cJSON_Delete(order);
        return status;
    }
    return cohort_sidecar_send(world->sidecar, order);
}

static cohort_status seat_rank(ray_world *world, const cJSON *item) {
    double index = number_of(item, "rank");
    double pid = number_of(item, "pid");
    const char *build = text_of(item, "build");
    if (index < 0 || index >= world->world_size || pid < 1 || pid > INT32_MAX)
        return bad_event("seated");
    ray_rank *rank = &world->ranks[(int32_t)index];
    snprintf(rank->node, sizeof rank->node, "%s", text_of(item, "node"));
    snprintf(rank->address, sizeof rank->address, "%s", text_of(item, "address"));
    rank->pid = (int32_t)pid;
    if (strcmp(build, cohort_ray_actor_build_id()) != 0)
        return COHORT_FAIL(
            COHORT_E_INVALID,
            "node %s has libcohort of build %.12s, this host %.12s: install "
            "one build on every node",
            rank->address, build, cohort_ray_actor_build_id());
    const cJSON *device;
    cJSON_ArrayForEach(device, cJSON_GetObjectItemCaseSensitive(item, "devices")) {
        if (!cJSON_IsString(device) || rank->n_devices == COHORT_RAY_MAX_DEVICES ||
            strlen(device->valuestring) >= COHORT_RAY_DEVICE_BYTES)
            return bad_event("seated");
        char *copy = strdup(device->valuestring);
        if (!copy) return COHORT_FAIL(COHORT_E_NOMEM, "allocating a device's id");
        rank->device_ids[rank->n_devices++] = copy;
    }
    return COHORT_OK;
}

/* Where everybody came to sit. */
static cohort_status await_seats(ray_world *world) {
    cJSON *event = NULL;
    int32_t n_nodes = 0;
    COHORT_TRY(hear(world, "starting actors", &event));
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(event, "actors");
    cohort_status status = COHORT_OK;
    if (!is_event(event, "seated") || cJSON_GetArraySize(list) != world->world_size)
        status = bad_event("seated");
    const cJSON *item;
    cJSON_ArrayForEach(item, list) if (status >= 0) status = seat_rank(world, item);
    cJSON_Delete(event);
    COHORT_TRY(status);
    for (int32_t i = 0; i < world->world_size; i++) {
        ray_rank *rank = &world->ranks[i];
        world->seats[i] = (cohort_ray_seat){.node_id = rank->node,
                                            .device_ids = rank->device_ids,
                                            .n_devices = rank->n_devices};
    }
    cohort_ray_number_seats(world->seats, world->world_size, world->driver_node,
                            &n_nodes);
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

static cohort_status add_spec(ray_world *world, int32_t rank, const cJSON *env,
                              cJSON *actors) {
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
    cJSON_AddItemToObject(spec, "env", cJSON_Duplicate(env, true));
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
    cJSON *env = environment_of(world, COHORT_RAY_FOLLOWS);
    cohort_status status = COHORT_OK;
    cJSON_AddStringToObject(order, "op", "run");
    for (int32_t i = 0; status >= 0 && i < world->world_size; i++)
        status = add_spec(world, i, env, actors);
    cJSON_Delete(env);
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
    char text[COHORT_ENDING_BYTES];
    double index = number_of(event, "rank");
    if (index < 0 || index >= world->world_size) return;
    bool has_returned = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(event, "returned"));
    const char *said = text_of(event, "text");
    cohort_log(COHORT_LOG_INFO, "ray", (int32_t)index,
               "event=actor_ended text=\"%.200s\"", said);
    /* Ray cannot tell one death from another, and its text is a page. */
    if (!has_returned)
        snprintf(text, sizeof text, "vanished (killed, or its node is lost)");
    else if (said[0])
        snprintf(text, sizeof text, "gave up: %.100s", said);
    else
        snprintf(text, sizeof text, "left by itself");
    mark_ended(world, (int32_t)index, text);
}

static void on_failed(ray_world *world, const cJSON *event) {
    pthread_mutex_lock(&world->lock);
    if (!world->trouble.code) {
        world->trouble.code = COHORT_E_IO;
        world->trouble.rank = COHORT_RANK_LOCAL;
        snprintf(world->trouble.message, sizeof world->trouble.message, "Ray: %s",
                 text_of(event, "text"));
    }
    pthread_mutex_unlock(&world->lock);
}

/* Until the sidecar is gone; a message that is none does not end it (R19). */
static void *reader_main(void *argument) {
    ray_world *world = argument;
    char text[COHORT_ENDING_BYTES];
    for (;;) {
        cJSON *event = NULL;
        cohort_status status =
            cohort_sidecar_receive(world->sidecar, COHORT_NEVER, &event);
        if (status == COHORT_E_PEER_DIED || status == COHORT_E_IO) break;
        if (status < 0) continue;
        if (is_event(event, "ended")) on_ended(world, event);
        if (is_event(event, "failed")) on_failed(world, event);
        if (is_event(event, "failed") || is_event(event, "trouble"))
            cohort_log(COHORT_LOG_WARNING, "ray", COHORT_RANK_LOCAL,
                       "event=trouble text=\"%.300s\"", text_of(event, "text"));
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
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int err = pthread_create(&world->reader, NULL, reader_main, world);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (err) return COHORT_FAIL_SYS(err, "starting a thread");
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
                                 world->ranks[i].ending.text);
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
    int32_t n_missing = world->world_size;
    while (n_missing > 0) {
        cohort_link_hello hello;
        cohort_link *link = NULL;
        COHORT_TRY(check_actors(world));
        if (cohort_clock_ns() > world->deadline_ns)
            return COHORT_FAIL(COHORT_E_TIMEOUT,
                               "%d of %d ranks have not connected: can their nodes reach "
                               "%s?",
                               n_missing, world->world_size, world->driver_address);
        cohort_status status = cohort_listener_accept(
            world->listener, cohort_deadline_ms(ACCEPT_SLICE_MS), &hello, &link);
        if (status == COHORT_E_TIMEOUT) continue;
        COHORT_TRY(status);
        COHORT_TRY(take_call(world, &hello, link));
        n_missing = 0;
        for (int32_t i = 0; i < world->world_size; i++)
            n_missing += world->ranks[i].control_fd < 0;
    }
    return COHORT_OK;
}

/* ---- the launcher --------------------------------------------------------------- */

static void close_fd(int fd) {
    if (fd >= 0) close(fd);
}

/* A rank of ours that Ray did not end is ended here; its pidfd keeps the pid its own. */
static void end_local(ray_rank *rank) {
    struct pollfd gone = {.fd = rank->pidfd, .events = POLLIN};
    if (rank->pidfd < 0) return;
    if (poll(&gone, 1, 0) == 0) {
        syscall(SYS_pidfd_send_signal, rank->pidfd, SIGKILL, NULL, 0);
        poll(&gone, 1, GONE_MS);
    }
}

static void ray_close(void *opened, int64_t deadline_ns) {
    ray_world *world = opened;
    if (world->sidecar) cohort_sidecar_end(world->sidecar, deadline_ns);
    if (world->has_reader) pthread_join(world->reader, NULL);
    cohort_sidecar_free(world->sidecar);
    cohort_listener_close(world->listener);
    for (int32_t i = 0; world->ranks && i < world->world_size; i++) {
        ray_rank *rank = &world->ranks[i];
        end_local(rank);
        close_fd(rank->pidfd);
        close_fd(rank->ended_fd);
        close_fd(rank->exit_fd);
        close_fd(rank->control_fd);
        for (int32_t k = 0; k < rank->n_devices; k++)
            free(rank->device_ids[k]);
    }
    pthread_mutex_destroy(&world->lock);
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
    world->seats = calloc((size_t)world->world_size, sizeof *world->seats);
    if (!world->ranks || !world->seats)
        return COHORT_FAIL(COHORT_E_NOMEM, "allocating %d ranks", world->world_size);
    for (int32_t i = 0; i < world->world_size; i++)
        world->ranks[i].pidfd = world->ranks[i].ended_fd = world->ranks[i].exit_fd =
            world->ranks[i].control_fd = -1;
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

static void ray_reap(cohort_launch *launch, cohort_ending *out_ending) {
    ray_world *world = launch->world;
    ray_rank *rank = launch->own;
    pthread_mutex_lock(&world->lock);
    *out_ending = rank->ending;
    pthread_mutex_unlock(&world->lock);
    /* Its process was seen to be gone before Ray said a word. */
    if (!out_ending->text[0])
        snprintf(out_ending->text, sizeof out_ending->text, "vanished (killed?)");
    close_fd(rank->exit_fd);
    rank->exit_fd = -1;
}

const cohort_launcher cohort_ray_launcher = {.name = "ray",
                                             .open = ray_open,
                                             .start = ray_start,
                                             .signal = ray_signal,
                                             .reap = ray_reap,
                                             .close = ray_close};
