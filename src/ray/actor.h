/* SPDX-License-Identifier: Apache-2.0 */
/* ray/actor.h - what python/cohort_ray/actor.py calls through ctypes.
 *
 * The actor is a process of Ray's; run makes it a rank, until the driver says stop or is
 * gone (then the process ends at once).  Everything that the rank is told beforehand is
 * in two JSON objects that ray.c writes, its own and that of all ranks, which is large:
 *
 *   spec  {"link": hex, "rank": 1, "epoch": 1, "timeout_ms": 60000,
 *          "devices": "0,1", "device": "1", "device_shared_by": 1}
 *   env   {"NAME": "value"}
 *
 * Threads: any one, without the GIL.   Errors: a status below 0, its text in out_text.
 */
#ifndef COHORT_RAY_ACTOR_H
#define COHORT_RAY_ACTOR_H

#include <stddef.h>

#include "cohort/status.h"

/* Static text: driver and actors must be of one build. */
COHORT_API const char *cohort_ray_actor_build_id(void);
COHORT_API int cohort_ray_actor_run(const char *spec, const char *env, char *out_text,
                                    size_t size);

#endif /* COHORT_RAY_ACTOR_H */
