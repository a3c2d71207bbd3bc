/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/log.h"
#include "cohort/clock.h"
#include "engine/engine_internal.h"

/* Design notes.
 *
 * A call to step waits for the oldest step under way, takes its results in, and sends
 * what can be computed next before it returns: the ranks work while the caller prints.
 *
 * A step with masked entries goes out as any other, also ahead of the last one's tokens;
 * its masks are sent as soon as these are here, and before any other step.
 *
 * Outputs point into the sequences and into the bytes of the reply, whose future is
 * therefore kept until the next call.  A sequence that ended is freed by the next call,
 * or later if a step under way still holds it. */

/* ---- sending ----------------------------------------------------------------------- */

static cohort_step_entry entry_of(const cohort_schedule_entry *scheduled) {
    const engine_sequence *sequence = (const engine_sequence *)scheduled->request;
    uint32_t masked = sequence->request->grammar ? COHORT_ENTRY_MASKED : 0;
    return (cohort_step_entry){
        .slot = (uint32_t)scheduled->request->slot,
        .flags = scheduled->samples ? COHORT_ENTRY_SAMPLE | masked : 0,
        .n_computed_tokens = (uint32_t)scheduled->n_computed_tokens,
        .n_scheduled_tokens = (uint32_t)scheduled->n_scheduled_tokens,
        .n_new_tokens = (uint32_t)scheduled->n_new_tokens,
        .n_new_blocks = (uint32_t)scheduled->n_new_blocks,
        .new_tokens = sequence->tokens + sequence->n_tokens - scheduled->n_new_tokens,
        .new_blocks = scheduled->new_blocks,
    };
}

static cohort_status encode(cohort_engine *engine, const cohort_schedule *schedule,
                            size_t *out_size_bytes) {
    cohort_step step = {.n_finished = (uint32_t)schedule->n_finished,
                        .finished = schedule->finished,
                        .requests = engine->requests,
                        .entries = engine->entries};
    int64_t now_ns = cohort_clock_ns();
    for (int32_t i = 0; i < schedule->n_entries; i++) {
        const cohort_schedule_entry *entry = &schedule->entries[i];
        engine_sequence *sequence = (engine_sequence *)entry->request;
        if (!sequence->scheduled_ns) sequence->scheduled_ns = now_ns;
        if (entry->is_new) COHORT_TRY(cohort_engine_seat(engine, sequence));
        if (entry->is_new)
            engine->requests[step.n_requests++] = cohort_engine_request_of(sequence);
        engine->entries[step.n_entries] = entry_of(entry);
        if (engine->entries[step.n_entries].flags & COHORT_ENTRY_MASKED)
            engine->masked[engine->n_masked++] =
                (struct masked_entry){sequence, step.n_entries};
        step.n_entries++;
    }
    size_t size_bytes = cohort_step_encoded_bytes(&step);
    if (size_bytes > engine->message_capacity) {
        free(engine->message);
        engine->message_capacity = size_bytes + size_bytes / 2;
        engine->message = malloc(engine->message_capacity);
        if (!engine->message) {
            engine->message_capacity = 0;
            return COHORT_FAIL(COHORT_E_NOMEM, "a step of %zu bytes", size_bytes);
        }
    }
    cohort_step_encode(&step, engine->message);
    *out_size_bytes = size_bytes;
    return COHORT_OK;
}

/* Sends the masks that the last step waits for, once the tokens before them are here. */
static cohort_status send_masks(cohort_engine *engine) {
    size_t size_bytes = 0;
    for (int32_t i = 0; i < engine->n_masked; i++) {
        const cohort_scheduler_request *scheduled =
            &engine->masked[i].sequence->scheduled;
        if (scheduled->n_sampling > 1 && !scheduled->is_finished) return COHORT_OK;
    }
    if (engine->n_masked == 0) return COHORT_OK;
    COHORT_TRY(cohort_engine_make_masks(engine, &size_bytes));
    engine->n_masked = 0;
    return cohort_execute_masks(engine->executor, engine->grammars->message, size_bytes);
}

