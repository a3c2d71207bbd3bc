/* SPDX-License-Identifier: Apache-2.0 */
#include "chat/json_text.h"

#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"

static size_t count(const cJSON *json) {
    size_t n = 1;
    const cJSON *item;
    cJSON_ArrayForEach(item, json) n += count(item);
    return n;
}

static void values_are_counted_before_they_are_parsed(void **state) {
    (void)state;
    static const char *const texts[] = {
        "7",
        "[]",
        "[1,2,3]",
        "{\"a\":{\"b\":[{},[],null]},\"c\":\"[,,,\\\",,,\"}",
        "[[[[1]]],\"\\\\\",2]",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        cJSON *json = cJSON_Parse(texts[i]);
        size_t n = count(json),
               most = cohort_chat_json_most_values(texts[i], strlen(texts[i]));
        assert_in_range(most, n, 2 * n);
        cJSON_Delete(json);
    }
    assert_int_equal(cohort_chat_json_most_values("[1,1,1,1]", 9), 5);
}

/* The value of [0] printed, its digits where it has some, or the fault. */
static const char *loaded(const char *text, size_t size) {
    static char out[512];
    cJSON *json;
    cohort_chat_json_fault fault;
    if (!cohort_chat_json_load(text, size, &json, &fault)) {
        assert_null(json);
        snprintf(out, sizeof out, "%s at %zu", fault.message, fault.position);
        return out;
    }
    const cJSON *first = cJSON_IsArray(json) ? json->child : json;
    char *printed = cJSON_PrintUnformatted(first);
    const char *digits = cJSON_IsNumber(first) ? first->valuestring : NULL;
    snprintf(out, sizeof out, "%s%s%s", printed, digits ? " " : "", digits ? digits : "");
    free(printed);
    cJSON_Delete(json);
    return out;
}

