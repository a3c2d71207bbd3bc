/* SPDX-License-Identifier: Apache-2.0 */
#include "server/responses_input.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/json_write.h"

/* The messages, or the refusal; the caller frees. */
static cohort_body translate(const char *text, const char *history, const char *field) {
    cohort_api_request api = {0};
    cohort_api_error error = {0};
    cohort_body out = {0};
    cJSON *before = history ? cJSON_Parse(history) : NULL;
    assert_true(cohort_api_request_read(&api, COHORT_SCHEMA_RESPONSES, text, strlen(text),
                                        &error));
    if (!cohort_responses_translate(&api, before, &error)) {
        assert_int_equal(error.status, 400);
        cohort_body_puts(&out, error.message.bytes);
    } else if (!strcmp(field, "messages")) {
        cohort_server_json_write(&out, api.messages.json);
    } else if (!strcmp(field, "tools")) {
        cohort_server_json_write(&out, api.tools.is_set ? api.tools.json : NULL);
        cohort_body_puts(&out, " ");
        cohort_server_json_write(&out,
                                 api.tool_choice.is_set ? api.tool_choice.json : NULL);
    } else {
        cohort_server_json_write(&out, api.response_format.json);
    }
    cJSON_Delete(before);
    cohort_api_request_deinit(&api);
    cohort_api_error_deinit(&error);
    return out;
}

static void assert_made(const char *body, const char *history, const char *field,
                        const char *expected) {
    cohort_body made = translate(body, history, field);
    assert_string_equal(made.bytes, expected);
    cohort_body_deinit(&made);
}

static void items_become_messages(void **state) {
    (void)state;
    static const struct {
        const char *body, *messages;
    } cases[] = {
        {"{\"input\":\"a\"}", "[{\"role\":\"user\",\"content\":\"a\"}]"},
        {"{\"input\":\"a\",\"instructions\":\"b\"}",
         "[{\"role\":\"system\",\"content\":\"b\"},{\"role\":\"user\",\"content\":\"a\"}"
         "]"},
        {"{\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_text\",\"text\":"
         "\"a\"}]}]}",
         "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"}]}]"},
        /* One turn is one message; the answer to a call is a tool's. */
        {"{\"input\":[{\"type\":\"reasoning\",\"summary\":[],\"content\":[{\"text\":"
         "\"h\"}]}"
         ",{\"type\":\"message\",\"role\":\"assistant\",\"content\":[{\"type\":"
         "\"output_text\",\"text\":\"b\"},{\"type\":\"output_text\",\"text\":\"c\"}]},"
         "{\"type\":\"function_call\",\"call_id\":\"1\",\"name\":\"f\",\"arguments\":\"{}"
         "\"},"
         "{\"type\":\"function_call\",\"call_id\":\"2\",\"name\":\"g\",\"arguments\":\"{}"
         "\"},"
         "{\"type\":\"function_call_output\",\"call_id\":\"1\",\"output\":\"x\"}]}",
         "[{\"role\":\"assistant\",\"reasoning\":\"h\",\"content\":\"bc\",\"tool_calls\":"
         "[{"
         "\"id\":\"1\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":"
         "\"{}\"}},{\"id\":\"2\",\"type\":\"function\",\"function\":{\"name\":\"g\","
         "\"arguments\":\"{}\"}}]},{\"role\":\"tool\",\"content\":\"x\",\"tool_call_id\":"
         "\"1\"}]"},
        {"{\"input\":[{\"type\":\"custom_tool_call\",\"call_id\":\"1\",\"name\":\"f\","
         "\"input\":\"a\\\"b\"}]}",
         "[{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"1\",\"type\":\"function\","
         "\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"input\\\": "
         "\\\"a\\\\\\\"b\\\"}\"}}]}]"},
        {"{\"input\":[{\"role\":\"assistant\",\"content\":\"a\"},{\"role\":\"assistant\","
         "\"content\":\"b\"}]}",
         "[{\"role\":\"assistant\",\"content\":\"a\"},{\"role\":\"assistant\","
         "\"content\":"
         "\"b\"}]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_made(cases[i].body, NULL, "messages", cases[i].messages);
}

static void the_response_before_is_gone_on_from(void **state) {
    (void)state;
    assert_made(
        "{\"input\":\"c\",\"instructions\":\"s\"}",
        "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"items\":[{\"type\":"
        "\"reasoning\",\"content\":[{\"text\":\"h\"}]},{\"type\":\"message\","
        "\"role\":\"assistant\",\"content\":[{\"type\":\"output_text\",\"text\":"
        "\"b\"}]}]}",
        "messages",
        "[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":"
        "\"a\"},{\"role\":\"assistant\",\"content\":\"b\"},{\"role\":\"user\","
        "\"content\":\"c\"}]");
}

