/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "text/text_internal.h"

/* Design notes.
 *
 * transformers 5, which vLLM 0.32 runs on, does not run every tokenizer.json as it is:
 * for some classes it takes vocabulary, merges and post-processor from there and makes
 * the rest anew, and it adds the tokens that tokenizer_config.json names.  The same is
 * done here, to the JSON, before it is read.
 *
 * Where that is a known fault of its, the file stays as it is: a class for SentencePiece
 * over a byte-level file (DeepSeek-R1-Distill-Llama) loses every space, a byte-level
 * class over one that is none makes nothing of any text, and GPT-2's over a file that
 * cuts digits apart (StarCoder, SmolLM) gives numbers that the model never saw. */

typedef enum tokenizer_class {
    CLASS_FILE, /* tokenizer.json as it is */
    CLASS_LLAMA,
    CLASS_GPT2,
    CLASS_QWEN2
} tokenizer_class;

typedef struct configuring {
    cJSON *root, *added;
    const cJSON *config; /* may be NULL */
    const cJSON *vocab;
    const cJSON **by_id; /* of added */
    size_t n_ids;
    int32_t next_id;
} configuring;

static const cJSON *member(const cJSON *object, const char *key) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return item && !cJSON_IsNull(item) ? item : NULL;
}

static const char *text_in(const cJSON *object, const char *key) {
    return cJSON_GetStringValue(member(object, key));
}

/* ---- the class --------------------------------------------------------------------- */

static bool is_class(const char *name, const char *wanted) {
    size_t n = strlen(wanted);
    return !strncmp(name, wanted, n) && (!name[n] || !strcmp(name + n, "Fast"));
}

/* What AutoTokenizer makes of the class that is named and the model's type. */
static tokenizer_class choose_class(const char *named, const char *model_type) {
    static const struct {
        const char *name;
        tokenizer_class class;
    } classes[] = {{"LlamaTokenizer", CLASS_LLAMA},
                   {"GPT2Tokenizer", CLASS_GPT2},
                   {"Qwen2Tokenizer", CLASS_QWEN2}};
    if (!model_type) model_type = "";
    /* Of these it knows better, or has no class. */
    if (!strcmp(model_type, "qwen2")) return CLASS_QWEN2;
    if (!strcmp(model_type, "mistral")) return CLASS_FILE;
    for (size_t i = 0; named && i < sizeof classes / sizeof *classes; i++)
        if (is_class(named, classes[i].name)) return classes[i].class;
    if (named) return CLASS_FILE;
    if (!strcmp(model_type, "qwen3") || !strcmp(model_type, "qwen3_moe"))
        return CLASS_QWEN2;
    return strcmp(model_type, "opt") ? CLASS_FILE : CLASS_GPT2;
}

/* Is there a part of this type, in a sequence or alone? */
static bool has_part(const cJSON *root, const char *key, const char *list,
                     const char *type) {
    const cJSON *node = member(root, key), *child;
    const char *mine = text_in(node, "type");
    if (mine && !strcmp(mine, type)) return true;
    cJSON_ArrayForEach(child, member(node, list)) {
        mine = text_in(child, "type");
        if (mine && !strcmp(mine, type)) return true;
    }
    return false;
}

static bool suits(const cJSON *root, tokenizer_class class) {
    bool byte_level = has_part(root, "decoder", "decoders", "ByteLevel") &&
                      has_part(root, "pre_tokenizer", "pretokenizers", "ByteLevel");
    bool fallback = cJSON_IsTrue(member(member(root, "model"), "byte_fallback"));
    const char *model = text_in(member(root, "model"), "type");
    if (model && strcmp(model, "BPE") != 0) return false;
    if (class == CLASS_LLAMA)
        return fallback && !has_part(root, "decoder", "decoders", "ByteLevel");
    if (class == CLASS_GPT2 && has_part(root, "pre_tokenizer", "pretokenizers", "Digits"))
        return false;
    return byte_level;
}

/* ---- its pipeline ------------------------------------------------------------------ */

static cohort_status put(cJSON *root, const char *key, const char *json) {
    cJSON *item = cJSON_Parse(json);
    if (!item) return COHORT_FAIL(COHORT_E_NOMEM, "a tokenizer's %s", key);
    cJSON_DeleteItemFromObjectCaseSensitive(root, key);
    if (cJSON_AddItemToObject(root, key, item)) return COHORT_OK;
    cJSON_Delete(item);
    return COHORT_FAIL(COHORT_E_NOMEM, "a tokenizer's %s", key);
}

#define METASPACE(scheme)                                                          \
    "{\"type\":\"Metaspace\",\"replacement\":\"\xe2\x96\x81\",\"prepend_scheme\":" \
    "\"" scheme "\",\"split\":false}"
