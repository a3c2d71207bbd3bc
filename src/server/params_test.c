/* SPDX-License-Identifier: Apache-2.0 */
/* What a field becomes, at the edges of its range, absent, null, in a string; and what is
 * refused, word for word. */
#include "server/params.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { COMPLETION = 1, CHAT = 2, BOTH = 3 };

#define ONES_10 "1,1,1,1,1,1,1,1,1,1"
#define ONES_60 ONES_10 "," ONES_10 "," ONES_10 "," ONES_10 "," ONES_10 "," ONES_10
#define TEXTS_8 "\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\""
#define TEXTS_64                                                                    \
    TEXTS_8 "," TEXTS_8 "," TEXTS_8 "," TEXTS_8 "," TEXTS_8 "," TEXTS_8 "," TEXTS_8 \
            "," TEXTS_8
#define FAULT(kind, field) "{'type': '" kind "', 'loc': 'body." field "'"

/* Room of the engine: 100 tokens, 1000 ids, 20 logprobs. */
static const cohort_params_limits limits = {.max_model_len = 100,
                                            .max_logprobs = 20,
                                            .vocab_size = 1000,
                                            .priority_scheduling = true};

/* shown: a field of the request and its value; NULL: refused, with these words. */
typedef struct params_case {
    int kinds;
    const char *fields, *shown, *wanted;
} params_case;

static const params_case numbers[] = {
    {BOTH, "", "temperature", "1"},
    {BOTH, "\"temperature\":null", "temperature", "1"},
    {BOTH, "\"temperature\":0", "temperature", "0"},
    {BOTH, "\"temperature\":-0.0", "temperature", "0"},
    {BOTH, "\"temperature\":1e-300", "temperature", "0.01"},
    {BOTH, "\"temperature\":0.01", "temperature", "0.01"},
    {BOTH, "\"temperature\":2", "temperature", "2"},
    {BOTH, "\"temperature\":\"1.5\"", "temperature", "1.5"},
    {BOTH, "\"temperature\":true", "temperature", "1"},
    {BOTH, "\"temperature\":2.0000001", NULL,
     "temperature must be in [0, 2], got 2.0000001. (parameter=temperature, "
     "value=2.0000001)"},
    {BOTH, "\"temperature\":-1e-9", NULL,
     "temperature must be non-negative, got -1e-09. (parameter=temperature, "
     "value=-1e-09)"},
    {BOTH, "\"temperature\":\"nan\"", NULL, "temperature must be non-negative, got nan."},
    {BOTH, "\"temperature\":\"\"", NULL, FAULT("float_parsing", "temperature")},
    {BOTH, "\"temperature\":[]", NULL, FAULT("float_type", "temperature")},

    {BOTH, "\"top_p\":1e-9", "top_p", "1e-09"},
    {BOTH, "\"top_p\":1", "top_p", "1"},
    {BOTH, "\"top_p\":0", NULL, "top_p must be in (0, 1], got 0.0."},
    {BOTH, "\"top_p\":1.0000001", NULL, "top_p must be in (0, 1], got 1.0000001."},
    {BOTH, "\"min_p\":0", "min_p", "0"},
    {BOTH, "\"min_p\":1", "min_p", "1"},
    {BOTH, "\"min_p\":-1e-9", NULL, "min_p must be in [0, 1], got -1e-09."},
    {BOTH, "\"min_p\":1.5", NULL, "min_p must be in [0, 1], got 1.5."},

    {BOTH, "\"presence_penalty\":-2", "presence_penalty", "-2"},
    {BOTH, "\"presence_penalty\":2", "presence_penalty", "2"},
    {BOTH, "\"presence_penalty\":-2.001", NULL, "presence_penalty must be in [-2, 2]"},
    {BOTH, "\"frequency_penalty\":-2", "frequency_penalty", "-2"},
    {BOTH, "\"frequency_penalty\":2", "frequency_penalty", "2"},
    {BOTH, "\"frequency_penalty\":2.001", NULL, "frequency_penalty must be in [-2, 2]"},
    {BOTH, "\"repetition_penalty\":1e-9", "repetition_penalty", "1e-06"},
    {BOTH, "\"repetition_penalty\":1e9", "repetition_penalty", "1000000"},
    {BOTH, "\"repetition_penalty\":0", NULL,
     "repetition_penalty must be greater than zero, got 0.0."},
    {BOTH, "\"repetition_penalty\":\"inf\"", NULL,
     "repetition_penalty must be greater than zero, got inf"},

    {BOTH, "\"top_k\":-1", "top_k", "-1"},
    {BOTH, "\"top_k\":0", "top_k", "0"},
    {BOTH, "\"top_k\":\"7\"", "top_k", "7"},
    {BOTH, "\"top_k\":2147483648", "top_k", "2147483647"},
    {BOTH, "\"top_k\":1e30", "top_k", "2147483647"},
    {BOTH, "\"top_k\":-2", NULL, "top_k must be 0 (disable), or at least 1, got -2."},
    {BOTH, "\"top_k\":-1e30", NULL, "got -9223372036854775808."},
    {BOTH, "\"top_k\":1.5", NULL, FAULT("int_from_float", "top_k")},

    {BOTH, "", "seed", "none"},
    {BOTH, "\"seed\":null", "seed", "none"},
    {BOTH, "\"seed\":0", "seed", "0"},
    {BOTH, "\"seed\":-1", "seed", "18446744073709551615"},
    {BOTH, "\"seed\":9007199254740993", "seed", "9007199254740993"},
    {BOTH, "\"seed\":9223372036854775807", "seed", "9223372036854775807"},
    {BOTH, "\"seed\":9223372036854775808", NULL, FAULT("int_parsing_size", "seed")},
    {BOTH, "\"priority\":-2147483649", "priority", "-2147483648"},
    {BOTH, "\"priority\":2147483648", "priority", "2147483647"},
};

