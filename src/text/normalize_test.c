/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <utf8proc.h>

#include "base/random.h"
#include "text/text_internal.h"

/* Mostly marks, of every class, and what they join; else anything. */
static int32_t any_code(uint64_t seed, uint64_t at) {
    static const int32_t ranges[][2] = {
        {0x300, 0x36f},   {0x591, 0x5c7},     {0x64b, 0x65f},   {0x1dc0, 0x1dff},
        {'a', 'z'},       {0xc0, 0x17f},      {0x1100, 0x11ff}, {0xac00, 0xd7a3},
        {0xfb00, 0xfb4f}, {0x1d15e, 0x1d1ad}, {1, 0xd7ff},      {0xe000, 0x10ffff}};
    uint64_t draw = cohort_random_u64(seed, at);
    size_t kind = draw % 3 ? draw % 4 : draw / 64 % (sizeof ranges / sizeof *ranges);
    int32_t first = ranges[kind][0], last = ranges[kind][1];
    return first + (int32_t)(cohort_random_u64(~seed, at) % (uint64_t)(last - first + 1));
}

static const int forms[] = {UTF8PROC_STABLE | UTF8PROC_COMPOSE,
                            UTF8PROC_STABLE | UTF8PROC_DECOMPOSE,
                            UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
                            UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT};

static void every_form_is_that_of_utf8proc(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 4000; seed++) {
        utf8proc_uint8_t text[4 * 100];
        utf8proc_ssize_t size = 0;
        size_t n = cohort_random_u64(seed, 1000) % 100 + 1;
        for (size_t i = 0; i < n; i++)
            size += utf8proc_encode_char(any_code(seed, i), text + size);
        int flags = forms[seed % 4];
        utf8proc_uint8_t *wanted = NULL;
        utf8proc_ssize_t wanted_size =
            utf8proc_map(text, size, &wanted, (utf8proc_option_t)flags);
        cohort_text out = {0};
        cohort_status status =
            cohort_normalize_unicode(&out, (const char *)text, (size_t)size, flags);
        assert_int_equal(status, COHORT_OK);
        assert_int_equal(out.size, wanted_size);
        assert_memory_equal(out.bytes, wanted, out.size);
        free(wanted);
        cohort_text_free(&out);
    }
}

static void what_is_no_utf8_is_refused(void **state) {
    (void)state;
    static const char *const texts[] = {"\xff", "a\xc3", "\xed\xa0\x80", "a\xe2\x82"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        cohort_text out = {0};
        assert_int_equal(
            cohort_normalize_unicode(&out, texts[i], strlen(texts[i]), forms[0]),
            COHORT_E_INVALID);
        assert_int_equal(out.size, 0);
        cohort_text_free(&out);
    }
}

/* Moves that a run of n marks costs, the later classes first. */
static size_t moves_for(size_t n) {
    int32_t *codes = malloc(n * sizeof *codes), *scratch = malloc(n * sizeof *scratch);
    assert_true(codes && scratch);
    for (size_t i = 0; i < n; i++)
        codes[i] = i < n / 2 ? 0x301 : 0x323; /* classes 230 and 220 */
    size_t moves = cohort_order_marks(codes, n, scratch);
    assert_int_equal(codes[0], 0x323);
    assert_int_equal(codes[n - 1], 0x301);
    free(codes);
    free(scratch);
    return moves;
}

static void a_run_of_marks_costs_its_length(void **state) {
    (void)state;
    for (size_t n = 100; n <= 1600000; n *= 2)
        assert_true(moves_for(2 * n) <= 2 * moves_for(n));
    assert_true(moves_for(1000000) <= 1000000);
}

static void what_is_not_utf8_is_refused(void **state) {
    (void)state;
    cohort_text out = {0};
    assert_int_equal(cohort_normalize_unicode(&out, "a\xcc", 2, forms[0]),
                     COHORT_E_INVALID);
    cohort_text_free(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_form_is_that_of_utf8proc),
        cmocka_unit_test(what_is_no_utf8_is_refused),
        cmocka_unit_test(a_run_of_marks_costs_its_length),
        cmocka_unit_test(what_is_not_utf8_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
