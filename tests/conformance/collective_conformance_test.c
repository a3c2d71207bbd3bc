/* SPDX-License-Identifier: Apache-2.0 */
/* One suite for every way that ranks can be joined; see mesh_world.h. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/random.h"
#include "link/link.h"
#include "mesh_world.h"

static float value_of(int32_t rank, size_t i) {
    return (float)(cohort_random_unit((uint64_t)rank + 1, i) * 2 - 1);
}

static uint16_t bf16_of(float value) {
    uint32_t word;
    memcpy(&word, &value, sizeof word);
    return (uint16_t)((word + 0x7fff + ((word >> 16) & 1)) >> 16);
}

static float float_of(uint16_t bits) {
    uint32_t word = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &word, sizeof value);
    return value;
}

/* ---- what the operations compute --------------------------------------------------- */

static const size_t counts[] = {0, 1, 7, 1024, 16385, 65537, 300001};

static int sums_floats(world_member *self) {
    float *own = malloc(sizeof(float) * 300001);
    CHECK(own);
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        for (size_t i = 0; i < counts[c]; i++)
            own[i] = value_of(self->rank, i);
        CHECK(!cohort_all_reduce(self->group, COHORT_F32, COHORT_SUM, own, counts[c],
                                 world_soon()));
        for (size_t i = 0; i < counts[c]; i++) {
            float expected = value_of(0, i); /* in rank order: the same bits everywhere */
            for (int32_t r = 1; r < self->size; r++)
                expected += value_of(r, i);
            CHECK(own[i] == expected);
        }
    }
    free(own);
    return 0;
}

static void all_reduce_adds_in_rank_order(void **state) {
    (void)state;
    world_play_all(sums_floats);
}

enum { ODD = 40009 };

static int reduces_other_types(world_member *self) {
    static _Thread_local uint16_t halves[2][ODD];
    static _Thread_local int32_t numbers[2][ODD];
    static _Thread_local float floats[ODD];
    for (size_t i = 0; i < ODD; i++) {
        halves[0][i] = halves[1][i] = bf16_of(value_of(self->rank, i));
        numbers[0][i] = (int32_t)cohort_random_u64((uint64_t)self->rank, i);
        numbers[1][i] = numbers[0][i];
        floats[i] = value_of(self->rank, i);
    }
    cohort_group *group = self->group;
    CHECK(
        !cohort_all_reduce(group, COHORT_BF16, COHORT_SUM, halves[0], ODD, world_soon()));
    CHECK(
        !cohort_all_reduce(group, COHORT_BF16, COHORT_MAX, halves[1], ODD, world_soon()));
    CHECK(
        !cohort_all_reduce(group, COHORT_I32, COHORT_SUM, numbers[0], ODD, world_soon()));
    CHECK(
        !cohort_all_reduce(group, COHORT_I32, COHORT_MAX, numbers[1], ODD, world_soon()));
    CHECK(!cohort_all_reduce(group, COHORT_F32, COHORT_MAX, floats, ODD, world_soon()));
    for (size_t i = 0; i < ODD; i++) {
        float sum = 0, most = value_of(0, i), most_half = float_of(bf16_of(most));
        uint32_t number = 0;
        int32_t greatest = INT32_MIN;
        for (int32_t r = 0; r < self->size; r++) {
            float value = value_of(r, i), half = float_of(bf16_of(value));
            int32_t integer = (int32_t)cohort_random_u64((uint64_t)r, i);
            sum += half;
            number += (uint32_t)integer;
            most = value > most ? value : most;
            most_half = half > most_half ? half : most_half;
            greatest = integer > greatest ? integer : greatest;
        }
        CHECK(halves[0][i] == bf16_of(sum));
        CHECK(float_of(halves[1][i]) == most_half);
        CHECK(numbers[0][i] == (int32_t)number);
        CHECK(numbers[1][i] == greatest);
        CHECK(floats[i] == most);
    }
    CHECK(cohort_all_reduce(group, COHORT_F16, COHORT_SUM, halves[0], ODD,
                            world_soon()) == COHORT_E_INVALID);
    return 0;
}

