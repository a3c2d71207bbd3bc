/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh_world.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct world {
    world_vessel vessel;
    int32_t size;
    world_role role;
    world_hall *hall;
    world_member members[WORLD_MAX];
    pthread_t threads[WORLD_MAX];
    int failed[WORLD_MAX];
};

const char *world_name(const world_member *self) {
    static const char *const names[LAYOUTS][VESSELS] = {
        {"shared, threads", "shared, processes"},
        {"tcp, threads", "tcp, processes"},
        {"mixed, threads", "mixed, processes"}};
    return names[self->layout][self->vessel];
}

int64_t world_soon(void) { return cohort_deadline_ms(PATIENCE_MS); }

static const char *expected_transport(const world_member *self) {
    if (self->layout == SHARED || (self->layout == MIXED && self->size < 3))
        return "shared memory";
    return self->layout == TCP || self->rank == 2 ? "tcp" : "mixed";
}

static int join(world_member *self) {
    bool tcp_only = self->layout == TCP || (self->layout == MIXED && self->rank == 2);
    const cohort_mesh_options options = {.rank = self->rank,
                                         .world_size = self->size,
                                         .listen_host =
                                             self->layout == SHARED ? NULL : "127.0.0.1",
                                         .tcp_only = tcp_only,
                                         .spin_ns = -1};
    const int32_t ranks[WORLD_MAX] = {0, 1, 2, 3};
    world_hall *hall = self->hall;
    CHECK(cohort_mesh_open(&options, &self->mesh) == COHORT_OK);
    CHECK(cohort_mesh_export(self->mesh, &hall->handles[self->rank]) == COHORT_OK);
    atomic_store(&hall->meshes[self->rank], self->mesh);
    atomic_fetch_add(&hall->arrived, 1);
    while (atomic_load(&hall->arrived) < self->size)
        usleep(200);
    CHECK(cohort_mesh_connect(self->mesh, hall->handles, world_soon()) == COHORT_OK);
    CHECK(cohort_group_open(self->mesh, ranks, self->size, &self->group) == COHORT_OK);
    if (self->size > 1)
        CHECK(!strcmp(cohort_group_transport(self->group), expected_transport(self)));
    return 0;
}

static int live(world *self, int32_t rank) {
    world_member *member = &self->members[rank];
    int failed = join(member) || self->role(member);
    cohort_mesh_close(member->mesh);
    return failed;
}

typedef struct birth {
    world *self;
    int32_t rank;
} birth;

static void *live_in_thread(void *argument) {
    birth *from = argument;
    from->self->failed[from->rank] = live(from->self, from->rank);
    free(from);
    return NULL;
}

static void begin_rank(world *self, int32_t rank) {
    if (self->vessel == PROCESSES) {
        pid_t parent = getpid(), pid = fork();
        assert_true(pid >= 0);
        if (!pid) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            _exit(getppid() != parent || live(self, rank));
        }
        atomic_store(&self->hall->pids[rank], pid);
        return;
    }
    birth *from = malloc(sizeof *from);
    assert_non_null(from);
    *from = (birth){self, rank};
    assert_int_equal(pthread_create(&self->threads[rank], NULL, live_in_thread, from), 0);
}

world *world_start(world_layout layout, world_vessel vessel, int32_t size,
                   world_role role, uint64_t seed) {
    world *self = calloc(1, sizeof *self);
    assert_non_null(self);
    *self = (world){.vessel = vessel, .size = size, .role = role};
    self->hall = mmap(NULL, sizeof *self->hall, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(self->hall != MAP_FAILED);
    self->hall->seed = seed;
    for (int32_t r = 0; r < size; r++) {
        self->members[r] = (world_member){.rank = r,
                                          .size = size,
                                          .layout = layout,
                                          .vessel = vessel,
                                          .hall = self->hall};
        begin_rank(self, r);
    }
    return self;
}

world_hall *world_hall_of(world *self) { return self->hall; }

int world_end(world *self, int32_t killed_rank) {
    int failures = 0;
    for (int32_t r = 0; r < self->size; r++) {
        if (self->vessel == THREADS) {
            pthread_join(self->threads[r], NULL);
            failures += self->failed[r] != 0;
            continue;
        }
        int status = 0;
        assert_int_equal(waitpid(self->hall->pids[r], &status, 0), self->hall->pids[r]);
        if (r != killed_rank) failures += !WIFEXITED(status) || WEXITSTATUS(status);
    }
    munmap(self->hall, sizeof *self->hall);
    free(self);
    return failures;
}

void world_play(world_layout layout, world_vessel vessel, int32_t size, world_role role) {
    assert_int_equal(world_end(world_start(layout, vessel, size, role, 0), -1), 0);
}

void world_play_all(world_role role) {
    for (world_layout layout = 0; layout < LAYOUTS; layout++)
        for (world_vessel vessel = 0; vessel < VESSELS; vessel++)
            for (int32_t size = 1; size <= WORLD_MAX; size++)
                if (layout != MIXED || size > 2) world_play(layout, vessel, size, role);
}
