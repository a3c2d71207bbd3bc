/* SPDX-License-Identifier: Apache-2.0 */
/* Two ranks, processes of their own, and a driver that kills one or begins an epoch while
 * they are anywhere: this file is the driver. */
#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fail.h"
#include "cohort/clock.h"
#include "counters/counters.h"
#include "link/link.h"
#include "wire/frame.h"
#include "worker/worker.h"

enum { WORLD = 2, PATIENCE_MS = 60000, MESSAGE_BYTES = 65536, FIRST_EPOCH = 5 };

static int64_t patience(void) { return cohort_deadline_ms(PATIENCE_MS); }

/* ---- the ranks ---------------------------------------------------------------- */

/* What a step is to do. */
enum { SUM, STALL, AWAIT_MASKS, OWN_ERROR, LATE_IO };

typedef struct step {
    int32_t what, rank; /* STALL, OWN_ERROR, LATE_IO: which one */
} step;

typedef struct answer {
    int32_t sum, n_opened, n_loaded, n_rejoined, n_steps, n_set_up;
    uint64_t epoch;
} answer;

/* Seen by all processes. */
static struct shared {
    _Atomic int32_t in_step[WORLD];
    _Atomic bool stalls_load;
    _Atomic int32_t n_loading;
} * shared;

static struct rank {
    const cohort_worker_info *info;
    answer state;
} self;

static cohort_status open_rank(const cohort_worker_info *info, void **out_context) {
    self.info = info;
    self.state.n_opened++;
    *out_context = &self;
    return COHORT_OK;
}

static cohort_status load_rank(void *context) {
    struct rank *rank = context;
    rank->state.n_loaded++;
    atomic_fetch_add(&shared->n_loading, 1);
    while (atomic_load(&shared->stalls_load)) {
        COHORT_TRY(cohort_worker_check(rank->info->worker));
        usleep(200);
    }
    return COHORT_OK;
}

static cohort_status rejoin_rank(void *context) {
    struct rank *rank = context;
    rank->state.n_rejoined++;
    return COHORT_OK;
}

static cohort_status execute(void *context, const void *payload, size_t size_bytes,
                             cohort_worker_reply *reply) {
    struct rank *rank = context;
    step todo;
    assert_int_equal(size_bytes, sizeof todo);
    memcpy(&todo, payload, sizeof todo);
    rank->state.n_steps++;
    atomic_fetch_add(&shared->in_step[rank->info->rank], 1);
    const void *masks;
    size_t masks_bytes;
    bool is_meant = todo.rank == rank->info->rank;
    if (todo.what == AWAIT_MASKS)
        COHORT_TRY(cohort_worker_await_masks(rank->info->worker, &masks, &masks_bytes));
    while (todo.what == STALL && is_meant)
        COHORT_TRY(cohort_worker_check(rank->info->worker));
    if (todo.what == OWN_ERROR && is_meant)
        return COHORT_FAIL(COHORT_E_DEVICE, "an error of its own");
    if (todo.what == LATE_IO && is_meant) {
        while (cohort_worker_check(rank->info->worker) == COHORT_OK)
            usleep(200);
        return COHORT_FAIL(COHORT_E_IO, "connection refused");
    }
    rank->state.sum = 1 + rank->info->rank;
    COHORT_TRY(cohort_all_reduce(rank->info->world_group, COHORT_I32, COHORT_SUM,
                                 &rank->state.sum, 1, COHORT_NEVER));
    rank->state.epoch = rank->info->epoch;
    memcpy(reply->bytes, &rank->state, sizeof rank->state);
    reply->size_bytes = sizeof rank->state;
    return COHORT_OK;
}

static cohort_status set_up_rank(void *context, const void *payload, size_t size_bytes,
                                 cohort_worker_reply *reply) {
    struct rank *rank = context;
    (void)payload;
    (void)size_bytes;
    (void)reply;
    rank->state.n_set_up++;
    return COHORT_OK;
}

