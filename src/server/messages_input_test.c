/* SPDX-License-Identifier: Apache-2.0 */
#include "server/messages_input.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/json_write.h"

/* A body with these members beside those that are needed. */
static bool translate(const char *members, bool merges_system, cohort_api_request *api,
                      cohort_api_error *error) {
    char text[2000];
    snprintf(text, sizeof text, "{\"model\":\"m\",\"max_tokens\":2000,%s}", members);
    *api = (cohort_api_request){0};
    *error = (cohort_api_error){.shape = COHORT_ERROR_ANTHROPIC};
    assert_true(
        cohort_api_request_read(api, COHORT_SCHEMA_MESSAGES, text, strlen(text), error));
    return cohort_messages_translate(api, merges_system, error);
}

static void assert_messages(const char *members, bool merges_system,
                            const char *expected) {
    cohort_api_request api;
    cohort_api_error error;
    cohort_body made = {0};
    assert_true(translate(members, merges_system, &api, &error));
    cohort_server_json_write(&made, api.messages.json);
    assert_string_equal(made.bytes, expected);
    cohort_body_deinit(&made);
    cohort_api_request_deinit(&api);
    cohort_api_error_deinit(&error);
}

static void blocks_become_messages(void **state) {
    (void)state;
    assert_messages(
        "\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"system\":\"s\"", false,
        "[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\","
        "\"content\":\"a\"}]");
    assert_messages(
        "\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"}"
        ","
        "{\"type\":\"text\",\"text\":\"b\"}]}]",
        false,
        "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":"
        "\"text\",\"text\":\"b\"}]}]");
    /* Results go before what the user says with them. */
    assert_messages(
        "\"messages\":[{\"role\":\"assistant\",\"content\":[{\"type\":\"thinking\","
        "\"thinking\":\"h\",\"signature\":\"x\"},{\"type\":\"text\",\"text\":\"a\"},{"
        "\"type\":\"tool_use\",\"id\":\"1\",\"name\":\"f\",\"input\":{\"b\":1}}]},{"
        "\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"d\"},{\"type\":"
        "\"tool_result\",\"tool_use_id\":\"1\",\"content\":[{\"type\":\"text\",\"text\":"
        "\"c\"},{\"type\":\"text\",\"text\":\"e\"}]}]}]",
        false,
        "[{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"1\",\"type\":\"function\","
        "\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"b\\\":1}\"}}],\"reasoning\":"
        "\"h\",\"content\":\"a\"},{\"role\":\"tool\",\"content\":\"c\\ne\","
        "\"tool_call_id\":\"1\"},{\"role\":\"user\",\"content\":\"d\"}]");
    assert_messages("\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":"
                    "\"tool_result\",\"tool_use_id\":\"1\",\"content\":\"c\"}]}]",
                    false,
                    "[{\"role\":\"tool\",\"content\":\"c\",\"tool_call_id\":\"1\"}]");
}

static void the_system_is_told_where_the_template_wants_it(void **state) {
    (void)state;
    static const char said[] =
        "\"system\":[{\"type\":\"text\",\"text\":\"x-anthropic-billing-header: 5\"},{"
        "\"type\":\"text\",\"text\":\"x-anthropic-billing-header: "
        "6\\ns\"}],\"messages\":[{\"role\":\"user\",\"content\":"
        "\"a\"},{\"role\":\"system\",\"content\":\"t\"}]";
    assert_messages(said, false,
                    "[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\","
                    "\"content\":\"a\"},{\"role\":\"system\",\"content\":\"t\"}]");
    assert_messages(said, true,
                    "[{\"role\":\"system\",\"content\":\"st\"},{\"role\":\"user\","
                    "\"content\":\"a\"}]");
}

#define SAY  "\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],"
#define TOOL "\"tools\":[{\"name\":\"f\",\"input_schema\":{\"a\":1},\"strict\":true}]"

