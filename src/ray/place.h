/* SPDX-License-Identifier: Apache-2.0 */
/* ray/place.h - the placement group that ranks go into. */
#ifndef COHORT_RAY_PLACE_H
#define COHORT_RAY_PLACE_H

#include "ray/world.h"

const char *ray_option(const char *text, const char *standard);
cohort_status ray_send_open(ray_world *world);
cohort_status ray_await_group(ray_world *world);

#endif /* COHORT_RAY_PLACE_H */