#define DECODERS(more)                                                             \
    "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{"     \
    "\"String\":\"\xe2\x96\x81\"},\"content\":\" \"},{\"type\":\"ByteFallback\"}," \
    "{\"type\":\"Fuse\"}" more "]}"
#define BYTE_LEVEL(prefix, regex)                          \
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":" prefix \
    ",\"trim_offsets\":true,\"use_regex\":" regex "}"
#define QWEN2(prefix)                                                                    \
    "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{"        \
    "\"Regex\":\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|"  \
    "\\\\p{N}| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|"             \
    "\\\\s+(?!\\\\S)|\\\\s+\"},\"behavior\":\"Isolated\",\"invert\":false}," BYTE_LEVEL( \
        prefix, "false") "]}"

static cohort_status make_llama(configuring *self) {
    const cJSON *space = member(self->config, "add_prefix_space");
    bool prefix = !space || cJSON_IsTrue(space);
    bool legacy = cJSON_IsTrue(member(self->config, "legacy"));
    COHORT_TRY(put(self->root, "normalizer", "null"));
    COHORT_TRY(put(self->root, "pre_tokenizer",
                   !prefix  ? METASPACE("never")
                   : legacy ? METASPACE("always")
                            : METASPACE("first")));
    return put(self->root, "decoder",
               prefix ? DECODERS(",{\"type\":\"Strip\",\"content\":\" \",\"start\":1,"
                                 "\"stop\":0}")
                      : DECODERS(""));
}

static cohort_status make_byte_level(configuring *self, bool qwen2) {
    bool prefix = cJSON_IsTrue(member(self->config, "add_prefix_space"));
    cJSON *model = cJSON_GetObjectItemCaseSensitive(self->root, "model");
    COHORT_TRY(put(self->root, "normalizer", qwen2 ? "{\"type\":\"NFC\"}" : "null"));
    COHORT_TRY(put(self->root, "pre_tokenizer",
                   qwen2    ? prefix ? QWEN2("true") : QWEN2("false")
                      : prefix ? BYTE_LEVEL("true", "true")
                            : BYTE_LEVEL("false", "true")));
    COHORT_TRY(put(self->root, "decoder", BYTE_LEVEL("true", "true")));
    COHORT_TRY(put(model, "ignore_merges", "false"));
    return put(model, "fuse_unk", "false");
}

/* ---- added tokens ------------------------------------------------------------------ */

static bool id_of(const cJSON *item, int32_t *out_id) {
    const cJSON *id = cJSON_GetObjectItemCaseSensitive(item, "id");
    if (!cJSON_IsNumber(id) || !(id->valuedouble >= 0 && id->valuedouble < 1 << 22))
        return false;
    *out_id = (int32_t)id->valuedouble;
    return true;
}

static cohort_status index_added(configuring *self) {
    const cJSON *item;
    int32_t id, most = -1;
    cJSON_ArrayForEach(item, self->added) if (id_of(item, &id) && id > most) most = id;
    self->n_ids = (size_t)(most + 1);
    self->by_id = calloc(self->n_ids + 1, sizeof *self->by_id);
    if (!self->by_id) return COHORT_FAIL(COHORT_E_NOMEM, "added tokens");
    cJSON_ArrayForEach(item, self->added) if (id_of(item, &id)) self->by_id[id] = item;
    int32_t n_vocab = cJSON_GetArraySize(self->vocab);
    self->next_id = most + 1 > n_vocab ? most + 1 : n_vocab;
    return COHORT_OK;
}

static cJSON *find_added(const configuring *self, const char *content) {
    cJSON *item;
    cJSON_ArrayForEach(item, self->added) {
        const char *mine = text_in(item, "content");
        if (mine && !strcmp(mine, content)) return item;
    }
    return NULL;
}

static cohort_status set_flag(cJSON *token, const char *key, const cJSON *from,
                              bool otherwise) {
    const cJSON *given = member(from, key);
    bool value = given ? cJSON_IsTrue(given) : otherwise;
    cJSON_DeleteItemFromObjectCaseSensitive(token, key);
    if (cJSON_AddBoolToObject(token, key, value)) return COHORT_OK;
    return COHORT_FAIL(COHORT_E_NOMEM, "an added token");
}

static cohort_status set_flags(cJSON *token, const cJSON *from, bool special) {
    const cJSON *given = member(from, "special");
    bool is_special = special || cJSON_IsTrue(given);
    COHORT_TRY(set_flag(token, "normalized", from, !is_special));
    COHORT_TRY(set_flag(token, "lstrip", from, false));
    COHORT_TRY(set_flag(token, "rstrip", from, false));
    COHORT_TRY(set_flag(token, "single_word", from, false));
    return set_flag(token, "special", NULL, is_special);
}

