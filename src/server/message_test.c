/* SPDX-License-Identifier: Apache-2.0 */
#include "server/message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* The id of the one call that a text is. */
static void read_id(const char *format, const char *text, char *out, size_t size) {
    cohort_message message = {0};
    cohort_message_options options = {.finds_calls = true};
    assert_int_equal(cohort_output_format_find(format, &options.format), COHORT_OK);
    assert_true(cohort_message_open(&message, &options));
    cohort_message_add(&message, text, strlen(text), 1, true);
    assert_int_equal(message.n_pieces, 2);
    assert_true(message.pieces[0].is_name);
    snprintf(out, size, "%s", message.pieces[0].id);
    cohort_message_deinit(&message);
}

/* Mistral's templates refuse others, and Kimi's read the name from them. */
static void ids_are_what_templates_take(void **state) {
    (void)state;
#define KIMI(id)                                         \
    "<|tool_calls_section_begin|><|tool_call_begin|>" id \
    "<|tool_call_argument_begin|>{}<|tool_call_end|>"
    char id[100];
    read_id("mistral", "[TOOL_CALLS]f{}", id, sizeof id);
    assert_int_equal(strlen(id), 9);
    assert_int_equal(strspn(id, "0123456789abcdef"), 9);
    read_id("hermes", "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>", id,
            sizeof id);
    assert_ptr_equal(strstr(id, "chatcmpl-tool-"), id);
    read_id("kimi_k2", KIMI("functions.f:0"), id, sizeof id);
    assert_string_equal(id, "functions.f:0");
    read_id("kimi_k2", KIMI("functions.\"f:0"), id, sizeof id);
    assert_ptr_equal(strstr(id, "chatcmpl-tool-"), id);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(ids_are_what_templates_take)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
