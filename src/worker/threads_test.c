/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/threads.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const cohort_cpu_list eight = {8, {0, 1, 2, 3, 4, 5, 6, 9}};
static const cohort_cpu_list two = {2, {0, 1}};

static void placed(const char *bind, const cohort_cpu_list *available, int32_t rank,
                   int32_t ranks, int32_t n, const int32_t *cpus) {
    cohort_cpu_list list;
    assert_int_equal(cohort_threads_place(bind, available, rank, ranks, &list),
                     COHORT_OK);
    assert_int_equal(list.n, n);
    assert_memory_equal(list.cpus, cpus, (size_t)n * sizeof *cpus);
}

static void refused(const char *bind, int32_t rank, int32_t ranks, const char *words) {
    cohort_cpu_list list;
    assert_int_equal(cohort_threads_place(bind, &eight, rank, ranks, &list),
                     COHORT_E_INVALID);
    if (!strstr(cohort_last_error()->message, words))
        fail_msg("'%s' lacks '%s'", cohort_last_error()->message, words);
}

static void cpus_are_shared_out(void **state) {
    (void)state;
    placed(NULL, &eight, 0, 1, 8, eight.cpus);
    placed("auto", &eight, 1, 2, 4, (int32_t[]){4, 5, 6, 9});
    placed("auto", &eight, 0, 3, 2, (int32_t[]){0, 1});
    placed("auto", &eight, 2, 3, 3, (int32_t[]){5, 6, 9});
    placed("auto", &two, 1, 2, 1, (int32_t[]){1});
    placed("auto", &two, 1, 4, 1, (int32_t[]){-1});
    placed("nobind", &two, 0, 1, 2, (int32_t[]){-1, -1});
}

static void a_quota_bounds_the_threads(void **state) {
    (void)state;
    cohort_cpu_list limited = eight;
    cohort_threads_limit(&limited, 8);
    placed("auto", &limited, 0, 1, 8, eight.cpus);
    cohort_threads_limit(&limited, 3);
    placed("auto", &limited, 0, 1, 3, (int32_t[]){-1, -1, -1});
    placed("auto", &limited, 1, 2, 2, (int32_t[]){-1, -1});
    placed("auto", &limited, 1, 4, 1, (int32_t[]){-1});
}

static void lists_are_read(void **state) {
    (void)state;
    placed("0-2|4,6-6,9", &eight, 0, 2, 3, (int32_t[]){0, 1, 2});
    placed("0-2|4,6-6,9", &eight, 1, 2, 3, (int32_t[]){4, 6, 9});
    placed("5", &eight, 0, 1, 1, (int32_t[]){5});
}

static void nonsense_is_quoted(void **state) {
    (void)state;
    refused("0-", 0, 1, "'0-'");
    refused("3-1", 0, 1, "'3-1'");
    refused("3-1,2", 0, 1, "'3-1,2'");
    refused("a", 0, 1, "'a'");
    refused("1,,2", 0, 1, "'1,,2'");
    refused("99999999999", 0, 1, "'99999999999'");
    refused("0-1", 1, 2, "1 of 2 ranks");
    refused("0,7", 0, 1, "no CPU 7");
}

static void this_process_has_some(void **state) {
    (void)state;
    cohort_cpu_list list;
    cohort_threads_available(&list);
    assert_true(list.n >= 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cpus_are_shared_out),
        cmocka_unit_test(a_quota_bounds_the_threads),
        cmocka_unit_test(lists_are_read),
        cmocka_unit_test(nonsense_is_quoted),
        cmocka_unit_test(this_process_has_some),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