static const cohort_worker_method methods[] = {{"set_up", set_up_rank}, {NULL, NULL}};
static const cohort_worker_ops ops = {.open = open_rank,
                                      .load = load_rank,
                                      .execute = execute,
                                      .rejoin = rejoin_rank,
                                      .methods = methods};

/* ---- the driver --------------------------------------------------------------- */

typedef struct seat {
    pid_t pid;
    cohort_link *control;
    cohort_queue *response;
    cohort_mesh_handle mesh;
    cohort_queue_handle response_handle;
} seat;

typedef struct world {
    uint64_t epoch, call;
    bool survives_peers;
    cohort_counters *counters;
    cohort_queue *broadcast;
    seat seats[WORLD];
    _Alignas(8) uint8_t bytes[COHORT_CONTROL_MAX_BYTES]; /* what came or goes */
} world;

static void tell(world *driver, int rank, cohort_frame frame) {
    frame.epoch = driver->epoch;
    frame.rank = rank;
    size_t size = cohort_frame_encode(&frame, driver->bytes);
    assert_int_equal(cohort_link_send_frame(driver->seats[rank].control, driver->bytes,
                                            size, patience()),
                     COHORT_OK);
}

/* The next frame of this epoch; what is said of an older one comes late. */
static cohort_frame hear(world *driver, int rank, cohort_frame_kind kind) {
    size_t size;
    cohort_frame frame;
    cohort_error error;
    do {
        assert_int_equal(cohort_link_recv_frame(driver->seats[rank].control,
                                                driver->bytes, sizeof driver->bytes,
                                                &size, patience()),
                         COHORT_OK);
        assert_int_equal(cohort_frame_decode(driver->bytes, size, &frame), COHORT_OK);
    } while (frame.epoch < driver->epoch && frame.kind != COHORT_FRAME_HELLO);
    if (frame.kind != kind)
        fail_msg("a %s frame of rank %d: %s", cohort_frame_kind_name(frame.kind), rank,
                 frame.kind == COHORT_FRAME_ERROR &&
                         cohort_frame_read_error(&frame, &error) >= 0
                     ? error.message
                     : "");
    return frame;
}

static void be_a_rank(world *driver, int fd) {
    const cohort_worker_options options = {.control_fd = fd, .ops = &ops};
    for (int r = 0; r < WORLD; r++) /* a process of its own has none of these */
        cohort_link_close(driver->seats[r].control);
    _exit(cohort_worker_run(&options) < 0);
}

static void start_rank(world *driver, int rank) {
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    driver->seats[rank].pid = fork();
    assert_true(driver->seats[rank].pid >= 0);
    if (driver->seats[rank].pid == 0) {
        close(fds[0]);
        be_a_rank(driver, fds[1]);
    }
    close(fds[1]);
    assert_int_equal(cohort_link_adopt(fds[0], &driver->seats[rank].control), COHORT_OK);
}

static void configure(world *driver, int rank) {
    static const char extension[] =
        COHORT_EXTENSION_KEY "=" COHORT_BUILD_DIR "/probe_extension.so:install";
    struct {
        cohort_frame_configure fixed;
        char text[sizeof extension];
    } body = {.fixed = {.rank = rank,
                        .tp = WORLD,
                        .pp = 1,
                        .local_rank = rank,
                        .local_world_size = WORLD,
                        .heartbeat_ns = 100000000,
                        .max_step_bytes = MESSAGE_BYTES,
                        .max_reply_bytes = MESSAGE_BYTES,
                        .n_config = 1,
                        .survives_peers = driver->survives_peers}};
    memcpy(body.text, extension, sizeof extension);
    int fd = cohort_counters_fd(driver->counters);
    hear(driver, rank, COHORT_FRAME_HELLO);
    tell(driver, rank,
         (cohort_frame){.kind = COHORT_FRAME_CONFIGURE,
                        .body = &body,
                        .body_bytes = sizeof body.fixed + sizeof extension});
    assert_int_equal(
        cohort_link_send_fds(driver->seats[rank].control, &fd, 1, patience()), COHORT_OK);
}

