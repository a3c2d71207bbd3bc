/* SPDX-License-Identifier: Apache-2.0 */
/* A rank that sleeps on its doorbell is woken by whatever it may wait for.  The longest
 * sleep, which would hide a lost wake, is set to never. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "cohort/clock.h"
#include "collective/mesh.h"
#include "sleeper.h"

/* Who is not woken sleeps for the first; who is takes less than the second. */
enum { LOST_MS = 15000, WOKEN_MS = 10000, RANKS = 3 };

typedef struct rank_at {
    cohort_mesh *mesh;
    cohort_group *group;
    const cohort_mesh_handle *handles;
} rank_at;

static void *connect_rank(void *argument) {
    rank_at *at = argument;
    const int32_t ranks[RANKS] = {0, 1, 2};
    assert_int_equal(
        cohort_mesh_connect(at->mesh, at->handles, cohort_deadline_ms(LOST_MS)),
        COHORT_OK);
    assert_int_equal(cohort_group_open(at->mesh, ranks, RANKS, &at->group), COHORT_OK);
    return NULL;
}

static void open_ranks(rank_at *all) {
    static cohort_mesh_handle handles[RANKS];
    pthread_t threads[RANKS];
    for (int32_t r = 0; r < RANKS; r++) {
        const cohort_mesh_options options = {.rank = r, .world_size = RANKS};
        all[r] = (rank_at){.handles = handles};
        assert_int_equal(cohort_mesh_open(&options, &all[r].mesh), COHORT_OK);
        assert_int_equal(cohort_mesh_export(all[r].mesh, &handles[r]), COHORT_OK);
        all[r].mesh->longest_sleep_ms = INT32_MAX;
    }
    for (int32_t r = 0; r < RANKS; r++)
        pthread_create(&threads[r], NULL, connect_rank, &all[r]);
    for (int32_t r = 0; r < RANKS; r++)
        pthread_join(threads[r], NULL);
}

static void close_ranks(rank_at *all) {
    for (int32_t r = 0; r < RANKS; r++)
        cohort_mesh_close(all[r].mesh);
}

typedef enum deed { RECEIVES, SENDS, REDUCES, MEETS } deed;

typedef struct sleeper {
    rank_at *at;
    deed deed;
    int32_t peer;
    pthread_t thread;
    _Atomic pid_t tid;
    cohort_status status;
    int32_t named;
    int64_t slept_ns;
} sleeper;

enum { LARGE = 3 * COHORT_PIPE_BYTES };

static cohort_status act(rank_at *at, deed what, int32_t peer) {
    static uint8_t sent[LARGE];
    int64_t deadline_ns = cohort_deadline_ms(LOST_MS);
    float value[2] = {1, 2};
    if (what == SENDS) return cohort_send(at->group, peer, sent, LARGE, deadline_ns);
    if (what == RECEIVES)
        return cohort_recv(at->group, peer, value, sizeof value, deadline_ns);
    if (what == REDUCES)
        return cohort_all_reduce(at->group, COHORT_F32, COHORT_SUM, value, 2,
                                 deadline_ns);
    return cohort_barrier(at->group, deadline_ns);
}

static void *sleep_in_call(void *argument) {
    sleeper *self = argument;
    atomic_store(&self->tid, gettid());
    int64_t begin_ns = cohort_clock_ns();
    self->status = act(self->at, self->deed, self->peer);
    self->named = cohort_last_error()->rank;
    self->slept_ns = cohort_clock_ns() - begin_ns;
    return NULL;
}

static void fall_asleep(sleeper *self, rank_at *at, deed what, int32_t peer) {
    *self = (sleeper){.at = at, .deed = what, .peer = peer};
    assert_int_equal(pthread_create(&self->thread, NULL, sleep_in_call, self), 0);
    while (!atomic_load(&self->tid))
        sched_yield();
    sleeper_await(self->tid, SYS_poll);
}

static void expect_woken(sleeper *self, cohort_status status) {
    pthread_join(self->thread, NULL);
    assert_int_equal(self->status, status);
    assert_true(self->slept_ns < WOKEN_MS * INT64_C(1000000));
}

static void receiver_is_woken_by_a_message(void **state) {
    (void)state;
    rank_at all[RANKS];
    sleeper receiver;
    float value[2] = {3, 4};
    open_ranks(all);
    for (int round = 0; round < 20; round++) {
        fall_asleep(&receiver, &all[0], RECEIVES, 2);
        assert_int_equal(cohort_send(all[2].group, 0, value, sizeof value,
                                     cohort_deadline_ms(LOST_MS)),
                         COHORT_OK);
        expect_woken(&receiver, COHORT_OK);
    }
    close_ranks(all);
}