static void texts_are_as_in_python(void **state) {
    (void)state;
    static const struct {
        const char *text, *loaded;
    } cases[] = {
        {" [ {\"a\" : [ 1 , -2.5e1 ] , \"a\" : { } } ] \n", "{\"a\":[1,-25],\"a\":{}}"},
        {"[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\uDE00\"]",
         "\"\\\"\\\\/\\b\\f\\n\\r\\té😀\""},
        {"[\"a\\u0000b\"]", "\"a\xc0\x80"
                            "b\""},
        {"[1.0]", "1 1.0"},
        {"[-0]", "0"},
        {"[123456789012345]", "123456789012345"},
        {"[-1234567890123456]", "-1234567890123456 -1234567890123456"},
        {"[1e400]", "null 1e400"},
        {"[NaN]", "null NaN"},
        {"[-Infinity]", "null -Infinity"},
        {"[Infinity]", "null Infinity"},
        {"[true]", "true"},
        {"", "Expecting value at 0"},
        {"[1,]", "Expecting value at 3"},
        {"[-]", "Expecting value at 1"},
        {"[-Inf]", "Expecting value at 1"},
        {"[01]", "Expecting ',' delimiter at 2"},
        {"[1.]", "Expecting ',' delimiter at 2"},
        {"{\"a\" 1}", "Expecting ':' delimiter at 5"},
        {"{'a'}", "Expecting property name enclosed in double quotes at 1"},
        {"{\"a\":1,}", "Expecting property name enclosed in double quotes at 7"},
        {"[1] 2", "Extra data at 4"},
        {"[\"é\" 2", "Expecting ',' delimiter at 5"},
        {"{\"a\":{\"b\":[\"c", "Unterminated string starting at at 11"},
        {"[\"\\x41\"]", "Invalid \\escape at 2"},
        {"[\"\\u12\"]", "Invalid \\uXXXX escape at 3"},
        {"[\"\\ud83d\"]", "Invalid \\uXXXX escape at 2"},
        {"[\"\\ude00\\ud83d\"]", "Invalid \\uXXXX escape at 2"},
        {"[\"\xed\xa0\x80\"]", "Half a character at at 2"},
        {"[\"a\nb\"]", "Invalid control character at at 3"},
        {"[\"\xc0\x80\"]", "Invalid control character at at 2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(loaded(cases[i].text, strlen(cases[i].text)),
                            cases[i].loaded);
    assert_string_equal(loaded("[\"\0\"]", 5), "Invalid control character at at 2");
}

static void bounds_are_told_apart_from_faults(void **state) {
    (void)state;
    static char text[2 * COHORT_CHAT_JSON_MAX_DIGITS];
    cJSON *json;
    cohort_chat_json_fault fault;
    for (size_t more = 0; more < 2; more++) {
        size_t n = COHORT_CHAT_JSON_MAX_DEPTH + more;
        memset(text, '[', n);
        memset(text + n, ']', n);
        assert_int_equal(cohort_chat_json_load(text, 2 * n, &json, &fault), !more);
        if (more) assert_int_equal(fault.kind, COHORT_CHAT_JSON_UNREADABLE);
        cJSON_Delete(json);
        n = COHORT_CHAT_JSON_MAX_DIGITS + more;
        memset(text, '9', n);
        assert_int_equal(cohort_chat_json_load(text, n, &json, &fault), !more);
        if (more) assert_int_equal(fault.kind, COHORT_CHAT_JSON_UNREADABLE);
        cJSON_Delete(json);
    }
}

/* cJSON's comparison finds the first of a name. */
static bool has_repeated(const cJSON *json) {
    const cJSON *item;
    cJSON_ArrayForEach(item, json) {
        if (has_repeated(item)) return true;
        if (item->string && cJSON_GetObjectItemCaseSensitive(json, item->string) != item)
            return true;
    }
    return false;
}

/* The same as cJSON of what both take. */
static void trees_are_those_of_cjson(void **state) {
    (void)state;
    static const char *const parts[] = {"[",
                                        "]",
                                        "{",
                                        "}",
                                        ",",
                                        ":",
                                        "\"a\"",
                                        "\"b\"",
                                        "1",
                                        "-7.5",
                                        " ",
                                        "null",
                                        "\"\\u00e9\\n\""};
    enum { N = sizeof parts / sizeof *parts };
    size_t n_taken = 0;
    for (uint64_t seed = 0; seed < 200000; seed++) {
        char text[128] = "";
        for (uint64_t i = 0, n = 1 + cohort_random_u64(seed, 99) % 9; i < n; i++)
            strcat(text, parts[cohort_random_u64(seed, i) % N]);
        cJSON *ours, *theirs = cJSON_ParseWithOpts(text, NULL, true);
        cohort_chat_json_fault fault;
        bool taken = cohort_chat_json_load(text, strlen(text), &ours, &fault);
        if (taken != (theirs != NULL) ||
            (taken && !cJSON_Compare(ours, theirs, true) && !has_repeated(ours)))
            fail_msg("%s", text);
        n_taken += taken;
        cJSON_Delete(ours);
        cJSON_Delete(theirs);
    }
    assert_true(n_taken > 1000);
}

static void encodings_are_found_out(void **state) {
    (void)state;
#define BYTES(text) text, sizeof text - 1
    static const struct {
        const char *bytes;
        size_t size;
        const char *text; /* NULL: none */
    } cases[] = {
        {BYTES("{\"a\":1}"), "{\"a\":1}"},
        {BYTES("\xef\xbb\xbf[1]"), "[1]"},
        {BYTES("\xff\xfe[\0]\0"), "[]"},
        {BYTES("\xfe\xff\0[\0]"), "[]"},
        {BYTES("[\0]\0"), "[]"},
        {BYTES("\0[\0]"), "[]"},
        {BYTES("7\0"), "7"},
        {BYTES("\0"
               "7"),
         "7"},
        {BYTES("\xff\xfe\0\0[\0\0\0]\0\0\0"), "[]"},
        {BYTES("\0\0\xfe\xff\0\0\0[\0\0\0]"), "[]"},
        {BYTES("[\0\0\0]\0\0\0"), "[]"},
        {BYTES("\0\0\0[\0\0\0]"), "[]"},
        {BYTES("\xff\xfe\x3d\xd8\0\xde\xe9\0"), "😀é"},
        {BYTES("\xff\xfe\x3d\xd8[\0"), "\xed\xa0\xbd["},
        {BYTES("\xff\xfe\0\0\0\xf6\x01\0"), "\xf0\x9f\x98\x80"},
        {BYTES("\xff\xfe[\0]"), NULL},
        {BYTES("\xff\xfe\0\0\0\0\x11\0"), NULL},
        {BYTES("\"\xe9\""), NULL},
        {BYTES("\"\xc0\x80\""), NULL},
        {BYTES("\"\xed\xc0\x80\""), NULL},
        {BYTES("\"\xed\xa0\x00\""), NULL},
        {BYTES("\"\xf0\x9f\x98\""), NULL},
        {BYTES("\"\xed\xa0\x80\""), "\"\xed\xa0\x80\""},
        {BYTES(""), ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *copy;
        const char *text;
        size_t size;
        cohort_chat_json_fault fault;
        bool is_text = cohort_chat_json_decode(cases[i].bytes, cases[i].size, &copy,
                                               &text, &size, &fault);
        assert_int_equal(is_text, cases[i].text != NULL);
        if (is_text) {
            assert_int_equal(size, strlen(cases[i].text));
            assert_memory_equal(text, cases[i].text, size);
        } else {
            assert_int_equal(fault.kind, COHORT_CHAT_JSON_UNREADABLE);
            assert_null(copy);
        }
        free(copy);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_counted_before_they_are_parsed),
        cmocka_unit_test(texts_are_as_in_python),
        cmocka_unit_test(bounds_are_told_apart_from_faults),
        cmocka_unit_test(trees_are_those_of_cjson),
        cmocka_unit_test(encodings_are_found_out),
    };
    mallopt(M_PERTURB, 0x5a); /* fresh memory holds no zeros by chance */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
