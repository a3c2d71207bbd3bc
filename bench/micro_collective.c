/* SPDX-License-Identifier: Apache-2.0 */
/* All-reduce of f32 between two processes of this host, through a mesh with its
 * deadlines and its watch over the peer; floor: the bare one-shot.  Ours and floor take
 * turns within a round.  Outside the timed window: connecting, the first tenth. */
#include <sys/socket.h>
#include <sys/wait.h>

#include "bench.h"
#include "cohort/clock.h"
#include "cohort/collective.h"
#include "floor.h"
#include "micro.h"

enum { ITERATIONS = 4000 };

static double ours_us[ITERATIONS], floor_us[ITERATIONS];
static float data[FLOOR_MAX_FLOATS]; /* of zeros, so that sums stay what they are */

static cohort_group *meet(int rank, int fd, cohort_mesh **out_mesh) {
    cohort_mesh_options options = {.rank = rank, .world_size = 2, .spin_ns = -1};
    cohort_mesh_handle handles[2];
    cohort_group *group;
    bench_check(cohort_mesh_open(&options, out_mesh));
    bench_check(cohort_mesh_export(*out_mesh, &handles[rank]));
    if (send(fd, &handles[rank], sizeof *handles, 0) != sizeof *handles ||
        recv(fd, &handles[!rank], sizeof *handles, MSG_WAITALL) != sizeof *handles)
        exit(1);
    bench_check(cohort_mesh_connect(*out_mesh, handles, cohort_deadline_ms(20000)));
    bench_check(cohort_group_open(*out_mesh, (int32_t[]){0, 1}, 2, &group));
    return group;
}

static void run_floor(floor_side *sides, int rank, uint32_t *step, size_t count) {
    for (int i = -ITERATIONS / 10; i < ITERATIONS; i++) {
        int64_t start_ns = cohort_clock_ns();
        floor_all_reduce(sides, rank, (*step)++, data, count);
        if (i >= 0) floor_us[i] = (double)(cohort_clock_ns() - start_ns) / 1e3;
    }
}

static void run_ours(cohort_group *group, size_t count) {
    for (int i = -ITERATIONS / 10; i < ITERATIONS; i++) {
        int64_t start_ns = cohort_clock_ns();
        bench_check(cohort_all_reduce(group, COHORT_F32, COHORT_SUM, data, count,
                                      start_ns + INT64_C(20000000000)));
        if (i >= 0) ours_us[i] = (double)(cohort_clock_ns() - start_ns) / 1e3;
    }
}

static void measure(const char *name, int rounds, size_t count) {
    bench_pair pair = {.name = name, .goal = 1.2};
    floor_side *sides = floor_share(2 * sizeof *sides);
    cohort_mesh *mesh;
    uint32_t step = 0;
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds)) exit(1);
    pid_t child = bench_fork();
    int rank = child == 0;
    bench_pin(rank);
    cohort_group *group = meet(rank, fds[rank], &mesh);
    for (int i = 0; i < rounds; i++) {
        run_floor(sides, rank, &step, count);
        run_ours(group, count);
        bench_add_round(&pair, ours_us, ITERATIONS, floor_us, ITERATIONS);
    }
    bench_check(cohort_barrier(group, cohort_deadline_ms(20000)));
    cohort_mesh_close(mesh);
    if (rank) exit(0);
    waitpid(child, NULL, 0);
    bench_print_pair(&pair);
}

int bench_collective(int argc, char **argv) {
    int rounds = bench_rounds(argc, argv);
    if (!rounds) return 2;
    bench_print_header();
    measure("all-reduce of 2, 4 KB", rounds, 1024);
    measure("all-reduce of 2, 64 KB", rounds, 16384);
    return 0;
}
