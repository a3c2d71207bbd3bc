/* SPDX-License-Identifier: Apache-2.0 */
#include "ray/arrive.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/log.h"
#include "base/poll.h"
#include "cohort/clock.h"
#include "ray/event.h"
#include "ray/place.h"
#include "ray/seat.h"
#include "ray/sidecar.h"
#include "ray/watch.h"

/* Design notes.
 *
 * wanted --spawn--> seating --seated, run--> calling --connected--> here
 *
 * A rank that is started again is a new actor in the bundle of the one before, under a
 * name of its own: Ray frees a dead one's name and its share of the bundle when it has
 * noticed, and only for the share the new one has to wait.
 *
 * With the sidecar all actors end, and its placement group goes: another sidecar opens
 * the world once more, and every rank is started again there.
 *
 * Where its node is lost, Ray notices within a minute, and moves the bundle where there
 * is room.  So long nobody waits: a raylet that refuses or does not answer is lost, and
 * the actor goes to another node, of our choice, beside the group.
 *
 * Nobody runs before all are seated: local ranks and devices follow from all seats. */

enum {
    ACCEPT_SLICE_MS = 20,
    MOST_AGAIN_MS =
        30000,     /* to be started again, also where connecting may take longer */
    GONE_MS = 200, /* for a killed process */
};

static bool is_coming(const ray_rank *rank) { return rank->stage <= RAY_CALLING; }

/* Of a rank, its stage at most. */
static bool is_there(const ray_rank *rank) {
    return rank->stage == RAY_CALLING || (rank->stage == RAY_SEATING && rank->pid) ||
           (rank->stage == RAY_HERE && !rank->has_ended);
}

static void tell_come(const ray_rank *rank) {
    uint64_t one = 1;
    if (write(rank->come_fd, &one, sizeof one) < 0) abort(); /* it was 0 */
}

/* ---- calls ---------------------------------------------------------------------- */

static cohort_status take_call(ray_world *world, const cohort_link_hello *hello,
                               cohort_link *link) {
    ray_rank *rank = hello->rank >= 0 && hello->rank < world->world_size
                         ? &world->ranks[hello->rank]
                         : NULL;
    pthread_mutex_lock(&world->lock);
    bool is_known = hello->purpose == COHORT_LINK_CONTROL && rank &&
                    rank->stage == RAY_CALLING && hello->epoch == (uint64_t)rank->life;
    pthread_mutex_unlock(&world->lock);
    if (!is_known) {
        cohort_link_close(link);
        return COHORT_OK; /* late, of an older life: its link's end tells it */
    }
    rank->control_fd = cohort_link_release(link);
    if (ray_watch_rank(rank) < 0) {
        close(rank->control_fd);
        if (rank->exit_fd >= 0) close(rank->exit_fd);
        rank->control_fd = rank->exit_fd = -1;
        return cohort_last_error()->code;
    }
    pthread_mutex_lock(&world->lock);
    rank->stage = RAY_HERE;
    tell_come(rank);
    pthread_mutex_unlock(&world->lock);
    return COHORT_OK;
}

static cohort_status accept_one(ray_world *world) {
    cohort_link_hello hello;
    cohort_link *link = NULL;
    cohort_status status = cohort_listener_accept(
        world->listener, cohort_deadline_ms(ACCEPT_SLICE_MS), &hello, &link);
    if (status == COHORT_E_TIMEOUT) return COHORT_OK;
    COHORT_TRY(status);
    return take_call(world, &hello, link);
}

/* Who comes later is refused by the kernel; nobody would answer here. */
static void close_listener(ray_world *world) {
    cohort_listener_close(world->listener);
    world->listener = NULL;
}

/* ---- at first ------------------------------------------------------------------- */

/* An actor that ended, an order that failed: no use in waiting for the rest. */
static cohort_status check_actors(ray_world *world) {
    cohort_status status = COHORT_OK;
    pthread_mutex_lock(&world->lock);
    if (world->trouble.code < 0) status = cohort_fail_adopt(&world->trouble);
    for (int32_t i = 0; status >= 0 && i < world->world_size; i++)
        if (world->ranks[i].has_ended)
            status = COHORT_FAIL(COHORT_E_PEER_DIED, "rank %d (%s on %s) %s", i,
                                 world->ranks[i].name, world->ranks[i].address,
                                 ray_ending_of(&world->ranks[i]).text);
    pthread_mutex_unlock(&world->lock);
    struct pollfd cancel = {.fd = world->placing.cancel_fd, .events = POLLIN};
    if (status >= 0 && poll(&cancel, 1, 0) > 0)
        status =
            COHORT_FAIL(COHORT_E_CANCELLED, "told to stop while ranks were starting");
    return status;
}

