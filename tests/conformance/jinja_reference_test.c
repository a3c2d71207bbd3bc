/* SPDX-License-Identifier: Apache-2.0 */
/* Our templates beside python3-jinja2, set up as transformers does: the language one by
 * one, random templates, published chat templates over random conversations; and the
 * chats that transformers rendered with Qwen3's.  COHORT_TEST_SEED chooses others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "chat/chat.h"
#include "chat/json_text.h"
#include "cohort/status.h"
#include "jinja/jinja.h"

enum { SKIP = 77, RANDOM_TEMPLATES = 1500, PUBLISHED = 26, ENOUGH_TEXTS = 5 };

#define QWEN3 COHORT_SOURCE_DIR "/tests/golden/qwen3-tokenizer/"

static char python[2048];

static char *read_all(FILE *file) {
    size_t size = 0, capacity = 1 << 16, n;
    char *text = malloc(capacity);
    while ((n = fread(text + size, 1, capacity - size - 1, file)) > 0) {
        size += n;
        if (capacity - size < 4096) text = realloc(text, capacity *= 2);
    }
    text[size] = '\0';
    return text;
}

static cJSON *read_json(const char *path) {
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    char *text = read_all(file);
    fclose(file);
    cJSON *json = cJSON_Parse(text);
    assert_non_null(json);
    free(text);
    return json;
}

/* NULL, with an error, where the template is none or gives up. */
static char *render(const char *source, const cJSON *variables) {
    cohort_jinja *compiled;
    char *text = NULL;
    size_t size;
    if (cohort_jinja_compile(source, strlen(source), &compiled) < 0) return NULL;
    if (cohort_jinja_render(compiled, variables, 0, &text, &size) < 0)
        assert_null(text);
    else
        assert_int_equal(strlen(text), size);
    cohort_jinja_destroy(compiled);
    return text;
}

/* Published templates are pages: their name is shown, and where the texts part. */
static bool agrees(const cJSON *item) {
    const cJSON *want = cJSON_GetObjectItem(item, "text");
    const cJSON *error = cJSON_GetObjectItem(item, "error");
    const cJSON *name = cJSON_GetObjectItem(item, "name");
    const char *source = cJSON_GetObjectItem(item, "template")->valuestring;
    const char *shown = name ? name->valuestring : source;
    char *text = render(source, cJSON_GetObjectItem(item, "variables"));
    bool same = want ? text && !strcmp(text, want->valuestring) : !text;
    if (!same && !text) {
        print_error("%s\nfails: %s\n", shown, cohort_last_error()->message);
    } else if (!same && !want) {
        print_error("%s\ngives '%s'\nnot the error: %s\n", shown, text,
                    error->valuestring);
    } else if (!same) {
        size_t at = 0;
        while (text[at] == want->valuestring[at])
            at++;
        at = at < 60 ? 0 : at - 60;
        print_error("%s\ngives '%.200s'\nnot   '%.200s'\n", shown, text + at,
                    want->valuestring + at);
    }
    free(text);
    return same;
}

/* Templates that made some texts, and did not refuse all that they were given. */
static int count_published(const cJSON *cases) {
    const cJSON *item;
    const char *last = "";
    int n = 0, n_texts = 0;
    cJSON_ArrayForEach(item, cases) {
        const cJSON *name = cJSON_GetObjectItem(item, "name");
        if (!name) continue;
        if (strcmp(name->valuestring, last) != 0) n_texts = 0;
        last = name->valuestring;
        n += cJSON_HasObjectItem(item, "text") && ++n_texts == ENOUGH_TEXTS;
    }
    return n;
}

static void templates_render_as_with_jinja2(void **state) {
    (void)state;
    char command[8192];
    const char *seed = getenv("COHORT_TEST_SEED");
    snprintf(command, sizeof command,
             "templates=$('%s' '%s/scripts/fetch_templates.py') || exit 1; "
             "'%s' '%s/scripts/jinja_cases.py' %d %d '%stokenizer_config.json' "
             "\"$templates\"/*.jinja",
             python, COHORT_SOURCE_DIR, python, COHORT_SOURCE_DIR, seed ? atoi(seed) : 1,
             RANDOM_TEMPLATES, QWEN3);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    char *text = read_all(pipe);
    assert_int_equal(pclose(pipe), 0);
    cJSON *cases, *item;
    cohort_chat_json_fault fault;
    assert_true(cohort_chat_json_load(text, strlen(text), &cases, &fault));
    free(text);
    int n = 0, n_errors = 0, n_different = 0;
    cJSON_ArrayForEach(item, cases) {
        n_different += !agrees(item);
        n++;
        n_errors += cJSON_HasObjectItem(item, "error");
    }
    assert_int_equal(n_different, 0);
    assert_true(n > RANDOM_TEMPLATES && n_errors > 20);
    assert_int_equal(count_published(cases), PUBLISHED);
    cJSON_Delete(cases);
}