static void every_type_and_operation_reduces(void **state) {
    (void)state;
    world_play_all(reduces_other_types);
}

static int moves_bytes(world_member *self) {
    enum { PART = 150003 };
    int32_t n = self->size;
    size_t sizes[WORLD_MAX] = {0}, total = 0;
    for (int32_t r = 0; r < n; r++)
        total += sizes[r] = (size_t)(PART + 70000 * r) * (size_t)(r != 1);
    uint8_t *mine = malloc(sizes[self->rank] + 1), *all = malloc(total + 1);
    CHECK(mine && all);
    for (int32_t root = 0; root < n; root++) {
        bool gets = root == self->rank;
        memset(mine, 'a' + self->rank, sizes[self->rank]);
        memset(all, 0, total);
        CHECK(!cohort_gather(self->group, root, mine, sizes, gets ? all : NULL,
                             world_soon()));
        for (size_t r = 0, i = 0; gets && r < (size_t)n; r++)
            for (size_t j = 0; j < sizes[r]; j++, i++)
                CHECK(all[i] == 'a' + (int)r);
        memset(all, 0, total);
        CHECK(!cohort_all_gather(self->group, mine, sizes, all, world_soon()));
        for (size_t r = 0, i = 0; r < (size_t)n; r++)
            for (size_t j = 0; j < sizes[r]; j++, i++)
                CHECK(all[i] == 'a' + (int)r);
        memset(all, 'A' + self->rank, total);
        CHECK(!cohort_broadcast(self->group, root, all, total, world_soon()));
        for (size_t i = 0; i < total; i++)
            CHECK(all[i] == 'A' + root);
    }
    free(mine);
    free(all);
    return 0;
}

static void gathers_and_broadcasts_deliver(void **state) {
    (void)state;
    world_play_all(moves_bytes);
}

static int scatters(world_member *self) {
    enum { N = 50001 };
    int32_t n = self->size;
    float *send = malloc(sizeof(float) * N * (size_t)n), *got = malloc(sizeof(float) * N);
    CHECK(send && got);
    for (size_t i = 0; i < (size_t)n * N; i++)
        send[i] = value_of(self->rank, i);
    CHECK(!cohort_reduce_scatter(self->group, COHORT_F32, COHORT_SUM, send, got, N,
                                 world_soon()));
    for (size_t i = 0; i < N; i++) {
        size_t at = (size_t)self->rank * N + i;
        float expected = value_of(0, at);
        for (int32_t r = 1; r < n; r++)
            expected += value_of(r, at);
        CHECK(got[i] == expected);
    }
    free(send);
    free(got);
    return 0;
}

static void reduce_scatter_gives_each_its_part(void **state) {
    (void)state;
    world_play_all(scatters);
}

static int holds_a_barrier(world_member *self) {
    for (int32_t round = 1; round <= 50; round++) {
        atomic_fetch_add(&self->hall->stage, 1);
        CHECK(!cohort_barrier(self->group, world_soon()));
        CHECK(atomic_load(&self->hall->stage) >= round * self->size);
    }
    return 0;
}

static void nobody_leaves_a_barrier_before_all_came(void **state) {
    (void)state;
    world_play_all(holds_a_barrier);
}

