/* SPDX-License-Identifier: Apache-2.0 */
/* cohort/collective.h - what ranks do together: barrier, reduce, gather, send.
 *
 * A mesh is one rank's end of the whole world: it listens, publishes a handle, and is
 * connected once it has everybody's.  A group is an ordered subset of the mesh (world,
 * tp, pp); ranks on one host meet in shared memory, others over TCP, chosen per pair.
 *
 *   open -> export -> (handles travel through the driver) -> connect -> group_open ...
 *
 * All members of a group make the same calls in the same order.  A reduction adds in rank
 * order whatever arrives first, so the result is the same bits on every rank, every time.
 *
 * Ownership: buffers are the caller's and are free again when a call returns.
 * Threads:   a mesh and its groups belong to one thread, cohort_mesh_poison excepted.
 * Errors:    a late or dead peer is COHORT_E_TIMEOUT or COHORT_E_PEER_DIED, and the
 * error's rank is that peer's world rank.  After an error the group is unusable.
 */
#ifndef COHORT_COLLECTIVE_H
#define COHORT_COLLECTIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cohort/dtype.h"
#include "cohort/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cohort_mesh cohort_mesh;
typedef struct cohort_group cohort_group;

enum { COHORT_MAX_WORLD_SIZE = 1024, COHORT_ALL_RANKS = -1 };

typedef enum cohort_reduce_op { COHORT_SUM, COHORT_MAX } cohort_reduce_op;

typedef struct cohort_mesh_options {
    int32_t rank;
    int32_t world_size;
    const char *listen_host; /* address for ranks on other hosts; copied; NULL: this host
                                only */
    bool tcp_only;           /* no shared memory, even on one host */
    int64_t spin_ns;         /* polling before sleeping; negative: the default */
} cohort_mesh_options;

/* Where a mesh is found, and the right to connect to it: send it over private channels
 * only.  Plain bytes. */
typedef struct cohort_mesh_handle {
    uint8_t bytes[192];
} cohort_mesh_handle;

COHORT_API cohort_status cohort_mesh_open(const cohort_mesh_options *options,
                                          cohort_mesh **out_mesh);
COHORT_API cohort_status cohort_mesh_export(const cohort_mesh *mesh,
                                            cohort_mesh_handle *out_handle);
/* handles[world_size], in rank order, the own one included.  Returns when connected to
 * all. */
COHORT_API cohort_status cohort_mesh_connect(cohort_mesh *mesh,
                                             const cohort_mesh_handle *handles,
                                             int64_t deadline_ns);
/* From any thread: every call on this mesh, now and later, returns this error. */
COHORT_API void cohort_mesh_poison(cohort_mesh *mesh, const cohort_error *error);
/* From any thread: the world rank that this rank sleeps for, or COHORT_RANK_LOCAL. */
COHORT_API int32_t cohort_mesh_waiting_on(const cohort_mesh *mesh);
/* Closes its groups too.  Accepts NULL. */
COHORT_API void cohort_mesh_close(cohort_mesh *mesh);

/* ranks[size]: world ranks in the group's order; all members open their groups in the
 * same order.  The group belongs to the mesh. */
COHORT_API cohort_status cohort_group_open(cohort_mesh *mesh, const int32_t *ranks,
                                           int32_t size, cohort_group **out_group);
COHORT_API int32_t cohort_group_size(const cohort_group *group);
COHORT_API int32_t cohort_group_rank(const cohort_group *group);
/* "shared memory", "tcp" or "mixed"; static text. */
COHORT_API const char *cohort_group_transport(const cohort_group *group);

/* Ranks below are ranks within the group. */
COHORT_API cohort_status cohort_barrier(cohort_group *group, int64_t deadline_ns);
COHORT_API cohort_status cohort_broadcast(cohort_group *group, int32_t root, void *buffer,
                                          size_t size_bytes, int64_t deadline_ns);
/* In place.  COHORT_F32, COHORT_BF16 (added in f32, rounded once) or COHORT_I32. */
COHORT_API cohort_status cohort_all_reduce(cohort_group *group, cohort_dtype dtype,
                                           cohort_reduce_op op, void *buffer,
                                           size_t count, int64_t deadline_ns);
/* Rank i gives size_bytes[i]; every rank receives all, one after the other. */
COHORT_API cohort_status cohort_all_gather(cohort_group *group, const void *send,
                                           const size_t *size_bytes, void *receive,
                                           int64_t deadline_ns);
/* The same, but only root receives; the others may pass NULL. */
COHORT_API cohort_status cohort_gather(cohort_group *group, int32_t root,
                                       const void *send, const size_t *size_bytes,
                                       void *receive, int64_t deadline_ns);
/* send[size * count] is reduced over the ranks; rank i receives its i-th part,
 * receive[count]. */
COHORT_API cohort_status cohort_reduce_scatter(cohort_group *group, cohort_dtype dtype,
                                               cohort_reduce_op op, const void *send,
                                               void *receive, size_t count,
                                               int64_t deadline_ns);
/* Point to point, in order per pair.  A send returns once the bytes are buffered;
 * messages of up to 1 MiB never wait for the receiver to come, unless 2 of them lie
 * unread. */
COHORT_API cohort_status cohort_send(cohort_group *group, int32_t peer,
                                     const void *buffer, size_t size_bytes,
                                     int64_t deadline_ns);
COHORT_API cohort_status cohort_recv(cohort_group *group, int32_t peer, void *buffer,
                                     size_t size_bytes, int64_t deadline_ns);

#ifdef __cplusplus
}
#endif

#endif /* COHORT_COLLECTIVE_H */
