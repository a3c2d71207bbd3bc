/* SPDX-License-Identifier: Apache-2.0 */
/* The small tokenizers of tests/golden/tokenizers, with the texts committed beside them.
 */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "tokenizer_cases.h"

#define FOLDER COHORT_SOURCE_DIR "/tests/golden/tokenizers"

static void every_family_is_tokenized_as_recorded(void **state) {
    (void)state;
    int families = 0;
    DIR *dir = opendir(FOLDER);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_type != DT_DIR || entry->d_name[0] == '.') continue;
        char path[1024];
        int count = 0;
        snprintf(path, sizeof path, "%s/%s", FOLDER, entry->d_name);
        assert_int_equal(test_tokenizer_cases(path, &count), 0);
        assert_true(count >= 24); /* and pairs, where there are some */
        families++;
    }
    closedir(dir);
    assert_true(families >= 25);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_family_is_tokenized_as_recorded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