static const params_case counts[] = {
    {COMPLETION, "", "max_tokens", "16"},
    {CHAT, "", "max_tokens", "0"},
    {BOTH, "\"max_tokens\":null", "max_tokens", "0"},
    {BOTH, "\"max_tokens\":1", "max_tokens", "1"},
    {BOTH, "\"max_tokens\":100", "max_tokens", "100"},
    {CHAT, "\"max_tokens\":5,\"max_completion_tokens\":7", "max_tokens", "7"},
    {CHAT, "\"max_tokens\":5,\"max_completion_tokens\":null", "max_tokens", "5"},
    {BOTH, "\"max_tokens\":0", NULL,
     "max_tokens must be at least 1, got 0. (parameter=max_tokens, value=0)"},
    {BOTH, "\"max_tokens\":101", NULL,
     "max_tokens=101 cannot be greater than max_model_len=100."},
    {BOTH, "\"max_tokens\":9223372036854775807", NULL,
     "max_tokens=9223372036854775807 cannot be greater than max_model_len=100."},
    {BOTH, "\"max_tokens\":9223372036854775808", NULL,
     FAULT("int_parsing_size", "max_tokens")},
    {COMPLETION, "\"max_tokens\":0,\"echo\":true", "prompt_only", "1"},
    {CHAT, "\"max_tokens\":0,\"echo\":true", NULL, "max_tokens must be at least 1"},

    {BOTH, "", "n", "1"},
    {BOTH, "\"n\":1024", "n", "1024"},
    {BOTH, "\"n\":0", NULL, "n must be at least 1, got 0."},
    {BOTH, "\"n\":-1", NULL, "n must be at least 1, got -1."},
    {BOTH, "\"n\":1025", NULL, "n must be at most 1024, got 1025."},
    {BOTH, "\"n\":2,\"temperature\":0", NULL,
     "n must be 1 when using greedy sampling, got 2."},
    {COMPLETION, "\"n\":null", NULL, FAULT("int_type", "n")},
    {CHAT, "\"n\":null", "n", "1"},

    {BOTH, "\"min_tokens\":16,\"max_tokens\":16", "min_tokens", "16"},
    {BOTH, "\"min_tokens\":17,\"max_tokens\":16", NULL,
     "min_tokens must be less than or equal to max_tokens=16, got 17."},
    {BOTH, "\"min_tokens\":-1", NULL,
     "min_tokens must be greater than or equal to 0, got -1."},
    {CHAT, "\"min_tokens\":4294967296", "min_tokens", "2147483647"},

    {BOTH, "", "n_logprobs", "-1"},
    {COMPLETION, "\"logprobs\":null", "n_logprobs", "-1"},
    {COMPLETION, "\"logprobs\":0", "n_logprobs", "0"},
    {COMPLETION, "\"logprobs\":20", "n_logprobs", "20"},
    {COMPLETION, "\"logprobs\":21", NULL,
     "Requested sample logprobs of 21, which is greater than max allowed: 20"},
    {COMPLETION, "\"logprobs\":-1", NULL, "`logprobs` must be a positive value."},
    {COMPLETION, "\"logprobs\":\"1\"", NULL, "`logprobs` must be an integer."},
    {CHAT, "\"logprobs\":true", "n_logprobs", "0"},
    {CHAT, "\"logprobs\":true,\"top_logprobs\":20", "n_logprobs", "20"},
    {CHAT, "\"logprobs\":true,\"top_logprobs\":21", NULL, "Requested sample logprobs"},
    {CHAT, "\"top_logprobs\":1", NULL, "`logprobs` must be set to true."},
    {CHAT, "\"top_logprobs\":0", "n_logprobs", "-1"},
    {CHAT, "\"top_logprobs\":-1", NULL, "`logprobs` must be set to true."},
    {CHAT, "\"logprobs\":true,\"top_logprobs\":-1", NULL,
     "`top_logprobs` must be a positive value."},
    {BOTH, "\"prompt_logprobs\":0", "n_prompt_logprobs", "0"},
    {BOTH, "\"prompt_logprobs\":20", "n_prompt_logprobs", "20"},
    {BOTH, "\"prompt_logprobs\":21", NULL, "Requested prompt logprobs of 21"},
    {BOTH, "\"prompt_logprobs\":0,\"stream\":true", "n_prompt_logprobs", "0"},
    {BOTH, "\"prompt_logprobs\":1,\"stream\":true", NULL,
     "`prompt_logprobs` are not available when `stream=True`."},
    {COMPLETION, "\"logprobs\":3,\"echo\":true", "n_prompt_logprobs", "3"},
};