static cohort_status send_step(cohort_engine *engine, const cohort_schedule *schedule) {
    size_t size_bytes = 0;
    cohort_future *future = NULL;
    COHORT_TRY(encode(engine, schedule, &size_bytes));
    cohort_status status =
        engine->n_masked ? cohort_execute_masked_model(engine->executor, engine->message,
                                                       size_bytes, &future)
                         : cohort_execute_model(engine->executor, engine->message,
                                                size_bytes, &future);
    if (status == COHORT_PENDING)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "the executor takes fewer steps than %d at once",
                           engine->max_in_flight);
    if (status == COHORT_E_INTERRUPTED) {
        /* It was refused, not lost: of what a rank dies meanwhile, it is no suspect. */
        cohort_scheduler_withdraw(engine->scheduler);
        engine->n_masked = 0;
    }
    COHORT_TRY(status);
    engine->futures[(engine->first_future + engine->n_futures++) % COHORT_MAX_IN_FLIGHT] =
        future;
    return send_masks(engine);
}

/* Sends steps until as many are under way as may be, one waits for masks that cannot be
 * made yet, or nothing is left to schedule. */
static cohort_status send_all(cohort_engine *engine) {
    cohort_schedule schedule;
    COHORT_TRY(send_masks(engine));
    while (engine->n_masked == 0 && cohort_scheduler_next(engine->scheduler, &schedule))
        COHORT_TRY(send_step(engine, &schedule));
    return COHORT_OK;
}

/* None while a rank is replaced.  A step that waits for its masks gets them in a pause,
 * too. */
static cohort_status send_steps(cohort_engine *engine) {
    cohort_status status = engine->is_interrupted ? COHORT_OK
                           : engine->is_paused    ? send_masks(engine)
                                                  : send_all(engine);
    if (status != COHORT_E_INTERRUPTED) return status;
    engine->is_interrupted = true;
    return COHORT_OK;
}

/* ---- results ----------------------------------------------------------------------- */

static cohort_completion *add_completion(cohort_engine *engine,
                                         const engine_sequence *sequence) {
    /* Reserved: one for every sequence of a step, or that was cancelled. */
    cohort_completion *completion = &engine->completions[engine->n_completions++];
    *completion = (cohort_completion){
        .request_id = sequence->request->id,
        .index = sequence->index,
        .text = "",
        .stop_token_id = -1,
        .prompt_token_ids = sequence->request->prompt,
        .n_prompt_token_ids = sequence->request->n_prompt_tokens,
        .n_generated = sequence->n_tokens - sequence->request->n_prompt_tokens,
        .submitted_ns = sequence->submitted_ns,
        .scheduled_ns = sequence->scheduled_ns,
        .reported_ns = engine->reported_ns,
        .n_preemptions = sequence->scheduled.n_preemptions,
        .n_cached_tokens = sequence->scheduled.n_cached_tokens,
    };
    return completion;
}

static cohort_status reserve_completions(cohort_engine *engine, size_t count) {
    if (count <= engine->completions_capacity) return COHORT_OK;
    cohort_completion *larger = realloc(engine->completions, count * sizeof *larger);
    if (!larger) return COHORT_FAIL(COHORT_E_NOMEM, "%zu completions", count);
    engine->completions = larger;
    engine->completions_capacity = count;
    return COHORT_OK;
}

/* The sequence's end was reported: from the list of the living to that of the ended. */
static void end_sequence(cohort_engine *engine, engine_sequence *sequence) {
    engine_request *request = sequence->request;
    if (request->first == sequence) { /* those of one request lie beside each other */
        bool has_more = sequence->next && sequence->next->request == request;
        request->first = has_more ? sequence->next : NULL;
        if (!has_more) cohort_engine_requests_remove(&engine->by_id, request);
    }
    *(sequence->next ? &sequence->next->previous : &engine->last) = sequence->previous;
    *(sequence->previous ? &sequence->previous->next : &engine->first) = sequence->next;
    sequence->previous = NULL;
    sequence->next = engine->ended;
    engine->ended = sequence;
    cohort_scheduler_finish(engine->scheduler, &sequence->scheduled);
    cohort_engine_leave_quarantine(engine, sequence);
}

