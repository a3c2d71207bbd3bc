/* SPDX-License-Identifier: Apache-2.0 */
#include "text/tokenizer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/fail.h"
#include "text/text_internal.h"

enum { MAX_FILE_BYTES = 256 << 20 };

/* ---- life -------------------------------------------------------------------------- */

static void free_steps(cohort_text_steps *steps) {
    for (int i = 0; i < steps->count; i++) {
        free(steps->items[i].pattern);
        free(steps->items[i].content);
        pcre2_code_free(steps->items[i].regex);
    }
}

void cohort_tokenizer_close(cohort_tokenizer *tokenizer) {
    if (!tokenizer) return;
    free_steps(&tokenizer->normalizers);
    free_steps(&tokenizer->splitters);
    free_steps(&tokenizer->decoders);
    for (int32_t i = 0; i < tokenizer->n_added; i++)
        free(tokenizer->added[i].content);
    free(tokenizer->added);
    free(tokenizer->tokens);
    free(tokenizer->arena);
    free(tokenizer->by_bytes.slots);
    free(tokenizer->merges.slots);
    free(tokenizer->prefix);
    free(tokenizer->suffix);
    free(tokenizer);
}

cohort_status cohort_tokenizer_parse(const char *json, size_t size_bytes,
                                     const char *name, cohort_tokenizer **out_tokenizer) {
    cohort_tokenizer *tokenizer = calloc(1, sizeof *tokenizer);
    if (!tokenizer) return COHORT_FAIL(COHORT_E_NOMEM, "a tokenizer");
    cJSON *root = cJSON_ParseWithLength(json, size_bytes);
    cohort_status status =
        cJSON_IsObject(root)
            ? cohort_tokenizer_read(tokenizer, root, name)
            : COHORT_FAIL(COHORT_E_INVALID, "%s is not a JSON object", name);
    cJSON_Delete(root);
    if (status < 0) {
        cohort_tokenizer_close(tokenizer);
        return status;
    }
    *out_tokenizer = tokenizer;
    return COHORT_OK;
}

static cohort_status read_file(const char *path, char **out_bytes, size_t *out_size) {
    FILE *file = fopen(path, "rbe");
    if (!file)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "cannot open %s: %s (--skip-tokenizer-init does without)",
                           path, strerror(errno));
    cohort_text text = {0};
    char block[1 << 16];
    for (size_t n;
         (n = fread(block, 1, sizeof block, file)) && text.size < MAX_FILE_BYTES;)
        cohort_text_append(&text, block, n);
    bool broken = ferror(file);
    fclose(file);
    if (broken || text.failed || text.size >= MAX_FILE_BYTES) {
        cohort_text_free(&text);
        return COHORT_FAIL(COHORT_E_INVALID, "cannot read %s", path);
    }
    *out_bytes = text.bytes;
    *out_size = text.size;
    return COHORT_OK;
}

cohort_status cohort_tokenizer_open(const char *model_dir,
                                    cohort_tokenizer **out_tokenizer) {
    char path[4096], *json = NULL;
    size_t size = 0;
    snprintf(path, sizeof path, "%s/tokenizer.json", model_dir);
    COHORT_TRY(read_file(path, &json, &size));
    cohort_status status = cohort_tokenizer_parse(json, size, path, out_tokenizer);
    free(json);
    return status;
}

int32_t cohort_tokenizer_vocab_size(const cohort_tokenizer *tokenizer) {
    return tokenizer->n_tokens;
}

int32_t cohort_tokenizer_find(const cohort_tokenizer *tokenizer, const char *token) {
    for (int32_t i = 0; i < tokenizer->n_added; i++)
        if (!strcmp(tokenizer->added[i].content, token)) return tokenizer->added[i].id;
    return cohort_token_lookup(tokenizer, token, strlen(token));
}

/* ---- encoding ---------------------------------------------------------------------- */

typedef struct encoder {
    const cohort_tokenizer *tokenizer;
    cohort_bpe_scratch scratch;
    cohort_span_list words;
    cohort_ids *ids;
} encoder;

static bool is_word_char(const char *text, size_t size) {
    utf8proc_int32_t code = -1;
    if (utf8proc_iterate((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)size, &code) <=
        0)
        return false;
    utf8proc_category_t category = utf8proc_category(code);
    return code == '_' ||
           (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NO);
}

static size_t char_before(const char *text, size_t at) {
    size_t i = at;
    while (i > 0 && at - i < 4 && ((unsigned char)text[--i] & 0xc0) == 0x80)
        ;
    return i;
}