/* Messages lie unread while collectives go on, then large ones pass in a circle. */
static int passes_messages(world_member *self) {
    enum { MESSAGE = 1 << 20, LARGE = 9 << 20 };
    uint8_t *bytes = malloc(LARGE);
    CHECK(bytes);
    int32_t next = (self->rank + 1) % self->size;
    int32_t before = (self->rank + self->size - 1) % self->size;
    if (self->size == 1) {
        CHECK(cohort_send(self->group, 0, bytes, 1, world_soon()) == COHORT_E_INVALID);
        free(bytes);
        return 0;
    }
    for (int i = 0; i < 2; i++) {
        memset(bytes, 10 * i + self->rank, MESSAGE);
        CHECK(!cohort_send(self->group, next, bytes, MESSAGE, world_soon()));
        CHECK(!cohort_barrier(self->group, world_soon()));
    }
    for (int i = 0; i < 2; i++) {
        CHECK(!cohort_recv(self->group, before, bytes, MESSAGE, world_soon()));
        CHECK(bytes[0] == 10 * i + before && bytes[MESSAGE - 1] == 10 * i + before);
    }
    memset(bytes, self->rank, LARGE);
    if (self->rank == 0)
        CHECK(!cohort_send(self->group, next, bytes, LARGE, world_soon()));
    CHECK(!cohort_recv(self->group, before, bytes, LARGE, world_soon()));
    CHECK(bytes[0] == before && bytes[LARGE - 1] == before);
    memset(bytes, self->rank, LARGE);
    if (self->rank != 0)
        CHECK(!cohort_send(self->group, next, bytes, LARGE, world_soon()));
    free(bytes);
    return 0;
}

static void messages_pass_in_order(void **state) {
    (void)state;
    world_play_all(passes_messages);
}

static int gathers_large_both_ways(world_member *self) {
    enum { LARGE = 6 << 20 };
    size_t sizes[WORLD_MAX] = {LARGE, LARGE, LARGE, LARGE};
    uint8_t *mine = malloc(LARGE), *all = malloc((size_t)self->size * LARGE);
    CHECK(mine && all);
    memset(mine, 'a' + self->rank, LARGE);
    CHECK(!cohort_all_gather(self->group, mine, sizes, all, world_soon()));
    for (int32_t r = 0; r < self->size; r++)
        for (size_t i = 0; i < LARGE; i += 4093)
            CHECK(all[(size_t)r * LARGE + i] == 'a' + r);
    free(mine);
    free(all);
    return 0;
}

static void large_exchanges_never_lock_up(void **state) {
    (void)state;
    for (world_layout layout = 0; layout < LAYOUTS; layout++)
        world_play(layout, PROCESSES, 3, gathers_large_both_ways);
}

/* ---- random sequences against a scalar model --------------------------------------- */

enum { MOST_ITEMS = 50000, OPERATIONS = 120 };

typedef struct sequence {
    world_member *self;
    cohort_group *groups[2]; /* all in order; all but the first, backwards */
    int32_t ranks[2][WORLD_MAX];
    int32_t sizes[2], own[2]; /* own: rank in the group, -1: no member */
    uint64_t draws;
    float *values, *result;
    int32_t unread; /* messages from the rank before */
} sequence;

static uint64_t draw(sequence *seq, uint64_t below) {
    return cohort_random_u64(seq->self->hall->seed, seq->draws++) % below;
}

static float sequence_value(int32_t rank, int op, size_t i) {
    return value_of(rank, (size_t)op * 1000003 + i);
}

static int random_reduction(sequence *seq, int op, int g, size_t count, bool scatter) {
    world_member *self = seq->self;
    cohort_reduce_op how = draw(seq, 4) ? COHORT_SUM : COHORT_MAX;
    if (seq->own[g] < 0) return 0;
    size_t parts = scatter ? (size_t)seq->sizes[g] : 1, n = count / parts;
    size_t base = scatter ? (size_t)seq->own[g] * n : 0;
    for (size_t i = 0; i < parts * n; i++)
        seq->values[i] = sequence_value(self->rank, op, i);
    float *result = scatter ? seq->result : seq->values;
    if (scatter)
        CHECK(!cohort_reduce_scatter(seq->groups[g], COHORT_F32, how, seq->values, result,
                                     n, world_soon()));
    else
        CHECK(
            !cohort_all_reduce(seq->groups[g], COHORT_F32, how, result, n, world_soon()));
    for (size_t i = 0; i < n; i++) {
        float expected = sequence_value(seq->ranks[g][0], op, base + i);
        for (int32_t r = 1; r < seq->sizes[g]; r++) {
            float value = sequence_value(seq->ranks[g][r], op, base + i);
            expected = how == COHORT_SUM  ? expected + value
                       : value > expected ? value
                                          : expected;
        }
        CHECK(result[i] == expected);
    }
    return 0;
}

