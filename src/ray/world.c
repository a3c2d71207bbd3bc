/* SPDX-License-Identifier: Apache-2.0 */
#include "ray/world.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/fail.h"
#include "base/poll.h"
#include "cohort/clock.h"
#include "ray/event.h"
#include "ray/sidecar.h"

void ray_add_option(cJSON *object, const char *name, const char *text) {
    if (text && text[0]) cJSON_AddStringToObject(object, name, text);
}

bool ray_is_not_seated(const ray_rank *rank) { return !rank->pid; }
bool ray_is_not_connected(const ray_rank *rank) { return rank->control_fd < 0; }

int32_t ray_count_ranks(const ray_world *world, bool (*is_meant)(const ray_rank *)) {
    int32_t n = 0;
    for (int32_t i = 0; i < world->world_size; i++)
        n += is_meant(&world->ranks[i]);
    return n;
}

/* "rank 1 (bundle 3 on 10.0.0.2), rank 2 (...) and 5 more" */
void ray_name_ranks(const ray_world *world, bool (*is_meant)(const ray_rank *),
                    char *out_list, size_t size) {
    size_t used = 0;
    int32_t n_left = ray_count_ranks(world, is_meant);
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

cohort_status ray_tell(ray_world *world, cJSON *order) {
    pthread_mutex_lock(&world->sidecar_lock);
    cohort_status status =
        world->sidecar ? cohort_sidecar_send(world->sidecar, order)
                       : COHORT_FAIL(COHORT_E_PEER_DIED, "there is no Ray sidecar");
    if (!world->sidecar) cJSON_Delete(order);
    pthread_mutex_unlock(&world->sidecar_lock);
    return status;
}

cohort_status ray_hear(ray_world *world, const char *what, cJSON **out_event) {
    struct pollfd fds[2] = {{.fd = cohort_sidecar_fd(world->sidecar), .events = POLLIN},
                            {.fd = world->placing.cancel_fd, .events = POLLIN}};
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
