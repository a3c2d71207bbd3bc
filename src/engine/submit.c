/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/random.h"
#include "cohort/clock.h"
#include "engine/engine_internal.h"
#include "engine/engine_options.h"
#include "wire/sampling_options.h"

/* Design notes.
 *
 * A request is checked as a whole before anything is queued; the ranges and most of the
 * words are vLLM's (sampling_params.py).  What all sequences of a request share is made
 * here; their own tokens and keys when they are first in a step, text as it grows: so
 * that many can wait, and steps of those that run do not allocate. */

/* vLLM's _MAX_TEMP: colder than this, a softmax in f32 is of no use. */
#define COLDEST_TEMPERATURE 0.01f

cohort_request cohort_engine_request_defaults(const cohort_engine *engine) {
    cohort_request request = {.sampling = cohort_sampling_defaults(),
                              .detokenize = engine->tokenizer != NULL};
    cohort_options_set_defaults(&cohort_request_option_table, &request);
    const cohort_model_defaults *defaults = &engine->defaults;
    if (!isnan(defaults->temperature))
        request.sampling.temperature = defaults->temperature;
    if (!isnan(defaults->top_p)) request.sampling.top_p = defaults->top_p;
    if (!isnan(defaults->min_p)) request.sampling.min_p = defaults->min_p;
    if (!isnan(defaults->repetition_penalty))
        request.sampling.repetition_penalty = defaults->repetition_penalty;
    if (defaults->top_k >= 0) request.sampling.top_k = defaults->top_k;
    if (defaults->max_new_tokens > 0) request.max_tokens = defaults->max_new_tokens;
    return request;
}

/* ---- checks ------------------------------------------------------------------------ */

static_assert(COHORT_MAX_OWN_STOP_TOKENS + COHORT_MAX_EOS <= COHORT_MAX_STOP_TOKENS,
              "a request's own stop tokens and the model's go together");

static cohort_status check_numbers(const cohort_request *request) {
    const cohort_sampling_params *sampling = &request->sampling;
    const struct {
        const char *name;
        double value, least, most;
    } ranges[] = {
        {"min_tokens", sampling->min_tokens, 0,
         request->max_tokens ? request->max_tokens : INT32_MAX},
        {"logit_bias: number of pairs", sampling->n_bias, 0, COHORT_MAX_LOGIT_BIAS},
        {"bad_word_ids: number", sampling->n_bad_word_ids, 0, COHORT_MAX_BAD_WORD_IDS},
        {"stop_token_ids: number", sampling->n_stop_tokens, 0,
         COHORT_MAX_OWN_STOP_TOKENS},
        {"stop: number of strings", request->n_stop, 0, COHORT_MAX_STOP_STRINGS},
        {"n", request->n, 1, COHORT_MAX_COMPLETIONS},
        {"max_tokens", request->max_tokens, 0, INT32_MAX},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (!(ranges[i].value >= ranges[i].least && ranges[i].value <= ranges[i].most))
            return COHORT_FAIL(COHORT_E_INVALID, "%s is %g, must be from %g to %g",
                               ranges[i].name, ranges[i].value, ranges[i].least,
                               ranges[i].most);
    return cohort_options_check(&cohort_sampling_option_table, sampling,
                                COHORT_E_INVALID);
}

static cohort_status check_tokens(const cohort_engine *engine, const char *what,
                                  const int32_t *ids, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (ids[i] < 0 || ids[i] >= engine->info.vocab_size)
            return COHORT_FAIL(COHORT_E_INVALID,
                               "%s: token id %d is outside the vocabulary of %d", what,
                               ids[i], engine->info.vocab_size);
    return COHORT_OK;
}

static cohort_status check_stops(const cohort_engine *engine,
                                 const cohort_request *request) {
    if ((request->n_stop || request->detokenize) && !engine->tokenizer)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "text and stop strings need a tokenizer; start without "
                           "skip_tokenizer_init");
    if (request->n_stop && !request->detokenize)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "stop strings are only supported when detokenize is true");
    size_t sum = 0;
    for (uint32_t i = 0; i < request->n_stop; i++) {
        if (!request->stop[i] || !*request->stop[i])
            return COHORT_FAIL(COHORT_E_INVALID, "stop string %u is empty", i);
        sum += strlen(request->stop[i]);
    }
    if (sum > COHORT_MAX_STOP_BYTES)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "the stop strings have %zu bytes, at most %d are supported",
                           sum, COHORT_MAX_STOP_BYTES);
    return COHORT_OK;
}

