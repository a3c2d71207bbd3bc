/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "collective/mesh.h"

/* Design notes.
 *
 * Every operation is an exchange of transfers.  A reduction goes chunk by chunk: each
 * rank gives its chunk to all others, has theirs, and adds them up in rank order, its own
 * in its place. With two ranks that is the least traffic there is; with more it trades
 * traffic for one round instead of log n, which is right for the few KiB of a decode
 * step. */

enum { CHUNK_BYTES = 256 << 10 };

struct cohort_group {
    cohort_mesh *mesh;
    cohort_group *next;
    int32_t size, rank;
    int32_t *ranks;             /* world ranks */
    cohort_transfer *transfers; /* size */
    uint8_t *scratch;           /* size chunks, the own one unused */
    float *sums;                /* for bf16: one chunk in f32 */
};

void cohort_group_free(cohort_group **list) {
    cohort_group *group = *list;
    *list = group->next;
    free(group->ranks);
    free(group->transfers);
    free(group->scratch);
    free(group->sums);
    free(group);
}

static cohort_status check_ranks(const cohort_mesh *mesh, const int32_t *ranks,
                                 int32_t size) {
    bool member = false;
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
    return COHORT_OK;
}

cohort_status cohort_group_open(cohort_mesh *mesh, const int32_t *ranks, int32_t size,
                                cohort_group **out_group) {
    COHORT_TRY(check_ranks(mesh, ranks, size));
    cohort_group *group = calloc(1, sizeof *group);
    if (!group) return COHORT_FAIL(COHORT_E_NOMEM, "a group");
    group->next = mesh->groups;
    mesh->groups = group;
    group->mesh = mesh;
    group->size = size;
    size_t n = (size_t)size;
    group->ranks = calloc(n, sizeof *group->ranks);
    group->transfers = calloc(n, sizeof *group->transfers);
    group->scratch = aligned_alloc(64, n * CHUNK_BYTES);
    group->sums = aligned_alloc(64, 2 * CHUNK_BYTES);
    if (!group->ranks || !group->transfers || !group->scratch || !group->sums) {
        cohort_group_free(&mesh->groups);
        return COHORT_FAIL(COHORT_E_NOMEM, "a group of %d ranks", size);
    }
    memcpy(group->ranks, ranks, n * sizeof *ranks);
    for (int32_t i = 0; i < size; i++)
        if (ranks[i] == mesh->options.rank) group->rank = i;
    *out_group = group;
    return COHORT_OK;
}

int32_t cohort_group_size(const cohort_group *group) { return group->size; }

int32_t cohort_group_rank(const cohort_group *group) { return group->rank; }

const char *cohort_group_transport(const cohort_group *group) {
    int32_t shared = 0;
    for (int32_t i = 0; i < group->size; i++)
        shared += i != group->rank && group->mesh->peers[group->ranks[i]].outbox;
    if (shared == group->size - 1) return "shared memory";
    return shared ? "mixed" : "tcp";
}

/* The transfer slot for one peer; slots are used from the front. */
static void add_transfer(cohort_group *group, int32_t *count, int32_t peer,
                         const void *send, size_t send_bytes, void *receive,
                         size_t receive_bytes) {
    group->transfers[(*count)++] = (cohort_transfer){.peer = group->ranks[peer],
                                                     .send = send,
                                                     .send_bytes = send_bytes,
                                                     .receive = receive,
                                                     .receive_bytes = receive_bytes};
}

static cohort_status exchange(cohort_group *group, int32_t count, int64_t deadline_ns) {
    return cohort_mesh_exchange(group->mesh, group->transfers, count, deadline_ns);
}

static cohort_status check_peer(const cohort_group *group, int32_t peer) {
    if (peer >= 0 && peer < group->size && peer != group->rank) return COHORT_OK;
    return COHORT_FAIL(COHORT_E_INVALID, "rank %d of a group of %d is no peer of rank %d",
                       peer, group->size, group->rank);
}

