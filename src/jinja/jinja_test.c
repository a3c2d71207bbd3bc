/* SPDX-License-Identifier: Apache-2.0 */
#include "jinja/jinja.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

/* head, n times link, tail: the caller frees. */
static char *chain(const char *head, const char *link, size_t n, const char *tail) {
    size_t length = strlen(link), at = strlen(head);
    char *text = malloc(at + length * n + strlen(tail) + 1);
    assert_non_null(text);
    memcpy(text, head, at);
    for (size_t i = 0; i < n; i++, at += length)
        memcpy(text + at, link, length);
    strcpy(text + at, tail);
    return text;
}

/* Compiles and renders; what goes wrong must be the depth, or what so long a text takes.
 */
static bool is_shallow(const char *source, const char *variables) {
    cohort_jinja *compiled;
    char *text = NULL;
    size_t size;
    cJSON *json = cJSON_Parse(variables);
    assert_non_null(json);
    cohort_status status = cohort_jinja_compile(source, strlen(source), &compiled);
    if (status >= 0) status = cohort_jinja_render(compiled, json, 0, &text, &size);
    if (status < 0 && !strstr(cohort_last_error()->message, "nested deeper") &&
        !strstr(cohort_last_error()->message, "MiB of memory"))
        fail_msg("%.80s...: %s", source, cohort_last_error()->message);
    cohort_jinja_destroy(compiled);
    cJSON_Delete(json);
    free(text);
    return status >= 0;
}

/* Strangers write templates: none may be so deep that walking it ends the process, also
 * where the parser reads it without going deeper. */
static void chains_in_templates_are_bounded(void **state) {
    enum { LONG_BYTES = 400 << 10 };
    static const struct {
        const char *head, *link, *tail;
        size_t least, most; /* links that are fine, and that are not */
    } cases[] = {
        {"{{ a", "|d", " }}", 190, 200},
        {"{{ a", "|d()", " }}", 190, 200},
        {"{{ a", ".b", " if false }}", 190, 200},
        {"{{ a", "[b]", " if false }}", 190, 200},
        {"{{ a", "[:1]", " if false }}", 190, 200},
        {"{{ a", "()", " if false }}", 190, 200},
        {"{{ 1", "+1", " }}", 190, 200},
        {"{{ 1", "-1", " }}", 190, 200},
        {"{{ 1", "*1", " }}", 190, 200},
        {"{{ 1", "**1", " }}", 190, 200},
        {"{{ 1", " or 1", " }}", 190, 200},
        {"{{ 1", " and 1", " }}", 190, 200},
        {"{{ 1", " if 1", " }}", 190, 200},
        {"{{ 1", " if 1 else 1", " }}", 190, 200},
        {"{{ ", "not ", "1 }}", 190, 200},
        {"{{ ", "-", "1 }}", 190, 200},
        {"{% filter d", "|d", " %}{% endfilter %}", 190, 200},
        {"{% set x | d", "|d", " %}{% endset %}", 190, 200},
        {"{% if 0 %}", "{% elif 0 %}", "{% endif %}", 60, 200},
        {"", "{% if 1 %}", "", 0, 200},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t n_long = LONG_BYTES / strlen(cases[i].link);
        const size_t counts[] = {cases[i].least, cases[i].most, n_long};
        for (size_t c = cases[i].least ? 0 : 1; c < 3; c++) {
            char *text = chain(cases[i].head, cases[i].link, counts[c], cases[i].tail);
            if (is_shallow(text, "{}") != (c == 0))
                fail_msg("%zu times %s", counts[c], cases[i].link);
            free(text);
        }
    }
    for (size_t n = 90; n < LONG_BYTES / 2; n *= 10) {
        char *opened = chain("{{ ", "[", n, "1");
        char *closed = chain(opened, "]", n, " }}");
        assert_int_equal(is_shallow(closed, "{}"), n == 90);
        free(closed);
        free(opened);
    }
    /* These are one node, however many parts they have. */
    char *parts = chain("{{ 1", "~1", 50000, " }}");
    char *signs = chain("{{ 1", "<2", 50000, " }}");
    assert_true(is_shallow(parts, "{}"));
    assert_true(is_shallow(signs, "{}"));
    free(parts);
    free(signs);
}