static const params_case lists[] = {
    {BOTH, "", "n_stop", "0"},
    {BOTH, "\"stop\":null", "n_stop", "0"},
    {BOTH, "\"stop\":[]", "n_stop", "0"},
    {BOTH, "\"stop\":\"a\"", "n_stop", "1"},
    {BOTH, "\"stop\":[" TEXTS_64 "]", "n_stop", "64"},
    {BOTH, "\"stop\":[" TEXTS_64 ",\"a\"]", NULL, "stop has 65 strings, at most 64"},
    {BOTH, "\"stop\":\"\"", NULL, "stop cannot contain an empty string."},
    {BOTH, "\"stop\":[\"a\",\"\"]", NULL, "stop cannot contain an empty string."},
    {BOTH, "\"stop\":1", NULL, FAULT("string_type", "stop")},

    {BOTH, "\"stop_token_ids\":[]", "n_stop_tokens", "0"},
    {BOTH, "\"stop_token_ids\":null", "n_stop_tokens", "0"},
    {BOTH, "\"stop_token_ids\":[0,999]", "n_stop_tokens", "2"},
    {BOTH, "\"stop_token_ids\":[" ONES_60 "," ONES_60 "]", "n_stop_tokens", "120"},
    {BOTH, "\"stop_token_ids\":[1000]", NULL, "token id 1000 is out of vocabulary"},
    {BOTH, "\"stop_token_ids\":[-1]", NULL, "token id -1 is out of vocabulary"},
    {BOTH, "\"allowed_token_ids\":null", "n_allowed", "0"},
    {BOTH, "\"allowed_token_ids\":[999]", "n_allowed", "1"},
    {BOTH, "\"allowed_token_ids\":[]", NULL, "allowed_token_ids is not None and empty!"},
    {BOTH, "\"allowed_token_ids\":[1000]", NULL, "token id 1000 is out of vocabulary"},
    {BOTH, "\"bad_words\":[\"a\",\"b\"]", "n_bad_words", "2"},
    {BOTH, "\"bad_words\":[\"\"]", NULL, "bad_words cannot contain an empty string."},
    {BOTH, "\"bad_words\":null", NULL, FAULT("list_type", "bad_words")},

    {BOTH, "\"logit_bias\":{}", "bias", ""},
    {BOTH, "\"logit_bias\":null", "bias", ""},
    {BOTH, "\"logit_bias\":{\"0\":-101,\"999\":101}", "bias", "0:-100 999:100 "},
    {BOTH, "\"logit_bias\":{\" 1_0 \":0.5}", "bias", "10:0.5 "},
    {BOTH, "\"logit_bias\":{\"+7\":\"-1\"}", "bias", "7:-1 "},
    {BOTH, "\"logit_bias\":{\"1000\":1}", NULL, "token id 1000 is out of vocabulary"},
    {BOTH, "\"logit_bias\":{\"-1\":1}", NULL, "token id -1 is out of vocabulary"},
    {BOTH, "\"logit_bias\":{\"\":1}", NULL, "logit_bias: '' is no token id"},
    {BOTH, "\"logit_bias\":{\"1__0\":1}", NULL, "logit_bias: '1__0' is no token id"},
    {BOTH, "\"logit_bias\":{\"1\":null}", NULL, FAULT("float_type", "logit_bias.1")},

    {COMPLETION, "\"logprobs\":0,\"logprob_token_ids\":[5,6,5]", "n_logprobs", "2"},
    {CHAT, "\"logprobs\":true,\"logprob_token_ids\":[5,6,5]", "n_logprobs", "2"},
    {COMPLETION,
     "\"logprobs\":0,\"logprob_token_ids\":[" ONES_60 "," ONES_60 ",1,1,1,1,1,1,1,1]",
     "n_logprobs", "1"},
    {COMPLETION,
     "\"logprobs\":0,\"logprob_token_ids\":[" ONES_60 "," ONES_60 ",1,1,1,1,1,1,1,1,1]",
     NULL,
     "Requested logprob_token_ids of length 129, which is greater than max allowed: 128"},
    {BOTH, "\"logprob_token_ids\":[5]", NULL,
     "when using `logprob_token_ids`, `logprobs` must be set"},
};

