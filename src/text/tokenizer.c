/* SPDX-License-Identifier: Apache-2.0 */
#include "text/tokenizer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utf8proc.h>

#include "base/cancel.h"
#include "base/fail.h"
#include "base/files.h"
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
    for (int32_t i = 0; i < tokenizer->n_added; i++) {
        free(tokenizer->added[i].content);
        free(tokenizer->added[i].pattern);
    }
    free(tokenizer->added);
    free(tokenizer->strip);
    pcre2_code_free(tokenizer->word_char);
    free(tokenizer->tokens);
    free(tokenizer->arena);
    free(tokenizer->by_bytes.slots);
    free(tokenizer->merges.slots);
    free(tokenizer->prefix);
    free(tokenizer->suffix);
    free(tokenizer);
}

/* NULL where it is no JSON. */
static cJSON *parse_json(const char *json, size_t size) {
    /* cJSON before 1.7.18 looks one byte past the length it was given. */
    char *copy = malloc(size + 1);
    if (!copy) return NULL;
    memcpy(copy, json, size);
    copy[size] = '\0';
    cJSON *root = cJSON_ParseWithLength(copy, size);
    free(copy);
    return root;
}

/* The configs may be NULL. */
static cohort_status parse(const char *json, size_t size, const char *name,
                           const cJSON *const configs[2], cohort_tokenizer **out) {
    if (!cohort_utf8_is_valid(json, size)) /* as cJSON would let through */
        return COHORT_FAIL(COHORT_E_INVALID, "%s is not UTF-8", name);
    cohort_tokenizer *tokenizer = calloc(1, sizeof *tokenizer);
    if (!tokenizer) return COHORT_FAIL(COHORT_E_NOMEM, "a tokenizer");
    cJSON *root = parse_json(json, size);
    cohort_status status =
        cJSON_IsObject(root)
            ? COHORT_OK
            : COHORT_FAIL(COHORT_E_INVALID, "%s is not a JSON object", name);
    if (status >= 0 && (configs[0] || configs[1]))
        status = cohort_tokenizer_configure(root, configs[0], configs[1],
                                            &tokenizer->split_special);
    if (status >= 0) status = cohort_tokenizer_read(tokenizer, root, name);
    cJSON_Delete(root);
    if (status < 0) {
        cohort_tokenizer_close(tokenizer);
        return status;
    }
    *out = tokenizer;
    return COHORT_OK;
}

cohort_status cohort_tokenizer_parse(const char *json, size_t size_bytes,
                                     const char *name, cohort_tokenizer **out_tokenizer) {
    return parse(json, size_bytes, name, (const cJSON *[2]){NULL, NULL}, out_tokenizer);
}

