/* SPDX-License-Identifier: Apache-2.0 */
/* A stranger's tokenizer.json and, behind a NUL byte, a text.  What is accepted must turn
 * any text into ids of its own, and those into UTF-8, whole and bit by bit the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "text/text_internal.h"

enum { MOST_TEXT_BYTES = 512 };

bool fuzz_is_valid;

static void require(bool truth) {
    if (!truth) abort();
}

static void check_decoding(const cohort_tokenizer *tokenizer, const int32_t *ids,
                           size_t count, bool skip_special, char **out_text,
                           size_t *out_size) {
    cohort_detokenizer *detokenizer = NULL;
    cohort_text pieces = {0};
    const char *piece;
    size_t size;
    require(cohort_tokenizer_decode(tokenizer, ids, count, skip_special, out_text,
                                    out_size) == COHORT_OK);
    require(cohort_detokenizer_create(tokenizer, NULL, 0, skip_special, &detokenizer) ==
            COHORT_OK);
    cohort_text_append(&pieces, "", 0);
    for (size_t i = 0; i < count; i++) {
        require(cohort_detokenizer_append(detokenizer, ids[i], &piece, &size) ==
                COHORT_OK);
        size_t before = pieces.size;
        cohort_utf8_clean(&pieces, piece, size);
        require(pieces.size == before + size); /* whole characters */
    }
    /* Only the whole has a word for a character that is cut off. */
    bool is_cut = *out_size == pieces.size + 3 &&
                  !memcmp(*out_text + pieces.size, "\xef\xbf\xbd", 3);
    bool same = (pieces.size == *out_size || is_cut) &&
                !memcmp(pieces.bytes, *out_text, pieces.size);
    require(same ||
            (tokenizer->decode_bytes && memmem(*out_text, *out_size, "\xef\xbf\xbd", 3)));
    cohort_detokenizer_destroy(detokenizer);
    cohort_text_free(&pieces);
}

/* Must decoding give back what was encoded? */
static bool is_lossless(const cohort_tokenizer *tokenizer) {
    bool lossless = tokenizer->byte_level && !tokenizer->normalizers.count;
    for (int i = 0; i < tokenizer->splitters.count; i++)
        lossless &= tokenizer->splitters.items[i].kind == COHORT_SPLIT_PATTERN &&
                    tokenizer->splitters.items[i].behavior != COHORT_REMOVED;
    for (int i = 0; i < 256; i++)
        lossless &= tokenizer->byte_ids[i] >= 0;
    return lossless && !tokenizer->n_added;
}

static void check_text(const cohort_tokenizer *tokenizer, const char *text, size_t size) {
    int32_t *ids = NULL;
    size_t count = 0, out_size = 0;
    char *out = NULL;
    cohort_text clean = {0};
    if (cohort_tokenizer_encode(tokenizer, text, size, true, &ids, &count) < 0) return;
    for (size_t i = 0; i < count; i++)
        require(ids[i] >= 0);
    check_decoding(tokenizer, ids, count, true, &out, &out_size);
    free(out);
    free(ids);
    if (cohort_tokenizer_encode(tokenizer, text, size, false, &ids, &count) < 0) return;
    check_decoding(tokenizer, ids, count, false, &out, &out_size);
    cohort_utf8_clean(&clean, text, size);
    if (is_lossless(tokenizer))
        require(out_size == clean.size && !memcmp(out, clean.bytes, out_size));
    free(out);
    free(ids);
    cohort_text_free(&clean);
    /* any ids at all */
    size_t n = size / sizeof *ids;
    ids = malloc(size + 1);
    require(ids);
    for (size_t i = 0; i < n; i++) {
        memcpy(&ids[i], text + i * sizeof *ids, sizeof *ids);
        if (i % 4)
            ids[i] = (int32_t)((uint32_t)ids[i] % (uint32_t)(1 + tokenizer->n_tokens));
    }
    check_decoding(tokenizer, ids, n, false, &out, &out_size);
    free(out);
    free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *split = size ? memchr(data, 0, size) : NULL;
    size_t json_bytes = split ? (size_t)(split - data) : size;
    size_t text_bytes = split ? size - json_bytes - 1 : 0;
    cohort_tokenizer *tokenizer = NULL;
    if (cohort_tokenizer_parse((const char *)data, json_bytes, "tokenizer.json",
                               &tokenizer) < 0)
        return 0;
    fuzz_is_valid = true;
    check_text(tokenizer, split ? (const char *)split + 1 : "",
               text_bytes > MOST_TEXT_BYTES ? MOST_TEXT_BYTES : text_bytes);
    cohort_tokenizer_close(tokenizer);
    return 0;
}
