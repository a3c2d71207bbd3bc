/* SPDX-License-Identifier: Apache-2.0 */
/* One suite for every way that ranks can be joined: processes in shared memory, and over
 * TCP. Each rank is a forked process; it exits 0 where all its checks held. */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/random.h"
#include "cohort/clock.h"
#include "cohort/collective.h"

enum { MAX_RANKS = 4, PATIENCE_MS = 60000 };

/* Shared between the processes of one test. */
typedef struct lobby {
    cohort_mesh_handle handles[MAX_RANKS];
    _Atomic int32_t arrived;
    _Atomic int32_t left;
} lobby;

typedef struct member {
    cohort_mesh *mesh;
    cohort_group *world;
    int32_t rank, size;
} member;

typedef int (*role)(member *self);

#define CHECK(condition)                                                                \
    do {                                                                                \
        if (!(condition)) {                                                             \
            fprintf(stderr, "rank %d: %s:%d: %s: %s\n", self->rank, __FILE__, __LINE__, \
                    #condition, cohort_last_error()->message);                          \
            return 1;                                                                   \
        }                                                                               \
    } while (0)

static int64_t soon(void) { return cohort_deadline_ms(PATIENCE_MS); }

static int join(member *self, lobby *hall, bool tcp) {
    const cohort_mesh_options options = {.rank = self->rank,
                                         .world_size = self->size,
                                         .listen_host = tcp ? "127.0.0.1" : NULL,
                                         .tcp_only = tcp,
                                         .spin_ns = -1};
    int32_t ranks[MAX_RANKS] = {0, 1, 2, 3};
    CHECK(cohort_mesh_open(&options, &self->mesh) == COHORT_OK);
    CHECK(cohort_mesh_export(self->mesh, &hall->handles[self->rank]) == COHORT_OK);
    atomic_fetch_add(&hall->arrived, 1);
    while (atomic_load(&hall->arrived) < self->size)
        usleep(500);
    CHECK(cohort_mesh_connect(self->mesh, hall->handles, soon()) == COHORT_OK);
    CHECK(cohort_group_open(self->mesh, ranks, self->size, &self->world) == COHORT_OK);
    if (self->size > 1)
        CHECK(
            !strcmp(cohort_group_transport(self->world), tcp ? "tcp" : "shared memory"));
    return 0;
}

/* Runs role on every rank; fails unless each exits 0 (or died of the signal it sent
 * itself). */
static void run(role play, int32_t size, bool tcp) {
    lobby *hall = mmap(NULL, sizeof *hall, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(hall != MAP_FAILED);
    for (int32_t r = 0; r < size; r++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid) continue;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        member self = {.rank = r, .size = size};
        int failed = join(&self, hall, tcp) || play(&self);
        /* Nobody hangs up while others may still expect bytes. */
        atomic_fetch_add(&hall->left, 1);
        while (!failed && atomic_load(&hall->left) < size)
            usleep(500);
        cohort_mesh_close(self.mesh);
        _exit(failed);
    }
    int failures = 0;
    for (int32_t r = 0; r < size; r++) {
        int status = 0;
        pid_t pid = wait(&status); /* whoever is first: the others may wait for it */
        assert_true(pid > 0);
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
            atomic_fetch_add(&hall->left, 1); /* on purpose: see the role */
        else
            failures += !WIFEXITED(status) || WEXITSTATUS(status);
    }
    munmap(hall, sizeof *hall);
    assert_int_equal(failures, 0);
}

static void run_all(role play) {
    for (int tcp = 0; tcp < 2; tcp++)
        for (int32_t size = 1; size <= MAX_RANKS; size++)
            run(play, size, tcp);
}

static float value_of(int32_t rank, size_t i) {
    return (float)(cohort_random_unit((uint64_t)rank + 1, i) * 2 - 1);
}

static const size_t counts[] = {0, 1, 7, 1024, 65537, 1048577};

static int sums_floats(member *self) {
    float *own = malloc(sizeof(float) * 1048577);
    CHECK(own);
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        for (size_t i = 0; i < counts[c]; i++)
            own[i] = value_of(self->rank, i);
        CHECK(cohort_all_reduce(self->world, COHORT_F32, COHORT_SUM, own, counts[c],
                                soon()) == COHORT_OK);
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
    run_all(sums_floats);
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

static int reduces_other_types(member *self) {
    enum { N = 4099 };
    uint16_t halves[N];
    int32_t numbers[N];
    float floats[N];
    for (size_t i = 0; i < N; i++) {
        halves[i] = bf16_of(value_of(self->rank, i));
        numbers[i] = (int32_t)cohort_random_u64((uint64_t)self->rank, i);
        floats[i] = value_of(self->rank, i);
    }
    CHECK(!cohort_all_reduce(self->world, COHORT_BF16, COHORT_SUM, halves, N, soon()));
    CHECK(!cohort_all_reduce(self->world, COHORT_I32, COHORT_SUM, numbers, N, soon()));
    CHECK(!cohort_all_reduce(self->world, COHORT_F32, COHORT_MAX, floats, N, soon()));
    for (size_t i = 0; i < N; i++) {
        float sum = 0, most = value_of(0, i);
        uint32_t number = 0;
        for (int32_t r = 0; r < self->size; r++) {
            sum += float_of(bf16_of(value_of(r, i)));
            number += (uint32_t)cohort_random_u64((uint64_t)r, i);
            most = fmaxf(most, value_of(r, i));
        }
        if (self->size > 1) CHECK(halves[i] == bf16_of(sum));
        CHECK(numbers[i] == (int32_t)number);
        CHECK(floats[i] == most);
    }
    if (self->size > 1)
        CHECK(cohort_all_reduce(self->world, COHORT_F16, COHORT_SUM, halves, N, soon()) ==
              COHORT_E_INVALID);
    return 0;
}

static void every_type_and_operation_reduces(void **state) {
    (void)state;
    run_all(reduces_other_types);
}

static int moves_bytes(member *self) {
    enum { PART = 100003 };
    int32_t n = self->size;
    size_t sizes[MAX_RANKS], total = 0;
    for (int32_t r = 0; r < n; r++)
        total += sizes[r] = (size_t)(PART + 17 * r) * (size_t)(r != 1); /* rank 1: none */
    uint8_t *mine = malloc(sizes[self->rank] + 1), *all = malloc(total + 1);
    CHECK(mine && all);
    for (int32_t root = 0; root < n; root++) {
        memset(mine, 'a' + self->rank, sizes[self->rank]);
        bool gets = root == self->rank;
        CHECK(!cohort_gather(self->world, root, mine, sizes, gets ? all : NULL, soon()));
        CHECK(!cohort_all_gather(self->world, mine, sizes, all, soon()));
        for (size_t r = 0, i = 0; r < (size_t)n; r++)
            for (size_t j = 0; j < sizes[r]; j++, i++)
                CHECK(all[i] == 'a' + (int)r);
        memset(all, 'A' + self->rank, total);
        CHECK(!cohort_broadcast(self->world, root, all, total, soon()));
        for (size_t i = 0; i < total; i++)
            CHECK(all[i] == 'A' + root);
        CHECK(!cohort_barrier(self->world, soon()));
    }
    free(mine);
    free(all);
    return 0;
}

static void gathers_and_broadcasts_deliver(void **state) {
    (void)state;
    run_all(moves_bytes);
}

static int scatters(member *self) {
    enum { N = 70001 };
    int32_t n = self->size;
    float *send = malloc(sizeof(float) * N * (size_t)n), *got = malloc(sizeof(float) * N);
    CHECK(send && got);
    for (size_t i = 0; i < (size_t)n * N; i++)
        send[i] = value_of(self->rank, i);
    CHECK(!cohort_reduce_scatter(self->world, COHORT_F32, COHORT_SUM, send, got, N,
                                 soon()));
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
    run_all(scatters);
}

/* Two 1 MiB messages lie unread while both sides go on to other things; then large ones
 * in a ring of ranks. */
static int passes_messages(member *self) {
    enum { MESSAGE = 1 << 20, LARGE = 9 << 20 };
    uint8_t *bytes = malloc(LARGE);
    CHECK(bytes);
    int32_t next = (self->rank + 1) % self->size;
    int32_t before = (self->rank + self->size - 1) % self->size;
    if (self->size == 1) {
        CHECK(cohort_send(self->world, 0, bytes, 1, soon()) == COHORT_E_INVALID);
        free(bytes);
        return 0;
    }
    bool shared = !strcmp(cohort_group_transport(self->world), "shared memory");
    for (int i = 0; shared && i < 2; i++) {
        memset(bytes, 10 * i + self->rank, MESSAGE);
        CHECK(!cohort_send(self->world, next, bytes, MESSAGE, soon()));
    }
    for (int i = 0; shared && i < 2; i++) {
        CHECK(!cohort_recv(self->world, before, bytes, MESSAGE, soon()));
        CHECK(bytes[0] == 10 * i + before && bytes[MESSAGE - 1] == 10 * i + before);
    }
    memset(bytes, self->rank, LARGE);
    if (self->rank == 0) CHECK(!cohort_send(self->world, next, bytes, LARGE, soon()));
    CHECK(!cohort_recv(self->world, before, bytes, LARGE, soon()));
    CHECK(bytes[0] == before && bytes[LARGE - 1] == before);
    memset(bytes, self->rank, LARGE);
    if (self->rank != 0) CHECK(!cohort_send(self->world, next, bytes, LARGE, soon()));
    free(bytes);
    return 0;
}

static void messages_pass_in_order(void **state) {
    (void)state;
    run_all(passes_messages);
}

static int loses_a_peer(member *self) {
    float values[1024] = {0};
    int32_t last = self->size - 1;
    CHECK(!cohort_barrier(self->world, soon()));
    if (self->rank == last) raise(SIGKILL);
    cohort_status status;
    do /* the last rank may have died after its part of a round */
        status =
            cohort_all_reduce(self->world, COHORT_F32, COHORT_SUM, values, 1024, soon());
    while (status == COHORT_OK);
    CHECK(status == COHORT_E_PEER_DIED);
    /* A survivor that heard of it first hangs up on us; both names are true. */
    CHECK(cohort_last_error()->rank == last || self->size > 2);
    return 0;
}

static void killed_peer_is_an_error_with_its_rank(void **state) {
    (void)state;
    run(loses_a_peer, 2, false);
    run(loses_a_peer, 2, true);
    run(loses_a_peer, 3, false);
}

static int waits_for_a_late_peer(member *self) {
    uint8_t byte = 0;
    if (self->rank == 1) {
        usleep(400000);
        return 0;
    }
    CHECK(cohort_recv(self->world, 1, &byte, 1, cohort_deadline_ms(50)) ==
          COHORT_E_TIMEOUT);
    CHECK(cohort_last_error()->rank == 1);
    return 0;
}

static void late_peer_is_a_timeout_with_its_rank(void **state) {
    (void)state;
    run(waits_for_a_late_peer, 2, false);
    run(waits_for_a_late_peer, 2, true);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_reduce_adds_in_rank_order),
        cmocka_unit_test(every_type_and_operation_reduces),
        cmocka_unit_test(gathers_and_broadcasts_deliver),
        cmocka_unit_test(reduce_scatter_gives_each_its_part),
        cmocka_unit_test(messages_pass_in_order),
        cmocka_unit_test(killed_peer_is_an_error_with_its_rank),
        cmocka_unit_test(late_peer_is_a_timeout_with_its_rank),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
