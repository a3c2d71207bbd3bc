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

/* Of a rank's life.  From RAY_WANTED to RAY_CALLING it is whoever's who starts it: the
 * monitor's while the world is opened, then the event thread's (watch.c); else it is the
 * monitor's.  The stage changes with the world's lock, which hands the rest over. */
typedef enum ray_stage {
    RAY_WANTED,  /* it is to be started */
    RAY_SEATING, /* an actor was asked for */
    RAY_CALLING, /* which runs, and is to connect */
    RAY_HERE,    /* it has */
    RAY_GONE,    /* and was reaped */
    RAY_FAILED,  /* it was started again in vain: error */
} ray_stage;

typedef struct ray_rank {
    ray_stage stage;
    int32_t life; /* from 1; what is said of an older one counts no more */
    int come_fd;  /* eventfd: it was started again, or in vain */
    cohort_error error;
    char name[COHORT_RAY_NAME_BYTES];
    char node[COHORT_RAY_NODE_BYTES];
    char address[COHORT_HOST_BYTES]; /* of its bundle's node, then its own */
    char bundle_node[COHORT_RAY_NODE_BYTES];
    char *device_ids[COHORT_RAY_MAX_DEVICES];
    int32_t n_devices;
    int32_t pid; /* 0: not seated yet */
    int32_t bundle;
    bool is_moved; /* from its bundle, whose node is lost, to bundle_node */
    int pidfd;     /* -1: not of our kernel */
    int ended_fd;  /* eventfd: Ray says so */
    int exit_fd;   /* epoll of both */
    int control_fd;
    bool has_ended;              /* with the world's lock */
    cohort_launch_ending ending; /* the same; no text: nobody knows why */
} ray_rank;

typedef struct ray_world {
    cohort_placing placing;
    char library[4096]; /* for the actors */
    cohort_ray_demand demand;
    cohort_ray_strategy strategy;
    int32_t world_size;
    char need[320];  /* of the group that is waited for; "": none is */
    bool is_adopted; /* the group is somebody else's */
    bool has_waited; /* for a reason of Ray's, since a rank came */
    cohort_ray_env env;
    cJSON *runtime_env; /* the user's */
    cJSON *envs;        /* of the actors of each node, by its id */
    int64_t deadline_ns;
    bool has_new_life; /* a rank's, which the deadline is not set for yet; with lock */
    char driver_node[COHORT_RAY_NODE_BYTES];
    char driver_address[COHORT_HOST_BYTES];
    pthread_mutex_t sidecar_lock;  /* for who sends, and who puts another in its place */
    cohort_sidecar *sidecar;       /* NULL: there is none */
    cohort_queue *calls, *replies; /* to and from its graph, until they are taken */
    cohort_listener *listener; /* while ranks are to call; whoever's who starts them */
    pthread_t reader;
    bool has_reader;
    bool has_lost_sidecar; /* the event thread's */
    int wake_fd, stop_fd;  /* eventfds: a rank is wanted; nothing is any more */
    pthread_mutex_t lock;
    bool is_open; /* ranks are started by the event thread from here on; with lock */
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
/* Takes order over.  From any thread. */
cohort_status ray_tell(ray_world *world, cJSON *order);
/* The next event; what failed there is the error here. */
cohort_status ray_hear(ray_world *world, const char *what, cJSON **out_event);

#endif /* COHORT_RAY_WORLD_H */
