/* SPDX-License-Identifier: Apache-2.0 */
/* Our tokenizer beside PyPI's `tokenizers`, on random Unicode: the published tokenizers
 * of Qwen3 and SmolLM2, and small ones that the library itself trains and writes, in the
 * spelling of each family of models.  COHORT_TEST_SEED chooses other texts. */
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <dirent.h>

#include "tokenizer_cases.h"

enum { SKIP = 77, CASES_OF_SMALL = 150, CASES_OF_REAL = 600 };

static char folder[] = "/tmp/cohort-tokenizers-XXXXXX";
static char python[2048];

/* First line of what a command prints; its exit status. */
static int run(const char *command, char *out_line, size_t size) {
    FILE *pipe = popen(command, "r");
    char rest[256];
    if (!pipe) return -1;
    out_line[0] = '\0';
    if (fgets(out_line, (int)size, pipe)) out_line[strcspn(out_line, "\n")] = '\0';
    while (fgets(rest, sizeof rest, pipe))
        ;
    int status = pclose(pipe);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void write_cases(int count, const char *tokenizers) {
    char command[16384], line[256];
    const char *seed = getenv("COHORT_TEST_SEED");
    snprintf(command, sizeof command,
             "'%s' '%s/scripts/tokenizer_cases.py' '%s' %d %d %s", python,
             COHORT_SOURCE_DIR, folder, seed ? atoi(seed) : 1, count, tokenizers);
    assert_int_equal(run(command, line, sizeof line), 0);
}

static void check_folder(const char *name, int expected_count) {
    char path[512];
    int count = 0;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(test_tokenizer_cases(path, &count), 0);
    assert_true(count >= expected_count + expected_count / 2);
}

static void every_family_is_tokenized_as_by_the_library(void **state) {
    (void)state;
    write_cases(CASES_OF_SMALL, "");
    int n = 0;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] == '.') continue;
        check_folder(entry->d_name, CASES_OF_SMALL);
        n++;
    }
    closedir(dir);
    assert_true(n >= 20);
}

static void qwen3_is_tokenized_as_by_the_library(void **state) {
    (void)state;
    write_cases(CASES_OF_REAL, "qwen3=" COHORT_SOURCE_DIR
                               "/tests/golden/qwen3-tokenizer/tokenizer.json.xz");
    check_folder("qwen3", CASES_OF_REAL);
}

static void smollm2_is_tokenized_as_by_the_library(void **state) {
    (void)state;
    char model[2048], argument[4096];
    if (run(COHORT_SOURCE_DIR "/scripts/fetch_model.sh", model, sizeof model)) skip();
    snprintf(argument, sizeof argument, "'smollm2=%s/tokenizer.json'", model);
    write_cases(CASES_OF_REAL, argument);
    check_folder("smollm2", CASES_OF_REAL);
}

static int remove_entry(const char *path, const struct stat *info, int type,
                        struct FTW *at) {
    (void)info, (void)type, (void)at;
    return remove(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_family_is_tokenized_as_by_the_library),
        cmocka_unit_test(qwen3_is_tokenized_as_by_the_library),
        cmocka_unit_test(smollm2_is_tokenized_as_by_the_library),
    };
    int made = run(COHORT_SOURCE_DIR "/scripts/test_venv.sh", python, sizeof python);
    if (made) {
        fprintf(stderr, "skipped: no Python environment with `tokenizers`\n");
        return made == SKIP ? SKIP : 1;
    }
    if (!mkdtemp(folder)) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    return failed;
}
