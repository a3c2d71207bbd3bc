/* SPDX-License-Identifier: Apache-2.0 */
#include "text/tokenizer.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <cjson/cJSON.h>

#include "base/cancel.h"
#include "base/random.h"
#include "text/text_internal.h"

#define GOLDEN COHORT_SOURCE_DIR "/tests/golden/"

static char *read_all(FILE *file, size_t *out_size) {
    cohort_text text = {0};
    char block[65536];
    assert_non_null(file);
    for (size_t n; (n = fread(block, 1, sizeof block, file));)
        cohort_text_append(&text, block, n);
    *out_size = text.size;
    return text.bytes;
}

static cohort_tokenizer *open_qwen3(void) {
    size_t size;
    FILE *pipe = popen("xz -dc " GOLDEN "qwen3-tokenizer/tokenizer.json.xz", "r");
    char *json = read_all(pipe, &size);
    assert_int_equal(pclose(pipe), 0);
    cohort_tokenizer *tokenizer = NULL;
    assert_int_equal(cohort_tokenizer_parse(json, size, "qwen3", &tokenizer), COHORT_OK);
    free(json);
    return tokenizer;
}

static cJSON *read_json(const char *path) {
    size_t size;
    FILE *file = fopen(path, "r");
    char *json = read_all(file, &size);
    fclose(file);
    cJSON *root = cJSON_ParseWithLength(json, size);
    assert_non_null(root);
    free(json);
    return root;
}

static void expect_ids_of(const cohort_tokenizer *tokenizer, const char *text,
                          size_t size, const int32_t *expected, size_t count) {
    int32_t *ids = NULL;
    size_t n = 0;
    assert_int_equal(cohort_tokenizer_encode(tokenizer, text, size, true, &ids, &n),
                     COHORT_OK);
    bool same = n == count && (!n || !memcmp(ids, expected, n * sizeof *ids));
    if (!same) {
        fprintf(stderr, "'%s' gives", text);
        for (size_t i = 0; i < n; i++)
            fprintf(stderr, " %d", ids[i]);
        fprintf(stderr, "\n");
    }
    assert_true(same);
    free(ids);
}

static void expect_ids(const cohort_tokenizer *tokenizer, const char *text,
                       const int32_t *expected, size_t count) {
    expect_ids_of(tokenizer, text, strlen(text), expected, count);
}

/* A member's text; what holds a NUL is kept in hex, as key_hex, because cJSON ends there.
 */
static void get_text(const cJSON *item, const char *key, cohort_text *out) {
    char hex_key[32];
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItem(item, key));
    cohort_text_append(out, "", 0);
    if (text) {
        cohort_text_append(out, text, strlen(text));
        return;
    }
    snprintf(hex_key, sizeof hex_key, "%s_hex", key);
    const char *hex = cJSON_GetStringValue(cJSON_GetObjectItem(item, hex_key));
    assert_non_null(hex);
    for (unsigned byte; sscanf(hex, "%2x", &byte) == 1; hex += 2)
        cohort_text_append(out, (char[]){(char)byte}, 1);
}

static void check_case(const cohort_tokenizer *tokenizer, const cJSON *item) {
    const cJSON *list = cJSON_GetObjectItem(item, "ids"), *id;
    cohort_text text = {0}, decoded = {0};
    get_text(item, "text", &text);
    get_text(item, "decoded", &decoded);
    size_t count = (size_t)cJSON_GetArraySize(list), n = 0;
    int32_t *expected = calloc(count + 1, sizeof *expected);
    cJSON_ArrayForEach(id, list) expected[n++] = id->valueint;
    expect_ids_of(tokenizer, text.bytes, text.size, expected, count);
    char *got = NULL;
    size_t size = 0;
    assert_int_equal(
        cohort_tokenizer_decode(tokenizer, expected, count, false, &got, &size),
        COHORT_OK);
    assert_int_equal(size, decoded.size);
    assert_memory_equal(got, decoded.bytes, size);
    free(got);
    free(expected);
    cohort_text_free(&text);
    cohort_text_free(&decoded);
}