static void what_is_left_out_is_refused_by_name(void **state) {
    (void)state;
    static const struct {
        const char *source, *named;
    } cases[] = {
        {"{% include 'a' %}", "'include'"},
        {"{% extends 'a' %}", "'extends'"},
        {"{% import 'a' as b %}", "'import'"},
        {"{% from 'a' import b %}", "'from'"},
        {"{% block a %}{% endblock %}", "'block'"},
        {"{% autoescape true %}{% endautoescape %}", "'autoescape'"},
        {"{% do a.b() %}", "'do'"},
        {"{{ a | urlize }}", "'urlize'"},
        {"{{ a | pprint }}", "'pprint'"},
        {"{{ a is nope }}", "'nope'"},
        {"{% for a, (b, c) in d %}{% endfor %}", "targets in targets"},
        {"{% set a, (b, c) = d %}", "targets in targets"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cohort_jinja *compiled;
        const char *source = cases[i].source;
        assert_int_equal(cohort_jinja_compile(source, strlen(source), &compiled),
                         COHORT_E_INVALID);
        if (!strstr(cohort_last_error()->message, cases[i].named))
            fail_msg("%s: %s", source, cohort_last_error()->message);
    }
}

/* A part that is filled up has room for what fills it. */
static void parts_are_filled_up(void **state) {
    (void)state;
    static const char source[] =
        "{% set a = range(9) | batch(8, 'x') | list %}{% set b = [7] | batch(40, 0) | "
        "list "
        "%}{{ a }}{{ b[0] | length }}{{ range(4) | slice(3, 'y') | list }}";
    cohort_jinja *compiled;
    cJSON *json = cJSON_CreateObject();
    char *text = NULL;
    size_t size;
    assert_int_equal(cohort_jinja_compile(source, strlen(source), &compiled), COHORT_OK);
    assert_int_equal(cohort_jinja_render(compiled, json, 0, &text, &size), COHORT_OK);
    assert_string_equal(text, "[[0, 1, 2, 3, 4, 5, 6, 7], [8, 'x', 'x', 'x', 'x', 'x', "
                              "'x', 'x']]40[[0, 1], [2, 'y'], [3, 'y']]");
    free(text);
    cohort_jinja_destroy(compiled);
    cJSON_Delete(json);
}

/* Values that a template makes, and those that it is given. */
static void deep_values_are_bounded(void **state) {
    (void)state;
    static const char *const makers[] = {
        "{% set ns = namespace(a=[1], b=[2]) %}{% for i in range(30000) %}"
        "{% set ns.a = [[[[[[[[ns.a, 1], 1], 1], 1], 1], 1], 1], 1] %}"
        "{% set ns.b = [[[[[[[[ns.b]]]]]]]] %}{% endfor %}{{ ns.a < ns.b }}",
        "{% set ns = namespace(a=(1,)) %}{% for i in range(30000) %}"
        "{% set ns.a = ((((((((ns.a,),),),),),),),) %}{% endfor %}{{ [ns.a] | unique | "
        "list | length }}",
        "{% set ns = namespace(a=[1], b=[2]) %}{% for i in range(9999) %}"
        "{% set ns.a = [ns.a] %}{% set ns.b = [ns.b] %}{% endfor %}{{ ns.a == ns.b }}",
        "{% set ns = namespace(a=[1]) %}{% for i in range(9999) %}"
        "{% set ns.a = [ns.a] %}{% endfor %}{{ ns.a | tojson }}",
        "{% set ns = namespace(a=[1]) %}{% for i in range(9999) %}"
        "{% set ns.a = {'a': ns.a} %}{% endfor %}{{ ns.a }}",
    };
    for (size_t i = 0; i < sizeof makers / sizeof *makers; i++)
        assert_false(is_shallow(makers[i], "{}"));
    for (size_t depth = 190; depth < 1000; depth += 200) {
        char *opened = chain("{\"v\":", "[", depth, "1");
        char *given = chain(opened, "]", depth, "}");
        assert_int_equal(is_shallow("{{ v }}{{ v | tojson }}", given), depth < 200);
        free(given);
        free(opened);
    }
}

/* So that a server can tell its own trouble from a template's. */
static void memory_that_is_short_is_no_fault_of_a_template(void **state) {
    (void)state;
    static const char source[] = "{% set a = 'x' * 8000000 %}{{ a }}";
    cohort_jinja *compiled;
    char *text = NULL;
    size_t size = 0;
    struct rlimit before, tight;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip(); /* they end the process */
#endif
    assert_int_equal(cohort_jinja_compile(source, strlen(source), &compiled), COHORT_OK);
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    tight = before;
    tight.rlim_cur = 1;
    assert_int_equal(setrlimit(RLIMIT_AS, &tight), 0);
    cohort_status status = cohort_jinja_render(compiled, NULL, 0, &text, &size);
    assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
    assert_int_equal(status, COHORT_E_NOMEM);
    assert_null(text);
    assert_int_equal(cohort_jinja_render(compiled, NULL, 0, &text, &size), COHORT_OK);
    assert_int_equal(size, 8000000);
    free(text);
    cohort_jinja_destroy(compiled);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chains_in_templates_are_bounded),
        cmocka_unit_test(parts_are_filled_up),
        cmocka_unit_test(deep_values_are_bounded),
        cmocka_unit_test(memory_that_is_short_is_no_fault_of_a_template),
        cmocka_unit_test(what_is_left_out_is_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