static const params_case others[] = {
    {BOTH, "\"cache_salt\":\"\"", NULL, "'cache_salt' must be a non-empty string"},
    {BOTH, "\"stream_options\":{}", "usage", "00"},
    {BOTH, "\"stream_options\":null", "usage", "00"},
    {BOTH, "\"stream_options\":{\"include_usage\":true}", NULL,
     "Stream options can only be defined when `stream=True`."},
    {BOTH, "\"stream\":true,\"stream_options\":{}", "usage", "00"},
    {BOTH, "\"stream\":true,\"stream_options\":{\"include_usage\":true}", "usage", "10"},
    {BOTH, "\"stream\":true,\"stream_options\":{\"continuous_usage_stats\":true}",
     "usage", "00"},
    {BOTH,
     "\"stream\":true,\"stream_options\":{\"include_usage\":true,"
     "\"continuous_usage_stats\":true}",
     "usage", "11"},

    {BOTH, "\"response_format\":{\"type\":\"text\"}", "grammar", "none"},
    {BOTH, "\"response_format\":null", "grammar", "none"},
    {BOTH, "\"response_format\":{\"type\":\"json_object\"}", "grammar", ""},
    {BOTH,
     "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":{}}}",
     "grammar", "{}"},
    {BOTH, "\"response_format\":{\"type\":\"json_schema\"}", NULL,
     "the 'json_schema' field must be provided."},
    {BOTH, "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{}}", NULL,
     "response_format.json_schema must have a 'schema'"},
    {BOTH, "\"response_format\":{}", NULL, "response_format of type '' is not supported"},
    {BOTH, "\"structured_outputs\":{\"regex\":\"a\",\"json\":null}", "grammar", "a"},
    {BOTH, "\"structured_outputs\":{\"choice\":[\"a\"]}", "grammar", "[\"a\"]"},
    {BOTH, "\"structured_outputs\":{}", NULL, "but none are specified"},
    {BOTH, "\"structured_outputs\":{\"json_object\":false}", NULL, "but none are"},
    {BOTH, "\"structured_outputs\":{\"regex\":\"a\",\"json\":{}}", NULL,
     "but multiple are specified"},
    {BOTH, "\"structured_outputs\":{\"regex\":1}", NULL, "regex must be a string"},
    {BOTH, "\"structured_outputs\":{\"grammar\":\"\"}", NULL,
     "grammar must be a string that is not empty"},
    {BOTH,
     "\"structured_outputs\":{\"regex\":\"a\"},"
     "\"response_format\":{\"type\":\"json_object\"}",
     NULL, "but multiple are specified"},
};

