/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cohort/status.h"
#include "grammar/grammar.h"

#define GRAMMAR_KIND COHORT_GRAMMAR_LARK
#include "grammar_expect.h"

static void parts_match_what_they_say(void **state) {
    (void)state;
    const struct expectation all[] = {
        {"start: \"yes\" | \"no\"", {"yes", "no"}, {"", "ye", "yesno"}},
        {"// one\nstart: A b~2 # two\n     | b [A]\nA: \"a\" \"c\"\nb: \"b\"",
         {"acbb", "b", "bac"},
         {"acb", "a", ""}},
        {"start: \"select\"i", {"select", "SeLECT"}, {"selec"}},
        {"start: \"\\u00e4\\n\"i", {"\xc3\xa4\n", "\xc3\x84\n"}, {"\xc3\xa4"}},
        {"start: (\"a\"..\"c\" | \"0\" .. \"1\")+", {"a", "cb01"}, {"", "d", "2"}},
        {"start: \"a\"~2..3 \"b\" ~ 1 \"c\"{2,3}",
         {"aabcc", "aaabccc"},
         {"abcc", "aabc"}},
        {"start: /[a-z]+\\/\\d{2}/ | /x.y/s | /k[q-s]/i",
         {"ab/12", "x\ny", "KR", "kq"},
         {"ab/1", "xy", "kt"}},
        {"?start: sum -> top\n!sum: sum \"+\" N -> add | N\nN.2: /[0-9]/",
         {"1", "1+2+3"},
         {"1+", "+1", "12"}},
        {"list: \"[\" [item (\",\" item)*] \"]\"\nitem: list | \"x\"",
         {"[]", "[x,[x,x]]"},
         {"[x", "x"}},
        {"%llguidance {\"a\": 1}\nstart: \"a\"?", {"", "a"}, {"aa"}},
        {"%llguidance {}\n\nstart: a\na[capture, temperature=0.5, max_tokens=20]: "
         "A\nA: /(?s:.*)/\n",
         {"", "x\ny"},
         {"\xff"}},
        {"start: \"<\" %json {\"type\": \"object\", \"properties\":\n {\"a\": {\"enum\": "
         "[1]}}, \"required\": [\"a\"]} \">\" | [d]\nd: %json {\"const\": []}+",
         {"<{\"a\": 1}>", "[]", "[][]", ""},
         {"<{}>", "{\"a\": 1}"}},
        {"start: b[A]\nb[capture=\"x\"]: \"b\"\nA: \"a\"", {"b", "ba"}, {"a"}},
    };
    check(all, sizeof all / sizeof *all);
}

/* What is ignored stands between terminals, not in them. */
static void what_is_ignored_may_stand_between(void **state) {
    (void)state;
    const struct expectation all[] = {
        {"start: A \"b\"\nA: \"a\" \"a\"\n%ignore \" \"+ | \"\\t\"\n%ignore "
         "/#[^\\n]*\\n/",
         {"aab", " aa  \tb ", "aa#x\nb"},
         {"a ab", "aa\nb"}},
        {"%import common.SIGNED_NUMBER\n%import common (WS, ESCAPED_STRING)\n"
         "%import common.CNAME -> NAME\nstart: (NAME \"=\" value \";\")+\n"
         "value: SIGNED_NUMBER | ESCAPED_STRING\n%ignore WS",
         {"a=1;", "a = -1.5e3 ; b_2=\"x\\\"y\" ;", "\n a = .5;"},
         {"a=;", "2=1;", "a=1 .5;", "a=\"x\n\";"}},
        {"%import common.C_COMMENT\nstart: \"a\" C_COMMENT", {"a/* x **/"}, {"a/*/"}},
    };
    check(all, sizeof all / sizeof *all);
}

