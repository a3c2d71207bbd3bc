/* SPDX-License-Identifier: Apache-2.0 */
#include "grammar/grammar.h"

#include <stdio.h>
#include <stdlib.h>

#include <cjson/cJSON.h>

#include "base/random.h"
#include "grammar_cases.h"

enum { MAX_TEXT = 1 << 14 };

/* ---- what matches ------------------------------------------------------------------ */

static void regexes_match_the_whole_text(void **state) {
    (void)state;
    const struct expectation all[] = {
        {REGEX, "abc", {"abc"}, {"", "ab", "abcd", "xabc"}},
        {REGEX, "^a|b$", {"a", "b"}, {"ab", ""}},
        {REGEX, "a*b+c?", {"b", "aab", "bbc"}, {"a", "c", "bcc"}},
        {REGEX, "(ab){2,3}", {"abab", "ababab"}, {"ab", "abababab"}},
        {REGEX, "(?:a|bc)*d", {"d", "abcad"}, {"b", "bd"}},
        {REGEX, "((a*)*b)*c", {"c", "aabbabc"}, {"a", "ab", "ca"}},
        {REGEX, "[a-c_]{2}", {"ab", "__"}, {"a", "ad", "abc"}},
        {REGEX, "[^a-c]", {"d", "\xc3\xa4", "\n"}, {"a", "\xc3", "\xa4", ""}},
        {REGEX,
         ".",
         {"x", "\xe2\x82\xac", "\xf0\x9f\x98\x80"},
         {"\n", "\xed\xa0\x80", "\xc0\x80", "xy"}},
        {REGEX, "\\d\\w\\s\\.\\x41\\u00e4", {"1_ .A\xc3\xa4"}, {"a_ .A\xc3\xa4"}},
        {REGEX,
         "[^\\d]\\D",
         {"ab"},
         {"1b", "a1", "a\xd9\xa1",
          "\xd9\xa1"
          "b"}},
        {REGEX,
         "\\W+",
         {" -", "\xe2\x82\xac", "\xe2\x80\xa6!"},
         {"a", "\xc3\xa9", "\xe4\xb8\x96", "\xed\xa0\x80", ""}},
        {REGEX,
         "[^\\d\\s]{3}",
         {"a\xc3\xa9\xe2\x82\xac", "\xf0\x9f\x98\x80zz", "\xef\xbf\xbd--"},
         {"a b", "a1b", "ab", "\xc2\xa0zz", "\xe0\x80\x80zz", "\xf4\x90\x80\x80zz"}},
        {REGEX, "x\\{,3}[{,3}]", {"x{,3}{"}, {"x", "xxx"}},
        {REGEX, "x{,y}{", {"x{,y}{"}, {"x", "xxx"}},
        {REGEX, "(?P<year>[0-9]{4})-(?<m>\\d\\d)", {"2024-12"}, {"2024-1"}},
        {REGEX, "a+?b*?", {"a", "aabb"}, {"b"}},
        {REGEX, "[]a]", {NULL}, {NULL}},
    };
    check(all, sizeof all / sizeof *all - 1);
}

static void regexes_look_ahead_inside_groups(void **state) {
    (void)state;
    const struct expectation all[] = {
        {SCHEMA, /* published: no word inside, labels that are no number */
         "{\"pattern\":\"^((?!mode)(?!Mode).)*$\"}",
         {"\"\"", "\"a mod e\"", "\"mmod\""},
         {"\"mode\"", "\"xMode\"", "\"a mode b\"", "\"mmode\""}},
        {SCHEMA,
         "{\"pattern\":\"^(?!.*://)(?=.{1,20}$)(([^.]+\\\\.){1,7}(?![0-9]*$)[a-z0-9-]+"
         "\\\\.?)$\"}",
         {"\"a.b\"", "\"1.2.c3\"", "\"a.b.\""},
         {"\"a.1\"", "\"a://b.c\"", "\"ab\"", "\"a.b.c.d.e.f.g.h.i.jkl\""}},
        {SCHEMA, /* equal ones count once */
         "{\"pattern\":\"^@([\\\\da-z](?:(?!.*--)[\\\\da-z-]*[\\\\da-z])?)/"
         "([\\\\da-z](?:(?!"
         ".*--)[\\\\da-z-]*[\\\\da-z])?)$\"}",
         {"\"@a/b\"", "\"@a-1/b-c\""},
         {"\"@a--1/b\"", "\"@a/b--c\"", "\"@a-/b\"", "\"@ab/\""}},
        {SCHEMA, /* of either kind, and what follows the group is looked at, too */
         "{\"pattern\":\"^(?:(?=a.c)[a-z]|[A-Z](?!d))*[a-z]{2}$\"}",
         {"\"abc\"", "\"Xzz\"", "\"Xabc\"", "\"zz\""},
         {"\"abd\"", "\"Xdz\"", "\"ab\\n\"", "\"zzz\""}},
        {REGEX, "(a(?=b)|b)+", {"ab", "bab", "b"}, {"a", "aab", "ba"}},
        {REGEX, "((?!ab)[ab\xc3\xa9])*", {"ba", "\xc3\xa9\x62", "aa"}, {"ab", "bab"}},
        {REGEX, "(?=.*x)[a-z ]+\\by", {"x y", "a xa y"}, {"a y", "xy", "x ay"}},
    };
    check(all, sizeof all / sizeof *all);
}

