/* SPDX-License-Identifier: Apache-2.0 */
/* http/framing.h - where requests begin and end in the bytes of a connection, strictly.
 *
 * What two parsers on a request's way could read differently is refused (RFC 9112): two
 * lengths, a length beside chunks, lines that LF alone ends, folded lines, names with a
 * space, bytes that no field may have.  Pure: bytes in, bytes for the next parser out.
 *
 * A head, and a line of chunk sizes, comes out when it is whole and found right; an
 * absolute target comes out as its path, chunks without their extensions and trailers.
 * In the place of a fault comes what a client cannot send: a request whose method, or a
 * trailer whose name, is COHORT_FRAMING_MARK; after it nothing.  So answers before it are
 * not disturbed, and the next parser is never at fault.
 *
 * Ownership: zero-initialise, deinit frees.
 * Limits:    a head has 64 KiB, trailers too, a chunk's line 4 KiB.
 */
#ifndef COHORT_HTTP_FRAMING_H
#define COHORT_HTTP_FRAMING_H

#include "base/body.h"

#define COHORT_FRAMING_MARK "\x01"

typedef enum cohort_framing_state {
    COHORT_FRAMING_HEAD,
    COHORT_FRAMING_BODY, /* of a known length */
    COHORT_FRAMING_CHUNK_LINE,
    COHORT_FRAMING_CHUNK,
    COHORT_FRAMING_CHUNK_END,
    COHORT_FRAMING_TRAILERS,
    COHORT_FRAMING_REFUSED
} cohort_framing_state;

typedef struct cohort_framing {
    cohort_framing_state state;
    uint64_t left;     /* of a body or a chunk */
    cohort_body held;  /* of a head or line that is not whole */
    size_t line_at;    /* where its last line begins */
    uint32_t n_blank;  /* lines before a head */
    uint64_t n_heads;  /* that came out, the one with the mark too */
    int status;        /* once it is refused: 400 or 431, */
    const char *fault; /* and why; static */
} cohort_framing;

void cohort_framing_deinit(cohort_framing *self);
/* Takes all the bytes; adds to out what the next parser is to see. */
void cohort_framing_feed(cohort_framing *self, const char *bytes, size_t size,
                         cohort_body *out);
/* How many of the next bytes would come out as they are; the caller may then keep them,
 * and say how many there were. */
uint64_t cohort_framing_through(const cohort_framing *self);
void cohort_framing_pass(cohort_framing *self, uint64_t size);

#endif /* COHORT_HTTP_FRAMING_H */
