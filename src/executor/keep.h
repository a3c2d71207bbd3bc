/* SPDX-License-Identifier: Apache-2.0 */
/* executor/keep.h - descriptors of memory that outlives a rank: held, never mapped, given
 * to the rank that takes a dead one's place.
 *
 *   KEEP of a rank --take--> held --on_death--> what is to be trusted --give--> next rank
 *
 * Ownership: what is held is closed when it is replaced, no longer trusted, or by close.
 * Threads:   the monitor's; close, whose the executor is.
 */
#ifndef COHORT_EXECUTOR_KEEP_H
#define COHORT_EXECUTOR_KEEP_H

#include <stdbool.h>
#include <stdint.h>

#include "cohort/launch.h"
#include "link/link.h"
#include "wire/frame.h"

enum { EXECUTOR_KEPT_KINDS = 2 }; /* weights and cache */

typedef struct executor_kept {
    struct executor_kept_memory {
        bool is_held;
        int fd;
        bool was_kept; /* as its rank says, of the rank before */
        uint64_t generation;
    } memory[EXECUTOR_KEPT_KINDS];
    bool is_replaced; /* since its recovery began */
    bool has_lost_kv; /* on the way, whatever the last one of them says */
    char choice[sizeof((cohort_frame_ready *)0)->choice]; /* READY's; "": none */
} executor_kept;

typedef enum executor_death {
    EXECUTOR_DEATH_FOREIGN, /* killed, gone, or ended without a fault of its own */
    EXECUTOR_DEATH_CRASH,   /* it may have written anywhere */
    EXECUTOR_DEATH_OOM,     /* the kernel's doing: what can be had anew is given back */
} executor_death;

/* ---- rules ---------------------------------------------------------------------- */

/* signal: that ended it or that it crashed with; 0: none.  has_reported: an error of its
 * own, of a device perhaps.  is_oom: it was killed for want of memory. */
executor_death executor_death_of(int32_t signal, bool has_reported, bool is_oom);
/* COHORT_KEEP_* that ranks are asked to hand over. */
uint32_t executor_keep_asked(cohort_kept_kv kept_kv);
/* COHORT_KEEP_* of a dead rank that the next one may have. */
uint32_t executor_keep_trusted(cohort_kept_kv kept_kv, executor_death death);

/* ---- the table ------------------------------------------------------------------ */

/* A KEEP frame and its descriptor, which is taken over; -1: there came none. */
cohort_status executor_keep_take(executor_kept *kept, const cohort_frame *frame, int fd);
/* What a READY frame tells. */
cohort_status executor_keep_choice(executor_kept *kept, const cohort_frame *frame);
/* The rank is dead: closes all but what is trusted (COHORT_KEEP_*). */
void executor_keep_only(executor_kept *kept, uint32_t trusted);
/* To the rank that takes its place, before it loads; nothing to one that was not
 * replaced. */
cohort_status executor_keep_give(const executor_kept *kept, cohort_link *control,
                                 int32_t rank, uint64_t epoch, int64_t deadline_ns);
/* Of a rank that is READY: its cache is that of before the recovery. */
bool executor_keep_has_kv(const executor_kept *kept);
/* The recovery is over. */
void executor_keep_settle(executor_kept *kept);
void executor_keep_close(executor_kept *kept);

#endif /* COHORT_EXECUTOR_KEEP_H */
