/* SPDX-License-Identifier: Apache-2.0 */
#include "ray/env.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define TEXTS(...) ((char *const[]){__VA_ARGS__, NULL})

static const char *text_in(const cJSON *object, const char *name) {
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
}

static cohort_ray_env read_env(char *const *environment, const char *excluded) {
    cohort_ray_env env;
    assert_int_equal(cohort_ray_env_read(environment, excluded, &env), COHORT_OK);
    return env;
}

static void variables_travel_two_ways_or_stay(void **state) {
    (void)state;
    char follows[] = "HF_TOKEN=a=b", precedes[] = "OMP_NUM_THREADS=4",
         stays[] = "HOME=/x", out[] = "AWS_KEY=1", again[] = "HF_TOKEN=second",
         no_value[] = "NONE", empty[] = "EMPTY=", small[] = "http_proxy=a",
         capital[] = "HTTP_PROXY=b";
    cohort_ray_env env = read_env(
        TEXTS(follows, precedes, stays, out, again, no_value, empty, small, capital),
        "AWS_*");
    assert_int_equal(cJSON_GetArraySize(env.follows), 4);
    assert_string_equal(text_in(env.follows, "http_proxy"), "a");
    assert_string_equal(text_in(env.follows, "HTTP_PROXY"), "b");
    assert_string_equal(text_in(env.follows, "HF_TOKEN"), "a=b");
    assert_string_equal(text_in(env.follows, "EMPTY"), "");
    assert_int_equal(cJSON_GetArraySize(env.precedes), 1);
    assert_string_equal(text_in(env.precedes, "OMP_NUM_THREADS"), "4");
    assert_string_equal(env.left_out, "");
    cohort_ray_env_free(&env);
}

static void names_to_leave_out_may_have_spaces_around(void **state) {
    (void)state;
    char one[] = "ONE=1", two[] = "TWO_X=2", three[] = "THREE=3", blank[] = "A=4";
    cohort_ray_env env = read_env(TEXTS(one, two, three, blank), " ONE ,  TWO_*  ,, ");
    assert_int_equal(cJSON_GetArraySize(env.follows), 2);
    assert_string_equal(text_in(env.follows, "THREE"), "3");
    assert_string_equal(text_in(env.follows, "A"), "4");
    cohort_ray_env_free(&env);
}

static void what_is_not_utf8_is_left_out_and_named(void **state) {
    (void)state;
    char good[] = "GOOD=h\xc3\xb6he", latin[] = "LATIN=h\xf6he", cut[] = "CUT=\xe2\x82",
         surrogate[] = "WIDE=\xed\xa0\x80", name[] = "N\xff=x", stays[] = "HOME=\xff";
    cohort_ray_env env = read_env(TEXTS(good, latin, cut, surrogate, name, stays), NULL);
    assert_int_equal(cJSON_GetArraySize(env.follows), 1);
    assert_string_equal(text_in(env.follows, "GOOD"), "h\xc3\xb6he");
    assert_string_equal(env.left_out, "LATIN,CUT,WIDE,?");
    cohort_ray_env_free(&env);
}

static void write_names(const char *folder, const char *text) {
    char path[160];
    snprintf(path, sizeof path, "%s/ray_non_carry_over_env_vars.json", folder);
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    fputs(text, out);
    fclose(out);
}

static void expect_excluded(const char *more, const char *expected) {
    char *names;
    assert_int_equal(cohort_ray_env_excluded(more, &names), COHORT_OK);
    assert_string_equal(names, expected);
    free(names);
}

static void names_of_vllms_file_are_excluded(void **state) {
    (void)state;
    char folder[] = "/tmp/cohort-names-XXXXXX", path[160];
    assert_non_null(mkdtemp(folder));
    setenv("VLLM_CONFIG_ROOT", folder, 1);
    expect_excluded(NULL, "");
    expect_excluded("A,B_*", "A,B_*");
    write_names(folder, "[\"SECRET\", \"OTHER\"]");
    expect_excluded(NULL, ",SECRET,OTHER");
    expect_excluded("A", "A,SECRET,OTHER");
    write_names(folder, "{\"SECRET\": 1}");
    expect_excluded("A", "A");
    write_names(folder, "[\"SECRET\", 7]");
    expect_excluded("A", "A");
    write_names(folder, "SECRET");
    expect_excluded("A", "A");
    unsetenv("VLLM_CONFIG_ROOT");
    setenv("XDG_CONFIG_HOME", "/nowhere", 1);
    expect_excluded("A", "A");
    snprintf(path, sizeof path, "%s/ray_non_carry_over_env_vars.json", folder);
    unlink(path);
    rmdir(folder);
}

