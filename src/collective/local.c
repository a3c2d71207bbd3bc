/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/fail.h"
#include "collective/group.h"

/* Design notes.
 *
 * An all-reduce is one step a chunk: everybody lays down its chunk and adds up all of
 * them, in rank order.  With n ranks that reads n chunks a rank; from three ranks on and
 * beyond a few pages, each rank adds up its share only and lays down the sum for the
 * others: two steps, under three chunks read.  Both add in rank order, so they give the
 * same bits. */

enum { TWO_STEP_BYTES = 32 << 10 };

/* Where all ranks' contributions lie, by rank; the own one is in mine. */
static cohort_status collect(cohort_group *group, cohort_table_step kind, size_t bytes,
                             size_t offset_bytes, const void *mine) {
    for (int32_t r = 0; r < group->size; r++) {
        const void *slot = NULL;
        if (r == group->rank) {
            group->parts[r] = mine;
            continue;
        }
        COHORT_TRY(cohort_table_read(&group->table, r, kind, bytes, &slot));
        group->parts[r] = (const uint8_t *)slot + offset_bytes;
    }
    return COHORT_OK;
}

/* Lays bytes on the board and waits until all have. */
static cohort_status give_all(cohort_group *group, cohort_table_step kind,
                              const void *bytes, size_t size_bytes, int64_t deadline_ns) {
    void *slot;
    COHORT_TRY(cohort_table_enter(&group->table, deadline_ns, &slot));
    memcpy(slot, bytes, size_bytes);
    cohort_table_post(&group->table, kind, size_bytes);
    return cohort_table_await(&group->table, -1, deadline_ns);
}

cohort_status cohort_local_barrier(cohort_group *group, int64_t deadline_ns) {
    cohort_table_post(&group->table, COHORT_STEP_BARRIER, 0);
    COHORT_TRY(cohort_table_await(&group->table, -1, deadline_ns));
    cohort_table_leave(&group->table);
    return COHORT_OK;
}

static cohort_status one_step(cohort_group *group, const cohort_reduction *how,
                              uint8_t *mine, size_t n, int64_t deadline_ns) {
    size_t bytes = n * how->item_bytes;
    COHORT_TRY(give_all(group, COHORT_STEP_REDUCE, mine, bytes, deadline_ns));
    COHORT_TRY(collect(group, COHORT_STEP_REDUCE, bytes, 0, mine));
    how->reduce(mine, group->parts, group->size, n, how->op);
    cohort_table_leave(&group->table);
    return COHORT_OK;
}

static cohort_status two_steps(cohort_group *group, const cohort_reduction *how,
                               uint8_t *mine, size_t n, int64_t deadline_ns) {
    cohort_table *table = &group->table;
    size_t item = how->item_bytes;
    size_t begin = cohort_share_begin(n, group->rank, group->size) * item;
    size_t end = cohort_share_begin(n, group->rank + 1, group->size) * item;
    COHORT_TRY(give_all(group, COHORT_STEP_REDUCE, mine, n * item, deadline_ns));
    COHORT_TRY(collect(group, COHORT_STEP_REDUCE, n * item, begin, mine + begin));
    how->reduce(mine + begin, group->parts, group->size, (end - begin) / item, how->op);
    cohort_table_leave(table);
    COHORT_TRY(
        give_all(group, COHORT_STEP_REDUCED, mine + begin, end - begin, deadline_ns));
    for (int32_t r = 0; r < group->size; r++) {
        const void *slot;
        if (r == group->rank) continue;
        begin = cohort_share_begin(n, r, group->size) * item;
        end = cohort_share_begin(n, r + 1, group->size) * item;
        COHORT_TRY(cohort_table_read(table, r, COHORT_STEP_REDUCED, end - begin, &slot));
        memcpy(mine + begin, slot, end - begin);
    }
    cohort_table_leave(table);
    return COHORT_OK;
}

cohort_status cohort_local_all_reduce(cohort_group *group, const cohort_reduction *how,
                                      uint8_t *buffer, size_t count,
                                      int64_t deadline_ns) {
    size_t most = COHORT_SLOT_BYTES / how->item_bytes;
    for (size_t done = 0; done < count; done += most) {
        size_t n = cohort_lesser(count - done, most);
        uint8_t *mine = buffer + done * how->item_bytes;
        if (group->size > 2 && n * how->item_bytes >= TWO_STEP_BYTES)
            COHORT_TRY(two_steps(group, how, mine, n, deadline_ns));
        else
            COHORT_TRY(one_step(group, how, mine, n, deadline_ns));
    }
    return COHORT_OK;
}