static int random_gather(sequence *seq, int op, int g, size_t count, bool rooted) {
    world_member *self = seq->self;
    int32_t n = seq->sizes[g], root = (int32_t)draw(seq, (uint64_t)n);
    size_t sizes[WORLD_MAX] = {0}, at = 0;
    for (int32_t r = 0; r < n; r++)
        sizes[r] = sizeof(float) * (size_t)draw(seq, count / (size_t)n + 1);
    int32_t own = seq->own[g];
    if (own < 0) return 0;
    for (size_t i = 0; i < sizes[own] / sizeof(float); i++)
        seq->values[i] = sequence_value(self->rank, op, i);
    if (rooted)
        CHECK(!cohort_gather(seq->groups[g], root, seq->values, sizes,
                             own == root ? seq->result : NULL, world_soon()));
    else
        CHECK(!cohort_all_gather(seq->groups[g], seq->values, sizes, seq->result,
                                 world_soon()));
    for (int32_t r = 0; r < n && (!rooted || own == root); r++)
        for (size_t i = 0; i < sizes[r] / sizeof(float); i++, at++)
            CHECK(seq->result[at] == sequence_value(seq->ranks[g][r], op, i));
    return 0;
}

static int random_broadcast(sequence *seq, int op, int g, size_t count) {
    world_member *self = seq->self;
    int32_t root = (int32_t)draw(seq, (uint64_t)seq->sizes[g]);
    if (seq->own[g] < 0) return 0;
    for (size_t i = 0; i < count; i++)
        seq->values[i] = seq->own[g] == root ? sequence_value(self->rank, op, i) : -2.0f;
    CHECK(!cohort_broadcast(seq->groups[g], root, seq->values, count * sizeof(float),
                            world_soon()));
    for (size_t i = 0; i < count; i++)
        CHECK(seq->values[i] == sequence_value(seq->ranks[g][root], op, i));
    return 0;
}

/* A message to the next rank, read at once or some operations later. */
static int random_message(sequence *seq, int op) {
    world_member *self = seq->self;
    int32_t next = (self->rank + 1) % self->size;
    int32_t before = (self->rank + self->size - 1) % self->size;
    int32_t unread = ++seq->unread;
    if (unread == 8 || op == OPERATIONS || draw(seq, 2)) seq->unread = 0;
    if (self->size == 1) return 0;
    int32_t own = op * WORLD_MAX + self->rank;
    CHECK(!cohort_send(self->group, next, &own, sizeof own, world_soon()));
    for (int32_t i = 0; seq->unread == 0 && i < unread; i++) {
        int32_t got = -1;
        CHECK(!cohort_recv(self->group, before, &got, sizeof got, world_soon()));
        CHECK(got % WORLD_MAX == before && (i + 1 < unread || got / WORLD_MAX == op));
    }
    return 0;
}

static int random_operation(sequence *seq, int op) {
    static const size_t scales[] = {1, 40, 3000, MOST_ITEMS};
    int g = (int)draw(seq, 3) == 0 && seq->sizes[1] > 0;
    size_t count = draw(seq, scales[draw(seq, 4)] + 1);
    uint64_t kind = draw(seq, 9);
    if (kind < 3) return random_reduction(seq, op, g, count, false);
    if (kind == 3) return random_reduction(seq, op, g, count, true);
    if (kind < 6) return random_gather(seq, op, g, count, kind == 4);
    if (kind == 6) return random_broadcast(seq, op, g, count);
    if (kind == 7) return random_message(seq, op);
    if (seq->own[g] < 0) return 0;
    world_member *self = seq->self;
    CHECK(!cohort_barrier(seq->groups[g], world_soon()));
    return 0;
}

