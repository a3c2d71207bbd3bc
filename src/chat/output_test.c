/* SPDX-License-Identifier: Apache-2.0 */
/* Texts of models and what they are, in one line: R thoughts, C content, N a call's name,
 * A its arguments.  Most expectations were taken from vLLM 0.32's own parsers; those that
 * differ say why. */
#include "chat/output.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { TOLD_BYTES = 4096 };

typedef struct told {
    char text[TOLD_BYTES];
    size_t size;
    cohort_output_kind last;
    int32_t last_call;
    bool has_begun;
} told;

/* Pieces of one kind are one. */
static void note(void *user_data, cohort_output_kind kind, int32_t call, const char *text,
                 size_t size) {
    told *out = user_data;
    bool is_text = kind == COHORT_OUTPUT_REASONING || kind == COHORT_OUTPUT_CONTENT;
    bool goes_on = out->has_begun && kind == out->last && kind != COHORT_OUTPUT_CALL &&
                   (is_text || call == out->last_call);
    assert_true(out->size + size + 16 < TOLD_BYTES);
    assert_true(size > 0);
    if (!goes_on && is_text)
        out->size += (size_t)sprintf(out->text + out->size, "|%c:", "RCNA"[kind]);
    else if (!goes_on)
        out->size +=
            (size_t)sprintf(out->text + out->size, "|%c%d:", "RCNA"[kind], (int)call);
    memcpy(out->text + out->size, text, size);
    out->size += size;
    out->text[out->size] = '\0';
    out->last = kind;
    out->last_call = call;
    out->has_begun = true;
}

static void count_content(void *user_data, cohort_output_kind kind, int32_t call,
                          const char *text, size_t size) {
    size_t *n = user_data;
    (void)call;
    (void)text;
    assert_int_equal(kind, COHORT_OUTPUT_CONTENT);
    *n += size;
}

static const cohort_output_options plain = {0};
static const cohort_output_options hermes = {.finds_calls = true};
static const cohort_output_options r1 = {.reasoning = COHORT_REASONING_DEEPSEEK_R1};
static const cohort_output_options qwen3 = {.reasoning = COHORT_REASONING_QWEN3};
static const cohort_output_options answers = {.reasoning = COHORT_REASONING_QWEN3,
                                              .begins_in_content = true};
static const cohort_output_options r1_hermes = {.reasoning = COHORT_REASONING_DEEPSEEK_R1,
                                                .finds_calls = true};
static const cohort_output_options qwen3_hermes = {.reasoning = COHORT_REASONING_QWEN3,
                                                   .finds_calls = true};

static const cohort_output_options calls_alone = {.finds_calls = true,
                                                  .only_calls = true};

#define CALL_F \
    "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1.50}}\n</tool_call>"

typedef struct stream_case {
    const cohort_output_options *options;
    const char *text, *expected;
} stream_case;

