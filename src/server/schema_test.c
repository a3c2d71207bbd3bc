/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies: what passes, what each field becomes, and where a fault is said to be. */
#include "server/schema.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "chat/json_text.h"

#define AT(kind, place) "{'type': '" kind "', 'loc': '" place "'"
#define CALL(inside)                                                                  \
    "{\"messages\":[{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[" inside \
    "]}]}"

typedef struct body_case {
    cohort_server_schema schema;
    const char *text;
    const char *wanted; /* of the refusal; NULL: it passes */
} body_case;

static const body_case forms[] = {
    {COHORT_SCHEMA_COMPLETION, "", AT("missing", "body")},
    {COHORT_SCHEMA_COMPLETION, "null", AT("missing", "body")},
    {COHORT_SCHEMA_COMPLETION, "[]", AT("model_attributes_type", "body")},
    {COHORT_SCHEMA_COMPLETION, "7", AT("model_attributes_type", "body")},
    {COHORT_SCHEMA_COMPLETION, "\"a\"", AT("model_attributes_type", "body")},
    {COHORT_SCHEMA_COMPLETION, " ", AT("json_invalid", "body.1")},
    {COHORT_SCHEMA_COMPLETION, "{", AT("json_invalid", "body.1")},
    {COHORT_SCHEMA_COMPLETION, "{}x", "'error': 'Extra data'"},
    {COHORT_SCHEMA_COMPLETION, "{\"a\":\"\\ud83d\"}", "Invalid \\uXXXX escape"},
    {COHORT_SCHEMA_COMPLETION, "{\"a\":\"\\u0000\"}", NULL},
    {COHORT_SCHEMA_COMPLETION, "{}", NULL},
    {COHORT_SCHEMA_COMPLETION, " {} ", NULL},
    {COHORT_SCHEMA_COMPLETION, "{\"unknown\":[{}]}", NULL},
    {COHORT_SCHEMA_COMPLETION, "{\"n\":\"x\",\"n\":2}", NULL}, /* the last counts */
    {COHORT_SCHEMA_COMPLETION, "{\"n\":2,\"n\":\"x\"}", AT("int_parsing", "body.n")},
    {COHORT_SCHEMA_CHAT, "{}", AT("missing", "body.messages")},
    {COHORT_SCHEMA_CHAT, "{\"messages\":null}", AT("list_type", "body.messages")},
    {COHORT_SCHEMA_TOKENIZE, "{}", AT("missing", "body.prompt")},
    {COHORT_SCHEMA_TOKENIZE, "{\"prompt\":\"\"}", NULL},
    {COHORT_SCHEMA_TOKENIZE, "{\"messages\":[]}", NULL}, /* the other of its bodies */
    {COHORT_SCHEMA_TOKENIZE, "{\"messages\":7}", AT("list_type", "body.messages")},
    {COHORT_SCHEMA_TOKENIZE, "{\"messages\":7,\"prompt\":\"\"}", NULL},
    {COHORT_SCHEMA_DETOKENIZE, "{}", AT("missing", "body.tokens")},
    {COHORT_SCHEMA_DETOKENIZE, "{\"tokens\":[]}", NULL},
    {COHORT_SCHEMA_DETOKENIZE, "{\"tokens\":[1,\"2\",3.0]}", NULL},
    {COHORT_SCHEMA_DETOKENIZE, "{\"tokens\":[1,2.5]}",
     AT("int_from_float", "body.tokens.1")},
};

