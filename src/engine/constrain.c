/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "engine/engine_internal.h"

/* Design notes.
 *
 * What may come next is known once the token before it is here, and needed when the next
 * one is sampled.  So a step that samples for constrained sequences goes out ahead as any
 * other, and its masks follow: they are made while the ranks compute.
 *
 * Grammars are kept by their text, because the masks that were computed for one serve the
 * next request with the same schema, too: so many, and so many bytes; what is used last
 * stays.  One that was dropped lives as long as its requests.  The list and the
 * vocabulary are for any thread under the lock; masks and matchers are the engine's
 * thread's. */

/* ---- for any thread ---------------------------------------------------------------- */

static cohort_status make_vocabulary(const cohort_engine *engine) {
    engine_grammars *grammars = engine->grammars;
    if (!engine->tokenizer)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "structured outputs need a tokenizer; start without "
                           "skip_tokenizer_init");
    pthread_mutex_lock(&grammars->lock);
    cohort_status status =
        grammars->vocabulary
            ? COHORT_OK
            : cohort_vocabulary_create(engine->tokenizer, &grammars->vocabulary);
    pthread_mutex_unlock(&grammars->lock);
    return status;
}

/* Under the lock.  NULL: not kept. */
static cohort_grammar *find(engine_grammars *grammars, cohort_grammar_kind kind,
                            const char *text, size_t size) {
    for (size_t i = 0; i < COHORT_MAX_KEPT_GRAMMARS; i++) {
        struct kept_grammar *kept = &grammars->kept[i];
        if (!kept->grammar || kept->kind != kind || kept->size != size ||
            (size && memcmp(kept->text, text, size) != 0))
            continue;
        kept->last_use = ++grammars->n_uses;
        return cohort_grammar_acquire(kept->grammar);
    }
    return NULL;
}

static size_t bytes_of_kept(const struct kept_grammar *kept) {
    return kept->grammar ? kept->size + cohort_grammar_bytes(kept->grammar) : 0;
}

static void drop(struct kept_grammar *kept) {
    free(kept->text);
    cohort_grammar_release(kept->grammar);
    *kept = (struct kept_grammar){0};
}

/* Under the lock: the one that was used least lately, a free place first; NULL: none of
 * those is taken. */
static struct kept_grammar *oldest_of(engine_grammars *grammars, bool is_taken) {
    struct kept_grammar *oldest = NULL;
    for (size_t i = 0; i < COHORT_MAX_KEPT_GRAMMARS; i++) {
        struct kept_grammar *kept = &grammars->kept[i];
        if (is_taken && !kept->grammar) continue;
        if (!oldest || kept->last_use < oldest->last_use) oldest = kept;
    }
    return oldest;
}

/* Under the lock. */
static void keep_within(engine_grammars *grammars, size_t most_bytes) {
    size_t bytes = 0;
    for (size_t i = 0; i < COHORT_MAX_KEPT_GRAMMARS; i++)
        bytes += bytes_of_kept(&grammars->kept[i]);
    for (struct kept_grammar *oldest;
         bytes > most_bytes && (oldest = oldest_of(grammars, true));) {
        size_t its_bytes = bytes_of_kept(oldest);
        bytes -= its_bytes < bytes ? its_bytes : bytes; /* masks come and go */
        drop(oldest);
    }
    atomic_store_explicit(&grammars->kept_bytes, bytes, memory_order_relaxed);
}

/* Under the lock, in place of the one that was used least lately. */
static void keep(engine_grammars *grammars, cohort_grammar_kind kind, const char *text,
                 size_t size, cohort_grammar *grammar) {
    struct kept_grammar *place = oldest_of(grammars, false);
    char *copy = malloc(size + 1);
    if (!copy) return;
    if (size) memcpy(copy, text, size);
    drop(place);
    *place = (struct kept_grammar){.kind = kind,
                                   .text = copy,
                                   .size = size,
                                   .grammar = cohort_grammar_acquire(grammar),
                                   .last_use = ++grammars->n_uses};
    keep_within(grammars, COHORT_MAX_KEPT_GRAMMAR_BYTES);
}