static cohort_status check_bad_words(const cohort_engine *engine,
                                     const cohort_sampling_params *sampling) {
    const int32_t *ids = sampling->bad_word_ids;
    uint32_t left = sampling->n_bad_word_ids;
    while (left) {
        int32_t n = *ids++;
        if (n < 1 || (uint32_t)n >= left)
            return COHORT_FAIL(COHORT_E_INVALID, "bad_word_ids: a word of %d tokens", n);
        COHORT_TRY(check_tokens(engine, "bad_words", ids, (size_t)n));
        ids += n;
        left -= (uint32_t)n + 1;
    }
    return COHORT_OK;
}

static cohort_status check(const cohort_engine *engine, const cohort_request *request) {
    const cohort_sampling_params *sampling = &request->sampling;
    COHORT_TRY(check_numbers(request));
    if (request->priority && !engine->options.priority_scheduling)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "Got priority %d but Priority scheduling is not enabled.",
                           request->priority);
    COHORT_TRY(check_stops(engine, request));
    COHORT_TRY(check_tokens(engine, "stop_token_ids", sampling->stop_tokens,
                            sampling->n_stop_tokens));
    if (sampling->n_logprob_token_ids &&
        (int64_t)sampling->n_logprob_token_ids != sampling->n_logprobs)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "logprobs must be the number of logprob_token_ids, %u, not %d",
                           sampling->n_logprob_token_ids, sampling->n_logprobs);
    COHORT_TRY(check_tokens(engine, "logprob_token_ids", sampling->logprob_token_ids,
                            sampling->n_logprob_token_ids));
    if (request->allowed_token_ids && request->n_allowed_token_ids == 0)
        return COHORT_FAIL(COHORT_E_INVALID, "allowed_token_ids is empty");
    COHORT_TRY(check_tokens(engine, "allowed_token_ids", request->allowed_token_ids,
                            request->n_allowed_token_ids));
    if (sampling->n_bad_word_ids && request->n_bad_words)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "bad words come as texts or as token ids, not as both");
    for (uint32_t i = 0; i < sampling->n_bias; i++) {
        COHORT_TRY(check_tokens(engine, "logit_bias", &sampling->bias[i].token_id, 1));
        if (!isfinite(sampling->bias[i].bias))
            return COHORT_FAIL(COHORT_E_INVALID, "logit_bias of token %d is no number",
                               sampling->bias[i].token_id);
    }
    return COHORT_OK;
}

static cohort_status check_prompt(const cohort_engine *engine,
                                  const engine_request *request) {
    if (request->n_prompt_tokens == 0)
        return COHORT_FAIL(COHORT_E_INVALID, "the prompt is empty");
    if (request->n_prompt_tokens >= engine->info.max_model_len)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "the prompt has %d tokens and max_model_len is %d, which "
                           "leaves no room to generate; shorten it or raise "
                           "max_model_len",
                           request->n_prompt_tokens, engine->info.max_model_len);
    return check_tokens(engine, "prompt", request->prompt,
                        (size_t)request->n_prompt_tokens);
}

/* ---- copies ------------------------------------------------------------------------ */

static cohort_status no_memory(void) {
    return COHORT_FAIL(COHORT_E_NOMEM, "queueing a request");
}

static cohort_status copy_prompt(const cohort_engine *engine, const cohort_request *from,
                                 engine_request *request) {
    size_t count = from->n_prompt_token_ids;
    if (from->prompt_token_ids) {
        request->prompt = malloc((count + 1) * sizeof *request->prompt);
        if (!request->prompt) return no_memory();
        memcpy(request->prompt, from->prompt_token_ids, count * sizeof *request->prompt);
    } else {
        COHORT_TRY(cohort_engine_tokenize(engine, from->prompt ? from->prompt : "",
                                          from->prompt ? from->prompt_bytes : 0, true,
                                          &request->prompt, &count));
    }
    if (count > INT32_MAX)
        return COHORT_FAIL(COHORT_E_INVALID, "the prompt has %zu tokens", count);
    request->n_prompt_tokens = (int32_t)count;
    return check_prompt(engine, request);
}