static void free_ended(cohort_engine *engine) {
    engine_sequence **link = &engine->ended;
    while (*link) {
        engine_sequence *sequence = *link;
        if (sequence->scheduled.n_in_flight > 0) {
            link = &sequence->next;
            continue;
        }
        *link = sequence->next;
        cohort_engine_sequence_free(sequence);
    }
}

static void take_prompt_logprobs(engine_sequence *sequence,
                                 const cohort_position_logprobs *from) {
    int32_t per_position = sequence->request->sampling.n_prompt_logprobs + 1;
    /* In order; those computed again after a preemption are here already. */
    if (!sequence->prompt_logprobs ||
        from->position != (uint32_t)sequence->n_prompt_logprobs + 1 ||
        from->n != (uint32_t)per_position)
        return;
    cohort_token_logprob *entries =
        sequence->prompt_entries +
        (size_t)sequence->n_prompt_logprobs * (size_t)per_position;
    memcpy(entries, from->entries, from->n * sizeof *entries);
    sequence->prompt_logprobs[sequence->n_prompt_logprobs++] = (cohort_position_logprobs){
        .position = from->position, .n = from->n, .entries = entries};
}

/* Why the sequence ends with this token, if it does; vLLM's check_stop. */
static cohort_finish_reason finish_reason(const cohort_engine *engine,
                                          const engine_sequence *sequence, int32_t token,
                                          int32_t *out_stop_token) {
    const engine_request *request = sequence->request;
    int32_t n_generated = sequence->n_tokens - request->n_prompt_tokens;
    /* A grammar that has ended lets stop tokens through however few there were. */
    if (n_generated >= request->min_tokens || sequence->matcher) {
        for (int32_t i = 0; !request->ignore_eos && i < engine->config.n_eos; i++)
            if (token == engine->config.eos_token_ids[i]) {
                if (token != engine->eos_token_id) *out_stop_token = token;
                return COHORT_FINISH_STOP;
            }
        for (uint32_t i = 0; i < request->n_own_stop_tokens; i++)
            if (token == request->stop_tokens[i]) {
                *out_stop_token = token;
                return COHORT_FINISH_STOP;
            }
    }
    return n_generated >= request->max_tokens ? COHORT_FINISH_LENGTH : COHORT_FINISH_NONE;
}

/* The token's text; a stop string in it ends the sequence. */
static cohort_status add_text(engine_sequence *sequence, int32_t token,
                              bool is_stop_token, cohort_completion *completion) {
    const engine_request *request = sequence->request;
    const char *text;
    size_t size_bytes;
    int32_t stop = -1;
    bool may_stop = completion->n_generated > request->min_tokens;
    if (!is_stop_token || request->include_stop) {
        COHORT_TRY(
            cohort_detokenizer_append(sequence->detokenizer, token, &text, &size_bytes));
        COHORT_TRY(
            cohort_stop_text_append(&sequence->text, text, size_bytes, may_stop, &stop));
    }
    /* A stop string counts before a length that is reached with it. */
    if (stop >= 0 && !is_stop_token) {
        completion->finish_reason = COHORT_FINISH_STOP;
        completion->stop_string = request->stop[stop];
    }
    /* The beginning of a character that the end cuts off is no text, as in vLLM. */
    bool is_final = completion->finish_reason != COHORT_FINISH_NONE;
    cohort_stop_text_take(&sequence->text, is_final, &completion->text,
                          &completion->text_bytes);
    return COHORT_OK;
}