static void qwen3_encodes_and_decodes_as_the_reference(void **state) {
    cJSON *golden = read_json(GOLDEN "qwen3-tokenizer/golden.json");
    const cJSON *item, *list = cJSON_GetObjectItem(golden, "encodings");
    assert_int_equal(cJSON_GetArraySize(list), 430);
    cJSON_ArrayForEach(item, list) check_case(*state, item);
    cJSON_Delete(golden);
}

/* Whatever ids come, the pieces are UTF-8 and add up to the whole. */
static void check_increments(const cohort_tokenizer *tokenizer, uint64_t seed,
                             size_t count) {
    int32_t ids[64];
    cohort_text pieces = {0};
    cohort_text_append(&pieces, "", 0);
    for (size_t i = 0; i < count; i++)
        ids[i] = (int32_t)(cohort_random_u64(seed, i) %
                           (uint64_t)cohort_tokenizer_vocab_size(tokenizer));
    cohort_detokenizer *detokenizer = NULL;
    const char *text;
    size_t size;
    assert_int_equal(cohort_detokenizer_create(tokenizer, NULL, 0, true, &detokenizer),
                     COHORT_OK);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(cohort_detokenizer_append(detokenizer, ids[i], &text, &size),
                         COHORT_OK);
        size_t before = pieces.size;
        cohort_utf8_clean(&pieces, text, size);
        assert_int_equal(pieces.size - before, size); /* nothing had to be mended */
    }
    char *whole = NULL;
    assert_int_equal(cohort_tokenizer_decode(tokenizer, ids, count, true, &whole, &size),
                     COHORT_OK);
    if (!tokenizer->decode_bytes && !strstr(whole, "\xef\xbf\xbd"))
        assert_string_equal(pieces.bytes, whole);
    free(whole);
    cohort_text_free(&pieces);
    cohort_detokenizer_destroy(detokenizer);
}

static int n_asked, most_asked;

static bool is_asked_often(void *user_data) {
    (void)user_data;
    return ++n_asked > most_asked;
}

static cohort_status encode_words(const cohort_tokenizer *tokenizer, size_t size) {
    char *text = malloc(size);
    int32_t *ids = NULL;
    size_t n;
    assert_non_null(text);
    for (size_t i = 0; i < size; i++)
        text[i] = "word "[i % 5];
    n_asked = 0;
    cohort_status status =
        cohort_tokenizer_encode(tokenizer, text, size, false, &ids, &n);
    if (status >= 0) free(ids);
    free(text);
    return status;
}

/* How often it is asked tells the work, which grows as the text does. */
static void long_texts_can_be_left(void **state) {
    const cohort_tokenizer *tokenizer = *state;
    int n_of[2];
    cohort_cancel_set(is_asked_often, NULL);
    most_asked = INT_MAX;
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(encode_words(tokenizer, (size_t)(1 << 20) << i), COHORT_OK);
        n_of[i] = n_asked;
    }
    assert_in_range(n_of[0], 16, 64);
    assert_in_range(n_of[1], 2 * n_of[0] - 2, 2 * n_of[0] + 2);
    most_asked = 3;
    assert_int_equal(encode_words(tokenizer, 1 << 20), COHORT_E_CLOSED);
    assert_int_equal(n_asked, 4);
    cohort_cancel_set(NULL, NULL);
}

static void increments_of_text_add_up(void **state) {
    const cohort_tokenizer *tokenizer = *state;
    const char text[] = "naïve 日本語 👩‍👩‍👧 \xf0\x9f\x8f\xb4 déjà vu";
    int32_t *ids = NULL;
    size_t n = 0, size, total = 0;
    cohort_detokenizer *detokenizer = NULL;
    assert_int_equal(
        cohort_tokenizer_encode(tokenizer, text, sizeof text - 1, false, &ids, &n), 0);
    assert_int_equal(cohort_detokenizer_create(tokenizer, NULL, 0, true, &detokenizer),
                     0);
    for (size_t i = 0; i < n; i++) {
        const char *piece;
        assert_int_equal(cohort_detokenizer_append(detokenizer, ids[i], &piece, &size),
                         0);
        assert_memory_equal(piece, text + total, size);
        total += size;
    }
    assert_int_equal(total, sizeof text - 1);
    cohort_detokenizer_destroy(detokenizer);
    free(ids);
    for (uint64_t seed = 0; seed < 300; seed++)
        check_increments(tokenizer, seed, 1 + seed % 4);
}

