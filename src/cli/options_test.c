/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/option_words.h"
#include "cli/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <cjson/cJSON.h>

#include "cli/sections.h"
#include "engine/engine_options.h"
#include "executor/executor_options.h"
#include "option_rows.h"
#include "server/server_options.h"
#include "wire/sampling_options.h"

enum { MAX_WORDS = 24 };

static cli_options options;
static char said[4000]; /* on standard error */

/* Words up to NULL, as the command would get them behind its name. */
static int parse(int commands, ...) {
    char *argv[MAX_WORDS] = {(char[]){"test"}}, *text = NULL;
    size_t size = 0;
    int argc = 1;
    va_list args;
    va_start(args, commands);
    for (const char *word; (word = va_arg(args, const char *));)
        argv[argc++] = cli_keep(word);
    va_end(args);
    FILE *console = stderr;
    stderr = open_memstream(&text, &size);
    int result = cli_options_parse(&options, commands, "test", argc, argv);
    fclose(stderr);
    stderr = console;
    snprintf(said, sizeof said, "%s", text);
    free(text);
    return result;
}

#define SERVE (CLI_ENGINE | CLI_SERVE)

#define PARSE(...) parse(__VA_ARGS__, NULL)

static void expect_refused(const char *with, int result) {
    assert_int_equal(result, CLI_USAGE);
    if (!strstr(said, with)) fail_msg("'%s' does not say '%s'", said, with);
}

/* A file of --config, which the caller removes. */
static char *write_config(const char *yaml) {
    char path[] = "/tmp/cohort-options-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, yaml, strlen(yaml)), strlen(yaml));
    close(fd);
    return cli_keep(path);
}

/* ---- rows -------------------------------------------------------------------------- */

static void every_row_of_every_command_round_trips(void **state) {
    (void)state;
    for (size_t i = 0; i < cli_n_sections; i++)
        expect_rows_round_trip(cli_sections[i].table,
                               sizeof(cli_options) - cli_sections[i].base);
}

typedef struct listing {
    const char *names[CLI_MAX_OPTIONS], *aliases[CLI_MAX_OPTIONS];
    size_t n;
} listing;

static void note_option(void *user_data, const cli_option_text *option) {
    listing *list = user_data;
    assert_non_null(option->help);
    assert_non_null(option->value);
    for (size_t i = 0; i < list->n; i++) {
        assert_string_not_equal(list->names[i], option->name);
        if (option->alias && list->aliases[i])
            assert_string_not_equal(list->aliases[i], option->alias);
    }
    list->names[list->n] = option->name;
    list->aliases[list->n++] = option->alias;
}

static void no_command_has_a_name_twice(void **state) {
    (void)state;
    static const int commands[] = {CLI_ENGINE | CLI_GENERATE,
                                   SERVE,
                                   CLI_ENGINE | CLI_BATCH,
                                   CLI_ENGINE | CLI_LATENCY,
                                   CLI_WORKER,
                                   CLI_ENGINE | CLI_THROUGHPUT,
                                   CLI_BENCH_SERVE,
                                   CLI_CHAT,
                                   CLI_COMPLETE,
                                   CLI_DOCTOR};
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        listing list = {.n = 0};
        cli_options_each(commands[i], note_option, &list);
        assert_true(list.n > 0);
    }
}

static void expect_same_fields(const cohort_option_table *table, const void *a,
                               const void *b) {
    for (size_t i = 0; i < table->n; i++) {
        char one[400] = "", other[400] = "";
        for (size_t k = 0; k < 20; k++) {
            bool is_there = cohort_option_format(&table->rows[i], a, k, one, sizeof one);
            assert_int_equal(is_there, cohort_option_format(&table->rows[i], b, k, other,
                                                            sizeof other));
            if (!is_there) break;
            assert_string_equal(one, other);
        }
    }
}

static void defaults_are_the_same_in_all_layers(void **state) {
    (void)state;
    const cohort_engine_options engine = cohort_engine_defaults();
    const cohort_executor_options executor = cohort_executor_defaults();
    const cohort_server_options server = cohort_server_defaults();
    assert_int_equal(PARSE(SERVE), CLI_OK);
    expect_same_fields(&cohort_engine_option_table, &options.engine, &engine);
    expect_same_fields(&cohort_executor_option_table, &options.engine.executor,
                       &executor);
    expect_same_fields(&cohort_executor_option_table, &options.engine.executor,
                       &engine.executor);
    expect_same_fields(&cohort_api_option_table, &options.server, &server);
    expect_same_fields(&cohort_server_option_table, &options.server, &server);
    assert_int_equal(options.engine.executor.max_step_bytes, executor.max_step_bytes);
    assert_int_equal(PARSE(CLI_DOCTOR),
                     CLI_OK); /* its own default for a field of the executor's */
    assert_int_equal(options.engine.executor.ray.placement_timeout_ns,
                     INT64_C(120000000000));
}

