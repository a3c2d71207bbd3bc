/* SPDX-License-Identifier: Apache-2.0 */
/* Patterns of `tokenizers` in PCRE2's words, on characters that the two know differently.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <utf8proc.h>

#include <cmocka.h>

#include "text/text_internal.h"

static bool matches(const char *pattern, int32_t code) {
    cohort_text out = {0};
    utf8proc_uint8_t text[4];
    int error;
    PCRE2_SIZE at;
    assert_int_equal(cohort_pattern_translate(pattern, "tokenizer.json", &out),
                     COHORT_OK);
    pcre2_code *made = pcre2_compile((PCRE2_SPTR)out.bytes, out.size,
                                     PCRE2_UTF | PCRE2_UCP, &error, &at, NULL);
    assert_non_null(made);
    pcre2_match_data *data = pcre2_match_data_create_from_pattern(made, NULL);
    int found = pcre2_match(made, text, (PCRE2_SIZE)utf8proc_encode_char(code, text), 0,
                            PCRE2_ANCHORED | PCRE2_ENDANCHORED, data, NULL);
    pcre2_match_data_free(data);
    pcre2_code_free(made);
    cohort_text_free(&out);
    return found > 0;
}

/* NEW_*: of Unicode 16, which PCRE2 of today does not know. */
enum { NEW_LETTER = 0x10d4a, NEW_DIGIT = 0x10d40, NEW_MARK = 0x897, ARABIC_3 = 0x663 };

static void characters_are_in_the_classes_of_the_reference(void **state) {
    (void)state;
    static const struct {
        const char *pattern;
        int32_t in[4], out[4];
    } cases[] = {
        {"\\p{L}", {'a', NEW_LETTER}, {'1', NEW_DIGIT, ' '}},
        {"\\pL", {'a', NEW_LETTER}, {'1', NEW_MARK}},
        {"\\P{L}", {'1', NEW_DIGIT, ' '}, {'a', NEW_LETTER}},
        {"\\p{^L}", {'1', ' '}, {'a', NEW_LETTER}},
        {"\\P{^L}", {'a', NEW_LETTER}, {'1', ' '}},
        {"[\\p{Nd}_]", {'1', ARABIC_3, NEW_DIGIT, '_'}, {'a', NEW_LETTER}},
        {"[\\P{L}]", {'1', ' '}, {'a', 0xe9}},
        {"[^\\P{L}]", {'a', 0xe9}, {'1', ' '}},
        {"[^\\s\\p{L}\\p{N}]", {'-', NEW_MARK}, {'a', '1', ' ', NEW_LETTER}},
        {"\\d", {'1', ARABIC_3, NEW_DIGIT}, {'a', 0xb2}},
        {"\\D", {'a', 0xb2}, {'1', ARABIC_3, NEW_DIGIT}},
        {"\\w", {'a', '_', 0xb2, NEW_MARK}, {' ', '-'}},
        {"\\W", {' ', '-'}, {'a', '_', 0xb2, NEW_MARK}},
        {"\\b.\\b", {'a', '_', NEW_LETTER, NEW_MARK}, {' ', '-'}},
        {"\\B.\\B", {' ', '-'}, {'a', '_', NEW_LETTER, NEW_MARK}},
        {".\\b.?", {'a', NEW_LETTER}, {' ', '-'}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int k = 0; k < 4; k++) {
            if (cases[i].in[k] && !matches(cases[i].pattern, cases[i].in[k]))
                fail_msg("%s lacks U+%04X", cases[i].pattern, (unsigned)cases[i].in[k]);
            if (cases[i].out[k] && matches(cases[i].pattern, cases[i].out[k]))
                fail_msg("%s has U+%04X", cases[i].pattern, (unsigned)cases[i].out[k]);
        }
}

static void what_cannot_be_said_is_refused(void **state) {
    (void)state;
    static const char *const patterns[] = {"\\p",   "\\p{L",  "\\p{}", "[\\W]",
                                           "[\\D]", "[a[b]]", "[a&&b]"};
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        cohort_text out = {0};
        assert_int_equal(cohort_pattern_translate(patterns[i], "t.json", &out),
                         COHORT_E_INVALID);
        assert_non_null(
            strstr(cohort_last_error()->message, "t.json: regular expression"));
        cohort_text_free(&out);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(characters_are_in_the_classes_of_the_reference),
        cmocka_unit_test(what_cannot_be_said_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
