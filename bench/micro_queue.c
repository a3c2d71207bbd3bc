/* SPDX-License-Identifier: Apache-2.0 */
/* The queue beside its floors, two or three processes on one machine.
 *
 *   one way     1 KB through shared memory to an awake reader: half a round trip over two
 *               queues.  Floor: a flag and a memcpy in shared memory each way.
 *   step        what a step of driver and 2 workers takes beyond the workers' compute.
 *               Floor: the same step over bare words with the yield-then-futex loop.
 *   tcp         8 KB round trip over two queues.  Floor: one raw socket.
 *
 * Ours and floor take turns within a round.  Outside
 * the timed window: making, attaching, the first (warming) tenth of each run.
 */
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include "bench.h"
#include "cohort/clock.h"
#include "cohort/queue.h"
#include "floor.h"
#include "micro.h"

enum { MAX_SAMPLES = 20000, WORKERS = 2, STEP_BYTES = 1024, REPLY_BYTES = 64 };

static double ours_us[MAX_SAMPLES], floor_us[MAX_SAMPLES];

typedef struct bare_world {
    floor_mailbox to_worker, from_worker[WORKERS];
} bare_world;

static cohort_queue *make_queue(int32_t readers, int32_t local,
                                cohort_queue_handle *out) {
    cohort_queue *queue = NULL;
    cohort_queue_options options = {.reader_count = readers,
                                    .local_reader_count = local,
                                    .chunk_bytes = FLOOR_MAX_PAYLOAD,
                                    .chunk_count = 8,
                                    .spin_ns = -1,
                                    .listen_host = local < readers ? "127.0.0.1" : NULL,
                                    .name = "bench"};
    bench_check(cohort_queue_create(&options, &queue));
    bench_check(cohort_queue_export(queue, out));
    return queue;
}

static void send_bytes(cohort_queue *queue, const void *bytes, size_t size) {
    bench_check(cohort_queue_write(queue, bytes, size, COHORT_NEVER));
}

/* Copies out, as the floor does. */
static void take_bytes(cohort_queue *queue, void *bytes) {
    const void *payload;
    size_t size;
    bench_check(cohort_queue_read_begin(queue, COHORT_NEVER, &payload, &size));
    memcpy(bytes, payload, size);
    cohort_queue_read_end(queue);
}

/* The two ends of two queues, made in two processes that share a socketpair. */
typedef struct ends {
    cohort_queue *out, *in;
} ends;

static void swap_handles(int fd, const cohort_queue_handle *mine,
                         cohort_queue_handle *theirs) {
    if (send(fd, mine, sizeof *mine, 0) != (ssize_t)sizeof *mine ||
        recv(fd, theirs, sizeof *theirs, MSG_WAITALL) != (ssize_t)sizeof *theirs)
        exit(1);
}

static ends meet(int fd, bool first, int32_t local) {
    cohort_queue_handle mine, theirs;
    ends both;
    both.out = make_queue(1, local, &mine);
    swap_handles(fd, &mine, &theirs);
    bench_check(cohort_queue_attach(&theirs, 0, &both.in));
    int64_t deadline_ns = cohort_deadline_ms(20000);
    bench_check(cohort_queue_wait_ready(first ? both.out : both.in, deadline_ns));
    bench_check(cohort_queue_wait_ready(first ? both.in : both.out, deadline_ns));
    return both;
}

/* ---- one way, and TCP: ping-pong of two processes --------------------------------- */

typedef struct match {
    bool first;
    size_t bytes;
    int iterations;
    bare_world *world; /* the floor in shared memory, or NULL */
    int raw_fd;        /* the floor over TCP */
    uint32_t turn;
    ends queues;
} match;

static uint8_t ball[FLOOR_MAX_PAYLOAD];

static void floor_throw(match *game) {
    if (!game->world) {
        floor_socket_send(game->raw_fd, ball, game->bytes);
        return;
    }
    floor_mailbox *box = game->first ? &game->world->to_worker : game->world->from_worker;
    floor_mailbox_post(box, game->turn, ball, game->bytes, false);
}

static void floor_catch(match *game) {
    if (!game->world) {
        floor_socket_receive(game->raw_fd, ball, game->bytes);
        return;
    }
    floor_mailbox *box = game->first ? game->world->from_worker : &game->world->to_worker;
    floor_mailbox_await_flag(box, game->turn);
    memcpy(ball, box->payload, game->bytes);
}