cohort_status ray_accept_all(ray_world *world) {
    while (ray_count_ranks(world, ray_is_not_connected) > 0) {
        COHORT_TRY(check_actors(world));
        if (cohort_clock_ns() > world->deadline_ns) {
            char list[RAY_LIST_BYTES];
            ray_name_ranks(world, ray_is_not_connected, list, sizeof list);
            return COHORT_FAIL(COHORT_E_TIMEOUT,
                               "%d of %d ranks have not connected: %s: do they reach %s?",
                               ray_count_ranks(world, ray_is_not_connected),
                               world->world_size, list, world->driver_address);
        }
        COHORT_TRY(accept_one(world));
    }
    close_listener(world);
    return COHORT_OK;
}

/* ---- again, as the monitor sees it ---------------------------------------------- */

/* What it writes to is taken over by the next one: it may live on for a moment where Ray,
 * or the sidecar's end, was quicker to be heard of than the kernel. */
static void end_process(ray_rank *rank) {
    struct pollfd gone = {.fd = rank->pidfd, .events = POLLIN};
    if (rank->pidfd < 0) return;
    syscall(SYS_pidfd_send_signal, rank->pidfd, SIGKILL, NULL, 0);
    poll(&gone, 1, GONE_MS);
    close(rank->pidfd);
    rank->pidfd = -1;
}

void ray_want(ray_world *world, ray_rank *rank) {
    uint64_t one = 1;
    end_process(rank);
    for (int32_t k = 0; k < rank->n_devices; k++)
        free(rank->device_ids[k]);
    rank->n_devices = 0;
    rank->pid = 0;
    rank->life++;
    if (rank->has_ended && read(rank->ended_fd, &one, sizeof one) < 0) abort();
    rank->has_ended = false;
    rank->ending = (cohort_launch_ending){0};
    rank->stage = RAY_WANTED;
    world->has_new_life = true;
    one = 1;
    if (write(world->wake_fd, &one, sizeof one) < 0) abort();
}

/* ---- again, on the event thread ------------------------------------------------- */

bool ray_is_any_coming(ray_world *world) {
    bool is_any = false;
    pthread_mutex_lock(&world->lock);
    for (int32_t i = 0; world->is_open && i < world->world_size; i++)
        is_any |= is_coming(&world->ranks[i]);
    pthread_mutex_unlock(&world->lock);
    return is_any;
}

void ray_fail_coming(ray_world *world, int32_t index) {
    cohort_error error = *cohort_last_error();
    error.rank = COHORT_RANK_LOCAL;
    pthread_mutex_lock(&world->lock);
    for (int32_t i = 0; i < world->world_size; i++) {
        ray_rank *rank = &world->ranks[i];
        if ((index >= 0 && i != index) || !is_coming(rank)) continue;
        rank->stage = RAY_FAILED;
        rank->error = error;
        tell_come(rank);
    }
    pthread_mutex_unlock(&world->lock);
}

static int32_t count_stage(ray_world *world, ray_stage stage) {
    int32_t n = 0;
    pthread_mutex_lock(&world->lock);
    for (int32_t i = 0; i < world->world_size; i++)
        n += world->ranks[i].stage == stage;
    pthread_mutex_unlock(&world->lock);
    return n;
}

/* All are to be on one node, and this one is on the lost one that another has left: its
 * end has not been noticed yet. */
static bool is_left_behind(const ray_world *world, const ray_rank *rank) {
    bool is_left = false;
    if (world->is_adopted || world->strategy != COHORT_RAY_STRICT_PACK) return false;
    for (int32_t i = 0; i < world->world_size; i++) {
        const ray_rank *other = &world->ranks[i];
        is_left |= other->is_moved && other->stage == RAY_SEATING &&
                   strcmp(other->bundle_node, rank->bundle_node) != 0;
    }
    return is_left;
}