static const body_case fields[] = {
    {COHORT_SCHEMA_COMPLETION, "{\"model\":null}", NULL},
    {COHORT_SCHEMA_COMPLETION, "{\"model\":7}", AT("string_type", "body.model")},
    {COHORT_SCHEMA_COMPLETION, "{\"request_id\":null}",
     AT("string_type", "body.request_id")},
    {COHORT_SCHEMA_COMPLETION, "{\"ignore_eos\":null}",
     AT("bool_type", "body.ignore_eos")},
    {COHORT_SCHEMA_COMPLETION, "{\"stream\":null}", NULL},
    {COHORT_SCHEMA_COMPLETION, "{\"stream\":2}", AT("bool_parsing", "body.stream")},
    {COHORT_SCHEMA_COMPLETION, "{\"stream\":\"maybe\"}",
     AT("bool_parsing", "body.stream")},
    {COHORT_SCHEMA_COMPLETION, "{\"stream\":{}}", AT("bool_type", "body.stream")},
    {COHORT_SCHEMA_COMPLETION, "{\"seed\":\"7.0\"}", AT("int_parsing", "body.seed")},
    {COHORT_SCHEMA_COMPLETION, "{\"seed\":\"\"}", AT("int_parsing", "body.seed")},
    {COHORT_SCHEMA_COMPLETION, "{\"seed\":[7]}", AT("int_type", "body.seed")},
    {COHORT_SCHEMA_COMPLETION, "{\"seed\":1e19}", AT("int_parsing_size", "body.seed")},
    /* Bounds that the form has. */
    {COHORT_SCHEMA_COMPLETION, "{\"truncate_prompt_tokens\":-1}", NULL},
    {COHORT_SCHEMA_COMPLETION, "{\"truncate_prompt_tokens\":-2}", "'ctx': {'ge': -1}"},
    {COHORT_SCHEMA_COMPLETION, "{\"routed_experts_prompt_start\":0}", NULL},
    {COHORT_SCHEMA_COMPLETION, "{\"routed_experts_prompt_start\":-1}",
     "'ctx': {'ge': 0}"},
    {COHORT_SCHEMA_CHAT, "{\"messages\":[],\"stream_interval\":1}", NULL},
    {COHORT_SCHEMA_CHAT, "{\"messages\":[],\"stream_interval\":0}", "'ctx': {'ge': 1}"},
    {COHORT_SCHEMA_COMPLETION, "{\"truncation_side\":\"left\"}", NULL},
    {COHORT_SCHEMA_COMPLETION, "{\"truncation_side\":\"LEFT\"}",
     AT("literal_error", "body.truncation_side")},
    {COHORT_SCHEMA_COMPLETION, "{\"truncation_side\":\"\"}",
     AT("literal_error", "body.truncation_side")},
    {COHORT_SCHEMA_COMPLETION, "{\"truncation_side\":\"left' or 'right\"}",
     AT("literal_error", "body.truncation_side")},
    {COHORT_SCHEMA_COMPLETION, "{\"truncation_side\":\" or \"}",
     AT("literal_error", "body.truncation_side")},
    {COHORT_SCHEMA_TOKENIZE, "{\"messages\":[],\"Prompt\":1}", NULL},
    {COHORT_SCHEMA_COMPLETION, "{\"stream_options\":{\"include_usage\":7}}",
     AT("bool_parsing", "body.stream_options.include_usage")},
    {COHORT_SCHEMA_COMPLETION, "{\"stream_options\":[]}",
     AT("dict_type", "body.stream_options")},
    /* What is not done is refused where it asks for something. */
    {COHORT_SCHEMA_COMPLETION, "{\"use_beam_search\":false}", NULL},
    {COHORT_SCHEMA_COMPLETION, "{\"use_beam_search\":true}",
     "use_beam_search is not supported"},
    {COHORT_SCHEMA_COMPLETION, "{\"prompt_embeds\":[]}", NULL},
    {COHORT_SCHEMA_COMPLETION, "{\"prompt_embeds\":\"a\"}",
     "prompt_embeds is not supported"},
    {COHORT_SCHEMA_COMPLETION, "{\"thinking_token_budget\":-1}", NULL},
    {COHORT_SCHEMA_COMPLETION, "{\"thinking_token_budget\":0}",
     "thinking_token_budget is not supported"},
    {COHORT_SCHEMA_COMPLETION, "{\"repetition_detection\":{\"max_pattern_size\":0}}",
     NULL},
    {COHORT_SCHEMA_COMPLETION, "{\"repetition_detection\":{\"max_pattern_size\":1}}",
     "repetition_detection is not supported"},
    /* Shapes. */
    {COHORT_SCHEMA_COMPLETION, "{\"prompt\":[]}", NULL},
    {COHORT_SCHEMA_COMPLETION, "{\"prompt\":[0]}", NULL},
    {COHORT_SCHEMA_COMPLETION, "{\"prompt\":[[0],[]]}", NULL},
    {COHORT_SCHEMA_COMPLETION, "{\"prompt\":[\"a\",\"\"]}", NULL},
    {COHORT_SCHEMA_COMPLETION, "{\"prompt\":[\"a\",0]}",
     AT("string_type", "body.prompt.1")},
    {COHORT_SCHEMA_COMPLETION, "{\"prompt\":[-1]}",
     AT("greater_than_equal", "body.prompt.0")},
    {COHORT_SCHEMA_COMPLETION, "{\"prompt\":7}", "4 validation errors:"},
    {COHORT_SCHEMA_COMPLETION, "{\"logit_bias\":{\"1\":[]}}",
     AT("float_type", "body.logit_bias.1")},
    {COHORT_SCHEMA_COMPLETION, "{\"model\":7,\"n\":[],\"echo\":7}",
     "3 validation errors:"},
};

