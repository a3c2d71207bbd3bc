/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "floor.h"

int floor_socket_open(bool first, int control_fd) {
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    if (first) {
        int listen_fd = fd;
        if (bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 1) ||
            getsockname(fd, (struct sockaddr *)&at, &length) ||
            send(control_fd, &at, sizeof at, 0) != (ssize_t)sizeof at)
            exit(1);
        fd = accept(listen_fd, NULL, NULL);
        close(listen_fd);
    } else if (recv(control_fd, &at, sizeof at, MSG_WAITALL) != (ssize_t)sizeof at ||
               connect(fd, (struct sockaddr *)&at, sizeof at)) {
        exit(1);
    }
    if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on)) exit(1);
    return fd;
}

void floor_socket_send(int fd, const uint8_t *bytes, size_t size) {
    while (size) {
        ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR && errno != EAGAIN) exit(1);
        if (sent <= 0) continue;
        bytes += sent;
        size -= (size_t)sent;
    }
}

void floor_socket_receive(int fd, uint8_t *bytes, size_t size) {
    cohort_wait wait = cohort_wait_begin(COHORT_WAIT_SPIN_NS);
    while (size) {
        ssize_t got = recv(fd, bytes, size, MSG_DONTWAIT);
        if (got > 0) {
            bytes += got;
            size -= (size_t)got;
        } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
            exit(1);
        } else if (!cohort_wait_spin(&wait)) {
            wait = cohort_wait_begin(COHORT_WAIT_SPIN_NS);
        }
    }
}
