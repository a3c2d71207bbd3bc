/* SPDX-License-Identifier: Apache-2.0 */
/* link/link_internal.h - what link.c, listener.c and address.c share; not for other
 * folders. */
#ifndef COHORT_LINK_INTERNAL_H
#define COHORT_LINK_INTERNAL_H

#include <sys/socket.h>

#include "link/link.h"
#include "link/proof.h"

struct cohort_link {
    int fd;
    int cancel_fd; /* or -1 */
    cohort_link_kind kind;
};

/* What an address's bytes mean.  Written by one build, read by the same. */
typedef struct cohort_address {
    uint32_t magic;
    uint32_t tcp_family; /* AF_INET, AF_INET6, or 0: no TCP */
    uint8_t secret[COHORT_SECRET_BYTES];
    uint8_t host[16];     /* digest of boot id and network namespace */
    char unix_name[40];   /* abstract, without the leading NUL; NUL-terminated */
    uint8_t tcp_addr[16]; /* network order; IPv4 in the first 4 */
    uint32_t tcp_scope;   /* IPv6 link-local */
    uint16_t tcp_port;    /* host order */
    uint16_t reserved;
} cohort_address;
_Static_assert(sizeof(cohort_address) <= sizeof(cohort_link_address), "fits the handle");

enum { COHORT_ADDRESS_MAGIC = 0x4b4e4c43 };

/* PROTOCOL where the bytes are no address. */
cohort_status cohort_address_read(const cohort_link_address *bytes,
                                  cohort_address *out_address);
cohort_status cohort_host_identity(uint8_t out_host[16]);
socklen_t cohort_address_unix(const cohort_address *address,
                              struct sockaddr_storage *out_socket);
socklen_t cohort_address_tcp(const cohort_address *address,
                             struct sockaddr_storage *out_socket);

/* Non-blocking, close-on-exec, and for TCP no delay. */
cohort_status cohort_socket_prepare(int fd, bool tcp);
/* Takes the socket over where it succeeds. */
cohort_status cohort_link_wrap(int fd, cohort_link_kind kind, cohort_link **out_link);
/* PROTOCOL where the process behind a unix socket is another user's. */
cohort_status cohort_link_peer_check(int fd);

#endif /* COHORT_LINK_INTERNAL_H */