static const body_case messages[] = {
    {COHORT_SCHEMA_CHAT, "{\"messages\":[7]}", AT("dict_type", "body.messages.0")},
    {COHORT_SCHEMA_CHAT, "{\"messages\":[{}]}", AT("missing", "body.messages.0.role")},
    {COHORT_SCHEMA_CHAT, "{\"messages\":[{\"role\":7}]}",
     AT("string_type", "body.messages.0.role")},
    {COHORT_SCHEMA_CHAT, "{\"messages\":[{\"role\":\"\"}]}", NULL},
    {COHORT_SCHEMA_CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":\"\"}]}", NULL},
    {COHORT_SCHEMA_CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":null}]}",
     AT("iterable_type", "body.messages.0.content")},
    {COHORT_SCHEMA_CHAT, "{\"messages\":[{\"role\":\"assistant\",\"content\":null}]}",
     NULL},
    {COHORT_SCHEMA_CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":[]}]}", NULL},
    {COHORT_SCHEMA_CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":[\"a\"]}]}",
     AT("dict_type", "body.messages.0.content.0")},
    {COHORT_SCHEMA_CHAT, "{\"messages\":[{\"role\":\"other\",\"content\":[\"a\"]}]}",
     NULL},
    {COHORT_SCHEMA_CHAT,
     "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]}",
     AT("missing", "body.messages.0.content.0.text")},
    {COHORT_SCHEMA_CHAT, CALL(""), NULL},
    {COHORT_SCHEMA_CHAT,
     CALL("{\"id\":\"a\",\"type\":\"function\",\"function\":{\"name\":\"f\","
          "\"arguments\":\"\"}}"),
     NULL},
    {COHORT_SCHEMA_CHAT,
     CALL("{\"id\":\"a\",\"type\":\"function\",\"function\":{\"name\":\"f\"}}"),
     AT("missing", "body.messages.0.tool_calls.0.function.arguments")},
    {COHORT_SCHEMA_CHAT, CALL("{\"id\":\"a\",\"type\":\"other\"}"),
     AT("literal_error", "body.messages.0.tool_calls.0")},
    {COHORT_SCHEMA_CHAT, "{\"messages\":[],\"tools\":[]}", NULL},
    {COHORT_SCHEMA_CHAT, "{\"messages\":[],\"tools\":[{}]}",
     AT("missing", "body.tools.0.function")},
    {COHORT_SCHEMA_CHAT, "{\"messages\":[],\"tools\":[{\"function\":{\"name\":7}}]}",
     AT("string_type", "body.tools.0.function.name")},
};

