/* SPDX-License-Identifier: Apache-2.0 */
/* What the CUDA backend does when the driver fails: each function, each of its calls, one
 * after the other, from the first to the end of four steps.  A clean error, and nothing
 * left. */
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cohort/clock.h"
#include "fakecuda.h"
#include "model/cuda/api.h"
#include "model/model.h"

static __typeof__(&fake_cuda_fail) fail_at;
static __typeof__(&fake_cuda_live) live;
static __typeof__(&fake_cuda_devices) devices;

static int find_the_double(void **state) {
    (void)state;
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) return -1;
    void *symbols[] = {dlsym(library, "fake_cuda_fail"), dlsym(library, "fake_cuda_live"),
                       dlsym(library, "fake_cuda_devices")};
    if (!symbols[0] || !symbols[1] || !symbols[2]) return -1;
    memcpy(&fail_at, &symbols[0], sizeof fail_at);
    memcpy(&live, &symbols[1], sizeof live);
    memcpy(&devices, &symbols[2], sizeof devices);
    return 0;
}

static cohort_status ignore(void *user_data, int32_t row, int32_t n, float *logits,
                            int32_t vocab_size) {
    (void)user_data, (void)row, (void)n, (void)logits, (void)vocab_size;
    return COHORT_OK;
}

/* Opens a model, loads it, computes a prompt of 3 and three tokens behind it: one is
 * computed, one recorded, one replayed. */
static cohort_status live_through(const char *checkpoint) {
    char dir[512];
    snprintf(dir, sizeof dir, "%s/tests/golden/%s", COHORT_SOURCE_DIR, checkpoint);
    const cohort_model_options options = {.model_dir = dir,
                                          .max_model_len = 32,
                                          .max_num_batched_tokens = 8,
                                          .max_num_seqs = 2,
                                          .block_size = 16,
                                          .tp_size = 1,
                                          .pp_size = 1,
                                          .backend = cohort_backend_cuda()};
    cohort_model *model = NULL;
    cohort_status status = cohort_model_open(&options, &model);
    if (status >= 0) status = cohort_model_load(model, NULL, NULL);
    if (status >= 0) status = cohort_model_kv_create(model, 4);
    const int32_t ids[] = {1, 2, 3}, table[] = {2, 1}, one[] = {1};
    for (int32_t step = 0; step < 4 && status >= 0; step++) {
        const cohort_sequence sequence = {.n_rows = step ? 1 : 3,
                                          .n_computed = step ? 2 + step : 0,
                                          .block_table = table};
        const cohort_batch batch = {.token_ids = ids,
                                    .n_rows = sequence.n_rows,
                                    .sequences = &sequence,
                                    .n_logit_rows = one,
                                    .n_sequences = 1,
                                    .deadline_ns = COHORT_NEVER};
        status = cohort_model_forward(model, &batch, ignore, NULL);
    }
    cohort_model_close(model);
    return status;
}

/* ---- which device ------------------------------------------------------------------ */

static void expect_device(const cohort_cuda_options *cuda, const char *mask,
                          const char *name) {
    if (mask)
        setenv("CUDA_VISIBLE_DEVICES", mask, 1);
    else
        unsetenv("CUDA_VISIBLE_DEVICES");
    const cohort_model_options options = {.model_dir = COHORT_SOURCE_DIR
                                          "/tests/golden/qwen3-bfloat16",
                                          .max_model_len = 32,
                                          .max_num_batched_tokens = 8,
                                          .max_num_seqs = 2,
                                          .block_size = 16,
                                          .tp_size = 1,
                                          .pp_size = 1,
                                          .backend = cohort_backend_cuda(),
                                          .device = cuda};
    cohort_model *model = NULL;
    cohort_status status = cohort_model_open(&options, &model);
    if (name) {
        assert_int_equal(status, COHORT_OK);
        assert_non_null(strstr(cohort_model_device(model), name));
    } else {
        assert_int_equal(status, COHORT_E_DEVICE);
        assert_non_null(strstr(cohort_last_error()->message, "none of the 3"));
    }
    cohort_model_close(model);
    unsetenv("CUDA_VISIBLE_DEVICES");
}

/* As Ray names them: a number counts on the host, and a mask of the node's may stand
 * between that and what the process sees. */