static void regexes_look_ahead_and_at_words(void **state) {
    (void)state;
    const struct expectation all[] = {
        {SCHEMA, /* zod 4's email */
         "{\"pattern\":\"^(?!\\\\.)(?!.*\\\\.\\\\.)([A-Za-z0-9_'+\\\\-\\\\.]*)[A-Za-z0-9_"
         "+-]@"
         "([A-Za-z0-9][A-Za-z0-9\\\\-]*\\\\.)+[A-Za-z]{2,}$\"}",
         {"\"a.b+c@x-y.example.com\"", "\"a@b.cd\""},
         {"\".a@b.cd\"", "\"a..b@c.de\"", "\"a@b..cd\"", "\"a@b\"", "\"a.@b.cd\""}},
        {SCHEMA, /* Pydantic's Decimal */
         "{\"pattern\":\"^(?!^[-+.]*$)[+-]?0*\\\\d*\\\\.?\\\\d*$\"}",
         {"\"1.5\"", "\"-00.25\"", "\"+7.\"", "\".5\""},
         {"\"\"", "\"-\"", "\".\"", "\"+.\"", "\"1.2.3\""}},
        {SCHEMA,
         "{\"pattern\":\"^(?=.*\\\\d)(?=.*[a-z]).{3,5}$\"}",
         {"\"a1-\"", "\"--1a\""},
         {"\"abc\"", "\"123\"", "\"a1\"", "\"a1----\""}},
        {SCHEMA,
         "{\"pattern\":\"a(?!b)\"}",
         {"\"xac\"", "\"a\"", "\"aba\""},
         {"\"ab\"", "\"x\""}},
        {REGEX, "(?!.*\\d).+", {"ab", "\xc3\xa9"}, {"a1", "\xd9\xa1", ""}},
        {REGEX,
         "(?i)abc|\xc3\xa9[k-m]",
         {"aBC", "ABC", "\xc3\x89L"},
         {"abd", "\xe2\x84\xaa"}},
        {SCHEMA,
         "{\"pattern\":\"(?i)^(?!x$)[x-z]+$\"}",
         {"\"Y\"", "\"xZ\""},
         {"\"x\"", "\"X\"", "\"ay\""}},
        {SCHEMA, "{\"pattern\":\"^(?!x$)[^a]+$\"}", {"\"y\""}, {"\"x\"", "\"x\\n\""}},
        {REGEX, "a(?i:b)c", {"aBc", "abc"}, {"ABc", "abC"}},
        {REGEX, "(?s)a.", {"a\n", "ab"}, {"a"}},
        {REGEX,
         "\\p{Lu}\\p{L}*[\\p{Nd}_]\\P{L}",
         {"\xc3\x89t\xc3\xa9_1", "A1-"},
         {"a1-", "A1b"}},
        {SCHEMA,
         "{\"pattern\":\"\\\\bfoo\\\\b\"}",
         {"\"foo\"", "\"a foo.\"", "\"x\\nfoo\"", "\"\\\"foo\\\"\""},
         {"\"afoo\"", "\"food\"", "\"foo_\"",
          "\"\xc3\xa9"
          "foo\""}},
        {REGEX, "a\\Bb\\B.", {"abc"}, {"ab-", "ab"}},
        {REGEX, "(\\b[a-z]+\\b ?)+", {"ab cd", "a"}, {" ", ""}},
        {SCHEMA,
         "{\"pattern\":\"(^|,)a($|,)\"}",
         {"\"a\"", "\"x,a\"", "\"a,x\"", "\"x,a,y\""},
         {"\"xa\"", "\"ax\"", "\"x,ay\""}},
        {SCHEMA,
         "{\"pattern\":\"^a\",\"allOf\":[{\"pattern\":\"b$\"},{\"pattern\":\"c\","
         "\"format\":"
         "\"x\"},{\"format\":\"hostname\"}]}",
         {"\"acb\"", "\"abcb\""},
         {"\"ab\"", "\"cb\"", "\"ac\"", "\"a cb\""}},
        {SCHEMA, "{\"pattern\":\"(^$|^ab$)\"}", {"\"\"", "\"ab\""}, {"\"a\"", "\"abc\""}},
        {SCHEMA, "{\"pattern\":\"\\\\Aab\\\\Z\"}", {"\"ab\""}, {"\"abc\"", "\"xab\""}},
    };
    check(all, sizeof all / sizeof *all);
}

