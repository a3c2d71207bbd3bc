/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "chat/chat.h"
#include "chat/json_text.h"
#include "jinja/jinja.h"

#define PLAIN "{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}{{ mood }}"
#define PARTS                                                         \
    "{% for m in messages %}{{ m.role }}:{% for p in m['content'] %}" \
    "({{ p.type }} {{ p.text }}){% endfor %};{% endfor %}"

static cohort_chat *open_chat(const char *template_, cohort_content_format format) {
    cohort_chat *chat;
    assert_int_equal(cohort_chat_open("/nowhere", template_, format, &chat), COHORT_OK);
    return chat;
}

/* The text, or the error; the caller frees. */
static char *render(const cohort_chat *chat, const char *messages,
                    cohort_conversation conversation, bool *out_is_error) {
    char *text;
    size_t size;
    cJSON *json = cJSON_Parse(messages);
    assert_non_null(json);
    conversation.messages = json;
    *out_is_error = cohort_chat_render(chat, &conversation, &text, &size) < 0;
    if (*out_is_error) {
        assert_null(text);
        text = strdup(cohort_last_error()->message);
    } else {
        assert_int_equal(strlen(text), size);
    }
    cJSON_Delete(json);
    return text;
}

static void expect(const char *template_, cohort_content_format format,
                   const char *messages, cohort_conversation conversation,
                   const char *wanted) {
    cohort_chat *chat = open_chat(template_, format);
    bool is_error; /* of which the beginning will do */
    char *text = render(chat, messages, conversation, &is_error);
    size_t size = is_error ? strlen(wanted) : strlen(text) + 1;
    if (strncmp(text, wanted, size) != 0)
        fail_msg("%s of %s\ngives '%s'\nnot   '%s'", template_, messages, text, wanted);
    free(text);
    cohort_chat_close(chat);
}

static void a_template_that_goes_over_content_wants_parts(void **state) {
    (void)state;
    static const struct {
        const char *source;
        bool wants;
    } cases[] = {
        {PLAIN, false},
        {PARTS, true},
        {"{% for m in messages[1:] %}{% for p in m.content | list %}{% endfor %}{% "
         "endfor %}",
         true},
        {"{% set rest = messages[1:] %}{% set all = rest | list %}"
         "{% for m in all %}{% for p in m.content %}{% endfor %}{% endfor %}",
         true},
        {"{% if 1 %}{% else %}{% for m in messages if m.x %}{% if m.content is string %}"
         "{% else %}{% for p in m.content %}{% endfor %}{% endif %}{% endfor %}{% endif "
         "%}",
         true},
        {"{% macro show(m) %}{% for p in m.content %}{% endfor %}{% endmacro %}"
         "{% for m in messages %}{{ show(m) }}{% endfor %}",
         true},
        /* By another name; of something else; of other things of messages. */
        {"{% for m in messages %}{% set c = m.content %}{% for p in c %}{% endfor %}"
         "{% endfor %}",
         false},
        {"{% for m in tools %}{% for p in m.content %}{% endfor %}{% endfor %}", false},
        {"{% for m in messages %}{% for p in m.tool_calls %}{% endfor %}{% endfor %}",
         false},
        {"{% for p in messages[0].content %}{% endfor %}", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cohort_jinja *template_;
        assert_int_equal(
            cohort_jinja_compile(cases[i].source, strlen(cases[i].source), &template_),
            COHORT_OK);
        if (cohort_jinja_wants_parts(template_) != cases[i].wants)
            fail_msg("%s", cases[i].source);
        cohort_jinja_destroy(template_);
    }
}

static void content_reaches_a_template_as_it_looks_at_it(void **state) {
    (void)state;
    static const char mixed[] =
        "[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":null}"
        ","
        "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"b\"},\"c\","
        "{\"type\":\"refusal\",\"refusal\":\"d\"},{\"type\":\"text\",\"text\":null}]},"
        "{\"role\":\"tool\",\"content\":[{\"type\":\"input_text\",\"text\":\"e\"},\"f\"]}"
        "]";
    const cohort_conversation none = {0};
    static const char plain[] = "user:a;assistant:;user:b\nc\nd;tool:e\nf;";
    static const char parts[] =
        "user:(text a);assistant:;user:(text b)(text c)(text d);tool:( )( )( );";
    /* Names differ by case, too. */
    expect(PLAIN, COHORT_CONTENT_AUTO,
           "[{\"Role\":7,\"role\":\"user\",\"Content\":\"x\",\"content\":\"a\"}]", none,
           "user:a;");
    expect(PLAIN, COHORT_CONTENT_AUTO, mixed, none, plain);
    expect(PARTS, COHORT_CONTENT_AUTO, mixed, none, parts);
    expect(PLAIN, COHORT_CONTENT_TEXT, mixed, none, plain);
    expect(PARTS, COHORT_CONTENT_TEXT, mixed, none,
           "user:( );assistant:;user:( )( )( )( )( );tool:( )( )( );");
    expect(PLAIN, COHORT_CONTENT_PARTS, "[{\"role\":\"user\",\"content\":\"a\"}]", none,
           "user:[{'type': 'text', 'text': 'a'}];");
    expect(PLAIN, COHORT_CONTENT_AUTO,
           "[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]", none,
           "a message's part of type 'image_url' is not supported");
    expect(PLAIN, COHORT_CONTENT_AUTO, "[{\"role\":\"user\",\"content\":7}]", none,
           "a message's content is a text or a list");
    expect(PLAIN, COHORT_CONTENT_AUTO, "[]", none,
           "Cannot apply chat template to an empty");
}