static cohort_status read_file(const char *path, char **out_bytes, size_t *out_size) {
    /* A FIFO without a writer is refused, not waited for. */
    int fd = cohort_file_open(path);
    struct stat info;
    FILE *file = NULL;
    if (fd >= 0 && fstat(fd, &info) == 0 && !S_ISREG(info.st_mode))
        errno = EINVAL;
    else if (fd >= 0)
        file = fdopen(fd, "rb");
    if (!file) {
        int err = errno;
        if (fd >= 0) close(fd);
        return COHORT_FAIL(COHORT_E_INVALID,
                           "cannot open %s: %s (--skip-tokenizer-init does without)",
                           path, err == EINVAL ? "no regular file" : strerror(err));
    }
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

/* NULL where there is none, or none that can be read: others complain of that. */
static cJSON *read_config(const char *model_dir, const char *name) {
    char path[4096], *text = NULL;
    size_t size = 0;
    snprintf(path, sizeof path, "%s/%s", model_dir, name);
    if (access(path, F_OK) < 0 || read_file(path, &text, &size) < 0) return NULL;
    cJSON *json = text ? parse_json(text, size) : NULL;
    free(text);
    return json;
}

cohort_status cohort_tokenizer_open(const char *model_dir,
                                    cohort_tokenizer **out_tokenizer) {
    char path[4096], *json = NULL;
    size_t size = 0;
    snprintf(path, sizeof path, "%s/tokenizer.json", model_dir);
    COHORT_TRY(read_file(path, &json, &size));
    cJSON *configs[2] = {read_config(model_dir, "tokenizer_config.json"),
                         read_config(model_dir, "config.json")};
    cohort_status status =
        parse(json ? json : "", size, path, (const cJSON *[2]){configs[0], configs[1]},
              out_tokenizer);
    cJSON_Delete(configs[0]);
    cJSON_Delete(configs[1]);
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
    pcre2_match_data *match; /* of one character */
} encoder;

/* Is text[at..end) one word character? */
static bool is_word_char(const encoder *self, const char *text, size_t at, size_t end) {
    return pcre2_match(self->tokenizer->word_char, (PCRE2_SPTR)text + at, end - at, 0,
                       PCRE2_NO_UTF_CHECK | PCRE2_ANCHORED, self->match, NULL) > 0;
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
    const cohort_added_range *range =
        &tokenizer->added_by_byte[normalized][(unsigned char)text[at]];
    for (int32_t i = range->begin; i < range->end; i++) {
        const cohort_added_token *token = &tokenizer->added[i];
        if (token->size <= size - at && !memcmp(token->pattern, text + at, token->size))
            return token;
    }
    return NULL;
}

static cohort_status encode_words(encoder *self, const char *bytes, size_t size,
                                  bool at_start) {
    cohort_text text = {0};
    cohort_text_append(&text, bytes, size);
    cohort_status status =
        cohort_split(&self->tokenizer->splitters, &text, at_start, &self->words);
    for (size_t i = 0; status >= 0 && i < self->words.count; i++) {
        status = cohort_cancel_check(self->words.items[i].size);
        if (status < 0) break;
        status = cohort_bpe_encode(self->tokenizer, &self->scratch,
                                   text.bytes + self->words.items[i].begin,
                                   self->words.items[i].size, self->ids);
    }
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

/* Does a token that wants to be a word of its own stand so? */
static bool stands_alone(const encoder *self, const cohort_added_token *token,
                         const char *bytes, size_t size, size_t begin, size_t end) {
    return !token->single_word ||
           ((!begin || !is_word_char(self, bytes, char_before(bytes, begin), begin)) &&
            (end >= size || !is_word_char(self, bytes, end, size)));
}

static size_t spaces_before(const char *bytes, size_t at) {
    while (at > 0) {
        size_t before = char_before(bytes, at);
        if (skip_space(bytes, at, before) != at) break;
        at = before;
    }
    return at;
}

/* Cuts out added tokens: first those that match the raw text, then, on normalized text,
 * the others.  As the reference does, the search goes on behind the match, not behind the
 * spaces that it took with it. */
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
        size_t begin = i, end = i + token->size;
        i = end;
        if (!stands_alone(self, token, bytes, size, begin, end)) continue;
        if (token->lstrip) begin = spaces_before(bytes, begin);
        if (begin < done) begin = done;
        if (token->rstrip) end = skip_space(bytes, size, end);
        COHORT_TRY(encode_plain(self, bytes + done, begin - done, normalized,
                                at_start && done == 0));
        cohort_ids_add(self->ids, token->id);
        done = end;
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
    self.match = pcre2_match_data_create(1, NULL);
    cohort_status status =
        self.match && !clean.failed
            ? encode_segments(&self, clean.bytes, clean.size, false, true)
            : COHORT_FAIL(COHORT_E_NOMEM, "encoding %zu bytes", size_bytes);
    pcre2_match_data_free(self.match);
    if (special) add_ids(&ids, tokenizer->suffix, tokenizer->n_suffix);
    if (status >= 0 && ids.failed)
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