static size_t skip_space(const char *text, size_t size, size_t at) {
    while (at < size) {
        utf8proc_int32_t code = -1;
        utf8proc_ssize_t length = utf8proc_iterate((const utf8proc_uint8_t *)text + at,
                                                   (utf8proc_ssize_t)(size - at), &code);
        bool space = (code >= 9 && code <= 13) || code == 0x85 ||
                     utf8proc_category(code) == UTF8PROC_CATEGORY_ZS || code == 0x2028 ||
                     code == 0x2029;
        if (length <= 0 || !space) break;
        at += (size_t)length;
    }
    return at;
}

/* The longest added token that begins at `at`, of those normalized or not. */
static const cohort_added_token *added_at(const cohort_tokenizer *tokenizer,
                                          const char *text, size_t size, size_t at,
                                          bool normalized) {
    const cohort_added_token *best = NULL;
    for (int32_t i = 0; i < tokenizer->n_added; i++) {
        const cohort_added_token *token = &tokenizer->added[i];
        if (token->content[0] != text[at] || token->normalized != normalized ||
            token->size > size - at || memcmp(token->content, text + at, token->size))
            continue;
        if (best && best->size >= token->size) continue;
        if (token->single_word) {
            size_t end = at + token->size, before = char_before(text, at);
            if ((at && is_word_char(text + before, at - before)) ||
                (end < size && is_word_char(text + end, size - end)))
                continue;
        }
        best = token;
    }
    return best;
}

static cohort_status encode_words(encoder *self, const char *bytes, size_t size,
                                  bool at_start) {
    cohort_text text = {0};
    cohort_text_append(&text, bytes, size);
    cohort_status status =
        cohort_split(&self->tokenizer->splitters, &text, at_start, &self->words);
    for (size_t i = 0; status >= 0 && i < self->words.count; i++)
        status = cohort_bpe_encode(self->tokenizer, &self->scratch,
                                   text.bytes + self->words.items[i].begin,
                                   self->words.items[i].size, self->ids);
    cohort_text_free(&text);
    return status;
}

static cohort_status encode_segments(encoder *self, const char *bytes, size_t size,
                                     bool normalized, bool at_start);

static cohort_status encode_plain(encoder *self, const char *bytes, size_t size,
                                  bool normalized, bool at_start) {
    if (!size) return COHORT_OK;
    if (normalized) return encode_words(self, bytes, size, at_start);
    cohort_text text = {0};
    cohort_text_append(&text, bytes, size);
    cohort_status status = cohort_normalize(&self->tokenizer->normalizers, &text);
    if (status >= 0 && text.size)
        status = encode_segments(self, text.bytes, text.size, true, at_start);
    cohort_text_free(&text);
    return status;
}

/* Cuts out added tokens: first those that match the raw text, then, on normalized text,
 * the others. */
static cohort_status encode_segments(encoder *self, const char *bytes, size_t size,
                                     bool normalized, bool at_start) {
    size_t done = 0;
    for (size_t i = 0; i < size;) {
        const cohort_added_token *token =
            added_at(self->tokenizer, bytes, size, i, normalized);
        if (!token) {
            i++;
            continue;
        }
        size_t end = i + token->size, begin = i;
        if (token->rstrip) end = skip_space(bytes, size, end);
        while (token->lstrip && begin > done) {
            size_t before = char_before(bytes, begin);
            if (skip_space(bytes, begin, before) != begin) break;
            begin = before;
        }
        COHORT_TRY(encode_plain(self, bytes + done, begin - done, normalized,
                                at_start && done == 0));
        cohort_ids_add(self->ids, token->id);
        done = i = end;
    }
    return encode_plain(self, bytes + done, size - done, normalized,
                        at_start && done == 0);
}

static void add_ids(cohort_ids *ids, const int32_t *from, int32_t count) {
    for (int32_t i = 0; i < count; i++)
        cohort_ids_add(ids, from[i]);
}

cohort_status cohort_tokenizer_encode(const cohort_tokenizer *tokenizer, const char *text,
                                      size_t size_bytes, bool special, int32_t **out_ids,
                                      size_t *out_count) {
    cohort_ids ids = {0};
    cohort_text clean = {0};
    encoder self = {.tokenizer = tokenizer, .ids = &ids};
    cohort_utf8_clean(&clean, text, size_bytes);
    if (special) add_ids(&ids, tokenizer->prefix, tokenizer->n_prefix);
    cohort_status status = encode_segments(&self, clean.bytes, clean.size, false, true);
    if (special) add_ids(&ids, tokenizer->suffix, tokenizer->n_suffix);
    if (status >= 0 && (ids.failed || clean.failed))
        status = COHORT_FAIL(COHORT_E_NOMEM, "encoding %zu bytes", size_bytes);
    cohort_bpe_scratch_free(&self.scratch);
    free(self.words.items);
    cohort_text_free(&clean);
    if (status < 0) {
        free(ids.items);
        return status;
    }
    *out_ids = ids.items;
    *out_count = ids.count;
    return COHORT_OK;
}

