/* SPDX-License-Identifier: Apache-2.0 */
/* ray/rules.h - every decision that the Ray launcher takes, without Ray.
 *
 * Python asks the cluster and carries out; what follows from the answers is decided here:
 *
 *   bundles, driver's node --> one bundle a rank --> one seat a rank (node, devices)
 *   seats --> local ranks, the devices of each node, the device of each rank
 *   our environment --> what travels, what must be there at the process's start
 *
 * Nothing here computes a port: addresses are published by whoever has bound them
 * (R2-R7).
 *
 * Pure functions on the caller's memory; strings in are not copied unless said.
 * Threads: any.   Errors: COHORT_E_INVALID, with what to do.
 */
#ifndef COHORT_RAY_RULES_H
#define COHORT_RAY_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cohort/status.h"

enum {
    COHORT_RAY_NAME_BYTES = 128,    /* of an actor */
    COHORT_RAY_RESOURCE_BYTES = 64, /* of a resource's key */
    COHORT_RAY_MAX_DEVICES = 64,    /* of an engine on one node */
    COHORT_RAY_DEVICE_BYTES = 64,   /* of a device's id: a number or a UUID */
    COHORT_RAY_MAP_BYTES = 1024,
    COHORT_RAY_NODE_BYTES = 64, /* of a node's id: Ray's has 56 digits */
};

/* ---- resources ---------------------------------------------------------------- */

/* What a bundle of ours holds for one rank: {"CPU": 2}, {"GPU": 0.5}, {"TPU": 4} (R17).
 */
typedef struct cohort_ray_demand {
    char key[COHORT_RAY_RESOURCE_BYTES];
    double amount;
} cohort_ray_demand;

/* "KEY" or "KEY=AMOUNT", AMOUNT 1 where it is not said.  Ray keeps a resource to four
 * decimals, and takes a fraction below 1 or a whole number. */
cohort_status cohort_ray_parse_demand(const char *text, cohort_ray_demand *out_demand);

typedef enum cohort_ray_strategy {
    COHORT_RAY_PACK,
    COHORT_RAY_STRICT_PACK,
    COHORT_RAY_SPREAD,
    COHORT_RAY_STRICT_SPREAD
} cohort_ray_strategy;

cohort_status cohort_ray_parse_strategy(const char *text,
                                        cohort_ray_strategy *out_strategy);
const char *cohort_ray_strategy_name(cohort_ray_strategy strategy);

/* ---- bundles ------------------------------------------------------------------ */

typedef struct cohort_ray_bundle {
    int32_t index;       /* in its placement group */
    const char *node_id; /* Ray's: hostnames may all be alike */
    const char *address; /* of the node, for people */
    double amount;       /* of the demanded resource */
} cohort_ray_bundle;

/* One bundle a rank, by position in bundles: of those that hold the demand the ones on
 * the driver's node first, then by node id, else as they were; the first world_size of
 * that order.  Surplus bundles are as if they did not exist (R16b). */
cohort_status cohort_ray_order_bundles(const cohort_ray_bundle *bundles,
                                       int32_t n_bundles, const cohort_ray_demand *demand,
                                       const char *driver_node, int32_t world_size,
                                       int32_t *out_positions);
/* The same where the user named bundles: "2,1" is bundle 2 for rank 0, 1 for rank 1, and
 * that order is kept. */
cohort_status cohort_ray_name_bundles(const char *indices,
                                      const cohort_ray_bundle *bundles, int32_t n_bundles,
                                      const cohort_ray_demand *demand, int32_t world_size,
                                      int32_t *out_positions);

/* What the actor or task that started us has of bundles itself, COHORT_RAY_HELD: no rank
 * fits there.  "CPU/1=0.5,GPU/0=1": amounts of resources by bundle; NULL: nothing. */
cohort_status cohort_ray_leave_held(const char *held, const cohort_ray_demand *demand,
                                    cohort_ray_bundle *bundles, int32_t n_bundles);

/* Where a rank goes whose node is lost, by position in rooms, which are of nodes with
 * what is free there: the driver's node, else the one with most of it; never lost_node.
 */
