/* SPDX-License-Identifier: Apache-2.0 */
#include "collective/group.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"

static void free_first(cohort_group **list) {
    cohort_group *group = *list;
    *list = group->next;
    cohort_table_close(&group->table);
    free(group->ranks);
    free(group->parts);
    free(group->transfers);
    free(group->scratch);
    free(group);
}

static cohort_status check_ranks(const cohort_mesh *mesh, const int32_t *ranks,
                                 int32_t size) {
    bool member = false;
    if (size < 1) return COHORT_FAIL(COHORT_E_INVALID, "a group of %d ranks", size);
    for (int32_t i = 0; i < size; i++) {
        if (ranks[i] < 0 || ranks[i] >= mesh->options.world_size)
            return COHORT_FAIL(COHORT_E_INVALID, "rank %d of a world of %d", ranks[i],
                               mesh->options.world_size);
        for (int32_t j = 0; j < i; j++)
            if (ranks[i] == ranks[j])
                return COHORT_FAIL(COHORT_E_INVALID, "rank %d twice in a group",
                                   ranks[i]);
        member |= ranks[i] == mesh->options.rank;
    }
    if (!member)
        return COHORT_FAIL(COHORT_E_INVALID, "rank %d opens a group it is not in",
                           mesh->options.rank);
    if (size > 1 && !mesh->connected)
        return COHORT_FAIL(COHORT_E_INVALID, "connect the mesh before opening a group");
    return COHORT_OK;
}

static cohort_status allocate(cohort_group *group, const int32_t *ranks) {
    size_t n = (size_t)group->size;
    group->ranks = calloc(n, sizeof *group->ranks);
    group->parts = calloc(n, sizeof *group->parts);
    group->transfers = calloc(n, sizeof *group->transfers);
    if (!group->ranks || !group->parts || !group->transfers)
        return COHORT_FAIL(COHORT_E_NOMEM, "a group of %d ranks", group->size);
    memcpy(group->ranks, ranks, n * sizeof *ranks);
    group->is_local = true;
    for (int32_t i = 0; i < group->size; i++) {
        if (ranks[i] == group->mesh->options.rank) group->rank = i;
        if (n > 1) group->is_local &= group->mesh->peers[ranks[i]].shares;
    }
    if (n == 1) return COHORT_OK;
    if (group->is_local)
        return cohort_table_open(group->mesh, group->ranks, group->size, group->rank,
                                 &group->table);
    group->scratch = aligned_alloc(64, n * COHORT_REMOTE_CHUNK_BYTES);
    if (!group->scratch)
        return COHORT_FAIL(COHORT_E_NOMEM, "scratch of a group of %d ranks", group->size);
    return COHORT_OK;
}

cohort_status cohort_group_open(cohort_mesh *mesh, const int32_t *ranks, int32_t size,
                                cohort_group **out_group) {
    COHORT_TRY(check_ranks(mesh, ranks, size));
    cohort_group *group = calloc(1, sizeof *group);
    if (!group) return COHORT_FAIL(COHORT_E_NOMEM, "a group");
    group->next = mesh->groups;
    mesh->groups = group;
    mesh->free_group = free_first;
    group->mesh = mesh;
    group->size = size;
    group->reducers = cohort_reducers_choose();
    cohort_status status = allocate(group, ranks);
    if (status < 0) {
        free_first(&mesh->groups);
        return status;
    }
    *out_group = group;
    return COHORT_OK;
}

int32_t cohort_group_size(const cohort_group *group) { return group->size; }

int32_t cohort_group_rank(const cohort_group *group) { return group->rank; }

const char *cohort_group_transport(const cohort_group *group) {
    int32_t shared = 0;
    for (int32_t i = 0; i < group->size; i++)
        shared += i != group->rank && group->mesh->peers[group->ranks[i]].shares;
    if (shared == group->size - 1) return "shared memory";
    return shared ? "mixed" : "tcp";
}

/* ---- before and after every operation ---------------------------------------------- */

static cohort_status begin(cohort_group *group) {
    COHORT_TRY(cohort_mesh_check(group->mesh));
    return group->failed.code ? cohort_fail_adopt(&group->failed) : COHORT_OK;
}

/* Nobody knows how far a failed operation came, so it was the last one.  Peers that find
 * us gone read in the outbox whom we were let down by. */
static cohort_status end(cohort_group *group, cohort_status status) {
    if (status >= 0) return status;
    group->failed = *cohort_last_error();
    cohort_mesh_part(group->mesh, group->failed.rank);
    return status;
}

static cohort_status check_peer(const cohort_group *group, int32_t peer) {
    if (peer >= 0 && peer < group->size && peer != group->rank) return COHORT_OK;
    return COHORT_FAIL(COHORT_E_INVALID, "rank %d of a group of %d is no peer of rank %d",
                       peer, group->size, group->rank);
}

static cohort_status check_root(const cohort_group *group, int32_t root) {
    return root == group->rank ? COHORT_OK : check_peer(group, root);
}