static void hear_ends(world *driver) {
    for (int r = 0; r < WORLD; r++) {
        cohort_frame_publish publish;
        cohort_frame frame = hear(driver, r, COHORT_FRAME_PUBLISH);
        assert_int_equal(cohort_frame_read_publish(&frame, &publish), COHORT_OK);
        driver->seats[r].mesh = publish.mesh;
        driver->seats[r].response_handle = publish.response_queue;
    }
}

static void tell_table(world *driver, int rank) {
    struct {
        cohort_frame_table table;
        cohort_mesh_handle meshes[WORLD];
    } body = {.table.world_size = WORLD};
    cohort_queue_export(driver->broadcast, &body.table.broadcast_queue);
    for (int r = 0; r < WORLD; r++)
        body.meshes[r] = driver->seats[r].mesh;
    tell(driver, rank,
         (cohort_frame){
             .kind = COHORT_FRAME_TABLE, .body = &body, .body_bytes = sizeof body});
}

static void open_broadcast(world *driver) {
    cohort_queue_options options =
        cohort_worker_queue_options("broadcast", MESSAGE_BYTES, WORLD);
    assert_int_equal(cohort_queue_create(&options, &driver->broadcast), COHORT_OK);
}

static void connect_all(world *driver) {
    open_broadcast(driver);
    for (int r = 0; r < WORLD; r++)
        tell_table(driver, r);
    assert_int_equal(cohort_queue_wait_ready(driver->broadcast, patience()), COHORT_OK);
    for (int r = 0; r < WORLD; r++) {
        seat *at = &driver->seats[r];
        assert_int_equal(cohort_queue_attach(&at->response_handle, 0, &at->response),
                         COHORT_OK);
        assert_int_equal(cohort_queue_wait_ready(at->response, patience()), COHORT_OK);
    }
    for (int r = 0; r < WORLD; r++)
        hear(driver, r, COHORT_FRAME_CONNECTED);
}

static void tell_load(world *driver, int rank) {
    _Alignas(8) uint8_t body[256];
    const cohort_frame call = {.kind = COHORT_FRAME_RPC, .method = "set_up"};
    tell(driver, rank,
         (cohort_frame){.kind = COHORT_FRAME_LOAD,
                        .body = body,
                        .body_bytes = cohort_frame_nest(&call, body)});
}

static void load_all(world *driver) {
    for (int r = 0; r < WORLD; r++)
        tell_load(driver, r);
    for (int r = 0; r < WORLD; r++)
        hear(driver, r, COHORT_FRAME_READY);
}

static void join_all(world *driver) {
    hear_ends(driver);
    connect_all(driver);
    load_all(driver);
}

static void close_queues(world *driver) {
    for (int r = 0; r < WORLD; r++) {
        cohort_queue_close(driver->seats[r].response);
        driver->seats[r].response = NULL;
    }
    cohort_queue_close(driver->broadcast);
    driver->broadcast = NULL;
}

static void broadcast(world *driver, cohort_frame frame) {
    _Alignas(8) uint8_t bytes[256];
    frame.epoch = driver->epoch;
    frame.call = ++driver->call;
    size_t size = cohort_frame_encode(&frame, bytes);
    assert_int_equal(cohort_queue_write(driver->broadcast, bytes, size, patience()),
                     COHORT_OK);
}

static void begin_step(world *driver, step todo) {
    for (int r = 0; r < WORLD; r++)
        atomic_store(&shared->in_step[r], 0);
    broadcast(driver, (cohort_frame){.kind = COHORT_FRAME_EXECUTE,
                                     .body = &todo,
                                     .body_bytes = sizeof todo});
}

static void await_in_step(int rank) {
    while (!atomic_load(&shared->in_step[rank]))
        usleep(100);
}

