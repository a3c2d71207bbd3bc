/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/wait.h"
#include "cohort/clock.h"
#include "collective/mesh.h"

/* Design notes.
 *
 * A rank polls for a while and then sleeps in poll(), on its doorbell and on the links of
 * those it waits for.  So whatever it may wait for wakes it at once, without slices: the
 * doorbell for shared memory and for poison, a TCP link for its bytes, a pulse for the
 * death of its owner.  Only a peer that hangs is left to the deadline.
 *
 * What a peer gave before it hung up counts: its stores precede the end of its pulse, so
 * one more look after that settles whether it still owes something. */

void cohort_mesh_watch(cohort_mesh *mesh, int32_t rank, cohort_channel channel,
                       short events) {
    const cohort_mesh_peer *peer = &mesh->peers[rank];
    const cohort_link *link = peer->links[peer->shares ? 0 : channel];
    mesh->watches[mesh->n_fds] = (cohort_watch){.rank = rank, .pulse = peer->shares};
    mesh->fds[mesh->n_fds++] = (struct pollfd){
        .fd = cohort_link_fd(link), .events = peer->shares ? POLLRDHUP : events};
}

/* The doorbell, and everybody who owes something. */
static void watch_all(cohort_mesh *mesh, cohort_work *work) {
    mesh->fds[0] = (struct pollfd){.fd = mesh->bell_fd, .events = POLLIN};
    mesh->n_fds = 1;
    work->watch(work);
}

static int sleep_ms(const cohort_mesh *mesh, int64_t deadline_ns) {
    int64_t left_ns = deadline_ns - cohort_clock_ns();
    if (left_ns <= 0) return 0;
    if (left_ns >= mesh->longest_sleep_ms * INT64_C(1000000))
        return mesh->longest_sleep_ms;
    return (int)((left_ns + 999999) / 1000000); /* up: never wake before the deadline */
}

/* Sleeps until something may have changed.  Like advance. */
static int64_t nap(cohort_mesh *mesh, cohort_work *work, int64_t deadline_ns,
                   int32_t *out_waiting) {
    _Atomic uint32_t *asleep = &mesh->outbox->asleep;
    watch_all(mesh, work);
    atomic_store_explicit(asleep, 1, memory_order_relaxed);
    /* Pairs with the fence in cohort_bell_ring. */
    atomic_thread_fence(memory_order_seq_cst);
    int64_t moved = work->advance(work, out_waiting);
    if (moved == 0 && *out_waiting >= 0 &&
        !atomic_load_explicit(&mesh->poisoned, memory_order_relaxed)) {
        atomic_store_explicit(&mesh->waiting_on, *out_waiting, memory_order_relaxed);
        poll(mesh->fds, mesh->n_fds, sleep_ms(mesh, deadline_ns));
        atomic_store_explicit(&mesh->waiting_on, COHORT_RANK_LOCAL, memory_order_relaxed);
        uint64_t rings;
        if (mesh->fds[0].revents && read(mesh->bell_fd, &rings, sizeof rings) < 0)
            moved = 0; /* EAGAIN: nothing lost, we look again anyway */
    }
    atomic_store_explicit(asleep, 0, memory_order_relaxed);
    return moved;
}

/* The rank of a pulse that has ended, among those who owe something; or none. */
static int32_t find_dead(cohort_mesh *mesh, cohort_work *work) {
    watch_all(mesh, work);
    for (nfds_t i = 1; i < mesh->n_fds; i++)
        if (mesh->watches[i].pulse &&
            cohort_link_peer_gone(mesh->peers[mesh->watches[i].rank].links[0]))
            return mesh->watches[i].rank;
    return COHORT_RANK_LOCAL;
}

/* A rank that hangs up because of another says so in its outbox. */
static cohort_status report_death(cohort_mesh *mesh, int32_t dead) {
    int32_t because = atomic_load(&mesh->peers[dead].outbox->parting);
    if (because == COHORT_PARTING_IN_ORDER) {
        COHORT_FAIL(COHORT_E_PEER_DIED, "rank %d has closed its mesh", dead);
    } else if (because >= 0 && because < mesh->options.world_size &&
               because != mesh->options.rank && because != dead) {
        COHORT_FAIL(COHORT_E_PEER_DIED, "rank %d gave up because of rank %d", dead,
                    because);
        dead = because;
    } else {
        COHORT_FAIL(COHORT_E_PEER_DIED, "rank %d died", dead);
    }
    return cohort_mesh_blame(COHORT_E_PEER_DIED, dead, "waiting for");
}

/* After a nap in which nothing came: is there still hope? */
static cohort_status look_around(cohort_mesh *mesh, cohort_work *work,
                                 int64_t deadline_ns) {
    COHORT_TRY(cohort_mesh_check(mesh));
    int32_t waiting;
    int32_t dead = find_dead(mesh, work);
    if (dead >= 0) {
        int64_t moved = work->advance(work, &waiting);
        if (moved < 0) return cohort_mesh_blame((cohort_status)moved, waiting, "with");
        /* Its end was seen before this look, so what it owes now it will owe for ever. */
        dead = moved == 0 && waiting >= 0 ? find_dead(mesh, work) : COHORT_RANK_LOCAL;
        if (dead >= 0) return report_death(mesh, dead);
    }
    if (cohort_clock_ns() < deadline_ns) return COHORT_OK;
    int64_t moved = work->advance(work, &waiting);
    if (moved != 0 || waiting < 0) return COHORT_OK;
    COHORT_FAIL(COHORT_E_TIMEOUT, "rank %d is late", waiting);
    return cohort_mesh_blame(COHORT_E_TIMEOUT, waiting, "waiting for");
}

cohort_status cohort_mesh_await(cohort_mesh *mesh, cohort_work *work,
                                int64_t deadline_ns) {
    cohort_wait wait = cohort_wait_begin(mesh->options.spin_ns);
    for (;;) {
        int32_t waiting = COHORT_RANK_LOCAL;
        int64_t moved = work->advance(work, &waiting);
        if (moved == 0 && waiting >= 0) {
            if (cohort_wait_spin(&wait)) continue;
            moved = nap(mesh, work, deadline_ns, &waiting);
            if (moved == 0 && waiting >= 0)
                COHORT_TRY(look_around(mesh, work, deadline_ns));
        }
        if (moved < 0)
            return cohort_mesh_blame((cohort_status)moved, waiting, "exchanging with");
        if (moved > 0) wait = cohort_wait_begin(mesh->options.spin_ns);
        if (waiting < 0) return COHORT_OK;
    }
}