static void chats_of_qwen3_are_those_of_transformers(void **state) {
    (void)state;
    cJSON *config = read_json(QWEN3 "tokenizer_config.json");
    cJSON *golden = read_json(QWEN3 "chats.json"), *chat, *item;
    const char *source = cJSON_GetObjectItem(config, "chat_template")->valuestring;
    int n = 0;
    cJSON_ArrayForEach(chat, cJSON_GetObjectItem(golden, "chats")) {
        cJSON *variables = cJSON_CreateObject();
        cJSON_AddItemReferenceToObject(variables, "messages",
                                       cJSON_GetObjectItem(chat, "messages"));
        if ((item = cJSON_GetObjectItem(chat, "tools")))
            cJSON_AddItemReferenceToObject(variables, "tools", item);
        cJSON_ArrayForEach(item, cJSON_GetObjectItem(chat, "kwargs"))
            cJSON_AddItemReferenceToObject(variables, item->string, item);
        char *text = render(source, variables);
        assert_non_null(text);
        assert_string_equal(text, cJSON_GetObjectItem(chat, "text")->valuestring);
        free(text);
        cJSON_Delete(variables);
        n++;
    }
    assert_int_equal(n, 14);
    cJSON_Delete(golden);
    cJSON_Delete(config);
}

#define LONG                                                                            \
    "{% set a = 'x' * 3000000 %}{% set b = 'x' * 3000000 %}{% set h = 'x' * 1500000 %}" \
    "{% for i in range(99999) %}{% for j in range(99) %}"
#define END "{% endfor %}{% endfor %}"

static void templates_that_run_away_are_stopped(void **state) {
    (void)state;
    static const struct {
        const char *source, *named;
    } cases[] = {
        {"{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
         "takes more than"},
        {"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "nested"},
        {"{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", "nested"},
        {"{% macro m() %}{{ varargs | length }}{% endmacro %}"
         "{% set l = range(99999) | list %}{% for x in l %}{{ m(*l) }}{% endfor %}",
         "takes more than"},
        {"{{ 'aaaaaaaaaaaaaaaa' * 99999999999 }}", ""},
        {"{{ [1] * 99999999999 }}", "steps"},
        {"{{ range(99999999999) }}", "range"},
        {"{% set ns = namespace(x='a' * 100000) %}{% for i in range(40) %}"
         "{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
         "MiB"},
        {"{% set ns = namespace() %}{% set ns.me = ns %}{{ ns }}", "nested"},
        /* What leaves no memory behind costs steps, too. */
        {LONG "{% if a == b %}{% endif %}" END, "steps"},
        {LONG "{% if a < b %}{% endif %}" END, "steps"},
        {LONG "{% if a.startswith(b) %}{% endif %}" END, "steps"},
        {LONG "{{ a.rfind(h) == 1 }}" END, "steps"},
        {LONG "{% if a.count('y') %}{% endif %}" END, "steps"},
        {LONG "{% if a[5] == a | length %}{% endif %}" END, "steps"},
        {LONG "{% if a.isalpha() %}{% endif %}" END, "steps"},
        {LONG "{% if a.strip(b) %}{% endif %}" END, "steps"},
        {LONG "{% if (' ' * 3000000).split() %}{% endif %}" END, "steps"},
        {LONG "{% if ([''] * 99999) | join %}{% endif %}" END, "steps"},
        {"{% set l = [''] * 3000000 %}{% for i in range(99999) %}{% if l | join %}"
         "{% endif %}{% endfor %}",
         "steps"},
        {LONG "{{ a.rfind('y', 1, -1) == 1 }}" END, "steps"},
        {LONG "{% if a.zfill(3) %}{% endif %}" END, ""},
        {LONG "{{ a.partition('y')[2] }}" END, ""},
        {LONG "{{ (a | wordcount) == 2 }}" END, "steps"},
        {LONG "{{ (a | truncate(9)) | length }}" END, "steps"},
        {"{{ 'a'.center(99999999999) }}", "steps"},
        {"{{ 'a'.expandtabs(99999999999) ~ '\t'.expandtabs(99999999999) }}", "steps"},
        {"{{ '%99999999d' % 1 }}", "wider"},
        {"{{ '{:99999999}'.format(1) }}", "wider"},
        {"{{ [1] | batch(99999999999, 1) | list }}", "steps"},
        {"{{ [1] | slice(99999999999) | list }}", "steps"},
        {"{{ 1 | tojson(indent=99999999999) }}", "steps"},
        {"{{ '99999999999999999999' | int }}", "size"},
        {"{{ 9223372036854775807 + 1 }}", "64 bits"},
        {"{{ 2 ** 99 }}", "64 bits"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_null(render(cases[i].source, NULL));
        if (!strstr(cohort_last_error()->message, cases[i].named))
            fail_msg("%s: %s", cases[i].source, cohort_last_error()->message);
    }
    char deep[4096] = "{{ ";
    for (int i = 0; i < 1000; i++)
        strcat(deep, "((");
    assert_null(render(deep, NULL));
}

static void strangers_macros_may_outlive_their_block(void **state) {
    (void)state;
    char *text = render("{% set ns = namespace() %}{% set x %}{% set y = 'kept' %}"
                        "{% macro m() %}{{ y }}{% endmacro %}{% set ns.m = m %}"
                        "{% endset %}{{ ns.m() }}",
                        NULL);
    assert_string_equal(text, "kept");
    free(text);
}

static int find_python(void) {
    FILE *pipe = popen(COHORT_SOURCE_DIR "/scripts/test_venv.sh", "r");
    if (!pipe) return 1;
    if (fgets(python, sizeof python, pipe)) python[strcspn(python, "\n")] = '\0';
    int status = pclose(pipe);
    return status >> 8;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(templates_render_as_with_jinja2),
        cmocka_unit_test(chats_of_qwen3_are_those_of_transformers),
        cmocka_unit_test(templates_that_run_away_are_stopped),
        cmocka_unit_test(strangers_macros_may_outlive_their_block),
    };
    int made = find_python();
    if (made) {
        fprintf(stderr, "skipped: no Python environment with jinja2\n");
        return made == SKIP ? SKIP : 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
