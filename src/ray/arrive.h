/* SPDX-License-Identifier: Apache-2.0 */
/* ray/arrive.h - ranks that come, at first and again. */
#ifndef COHORT_RAY_ARRIVE_H
#define COHORT_RAY_ARRIVE_H

#include "ray/world.h"

/* While the world is opened: all ranks have called. */
cohort_status ray_accept_all(ray_world *world);

/* The monitor's, with the world's lock: the event thread is to start a rank that is gone
 * again, and says by its come_fd that it has, or has failed. */
void ray_want(ray_world *world, ray_rank *rank);

/* The event thread's.  Is any rank to be started again? */
bool ray_is_any_coming(ray_world *world);
/* One step further with all of them; waits for a moment where one is to connect. */
void ray_go_on(ray_world *world);
/* A rank's node cannot be had any more, as a "lost" says: it goes where there is room. */
cohort_status ray_move_rank(ray_world *world, const cJSON *event);
/* It does not come, for the thread's last error; COHORT_RANK_LOCAL: none of them does. */
void ray_fail_coming(ray_world *world, int32_t index);

#endif /* COHORT_RAY_ARRIVE_H */