static void long_text_is_encoded_in_reasonable_time(void **state) {
    size_t size = 1 << 20, n = 0;
    char *text = malloc(size);
    int32_t *ids = NULL;
    memset(text, 'a', size); /* one word of a megabyte */
    assert_int_equal(cohort_tokenizer_encode(*state, text, size, false, &ids, &n),
                     COHORT_OK);
    assert_true(n > 0);
    free(ids);
    free(text);
}

static const char sentencepiece[] =
    "{\"added_tokens\":[{\"id\":0,\"content\":\"<unk>\",\"special\":true,\"normalized\":"
    "false},"
    "{\"id\":1,\"content\":\"<s>\",\"special\":true,\"normalized\":false}],"
    "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\","
    "\"prepend\":"
    "\"\xe2\x96\x81\"},{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":"
    "\"\xe2\x96\x81\"}]},\"pre_tokenizer\":null,\"post_processor\":{\"type\":"
    "\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}}"
    ","
    "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"pair\":[],\"special_tokens\":{\"<s>"
    "\":"
    "{\"id\":\"<s>\",\"ids\":[1],\"tokens\":[\"<s>\"]}}},\"decoder\":{\"type\":"
    "\"Sequence\","
    "\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"\xe2\x96\x81\"},"
    "\"content\":\" "
    "\"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},{\"type\":\"Strip\","
    "\"content\":\" "
    "\",\"start\":1,\"stop\":0}]},\"model\":{\"type\":\"BPE\",\"dropout\":null,"
    "\"unk_token\":\"<unk>\",\"fuse_unk\":true,\"byte_fallback\":true,\"vocab\":{\"<unk>"
    "\":0,"
    "\"<s>\":1,\"<0xC3>\":2,\"<0xA9>\":3,\"\xe2\x96\x81\":4,\"a\":5,\"b\":6,\"ab\":7,"
    "\"\xe2\x96\x81\x61\x62\":8},\"merges\":[\"a b\",\"\xe2\x96\x81 ab\"]}}";

static cohort_tokenizer *parse(const char *json) {
    cohort_tokenizer *tokenizer = NULL;
    cohort_tokenizer_parse(json, strlen(json), "test", &tokenizer);
    return tokenizer;
}

static void sentencepiece_falls_back_to_bytes(void **state) {
    (void)state;
    cohort_tokenizer *tokenizer = parse(sentencepiece);
    assert_non_null(tokenizer);
    expect_ids(tokenizer, "ab ab", (int32_t[]){1, 8, 8}, 3);
    expect_ids(tokenizer, "a\xc3\xa9", (int32_t[]){1, 4, 5, 2, 3}, 5);
    expect_ids(tokenizer, "xyb", (int32_t[]){1, 4, 0, 6}, 4); /* unknown ones are fused */
    char *text = NULL;
    size_t size;
    const int32_t ids[] = {1, 8, 2, 3, 8, 2};
    assert_int_equal(cohort_tokenizer_decode(tokenizer, ids, 6, true, &text, &size), 0);
    assert_string_equal(text, "ab\xc3\xa9 ab\xef\xbf\xbd");
    free(text);
    for (uint64_t seed = 0; seed < 300; seed++)
        check_increments(tokenizer, seed, 1 + seed % 8);
    cohort_tokenizer_close(tokenizer);
}

static void bytes_go_on_behind_a_prompt_that_ends_in_bytes(void **state) {
    (void)state;
    cohort_tokenizer *tokenizer = parse(sentencepiece);
    const int32_t prompt[] = {1, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3};
    assert_non_null(tokenizer);
    for (size_t n = 0; n <= sizeof prompt / sizeof *prompt; n++) {
        cohort_detokenizer *detokenizer = NULL;
        const char *text;
        size_t size;
        bool is_within =
            n > 0 && n % 2 == 0; /* a character, and the next token ends it */
        assert_int_equal(
            cohort_detokenizer_create(tokenizer, prompt, n, true, &detokenizer), 0);
        assert_int_equal(
            cohort_detokenizer_append(detokenizer, 2 + is_within, &text, &size), 0);
        assert_int_equal(
            cohort_detokenizer_append(detokenizer, is_within ? 8 : 3, &text, &size), 0);
        assert_string_equal(text, is_within ? " ab" : "\xc3\xa9");
        cohort_detokenizer_destroy(detokenizer);
    }
    cohort_tokenizer_close(tokenizer);
}

