/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "engine/engine_internal.h"

/* What texts that must not come are as tokens; vLLM's update_from_tokenizer. */

typedef struct words {
    const cohort_engine *engine;
    int32_t *ids; /* of COHORT_MAX_BAD_WORD_IDS: how many tokens, and these */
    uint32_t n_ids;
} words;

static cohort_status add_ids(words *self, const char *word, const int32_t *ids,
                             size_t count) {
    if (count >= COHORT_MAX_BAD_WORD_IDS - self->n_ids)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "bad_words have too many tokens: with '%.60s' more than %d",
                           word, COHORT_MAX_BAD_WORD_IDS);
    self->ids[self->n_ids] = (int32_t)count;
    memcpy(self->ids + self->n_ids + 1, ids, count * sizeof *ids);
    self->n_ids += (uint32_t)count + 1;
    return COHORT_OK;
}

/* As it begins a text, and as it stands behind a blank where that is another token. */
static cohort_status add_word(words *self, const char *word) {
    const char *begin = word + strspn(word, " \t\r\n\f\v");
    size_t size = strlen(begin), n_plain = 0, n_spaced = 0;
    int32_t *plain = NULL, *spaced = NULL;
    char text[COHORT_MAX_BAD_WORD_BYTES + 2] = " ";
    if (strlen(word) > COHORT_MAX_BAD_WORD_BYTES)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "a bad word has %zu bytes, at most %d are supported",
                           strlen(word), COHORT_MAX_BAD_WORD_BYTES);
    memcpy(text + 1, begin, size + 1);
    cohort_status status =
        cohort_engine_tokenize(self->engine, begin, size, false, &plain, &n_plain);
    if (status >= 0)
        status = cohort_engine_tokenize(self->engine, text, size + 1, false, &spaced,
                                        &n_spaced);
    if (status >= 0 && n_plain == 0)
        status = COHORT_FAIL(COHORT_E_INVALID,
                             "bad_words entries must tokenize to at least one token.");
    if (status >= 0) status = add_ids(self, word, plain, n_plain);
    if (status >= 0 && n_spaced == n_plain && spaced[0] != plain[0])
        status = add_ids(self, word, spaced, n_spaced);
    free(plain);
    free(spaced);
    return status;
}

cohort_status cohort_engine_bad_word_ids(const cohort_engine *engine,
                                         const char *const *bad_words,
                                         uint32_t n_bad_words, int32_t **out_ids,
                                         uint32_t *out_count) {
    words self = {.engine = engine,
                  .ids = malloc(COHORT_MAX_BAD_WORD_IDS * sizeof *self.ids)};
    cohort_status status = COHORT_OK;
    *out_ids = NULL;
    *out_count = 0;
    if (!self.ids) return COHORT_FAIL(COHORT_E_NOMEM, "bad words");
    for (uint32_t i = 0; i < n_bad_words && status >= 0; i++)
        status = add_word(&self, bad_words[i]);
    if (status < 0) {
        free(self.ids);
        return status;
    }
    *out_ids = self.ids;
    *out_count = self.n_ids;
    return COHORT_OK;
}
