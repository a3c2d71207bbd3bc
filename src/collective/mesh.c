/* SPDX-License-Identifier: Apache-2.0 */
#include "collective/mesh.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fail.h"
#include "cohort/clock.h"

/* Design notes.
 *
 * Every pair of ranks has one link: the higher rank connects, the lower accepts.  On one
 * host it carries the outboxes' memfds and is then only the pulse: a peer that dies
 * closes it. Nothing has a name in a file system, so nothing is left behind whoever is
 * killed.
 *
 * A rank that waits sleeps on its own doorbell in slices; after each it looks at the
 * poison, the pulse of those it waits for, and the deadline.  With a TCP peer among them
 * it sleeps in poll() instead, in short slices, because a doorbell cannot end a poll().
 */

enum { SLICE_NS = 20000000, TCP_SLICE_MS = 2 };

static cohort_status make_outbox(cohort_mesh *mesh) {
    int32_t world = mesh->options.world_size;
    size_t bytes = cohort_outbox_bytes(world);
    mesh->outbox_fd = memfd_create("cohort-outbox", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (mesh->outbox_fd < 0 || ftruncate(mesh->outbox_fd, (off_t)bytes))
        return COHORT_FAIL_SYS(errno, "a memfd of %zu bytes", bytes);
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, mesh->outbox_fd, 0);
    if (at == MAP_FAILED) return COHORT_FAIL_SYS(errno, "mapping %zu bytes", bytes);
    mesh->outbox = at;
    mesh->outbox->magic = COHORT_OUTBOX_MAGIC;
    mesh->outbox->rank = mesh->options.rank;
    mesh->outbox->world_size = world;
    return COHORT_OK;
}

cohort_status cohort_mesh_open(const cohort_mesh_options *options,
                               cohort_mesh **out_mesh) {
    if (options->world_size < 1 || options->world_size > 1024 || options->rank < 0 ||
        options->rank >= options->world_size)
        return COHORT_FAIL(COHORT_E_INVALID, "rank %d of a world of %d", options->rank,
                           options->world_size);
    cohort_mesh *mesh = calloc(1, sizeof *mesh);
    if (!mesh) return COHORT_FAIL(COHORT_E_NOMEM, "allocating a mesh");
    mesh->options = *options;
    if (options->spin_ns < 0) mesh->options.spin_ns = COHORT_WAIT_SPIN_NS;
    mesh->outbox_fd = -1;
    atomic_init(&mesh->waiting_on, COHORT_RANK_LOCAL);
    pthread_mutex_init(&mesh->poison_mutex, NULL);
    mesh->peers = calloc((size_t)options->world_size, sizeof *mesh->peers);
    cohort_status status =
        mesh->peers ? COHORT_OK : COHORT_FAIL(COHORT_E_NOMEM, "a mesh's peers");
    if (status >= 0) status = cohort_listener_open(options->listen_host, &mesh->listener);
    mesh->options.listen_host = NULL; /* the caller's */
    if (status >= 0) status = make_outbox(mesh);
    if (status < 0) {
        cohort_mesh_close(mesh);
        return status;
    }
    *out_mesh = mesh;
    return COHORT_OK;
}

cohort_status cohort_mesh_export(const cohort_mesh *mesh,
                                 cohort_mesh_handle *out_handle) {
    cohort_link_address address;
    _Static_assert(sizeof address <= sizeof *out_handle, "the handle holds an address");
    cohort_listener_address(mesh->listener, &address);
    memset(out_handle, 0, sizeof *out_handle);
    memcpy(out_handle->bytes, &address, sizeof address);
    return COHORT_OK;
}

static cohort_status poison_of(cohort_mesh *mesh) {
    if (!atomic_load_explicit(&mesh->poisoned, memory_order_acquire)) return COHORT_OK;
    pthread_mutex_lock(&mesh->poison_mutex);
    cohort_error error = mesh->poison;
    pthread_mutex_unlock(&mesh->poison_mutex);
    return cohort_fail_adopt(&error);
}