static void developers_speak_as_the_system_where_nobody_knows_them(void **state) {
    (void)state;
    static const char talk[] =
        "[{\"role\":\"user\",\"content\":\"a\"},"
        "{\"role\":\"developer\",\"content\":[{\"type\":\"text\",\"text\":\"b\"},\"c\"]},"
        "{\"role\":\"system\",\"content\":\"d\"},{\"role\":\"user\",\"content\":\"e\"},"
        "{\"role\":\"developer\",\"content\":\"f\"}]";
    const cohort_conversation none = {0};
    expect(PLAIN, COHORT_CONTENT_AUTO, talk, none,
           "system:b\nc\n\nd\n\nf;user:a;user:e;");
    expect(PARTS, COHORT_CONTENT_AUTO, talk, none,
           "system:(text b\nc\n\nd\n\nf);user:(text a);user:(text e);");
    expect("{% set known = 'developer' %}" PLAIN, COHORT_CONTENT_AUTO, talk, none,
           "user:a;developer:b\nc;system:d;user:e;developer:f;");
}

static void the_last_message_is_continued_where_its_text_ends(void **state) {
    (void)state;
    const cohort_conversation continues = {.continue_final_message = true};
    static const char said[] = "[{\"role\":\"user\",\"content\":\"a "
                               "b\"},{\"role\":\"assistant\",\"content\":\"%s\"}]";
    static const struct {
        const char *template_, *content, *wanted;
    } cases[] = {
        {PLAIN, "a b", "user:a b;assistant:a b"},
        {PLAIN, " a b ", "user:a b;assistant: a b "},
        {PLAIN, "", "user:a b;assistant:"},
        {PARTS, "a ", "user:(text a b);assistant:(text a "},
        {"{% for m in messages %}{{ m.role }}:{{ m.content | trim }};{% endfor %}",
         " a\\n ", "user:a b;assistant:a"},
        {"{{ messages[0].content }}", "a",
         "continue_final_message is set but the final message does not appear in the "
         "chat after applying the chat template!"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char messages[400];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(messages, sizeof messages, said, cases[i].content);
#pragma GCC diagnostic pop
        expect(cases[i].template_, COHORT_CONTENT_AUTO, messages, continues,
               cases[i].wanted);
    }
    expect(PARTS, COHORT_CONTENT_AUTO,
           "[{\"role\":\"assistant\",\"content\":[\"a\",\"b\"]}]", continues,
           "assistant:(text a)(text b");
    expect(PARTS, COHORT_CONTENT_AUTO, "[{\"role\":\"assistant\",\"content\":[]}]",
           continues, "continue_final_message is set but we could not find any text");
}

static void a_request_may_say_more_but_not_otherwise(void **state) {
    (void)state;
    static const char hello[] = "[{\"role\":\"user\",\"content\":\"a\"}]";
    cJSON *extra = cJSON_Parse("{\"mood\":\"m\",\"messages\":[],\"tools\":[1]}");
    cJSON *documents = cJSON_Parse("[{\"title\":\"t\"}]");
    const cohort_conversation more = {.extra = extra,
                                      .documents = documents,
                                      .reasoning_effort = "low",
                                      .add_generation_prompt = true};
    expect(PLAIN, COHORT_CONTENT_AUTO, hello, more, "user:a;m");
    expect("{{ tools }} {{ documents[0].title }} {{ reasoning_effort }} "
           "{{ add_generation_prompt }}{",
           COHORT_CONTENT_AUTO, hello, more, "None t low True{");
    expect("{{ enable_thinking }}{", COHORT_CONTENT_AUTO, hello, more, "True{");
    const cohort_conversation lazy = {.reasoning_effort = "none"};
    expect("{{ enable_thinking }}{", COHORT_CONTENT_AUTO, hello, lazy, "False{");
    const cohort_conversation own = {.template_ = "{{ messages[0].content }}!"};
    expect(PLAIN, COHORT_CONTENT_AUTO, hello, own, "a!");
    const cohort_conversation broken = {.template_ = "{{ }}"};
    expect(PLAIN, COHORT_CONTENT_AUTO, hello, broken,
           "line 1: expected an expression, found '}}'");
    expect(NULL, COHORT_CONTENT_AUTO, hello, own, "a!");
    expect(NULL, COHORT_CONTENT_AUTO, hello, more, "As of transformers v4.44");
    cJSON_Delete(extra);
    cJSON_Delete(documents);
}

static void arguments_of_calls_are_what_their_text_says(void **state) {
    (void)state;
    static const char *const cases[][2] = {{"\"{\\\"x\\\": 1}\"", "{\"x\": 1}"},
                                           {"{\"x\": 2}", "{\"x\": 2}"},
                                           {"\"[1]\"", "{}"},
                                           {"[1]", "{}"},
                                           {"\"\"", "{}"},
                                           {"\"{} and more\"", "{}"},
                                           {"null", "{}"},
                                           {"7", "{}"}};
    const cohort_conversation none = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char messages[300];
        snprintf(messages, sizeof messages,
                 "[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\","
                 "\"arguments\":%s}},{\"function\":{}},{}]}]",
                 cases[i][0]);
        expect("{{ messages[0].tool_calls[0].function.arguments | tojson }}",
               COHORT_CONTENT_AUTO, messages, none, cases[i][1]);
        expect("{{ messages[0].tool_calls[1].function.arguments | tojson }}",
               COHORT_CONTENT_AUTO, messages, none, "{}");
    }
}