static void choices_are_listed(void **state) {
    (void)state;
    const struct expectation all[] = {
        {COHORT_GRAMMAR_CHOICE,
         "[\"yes\", \"no\", \"nono\", \"\\\"q\\\"\"]",
         {"yes", "no", "nono", "\"q\""},
         {"y", "", "non", "yesno"}},
    };
    check(all, 1);
}

#define TOOLS                                                                          \
    "{\"tools\":[{\"name\":\"f\",\"parameters\":{\"type\":\"object\",\"properties\":{" \
    "\"x\":{\"$ref\":\"#/$defs/"                                                       \
    "n\"}},\"required\":[\"x\"],\"$defs\":{\"n\":{\"enum\":[1,"                        \
    "2]}}}},{\"name\":\"g \\\"q\\\"\",\"parameters\":null}]"
#define CALL_F "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call>"
#define CALL_G                                                                         \
    "<tool_call>\n{\"name\": \"g \\\"q\\\"\", \"arguments\": {\"any\": [1]}}\n</tool_" \
    "call>"

static void calls_of_tools_are_as_models_write_them(void **state) {
    (void)state;
    const struct expectation all[] = {
        {COHORT_GRAMMAR_TOOL_CALLS,
         TOOLS "}",
         {CALL_F, CALL_G},
         {"", "{}", CALL_F "\n", CALL_F "\n" CALL_G,
          "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 3}}\n</tool_call>",
          "<tool_call>\n{\"name\": \"h\", \"arguments\": {}}\n</tool_call>"}},
        {COHORT_GRAMMAR_TOOL_CALLS,
         TOOLS ",\"parallel\":true}",
         {CALL_F, CALL_G "\n" CALL_F "\n" CALL_F},
         {"", CALL_F CALL_F, CALL_F "\n"}},
    };
    check(all, 2);
}

static void any_object_is_json(void **state) {
    (void)state;
    const struct expectation all[] = {
        {COHORT_GRAMMAR_JSON_OBJECT,
         "",
         {"{}", "{\"a\": 1}",
          "{\"a\":[1, 2.5e-3, -0, true, null, \"\\u00e4\\n\xc3\xa4\"]}",
          "{\n  \"a\": {\n    \"b\": []\n  }\n}", "{\"\\ud83d\\ude00\":{}, \"\":false}"},
         {"", "[]", "1", "{", "{\"a\"}", "{\"a\":}", "{,}", "{\"a\":1,}", "{\"a\":01}",
          "{\"a\":\"\n\"}", "{\"\\ud83d\":1}"}},
    };
    check(all, 1);
    assert_false(matches(COHORT_GRAMMAR_JSON_OBJECT, "", "{\"\xc3\":1}"));
    assert_false(matches(COHORT_GRAMMAR_JSON_OBJECT, "", "{\"a\":.5}"));
    assert_false(matches(COHORT_GRAMMAR_JSON_OBJECT, "", "{\"a\":1.}"));
}

/* ---- what is refused --------------------------------------------------------------- */

static void items_that_differ_are_few(void **state) {
    (void)state;
    expect_refusal(SCHEMA,
                   "{\"type\":\"array\",\"uniqueItems\":true,\"items\":{\"type\":"
                   "\"integer\",\"minimum\":0,\"maximum\":8}}",
                   "items of at most 8 values");
    expect_refusal(
        SCHEMA,
        "{\"$defs\":{\"a\":{\"anyOf\":[{\"const\":1},{\"$ref\":\"#/$defs/a\"}]}},"
        "\"type\":\"array\",\"uniqueItems\":true,\"items\":{\"$ref\":\"#/$defs/a\"}}",
        "refers to itself");
}