/* With the world's lock. */
static bool are_all_there(const ray_world *world) {
    bool are_all = true;
    for (int32_t i = 0; i < world->world_size; i++)
        are_all &= is_there(&world->ranks[i]) && !is_left_behind(world, &world->ranks[i]);
    return are_all;
}

static void replace_sidecar(ray_world *world, cohort_sidecar *sidecar) {
    pthread_mutex_lock(&world->sidecar_lock);
    cohort_sidecar *old = world->sidecar;
    world->sidecar = sidecar;
    pthread_mutex_unlock(&world->sidecar_lock);
    if (old) cohort_sidecar_end(old, 0);
    cohort_sidecar_free(old);
}

static cohort_status reopen(ray_world *world) {
    cohort_sidecar *sidecar = NULL;
    cohort_log(COHORT_LOG_WARNING, "ray", COHORT_RANK_LOCAL,
               "event=sidecar_replaced text=\"the Ray sidecar ended, and every rank with "
               "it: all are started again\"");
    replace_sidecar(world, NULL);
    COHORT_TRY(cohort_sidecar_start(&sidecar));
    replace_sidecar(world, sidecar);
    COHORT_TRY(ray_send_open(world));
    COHORT_TRY(ray_await_group(world));
    world->has_lost_sidecar = false;
    return COHORT_OK;
}

static cohort_status start_wanted(ray_world *world) {
    int64_t limit_ns = world->placing.options->connect_timeout_ns;
    if (!count_stage(world, RAY_WANTED)) return COHORT_OK;
    if (limit_ns <= 0 || limit_ns > INT64_C(1000000) * MOST_AGAIN_MS)
        limit_ns = INT64_C(1000000) * MOST_AGAIN_MS;
    pthread_mutex_lock(&world->lock);
    /* Not for one that moves on, which would do so without an end. */
    if (world->has_new_life) world->deadline_ns = cohort_clock_ns() + limit_ns;
    world->has_new_life = false;
    pthread_mutex_unlock(&world->lock);
    if (world->has_lost_sidecar)
        COHORT_TRY_WHILE(reopen(world), "starting another Ray sidecar");
    return ray_send_spawn(world);
}

/* Where another rank is, where no two may be on one node. */
static void leave_others_nodes(const ray_world *world, int32_t index,
                               cohort_ray_bundle *rooms, int32_t n_rooms) {
    bool is_apart = !world->is_adopted && world->strategy == COHORT_RAY_STRICT_SPREAD;
    for (int32_t i = 0; is_apart && i < world->world_size; i++)
        for (int32_t k = 0; i != index && k < n_rooms; k++)
            if (!strcmp(rooms[k].node_id, world->ranks[i].bundle_node))
                rooms[k].amount = 0;
}

/* Ray's books do not have what another rank is about to take there. */
static void leave_promised(ray_world *world, int32_t index, cohort_ray_bundle *rooms,
                           int32_t n_rooms) {
    pthread_mutex_lock(&world->lock);
    for (int32_t i = 0; i < world->world_size; i++) {
        const ray_rank *rank = &world->ranks[i];
        bool is_to_come = i != index && rank->is_moved && !rank->pid &&
                          (rank->stage == RAY_WANTED || rank->stage == RAY_SEATING);
        for (int32_t k = 0; is_to_come && k < n_rooms; k++)
            if (!strcmp(rooms[k].node_id, rank->bundle_node))
                rooms[k].amount -= world->demand.amount;
    }
    pthread_mutex_unlock(&world->lock);
}

/* All on one node: where the first of them went there was room for all. */
static bool follow_others(const ray_world *world, const ray_rank *rank,
                          const cohort_ray_bundle *rooms, int32_t n_rooms,
                          int32_t *out_position) {
    for (int32_t i = 0; i < world->world_size; i++) {
        const ray_rank *other = &world->ranks[i];
        if (!other->is_moved || !strcmp(other->bundle_node, rank->bundle_node)) continue;
        for (int32_t k = 0; k < n_rooms; k++)
            if (!strcmp(rooms[k].node_id, other->bundle_node)) {
                *out_position = k;
                return true;
            }
    }
    return false;
}

