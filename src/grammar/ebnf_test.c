/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "cohort/status.h"
#include "grammar/grammar.h"

#define GRAMMAR_KIND COHORT_GRAMMAR_EBNF
#include "grammar_expect.h"

static void parts_match_what_they_say(void **state) {
    (void)state;
    const struct expectation all[] = {
        {"root ::= \"yes\" | \"no\"", {"yes", "no"}, {"", "ye", "yesno"}},
        {"root ::= \"a\" (\"b\" | \"c\")* \"d\"?", {"a", "abcb", "abd"}, {"", "ad d"}},
        {"root ::= [a-c0-9_-]+", {"a9", "-_b"}, {"", "d", "A"}},
        {"root ::= [^a-c\\n]", {"d", "\xc3\xa4", "\xf0\x9f\x98\x80"}, {"a", "\n", ""}},
        {"root ::= [\\]\\\\\\-^]{4}", {"]\\-^"}, {"]]]", "a]]]"}},
        {"root ::= . .", {"ab", "\n\xe2\x82\xac"}, {"a", "abc", "\xff\xff"}},
        {"root ::= \"a\"{2} \"b\"{1,} \"c\"{,2} \"d\"{0,1}",
         {"aab", "aabbccd"},
         {"ab", "aa", "aabccc", "aabdd"}},
        {"root ::= \"\\x41\\u00e4\\U0001F600\\t\\\"\\\\\"",
         {"A\xc3\xa4\xf0\x9f\x98\x80\t\"\\"},
         {"A"}},
        {"# first\nroot ::= # then\n  \"a#\" |\n  \"b\"\n\nx ::= \"#\" # last",
         {"a#", "b"},
         {"a", "#"}},
        {"root ::= a b\na ::= \"x\"\n  \"y\"\nb ::= a | \"\"", {"xy", "xyxy"}, {"x", ""}},
        {"root ::= (\"a\"?)* \"b\"", {"b", "aab"}, {"a", ""}},
        {"root ::= my-rule.2_x\nmy-rule.2_x ::= \"a\"", {"a"}, {""}},
        {"root::=\"a\"b\r\nb::=\"c\"\r\n", {"ac"}, {"a"}},
        {"root ::= \"a\" * b {2}\nb ::= [x-z] ?", {"", "aaxz"}, {"axyz"}},
        {"root ::= | \"a\"", {"", "a"}, {"aa"}},
        {"root ::= \"\"", {""}, {"a"}},
    };
    check(all, sizeof all / sizeof *all);
}

static void rules_may_be_recursive(void **state) {
    (void)state;
    const struct expectation all[] = {
        {"root ::= \"(\" root \")\" | \"x\"", {"x", "((x))"}, {"(x", "x)", "()"}},
        {"root ::= \"a\" root \"b\" | \"\"", {"", "aabb"}, {"aab", "ba", "abb"}},
        /* Direct left recursion, also more than one. */
        {"root ::= root \"+\" n | root \"-\" n | n\nn ::= [0-9]+",
         {"1", "1+2-33"},
         {"", "+1", "1+", "1++2"}},
        {"root ::= \"b\" | root root | \"c\"", {"b", "bcb"}, {"", "a"}},
        {"root ::= e\ne ::= t | e \"+\" t\nt ::= f | t \"*\" f\n"
         "f ::= \"(\" e \")\" | [a-z]",
         {"a", "a+b*(c+d)", "((a))*b"},
         {"a+", "(a", "ab", "a*)"}},
        /* The rest of a list, and white space as llama.cpp writes it. */
        {"root ::= i (\",\" ws root)?\ni ::= [0-9]\nws ::= ([ \\n] ws)?",
         {"1", "1,2", "1, \n 2,3"},
         {"1,", ",1", "1 "}},
        {"root ::= a\na ::= \"x\" b | \"\"\nb ::= \"y\" a | \"z\"",
         {"", "xz", "xyxyxz", "xy"},
         {"x", "xyz"}},
        {"root ::= o \"!\" o\no ::= \"a\" o?", {"a!a", "aaa!aa"}, {"!a", "aa", "a!"}},
    };
    check(all, sizeof all / sizeof *all);
}

