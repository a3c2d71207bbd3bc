/* SPDX-License-Identifier: Apache-2.0 */
/* Calls in every form that models write them in, whole and cut at every place, in one
 * line: R thoughts, C content, N a call's name, A its arguments, I its id. */
#include "chat/output.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { TOLD_BYTES = 4096 };

typedef struct told {
    char text[TOLD_BYTES];
    size_t size;
    int last; /* kind, -1: none */
} told;

static void note(void *user_data, cohort_output_kind kind, int32_t call, const char *text,
                 size_t size) {
    told *out = user_data;
    bool goes_on = (int)kind == out->last && kind < COHORT_OUTPUT_CALL;
    (void)call;
    assert_true(out->size + size + 8 < TOLD_BYTES);
    if (!goes_on)
        out->size += (size_t)sprintf(out->text + out->size, "|%c:", "RCNAI"[kind]);
    memcpy(out->text + out->size, text, size);
    out->size += size;
    out->text[out->size] = '\0';
    out->last = (int)kind;
}

static const char types[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":"
    "\"object\",\"properties\":{\"n\":{\"type\":\"integer\"},\"x\":{\"type\":\"number\"},"
    "\"b\":{\"type\":\"boolean\"},\"o\":{\"type\":\"object\"},\"s\":{\"type\":\"string\"}"
    ","
    "\"u\":{\"anyOf\":[{\"type\":\"null\"},{\"type\":[\"array\",\"string\"]}]}}}}}]";

static void take_apart(const char *name, const cJSON *tools, const char *text,
                       const size_t *cuts, size_t n_cuts, told *out) {
    cohort_output_options options = {.finds_calls = true, .tools = tools};
    cohort_output *output;
    size_t at = 0, size = strlen(text);
    assert_int_equal(cohort_output_format_find(name, &options.format), COHORT_OK);
    *out = (told){.last = -1};
    assert_int_equal(cohort_output_create(&options, note, out, &output), COHORT_OK);
    for (size_t i = 0; i < n_cuts; at = cuts[i++])
        cohort_output_feed(output, text + at, cuts[i] - at);
    cohort_output_feed(output, text + at, size - at);
    assert_int_equal(cohort_output_finish(output), COHORT_OK);
    cohort_output_destroy(output);
}

#define T(word) "<\xef\xbd\x9ctool\xe2\x96\x81" word "\xef\xbd\x9c>"
#define CALLS             \
    T("calls\xe2\x96\x81" \
      "begin")
#define CALLS_END         \
    T("calls\xe2\x96\x81" \
      "end")
#define CALL             \
    T("call\xe2\x96\x81" \
      "begin")
#define CALL_END         \
    T("call\xe2\x96\x81" \
      "end")
#define SEP       T("sep")
#define ARGUMENTS "{\"a\": \"}]{\\\"[\", \"b\": [1, {}]}"
#define OBJECT    "{\"name\": \"f\", \"arguments\": " ARGUMENTS "}"
#define TOLD      "|N:f|A:" ARGUMENTS
#define NAN_CALL  "{\"name\": \"f\", \"parameters\": {\"a\": [-Infinity]}}"
#define KIMI(arguments)                                            \
    "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0" \
    "<|tool_call_argument_begin|>" arguments                       \
    "<|tool_call_end|><|tool_calls_section_end|>"
#define BARE "{\"name\": \"g\", \"parameters\": {}}"

static const struct {
    const char *format, *text, *expected;
} cases[] = {
    {"llama3_json", "plain", "|C:plain"},
    {"llama3_json", OBJECT, TOLD},
    {"llama3_json", "<|python_tag|>" OBJECT "; " BARE, TOLD "|N:g|A:{}"},
    {"llama3_json", "Well. " BARE " tail", "|C:Well. |N:g|A:{}"},
    {"llama3_json", "if (a) { b }", "|C:if (a) { b }"},
    {"llama3_json", "{\"name\": \"f\"}", "|C:{\"name\": \"f\"}"},
    {"llama3_json", "{\"name\": \"f\", \"param", "|C:{\"name\": \"f\", \"param"},
    {"llama3_json", "{ {\"a\": 1} " BARE, "|C:{ {\"a\": 1} |N:g|A:{}"},
    /* What is within an object that is whole is no call. */
    {"llama3_json", "Use {\"a\": " OBJECT "} here", "|C:Use {\"a\": " OBJECT "} here"},
    {"llama3_json", "{\"a\": " OBJECT "} " BARE, "|C:{\"a\": " OBJECT "} |N:g|A:{}"},
    {"granite", "<|tool_call|>[" OBJECT ", " BARE "]", TOLD "|N:g|A:{}"},
    {"granite", "a <|tool_call|> b", "|C:a <|tool_call|> b"},
    {"phi4_mini_json", "functools[" OBJECT "," BARE "]", TOLD "|N:g|A:{}"},
    {"phi4_mini_json", "functools are", "|C:functools are"},
    {"jamba", "a <tool_calls>[\n" OBJECT ",\n" BARE "\n]</tool_calls>",
     "|C:a " TOLD "|N:g|A:{}"},
    {"internlm", "a<|action_start|><|plugin|>\n" BARE "<|action_end|>\n",
     "|C:a|N:g|A:{}"},
    {"mistral", "[TOOL_CALLS][" OBJECT ", " BARE "]", TOLD "|N:g|A:{}"},
    {"mistral", "[TOOL_CALLS] [" BARE "]", "|N:g|A:{}"},
    {"mistral", "a[TOOL_CALLS]f" ARGUMENTS "[TOOL_CALLS]g[ARGS]{}",
     "|C:a" TOLD "|N:g|A:{}"},
    {"mistral", "[TOOL_CALLS]f{\"a\": 1", "|C:[TOOL_CALLS]f{\"a\": 1"},
    {"mistral", "[TOOL] and [1, 2]", "|C:[TOOL] and [1, 2]"},
    {"deepseek_v3",
     "a" CALLS CALL "function" SEP "f\n```json\n" ARGUMENTS "\n```" CALL_END "\n" CALL
     "function" SEP "g\n```json\n{}\n```" CALL_END CALLS_END,
     "|C:a" TOLD "|N:g|A:{}"},
    {"deepseek_v3", "a" CALLS CALL "function" SEP "f",
     "|C:a" CALLS CALL "function" SEP "f"},
    {"deepseek_v31",
     CALLS CALL "f" SEP ARGUMENTS CALL_END CALL "g" SEP "{}" CALL_END CALLS_END,
     TOLD "|N:g|A:{}"},
    {"kimi_k2",
     "a<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0"
     "<|tool_call_argument_begin|>" ARGUMENTS "<|tool_call_end|><|tool_call_begin|>g:1"
     "<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>",
     "|C:a|N:f|I:functions.f:0|A:" ARGUMENTS "|N:g|I:g:1|A:{}"},
    /* Arguments that are no JSON are no call's. */
    {"kimi_k2", KIMI("not } json"), "|C:" KIMI("not } json")},
    {"kimi_k2", KIMI("{\"a\": NaN}"), "|C:" KIMI("{\"a\": NaN}")},
    {"kimi_k2", KIMI("{} {}"), "|C:" KIMI("{} {}")},
    {"deepseek_v31", CALLS CALL "f" SEP "{\"a\": " CALL_END CALLS_END,
     "|C:" CALLS CALL "f" SEP "{\"a\": " CALL_END CALLS_END},
    {"llama3_json", NAN_CALL, "|C:" NAN_CALL},
    {"qwen3_coder",
     "a<tool_call>\n<function=f>\n<parameter=s>\n12\n</parameter>\n<parameter=n>\n-12\n"
     "</parameter>\n<parameter=x>1.50</parameter>\n<parameter=b>\nTrue\n</parameter>\n"
     "<parameter=o>\n{\"k\":[1]}\n</parameter>\n<parameter=u>null</parameter>\n"
     "</function>\n</tool_call>\n<tool_call>\n<function=g>\n</function>\n</tool_call>",
     "|C:a|N:f|A:{\"s\": \"12\", \"n\": -12, \"x\": 1.50, \"b\": true, \"o\": {\"k\": "
     "[1]}, "
     "\"u\": null}|N:g|A:{}"},
    /* What is not of its type stays a text; a parameter ends where the next begins. */
    {"qwen3_xml",
     "<function=f><parameter=n>1.5<parameter=u>[1, 2]</parameter><parameter=b>2"
     "</parameter><parameter=z>\n\na\n\"\\\t\n\n</parameter></function>",
     "|N:f|A:{\"n\": \"1.5\", \"u\": [1, 2], \"b\": \"2\", \"z\": "
     "\"\\na\\n\\\"\\\\\\t\\n\"}"},
    {"qwen3_coder", "a <tool_call> b", "|C:a <tool_call> b"},
    {"qwen3_coder", "<tool_call>\n<function=f>\n<parameter=s>",
     "|C:<tool_call>\n<function=f>\n<parameter=s>"},
};

static void calls_are_told_however_they_are_cut(void **state) {
    (void)state;
    cJSON *tools = cJSON_Parse(types);
    assert_non_null(tools);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *text = cases[i].text;
        size_t size = strlen(text), cuts[TOLD_BYTES];
        told out;
        take_apart(cases[i].format, tools, text, NULL, 0, &out);
        assert_string_equal(out.text, cases[i].expected);
        for (size_t cut = 1; cut < size; cut++) {
            cuts[cut - 1] = cut;
            take_apart(cases[i].format, tools, text, &cut, 1, &out);
            assert_string_equal(out.text, cases[i].expected);
        }
        take_apart(cases[i].format, tools, text, cuts, size - 1, &out);
        assert_string_equal(out.text, cases[i].expected);
    }
    cJSON_Delete(tools);
}

