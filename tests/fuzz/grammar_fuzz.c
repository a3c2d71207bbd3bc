/* SPDX-License-Identifier: Apache-2.0 */
/* Grammars of strangers: the first byte chooses the kind, the second a walk.  What
 * compiles leads some way through a small vocabulary without getting stuck, and masks say
 * what is accepted. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "fuzz.h"
#include "grammar/grammar.h"

bool fuzz_is_valid;

enum {
    STEPS = 24,
    MOST_BYTES = 2000,
    N_TOKENS = 29,
    N_KINDS = COHORT_GRAMMAR_STRUCTURAL_TAG + 1,
};

/* Every byte below 0x80 but quotes and backslashes as itself, and a few longer words. */
static const char tokenizer_json[] = "{\"model\":{\"type\":\"BPE\",\"byte_fallback\":"
                                     "true,\"unk_token\":\"<unk>\",\"merges\":[],"
                                     "\"vocab\":{\"<unk>\":0,\"\\\"\":1,\"{\":2,\"}\":3,"
                                     "\"[\":4,\"]\":5,\",\":6,\":\":7,\"0\":8,"
                                     "\"1\":9,\"true\":10,\"null\":11,\" "
                                     "\":12,\"a\":13,\"b\":14,\"\\\",\":15,\"\\\"}\":16,"
                                     "\"{\\\"\":17,\"abc\":18,\"-\":19,\".\":20,\"\\\\\":"
                                     "21,\"e\":22,\"\\n  \":23,\"false\":24,\"\\n\":25,"
                                     "\"<tool_call>\\n{\\\"name\\\": \\\"\":26,"
                                     "\"\\\", \\\"arguments\\\": \":27,"
                                     "\"}\\n</tool_call>\":28}},"
                                     "\"decoder\":{\"type\":\"Fuse\"}}";

static void walk(cohort_grammar *grammar, const cohort_vocabulary *vocabulary,
                 uint64_t seed) {
    cohort_matcher *matcher = NULL;
    uint32_t mask[1];
    if (cohort_vocabulary_mask_words(vocabulary) != 1 ||
        cohort_matcher_create(grammar, vocabulary, &matcher) < 0)
        abort();
    for (uint64_t i = 0; i < STEPS; i++) {
        if (cohort_matcher_mask(matcher, mask) < 0) abort();
        if (cohort_matcher_is_finished(matcher) && mask[0]) abort();
        int32_t chosen = -1;
        for (int32_t token = 0, count = 0; token < N_TOKENS; token++)
            if (mask[0] >> token & 1 &&
                cohort_random_u64(seed, i * 64 + (uint64_t)token) % (uint64_t)++count ==
                    0)
                chosen = token;
        for (int32_t token = 0; chosen < 0 && token < N_TOKENS; token++)
            if (cohort_matcher_accept(matcher, token)) abort();
        if (chosen < 0) break; /* a byte that the vocabulary lacks */
        if (!cohort_matcher_accept(matcher, chosen)) abort();
    }
    cohort_matcher_destroy(matcher);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static cohort_vocabulary *vocabulary;
    if (!vocabulary) {
        cohort_tokenizer *tokenizer;
        if (cohort_tokenizer_parse(tokenizer_json, sizeof tokenizer_json - 1, "fuzz",
                                   &tokenizer) < 0 ||
            cohort_vocabulary_create(tokenizer, &vocabulary) < 0)
            abort();
        cohort_tokenizer_close(tokenizer);
    }
    if (size < 2 || size > MOST_BYTES) return 0;
    cohort_grammar *grammar;
    cohort_status status = cohort_grammar_compile(
        data[0] % N_KINDS, (const char *)data + 2, size - 2, &grammar);
    if ((status >= 0) != (grammar != NULL)) abort();
    fuzz_is_valid = grammar != NULL;
    if (!grammar) return 0;
    walk(grammar, vocabulary, data[1]);
    cohort_grammar_release(grammar);
    return 0;
}