static int plays_a_sequence(world_member *self) {
    sequence seq = {.self = self, .groups = {self->group}, .own = {self->rank, -1}};
    seq.sizes[0] = self->size;
    seq.sizes[1] = self->size > 2 ? self->size - 1 : 0;
    for (int32_t r = 0; r < self->size; r++) {
        seq.ranks[0][r] = r;
        if (r < seq.sizes[1]) seq.ranks[1][r] = self->size - 1 - r;
    }
    if (seq.sizes[1] && self->rank > 0) {
        seq.own[1] = self->size - 1 - self->rank;
        CHECK(!cohort_group_open(self->mesh, seq.ranks[1], seq.sizes[1], &seq.groups[1]));
    }
    seq.values = malloc(MOST_ITEMS * sizeof(float));
    seq.result = malloc(MOST_ITEMS * sizeof(float));
    CHECK(seq.values && seq.result);
    int failed = 0;
    for (int op = 0; op < OPERATIONS && !failed; op++)
        failed = random_operation(&seq, op);
    if (!failed) failed = random_message(&seq, OPERATIONS); /* nothing is left unread */
    free(seq.values);
    free(seq.result);
    return failed;
}

static void random_sequences_agree_with_a_scalar_model(void **state) {
    (void)state;
    uint64_t seed = (uint64_t)cohort_clock_ns();
    const char *given = getenv("COHORT_TEST_SEED");
    if (given) seed = strtoull(given, NULL, 10);
    print_message("COHORT_TEST_SEED=%llu\n", (unsigned long long)seed);
    for (world_layout layout = 0; layout < LAYOUTS; layout++)
        for (world_vessel vessel = 0; vessel < VESSELS; vessel++)
            for (int32_t size = 2; size <= WORLD_MAX; size++)
                assert_int_equal(
                    world_end(world_start(layout, vessel, size, plays_a_sequence, seed++),
                              -1),
                    0);
}

/* ---- what goes wrong --------------------------------------------------------------- */

enum { VICTIM = 1 };

/* Reduces until it fails; the victim never gets out of here. */
static int outlives_a_peer(world_member *self) {
    enum { SMALL = 5000, LARGE = 20000 }; /* in one step, and in two */
    static _Thread_local float values[LARGE];
    cohort_status status;
    size_t n = self->size % 2 ? SMALL : LARGE;
    atomic_fetch_add(&self->hall->stage, 1);
    do
        status = cohort_all_reduce(self->group, COHORT_F32, COHORT_SUM, values, n,
                                   world_soon());
    while (status == COHORT_OK);
    CHECK(status == COHORT_E_PEER_DIED);
    /* Over TCP a survivor that heard of it first hangs up on us; both are true. */
    int32_t named = cohort_last_error()->rank;
    CHECK(named == VICTIM || (self->layout != SHARED && self->size > 2));
    CHECK(cohort_barrier(self->group, world_soon()) == COHORT_E_PEER_DIED);
    CHECK(cohort_last_error()->rank == named);
    return 0;
}

static void a_killed_peer_is_an_error_with_its_rank(void **state) {
    (void)state;
    uint64_t seed = (uint64_t)cohort_clock_ns();
    print_message("seed %llu\n", (unsigned long long)seed);
    for (uint64_t round = 0; round < 18; round++) {
        world *all = world_start((world_layout)(round % LAYOUTS), PROCESSES,
                                 2 + (int32_t)(round / LAYOUTS % 3), outlives_a_peer, 0);
        int32_t size = 2 + (int32_t)(round / LAYOUTS % 3);
        while (atomic_load(&world_hall_of(all)->stage) < size)
            usleep(200);
        usleep((useconds_t)(cohort_random_u64(seed, round) % 3000));
        kill(world_hall_of(all)->pids[VICTIM], SIGKILL);
        int64_t killed_ns = cohort_clock_ns();
        assert_int_equal(world_end(all, VICTIM), 0);
        assert_true(cohort_clock_ns() - killed_ns < INT64_C(10000000000));
    }
}