static bool passes(cohort_server_schema schema, const char *text, cohort_body *refusal) {
    cohort_api_request request;
    cohort_api_error error = {0};
    cohort_body envelope = {0};
    bool fine = cohort_api_request_read(&request, schema, text, strlen(text), &error);
    assert_int_equal(error.status, fine ? 0 : 400);
    if (!fine) {
        cohort_api_error_write(&error, &envelope);
        cJSON *json = cJSON_Parse(envelope.bytes);
        const cJSON *inside = cJSON_GetObjectItem(json, "error");
        const cJSON *message = cJSON_GetObjectItem(inside, "message");
        if (!message) message = cJSON_GetObjectItem(json, "detail"); /* FastAPI's own */
        assert_non_null(message);
        cohort_body_puts(refusal, message->valuestring);
        if (inside) assert_int_equal(cJSON_GetObjectItem(inside, "code")->valueint, 400);
        cJSON_Delete(json);
    }
    cohort_body_deinit(&envelope);
    cohort_api_request_deinit(&request);
    cohort_api_error_deinit(&error);
    return fine;
}

static void run(const body_case *cases, size_t n) {
    for (size_t i = 0; i < n; i++) {
        cohort_body refusal = {0};
        bool fine = passes(cases[i].schema, cases[i].text, &refusal);
        bool is_wanted =
            cases[i].wanted ? !fine && strstr(refusal.bytes, cases[i].wanted) : fine;
        if (!is_wanted)
            fail_msg("%s: %s", cases[i].text, refusal.bytes ? refusal.bytes : "passes");
        cohort_body_deinit(&refusal);
    }
}

#define RUN(list) run(list, sizeof(list) / sizeof *(list))

static void bodies_have_a_form(void **unused) {
    (void)unused;
    RUN(forms);
}

static void fields_have_kinds_and_bounds(void **unused) {
    (void)unused;
    RUN(fields);
}

static void messages_are_checked_to_the_last_text(void **unused) {
    (void)unused;
    RUN(messages);
}

static void nesting_has_a_limit(void **unused) {
    (void)unused;
    const int most = COHORT_CHAT_JSON_MAX_DEPTH - 1; /* within an object */
    for (int depth = most; depth <= most + 1; depth++) {
        cohort_body text = {0}, refusal = {0};
        cohort_body_puts(&text, "{\"unknown\":");
        for (int i = 0; i < depth; i++)
            cohort_body_puts(&text, "[");
        for (int i = 0; i < depth; i++)
            cohort_body_puts(&text, "]");
        cohort_body_puts(&text, "}");
        bool fine = passes(COHORT_SCHEMA_COMPLETION, text.bytes, &refusal);
        assert_int_equal(fine, depth == most);
        if (!fine)
            assert_string_equal(
                refusal.bytes,
                "There was an error parsing the body: it is nested more than 990 deep");
        cohort_body_deinit(&text);
        cohort_body_deinit(&refusal);
    }
}

static void read(cohort_api_request *out, cohort_server_schema schema, const char *text) {
    cohort_api_error error = {0};
    assert_true(cohort_api_request_read(out, schema, text, strlen(text), &error));
    cohort_api_error_deinit(&error);
}

static void absent_null_and_given_are_told_apart(void **unused) {
    (void)unused;
    static const char *const bodies[] = {"{}", "{\"max_tokens\":null}",
                                         "{\"max_tokens\":0}"};
    for (int i = 0; i < 3; i++) {
        cohort_api_request request;
        read(&request, COHORT_SCHEMA_COMPLETION, bodies[i]);
        assert_int_equal(request.max_tokens.is_set, i == 2);
        assert_int_equal(request.max_tokens.is_null, i == 1);
        assert_int_equal(request.max_tokens.whole, i == 2 ? 0 : 16); /* the default */
        assert_int_equal(request.skip_special_tokens.whole, 1);
        cohort_api_request_deinit(&request);
    }
}

