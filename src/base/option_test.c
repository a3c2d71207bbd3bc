/* SPDX-License-Identifier: Apache-2.0 */
#include "base/option.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "option_rows.h"

typedef enum color { RED, GREEN, BLUE } color;

typedef struct things {
    const char *text, *choice;
    const char *list[4];
    bool flag, is_green;
    color which;
    int32_t count;
    int64_t bytes;
    uint64_t seed;
    float share;
    double rate;
    int64_t patience_ns;
    double patience_s;
} things;

#define OPTIONS_OF things

static const cohort_option rows[] = {
    OPTION_TEXT("text", text, "none", "a text"),
    OPTION_WORD("choice", choice, NULL, "this|that", "a word"),
    OPTION_LIST("list", list, "one", "words"),
    OPTION_FLAG("flag", flag, NULL, "a flag"),
    OPTION_WORD("green", is_green, "red", "red|green", "a word that is a truth"),
    OPTION_WORD("color", which, "blue", "red|green|blue", "a word that is a number"),
    OPTION_ROW(COUNT, "count", count, "7", -1, 1000, "a count", .alias = "c"),
    OPTION_BYTES("bytes", bytes, "1k", 0, 0x1p60, "bytes"),
    OPTION_COUNT("seed", seed, NULL, 0, 0x1p64, "64 bits"),
    OPTION_NUMBER("share", share, "0.1", 0, 1, "a float"),
    OPTION_NUMBER("rate", rate, "0.1", 0, 1, "a double"),
    OPTION_SECONDS("patience", patience_ns, "0.25", 0.001, 1e6, "as nanoseconds"),
    OPTION_SECONDS("delay", patience_s, "2.5", 0, 1e6, "as seconds"),
    OPTION_ROW(COUNT, "length", count, "0", 0, 100, "or auto",
               .flags = COHORT_OPTION_AUTO),
};
static const cohort_option_table table = OPTION_TABLE(rows);

static const cohort_option *row(const char *name) {
    for (size_t i = 0; i < table.n; i++)
        if (!strcmp(rows[i].name, name)) return &rows[i];
    fail();
    return NULL;
}

static void every_kind_of_row_round_trips(void **state) {
    (void)state;
    expect_rows_round_trip(&table, sizeof(things));
}

static void defaults_are_what_the_rows_say(void **state) {
    (void)state;
    things it = {0};
    const cohort_option_table but_length = {rows, table.n - 1};
    cohort_options_set_defaults(&but_length, &it);
    assert_string_equal(it.text, "none");
    assert_null(it.choice);
    assert_string_equal(it.list[0], "one");
    assert_null(it.list[1]);
    assert_false(it.is_green);
    assert_int_equal(it.which, BLUE);
    assert_int_equal(it.count, 7);
    assert_int_equal(it.bytes, 1000);
    assert_true(it.share == 0.1f);
    assert_true(it.rate == 0.1);
    assert_int_equal(it.patience_ns, 250000000);
    assert_true(it.patience_s == 2.5);
}

static void whole_numbers_keep_all_their_bits(void **state) {
    (void)state;
    things it = {0};
    assert_true(cohort_option_parse(row("seed"), &it, "18446744073709551615"));
    assert_true(it.seed == UINT64_MAX);
    assert_true(cohort_option_parse(row("seed"), &it, "9007199254740993"));
    assert_true(it.seed == UINT64_C(9007199254740993));
    assert_false(cohort_option_parse(row("seed"), &it, "18446744073709551616"));
    assert_false(cohort_option_parse(row("seed"), &it, "-1"));
    assert_true(cohort_option_parse(row("bytes"), &it, "1152921504606846975"));
    assert_int_equal(it.bytes, INT64_C(1152921504606846975));
    assert_true(cohort_option_parse(row("count"), &it, "-1"));
    assert_int_equal(it.count, -1);
}

static void numbers_may_be_scaled(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int64_t value;
    } cases[] = {{"4k", 4000},          {"4K", 4096},
                 {"4Ki", 4096},         {"2.5GiB", 5 * INT64_C(536870912)},
                 {"1t", 1000000000000}, {"1e3", 1000},
                 {"2ki", 2048},         {"2kiB", 2048},
                 {"0x10", 16}};
    things it = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_true(cohort_option_parse(row("bytes"), &it, cases[i].text));
        assert_int_equal(it.bytes, cases[i].value);
    }
    assert_false(cohort_option_parse(row("bytes"), &it, "4kk"));
    assert_false(cohort_option_parse(row("bytes"), &it, "4.0001k4"));
    assert_false(cohort_option_parse(row("bytes"), &it, "inf"));
}

static void auto_is_zero_where_the_row_says_so(void **state) {
    (void)state;
    things it = {.count = 5};
    assert_true(cohort_option_parse(row("length"), &it, "AUTO"));
    assert_int_equal(it.count, 0);
    it.count = 5;
    assert_true(cohort_option_parse(row("length"), &it, "-1"));
    assert_int_equal(it.count, 0);
    assert_false(cohort_option_parse(row("length"), &it, "-2"));
    assert_false(cohort_option_parse(row("count"), &it, "auto"));
}