static cohort_status add_token(cohort_engine *engine, engine_sequence *sequence,
                               int32_t token, const cohort_position_logprobs *logprobs) {
    const engine_request *request = sequence->request;
    if (token < 0 || token >= engine->info.vocab_size)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "the output rank sampled token %d of %d",
                           token, engine->info.vocab_size);
    sequence->tokens[sequence->n_tokens++] = token;
    if (sequence->keys)
        sequence->scheduled.n_keys = cohort_engine_extend_keys(
            engine, request->salt, sequence->tokens, sequence->n_tokens, sequence->keys,
            sequence->scheduled.n_keys);
    cohort_completion *completion = add_completion(engine, sequence);
    completion->token_ids = sequence->tokens + sequence->n_tokens - 1;
    completion->n_token_ids = 1;
    completion->logprobs = logprobs;
    if (completion->n_generated == 1 && sequence->prompt_logprobs) {
        completion->prompt_logprobs = sequence->prompt_logprobs;
        completion->n_prompt_logprobs = sequence->n_prompt_logprobs;
    }
    completion->finish_reason =
        finish_reason(engine, sequence, token, &completion->stop_token_id);
    bool is_stop_token = completion->finish_reason == COHORT_FINISH_STOP;
    cohort_finish_reason by_grammar = COHORT_FINISH_NONE;
    if (!is_stop_token)
        COHORT_TRY(cohort_engine_follow(engine, sequence, token, &by_grammar));
    if (by_grammar != COHORT_FINISH_NONE) completion->finish_reason = by_grammar;
    bool is_text = !is_stop_token && by_grammar != COHORT_FINISH_ERROR;
    if (request->detokenize) COHORT_TRY(add_text(sequence, token, !is_text, completion));
    if (completion->finish_reason == COHORT_FINISH_NONE)
        cohort_scheduler_append(engine->scheduler, &sequence->scheduled);
    else
        end_sequence(engine, sequence);
    return COHORT_OK;
}

/* Nothing can follow: the sequence ends without the token. */
static cohort_status end_stuck(cohort_engine *engine, engine_sequence *sequence) {
    cohort_completion *completion = add_completion(engine, sequence);
    completion->finish_reason =
        sequence->is_fulfilled ? COHORT_FINISH_STOP : COHORT_FINISH_ERROR;
    if (sequence->request->detokenize)
        cohort_stop_text_take(&sequence->text, true, &completion->text,
                              &completion->text_bytes);
    end_sequence(engine, sequence);
    return COHORT_OK;
}

static void end_corrupted(cohort_engine *engine, engine_sequence *sequence) {
    cohort_log(COHORT_LOG_WARNING, "engine", COHORT_RANK_LOCAL,
               "event=logits_not_finite request=%llu index=%d position=%d",
               (unsigned long long)sequence->request->id.value, sequence->index,
               sequence->n_tokens);
    engine->n_corrupted++;
    add_completion(engine, sequence)->finish_reason = COHORT_FINISH_CORRUPTED;
    end_sequence(engine, sequence);
}

static cohort_status take_result(cohort_engine *engine,
                                 const cohort_schedule_entry *entry,
                                 const cohort_step_result *result) {
    engine_sequence *sequence = (engine_sequence *)entry->request;
    if (result->request_id != sequence->wire_id)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "a result of request %llu in place of %llu",
                           (unsigned long long)result->request_id,
                           (unsigned long long)sequence->wire_id);
    if (sequence->scheduled.is_finished) return COHORT_OK; /* cancelled on the way */
    const cohort_position_logprobs *logprobs = NULL;
    for (uint32_t i = 0; i < result->n_positions; i++) {
        const cohort_position_logprobs *position = &result->positions[i];
        if (position->position < (uint32_t)sequence->request->n_prompt_tokens)
            take_prompt_logprobs(sequence, position);
        else
            logprobs = position;
    }
    if (!entry->samples) return COHORT_OK;
    if (sequence->is_stuck) return end_stuck(engine, sequence);
    if (result->token_id == COHORT_TOKEN_OF_NO_NUMBERS) {
        end_corrupted(engine, sequence);
        return COHORT_OK;
    }
    return add_token(engine, sequence, result->token_id, logprobs);
}