static cohort_status make_keys(const cohort_engine *engine, engine_request *request) {
    if (!engine->options.enable_prefix_caching) return COHORT_OK;
    int32_t n_blocks = request->n_prompt_tokens / engine->options.block_size;
    request->keys = malloc(((size_t)n_blocks + 1) * sizeof *request->keys);
    if (!request->keys) return no_memory();
    request->n_keys =
        cohort_engine_extend_keys(engine, request->salt, request->prompt,
                                  request->n_prompt_tokens, request->keys, 0);
    return COHORT_OK;
}

static cohort_status copy_lists(const cohort_engine *engine, const cohort_request *from,
                                engine_request *request) {
    const cohort_sampling_params *sampling = &from->sampling;
    uint32_t n_eos = (uint32_t)engine->config.n_eos;
    request->stop = calloc((size_t)from->n_stop + 1, sizeof *request->stop);
    request->bias = calloc((size_t)sampling->n_bias + 1, sizeof *request->bias);
    request->stop_tokens =
        calloc((size_t)sampling->n_stop_tokens + n_eos + 1, sizeof *request->stop_tokens);
    if (!request->stop || !request->bias || !request->stop_tokens) return no_memory();
    for (; request->n_stop < from->n_stop; request->n_stop++) {
        request->stop[request->n_stop] = strdup(from->stop[request->n_stop]);
        if (!request->stop[request->n_stop]) return no_memory();
    }
    COHORT_TRY(cohort_stops_create(from->stop, from->n_stop, &request->stops));
    if (sampling->n_bias)
        memcpy(request->bias, sampling->bias, sampling->n_bias * sizeof *request->bias);
    for (uint32_t i = 0; i < sampling->n_stop_tokens; i++)
        request->stop_tokens[i] = sampling->stop_tokens[i];
    for (uint32_t i = 0; i < n_eos; i++)
        request->stop_tokens[sampling->n_stop_tokens + i] =
            engine->config.eos_token_ids[i];
    request->sampling.bias = request->bias;
    request->sampling.stop_tokens = request->stop_tokens;
    request->n_own_stop_tokens = sampling->n_stop_tokens;
    request->sampling.n_stop_tokens = sampling->n_stop_tokens + n_eos;
    return COHORT_OK;
}

/* Texts, or what cohort_engine_bad_word_ids made of them; never both. */
static cohort_status copy_words(const cohort_engine *engine, const cohort_request *from,
                                engine_request *request) {
    cohort_sampling_params *sampling = &request->sampling;
    size_t size = sampling->n_bad_word_ids * sizeof *sampling->bad_word_ids;
    if (from->n_bad_words) {
        COHORT_TRY(cohort_engine_bad_word_ids(engine, from->bad_words, from->n_bad_words,
                                              &request->bad_word_ids,
                                              &sampling->n_bad_word_ids));
    } else if (size) {
        request->bad_word_ids = malloc(size);
        if (!request->bad_word_ids) return no_memory();
        memcpy(request->bad_word_ids, sampling->bad_word_ids, size);
    }
    sampling->bad_word_ids = request->bad_word_ids;
    return check_bad_words(engine, sampling);
}

static cohort_status copy_logprob_ids(engine_request *request) {
    cohort_sampling_params *sampling = &request->sampling;
    size_t size = sampling->n_logprob_token_ids * sizeof *sampling->logprob_token_ids;
    if (size == 0) return COHORT_OK;
    request->logprob_token_ids = malloc(size);
    if (!request->logprob_token_ids) return no_memory();
    memcpy(request->logprob_token_ids, sampling->logprob_token_ids, size);
    sampling->logprob_token_ids = request->logprob_token_ids;
    return COHORT_OK;
}

static cohort_status copy_allowed(const cohort_engine *engine, const cohort_request *from,
                                  engine_request *request) {
    if (!from->allowed_token_ids) return COHORT_OK;
    uint32_t n_words = ((uint32_t)engine->info.vocab_size + 31) / 32;
    request->allowed = calloc(n_words, sizeof *request->allowed);
    if (!request->allowed) return no_memory();
    for (size_t i = 0; i < from->n_allowed_token_ids; i++) {
        uint32_t id = (uint32_t)from->allowed_token_ids[i];
        request->allowed[id / 32] |= 1u << id % 32;
    }
    request->n_allowed_words = n_words;
    return COHORT_OK;
}