static void play_floor(match *game, double *out_us) {
    for (int i = -game->iterations / 10; i < game->iterations; i++) {
        game->turn++;
        int64_t start_ns = cohort_clock_ns();
        if (game->first) floor_throw(game);
        floor_catch(game);
        if (!game->first) floor_throw(game);
        if (out_us && i >= 0) out_us[i] = (double)(cohort_clock_ns() - start_ns) / 1e3;
    }
}

static void play_ours(match *game, double *out_us) {
    for (int i = -game->iterations / 10; i < game->iterations; i++) {
        int64_t start_ns = cohort_clock_ns();
        if (game->first) send_bytes(game->queues.out, ball, game->bytes);
        take_bytes(game->queues.in, ball);
        if (!game->first) send_bytes(game->queues.out, ball, game->bytes);
        if (out_us && i >= 0) out_us[i] = (double)(cohort_clock_ns() - start_ns) / 1e3;
    }
}

static int play_match(const char *name, int rounds, size_t bytes, int iterations,
                      bool tcp, double halves) {
    bench_pair pair = {.name = name, .goal = 1.5};
    match game = {.bytes = bytes, .iterations = iterations, .raw_fd = -1};
    int fds[2];
    if (!tcp) game.world = floor_share(sizeof *game.world);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds)) exit(1);
    pid_t child = bench_fork();
    game.first = child != 0;
    bench_pin(game.first ? 0 : 1);
    int control_fd = fds[game.first];
    close(fds[!game.first]);
    game.queues = meet(control_fd, game.first, tcp ? 0 : 1);
    if (tcp) game.raw_fd = floor_socket_open(game.first, control_fd);
    for (int i = 0; i < rounds; i++) {
        play_floor(&game, game.first ? floor_us : NULL);
        play_ours(&game, game.first ? ours_us : NULL);
        for (int k = 0; k < iterations; k++) {
            floor_us[k] /= halves;
            ours_us[k] /= halves;
        }
        bench_add_round(&pair, ours_us, (size_t)iterations, floor_us, (size_t)iterations);
    }
    cohort_queue_close(game.queues.out);
    cohort_queue_close(game.queues.in);
    close(control_fd);
    if (!game.first) exit(0);
    waitpid(child, NULL, 0);
    bench_print_pair(&pair);
    return 0;
}

/* ---- a step of driver and two workers ---------------------------------------------- */

/* Computes for so much processor time: what others take from this CPU shows as overhead.
 */
static void compute(int64_t work_ns) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    int64_t end_ns = now.tv_sec * INT64_C(1000000000) + now.tv_nsec + work_ns;
    do
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    while (now.tv_sec * INT64_C(1000000000) + now.tv_nsec < end_ns);
}

typedef struct step_plan {
    int rounds, steps;
    int64_t work_ns;
    bare_world *world;
} step_plan;

static void work(const step_plan *plan, int32_t worker, int fd) {
    uint8_t bytes[FLOOR_MAX_PAYLOAD];
    cohort_queue_handle broadcast, response;
    cohort_queue *in = NULL;
    bench_pin(worker);
    cohort_queue *out = make_queue(1, 1, &response);
    swap_handles(fd, &response, &broadcast);
    bench_check(cohort_queue_attach(&broadcast, worker, &in));
    bench_check(cohort_queue_wait_ready(in, cohort_deadline_ms(20000)));
    bench_check(cohort_queue_wait_ready(out, cohort_deadline_ms(20000)));
    floor_mailbox *answer = &plan->world->from_worker[worker];
    uint32_t turn = 0;
    for (int round = 0; round < plan->rounds; round++) {
        for (int i = 0; i < plan->steps; i++) {
            floor_mailbox_await(&plan->world->to_worker, ++turn);
            memcpy(bytes, plan->world->to_worker.payload, STEP_BYTES);
            compute(plan->work_ns);
            floor_mailbox_post(answer, turn, bytes, REPLY_BYTES, true);
        }
        for (int i = 0; i < plan->steps; i++) {
            take_bytes(in, bytes);
            compute(plan->work_ns);
            send_bytes(out, bytes, REPLY_BYTES);
        }
    }
    cohort_queue_close(in);
    cohort_queue_close(out);
    exit(0);
}

