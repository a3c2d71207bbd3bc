/* SPDX-License-Identifier: Apache-2.0 */
#include <cjson/cJSON.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/log.h"
#include "base/poll.h"
#include "cohort/clock.h"
#include "launcher/launcher.h"
#include "link/link.h"
#include "ray/arrive.h"
#include "ray/env.h"
#include "ray/graph.h"
#include "ray/place.h"
#include "ray/ray.h"
#include "ray/rules.h"
#include "ray/seat.h"
#include "ray/sidecar.h"
#include "ray/watch.h"
#include "ray/world.h"

/* Design notes.
 *
 *   sidecar --connected, placed--> order of bundles --spawn--> actors
 *   actors --seated--> seats, devices, specs --run--> actors connect to our listener
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
 * with its name, and are started again by another one where ranks are (arrive.c).  What
 * if we die?  The sidecar reads the end of its socket and takes the actors and the group
 * away, and the actors read the end of theirs. */

enum {
    DEFAULT_PLACEMENT_S = 300,
    GONE_MS = 200, /* at least, for killed processes to be gone */
    /* For Ray to say why a process of ours is gone: it takes 4 to 11 ms of an idle host.
     */
    REASON_MS = 60,
};

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
    uint64_t one = 1;
    /* It may be about to put another sidecar in this one's place. */
    if (world->stop_fd >= 0 && write(world->stop_fd, &one, sizeof one) < 0) abort();
    if (world->has_reader) pthread_join(world->reader, NULL);
    if (world->sidecar) cohort_sidecar_end(world->sidecar, deadline_ns);
    cohort_sidecar_free(world->sidecar);
    ray_graph_close(world);
    cohort_listener_close(world->listener);
    end_local(world, deadline_ns);
    for (int32_t i = 0; world->ranks && i < world->world_size; i++) {
        ray_rank *rank = &world->ranks[i];
        close_fd(rank->pidfd);
        close_fd(rank->ended_fd);
        close_fd(rank->come_fd);
        close_fd(rank->exit_fd);
        close_fd(rank->control_fd);
        for (int32_t k = 0; k < rank->n_devices; k++)
            free(rank->device_ids[k]);
    }
    close_fd(world->wake_fd);
    close_fd(world->stop_fd);
    pthread_mutex_destroy(&world->sidecar_lock);
    pthread_mutex_destroy(&world->lock);
    cJSON_Delete(world->envs);
    cohort_ray_env_free(&world->env);
    cJSON_Delete(world->runtime_env);
    free(world->seats);
    free(world->ranks);
    free(world);
}

static cohort_status make_world(const cohort_placing *placing, ray_world **out_world) {
    const cohort_executor_options *options = placing->options;
    ray_world *world = calloc(1, sizeof *world);
    if (!world) return COHORT_FAIL(COHORT_E_NOMEM, "allocating a world");
    pthread_mutex_init(&world->lock, NULL);
    pthread_mutex_init(&world->sidecar_lock, NULL);
    *out_world = world;
    world->placing = *placing;
    world->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    world->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (world->wake_fd < 0 || world->stop_fd < 0)
        return COHORT_FAIL_SYS(errno, "eventfd");
    world->world_size = options->tp * options->pp;
    world->is_adopted = options->ray.placement_group && options->ray.placement_group[0];
    world->ranks = calloc((size_t)world->world_size, sizeof *world->ranks);
    for (int32_t i = 0; world->ranks && i < world->world_size; i++)
        world->ranks[i] = (ray_rank){.life = 1,
                                     .pidfd = -1,
                                     .ended_fd = -1,
                                     .come_fd = -1,
                                     .exit_fd = -1,
                                     .control_fd = -1};
    world->seats = calloc((size_t)world->world_size, sizeof *world->seats);
    if (!world->ranks || !world->seats)
        return COHORT_FAIL(COHORT_E_NOMEM, "allocating %d ranks", world->world_size);
    for (int32_t i = 0; i < world->world_size; i++) {
        ray_rank *rank = &world->ranks[i];
        rank->ended_fd = eventfd(0, EFD_CLOEXEC);
        rank->come_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (rank->ended_fd < 0 || rank->come_fd < 0)
            return COHORT_FAIL_SYS(errno, "eventfd");
    }
    COHORT_TRY(cohort_ray_parse_demand(ray_option(options->ray.resource, "CPU"),
                                       &world->demand));
    return cohort_ray_parse_strategy(ray_option(options->ray.strategy, "PACK"),
                                     &world->strategy);
}

