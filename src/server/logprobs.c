/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "server/generation.h"

/* Design notes.
 *
 * vLLM keeps the logprobs of a position in a dict by token id, the actual token first:
 * where that token is among the others as well, it is there once.  Both answers are
 * made by walking that dict, the completion's to the end, the chat's for top_logprobs
 * entries. */

static bool is_repeated(const cohort_position_logprobs *position, uint32_t i) {
    return i > 0 && position->entries[i].token_id == position->entries[0].token_id;
}

static bool ends_in_part(const char *text, size_t size) {
    return size >= 3 && !memcmp(text + size - 3, "\xef\xbf\xbd", 3);
}

/* One token behind those that are held, as text: what it adds to theirs.  A part of a
 * character is no text; the token that makes it whole has all of it.  True: a part. */
static bool decode(const cohort_server *server, const cohort_logprob_lists *lists,
                   int32_t id, cohort_body *out) {
    int32_t ids[COHORT_HELD_TOKENS + 1];
    int32_t n = lists ? lists->n_held : 0;
    bool is_part = true;
    if (n) memcpy(ids, lists->held, (size_t)n * sizeof *ids);
    ids[n] = id;
    /* With all that are held, or else alone: what was held need not have become one. */
    for (int32_t from = 0; from <= n && is_part; from = from < n ? n : n + 1) {
        char *text = NULL;
        size_t size = 0;
        if (cohort_engine_detokenize(server->engine, ids + from, (size_t)(n - from + 1),
                                     false, &text, &size) < 0)
            return false;
        is_part = ends_in_part(text, size);
        if (!is_part) cohort_body_add(out, text, size);
        free(text);
    }
    return is_part;
}

/* The token that came: it is held, or none is any more. */
static void follow(cohort_logprob_lists *lists, int32_t id, bool is_part) {
    if (lists->n_held == COHORT_HELD_TOKENS || !is_part) lists->n_held = 0;
    if (is_part) lists->held[lists->n_held++] = id;
}

/* ... or as its id, where that was asked for. */
static bool show(const cohort_generation *generation, const cohort_logprob_lists *lists,
                 int32_t id, cohort_body *out) {
    if (!generation->tokens_as_ids) return decode(generation->server, lists, id, out);
    cohort_body_printf(out, "token_id:%d", id);
    return false;
}

static size_t count_characters(const cohort_body *text) {
    size_t n = 0;
    for (size_t i = 0; i < text->size; i++)
        n += ((unsigned char)text->bytes[i] & 0xc0) != 0x80;
    return n;
}

static void add_comma(cohort_body *out) {
    if (out->size) cohort_body_add(out, ",", 1);
}

static void add_text(cohort_body *out, const cohort_body *text) {
    cohort_body_json(out, text->size ? text->bytes : "", text->size);
}

static void add_place(cohort_logprob_lists *lists, const cohort_body *token) {
    add_comma(&lists->offsets);
    cohort_body_printf(&lists->offsets, "%lld", (long long)lists->offset);
    lists->offset += (int64_t)count_characters(token);
    add_comma(&lists->tokens);
    add_text(&lists->tokens, token);
}

/* position: NULL: of the first token of a prompt.  token: scratch, the one that is there.
 */
static void add_values(const cohort_generation *generation, cohort_logprob_lists *lists,
                       const cohort_position_logprobs *position, cohort_body *token) {
    add_comma(&lists->values);
    add_comma(&lists->tops);
    if (!position) {
        cohort_body_puts(&lists->values, "null");
        cohort_body_puts(&lists->tops, "null");
        return;
    }
    cohort_body_json_real(&lists->values, (double)position->entries[0].logprob);
    cohort_body_puts(&lists->tops, "{");
    for (uint32_t i = 0; i < position->n; i++) {
        const cohort_token_logprob *entry = &position->entries[i];
        if (entry->token_id < 0 || is_repeated(position, i)) continue;
        if (i) {
            token->size = 0;
            show(generation, lists, entry->token_id, token);
            cohort_body_puts(&lists->tops, ",");
        }
        add_text(&lists->tops, token);
        cohort_body_puts(&lists->tops, ":");
        cohort_body_json_real(&lists->tops, (double)entry->logprob);
    }
    cohort_body_puts(&lists->tops, "}");
}

void cohort_logprobs_add_completion(cohort_generation *generation,
                                    cohort_logprob_lists *lists,
                                    const cohort_position_logprobs *position,
                                    int32_t token_id) {
    cohort_body token = {0};
    bool is_part = show(generation, lists, token_id, &token);
    add_place(lists, &token);
    add_values(generation, lists, position, &token);
    follow(lists, token_id, is_part);
    cohort_body_deinit(&token);
}

void cohort_logprobs_add_prompt_tokens(cohort_generation *generation,
                                       cohort_prompt *prompt) {
    cohort_body token = {0};
    for (size_t i = 0; i < prompt->n_ids; i++) {
        token.size = 0;
        bool is_part = show(generation, &prompt->echoed, prompt->ids[i], &token);
        add_place(&prompt->echoed, &token);
        follow(&prompt->echoed, prompt->ids[i], is_part);
    }
    prompt->echoed.n_held = 0;
    cohort_body_deinit(&token);
}

