/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "text/text_internal.h"

/* Design notes.
 *
 * One path decodes a list and decodes as tokens come.  The two differ in one thing: a run
 * of byte tokens that is no UTF-8 becomes U+FFFD throughout, also where it begins with
 * characters, and whoever shows text as it comes has shown those by then. */

#define REPLACEMENT "\xef\xbf\xbd"

/* Adds to the text; at its very beginning something may be stripped. */
static void emit(cohort_decoding *self, const char *bytes, size_t size) {
    const cohort_tokenizer *tokenizer = self->tokenizer;
    size_t length = tokenizer->n_strip ? strlen(tokenizer->strip) : 0;
    while (self->stripped >= 0 && self->stripped < tokenizer->n_strip && size >= length &&
           !memcmp(bytes, tokenizer->strip, length)) {
        bytes += length;
        size -= length;
        self->stripped++;
    }
    if (!size) return;
    self->stripped = -1;
    cohort_text_append(&self->text, bytes, size);
}

static void drop_held(cohort_decoding *self, size_t size) {
    self->held.size -= size;
    if (self->held.size)
        memmove(self->held.bytes, self->held.bytes + size, self->held.size);
}

/* Byte level: everything but what may still become a character. */
static void forward_bytes(cohort_decoding *self, bool all) {
    size_t done = 0, bad = 0;
    bool truncated = false;
    const char *held = self->held.bytes;
    while (done < self->held.size) {
        size_t length =
            cohort_utf8_length(held + done, self->held.size - done, &bad, &truncated);
        if (!length && truncated && !all) break;
        if (length)
            emit(self, held + done, length);
        else
            emit(self, REPLACEMENT, 3);
        done += length ? length : bad;
    }
    drop_held(self, done);
}

/* A run of byte tokens: characters as they become whole, then one U+FFFD a byte. */
static void forward_run(cohort_decoding *self, bool ended) {
    size_t done = 0, bad = 0;
    bool truncated = false;
    const char *held = self->held.bytes;
    if (self->whole && !ended) return;
    if (self->whole) self->broken = !cohort_utf8_is_valid(held, self->held.size);
    while (done < self->held.size) {
        size_t length = self->broken
                            ? 0
                            : cohort_utf8_length(held + done, self->held.size - done,
                                                 &bad, &truncated);
        if (!length && !self->broken && truncated && !ended) break;
        if (length)
            emit(self, held + done, length);
        else
            emit(self, REPLACEMENT, 3);
        self->broken |= !length;
        done += length ? length : 1;
    }
    drop_held(self, done);
}

void cohort_decoding_end(cohort_decoding *self) {
    if (self->in_run)
        forward_run(self, true);
    else
        forward_bytes(self, true);
    self->in_run = self->broken = false;
}

static void replace(cohort_text *piece, const cohort_text_step *step, bool first) {
    size_t length = strlen(step->pattern);
    cohort_text out = {0};
    const char *content = step->content;
    if (step->kind == COHORT_DECODE_METASPACE && first && !step->never) content = "";
    cohort_text_append(&out, "", 0);
    for (size_t i = 0; i < piece->size;) {
        bool match =
            piece->size - i >= length && !memcmp(piece->bytes + i, step->pattern, length);
        if (match)
            cohort_text_append(&out, content, strlen(content));
        else
            cohort_text_append(&out, piece->bytes + i, 1);
        i += match ? length : 1;
    }
    out.failed |= piece->failed;
    cohort_text_free(piece);
    *piece = out;
}

static void add_text(cohort_decoding *self, const cohort_token *token) {
    const cohort_text_steps *decoders = &self->tokenizer->decoders;
    cohort_text piece = {0};
    cohort_text_append(&piece, token->bytes, token->size);
    for (int i = 0; i < decoders->count && !piece.failed; i++)
        replace(&piece, &decoders->items[i], !self->begun);
    if (self->tokenizer->joined && self->begun) emit(self, " ", 1);
    emit(self, piece.bytes, piece.size);
    self->text.failed |= piece.failed;
    cohort_text_free(&piece);
}

void cohort_decoding_add(cohort_decoding *self, const cohort_token *token) {
    const cohort_tokenizer *tokenizer = self->tokenizer;
    if (tokenizer->decode_level) {
        cohort_text_append(&self->held, token->bytes, token->size);
        forward_bytes(self, false);
    } else if (tokenizer->decode_bytes && token->byte >= 0) {
        cohort_text_append(&self->held, (char[]){(char)token->byte}, 1);
        self->in_run = true;
        forward_run(self, false);
    } else {
        cohort_decoding_end(self);
        add_text(self, token);
    }
    self->begun = true;
}

void cohort_decoding_free(cohort_decoding *self) {
    cohort_text_free(&self->text);
    cohort_text_free(&self->held);
}

const cohort_token *cohort_visible_token(const cohort_tokenizer *tokenizer, int32_t id,
                                         bool skip_special) {
    if (id < 0 || id >= tokenizer->n_tokens) return NULL;
    const cohort_token *token = &tokenizer->tokens[id];
    return token->bytes && !(skip_special && token->special) ? token : NULL;
}

cohort_status cohort_tokenizer_decode(const cohort_tokenizer *tokenizer,
                                      const int32_t *ids, size_t count, bool skip_special,
                                      char **out_text, size_t *out_size_bytes) {
    cohort_decoding self = {.tokenizer = tokenizer, .whole = true};
    cohort_text_append(&self.text, "", 0);
    for (size_t i = 0; i < count; i++) {
        const cohort_token *token = cohort_visible_token(tokenizer, ids[i], skip_special);
        if (token) cohort_decoding_add(&self, token);
    }
    cohort_decoding_end(&self);
    bool failed = self.text.failed || self.held.failed;
    cohort_text_free(&self.held);
    if (failed) {
        cohort_text_free(&self.text);
        return COHORT_FAIL(COHORT_E_NOMEM, "decoding %zu tokens", count);
    }
    *out_text = self.text.bytes;
    *out_size_bytes = self.text.size;
    return COHORT_OK;
}

cohort_status cohort_tokenizer_token_bytes(const cohort_tokenizer *tokenizer, int32_t id,
                                           char **out_bytes, size_t *out_size_bytes) {
    cohort_decoding self = {.tokenizer = tokenizer, .begun = true, .stripped = -1};
    const cohort_token *token = cohort_visible_token(tokenizer, id, true);
    cohort_text_append(&self.text, "", 0);
    if (!token || token->added) {
        /* nothing */
    } else if (tokenizer->decode_level) {
        cohort_text_append(&self.text, token->bytes, token->size);
    } else if (tokenizer->decode_bytes && token->byte >= 0) {
        cohort_text_append(&self.text, (char[]){(char)token->byte}, 1);
    } else {
        add_text(&self, token);
    }
    if (self.text.failed) {
        cohort_decoding_free(&self);
        return COHORT_FAIL(COHORT_E_NOMEM, "the bytes of token %d", id);
    }
    *out_bytes = self.text.bytes;
    *out_size_bytes = self.text.size;
    return COHORT_OK;
}