/* Schemas are of strangers: of any form, and of any size. */
static void parameters_without_a_schema_are_texts(void **state) {
    (void)state;
    enum { N_CHOICES = 100000 };
    static const char head[] = "[{\"function\":{\"name\":\"f\",\"parameters\":"
                               "{\"properties\":{\"k\":{\"anyOf\":[";
    static const char tail[] = "{\"type\":\"integer\"}]}}}}}]";
    static const char text[] = "<function=f><parameter=k>1</parameter></function>";
    static const char *const broken[] = {
        "[{\"function\":{\"name\":\"f\",\"parameters\":{\"properties\":[\"k\"]}}}]",
        "[{\"function\":{\"name\":\"f\",\"parameters\":[[{\"type\":\"integer\"}]]}}]",
        "[{\"function\":[\"f\"]},\"f\",null]",
        "[{\"function\":{\"name\":\"f\",\"parameters\":{\"properties\":{\"k\":[\"type\"]}"
        "}}}"
        "]",
        "[{\"function\":{\"name\":\"f\",\"parameters\":{\"properties\":{\"k\":{\"type\":["
        "{\"integer\":1}],\"anyOf\":[\"integer\"],\"oneOf\":7}}}}}]"};
    for (size_t i = 0; i < sizeof broken / sizeof *broken + 2; i++) {
        char *large = calloc(1, sizeof head + sizeof tail + 3 * (size_t)N_CHOICES);
        told out;
        assert_non_null(large);
        char *at = stpcpy(large, head);
        /* Of the last two the first is small enough to be read to its end. */
        for (int n = i == sizeof broken / sizeof *broken ? 1 : N_CHOICES; n; n--)
            at = stpcpy(at, "{},");
        strcpy(at, tail);
        bool is_known = i == sizeof broken / sizeof *broken;
        cJSON *tools =
            cJSON_Parse(i < sizeof broken / sizeof *broken ? broken[i] : large);
        assert_non_null(tools);
        take_apart("qwen3_coder", tools, text, NULL, 0, &out);
        assert_string_equal(out.text,
                            is_known ? "|N:f|A:{\"k\": 1}" : "|N:f|A:{\"k\": \"1\"}");
        cJSON_Delete(tools);
        free(large);
    }
}

