/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/config_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static cli_config_words words;
static char said[1000]; /* on standard error */

static bool read_yaml(const char *yaml) {
    char path[] = "/tmp/cohort-config-XXXXXX", *text = NULL;
    size_t size = 0;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, yaml, strlen(yaml)), strlen(yaml));
    close(fd);
    FILE *console = stderr;
    stderr = open_memstream(&text, &size);
    bool is_read = cli_config_read(path, &words);
    fclose(stderr);
    stderr = console;
    snprintf(said, sizeof said, "%s", text);
    free(text);
    unlink(path);
    return is_read;
}

/* The one word that an entry becomes; NULL: none. */
static void expect_word(const char *yaml, const char *word) {
    assert_true(read_yaml(yaml));
    assert_int_equal(words.n, word != NULL);
    if (word) assert_string_equal(words.items[0], word);
}

/* By the rules of YAML 1.1, but that numbers with a point keep their spelling. */
static void scalars_mean_what_pyyaml_takes_them_for(void **state) {
    (void)state;
    static const struct {
        const char *yaml, *word;
    } cases[] = {
        {"a: 1_000", "--a=1000"},  {"a: 0x1F", "--a=31"},
        {"a: 0b101", "--a=5"},     {"a: 010", "--a=8"},
        {"a: -7", "--a=-7"},       {"a: +7", "--a=7"},
        {"a: 0", "--a=0"},         {"a: _1", "--a=_1"},
        {"a: 0.50", "--a=0.50"},   {"a: 1e3", "--a=1e3"},
        {"a: 4k", "--a=4k"},       {"a: yes", "--a=true"},
        {"a: Off", "--a=false"},   {"a: \"yes\"", "--a=yes"},
        {"a: 'no'", "--a=no"},     {"a: '010'", "--a=010"},
        {"a: yEs", "--a=yEs"},     {"a: ~", NULL},
        {"a: null", NULL},         {"a:", NULL},
        {"a: \"\"", "--a="},       {"a: None", "--a=None"},
        {"a: x=y z", "--a=x=y z"}, {"a_b-c: |\n  two\n  lines\n", "--a_b-c=two\nlines\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_word(cases[i].yaml, cases[i].word);
}

static void mappings_are_json_and_lists_are_words(void **state) {
    (void)state;
    expect_word("a: {b: 1, c: [x, true, null, 0.5, 0x10], d: {}}",
                "--a={\"b\":1,\"c\":[\"x\",true,null,0.5,16],\"d\":{}}");
    expect_word("a: {b: '1'}", "--a={\"b\":\"1\"}");
    expect_word("a: []", NULL);
    assert_true(read_yaml("a: &x 1\nb: {c: *x}\n"));
    assert_int_equal(words.n, 2);
    assert_string_equal(words.items[1], "--b={\"c\":1}");
    assert_true(read_yaml("a: [x, 2, {b: no}]\nc: 1\n"));
    assert_int_equal(words.n, 4);
    assert_string_equal(words.items[0], "--a=x");
    assert_string_equal(words.items[1], "--a=2");
    assert_string_equal(words.items[2], "--a={\"b\":false}");
    assert_string_equal(words.items[3], "--c=1");
}

static void what_is_no_list_of_options_is_told_with_its_line(void **state) {
    (void)state;
    static const struct {
        const char *yaml, *what;
    } cases[] = {
        {"- a\n", "line 1: options are wanted"},
        {"a\n", "line 1: options are wanted"},
        {"a: 1\n[b]: 2\n", "line 2: a key must be a word"},
        {"a: {[b]: 1}\n", "line 1: a key must be a word"},
        {"a: 1\nb: [\n", "line 3"},
        {"a: 'x\n", "line 2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_false(read_yaml(cases[i].yaml));
        if (!strstr(said, cases[i].what))
            fail_msg("'%s' does not say '%s'", said, cases[i].what);
    }
    assert_true(read_yaml(""));
    assert_int_equal(words.n, 0);
    assert_false(cli_config_read("/nowhere/at.yaml", &words));
}

/* One more than there is room for is refused, and not left out. */
static void too_many_options_are_refused(void **state) {
    (void)state;
    char yaml[8 * CLI_MAX_CONFIG_WORDS + 16] = "a: [";
    for (int i = 0; i < CLI_MAX_CONFIG_WORDS; i++)
        strcat(yaml, "x,");
    strcat(yaml, "]");
    assert_true(read_yaml(yaml));
    assert_int_equal(words.n, CLI_MAX_CONFIG_WORDS);
    strcpy(yaml + strlen(yaml) - 1, "x]");
    assert_false(read_yaml(yaml));
    assert_non_null(strstr(said, "too many options"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalars_mean_what_pyyaml_takes_them_for),
        cmocka_unit_test(mappings_are_json_and_lists_are_words),
        cmocka_unit_test(what_is_no_list_of_options_is_told_with_its_line),
        cmocka_unit_test(too_many_options_are_refused),
    };
    return cmocka_run_group_tests_name("cli/config_file", tests, NULL, NULL);
}