static int waits_for_a_stopped_peer(world_member *self) {
    float values[64] = {0};
    CHECK(!cohort_barrier(self->group, world_soon()));
    if (self->rank == VICTIM) {
        raise(SIGSTOP);
        return 0;
    }
    cohort_status status = cohort_all_reduce(self->group, COHORT_F32, COHORT_SUM, values,
                                             64, cohort_deadline_ms(2000));
    int32_t named = cohort_last_error()->rank;
    /* First, or the others would wait for who has given up. */
    atomic_fetch_add(&self->hall->stage, 1);
    CHECK(status == COHORT_E_TIMEOUT);
    CHECK(named == VICTIM);
    while (atomic_load(&self->hall->stage) < self->size - 1)
        usleep(200);
    return 0;
}

static void a_stopped_peer_is_a_timeout_with_its_rank(void **state) {
    (void)state;
    for (world_layout layout = 0; layout < LAYOUTS; layout++) {
        world *all = world_start(layout, PROCESSES, 3, waits_for_a_stopped_peer, 0);
        int64_t patience_ns = world_soon();
        while (atomic_load(&world_hall_of(all)->stage) < 2 &&
               cohort_clock_ns() < patience_ns)
            usleep(200);
        kill(world_hall_of(all)->pids[VICTIM], SIGKILL);
        assert_int_equal(world_end(all, VICTIM), 0);
    }
}

static int sees_an_orderly_end(world_member *self) {
    int32_t word = 7;
    if (self->rank == VICTIM) { /* its last word counts */
        CHECK(!cohort_send(self->group, 0, &word, sizeof word, world_soon()));
        return 0;
    }
    usleep(20000);
    word = 0;
    CHECK(!cohort_recv(self->group, VICTIM, &word, sizeof word, world_soon()));
    CHECK(word == 7);
    CHECK(cohort_recv(self->group, VICTIM, &word, sizeof word, world_soon()) ==
          COHORT_E_PEER_DIED);
    CHECK(cohort_last_error()->rank == VICTIM);
    return 0;
}

static void the_last_word_of_a_peer_counts(void **state) {
    (void)state;
    for (world_layout layout = 0; layout < MIXED; layout++)
        for (world_vessel vessel = 0; vessel < VESSELS; vessel++)
            world_play(layout, vessel, 2, sees_an_orderly_end);
}

static int64_t thread_cpu_ns(void) {
    struct timespec used;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return used.tv_sec * INT64_C(1000000000) + used.tv_nsec;
}

/* Rank 0 sleeps in an operation; rank 1 sees whom it waits for, and poisons it. */
static int is_poisoned(world_member *self) {
    int32_t word;
    if (self->rank == 1) {
        cohort_mesh *other = atomic_load(&self->hall->meshes[0]);
        while (cohort_mesh_waiting_on(other) != 1)
            usleep(200);
        usleep(200000);
        cohort_error poison = {.code = COHORT_E_DEVICE, .rank = 1};
        strcpy(poison.message, "spoilt");
        atomic_store(&self->hall->stage, 1);
        cohort_mesh_poison(other, &poison);
        while (atomic_load(&self->hall->stage) != 2)
            usleep(200);
        return 0;
    }
    int64_t used_ns = thread_cpu_ns();
    CHECK(cohort_recv(self->group, 1, &word, sizeof word, COHORT_NEVER) ==
          COHORT_E_DEVICE);
    /* A sleeper costs nothing: 50 us of polling in 200 ms, and some for the sanitizers.
     */
    CHECK(thread_cpu_ns() - used_ns < 50000000);
    CHECK(atomic_load(&self->hall->stage) == 1);
    CHECK(cohort_last_error()->rank == 1);
    CHECK(!strcmp(cohort_last_error()->message, "spoilt"));
    CHECK(cohort_mesh_waiting_on(self->mesh) == COHORT_RANK_LOCAL);
    CHECK(cohort_barrier(self->group, world_soon()) == COHORT_E_DEVICE);
    atomic_store(&self->hall->stage, 2);
    return 0;
}