/* ---- decoding ---------------------------------------------------------------------- */

static bool is_utf8(const char *bytes, size_t size) {
    size_t bad;
    bool truncated;
    for (size_t i = 0, length; i < size; i += length)
        if (!(length = cohort_utf8_length(bytes + i, size - i, &bad, &truncated)))
            return false;
    return true;
}

/* A run of byte tokens is a text, or as many U+FFFD as bytes. */
static void flush_bytes(cohort_text *out, cohort_text *run) {
    if (is_utf8(run->bytes, run->size))
        cohort_text_append(out, run->bytes, run->size);
    else
        for (size_t i = 0; i < run->size; i++)
            cohort_text_append(out, "\xef\xbf\xbd", 3);
    run->size = 0;
}

static void append_replaced(cohort_text *out, const cohort_text_steps *decoders,
                            const cohort_token *token) {
    const cohort_text_step *replace = NULL;
    for (int i = 0; i < decoders->count; i++)
        if (decoders->items[i].kind == COHORT_DECODE_REPLACE)
            replace = &decoders->items[i];
    if (!replace) {
        cohort_text_append(out, token->bytes, token->size);
        return;
    }
    size_t length = strlen(replace->pattern);
    for (size_t i = 0; i < token->size;) {
        bool match = token->size - i >= length &&
                     !memcmp(token->bytes + i, replace->pattern, length);
        if (match)
            cohort_text_append(out, replace->content, strlen(replace->content));
        else
            cohort_text_append(out, token->bytes + i, 1);
        i += match ? length : 1;
    }
}

static void strip_front(cohort_text *text, const cohort_text_steps *decoders) {
    for (int i = 0; i < decoders->count; i++) {
        const cohort_text_step *step = &decoders->items[i];
        size_t length = step->content ? strlen(step->content) : 0;
        if (step->kind != COHORT_DECODE_STRIP || !length) continue;
        for (int n = 0; n < step->option && text->size >= length &&
                        !memcmp(text->bytes, step->content, length);
             n++) {
            text->size -= length;
            memmove(text->bytes, text->bytes + length, text->size);
        }
    }
}

cohort_status cohort_tokenizer_decode(const cohort_tokenizer *tokenizer,
                                      const int32_t *ids, size_t count, bool skip_special,
                                      char **out_text, size_t *out_size_bytes) {
    return cohort_decode(tokenizer, ids, count, skip_special, false, out_text,
                         out_size_bytes);
}

cohort_status cohort_decode(const cohort_tokenizer *tokenizer, const int32_t *ids,
                            size_t count, bool skip_special, bool continued,
                            char **out_text, size_t *out_size_bytes) {
    cohort_text raw = {0}, run = {0}, text = {0};
    cohort_text_append(&raw, "", 0);
    cohort_text_append(&run, "", 0);
    for (size_t i = 0; i < count; i++) {
        if (ids[i] < 0 || ids[i] >= tokenizer->n_tokens) continue;
        const cohort_token *token = &tokenizer->tokens[ids[i]];
        if (!token->bytes || (skip_special && token->special)) continue;
        if (tokenizer->decode_bytes && token->byte >= 0) {
            char byte = (char)token->byte;
            cohort_text_append(&run, &byte, 1);
            continue;
        }
        flush_bytes(&raw, &run);
        append_replaced(&raw, &tokenizer->decoders, token);
    }
    flush_bytes(&raw, &run);
    if (!continued) strip_front(&raw, &tokenizer->decoders);
    cohort_text_append(&text, "", 0);
    cohort_utf8_clean(&text, raw.bytes, raw.size);
    bool failed = raw.failed || run.failed || text.failed;
    cohort_text_free(&raw);
    cohort_text_free(&run);
    if (failed) {
        cohort_text_free(&text);
        return COHORT_FAIL(COHORT_E_NOMEM, "decoding %zu tokens", count);
    }
    *out_text = text.bytes;
    *out_size_bytes = text.size;
    return COHORT_OK;
}
