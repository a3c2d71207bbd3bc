/* SPDX-License-Identifier: Apache-2.0 */
#include "executor/keep.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/fail.h"

/* Design notes.
 *
 * What may a rank have that takes a dead one's place?  Weights are sealed, and whose they
 * are is written in them: always, if there are any.  A cache is what the dead rank could
 * write to until its last moment.  Where somebody else ended it, every write was meant.
 * Where it crashed, a store may have hit a wrong address before, and nobody would notice:
 * the cache goes, and is computed again.  So it does where the kernel killed for want of
 * memory: it is the part that can be had anew.
 *
 * Whoever holds a descriptor pins the memory: what is not trusted is closed at once,
 * before the next rank allocates its own. */

/* ---- rules ---------------------------------------------------------------------- */

executor_death executor_death_of(int32_t signal, bool has_reported, bool is_oom) {
    static const int32_t faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE,
                                     SIGABRT, SIGSYS, SIGTRAP};
    if (has_reported) return EXECUTOR_DEATH_CRASH;
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        if (faults[i] == signal) return EXECUTOR_DEATH_CRASH;
    return is_oom ? EXECUTOR_DEATH_OOM : EXECUTOR_DEATH_FOREIGN;
}

uint32_t executor_keep_asked(cohort_kept_kv kept_kv) {
    return COHORT_KEEP_WEIGHTS | (kept_kv == COHORT_KEPT_KV_NEVER ? 0 : COHORT_KEEP_KV);
}

uint32_t executor_keep_trusted(cohort_kept_kv kept_kv, executor_death death) {
    bool has_kv = kept_kv == COHORT_KEPT_KV_ALWAYS ||
                  (kept_kv == COHORT_KEPT_KV_AUTO && death == EXECUTOR_DEATH_FOREIGN);
    return COHORT_KEEP_WEIGHTS | (has_kv ? COHORT_KEEP_KV : 0);
}

/* ---- the table ------------------------------------------------------------------ */

static const uint32_t kinds[EXECUTOR_KEPT_KINDS] = {COHORT_KEEP_WEIGHTS, COHORT_KEEP_KV};

static void drop(struct executor_kept_memory *memory) {
    if (memory->is_held) close(memory->fd);
    *memory = (struct executor_kept_memory){0};
}

cohort_status executor_keep_take(executor_kept *kept, const cohort_frame *frame, int fd) {
    cohort_frame_keep body;
    COHORT_TRY(cohort_frame_take_keep(frame, fd, &body));
    struct executor_kept_memory *memory = &kept->memory[body.what == COHORT_KEEP_KV];
    if (body.what == COHORT_KEEP_KV && !body.was_kept) kept->has_lost_kv = true;
    drop(memory);
    *memory = (struct executor_kept_memory){.is_held = true,
                                            .fd = fd,
                                            .was_kept = body.was_kept,
                                            .generation = body.generation};
    return COHORT_OK;
}

cohort_status executor_keep_choice(executor_kept *kept, const cohort_frame *frame) {
    cohort_frame_ready ready;
    COHORT_TRY(cohort_frame_read_ready(frame, &ready));
    memcpy(kept->choice, ready.choice, sizeof kept->choice);
    return COHORT_OK;
}

void executor_keep_only(executor_kept *kept, uint32_t trusted) {
    for (int i = 0; i < EXECUTOR_KEPT_KINDS; i++) {
        if (!(kinds[i] & trusted)) drop(&kept->memory[i]);
        kept->memory[i].was_kept = false; /* the next rank says it anew */
    }
    if (!kept->is_replaced) kept->has_lost_kv = false; /* that was the first one of all */
    kept->is_replaced = true;
    kept->has_lost_kv |= !kept->memory[1].is_held;
}

cohort_status executor_keep_give(const executor_kept *kept, cohort_link *control,
                                 int32_t rank, uint64_t epoch, int64_t deadline_ns) {
    for (int i = 0; i < EXECUTOR_KEPT_KINDS; i++) {
        const struct executor_kept_memory *memory = &kept->memory[i];
        const cohort_frame_keep body = {.what = kinds[i],
                                        .generation = memory->generation};
        uint8_t bytes[COHORT_FRAME_HEADER_BYTES + sizeof body];
        if (!memory->is_held || !kept->is_replaced) continue;
        size_t size = cohort_frame_encode(&(cohort_frame){.kind = COHORT_FRAME_KEEP,
                                                          .rank = rank,
                                                          .epoch = epoch,
                                                          .body = &body,
                                                          .body_bytes = sizeof body},
                                          bytes);
        COHORT_TRY(
            cohort_link_send_frame_fd(control, bytes, size, memory->fd, deadline_ns));
    }
    return COHORT_OK;
}

bool executor_keep_has_kv(const executor_kept *kept) {
    return !kept->is_replaced || (!kept->has_lost_kv && kept->memory[1].was_kept);
}

void executor_keep_settle(executor_kept *kept) {
    kept->is_replaced = kept->has_lost_kv = false;
}

void executor_keep_close(executor_kept *kept) {
    for (int i = 0; i < EXECUTOR_KEPT_KINDS; i++)
        drop(&kept->memory[i]);
}