/* Counted by who asks for masks. */
static void tokens_of_the_whole_text_may_be_limited(void **state) {
    (void)state;
    static const struct {
        const char *grammar;
        int32_t most;
    } all[] = {
        {"start: a // all\na[max_tokens=20]: /.*/", 20},
        {"a[max_tokens=7, capture]: /.*/", 7},
        {"a[max_tokens=100000]: /.*/", 100000},
        {"a[max_tokens=99999999999999999999]: /.*/", INT32_MAX},
        {"start: /.*/", 0},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        cohort_grammar *grammar = NULL;
        assert_int_equal(cohort_grammar_compile(COHORT_GRAMMAR_LARK, all[i].grammar,
                                                strlen(all[i].grammar), &grammar),
                         COHORT_OK);
        assert_int_equal(cohort_grammar_max_tokens(grammar), all[i].most);
        cohort_grammar_release(grammar);
    }
}

static void errors_say_where(void **state) {
    (void)state;
    static const struct refusal all[] = {
        {"// nothing", "line 1, column 11: there is no rule to begin at"},
        {"start: \"a\"\n  | bee", "line 2, column 5: rule 'bee' is not defined"},
        {"start: A", "rule 'A' is not defined"},
        {"start: \"a\"\nstart: \"b\"", "line 2, column 1: rule 'start' is defined twice"},
        {"start: \"a", "line 1, column 8: a string without its closing"},
        {"start: /a", "line 1, column 8: a / without its closing /"},
        {"start: \"b\"\n  /(a/", "line 2, column 3: regex '(a': a ( without its )"},
        {"start: /a/x", "line 1, column 11: flag 'x'"},
        {"start: (\"a\"", "line 1, column 8: a group without its )"},
        {"start: [\"a\"", "line 1, column 8: a group without its ]"},
        {"start: \"a\")", "line 1, column 11: a ) without its beginning"},
        {"start: * \"a\"", "line 1, column 8: '*' means nothing here"},
        {"start: \"a\" ~ x", "~n or ~n..m"},
        {"start: \"a\"~3..2", "~n or ~n..m"},
        {"start: \"ab\"..\"z\"", "line 1, column 12: '.' means nothing here"},
        {"start: \"z\"..\"a\"", "line 1, column 8: a range must be"},
        {"start = \"a\"", "line 1, column 1: a rule (name: ...) is wanted"},
        {"start: sep{\"a\", \",\"}", "line 1, column 11: templates are not supported"},
        {"sep{x, y}: x (y x)*\nstart: \"a\"", "line 1, column 4: templates are not"},
        {"start: \"a\"\n%declare A", "line 2, column 1: %declare is not supported"},
        {"%import python.NAME", "anything but common"},
        {"%import common.PIZZA", "line 1, column 16: no terminal of common is 'PIZZA'"},
        {"start: A\nA: b\nb: \"b\"",
         "line 2, column 4: a terminal cannot be made of the"},
        {"start: \"a\" ->", "line 1, column 12: a name is wanted"},
        {"start: a\na: b \"x\"\nb: a | \"y\"", "begins with itself by way"},
        {"start: %json [1]", "line 1, column 14: %json {...} is wanted"},
        {"start: A\nA: %json {}", "%json in a terminal is not supported"},
        {"start: %json {\"type\": 1}", "type"},
        {"start: start", "rule 'start' has nothing but itself"},
        {"start: \"x\" a\na[max_tokens=9]: /.*/",
         "line 2, column 3: max_tokens of a part of the text is not supported"},
        {"start: a\na[max_tokens=x]: /.*/", "line 2, column 3: max_tokens=n is wanted"},
        {"start: a\na[max_tokens=0]: /.*/", "line 2, column 3: max_tokens=n is wanted"},
        {"start: a\na[max_tokens=]: /.*/", "line 2, column 3: max_tokens=n is wanted"},
        {"start: a\na[stop=\"x\"]: /.*/", "line 2, column 3: attribute 'stop' of a rule"},
    };
    check_refusals(all, sizeof all / sizeof *all);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_match_what_they_say),
        cmocka_unit_test(what_is_ignored_may_stand_between),
        cmocka_unit_test(tokens_of_the_whole_text_may_be_limited),
        cmocka_unit_test(errors_say_where),
    };
    return cmocka_run_group_tests(tests, open_vocabulary, close_vocabulary);
}