static void poison_wakes_a_sleeper_that_shows_whom_it_waits_for(void **state) {
    (void)state;
    for (world_layout layout = 0; layout < MIXED; layout++)
        world_play(layout, THREADS, 2, is_poisoned);
}

static int disagrees(world_member *self) {
    float values[64] = {0};
    CHECK(cohort_all_reduce(self->group, COHORT_F32, COHORT_SUM, values,
                            self->rank ? 64 : 32, world_soon()) == COHORT_E_PROTOCOL);
    CHECK(cohort_last_error()->rank == 1 - self->rank);
    CHECK(!strstr(cohort_last_error()->message, "\n"));
    return 0;
}

static void different_calls_in_shared_memory_are_found_out(void **state) {
    (void)state;
    world_play(SHARED, THREADS, 2, disagrees);
}

static int opens_groups(world_member *self) {
    cohort_group *group;
    const int32_t both[] = {0, 1}, twice[] = {self->rank, self->rank};
    const int32_t other[] = {1 - self->rank}, far[] = {self->rank, 2};
    CHECK(cohort_group_open(self->mesh, both, 0, &group) == COHORT_E_INVALID);
    CHECK(cohort_group_open(self->mesh, twice, 2, &group) == COHORT_E_INVALID);
    CHECK(cohort_group_open(self->mesh, other, 1, &group) == COHORT_E_INVALID);
    CHECK(cohort_group_open(self->mesh, far, 2, &group) == COHORT_E_INVALID);
    for (int i = 1; i < 16; i++) { /* the world is the first; each is its own */
        int32_t sum = i + self->rank;
        CHECK(!cohort_group_open(self->mesh, both, 2, &group));
        CHECK(!cohort_all_reduce(group, COHORT_I32, COHORT_SUM, &sum, 1, world_soon()));
        CHECK(sum == 2 * i + 1);
    }
    CHECK(cohort_group_open(self->mesh, both, 2, &group) == COHORT_E_INVALID);
    CHECK(!cohort_barrier(self->group, world_soon()));
    return 0;
}

static void groups_are_checked_and_counted(void **state) {
    (void)state;
    world_play(SHARED, THREADS, 2, opens_groups);
}