static void what_is_not_supported_is_named(void **state) {
    (void)state;
    const struct {
        cohort_grammar_kind kind;
        const char *text, *words;
    } cases[] = {
        {SCHEMA, "{\"type\":\"array\",\"uniqueItems\":true}", "'uniqueItems'"},
        {SCHEMA, "{\"unevaluatedProperties\":{}}", "'unevaluatedProperties'"},
        {SCHEMA, "{\"type\":\"array\",\"unevaluatedItems\":false}", "'unevaluatedItems'"},
        {SCHEMA, "{\"$dynamicRef\":\"#a\"}", "'$dynamicRef'"},
        {SCHEMA, "{\"type\":\"strin\"}", "'strin'"},
        {SCHEMA, "{\"$ref\":\"http://x/y\"}", "http://x/y"},
        {SCHEMA, "{\"$ref\":\"#/$defs/a\"}", "leads nowhere"},
        {SCHEMA, "{\"$ref\":\"#/$defs/a\",\"$defs\":{\"a\":{\"$ref\":\"#/$defs/a\"}}}",
         "refers to itself"},
        {SCHEMA, "{\"anyOf\":[{\"$ref\":\"#\"},{\"type\":\"null\"}]}",
         "refers to itself"},
        {SCHEMA, "{\"type\":\"array\",\"items\":{\"$ref\":\"#\"},\"minItems\":1}",
         "nothing matches"},
        {SCHEMA, "false", "nothing matches"},
        {SCHEMA, "{\"type\":\"integer\",\"minimum\":2,\"maximum\":1}", "nothing matches"},
        {SCHEMA,
         "{\"allOf\":[{\"unevaluatedProperties\":false,\"anyOf\":[{\"properties\":{\"a\":"
         "{}}}"
         "]},{\"properties\":{\"b\":{}}}]}",
         "'unevaluatedProperties' with an anyOf"},
        {SCHEMA, "{\"type\":\"string\",\"maxLength\":-1}", "'maxLength'"},
        {SCHEMA, "{", "not valid JSON"},
        {SCHEMA, "[]", "must be an object"},
        {SCHEMA, "{\"type\":\"array\",\"minItems\":1000000}", "too complex"},
        {SCHEMA, "{\"pattern\":\"(a\"}", "pattern"},
        {SCHEMA, "{\"pattern\":[1,{}]}", "'pattern' must be a string"},
        {SCHEMA, "{\"pattern\":[\"a\"]}", "'pattern' must be a string"},
        {REGEX, "(a", "without its )"},
        {REGEX, "a)", "without its ("},
        {REGEX, "[a", "without its ]"},
        {REGEX, "(?=a)", "nothing matches"},
        {REGEX, "(a(?=b))", "nothing matches"},
        {REGEX, "(?=(a(?=b)))ab", "look-ahead inside a group of another"},
        {REGEX, "((?=a)(?=b)(?=c)(?=d)(?=e).)*", "more than 4 look-aheads inside groups"},
        {REGEX, "a(?<!b)", "look-behind"},
        {REGEX, "(?P<x>a)(?P=x)", "reference back"},
        {REGEX, "(?>a)", "this kind of group"},
        {REGEX, "a\\b(?=b)", "nothing matches"},
        {REGEX, "(?=\\bb)b", "in look-ahead"},
        {REGEX, "(?:(?=^b)b)+", "in look-ahead"},
        {REGEX, "(?:(?!\\Ab)b)+", "in look-ahead"},
        {REGEX, "\\p{Greek}", "general category"},
        {REGEX, "(a)\\1", "reference back"},
        {REGEX, "(a^b)", "nothing matches"},
        {REGEX, "a**", "multiple repeat"},
        {REGEX, "ax{,3}", "'{,n}' is read in two ways"},
        {SCHEMA, "{\"pattern\":\"^(ab){,}$\"}", "'{,n}' is read in two ways"},
        {REGEX, "*a", "nothing to repeat"},
        {REGEX, "a{3,2}", "wrong way round"},
        {REGEX, "((a{1000}){1000}){1000}", "too complex"},
        {REGEX, "(a|b)*a(a|b){30}", "too complex"},
        {COHORT_GRAMMAR_CHOICE, "[]", "at least one"},
        {COHORT_GRAMMAR_CHOICE, "[\"\"]", "not empty"},
        {COHORT_GRAMMAR_CHOICE, "[1]", "list of strings"},
        {COHORT_GRAMMAR_TOOL_CALLS, "{\"tools\":[]}", "no tools"},
        {COHORT_GRAMMAR_TOOL_CALLS, "{\"tools\":[{}]}", "must have a name"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_refusal(cases[i].kind, cases[i].text, cases[i].words);
    char *wide = wide_schema(COHORT_GRAMMAR_MAX_ALTERNATIVES);
    expect_refusal(SCHEMA, wide, "make anyOf and oneOf smaller");
    free(wide);
}

/* ---- masks ------------------------------------------------------------------------- */

static const char *const samples[] = {
    "{\"type\":\"object\"}",
    "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":12}"
    ","
    "\"tags\":{\"type\":\"array\",\"items\":{\"type\":\"string\",\"minLength\":3,"
    "\"maxLength\":"
    "9},\"maxItems\":3},\"n\":{\"type\":\"integer\",\"minimum\":10,\"maximum\":2000}},"
    "\"required\":[\"name\",\"tags\"],\"additionalProperties\":false}",
    "{\"type\":\"array\",\"items\":{\"anyOf\":[{\"type\":\"string\",\"pattern\":\"^th[a-"
    "z ]*\"},"
    "{\"type\":\"array\",\"items\":{\"$ref\":\"#\"}}]}}",
    "{\"type\":\"object\",\"properties\":{\"then\":{},\"the\":{}},"
    "\"additionalProperties\":true}",
};

static bool has_bit(const uint32_t *mask, int32_t token) {
    return mask[token / 32] >> token % 32 & 1;
}

/* A token that is allowed, short texts first, so that things come to an end. */
static int32_t pick(const uint32_t *mask, uint64_t seed, uint64_t draw) {
    int32_t n = cohort_tokenizer_vocab_size(tokenizer), count = 0, chosen = -1;
    for (int32_t id = 0; id < n; id++) {
        if (!has_bit(mask, id)) continue;
        count++;
        if (cohort_random_u64(seed, draw * 4096 + (uint64_t)id) % (uint64_t)count == 0)
            chosen = id;
    }
    return chosen;
}

static size_t add_word(char *text, size_t size, int32_t token) {
    char *bytes;
    size_t length;
    assert_int_equal(cohort_tokenizer_token_bytes(tokenizer, token, &bytes, &length),
                     COHORT_OK);
    assert_true(size + length < MAX_TEXT);
    memcpy(text + size, bytes, length);
    text[size + length] = '\0';
    free(bytes);
    return size + length;
}

static void mask_is_what_is_accepted(void **state) {
    (void)state;
    uint32_t mask[64];
    char text[MAX_TEXT] = "";
    int32_t n = cohort_tokenizer_vocab_size(tokenizer);
    for (size_t s = 0; s < sizeof samples / sizeof *samples; s++) {
        cohort_grammar *grammar = compile(SCHEMA, samples[s]);
        cohort_matcher *matcher = match(grammar);
        size_t size = 0;
        for (uint64_t draw = 0; draw < 40; draw++) {
            assert_int_equal(cohort_matcher_mask(matcher, mask), COHORT_OK);
            for (int32_t id = 0; id < n; id++) {
                cohort_matcher *again = match(grammar);
                assert_true(cohort_matcher_accept_bytes(again, text, size));
                if (cohort_matcher_accept(again, id) != has_bit(mask, id))
                    fail_msg("%s: token %d after '%.*s'", samples[s], id, (int)size,
                             text);
                cohort_matcher_destroy(again);
            }
            int32_t token = pick(mask, s, draw);
            if (token < 0) break;
            assert_true(cohort_matcher_accept(matcher, token));
            size = add_word(text, size, token);
        }
        cohort_matcher_destroy(matcher);
        cohort_grammar_release(grammar);
    }
}

static void walks_never_get_stuck_and_parse(void **state) {
    (void)state;
    uint32_t mask[64];
    static char text[MAX_TEXT];
    for (uint64_t seed = 0; seed < 200; seed++) {
        cohort_grammar *grammar =
            compile(SCHEMA, samples[seed % (sizeof samples / sizeof *samples)]);
        cohort_matcher *matcher = match(grammar);
        size_t size = 0;
        for (uint64_t draw = 0; draw < 300 && !cohort_matcher_is_finished(matcher);
             draw++) {
            assert_int_equal(cohort_matcher_mask(matcher, mask), COHORT_OK);
            int32_t token = pick(mask, seed, draw);
            /* Ends early where it may, so that many do. */
            if (draw > 100) {
                int32_t quote = cohort_tokenizer_find(tokenizer, "\"");
                int32_t brace = cohort_tokenizer_find(tokenizer, "}");
                int32_t bracket = cohort_tokenizer_find(tokenizer, "]");
                token = has_bit(mask, brace)     ? brace
                        : has_bit(mask, bracket) ? bracket
                        : has_bit(mask, quote)   ? quote
                                                 : token;
            }
            if (token < 0)
                fail_msg("seed %llu: nothing may follow '%s'", (unsigned long long)seed,
                         text);
            assert_true(cohort_matcher_accept(matcher, token));
            size = add_word(text, size, token);
        }
        if (cohort_matcher_is_complete(matcher)) {
            cJSON *json = cJSON_ParseWithLength(text, size);
            if (!json) fail_msg("'%s' is not JSON", text);
            cJSON_Delete(json);
        }
        cohort_matcher_destroy(matcher);
        cohort_grammar_release(grammar);
    }
}

static void nesting_ends_at_its_limit(void **state) {
    (void)state;
    cohort_grammar *grammar = compile(COHORT_GRAMMAR_JSON_OBJECT, "");
    cohort_matcher *matcher = match(grammar);
    uint32_t mask[64];
    int depth = 1;
    assert_true(cohort_matcher_accept_bytes(matcher, "{\"a\":", 5));
    while (cohort_matcher_accept_bytes(matcher, "[", 1))
        depth++;
    /* The object is the whole text: to begin it costs no level. */
    assert_int_equal(depth, COHORT_GRAMMAR_MAX_DEPTH);
    assert_int_equal(cohort_matcher_mask(matcher, mask), COHORT_OK);
    assert_false(has_bit(mask, cohort_tokenizer_find(tokenizer, "[")));
    assert_true(has_bit(mask, cohort_tokenizer_find(tokenizer, "]")));
    assert_true(cohort_matcher_accept_bytes(matcher, "1", 1));
    for (; depth > 1; depth--)
        assert_true(cohort_matcher_accept_bytes(matcher, "]", 1));
    assert_true(cohort_matcher_accept_bytes(matcher, "}", 1));
    assert_true(cohort_matcher_is_finished(matcher));
    cohort_matcher_destroy(matcher);
    cohort_grammar_release(grammar);
}

static void special_tokens_never_pass(void **state) {
    (void)state;
    cohort_grammar *grammar = compile(REGEX, "[\\s\\S]*");
    cohort_matcher *matcher = match(grammar);
    uint32_t mask[64];
    assert_int_equal(cohort_matcher_mask(matcher, mask), COHORT_OK);
    assert_false(has_bit(mask, 0) || has_bit(mask, 1) || has_bit(mask, 2));
    assert_false(cohort_matcher_accept(matcher, 0));
    assert_false(cohort_matcher_accept(matcher, -1));
    assert_false(cohort_matcher_accept(matcher, 1 << 20));
    assert_true(has_bit(mask, 3) && cohort_matcher_accept(matcher, 3));
    assert_true(cohort_matcher_is_complete(matcher));
    assert_false(cohort_matcher_is_finished(matcher));
    cohort_matcher_destroy(matcher);
    cohort_grammar_release(grammar);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_of_tools_are_as_models_write_them),
        cmocka_unit_test(regexes_match_the_whole_text),
        cmocka_unit_test(items_that_differ_are_few),
        cmocka_unit_test(regexes_look_ahead_inside_groups),
        cmocka_unit_test(regexes_look_ahead_and_at_words),
        cmocka_unit_test(choices_are_listed),
        cmocka_unit_test(any_object_is_json),
        cmocka_unit_test(what_is_not_supported_is_named),
        cmocka_unit_test(mask_is_what_is_accepted),
        cmocka_unit_test(walks_never_get_stuck_and_parse),
        cmocka_unit_test(nesting_ends_at_its_limit),
        cmocka_unit_test(special_tokens_never_pass),
    };
    return cmocka_run_group_tests(tests, open_vocabulary, close_vocabulary);
}
