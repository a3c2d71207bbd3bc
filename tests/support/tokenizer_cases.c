/* SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer_cases.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "text/text_internal.h"

enum { MOST_SHOWN = 20 };

typedef struct checker {
    const cohort_tokenizer *tokenizer;
    const char *dir;
    int line, differing;
} checker;

static void show(const char *label, const char *bytes, size_t size) {
    fprintf(stderr, "  %s '", label);
    fwrite(bytes, 1, size, stderr);
    fprintf(stderr, "'\n");
}

static void show_ids(const char *label, const int32_t *ids, size_t count) {
    fprintf(stderr, "  %s", label);
    for (size_t i = 0; i < count; i++)
        fprintf(stderr, " %d", ids[i]);
    fprintf(stderr, "\n");
}

static void differs(checker *self, const char *what) {
    self->differing++;
    fprintf(stderr, "%s/cases.jsonl:%d: %s differs\n", self->dir, self->line, what);
}

/* A member's text; what holds a NUL is kept in hex, as key_hex, because cJSON ends there.
 */
static bool get_text(const cJSON *item, const char *key, cohort_text *out) {
    char hex_key[32];
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, key));
    cohort_text_append(out, "", 0);
    if (text) {
        cohort_text_append(out, text, strlen(text));
        return true;
    }
    snprintf(hex_key, sizeof hex_key, "%s_hex", key);
    const char *hex =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, hex_key));
    if (!hex) return false;
    for (unsigned byte; sscanf(hex, "%2x", &byte) == 1; hex += 2)
        cohort_text_append(out, (char[]){(char)byte}, 1);
    return true;
}

static int32_t *get_ids(const cJSON *item, const char *key, size_t *out_count) {
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(item, key), *id;
    assert_true(cJSON_IsArray(list));
    int32_t *ids = calloc((size_t)cJSON_GetArraySize(list) + 1, sizeof *ids);
    assert_non_null(ids);
    *out_count = 0;
    cJSON_ArrayForEach(id, list) ids[(*out_count)++] = id->valueint;
    return ids;
}

static void check_encoding(checker *self, const cJSON *item, const char *key,
                           const cohort_text *text) {
    size_t count = 0, n = 0;
    int32_t *expected = get_ids(item, key, &count), *ids = NULL;
    assert_int_equal(cohort_tokenizer_encode(self->tokenizer, text->bytes, text->size,
                                             !strcmp(key, "special"), &ids, &n),
                     COHORT_OK);
    if (n != count || (n && memcmp(ids, expected, n * sizeof *ids))) {
        differs(self, key);
        show("text", text->bytes, text->size);
        show_ids("reference", expected, count);
        show_ids("ours     ", ids, n);
    }
    free(ids);
    free(expected);
}

/* The whole says U+FFFD for a character that the last tokens only begin; the pieces say
 * nothing. */
static void add_cut_off(cohort_text *pieces, const cohort_tokenizer *tokenizer,
                        const int32_t *ids, size_t count, bool skip_special) {
    char *whole = NULL;
    size_t size, begin = pieces->size;
    assert_int_equal(
        cohort_tokenizer_decode(tokenizer, ids, count, skip_special, &whole, &size),
        COHORT_OK);
    bool goes_on = size > begin && !memcmp(whole, pieces->bytes, begin);
    for (size_t at = begin; goes_on && at < size; at += 3)
        goes_on = !strncmp(whole + at, "\xef\xbf\xbd", 3);
    if (goes_on) cohort_text_append(pieces, whole + begin, size - begin);
    free(whole);
}

char *test_detokenize(const cohort_tokenizer *tokenizer, const int32_t *ids, size_t count,
                      bool skip_special, size_t *out_size) {
    cohort_detokenizer *detokenizer = NULL;
    cohort_text pieces = {0};
    cohort_text_append(&pieces, "", 0);
    assert_int_equal(
        cohort_detokenizer_create(tokenizer, NULL, 0, skip_special, &detokenizer),
        COHORT_OK);
    for (size_t i = 0; i < count; i++) {
        const char *text;
        size_t size, before = pieces.size;
        assert_int_equal(cohort_detokenizer_append(detokenizer, ids[i], &text, &size),
                         COHORT_OK);
        cohort_utf8_clean(&pieces, text, size);
        assert_int_equal(pieces.size - before, size); /* nothing had to be mended */
        assert_memory_equal(pieces.bytes + before, text, size);
    }
    cohort_detokenizer_destroy(detokenizer);
    add_cut_off(&pieces, tokenizer, ids, count, skip_special);
    *out_size = pieces.size;
    return pieces.bytes;
}

/* A run of byte tokens that is no UTF-8 as a whole becomes U+FFFD throughout, also where
 * it begins with characters; whoever shows text as it comes has shown those by then. */
static bool may_differ(const cohort_tokenizer *tokenizer, const cohort_text *expected) {
    return tokenizer->decode_bytes &&
           memmem(expected->bytes, expected->size, "\xef\xbf\xbd", 3);
}

static void check_decoding(checker *self, const cJSON *item, const char *key) {
    cohort_text expected = {0};
    size_t count = 0, size = 0;
    bool skip = !strcmp(key, "skipped");
    int32_t *ids = get_ids(item, "ids", &count);
    char *text = NULL;
    assert_true(get_text(item, key, &expected));
    assert_int_equal(
        cohort_tokenizer_decode(self->tokenizer, ids, count, skip, &text, &size),
        COHORT_OK);
    bool same = size == expected.size && !memcmp(text, expected.bytes, size);
    if (!same) {
        differs(self, key);
        show_ids("ids      ", ids, count);
        show("reference", expected.bytes, expected.size);
        show("ours     ", text, size);
    }
    free(text);
    text = test_detokenize(self->tokenizer, ids, count, skip, &size);
    if (same && (size != expected.size || memcmp(text, expected.bytes, size)) &&
        !may_differ(self->tokenizer, &expected)) {
        differs(self, "bit by bit,");
        show_ids("ids      ", ids, count);
        show("reference", expected.bytes, expected.size);
        show("ours     ", text, size);
    }
    free(text);
    free(ids);
    cohort_text_free(&expected);
}

static void check_line(checker *self, const char *line) {
    cohort_text text = {0};
    cJSON *item = cJSON_Parse(line);
    assert_non_null(item);
    if (get_text(item, "text", &text)) {
        check_encoding(self, item, "ids", &text);
        check_encoding(self, item, "special", &text);
    }
    check_decoding(self, item, "decoded");
    check_decoding(self, item, "skipped");
    cohort_text_free(&text);
    cJSON_Delete(item);
}

int test_tokenizer_cases(const char *dir, int *out_count) {
    char path[4096];
    cohort_tokenizer *tokenizer = NULL;
    cohort_status status = cohort_tokenizer_open(dir, &tokenizer);
    if (status < 0) fprintf(stderr, "%s\n", cohort_last_error()->message);
    assert_int_equal(status, COHORT_OK);
    checker self = {.tokenizer = tokenizer, .dir = dir};
    snprintf(path, sizeof path, "%s/cases.jsonl", dir);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    char *line = NULL;
    size_t capacity = 0;
    while (self.differing < MOST_SHOWN && getline(&line, &capacity, file) > 0) {
        self.line++;
        check_line(&self, line);
    }
    free(line);
    fclose(file);
    cohort_tokenizer_close(tokenizer);
    *out_count = self.line;
    return self.differing;
}