static void count(void *user_data, cohort_output_kind kind, int32_t call,
                  const char *text, size_t size) {
    size_t *bytes = user_data;
    (void)call;
    (void)text;
    bytes[kind] += size;
}

/* In pieces of a token each; bytes of each kind. */
static void count_pieces(const char *begin, const char *part, size_t n_parts,
                         const char *end, size_t bytes[5]) {
    cohort_output_options options = {.finds_calls = true};
    cohort_output *output;
    assert_int_equal(cohort_output_format_find("llama3_json", &options.format),
                     COHORT_OK);
    assert_int_equal(cohort_output_create(&options, count, bytes, &output), COHORT_OK);
    cohort_output_feed(output, begin, strlen(begin));
    for (size_t i = 0; i < n_parts; i++)
        cohort_output_feed(output, part, strlen(part));
    cohort_output_feed(output, end, strlen(end));
    assert_int_equal(cohort_output_finish(output), COHORT_OK);
    cohort_output_destroy(output);
}

/* A file of a megabyte as an argument: looked at anew for every token it would take
 * minutes. */
static void long_arguments_cost_no_square(void **state) {
    (void)state;
    enum { TIMES = 256 << 10 };
    size_t bytes[5] = {0};
    count_pieces("{\"name\": \"f\", \"arguments\": {\"a\": \"", "}{}{", TIMES, "\"}}",
                 bytes);
    assert_int_equal(bytes[COHORT_OUTPUT_CALL], 1);
    assert_int_equal(bytes[COHORT_OUTPUT_ARGUMENTS], strlen("{\"a\": \"\"}") + 4 * TIMES);
}

