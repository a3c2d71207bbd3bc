/* SPDX-License-Identifier: Apache-2.0 */
/* ray/seat.h - actors: what each is told, and where it sits. */
#ifndef COHORT_RAY_SEAT_H
#define COHORT_RAY_SEAT_H

#include "ray/world.h"

cohort_status ray_read_environment(ray_world *world);
/* Asks for an actor of each rank that is wanted. */
cohort_status ray_send_spawn(ray_world *world);
/* What a "seated" says of a rank. */
cohort_status ray_seat_rank(ray_world *world, const cJSON *event);
/* With the world's lock, as devices' ids go with a rank's life.  All are seated: who is
 * which of its node, and whether that is as was asked for. */
cohort_status ray_number_seats(ray_world *world);
/* Where everybody came to sit. */
cohort_status ray_await_seats(ray_world *world);
/* With the world's lock, numbered within the same hold of it: what is to be told to those
 * that have come to sit; listener: where they are to call. */
cohort_status ray_write_run(ray_world *world, cJSON **out_order);
/* The same at first, when no rank is started again. */
cohort_status ray_send_run(ray_world *world);

#endif /* COHORT_RAY_SEAT_H */
