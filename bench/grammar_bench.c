/* SPDX-License-Identifier: Apache-2.0 */
/* What a grammar costs a step, with Qwen3's 151,669 tokens: compiling it, the first masks
 * of a request (whose states nobody has seen) and those of the next.  The text is given
 * and tokenized as the model would write it; a mask and the token's acceptance are timed
 * together.  The floor copies a mask. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cohort/clock.h"
#include "grammar/grammar.h"

enum { MOST_TOKENS = 4096 };

static const char schema[] = "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":"
                             "\"string\"},\"note\":{\"type\":"
                             "\"string\",\"maxLength\":200},\"age\":{\"type\":"
                             "\"integer\",\"minimum\":0,\"maximum\":150},"
                             "\"tags\":{\"type\":\"array\",\"items\":{\"type\":"
                             "\"string\"},\"maxItems\":8},\"address\":"
                             "{\"type\":\"object\",\"properties\":{\"street\":{\"type\":"
                             "\"string\"},\"city\":{\"type\":"
                             "\"string\",\"pattern\":\"^[A-Z][a-z "
                             "]{2,30}$\"}},\"required\":[\"street\",\"city\"]}},"
                             "\"required\":[\"name\",\"age\",\"tags\",\"address\"],"
                             "\"additionalProperties\":false}";

static const char text[] = "{\"name\": \"Ada Lovelace\", \"note\": \"Wrote the first "
                           "program for a machine that was "
                           "never built; the numbers of Bernoulli, of all things, by "
                           "hand and in letters.\", \"age\": "
                           "36, \"tags\": [\"mathematics\", \"engines\", \"poetry\"], "
                           "\"address\": {\"street\": \"12 St "
                           "James's Square\", \"city\": \"London\"}}";

static int by_value(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static char *read_all(FILE *file, size_t *out_size) {
    size_t size = 0, capacity = 1 << 24, n;
    char *bytes = malloc(capacity);
    while (bytes && (n = fread(bytes + size, 1, capacity - size, file)) > 0)
        size += n;
    *out_size = size;
    return bytes;
}

static cohort_tokenizer *open_qwen3(void) {
    size_t size;
    cohort_tokenizer *tokenizer = NULL;
    FILE *pipe = popen("xz -dc tests/golden/qwen3-tokenizer/tokenizer.json.xz", "r");
    char *json = pipe ? read_all(pipe, &size) : NULL;
    if (json) cohort_tokenizer_parse(json, size, "qwen3", &tokenizer);
    if (pipe) pclose(pipe);
    free(json);
    return tokenizer;
}

/* One request, token by token; how long each took. */
static int run(cohort_grammar *grammar, const cohort_vocabulary *vocabulary,
               const int32_t *ids, size_t count, int64_t *ns) {
    uint32_t *mask = calloc(cohort_vocabulary_mask_words(vocabulary), sizeof *mask);
    cohort_matcher *matcher;
    if (!mask || cohort_matcher_create(grammar, vocabulary, &matcher) < 0) return 1;
    for (size_t i = 0; i < count; i++) {
        int64_t begin_ns = cohort_clock_ns();
        cohort_matcher_mask(matcher, mask);
        bool fine = cohort_matcher_accept(matcher, ids[i]);
        ns[i] = cohort_clock_ns() - begin_ns;
        if (!fine || !(mask[ids[i] / 32] >> ids[i] % 32 & 1)) {
            fprintf(stderr, "token %zu is refused\n", i);
            return 1;
        }
    }
    if (!cohort_matcher_is_complete(matcher)) return 1;
    cohort_matcher_destroy(matcher);
    free(mask);
    return 0;
}

static void report(const char *name, int64_t *ns, size_t count) {
    int64_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += ns[i];
    qsort(ns, count, sizeof *ns, by_value);
    printf("%-26s p50 %7.1f us  p90 %7.1f  most %8.1f  mean %7.1f\n", name,
           (double)ns[count / 2] / 1e3, (double)ns[count * 9 / 10] / 1e3,
           (double)ns[count - 1] / 1e3, (double)sum / (double)count / 1e3);
}

static void report_floor(size_t n_words) {
    int64_t ns[101];
    uint32_t *from = calloc(n_words, sizeof *from), *to = calloc(n_words, sizeof *to);
    for (size_t i = 0; from && to && i < 101; i++) {
        int64_t begin_ns = cohort_clock_ns();
        memcpy(to, from, n_words * sizeof *to);
        ns[i] = cohort_clock_ns() - begin_ns;
    }
    if (to) report(to[0] ? "" : "floor: a copy of a mask", ns, 101);
    free(from);
    free(to);
}

int main(void) {
    static int64_t ns[MOST_TOKENS];
    const struct {
        const char *name;
        cohort_grammar_kind kind;
        const char *grammar;
    } kinds[] = {
        {"any object", COHORT_GRAMMAR_JSON_OBJECT, ""},
        {"schema", COHORT_GRAMMAR_JSON_SCHEMA, schema},
        {"regex", COHORT_GRAMMAR_REGEX, "\\{(\"[^\"]*\"|[^\"]){20,}\\}"},
    };
    cohort_tokenizer *tokenizer = open_qwen3();
    cohort_vocabulary *vocabulary;
    int32_t *ids;
    size_t count;
    int64_t begin_ns = cohort_clock_ns();
    if (!tokenizer || cohort_vocabulary_create(tokenizer, &vocabulary) < 0 ||
        cohort_tokenizer_encode(tokenizer, text, sizeof text - 1, false, &ids, &count) <
            0 ||
        count > MOST_TOKENS)
        return 1;
    printf("vocabulary, once: %.1f ms; %zu tokens of text\n",
           (double)(cohort_clock_ns() - begin_ns) / 1e6, count);
    report_floor(cohort_vocabulary_mask_words(vocabulary));
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        char name[64];
        cohort_grammar *grammar;
        begin_ns = cohort_clock_ns();
        if (cohort_grammar_compile(kinds[k].kind, kinds[k].grammar,
                                   strlen(kinds[k].grammar), &grammar) < 0) {
            fprintf(stderr, "%s\n", cohort_last_error()->message);
            return 1;
        }
        printf("%s: compiled in %.2f ms\n", kinds[k].name,
               (double)(cohort_clock_ns() - begin_ns) / 1e6);
        for (int round = 0; round < 2; round++) {
            if (run(grammar, vocabulary, ids, count, ns)) return 1;
            snprintf(name, sizeof name, "  %s request", round ? "next" : "first");
            report(name, ns, count);
        }
        cohort_grammar_release(grammar);
    }
    free(ids);
    cohort_vocabulary_destroy(vocabulary);
    cohort_tokenizer_close(tokenizer);
    return 0;
}
