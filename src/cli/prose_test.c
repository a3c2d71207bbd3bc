/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/prose.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* What is written of the text, given piece by piece. */
static void expect(const char *text, size_t piece, int columns, const char *wanted) {
    char *got = NULL;
    size_t size = 0;
    cli_prose self = {.out = open_memstream(&got, &size), .columns = columns};
    for (size_t at = 0, n = strlen(text); at < n; at += piece) {
        char part[200];
        snprintf(part, sizeof part, "%.*s", (int)(piece < 100 ? piece : 100), text + at);
        cli_prose_put(&self, part, false);
    }
    cli_prose_end(&self);
    fclose(self.out);
    assert_string_equal(got, wanted);
    free(got);
}

static void lines_break_between_words(void **state) {
    (void)state;
    expect("abc def", 1, 7, "abc def");
    expect("abc defg", 1, 7, "abc def\033[2D\033[K\ndefg"); /* the word moves */
    expect("abc def gh", 1, 7, "abc def\ngh");              /* the space is the break */
    expect("abcdefghi", 1, 4, "abcd\nefgh\ni");             /* there is no other place */
    expect("ab\ncd ef", 1, 5, "ab\ncd ef");
    expect("\xe4\xbd\xa0\xe5\xa5\xbd a", 100, 4,
           "\xe4\xbd\xa0\xe5\xa5\xbd\na"); /* wide */
    char word[260] = "", wanted[300];      /* of which 257 are kept where they are */
    memset(word, 'a', 259);
    snprintf(wanted, sizeof wanted, "%.258s\033[K\naa", word);
    expect(word, 1, 258, wanted);
}

static void code_does_not_break(void **state) {
    (void)state;
    expect("```c\na b c d e f\n```\nabc defg", 1, 7,
           "```c\na b c d e f\n```\nabc def\033[2D\033[K\ndefg");
}

static void nothing_commands_the_terminal(void **state) {
    (void)state;
#define MARK "\xef\xbf\xbd"
    expect("a\033[31mb\007\010\x7f\r\nc", 100, 40, "a" MARK "[31mb" MARK MARK MARK "\nc");
    expect("a\xc2\x9b"
           "31m\xe2\x80\xae",
           100, 40, "a" MARK "31m" MARK); /* CSI, turned */
    expect("a\xff", 100, 40, "a" MARK);
    expect("a\tb", 1, 40, "a    b");
}

static void thoughts_are_dim(void **state) {
    (void)state;
    for (size_t piece = 1; piece < 30; piece++)
        expect("\n<think>a <b</think>c <think>", piece, 40,
               "\n\033[2ma <b\033[0mc <think>"); /* within the answer it is a word */
    expect("<thin", 1, 40, "<thin");
    expect("<<think>a", 1, 40, "<<think>a");
    expect("<think>a", 1, 40, "\033[2ma\033[0m"); /* broken off */
    expect("<\xc3\xa9", 100, 40, "<\xc3\xa9");
    char *got = NULL;
    size_t size = 0;
    cli_prose self = {.out = open_memstream(&got, &size), .columns = 40};
    cli_prose_put(&self, "so", true);
    cli_prose_put(&self, " then", true);
    cli_prose_put(&self, "yes", false);
    cli_prose_end(&self);
    fclose(self.out);
    assert_string_equal(got, "\033[2mso then\033[0m\n\nyes");
    free(got);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_break_between_words),
        cmocka_unit_test(code_does_not_break),
        cmocka_unit_test(nothing_commands_the_terminal),
        cmocka_unit_test(thoughts_are_dim),
    };
    return cmocka_run_group_tests_name("cli/prose", tests, NULL, NULL);
}