static cohort_status copy_request(const cohort_engine *engine, const cohort_request *from,
                                  engine_request *request) {
    request->ignore_eos = from->ignore_eos;
    request->include_stop = from->include_stop_str_in_output;
    request->skip_special = from->skip_special_tokens;
    request->detokenize = from->detokenize;
    request->priority = from->priority;
    if (from->grammar) request->grammar = cohort_grammar_acquire(from->grammar);
    const char *after = from->grammar && from->grammar_after ? from->grammar_after : "";
    if (strlen(after) > COHORT_MAX_GRAMMAR_AFTER_BYTES)
        return COHORT_FAIL(COHORT_E_INVALID, "grammar_after has %zu bytes; at most %d",
                           strlen(after), COHORT_MAX_GRAMMAR_AFTER_BYTES);
    memcpy(request->grammar_after, after, strlen(after));
    if (from->cache_salt)
        crypto_generichash((uint8_t *)&request->salt, sizeof request->salt,
                           (const uint8_t *)from->cache_salt, strlen(from->cache_salt),
                           NULL, 0);
    request->sampling = from->sampling;
    request->min_tokens = from->sampling.min_tokens;
    if (from->sampling.temperature > 0 &&
        from->sampling.temperature < COLDEST_TEMPERATURE)
        request->sampling.temperature = COLDEST_TEMPERATURE;
    COHORT_TRY(copy_words(engine, from, request));
    COHORT_TRY(copy_allowed(engine, from, request));
    COHORT_TRY(copy_logprob_ids(request));
    COHORT_TRY(copy_prompt(engine, from, request));
    COHORT_TRY(make_keys(engine, request));
    int32_t room = engine->info.max_model_len - request->n_prompt_tokens;
    request->max_tokens =
        from->max_tokens && from->max_tokens < room ? from->max_tokens : room;
    int32_t by_grammar = from->grammar ? cohort_grammar_max_tokens(from->grammar) : 0;
    if (by_grammar && by_grammar < request->max_tokens) request->max_tokens = by_grammar;
    return copy_lists(engine, from, request);
}

/* ---- sequences --------------------------------------------------------------------- */

static cohort_status reserve_prompt_logprobs(engine_sequence *sequence) {
    const engine_request *request = sequence->request;
    size_t n = (size_t)request->n_prompt_tokens;
    size_t per_position = (size_t)request->sampling.n_prompt_logprobs + 1;
    sequence->prompt_logprobs = calloc(n, sizeof *sequence->prompt_logprobs);
    sequence->prompt_entries =
        malloc(n * per_position * sizeof *sequence->prompt_entries);
    return sequence->prompt_logprobs && sequence->prompt_entries ? COHORT_OK
                                                                 : no_memory();
}

/* The most that the ranks may have to be told beside its tokens. */
static int64_t told_bytes(const engine_sequence *sequence) {
    cohort_step_request message = cohort_engine_request_of(sequence);
    message.n_tokens = 0;
    message.sampling.n_stop_tokens = sequence->request->sampling.n_stop_tokens;
    return (int64_t)cohort_step_request_bytes(&message);
}

static cohort_status fill_sequence(const cohort_engine *engine,
                                   engine_sequence *sequence) {
    engine_request *request = sequence->request;
    sequence->n_tokens = request->n_prompt_tokens;
    if (sequence->index == 0 && request->sampling.n_prompt_logprobs >= 0)
        COHORT_TRY(reserve_prompt_logprobs(sequence));
    sequence->scheduled = (cohort_scheduler_request){
        .n_tokens = request->n_prompt_tokens,
        .max_tokens = request->n_prompt_tokens + request->max_tokens,
        .priority = request->priority,
        /* Logprobs of a prompt take its logits, which the cache does not have. */
        .reads_cache = request->keys && !sequence->prompt_logprobs,
        .told_bytes = told_bytes(sequence),
        .keys = request->keys,
        .n_keys = request->n_keys};
    COHORT_TRY(cohort_engine_constrain(engine, sequence));
    if (!request->detokenize) return COHORT_OK;
    sequence->text =
        (cohort_stop_text){.stops = &request->stops, .include = request->include_stop};
    return cohort_detokenizer_create(engine->tokenizer, request->prompt,
                                     (size_t)request->n_prompt_tokens,
                                     request->skip_special, &sequence->detokenizer);
}

