/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/vllm_variables.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/option_words.h"
#include "cli/options.h"

#define PAGE  COHORT_SOURCE_DIR "/docs/vllm-variables.md"
#define SERVE (CLI_ENGINE | CLI_SERVE)

static cli_options options;
static char said[4000]; /* on standard error */

static const char *command = "test";

static int parse(int commands, const char *word) {
    char *argv[] = {(char[]){"test"}, word ? cli_keep(word) : NULL}, *text = NULL;
    size_t size = 0;
    FILE *console = stderr;
    stderr = open_memstream(&text, &size);
    int result = cli_options_parse(&options, commands, command, word ? 2 : 1, argv);
    fclose(stderr);
    stderr = console;
    snprintf(said, sizeof said, "%s", text);
    free(text);
    return result;
}

static void clear_environment(void) {
    clearenv();
    memset(&options, 0, sizeof options);
}

/* ---- what is honoured ---------------------------------------------------------------
 */

typedef struct finding {
    const char *option;
    char value[80];
} finding;

static void note_value(void *user_data, const cli_option_text *option) {
    finding *self = user_data;
    if (strcmp(option->name, self->option) != 0) return;
    FILE *out = fmemopen(self->value, sizeof self->value, "w");
    cli_options_print_value(out, &options, option->index);
    fclose(out);
}

static const char *value_of(const char *option) {
    static finding found;
    found = (finding){.option = option};
    cli_options_each(SERVE, note_value, &found);
    return found.value;
}

static const struct {
    const char *name, *value, *becomes;
} honoured[] = {
    {"VLLM_API_KEY", "zz", "***"},
    {"VLLM_HOST_IP", "10.0.0.5", "10.0.0.5"},
    {"VLLM_PP_LAYER_PARTITION", "1,3", "1,3"},
    {"VLLM_CPU_KVCACHE_SPACE", "2", "2147483648"},
    {"VLLM_CPU_OMP_THREADS_BIND", "0|1", "0|1"},
    {"VLLM_LOGGING_LEVEL", "WARNING", "WARNING"},
    {"VLLM_LOG_STATS_INTERVAL", "2.5", "2.5"},
    {"VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS", "77", "77"},
    {"VLLM_WORKER_SHUTDOWN_TIMEOUT_SECONDS", "9", "9"},
    {"VLLM_ENGINE_READY_TIMEOUT_S", "60", "60"},
    {"VLLM_KEEP_ALIVE_ON_ENGINE_DEATH", "2", "true"},
    {"VLLM_RAY_BUNDLE_INDICES", "3,2", "3,2"},
    {"VLLM_DP_SIZE", "4", "4"},
    {"VLLM_DP_RANK", "3", "3"},
    {"VLLM_USE_RAY_V2_EXECUTOR_BACKEND", "0", "0"},
    {"VLLM_RAY_PER_WORKER_GPUS", "0.5", "GPU=0.5"},
};

static void what_is_honoured_sets_its_option(void **state) {
    (void)state;
    size_t n_sets = 0;
    for (size_t i = 0; i < sizeof honoured / sizeof *honoured; i++) {
        const cli_vllm_variable *variable = cli_vllm_variable_find(honoured[i].name);
        assert_non_null(variable);
        clear_environment();
        if (!strcmp(honoured[i].name, "VLLM_DP_SIZE")) setenv("VLLM_DP_RANK", "0", 1);
        if (!strcmp(honoured[i].name, "VLLM_DP_RANK")) setenv("VLLM_DP_SIZE", "4", 1);
        setenv(honoured[i].name, honoured[i].value, 1);
        assert_int_equal(parse(SERVE, NULL), CLI_OK);
        assert_string_equal(value_of(variable->sets), honoured[i].becomes);
        assert_string_equal(said, "");
    }
    for (size_t i = 0; i < cli_n_vllm_variables; i++)
        n_sets += cli_vllm_variables[i].sets != NULL;
    assert_int_equal(n_sets, sizeof honoured / sizeof *honoured); /* each is above */
}

static void ours_go_before_it(void **state) {
    (void)state;
    clear_environment();
    setenv("VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS", "77", 1);
    assert_int_equal(parse(SERVE, "--execute-model-timeout=5"), CLI_OK);
    assert_string_equal(value_of("execute-model-timeout"), "5");
    setenv("COHORT_EXECUTE_MODEL_TIMEOUT", "6", 1);
    assert_int_equal(parse(SERVE, NULL), CLI_OK);
    assert_string_equal(value_of("execute-model-timeout"), "6");
}

static void an_empty_one_sets_nothing(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof honoured / sizeof *honoured; i++) {
        clear_environment();
        setenv(honoured[i].name, "", 1);
        assert_int_equal(parse(SERVE, NULL), CLI_OK);
        assert_string_not_equal(value_of(cli_vllm_variable_find(honoured[i].name)->sets),
                                honoured[i].becomes);
    }
    clear_environment();
    setenv("VLLM_LOG_STATS_INTERVAL", "0", 1); /* as vLLM has it: the default */
    assert_int_equal(parse(SERVE, NULL), CLI_OK);
    assert_string_equal(value_of("log-stats-interval"), "10");
}

static void what_is_no_value_is_refused_by_name(void **state) {
    (void)state;
    clear_environment();
    setenv("VLLM_CPU_KVCACHE_SPACE", "much", 1);
    assert_int_equal(parse(SERVE, NULL), CLI_USAGE);
    assert_non_null(strstr(said, "VLLM_CPU_KVCACHE_SPACE: 'much' is no value"));
}