static cohort_status find_room(ray_world *world, const cohort_ray_lost *lost,
                               cohort_ray_bundle *rooms, int32_t n_rooms,
                               int32_t *out_position) {
    const ray_rank *rank = &world->ranks[lost->rank];
    for (int32_t i = 0; lost->moved_to[0] && i < n_rooms; i++)
        if (!strcmp(rooms[i].node_id, lost->moved_to)) {
            *out_position = i;
            return COHORT_OK;
        }
    cohort_ray_demand demand = world->demand;
    if (!world->is_adopted && world->strategy == COHORT_RAY_STRICT_PACK) {
        if (follow_others(world, rank, rooms, n_rooms, out_position)) return COHORT_OK;
        demand.amount *= world->world_size;
    }
    leave_others_nodes(world, lost->rank, rooms, n_rooms);
    leave_promised(world, lost->rank, rooms, n_rooms);
    return cohort_ray_pick_room(rooms, n_rooms, &demand, rank->bundle_node,
                                world->driver_node, out_position);
}

static void settle_in_room(ray_world *world, const cohort_ray_lost *lost,
                           const cohort_ray_bundle *room) {
    ray_rank *rank = &world->ranks[lost->rank];
    cohort_log(COHORT_LOG_WARNING, "ray", lost->rank,
               "event=moved from=%s to=%s address=%s", rank->bundle_node, room->node_id,
               room->address);
    snprintf(rank->bundle_node, sizeof rank->bundle_node, "%s", room->node_id);
    snprintf(rank->address, sizeof rank->address, "%s", room->address);
    rank->is_moved = strcmp(room->node_id, lost->moved_to) != 0;
    pthread_mutex_lock(&world->lock);
    rank->stage = RAY_WANTED;
    pthread_mutex_unlock(&world->lock);
}

cohort_status ray_move_rank(ray_world *world, const cJSON *event) {
    cohort_ray_lost lost;
    cohort_ray_bundle *rooms = NULL;
    int32_t n_rooms = 0, position = 0;
    COHORT_TRY(cohort_ray_event_lost(event, world->world_size, &lost));
    const ray_rank *rank = &world->ranks[lost.rank];
    pthread_mutex_lock(&world->lock);
    bool is_meant = rank->stage == RAY_SEATING && rank->life == lost.life;
    pthread_mutex_unlock(&world->lock);
    if (!is_meant) return COHORT_OK;
    COHORT_TRY(cohort_ray_event_bundles(event, world->demand.key, &rooms, &n_rooms));
    cohort_status status = find_room(world, &lost, rooms, n_rooms, &position);
    if (status >= 0) settle_in_room(world, &lost, &rooms[position]);
    free(rooms);
    return status;
}

/* With the world's lock. */
static cohort_status write_run(ray_world *world, cJSON **out_order) {
    if (!are_all_there(world)) return COHORT_OK; /* any more */
    COHORT_TRY(ray_number_seats(world));
    return ray_write_run(world, out_order);
}

static cohort_status run_seated(ray_world *world) {
    cJSON *order = NULL;
    if (!count_stage(world, RAY_SEATING)) return COHORT_OK;
    pthread_mutex_lock(&world->lock);
    bool are_all = are_all_there(world);
    pthread_mutex_unlock(&world->lock);
    if (!are_all) return COHORT_OK;
    if (!world->listener)
        COHORT_TRY(cohort_listener_open(world->driver_address, &world->listener));
    pthread_mutex_lock(&world->lock);
    cohort_status status = write_run(world, &order);
    pthread_mutex_unlock(&world->lock);
    COHORT_TRY(status);
    return order ? ray_tell(world, order) : COHORT_OK;
}

static cohort_status check_deadline(ray_world *world) {
    char list[RAY_LIST_BYTES];
    if (cohort_clock_ns() <= world->deadline_ns) return COHORT_OK;
    pthread_mutex_lock(&world->lock);
    ray_name_ranks(world, is_coming, list, sizeof list);
    pthread_mutex_unlock(&world->lock);
    return COHORT_FAIL(COHORT_E_TIMEOUT, "Ray has not started in time again: %s", list);
}

void ray_go_on(ray_world *world) {
    cohort_status status = start_wanted(world);
    if (status >= 0) status = run_seated(world);
    if (status >= 0 && count_stage(world, RAY_CALLING)) status = accept_one(world);
    if (status >= 0 && ray_is_any_coming(world)) status = check_deadline(world);
    if (status < 0) ray_fail_coming(world, COHORT_RANK_LOCAL);
    if (!count_stage(world, RAY_CALLING)) close_listener(world);
}
