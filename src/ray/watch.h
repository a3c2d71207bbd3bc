/* SPDX-License-Identifier: Apache-2.0 */
/* ray/watch.h - who ends, as Ray and as the kernel see it. */
#ifndef COHORT_RAY_WATCH_H
#define COHORT_RAY_WATCH_H

#include "ray/world.h"

/* Of that life; an older one's end is known. */
void ray_mark_ended(ray_world *world, int32_t index, int32_t life, const char *text);
/* Where nobody knows why: with the world's lock. */
cohort_launch_ending ray_ending_of(const ray_rank *rank);
cohort_status ray_start_reader(ray_world *world);
cohort_status ray_watch_rank(ray_rank *rank);

#endif /* COHORT_RAY_WATCH_H */