static const stream_case streams[] = {
    {&plain, "a <think>b</think> " CALL_F, "|C:a <think>b</think> " CALL_F},
    {&plain, "", ""},
    /* ---- calls */
    {&hermes, "plain", "|C:plain"},
    {&hermes, "hi " CALL_F, "|C:hi |N0:f|A0:{\"x\": 1.50}"},
    {&hermes, "\n\n" CALL_F "\n" CALL_F,
     "|C:\n\n|N0:f|A0:{\"x\": 1.50}|N1:f|A1:{\"x\": 1.50}"},
    {&hermes, CALL_F CALL_F, "|N0:f|A0:{\"x\": 1.50}|N1:f|A1:{\"x\": 1.50}"},
    {&hermes, CALL_F " tail", "|N0:f|A0:{\"x\": 1.50}"},
    /* vLLM 0.32 ends the call within its text. */
    {&hermes,
     "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": "
     "\"</tool_call>\\\"</tool_call>"
     "\"}}\n</tool_call>\n" CALL_F,
     "|N0:f|A0:{\"a\": \"</tool_call>\\\"</tool_call>\"}|N1:f|A1:{\"x\": 1.50}"},
    {&calls_alone, "\n" CALL_F "\n<tool_call>{\"na", "|N0:f|A0:{\"x\": 1.50}"},
    {&calls_alone, "<tool_call>{\"na", ""},
    {&hermes, "<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": 1}}",
     "|N0:f|A0:{\"x\": 1}"},
    {&hermes, "<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": 1",
     "|N0:f|A0:{\"x\": 1"},
    {&hermes, "<tool_call>{\"name\": \"f\"}</tool_call>", "|N0:f"},
    {&hermes, "<tool_call>{\"name\": \"f\", \"arguments\": \"{}\"}</tool_call>",
     "|N0:f|A0:\"{}\""},
    {&hermes, "<tool_call>{\"name\": \"f\", \"arguments\": null}</tool_call>",
     "|N0:f|A0:null"},
    {&hermes, "<tool_call>{\"name\":\"f\",\"arguments\":12 }</tool_call>", "|N0:f|A0:12"},
    {&hermes,
     "<tool_call>{\"name\": \"f\", \"arguments\": {\"s\": \"}\\\"]</tool_cal\\\\\", "
     "\"l\": "
     "[[{}], \"<b>\"]}, \"id\": 3}</tool_call>",
     "|N0:f|A0:{\"s\": \"}\\\"]</tool_cal\\\\\", \"l\": [[{}], \"<b>\"]}"},
    {&hermes, "<tool_call>{\"name\": \"gr\\u00fc\\\"\xc3\x9f\", \"arguments\": {}}",
     "|N0:gr\xc3\xbc\"\xc3\x9f|A0:{}"},
    /* vLLM's stream goes on with `, "name": "f"` here, its whole answer does not. */
    {&hermes, "<tool_call>{\"arguments\": {\"x\": 1}, \"name\": \"f\"}</tool_call>",
     "|N0:f|A0:{\"x\": 1}"},
    /* A name inside of the arguments is none. */
    {&hermes,
     "<tool_call>{\"arguments\": {\"name\": \"g\"}, \"n\": 1.5e3, \"name\": \"f\"} "
     "</tool_call>",
     "|N0:f|A0:{\"name\": \"g\"}"},
    /* ---- what is none; vLLM's stream loses it, its whole answer has it as here */
    {&hermes, "hi <tool_ca", "|C:hi <tool_ca"},
    {&hermes, "hi <tool_cat>", "|C:hi <tool_cat>"},
    {&hermes, "hi <<tool_call", "|C:hi <<tool_call"},
    {&hermes, "hi <tool_call>", "|C:hi <tool_call>"},
    {&hermes, "hi <tool_call>{bad}</tool_call> more",
     "|C:hi <tool_call>{bad}</tool_call> more"},
    {&hermes, "<tool_call></tool_call>", "|C:<tool_call></tool_call>"},
    {&hermes, "<tool_call>{\"name\": \"\"}</tool_call>",
     "|C:<tool_call>{\"name\": \"\"}</tool_call>"},
    {&hermes, "<tool_call>{\"name\": 3}</tool_call>",
     "|C:<tool_call>{\"name\": 3}</tool_call>"},
    {&hermes, "<tool_call>{\"name\": \"a\\x\"}</tool_call>",
     "|C:<tool_call>{\"name\": \"a\\x\"}</tool_call>"},
    {&hermes, "<tool_call>{\"na</tool_call>", "|C:<tool_call>{\"na</tool_call>"},
    {&hermes, "<tool_call>{\"arguments\": }</tool_call>",
     "|C:<tool_call>{\"arguments\": }</tool_call>"},
    {&hermes, "<tool_call>{\"arguments\": {}} x </tool_call>",
     "|C:<tool_call>{\"arguments\": {}} x </tool_call>"},
    {&hermes, "<tool_call>" CALL_F, "|C:<tool_call>|N0:f|A0:{\"x\": 1.50}"},
    {&hermes, CALL_F "<tool_call>{bad}</tool_call>" CALL_F,
     "|N0:f|A0:{\"x\": 1.50}|N1:f|A1:{\"x\": 1.50}"},
    /* ---- thoughts */
    {&r1, "<think>\nab c\n</think>\n\nhello there", "|R:\nab c\n|C:\n\nhello there"},
    {&r1, "ab c</think>hello", "|R:ab c|C:hello"},
    {&r1, "ab c", "|R:ab c"},
    {&r1, "<think>ab </thin", "|R:ab </thin"},
    {&r1, "<think></think>x", "|C:x"},
    {&r1, "pre <think>ab</think>x</think>y", "|R:pre ab|C:x</think>y"},
    {&r1, "<think>ab " CALL_F "</think>x", "|R:ab " CALL_F "|C:x"},
    {&qwen3, "<think>\nab c\n</think>\n\nhello there", "|R:\nab c\n|C:\n\nhello there"},
    {&qwen3, "pre <think>ab</think>x</think>y", "|R:pre ab|C:x</think>y"},
    {&qwen3, "<think>ab " CALL_F, "|R:ab |C:" CALL_F},
    {&qwen3, "<think>a <tool_</think>x", "|R:a <tool_|C:x"},
    {&answers, "hello</think>x", "|C:hello</think>x"},
    {&r1_hermes, "<think>ab</think>\n\n" CALL_F, "|R:ab|C:\n\n|N0:f|A0:{\"x\": 1.50}"},
    {&r1_hermes, "<think>ab " CALL_F, "|R:ab " CALL_F},
    {&qwen3_hermes, "<think>ab</think>" CALL_F, "|R:ab|N0:f|A0:{\"x\": 1.50}"},
    {&qwen3_hermes, "<think>ab " CALL_F, "|R:ab |N0:f|A0:{\"x\": 1.50}"},
    {&qwen3_hermes, "<think>ab <tool_call>no</tool_call>",
     "|R:ab |C:<tool_call>no</tool_call>"},
};