static answer sum(world *driver) {
    const void *bytes;
    size_t size;
    cohort_frame reply;
    answer got;
    begin_step(driver, (step){.what = SUM});
    assert_int_equal(
        cohort_queue_read_begin(driver->seats[0].response, patience(), &bytes, &size),
        COHORT_OK);
    assert_int_equal(cohort_frame_decode(bytes, size, &reply), COHORT_OK);
    assert_int_equal(reply.epoch, driver->epoch);
    assert_int_equal(reply.call, driver->call);
    assert_int_equal(reply.body_bytes, sizeof got);
    memcpy(&got, reply.body, sizeof got);
    cohort_queue_read_end(driver->seats[0].response);
    assert_int_equal(got.sum, 3);
    assert_int_equal(got.epoch, driver->epoch);
    return got;
}

/* What the ranks' extension knows of epochs. */
static void expect_epochs(world *driver, int rank, const char *expected) {
    const void *bytes;
    size_t size;
    cohort_frame reply;
    broadcast(
        driver,
        (cohort_frame){.kind = COHORT_FRAME_RPC, .rank = rank, .method = "ext_epochs"});
    assert_int_equal(
        cohort_queue_read_begin(driver->seats[rank].response, patience(), &bytes, &size),
        COHORT_OK);
    assert_int_equal(cohort_frame_decode(bytes, size, &reply), COHORT_OK);
    assert_int_equal(reply.body_bytes, strlen(expected));
    assert_memory_equal(reply.body, expected, strlen(expected));
    cohort_queue_read_end(driver->seats[rank].response);
}

static void begin_epoch(world *driver) {
    driver->epoch++;
    for (int r = 0; r < WORLD; r++)
        tell(driver, r, (cohort_frame){.kind = COHORT_FRAME_REJOIN});
}

static void kill_rank(world *driver, int rank) {
    assert_int_equal(kill(driver->seats[rank].pid, SIGKILL), 0);
    assert_int_equal(waitpid(driver->seats[rank].pid, NULL, 0), driver->seats[rank].pid);
    cohort_link_close(driver->seats[rank].control);
    driver->seats[rank].control = NULL;
}

/* A rank takes the place of one that was killed; the other lives on. */
static void replace(world *driver, int dead) {
    driver->epoch++;
    tell(driver, !dead, (cohort_frame){.kind = COHORT_FRAME_REJOIN});
    close_queues(driver);
    start_rank(driver, dead);
    configure(driver, dead);
    join_all(driver);
}

static int set_up(void **state) {
    static world driver;
    const cohort_counters_options options = {
        .backend = "test", .tp = WORLD, .pp = 1, .n_rows = WORLD};
    memset(&driver, 0, sizeof driver);
    memset(shared, 0, sizeof *shared);
    *state = &driver;
    driver.epoch = FIRST_EPOCH;
    driver.survives_peers = true;
    assert_int_equal(cohort_counters_create(&options, &driver.counters), COHORT_OK);
    for (int r = 0; r < WORLD; r++)
        start_rank(&driver, r);
    return 0;
}

/* Whatever happened, the ranks that are left end in order. */
static int tear_down(void **state) {
    world *driver = *state;
    int failed = 0, ended;
    for (int r = 0; r < WORLD; r++) {
        if (!driver->seats[r].control) continue;
        tell(driver, r, (cohort_frame){.kind = COHORT_FRAME_STOP});
        waitpid(driver->seats[r].pid, &ended, 0);
        failed |= !WIFEXITED(ended) || WEXITSTATUS(ended);
        cohort_link_close(driver->seats[r].control);
    }
    close_queues(driver);
    cohort_counters_close(driver->counters);
    return failed;
}

static void join_first(world *driver) {
    for (int r = 0; r < WORLD; r++)
        configure(driver, r);
    join_all(driver);
}

/* ---- the tests ---------------------------------------------------------------- */