/* ---- running them ------------------------------------------------------------------ */

static void show_bias(const cohort_sampling_params *sampling, cohort_body *out) {
    for (uint32_t i = 0; i < sampling->n_bias; i++)
        cohort_body_printf(out, "%d:%g ", sampling->bias[i].token_id,
                           (double)sampling->bias[i].bias);
}

static void show(const cohort_params *params, const char *name, cohort_body *out) {
    const cohort_request *request = &params->request;
    const cohort_sampling_params *sampling = &request->sampling;
    const struct {
        const char *name;
        double value;
    } values[] = {{"temperature", sampling->temperature},
                  {"top_p", sampling->top_p},
                  {"min_p", sampling->min_p},
                  {"top_k", sampling->top_k},
                  {"presence_penalty", sampling->presence_penalty},
                  {"frequency_penalty", sampling->frequency_penalty},
                  {"repetition_penalty", sampling->repetition_penalty},
                  {"priority", request->priority},
                  {"max_tokens", request->max_tokens},
                  {"prompt_only", params->prompt_only},
                  {"n", request->n},
                  {"min_tokens", sampling->min_tokens},
                  {"n_logprobs", sampling->n_logprobs},
                  {"n_prompt_logprobs", sampling->n_prompt_logprobs},
                  {"n_stop", request->n_stop},
                  {"n_stop_tokens", sampling->n_stop_tokens},
                  {"n_allowed", (double)request->n_allowed_token_ids},
                  {"n_bad_words", request->n_bad_words}};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        if (!strcmp(values[i].name, name)) {
            bool is_whole = values[i].value == (double)(int64_t)values[i].value;
            cohort_body_printf(out, is_whole ? "%.0f" : "%.6g", values[i].value);
            return;
        }
    if (!strcmp(name, "bias"))
        show_bias(sampling, out);
    else if (!strcmp(name, "seed") && request->has_seed)
        cohort_body_printf(out, "%" PRIu64, sampling->seed);
    else if (!strcmp(name, "usage"))
        cohort_body_printf(out, "%d%d", params->include_usage, params->continuous_usage);
    else
        cohort_body_puts(out, params->has_grammar ? params->grammar_text : "none");
}