static void tools_are_a_chats(void **state) {
    (void)state;
#define F \
    "{\"type\":\"function\",\"name\":\"f\",\"parameters\":{\"a\":1},\"strict\":true}"
#define G "{\"type\":\"function\",\"name\":\"g\"}"
#define CHAT_F                                                                      \
    "{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"a\":1}," \
    "\"strict\":true}}"
#define CHAT_G "{\"type\":\"function\",\"function\":{\"name\":\"g\"}}"
    static const struct {
        const char *body, *made;
    } cases[] = {
        {"{\"input\":\"a\",\"tools\":[" F "," G "]}", "[" CHAT_F "," CHAT_G "] \"auto\""},
        /* OpenAI's own tools are passed over. */
        {"{\"input\":\"a\",\"tools\":[{\"type\":\"web_search\"}," G "]}",
         "[" CHAT_G "] \"auto\""},
        {"{\"input\":\"a\",\"tools\":[{\"type\":\"web_search\"}]}", "null null"},
        {"{\"input\":\"a\",\"tools\":[" G "],\"tool_choice\":\"required\"}",
         "[" CHAT_G "] \"required\""},
        {"{\"input\":\"a\",\"tools\":[" F "],\"tool_choice\":{\"type\":\"function\","
         "\"name\":\"f\"}}",
         "[" CHAT_F "] {\"type\":\"function\",\"function\":{\"name\":\"f\"}}"},
        {"{\"input\":\"a\",\"tools\":[" F "," G "],\"tool_choice\":{\"type\":"
         "\"allowed_tools\",\"mode\":\"required\",\"tools\":[{\"type\":\"function\","
         "\"name\":\"g\"}]}}",
         "[" CHAT_G "] \"required\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_made(cases[i].body, NULL, "tools", cases[i].made);
    cohort_body made =
        translate("{\"input\":\"a\",\"tools\":[{\"type\":\"custom\",\"name\":\"c\"}]}",
                  NULL, "tools");
    assert_non_null(strstr(made.bytes, "\"required\":[\"input\"]"));
    cohort_body_deinit(&made);
}

static void a_format_is_a_chats(void **state) {
    (void)state;
    assert_made(
        "{\"input\":\"a\",\"text\":{\"format\":{\"type\":\"json_schema\",\"name\":"
        "\"n\",\"schema\":{\"type\":\"object\"}}}}",
        NULL, "format",
        "{\"type\":\"json_schema\",\"json_schema\":{\"schema\":{\"type\":"
        "\"object\"}}}");
    assert_made("{\"input\":\"a\",\"text\":{\"format\":{\"type\":\"json_object\"}}}",
                NULL, "format", "{\"type\":\"json_object\"}");
}

static void what_is_wrong_is_refused(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"{\"input\":[{\"type\":\"x\"}]}", "Unsupported input item type: x"},
        {"{\"input\":[{\"role\":5,\"content\":\"a\"}]}", "needs a role"},
        {"{\"input\":[{\"role\":\"user\"}]}", "needs content"},
        {"{\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_text\"}]}]}",
         "without a type or its text"},
        {"{\"input\":[{\"type\":\"function_call\",\"call_id\":\"1\",\"name\":\"f\"}]}",
         "needs call_id, name and arguments"},
        {"{\"input\":[{\"type\":\"function_call_output\",\"output\":\"a\"}]}",
         "needs a call_id"},
        {"{\"input\":[{\"type\":\"reasoning\",\"summary\":[],\"encrypted_content\":\"a\"}"
         "]}",
         "Encrypted content is not supported."},
        {"{\"input\":\"a\",\"tool_choice\":\"nonsense\"}",
         "tool_choice should be 'auto'"},
        {"{\"input\":\"a\",\"tool_choice\":\"required\"}",
         "'required' must be specified with 'tools'"},
        {"{\"input\":\"a\",\"tools\":[" G "],\"tool_choice\":{\"type\":\"file_search\"}}",
         "tool_choice of type 'file_search' is not supported"},
        {"{\"input\":\"a\",\"tools\":[{\"type\":\"function\"}]}", "needs a name"},
        {"{\"input\":\"a\",\"text\":{\"format\":{\"type\":\"json_schema\"}}}",
         "with a 'schema'"},
        {"{\"input\":\"a\",\"background\":true,\"store\":false}",
         "only be used when `store` is true"},
        {"{\"input\":\"a\",\"background\":true,\"stream\":true}", "is no stream"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cohort_body made = translate(cases[i][0], NULL, "messages");
        if (!strstr(made.bytes, cases[i][1])) fail_msg("%s: %s", cases[i][0], made.bytes);
        cohort_body_deinit(&made);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(items_become_messages),
        cmocka_unit_test(the_response_before_is_gone_on_from),
        cmocka_unit_test(tools_are_a_chats),
        cmocka_unit_test(a_format_is_a_chats),
        cmocka_unit_test(what_is_wrong_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
