/* SPDX-License-Identifier: Apache-2.0 */
/* What our grammars let through beside python3-jsonschema: random schemas, and random
 * walks through their masks.  COHORT_TEST_SEED chooses others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <cjson/cJSON.h>

#include "base/random.h"
#include "grammar/grammar.h"

enum { SKIP = 77, SCHEMAS = 600, WALKS = 3, MOST_TOKENS = 4000, MAX_TEXT = 1 << 16 };

static char python[2048];
static cohort_tokenizer *tokenizer;
static cohort_vocabulary *vocabulary;
static uint64_t seed = 1, n_draws;

static uint64_t draw(uint64_t below) {
    return cohort_random_u64(seed, n_draws++) % below;
}

/* Any allowed token; -1: none, or the text may end and does. */
static int32_t pick(cohort_matcher *matcher) {
    uint32_t mask[64];
    int32_t n = cohort_tokenizer_vocab_size(tokenizer), count = 0, chosen = -1;
    if (cohort_matcher_is_complete(matcher) &&
        (cohort_matcher_is_finished(matcher) || draw(3) == 0))
        return -1;
    assert_int_equal(cohort_matcher_mask(matcher, mask), COHORT_OK);
    for (int32_t id = 0; id < n; id++)
        if (mask[id / 32] >> id % 32 & 1 && draw((uint64_t)++count) == 0) chosen = id;
    if (chosen < 0) fail_msg("nothing may come, and it may not end");
    return chosen;
}

/* A text that the grammar lets through. */
static void walk(cohort_grammar *grammar, char *text) {
    cohort_matcher *matcher;
    size_t size = 0;
    int32_t token, n_tokens = 0;
    assert_int_equal(cohort_matcher_create(grammar, vocabulary, &matcher), COHORT_OK);
    while ((token = pick(matcher)) >= 0) {
        char *bytes;
        size_t length;
        assert_true(++n_tokens < MOST_TOKENS);
        assert_true(cohort_matcher_accept(matcher, token));
        assert_int_equal(cohort_tokenizer_token_bytes(tokenizer, token, &bytes, &length),
                         COHORT_OK);
        assert_true(size + length < MAX_TEXT);
        memcpy(text + size, bytes, length);
        size += length;
        free(bytes);
    }
    text[size] = '\0';
    assert_int_equal(strlen(text), size);
    cohort_matcher_destroy(matcher);
}

/* One case a line, the schema as it was given. */
static void write_case(FILE *out, const char *schema, const char *text) {
    cJSON *string = cJSON_CreateString(text);
    char *quoted = cJSON_PrintUnformatted(string);
    assert_non_null(quoted);
    fprintf(out, "{\"schema\": %s, \"text\": %s}\n", schema, quoted);
    free(quoted);
    cJSON_Delete(string);
}

/* Walks through schemas of python's with the tokenizer that is open; how many schemas had
 * something that matches. */
static int walk_schemas(FILE *out, int n_wanted) {
    static char command[4096], line[1 << 16], text[MAX_TEXT];
    int n_schemas = 0, n_made = 0;
    snprintf(command, sizeof command, "'%s' '%s/scripts/schema_cases.py' schemas %llu %d",
             python, COHORT_SOURCE_DIR, (unsigned long long)seed, n_wanted);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    while (fgets(line, sizeof line, pipe)) {
        cohort_grammar *grammar;
        line[strcspn(line, "\n")] = '\0';
        n_schemas++;
        if (cohort_grammar_compile(COHORT_GRAMMAR_JSON_SCHEMA, line, strlen(line),
                                   &grammar) < 0) {
            const char *message = cohort_last_error()->message;
            /* Bounds may leave nothing; all else is something that we do. */
            if (!strstr(message, "nothing matches")) fail_msg("%s\n%s", line, message);
            continue;
        }
        n_made++;
        for (int i = 0; i < WALKS; i++) {
            walk(grammar, text);
            write_case(out, line, text);
        }
        cohort_grammar_release(grammar);
    }
    assert_int_equal(pclose(pipe), 0);
    assert_int_equal(n_schemas, n_wanted);
    return n_made;
}

static void open_tokenizer(const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/tests/golden/%s", COHORT_SOURCE_DIR, name);
    assert_int_equal(cohort_tokenizer_open(path, &tokenizer), COHORT_OK);
    assert_int_equal(cohort_vocabulary_create(tokenizer, &vocabulary), COHORT_OK);
}

static void close_tokenizer(void) {
    cohort_vocabulary_destroy(vocabulary);
    cohort_tokenizer_close(tokenizer);
}

/* Vocabularies of other kinds: of bytes, of pieces with bytes to fall back to, with their
 * blanks as signs, and with words of special meaning. */
static void what_passes_validates(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int n_schemas;
    } tokenizers[] = {
        {"llama-bfloat16", SCHEMAS},        {"tokenizers/gpt2", SCHEMAS / 6},
        {"tokenizers/llama2", SCHEMAS / 6}, {"tokenizers/gemma", SCHEMAS / 6},
        {"tokenizers/qwen2", SCHEMAS / 6},  {"tokenizers/deepseek", SCHEMAS / 6},
        {"tokenizers/tekken", SCHEMAS / 6}, {"tokenizers/odd_added", SCHEMAS / 6},
        {"tokenizers/opt", SCHEMAS / 6},    {"tokenizers/phi3", SCHEMAS / 6}};
    char command[4096], path[] = "/tmp/cohort-schemas-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    FILE *out = fdopen(fd, "w");
    assert_non_null(out);
    for (size_t i = 0; i < sizeof tokenizers / sizeof *tokenizers; i++) {
        open_tokenizer(tokenizers[i].name);
        int n = tokenizers[i].n_schemas;
        assert_true(walk_schemas(out, n) > n * 4 / 5);
        close_tokenizer();
        seed++;
    }
    fclose(out);
    snprintf(command, sizeof command, "'%s' '%s/scripts/schema_cases.py' check <%s",
             python, COHORT_SOURCE_DIR, path);
    int faults = system(command);
    unlink(path);
    assert_int_equal(faults, 0);
}

static int find_python(void) {
    FILE *pipe = popen(COHORT_SOURCE_DIR "/scripts/test_venv.sh schemas", "r");
    if (!pipe) return 1;
    if (fgets(python, sizeof python, pipe)) python[strcspn(python, "\n")] = '\0';
    int status = pclose(pipe);
    return status >> 8;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_passes_validates)};
    const char *given = getenv("COHORT_TEST_SEED");
    if (given) seed = strtoull(given, NULL, 10);
    int made = find_python();
    if (made) {
        fprintf(stderr, "skipped: no Python environment with jsonschema\n");
        return made == SKIP ? SKIP : 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