static void bad_options_are_refused(void **state) {
    (void)state;
    cohort_mesh *mesh = NULL;
    const cohort_mesh_options bad[] = {{.rank = 0, .world_size = 0},
                                       {.rank = 2, .world_size = 2},
                                       {.rank = -1, .world_size = 2},
                                       {.rank = 0, .world_size = 1 << 20},
                                       {.rank = 0, .world_size = 2, .tcp_only = true}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(cohort_mesh_open(&bad[i], &mesh), COHORT_E_INVALID);
    assert_null(mesh);
    cohort_mesh_close(NULL);
}

static cohort_mesh *open_alone(int32_t rank, cohort_mesh_handle *out_handle) {
    const cohort_mesh_options options = {
        .rank = rank, .world_size = 2, .listen_host = "127.0.0.1", .tcp_only = true};
    cohort_mesh *mesh = NULL;
    assert_int_equal(cohort_mesh_open(&options, &mesh), COHORT_OK);
    assert_int_equal(cohort_mesh_export(mesh, out_handle), COHORT_OK);
    return mesh;
}

static void a_rank_that_never_comes_is_a_timeout(void **state) {
    (void)state;
    cohort_mesh_handle handles[2];
    cohort_mesh *late = open_alone(1, &handles[1]), *mesh = open_alone(0, &handles[0]);
    assert_int_equal(cohort_mesh_connect(mesh, handles, cohort_deadline_ms(50)),
                     COHORT_E_TIMEOUT);
    assert_int_equal(cohort_last_error()->rank, 1);
    cohort_group *group;
    const int32_t ranks[] = {0, 1};
    assert_int_equal(cohort_group_open(mesh, ranks, 2, &group), COHORT_E_INVALID);
    cohort_mesh_close(mesh);
    cohort_mesh_close(late);
}

/* Has the handle but for the secret, or is a port scanner. */
static void *connects_without_the_secret(void *argument) {
    cohort_mesh_handle *handles = argument;
    cohort_mesh *stranger = open_alone(1, &handles[1]);
    for (size_t i = 0; i < sizeof handles[0].bytes / 4; i++)
        handles[0].bytes[8 + i] ^= 0x5a; /* the secret follows magic and family */
    cohort_status status =
        cohort_mesh_connect(stranger, handles, cohort_deadline_ms(10000));
    int32_t named = cohort_last_error()->rank;
    cohort_mesh_close(stranger);
    return status < 0 && status != COHORT_E_TIMEOUT && named == 0 ? NULL : "admitted";
}

static int connect_raw(const cohort_mesh_handle *handle) {
    cohort_link_address address;
    char text[64];
    memcpy(&address, handle->bytes, sizeof address);
    cohort_link_describe(&address, text, sizeof text);
    char *colon = strrchr(text, ':');
    assert_non_null(colon);
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)atoi(colon + 1)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static void a_stranger_without_the_secret_is_refused(void **state) {
    (void)state;
    cohort_mesh_handle handles[2], forged[2];
    cohort_mesh *mesh = open_alone(0, &handles[0]);
    memset(&handles[1], 0, sizeof handles[1]);
    memcpy(forged, handles, sizeof forged);
    int scanner = connect_raw(&handles[0]);
    char noise[4096];
    memset(noise, 'x', sizeof noise);
    assert_true(send(scanner, noise, sizeof noise, MSG_NOSIGNAL) > 0);
    pthread_t stranger;
    void *complaint = NULL;
    assert_int_equal(pthread_create(&stranger, NULL, connects_without_the_secret, forged),
                     0);
    assert_int_equal(cohort_mesh_connect(mesh, handles, cohort_deadline_ms(500)),
                     COHORT_E_TIMEOUT);
    assert_int_equal(cohort_last_error()->rank, 1);
    cohort_mesh_close(mesh);
    pthread_join(stranger, &complaint);
    assert_null(complaint);
    close(scanner);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_reduce_adds_in_rank_order),
        cmocka_unit_test(every_type_and_operation_reduces),
        cmocka_unit_test(gathers_and_broadcasts_deliver),
        cmocka_unit_test(reduce_scatter_gives_each_its_part),
        cmocka_unit_test(nobody_leaves_a_barrier_before_all_came),
        cmocka_unit_test(messages_pass_in_order),
        cmocka_unit_test(large_exchanges_never_lock_up),
        cmocka_unit_test(random_sequences_agree_with_a_scalar_model),
        cmocka_unit_test(a_killed_peer_is_an_error_with_its_rank),
        cmocka_unit_test(a_stopped_peer_is_a_timeout_with_its_rank),
        cmocka_unit_test(the_last_word_of_a_peer_counts),
        cmocka_unit_test(poison_wakes_a_sleeper_that_shows_whom_it_waits_for),
        cmocka_unit_test(different_calls_in_shared_memory_are_found_out),
        cmocka_unit_test(groups_are_checked_and_counted),
        cmocka_unit_test(bad_options_are_refused),
        cmocka_unit_test(a_rank_that_never_comes_is_a_timeout),
        cmocka_unit_test(a_stranger_without_the_secret_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