void cohort_logprobs_add_prompt_values(cohort_generation *generation,
                                       cohort_prompt *prompt,
                                       const cohort_completion *completion) {
    cohort_body token = {0};
    for (size_t i = 0; i < prompt->n_ids; i++) {
        bool is_told = i > 0 && (int32_t)i <= completion->n_prompt_logprobs;
        token.size = 0;
        bool is_part = show(generation, &prompt->echoed, prompt->ids[i], &token);
        add_values(generation, &prompt->echoed,
                   is_told ? &completion->prompt_logprobs[i - 1] : NULL, &token);
        follow(&prompt->echoed, prompt->ids[i], is_part);
    }
    prompt->echoed.n_held = 0;
    cohort_body_deinit(&token);
}

/* "token":...,"logprob":...,"bytes":[...], which are the text's.  True: a part. */
static bool write_token(const cohort_generation *generation,
                        const cohort_logprob_lists *lists,
                        const cohort_token_logprob *entry, cohort_body *out) {
    cohort_body token = {0};
    bool is_part = decode(generation->server, lists, entry->token_id, &token);
    cohort_body_puts(out, "\"token\":");
    if (generation->tokens_as_ids)
        cohort_body_printf(out, "\"token_id:%d\"", entry->token_id);
    else
        add_text(out, &token);
    cohort_body_puts(out, ",\"logprob\":");
    cohort_body_json_real(out, (double)entry->logprob);
    cohort_body_puts(out, ",\"bytes\":[");
    for (size_t i = 0; i < token.size; i++)
        cohort_body_printf(out, i ? ",%u" : "%u", (unsigned char)token.bytes[i]);
    cohort_body_puts(out, "]");
    cohort_body_deinit(&token);
    return is_part;
}

void cohort_logprobs_add_chat(cohort_generation *generation, cohort_logprob_lists *lists,
                              const cohort_position_logprobs *position) {
    cohort_body *out = &lists->tokens;
    const cohort_sampling_params *sampling = &generation->params.request.sampling;
    /* What was asked for by id is told whole, and the sampled token before it. */
    int32_t n_top = sampling->n_logprob_token_ids ? INT32_MAX : sampling->n_logprobs;
    int32_t n = 0;
    add_comma(out);
    cohort_body_puts(out, "{");
    bool is_part = write_token(generation, lists, &position->entries[0], out);
    cohort_body_puts(out, ",\"top_logprobs\":[");
    for (uint32_t i = 0; i < position->n && n < n_top; i++) {
        const cohort_token_logprob *entry = &position->entries[i];
        if (entry->token_id < 0 || is_repeated(position, i)) continue;
        cohort_body_puts(out, n++ ? ",{" : "{");
        write_token(generation, lists, entry, out);
        cohort_body_puts(out, "}");
    }
    cohort_body_puts(out, "]}");
    follow(lists, position->entries[0].token_id, is_part);
}

static void take_list(const cohort_body *before, cohort_body *list, const char *name,
                      cohort_body *out) {
    cohort_body_printf(out, "\"%s\":[", name);
    if (before) cohort_body_add(out, before->bytes, before->size);
    if (before && before->size && list->size) cohort_body_puts(out, ",");
    cohort_body_add(out, list->bytes, list->size);
    cohort_body_puts(out, "]");
    list->size = 0;
}

void cohort_logprobs_take_completion(const cohort_logprob_lists *before,
                                     cohort_logprob_lists *lists, cohort_body *out) {
    cohort_body_puts(out, "{");
    take_list(before ? &before->offsets : NULL, &lists->offsets, "text_offset", out);
    cohort_body_puts(out, ",");
    take_list(before ? &before->values : NULL, &lists->values, "token_logprobs", out);
    cohort_body_puts(out, ",");
    take_list(before ? &before->tokens : NULL, &lists->tokens, "tokens", out);
    cohort_body_puts(out, ",");
    take_list(before ? &before->tops : NULL, &lists->tops, "top_logprobs", out);
    cohort_body_puts(out, "}");
}

void cohort_logprobs_take_chat(cohort_logprob_lists *lists, cohort_body *out) {
    cohort_body_puts(out, "{");
    take_list(NULL, &lists->tokens, "content", out);
    cohort_body_puts(out, "}");
}

void cohort_logprobs_deinit(cohort_logprob_lists *lists) {
    cohort_body_deinit(&lists->offsets);
    cohort_body_deinit(&lists->values);
    cohort_body_deinit(&lists->tokens);
    cohort_body_deinit(&lists->tops);
}

size_t cohort_logprobs_bytes(const cohort_logprob_lists *lists) {
    return lists->offsets.capacity + lists->values.capacity + lists->tokens.capacity +
           lists->tops.capacity;
}

void cohort_logprobs_write_prompt(const cohort_server *server,
                                  const cohort_completion *completion, cohort_body *out) {
    cohort_body token = {0};
    cohort_body_puts(out, "[null");
    for (int32_t p = 0; p < completion->n_prompt_logprobs; p++) {
        const cohort_position_logprobs *position = &completion->prompt_logprobs[p];
        cohort_body_puts(out, ",{");
        for (uint32_t i = 0; i < position->n; i++) {
            const cohort_token_logprob *entry = &position->entries[i];
            if (entry->token_id < 0 || is_repeated(position, i)) continue;
            token.size = 0;
            decode(server, NULL, entry->token_id, &token);
            cohort_body_printf(out, "%s\"%d\":{\"logprob\":", i ? "," : "",
                               entry->token_id);
            cohort_body_json_real(out, (double)entry->logprob);
            cohort_body_printf(out, ",\"rank\":%d,\"decoded_token\":", entry->rank);
            add_text(out, &token);
            cohort_body_puts(out, "}");
        }
        cohort_body_puts(out, "}");
    }
    cohort_body_puts(out, "]");
    cohort_body_deinit(&token);
}
