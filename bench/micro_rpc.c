/* SPDX-License-Identifier: Apache-2.0 */
/* collective_rpc of an executor with two worker processes that load no model; floor: the
 * same step over bare words with the yield-then-futex loop, two processes too.  Nothing
 * is pinned.  Ours and floor take turns within a round; outside the timed window: start,
 * the first tenth.  vLLM's beside it: bench/peer_rpc.sh. */
#include <sys/wait.h>

#include "bench.h"
#include "cohort/clock.h"
#include "cohort/executor.h"
#include "floor.h"
#include "micro.h"

enum { WORKERS = 2, ITERATIONS = 2000 };

static double ours_us[ITERATIONS], floor_us[ITERATIONS];
static uint8_t payload[FLOOR_MAX_PAYLOAD];

typedef struct bare_world {
    floor_mailbox to_worker, from_worker[WORKERS];
} bare_world;

typedef struct rpc_case {
    const char *name;
    size_t bytes;
    int32_t reply_rank;
} rpc_case;

static const rpc_case cases[] = {
    {"collective_rpc of 2, echo 1 KB", 1024, COHORT_ALL_RANKS},
    {"collective_rpc of 2, echo 8 KB", 8192, COHORT_ALL_RANKS},
    {"collective_rpc of 2, 1 KB, one reply", 1024, 0}};

/* Echoes what it finds; its size stands in front, 0 ends.  Of whom no reply is awaited
 * may find a later turn than the next. */
static void echo_bare(bare_world *world, int32_t worker) {
    static uint8_t bytes[FLOOR_MAX_PAYLOAD];
    for (uint32_t turn = 0;;) {
        turn = floor_mailbox_await_other(&world->to_worker, turn);
        uint32_t size;
        memcpy(&size, world->to_worker.payload, sizeof size);
        if (!size) exit(0);
        memcpy(bytes, world->to_worker.payload, size);
        floor_mailbox_post(&world->from_worker[worker], turn, bytes, size, true);
    }
}

static void call_bare(bare_world *world, uint32_t turn, const rpc_case *what) {
    static uint8_t bytes[FLOOR_MAX_PAYLOAD];
    int32_t n_replies = what->reply_rank < 0 ? WORKERS : what->reply_rank + 1;
    uint32_t size = (uint32_t)what->bytes;
    memcpy(payload, &size, sizeof size);
    floor_mailbox_post(&world->to_worker, turn, payload, size, true);
    for (int32_t k = 0; k < n_replies; k++) {
        floor_mailbox_await(&world->from_worker[k], turn);
        memcpy(bytes, world->from_worker[k].payload, size);
    }
}

static void call_ours(cohort_executor *executor, const rpc_case *what) {
    cohort_rpc rpc = {.method = "echo",
                      .payload = payload,
                      .size_bytes = what->bytes,
                      .reply_rank = what->reply_rank};
    bench_check(cohort_collective_rpc(executor, &rpc, cohort_deadline_ms(20000), NULL));
}

static void measure(cohort_executor *executor, bare_world *world, uint32_t *turn,
                    int rounds, const rpc_case *what) {
    bench_pair pair = {.name = what->name};
    for (int round = 0; round < rounds; round++) {
        for (int i = -ITERATIONS / 10; i < ITERATIONS; i++) {
            int64_t start_ns = cohort_clock_ns();
            call_bare(world, ++*turn, what);
            if (i >= 0) floor_us[i] = (double)(cohort_clock_ns() - start_ns) / 1e3;
        }
        for (int i = -ITERATIONS / 10; i < ITERATIONS; i++) {
            int64_t start_ns = cohort_clock_ns();
            call_ours(executor, what);
            if (i >= 0) ours_us[i] = (double)(cohort_clock_ns() - start_ns) / 1e3;
        }
        bench_add_round(&pair, ours_us, ITERATIONS, floor_us, ITERATIONS);
    }
    bench_print_pair(&pair);
}

/* Workers that slept: the wake-ups are in the figure. */
static void measure_idle(cohort_executor *executor, long idle_ms, int count) {
    for (int i = 0; i < count; i++) {
        usleep((useconds_t)idle_ms * 1000);
        int64_t start_ns = cohort_clock_ns();
        call_ours(executor, &cases[0]);
        ours_us[i] = (double)(cohort_clock_ns() - start_ns) / 1e3;
    }
    printf("echo 1 KB after %ld ms of idleness: p50 %.1f us, p99 %.1f us\n", idle_ms,
           bench_percentile(ours_us, (size_t)count, 0.5),
           bench_percentile(ours_us, (size_t)count, 0.99));
}

int bench_rpc(int argc, char **argv) {
    int rounds = bench_rounds(argc, argv);
    if (!rounds) return 2;
    bare_world *world = floor_share(sizeof *world);
    for (int32_t k = 0; k < WORKERS; k++)
        if (!bench_fork()) echo_bare(world, k);
    cohort_executor_options options = cohort_executor_defaults();
    options.tp = WORKERS;
    cohort_executor *executor;
    setenv("COHORT_NO_MODEL", "1", 1);
    bench_check(cohort_executor_start(&options, &executor));
    bench_print_header();
    uint32_t turn = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        measure(executor, world, &turn, rounds, &cases[i]);
    measure_idle(executor, 10, 100);
    measure_idle(executor, 1500, 8);
    uint32_t nothing = 0;
    floor_mailbox_post(&world->to_worker, turn + 1, &nothing, sizeof nothing, true);
    cohort_executor_destroy(executor);
    return 0;
}
