/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/suggest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const char *nearest(const char *word, const char *words) {
    static cli_suggestion near;
    near = (cli_suggestion){.word = word};
    cli_suggest_words(&near, words);
    return cli_suggested(&near);
}

static void a_slip_finds_its_word(void **state) {
    (void)state;
    static const char words[] = "serve|generate|stat|chat|max-num-seqs|max-num-waiting";
    assert_string_equal(nearest("sevre", words), "serve"); /* two swapped */
    assert_string_equal(nearest("srve", words), "serve");  /* one missing */
    assert_string_equal(nearest("sserve", words), "serve");
    assert_string_equal(nearest("SERVE", words), "serve");
    assert_string_equal(nearest("start", words), "stat");
    assert_string_equal(nearest("generat", words), "generate");
    assert_string_equal(nearest("max_num_seq=3", words), "max-num-seqs"); /* a value */
    assert_string_equal(nearest("stat", words), "stat"); /* the first of the nearest */
}

static void what_is_like_none_finds_none(void **state) {
    (void)state;
    assert_null(nearest("frobnicate", "serve|generate|stat"));
    assert_null(nearest("x", "uni|mp|ray"));
    assert_null(nearest("", "a|b"));
    assert_null(cli_suggested(&(cli_suggestion){.word = "serve"})); /* of no words */
    char longest[2 * CLI_SUGGESTION_BYTES];
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    assert_null(nearest(longest, "a"));
    assert_null(nearest("a", longest));
    longest[CLI_SUGGESTION_BYTES - 1] = '\0'; /* the longest that fits */
    assert_string_equal(nearest(longest, longest), longest);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slip_finds_its_word),
        cmocka_unit_test(what_is_like_none_finds_none),
    };
    return cmocka_run_group_tests_name("cli/suggest", tests, NULL, NULL);
}