cohort_status cohort_engine_seat(const cohort_engine *engine, engine_sequence *sequence) {
    const engine_request *request = sequence->request;
    size_t n_prompt = (size_t)request->n_prompt_tokens;
    size_t n_most = n_prompt + (size_t)request->max_tokens;
    if (sequence->tokens) return COHORT_OK;
    sequence->tokens = malloc(n_most * sizeof *sequence->tokens);
    if (!sequence->tokens) return no_memory();
    memcpy(sequence->tokens, request->prompt, n_prompt * sizeof *sequence->tokens);
    if (!request->keys) return COHORT_OK;
    size_t n_blocks = n_most / (size_t)engine->options.block_size;
    sequence->keys = malloc((n_blocks + 1) * sizeof *sequence->keys);
    if (!sequence->keys) return no_memory();
    memcpy(sequence->keys, request->keys,
           (size_t)request->n_keys * sizeof *sequence->keys);
    sequence->scheduled.keys = sequence->keys;
    return COHORT_OK;
}

/* A chain of n, or nothing. */
static cohort_status make_sequences(const cohort_engine *engine, engine_request *request,
                                    int32_t n, engine_sequence **out_first) {
    engine_sequence *first = NULL;
    cohort_status status = COHORT_OK;
    for (int32_t index = n; index-- > 0 && status >= 0;) {
        engine_sequence *sequence = calloc(1, sizeof *sequence);
        if (!sequence) {
            status = no_memory();
            break;
        }
        request->n_left++;
        sequence->request = request;
        sequence->index = index;
        sequence->seed = request->sampling.seed + (uint64_t)index;
        sequence->next = first;
        first = sequence;
        status = fill_sequence(engine, sequence);
    }
    *out_first = first;
    if (status >= 0) return status;
    request->n_left++; /* the caller frees the request */
    while (first) {
        engine_sequence *next = first->next;
        cohort_engine_sequence_free(first);
        first = next;
    }
    request->n_left--;
    return status;
}

static void queue(cohort_engine *engine, engine_sequence *sequence) {
    sequence->wire_id = ++engine->last_wire_id;
    sequence->submitted_ns = cohort_clock_ns();
    sequence->previous = engine->last;
    sequence->next = NULL;
    *(engine->last ? &engine->last->next : &engine->first) = sequence;
    engine->last = sequence;
    cohort_scheduler_add(engine->scheduler, &sequence->scheduled);
}

cohort_status cohort_engine_submit(cohort_engine *engine, const cohort_request *request,
                                   cohort_request_id *out_id) {
    *out_id = (cohort_request_id){0};
    if (engine->is_failed) return cohort_fail_adopt(&engine->failure);
    COHORT_TRY(check(engine, request));
    engine_request *copy = calloc(1, sizeof *copy);
    if (!copy) return no_memory();
    engine_sequence *sequence = NULL;
    cohort_status status = copy_request(engine, request, copy);
    copy->id.value = engine->last_id + 1;
    if (!request->has_seed)
        copy->sampling.seed = cohort_random_u64(engine->options.seed, copy->id.value);
    if (status >= 0) status = cohort_engine_check_convicts(engine, copy);
    if (status >= 0) status = cohort_engine_requests_reserve(&engine->by_id);
    if (status >= 0) status = make_sequences(engine, copy, request->n, &sequence);
    if (status < 0) {
        cohort_engine_request_free(copy);
        return status;
    }
    engine->last_id = copy->id.value;
    copy->first = sequence;
    cohort_engine_requests_add(&engine->by_id, copy);
    while (sequence) {
        engine_sequence *next = sequence->next;
        queue(engine, sequence);
        sequence = next;
    }
    *out_id = copy->id;
    return COHORT_OK;
}

void cohort_engine_cancel(cohort_engine *engine, cohort_request_id id) {
    cohort_engine_cancel_many(engine, id, 1);
}

void cohort_engine_end_request(cohort_engine *engine, const engine_request *request,
                               bool is_convicted) {
    for (engine_sequence *sequence = request->first;
         sequence && sequence->request == request; sequence = sequence->next) {
        engine->by_id.n_looks++;
        if (sequence->is_cancelled) continue;
        sequence->is_cancelled = true;
        sequence->is_convicted = is_convicted;
        sequence->next_cancelled = engine->cancelled;
        engine->cancelled = sequence;
        cohort_scheduler_finish(engine->scheduler, &sequence->scheduled);
    }
}

void cohort_engine_cancel_many(cohort_engine *engine, cohort_request_id first,
                               size_t count) {
    for (uint64_t id = first.value; count-- > 0 && id <= engine->last_id; id++) {
        const engine_request *request = cohort_engine_requests_find(&engine->by_id, id);
        if (request) cohort_engine_end_request(engine, request, false);
    }
}
