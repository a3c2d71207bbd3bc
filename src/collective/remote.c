/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fail.h"
#include "collective/group.h"

/* Design notes.
 *
 * Every operation is an exchange of transfers between pairs, all under way at once.  A
 * small all-reduce sends everything to everybody: one round trip.  A large one of more
 * than two ranks sends each rank its share, adds in rank order and sends the sums back:
 * 2 (n - 1) / n of the bytes a rank instead of n - 1.  Ranks of one host among them use
 * their pipes, but partial sums are not formed within a host first: that would add in
 * another order than the rank's, and the bits would depend on who lives where. */

enum { TWO_STEP_BYTES = 32 << 10 };

/* One transfer more; they are used from the front. */
static void add(cohort_group *group, int32_t *count, int32_t peer, const void *send,
                size_t send_bytes, void *receive, size_t receive_bytes) {
    group->transfers[(*count)++] = (cohort_transfer){.peer = group->ranks[peer],
                                                     .send = send,
                                                     .send_bytes = send_bytes,
                                                     .receive = receive,
                                                     .receive_bytes = receive_bytes};
}

static cohort_status exchange(cohort_group *group, int32_t count, int64_t deadline_ns) {
    return cohort_mesh_exchange(group->mesh, COHORT_CHANNEL_COLLECTIVE, group->transfers,
                                count, deadline_ns);
}

static uint8_t *scratch_of(const cohort_group *group, int32_t rank) {
    return group->scratch + (size_t)rank * COHORT_REMOTE_CHUNK_BYTES;
}

cohort_status cohort_remote_barrier(cohort_group *group, int64_t deadline_ns) {
    int32_t count = 0;
    uint8_t token = 0xba;
    for (int32_t r = 0; r < group->size; r++)
        if (r != group->rank) add(group, &count, r, &token, 1, scratch_of(group, r), 1);
    return exchange(group, count, deadline_ns);
}

cohort_status cohort_remote_broadcast(cohort_group *group, int32_t root, uint8_t *buffer,
                                      size_t size_bytes, int64_t deadline_ns) {
    int32_t count = 0;
    if (root != group->rank) add(group, &count, root, NULL, 0, buffer, size_bytes);
    for (int32_t r = 0; root == group->rank && r < group->size; r++)
        if (r != root) add(group, &count, r, buffer, size_bytes, NULL, 0);
    return exchange(group, count, deadline_ns);
}

/* out = the sum of mine and of what was received into scratch. */
static void add_up(cohort_group *group, const cohort_reduction *how, const uint8_t *mine,
                   uint8_t *out, size_t n) {
    for (int32_t r = 0; r < group->size; r++)
        group->parts[r] = r == group->rank ? mine : scratch_of(group, r);
    how->reduce(out, group->parts, group->size, n, how->op);
}

static cohort_status one_round(cohort_group *group, const cohort_reduction *how,
                               uint8_t *mine, size_t n, int64_t deadline_ns) {
    int32_t count = 0;
    size_t bytes = n * how->item_bytes;
    for (int32_t r = 0; r < group->size; r++)
        if (r != group->rank)
            add(group, &count, r, mine, bytes, scratch_of(group, r), bytes);
    COHORT_TRY(exchange(group, count, deadline_ns));
    add_up(group, how, mine, mine, n);
    return COHORT_OK;
}

static cohort_status two_rounds(cohort_group *group, const cohort_reduction *how,
                                uint8_t *chunk, size_t n, int64_t deadline_ns) {
    size_t item = how->item_bytes;
    size_t begin = cohort_share_begin(n, group->rank, group->size) * item;
    size_t own = cohort_share_begin(n, group->rank + 1, group->size) * item - begin;
    uint8_t *mine = chunk + begin;
    for (int round = 0; round < 2; round++) {
        int32_t count = 0;
        for (int32_t r = 0; r < group->size; r++) {
            if (r == group->rank) continue;
            uint8_t *theirs = chunk + cohort_share_begin(n, r, group->size) * item;
            size_t bytes =
                (size_t)(chunk + cohort_share_begin(n, r + 1, group->size) * item -
                         theirs);
            if (round == 0)
                add(group, &count, r, theirs, bytes, scratch_of(group, r), own);
            else
                add(group, &count, r, mine, own, theirs, bytes);
        }
        COHORT_TRY(exchange(group, count, deadline_ns));
        if (round == 0) add_up(group, how, mine, mine, own / item);
    }
    return COHORT_OK;
}

cohort_status cohort_remote_all_reduce(cohort_group *group, const cohort_reduction *how,
                                       uint8_t *buffer, size_t count,
                                       int64_t deadline_ns) {
    size_t most = COHORT_REMOTE_CHUNK_BYTES / how->item_bytes;
    for (size_t done = 0; done < count; done += most) {
        size_t n = cohort_lesser(count - done, most);
        uint8_t *mine = buffer + done * how->item_bytes;
        if (group->size > 2 && n * how->item_bytes >= TWO_STEP_BYTES)
            COHORT_TRY(two_rounds(group, how, mine, n, deadline_ns));
        else
            COHORT_TRY(one_round(group, how, mine, n, deadline_ns));
    }
    return COHORT_OK;
}

cohort_status cohort_remote_reduce_scatter(cohort_group *group,
                                           const cohort_reduction *how,
                                           const uint8_t *send, uint8_t *receive,
                                           size_t count, int64_t deadline_ns) {
    size_t item = how->item_bytes, most = COHORT_REMOTE_CHUNK_BYTES / item;
    for (size_t done = 0; done < count; done += most) {
        size_t n = cohort_lesser(count - done, most);
        int32_t transfers = 0;
        for (int32_t r = 0; r < group->size; r++)
            if (r != group->rank)
                add(group, &transfers, r, send + ((size_t)r * count + done) * item,
                    n * item, scratch_of(group, r), n * item);
        COHORT_TRY(exchange(group, transfers, deadline_ns));
        add_up(group, how, send + ((size_t)group->rank * count + done) * item,
               receive + done * item, n);
    }
    return COHORT_OK;
}

cohort_status cohort_remote_gather(cohort_group *group, int32_t root, const uint8_t *send,
                                   const size_t *size_bytes, uint8_t *receive,
                                   int64_t deadline_ns) {
    int32_t count = 0;
    bool receives = root < 0 || root == group->rank;
    for (int32_t r = 0; r < group->size; r++) {
        size_t in = receives ? size_bytes[r] : 0;
        size_t out = root < 0 || r == root ? size_bytes[group->rank] : 0;
        if (r != group->rank) add(group, &count, r, send, out, receive, in);
        if (receives) receive += in;
    }
    return exchange(group, count, deadline_ns);
}
