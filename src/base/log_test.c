/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { LINE_BYTES = 1024 };

static char heard[2 * LINE_BYTES];
static int n_heard;

static void hear(void *user_data, cohort_log_level level, const char *line) {
    *(cohort_log_level *)user_data = level;
    snprintf(heard, sizeof heard, "%s", line);
    n_heard++;
}

/* The line without its time, which is a number of seconds with three digits behind. */
static const char *line_heard(void) {
    long long seconds;
    int digits = 0, end = 0;
    assert_int_equal(sscanf(heard, "t=%lld.%3d%n", &seconds, &digits, &end), 2);
    assert_true(seconds > 0);
    assert_int_equal(heard[end - 4], '.');
    return heard + end + 1;
}

static void lines_say_who_and_what(void **state) {
    (void)state;
    cohort_log_level level = COHORT_LOG_DEBUG;
    char expected[256];
    cohort_log_set_sink(hear, COHORT_LOG_DEBUG, &level);
    cohort_log(COHORT_LOG_WARNING, "queue", 3, "event=test n=%d", 7);
    snprintf(expected, sizeof expected,
             "level=warning component=queue pid=%d rank=3 event=test n=7", (int)getpid());
    assert_string_equal(line_heard(), expected);
    assert_int_equal(level, COHORT_LOG_WARNING);
    cohort_log(COHORT_LOG_ERROR, "link", 0, "event=first");
    assert_non_null(strstr(heard, " rank=0 event=first"));
    cohort_log(COHORT_LOG_INFO, "link", COHORT_RANK_LOCAL, "event=local");
    snprintf(expected, sizeof expected, "level=info component=link pid=%d event=local",
             (int)getpid());
    assert_string_equal(line_heard(), expected);
}

static void what_is_less_than_asked_for_is_silent(void **state) {
    (void)state;
    cohort_log_level level;
    cohort_log_set_sink(NULL, COHORT_LOG_DEBUG, NULL);
    cohort_log(COHORT_LOG_ERROR, "base", 0, "to nobody");
    for (int least = COHORT_LOG_DEBUG; least <= COHORT_LOG_ERROR; least++) {
        cohort_log_set_sink(hear, (cohort_log_level)least, &level);
        n_heard = 0;
        for (int at = COHORT_LOG_DEBUG; at <= COHORT_LOG_ERROR; at++)
            cohort_log((cohort_log_level)at, "base", 0, "x");
        assert_int_equal(n_heard, 1 + COHORT_LOG_ERROR - least);
    }
}

static void long_lines_are_cut_and_end(void **state) {
    (void)state;
    cohort_log_level level;
    char text[2 * LINE_BYTES] = "";
    memset(text, 'x', sizeof text - 1);
    cohort_log_set_sink(hear, COHORT_LOG_DEBUG, &level);
    cohort_log(COHORT_LOG_INFO, "base", 0, "%s", text);
    assert_int_equal(strlen(heard), LINE_BYTES - 1);
    int fds[2], before = dup(STDERR_FILENO);
    assert_int_equal(pipe(fds), 0);
    dup2(fds[1], STDERR_FILENO);
    cohort_log_to_stderr(NULL, COHORT_LOG_INFO, "short");
    cohort_log_to_stderr(NULL, COHORT_LOG_INFO, text);
    dup2(before, STDERR_FILENO);
    close(fds[1]);
    memset(text, 0, sizeof text);
    assert_int_equal(read(fds[0], text, sizeof text), 6 + LINE_BYTES);
    assert_memory_equal(text, "short\nxxx", 9);
    close(fds[0]);
    close(before);
}

static void levels_are_known_by_name(void **state) {
    (void)state;
    static const char *const names[] = {"debug", "Info", "WARNING", "error"};
    cohort_log_level level;
    for (int i = 0; i < 4; i++) {
        assert_true(cohort_log_level_parse(names[i], &level));
        assert_int_equal(level, i);
    }
    assert_true(cohort_log_level_parse("WARN", &level));
    assert_int_equal(level, COHORT_LOG_WARNING);
    assert_true(cohort_log_level_parse("CRITICAL", &level));
    assert_int_equal(level, COHORT_LOG_ERROR);
    assert_false(cohort_log_level_parse("errors", &level));
    assert_false(cohort_log_level_parse("", &level));
}

static void place_of_an_error_is_for_debugging(void **state) {
    (void)state;
    cohort_log_level level = COHORT_LOG_ERROR;
    cohort_error error = {.code = COHORT_E_IO, .rank = 2, .place = "src/a.c:1"};
    cohort_log_set_sink(hear, COHORT_LOG_DEBUG, &level);
    cohort_log_place("worker", &error);
    assert_int_equal(level, COHORT_LOG_DEBUG);
    assert_non_null(strstr(heard, "component=worker"));
    assert_non_null(strstr(heard, " rank=2 event=error_place code="));
    assert_non_null(strstr(heard, " place=src/a.c:1"));
    n_heard = 0;
    error.place[0] = '\0';
    cohort_log_place("worker", &error);
    assert_int_equal(n_heard, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_say_who_and_what),
        cmocka_unit_test(what_is_less_than_asked_for_is_silent),
        cmocka_unit_test(long_lines_are_cut_and_end),
        cmocka_unit_test(levels_are_known_by_name),
        cmocka_unit_test(place_of_an_error_is_for_debugging),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
