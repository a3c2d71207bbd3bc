/* SPDX-License-Identifier: Apache-2.0 */
/* grammar_cases.h - texts that grammars of any notation match, and that they do not.
 *
 * For test programs of src/grammar that have several notations; grammar_expect.h is for
 * those that have one. */
#ifndef GRAMMAR_CASES_H
#define GRAMMAR_CASES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cohort/status.h"
#include "grammar_vocabulary.h"

static inline cohort_grammar *compile(cohort_grammar_kind kind, const char *text) {
    cohort_grammar *grammar = NULL;
    if (cohort_grammar_compile(kind, text, strlen(text), &grammar) < 0)
        fail_msg("%s: %s", text, cohort_last_error()->message);
    return grammar;
}

static inline cohort_matcher *match(cohort_grammar *grammar) {
    cohort_matcher *matcher = NULL;
    assert_int_equal(cohort_matcher_create(grammar, vocabulary, &matcher), COHORT_OK);
    return matcher;
}

static inline bool matches(cohort_grammar_kind kind, const char *grammar_text,
                           const char *text) {
    cohort_grammar *grammar = compile(kind, grammar_text);
    cohort_matcher *matcher = match(grammar);
    bool fine = cohort_matcher_accept_bytes(matcher, text, strlen(text)) &&
                cohort_matcher_is_complete(matcher);
    cohort_matcher_destroy(matcher);
    cohort_grammar_release(grammar);
    return fine;
}

/* grammar, then texts that match, NULL, and texts that don't, NULL. */
struct expectation {
    cohort_grammar_kind kind;
    const char *grammar;
    const char *yes[12], *no[12];
};

static inline void check(const struct expectation *expectations, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const struct expectation *one = &expectations[i];
        for (int t = 0; one->yes[t]; t++)
            if (!matches(one->kind, one->grammar, one->yes[t]))
                fail_msg("%s does not match %s", one->grammar, one->yes[t]);
        for (int t = 0; one->no[t]; t++)
            if (matches(one->kind, one->grammar, one->no[t]))
                fail_msg("%s matches %s", one->grammar, one->no[t]);
    }
}

static inline void expect_refusal(cohort_grammar_kind kind, const char *text,
                                  const char *words) {
    cohort_grammar *grammar = NULL;
    if (cohort_grammar_compile(kind, text, strlen(text), &grammar) >= 0)
        fail_msg("%s compiles", text);
    assert_null(grammar);
    if (!strstr(cohort_last_error()->message, words))
        fail_msg("%s: '%s' does not say '%s'", text, cohort_last_error()->message, words);
    assert_int_equal(cohort_last_error()->code, COHORT_E_INVALID);
}

#define SCHEMA COHORT_GRAMMAR_JSON_SCHEMA
#define REGEX  COHORT_GRAMMAR_REGEX

/* anyOf of so many objects, each with a property of its own; to be freed. */
static inline char *wide_schema(int n_branches) {
    char *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    fputs("{\"anyOf\":[", out);
    for (int i = 0; i < n_branches; i++)
        fprintf(out,
                "%s{\"type\":\"object\",\"properties\":{\"n%d\":{\"type\":"
                "\"integer\"}},\"required\":[\"n%d\"]}",
                i ? "," : "", i, i);
    fputs("]}", out);
    fclose(out);
    return text;
}

#endif /* GRAMMAR_CASES_H */
