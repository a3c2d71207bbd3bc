/* SPDX-License-Identifier: Apache-2.0 */
#include "ray/watch.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/log.h"
#include "base/thread.h"
#include "cohort/clock.h"
#include "launcher/launcher.h"
#include "ray/arrive.h"
#include "ray/event.h"
#include "ray/rules.h"
#include "ray/seat.h"
#include "ray/sidecar.h"
#include "ray/world.h"

enum {
    MESSAGE_MS = 5000, /* for one that has begun */
    COMING_MS = 2,     /* with ranks that are to come, whose calls are looked for, too */
};

void ray_mark_ended(ray_world *world, int32_t index, int32_t life, const char *text) {
    uint64_t one = 1;
    ray_rank *rank = &world->ranks[index];
    pthread_mutex_lock(&world->lock);
    bool is_first = !rank->has_ended && rank->life == life;
    if (is_first) {
        rank->has_ended = true;
        snprintf(rank->ending.text, sizeof rank->ending.text, "%s", text);
        if (write(rank->ended_fd, &one, sizeof one) < 0) abort(); /* it was 0 */
    }
    bool was_coming = is_first && world->is_open && rank->stage < RAY_HERE;
    pthread_mutex_unlock(&world->lock);
    if (!was_coming) return;
    COHORT_FAIL(COHORT_E_PEER_DIED, "it %s before it had connected",
                text[0] ? text : "ended");
    ray_fail_coming(world, index);
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
    ray_mark_ended(world, ended.rank, ended.life, text);
}

/* Where nobody knows why: with the world's lock. */
cohort_launch_ending ray_ending_of(const ray_rank *rank) {
    cohort_launch_ending ending = rank->ending;
    if (!ending.text[0])
        snprintf(ending.text, sizeof ending.text, "vanished (killed?%s)",
                 rank->pidfd >= 0 ? "" : " is its node lost?");
    return ending;
}

/* But those that nobody was asked to start yet: they have nothing that could end. */
static void mark_all(ray_world *world, const char *text) {
    for (int32_t i = 0; i < world->world_size; i++) {
        pthread_mutex_lock(&world->lock);
        int32_t life = world->ranks[i].life;
        bool is_wanted = world->ranks[i].stage == RAY_WANTED;
        pthread_mutex_unlock(&world->lock);
        if (!is_wanted) ray_mark_ended(world, i, life, text);
    }
}

/* No rank's doing, as far as the sidecar knows. */
static void on_broken(ray_world *world, const cJSON *event) {
    char text[COHORT_LAUNCH_ENDING_BYTES];
    snprintf(text, sizeof text, "was given up: Ray's compiled graph broke: %.70s",
             cohort_ray_event_text(event, "text"));
    mark_all(world, text);
}

/* What failed is, once all have come, a rank that was to come again, or a kill. */
static void on_failed(ray_world *world, const cJSON *event) {
    int32_t index = cohort_ray_event_rank(event, world->world_size);
    const char *text = cohort_ray_event_text(event, "text");
    cohort_log(COHORT_LOG_WARNING, "ray", index, "event=trouble text=\"%.300s\"", text);
    COHORT_FAIL(COHORT_E_IO, "Ray: %s", text);
    pthread_mutex_lock(&world->lock);
    bool is_open = world->is_open;
    if (!is_open && !world->trouble.code) world->trouble = *cohort_last_error();
    pthread_mutex_unlock(&world->lock);
    if (is_open) ray_fail_coming(world, index);
}

static void on_lost(ray_world *world, const cJSON *event) {
    if (ray_move_rank(world, event) < 0)
        ray_fail_coming(world, cohort_ray_event_rank(event, world->world_size));
}

static void on_seated(ray_world *world, const cJSON *event) {
    if (ray_seat_rank(world, event) < 0)
        ray_fail_coming(world, cohort_ray_event_rank(event, world->world_size));
}

static void on_lost_sidecar(ray_world *world) {
    char text[COHORT_LAUNCH_ENDING_BYTES];
    world->has_lost_sidecar = true;
    snprintf(text, sizeof text,
             "was given up: its Ray driver, the sidecar (pid %d), ended",
             cohort_sidecar_pid(world->sidecar));
    mark_all(world, text);
}

/* A message that is none does not end it (R19), one without an end does: what follows
 * would be read from its middle. */
static void hear_one(ray_world *world) {
    cJSON *event = NULL;
    cohort_status status =
        cohort_sidecar_receive(world->sidecar, cohort_deadline_ms(MESSAGE_MS), &event);
    if (status == COHORT_E_PEER_DIED || status == COHORT_E_IO ||
        status == COHORT_E_TIMEOUT)
        on_lost_sidecar(world);
    if (status < 0) return;
    if (cohort_ray_event_is(event, "ended")) on_ended(world, event);
    if (cohort_ray_event_is(event, "seated")) on_seated(world, event);
    if (cohort_ray_event_is(event, "lost")) on_lost(world, event);
    if (cohort_ray_event_is(event, "failed")) on_failed(world, event);
    if (cohort_ray_event_is(event, "broken")) on_broken(world, event);
    if (cohort_ray_event_is(event, "trouble"))
        cohort_log(COHORT_LOG_WARNING, "ray", COHORT_RANK_LOCAL,
                   "event=trouble text=\"%.300s\"", cohort_ray_event_text(event, "text"));
    cJSON_Delete(event);
}

static bool is_readable(int fd) {
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    return poll(&readable, 1, 0) > 0;
}

/* From the moment when ranks run until the world is closed. */
static void *reader_main(void *argument) {
    ray_world *world = argument;
    while (!is_readable(world->stop_fd)) {
        uint64_t count;
        bool is_any_coming = ray_is_any_coming(world);
        struct pollfd fds[] = {
            {.fd = world->stop_fd, .events = POLLIN},
            {.fd = world->wake_fd, .events = POLLIN},
            {.fd = world->has_lost_sidecar ? -1 : cohort_sidecar_fd(world->sidecar),
             .events = POLLIN}};
        poll(fds, sizeof fds / sizeof *fds, is_any_coming ? COMING_MS : -1);
        if (fds[1].revents && read(world->wake_fd, &count, sizeof count) < 0) abort();
        if (fds[2].revents) hear_one(world);
        if (ray_is_any_coming(world)) ray_go_on(world);
    }
    return NULL;
}

cohort_status ray_start_reader(ray_world *world) {
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

cohort_status ray_watch_rank(ray_rank *rank) {
    rank->pidfd = open_local_pid(rank);
    rank->exit_fd = epoll_create1(EPOLL_CLOEXEC);
    if (rank->exit_fd < 0) return COHORT_FAIL_SYS(errno, "epoll_create1");
    COHORT_TRY(add_watch(rank->exit_fd, rank->ended_fd));
    return rank->pidfd < 0 ? COHORT_OK : add_watch(rank->exit_fd, rank->pidfd);
}