static cohort_status take_step(cohort_engine *engine, cohort_future *future) {
    int32_t rank;
    const void *bytes;
    size_t size_bytes;
    cohort_schedule schedule;
    if (cohort_future_reply_count(future) != 1)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "a step with %d replies",
                           cohort_future_reply_count(future));
    cohort_future_reply(future, 0, &rank, &bytes, &size_bytes);
    COHORT_TRY_WHILE(cohort_step_output_decode(bytes, size_bytes, &engine->view),
                     "reading the answer of rank %d", rank);
    cohort_scheduler_complete(engine->scheduler, &schedule);
    if (engine->view.output.n_results != (uint32_t)schedule.n_entries)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "%u results for a step of %d requests",
                           engine->view.output.n_results, schedule.n_entries);
    engine->n_step_tokens = schedule.n_tokens;
    engine->n_computed_tokens += (uint64_t)schedule.n_tokens;
    engine->n_steps++;
    COHORT_TRY(reserve_completions(engine, (size_t)schedule.n_entries));
    for (int32_t i = 0; i < schedule.n_entries; i++)
        COHORT_TRY(
            take_result(engine, &schedule.entries[i], &engine->view.output.results[i]));
    cohort_engine_acquit(engine, &schedule);
    return COHORT_OK;
}

/* ---- the step ---------------------------------------------------------------------- */

static int in_order(const void *left, const void *right) {
    const cohort_completion *a = left, *b = right;
    uint64_t a_id = a->request_id.value, b_id = b->request_id.value;
    return a_id != b_id ? (a_id > b_id) - (a_id < b_id)
                        : (a->index > b->index) - (a->index < b->index);
}

static cohort_status report_cancelled(cohort_engine *engine) {
    size_t count = 0;
    for (const engine_sequence *sequence = engine->cancelled; sequence;
         sequence = sequence->next_cancelled)
        count++;
    COHORT_TRY(reserve_completions(engine, count));
    for (engine_sequence *next, *sequence = engine->cancelled; sequence;
         sequence = next) {
        next = sequence->next_cancelled;
        engine->by_id.n_looks++;
        add_completion(engine, sequence)->finish_reason =
            sequence->is_convicted ? COHORT_FINISH_KILLER : COHORT_FINISH_ABORT;
        end_sequence(engine, sequence);
    }
    engine->cancelled = NULL;
    qsort(engine->completions, count, sizeof *engine->completions, in_order);
    return COHORT_OK;
}

/* A deadline that passed is no failure; where the executor failed meanwhile, that one
 * counts, whatever the wait said. */
static cohort_status judge(cohort_engine *engine, cohort_status status,
                           bool *out_is_late) {
    cohort_error failure;
    if (status != COHORT_E_TIMEOUT) return status;
    *out_is_late = cohort_executor_failure(engine->executor, &failure) >= 0;
    return *out_is_late ? status : cohort_fail_adopt(&failure);
}

/* What passed since *from_ns is added to a sum. */
static void charge(int64_t *sum_ns, int64_t *from_ns) {
    int64_t now_ns = cohort_clock_ns();
    *sum_ns += now_ns - *from_ns;
    *from_ns = now_ns;
}

/* The oldest step under way; where a rank was replaced meanwhile, there is none. */
static cohort_status await_step(cohort_engine *engine, int64_t deadline_ns,
                                cohort_future **out_future) {
    cohort_status status = COHORT_E_INTERRUPTED;
    *out_future = engine->n_futures ? engine->futures[engine->first_future] : NULL;
    if (*out_future) status = cohort_future_wait(*out_future, deadline_ns);
    if (status != COHORT_E_INTERRUPTED) return status;
    *out_future = NULL;
    engine->is_interrupted = true;
    status = cohort_engine_recover(engine, deadline_ns);
    if (status != COHORT_PENDING) return status;
    return COHORT_FAIL(COHORT_E_TIMEOUT, "a rank that died is being replaced");
}

