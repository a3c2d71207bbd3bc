/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/line.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static cli_line line;

static cli_line_event feed(const char *keys) {
    cli_line_event last = CLI_LINE_NOTHING;
    for (const char *c = keys; *c; c++)
        last = cli_line_feed(&line, (unsigned char)*c);
    return last;
}

/* What the keys make of an empty line; where the cursor is shows as '|'. */
static void expect(const char *keys, const char *wanted) {
    char shown[200];
    cli_line_begin(&line);
    feed(keys);
    snprintf(shown, sizeof shown, "%.*s|%s", (int)line.at, line.text,
             line.text + line.at);
    assert_string_equal(shown, wanted);
}

static int deinit(void **state) {
    (void)state;
    cli_line_deinit(&line);
    line = (cli_line){0};
    return 0;
}

static void keys_are_those_of_shells(void **state) {
    (void)state;
    expect("abc", "abc|");
    expect("abc\001x", "x|abc");
    expect("abc\002\002x\005y", "axbcy|");
    expect("abc\033[D\033[Dx\033[C\033[Fy", "axbcy|");
    expect("abc\177\010", "a|");
    expect("abc\001\004", "|bc");
    expect("abc\001\033[3~", "|bc");
    expect("ab cd  \027", "ab |");
    expect("ab cd\002\013x\031", "ab cxd|");
    expect("ab cd\025\031\031", "ab cdab cd|");
    expect("ab cd\033b\033bx\033fy", "xaby| cd");
    expect("ab cd\033[1;5Dx", "ab x|cd");
    expect("a\tb", "a b|");
    expect("a\007\033[99zb\033Pc", "abc|"); /* what means nothing */
    expect("ab\033\033[Dx", "ax|b");        /* ESC, then an arrow */
    expect("\001\002\010\004\013\027", "|");
}

static void a_character_is_one_whatever_its_bytes(void **state) {
    (void)state;
    expect("h\xc3\xa9\xe4\xbd\xa0\xf0\x9f\x99\x82\002\177", "h\xc3\xa9|\xf0\x9f\x99\x82");
    cli_line_begin(&line);
    assert_int_equal(feed("\xe4\xbd"), CLI_LINE_NOTHING); /* not whole yet */
    assert_int_equal(feed("\xa0"), CLI_LINE_APPENDED);
    assert_int_equal(feed("\001x"), CLI_LINE_CHANGED);
    cli_line_begin(&line);
    assert_int_equal(feed("\xe4"), CLI_LINE_NOTHING);
    assert_int_equal(feed("a"), CLI_LINE_APPENDED); /* it broke off */
}

static void what_is_pasted_is_text(void **state) {
    (void)state;
    expect("a\033[200~b\nc\r\001d\n\033[201~e", "ab\nc\n\001de|");
    expect("\033[200~\033[A\033[201~x", "\033[Ax|");
    expect("a\033\nb", "a\nb|"); /* Alt-Enter */
    cli_line_begin(&line);
    assert_int_equal(feed("\033[200~a\nb"), CLI_LINE_NOTHING);
    assert_int_equal(feed("\033[201~"), CLI_LINE_CHANGED);
    assert_int_equal(feed("\n"), CLI_LINE_DONE);
    assert_string_equal(line.text, "a\nb");
    cli_line_begin(&line);
    assert_int_equal(feed("\004"), CLI_LINE_END);
}

static void earlier_lines_come_back(void **state) {
    (void)state;
    cli_line_remember(&line, "one");
    cli_line_remember(&line, "two");
    cli_line_remember(&line, "two"); /* once */
    expect("new\033[A", "two|");
    expect("new\020\020", "one|");
    expect("new\020\020\020", "one|");
    expect("new\020\020\016\016", "new|");
    expect("new\016", "new|");
    expect("\020x", "twox|");
    expect("\020", "two|"); /* as it was said */
}

static void history_outlives_the_command(void **state) {
    (void)state;
    char path[] = "/tmp/cohort-line-XXXXXX";
    close(mkstemp(path));
    unlink(path);
    assert_true(cli_line_load_history(&line, path)); /* there is none yet */
    cli_line_remember(&line, "a\nb \\n");
    cli_line_remember(&line, "c");
    assert_true(cli_line_save_history(&line, path));
    struct stat found;
    assert_int_equal(stat(path, &found), 0);
    assert_int_equal(found.st_mode & 0777, 0600);
    deinit(NULL);
    assert_true(cli_line_load_history(&line, path));
    expect("\020", "c|");
    expect("\020\020", "a\nb \\n|");
    for (int i = 0; i < CLI_LINE_HISTORY; i++) {
        char text[20];
        snprintf(text, sizeof text, "%d", i);
        cli_line_remember(&line, text);
    }
    assert_int_equal(line.n_history, CLI_LINE_HISTORY);
    assert_string_equal(line.history[0], "0");
    assert_false(cli_line_save_history(&line, "/nowhere/there"));
    assert_int_equal(chmod(path, 0644), 0);
    assert_true(cli_line_append_history(path, "d\ne"));
    assert_int_equal(stat(path, &found), 0);
    assert_int_equal(found.st_mode & 0777, 0600);
    deinit(NULL);
    assert_true(cli_line_load_history(&line, path));
    expect("\020", "d\ne|");
    expect("\020\020", "c|");
    unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(keys_are_those_of_shells, deinit),
        cmocka_unit_test_teardown(a_character_is_one_whatever_its_bytes, deinit),
        cmocka_unit_test_teardown(what_is_pasted_is_text, deinit),
        cmocka_unit_test_teardown(earlier_lines_come_back, deinit),
        cmocka_unit_test_teardown(history_outlives_the_command, deinit),
    };
    return cmocka_run_group_tests_name("cli/line", tests, NULL, NULL);
}