/* ---- the command line -------------------------------------------------------------- */

static void words_reach_the_structs_of_their_components(void **state) {
    (void)state;
    assert_int_equal(
        PARSE(SERVE, "DIR", "-tp", "2", "--pipeline_parallel_size=3", "--port", "0",
              "--max-model-len", "4k", "--connect-timeout", "0.5", "--scheduling-policy",
              "priority", "--chat-template-content-format", "openai",
              "--shutdown-timeout", "7", "--distributed-executor-backend", "uni",
              "--no-enable-prefix-caching", "--served-model-name", "a", "b"),
        CLI_OK);
    assert_string_equal(options.engine.model, "DIR");
    assert_int_equal(options.engine.executor.tp, 2);
    assert_int_equal(options.engine.executor.pp, 3);
    assert_int_equal(options.engine.executor.connect_timeout_ns, 500000000);
    assert_string_equal(options.engine.executor.backend, "uni");
    assert_int_equal(options.engine.max_model_len, 4000);
    assert_true(options.engine.priority_scheduling);
    assert_false(options.engine.enable_prefix_caching);
    assert_int_equal(options.server.port, 0);
    assert_int_equal(options.server.content_format, COHORT_CONTENT_PARTS);
    assert_string_equal(options.server.served_names[1], "b");
    assert_null(options.server.served_names[2]);
    assert_true(options.drain_timeout_s == 7);
    assert_true(cli_options_given(&options, &options.server.port));
    assert_false(cli_options_given(&options, &options.server.host));
}

static void names_that_are_none_are_refused(void **state) {
    (void)state;
    expect_refused("unknown option '--prot'", PARSE(SERVE, "--prot", "1"));
    expect_refused("unknown option '--ports'", PARSE(SERVE, "--ports", "1"));
    expect_refused("unknown option '--max'", PARSE(SERVE, "--max", "1")); /* several */
    expect_refused("unknown option '-port'", PARSE(SERVE, "-port", "1"));
    expect_refused("unknown option '-tpp'", PARSE(SERVE, "-tpp", "1"));
    expect_refused("unknown option '--no-port'", PARSE(SERVE, "--no-port"));
    expect_refused("unknown option '--port.x'", PARSE(SERVE, "--port.x", "1"));
    expect_refused("unknown option '--temperature'",
                   PARSE(SERVE, "--temperature", "1")); /* another command's */
    expect_refused("unknown option '--max-num-seq'",    /* what only servers abbreviate */
                   PARSE(CLI_ENGINE | CLI_GENERATE, "--max-num-seq", "1"));
    assert_int_equal(PARSE(SERVE, "--max-num-seq", "1"), CLI_OK);
    assert_int_equal(options.engine.max_num_seqs, 1);
    expect_refused("'b' is one word too many", PARSE(SERVE, "a", "b"));
    expect_refused("'a' is one word too many", PARSE(CLI_CHAT, "a"));
    expect_refused("--port needs a value", PARSE(SERVE, "--port"));
}

static void values_that_are_none_are_told_with_what_is_taken(void **state) {
    (void)state;
    expect_refused("--port: '65536' is no value; it takes a number from 0 to 65535",
                   PARSE(SERVE, "--port", "65536"));
    expect_refused("'mpi' is no value; it takes uni, mp or ray",
                   PARSE(SERVE, "--distributed-executor-backend", "mpi"));
    expect_refused("it takes fcfs or priority", PARSE(SERVE, "--scheduling-policy", "x"));
    expect_refused("it takes auto, string or openai",
                   PARSE(SERVE, "--chat-template-content-format", "strin"));
    expect_refused("it takes true or false", PARSE(SERVE, "--verbose=maybe"));
    expect_refused("it takes a number from 0.001 to 1000000",
                   PARSE(SERVE, "--load-timeout", "0"));
}

