/* SPDX-License-Identifier: Apache-2.0 */
#include "collective/mesh.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/wait.h"
#include "cohort/clock.h"

/* Design notes.
 *
 * The higher rank of a pair connects, the lower accepts.  On one host the link carries
 * the outboxes' memfds and doorbells and is then only the pulse: a peer that dies closes
 * it. Nothing has a name in a file system, so nothing is left behind whoever is killed.
 *
 * What waits while they meet ends when the doorbell rings, which poison does.
 *
 * Whether a pair shares memory follows from the handles alone, so all ranks agree on it
 * for all pairs, also for those they are no part of. */

enum { LONGEST_SLEEP_MS = 1000, MAX_WORLD = 1024 };

/* What a handle's bytes mean; read by the same build. */
typedef struct mesh_handle {
    cohort_link_address address;
    uint32_t tcp_only;
} mesh_handle;
_Static_assert(sizeof(mesh_handle) <= sizeof(cohort_mesh_handle), "fits");

static cohort_status check_options(const cohort_mesh_options *options) {
    if (options->world_size < 1 || options->world_size > MAX_WORLD || options->rank < 0 ||
        options->rank >= options->world_size)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "rank %d of a world of %d; a world has 1 to %d ranks",
                           options->rank, options->world_size, MAX_WORLD);
    if (options->tcp_only && !options->listen_host)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "tcp_only needs a listen_host, an address of this host");
    return COHORT_OK;
}

static cohort_status allocate(cohort_mesh *mesh) {
    size_t world = (size_t)mesh->options.world_size;
    mesh->peers = calloc(world, sizeof *mesh->peers);
    mesh->fds = calloc(world * COHORT_CHANNELS + 1, sizeof *mesh->fds);
    mesh->watches = calloc(world * COHORT_CHANNELS + 1, sizeof *mesh->watches);
    if (!mesh->peers || !mesh->fds || !mesh->watches)
        return COHORT_FAIL(COHORT_E_NOMEM, "a mesh of %zu ranks", world);
    for (size_t r = 0; r < world; r++)
        mesh->peers[r].bell_fd = -1;
    mesh->bell_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (mesh->bell_fd < 0) return COHORT_FAIL_SYS(errno, "eventfd");
    COHORT_TRY(cohort_listener_open(mesh->options.listen_host, &mesh->listener));
    mesh->options.listen_host = NULL; /* the caller's */
    return cohort_outbox_create(mesh->options.rank, mesh->options.world_size,
                                &mesh->outbox_fd, &mesh->outbox);
}

cohort_status cohort_mesh_open(const cohort_mesh_options *options,
                               cohort_mesh **out_mesh) {
    COHORT_TRY(check_options(options));
    cohort_mesh *mesh = calloc(1, sizeof *mesh);
    if (!mesh) return COHORT_FAIL(COHORT_E_NOMEM, "allocating a mesh");
    mesh->options = *options;
    if (options->spin_ns < 0) mesh->options.spin_ns = COHORT_WAIT_SPIN_NS;
    mesh->longest_sleep_ms = LONGEST_SLEEP_MS;
    mesh->outbox_fd = mesh->bell_fd = -1;
    atomic_init(&mesh->waiting_on, COHORT_RANK_LOCAL);
    pthread_mutex_init(&mesh->poison_mutex, NULL);
    cohort_status status = allocate(mesh);
    if (status < 0) {
        cohort_mesh_close(mesh);
        return status;
    }
    *out_mesh = mesh;
    return COHORT_OK;
}

cohort_status cohort_mesh_export(const cohort_mesh *mesh,
                                 cohort_mesh_handle *out_handle) {
    mesh_handle handle = {.tcp_only = mesh->options.tcp_only};
    cohort_listener_address(mesh->listener, &handle.address);
    memset(out_handle, 0, sizeof *out_handle);
    memcpy(out_handle->bytes, &handle, sizeof handle);
    return COHORT_OK;
}

cohort_status cohort_mesh_check(cohort_mesh *mesh) {
    /* Acquires the release in cohort_mesh_poison. */
    if (!atomic_load_explicit(&mesh->poisoned, memory_order_acquire)) return COHORT_OK;
    pthread_mutex_lock(&mesh->poison_mutex);
    cohort_error error = mesh->poison;
    pthread_mutex_unlock(&mesh->poison_mutex);
    return cohort_fail_adopt(&error);
}

