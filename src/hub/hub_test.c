/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/hub.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "hub/hub_internal.h"

static void names_are_told_from_paths(void **state) {
    (void)state;
    static const char *const names[] = {"gpt2", "Org/Name", "a-b/C_d.1", "0/1"};
    static const char *const others[] = {"",     "/a",    "a/",     "a/b/c", "../a",
                                         "a/..", ".a/b",  "a b/c",  "-a",    "a//b",
                                         "~/a",  "a\n/b", "./model"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_true(cohort_hub_is_name(names[i]));
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_false(cohort_hub_is_name(others[i]));
}

static void cache_is_where_huggingface_hub_has_it(void **state) {
    (void)state;
    char path[256];
    cohort_hub_options options = {0};
    setenv("HOME", "/h", 1);
    unsetenv("HF_HOME");
    unsetenv("HF_HUB_CACHE");
    unsetenv("HUGGINGFACE_HUB_CACHE");
    unsetenv("XDG_CACHE_HOME");
    assert_int_equal(cohort_hub_cache(&options, path, sizeof path), COHORT_OK);
    assert_string_equal(path, "/h/.cache/huggingface/hub");
    setenv("XDG_CACHE_HOME", "/x", 1);
    assert_int_equal(cohort_hub_cache(&options, path, sizeof path), COHORT_OK);
    assert_string_equal(path, "/x/huggingface/hub");
    setenv("HF_HOME", "/f", 1);
    assert_int_equal(cohort_hub_cache(&options, path, sizeof path), COHORT_OK);
    assert_string_equal(path, "/f/hub");
    setenv("HF_HUB_CACHE", "/c", 1);
    assert_int_equal(cohort_hub_cache(&options, path, sizeof path), COHORT_OK);
    assert_string_equal(path, "/c");
    options.cache = "/o";
    assert_int_equal(cohort_hub_cache(&options, path, sizeof path), COHORT_OK);
    assert_string_equal(path, "/o");
    assert_int_equal(cohort_hub_cache(&options, path, 2), COHORT_E_INVALID);
}

/* Refused before it is copied, and before anybody is asked. */
static void endpoints_fit_or_are_refused(void **state) {
    (void)state;
    static char endpoint[8192], dir[4096];
    memset(endpoint, 'h', sizeof endpoint - 1);
    const cohort_hub_options options = {.endpoint = endpoint, .cache = "/nowhere"};
    assert_int_equal(cohort_hub_find("gpt2", &options, dir, sizeof dir),
                     COHORT_E_INVALID);
    assert_string_equal(cohort_last_error()->message, "HF_ENDPOINT is too long");
}

#define COMMIT "0123456789abcdef0123456789abcdef01234567"
#define SHA256 COMMIT "0123456789abcdef01234567"

static cohort_status read_answer(const char *json, hub_search *out) {
    *out = (hub_search){.endpoint = "http://hub"}; /* in messages only */
    return hub_read_answer(out, json, strlen(json));
}

static void answer_gives_commit_names_and_digests(void **state) {
    (void)state;
    hub_search search;
    assert_int_equal(
        read_answer(
            "{\"sha\":\"" COMMIT "\",\"siblings\":["
            "{\"rfilename\":\"config.json\",\"size\":7,\"blobId\":\"" COMMIT
            "\"},{\"rfilename\":\"../../evil.json\"},{\"rfilename\":\"a/b.json\"},"
            "{\"rfilename\":\".gitattributes\"},"
            "{\"rfilename\":\"w.safetensors\",\"size\":9,\"blobId\":\"x\","
            "\"lfs\":{\"sha256\":\"" SHA256 "\",\"size\":9}}]}",
            &search),
        COHORT_OK);
    assert_string_equal(search.commit, COMMIT);
    assert_int_equal(search.n_files, 2);
    assert_string_equal(search.files[0].name, "config.json");
    assert_string_equal(search.files[0].digest, COMMIT);
    assert_string_equal(search.files[1].digest, SHA256);
    assert_int_equal(search.files[1].size_bytes, 9);
    hub_search_deinit(&search);
}

static void answers_that_are_none_are_refused(void **state) {
    (void)state;
    static const char *const answers[] = {
        "",
        "[]",
        "<html>",
        "{\"sha\":\"main\",\"siblings\":[{}]}",
        "{\"sha\":\"" COMMIT "\",\"siblings\":[]}",
        "{\"sha\":\"" COMMIT "\",\"siblings\":[{\"rfilename\":\"config.json\"}]}",
        "{\"sha\":\"" COMMIT "\",\"siblings\":[{\"rfilename\":\"config.json\","
        "\"size\":-1,\"blobId\":\"" COMMIT "\"}]}",
        "{\"sha\":\"" COMMIT "\",\"siblings\":[{\"rfilename\":\"config.json\","
        "\"size\":1,\"blobId\":\"../../../../../../../../../../../../../../..\"}]}",
    };
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        hub_search search;
        assert_int_equal(read_answer(answers[i], &search), COHORT_E_PROTOCOL);
        hub_search_deinit(&search);
    }
}

/* `printf hello | sha256sum`, `printf hello | git hash-object --stdin`. */
static void digests_are_sha256_or_those_of_git(void **state) {
    (void)state;
    char path[] = "hub_test_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "hello", 5), 5);
    close(fd);
    hub_file large = {
        .size_bytes = 5,
        .digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"};
    hub_file small = {.size_bytes = 5,
                      .digest = "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0"};
    assert_int_equal(hub_check_digest(path, &large), COHORT_OK);
    assert_int_equal(hub_check_digest(path, &small), COHORT_OK);
    small.digest[3] ^= 1;
    large.digest[63] ^= 1;
    assert_int_equal(hub_check_digest(path, &small), COHORT_E_PROTOCOL);
    assert_int_equal(hub_check_digest(path, &large), COHORT_E_PROTOCOL);
    unlink(path);
    assert_int_equal(hub_check_digest(path, &large), COHORT_E_IO);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_told_from_paths),
        cmocka_unit_test(cache_is_where_huggingface_hub_has_it),
        cmocka_unit_test(endpoints_fit_or_are_refused),
        cmocka_unit_test(answer_gives_commit_names_and_digests),
        cmocka_unit_test(answers_that_are_none_are_refused),
        cmocka_unit_test(digests_are_sha256_or_those_of_git),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
