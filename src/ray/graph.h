/* SPDX-License-Identifier: Apache-2.0 */
/* ray/graph.h - the old control plane: each call goes to the ranks through a compiled
 * graph of Ray's, which the sidecar owns, as vLLM's RayDistributedExecutor had it.
 *
 *   executor --queue--> sidecar --graph--> hatch of each actor --> rank, and back
 *
 * Only calls and replies travel so; how ranks come, sum, are watched and end is the same.
 */
#ifndef COHORT_RAY_GRAPH_H
#define COHORT_RAY_GRAPH_H

#include "ray/world.h"

bool ray_has_graph(const ray_world *world);
/* Before ranks are spawned: makes the queues between us and the sidecar, which compiles
 * once they run. */
cohort_status ray_graph_open(ray_world *world);
/* The launcher's. */
void ray_graph_take(void *world, cohort_queue **out_calls, cohort_queue **out_replies);
/* What nobody took. */
void ray_graph_close(ray_world *world);

#endif /* COHORT_RAY_GRAPH_H */
