/* SPDX-License-Identifier: Apache-2.0 */
#include <sodium.h>

#include "base/fail.h"
#include "base/log.h"
#include "cohort/clock.h"
#include "engine/engine_internal.h"

/* Design notes.
 *
 * All that makes an answer lies here: tokens, seeds, text, stops, logprobs, where a
 * grammar stands.  It moves on with results alone, and draws depend on seed and position;
 * so to compute a lost step again gives the same bytes, whether the caches were kept or
 * not (ARCHITECTURE.md, Invariants). */

/* ---- quarantine -------------------------------------------------------------------- */

/* As long as clients try again by themselves, and their users a little. */
static const int64_t CONVICTED_NS = INT64_C(600000000000);

/* Of what was asked for; not of what was drawn for it. */
static void digest_of(const engine_request *request, uint64_t out_digest[2]) {
    const cohort_sampling_params *sampling = &request->sampling;
    const float reals[] = {sampling->temperature,
                           sampling->top_p,
                           sampling->min_p,
                           sampling->repetition_penalty,
                           sampling->presence_penalty,
                           sampling->frequency_penalty};
    const int32_t wholes[] = {request->max_tokens,       sampling->min_tokens,
                              sampling->top_k,           sampling->n_logprobs,
                              (int32_t)sampling->n_bias, sampling->n_prompt_logprobs,
                              request->grammar != NULL};
    crypto_generichash_state state;
    crypto_generichash_init(&state, NULL, 0, 2 * sizeof *out_digest);
    crypto_generichash_update(&state, (const uint8_t *)request->prompt,
                              (size_t)request->n_prompt_tokens * sizeof *request->prompt);
    crypto_generichash_update(&state, (const uint8_t *)&request->salt,
                              sizeof request->salt);
    crypto_generichash_update(&state, (const uint8_t *)reals, sizeof reals);
    crypto_generichash_update(&state, (const uint8_t *)wholes, sizeof wholes);
    crypto_generichash_update(&state, (const uint8_t *)request->bias,
                              sampling->n_bias * sizeof *request->bias);
    crypto_generichash_final(&state, (uint8_t *)out_digest, 2 * sizeof *out_digest);
}

cohort_status cohort_engine_check_convicts(const cohort_engine *engine,
                                           const engine_request *request) {
    uint64_t digest[2];
    if (!engine->convicts.n) return COHORT_OK;
    digest_of(request, digest);
    if (!cohort_convicts_have(&engine->convicts, digest, cohort_clock_ns()))
        return COHORT_OK;
    return COHORT_FAIL(COHORT_E_INVALID,
                       "worker_killed: steps of the same request killed ranks less than "
                       "%lld minutes ago; it is not computed again so soon",
                       (long long)(CONVICTED_NS / 60000000000));
}

static void convict(cohort_engine *engine, const engine_sequence *sequence) {
    uint64_t digest[2];
    if (sequence->is_cancelled) return; /* with another of its request */
    digest_of(sequence->request, digest);
    cohort_convicts_add(&engine->convicts, digest, cohort_clock_ns() + CONVICTED_NS);
    engine->n_convicted++;
    cohort_log(COHORT_LOG_WARNING, "engine", COHORT_RANK_LOCAL,
               "event=request_convicted request=%llu deaths=%d",
               (unsigned long long)sequence->request->id.value,
               sequence->suspicion.n_deaths);
    cohort_engine_end_request(engine, sequence->request, true);
}

static void isolate_next(cohort_engine *engine) {
    engine->alone = engine->first;
    while (engine->alone &&
           (!engine->alone->is_quarantined || engine->alone->is_cancelled))
        engine->alone = engine->alone->next;
    cohort_scheduler_run_alone(engine->scheduler,
                               engine->alone ? &engine->alone->scheduled : NULL);
}

void cohort_engine_leave_quarantine(cohort_engine *engine, engine_sequence *sequence) {
    if (!sequence->is_quarantined) return;
    sequence->is_quarantined = false;
    if (engine->alone == sequence) isolate_next(engine);
}

void cohort_engine_acquit(cohort_engine *engine, const cohort_schedule *schedule) {
    for (int32_t i = 0; i < schedule->n_entries; i++) {
        const cohort_schedule_entry *entry = &schedule->entries[i];
        engine_sequence *sequence = (engine_sequence *)entry->request;
        if (cohort_suspicion_clear(&sequence->suspicion,
                                   entry->n_computed_tokens + entry->n_scheduled_tokens))
            cohort_engine_leave_quarantine(engine, sequence);
    }
}

static void note_suspect(cohort_engine *engine, engine_sequence *sequence,
                         const engine_request **only) {
    sequence->n_under_way =
        sequence->scheduled.n_in_flight ? sequence->scheduled.n_scheduled : 0;
    if (!sequence->n_under_way) return;
    engine->are_many |= *only && *only != sequence->request;
    *only = sequence->request;
}

/* Steps are lost: whose were they?  Who ended meanwhile was in them as well. */
static void note_suspects(cohort_engine *engine) {
    const engine_request *only = NULL;
    engine->are_many = false;
    for (engine_sequence *sequence = engine->first; sequence; sequence = sequence->next)
        note_suspect(engine, sequence, &only);
    for (engine_sequence *sequence = engine->ended; sequence; sequence = sequence->next)
        note_suspect(engine, sequence, &only);
}

static void judge_suspects(cohort_engine *engine) {
    uint64_t n_convicted = engine->n_convicted;
    for (engine_sequence *sequence = engine->first; sequence; sequence = sequence->next) {
        if (!sequence->n_under_way || sequence->is_cancelled) continue;
        cohort_sentence sentence = cohort_suspect(
            &sequence->suspicion, sequence->n_under_way, !engine->are_many);
        if (sentence == COHORT_SENTENCE_ENDED) convict(engine, sequence);
        sequence->is_quarantined |= sentence == COHORT_SENTENCE_ALONE;
    }
    /* The next one that kills is another matter: they are not added up. */
    if (engine->n_convicted > n_convicted)
        cohort_executor_forget_deaths(engine->executor);
    isolate_next(engine);
}

/* ---- recovery ---------------------------------------------------------------------- */

static void roll_back(cohort_engine *engine) {
    if (engine->is_rolled_back) return;
    note_suspects(engine);
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
    if (recovery.n_faults != engine->n_faults) judge_suspects(engine);
    engine->n_faults = recovery.n_faults;
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
