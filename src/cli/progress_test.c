/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/progress.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const int64_t second_ns = 1000000000;

static const char *line_of(const char *what, int64_t done, int64_t total, int columns) {
    static char line[400];
    cli_progress self = {.began_ns = second_ns};
    snprintf(self.what, sizeof self.what, "%s", what);
    cli_progress_format(&self, done, total, 3 * second_ns, columns, line, sizeof line);
    return line;
}

static void a_bar_has_all_that_fits(void **state) {
    (void)state;
    assert_string_equal(
        line_of("Loading weights", 1000000000, 4000000000, 100),
        "Loading weights [######------------------]  25%  1.0/4.0 GB  500.0 MB/s  "
        "6 s left");
    assert_string_equal(line_of("Loading", 500000, 1000000, 40),
                        "Loading [######------]  50%  0.5/1.0 MB");
    assert_string_equal(line_of("Loading", 1, 1, 10), "Load 100%");
    for (int columns = 10; columns < 200; columns++) {
        const char *line =
            line_of("Fetching Some-Organization/Some-Long-Name-7B-Instruct", 123456789012,
                    234567890123, columns);
        assert_true(strlen(line) < (size_t)columns); /* the last one would wrap */
        assert_non_null(strchr(line, '%'));
    }
}

static void a_log_has_all_of_it(void **state) {
    (void)state;
    assert_string_equal(
        line_of("Loading weights", 500000, 1000000, 0),
        "Loading weights: 50% Completed | 0.5/1.0 MB, 0.2 MB/s, 2 s left");
    assert_string_equal(line_of("Loading weights", 0, 1000000, 0),
                        "Loading weights: 0% Completed | 0.0/1.0 MB");
    assert_string_equal(line_of("x", 0, 0, 0), "x: 100% Completed | 0.0/0.0 MB");
    assert_non_null(strstr(line_of("x", 1000, 100000000, 0), "min left"));
}

static void what_was_there_before_is_no_speed(void **state) {
    (void)state;
    char line[200];
    cli_progress self = {
        .what = "Answering", .unit = "requests", .began_ns = second_ns, .first_done = 40};
    cli_progress_format(&self, 50, 100, 3 * second_ns, 0, line, sizeof line);
    assert_string_equal(
        line, "Answering: 50% Completed | 50/100 requests, 5.0 requests/s, 10 s left");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bar_has_all_that_fits),
        cmocka_unit_test(a_log_has_all_of_it),
        cmocka_unit_test(what_was_there_before_is_no_speed),
    };
    return cmocka_run_group_tests_name("cli/progress", tests, NULL, NULL);
}
