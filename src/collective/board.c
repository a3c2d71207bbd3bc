/* SPDX-License-Identifier: Apache-2.0 */
#include "collective/board.h"

#include <stdlib.h>

#include "base/fail.h"

/* Design notes.
 *
 * posted counts the steps a rank has entered, and a rank enters a step after it has left
 * the one before.  So posted > t says two things: what the rank gives in step t lies in
 * slot t % 2, and it reads nothing of step t - 1 any more.  Hence whoever writes in step
 * t, over what it gave in step t - 2, waits until all have posted >= t.  Where everybody
 * waits for everybody, as in an all-reduce, step t - 1 has seen to that already: the
 * price of a step is one flag each way.
 *
 * posted is stored with release after the slot and given, and loaded with acquire before
 * either is read; the release also orders a rank's reads of step t - 1 before the
 * writes of whoever acquires it.
 *
 * models/board.pml has the two, and fails without either.
 *
 * If a rank dies here its counter stays where it is, and await.c names it.
 *
 * Boards are found by key at the first step, because opening a group exchanges nothing.
 */

enum { EVERYBODY = -1 };

/* FNV-1a over the members, and how many times the same members have opened a group. */
static uint64_t key_of(const cohort_mesh *mesh, const int32_t *ranks, int32_t size) {
    uint64_t key = UINT64_C(0xcbf29ce484222325);
    for (int32_t i = 0; i < size; i++)
        key = (key ^ (uint64_t)(uint32_t)ranks[i]) * UINT64_C(0x100000001b3);
    key = (key ^ (uint64_t)size) * UINT64_C(0x100000001b3);
    key |= 1; /* never 0 */
    for (int32_t b = 0; b < mesh->n_boards; b++)
        if (atomic_load_explicit(&mesh->outbox->boards[b].key, memory_order_relaxed) ==
            key)
            key += 2, b = -1; /* from the front: the next key may be taken too */
    return key;
}

static void ring_all(const cohort_table *table) {
    for (int32_t i = 0; i < table->size; i++) {
        if (i == table->rank) continue;
        const cohort_mesh_peer *peer = &table->mesh->peers[table->ranks[i]];
        cohort_bell_ring(peer->outbox, peer->bell_fd);
    }
}

cohort_status cohort_table_open(cohort_mesh *mesh, const int32_t *ranks, int32_t size,
                                int32_t rank, cohort_table *out_table) {
    if (mesh->n_boards == COHORT_MAX_BOARDS)
        return COHORT_FAIL(COHORT_E_INVALID, "a mesh has at most %d groups within a host",
                           COHORT_MAX_BOARDS);
    *out_table = (cohort_table){.mesh = mesh, .ranks = ranks, .size = size, .rank = rank};
    out_table->boards = calloc((size_t)size, sizeof(cohort_board *));
    if (!out_table->boards) return COHORT_FAIL(COHORT_E_NOMEM, "a group's boards");
    out_table->key = key_of(mesh, ranks, size);
    out_table->own = &mesh->outbox->boards[mesh->n_boards++];
    /* Acquired in find. */
    atomic_store_explicit(&out_table->own->key, out_table->key, memory_order_release);
    ring_all(out_table);
    return COHORT_OK;
}

void cohort_table_close(cohort_table *table) { free(table->boards); }

typedef struct table_work {
    cohort_work work;
    cohort_table *table;
    int32_t rank; /* or EVERYBODY */
    uint64_t least;
} table_work;

static cohort_board *find(cohort_outbox *outbox, uint64_t key) {
    for (int32_t b = 0; b < COHORT_MAX_BOARDS; b++)
        /* Acquires the release in cohort_table_open. */
        if (atomic_load_explicit(&outbox->boards[b].key, memory_order_acquire) == key)
            return &outbox->boards[b];
    return NULL;
}