static void assert_choice(const char *members, const char *expected) {
    cohort_api_request api;
    cohort_api_error error;
    cohort_body made = {0};
    assert_true(translate(members, false, &api, &error));
    cohort_server_json_write(&made, api.tool_choice.json);
    assert_string_equal(made.bytes, expected);
    made.size = 0;
    cohort_server_json_write(&made, api.tools.json);
    assert_string_equal(
        made.bytes, "[{\"type\":\"function\",\"function\":{\"name\":\"f\","
                    "\"parameters\":{\"a\":1,\"type\":\"object\"},\"strict\":true}}]");
    cohort_body_deinit(&made);
    cohort_api_request_deinit(&api);
    cohort_api_error_deinit(&error);
}

static void tools_and_choices_are_a_chats(void **state) {
    (void)state;
    assert_choice(SAY TOOL, "\"auto\"");
    assert_choice(SAY TOOL ",\"tool_choice\":{\"type\":\"any\"}", "\"required\"");
    assert_choice(SAY TOOL ",\"tool_choice\":{\"type\":\"none\"}", "\"none\"");
    assert_choice(SAY TOOL ",\"tool_choice\":{\"type\":\"tool\",\"name\":\"f\"}",
                  "{\"type\":\"function\",\"function\":{\"name\":\"f\"}}");
}

static void thinking_and_formats_are_a_chats(void **state) {
    (void)state;
    cohort_api_request api;
    cohort_api_error error;
    assert_true(translate(SAY "\"thinking\":{\"type\":\"disabled\"},\"output_config\":{"
                              "\"effort\":\"low\",\"format\":{\"type\":\"json_schema\","
                              "\"schema\":{\"type\":\"object\"}}}",
                          false, &api, &error));
    assert_string_equal(api.reasoning_effort.text, "none");
    assert_true(api.response_format.is_set);
    assert_int_equal(api.include_reasoning.whole, 1);
    assert_int_equal(api.skip_special_tokens.whole, 1);
    cohort_api_request_deinit(&api);
    cohort_api_error_deinit(&error);
}

static void what_is_wrong_is_refused(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"\"messages\":[{\"role\":\"x\",\"content\":\"a\"}]", "a role should be"},
        {"\"messages\":[{\"role\":\"user\",\"content\":5}]",
         "a text or a list of blocks"},
        {"\"messages\":[{\"role\":\"user\",\"content\":[{}]}]", "needs a type"},
        {"\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]",
         "needs its text"},
        {"\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\"}]}]",
         "takes no images"},
        {"\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"document\"}]}]",
         "'document' is not supported"},
        {SAY "\"tools\":[{\"name\":\"f\"}]", "an input_schema"},
        {SAY "\"tool_choice\":{\"type\":\"any\"}", "`tools` must be set"},
        {SAY TOOL ",\"tool_choice\":{\"type\":\"tool\"}", "name is required"},
        {SAY TOOL ",\"tool_choice\":{\"type\":\"x\"}", "its type should be"},
        {SAY "\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":5}", "at least 1024"},
        {SAY "\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":2000}",
         "less than max_tokens"},
        {SAY "\"thinking\":{\"type\":\"x\"}", "its type should be"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cohort_api_request api;
        cohort_api_error error;
        cohort_body told = {0};
        assert_false(translate(cases[i][0], false, &api, &error));
        cohort_api_error_write(&error, &told);
        if (error.status != 400 || !strstr(told.bytes, cases[i][1]) ||
            strncmp(told.bytes, "{\"type\":\"error\",\"error\":{", 25) != 0)
            fail_msg("%s: %d %s", cases[i][0], error.status, told.bytes);
        cohort_body_deinit(&told);
        cohort_api_request_deinit(&api);
        cohort_api_error_deinit(&error);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_become_messages),
        cmocka_unit_test(the_system_is_told_where_the_template_wants_it),
        cmocka_unit_test(tools_and_choices_are_a_chats),
        cmocka_unit_test(thinking_and_formats_are_a_chats),
        cmocka_unit_test(what_is_wrong_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
