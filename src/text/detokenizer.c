/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "text/text_internal.h"

/* Design notes.
 *
 * Decoding looks at one token at a time, but for runs of bytes and for what is stripped
 * at the very beginning.  So only tokens whose text is still open are kept: those at the
 * end that decode to U+FFFD may yet become a character, and are held for as many tokens
 * as a character can have bytes. */

enum { MOST_HELD_TOKENS = 4 };

struct cohort_detokenizer {
    const cohort_tokenizer *tokenizer;
    bool skip_special;
    bool continued; /* text came before: nothing is stripped */
    int32_t held[MOST_HELD_TOKENS];
    size_t n_held;
    char *text; /* last result */
};

cohort_status cohort_detokenizer_create(const cohort_tokenizer *tokenizer,
                                        const int32_t *prompt, size_t count,
                                        bool skip_special,
                                        cohort_detokenizer **out_detokenizer) {
    (void)prompt;
    cohort_detokenizer *self = calloc(1, sizeof *self);
    if (!self) return COHORT_FAIL(COHORT_E_NOMEM, "a detokenizer");
    self->tokenizer = tokenizer;
    self->skip_special = skip_special;
    self->continued = count > 0;
    *out_detokenizer = self;
    return COHORT_OK;
}

static cohort_status emit(cohort_detokenizer *self, bool all, const char **out_text,
                          size_t *out_size_bytes) {
    size_t size = 0;
    free(self->text);
    self->text = NULL;
    *out_text = "";
    *out_size_bytes = 0;
    COHORT_TRY(cohort_decode(self->tokenizer, self->held, self->n_held,
                             self->skip_special, self->continued, &self->text, &size));
    bool open = size >= 3 && !memcmp(self->text + size - 3, "\xef\xbf\xbd", 3);
    if (open && !all && self->n_held < MOST_HELD_TOKENS) return COHORT_OK;
    self->n_held = 0;
    self->continued |= size > 0;
    *out_text = self->text;
    *out_size_bytes = size;
    return COHORT_OK;
}

cohort_status cohort_detokenizer_append(cohort_detokenizer *detokenizer, int32_t id,
                                        const char **out_text, size_t *out_size_bytes) {
    detokenizer->held[detokenizer->n_held++] = id;
    return emit(detokenizer, false, out_text, out_size_bytes);
}

cohort_status cohort_detokenizer_finish(cohort_detokenizer *detokenizer,
                                        const char **out_text, size_t *out_size_bytes) {
    return emit(detokenizer, true, out_text, out_size_bytes);
}

void cohort_detokenizer_destroy(cohort_detokenizer *detokenizer) {
    if (!detokenizer) return;
    free(detokenizer->text);
    free(detokenizer);
}
