/* SPDX-License-Identifier: Apache-2.0 */
/* collective/mesh.h - what mesh.c gives to group.c: transfers between ranks, all at once.
 *
 * A transfer moves bytes to and from one peer; cohort_mesh_exchange moves many side by
 * side and returns when all are done, so that two ranks sending to each other never lock
 * up.
 */
#ifndef COHORT_COLLECTIVE_MESH_H
#define COHORT_COLLECTIVE_MESH_H

#include <pthread.h>

#include "cohort/collective.h"
#include "collective/channel.h"

typedef struct cohort_transfer {
    int32_t peer; /* world rank */
    const uint8_t *send;
    size_t send_bytes;
    uint8_t *receive;
    size_t receive_bytes;
} cohort_transfer;

typedef struct cohort_peer {
    cohort_link *link;     /* pulse; and the bytes, where outbox is NULL */
    cohort_outbox *outbox; /* the peer's, where it is on this host */
} cohort_peer;

struct cohort_mesh {
    cohort_mesh_options options;
    cohort_listener *listener;
    cohort_outbox *outbox;
    int outbox_fd;
    cohort_peer *peers; /* by world rank; the own one is empty */
    cohort_group *groups;
    pthread_mutex_t poison_mutex;
    _Atomic bool poisoned;
    cohort_error poison;
    _Atomic int32_t waiting_on; /* world rank, or -1 */
};

/* Unlinks and frees the first of a list of groups. */
void cohort_group_free(cohort_group **list);

/* Advances transfers (their pointers and counts are used up) until all are done. */
cohort_status cohort_mesh_exchange(cohort_mesh *mesh, cohort_transfer *transfers,
                                   int32_t count, int64_t deadline_ns);

#endif /* COHORT_COLLECTIVE_MESH_H */
