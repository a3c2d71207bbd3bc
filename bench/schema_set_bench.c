/* SPDX-License-Identifier: Apache-2.0 */
/* What our grammars say of schemas and instances; scripts/schema_set.py asks.  Reads
 * {"schema": ..., "texts": [...]} by the line, the schema as text; writes "ok" and a 0 or
 * 1 for each text, or "refused" and why. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cjson/cJSON.h>

#include "grammar/grammar.h"

static bool is_taken(cohort_grammar *grammar, const cohort_vocabulary *vocabulary,
                     const char *text) {
    cohort_matcher *matcher;
    if (cohort_matcher_create(grammar, vocabulary, &matcher) < 0) return false;
    bool is_in = cohort_matcher_accept_bytes(matcher, text, strlen(text)) &&
                 cohort_matcher_is_complete(matcher);
    cohort_matcher_destroy(matcher);
    return is_in;
}

static void answer(const char *line, const cohort_vocabulary *vocabulary) {
    cohort_grammar *grammar;
    cJSON *json = cJSON_Parse(line), *text;
    const char *schema = cJSON_GetStringValue(cJSON_GetObjectItem(json, "schema"));
    clock_t begin = clock();
    if (!schema || cohort_grammar_compile(COHORT_GRAMMAR_JSON_SCHEMA, schema,
                                          strlen(schema), &grammar) < 0) {
        double ms = (double)(clock() - begin) * 1e3 / CLOCKS_PER_SEC;
        printf("refused %.1f %s\n", ms, cohort_last_error()->message);
        cJSON_Delete(json);
        return;
    }
    printf("ok %.1f ", (double)(clock() - begin) * 1e3 / CLOCKS_PER_SEC);
    cJSON_ArrayForEach(text, cJSON_GetObjectItem(json, "texts")) {
        putchar(is_taken(grammar, vocabulary, text->valuestring) ? '1' : '0');
    }
    putchar('\n');
    cohort_grammar_release(grammar);
    cJSON_Delete(json);
}

int main(int argc, char **argv) {
    cohort_tokenizer *tokenizer;
    cohort_vocabulary *vocabulary;
    char *line = NULL;
    size_t capacity = 0;
    const char *directory = argc > 1 ? argv[1] : "tests/golden/llama-bfloat16";
    if (cohort_tokenizer_open(directory, &tokenizer) < 0 ||
        cohort_vocabulary_create(tokenizer, &vocabulary) < 0) {
        fprintf(stderr, "schema_set_bench: %s\n", cohort_last_error()->message);
        return 1;
    }
    while (getline(&line, &capacity, stdin) > 0) {
        answer(line, vocabulary);
        fflush(stdout);
    }
    free(line);
    cohort_vocabulary_destroy(vocabulary);
    cohort_tokenizer_close(tokenizer);
    return 0;
}