cohort_status cohort_barrier(cohort_group *group, int64_t deadline_ns) {
    int32_t count = 0;
    uint8_t token = 0xba;
    for (int32_t i = 0; i < group->size; i++)
        if (i != group->rank)
            add_transfer(group, &count, i, &token, 1, group->scratch + i, 1);
    return exchange(group, count, deadline_ns);
}

cohort_status cohort_broadcast(cohort_group *group, int32_t root, void *buffer,
                               size_t size_bytes, int64_t deadline_ns) {
    int32_t count = 0;
    if (root != group->rank) {
        COHORT_TRY(check_peer(group, root));
        add_transfer(group, &count, root, NULL, 0, buffer, size_bytes);
    }
    for (int32_t i = 0; root == group->rank && i < group->size; i++)
        if (i != root) add_transfer(group, &count, i, buffer, size_bytes, NULL, 0);
    return exchange(group, count, deadline_ns);
}

/* ---- reductions -------------------------------------------------------------------- */

static size_t item_bytes(cohort_dtype dtype) {
    return dtype == COHORT_BF16 || dtype == COHORT_F16 ? 2 : 4;
}

static float widen(uint16_t bits) {
    uint32_t word = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &word, sizeof value);
    return value;
}

static uint16_t narrow(float value) {
    uint32_t word;
    memcpy(&word, &value, sizeof word);
    if ((word & 0x7fffffff) > 0x7f800000) return 0x7fc0;
    return (uint16_t)((word + 0x7fff + ((word >> 16) & 1)) >> 16);
}

static void combine_f32(float *to, const float *from, size_t n, cohort_reduce_op op) {
    if (op == COHORT_SUM)
        for (size_t i = 0; i < n; i++)
            to[i] += from[i];
    else
        for (size_t i = 0; i < n; i++)
            to[i] = from[i] > to[i] ? from[i] : to[i];
}

static void combine_bf16(float *to, const uint16_t *from, size_t n, cohort_reduce_op op) {
    for (size_t i = 0; i < n; i++) {
        float value = widen(from[i]);
        to[i] = op == COHORT_SUM ? to[i] + value : value > to[i] ? value : to[i];
    }
}

static void combine_i32(int32_t *to, const int32_t *from, size_t n, cohort_reduce_op op) {
    if (op == COHORT_SUM)
        for (size_t i = 0; i < n; i++) /* wraps, as the hardware does */
            to[i] = (int32_t)((uint32_t)to[i] + (uint32_t)from[i]);
    else
        for (size_t i = 0; i < n; i++)
            to[i] = from[i] > to[i] ? from[i] : to[i];
}

/* out = parts[0] op parts[1] op ..., where part i lies in scratch and the own one in
 * mine. */
static void reduce_parts(cohort_group *group, cohort_dtype dtype, cohort_reduce_op op,
                         const void *mine, void *out, size_t n) {
    size_t bytes = n * item_bytes(dtype);
    for (int32_t r = 0; r < group->size; r++) {
        const void *part =
            r == group->rank ? mine : group->scratch + (size_t)r * CHUNK_BYTES;
        if (r == 0 && dtype == COHORT_BF16)
            for (size_t i = 0; i < n; i++)
                group->sums[i] = widen(((const uint16_t *)part)[i]);
        else if (r == 0)
            memcpy(group->sums, part, bytes);
        else if (dtype == COHORT_F32)
            combine_f32(group->sums, part, n, op);
        else if (dtype == COHORT_BF16)
            combine_bf16(group->sums, part, n, op);
        else
            combine_i32((int32_t *)(void *)group->sums, part, n, op);
    }
    if (dtype == COHORT_BF16)
        for (size_t i = 0; i < n; i++)
            ((uint16_t *)out)[i] = narrow(group->sums[i]);
    else
        memcpy(out, group->sums, bytes);
}

static cohort_status check_dtype(cohort_dtype dtype) {
    if (dtype == COHORT_F32 || dtype == COHORT_BF16 || dtype == COHORT_I32)
        return COHORT_OK;
    return COHORT_FAIL(COHORT_E_INVALID, "reductions take f32, bf16 and i32");
}