static void what_is_of_another_device_has_no_effect(void **state) {
    (void)state;
    clear_environment();
    setenv("VLLM_RAY_PER_WORKER_GPUS", "1", 1);
    assert_int_equal(parse(SERVE, "--device=cpu"), CLI_OK);
    assert_string_equal(value_of("ray-worker-resource"), "CPU=1");
    assert_non_null(
        strstr(said, "VLLM_RAY_PER_WORKER_GPUS has no effect with --device cpu"));
    clear_environment();
    setenv("VLLM_CPU_KVCACHE_SPACE", "2", 1);
    assert_int_equal(parse(SERVE, "--device=cuda"), CLI_OK);
    assert_string_equal(value_of("kv-cache-memory-bytes"), "0");
    assert_non_null(
        strstr(said, "VLLM_CPU_KVCACHE_SPACE has no effect with --device cuda"));
}

/* ---- what is not --------------------------------------------------------------------
 */

static void what_has_no_effect_is_said_once(void **state) {
    (void)state;
    clear_environment();
    setenv("VLLM_ROCM_USE_AITER", "1", 1);
    assert_int_equal(parse(SERVE, NULL), CLI_OK);
    assert_string_equal(
        said, "cohort test: VLLM_ROCM_USE_AITER has no effect: there is no ROCm here\n");
    assert_int_equal(parse(CLI_CHAT, NULL), CLI_OK); /* starts no engine */
    assert_string_equal(said, "");
    command = "config"; /* shows values, once for each heading */
    setenv("VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS", "77", 1);
    assert_int_equal(parse(SERVE, NULL), CLI_OK);
    assert_string_equal(said, "");
    assert_string_equal(value_of("execute-model-timeout"), "77");
    command = "test";
}

static void what_happens_anyway_is_not(void **state) {
    (void)state;
    clear_environment();
    setenv("VLLM_NO_USAGE_STATS", "1", 1);
    setenv("VLLM_SERVICE_HOST", "10.0.0.7", 1); /* Kubernetes' */
    setenv("VLLM_PORT", "tcp://10.0.0.7:80", 1);
    setenv("VLLM_PORT_80_TCP_ADDR", "10.0.0.7", 1);
    assert_int_equal(parse(SERVE, NULL), CLI_OK);
    assert_string_equal(said, "");
}

static void what_vllm_does_not_have_is_warned_of(void **state) {
    (void)state;
    clear_environment();
    setenv("VLLM_LOGING_LEVEL", "info", 1);
    assert_int_equal(parse(SERVE, NULL), CLI_OK);
    assert_non_null(strstr(said, "VLLM_LOGING_LEVEL is no variable of vLLM 0.32's"));
    assert_int_equal(parse(SERVE, "--fail-on-environ-validation"), CLI_USAGE);
    assert_non_null(strstr(said, "VLLM_LOGING_LEVEL is no variable of vLLM 0.32's"));
}

/* ---- the table and its page ---------------------------------------------------------
 */

/* "`A`, `B`" */
static void print_names(FILE *out, const char *names) {
    for (const char *at = names; *at; at += strspn(at, "|")) {
        int size = (int)strcspn(at, "|");
        fprintf(out, "%s`%.*s`", at == names ? "" : ", ", size, at);
        at += size;
    }
}

static void print_row(FILE *out, const cli_vllm_variable *at) {
    fprintf(out, "| ");
    print_names(out, at->names);
    if (at->sets)
        fprintf(out, " | sets `--%s`%s%s", at->sets, at->why ? ", " : "",
                at->why ? at->why : "");
    else if (at->fine && !strcmp(at->fine, "*"))
        fprintf(out, " | taken: %s", at->why);
    else {
        fprintf(out, " | no effect, and a warning");
        if (at->fine) fprintf(out, " unless ");
        if (at->fine) print_names(out, at->fine);
        fprintf(out, ": %s", at->why);
    }
    fprintf(out, " |\n");
}

static char *read_page(void) {
    static char page[1 << 16];
    FILE *in = fopen(PAGE, "r");
    assert_non_null(in);
    page[fread(page, 1, sizeof page - 1, in)] = '\0';
    fclose(in);
    return page;
}

static void the_page_is_the_table(void **state) {
    (void)state;
    static char table[1 << 16];
    FILE *out = fmemopen(table, sizeof table, "w");
    for (size_t i = 0; i < cli_n_vllm_variables; i++)
        print_row(out, &cli_vllm_variables[i]);
    fclose(out);
    if (strstr(read_page(), table)) return;
    out = fopen(COHORT_BUILD_DIR "/vllm-variables.md", "w");
    assert_non_null(out);
    fputs(table, out);
    fclose(out);
    fail_msg("docs/vllm-variables.md is to have the rows of " COHORT_BUILD_DIR
             "/vllm-variables.md");
}

static void every_name_stands_once(void **state) {
    (void)state;
    for (size_t i = 0; i < cli_n_vllm_variables; i++)
        for (const char *at = cli_vllm_variables[i].names; *at; at += strspn(at, "|")) {
            char name[80];
            size_t size = strcspn(at, "|");
            snprintf(name, sizeof name, "%.*s", (int)size, at);
            assert_int_equal(strncmp(name, "VLLM_", 5), 0);
            assert_ptr_equal(cli_vllm_variable_find(name), &cli_vllm_variables[i]);
            at += size;
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_honoured_sets_its_option),
        cmocka_unit_test(ours_go_before_it),
        cmocka_unit_test(an_empty_one_sets_nothing),
        cmocka_unit_test(what_is_no_value_is_refused_by_name),
        cmocka_unit_test(what_is_of_another_device_has_no_effect),
        cmocka_unit_test(what_has_no_effect_is_said_once),
        cmocka_unit_test(what_happens_anyway_is_not),
        cmocka_unit_test(what_vllm_does_not_have_is_warned_of),
        cmocka_unit_test(the_page_is_the_table),
        cmocka_unit_test(every_name_stands_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
