/* SPDX-License-Identifier: Apache-2.0 */
#include "server/json_scan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>
#include <cmocka.h>

static size_t count(const cJSON *json) {
    size_t n = 1;
    const cJSON *item;
    cJSON_ArrayForEach(item, json) n += count(item);
    return n;
}

static void values_are_counted_before_they_are_parsed(void **state) {
    (void)state;
    static const char *const texts[] = {
        "7",
        "[]",
        "[1,2,3]",
        "{\"a\":{\"b\":[{},[],null]},\"c\":\"[,,,\\\",,,\"}",
        "[[[[1]]],\"\\\\\",2]",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        cJSON *json = cJSON_Parse(texts[i]);
        size_t n = count(json),
               most = cohort_server_json_most_values(texts[i], strlen(texts[i]));
        assert_in_range(most, n, 2 * n);
        cJSON_Delete(json);
    }
    assert_int_equal(cohort_server_json_most_values("[1,1,1,1]", 9), 5);
}

/* All that cJSON refuses of what passes the scan, unless memory is short. */
static void halves_of_characters_are_found(void **state) {
    (void)state;
    static const char *const parts[] = {"\\ud83d", "\\ude00", "\\uD83D", "x",
                                        "\\\\",    "\\n",     "\\u00e9", "ud83d"};
    enum { N = sizeof parts / sizeof *parts };
    for (size_t i = 0; i < N * N * N; i++) {
        char text[64] = "\"";
        for (size_t at = i, n = 0; n < 3; n++, at /= N)
            strcat(text, parts[at % N]);
        strcat(text, "\"");
        cohort_server_json_fault fault;
        assert_true(cohort_server_json_scan(text, strlen(text), &fault));
        cJSON *json = cJSON_Parse(text);
        if (cohort_server_json_has_lone_surrogate(text, strlen(text)) != !json)
            fail_msg("%s", text);
        cJSON_Delete(json);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_counted_before_they_are_parsed),
        cmocka_unit_test(halves_of_characters_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