/* Feeds up to two cuts; step: so many bytes at a time instead, where it is not 0. */
static void expect_split(const stream_case *of, size_t a, size_t b, size_t step) {
    cohort_output *output;
    told got = {0};
    size_t size = strlen(of->text);
    assert_int_equal(cohort_output_create(of->options, note, &got, &output), COHORT_OK);
    if (step) {
        for (size_t at = 0; at < size; at += step)
            cohort_output_feed(output, of->text + at,
                               size - at < step ? size - at : step);
    } else {
        cohort_output_feed(output, of->text, a);
        cohort_output_feed(output, of->text + a, b - a);
        cohort_output_feed(output, of->text + b, size - b);
    }
    assert_int_equal(cohort_output_finish(output), COHORT_OK);
    assert_string_equal(got.text, of->expected);
    cohort_output_destroy(output);
}

/* What is told is never taken back: that all ways to cut a text end in the same says as
 * well that nothing was told too early. */
static void text_is_the_same_wherever_it_is_cut(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof streams / sizeof *streams; i++) {
        size_t size = strlen(streams[i].text);
        for (size_t a = 0; a <= size; a++)
            for (size_t b = a; b <= size; b++)
                expect_split(&streams[i], a, b, 0);
        for (size_t step = 1; step < 9; step++)
            expect_split(&streams[i], 0, 0, step);
    }
}

/* ---- as soon as it is sure --------------------------------------------------------- */

typedef struct moment {
    const char *piece, *told_then;
} moment;

static void expect_moments(const cohort_output_options *options, const moment *moments) {
    cohort_output *output;
    told got = {0};
    assert_int_equal(cohort_output_create(options, note, &got, &output), COHORT_OK);
    for (; moments->piece; moments++) {
        cohort_output_feed(output, moments->piece, strlen(moments->piece));
        assert_string_equal(got.text, moments->told_then);
        got.size = 0;
        got.text[0] = '\0';
        got.has_begun = false;
    }
    cohort_output_destroy(output);
}

static void pieces_are_told_as_soon_as_they_are_sure(void **state) {
    (void)state;
    const moment call[] = {
        {"hi ", "|C:hi "},
        {"a < b <too", "|C:a < b "},
        {"l_call", ""},
        {">", ""},
        {"\n{\"name\": \"get_", ""},
        {"x\"", "|N0:get_x"},
        {", \"arguments\": ", ""},
        {"{\"a\"", "|A0:{\"a\""},
        {": \"</tool", "|A0:: \"</tool"}, /* in a text it ends nothing */
        {"s\"", "|A0:s\""},

        {"}", "|A0:}"},
        {"}\n</tool_call>", ""},
        {" <tool_call>{\"name\": \"g\", \"arguments\": {}}", "|N1:g|A1:{}"},
        {NULL, NULL}};
    const moment bad[] = {{"<tool_call>{", ""}, {"x", "|C:<tool_call>{x"}, {NULL, NULL}};
    const moment thought[] = {{"<th", ""},
                              {"ink>hm", "|R:hm"},
                              {" </", "|R: "},
                              {"think>\n\nyes", "|C:\n\nyes"},
                              {NULL, NULL}};
    expect_moments(&hermes, call);
    expect_moments(&hermes, bad);
    expect_moments(&qwen3_hermes, thought);
}