cohort_status cohort_engine_compile_grammar(const cohort_engine *engine,
                                            cohort_grammar_kind kind, const char *text,
                                            size_t text_bytes,
                                            cohort_grammar **out_grammar) {
    engine_grammars *grammars = engine->grammars;
    COHORT_TRY(make_vocabulary(engine));
    pthread_mutex_lock(&grammars->lock);
    *out_grammar = find(grammars, kind, text, text_bytes);
    pthread_mutex_unlock(&grammars->lock);
    if (*out_grammar) return COHORT_OK;
    if (cohort_grammar_held_bytes() >= COHORT_GRAMMAR_MAX_HELD_BYTES) {
        pthread_mutex_lock(&grammars->lock);
        keep_within(grammars, 0); /* those of requests come first */
        pthread_mutex_unlock(&grammars->lock);
    }
    /* Without the lock: it may take a while, and two at once do no harm. */
    COHORT_TRY(cohort_grammar_compile(kind, text, text_bytes, out_grammar));
    pthread_mutex_lock(&grammars->lock);
    keep(grammars, kind, text, text_bytes, *out_grammar);
    pthread_mutex_unlock(&grammars->lock);
    return COHORT_OK;
}

/* ---- for the engine's -------------------------------------------------------------- */

static cohort_status begin(const cohort_engine *engine, engine_sequence *sequence) {
    return cohort_matcher_create(sequence->request->grammar, engine->grammars->vocabulary,
                                 &sequence->matcher);
}

cohort_status cohort_engine_constrain(const cohort_engine *engine,
                                      engine_sequence *sequence) {
    const engine_request *request = sequence->request;
    if (!request->grammar) return COHORT_OK;
    COHORT_TRY(make_vocabulary(engine));
    return request->grammar_after[0] ? COHORT_OK : begin(engine, sequence);
}

/* What a token adds to a text, tokens that were added to the vocabulary included. */
static cohort_status bytes_of(const cohort_engine *engine, int32_t token,
                              char **out_bytes, size_t *out_size) {
    COHORT_TRY(
        cohort_tokenizer_token_bytes(engine->tokenizer, token, out_bytes, out_size));
    if (*out_size) return COHORT_OK;
    free(*out_bytes);
    return cohort_tokenizer_spell(engine->tokenizer, token, out_bytes, out_size);
}

/* Reads on before the grammar begins.  Returns how many of the bytes were read when what
 * it begins behind was complete; 0: it was not. */
static size_t find_begin(engine_sequence *sequence, const char *bytes, size_t size) {
    const char *after = sequence->request->grammar_after;
    size_t n = strlen(after);
    for (size_t i = 0; i < size; i++) {
        if (sequence->before_bytes == n)
            memmove(sequence->before, sequence->before + 1, --sequence->before_bytes);
        sequence->before[sequence->before_bytes++] = bytes[i];
        if (sequence->before_bytes == n && !memcmp(sequence->before, after, n))
            return i + 1;
    }
    return 0;
}

static cohort_status await_begin(const cohort_engine *engine, engine_sequence *sequence,
                                 int32_t token) {
    char *bytes;
    size_t size;
    COHORT_TRY(bytes_of(engine, token, &bytes, &size));
    size_t at = find_begin(sequence, bytes, size);
    cohort_status status = at ? begin(engine, sequence) : COHORT_OK;
    /* White space between is nobody's; the rest of the token must match. */
    while (at && at < size && strchr(" \t\r\n", bytes[at]))
        at++;
    if (at && status >= 0)
        sequence->is_stuck = sequence->has_diverged =
            !cohort_matcher_accept_bytes(sequence->matcher, bytes + at, size - at);
    free(bytes);
    return status;
}

static void allow(uint32_t *mask, int32_t token, int32_t vocab_size) {
    if (token >= 0 && token < vocab_size) mask[token / 32] |= UINT32_C(1) << token % 32;
}

static bool is_empty(const uint32_t *mask, size_t n_words) {
    for (size_t i = 0; i < n_words; i++)
        if (mask[i]) return false;
    return true;
}

/* The model's vocabulary and the tokenizer's need not be of one size. */
static cohort_status reserve(engine_grammars *grammars, int32_t max_num_seqs,
                             int32_t vocab_size) {
    if (grammars->words) return COHORT_OK;
    size_t words = cohort_vocabulary_mask_words(grammars->vocabulary);
    grammars->n_words = ((uint32_t)vocab_size + 31) / 32;
    grammars->stride = words > grammars->n_words ? words : grammars->n_words;
    size_t n = (size_t)max_num_seqs;
    size_t message_bytes =
        cohort_step_masks_bytes((uint32_t)max_num_seqs, grammars->n_words);
    free(grammars->masks);
    free(grammars->message);
    grammars->masks = calloc(n, sizeof *grammars->masks);
    grammars->message = malloc(message_bytes);
    grammars->words = grammars->masks && grammars->message
                          ? calloc(n * grammars->stride, sizeof *grammars->words)
                          : NULL;
    return grammars->words ? COHORT_OK : COHORT_FAIL(COHORT_E_NOMEM, "masks of tokens");
}