/* However long: what a list ends in costs no depth. */
static void lists_of_any_length_match(void **state) {
    (void)state;
    static const char *const grammars[] = {
        "root ::= \"ab\" root | \"ab\"",
        "root ::= root \"ab\" | \"ab\"",
        "root ::= x\nx ::= \"a\" y\ny ::= \"b\" x?",
    };
    enum { PAIRS = 3000 };
    char *text = malloc(2 * PAIRS + 1);
    assert_non_null(text);
    for (int i = 0; i < PAIRS; i++)
        memcpy(text + (ptrdiff_t)2 * i, "ab", 3);
    for (size_t i = 0; i < sizeof grammars / sizeof *grammars; i++)
        assert_true(matches(grammars[i], text));
    free(text);
}

static void errors_say_where(void **state) {
    (void)state;
    static const struct refusal all[] = {
        {"", "line 1, column 1: there is no rule 'root'"},
        {"a ::= \"x\"", "there is no rule 'root'"},
        {"root ::= \"a\"\n  | bee", "line 2, column 5: rule 'bee' is not defined"},
        {"root ::= \"a\"\nx ::= nothing", "line 2, column 7: rule 'nothing' is not def"},
        {"root ::= \"a\"\nroot ::= \"b\"",
         "line 2, column 1: rule 'root' is defined twice"},
        {"root ::= \"a", "line 1, column 10: a string without its closing"},
        {"root ::= \"a\n\"", "a string without its closing"},
        {"root ::= [a", "line 1, column 10: a [ without its ]"},
        {"root ::= []", "an empty class"},
        {"root ::= [z-a]", "line 1, column 11: a range that ends before"},
        {"root ::= (\"a\"", "line 1, column 10: a ( without its )"},
        {"root ::= \"a\")", "line 1, column 13: a ) without its ("},
        {"root ::= * \"a\"", "line 1, column 10: '*' means nothing here"},
        {"root ::= 'a'", "line 1, column 10: ''' means nothing here"},
        {"root ::= \"\xc3\xa4\" &", "line 1, column 14: '&'"},
        {"root = \"a\"", "line 1, column 1: a rule (name ::= ...) is wanted"},
        {"\"a\"", "a rule (name ::= ...) is wanted"},
        {"root ::= \"\\q\"", "line 1, column 12: no escape is \\q"},
        {"root ::= \"\\x4\"", "2 hexadecimal digits"},
        {"root ::= \"\\ud800\"", "U+D800 is no character"},
        {"root ::= \"\\U00110000\"", "U+110000 is no character"},
        {"root ::= \"\xff\"", "not UTF-8"},
        {"root ::= \"a\"{", "{m}, {m,} or {m,n}"},
        {"root ::= \"a\"{,}", "{m}, {m,} or {m,n}"},
        {"root ::= \"a\"{3,2}", "wrong way round"},
        {"root ::= \"a\"{0,10001}", "more than 10000"},
        {"root ::= \"a\"{99999999999999999999}", "more than 10000"},
        {"root ::= \"a\" (= \"b\")", "look-ahead"},
        {"root ::= TagDispatch((\"a\", root))", "TagDispatch(...) is not supported"},
        {"root ::= root", "rule 'root' has nothing but itself"},
        {"root ::= a\na ::= b \"x\"\nb ::= a | \"y\"", "begins with itself by way"},
        {"root ::= a\na ::= \"x\"? a \"y\" | \"z\"", "line 2, column 1: rule 'a' begins"},
        {"root ::= a\na ::= b a | \"z\"\nb ::= c*\nc ::= \"c\"", "rule 'a' begins"},
        {"root ::= \"a\" root", "nothing matches"},
    };
    check_refusals(all, sizeof all / sizeof *all);
}

/* head, part so many times, tail */
static cohort_status compile_long(const char *head, const char *part, size_t times,
                                  const char *tail) {
    size_t size = strlen(head) + strlen(part) * times + strlen(tail);
    char *text = malloc(size + 1);
    cohort_grammar *grammar;
    assert_non_null(text);
    char *at = text + sprintf(text, "%s", head);
    for (size_t i = 0; i < times; i++)
        at += sprintf(at, "%s", part);
    sprintf(at, "%s", tail);
    cohort_status status =
        cohort_grammar_compile(COHORT_GRAMMAR_EBNF, text, size, &grammar);
    cohort_grammar_release(grammar);
    free(text);
    return status;
}