static void a_rank_lives_on_with_what_it_has_when_its_peer_is_killed(void **state) {
    world *driver = *state;
    cohort_error error;
    join_first(driver);
    assert_int_equal(sum(driver).n_set_up, 1);
    begin_step(driver, (step){.what = STALL, .rank = 1});
    await_in_step(1);
    kill_rank(driver, 1);
    cohort_frame frame = hear(driver, 0, COHORT_FRAME_ERROR);
    assert_int_equal(cohort_frame_read_error(&frame, &error), COHORT_OK);
    assert_int_equal(error.code, COHORT_E_PEER_DIED);
    assert_int_equal(error.rank, 1);
    replace(driver, 1);
    answer got = sum(driver);
    assert_int_equal(got.n_opened, 1);
    assert_int_equal(got.n_loaded, 1);
    assert_int_equal(got.n_rejoined, 1);
    assert_int_equal(got.n_set_up, 1);
    assert_int_equal(got.n_steps, 3);
    expect_epochs(driver, 0, "installed in 5, lives in 6");
    expect_epochs(driver, 1, "installed in 6, lives in 6");
    kill_rank(driver, 0); /* idle, and the other way round: the output rank is new */
    replace(driver, 0);
    got = sum(driver);
    assert_int_equal(got.n_loaded, 1);
    assert_int_equal(got.n_rejoined, 0);
    assert_int_equal(got.n_set_up, 1); /* in its load */
    assert_int_equal(got.n_steps, 1);
}

static void an_error_of_its_own_ends_a_rank_all_the_same(void **state) {
    world *driver = *state;
    cohort_error error;
    int ended;
    join_first(driver);
    begin_step(driver, (step){.what = OWN_ERROR, .rank = 1});
    cohort_frame frame = hear(driver, 1, COHORT_FRAME_ERROR);
    assert_int_equal(cohort_frame_read_error(&frame, &error), COHORT_OK);
    assert_string_equal(error.message, "an error of its own");
    waitpid(driver->seats[1].pid, &ended, 0);
    assert_int_equal(WEXITSTATUS(ended), 1);
    cohort_link_close(driver->seats[1].control);
    driver->seats[1].control = NULL;
    replace(driver, 1);
    assert_int_equal(sum(driver).n_rejoined, 1);
}

static void without_leave_to_live_on_a_rank_ends_with_its_peer(void **state) {
    world *driver = *state;
    int ended;
    driver->survives_peers = false;
    join_first(driver);
    begin_step(driver, (step){.what = STALL, .rank = 1});
    await_in_step(0);
    kill_rank(driver, 1);
    hear(driver, 0, COHORT_FRAME_ERROR);
    waitpid(driver->seats[0].pid, &ended, 0);
    assert_int_equal(WEXITSTATUS(ended), 1);
    cohort_link_close(driver->seats[0].control);
    driver->seats[0].control = NULL;
}

/* The driver gave the peer up, which lives on and says nothing: no link of it ends. */
static void poison_ends_a_wait_for_a_peer_that_lives(void **state) {
    world *driver = *state;
    const cohort_error error = {
        .code = COHORT_E_PEER_DIED, .rank = 1, .message = "rank 1 was given up"};
    int ended;
    driver->survives_peers = false;
    join_first(driver);
    begin_step(driver, (step){.what = STALL, .rank = 1});
    await_in_step(0);
    tell(driver, 0,
         (cohort_frame){
             .kind = COHORT_FRAME_POISON, .body = &error, .body_bytes = sizeof error});
    waitpid(driver->seats[0].pid, &ended, 0);
    assert_int_equal(WEXITSTATUS(ended), 1);
    cohort_link_close(driver->seats[0].control);
    driver->seats[0].control = NULL;
    kill_rank(driver, 1);
}

static void stop_ends_a_rank_that_waits_for_an_epoch(void **state) {
    world *driver = *state;
    join_first(driver);
    kill_rank(driver, 1);
    begin_step(driver, (step){.what = SUM});
    hear(driver, 0, COHORT_FRAME_ERROR); /* tear_down stops it */
}

static void come_back(world *driver) {
    begin_epoch(driver);
    close_queues(driver);
    join_all(driver);
    sum(driver);
}

