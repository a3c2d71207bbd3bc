/* SPDX-License-Identifier: Apache-2.0 */
/* A world of one rank whose driver says what none should: this file is the driver. */
#include <pthread.h>

#include "rank_driver.h"

static cohort_status open_nothing(const cohort_worker_info *info, void **out_context) {
    (void)info;
    *out_context = NULL;
    return COHORT_OK;
}

static cohort_status load_nothing(void *context) {
    (void)context;
    return COHORT_OK;
}

static const cohort_worker_ops ops = {.open = open_nothing, .load = load_nothing};

typedef struct world {
    cohort_worker_options options;
    pthread_t rank;
    cohort_status ended;
    rank_driver driver;
} world;

static void *rank_main(void *argument) {
    world *self = argument;
    self->ended = cohort_worker_run(&self->options);
    return NULL;
}

static int set_up(void **state) {
    static world self;
    memset(&self, 0, sizeof self);
    *state = &self;
    open_counters(&self.driver);
    self.options =
        (cohort_worker_options){.control_fd = open_control(&self.driver), .ops = &ops};
    assert_int_equal(pthread_create(&self.rank, NULL, rank_main, &self), 0);
    configure(&self.driver, (cohort_frame_configure){0}, NULL, 0);
    connect_queues(&self.driver);
    tell(&self.driver, (cohort_frame){.kind = COHORT_FRAME_LOAD});
    hear(&self.driver, COHORT_FRAME_READY);
    return 0;
}

static int tear_down(void **state) {
    world *self = *state;
    close_links(&self->driver);
    cohort_counters_close(self->driver.counters);
    return 0;
}

static void call(world *self, uint64_t number, uint64_t epoch) {
    cohort_frame frame = {.kind = COHORT_FRAME_RPC,
                          .rank = COHORT_ALL_RANKS,
                          .epoch = epoch,
                          .call = number,
                          .method = "noop"};
    size_t size = cohort_frame_encode(&frame, self->driver.bytes);
    assert_int_equal(
        cohort_queue_write(self->driver.broadcast, self->driver.bytes, size, patience()),
        COHORT_OK);
}

static void late_call_of_an_older_epoch_is_dropped(void **state) {
    world *self = *state;
    cohort_counters_row *row = cohort_counters_row_of(self->driver.counters, 0);
    const void *bytes;
    size_t size;
    cohort_frame reply;
    call(self, 1, EPOCH - 1);
    call(self, 2, EPOCH);
    assert_int_equal(
        cohort_queue_read_begin(self->driver.response, patience(), &bytes, &size),
        COHORT_OK);
    assert_int_equal(cohort_frame_decode(bytes, size, &reply), COHORT_OK);
    assert_int_equal(reply.call, 2);
    assert_int_equal(reply.status, COHORT_OK);
    assert_int_equal(reply.epoch, EPOCH);
    cohort_queue_read_end(self->driver.response);
    assert_int_equal(row->rpcs, 1);
    assert_int_equal(row->errors, 1);
    assert_string_equal(row->text, "a late call of an older epoch");
    tell(&self->driver, (cohort_frame){.kind = COHORT_FRAME_STOP});
    pthread_join(self->rank, NULL);
    assert_int_equal(self->ended, COHORT_OK);
}

/* With nothing to do, it still says that it lives. */
static void idle_rank_beats(void **state) {
    world *self = *state;
    cohort_counters_row *row = cohort_counters_row_of(self->driver.counters, 0);
    int64_t first_ns = cohort_clock_ns(), until_ns = patience();
    while (atomic_load(&row->heartbeat_ns) <= first_ns && cohort_clock_ns() < until_ns)
        usleep(1000);
    assert_true(atomic_load(&row->heartbeat_ns) > first_ns);
    tell(&self->driver, (cohort_frame){.kind = COHORT_FRAME_STOP});
    pthread_join(self->rank, NULL);
    assert_int_equal(self->ended, COHORT_OK);
}

/* Slots are as large as a message, up to a bound: long ones are not cut into many. */
static void slots_fit_their_messages(void **state) {
    (void)state;
    static const struct {
        size_t message;
        uint32_t slot;
    } cases[] = {{1, 4096}, {3900, 4096}, {4096, 8192}, {20000, 32768}, {1 << 20, 32768}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(
            cohort_worker_queue_options("test", cases[i].message, 1).chunk_bytes,
            cases[i].slot);
}

/* The world has gone on without this rank. */
static void call_of_a_newer_epoch_ends_the_rank(void **state) {
    world *self = *state;
    cohort_error error;
    call(self, 1, EPOCH + 1);
    cohort_frame frame = hear(&self->driver, COHORT_FRAME_ERROR);
    assert_int_equal(cohort_frame_read_error(&frame, &error), COHORT_OK);
    assert_non_null(strstr(error.message, "a call of epoch 6 in epoch 5"));
    pthread_join(self->rank, NULL);
    assert_int_equal(self->ended, COHORT_E_PROTOCOL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(late_call_of_an_older_epoch_is_dropped, set_up,
                                        tear_down),
        cmocka_unit_test(slots_fit_their_messages),
        cmocka_unit_test_setup_teardown(idle_rank_beats, set_up, tear_down),
        cmocka_unit_test_setup_teardown(call_of_a_newer_epoch_ends_the_rank, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