/* The rest of a run of bytes is lost with the first that is part of no character, also
 * where two of the rest would be one. */
static void bytes_behind_a_broken_one_are_none(void **state) {
    (void)state;
    static const int32_t ids[] = {2, 2, 3, 8, 2, 3, 8};
    static const char *const texts[] = {
        "", "\xef\xbf\xbd\xef\xbf\xbd", "\xef\xbf\xbd", " ab", "", "\xc3\xa9", " ab"};
    cohort_tokenizer *tokenizer = parse(sentencepiece);
    cohort_detokenizer *detokenizer = NULL;
    assert_non_null(tokenizer);
    assert_int_equal(
        cohort_detokenizer_create(tokenizer, (int32_t[]){1, 8}, 2, true, &detokenizer),
        0);
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        const char *text;
        size_t size;
        assert_int_equal(cohort_detokenizer_append(detokenizer, ids[i], &text, &size), 0);
        assert_int_equal(size, strlen(texts[i]));
        assert_memory_equal(text, texts[i], size);
    }
    cohort_detokenizer_destroy(detokenizer);
    cohort_tokenizer_close(tokenizer);
}

static void truncation_and_padding_are_taken_and_ignored(void **state) {
    (void)state;
    char json[4096];
    snprintf(
        json, sizeof json,
        "{\"truncation\":{\"direction\":\"Right\",\"max_length\":2,\"strategy\":"
        "\"LongestFirst\",\"stride\":0},\"padding\":{\"strategy\":{\"Fixed\":12},"
        "\"direction\":\"Right\",\"pad_id\":0,\"pad_type_id\":0,\"pad_token\":\"<s>\""
        "},%s",
        sentencepiece + 1);
    cohort_tokenizer *tokenizer = parse(json);
    assert_non_null(tokenizer);
    expect_ids(tokenizer, "ab ab ab", (int32_t[]){1, 8, 8, 8}, 4);
    cohort_tokenizer_close(tokenizer);
}

static void what_is_not_supported_is_refused_by_name(void **state) {
    (void)state;
    static const struct {
        const char *json, *named;
    } cases[] = {
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[]}}", "Unigram"},
        {"{\"normalizer\":{\"type\":\"BertNormalizer\"}}", "BertNormalizer"},
        {"{\"pre_tokenizer\":{\"type\":\"Punctuation\"}}", "Punctuation"},
        {"{\"decoder\":{\"type\":\"WordPiece\"}}", "WordPiece"},
        {"{\"post_processor\":{\"type\":\"RobertaProcessing\"}}", "RobertaProcessing"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}", "'a'"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a b\"]}}",
         "merge 0"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":["
         "\"a b\",3]}}",
         "merge 1 is not a pair"},
        {"[]", "JSON"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"\xf0\":0},\"merges\":[]}}", "UTF-8"},
        {"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(\"},"
         "\"behavior\":\"Isolated\"}}",
         "regular expression"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_null(parse(cases[i].json));
        assert_non_null(strstr(cohort_last_error()->message, cases[i].named));
    }
}

static int set_up(void **state) {
    *state = open_qwen3();
    return 0;
}

static int tear_down(void **state) {
    cohort_tokenizer_close(*state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(qwen3_encodes_and_decodes_as_the_reference),
        cmocka_unit_test(increments_of_text_add_up),
        cmocka_unit_test(long_texts_can_be_left),
        cmocka_unit_test(long_text_is_encoded_in_reasonable_time),
        cmocka_unit_test(sentencepiece_falls_back_to_bytes),
        cmocka_unit_test(bytes_go_on_behind_a_prompt_that_ends_in_bytes),
        cmocka_unit_test(bytes_behind_a_broken_one_are_none),
        cmocka_unit_test(truncation_and_padding_are_taken_and_ignored),
        cmocka_unit_test(what_is_not_supported_is_refused_by_name),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
