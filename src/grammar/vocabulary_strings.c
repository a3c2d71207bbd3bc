/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "base/fail.h"
#include "grammar/grammar_internal.h"
#include "grammar/matcher_internal.h"

enum { MANY_CHARACTERS = 1 << 24 };

static void learn(cohort_matcher *self, uint32_t node, uint32_t *words) {
    /* The vocabulary's own matcher: nobody else has it yet. */
    cohort_string_words *strings = self->learns;
    const cohort_vocabulary *vocabulary = self->vocabulary;
    const configuration *one = &self->configurations[self->n_configurations - 1];
    int32_t count = MANY_CHARACTERS - one->most;
    if (self->has_ended) {
        strings->ends =
            cohort_matcher_more(self, strings->ends, strings->n_ends,
                                &strings->ends_capacity, sizeof *strings->ends);
        if (!self->has_failed)
            strings->ends[strings->n_ends++] = (struct string_end){node, count};
        return;
    }
    bool is_between = one->state == self->grammar->rules[one->rule].loop_state;
    cohort_matcher_set_tokens(vocabulary, node, words);
    for (uint32_t t = vocabulary->nodes[node].first_token;
         t < vocabulary->nodes[node + 1].first_token && !self->has_failed; t++) {
        strings->by_need =
            cohort_matcher_more(self, strings->by_need, strings->n_by_need,
                                &strings->by_need_capacity, sizeof *strings->by_need);
        if (!self->has_failed)
            strings->by_need[strings->n_by_need++] =
                (struct inside_word){vocabulary->tokens[t], count + !is_between};
    }
}

static int compare_needs(const void *a, const void *b) {
    const struct inside_word *x = a, *y = b;
    if (x->needs != y->needs) return x->needs > y->needs ? -1 : 1;
    return (x->token > y->token) - (x->token < y->token);
}

cohort_status cohort_vocabulary_learn_strings(cohort_vocabulary *vocabulary) {
    cohort_string_words *strings = &vocabulary->strings;
    size_t n_words = cohort_mask_words(vocabulary);
    cohort_grammar *grammar;
    cohort_matcher *matcher = NULL;
    strings->inside = calloc(n_words + 1, sizeof *strings->inside);
    if (!strings->inside) return COHORT_FAIL(COHORT_E_NOMEM, "a vocabulary");
    COHORT_TRY(cohort_grammar_compile(COHORT_GRAMMAR_JSON_OBJECT, "", 0, &grammar));
    cohort_status status = cohort_matcher_create(grammar, vocabulary, &matcher);
    for (uint32_t r = 0; status >= 0 && r < grammar->n_rules; r++) {
        if (grammar->rules[r].loop_state < 0) continue;
        matcher->learns = strings;
        cohort_matcher_begin_walk(matcher,
                                  &(configuration){.rule = r,
                                                   .state = grammar->rules[r].loop_state,
                                                   .most = MANY_CHARACTERS,
                                                   .frame = NO_FRAME},
                                  matcher->n_current, matcher->n_frames);
        cohort_matcher_walk(matcher, 0, learn, strings->inside);
        if (matcher->has_failed) status = COHORT_FAIL(COHORT_E_NOMEM, "a vocabulary");
    }
    if (strings->n_by_need)
        qsort(strings->by_need, strings->n_by_need, sizeof *strings->by_need,
              compare_needs);
    cohort_matcher_destroy(matcher);
    cohort_grammar_release(grammar);
    return status;
}