static void an_epoch_takes_ranks_out_of_any_step(void **state) {
    world *driver = *state;
    const cohort_frame echo = {
        .kind = COHORT_FRAME_RPC, .rank = COHORT_ALL_RANKS, .method = "noop"};
    join_first(driver);
    begin_step(driver, (step){.what = STALL, .rank = 0}); /* and 1 in a collective */
    await_in_step(0);
    await_in_step(1);
    come_back(driver);
    begin_step(driver, (step){.what = AWAIT_MASKS});
    await_in_step(0);
    come_back(driver);
    /* Replies that nobody takes: the ranks wait for room. */
    for (int i = 0; i < 2 * COHORT_WORKER_QUEUE_MESSAGES; i++)
        broadcast(driver, echo);
    come_back(driver);
    come_back(driver);                                      /* idle */
    begin_step(driver, (step){.what = LATE_IO, .rank = 0}); /* of whom the epoch is for */
    await_in_step(0);
    come_back(driver);
    assert_int_equal(sum(driver).n_rejoined, 5);
}

static void an_epoch_takes_ranks_out_of_any_phase(void **state) {
    world *driver = *state;
    begin_epoch(driver); /* overtakes their configuration */
    for (int r = 0; r < WORLD; r++)
        configure(driver, r);
    begin_epoch(driver); /* they publish, or have not begun to */
    hear_ends(driver);
    begin_epoch(driver); /* they wait for the table */
    hear_ends(driver);
    open_broadcast(driver);
    tell_table(driver, 0); /* rank 0 waits for its peer */
    begin_epoch(driver);
    close_queues(driver);
    hear_ends(driver);
    open_broadcast(driver);
    tell_table(driver, 1); /* rank 1 waits to be let in by its peer */
    begin_epoch(driver);
    close_queues(driver);
    hear_ends(driver);
    connect_all(driver);
    begin_epoch(driver); /* they wait for the load */
    close_queues(driver);
    hear_ends(driver);
    connect_all(driver);
    atomic_store(&shared->stalls_load, true);
    for (int r = 0; r < WORLD; r++)
        tell_load(driver, r);
    while (atomic_load(&shared->n_loading) < WORLD)
        usleep(100);
    begin_epoch(driver); /* they load */
    close_queues(driver);
    hear_ends(driver);
    atomic_store(&shared->stalls_load, false);
    connect_all(driver);
    load_all(driver);
    answer got = sum(driver);
    assert_int_equal(got.n_loaded, 2);
    assert_int_equal(got.n_rejoined, 0);
    assert_int_equal(got.n_set_up, 1);
}

static int count_descriptors(pid_t pid) {
    char path[32];
    int n = 0;
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *folder = opendir(path);
    assert_non_null(folder);
    while (readdir(folder))
        n++;
    closedir(folder);
    return n;
}

static void a_hundred_epochs_leave_no_descriptor(void **state) {
    world *driver = *state;
    join_first(driver);
    come_back(driver);
    int before[WORLD + 1] = {[WORLD] = count_descriptors(getpid())};
    for (int r = 0; r < WORLD; r++)
        before[r] = count_descriptors(driver->seats[r].pid);
    for (int i = 0; i < 100; i++) {
        if (i % 2) begin_step(driver, (step){.what = STALL, .rank = i / 2 % WORLD});
        come_back(driver);
    }
    for (int r = 0; r < WORLD; r++)
        assert_int_equal(count_descriptors(driver->seats[r].pid), before[r]);
    assert_int_equal(count_descriptors(getpid()), before[WORLD]);
}

int main(void) {
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) return 1;
    signal(SIGPIPE, SIG_IGN);
#define RANKS(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        RANKS(a_rank_lives_on_with_what_it_has_when_its_peer_is_killed),
        RANKS(an_error_of_its_own_ends_a_rank_all_the_same),
        RANKS(without_leave_to_live_on_a_rank_ends_with_its_peer),
        RANKS(poison_ends_a_wait_for_a_peer_that_lives),
        RANKS(stop_ends_a_rank_that_waits_for_an_epoch),
        RANKS(an_epoch_takes_ranks_out_of_any_step),
        RANKS(an_epoch_takes_ranks_out_of_any_phase),
        RANKS(a_hundred_epochs_leave_no_descriptor),
    };
#undef RANKS
    return cmocka_run_group_tests(tests, NULL, NULL);
}
