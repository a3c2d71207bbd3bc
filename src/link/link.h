/* SPDX-License-Identifier: Apache-2.0 */
/* link/link.h - an authenticated stream between two processes of one run.
 *
 * A listener binds port 0 (and an abstract unix socket), keeps it, and publishes an
 * address that also holds its secret.  Whoever connects proves the secret and the same
 * build before anything else is parsed, and says what it comes for in a hello.  On one
 * host a link is a unix socket and can carry file descriptors; elsewhere it is TCP.
 *
 *   listener: open, address --> (travels privately) --> connect(address, hello)
 *   listener: accept --> link + hello
 *
 * Ownership: a listener and a link own their sockets; close accepts NULL.
 * Threads:   one thread at a time each; cohort_link_shutdown from any thread.
 * Errors:    COHORT_E_TIMEOUT, COHORT_E_PROTOCOL (a stranger, another build),
 * COHORT_E_PEER_DIED (end of stream), COHORT_E_IO; COHORT_E_CANCELLED where a descriptor
 * that the caller gave to cancel by became readable while a call waited.
 */
#ifndef COHORT_LINK_H
#define COHORT_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cohort/status.h"

typedef struct cohort_listener cohort_listener;
typedef struct cohort_link cohort_link;

typedef struct cohort_link_address {
    uint8_t bytes[160];
} cohort_link_address;

/* What a connecting side says of itself; plain numbers, checked by the accepting side. */
typedef struct cohort_link_hello {
    uint32_t purpose; /* COHORT_LINK_* below */
    int32_t rank;     /* reader index, or rank */
    uint64_t epoch;
    uint64_t detail;
} cohort_link_hello;

enum { COHORT_LINK_QUEUE = 1, COHORT_LINK_MESH = 2, COHORT_LINK_CONTROL = 3 };

/* tcp_host: one address to bind (IPv4, IPv6 or a name of this host); NULL: unix only. */
cohort_status cohort_listener_open(const char *tcp_host, cohort_listener **out_listener);
void cohort_listener_address(const cohort_listener *listener,
                             cohort_link_address *out_address);
/* Next peer that proved itself; strangers are dropped without a word, and a slow one does
 * not keep the others waiting. */
cohort_status cohort_listener_accept(cohort_listener *listener, int64_t deadline_ns,
                                     cohort_link_hello *out_hello,
                                     cohort_link **out_link);
/* cancel_fd: of accept, from here on; -1: none. */
void cohort_listener_cancel_by(cohort_listener *listener, int cancel_fd);
void cohort_listener_close(cohort_listener *listener);

enum { COHORT_LOST_HOST_MS = 20000 };

typedef enum cohort_link_kind { COHORT_LINK_UNIX, COHORT_LINK_TCP } cohort_link_kind;

/* True where the address is of this host and its unix socket can be reached from here. */
bool cohort_link_is_local(const cohort_link_address *address);
/* "host:port" or "[v6]:port" or "unix"; for messages. */
void cohort_link_describe(const cohort_link_address *address, char *out_text,
                          size_t size);

/* Over the unix socket where the address is local and tcp_only is false, else TCP.
 * cancel_fd: -1: none. */
cohort_status cohort_link_connect(const cohort_link_address *address, bool tcp_only,
                                  const cohort_link_hello *hello, int64_t deadline_ns,
                                  int cancel_fd, cohort_link **out_link);
/* Of send and recv, from here on; -1, as at first: none. */
void cohort_link_cancel_by(cohort_link *link, int cancel_fd);
/* Takes over a connected socket that needs no proof (any more): one end of a socketpair,
 * or what release gave.  Of a control link: over TCP a host that is gone ends it within
 * COHORT_LOST_HOST_MS, whether or not something is on its way there. */
cohort_status cohort_link_adopt(int fd, cohort_link **out_link);
/* Gives the socket up to the caller and frees the link. */
int cohort_link_release(cohort_link *link);

cohort_link_kind cohort_link_kind_of(const cohort_link *link);
int cohort_link_fd(const cohort_link *link); /* for poll; non-blocking */

/* All of it or an error; the link is unusable after an error. */
cohort_status cohort_link_send(cohort_link *link, const void *bytes, size_t size_bytes,
                               int64_t deadline_ns);
cohort_status cohort_link_recv(cohort_link *link, void *bytes, size_t size_bytes,
                               int64_t deadline_ns);
/* One length-prefixed message; a longer one than capacity is COHORT_E_PROTOCOL. */
cohort_status cohort_link_send_frame(cohort_link *link, const void *bytes,
                                     size_t size_bytes, int64_t deadline_ns);
cohort_status cohort_link_recv_frame(cohort_link *link, void *bytes,
                                     size_t capacity_bytes, size_t *out_size_bytes,
                                     int64_t deadline_ns);
/* The same with a descriptor, lent, that comes with the frame; unix links only. */
cohort_status cohort_link_send_frame_fd(cohort_link *link, const void *bytes,
                                        size_t size_bytes, int fd, int64_t deadline_ns);
/* *out_fd: what came with it, the caller's, or -1, also after an error.  More than one is
 * COHORT_E_PROTOCOL, and all are closed. */
cohort_status cohort_link_recv_frame_fd(cohort_link *link, void *bytes,
                                        size_t capacity_bytes, size_t *out_size_bytes,
                                        int *out_fd, int64_t deadline_ns);
/* What has come of a frame so far; zeroed at first, cleared at last. */
enum { COHORT_INBOX_BYTES = 4096 };
typedef struct cohort_link_inbox {
    uint32_t length;
    size_t used_bytes; /* of length and bytes together */
    bool has_fd;
    int fd;
    uint8_t bytes[COHORT_INBOX_BYTES];
} cohort_link_inbox;
/* The next frame without waiting for it, valid until the next call: COHORT_PENDING while
 * a part of it, or all, is still to come.  A descriptor is taken out of the inbox before
 * the next call, which closes it otherwise. */
cohort_status cohort_link_take_frame(cohort_link *link, cohort_link_inbox *inbox,
                                     const void **out_bytes, size_t *out_size_bytes);
/* The descriptor that came with the frame, the caller's from here on; -1: none. */
int cohort_link_inbox_take_fd(cohort_link_inbox *inbox);
/* Closes what nobody took. */
void cohort_link_inbox_clear(cohort_link_inbox *inbox);
/* File descriptors, at most 8, with one byte of data; unix links only. */
cohort_status cohort_link_send_fds(cohort_link *link, const int *fds, int count,
                                   int64_t deadline_ns);
cohort_status cohort_link_recv_fds(cohort_link *link, int *out_fds, int count,
                                   int64_t deadline_ns);
/* True once the peer has closed or died and all its bytes were read. */
bool cohort_link_peer_gone(cohort_link *link);
/* Ends both directions, so that waiting calls return; the link stays allocated. */
void cohort_link_shutdown(cohort_link *link);
void cohort_link_close(cohort_link *link);

#endif /* COHORT_LINK_H */
