/* SPDX-License-Identifier: Apache-2.0 */
#include "server/json_members.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void the_last_value_stands_where_the_first_stood(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"{\"a\":1,\"b\":2,\"a\":3}", "{\"a\":3,\"b\":2}"},
        {"{\"a\":1,\"a\":2,\"a\":3,\"a\":4}", "{\"a\":4}"},
        {"[{\"x\":{\"k\":1,\"k\":{\"z\":1,\"z\":2}}}]", "[{\"x\":{\"k\":{\"z\":2}}}]"},
        {"{\"A\":1,\"a\":2}", "{\"A\":1,\"a\":2}"},
        {"{\"b\":1,\"a\":2,\"c\":3,\"b\":4,\"c\":5}", "{\"b\":4,\"a\":2,\"c\":5}"},
        {"{}", "{}"},
        {"7", "7"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cJSON *json = cJSON_Parse(cases[i][0]);
        assert_true(cohort_server_json_unite_members(json, NULL));
        char *text = cJSON_PrintUnformatted(json);
        assert_string_equal(text, cases[i][1]);
        cJSON_free(text);
        cJSON_Delete(json);
    }
}

/* Every name is there twice. */
static uint64_t comparisons_for(int n) {
    cJSON *json = cJSON_CreateObject();
    char name[16];
    for (int i = 0; i < n; i++) {
        snprintf(name, sizeof name, "%x", (unsigned)(i % (n / 2)) * 2654435761u);
        cJSON_AddNumberToObject(json, name, i);
    }
    uint64_t n_compared = 0;
    assert_true(cohort_server_json_unite_members(json, &n_compared));
    assert_int_equal(cJSON_GetArraySize(json), n / 2);
    cJSON_Delete(json);
    return n_compared;
}

static void members_cost_n_log_n(void **state) {
    (void)state;
    for (int n = 1000; n <= 64000; n *= 2)
        assert_true(comparisons_for(2 * n) * 10 < comparisons_for(n) * 25);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_value_stands_where_the_first_stood),
        cmocka_unit_test(members_cost_n_log_n),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