void cohort_mesh_poison(cohort_mesh *mesh, const cohort_error *error) {
    pthread_mutex_lock(&mesh->poison_mutex);
    if (!mesh->poisoned) mesh->poison = *error;
    /* Read with acquire in poison_of. */
    atomic_store_explicit(&mesh->poisoned, true, memory_order_release);
    pthread_mutex_unlock(&mesh->poison_mutex);
    cohort_event_signal(&mesh->outbox->doorbell);
}

int32_t cohort_mesh_waiting_on(const cohort_mesh *mesh) {
    return atomic_load_explicit(&mesh->waiting_on, memory_order_relaxed);
}

/* The peer's memfd, mapped, if it is what it should be. */
static cohort_status map_outbox(cohort_mesh *mesh, int32_t rank, int fd) {
    size_t bytes = cohort_outbox_bytes(mesh->options.world_size);
    off_t size = lseek(fd, 0, SEEK_END);
    if (size != (off_t)bytes)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "rank %d's outbox has %lld bytes", rank,
                           (long long)size);
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) return COHORT_FAIL_SYS(errno, "mapping rank %d's outbox", rank);
    cohort_outbox *outbox = at;
    mesh->peers[rank].outbox = outbox;
    if (outbox->magic != COHORT_OUTBOX_MAGIC || outbox->rank != rank ||
        outbox->world_size != mesh->options.world_size)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "rank %d's outbox is not its own", rank);
    return COHORT_OK;
}

static cohort_status swap_outboxes(cohort_mesh *mesh, int32_t rank, int64_t deadline_ns) {
    cohort_link *link = mesh->peers[rank].link;
    if (cohort_link_kind_of(link) != COHORT_LINK_UNIX) return COHORT_OK;
    int fd = -1;
    COHORT_TRY(cohort_link_send_fds(link, &mesh->outbox_fd, 1, deadline_ns));
    COHORT_TRY(cohort_link_recv_fds(link, &fd, 1, deadline_ns));
    cohort_status status = map_outbox(mesh, rank, fd);
    close(fd);
    return status;
}

/* Accepts in slices, so that poison is seen. */
static cohort_status accept_one(cohort_mesh *mesh, int64_t deadline_ns) {
    cohort_link_hello hello;
    cohort_link *link = NULL;
    cohort_status status;
    do {
        COHORT_TRY(poison_of(mesh));
        int64_t slice_ns = cohort_clock_ns() + SLICE_NS;
        status = cohort_listener_accept(mesh->listener,
                                        slice_ns < deadline_ns ? slice_ns : deadline_ns,
                                        &hello, &link);
    } while (status == COHORT_E_TIMEOUT && cohort_clock_ns() < deadline_ns);
    if (status < 0) return status;
    bool expected =
        hello.purpose == COHORT_LINK_MESH && hello.rank > mesh->options.rank &&
        hello.rank < mesh->options.world_size && !mesh->peers[hello.rank].link;
    if (!expected) {
        cohort_link_close(link);
        return COHORT_FAIL(COHORT_E_PROTOCOL, "rank %d is not expected here", hello.rank);
    }
    mesh->peers[hello.rank].link = link;
    return COHORT_OK;
}

static cohort_status blame(cohort_status status, int32_t rank, const char *what) {
    if (status >= 0) return status;
    cohort_error error = *cohort_last_error();
    error.rank = rank;
    cohort_fail_adopt(&error);
    return cohort_fail_while(status, "%s rank %d", what, rank);
}

static int32_t first_missing(const cohort_mesh *mesh) {
    for (int32_t r = mesh->options.rank + 1; r < mesh->options.world_size; r++)
        if (!mesh->peers[r].link) return r;
    return COHORT_RANK_LOCAL;
}

