/* SPDX-License-Identifier: Apache-2.0 */
#include <dlfcn.h>
#include <errno.h>
#include <gnutls/gnutls.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "http/http_internal.h"

/* Design notes.
 *
 * libmicrohttpd believes one of two lengths, lines that LF alone ends and more, has no
 * option that mends it, and reads its sockets itself: recv, or gnutls_record_recv where
 * they are encrypted.  Those two are defined here as well, and the dynamic linker gives
 * the library ours; a program's own definitions go before those of libraries.  Bytes of
 * our connections, read by the HTTP thread, pass cohort_framing; for all others the
 * functions are what they were.
 *
 * What if the library came to read another way?  A request whose head has not been seen
 * here is not served (begin_request): the server would answer nothing, rather than
 * something that was not checked.
 *
 * The library's epoll tells of new bytes once, and takes a read that was shorter than
 * asked for all that there is.  So a read goes on until it is full or the socket empty.
 */

enum { BLOCK_BYTES = 16 << 10 };

static _Thread_local cohort_http *reading; /* by this thread */

/* One way to read: recv's, or GnuTLS's. */
typedef struct source {
    int fd, flags;
    gnutls_session_t session; /* NULL: none */
} source;

void cohort_http_read_here(cohort_http *http) { reading = http; }

bool cohort_http_add_intake(cohort_http *http, http_peer *peer) {
    size_t at = (size_t)peer->fd, n = http->n_intakes;
    if (at >= n) {
        size_t grown = at + at / 2 + 64;
        http_peer **larger = realloc(http->intakes, grown * sizeof *larger);
        if (!larger) return false;
        memset(larger + n, 0, (grown - n) * sizeof *larger);
        http->intakes = larger;
        http->n_intakes = grown;
    }
    http->intakes[at] = peer;
    return true;
}

void cohort_http_drop_intake(cohort_http *http, http_peer *peer) {
    if ((size_t)peer->fd < http->n_intakes && http->intakes[peer->fd] == peer)
        http->intakes[peer->fd] = NULL;
    cohort_framing_deinit(&peer->framing);
    cohort_body_deinit(&peer->framed);
}

static http_peer *find_peer(int fd) {
    return reading && fd >= 0 && (size_t)fd < reading->n_intakes ? reading->intakes[fd]
                                                                 : NULL;
}

static ssize_t read_tls(gnutls_session_t session, void *bytes, size_t size) {
    ssize_t (*next)(gnutls_session_t, void *, size_t);
    *(void **)&next = dlsym(RTLD_NEXT, "gnutls_record_recv"); /* a microsecond */
    return next ? next(session, bytes, size) : GNUTLS_E_INTERNAL_ERROR;
}

static ssize_t read_source(const source *from, void *bytes, size_t size) {
    return from->session ? read_tls(from->session, bytes, size)
                         : recvfrom(from->fd, bytes, size, from->flags, NULL, NULL);
}

/* What was found right before, and had no room. */
static size_t give_framed(http_peer *peer, char *bytes, size_t size) {
    cohort_body *framed = &peer->framed;
    size_t left = framed->size - peer->n_given, n = left < size ? left : size;
    if (n) memcpy(bytes, framed->bytes + peer->n_given, n);
    peer->n_given += n;
    if (peer->n_given == framed->size) {
        cohort_body_deinit(framed);
        peer->n_given = 0;
    }
    return n;
}

static ssize_t take(http_peer *peer, const source *from, char *bytes, size_t size) {
    char block[BLOCK_BYTES];
    size_t got = 0;
    ssize_t n = 1;
    bool is_empty = false;
    for (;;) {
        got += give_framed(peer, bytes + got, size - got);
        if (got == size || is_empty) break;
        uint64_t through = cohort_framing_through(&peer->framing);
        size_t room = size - got;
        size_t wanted = !through ? sizeof block : through < room ? (size_t)through : room;
        n = read_source(from, through ? bytes + got : block, wanted);
        if (n <= 0) break;
        /* Who has been refused is read past, but not for ever. */
        is_empty = (!from->session && (size_t)n < wanted) ||
                   peer->framing.state == COHORT_FRAMING_REFUSED;
        if (through) {
            cohort_framing_pass(&peer->framing, (uint64_t)n);
            got += (size_t)n;
        } else {
            cohort_framing_feed(&peer->framing, block, (size_t)n, &peer->framed);
        }
        if (peer->framed.is_short) return from->session ? GNUTLS_E_MEMORY_ERROR : 0;
    }
    if (got) return (ssize_t)got;
    if (n <= 0) return n;
    errno = EAGAIN;
    return from->session ? GNUTLS_E_AGAIN : -1;
}

/* ---- in place of the library's ----------------------------------------------------- */

__attribute__((visibility("default"))) ssize_t recv(int fd, void *bytes, size_t size,
                                                    int flags) {
    http_peer *peer = find_peer(fd);
    const source from = {fd, flags, NULL};
    /* Of a TLS connection these are GnuTLS's, and encrypted. */
    if (!peer || reading->certificate) return read_source(&from, bytes, size);
    return take(peer, &from, bytes, size);
}

__attribute__((visibility("default"))) ssize_t gnutls_record_recv(
    gnutls_session_t session, void *bytes, size_t size) {
    http_peer *peer = reading ? find_peer(gnutls_transport_get_int(session)) : NULL;
    const source from = {-1, 0, session};
    return peer ? take(peer, &from, bytes, size) : read_tls(session, bytes, size);
}
