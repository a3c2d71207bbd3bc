/* SPDX-License-Identifier: Apache-2.0 */
/* What vLLM 0.32's own parsers made of calls in six forms (tests/golden/vllm_api/
 * tool_forms.json) is what ours make of them, in one piece and cut at every place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/body.h"
#include "chat/output.h"

enum { MAX_CALLS = 8 };

typedef struct told {
    cohort_body content, names[MAX_CALLS], arguments[MAX_CALLS];
    int32_t n_calls;
} told;

static void note(void *user_data, cohort_output_kind kind, int32_t call, const char *text,
                 size_t size) {
    told *out = user_data;
    if (kind == COHORT_OUTPUT_CALL_ID) return;
    assert_true(kind == COHORT_OUTPUT_CONTENT || call < MAX_CALLS);
    if (kind == COHORT_OUTPUT_CONTENT)
        cohort_body_add(&out->content, text, size);
    else if (kind == COHORT_OUTPUT_CALL)
        cohort_body_add(&out->names[out->n_calls++], text, size);
    else
        cohort_body_add(&out->arguments[call], text, size);
}

static void forget(told *out) {
    cohort_body_deinit(&out->content);
    for (int i = 0; i < MAX_CALLS; i++) {
        cohort_body_deinit(&out->names[i]);
        cohort_body_deinit(&out->arguments[i]);
    }
    *out = (told){0};
}

static const char *text_of(const cJSON *object, const char *name) {
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
}

/* Arguments are the same values: vLLM writes those of most forms anew, as 1.5 for 1.50.
 */
static bool is_same_call(const told *out, int i, const cJSON *expected) {
    cJSON *theirs = cJSON_Parse(cJSON_GetArrayItem(expected, 1)->valuestring);
    cJSON *ours = cJSON_Parse(out->arguments[i].bytes);
    bool is_same =
        theirs && ours && cJSON_Compare(theirs, ours, true) &&
        !strcmp(out->names[i].bytes, cJSON_GetArrayItem(expected, 0)->valuestring);
    cJSON_Delete(theirs);
    cJSON_Delete(ours);
    return is_same;
}

static void check(const cJSON *one, size_t cut) {
    const char *text = text_of(one, "text");
    const cJSON *calls = cJSON_GetObjectItemCaseSensitive(one, "calls"), *call;
    cohort_output_options options = {.finds_calls = true};
    cohort_output *output;
    told out = {0};
    int n = 0;
    assert_int_equal(cohort_output_format_find(text_of(one, "form"), &options.format),
                     COHORT_OK);
    assert_int_equal(cohort_output_create(&options, note, &out, &output), COHORT_OK);
    cohort_output_feed(output, text, cut);
    cohort_output_feed(output, text + cut, strlen(text) - cut);
    assert_int_equal(cohort_output_finish(output), COHORT_OK);
    cohort_output_destroy(output);
    bool is_same = out.n_calls == cJSON_GetArraySize(calls);
    cJSON_ArrayForEach(call, calls) is_same = is_same && is_same_call(&out, n++, call);
    /* Text before calls is content here, which two of vLLM's leave out. */
    if (!n)
        is_same = is_same && !strcmp(out.content.bytes ? out.content.bytes : "", text);
    if (!is_same)
        fail_msg("%s, cut at %zu: %s: %d calls, content '%s'", text_of(one, "form"), cut,
                 text, (int)out.n_calls, out.content.bytes ? out.content.bytes : "");
    forget(&out);
}

static char *read_file(const char *path) {
    FILE *file = fopen(path, "r");
    char *text = malloc(1 << 20);
    assert_non_null(file);
    assert_non_null(text);
    text[fread(text, 1, (1 << 20) - 1, file)] = '\0';
    fclose(file);
    return text;
}

static void calls_are_those_of_vllm(void **state) {
    (void)state;
    char *text = read_file(COHORT_SOURCE_DIR "/tests/golden/vllm_api/tool_forms.json");
    cJSON *all = cJSON_Parse(text);
    const cJSON *one;
    assert_true(cJSON_GetArraySize(all) > 200);
    cJSON_ArrayForEach(one, all) {
        size_t size = strlen(text_of(one, "text"));
        for (size_t cut = 0; cut <= size; cut++)
            check(one, cut);
    }
    cJSON_Delete(all);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(calls_are_those_of_vllm)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