cohort_status cohort_mesh_connect(cohort_mesh *mesh, const cohort_mesh_handle *handles,
                                  int64_t deadline_ns) {
    cohort_link_hello hello = {.purpose = COHORT_LINK_MESH, .rank = mesh->options.rank};
    for (int32_t r = 0; r < mesh->options.rank; r++) {
        cohort_link_address address;
        memcpy(&address, handles[r].bytes, sizeof address);
        COHORT_TRY(poison_of(mesh));
        COHORT_TRY(blame(cohort_link_connect(&address, mesh->options.tcp_only, &hello,
                                             deadline_ns, &mesh->peers[r].link),
                         r, "connecting to"));
    }
    for (int32_t missing; (missing = first_missing(mesh)) >= 0;)
        COHORT_TRY(blame(accept_one(mesh, deadline_ns), missing, "waiting for"));
    for (int32_t r = 0; r < mesh->options.world_size; r++)
        if (r != mesh->options.rank)
            COHORT_TRY(blame(swap_outboxes(mesh, r, deadline_ns), r,
                             "meeting on one host with"));
    return COHORT_OK;
}

void cohort_mesh_close(cohort_mesh *mesh) {
    if (!mesh) return;
    while (mesh->groups)
        cohort_group_free(&mesh->groups);
    size_t bytes = cohort_outbox_bytes(mesh->options.world_size);
    for (int32_t r = 0; mesh->peers && r < mesh->options.world_size; r++) {
        cohort_link_close(mesh->peers[r].link);
        if (mesh->peers[r].outbox) munmap(mesh->peers[r].outbox, bytes);
    }
    free(mesh->peers);
    if (mesh->outbox) munmap(mesh->outbox, bytes);
    if (mesh->outbox_fd >= 0) close(mesh->outbox_fd);
    cohort_listener_close(mesh->listener);
    pthread_mutex_destroy(&mesh->poison_mutex);
    free(mesh);
}

/* ---- transfers --------------------------------------------------------------------- */

/* Moves what can be moved; the number of bytes, or an error. */
static int64_t advance(cohort_mesh *mesh, cohort_transfer *transfer) {
    cohort_peer *peer = &mesh->peers[transfer->peer];
    int64_t sent = 0, received = 0;
    if (transfer->send_bytes)
        sent = peer->outbox
                   ? cohort_ring_put(&mesh->outbox->rings[transfer->peer], transfer->send,
                                     transfer->send_bytes)
                   : cohort_stream_put(peer->link, transfer->send, transfer->send_bytes);
    if (sent < 0) return sent;
    transfer->send += sent;
    transfer->send_bytes -= (size_t)sent;
    if (sent && peer->outbox) cohort_event_signal(&peer->outbox->doorbell);
    if (transfer->receive_bytes)
        received = peer->outbox
                       ? cohort_ring_take(&peer->outbox->rings[mesh->options.rank],
                                          transfer->receive, transfer->receive_bytes)
                       : cohort_stream_take(peer->link, transfer->receive,
                                            transfer->receive_bytes);
    if (received < 0) return received;
    transfer->receive += received;
    transfer->receive_bytes -= (size_t)received;
    if (received && peer->outbox) cohort_event_signal(&peer->outbox->doorbell);
    return sent + received;
}

static bool is_done(const cohort_transfer *transfer) {
    return !transfer->send_bytes && !transfer->receive_bytes;
}

/* One round over all; out_waiting: a peer that still owes something, or -1. */
static int64_t advance_all(cohort_mesh *mesh, cohort_transfer *transfers, int32_t count,
                           int32_t *out_waiting) {
    int64_t moved = 0;
    *out_waiting = COHORT_RANK_LOCAL;
    for (int32_t i = 0; i < count; i++) {
        if (is_done(&transfers[i])) continue;
        int64_t here = advance(mesh, &transfers[i]);
        if (here < 0) {
            *out_waiting = transfers[i].peer;
            return here;
        }
        moved += here;
        if (!is_done(&transfers[i]) && *out_waiting < 0) *out_waiting = transfers[i].peer;
    }
    return moved;
}

/* The connected peer whose link has ended, among those waited for; or -1. */
static int32_t find_dead(const cohort_mesh *mesh, const cohort_transfer *transfers,
                         int32_t count) {
    for (int32_t i = 0; i < count; i++)
        if (!is_done(&transfers[i]) && mesh->peers[transfers[i].peer].outbox &&
            cohort_link_peer_gone(mesh->peers[transfers[i].peer].link))
            return transfers[i].peer;
    return COHORT_RANK_LOCAL;
}

