/* SPDX-License-Identifier: Apache-2.0 */
/* grammar_expect.h - texts that grammars of one notation match, and that they do not.
 *
 * For test programs of src/grammar: define GRAMMAR_KIND, a cohort_grammar_kind, and then
 * include this. */
#ifndef GRAMMAR_EXPECT_H
#define GRAMMAR_EXPECT_H

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "cohort/status.h"
#include "grammar_vocabulary.h"

static cohort_matcher *matcher_of(const char *text) {
    cohort_grammar *grammar = NULL;
    cohort_matcher *matcher = NULL;
    if (cohort_grammar_compile(GRAMMAR_KIND, text, strlen(text), &grammar) < 0)
        fail_msg("%s: %s", text, cohort_last_error()->message);
    assert_int_equal(cohort_matcher_create(grammar, vocabulary, &matcher), COHORT_OK);
    cohort_grammar_release(grammar);
    return matcher;
}

static bool matches(const char *grammar, const char *text) {
    cohort_matcher *matcher = matcher_of(grammar);
    bool fine = cohort_matcher_accept_bytes(matcher, text, strlen(text)) &&
                cohort_matcher_is_complete(matcher);
    cohort_matcher_destroy(matcher);
    return fine;
}

/* A grammar, the texts that match and those that do not. */
struct expectation {
    const char *grammar;
    const char *yes[8], *no[8];
};

static void check(const struct expectation *all, size_t count) {
    for (size_t i = 0; i < count; i++) {
        for (int t = 0; all[i].yes[t]; t++)
            if (!matches(all[i].grammar, all[i].yes[t]))
                fail_msg("%s does not match %s", all[i].grammar, all[i].yes[t]);
        for (int t = 0; all[i].no[t]; t++)
            if (matches(all[i].grammar, all[i].no[t]))
                fail_msg("%s matches %s", all[i].grammar, all[i].no[t]);
    }
}

/* A grammar that is refused, and words of what it is told. */
struct refusal {
    const char *grammar, *words;
};

static void check_refusals(const struct refusal *all, size_t count) {
    for (size_t i = 0; i < count; i++) {
        cohort_grammar *grammar = NULL;
        if (cohort_grammar_compile(GRAMMAR_KIND, all[i].grammar, strlen(all[i].grammar),
                                   &grammar) >= 0)
            fail_msg("%s compiles", all[i].grammar);
        if (!strstr(cohort_last_error()->message, all[i].words))
            fail_msg("%s: '%s' does not say '%s'", all[i].grammar,
                     cohort_last_error()->message, all[i].words);
        assert_int_equal(cohort_last_error()->code, COHORT_E_INVALID);
    }
}

#endif /* GRAMMAR_EXPECT_H */