static int64_t advance_meeting(cohort_work *work, int32_t *out_waiting) {
    cohort_table *table = ((table_work *)work)->table;
    *out_waiting = COHORT_RANK_LOCAL;
    for (int32_t i = 0; i < table->size; i++) {
        if (i == table->rank || table->boards[i]) continue;
        table->boards[i] = find(table->mesh->peers[table->ranks[i]].outbox, table->key);
        if (!table->boards[i]) *out_waiting = table->ranks[i];
    }
    return 0;
}

static void watch_meeting(cohort_work *work) {
    cohort_table *table = ((table_work *)work)->table;
    for (int32_t i = 0; i < table->size; i++)
        if (i != table->rank && !table->boards[i])
            cohort_mesh_watch(table->mesh, table->ranks[i], COHORT_CHANNEL_COLLECTIVE, 0);
}

static bool owes(const table_work *self, int32_t i) {
    const cohort_table *table = self->table;
    if (i == table->rank || (self->rank != EVERYBODY && i != self->rank)) return false;
    /* Acquires the release in cohort_table_post. */
    return atomic_load_explicit(&table->boards[i]->posted, memory_order_acquire) <
           self->least;
}

static int64_t advance_posts(cohort_work *work, int32_t *out_waiting) {
    const table_work *self = (table_work *)work;
    *out_waiting = COHORT_RANK_LOCAL;
    for (int32_t i = 0; i < self->table->size; i++)
        if (owes(self, i)) {
            *out_waiting = self->table->ranks[i];
            return 0;
        }
    return 0;
}

static void watch_posts(cohort_work *work) {
    const table_work *self = (table_work *)work;
    for (int32_t i = 0; i < self->table->size; i++)
        if (owes(self, i))
            cohort_mesh_watch(self->table->mesh, self->table->ranks[i],
                              COHORT_CHANNEL_COLLECTIVE, 0);
}

static cohort_status await_posts(cohort_table *table, int32_t rank, uint64_t least,
                                 int64_t deadline_ns) {
    table_work self = {.table = table, .rank = rank, .least = least};
    if (!table->met) {
        self.work = (cohort_work){advance_meeting, watch_meeting};
        COHORT_TRY(cohort_mesh_await(table->mesh, &self.work, deadline_ns));
        table->met = true;
    }
    self.work = (cohort_work){advance_posts, watch_posts};
    return cohort_mesh_await(table->mesh, &self.work, deadline_ns);
}

cohort_status cohort_table_enter(cohort_table *table, int64_t deadline_ns,
                                 void **out_slot) {
    *out_slot = table->own->slots[table->step % 2];
    if (table->step < 2) return COHORT_OK; /* nothing lay there */
    return await_posts(table, EVERYBODY, table->step, deadline_ns);
}

void cohort_table_post(cohort_table *table, cohort_table_step kind, size_t bytes) {
    cohort_board *own = table->own;
    if (bytes) own->given[table->step % 2] = (uint64_t)kind << 32 | bytes;
    atomic_store_explicit(&own->posted, table->step + 1, memory_order_release);
    ring_all(table);
}

cohort_status cohort_table_await(cohort_table *table, int32_t rank, int64_t deadline_ns) {
    return await_posts(table, rank, table->step + 1, deadline_ns);
}

cohort_status cohort_table_read(const cohort_table *table, int32_t rank,
                                cohort_table_step kind, size_t bytes,
                                const void **out_slot) {
    const cohort_board *board = table->boards[rank];
    uint64_t given = board->given[table->step % 2];
    if (given != ((uint64_t)kind << 32 | bytes)) {
        COHORT_FAIL(COHORT_E_PROTOCOL,
                    "%u bytes for operation %u came where %zu for %u are due; all ranks "
                    "must make the same calls",
                    (uint32_t)given, (uint32_t)(given >> 32), bytes, (uint32_t)kind);
        return cohort_mesh_blame(COHORT_E_PROTOCOL, table->ranks[rank], "reading from");
    }
    *out_slot = board->slots[table->step % 2];
    return COHORT_OK;
}

void cohort_table_leave(cohort_table *table) { table->step++; }