static cohort_status choose_reduction(const cohort_group *group, cohort_dtype dtype,
                                      cohort_reduce_op op, cohort_reduction *out_how) {
    *out_how = (cohort_reduction){.reduce = cohort_reducer_of(group->reducers, dtype),
                                  .op = op,
                                  .item_bytes = dtype == COHORT_BF16 ? 2 : 4};
    if (!out_how->reduce || (op != COHORT_SUM && op != COHORT_MAX))
        return COHORT_FAIL(COHORT_E_INVALID,
                           "reductions take f32, bf16 and i32, and sum or max");
    return COHORT_OK;
}

/* ---- operations -------------------------------------------------------------------- */

cohort_status cohort_barrier(cohort_group *group, int64_t deadline_ns) {
    COHORT_TRY(begin(group));
    if (group->size == 1) return COHORT_OK;
    return end(group, group->is_local ? cohort_local_barrier(group, deadline_ns)
                                      : cohort_remote_barrier(group, deadline_ns));
}

cohort_status cohort_broadcast(cohort_group *group, int32_t root, void *buffer,
                               size_t size_bytes, int64_t deadline_ns) {
    COHORT_TRY(check_root(group, root));
    COHORT_TRY(begin(group));
    if (group->size == 1) return COHORT_OK;
    return end(group,
               (group->is_local ? cohort_local_broadcast : cohort_remote_broadcast)(
                   group, root, buffer, size_bytes, deadline_ns));
}

cohort_status cohort_all_reduce(cohort_group *group, cohort_dtype dtype,
                                cohort_reduce_op op, void *buffer, size_t count,
                                int64_t deadline_ns) {
    cohort_reduction how;
    COHORT_TRY(choose_reduction(group, dtype, op, &how));
    COHORT_TRY(begin(group));
    if (group->size == 1) return COHORT_OK;
    return end(group,
               (group->is_local ? cohort_local_all_reduce : cohort_remote_all_reduce)(
                   group, &how, buffer, count, deadline_ns));
}

cohort_status cohort_reduce_scatter(cohort_group *group, cohort_dtype dtype,
                                    cohort_reduce_op op, const void *send, void *receive,
                                    size_t count, int64_t deadline_ns) {
    cohort_reduction how;
    COHORT_TRY(choose_reduction(group, dtype, op, &how));
    COHORT_TRY(begin(group));
    if (group->size == 1) {
        if (count) memmove(receive, send, count * how.item_bytes);
        return COHORT_OK;
    }
    return end(group, (group->is_local ? cohort_local_reduce_scatter
                                       : cohort_remote_reduce_scatter)(
                          group, &how, send, receive, count, deadline_ns));
}

static cohort_status gather(cohort_group *group, int32_t root, const void *send,
                            const size_t *size_bytes, void *receive,
                            int64_t deadline_ns) {
    COHORT_TRY(begin(group));
    uint8_t *place = receive;
    for (int32_t r = 0; r < group->rank && place; r++)
        place += size_bytes[r];
    if ((root < 0 || root == group->rank) && size_bytes[group->rank])
        memmove(place, send, size_bytes[group->rank]);
    if (group->size == 1) return COHORT_OK;
    return end(group, (group->is_local ? cohort_local_gather : cohort_remote_gather)(
                          group, root, send, size_bytes, receive, deadline_ns));
}

cohort_status cohort_all_gather(cohort_group *group, const void *send,
                                const size_t *size_bytes, void *receive,
                                int64_t deadline_ns) {
    return gather(group, -1, send, size_bytes, receive, deadline_ns);
}

cohort_status cohort_gather(cohort_group *group, int32_t root, const void *send,
                            const size_t *size_bytes, void *receive,
                            int64_t deadline_ns) {
    COHORT_TRY(check_root(group, root));
    return gather(group, root, send, size_bytes, receive, deadline_ns);
}

static cohort_status pass(cohort_group *group, cohort_transfer transfer,
                          int64_t deadline_ns) {
    COHORT_TRY(check_peer(group, transfer.peer));
    COHORT_TRY(begin(group));
    transfer.peer = group->ranks[transfer.peer];
    return end(group, cohort_mesh_exchange(group->mesh, COHORT_CHANNEL_MESSAGE, &transfer,
                                           1, deadline_ns));
}

cohort_status cohort_send(cohort_group *group, int32_t peer, const void *buffer,
                          size_t size_bytes, int64_t deadline_ns) {
    cohort_transfer transfer = {.peer = peer, .send = buffer, .send_bytes = size_bytes};
    return pass(group, transfer, deadline_ns);
}

cohort_status cohort_recv(cohort_group *group, int32_t peer, void *buffer,
                          size_t size_bytes, int64_t deadline_ns) {
    cohort_transfer transfer = {
        .peer = peer, .receive = buffer, .receive_bytes = size_bytes};
    return pass(group, transfer, deadline_ns);
}