static void what_may_be_open_is_closed_by_none(void **state) {
    (void)state;
    assert_int_equal(PARSE(SERVE, "--tokenizer", "T", "--tokenizer", "None",
                           "--host=", "--max-num-seqs", "4", "--max-num-seqs", "None"),
                     CLI_OK);
    assert_null(options.engine.tokenizer);
    assert_null(options.server.host);
    assert_int_equal(options.engine.max_num_seqs, 0);
    expect_refused("'None' is no value", PARSE(SERVE, "--port", "None"));
    assert_int_equal(PARSE(SERVE, "--model", "None"), CLI_OK); /* a model of that name */
    assert_string_equal(options.engine.model, "None");
}

static void keys_of_json_options_are_set_one_by_one(void **state) {
    (void)state;
    assert_int_equal(PARSE(SERVE, "--override-generation-config.temperature", "0.5",
                           "--override-generation-config.a.b=c"),
                     CLI_OK);
    assert_string_equal(options.engine.override_generation_config,
                        "{\"temperature\":0.5,\"a\":{\"b\":\"c\"}}");
}

/* One row is the flag of several commands, the field of a request and a key of JSON. */
static void numbers_of_a_request_are_the_same_everywhere(void **state) {
    (void)state;
    const cohort_sampling_params *sampling = &options.request.sampling;
    static const int commands[] = {CLI_ENGINE | CLI_GENERATE, CLI_BENCH_SERVE};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(PARSE(commands[i], "--temperature", "0.7", "--frequency-penalty",
                               "-0.5", "--top-k=-1"),
                         CLI_OK);
        cJSON *body = cJSON_CreateObject();
        cli_options_add_given(body, &options, &cohort_choice_option_table, sampling);
        char *text = cJSON_PrintUnformatted(body);
        assert_string_equal(
            text, "{\"frequency_penalty\":-0.5,\"temperature\":0.7,\"top_k\":-1}");
        free(text);
        cJSON_Delete(body);
        assert_true(sampling->temperature == 0.7f);
        assert_false(cli_options_given(&options, &sampling->top_p));
        expect_refused("--top-p: '0' is no value", PARSE(commands[i], "--top-p", "0"));
        expect_refused("a number from -2 to 2",
                       PARSE(commands[i], "--presence-penalty", "2.1"));
    }
    assert_int_equal(PARSE(CLI_CHAT, "--temperature", "0", "--max-tokens", "3"), CLI_OK);
    assert_int_equal(options.request.max_tokens, 3);
    expect_refused("unknown option '--top-k'", PARSE(CLI_CHAT, "--top-k", "1"));
}

/* ---- environment, file and command line -------------------------------------------- */

static void the_command_line_goes_before_the_file_before_the_environment(void **state) {
    (void)state;
    char *path = write_config("port: 2\nmax-num-seqs: 3\nseed: 4\nverbose: yes\n");
    setenv("COHORT_PORT", "1", 1);
    setenv("COHORT_SEED", "9", 1);
    setenv("COHORT_BLOCK_SIZE", "8", 1);
    assert_int_equal(PARSE(SERVE, "--config", path, "--seed", "5"), CLI_OK);
    assert_int_equal(options.server.port, 2);
    assert_int_equal(options.engine.max_num_seqs, 3);
    assert_int_equal(options.engine.seed, 5);
    assert_int_equal(options.engine.block_size, 8);
    assert_true(options.verbose);
    assert_int_equal(PARSE(SERVE), CLI_OK);
    assert_int_equal(options.server.port, 1);
    assert_int_equal(options.engine.seed, 9);
    setenv("COHORT_CONFIG", path, 1);
    assert_int_equal(PARSE(SERVE), CLI_OK);
    assert_int_equal(options.server.port, 2);
    unsetenv("COHORT_CONFIG");
    unsetenv("COHORT_PORT");
    unsetenv("COHORT_SEED");
    unsetenv("COHORT_BLOCK_SIZE");
    unlink(path);
}

/* A list is taken whole from the first place that has one; within a place it grows. */
static void lists_replace_each_other_and_grow_within_one(void **state) {
    (void)state;
    const char **names = options.server.served_names;
    char *path = write_config("served-model-name: [f, g]\nallowed-methods: [GET]\n");
    setenv("COHORT_SERVED_MODEL_NAME", "[\"e\", \"e2\"]", 1);
    assert_int_equal(PARSE(SERVE), CLI_OK);
    assert_string_equal(names[0], "e");
    assert_string_equal(names[1], "e2");
    assert_string_equal(options.server.allowed_methods[0], "*");
    assert_null(options.server.allowed_methods[1]);
    assert_int_equal(PARSE(SERVE, "--config", path), CLI_OK);
    assert_string_equal(names[0], "f");
    assert_string_equal(names[1], "g");
    assert_null(names[2]);
    assert_string_equal(options.server.allowed_methods[0], "GET");
    assert_null(options.server.allowed_methods[1]);
    assert_int_equal(PARSE(SERVE, "--config", path, "--served-model-name", "a", "b",
                           "--served-model-name", "[\"c\", \"d\"]"),
                     CLI_OK);
    for (int i = 0; i < 4; i++)
        assert_string_equal(names[i], ((const char *[]){"a", "b", "c", "d"})[i]);
    assert_null(names[4]);
    unsetenv("COHORT_SERVED_MODEL_NAME");
    unlink(path);
    assert_int_equal(PARSE(CLI_ENGINE | CLI_GENERATE, "--stop", "a", "--stop", "[b"),
                     CLI_OK);
    assert_string_equal(options.stop[0], "a");
    assert_string_equal(options.stop[1], "[b");
    assert_null(options.stop[2]);
}

