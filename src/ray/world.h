/* SPDX-License-Identifier: Apache-2.0 */
/* ray/world.h - the ranks of one launch, while they come and while they are. */
#ifndef COHORT_RAY_WORLD_H
#define COHORT_RAY_WORLD_H

#include <pthread.h>
#include <stdbool.h>

#include "base/fail.h"
#include "launcher/launcher.h"
#include "link/link.h"
#include "ray/env.h"
#include "ray/rules.h"
#include "ray/sidecar.h"

enum { RAY_LIST_BYTES = 150 }; /* of ranks, in an error */

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
    cJSON *runtime_env; /* the user's */
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

void ray_add_option(cJSON *object, const char *name, const char *text);
bool ray_is_not_seated(const ray_rank *rank);
bool ray_is_not_connected(const ray_rank *rank);
int32_t ray_count_ranks(const ray_world *world, bool (*is_meant)(const ray_rank *));
/* "rank 1 (bundle 3 on 10.0.0.2), rank 2 (...) and 5 more" */
void ray_name_ranks(const ray_world *world, bool (*is_meant)(const ray_rank *),
                    char *out_list, size_t size);
/* The next event; what failed there is the error here. */
cohort_status ray_hear(ray_world *world, const char *what, cJSON **out_event);

#endif /* COHORT_RAY_WORLD_H */