static void a_device_is_bound_by_its_id(void **state) {
    (void)state;
    devices(3, 90);
    expect_device(&(cohort_cuda_options){.ordinal = 4, .n_ranks = 6}, NULL, "double 1");
    expect_device(&(cohort_cuda_options){.id = "2"}, NULL, "double 2");
    expect_device(&(cohort_cuda_options){.id = "3"}, NULL, NULL);
    expect_device(&(cohort_cuda_options){.id = "5"}, "7,5,4", "double 1");
    expect_device(&(cohort_cuda_options){.id = "1"}, "7,5,4", NULL);
    expect_device(&(cohort_cuda_options){.id = "MIG-b"}, "MIG-a,MIG-b,MIG-c", "double 1");
    expect_device(
        &(cohort_cuda_options){.id = "GPU-12121212-1212-1212-1212-121212121212"}, NULL,
        "double 2");
    expect_device(&(cohort_cuda_options){.id = "GPU-1111"}, "GPU-1010,GPU-1111,GPU-1212",
                  "double 1");
    expect_device(&(cohort_cuda_options){.id = "GPU-77"}, NULL, NULL);
    expect_device(&(cohort_cuda_options){.id = "GPU-"}, NULL, NULL);
    devices(1, 90);
}

static void fail_every_call_of(const char *function, CUresult result) {
    int n = 1;
    for (;; n++) {
        fail_at(function, n, result);
        cohort_status status = live_through("qwen3-bfloat16");
        fail_at(NULL, 0, CUDA_SUCCESS);
        if (live() != 0)
            fail_msg("call %d of %s: %d things are left", n, function, live());
        if (status == COHORT_OK) break; /* there are not so many calls */
        const char *message = cohort_last_error()->message;
        if (status != COHORT_E_DEVICE && status != COHORT_E_NOMEM)
            fail_msg("call %d of %s: %s", n, function, message);
        if (!strstr(message, "GPU") && !strstr(message, "driver"))
            fail_msg("call %d of %s is told as: %s", n, function, message);
    }
    print_message("%s: %d calls\n", function, n - 1);
}

static void any_call_may_fail(void **state) {
    (void)state;
    static const char *const functions[] = {
#define NAME(name) #name,
        COHORT_CUDA_FUNCTIONS(NAME)
#undef NAME
    };
    assert_int_equal(live_through("qwen3-bfloat16"),
                     COHORT_OK); /* the driver is loaded */
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        fail_every_call_of(functions[i], strncmp(functions[i], "Mem", 3) == 0
                                             ? CUDA_ERROR_OUT_OF_MEMORY
                                             : CUDA_ERROR_ILLEGAL_ADDRESS);
}

static void a_kernel_that_fails_names_its_step(void **state) {
    (void)state;
    fail_at("LaunchKernelEx", 60, CUDA_ERROR_ILLEGAL_ADDRESS);
    cohort_status status = live_through("llama-float32");
    fail_at(NULL, 0, CUDA_SUCCESS);
    if (status == COHORT_OK) fail_msg("fewer than 60 kernels ran");
    assert_int_equal(status, COHORT_E_DEVICE);
    assert_non_null(strstr(cohort_last_error()->message, "CUDA_ERROR_ILLEGAL_ADDRESS"));
}

static void devices_that_cannot_be_used_are_named(void **state) {
    (void)state;
    devices(0, 90);
    assert_false(cohort_cuda_is_there());
    assert_int_equal(live_through("llama-float32"), COHORT_E_DEVICE);
    assert_non_null(strstr(cohort_last_error()->message, "no GPU"));
    devices(1, 80);
    assert_false(cohort_cuda_is_there());
    assert_int_equal(live_through("llama-float32"), COHORT_E_DEVICE);
    assert_non_null(strstr(cohort_last_error()->message, "sm_80"));
    devices(1, 90);
    assert_true(cohort_cuda_is_there());
    assert_int_equal(live(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_device_is_bound_by_its_id),
        cmocka_unit_test(any_call_may_fail),
        cmocka_unit_test(a_kernel_that_fails_names_its_step),
        cmocka_unit_test(devices_that_cannot_be_used_are_named),
    };
    return cmocka_run_group_tests(tests, find_the_double, NULL);
}