static void what_is_too_large_is_refused(void **state) {
    (void)state;
    assert_int_equal(compile_long("root ::= ", "(", 60, "\"a\""), COHORT_E_INVALID);
    assert_int_equal(compile_long("root ::= ", "(", 100000, ""), COHORT_E_INVALID);
    assert_non_null(strstr(cohort_last_error()->message, "nest deeper"));
    assert_int_equal(compile_long("root ::= \"a\"", "*", 1000, ""), COHORT_E_INVALID);
    assert_non_null(strstr(cohort_last_error()->message, "nest deeper"));
    assert_int_equal(compile_long("root ::= \"a\"", "{100}", 20, ""), COHORT_E_INVALID);
    assert_non_null(strstr(cohort_last_error()->message, "too complex"));
    assert_int_equal(compile_long("root ::= \"", "a", 300000, "\""), COHORT_E_INVALID);
    assert_non_null(strstr(cohort_last_error()->message, "at most 262144"));
    assert_int_equal(compile_long("root ::= \"a\"", " | \"b\" \"c\"?", 5000, ""),
                     COHORT_OK);
}

/* Rules that name the next: as deep as they are many, and twice as large each. */
static void chains_of_rules_have_a_bound(void **state) {
    (void)state;
    for (int n = 100; n <= 8000; n = n == 100 ? 8000 : n * 2) {
        char *text = malloc((size_t)n * 32 + 64), *at = text;
        cohort_grammar *grammar;
        assert_non_null(text);
        at += sprintf(at, "root ::= r0\n");
        for (int i = 0; i < n; i++)
            at += sprintf(at, "r%d ::= r%d r%d\n", i, i + 1, i + 1);
        at += sprintf(at, "r%d ::= \"a\"?\n", n);
        cohort_status status = cohort_grammar_compile(COHORT_GRAMMAR_EBNF, text,
                                                      (size_t)(at - text), &grammar);
        if (n == 8000) {
            assert_int_equal(status, COHORT_E_INVALID);
            assert_non_null(strstr(cohort_last_error()->message, "nest deeper"));
        } else {
            assert_int_equal(status, COHORT_OK);
        }
        cohort_grammar_release(grammar);
        free(text);
    }
}

/* Whatever a mask lets through is accepted, and leads to an end in the end. */
static void walks_do_not_get_stuck(void **state) {
    (void)state;
    static const char *const grammars[] = {
        "root ::= v\nv ::= \"{\" ws (p (\",\" ws p)*)? \"}\" ws | \"[\" (v (\",\" v)*)? "
        "\"]\" | \"\\\"\" [^\"\\\\\\x00-\\x1f]* \"\\\"\" | [0-9]{1,3} | \"true\"\n"
        "p ::= \"\\\"\" [a-z]+ \"\\\":\" ws v\nws ::= ([ \\n] ws)?",
        "root ::= root \"+\" t | t\nt ::= \"(\" root \")\" | [a-z]{1,2}",
        "root ::= \"a\" root \"b\" | \"c\"",
        "root ::= \"b\" | root root | \"c\"",
        "root ::= [^a]{3} . \"\\U0001F600\"*",
    };
    uint32_t *mask = malloc(cohort_vocabulary_mask_words(vocabulary) * sizeof *mask);
    assert_non_null(mask);
    for (uint64_t i = 0; i < sizeof grammars / sizeof *grammars * 8; i++) {
        cohort_matcher *matcher = matcher_of(grammars[i / 8]);
        for (uint64_t step = 0; step < 150; step++) {
            int32_t chosen = -1, count = 0;
            int32_t n = (int32_t)cohort_vocabulary_mask_words(vocabulary) * 32;
            assert_int_equal(cohort_matcher_mask(matcher, mask), COHORT_OK);
            for (int32_t token = 0; token < n; token++)
                if (mask[token / 32] >> token % 32 & 1 &&
                    cohort_random_u64(i, step * 10000 + (uint64_t)token) %
                            (uint64_t)++count ==
                        0)
                    chosen = token;
            if (chosen < 0) assert_true(cohort_matcher_is_complete(matcher));
            if (chosen < 0) break;
            assert_true(cohort_matcher_accept(matcher, chosen));
        }
        cohort_matcher_destroy(matcher);
    }
    free(mask);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_match_what_they_say),
        cmocka_unit_test(rules_may_be_recursive),
        cmocka_unit_test(lists_of_any_length_match),
        cmocka_unit_test(errors_say_where),
        cmocka_unit_test(what_is_too_large_is_refused),
        cmocka_unit_test(chains_of_rules_have_a_bound),
        cmocka_unit_test(walks_do_not_get_stuck),
    };
    return cmocka_run_group_tests(tests, open_vocabulary, close_vocabulary);
}