static void step_floor(const step_plan *plan, uint32_t turn, uint8_t *bytes) {
    floor_mailbox_post(&plan->world->to_worker, turn, bytes, STEP_BYTES, true);
    for (int32_t k = 0; k < WORKERS; k++) {
        floor_mailbox_await(&plan->world->from_worker[k], turn);
        memcpy(bytes, plan->world->from_worker[k].payload, REPLY_BYTES);
    }
}

static void step_ours(cohort_queue *out, cohort_queue **in, uint8_t *bytes) {
    send_bytes(out, bytes, STEP_BYTES);
    for (int32_t k = 0; k < WORKERS; k++)
        take_bytes(in[k], bytes);
}

static void drive(const step_plan *plan, const int *fds, bench_pair *pair) {
    uint8_t bytes[FLOOR_MAX_PAYLOAD] = {0};
    cohort_queue_handle broadcast, responses[WORKERS];
    cohort_queue *in[WORKERS];
    cohort_queue *out = make_queue(WORKERS, WORKERS, &broadcast);
    for (int32_t k = 0; k < WORKERS; k++) {
        swap_handles(fds[k], &broadcast, &responses[k]);
        bench_check(cohort_queue_attach(&responses[k], 0, &in[k]));
    }
    bench_check(cohort_queue_wait_ready(out, cohort_deadline_ms(20000)));
    for (int32_t k = 0; k < WORKERS; k++)
        bench_check(cohort_queue_wait_ready(in[k], cohort_deadline_ms(20000)));
    uint32_t turn = 0;
    double work_us = (double)plan->work_ns / 1e3;
    for (int round = 0; round < plan->rounds; round++) {
        for (int i = 0; i < 2 * plan->steps; i++) {
            bool ours = i >= plan->steps;
            int64_t start_ns = cohort_clock_ns();
            if (ours)
                step_ours(out, in, bytes);
            else
                step_floor(plan, ++turn, bytes);
            double us = (double)(cohort_clock_ns() - start_ns) / 1e3 - work_us;
            (ours ? ours_us : floor_us)[i % plan->steps] = us;
        }
        /* The first step of each run finds the others asleep from the change. */
        bench_add_round(pair, ours_us + 1, (size_t)plan->steps - 1, floor_us + 1,
                        (size_t)plan->steps - 1);
    }
    cohort_queue_close(out);
    for (int32_t k = 0; k < WORKERS; k++)
        cohort_queue_close(in[k]);
}

static int measure_step(const char *name, int rounds, int64_t work_ns, int steps) {
    step_plan plan = {.rounds = rounds,
                      .steps = steps,
                      .work_ns = work_ns,
                      .world = floor_share(sizeof(bare_world))};
    bench_pair pair = {.name = name, .goal = 1.5};
    int fds[WORKERS];
    pid_t children[WORKERS];
    for (int32_t k = 0; k < WORKERS; k++) {
        int both[2];
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, both)) exit(1);
        children[k] = bench_fork();
        if (children[k] == 0) work(&plan, k, both[1]);
        close(both[1]);
        fds[k] = both[0];
    }
    if (bench_cpus() > WORKERS) bench_pin(WORKERS);
    drive(&plan, fds, &pair);
    for (int32_t k = 0; k < WORKERS; k++) {
        waitpid(children[k], NULL, 0);
        close(fds[k]);
    }
    bench_print_pair(&pair);
    return 0;
}

/* Each case in a process of its own: pinning and memory start afresh. */
static bool is_child(void) {
    pid_t pid = bench_fork();
    if (pid > 0) waitpid(pid, NULL, 0);
    return pid == 0;
}

int bench_queue(int argc, char **argv) {
    int rounds = bench_rounds(argc, argv);
    if (!rounds) return 2;
    bench_print_header();
    if (is_child())
        exit(play_match("one way, 1 KB, shared memory", rounds, 1024, 10000, false, 2));
    if (is_child())
        exit(measure_step("step beyond 0.2 ms of compute", rounds, 200000, 300));
    if (is_child())
        exit(measure_step("step beyond 2 ms of compute", rounds, 2000000, 60));
    if (is_child())
        exit(measure_step("step beyond 50 ms of compute", rounds, 50000000, 6));
    if (is_child())
        exit(play_match("round trip, 8 KB, TCP", rounds, 8192, 3000, true, 1));
    return 0;
}