static cohort_status open_world(const cohort_placing *placing, ray_world *world) {
    const cohort_executor_options *options = placing->options;
    int64_t wait_ns = options->ray.placement_timeout_ns;
    if (wait_ns <= 0) wait_ns = INT64_C(1000000000) * DEFAULT_PLACEMENT_S;
    COHORT_TRY(ray_read_environment(world));
    COHORT_TRY(cohort_sidecar_find_library(world->library, sizeof world->library));
    COHORT_TRY(cohort_sidecar_start(&world->sidecar));
    world->deadline_ns = cohort_clock_ns() + wait_ns;
    COHORT_TRY(ray_send_open(world));
    COHORT_TRY(ray_await_group(world));
    world->deadline_ns = options->connect_timeout_ns > 0
                             ? cohort_clock_ns() + options->connect_timeout_ns
                             : COHORT_NEVER;
    COHORT_TRY(ray_graph_open(world));
    COHORT_TRY(ray_send_spawn(world));
    COHORT_TRY(ray_await_seats(world));
    COHORT_TRY(cohort_listener_open(world->driver_address, &world->listener));
    COHORT_TRY(ray_send_run(world));
    COHORT_TRY(ray_start_reader(world));
    return ray_accept_all(world);
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
    pthread_mutex_lock(&world->lock);
    world->placing.cancel_fd = world->stop_fd;
    world->is_open = true;
    pthread_mutex_unlock(&world->lock);
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

/* With the world's lock. */
static void fill_launch(ray_world *world, int32_t index, cohort_launch *launch) {
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
}

static cohort_status ray_start(const cohort_executor_options *options, int32_t index,
                               cohort_launch *launch) {
    (void)options;
    ray_world *world = launch->world;
    ray_rank *rank = &world->ranks[index];
    uint64_t count;
    cohort_status status = COHORT_PENDING;
    pthread_mutex_lock(&world->lock);
    launch->exit_fd = rank->come_fd;
    if (rank->stage == RAY_GONE) ray_want(world, rank);
    if (rank->stage >= RAY_HERE && read(rank->come_fd, &count, sizeof count) < 0) abort();
    if (rank->stage == RAY_FAILED) {
        rank->stage = RAY_GONE;
        status = cohort_fail_adopt(&rank->error);
    } else if (rank->stage == RAY_HERE) {
        fill_launch(world, index, launch);
        world->has_waited = false;
        status = COHORT_OK;
    }
    pthread_mutex_unlock(&world->lock);
    return status;
}

static void order_kill(ray_world *world, const ray_rank *rank) {
    cJSON *order = cJSON_CreateObject();
    cJSON_AddStringToObject(order, "op", "kill");
    cJSON_AddNumberToObject(order, "rank", (double)(rank - world->ranks));
    cJSON_AddNumberToObject(order, "life", rank->life);
    /* A sidecar that is gone cannot be told: then Ray ends the rank. */
    ray_tell(world, order);
}

/* SIGTERM waits until C returns (and it will: the rank was told): only SIGKILL helps. */
static void ray_signal(cohort_launch *launch, int signal_number) {
    ray_world *world = launch->world;
    ray_rank *rank = launch->own;
    if (signal_number != SIGKILL) return;
    if (rank->pidfd >= 0) syscall(SYS_pidfd_send_signal, rank->pidfd, SIGKILL, NULL, 0);
    order_kill(world, rank);
}

/* Nobody hears of the end of a process on a node that is lost, or Ray does after a
 * minute: it counts as ended, and what is left of it ends with its control link. */
static void ray_give_up(cohort_launch *launch) {
    ray_world *world = launch->world;
    const ray_rank *rank = launch->own;
    ray_signal(launch, SIGKILL);
    if (rank->pidfd < 0)
        ray_mark_ended(world, (int32_t)(rank - world->ranks), rank->life, "was given up");
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
    *out_ending = ray_ending_of(rank);
    rank->stage = RAY_GONE;
    pthread_mutex_unlock(&world->lock);
    close_fd(rank->exit_fd);
    rank->exit_fd = -1;
}

const cohort_launcher cohort_ray_launcher = {.name = "ray",
                                             .can_restart = true,
                                             .open = ray_open,
                                             .start = ray_start,
                                             .signal = ray_signal,
                                             .give_up = ray_give_up,
                                             .reap = ray_reap,
                                             .take_relay = ray_graph_take,
                                             .close = ray_close};