static void what_is_out_of_range_is_told_with_the_range(void **state) {
    (void)state;
    things it = {.count = 1001, .patience_ns = 1000000};
    assert_int_equal(cohort_options_check(&table, &it, COHORT_E_INVALID),
                     COHORT_E_INVALID);
    assert_non_null(strstr(cohort_last_error()->message,
                           "count is 1001, must be a number from -1 to 1000"));
    it.count = 100;
    assert_int_equal(cohort_options_check(&table, &it, COHORT_E_INVALID), COHORT_OK);
    it.patience_ns = 999999;
    assert_int_equal(cohort_options_check(&table, &it, COHORT_E_INVALID),
                     COHORT_E_INVALID);
    assert_non_null(
        strstr(cohort_last_error()->message, "patience is 0.000999999, must"));
}

static void what_a_row_takes_is_told_in_words(void **state) {
    (void)state;
    char text[100];
    cohort_option_describe(row("color"), text, sizeof text);
    assert_string_equal(text, "red, green or blue");
    cohort_option_describe(row("choice"), text, sizeof text);
    assert_string_equal(text, "this or that");
    cohort_option_describe(row("list"), text, sizeof text);
    assert_string_equal(text, "at most 3 words, or a JSON list of them");
    cohort_option_describe(row("bytes"), text, sizeof text);
    assert_string_equal(text, "a number from 0");
}

static void pairs_go_over_defaults_and_others_are_left(void **state) {
    (void)state;
    things it = {0};
    const cohort_option_table but_length = {rows, table.n - 1};
    const char *const pairs[] = {"fault=x",  "count=8",   "list=a", "list=b=c",
                                 "countx=9", "color=red", "flag",   NULL};
    assert_int_equal(cohort_options_from_pairs(&but_length, &it, pairs, true), COHORT_OK);
    assert_int_equal(it.count, 8);
    assert_string_equal(it.list[0], "a"); /* the default is not kept beside them */
    assert_string_equal(it.list[1], "b=c");
    assert_null(it.list[2]);
    assert_int_equal(it.which, RED);
    assert_false(it.flag);
    assert_string_equal(it.text, "none");
}

static void pairs_that_nobody_else_reads_must_have_a_row(void **state) {
    (void)state;
    static const struct {
        const char *pair, *says;
    } all[] = {{"countx=9", "there is no option countx; is its name right?"},
               {"=9", "there is no option ; is its name right?"},
               {"flag", "flag has no value: flag=VALUE is wanted"}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        things it = {0};
        const char *const pairs[] = {"count=8", all[i].pair, NULL};
        assert_int_equal(cohort_options_from_pairs(&table, &it, pairs, false),
                         COHORT_E_INVALID);
        assert_string_equal(cohort_last_error()->message, all[i].says);
    }
}

typedef struct others {
    double rate;
    const char *text;
    int32_t own;
} others;

#undef OPTIONS_OF
#define OPTIONS_OF others

static const cohort_option other_rows[] = {
    OPTION_NUMBER("rate", rate, NULL, 0, 1, NULL),
    OPTION_TEXT("text", text, NULL, NULL),
    OPTION_COUNT("own", own, NULL, 0, 9, NULL),
};

static void fields_of_one_name_are_copied(void **state) {
    (void)state;
    const cohort_option_table other = OPTION_TABLE(other_rows);
    const things from = {.rate = 0.5, .text = "t"};
    others to = {.own = 3};
    cohort_options_copy(&other, &to, &table, &from);
    assert_true(to.rate == 0.5);
    assert_string_equal(to.text, "t");
    assert_int_equal(to.own, 3);
}

static void texts_are_copied_and_freed_by_their_rows(void **state) {
    (void)state;
    char text[] = "mine";
    things it = {.text = text, .choice = "this"};
    assert_true(cohort_options_copy_texts(&table, &it));
    text[0] = 'x';
    assert_string_equal(it.text, "mine");
    assert_string_equal(it.choice, "this");
    cohort_options_free_texts(&table, &it);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_row_round_trips),
        cmocka_unit_test(defaults_are_what_the_rows_say),
        cmocka_unit_test(whole_numbers_keep_all_their_bits),
        cmocka_unit_test(numbers_may_be_scaled),
        cmocka_unit_test(auto_is_zero_where_the_row_says_so),
        cmocka_unit_test(what_is_out_of_range_is_told_with_the_range),
        cmocka_unit_test(what_a_row_takes_is_told_in_words),
        cmocka_unit_test(pairs_go_over_defaults_and_others_are_left),
        cmocka_unit_test(pairs_that_nobody_else_reads_must_have_a_row),
        cmocka_unit_test(fields_of_one_name_are_copied),
        cmocka_unit_test(texts_are_copied_and_freed_by_their_rows),
    };
    return cmocka_run_group_tests_name("base/option", tests, NULL, NULL);
}
