/* SPDX-License-Identifier: Apache-2.0 */
/* collective/mesh.h - what the files of this folder share: peers, waiting, transfers.
 *
 *   mesh.c      who the peers are, and how to meet them        outbox.c  shared memory
 *   await.c     the one place where a rank waits               reduce.c  arithmetic
 *   exchange.c  bytes between pairs, over pipes or TCP
 *   board.c     steps that a group within one host takes together
 *   group.c     the public operations, by board or by exchange
 */
#ifndef COHORT_COLLECTIVE_MESH_H
#define COHORT_COLLECTIVE_MESH_H

#include <poll.h>
#include <pthread.h>

#include "cohort/collective.h"
#include "collective/outbox.h"
#include "link/link.h"

typedef struct cohort_mesh_peer {
    bool shares; /* on this host, and both sides are willing */
    /* Over TCP one link per channel; where the peer shares, the first is its pulse. */
    cohort_link *links[COHORT_CHANNELS];
    cohort_outbox *outbox; /* the peer's, where it shares */
    int bell_fd;           /* wakes the peer */
} cohort_mesh_peer;

typedef struct cohort_watch {
    int32_t rank;
    bool pulse;
} cohort_watch;

struct cohort_mesh {
    cohort_mesh_options options;
    cohort_listener *listener;
    cohort_outbox *outbox;
    int outbox_fd, bell_fd;
    bool connected;
    cohort_mesh_peer *peers; /* by world rank; the own one shares and has no links */
    cohort_group *groups;
    void (*free_group)(cohort_group **list); /* their own, which know the mesh */
    int32_t n_boards;                        /* taken from the own outbox */
    /* What is polled: the doorbell, then what watch() adds.  Room for two links a peer.
     */
    struct pollfd *fds;
    cohort_watch *watches;
    nfds_t n_fds;
    int longest_sleep_ms; /* should a wake ever be lost, it costs this once */
    pthread_mutex_t poison_mutex;
    _Atomic bool poisoned;
    cohort_error poison;
    _Atomic int32_t waiting_on; /* world rank, or COHORT_RANK_LOCAL */
};

/* The poison, or OK. */
cohort_status cohort_mesh_check(cohort_mesh *mesh);
/* For peers that will find us gone: it was because of that rank.  The first one counts.
 */
void cohort_mesh_part(cohort_mesh *mesh, int32_t rank);
/* Gives the last error that rank, and says what was being done. */
cohort_status cohort_mesh_blame(cohort_status status, int32_t rank, const char *what);

/* ---- await.c ----------------------------------------------------------------------- */

/* Something that gets done as peers act. */
typedef struct cohort_work cohort_work;
struct cohort_work {
    /* Does what can be done now: > 0 something, 0 nothing, < 0 an error of the rank in
     * out_waiting.  out_waiting: a world rank that still owes something, or none: done.
     */
    int64_t (*advance)(cohort_work *work, int32_t *out_waiting);
    /* cohort_mesh_watch for each rank that still owes something. */
    void (*watch)(cohort_work *work);
};

void cohort_mesh_watch(cohort_mesh *mesh, int32_t rank, cohort_channel channel,
                       short events);
/* Advances until done.  Errors name the rank: TIMEOUT, PEER_DIED, PROTOCOL, poison. */
cohort_status cohort_mesh_await(cohort_mesh *mesh, cohort_work *work,
                                int64_t deadline_ns);

/* ---- exchange.c -------------------------------------------------------------------- */

typedef struct cohort_transfer {
    int32_t peer; /* world rank */
    const uint8_t *send;
    size_t send_bytes;
    uint8_t *receive;
    size_t receive_bytes;
} cohort_transfer;

/* Advances transfers (their pointers and counts are used up) side by side until all are
 * done, so that two ranks sending to each other never lock up. */
cohort_status cohort_mesh_exchange(cohort_mesh *mesh, cohort_channel channel,
                                   cohort_transfer *transfers, int32_t count,
                                   int64_t deadline_ns);

#endif /* COHORT_COLLECTIVE_MESH_H */
