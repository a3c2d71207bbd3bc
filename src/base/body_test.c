/* SPDX-License-Identifier: Apache-2.0 */
#include "base/body.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* What write adds to an empty body. */
#define ASSERT_WRITES(text, write)                 \
    do {                                           \
        cohort_body body = {0};                    \
        write;                                     \
        assert_string_equal(body.bytes, text);     \
        assert_int_equal(body.size, strlen(text)); \
        cohort_body_deinit(&body);                 \
    } while (0)

static void whole_numbers_are_written_in_decimal(void **unused) {
    (void)unused;
    ASSERT_WRITES("0", cohort_body_whole(&body, 0));
    ASSERT_WRITES("-7", cohort_body_whole(&body, -7));
    ASSERT_WRITES("9223372036854775807", cohort_body_whole(&body, INT64_MAX));
    ASSERT_WRITES("-9223372036854775808", cohort_body_whole(&body, INT64_MIN));
}

static void real_numbers_read_as_python_prints_them(void **unused) {
    (void)unused;
    ASSERT_WRITES("0.1", cohort_body_json_real(&body, 0.1));
    ASSERT_WRITES("1.0", cohort_body_json_real(&body, 1));
    ASSERT_WRITES("-0.0", cohort_body_json_real(&body, -0.0));
    ASSERT_WRITES("0.30000000000000004", cohort_body_json_real(&body, 0.1 + 0.2));
    ASSERT_WRITES("-9999.0", cohort_body_json_real(&body, -INFINITY));
    ASSERT_WRITES("-9999.0", cohort_body_json_real(&body, NAN));
}

static void texts_are_json_whatever_their_bytes_are(void **unused) {
    (void)unused;
    static const struct {
        const char *bytes;
        size_t size;
        const char *json;
    } cases[] = {
        {"", 0, "\"\""},
        {"a\"\\/", 4, "\"a\\\"\\\\/\""},
        {"\b\f\n\r\t\x01\x7f", 7, "\"\\b\\f\\n\\r\\t\\u0001\x7f\""},
        {"a\0b", 3, "\"a\\u0000b\""},
        {"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", 9,
         "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\""},
        /* No UTF-8: alone, cut, overlong, half of a pair, beyond U+10FFFF. */
        {"\x80", 1, "\"\xef\xbf\xbd\""},
        {"\xe2\x82", 2, "\"\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\xc0\xaf", 2, "\"\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\xed\xa0\x80", 3, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\xf4\x90\x80\x80", 4, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\xc3(", 2, "\"\xef\xbf\xbd(\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ASSERT_WRITES(cases[i].json,
                      cohort_body_json(&body, cases[i].bytes, cases[i].size));
    ASSERT_WRITES("null", cohort_body_json_or_null(&body, NULL));
    ASSERT_WRITES("\"a\"", cohort_body_json_or_null(&body, "a"));
}

static void nothing_that_controls_is_printed(void **unused) {
    (void)unused;
    ASSERT_WRITES("a\\x1b[1m\\x0a", cohort_body_printable(&body, "a\x1b[1m\n"));
    ASSERT_WRITES("\\u0085\\u202e\\u2028",
                  cohort_body_printable(&body, "\xc2\x85\xe2\x80\xae\xe2\x80\xa8"));
    ASSERT_WRITES("\xc3\xa4\\xff", cohort_body_printable(&body, "\xc3\xa4\xff"));
}

static void ids_are_a_list(void **unused) {
    (void)unused;
    static const int32_t ids[] = {0, -1, INT32_MAX};
    ASSERT_WRITES("[]", cohort_body_json_ids(&body, NULL, 0));
    ASSERT_WRITES("[0,-1,2147483647]", cohort_body_json_ids(&body, ids, 3));
}

static void it_grows_as_it_is_written(void **unused) {
    (void)unused;
    cohort_body body = {0};
    for (int i = 0; i < 10000; i++) {
        cohort_body_printf(&body, "%04d", i);
        assert_int_equal(body.size, 4 * (i + 1));
        assert_int_equal(body.bytes[body.size], '\0');
    }
    for (int i = 0; i < 10000; i += 97) {
        char wanted[5] = "";
        for (int k = 3, left = i; k >= 0; k--, left /= 10)
            wanted[k] = (char)('0' + left % 10);
        assert_memory_equal(body.bytes + 4 * (size_t)i, wanted, 4);
    }
    cohort_body_deinit(&body);
    assert_null(body.bytes);
    assert_int_equal(body.size, 0);
}

static void nothing_is_added_once_memory_was_short(void **unused) {
    (void)unused;
    cohort_body body = {0};
    cohort_body_puts(&body, "a");
    body.is_short = true;
    cohort_body_puts(&body, "b");
    cohort_body_whole(&body, 7);
    cohort_body_json(&body, "c", 1);
    assert_string_equal(body.bytes, "a");
    cohort_body_deinit(&body);
    assert_false(body.is_short);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_numbers_are_written_in_decimal),
        cmocka_unit_test(real_numbers_read_as_python_prints_them),
        cmocka_unit_test(texts_are_json_whatever_their_bytes_are),
        cmocka_unit_test(nothing_that_controls_is_printed),
        cmocka_unit_test(ids_are_a_list),
        cmocka_unit_test(it_grows_as_it_is_written),
        cmocka_unit_test(nothing_is_added_once_memory_was_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