/* ---- whole ------------------------------------------------------------------------- */

static const moment wholes[] = {
    {"plain", NULL},
    {"", NULL},
    {"hi " CALL_F, "|C:hi |N0:f|A0:{\"x\": 1.50}"},
    {"\n \n" CALL_F "\n" CALL_F " tail", "|N0:f|A0:{\"x\": 1.50}|N1:f|A1:{\"x\": 1.50}"},
    {"<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": 1}}", "|N0:f|A0:{\"x\": 1}"},
    {"<tool_call>{\"arguments\":{\"x\":[1,-2.5e3,true , null,{ }],\"y\":\"\"},\"z\":[],"
     "\"name\":\"f\"}</tool_call>",
     "|N0:f|A0:{\"x\": [1, -2.5e3, true, null, {}], \"y\": \"\"}"},
    {"<tool_call>{\"name\": \"f\", \"arguments\": \"\\u00e9\\/\\n\\u001f\\ud83d\\ude00"
     "\\ud83d\\u0041<b\"}</tool_call>",
     "|N0:f|A0:\"\xc3\xa9/\\n\\u001f\xf0\x9f\x98\x80\\ud83dA<b\""},
    {"<tool_call>{\"name\": \"\\u0066\", \"arguments\": \"{}\"}</tool_call>",
     "|N0:f|A0:\"{}\""},
    /* One fault makes all of it content. */
    {CALL_F "<tool_call>{bad}</tool_call>", NULL},
    {"hi <tool_call>", NULL},
    {"hi <tool_ca", NULL},
    {"<tool_call></tool_call>", NULL},
    {"<tool_call>{}</tool_call>", NULL},
    {"<tool_call>{\"name\": \"f\"}</tool_call>", NULL},
    {"<tool_call>{\"name\": 3, \"arguments\": {}}</tool_call>", NULL},
    {"<tool_call>{\"name\": \"f\", \"arguments\": {}} x</tool_call>", NULL},
    {"<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": 1", NULL},
    {"<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": 01}}</tool_call>", NULL},
    {"<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": 1.}}</tool_call>", NULL},
    {"<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": [NaN,-Infinity]}}</tool_call>",
     "|N0:f|A0:{\"x\": [NaN, -Infinity]}"}, /* as Python's json takes it, and vLLM */
    {"<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": \"</tool_call>\"}}</tool_call>",
     "|N0:f|A0:{\"x\": \"</tool_call>\"}"},
    {"<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": 1,}}</tool_call>", NULL},
    {"<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": \"\n\"}}</tool_call>", NULL},
    {"<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": \"\\u12\"}}</tool_call>", NULL},
    {"<tool_call>{\"name\": \"f\", \"arguments\": [1 2]}</tool_call>", NULL},
};

static void whole_calls_are_all_right_or_content(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof wholes / sizeof *wholes; i++) {
        told got = {0};
        bool found = cohort_output_find_calls(wholes[i].piece, strlen(wholes[i].piece),
                                              false, note, &got);
        assert_int_equal(found, wholes[i].told_then != NULL);
        assert_string_equal(got.text, found ? wholes[i].told_then : "");
    }
}

static void calls_before_one_that_was_cut_off_are_told(void **state) {
    (void)state;
    static const char *const cuts[] = {"",
                                       "<tool",
                                       "<tool_call>",
                                       "<tool_call>\n{\"na",
                                       "<tool_call>\n{\"name\": \"g\", \"argum",
                                       "<tool_call>\n{\"name\": \"g\", \"arguments\": {"};
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        char text[200];
        told got = {0};
        int size = snprintf(text, sizeof text, "%s\n%s", CALL_F, cuts[i]);
        assert_true(cohort_output_find_calls(text, (size_t)size, true, note, &got));
        assert_string_equal(got.text, "|N0:f|A0:{\"x\": 1.50}");
        got = (told){0};
        assert_true(cohort_output_find_calls(cuts[i], strlen(cuts[i]), true, note, &got));
        assert_string_equal(got.text, "");
    }
}