static void sender_is_woken_by_room_in_the_pipe(void **state) {
    (void)state;
    rank_at all[RANKS];
    sleeper sender;
    uint8_t *bytes = malloc(LARGE);
    open_ranks(all);
    fall_asleep(&sender, &all[0], SENDS, 2);
    assert_int_equal(
        cohort_recv(all[2].group, 0, bytes, LARGE, cohort_deadline_ms(LOST_MS)),
        COHORT_OK);
    expect_woken(&sender, COHORT_OK);
    free(bytes);
    close_ranks(all);
}

/* All but the last sleep: it wakes them. */
static void group_is_woken_by_the_last_that_comes(deed what) {
    rank_at all[RANKS];
    sleeper sleepers[RANKS - 1];
    open_ranks(all);
    for (int round = 0; round < 20; round++) {
        for (int32_t r = 0; r < RANKS - 1; r++)
            fall_asleep(&sleepers[r], &all[(r + round) % RANKS], what, 0);
        assert_int_equal(act(&all[(RANKS - 1 + round) % RANKS], what, 0), COHORT_OK);
        for (int32_t r = 0; r < RANKS - 1; r++)
            expect_woken(&sleepers[r], COHORT_OK);
    }
    close_ranks(all);
}

static void reducing_ranks_are_woken_by_the_last(void **state) {
    (void)state;
    group_is_woken_by_the_last_that_comes(REDUCES);
}

static void meeting_ranks_are_woken_by_the_last(void **state) {
    (void)state;
    group_is_woken_by_the_last_that_comes(MEETS);
}

static void sleeper_is_woken_by_poison(void **state) {
    (void)state;
    rank_at all[RANKS];
    sleeper receiver;
    cohort_error poison = {.code = COHORT_E_DEVICE, .rank = 1, .message = "spoilt"};
    open_ranks(all);
    fall_asleep(&receiver, &all[0], RECEIVES, 2);
    cohort_mesh_poison(all[0].mesh, &poison);
    expect_woken(&receiver, COHORT_E_DEVICE);
    close_ranks(all);
}

static void sleeper_is_woken_by_a_peer_that_closes(void **state) {
    (void)state;
    rank_at all[RANKS];
    sleeper receiver;
    open_ranks(all);
    fall_asleep(&receiver, &all[0], RECEIVES, 2);
    cohort_mesh_close(all[2].mesh);
    all[2].mesh = NULL;
    expect_woken(&receiver, COHORT_E_PEER_DIED);
    assert_int_equal(receiver.named, 2);
    close_ranks(all);
}

/* The third in a row names who is to blame, not the messenger: 0 waits for 1, which gave
 * up because of 2. */
static void third_rank_names_the_culprit(void **state) {
    (void)state;
    rank_at all[RANKS];
    sleeper receiver;
    open_ranks(all);
    fall_asleep(&receiver, &all[0], RECEIVES, 1);
    cohort_error poison = {.code = COHORT_E_PEER_DIED, .rank = 2, .message = "died"};
    cohort_mesh_poison(all[1].mesh, &poison);
    assert_int_equal(act(&all[1], RECEIVES, 2), COHORT_E_PEER_DIED);
    cohort_mesh_close(all[1].mesh);
    all[1].mesh = NULL;
    expect_woken(&receiver, COHORT_E_PEER_DIED);
    assert_int_equal(receiver.named, 2);
    close_ranks(all);
}

/* Who was woken is not asleep: rings would each cost a system call. */
static void nobody_is_asleep_afterwards(void **state) {
    (void)state;
    rank_at all[RANKS];
    sleeper receiver;
    float value[2] = {3, 4};
    open_ranks(all);
    fall_asleep(&receiver, &all[0], RECEIVES, 2);
    assert_int_equal(atomic_load(&all[0].mesh->outbox->asleep), 1);
    assert_int_equal(cohort_mesh_waiting_on(all[0].mesh), 2);
    assert_int_equal(
        cohort_send(all[2].group, 0, value, sizeof value, cohort_deadline_ms(LOST_MS)),
        COHORT_OK);
    expect_woken(&receiver, COHORT_OK);
    assert_int_equal(atomic_load(&all[0].mesh->outbox->asleep), 0);
    assert_int_equal(cohort_mesh_waiting_on(all[0].mesh), COHORT_RANK_LOCAL);
    close_ranks(all);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(receiver_is_woken_by_a_message),
        cmocka_unit_test(sender_is_woken_by_room_in_the_pipe),
        cmocka_unit_test(reducing_ranks_are_woken_by_the_last),
        cmocka_unit_test(meeting_ranks_are_woken_by_the_last),
        cmocka_unit_test(sleeper_is_woken_by_poison),
        cmocka_unit_test(sleeper_is_woken_by_a_peer_that_closes),
        cmocka_unit_test(third_rank_names_the_culprit),
        cmocka_unit_test(nobody_is_asleep_afterwards),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