static cohort_status fill_mask(const cohort_engine *engine, engine_sequence *sequence,
                               uint32_t *mask) {
    const engine_grammars *grammars = engine->grammars;
    const engine_request *request = sequence->request;
    int32_t vocab_size = engine->info.vocab_size;
    COHORT_TRY(cohort_matcher_mask(sequence->matcher, mask));
    if (vocab_size % 32) mask[grammars->n_words - 1] &= (1u << vocab_size % 32) - 1;
    bool is_complete = cohort_matcher_is_complete(sequence->matcher);
    for (int32_t i = 0; is_complete && !request->ignore_eos && i < engine->config.n_eos;
         i++)
        allow(mask, engine->config.eos_token_ids[i], vocab_size);
    for (uint32_t i = 0; is_complete && i < request->n_own_stop_tokens; i++)
        allow(mask, request->stop_tokens[i], vocab_size);
    /* Nothing follows, and no token says so; or the vocabulary lacks a byte that must
     * come.  Whatever is sampled is not part of the text. */
    sequence->is_stuck |= is_empty(mask, grammars->n_words);
    sequence->is_fulfilled = is_complete && !sequence->has_diverged;
    if (sequence->is_stuck) allow(mask, 0, vocab_size);
    return COHORT_OK;
}

cohort_status cohort_engine_make_masks(cohort_engine *engine, size_t *out_size_bytes) {
    engine_grammars *grammars = engine->grammars;
    cohort_step_masks masks = {0};
    COHORT_TRY(reserve(grammars, engine->info.max_num_seqs, engine->info.vocab_size));
    masks.masks = grammars->masks;
    for (int32_t i = 0; i < engine->n_masked; i++) {
        engine_sequence *sequence = engine->masked[i].sequence;
        if (!sequence->matcher || sequence->scheduled.is_finished) continue;
        uint32_t *words = grammars->words + masks.n_masks * grammars->stride;
        COHORT_TRY(fill_mask(engine, sequence, words));
        grammars->masks[masks.n_masks++] =
            (cohort_step_mask){.entry = engine->masked[i].entry,
                               .n_words = grammars->n_words,
                               .words = words};
    }
    /* Masks were added; a step waits for nobody. */
    if (!pthread_mutex_trylock(&grammars->lock)) {
        keep_within(grammars, COHORT_MAX_KEPT_GRAMMAR_BYTES);
        pthread_mutex_unlock(&grammars->lock);
    }
    *out_size_bytes = cohort_step_masks_encoded_bytes(&masks);
    cohort_step_masks_encode(&masks, grammars->message);
    return COHORT_OK;
}

cohort_status cohort_engine_follow(const cohort_engine *engine, engine_sequence *sequence,
                                   int32_t token, cohort_finish_reason *out_reason) {
    const engine_request *request = sequence->request;
    *out_reason = COHORT_FINISH_NONE;
    if (!sequence->matcher && request->grammar)
        return await_begin(engine, sequence, token);
    if (!sequence->matcher) return COHORT_OK;
    /* Masks have what is accepted.  Should one not, by a fault of ours or a rank's, then
     * one sequence pays for it and not everybody's engine. */
    if (!cohort_matcher_accept(sequence->matcher, token)) {
        *out_reason = COHORT_FINISH_ERROR;
        return COHORT_OK;
    }
    /* Where a token could say so, it is sampled, as vLLM does. */
    bool has_end = request->n_own_stop_tokens > 0 ||
                   (!request->ignore_eos && engine->config.n_eos > 0);
    if (!has_end && cohort_matcher_is_finished(sequence->matcher))
        *out_reason = COHORT_FINISH_STOP;
    return COHORT_OK;
}

/* ---- life -------------------------------------------------------------------------- */

cohort_status cohort_engine_grammars_create(cohort_engine *engine) {
    engine->grammars = calloc(1, sizeof *engine->grammars);
    if (!engine->grammars) return COHORT_FAIL(COHORT_E_NOMEM, "an engine");
    pthread_mutex_init(&engine->grammars->lock, NULL);
    return COHORT_OK;
}

void cohort_engine_grammars_destroy(cohort_engine *engine) {
    engine_grammars *grammars = engine->grammars;
    if (!grammars) return;
    keep_within(grammars, 0);
    cohort_vocabulary_destroy(grammars->vocabulary);
    free(grammars->words);
    free(grammars->masks);
    free(grammars->message);
    pthread_mutex_destroy(&grammars->lock);
    free(grammars);
}