static void truth_and_numbers_come_in_strings_too(void **unused) {
    (void)unused;
    static const struct {
        const char *text;
        int64_t stream, seed;
    } wanted[] = {
        {"{\"stream\":\"YES\",\"seed\":\" 7 \"}", 1, 7},
        {"{\"stream\":\"off\",\"seed\":\"-7\"}", 0, -7},
        {"{\"stream\":1,\"seed\":7.0}", 1, 7},
        {"{\"stream\":0.0,\"seed\":true}", 0, 1},
        {"{\"stream\":\"t\",\"seed\":9007199254740993}", 1, INT64_C(9007199254740993)},
        {"{\"stream\":\"N\",\"seed\":-9223372036854775808}", 0, INT64_MIN},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        cohort_api_request request;
        read(&request, COHORT_SCHEMA_COMPLETION, wanted[i].text);
        assert_int_equal(request.stream.whole, wanted[i].stream);
        assert_true(request.seed.whole == wanted[i].seed);
        cohort_api_request_deinit(&request);
    }
}

static void what_is_borrowed_survives_a_trim(void **unused) {
    (void)unused;
    cohort_api_request request;
    read(&request, COHORT_SCHEMA_COMPLETION,
         "{\"prompt\":\"a long "
         "text\",\"stop\":[\"b\",\"cd\"],\"cache_salt\":\"e\",\"n\":2}");
    request.parsed_bytes = 5;
    size_t bytes = cohort_api_request_trim(&request);
    /* A list of two texts and a text. */
    assert_int_equal(bytes, 4 * sizeof(cJSON) + strlen("bcde"));
    assert_int_equal(cJSON_GetArraySize(request.stop.json), 2);
    assert_string_equal(request.cache_salt.text, "e");
    assert_false(request.prompt.is_set);
    assert_false(request.n.is_set);
    assert_int_equal(request.parsed_bytes, 5);
    assert_int_equal(cJSON_GetArraySize(request.json), 2);
    cohort_api_request_deinit(&request);
}

static void ids_may_be_any_integer(void **unused) {
    (void)unused;
    cJSON *list = cJSON_Parse("[7,\"7\",7.0,true,-3,7.5,null,\"x\",[],1e30]");
    static const int64_t wanted[] = {7, 7, 7, 1, -3, -1, -1, -1, -1, -1};
    for (int i = 0; i < 10; i++)
        assert_int_equal(cohort_api_id(cJSON_GetArrayItem(list, i)), wanted[i]);
    cJSON_Delete(list);
}

static void description_has_every_body(void **unused) {
    (void)unused;
    static const char *const required[COHORT_N_SCHEMAS] = {NULL,
                                                           "messages",
                                                           "prompt",
                                                           "messages",
                                                           "tokens",
                                                           "instruction",
                                                           "input",
                                                           "model,messages,max_tokens",
                                                           "model,messages"};
    cohort_body text = {0};
    cohort_server_schema_write(&text);
    cJSON *json = cJSON_Parse(text.bytes);
    assert_non_null(json);
    for (int i = 0; i < COHORT_N_SCHEMAS; i++) {
        const cJSON *of =
            cJSON_GetObjectItem(json, cohort_server_schema_name((cohort_server_schema)i));
        const cJSON *fields_of = cJSON_GetObjectItem(of, "properties"), *field;
        assert_true(cJSON_GetArraySize(fields_of) > (i != COHORT_SCHEMA_INSTRUCTION));
        cJSON_ArrayForEach(field, fields_of) assert_true(cJSON_IsObject(field));
        const cJSON *list = cJSON_GetObjectItem(of, "required");
        char names[80] = "";
        cJSON_ArrayForEach(field, list) {
            if (*names) strcat(names, ",");
            strcat(names, field->valuestring);
        }
        assert_string_equal(names, required[i] ? required[i] : "");
    }
    cJSON_Delete(json);
    cohort_body_deinit(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bodies_have_a_form),
        cmocka_unit_test(fields_have_kinds_and_bounds),
        cmocka_unit_test(messages_are_checked_to_the_last_text),
        cmocka_unit_test(nesting_has_a_limit),
        cmocka_unit_test(absent_null_and_given_are_told_apart),
        cmocka_unit_test(truth_and_numbers_come_in_strings_too),
        cmocka_unit_test(what_is_borrowed_survives_a_trim),
        cmocka_unit_test(ids_may_be_any_integer),
        cmocka_unit_test(description_has_every_body),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