cohort_status cohort_ray_pick_room(const cohort_ray_bundle *rooms, int32_t n_rooms,
                                   const cohort_ray_demand *demand, const char *lost_node,
                                   const char *driver_node, int32_t *out_position);

/* COHORT_RAY_BUNDLE_INDICES, else vLLM's name, else NULL; empty is not set. */
const char *cohort_ray_bundle_indices(char *const *environment);

/* ---- seats -------------------------------------------------------------------- */

/* Where one rank's actor came to sit. */
typedef struct cohort_ray_seat {
    const char *node_id;
    const char *bundle_node; /* where its bundle is, as Ray said; NULL: not known */
    int32_t bundle;
    char *const *device_ids; /* as Ray gave them to this actor */
    int32_t n_devices;
    /* Filled in by cohort_ray_number_seats: */
    int32_t local_rank;
    int32_t local_world_size;
} cohort_ray_seat;

void cohort_ray_number_seats(cohort_ray_seat *seats, int32_t n_seats);
/* How many nodes these seats are on. */
int32_t cohort_ray_count_nodes(const cohort_ray_seat *seats, int32_t n_seats);
/* "0,1,10": the devices of all of this engine's ranks on the rank's node, each once, in
 * the order of their numbers (R14, R15); "" where there are none. */
cohort_status cohort_ray_device_map(const cohort_ray_seat *seats, int32_t n_seats,
                                    int32_t rank, char *out_map, size_t size);
/* The first of the rank's own devices in that order: what it computes on.  NULL: it has
 * none. */
const char *cohort_ray_device_of(const cohort_ray_seat *seats, int32_t n_seats,
                                 int32_t rank);
/* Ranks of this engine that compute on it, this one among them. */
int32_t cohort_ray_count_sharing(const cohort_ray_seat *seats, int32_t n_seats,
                                 int32_t rank);
/* A rank that is not where its bundle is, ranks that share a device or run where STRICT_*
 * forbids; OK where the placement is what was asked for (R16). */
cohort_status cohort_ray_check_placement(const cohort_ray_seat *seats, int32_t n_seats,
                                         cohort_ray_strategy strategy,
                                         const cohort_ray_demand *demand);

/* ---- names -------------------------------------------------------------------- */

typedef struct cohort_ray_identity {
    const char *instance;
    int32_t dp_rank; /* global, not the node's; -1: no data parallelism (R1) */
    int32_t tp, pp;
} cohort_ray_identity;

/* cohort_Worker_{instance}[_DPn][_TPn][_PPn][_Ln]: of a rank that was started again the
 * nth life, as Ray gives a dead one's name back when it likes. */
cohort_status cohort_ray_actor_name(const cohort_ray_identity *identity, int32_t rank,
                                    int32_t life, char *out_name, size_t size);

/* ---- environment -------------------------------------------------------------- */

typedef enum cohort_ray_travel {
    COHORT_RAY_STAYS,   /* of this process, this node or this rank: never travels */
    COHORT_RAY_FOLLOWS, /* set in the worker, unless the node has a value of its own */
    COHORT_RAY_PRECEDES /* read before main or at load: goes into the runtime_env (R8) */
} cohort_ray_travel;

/* excluded: the user's names, separated by commas; one that ends in * is a prefix.  NULL:
 * none. */
cohort_ray_travel cohort_ray_travel_of(const char *name, const char *excluded);

/* What of the driver's value is set where the node has node_value, NULL if unset, of its
 * own: that stays (R11); false where nothing is set.  Of a list of paths what is_there
 * denies is left out (R9).  out_value has room for driver_value. */
bool cohort_ray_env_merge(const char *name, const char *node_value,
                          const char *driver_value,
                          bool (*is_there)(const char *path, void *user_data),
                          void *user_data, char *out_value);
/* A variable whose value is such a list. */
bool cohort_ray_env_is_path_list(const char *name);

/* ---- ends --------------------------------------------------------------------- */

/* Why Ray, in a page that it has for every death, says that an actor is gone; NULL where
 * it does not know: so it is for all that a process does to itself, or a stranger to it.
 */
const char *cohort_ray_reason(const char *page);

#endif /* COHORT_RAY_RULES_H */