static void numbers_are_as_they_were_written(void **state) {
    (void)state;
    static const char body[] =
        "{\"a 1.0 \\\" 2.0\": [1.0, 1, {\"x\": -2.50e1, \"x\": 9007199254740993}, 5E0, "
        "\"7.0\", 123456789012345678901234567890, true, NaN, -Infinity]}";
    cJSON *extra = cJSON_Parse("{\"all\": 0}"), *json;
    cohort_chat_json_fault fault;
    assert_true(cohort_chat_json_load(body, strlen(body), &json, &fault));
    cJSON_ReplaceItemInObject(extra, "all", json);
    const cohort_conversation conversation = {.extra = extra};
    expect("{{ all | tojson }}{", COHORT_CONTENT_AUTO, "[{\"role\":\"user\"}]",
           conversation,
           "{\"a 1.0 \\\" 2.0\": [1.0, 1, {\"x\": 9007199254740993}, 5.0, \"7.0\", "
           "123456789012345678901234567890, true, NaN, -Infinity]}{");
    expect("{{ all['a 1.0 \" 2.0'][5] }} {{ all['a 1.0 \" 2.0'][5] is integer }}",
           COHORT_CONTENT_AUTO, "[{\"role\":\"user\"}]", conversation,
           "123456789012345678901234567890 True");
    cJSON_Delete(extra);
    const cohort_conversation none = {0};
    expect("{{ messages[0].tool_calls[0].function.arguments | tojson }}",
           COHORT_CONTENT_AUTO,
           "[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\","
           "\"arguments\":\"{\\\"x\\\": 20.0}\"}}]}]",
           none, "{\"x\": 20.0}");
}

/* Within the steps that a template has; those of n squared would be 800 million. */
static void sorting_costs_n_log_n(void **state) {
    (void)state;
    enum { N = 40000 };
    char name[16], *json = NULL;
    size_t size;
    FILE *out = open_memstream(&json, &size);
    cJSON *extra = cJSON_CreateObject(), *all = cJSON_AddObjectToObject(extra, "all");
    fputc('{', out);
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "%06d", N - i);
        cJSON_AddNumberToObject(all, name, i);
        fprintf(out, "%s\"%06d\": %d", i ? ", " : "", i + 1, N - 1 - i);
    }
    fputs("}1234567{", out);
    fclose(out);
    const cohort_conversation conversation = {.extra = extra};
    expect(
        "{{ all | tojson(sort_keys=true) }}{% for i in range(7) | sort(reverse=true) | "
        "list | sort %}{{ i + 1 }}{% endfor %}{",
        COHORT_CONTENT_AUTO, "[{\"role\":\"user\"}]", conversation, json);
    expect("{{ (all | dictsort | first)[0] }}{{ (all | list | sort | last) }}",
           COHORT_CONTENT_AUTO, "[{\"role\":\"user\"}]", conversation, "000001040000");
    cJSON_Delete(extra);
    free(json);
}

