/* SPDX-License-Identifier: Apache-2.0 */
#include "grammar/grammar.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <cjson/cJSON.h>

#include "base/random.h"
#include "cohort/status.h"

enum { MAX_TEXT = 1 << 14 };

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

static cohort_grammar *compile(cohort_grammar_kind kind, const char *text) {
    cohort_grammar *grammar = NULL;
    if (cohort_grammar_compile(kind, text, strlen(text), &grammar) < 0)
        fail_msg("%s: %s", text, cohort_last_error()->message);
    return grammar;
}

static cohort_matcher *match(cohort_grammar *grammar) {
    cohort_matcher *matcher = NULL;
    assert_int_equal(cohort_matcher_create(grammar, vocabulary, &matcher), COHORT_OK);
    return matcher;
}

static bool matches(cohort_grammar_kind kind, const char *grammar_text,
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

static void check(const struct expectation *expectations, size_t count) {
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

static void expect_refusal(cohort_grammar_kind kind, const char *text,
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

/* JSON Schema core 6.5. */
static void annotations_say_nothing(void **state) {
    (void)state;
    const char *annotated =
        "{\"type\":\"object\",\"id\":\"x\",\"$anchor\":\"a\",\"$vocabulary\":{},"
        "\"xml\":{},\"externalDocs\":1,\"propertyOrdering\":[\"a\"],\"x-a\":1,"
        "\"cache_control\":{\"type\":\"ephemeral\"},\"mein "
        "Wort\":[],\"properties\":{\"a\":"
        "{\"type\":\"string\",\"contentEncoding\":\"base64\",\"contentMediaType\":"
        "\"image/png\",\"format\":\"byte\",\"ui:widget\":\"x\",\"enumNames\":[\"b\"],"
        "\"errorMessage\":\"c\",\"label\":\"d\",\"optional\":true,\"maxLength\":2}}}";
    const struct expectation all[] = {
        {SCHEMA,
         annotated,
         {"{\"a\":\"x\"}", "{}"},
         {"{\"a\":1}", "{\"a\":\"xyz\"}", "{\"b\":1}"}},
        {SCHEMA, "{\"nonsense\":1}", {"1", "\"a\"", "{}"}, {""}},
        {SCHEMA,
         "{\"type\":\"string\",\"format\":\"color\",\"pattern\":\"^#\"}",
         {"\"#12\""},
         {"\"12\""}},
        {SCHEMA, "{\"enum\":[\"a\"],\"format\":\"color\"}", {"\"a\""}, {"1"}},
        {SCHEMA, "{\"type\":\"string\",\"format\":null}", {"\"a\""}, {"1"}},
        {SCHEMA, "{\"type\":\"integer\",\"format\":\"int64\"}", {"1"}, {"\"1\""}},
    };
    check(all, sizeof all / sizeof *all);
}

/* As in Python's json, which vLLM reads them with. */
static void the_last_of_members_with_one_name_counts(void **state) {
    (void)state;
    const struct expectation all[] = {
        {SCHEMA, "{\"type\":\"string\",\"type\":\"integer\"}", {"1"}, {"\"a\""}},
        {SCHEMA,
         "{\"properties\":{\"a\":{\"const\":1},\"b\":{\"const\":2},\"a\":{\"const\":3},"
         "\"a\":{\"const\":4}},\"required\":[\"a\",\"b\"]}",
         {"{\"a\":4,\"b\":2}"},
         {"{\"a\":1,\"b\":2}", "{\"a\":3,\"b\":2}", "{\"b\":2,\"a\":4}"}},
        {SCHEMA, "{\"const\":[{\"a\":1,\"a\":2}]}", {"[{\"a\": 2}]"}, {"[{\"a\": 1}]"}},
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

static void schemas_of_plain_values(void **state) {
    (void)state;
    const struct expectation all[] = {
        {SCHEMA, "{\"type\":\"boolean\"}", {"true", "false"}, {"null", "tru", "1"}},
        {SCHEMA,
         "{\"type\":[\"null\",\"integer\"]}",
         {"null", "-12", "0"},
         {"1.5", "-", ""}},
        /* OpenAPI's word: to a validator of JSON Schema a null is none of these. */
        {SCHEMA, "{\"type\":\"string\",\"nullable\":true}", {"\"\""}, {"null", "1"}},
        {SCHEMA,
         "{\"type\":[\"string\",\"null\"],\"nullable\":false}",
         {"null", "\"\""},
         {"1"}},
        {SCHEMA, "{\"type\":\"number\"}", {"1", "-2.50", "1e9"}, {"\"1\"", "+1", "1e"}},
        {SCHEMA,
         "{\"enum\":[1, \"a\\\"b\", null, [1, {\"k\": 2.5}]]}",
         {"1", "\"a\\\"b\"", "null", "[1, {\"k\": 2.5}]"},
         {"2", "[1]"}},
        {SCHEMA, "{\"type\":\"string\",\"enum\":[1, \"a\"]}", {"\"a\""}, {"1"}},
        {SCHEMA, "{\"const\":{\"a\":\"b\"}}", {"{\"a\": \"b\"}"}, {"{}"}},
        {SCHEMA,
         "{\"type\":\"string\",\"minLength\":2,\"maxLength\":3}",
         {"\"ab\"", "\"\xc3\xa4\\n\"", "\"abc\"", "\"\\ud83d\\ude00x\""},
         {"\"a\"", "\"abcd\"", "\"\"", "\"\\ud83d\\ude00\""}},
        {SCHEMA, "{\"type\":\"string\",\"maxLength\":0}", {"\"\""}, {"\"a\""}},
        {SCHEMA,
         "{\"type\":\"string\",\"pattern\":\"^a.c$\"}",
         {"\"abc\"", "\"a\\\"c\"", "\"a\\\\c\""},
         {"\"ac\"", "\"a\"c\"", "\"a\\nc\""}},
        {SCHEMA,
         "{\"type\":\"string\",\"pattern\":\"b\",\"maxLength\":2}",
         {"\"b\"", "\"ab\"", "\"b\\n\""},
         {"\"a\"", "\"aab\""}},
        {SCHEMA,
         "{\"type\":\"string\",\"format\":\"date\"}",
         {"\"2024-02-28\""},
         {"\"2024-02-30\"", "\"24-02-28\""}},
        {SCHEMA,
         "{\"type\":\"string\",\"format\":\"uuid\"}",
         {"\"123e4567-e89b-12d3-a456-426614174000\""},
         {"\"123\""}},
        {SCHEMA,
         "{\"type\":\"string\",\"format\":\"duration\"}",
         {"\"P1Y2M3DT4H5M6S\"", "\"PT1M\"", "\"P2W\"", "\"P1D\"", "\"P1MT2H\""},
         {"\"P\"", "\"PT\"", "\"P1DT\"", "\"P1H\"", "\"P1Y2D\"", "\"PT1H2S\""}},
        {SCHEMA,
         "{\"type\":\"string\",\"format\":\"ipv6\"}",
         {"\"1:22:333:4444:a:b:c:d\""},
         {"\"1:2\"", "\"12345:2:3:4:5:6:7:8\""}},
        {SCHEMA,
         "{\"type\":\"string\",\"format\":\"json-pointer\"}",
         {"\"\"", "\"/a/0\""},
         {"\"a\""}},
        {SCHEMA, /* pydantic's HttpUrl */
         "{\"type\":\"string\",\"format\":\"uri\",\"minLength\":1,\"maxLength\":2083}",
         {"\"http://a.b/c\""},
         {"\"\"", "\"a\""}},
        {SCHEMA,
         "{\"type\":\"string\",\"pattern\":\"^(a|\\\"b){0,3}$\",\"minLength\":1,"
         "\"maxLength\":4}",
         {"\"a\"", "\"\\\"ba\"", "\"\\\"b\\\"b\"", "\"aaa\""},
         {"\"\"", "\"\\\"b\\\"ba\""}},
        {SCHEMA,
         "{\"type\":\"string\",\"pattern\":\"^a*$\",\"minLength\":1}",
         {"\"a\"", "\"aa\""},
         {"\"\""}},
        {SCHEMA,
         "{\"type\":\"string\",\"format\":\"password\",\"maxLength\":3}",
         {"\"\"", "\"a\\\"b\""},
         {"\"abcd\"", "1"}},
    };
    check(all, sizeof all / sizeof *all);
}

/* All that the formats' standards have, and nothing else. */
static void formats_are_as_their_standards(void **state) {
    (void)state;
    const struct expectation all[] = {
        {SCHEMA,
         "{\"type\":\"string\",\"format\":\"uri\"}",
         {"\"https://example.com/path?q=1#f\"", "\"http://user:pw@h:80/\"",
          "\"mailto:a@b.c\"", "\"ftp://f/x;type=a\"", "\"urn:isbn:0451450523\"",
          "\"http://[2001:db8::1]:80/a\"", "\"http://[::ffff:1.2.3.4]\"", "\"a:/b//c\"",
          "\"https://x/%7Ea?b=%20&c\"", "\"file:///etc/x\"", "\"tel:+1-816\""},
         {"\"a\"", "\"//x/y\"", "\"/a\"", "\"http://a b\"", "\"http://a:b:c/\"",
          "\"http://[::1\"", "\"1a:b\"", "\"http://a/%zz\"", "\"http://a/#b#c\"",
          "\"http://a/[\"", "\"http://é/\""}},
        {SCHEMA,
         "{\"type\":\"string\",\"format\":\"uri\"}",
         {"\"http://[v1.a:b]\""},
         {"\"\""}},
        {SCHEMA,
         "{\"type\":\"string\",\"format\":\"uri\",\"minLength\":1,\"maxLength\":2083}",
         {"\"http://user:pw@h:80/a?b#c\"", "\"https://example.com/watch?v=abc123\""},
         {"\"\"", "\"a\"", "\"http://a:b:c/\""}},
        {SCHEMA,
         "{\"type\":\"string\",\"format\":\"uri\",\"maxLength\":12}",
         {"\"http://abc/d\""},
         {"\"http://abc/de\""}},
        {SCHEMA,
         "{\"type\":\"string\",\"format\":\"uri-reference\"}",
         {"\"\"", "\"/a/b?c#d\"", "\"../x\"", "\"//h/y\"", "\"http://a/b\"", "\"#f\"",
          "\"?q\"", "\"a/b:c\""},
         {"\"%\"", "\"a b\"", "\"\\\\x\"", "\"a#b#c\"", "\"1:b\""}},
        {SCHEMA,
         "{\"type\":\"string\",\"format\":\"iri\"}",
         {"\"http://ƒøø.ßår/?∂=πœ#ƒ\"", "\"http://a/b\"", "\"urn:é\""},
         {"\"é\"", "\"http://a/<\""}},
        {SCHEMA,
         "{\"type\":\"string\",\"format\":\"ipv6\"}",
         {"\"::\"", "\"::1\"", "\"2001:db8::1\"", "\"fe80::\"",
          "\"1:22:333:4444:a:B:c:d\"", "\"::ffff:192.0.2.1\"", "\"1::3:4:5:6:7:8\"",
          "\"1:2:3:4:5:6:1.2.3.4\"", "\"1:2:3:4:5:6:7::\""},
         {"\"1:2\"", "\"12345:2:3:4:5:6:7:8\"", "\"1::2::3\"", "\":1\"", "\"1:\"",
          "\":::\"", "\"1:2:3:4:5:6:7:8::\"", "\"::1.2.3.400\"",
          "\"1:2:3:4:5:6:7:1.2.3.4\"", "\"fe80::1%eth0\"", "\"::g\""}},
        {SCHEMA,
         "{\"type\":\"string\",\"format\":\"uuid\"}",
         {"\"123E4567-E89B-12d3-a456-426614174000\"",
          "\"3F2504E0-4F89-11D3-9A0C-0305E82C3301\""},
         {"\"123e4567e89b12d3a456426614174000\"",
          "\"123e4567-e89b-12d3-a456-42661417400g\""}},
        {SCHEMA,
         "{\"type\":\"string\",\"format\":\"date\"}",
         {"\"2024-02-29\"", "\"2000-02-29\"", "\"0001-01-01\"", "\"9999-12-31\"",
          "\"2023-02-28\"", "\"0004-02-29\"", "\"2400-02-29\""},
         {"\"2023-02-29\"", "\"1900-02-29\"", "\"2100-02-29\"", "\"2024-02-30\"",
          "\"2024-04-31\"", "\"0000-01-01\"", "\"0000-02-29\"", "\"2024-2-1\"",
          "\"24-02-28\""}},
        {SCHEMA,
         "{\"type\":\"string\",\"format\":\"date-time\"}",
         {"\"2024-02-29T00:00:00.123456789Z\"", "\"1998-12-31t23:59:60z\"",
          "\"1990-12-31T15:59:60-08:00\"", "\"1990-12-31T01:29:60.5+01:30\"",
          "\"2024-01-01T23:00:00Z\"", "\"2024-01-01T00:00:00+23:59\""},
         {"\"2024-01-01T24:00:00Z\"", "\"2024-01-01T22:59:60Z\"",
          "\"2024-01-01T23:58:60Z\"", "\"2024-01-01 00:00:00Z\"",
          "\"2024-01-01T00:00:00\"", "\"2023-02-29T00:00:00Z\"",
          "\"2024-01-01T00:00:61Z\"", "\"2024-01-01T00:00:00.Z\"",
          "\"2024-01-01T23:59:60-08:00\""}},
        {SCHEMA,
         "{\"type\":\"string\",\"format\":\"time\"}",
         {"\"12:34:56Z\"", "\"23:59:60.25z\"", "\"00:29:60-23:30\"",
          "\"12:00:00.1234567890123+05:45\""},
         {"\"12:34Z\"", "\"12:34:60Z\"", "\"25:00:00Z\"", "\"12:34:56\""}},
        {SCHEMA,
         "{\"type\":\"string\",\"format\":\"duration\"}",
         {"\"PT0.5S\"", "\"P1Y2M3DT4H5M6.75S\"", "\"P100000D\"", "\"P3W\"", "\"PT36H\""},
         {"\"P\"", "\"PT\"", "\"P1DT\"", "\"P1H\"", "\"P1Y2D\"", "\"PT1H2S\"",
          "\"P1W2D\"", "\"PT.5S\"", "\"P0.5Y\""}},
        {SCHEMA,
         "{\"type\":\"string\",\"format\":\"email\"}",
         {"\"a.b+c@example.com\"", "\"o'neil@x.museum\"", "\"me@localhost\"",
          "\"\\\"joe bloggs\\\"@example.com\"", "\"x@[127.0.0.1]\"", "\"x@[IPv6:::1]\"",
          "\"a@1.2.io\""},
         {"\"a\"", "\"a@\"", "\".a@b.c\"", "\"a..b@c.d\"", "\"a.@b.c\"", "\"a@-b.c\"",
          "\"a b@c.d\"", "\"a@b..c\"", "\"@b.c\""}},
        {SCHEMA,
         "{\"type\":\"string\",\"format\":\"email\",\"maxLength\":254}",
         {"\"a.b+c@example.com\""},
         {"\"a@\"", "\"a@b@c\""}},
        {SCHEMA,
         "{\"type\":\"string\",\"format\":\"hostname\"}",
         {"\"a\"", "\"a.b.c.d.e.f.example.com\"", "\"xn--bcher-kva.example\"", "\"1.a\""},
         {"\"-a\"", "\"a-\"", "\"a..b\"", "\"\"", "\".a\"", "\"a_b\""}},
        {SCHEMA,
         "{\"type\":\"string\",\"format\":\"json-pointer\"}",
         {"\"\"", "\"/a~0b/~1/é/x y\""},
         {"\"a\"", "\"/~2\"", "\"/~\""}},
        {SCHEMA,
         "{\"type\":\"string\",\"format\":\"relative-json-pointer\"}",
         {"\"0#\"", "\"1/a\""},
         {"\"/a\"", "\"01\"", "\"-1/a\""}},
    };
    check(all, sizeof all / sizeof *all);
}

static void numbers_keep_their_bounds(void **state) {
    (void)state;
    const struct expectation all[] = {
        {SCHEMA,
         "{\"type\":\"integer\",\"minimum\":7,\"maximum\":123}",
         {"7", "9", "10", "99", "100", "123"},
         {"6", "0", "124", "200", "-7", "07", "1000"}},
        {SCHEMA,
         "{\"type\":\"integer\",\"minimum\":-5,\"maximum\":5}",
         {"-5", "-1", "0", "5"},
         {"-6", "6", "-10", "10"}},
        {SCHEMA,
         "{\"type\":\"integer\",\"exclusiveMinimum\":-5,\"exclusiveMaximum\":-2.5}",
         {"-4", "-3"},
         {"-5", "-2", "-1", "3"}},
        {SCHEMA,
         "{\"type\":\"integer\",\"minimum\":0.5}",
         {"1", "123456789012345"},
         {"0", "-1"}},
        {SCHEMA,
         "{\"type\":\"number\",\"minimum\":0.25,\"maximum\":12.5}",
         {"0.25", "0.3", "1", "9.999", "12", "12.5", "12.500", "12.49", "10.0"},
         {"0", "0.2", "0.249", "12.51", "13", "100", "-1"}},
        {SCHEMA,
         "{\"type\":\"number\",\"exclusiveMinimum\":0,\"exclusiveMaximum\":1}",
         {"0.1", "0.001", "0.999"},
         {"0", "0.0", "1", "1.0", "-0.5"}},
        {SCHEMA,
         "{\"type\":\"number\",\"minimum\":-1.5,\"exclusiveMaximum\":-0.5}",
         {"-1.5", "-1", "-0.51", "-0.6"},
         {"-1.51", "-0.5", "-0.4", "0", "-2"}},
        {SCHEMA,
         "{\"type\":\"number\",\"maximum\":-1e3}",
         {"-1000", "-1000.5"},
         {"-999", "0", "1000"}},
        {SCHEMA,
         "{\"type\":\"number\",\"minimum\":1,\"exclusiveMinimum\":true}",
         {"1.5", "2"},
         {"1", "1.0"}},
        {SCHEMA,
         "{\"type\":\"integer\"}",
         {"0", "-7", "12345678901234567890", "-123456789012345678901234567890"},
         {"01", "1.0", "-0", "", "-"}},
        {SCHEMA,
         "{\"type\":\"number\"}",
         {"12345678901234567890", "1e+308", "1e-320", "-1.5E10", "0.1234567890123456789"},
         {".5", "1.", "1e", "01"}},
        {SCHEMA,
         "{\"type\":\"integer\",\"minimum\":0,\"maximum\":9223372036854775807}",
         {"9223372036854775807", "1234567890123456789", "0"},
         {"9223372036854775808", "10000000000000000000", "-1"}},
        {SCHEMA,
         "{\"type\":\"integer\",\"minimum\":-9223372036854775808,\"exclusiveMaximum\":"
         "1000000000000000000000}",
         {"-9223372036854775808", "999999999999999000000", "5"},
         {"-9223372036854775809", "1000000000000000000000"}},
        {SCHEMA,
         "{\"type\":\"integer\",\"minimum\":100000000000000000}",
         {"100000000000000100", "1000000000000000000000000"},
         {"99999999999999999", "-100000000000000100"}},
        {SCHEMA,
         "{\"type\":\"number\",\"minimum\":0}",
         {"0", "1e-7", "1.5e-07", "2E+300", "12345678901234567890.123456789012345678"},
         {"-1", "-1e-7", "10e5", "0.5e1"}},
        {SCHEMA,
         "{\"type\":\"number\",\"minimum\":-2.5,\"exclusiveMaximum\":1.25e2}",
         {"1.24e2", "1.2499e02", "9e1", "1e-300", "-2.5e0", "-2.5e-1", "-1e0", "9.99e+1"},
         {"1.25e2", "1.2500e2", "1.26e2", "2e2", "1e3", "-2.6e0", "-2.51e0", "-1e1"}},
        {SCHEMA,
         "{\"type\":\"number\",\"minimum\":12345,\"maximum\":12346}",
         {"1.2345e4", "1.23455e4", "1.2346e4"},
         {"1e4", "1.2e4", "1.234e4", "1.23461e4", "2e4", "1.3e3"}},
        {SCHEMA,
         "{\"type\":\"number\",\"minimum\":3e-5,\"maximum\":3e-5}",
         {"0.00003", "3e-5", "3.0e-05", "0.000030"},
         {"0.00002", "3e-4", "3.1e-5", "0"}},
        {SCHEMA,
         "{\"type\":\"number\",\"exclusiveMinimum\":1e300,\"maximum\":1."
         "7976931348623157e308}",
         {"1.1e300", "1.7976931348623157e308", "1e308"},
         {"1e300", "1.8e308", "1e309", "1"}},
    };
    check(all, sizeof all / sizeof *all);
}

static void schemas_of_arrays(void **state) {
    (void)state;
    const struct expectation all[] = {
        {SCHEMA,
         "{\"type\":\"array\",\"items\":{\"type\":\"integer\"}}",
         {"[]", "[1]", "[1, 2,3]", "[\n  1\n]"},
         {"[\"a\"]", "[1,]", "[,1]", "[1 2]"}},
        {SCHEMA,
         "{\"items\":{\"type\":\"null\"},\"minItems\":1,\"maxItems\":2}",
         {"[null]", "[null,null]"},
         {"[]", "[null,null,null]"}},
        {SCHEMA,
         "{\"type\":\"array\",\"minItems\":2,\"items\":{\"const\":1}}",
         {"[1,1]", "[1,1,1,1]"},
         {"[1]"}},
        {SCHEMA,
         "{\"prefixItems\":[{\"const\":1},{\"const\":2}],\"items\":false}",
         {"[]", "[1]", "[1, 2]"},
         {"[2]", "[1,2,3]"}},
        {SCHEMA,
         "{\"type\":\"array\",\"prefixItems\":[{\"const\":1}],\"items\":{\"const\":2}}",
         {"[]", "[1]", "[1,2,2,2]"},
         {"[1,1]", "[2]"}},
        {SCHEMA, "{\"type\":\"array\",\"maxItems\":0}", {"[]", "[ ]"}, {"[1]"}},
        {SCHEMA, "{\"type\":\"array\"}", {"[]", "[1,\"a\",{},[[]]]"}, {"{}"}},
    };
    check(all, sizeof all / sizeof *all);
}

static void schemas_of_objects(void **state) {
    (void)state;
    const char *three =
        "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},"
        "\"b\":{\"type\":\"boolean\"},\"c\":{\"type\":\"null\"}},"
        "\"required\":[\"b\"],\"additionalProperties\":false}";
    const struct expectation all[] = {
        {SCHEMA,
         three,
         {"{\"a\": 1, \"b\": true, \"c\": null}", "{\"b\":false}", "{\"a\":1,\"b\":true}",
          "{\"b\":true,\"c\":null}", "{\n  \"b\": true\n}"},
         {"{}", "{\"a\":1}", "{\"b\":true,\"a\":1}", "{\"b\":true,}", "{,\"b\":true}",
          "{\"b\":true,\"d\":1}", "{\"b\":true \"c\":null}"}},
        {SCHEMA,
         "{\"properties\":{\"ab\":{\"const\":1}},\"additionalProperties\":"
         "{\"type\":\"string\"}}",
         {"{}", "{\"ab\":1}", "{\"ab\":1,\"x\":\"y\"}", "{\"a\":\"\",\"abc\":\"\"}",
          "{\"\xc3\xa4\":\"\"}"},
         {"{\"ab\":\"x\"}", "{\"x\":\"\",\"ab\":\"\"}", "{\"x\":1}",
          "{\"\\u0061b\":\"\"}"}},
        {SCHEMA,
         "{\"type\":\"object\",\"additionalProperties\":{\"const\":1}}",
         {"{}", "{\"x\":1,\"y\": 1}"},
         {"{\"x\":2}"}},
        {SCHEMA,
         "{\"type\":\"object\",\"required\":[\"k\"]}",
         {"{\"k\":[1]}", "{\"k\":1,\"l\":2}"},
         {"{}", "{\"l\":2}"}},
        {SCHEMA,
         "{\"type\":\"object\",\"properties\":{\"a\":false,\"b\":true}}",
         {"{}", "{\"b\":{\"x\":1}}"},
         {"{\"a\":1}"}},
        {SCHEMA,
         "{\"type\":\"object\",\"properties\":{},\"additionalProperties\":false}",
         {"{}"},
         {"{\"a\":1}"}},
        {SCHEMA,
         "{\"type\":\"object\",\"unevaluatedProperties\":false}",
         {"{}"},
         {"{\"a\":1}"}},
        {SCHEMA,
         "{\"type\":\"object\",\"unevaluatedProperties\":false,"
         "\"additionalProperties\":{\"const\":1}}",
         {"{}", "{\"a\":1}"},
         {"{\"a\":2}"}},
        {SCHEMA, "true", {"{}", "1", "[\"x\"]", "null"}, {""}},
    };
    check(all, sizeof all / sizeof *all);
}

static void schemas_that_combine(void **state) {
    (void)state;
    const struct expectation all[] = {
        {SCHEMA,
         "{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"integer\"},{\"const\":1.5}]}",
         {"\"a\"", "12", "1.5"},
         {"2.5", "null"}},
        {SCHEMA,
         "{\"anyOf\":[{\"properties\":{\"kind\":{\"const\":\"a\"},\"x\":{\"type\":"
         "\"integer\"}},\"required\":[\"kind\",\"x\"]},{\"properties\":{\"kind\":"
         "{\"const\":\"ab\"}},\"required\":[\"kind\"]}]}",
         {"{\"kind\":\"a\",\"x\":1}", "{\"kind\":\"ab\"}"},
         {"{\"kind\":\"a\"}", "{\"kind\":\"ab\",\"x\":1}"}},
        {SCHEMA,
         "{\"oneOf\":[{\"properties\":{\"t\":{\"const\":1}},\"required\":[\"t\"],"
         "\"type\":\"object\"},{\"type\":\"object\",\"properties\":{\"t\":{\"enum\":"
         "[2,3]}},\"required\":[\"t\"]}]}",
         {"{\"t\":1}", "{\"t\":3}"},
         {"{\"t\":4}", "{}"}},
        {SCHEMA,
         "{\"type\":\"object\",\"properties\":{\"a\":{\"const\":1}},\"required\":[\"a\"],"
         "\"anyOf\":[{\"properties\":{\"b\":{\"const\":2}},\"required\":[\"b\"]},"
         "{\"properties\":{\"c\":{\"const\":3}},\"required\":[\"c\"]}]}",
         {"{\"a\":1,\"b\":2}", "{\"a\":1,\"c\":3}"},
         {"{\"a\":1}", "{\"b\":2}"}},
        {SCHEMA,
         "{\"allOf\":[{\"type\":\"integer\",\"minimum\":3},{\"maximum\":5,\"minimum\":4}]"
         "}",
         {"4", "5"},
         {"3", "6"}},
        {SCHEMA,
         "{\"allOf\":[{\"$ref\":\"#/$defs/a\"}],\"description\":\"d\",\"$defs\":{\"a\":"
         "{\"type\":[\"integer\",\"null\"]}}}",
         {"1", "null"},
         {"\"\""}},
        {SCHEMA,
         "{\"$ref\":\"#/$defs/node\",\"$defs\":{\"node\":{\"type\":\"object\","
         "\"properties\":{\"v\":{\"type\":\"integer\"},\"next\":{\"anyOf\":[{\"$ref\":"
         "\"#/$defs/node\"},{\"type\":\"null\"}]}},\"required\":[\"v\",\"next\"]}}}",
         {"{\"v\":1,\"next\":null}", "{\"v\":1,\"next\":{\"v\":2,\"next\":null}}"},
         {"{\"v\":1}", "{\"v\":1,\"next\":{}}"}},
        /* From outside, what parts and branches name is evaluated. */
        {SCHEMA,
         "{\"unevaluatedProperties\":false,\"$ref\":\"#/$defs/p\",\"properties\":{\"a\":"
         "{\"const\":1}},\"$defs\":{\"p\":{\"properties\":{\"b\":{\"const\":2}}}}}",
         {"{\"a\":1,\"b\":2}", "{}"},
         {"{\"c\":1}", "{\"a\":1,\"c\":1}"}},
        {SCHEMA,
         "{\"type\":\"object\",\"unevaluatedProperties\":false,\"anyOf\":[{"
         "\"properties\":{"
         "\"b\":{\"const\":2}},\"required\":[\"b\"]},{\"minProperties\":0}]}",
         {"{\"b\":2}", "{}"},
         {"{\"c\":3}", "{\"b\":2,\"c\":3}"}},
        {SCHEMA,
         "{\"type\":\"array\",\"items\":{\"$ref\":\"#\"}}",
         {"[]", "[[],[[]]]"},
         {"[1]"}},
        {SCHEMA,
         "{\"properties\":{\"a~/b\":{\"const\":1},\"c\":{\"$ref\":"
         "\"#/properties/a~0~1b\"}}}",
         {"{\"c\":1}"},
         {"{\"c\":2}"}},
    };
    check(all, sizeof all / sizeof *all);
}

/* anyOf of so many objects, each with a property of its own; to be freed. */
static char *wide_schema(int n_branches) {
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

static void no_branch_of_many_is_lost(void **state) {
    (void)state;
    enum { MANY = 250 };
    char *schema = wide_schema(MANY);
    cohort_grammar *grammar = compile(SCHEMA, schema);
    for (int i = 0; i < MANY; i++) {
        char text[32];
        int size = snprintf(text, sizeof text, "{ \"n%d\": 1}", i);
        cohort_matcher *matcher = match(grammar);
        if (!cohort_matcher_accept_bytes(matcher, text, (size_t)size) ||
            !cohort_matcher_is_finished(matcher))
            fail_msg("%s is refused", text);
        cohort_matcher_destroy(matcher);
    }
    cohort_grammar_release(grammar);
    free(schema);
}

/* MANY objects whose one property is each time one of MANY others: together they are more
 * readings than a matcher holds, behind the second brace. */
static void what_fits_one_of_too_many_readings_is_taken(void **state) {
    (void)state;
    enum { MANY = 40 };
    char *schema;
    size_t size;
    FILE *out = open_memstream(&schema, &size);
    assert_non_null(out);
    for (int i = 0; i < MANY; i++) {
        fputs(i ? "," : "{\"anyOf\":[", out);
        fputs("{\"properties\":{\"a\":{\"anyOf\":[", out);
        for (int j = 0; j < MANY; j++)
            fprintf(out, "%s{\"properties\":{\"k%d_%d\":{}}}", j ? "," : "", i, j);
        fputs("]}}}", out);
    }
    fputs("]}", out);
    fclose(out);
    cohort_grammar *grammar = compile(SCHEMA, schema);
    for (int i = 0; i < MANY; i++) {
        char text[64];
        int length =
            snprintf(text, sizeof text, "{\"a\":{\"k%d_%d\":1}}", i, MANY - 1 - i);
        cohort_matcher *matcher = match(grammar);
        if (!cohort_matcher_accept_bytes(matcher, text, (size_t)length) ||
            !cohort_matcher_is_finished(matcher))
            fail_msg("%s is refused", text);
        cohort_matcher_destroy(matcher);
    }
    cohort_grammar_release(grammar);
    free(schema);
}

/* ---- what is refused --------------------------------------------------------------- */

/* Constraints in wide use; each as it is written and its contrary. */
static void constraints_hold(void **state) {
    (void)state;
    static const struct expectation cases[] = {
        {SCHEMA,
         "{\"type\":\"object\",\"properties\":{\"a\":{}},\"patternProperties\":{"
         "\"^x\":{\"type\":\"integer\"},\"^a\":{\"type\":\"null\"}},"
         "\"additionalProperties\":false}",
         {"{}", "{\"x1\": 2}", "{\"a\": null,\"x\": 1}", NULL},
         {"{\"a\": 1}", "{\"x\": \"y\"}", "{\"b\": 1}", NULL}},
        {SCHEMA,
         "{\"type\":\"object\",\"propertyNames\":{\"pattern\":\"^[a-c]+$\"},"
         "\"additionalProperties\":{\"type\":\"null\"}}",
         {"{}", "{\"ab\": null}", NULL},
         {"{\"d\": null}", NULL}},
        {SCHEMA,
         "{\"type\":\"object\",\"properties\":{\"a\":{},\"b\":{},\"c\":{}},"
         "\"minProperties\":1,\"maxProperties\":2}",
         {"{\"a\": 1}", "{\"b\": 1,\"c\": 1}", NULL},
         {"{}", "{\"a\": 1,\"b\": 1,\"c\": 1}", NULL}},
        {SCHEMA,
         "{\"type\":\"object\",\"minProperties\":1}",
         {"{\"a\": 1}", "{\"b\": 1,\"c\": 1}", NULL},
         {"{}", NULL}},
        {SCHEMA,
         "{\"type\":\"integer\",\"multipleOf\":7,\"minimum\":-20}",
         {"0", "7", "-14", "700", NULL},
         {"1", "-21", "71", NULL}},
        {SCHEMA,
         "{\"type\":\"number\",\"multipleOf\":0.01,\"minimum\":0,\"maximum\":10}",
         {"0", "1.5", "9.99", "3", "0.25", NULL},
         {"0.001", "9.995", "11", NULL}},
        {SCHEMA,
         "{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"contains\":{"
         "\"minimum\":5},\"minContains\":1,\"maxContains\":2}",
         {"[5]", "[1, 6, 2]", "[7, 8]", NULL},
         {"[]", "[1]", "[5, 6, 7]", NULL}},
        {SCHEMA,
         "{\"type\":\"array\",\"uniqueItems\":true,\"items\":{\"enum\":[1,2,3]}}",
         {"[]", "[2, 1]", "[1, 2, 3]", NULL},
         {"[1, 1]", "[1, 2, 1]", NULL}},
        {SCHEMA,
         "{\"type\":\"object\",\"properties\":{\"k\":{\"enum\":[1,2]},\"v\":{"
         "\"type\":\"integer\"}},\"required\":[\"k\"],\"if\":{\"properties\":{\"k\":{"
         "\"const\":1}}},\"then\":{\"required\":[\"v\"]},\"else\":{\"properties\":{"
         "\"v\":false}}}",
         {"{\"k\": 1,\"v\": 3}", "{\"k\": 2}", NULL},
         {"{\"k\": 1}", "{\"k\": 2,\"v\": 3}", NULL}},
        {SCHEMA,
         "{\"type\":\"object\",\"properties\":{\"a\":{},\"b\":{}},"
         "\"dependentRequired\":{\"a\":[\"b\"]}}",
         {"{}", "{\"b\": 1}", "{\"a\": 1,\"b\": 1}", NULL},
         {"{\"a\": 1}", NULL}},
        {SCHEMA,
         "{\"type\":\"object\",\"properties\":{\"a\":{},\"b\":{}},"
         "\"dependentSchemas\":{\"a\":{\"properties\":{\"b\":{\"const\":1}}}}}",
         {"{\"a\": 1,\"b\": 1}", "{\"b\": 2}", NULL},
         {"{\"a\": 1,\"b\": 2}", NULL}},
        {SCHEMA,
         "{\"type\":\"string\",\"not\":{\"enum\":[\"a\",\"b\\\"\"]}}",
         {"\"\"", "\"ab\"", "\"b\"", NULL},
         {"\"a\"", "\"\\u0061\"", "\"b\\\"\"", NULL}},
        {SCHEMA,
         "{\"type\":[\"integer\",\"null\",\"boolean\"],\"not\":{\"enum\":[0,12,null,"
         "true]}}",
         {"1", "120", "false", "-12", NULL},
         {"0", "12", "null", "true", NULL}},
        {SCHEMA,
         "{\"not\":{\"type\":[\"object\",\"array\",\"string\",\"number\"]}}",
         {"null", "true", NULL},
         {"1", "\"\"", "{}", NULL}},
        {SCHEMA,
         "{\"type\":\"object\",\"properties\":{\"a\":{\"not\":{}},\"b\":{}},\"not\":{"
         "\"required\":[\"b\"]}}",
         {"{}", NULL},
         {"{\"a\": 1}", "{\"b\": 1}", NULL}},
        {SCHEMA,
         "{\"enum\":[\"a\",\"bcd\",5,9],\"minLength\":2,\"maximum\":6}",
         {"\"bcd\"", "5", NULL},
         {"\"a\"", "9", NULL}},
        {SCHEMA,
         "{\"allOf\":[{\"pattern\":\"^a\"},{\"pattern\":\"z$\"}],\"type\":\"string\"}",
         {"\"az\"", "\"abz\"", NULL},
         {"\"a\"", "\"z\"", NULL}},
        {SCHEMA,
         "{\"allOf\":[{\"properties\":{\"a\":{}},\"additionalProperties\":false},"
         "{\"properties\":{\"b\":{}}}]}",
         {"{}", "{\"a\": 1}", NULL},
         {"{\"b\": 1}", NULL}},
        /* As others do; strictly, 1 is of both. */
        {SCHEMA,
         "{\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"number\"}]}",
         {"1", "1.5", NULL},
         {"\"\"", NULL}},
    };
    check(cases, sizeof cases / sizeof *cases);
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
        {REGEX, "(a(?=b))", "look-ahead inside a group"},
        {REGEX, "a(?<!b)", "look-behind"},
        {REGEX, "(?P<x>a)(?P=x)", "reference back"},
        {REGEX, "(?>a)", "this kind of group"},
        {REGEX, "a\\b(?=b)", "beside look-ahead"},
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
        cmocka_unit_test(annotations_say_nothing),
        cmocka_unit_test(the_last_of_members_with_one_name_counts),
        cmocka_unit_test(regexes_look_ahead_and_at_words),
        cmocka_unit_test(choices_are_listed),
        cmocka_unit_test(any_object_is_json),
        cmocka_unit_test(schemas_of_plain_values),
        cmocka_unit_test(formats_are_as_their_standards),
        cmocka_unit_test(numbers_keep_their_bounds),
        cmocka_unit_test(schemas_of_arrays),
        cmocka_unit_test(schemas_of_objects),
        cmocka_unit_test(schemas_that_combine),
        cmocka_unit_test(no_branch_of_many_is_lost),
        cmocka_unit_test(what_fits_one_of_too_many_readings_is_taken),
        cmocka_unit_test(constraints_hold),
        cmocka_unit_test(what_is_not_supported_is_named),
        cmocka_unit_test(mask_is_what_is_accepted),
        cmocka_unit_test(walks_never_get_stuck_and_parse),
        cmocka_unit_test(nesting_ends_at_its_limit),
        cmocka_unit_test(special_tokens_never_pass),
    };
    return cmocka_run_group_tests(tests, open_vocabulary, close_vocabulary);
}