cohort_status cohort_local_reduce_scatter(cohort_group *group,
                                          const cohort_reduction *how,
                                          const uint8_t *send, uint8_t *receive,
                                          size_t count, int64_t deadline_ns) {
    size_t item = how->item_bytes, size = (size_t)group->size;
    size_t most = COHORT_SLOT_BYTES / item / size;
    for (size_t done = 0; done < count; done += most) {
        size_t n = cohort_lesser(count - done, most), bytes = n * item;
        void *slot;
        COHORT_TRY(cohort_table_enter(&group->table, deadline_ns, &slot));
        for (size_t r = 0; r < size; r++)
            memcpy((uint8_t *)slot + r * bytes, send + (r * count + done) * item, bytes);
        cohort_table_post(&group->table, COHORT_STEP_REDUCE_SCATTER, size * bytes);
        COHORT_TRY(cohort_table_await(&group->table, -1, deadline_ns));
        size_t own = (size_t)group->rank;
        COHORT_TRY(collect(group, COHORT_STEP_REDUCE_SCATTER, size * bytes, own * bytes,
                           send + (own * count + done) * item));
        how->reduce(receive + done * item, group->parts, group->size, n, how->op);
        cohort_table_leave(&group->table);
    }
    return COHORT_OK;
}

cohort_status cohort_local_broadcast(cohort_group *group, int32_t root, uint8_t *buffer,
                                     size_t size_bytes, int64_t deadline_ns) {
    cohort_table *table = &group->table;
    for (size_t done = 0; done < size_bytes; done += COHORT_SLOT_BYTES) {
        size_t bytes = cohort_lesser(size_bytes - done, COHORT_SLOT_BYTES);
        if (group->rank == root) {
            void *slot;
            COHORT_TRY(cohort_table_enter(table, deadline_ns, &slot));
            memcpy(slot, buffer + done, bytes);
            cohort_table_post(table, COHORT_STEP_BROADCAST, bytes);
        } else {
            const void *slot;
            cohort_table_post(table, COHORT_STEP_BROADCAST, 0);
            COHORT_TRY(cohort_table_await(table, root, deadline_ns));
            COHORT_TRY(
                cohort_table_read(table, root, COHORT_STEP_BROADCAST, bytes, &slot));
            memcpy(buffer + done, slot, bytes);
        }
        cohort_table_leave(table);
    }
    return COHORT_OK;
}

/* What of size_bytes is due in the step that begins at done. */
static size_t due(size_t size_bytes, size_t done) {
    return done < size_bytes ? cohort_lesser(size_bytes - done, COHORT_SLOT_BYTES) : 0;
}

static cohort_status read_parts(cohort_group *group, cohort_table_step kind,
                                const size_t *size_bytes, size_t done, uint8_t *receive) {
    for (int32_t r = 0; r < group->size; receive += size_bytes[r++]) {
        const void *slot;
        size_t bytes = due(size_bytes[r], done);
        if (r == group->rank || !bytes) continue;
        COHORT_TRY(cohort_table_read(&group->table, r, kind, bytes, &slot));
        memcpy(receive + done, slot, bytes);
    }
    return COHORT_OK;
}

cohort_status cohort_local_gather(cohort_group *group, int32_t root, const uint8_t *send,
                                  const size_t *size_bytes, uint8_t *receive,
                                  int64_t deadline_ns) {
    cohort_table *table = &group->table;
    cohort_table_step kind = root < 0 ? COHORT_STEP_ALL_GATHER : COHORT_STEP_GATHER;
    bool gives = root != group->rank, receives = root < 0 || root == group->rank;
    size_t longest = 0;
    for (int32_t r = 0; r < group->size; r++)
        if (r != root && size_bytes[r] > longest) longest = size_bytes[r];
    for (size_t done = 0; done < longest; done += COHORT_SLOT_BYTES) {
        size_t bytes = gives ? due(size_bytes[group->rank], done) : 0;
        if (bytes) {
            void *slot;
            COHORT_TRY(cohort_table_enter(table, deadline_ns, &slot));
            memcpy(slot, send + done, bytes);
        }
        cohort_table_post(table, kind, bytes);
        if (receives) {
            COHORT_TRY(cohort_table_await(table, -1, deadline_ns));
            COHORT_TRY(read_parts(group, kind, size_bytes, done, receive));
        }
        cohort_table_leave(table);
    }
    return COHORT_OK;
}