static void a_list_that_is_too_long_is_refused(void **state) {
    (void)state;
    char json[200] = "[\"x\"";
    for (int i = 1; i < CLI_MAX_LIST; i++)
        strcat(json, ",\"x\"");
    strcat(json, "]");
    assert_int_equal(PARSE(SERVE, "--served-model-name", json), CLI_OK);
    expect_refused("at most 16 words", PARSE(SERVE, "--served-model-name", json, "y"));
}

static void a_variable_that_is_wrong_is_named(void **state) {
    (void)state;
    setenv("COHORT_TENSOR_PARALLEL_SIZE", "many", 1);
    expect_refused("COHORT_TENSOR_PARALLEL_SIZE: 'many' is no value", PARSE(SERVE));
    assert_int_equal(PARSE(CLI_CHAT), CLI_OK); /* which has no such option */
    unsetenv("COHORT_TENSOR_PARALLEL_SIZE");
    setenv("COHORT_PORT", "tcp://10.0.0.1:8000", 1); /* of Kubernetes */
    assert_int_equal(PARSE(SERVE), CLI_OK);
    assert_int_equal(options.server.port, 8000);
    unsetenv("COHORT_PORT");
}

static void print_value(void *user_data, const cli_option_text *option) {
    if (strcmp(option->name, "api-key") == 0)
        cli_options_print_value(user_data, &options, option->index);
}

static void secrets_are_not_shown(void **state) {
    (void)state;
    static const int commands[] = {SERVE, CLI_CHAT, CLI_COMPLETE};
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        char *text = NULL;
        size_t size = 0;
        assert_int_equal(PARSE(commands[i], "--api-key", "s3cret"), CLI_OK);
        FILE *out = open_memstream(&text, &size);
        cli_options_each(commands[i], print_value, out);
        fclose(out);
        assert_string_equal(text, "***");
        free(text);
    }
}

static void count_named(void *user_data, const cli_option_text *option) {
    size_t *n_named = user_data;
    if (cli_is_among(option->name, cli_groups[option->group].options, strncmp))
        ++*n_named;
}

static void what_a_group_names_is_an_option(void **state) {
    (void)state;
    size_t n_names = 0, n_named = 0;
    for (size_t i = 0; i < cli_n_groups; i++)
        for (const char *at = cli_groups[i].options; *at; at += *at == '|') {
            at += strcspn(at, "|");
            n_names++;
        }
    cli_options_each(SERVE, count_named, &n_named);
    assert_int_equal(n_named, n_names);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_of_every_command_round_trips),
        cmocka_unit_test(no_command_has_a_name_twice),
        cmocka_unit_test(defaults_are_the_same_in_all_layers),
        cmocka_unit_test(words_reach_the_structs_of_their_components),
        cmocka_unit_test(names_that_are_none_are_refused),
        cmocka_unit_test(values_that_are_none_are_told_with_what_is_taken),
        cmocka_unit_test(what_may_be_open_is_closed_by_none),
        cmocka_unit_test(keys_of_json_options_are_set_one_by_one),
        cmocka_unit_test(numbers_of_a_request_are_the_same_everywhere),
        cmocka_unit_test(the_command_line_goes_before_the_file_before_the_environment),
        cmocka_unit_test(lists_replace_each_other_and_grow_within_one),
        cmocka_unit_test(a_list_that_is_too_long_is_refused),
        cmocka_unit_test(a_variable_that_is_wrong_is_named),
        cmocka_unit_test(secrets_are_not_shown),
        cmocka_unit_test(what_a_group_names_is_an_option),
    };
    return cmocka_run_group_tests_name("cli/options", tests, NULL, NULL);
}
