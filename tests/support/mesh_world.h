/* SPDX-License-Identifier: Apache-2.0 */
/* mesh_world.h - ranks that play a role, in each way that ranks can be joined.
 *
 *   layout: all in shared memory; all over TCP; or mixed: rank 2 over TCP, the others not
 *   vessel: threads of this process, or processes of their own
 *
 * A role gets a connected mesh and returns 0 where all its checks held; its mesh is
 * closed as soon as it returns, whatever the others still do.
 */
#ifndef TESTS_MESH_WORLD_H
#define TESTS_MESH_WORLD_H

#include <stdatomic.h>
#include <stdio.h>

#include "cohort/clock.h"
#include "cohort/collective.h"

enum { WORLD_MAX = 4, PATIENCE_MS = 60000 };

typedef enum world_layout { SHARED, TCP, MIXED, LAYOUTS } world_layout;
typedef enum world_vessel { THREADS, PROCESSES, VESSELS } world_vessel;

/* Visible to all ranks of one world, and to the test. */
typedef struct world_hall {
    cohort_mesh_handle handles[WORLD_MAX];
    _Atomic int32_t arrived, stage;
    _Atomic int32_t pids[WORLD_MAX];
    _Atomic(cohort_mesh *) meshes[WORLD_MAX]; /* for threads */
    uint64_t seed;
} world_hall;

typedef struct world_member {
    cohort_mesh *mesh;
    cohort_group *group; /* all, in rank order */
    int32_t rank, size;
    world_layout layout;
    world_vessel vessel;
    world_hall *hall;
} world_member;

typedef int (*world_role)(world_member *self);

#define CHECK(condition)                                                          \
    do {                                                                          \
        if (!(condition)) {                                                       \
            fprintf(stderr, "rank %d of %d, %s: %s:%d: %s: %s\n", self->rank,     \
                    self->size, world_name(self), __FILE__, __LINE__, #condition, \
                    cohort_last_error()->message);                                \
            return 1;                                                             \
        }                                                                         \
    } while (0)

const char *world_name(const world_member *self);
int64_t world_soon(void);

/* Starts ranks; end waits for them and returns how many failed (a rank that was killed
 * counts only where killed_rank is another).  killed_rank -1: none is. */
typedef struct world world;
world *world_start(world_layout layout, world_vessel vessel, int32_t size,
                   world_role role, uint64_t seed);
world_hall *world_hall_of(world *self);
int world_end(world *self, int32_t killed_rank);

/* Start and end; fails the test unless every rank succeeds. */
void world_play(world_layout layout, world_vessel vessel, int32_t size, world_role role);
/* In all layouts and vessels, from 1 rank to WORLD_MAX. */
void world_play_all(world_role role);

#endif /* TESTS_MESH_WORLD_H */
