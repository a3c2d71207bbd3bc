/* SPDX-License-Identifier: Apache-2.0 */
/* What the backend says where there is no GPU; what it computes on one, tests/gpu tells.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "cohort/status.h"
#include "model/backend.h"

static void machines_without_a_gpu_are_told_so(void **state) {
    (void)state;
    if (cohort_cuda_is_there()) skip();
    const cohort_backend_options options = {.max_rows = 1, .max_sequences = 1};
    cohort_backend *backend = (cohort_backend *)(void *)1;
    const cohort_backend_ops *ops;
    assert_int_equal(cohort_backend_find("cuda", &ops), COHORT_OK);
    assert_string_equal(ops->name, "cuda");
    assert_int_equal(ops->create(&options, &backend), COHORT_E_DEVICE);
    assert_null(backend);
    assert_non_null(strstr(cohort_last_error()->message, "NVIDIA"));
    /* And again: what failed once is looked for anew. */
    assert_int_equal(ops->create(&options, &backend), COHORT_E_DEVICE);
}

static void auto_is_a_device_that_is_there(void **state) {
    (void)state;
    const cohort_backend_ops *ops;
    assert_int_equal(cohort_backend_find("auto", &ops), COHORT_OK);
    assert_string_equal(ops->name, cohort_cuda_is_there() ? "cuda" : "cpu");
    assert_int_equal(cohort_backend_find(NULL, &ops), COHORT_OK);
    assert_int_equal(cohort_backend_find("tpu", &ops), COHORT_E_INVALID);
    assert_non_null(strstr(cohort_last_error()->message, "'tpu'"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(machines_without_a_gpu_are_told_so),
        cmocka_unit_test(auto_is_a_device_that_is_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