static void a_model_brings_a_template_for_tools(void **state) {
    (void)state;
    char dir[] = "/tmp/cohort-chat-XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/tokenizer_config.json", dir);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("{\"bos_token\":{\"content\":\"<s>\"},\"sep_token\":\"<p>\",\"chat_template\":["
          "{\"name\":\"tool_use\",\"template\":\"{{ tools[0] }}\"},"
          "{\"name\":\"default\",\"template\":\"{{ bos_token }}{{ sep_token }}\"}]}",
          file);
    fclose(file);
    cohort_chat *chat;
    assert_int_equal(cohort_chat_open(dir, NULL, COHORT_CONTENT_AUTO, &chat), COHORT_OK);
    cJSON *tools = cJSON_Parse("[7]");
    const cohort_conversation without = {0}, with = {.tools = tools};
    bool is_error;
    char *plain = render(chat, "[{\"role\":\"user\"}]", without, &is_error);
    char *tooled = render(chat, "[{\"role\":\"user\"}]", with, &is_error);
    assert_string_equal(plain, "<s><p>");
    assert_string_equal(tooled, "7");
    free(plain);
    free(tooled);
    cJSON_Delete(tools);
    cohort_chat_close(chat);
    unlink(path);
    rmdir(dir);
}

/* As in Jinja: in a branch it is an error only when it runs, elsewhere from the start. */
static void what_is_not_known_in_a_branch_is_refused_when_it_runs(void **state) {
    (void)state;
    const cohort_conversation none = {0};
    static const struct {
        const char *source, *wanted;
    } cases[] = {
        {"{% if tools %}{{ tools | from_json }}{% endif %}ok", "ok"},
        {"{% if not tools %}ok{% elif tools is nope %}a{% else %}{{ 1 | nope }}{% endif "
         "%}",
         "ok"},
        {"{{ 1 | nope if tools else 'ok' }}", "ok"},
        {"{% if tools | nope %}{% endif %}ok", "line 1: the filter 'nope' is not"},
        {"a\n{{ 1 | nope if not tools }}", "line 2: the filter 'nope' is not"},
        {"{% if not tools %}{{ 1 is nope }}{% endif %}",
         "line 1: the test 'nope' is not"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect(cases[i].source, COHORT_CONTENT_AUTO,
               "[{\"role\":\"user\",\"content\":\"a\"}]", none, cases[i].wanted);
    cohort_jinja *compiled;
    const char *source = "{% if a %}{{ a | x }}{% endif %}\n{{ 1 | nope }}";
    assert_int_equal(cohort_jinja_compile(source, strlen(source), &compiled),
                     COHORT_E_INVALID);
    assert_non_null(strstr(cohort_last_error()->message, "line 2: the filter 'nope'"));
}

/* Steps of rendering are bounded: of so many members none can look at all others. */
static void many_members_cost_their_number(void **state) {
    (void)state;
    enum { N = 100000 };
    cJSON *extra = cJSON_CreateObject(), *inner = cJSON_CreateObject();
    char name[16];
    for (int i = 0; i < 2 * N; i++) {
        snprintf(name, sizeof name, "k%d", i % N);
        cJSON_AddNumberToObject(extra, name, i);
        cJSON_AddNumberToObject(inner, name, i);
    }
    cJSON_AddItemToObject(extra, "d", inner);
    expect("{{ k0 }} {{ k99999 }} {{ d.k7 }} {{ d['k8'] }} {{ d|length }} "
           "{{ 'k9' in d }} {{ nine is defined }} {{ d == d }} {{ messages[0].role }}",
           COHORT_CONTENT_AUTO, "[{\"role\":\"user\",\"content\":\"x\"}]",
           (cohort_conversation){.extra = extra},
           "100000 199999 100007 100008 100000 True False True user");
    cJSON_Delete(extra);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_members_cost_their_number),
        cmocka_unit_test(a_template_that_goes_over_content_wants_parts),
        cmocka_unit_test(content_reaches_a_template_as_it_looks_at_it),
        cmocka_unit_test(developers_speak_as_the_system_where_nobody_knows_them),
        cmocka_unit_test(the_last_message_is_continued_where_its_text_ends),
        cmocka_unit_test(a_request_may_say_more_but_not_otherwise),
        cmocka_unit_test(arguments_of_calls_are_what_their_text_says),
        cmocka_unit_test(numbers_are_as_they_were_written),
        cmocka_unit_test(sorting_costs_n_log_n),
        cmocka_unit_test(a_model_brings_a_template_for_tools),
        cmocka_unit_test(what_is_not_known_in_a_branch_is_refused_when_it_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
