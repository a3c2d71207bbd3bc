/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cohort/status.h"
#include "grammar/grammar.h"

#define GRAMMAR_KIND COHORT_GRAMMAR_STRUCTURAL_TAG
#include "grammar_expect.h"

#define SCHEMA(name)                                                             \
    "{\"type\":\"object\",\"properties\":{\"" name "\":{\"type\":\"boolean\"}}," \
    "\"required\":[\"" name "\"],\"additionalProperties\":false}"

static void text_is_free_up_to_a_trigger(void **state) {
    (void)state;
    const struct expectation all[] = {
        {"{\"type\":\"structural_tag\",\"triggers\":[\"<f=\"],\"structures\":["
         "{\"begin\":\"<f=a>\",\"schema\":" SCHEMA(
             "x") ",\"end\":\"</f>\"},"
                  "{\"begin\":\"<f=b>\",\"schema\":" SCHEMA("y") ",\"end\":\"</f>\"}]}",
         {"", "any <text> \xc3\xa4",
          "so <f=a>{\"x\": true}</f> and <f=b>{\"y\":false}</f>.",
          "<f<f=a>{\"x\":true}</f>", "<f=a>{\"x\":true}</f><f=a>{\"x\":true}</f>"},
         {"<f=", "<f=c>", "<f=a>{\"y\":true}</f>", "<f=a>{\"x\":true}", "a <f=a>free</f>",
          "<f=a>{\"x\":true}</f><f=b>x"}},
        /* A trigger that overlaps itself, and one that begins another. */
        {"{\"format\":{\"type\":\"triggered_tags\",\"triggers\":[\"aa\",\"b\",\"bc\"],"
         "\"tags\":["
         "{\"type\":\"tag\",\"begin\":\"aab\",\"content\":{\"type\":\"regex\","
         "\"pattern\":"
         "\"[0-9]\"},\"end\":\"!\"},{\"type\":\"tag\",\"begin\":\"bcd\",\"content\":{"
         "\"type\":"
         "\"const_string\",\"value\":\"x\"},\"end\":[\"y\",\"z\"]}]}}",
         {"a", "xaab1!a", "bcdxy", "abcdxzaab2!"},
         {"aa", "aaab1!", "b", "bc", "bcdx"}},
    };
    check(all, sizeof all / sizeof *all);
}

#define TAG_A "{\"begin\":\"<a>\",\"content\":{\"type\":\"any_text\"},\"end\":\"</a>\"}"
#define TAG_B                                                                     \
    "{\"begin\":\"<b>\",\"content\":{\"type\":\"const_string\",\"value\":\"B\"}," \
    "\"end\":\"\"}"

static void formats_are_what_they_say(void **state) {
    (void)state;
    const struct expectation all[] = {
        {"{\"format\":{\"type\":\"sequence\",\"elements\":[{\"type\":\"const_string\","
         "\"value\":"
         "\"x\"},{\"type\":\"or\",\"elements\":[{\"type\":\"regex\",\"pattern\":\"[0-9]+"
         "\"},"
         "{\"type\":\"grammar\",\"grammar\":\"root ::= \\\"(\\\" root? \\\")\\\"\"}]},"
         "{\"type\":\"json_schema\",\"json_schema\":{\"const\":1}}]}}",
         {"x(())1", "x231"},
         {"x(()1", "x", "()1"}},
        {"{\"format\":{\"type\":\"tag\",\"begin\":\"<t>\",\"content\":{\"type\":\"any_"
         "text\"},"
         "\"end\":\"</t>\"}}",
         {"<t></t>", "<t>a<b</</t>"},
         {"<t>", "<t></t>x", "<t></t></t>"}},
        {"{\"format\":{\"type\":\"triggered_tags\",\"triggers\":[\"<\"],\"tags\":[" TAG_A
         "," TAG_B "],\"at_least_one\":true}}",
         {"<a>x</a>", "<b>B and <a></a> more"},
         {"", "x<b>B", "<b>"}},
        {"{\"format\":{\"type\":\"triggered_tags\",\"triggers\":[\"<\"],\"tags\":[" TAG_A
         "," TAG_B "],\"stop_after_first\":true}}",
         {"", "free", "free<b>B", "<a>x</a>"},
         {"<b>Bx", "<b>B<b>B"}},
        {"{\"format\":{\"type\":\"triggered_tags\",\"triggers\":[\"<\"],\"tags\":[" TAG_A
         "," TAG_B "],\"stop_after_first\":true,\"at_least_one\":true}}",
         {"<b>B", "<a></a>"},
         {"", "x<b>B", "<b>B<b>B"}},
        {"{\"format\":{\"type\":\"tags_with_separator\",\"separator\":\", "
         "\",\"tags\":[" TAG_A "," TAG_B "]}}",
         {"", "<b>B", "<b>B, <a>,</a>"},
         {"<b>B,", "<b>B<b>B", "x"}},
        /* Inside a tag its end is no free text. */
        {"{\"format\":{\"type\":\"tag\",\"begin\":\"[\",\"end\":\"]\",\"content\":{"
         "\"type\":"
         "\"triggered_tags\",\"triggers\":[\"<b\"],\"tags\":[" TAG_B "]}}}",
         {"[]", "[x<b>By]"},
         {"[", "[x]y]", "[<b>]"}},
    };
    check(all, sizeof all / sizeof *all);
}

static void errors_name_the_part(void **state) {
    (void)state;
    static const struct refusal all[] = {
        {"{", "not valid JSON"},
        {"{}", "missing: 'triggers'"},
        {"{\"triggers\":[\"a\"]}", "missing: 'structures'"},
        {"{\"triggers\":[\"\"],\"structures\":[{}]}", "not empty"},
        {"{\"triggers\":[1],\"structures\":[{}]}", "must be strings"},
        {"{\"triggers\":[\"a\"],\"structures\":[{}]}", "missing: 'begin'"},
        {"{\"triggers\":[\"a\"],\"structures\":[{\"begin\":\"b\",\"end\":\"c\","
         "\"schema\":{}}]}",
         "no trigger begins the tag 'b'"},
        {"{\"triggers\":[\"a\"],\"structures\":[{\"begin\":\"a\",\"schema\":{}}]}",
         "missing: 'end'"},
        {"{\"triggers\":[\"a\"],\"structures\":[{\"begin\":\"a\",\"end\":\"c\"}]}",
         "a schema is missing"},
        {"{\"format\":{\"type\":\"qwen_xml_parameter\"}}",
         "not supported: 'qwen_xml_parameter'"},
        {"{\"format\":1}", "missing: 'type'"},
        {"{\"format\":{\"type\":\"regex\",\"pattern\":\"(\"}}", "without its )"},
        {"{\"format\":{\"type\":\"grammar\",\"grammar\":\"root ::= x\"}}",
         "line 1, column 10"},
        {"{\"format\":{\"type\":\"sequence\",\"elements\":[]}}", "missing: 'elements'"},
    };
    check_refusals(all, sizeof all / sizeof *all);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_free_up_to_a_trigger),
        cmocka_unit_test(formats_are_what_they_say),
        cmocka_unit_test(errors_name_the_part),
    };
    return cmocka_run_group_tests(tests, open_vocabulary, close_vocabulary);
}