/* Each of them might begin a call up to the end of the text. */
static void calls_in_vain_are_given_up(void **state) {
    (void)state;
    enum { TIMES = 100000 };
    size_t bytes[5] = {0};
    count_pieces("", "{\"a\":[", TIMES, "", bytes);
    assert_int_equal(bytes[COHORT_OUTPUT_CONTENT], strlen("{\"a\":[") * TIMES);
}

static void templates_say_which(void **state) {
    (void)state;
    static const char *const said[][2] = {
        {"<tool_call>\\n<function=example>\\n<parameter=one>", "qwen3_coder"},
        {"{{- '\\n<tool_call>\\n<function=' + tool_call.name + '>\\n' }}"
         "{{- '<parameter=' + args_name + '>\\n' }}",
         "qwen3_coder"},
        /* Hermes' own writes functions as Llama's does calls. */
        {"{{- ', \"parameters\": ' }}{{- tool.parameters|tojson }}"
         "{{- \"<tool_call>\n\" }}{{- '{\"name\": <function-name>, \"arguments\": "
         "<args-dict>}\n' }}",
         "hermes"},
        {"{{- '<|tool_call|> ' + {'name': tc.function.name} | tojson }}", "granite"},
        {"within <tool_call></tool_call> XML tags", "hermes"},
        {"{{ '[TOOL_CALLS] ' }}", "mistral"},
        {"{{- 'Respond in the format {\"name\": function name, \"parameters\": "
         "dictionary "
         "of argument name and its value}. ' }}{{- '\"parameters\": ' }}",
         "llama3_json"},
        {"'" SEP "' + tool['name']", "deepseek_v31"},
    };
    for (size_t i = 0; i < sizeof said / sizeof *said; i++)
        assert_string_equal(
            cohort_output_format_name(cohort_output_format_of_template(said[i][0])),
            said[i][1]);
    assert_null(cohort_output_format_of_template("{{ messages[0].content }}"));
    /* Granite's with <function_call>, Llama's with JSON in <function=>. */
    assert_null(
        cohort_output_format_of_template("{{- ', \"parameters\": ' }}{{- '<fun"
                                         "ction_call> ' + {'name': 1}|tojson }}"));
    assert_null(
        cohort_output_format_of_template("{{- '<function=' + tool_call.name + '>' + "
                                         "tool_call.arguments + '</function>'}}"));
    assert_null(cohort_output_format_of_template(NULL));
    const cohort_output_format *format;
    assert_int_equal(cohort_output_format_find("nonsense", &format), COHORT_E_INVALID);
    assert_non_null(strstr(cohort_last_error()->message, "llama3_json"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_are_told_however_they_are_cut),
        cmocka_unit_test(parameters_without_a_schema_are_texts),
        cmocka_unit_test(long_arguments_cost_no_square),
        cmocka_unit_test(calls_in_vain_are_given_up),
        cmocka_unit_test(templates_say_which),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
