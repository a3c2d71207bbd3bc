/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <sys/socket.h>

#include "base/fail.h"
#include "collective/mesh.h"

typedef struct exchange {
    cohort_work work;
    cohort_mesh *mesh;
    cohort_channel channel;
    cohort_transfer *transfers;
    int32_t count;
} exchange;

static int64_t stream_result(ssize_t moved, bool closed) {
    if (moved > 0) return moved;
    if (moved < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return 0;
    if (closed || errno == ECONNRESET || errno == EPIPE || errno == ETIMEDOUT)
        return COHORT_FAIL(COHORT_E_PEER_DIED, "the connection ended");
    return COHORT_FAIL_SYS(errno, "a socket of the mesh");
}

static int64_t put(exchange *self, cohort_transfer *transfer) {
    cohort_mesh_peer *peer = &self->mesh->peers[transfer->peer];
    int64_t sent;
    if (peer->shares)
        sent = cohort_pipe_put(&self->mesh->outbox->pipes[transfer->peer][self->channel],
                               transfer->send, transfer->send_bytes);
    else
        sent =
            stream_result(send(cohort_link_fd(peer->links[self->channel]), transfer->send,
                               transfer->send_bytes, MSG_DONTWAIT | MSG_NOSIGNAL),
                          false);
    if (sent <= 0) return sent;
    if (peer->shares) cohort_bell_ring(peer->outbox, peer->bell_fd);
    transfer->send += sent;
    transfer->send_bytes -= (size_t)sent;
    return sent;
}

static int64_t take(exchange *self, cohort_transfer *transfer) {
    cohort_mesh_peer *peer = &self->mesh->peers[transfer->peer];
    int64_t received;
    if (peer->shares) {
        received = cohort_pipe_take(
            &peer->outbox->pipes[self->mesh->options.rank][self->channel],
            transfer->receive, transfer->receive_bytes);
    } else {
        ssize_t got = recv(cohort_link_fd(peer->links[self->channel]), transfer->receive,
                           transfer->receive_bytes, MSG_DONTWAIT);
        received = stream_result(got, got == 0);
    }
    if (received <= 0) return received;
    if (peer->shares) cohort_bell_ring(peer->outbox, peer->bell_fd);
    transfer->receive += received;
    transfer->receive_bytes -= (size_t)received;
    return received;
}

static bool is_done(const cohort_transfer *transfer) {
    return !transfer->send_bytes && !transfer->receive_bytes;
}

static int64_t advance_all(cohort_work *work, int32_t *out_waiting) {
    exchange *self = (exchange *)work;
    int64_t moved = 0;
    *out_waiting = COHORT_RANK_LOCAL;
    for (int32_t i = 0; i < self->count; i++) {
        cohort_transfer *transfer = &self->transfers[i];
        int64_t sent = transfer->send_bytes ? put(self, transfer) : 0;
        int64_t received =
            sent >= 0 && transfer->receive_bytes ? take(self, transfer) : 0;
        if (sent < 0 || received < 0) {
            *out_waiting = transfer->peer;
            return sent < 0 ? sent : received;
        }
        moved += sent + received;
        if (!is_done(transfer) && *out_waiting < 0) *out_waiting = transfer->peer;
    }
    return moved;
}

static void watch_all(cohort_work *work) {
    exchange *self = (exchange *)work;
    for (int32_t i = 0; i < self->count; i++) {
        const cohort_transfer *transfer = &self->transfers[i];
        if (!is_done(transfer))
            cohort_mesh_watch(self->mesh, transfer->peer, self->channel,
                              (short)((transfer->send_bytes ? POLLOUT : 0) |
                                      (transfer->receive_bytes ? POLLIN : 0)));
    }
}

cohort_status cohort_mesh_exchange(cohort_mesh *mesh, cohort_channel channel,
                                   cohort_transfer *transfers, int32_t count,
                                   int64_t deadline_ns) {
    exchange self = {.work = {advance_all, watch_all},
                     .mesh = mesh,
                     .channel = channel,
                     .transfers = transfers,
                     .count = count};
    return cohort_mesh_await(mesh, &self.work, deadline_ns);
}
