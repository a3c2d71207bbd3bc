/* SPDX-License-Identifier: Apache-2.0 */
/* ray/hatch.h - where a Ray thread hands the calls of a compiled graph to the rank that
 * lives in the same process, and waits for its replies.
 *
 *   Ray's thread: pass --call--> rank: read ... reply, read_end --> pass returns
 *
 * One call at a time, as a compiled graph has it.  A reply is copied: the rank may end,
 * and its memory with it, before Ray's thread has read it.  A step whose masks follow
 * lets go of its message first: its pass returns without a reply, and that of the masks
 * with it.
 *
 * Threads: pass and close from any; the carrier's as worker/carrier.h has it.
 */
#ifndef COHORT_RAY_HATCH_H
#define COHORT_RAY_HATCH_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "cohort/status.h"
#include "worker/carrier.h"

typedef struct ray_hatch {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_closed;
    bool is_interrupted;
    const void *call; /* NULL: none is to be carried out */
    size_t call_bytes;
    size_t reply_bytes;
    void *copy; /* of the reply; stays for the next one */
    size_t copy_bytes;
} ray_hatch;

/* One that is all zeros, or was open. */
void ray_hatch_open(ray_hatch *hatch);
/* call: 8-byte aligned.  The reply is lent until the next pass; of no bytes where this
 * rank has none.  COHORT_E_CLOSED: the rank has ended. */
cohort_status ray_hatch_pass(ray_hatch *hatch, const void *call, size_t call_bytes,
                             const void **out_reply, size_t *out_reply_bytes);
/* Once the rank has ended: every pass returns. */
void ray_hatch_close(ray_hatch *hatch);

extern const cohort_worker_carrier ray_hatch_carrier; /* self: the hatch */

#endif /* COHORT_RAY_HATCH_H */
