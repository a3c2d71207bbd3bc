/* SPDX-License-Identifier: Apache-2.0 */
/* ray/actor.h - what python/cohort_ray/actor.py calls through ctypes.
 *
 * The actor is a process of Ray's; run makes it a rank, until the driver says stop or is
 * gone (then the process ends at once).  Everything that the rank is told beforehand is
 * in two JSON objects that ray.c writes, its own and that of all ranks, which is large:
 *
 *   spec  {"link": hex, "rank": 1, "epoch": 1, "timeout_ms": 60000,
 *          "graph": false, "devices": "0,1", "device": "1", "device_shared_by": 1}
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
/* One call of a compiled graph, where the spec has "graph", beside run and on another
 * thread: 8-byte aligned.  The rank's reply, of no bytes where it has none, is lent until
 * the next step. */
COHORT_API int cohort_ray_actor_step(const void *call, size_t call_bytes,
                                     const void **out_reply, size_t *out_reply_bytes);

#endif /* COHORT_RAY_ACTOR_H */