static bool has_stream(const cohort_mesh *mesh, const cohort_transfer *transfers,
                       int32_t count) {
    for (int32_t i = 0; i < count; i++)
        if (!is_done(&transfers[i]) && !mesh->peers[transfers[i].peer].outbox)
            return true;
    return false;
}

static void poll_streams(const cohort_mesh *mesh, const cohort_transfer *transfers,
                         int32_t count) {
    enum { MOST = 64 }; /* more are looked at when the slice is over */
    struct pollfd fds[MOST];
    nfds_t n = 0;
    for (int32_t i = 0; i < count && n < MOST; i++) {
        const cohort_peer *peer = &mesh->peers[transfers[i].peer];
        if (is_done(&transfers[i]) || peer->outbox) continue;
        short events = (short)((transfers[i].send_bytes ? POLLOUT : 0) |
                               (transfers[i].receive_bytes ? POLLIN : 0));
        fds[n++] = (struct pollfd){.fd = cohort_link_fd(peer->link), .events = events};
    }
    poll(fds, n, TCP_SLICE_MS);
}

/* Sleeps a slice unless something can be moved; moves it then.  Like advance_all. */
static int64_t rest(cohort_mesh *mesh, cohort_transfer *transfers, int32_t count,
                    int32_t *out_waiting) {
    if (has_stream(mesh, transfers, count)) {
        poll_streams(mesh, transfers, count);
        return advance_all(mesh, transfers, count, out_waiting);
    }
    cohort_event *doorbell = &mesh->outbox->doorbell;
    uint32_t ticket = cohort_event_prepare(doorbell);
    int64_t moved = advance_all(mesh, transfers, count, out_waiting);
    if (moved || *out_waiting < 0 || atomic_load(&mesh->poisoned))
        cohort_event_leave(doorbell);
    else
        cohort_event_sleep(doorbell, ticket, SLICE_NS);
    return moved;
}

static cohort_status look_around(cohort_mesh *mesh, cohort_transfer *transfers,
                                 int32_t count, int32_t waiting, int64_t deadline_ns) {
    COHORT_TRY(poison_of(mesh));
    int32_t dead = find_dead(mesh, transfers, count);
    int32_t still;
    /* What it sent before it died counts. */
    if (dead >= 0 && advance_all(mesh, transfers, count, &still) == 0)
        return blame(COHORT_FAIL(COHORT_E_PEER_DIED, "rank %d died", dead), dead,
                     "waiting for");
    if (cohort_clock_ns() >= deadline_ns)
        return blame(COHORT_FAIL(COHORT_E_TIMEOUT, "rank %d waits for rank %d",
                                 mesh->options.rank, waiting),
                     waiting, "waiting for");
    return COHORT_OK;
}

cohort_status cohort_mesh_exchange(cohort_mesh *mesh, cohort_transfer *transfers,
                                   int32_t count, int64_t deadline_ns) {
    COHORT_TRY(poison_of(mesh));
    cohort_wait wait = cohort_wait_begin(mesh->options.spin_ns);
    for (;;) {
        int32_t waiting;
        int64_t moved = advance_all(mesh, transfers, count, &waiting);
        if (moved == 0 && waiting >= 0) {
            if (cohort_wait_spin(&wait)) continue;
            atomic_store_explicit(&mesh->waiting_on, waiting, memory_order_relaxed);
            moved = rest(mesh, transfers, count, &waiting);
            cohort_status status =
                moved ? COHORT_OK
                      : look_around(mesh, transfers, count, waiting, deadline_ns);
            atomic_store_explicit(&mesh->waiting_on, COHORT_RANK_LOCAL,
                                  memory_order_relaxed);
            COHORT_TRY(status);
        }
        if (moved < 0) return blame((cohort_status)moved, waiting, "exchanging with");
        if (moved > 0) wait = cohort_wait_begin(mesh->options.spin_ns);
        if (waiting < 0) return COHORT_OK;
    }
}
