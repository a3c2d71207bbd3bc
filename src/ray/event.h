/* SPDX-License-Identifier: Apache-2.0 */
/* ray/event.h - what the sidecar says, read and bounded.
 *
 * An event is a JSON object with a text "event".  It comes from another process: what
 * lacks a field, or holds a number or a text out of its bounds, is refused as
 * COHORT_E_PROTOCOL, with the event's name; nothing of it is believed then.  Of a field
 * that comes twice the first counts.
 *
 * Pure functions on the caller's memory; texts in results belong to the event.
 * Threads: any.
 */
#ifndef COHORT_RAY_EVENT_H
#define COHORT_RAY_EVENT_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cohort/status.h"
#include "ray/rules.h"

/* The event is the caller's, by cJSON_Delete. */
cohort_status cohort_ray_event_parse(const char *bytes, size_t size_bytes,
                                     cJSON **out_event);
bool cohort_ray_event_is(const cJSON *event, const char *name);
/* "" where it has no such text. */
const char *cohort_ray_event_text(const cJSON *object, const char *name);
/* An amount of a resource in an object of them; 0 where it is none. */
double cohort_ray_event_amount(const cJSON *event, const char *object, const char *key);
/* The rank that it is about; -1: none of the world's. */
int32_t cohort_ray_event_rank(const cJSON *event, int32_t world_size);

typedef struct cohort_ray_connected {
    const char *node, *address, *version;
} cohort_ray_connected;

cohort_status cohort_ray_event_connected(const cJSON *event,
                                         cohort_ray_connected *out_connected);

/* Of a "placed" (or a "lost"): all bundles of the group, in the order of their indices,
 * with what each holds of key.  The array is the caller's, by free. */
cohort_status cohort_ray_event_bundles(const cJSON *event, const char *key,
                                       cohort_ray_bundle **out_bundles,
                                       int32_t *out_n_bundles);

typedef struct cohort_ray_seated {
    int32_t rank, pid;
    int32_t life; /* of the rank, from 1: it may have been started again */
    const char *node, *address, *build;
    const char *devices[COHORT_RAY_MAX_DEVICES];
    int32_t n_devices;
} cohort_ray_seated;

cohort_status cohort_ray_event_seated(const cJSON *event, int32_t world_size,
                                      cohort_ray_seated *out_seated);

typedef struct cohort_ray_ended {
    int32_t rank, life;
    bool has_returned; /* from run(): text is its own; else Ray's page */
    const char *text;
} cohort_ray_ended;

cohort_status cohort_ray_event_ended(const cJSON *event, int32_t world_size,
                                     cohort_ray_ended *out_ended);

typedef struct cohort_ray_lost {
    int32_t rank, life;
    const char *moved_to; /* its bundle, as Ray has noticed; "": nowhere yet */
} cohort_ray_lost;

/* A rank cannot be started again where it was; what is free elsewhere are its bundles. */
cohort_status cohort_ray_event_lost(const cJSON *event, int32_t world_size,
                                    cohort_ray_lost *out_lost);

/* Of a "looked": what that node has of its own; NULL where it is not in it. */
const cJSON *cohort_ray_event_looked(const cJSON *event, const char *node);

#endif /* COHORT_RAY_EVENT_H */
