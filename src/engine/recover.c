/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include "engine/engine_internal.h"

/* Design notes.
 *
 * All that makes an answer lies here: tokens, seeds, text, stops, logprobs, where a
 * grammar stands.  It moves on with results alone, and draws depend on seed and position;
 * so to compute a lost step again gives the same bytes, whether the caches were kept or
 * not (ARCHITECTURE.md, Invariants). */

static void roll_back(cohort_engine *engine) {
    if (engine->is_rolled_back) return;
    for (; engine->n_futures > 0; engine->n_futures--) {
        cohort_future_destroy(engine->futures[engine->first_future]);
        engine->first_future = (engine->first_future + 1) % COHORT_MAX_IN_FLIGHT;
    }
    engine->n_masked = 0;
    engine->n_stopped = cohort_scheduler_n_running(engine->scheduler);
    engine->n_recomputed_tokens += (uint64_t)cohort_scheduler_rollback(engine->scheduler);
    engine->is_rolled_back = true;
}

cohort_status cohort_engine_recover(cohort_engine *engine, int64_t deadline_ns) {
    cohort_executor_recovery recovery;
    roll_back(engine);
    cohort_status status = cohort_executor_await_ready(engine->executor, deadline_ns);
    if (status != COHORT_OK) return status;
    cohort_executor_get_recovery(engine->executor, &recovery);
    if (!recovery.kv_kept)
        engine->n_recomputed_tokens +=
            (uint64_t)cohort_scheduler_forget_kv(engine->scheduler);
    engine->is_interrupted = engine->is_rolled_back = false;
    engine->n_recoveries++;
    engine->n_recovered += (uint64_t)engine->n_stopped;
    cohort_log(
        COHORT_LOG_WARNING, "engine", COHORT_RANK_LOCAL,
        "event=recovered epoch=%llu rank=%d took_ms=%lld completions=%d kv_kept=%d",
        (unsigned long long)recovery.epoch, recovery.rank,
        (long long)(recovery.took_ns / 1000000), engine->n_stopped, recovery.kv_kept);
    return COHORT_OK;
}