static cohort_status turn(cohort_engine *engine, int64_t *now_ns, int64_t deadline_ns,
                          bool *out_is_late) {
    engine->reported_ns = *now_ns;
    if (engine->cancelled) {
        COHORT_TRY(report_cancelled(engine));
        return send_steps(engine);
    }
    COHORT_TRY(send_steps(engine));
    if (engine->n_futures == 0 && !engine->is_interrupted) return COHORT_PENDING;
    charge(&engine->schedule_ns, now_ns);
    cohort_future *future;
    cohort_status status = await_step(engine, deadline_ns, &future);
    status = judge(engine, status, out_is_late);
    charge(&engine->wait_ns, now_ns);
    engine->reported_ns = *now_ns;
    COHORT_TRY(status);
    if (!future) return send_steps(engine);
    engine->first_future = (engine->first_future + 1) % COHORT_MAX_IN_FLIGHT;
    engine->n_futures--;
    engine->reported = future;
    COHORT_TRY(take_step(engine, future));
    charge(&engine->output_ns, now_ns);
    return send_steps(engine);
}

cohort_status cohort_engine_step(cohort_engine *engine, int64_t deadline_ns,
                                 cohort_engine_outputs *out_outputs) {
    bool late = false;
    *out_outputs = (cohort_engine_outputs){0};
    if (engine->is_failed) return cohort_fail_adopt(&engine->failure);
    cohort_future_destroy(engine->reported);
    engine->reported = NULL;
    engine->n_completions = 0;
    engine->n_step_tokens = 0;
    int64_t now_ns = cohort_clock_ns();
    if (engine->returned_ns) engine->caller_ns += now_ns - engine->returned_ns;
    free_ended(engine);
    cohort_status status = turn(engine, &now_ns, deadline_ns, &late);
    charge(&engine->schedule_ns, &now_ns);
    engine->returned_ns = engine->first ? now_ns : 0;
    if (status < 0 && !late) {
        engine->is_failed = true;
        engine->failure = *cohort_last_error();
        return status;
    }
    *out_outputs = (cohort_engine_outputs){
        .completions = engine->completions,
        .n_completions = engine->n_completions,
        .n_running = cohort_scheduler_n_running(engine->scheduler),
        .n_waiting = cohort_scheduler_n_waiting(engine->scheduler),
        .n_tokens = engine->n_step_tokens};
    return status;
}

void cohort_engine_get_stats(const cohort_engine *engine,
                             cohort_engine_stats *out_stats) {
    *out_stats = (cohort_engine_stats){
        .n_running = cohort_scheduler_n_running(engine->scheduler),
        .n_waiting = cohort_scheduler_n_waiting(engine->scheduler),
        .n_free_blocks = cohort_scheduler_blocks(engine->scheduler)->n_free,
        .n_steps = engine->n_steps,
        .n_computed_tokens = engine->n_computed_tokens,
        .n_corrupted = engine->n_corrupted,
        .n_recoveries = engine->n_recoveries,
        .n_recovered = engine->n_recovered,
        .n_recomputed_tokens = engine->n_recomputed_tokens,
        .n_convicted = engine->n_convicted,
        .is_recovering = engine->is_interrupted,
        .kept_grammar_bytes = (int64_t)atomic_load_explicit(&engine->grammars->kept_bytes,
                                                            memory_order_relaxed),
        .grammar_bytes = (int64_t)cohort_grammar_held_bytes(),
        .n_preemptions = cohort_scheduler_n_preemptions(engine->scheduler),
        .schedule_ns = engine->schedule_ns,
        .wait_ns = engine->wait_ns,
        .output_ns = engine->output_ns,
        .caller_ns = engine->caller_ns,
    };
    cohort_scheduler_cache_use(engine->scheduler, &out_stats->n_cache_queries,
                               &out_stats->n_cache_hits);
}

void cohort_engine_pause(cohort_engine *engine, bool is_paused) {
    engine->is_paused = is_paused;
}

bool cohort_engine_has_unfinished(const cohort_engine *engine) {
    return engine->first != NULL;
}