static bool read_case(const params_case *at, bool is_chat, cohort_body *out) {
    cohort_body body = {0};
    cohort_api_error error = {0};
    cohort_api_request api = {0};
    cohort_params params = {0};
    cohort_request defaults = {.sampling = cohort_sampling_defaults(), .n = 1};
    cohort_body_printf(&body, "{%s%s%s}",
                       is_chat ? "\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]"
                               : "\"prompt\":\"a\"",
                       *at->fields ? "," : "", at->fields);
    bool fine = cohort_api_request_read(
                    &api, is_chat ? COHORT_SCHEMA_CHAT : COHORT_SCHEMA_COMPLETION,
                    body.bytes, body.size, &error) &&
                cohort_params_read(&params, &api, is_chat, &defaults, &limits, &error);
    if (fine) {
        show(&params, at->shown ? at->shown : "n", out);
    } else {
        assert_int_equal(error.status, 400);
        cohort_body_add(out, error.message.bytes, error.message.size);
    }
    cohort_params_deinit(&params);
    cohort_api_request_deinit(&api);
    cohort_api_error_deinit(&error);
    cohort_body_deinit(&body);
    return fine;
}

static void run(const params_case *cases, size_t n) {
    for (size_t i = 0; i < n; i++)
        for (int kind = COMPLETION; kind <= CHAT; kind++) {
            cohort_body got = {0};
            if (!(cases[i].kinds & kind)) continue;
            bool fine = read_case(&cases[i], kind == CHAT, &got);
            const char *text = got.bytes ? got.bytes : "";
            bool is_wanted = cases[i].shown ? fine && !strcmp(text, cases[i].wanted)
                                            : !fine && strstr(text, cases[i].wanted);
            if (!is_wanted)
                fail_msg("%s: %s, not %s", cases[i].fields, text, cases[i].wanted);
            cohort_body_deinit(&got);
        }
}

#define RUN(list) run(list, sizeof(list) / sizeof *(list))

static void numbers_have_vllms_ranges(void **unused) {
    (void)unused;
    RUN(numbers);
}

static void counts_have_vllms_ranges(void **unused) {
    (void)unused;
    RUN(counts);
}

static void lists_have_limits(void **unused) {
    (void)unused;
    RUN(lists);
}

static void streams_and_constraints_are_read(void **unused) {
    (void)unused;
    RUN(others);
}

/* Stop strings, stop ids and biases, as many as there may be, and one more. */
static void long_values_have_limits(void **unused) {
    (void)unused;
    for (int more = 0; more < 2; more++) {
        cohort_body stop = {0}, ids = {0}, bias = {0};
        cohort_body_puts(&stop, "\"stop\":\"");
        for (int i = 0; i < COHORT_MAX_STOP_BYTES + more; i++)
            cohort_body_puts(&stop, "a");
        cohort_body_puts(&stop, "\"");
        cohort_body_puts(&ids, "\"stop_token_ids\":[1");
        for (int i = 1; i < COHORT_MAX_OWN_STOP_TOKENS + more; i++)
            cohort_body_puts(&ids, ",1");
        cohort_body_puts(&ids, "]");
        cohort_body_puts(&bias, "\"logit_bias\":{");
        for (int i = 0; i < COHORT_MAX_LOGIT_BIAS + more; i++)
            cohort_body_printf(&bias, "%s\"%d\":1", i ? "," : "", i);
        cohort_body_puts(&bias, "}");
        const params_case cases[] = {
            {BOTH, stop.bytes, more ? NULL : "n_stop",
             more ? "have 65537 bytes together" : "1"},
            {BOTH, ids.bytes, more ? NULL : "n_stop_tokens",
             more ? "has 1025 ids" : "1024"},
            {BOTH, bias.bytes, more ? NULL : "n", more ? "has 301 pairs" : "1"}};
        RUN(cases);
        cohort_body_deinit(&stop);
        cohort_body_deinit(&ids);
        cohort_body_deinit(&bias);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_have_vllms_ranges),
        cmocka_unit_test(counts_have_vllms_ranges),
        cmocka_unit_test(lists_have_limits),
        cmocka_unit_test(streams_and_constraints_are_read),
        cmocka_unit_test(long_values_have_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