static void deep_arguments_are_refused_not_followed(void **state) {
    (void)state;
    enum { DEPTH = 100000 };
    static const char head[] = "<tool_call>{\"name\": \"f\", \"arguments\": ";
    char *text = malloc(sizeof head + DEPTH);
    told got = {0};
    assert_non_null(text);
    memcpy(text, head, sizeof head);
    memset(text + sizeof head - 1, '[', DEPTH);
    assert_false(
        cohort_output_find_calls(text, sizeof head - 1 + DEPTH, false, note, &got));
    free(text);
}

/* Takes minutes where every tag is read to the end of the text. */
static void calls_that_are_none_do_not_keep_us_busy(void **state) {
    (void)state;
    enum { N = 150000 };
    static const char *const links[] = {"<tool_call>{\":", "<tool_call>x",
                                        "<tool_call>{\"\\"};
    for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
        const char *link = links[i];
        size_t length = strlen(link), size = 0;
        char *text = malloc(N * length + 1);
        assert_non_null(text);
        for (int n = 0; n < N; n++, size += length)
            memcpy(text + size, link, length + 1);
        for (int in_pieces = 0; in_pieces < 2; in_pieces++) {
            cohort_output *output;
            size_t n_content = 0, step = in_pieces ? 997 : size;
            assert_int_equal(
                cohort_output_create(&hermes, count_content, &n_content, &output),
                COHORT_OK);
            for (size_t at = 0; at < size; at += step)
                cohort_output_feed(output, text + at,
                                   size - at < step ? size - at : step);
            assert_int_equal(cohort_output_finish(output), COHORT_OK);
            assert_int_equal(n_content, size);
            cohort_output_destroy(output);
        }
        free(text);
    }
}

/* ---- parsers and prompts ----------------------------------------------------------- */

static void parsers_are_known_by_name(void **state) {
    cohort_reasoning found;
    (void)state;
    assert_int_equal(cohort_reasoning_parse("deepseek_r1", &found), COHORT_OK);
    assert_int_equal(found, COHORT_REASONING_DEEPSEEK_R1);
    assert_int_equal(cohort_reasoning_parse("qwen3", &found), COHORT_OK);
    assert_int_equal(found, COHORT_REASONING_QWEN3);
    assert_int_equal(cohort_reasoning_parse("", &found), COHORT_OK);
    assert_int_equal(found, COHORT_REASONING_NONE);
    assert_int_equal(cohort_reasoning_parse("wise", &found), COHORT_E_INVALID);
    assert_non_null(strstr(cohort_last_error()->message, "'wise'"));
}

static bool ends_in(cohort_reasoning reasoning, const char *prompt) {
    return cohort_reasoning_ends_in(reasoning, prompt, strlen(prompt));
}

static void prompts_may_have_ended_thoughts(void **state) {
    (void)state;
    const char *closed = "<|im_start|>assistant\n<think>\n\n</think>\n\n";
    const char *earlier = "<|im_start|>assistant\n<think>a</think>b<|im_end|>\n"
                          "<|im_start|>assistant\n";
    assert_true(ends_in(COHORT_REASONING_QWEN3, closed));
    assert_true(ends_in(COHORT_REASONING_DEEPSEEK_R1, closed));
    assert_false(ends_in(COHORT_REASONING_NONE, closed));
    assert_false(ends_in(COHORT_REASONING_QWEN3, earlier));
    assert_true(ends_in(COHORT_REASONING_DEEPSEEK_R1, earlier)); /* as vLLM has it */
    assert_false(ends_in(COHORT_REASONING_QWEN3, "a</think>b<think>\n"));
    assert_false(ends_in(COHORT_REASONING_DEEPSEEK_R1, "a</think>b<think>\n"));
    assert_false(ends_in(COHORT_REASONING_QWEN3, ""));
    assert_false(ends_in(COHORT_REASONING_QWEN3, "hi"));
    assert_true(ends_in(COHORT_REASONING_QWEN3, "</think>"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_the_same_wherever_it_is_cut),
        cmocka_unit_test(pieces_are_told_as_soon_as_they_are_sure),
        cmocka_unit_test(whole_calls_are_all_right_or_content),
        cmocka_unit_test(calls_before_one_that_was_cut_off_are_told),
        cmocka_unit_test(deep_arguments_are_refused_not_followed),
        cmocka_unit_test(calls_that_are_none_do_not_keep_us_busy),
        cmocka_unit_test(parsers_are_known_by_name),
        cmocka_unit_test(prompts_may_have_ended_thoughts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
