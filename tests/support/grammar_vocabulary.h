/* SPDX-License-Identifier: Apache-2.0 */
/* grammar_vocabulary.h - the vocabulary of a golden model; a group set-up opens it. */
#ifndef GRAMMAR_VOCABULARY_H
#define GRAMMAR_VOCABULARY_H

#include "grammar/grammar.h"

static cohort_tokenizer *tokenizer;
static cohort_vocabulary *vocabulary;

static int open_vocabulary(void **state) {
    (void)state;
    return cohort_tokenizer_open(COHORT_SOURCE_DIR "/tests/golden/llama-bfloat16",
                                 &tokenizer) < 0 ||
           cohort_vocabulary_create(tokenizer, &vocabulary) < 0;
}

static int close_vocabulary(void **state) {
    (void)state;
    cohort_vocabulary_destroy(vocabulary);
    cohort_tokenizer_close(tokenizer);
    return 0;
}

#endif /* GRAMMAR_VOCABULARY_H */
