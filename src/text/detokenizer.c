/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "base/fail.h"
#include "text/text_internal.h"

/* A character has at most this many bytes, and a token at least one. */
enum { PROMPT_TOKENS = 4 };

struct cohort_detokenizer {
    cohort_decoding decoding; /* its text: what the last call added */
    bool skip_special;
};

static void add(cohort_detokenizer *self, int32_t id) {
    const cohort_token *token =
        cohort_visible_token(self->decoding.tokenizer, id, self->skip_special);
    if (token) cohort_decoding_add(&self->decoding, token);
}

static void empty(cohort_detokenizer *self) {
    self->decoding.text.size = 0;
    cohort_text_append(&self->decoding.text, "", 0);
}

static cohort_status result(cohort_detokenizer *self, const char **out_text,
                            size_t *out_size_bytes) {
    *out_text = self->decoding.text.bytes;
    *out_size_bytes = self->decoding.text.size;
    return self->decoding.text.failed || self->decoding.held.failed
               ? COHORT_FAIL(COHORT_E_NOMEM, "a piece of text")
               : COHORT_OK;
}

/* Where the part of the prompt begins that has a say in what comes: a run of byte tokens
 * is judged as one, and must not be entered within a character. */
static size_t window_begin(const cohort_tokenizer *tokenizer, const int32_t *prompt,
                           size_t count) {
    size_t i = count > PROMPT_TOKENS ? count - PROMPT_TOKENS : 0;
    for (; i > 0 && tokenizer->decode_bytes; i--) {
        const cohort_token *token = cohort_visible_token(tokenizer, prompt[i], false);
        if (!token || token->byte < 0) break;
    }
    return i;
}

cohort_status cohort_detokenizer_create(const cohort_tokenizer *tokenizer,
                                        const int32_t *prompt, size_t count,
                                        bool skip_special,
                                        cohort_detokenizer **out_detokenizer) {
    cohort_detokenizer *self = calloc(1, sizeof *self);
    if (!self) return COHORT_FAIL(COHORT_E_NOMEM, "a detokenizer");
    self->decoding.tokenizer = tokenizer;
    self->skip_special = skip_special;
    bool seen = false;
    for (size_t i = 0; i < count && !seen; i++)
        seen = cohort_visible_token(tokenizer, prompt[i], skip_special);
    if (seen) { /* not the beginning of a text; the prompt may end within a character */
        self->decoding.begun = true;
        self->decoding.stripped = -1;
    }
    for (size_t i = window_begin(tokenizer, prompt, count); i < count; i++)
        add(self, prompt[i]);
    *out_detokenizer = self;
    return COHORT_OK;
}

cohort_status cohort_detokenizer_append(cohort_detokenizer *detokenizer, int32_t id,
                                        const char **out_text, size_t *out_size_bytes) {
    empty(detokenizer);
    add(detokenizer, id);
    return result(detokenizer, out_text, out_size_bytes);
}

void cohort_detokenizer_destroy(cohort_detokenizer *detokenizer) {
    if (!detokenizer) return;
    cohort_decoding_free(&detokenizer->decoding);
    free(detokenizer);
}