cohort_status cohort_all_reduce(cohort_group *group, cohort_dtype dtype,
                                cohort_reduce_op op, void *buffer, size_t count,
                                int64_t deadline_ns) {
    COHORT_TRY(check_dtype(dtype));
    if (group->size == 1) return COHORT_OK;
    size_t chunk = CHUNK_BYTES / item_bytes(dtype);
    for (size_t done = 0; done < count; done += chunk) {
        size_t n = count - done < chunk ? count - done : chunk;
        uint8_t *mine = (uint8_t *)buffer + done * item_bytes(dtype);
        size_t bytes = n * item_bytes(dtype);
        int32_t transfers = 0;
        for (int32_t i = 0; i < group->size; i++)
            if (i != group->rank)
                add_transfer(group, &transfers, i, mine, bytes,
                             group->scratch + (size_t)i * CHUNK_BYTES, bytes);
        COHORT_TRY(exchange(group, transfers, deadline_ns));
        reduce_parts(group, dtype, op, mine, mine, n);
    }
    return COHORT_OK;
}

cohort_status cohort_reduce_scatter(cohort_group *group, cohort_dtype dtype,
                                    cohort_reduce_op op, const void *send, void *receive,
                                    size_t count, int64_t deadline_ns) {
    COHORT_TRY(check_dtype(dtype));
    size_t item = item_bytes(dtype), chunk = CHUNK_BYTES / item;
    const uint8_t *parts = send;
    for (size_t done = 0; done < count; done += chunk) {
        size_t n = count - done < chunk ? count - done : chunk;
        int32_t transfers = 0;
        for (int32_t i = 0; i < group->size; i++)
            if (i != group->rank)
                add_transfer(group, &transfers, i,
                             parts + ((size_t)i * count + done) * item, n * item,
                             group->scratch + (size_t)i * CHUNK_BYTES, n * item);
        COHORT_TRY(exchange(group, transfers, deadline_ns));
        reduce_parts(group, dtype, op,
                     parts + ((size_t)group->rank * count + done) * item,
                     (uint8_t *)receive + done * item, n);
    }
    return COHORT_OK;
}

/* ---- gathers and pairs ------------------------------------------------------------- */

static cohort_status gather_at(cohort_group *group, int32_t root, const void *send,
                               const size_t *size_bytes, void *receive,
                               int64_t deadline_ns) {
    int32_t count = 0;
    size_t at = 0;
    bool everyone = root < 0, receives = everyone || root == group->rank;
    for (int32_t i = 0; i < group->size; i++) {
        uint8_t *place = receives ? (uint8_t *)receive + at : NULL;
        at += size_bytes[i];
        if (i == group->rank) {
            if (receives && size_bytes[i]) memmove(place, send, size_bytes[i]);
            continue;
        }
        size_t out = everyone || i == root ? size_bytes[group->rank] : 0;
        add_transfer(group, &count, i, send, out, place, receives ? size_bytes[i] : 0);
    }
    return exchange(group, count, deadline_ns);
}

cohort_status cohort_all_gather(cohort_group *group, const void *send,
                                const size_t *size_bytes, void *receive,
                                int64_t deadline_ns) {
    return gather_at(group, -1, send, size_bytes, receive, deadline_ns);
}

cohort_status cohort_gather(cohort_group *group, int32_t root, const void *send,
                            const size_t *size_bytes, void *receive,
                            int64_t deadline_ns) {
    if (root != group->rank) COHORT_TRY(check_peer(group, root));
    return gather_at(group, root, send, size_bytes, receive, deadline_ns);
}

cohort_status cohort_send(cohort_group *group, int32_t peer, const void *buffer,
                          size_t size_bytes, int64_t deadline_ns) {
    int32_t count = 0;
    COHORT_TRY(check_peer(group, peer));
    add_transfer(group, &count, peer, buffer, size_bytes, NULL, 0);
    return exchange(group, count, deadline_ns);
}

cohort_status cohort_recv(cohort_group *group, int32_t peer, void *buffer,
                          size_t size_bytes, int64_t deadline_ns) {
    int32_t count = 0;
    COHORT_TRY(check_peer(group, peer));
    add_transfer(group, &count, peer, NULL, 0, buffer, size_bytes);
    return exchange(group, count, deadline_ns);
}
