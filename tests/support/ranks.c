/* SPDX-License-Identifier: Apache-2.0 */
#include "ranks.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "cohort/clock.h"

struct world {
    int32_t size;
    ranks_body body;
    void *user_data;
    pthread_barrier_t barrier;
    cohort_mesh_handle handles[RANKS_MAX];
    cohort_mesh *meshes[RANKS_MAX];
    pthread_mutex_t mutex;
    bool failed;
    cohort_error error; /* of the rank that failed first */
};

struct rank {
    struct world *world;
    ranks_place place;
};

static cohort_status open_mesh(struct rank *rank) {
    struct world *world = rank->world;
    int32_t index = rank->place.index;
    const cohort_mesh_options options = {
        .rank = index, .world_size = world->size, .spin_ns = -1};
    cohort_status status = cohort_mesh_open(&options, &world->meshes[index]);
    if (status < 0) return status;
    return cohort_mesh_export(world->meshes[index], &world->handles[index]);
}

static cohort_status open_groups(struct rank *rank) {
    struct world *world = rank->world;
    ranks_place *place = &rank->place;
    cohort_mesh *mesh = world->meshes[place->index];
    int32_t members[RANKS_MAX];
    cohort_status status =
        cohort_mesh_connect(mesh, world->handles, cohort_deadline_ms(60000));
    for (int32_t i = 0; i < place->tp_size; i++)
        members[i] = place->pp_rank * place->tp_size + i;
    if (status >= 0)
        status = cohort_group_open(mesh, members, place->tp_size, &place->tp);
    for (int32_t i = 0; i < place->pp_size; i++)
        members[i] = i * place->tp_size + place->tp_rank;
    if (status >= 0)
        status = cohort_group_open(mesh, members, place->pp_size, &place->pp);
    return status;
}

static void record_failure(struct world *world) {
    const cohort_error *error = cohort_last_error();
    pthread_mutex_lock(&world->mutex);
    if (!world->failed) world->error = *error;
    world->failed = true;
    for (int32_t i = 0; i < world->size; i++)
        if (world->meshes[i]) cohort_mesh_poison(world->meshes[i], error);
    pthread_mutex_unlock(&world->mutex);
}

static void *rank_main(void *user_data) {
    struct rank *rank = user_data;
    struct world *world = rank->world;
    cohort_status status = COHORT_OK;
    if (world->size > 1) {
        status = open_mesh(rank);
        pthread_barrier_wait(&world->barrier);
        if (status >= 0) status = open_groups(rank);
    }
    if (status >= 0) status = world->body(world->user_data, &rank->place);
    if (status < 0) record_failure(world);
    /* Nobody leaves while a neighbour may still read what it sent, or poison it. */
    pthread_barrier_wait(&world->barrier);
    cohort_mesh_close(world->meshes[rank->place.index]);
    return NULL;
}

bool ranks_run(int32_t tp_size, int32_t pp_size, ranks_body body, void *user_data,
               cohort_error *out_error) {
    struct world world = {
        .size = tp_size * pp_size, .body = body, .user_data = user_data};
    struct rank ranks[RANKS_MAX];
    pthread_t threads[RANKS_MAX];
    if (world.size > RANKS_MAX) abort();
    pthread_mutex_init(&world.mutex, NULL);
    pthread_barrier_init(&world.barrier, NULL, (unsigned)world.size);
    for (int32_t i = 0; i < world.size; i++) {
        ranks[i] = (struct rank){.world = &world,
                                 .place = {.index = i,
                                           .tp_rank = i % tp_size,
                                           .tp_size = tp_size,
                                           .pp_rank = i / tp_size,
                                           .pp_size = pp_size}};
        if (pthread_create(&threads[i], NULL, rank_main, &ranks[i]) != 0) abort();
    }
    for (int32_t i = 0; i < world.size; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&world.barrier);
    pthread_mutex_destroy(&world.mutex);
    if (world.failed) *out_error = world.error;
    return !world.failed;
}