void cohort_mesh_poison(cohort_mesh *mesh, const cohort_error *error) {
    pthread_mutex_lock(&mesh->poison_mutex);
    if (!mesh->poisoned) mesh->poison = *error;
    /* Acquired in cohort_mesh_check. */
    atomic_store_explicit(&mesh->poisoned, true, memory_order_release);
    pthread_mutex_unlock(&mesh->poison_mutex);
    cohort_mesh_part(mesh, error->rank);
    cohort_bell_ring(mesh->outbox, mesh->bell_fd);
}

void cohort_mesh_part(cohort_mesh *mesh, int32_t rank) {
    int32_t none = COHORT_PARTING_NOT;
    if (rank >= 0) atomic_compare_exchange_strong(&mesh->outbox->parting, &none, rank);
}

int32_t cohort_mesh_waiting_on(const cohort_mesh *mesh) {
    return atomic_load_explicit(&mesh->waiting_on, memory_order_relaxed);
}

cohort_status cohort_mesh_blame(cohort_status status, int32_t rank, const char *what) {
    if (status >= 0) return status;
    cohort_error error = *cohort_last_error();
    error.rank = rank;
    cohort_fail_adopt(&error);
    return cohort_fail_while(status, "%s rank %d", what, rank);
}

/* ---- connecting -------------------------------------------------------------------- */

static void read_handles(cohort_mesh *mesh, const cohort_mesh_handle *handles) {
    for (int32_t r = 0; r < mesh->options.world_size; r++) {
        mesh_handle handle;
        memcpy(&handle, handles[r].bytes, sizeof handle);
        mesh->peers[r].shares = !mesh->options.tcp_only && !handle.tcp_only &&
                                cohort_link_is_local(&handle.address);
    }
}

/* The channel that still lacks a link to that rank, or -1. */
static int missing_channel(const cohort_mesh *mesh, int32_t rank) {
    const cohort_mesh_peer *peer = &mesh->peers[rank];
    for (int c = 0; c < (peer->shares ? 1 : COHORT_CHANNELS); c++)
        if (!peer->links[c]) return c;
    return -1;
}

/* Was it poison that ended a wait, or a peer that is through already and at work? */
static cohort_status heed_bell(cohort_mesh *mesh) {
    uint64_t rings;
    ssize_t ignored = read(mesh->bell_fd, &rings, sizeof rings);
    (void)ignored; /* EAGAIN: read before */
    return cohort_mesh_check(mesh);
}

static cohort_status connect_to(cohort_mesh *mesh, int32_t rank,
                                const cohort_mesh_handle *bytes, int64_t deadline_ns) {
    mesh_handle handle;
    memcpy(&handle, bytes->bytes, sizeof handle);
    cohort_mesh_peer *peer = &mesh->peers[rank];
    for (int channel; (channel = missing_channel(mesh, rank)) >= 0;) {
        cohort_link_hello hello = {.purpose = COHORT_LINK_MESH,
                                   .rank = mesh->options.rank,
                                   .detail = (uint64_t)channel};
        COHORT_TRY(heed_bell(mesh));
        cohort_status status =
            cohort_link_connect(&handle.address, !peer->shares, &hello, deadline_ns,
                                mesh->bell_fd, &peer->links[channel]);
        if (status != COHORT_E_CANCELLED) COHORT_TRY(status);
    }
    return COHORT_OK;
}

static bool is_expected(const cohort_mesh *mesh, const cohort_link_hello *hello,
                        const cohort_link *link) {
    if (hello->purpose != COHORT_LINK_MESH || hello->rank <= mesh->options.rank ||
        hello->rank >= mesh->options.world_size)
        return false;
    const cohort_mesh_peer *peer = &mesh->peers[hello->rank];
    return hello->detail < (peer->shares ? 1 : COHORT_CHANNELS) &&
           !peer->links[hello->detail] &&
           peer->shares == (cohort_link_kind_of(link) == COHORT_LINK_UNIX);
}

static cohort_status accept_one(cohort_mesh *mesh, int64_t deadline_ns) {
    cohort_link_hello hello;
    cohort_link *link = NULL;
    cohort_status status;
    do {
        COHORT_TRY(heed_bell(mesh));
        status = cohort_listener_accept(mesh->listener, deadline_ns, &hello, &link);
    } while (status == COHORT_E_CANCELLED);
    if (status < 0) return status;
    if (!is_expected(mesh, &hello, link)) {
        cohort_link_close(link);
        return COHORT_FAIL(COHORT_E_PROTOCOL, "rank %d is not expected here", hello.rank);
    }
    mesh->peers[hello.rank].links[hello.detail] = link;
    return COHORT_OK;
}

