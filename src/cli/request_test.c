/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/request.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/option_words.h"
#include "engine/engine_options.h"
#include "wire/sampling_options.h"

#define MODEL COHORT_SOURCE_DIR "/tests/golden/llama-float32"

static cohort_engine *engine; /* whose defaults a request has */
static cli_options options;
static cli_request request;
static char why[400];

static int start_engine(void **state) {
    (void)state;
    cohort_engine_options of = cohort_engine_defaults();
    of.model = MODEL;
    of.executor.backend = "uni";
    of.max_num_seqs = 2;
    of.max_num_batched_tokens = 64;
    of.kv_cache_memory_bytes = 1 << 20;
    of.cpu_threads_bind = "nobind";
    of.override_generation_config = "{\"temperature\": 0.25, \"top_k\": 7}";
    return cohort_engine_start(&of, &engine) < 0;
}

static int stop_engine(void **state) {
    (void)state;
    cohort_engine_destroy(engine);
    return 0;
}

static void give_flag(const char *flag) {
    char *argv[] = {(char[]){"generate"}, cli_keep(flag ? flag : "--json")};
    assert_int_equal(
        cli_options_parse(&options, CLI_ENGINE | CLI_GENERATE, "generate", 2, argv),
        CLI_OK);
}

static int take_line(const char *line) {
    cohort_chat *chat = NULL;
    int result = cli_request_from_line(&request, engine, &options, &chat, line,
                                       strlen(line), why, sizeof why);
    assert_null(chat);
    return result;
}

static void expect_refused(const char *fields, const char *what) {
    char line[200];
    snprintf(line, sizeof line, "{\"prompt_token_ids\": [5], %s}", fields);
    assert_int_equal(take_line(line), CLI_USAGE);
    if (!strstr(why, what)) fail_msg("'%s' does not say '%s'", why, what);
    cli_request_deinit(&request);
}

/* The text of a row's value in a JSON line: one that is no default. */
static void value_of(const cohort_option *row, char *out, size_t size) {
    if (row->kind == COHORT_KIND_FLAG)
        snprintf(out, size, "%s", row->standard ? "false" : "true");
    else if (row->most <= 1000)
        snprintf(out, size, "%g", row->most);
    else
        snprintf(out, size, "%g", row->least + 2);
}

/* In a line, and as a flag where there is one of that name. */
static void expect_taken(const cohort_option *row, size_t within) {
    char value[40], key[40], flag[100], line[200], got[40];
    const void *of = (const char *)&request.request + within;
    value_of(row, value, sizeof value);
    cohort_option_key(row, key, sizeof key);
    snprintf(line, sizeof line, "{\"prompt_token_ids\": [5], \"%s\": %s}", key, value);
    give_flag(NULL);
    if (take_line(line) != CLI_OK) fail_msg("%s: %s", line, why);
    assert_true(cohort_option_format(row, of, 0, got, sizeof got));
    assert_string_equal(got, value);
    cli_request_deinit(&request);
    if (!strcmp(key, "skip_special_tokens")) return; /* --no-skip-special-tokens */
    snprintf(flag, sizeof flag, "--%s=%s", row->name, value);
    give_flag(flag);
    assert_int_equal(cli_request_from_options(&request, engine, &options,
                                              &(cohort_chat *){NULL}, why, sizeof why),
                     CLI_OK);
    assert_true(cohort_option_format(row, of, 0, got, sizeof got));
    assert_string_equal(got, value);
    cli_request_deinit(&request);
}

static void flags_and_lines_reach_every_field(void **state) {
    (void)state;
    for (size_t i = 0; i < cohort_request_option_table.n; i++)
        expect_taken(&cohort_request_option_table.rows[i], 0);
    for (size_t i = 0; i < cohort_sampling_option_table.n; i++)
        expect_taken(&cohort_sampling_option_table.rows[i],
                     offsetof(cohort_request, sampling));
}

static void what_is_not_given_is_the_models_own(void **state) {
    (void)state;
    const cohort_sampling_params *sampling = &request.request.sampling;
    give_flag("--top-p=0.5");
    assert_int_equal(take_line("{\"prompt_token_ids\": [5]}"), CLI_OK);
    assert_true(sampling->temperature == 0.25f);
    assert_int_equal(sampling->top_k, 7);
    assert_true(sampling->top_p == 0.5f);
    cli_request_deinit(&request);
    give_flag("--temperature=1"); /* the standard, but asked for */
    assert_int_equal(take_line("{\"prompt_token_ids\": [5], \"top_k\": 0}"), CLI_OK);
    assert_true(sampling->temperature == 1);
    assert_int_equal(sampling->top_k, 0);
    cli_request_deinit(&request);
    give_flag("--no-skip-special-tokens");
    assert_int_equal(take_line("{\"prompt_token_ids\": [5]}"), CLI_OK);
    assert_false(request.request.skip_special_tokens);
    cli_request_deinit(&request);
}

static void a_line_goes_before_flags(void **state) {
    (void)state;
    give_flag("--max-tokens=9");
    assert_int_equal(
        take_line("{\"prompt_token_ids\": [5, 6], \"max_tokens\": 3, \"n\": null}"),
        CLI_OK);
    assert_int_equal(request.request.max_tokens, 3);
    assert_int_equal(request.request.n, 1);
    assert_int_equal(request.request.n_prompt_token_ids, 2);
    cli_request_deinit(&request);
}

static void what_is_wrong_in_a_line_is_told(void **state) {
    (void)state;
    give_flag(NULL);
    expect_refused("\"presence_penalty\": 2.5",
                   "presence_penalty must be a number from -2 to 2");
    expect_refused("\"temperature\": \"hot\"", "temperature must be a number from 0");
    expect_refused("\"top_k\": 1.5", "top_k must be a whole number from -1");
    expect_refused("\"top_k\": -2", "top_k must be");
    expect_refused("\"max_tokens\": 0", "max_tokens must be a whole number from 1");
    expect_refused("\"ignore_eos\": 1", "ignore_eos is neither true nor false");
    expect_refused("\"temperatur\": 1", "unknown field 'temperatur'");
    expect_refused("\"top-k\": 1", "unknown field 'top-k'"); /* that is a flag's name */
    expect_refused("\"logit_bias\": {\"x\": 1}", "is no token id with a number");
    expect_refused("\"stop\": [1]", "stop holds something that is no text");
    expect_refused("\"seed\": -1", "seed must be a whole number from 0");
    assert_int_equal(take_line("{}"), CLI_USAGE);
    cli_request_deinit(&request);
    assert_int_equal(take_line("[5]"), CLI_USAGE);
    cli_request_deinit(&request);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flags_and_lines_reach_every_field),
        cmocka_unit_test(what_is_not_given_is_the_models_own),
        cmocka_unit_test(a_line_goes_before_flags),
        cmocka_unit_test(what_is_wrong_in_a_line_is_told),
    };
    return cmocka_run_group_tests_name("cli/request", tests, start_engine, stop_engine);
}