/* The vocabulary's id, or the next that is free, as the `tokenizers` library gives it. */
static cohort_status add_token(configuring *self, const char *content, const cJSON *from,
                               bool special) {
    const cJSON *known = cJSON_GetObjectItemCaseSensitive(self->vocab, content);
    cJSON *token = cJSON_CreateObject();
    double id = cJSON_IsNumber(known) ? known->valuedouble : self->next_id++;
    if (!token || !cJSON_AddNumberToObject(token, "id", id) ||
        !cJSON_AddStringToObject(token, "content", content) ||
        !cJSON_AddItemToArray(self->added, token)) {
        cJSON_Delete(token);
        return COHORT_FAIL(COHORT_E_NOMEM, "an added token");
    }
    return set_flags(token, from, special);
}

/* A name, or an object with its content. */
static cohort_status add_special(configuring *self, const cJSON *item) {
    const char *content =
        cJSON_IsObject(item) ? text_in(item, "content") : cJSON_GetStringValue(item);
    if (!content || !*content || find_added(self, content)) return COHORT_OK;
    return add_token(self, content, cJSON_IsObject(item) ? item : NULL, true);
}

static cohort_status add_default(configuring *self, const char *key,
                                 const char *content) {
    if (!content || cJSON_GetObjectItemCaseSensitive(self->config, key) ||
        find_added(self, content))
        return COHORT_OK;
    return add_token(self, content, NULL, true);
}

static cohort_status add_decoder(configuring *self) {
    const cJSON *item;
    cJSON_ArrayForEach(item, member(self->config, "added_tokens_decoder")) {
        const char *content = text_in(item, "content");
        if (!content || !*content) continue;
        size_t id = (size_t)strtoul(item->string, NULL, 10);
        cJSON *known = id < self->n_ids ? (cJSON *)self->by_id[id] : NULL;
        const char *mine = text_in(known, "content");
        if (!mine || strcmp(mine, content) != 0) known = find_added(self, content);
        COHORT_TRY(known ? set_flags(known, item, false)
                         : add_token(self, content, item, false));
    }
    return COHORT_OK;
}

static cohort_status add_named(configuring *self, tokenizer_class class) {
    /* As the class has them where the file says nothing, in this order. */
    static const char *const keys[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                       "pad_token", "cls_token", "mask_token"};
    static const char *const defaults[][7] = {
        [CLASS_FILE] = {NULL},
        [CLASS_LLAMA] = {"<s>", "</s>", "<unk>"},
        [CLASS_GPT2] = {"<|endoftext|>", "<|endoftext|>", "<|endoftext|>"},
        [CLASS_QWEN2] = {NULL, "<|endoftext|>", "<|endoftext|>", NULL, "<|endoftext|>"}};
    const cJSON *item;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        COHORT_TRY(add_special(self, member(self->config, keys[i])));
        COHORT_TRY(add_default(self, keys[i], defaults[class][i]));
    }
    /* A list, or an object of names. */
    cJSON_ArrayForEach(item, member(self->config, "additional_special_tokens"))
        COHORT_TRY(add_special(self, item));
    cJSON_ArrayForEach(item, member(self->config, "extra_special_tokens"))
        COHORT_TRY(add_special(self, item));
    return COHORT_OK;
}

static cohort_status configure(configuring *self, tokenizer_class class) {
    if (class == CLASS_LLAMA) COHORT_TRY(make_llama(self));
    if (class == CLASS_GPT2 || class == CLASS_QWEN2)
        COHORT_TRY(make_byte_level(self, class == CLASS_QWEN2));
    COHORT_TRY(index_added(self));
    COHORT_TRY(add_decoder(self));
    return add_named(self, class);
}

cohort_status cohort_tokenizer_configure(cJSON *root, const cJSON *config,
                                         const cJSON *model_config,
                                         bool *out_split_special) {
    const char *named = text_in(config, "tokenizer_class");
    if (!named) named = text_in(model_config, "tokenizer_class");
    tokenizer_class class = choose_class(named, text_in(model_config, "model_type"));
    configuring self = {.root = root, .config = config};
    *out_split_special = cJSON_IsTrue(member(config, "split_special_tokens"));
    self.vocab = member(member(root, "model"), "vocab");
    self.added = cJSON_GetObjectItemCaseSensitive(root, "added_tokens");
    if (!cJSON_IsObject(self.vocab)) return COHORT_OK; /* who reads it says so */
    if (!cJSON_IsArray(self.added)) {
        COHORT_TRY(put(root, "added_tokens", "[]"));
        self.added = cJSON_GetObjectItemCaseSensitive(root, "added_tokens");
    }
    if (!suits(root, class)) class = CLASS_FILE;
    cohort_status status = configure(&self, class);
    free(self.by_id);
    return status;
}