static int32_t first_missing(const cohort_mesh *mesh) {
    for (int32_t r = mesh->options.rank + 1; r < mesh->options.world_size; r++)
        if (missing_channel(mesh, r) >= 0) return r;
    return COHORT_RANK_LOCAL;
}

static cohort_status receive_outbox(cohort_mesh *mesh, cohort_link *link, int fds[2],
                                    int64_t deadline_ns) {
    cohort_status status;
    cohort_link_cancel_by(link, mesh->bell_fd);
    while ((status = cohort_link_recv_fds(link, fds, 2, deadline_ns)) ==
           COHORT_E_CANCELLED)
        COHORT_TRY(heed_bell(mesh));
    cohort_link_cancel_by(link, -1);
    return status;
}

static cohort_status swap_outboxes(cohort_mesh *mesh, int32_t rank, int64_t deadline_ns) {
    cohort_mesh_peer *peer = &mesh->peers[rank];
    const int mine[] = {mesh->outbox_fd, mesh->bell_fd};
    int theirs[] = {-1, -1};
    COHORT_TRY(cohort_link_send_fds(peer->links[0], mine, 2, deadline_ns));
    COHORT_TRY(receive_outbox(mesh, peer->links[0], theirs, deadline_ns));
    peer->bell_fd = theirs[1];
    cohort_status status =
        cohort_outbox_attach(theirs[0], rank, mesh->options.world_size, &peer->outbox);
    close(theirs[0]);
    return status;
}

static cohort_status meet_all(cohort_mesh *mesh, const cohort_mesh_handle *handles,
                              int64_t deadline_ns) {
    for (int32_t r = 0; r < mesh->options.rank; r++)
        COHORT_TRY(cohort_mesh_blame(connect_to(mesh, r, &handles[r], deadline_ns), r,
                                     "connecting to"));
    for (int32_t missing; (missing = first_missing(mesh)) >= 0;)
        COHORT_TRY(
            cohort_mesh_blame(accept_one(mesh, deadline_ns), missing, "waiting for"));
    for (int32_t r = 0; r < mesh->options.world_size; r++)
        if (r != mesh->options.rank && mesh->peers[r].shares)
            COHORT_TRY(cohort_mesh_blame(swap_outboxes(mesh, r, deadline_ns), r,
                                         "meeting on one host with"));
    return COHORT_OK;
}

cohort_status cohort_mesh_connect(cohort_mesh *mesh, const cohort_mesh_handle *handles,
                                  int64_t deadline_ns) {
    read_handles(mesh, handles);
    cohort_listener_cancel_by(mesh->listener, mesh->bell_fd);
    atomic_store_explicit(&mesh->outbox->asleep, 1, memory_order_relaxed);
    /* Pairs with the fence in cohort_bell_ring: poison rings, or is seen from here on. */
    atomic_thread_fence(memory_order_seq_cst);
    cohort_status status = meet_all(mesh, handles, deadline_ns);
    atomic_store_explicit(&mesh->outbox->asleep, 0, memory_order_relaxed);
    COHORT_TRY(status);
    cohort_listener_close(mesh->listener); /* nobody else is to come */
    mesh->listener = NULL;
    mesh->connected = true;
    return COHORT_OK;
}

static void part(cohort_mesh_peer *peer) {
    for (int c = 0; c < COHORT_CHANNELS; c++)
        cohort_link_close(peer->links[c]);
    cohort_outbox_detach(peer->outbox);
    if (peer->bell_fd >= 0) close(peer->bell_fd);
}

void cohort_mesh_close(cohort_mesh *mesh) {
    if (!mesh) return;
    while (mesh->groups)
        mesh->free_group(&mesh->groups);
    int32_t none = COHORT_PARTING_NOT;
    if (mesh->outbox) /* before the links end, so that whoever wonders finds it */
        atomic_compare_exchange_strong(&mesh->outbox->parting, &none,
                                       COHORT_PARTING_IN_ORDER);
    for (int32_t r = 0; mesh->peers && r < mesh->options.world_size; r++)
        part(&mesh->peers[r]);
    cohort_outbox_detach(mesh->outbox);
    if (mesh->outbox_fd >= 0) close(mesh->outbox_fd);
    if (mesh->bell_fd >= 0) close(mesh->bell_fd);
    cohort_listener_close(mesh->listener);
    pthread_mutex_destroy(&mesh->poison_mutex);
    free(mesh->peers);
    free(mesh->fds);
    free(mesh->watches);
    free(mesh);
}
