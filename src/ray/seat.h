/* SPDX-License-Identifier: Apache-2.0 */
/* ray/seat.h - actors: what each is told, and where it sits. */
#ifndef COHORT_RAY_SEAT_H
#define COHORT_RAY_SEAT_H

#include "ray/world.h"

cohort_status ray_read_environment(ray_world *world);
cohort_status ray_send_spawn(ray_world *world, const char *library);
/* Where everybody came to sit. */
cohort_status ray_await_seats(ray_world *world);
cohort_status ray_send_run(ray_world *world);

#endif /* COHORT_RAY_SEAT_H */