static void expect_under(const char *text, const char *expected) {
    cJSON *users, *variables = cJSON_CreateObject();
    cJSON_AddStringToObject(variables, "OMP_NUM_THREADS", "4");
    cJSON_AddStringToObject(variables, "LD_PRELOAD", "/a.so");
    assert_int_equal(cohort_ray_env_parse(text, &users), COHORT_OK);
    cJSON *made = cohort_ray_env_under(users, variables);
    char *printed = cJSON_PrintUnformatted(made);
    assert_string_equal(printed, expected);
    cJSON_free(printed);
    cJSON_Delete(made);
    cJSON_Delete(users);
}

static void the_users_runtime_env_goes_before_ours(void **state) {
    (void)state;
    cJSON *none;
    expect_under(NULL,
                 "{\"env_vars\":{\"OMP_NUM_THREADS\":\"4\",\"LD_PRELOAD\":\"/a.so\"}}");
    expect_under("{\"pip\":[\"x\"],\"env_vars\":{\"A\":\"b\",\"LD_PRELOAD\":\"/b.so\"}}",
                 "{\"pip\":[\"x\"],\"env_vars\":{\"OMP_NUM_THREADS\":\"4\",\"A\":\"b\","
                 "\"LD_PRELOAD\":\"/b.so\"}}");
    const char *bad[] = {"[]", "{", "pip", "{\"env_vars\":[]}",
                         "{\"env_vars\":{\"A\":1}}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(cohort_ray_env_parse(bad[i], &none), COHORT_E_INVALID);
    assert_int_equal(cohort_ray_env_parse("", &none), COHORT_OK);
    assert_int_equal(cJSON_GetArraySize(none), 0);
    cJSON_Delete(none);
}

static void a_node_is_asked_for_names_and_paths(void **state) {
    (void)state;
    char path[] = "LD_LIBRARY_PATH=/a:/b", preload[] = "LD_PRELOAD=libx.so /c/y.so",
         threads[] = "OMP_NUM_THREADS=4", follows[] = "CUTE_DSL_LIBS=/never/asked";
    cohort_ray_env env = read_env(TEXTS(path, preload, threads, follows), NULL);
    cJSON *names = cohort_ray_env_names(&env);
    cJSON *paths = cohort_ray_env_paths(&env);
    char *asked = cJSON_PrintUnformatted(paths);
    assert_int_equal(cJSON_GetArraySize(names), 3);
    assert_string_equal(asked, "[\"/a\",\"/b\",\"/c/y.so\"]");
    cJSON_free(asked);
    cJSON_Delete(names);
    cJSON_Delete(paths);
    cohort_ray_env_free(&env);
}

static void what_a_node_has_itself_is_not_set_there(void **state) {
    (void)state;
    char path[] = "LD_LIBRARY_PATH=/a:/b", threads[] = "OMP_NUM_THREADS=4",
         arenas[] = "MALLOC_ARENA_MAX=3", preload[] = "LD_PRELOAD=/c/y.so";
    cohort_ray_env env = read_env(TEXTS(path, threads, arenas, preload), NULL);
    cJSON *looked = cJSON_Parse(
        "{\"env\":{\"OMP_NUM_THREADS\":\"2\",\"OTHER\":\"x\"},\"there\":[\"/b\",7]}");
    cJSON *set = cohort_ray_env_on_node(&env, looked);
    char *text = cJSON_PrintUnformatted(set);
    assert_string_equal(text, "{\"LD_LIBRARY_PATH\":\"/b\",\"MALLOC_ARENA_MAX\":\"3\"}");
    cJSON_free(text);
    cJSON_Delete(set);
    cJSON_Delete(looked);
    cohort_ray_env_free(&env);
}

static void a_node_that_says_nothing_has_nothing(void **state) {
    (void)state;
    char path[] = "LD_LIBRARY_PATH=/a", threads[] = "OMP_NUM_THREADS=4";
    cohort_ray_env env = read_env(TEXTS(path, threads), NULL);
    cJSON *set = cohort_ray_env_on_node(&env, NULL);
    assert_int_equal(cJSON_GetArraySize(set), 1);
    assert_string_equal(text_in(set, "OMP_NUM_THREADS"), "4");
    cJSON_Delete(set);
    cohort_ray_env_free(&env);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(variables_travel_two_ways_or_stay),
        cmocka_unit_test(names_to_leave_out_may_have_spaces_around),
        cmocka_unit_test(what_is_not_utf8_is_left_out_and_named),
        cmocka_unit_test(names_of_vllms_file_are_excluded),
        cmocka_unit_test(the_users_runtime_env_goes_before_ours),
        cmocka_unit_test(a_node_is_asked_for_names_and_paths),
        cmocka_unit_test(what_a_node_has_itself_is_not_set_there),
        cmocka_unit_test(a_node_that_says_nothing_has_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
