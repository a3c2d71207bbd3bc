/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sodium.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fail.h"
#include "link/link_internal.h"

cohort_status cohort_address_read(const cohort_link_address *bytes,
                                  cohort_address *out_address) {
    memcpy(out_address, bytes->bytes, sizeof *out_address);
    if (out_address->magic != COHORT_ADDRESS_MAGIC ||
        !memchr(out_address->unix_name, 0, sizeof out_address->unix_name))
        return COHORT_FAIL(COHORT_E_PROTOCOL, "these bytes are no address of this build");
    if (out_address->tcp_family && out_address->tcp_family != AF_INET &&
        out_address->tcp_family != AF_INET6)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "an address of family %u",
                           out_address->tcp_family);
    return COHORT_OK;
}

/* Abstract sockets live in a network namespace, and hosts may share a name: so a host is
 * the pair of the kernel's boot and the namespace. */
cohort_status cohort_host_identity(uint8_t out_host[16]) {
    char text[128];
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return COHORT_FAIL_SYS(errno, "opening the boot id");
    ssize_t length = read(fd, text, 64);
    close(fd);
    if (length <= 0) return COHORT_FAIL_SYS(errno, "reading the boot id");
    struct stat space;
    if (stat("/proc/self/ns/net", &space))
        return COHORT_FAIL_SYS(errno, "stat of the network namespace");
    int added = snprintf(text + length, sizeof text - (size_t)length, "%llu",
                         (unsigned long long)space.st_ino);
    crypto_generichash(out_host, 16, (const uint8_t *)text, (size_t)(length + added),
                       NULL, 0);
    return COHORT_OK;
}

socklen_t cohort_address_unix(const cohort_address *address,
                              struct sockaddr_storage *out_socket) {
    struct sockaddr_un *to = (struct sockaddr_un *)out_socket;
    memset(out_socket, 0, sizeof *out_socket);
    to->sun_family = AF_UNIX;
    size_t length = strlen(address->unix_name);
    memcpy(to->sun_path + 1, address->unix_name, length);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length);
}

socklen_t cohort_address_tcp(const cohort_address *address,
                             struct sockaddr_storage *out_socket) {
    memset(out_socket, 0, sizeof *out_socket);
    if (address->tcp_family == AF_INET) {
        struct sockaddr_in *to = (struct sockaddr_in *)out_socket;
        to->sin_family = AF_INET;
        to->sin_port = htons(address->tcp_port);
        memcpy(&to->sin_addr, address->tcp_addr, 4);
        return sizeof *to;
    }
    struct sockaddr_in6 *to = (struct sockaddr_in6 *)out_socket;
    to->sin6_family = AF_INET6;
    to->sin6_port = htons(address->tcp_port);
    to->sin6_scope_id = address->tcp_scope;
    memcpy(&to->sin6_addr, address->tcp_addr, 16);
    return sizeof *to;
}

bool cohort_link_is_local(const cohort_link_address *bytes) {
    cohort_address address;
    uint8_t host[16];
    return cohort_address_read(bytes, &address) == COHORT_OK &&
           cohort_host_identity(host) == COHORT_OK &&
           !memcmp(host, address.host, sizeof host);
}

void cohort_link_describe(const cohort_link_address *bytes, char *out_text, size_t size) {
    cohort_address address;
    char host[INET6_ADDRSTRLEN];
    if (cohort_address_read(bytes, &address) < 0) {
        snprintf(out_text, size, "no address");
    } else if (!address.tcp_family) {
        snprintf(out_text, size, "unix");
    } else {
        inet_ntop((int)address.tcp_family, address.tcp_addr, host, sizeof host);
        snprintf(out_text, size, address.tcp_family == AF_INET6 ? "[%s]:%u" : "%s:%u",
                 host, address.tcp_port);
    }
}

cohort_status cohort_socket_prepare(int fd, bool tcp) {
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) ||
        fcntl(fd, F_SETFD, FD_CLOEXEC))
        return COHORT_FAIL_SYS(errno, "fcntl on a socket");
    /* Probes end a link on which nothing is under way once its peer's host is gone. */
    int on = 1, idle_s = 5, interval_s = 5, probes = COHORT_LOST_HOST_MS / 5000 - 1;
    if (tcp &&
        (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) ||
         setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on) ||
         setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s) ||
         setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s) ||
         setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes)))
        return COHORT_FAIL_SYS(errno, "setsockopt on a TCP socket");
    return COHORT_OK;
}

cohort_status cohort_link_peer_check(int fd) {
    struct ucred peer;
    socklen_t length = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length))
        return COHORT_FAIL_SYS(errno, "getsockopt SO_PEERCRED");
    if (peer.uid != geteuid())
        return COHORT_FAIL(COHORT_E_PROTOCOL, "the peer (pid %d) runs as user %u, not %u",
                           (int)peer.pid, peer.uid, geteuid());
    return COHORT_OK;
}
