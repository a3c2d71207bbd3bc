/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/fail.h"
#include "base/log.h"
#include "text/text_internal.h"

/* Design notes.
 *
 * Reads tokenizer.json as the `tokenizers` library writes it.  Every component is either
 * known here, with all the options that change its result, or refused by its name: an
 * approximate tokenizer is worse than none. */

enum { MAX_TOKENS = 1 << 22, MAX_ADDED = 1 << 16, LONGEST_TOKEN = 8192 };

static cohort_status refuse(const char *name, const char *part, const char *what) {
    return COHORT_FAIL(COHORT_E_INVALID, "%s: %s '%s' is not supported", name, part,
                       what ? what : "(none)");
}

static const char *text_of(const cJSON *object, const char *key) {
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));
}

static bool flag_of(const cJSON *object, const char *key, bool otherwise) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsBool(item) ? cJSON_IsTrue(item) : otherwise;
}

static bool given(const cJSON *object, const char *key) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return item && !cJSON_IsNull(item);
}

static bool is(const char *type, const char *name) { return type && !strcmp(type, name); }

/* ---- GPT-2's characters for bytes ---------------------------------------------------
 */

/* Printable Latin-1 stands for itself; the other bytes are 256, 257, ... in order. */
static int32_t byte_of_char(int32_t code) {
    if ((code >= 33 && code <= 126) || (code >= 161 && code <= 172) ||
        (code >= 174 && code <= 255))
        return code;
    if (code < 256 || code > 323) return -1;
    int32_t nth = code - 256;
    if (nth < 33) return nth;                 /* 0..32 */
    if (nth < 33 + 34) return nth - 33 + 127; /* 127..160 */
    return 173;
}

/* Writes the bytes that a byte-level token stands for; false where it holds other
 * characters. */
static bool to_bytes(const char *token, size_t size, char *out, size_t *out_size) {
    size_t n = 0;
    for (size_t i = 0; i < size;) {
        utf8proc_int32_t code;
        utf8proc_ssize_t length = utf8proc_iterate((const utf8proc_uint8_t *)token + i,
                                                   (utf8proc_ssize_t)(size - i), &code);
        int32_t byte = length > 0 ? byte_of_char(code) : -1;
        if (byte < 0) return false;
        out[n++] = (char)byte;
        i += (size_t)length;
    }
    *out_size = n;
    return true;
}

/* ---- steps ------------------------------------------------------------------------- */

static cohort_text_step *add_step(cohort_text_steps *steps, cohort_text_step_kind kind) {
    if (steps->count == COHORT_MAX_TEXT_STEPS) return NULL;
    cohort_text_step *step = &steps->items[steps->count++];
    *step = (cohort_text_step){.kind = kind};
    return step;
}

static cohort_status compile(pcre2_code **out_regex, const char *pattern,
                             const char *name) {
    int code;
    PCRE2_SIZE at;
    cohort_text text = {0};
    cohort_status status = cohort_pattern_translate(pattern, name, &text);
    if (status >= 0)
        *out_regex =
            pcre2_compile((PCRE2_SPTR)text.bytes, text.size,
                          PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &code, &at, NULL);
    cohort_text_free(&text);
    COHORT_TRY(status);
    if (!*out_regex) {
        char message[128];
        pcre2_get_error_message(code, (PCRE2_UCHAR *)message, sizeof message);
        return COHORT_FAIL(COHORT_E_INVALID, "%s: regular expression at %zu: %s", name,
                           at, message);
    }
    pcre2_jit_compile(*out_regex, PCRE2_JIT_COMPLETE); /* without it, only slower */
    return COHORT_OK;
}

/* "pattern": {"String": ...} or {"Regex": ...} */
static cohort_status read_pattern(cohort_text_step *step, const cJSON *node,
                                  const char *name, bool allow_regex) {
    const cJSON *pattern = cJSON_GetObjectItemCaseSensitive(node, "pattern");
    const char *literal = text_of(pattern, "String"), *regex = text_of(pattern, "Regex");
    if (literal && *literal) {
        step->pattern = strdup(literal);
        return step->pattern ? COHORT_OK : COHORT_FAIL(COHORT_E_NOMEM, "%s", name);
    }
    if (regex && allow_regex) return compile(&step->regex, regex, name);
    return refuse(name, "pattern", regex ? regex : "(unknown)");
}

static cohort_status set_content(cohort_text_step *step, const char *content,
                                 const char *name) {
    step->content = strdup(content ? content : "");
    return step->content ? COHORT_OK : COHORT_FAIL(COHORT_E_NOMEM, "%s", name);
}

typedef cohort_status (*node_reader)(cohort_tokenizer *tokenizer, const cJSON *node,
                                     const char *name);

/* Calls read for a node, or for each member of a "Sequence". */
static cohort_status each(cohort_tokenizer *tokenizer, const cJSON *node,
                          const char *list, const char *name, node_reader read) {
    if (!node || cJSON_IsNull(node)) return COHORT_OK;
    if (!is(text_of(node, "type"), "Sequence")) return read(tokenizer, node, name);
    const cJSON *child;
    cJSON_ArrayForEach(child, cJSON_GetObjectItemCaseSensitive(node, list))
        COHORT_TRY(read(tokenizer, child, name));
    return COHORT_OK;
}

static cohort_status read_normalizer(cohort_tokenizer *tokenizer, const cJSON *node,
                                     const char *name) {
    static const struct {
        const char *type;
        int flags;
    } forms[] = {
        {"NFC", UTF8PROC_STABLE | UTF8PROC_COMPOSE},
        {"NFD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE},
        {"NFKC", UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT},
        {"NFKD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT},
    };
    const char *type = text_of(node, "type");
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        if (!is(type, forms[i].type)) continue;
        cohort_text_step *step =
            add_step(&tokenizer->normalizers, COHORT_NORMALIZE_UTF8PROC);
        if (!step) return refuse(name, "a long list of normalizers with", type);
        step->option = forms[i].flags;
        return COHORT_OK;
    }
    bool prepend = is(type, "Prepend");
    if (!prepend && !is(type, "Replace")) return refuse(name, "normalizer", type);
    cohort_text_step *step =
        add_step(&tokenizer->normalizers,
                 prepend ? COHORT_NORMALIZE_PREPEND : COHORT_NORMALIZE_REPLACE);
    if (!step) return refuse(name, "a long list of normalizers with", type);
    if (prepend) return set_content(step, text_of(node, "prepend"), name);
    COHORT_TRY(read_pattern(step, node, name, false));
    return set_content(step, text_of(node, "content"), name);
}

static cohort_status read_behavior(cohort_text_step *step, const cJSON *node,
                                   const char *name) {
    static const char *const names[] = {"Isolated", "Removed", "MergedWithPrevious",
                                        "MergedWithNext", "Contiguous"};
    const char *behavior = text_of(node, "behavior");
    for (int i = 0; i < 5; i++) {
        if (!is(behavior, names[i])) continue;
        step->behavior = (cohort_split_behavior)i;
        step->invert = flag_of(node, "invert", false);
        return COHORT_OK;
    }
    return refuse(name, "split behavior", behavior);
}

static const char gpt2_pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

static cohort_status read_byte_level(cohort_tokenizer *tokenizer, const cJSON *node,
                                     const char *name) {
    tokenizer->byte_level = true;
    if (flag_of(node, "add_prefix_space", true) &&
        !add_step(&tokenizer->splitters, COHORT_SPLIT_PREFIX_SPACE))
        return refuse(name, "a long list of pre-tokenizers with", "ByteLevel");
    if (!flag_of(node, "use_regex", true)) return COHORT_OK;
    cohort_text_step *step = add_step(&tokenizer->splitters, COHORT_SPLIT_PATTERN);
    if (!step) return refuse(name, "a long list of pre-tokenizers with", "ByteLevel");
    return compile(&step->regex, gpt2_pattern, name);
}

static cohort_status read_metaspace(cohort_text_step *step, const cJSON *node,
                                    const char *name) {
    const char *scheme = text_of(node, "prepend_scheme");
    step->option = flag_of(node, "split", true);
    step->first_only = is(scheme, "first");
    step->never = scheme ? is(scheme, "never") : !flag_of(node, "add_prefix_space", true);
    if (scheme && !step->first_only && !step->never && !is(scheme, "always"))
        return refuse(name, "prepend_scheme", scheme);
    const char *replacement = text_of(node, "replacement");
    if (!replacement || !*replacement) return refuse(name, "Metaspace replacement", "");
    return set_content(step, replacement, name);
}

static cohort_status read_splitter(cohort_tokenizer *tokenizer, const cJSON *node,
                                   const char *name) {
    const char *type = text_of(node, "type");
    if (tokenizer->byte_level)
        return refuse(name, "behind ByteLevel pre-tokenizer", type);
    if (is(type, "ByteLevel")) return read_byte_level(tokenizer, node, name);
    bool split = is(type, "Split"), digits = is(type, "Digits");
    if (!split && !digits && !is(type, "Metaspace"))
        return refuse(name, "pre-tokenizer", type);
    cohort_text_step *step =
        add_step(&tokenizer->splitters,
                 split || digits ? COHORT_SPLIT_PATTERN : COHORT_SPLIT_METASPACE);
    if (!step) return refuse(name, "a long list of pre-tokenizers with", type);
    if (digits) {
        step->behavior = flag_of(node, "individual_digits", false) ? COHORT_ISOLATED
                                                                   : COHORT_CONTIGUOUS;
        return compile(&step->regex, "\\p{N}", name);
    }
    if (!split) return read_metaspace(step, node, name);
    COHORT_TRY(read_pattern(step, node, name, true));
    return read_behavior(step, node, name);
}

/* Decoders run in this order or are refused: each token is replaced in, bytes become
 * characters, the whole loses what it begins with. */
enum { STAGE_TOKENS, STAGE_BYTES, STAGE_FUSED, STAGE_STRIPPED };

static cohort_status read_strip(cohort_tokenizer *tokenizer, const cJSON *node,
                                const char *name) {
    const cJSON *start = cJSON_GetObjectItemCaseSensitive(node, "start");
    const cJSON *stop = cJSON_GetObjectItemCaseSensitive(node, "stop");
    const char *content = text_of(node, "content");
    if (!cJSON_IsNumber(start) || start->valueint < 0 ||
        (cJSON_IsNumber(stop) && stop->valueint) || !content || !*content)
        return refuse(name, "decoder", "Strip with a stop, or without content");
    tokenizer->n_strip = start->valueint;
    tokenizer->strip = strdup(content);
    return tokenizer->strip ? COHORT_OK : COHORT_FAIL(COHORT_E_NOMEM, "%s", name);
}

static cohort_status read_replace(cohort_tokenizer *tokenizer, const cJSON *node,
                                  bool is_metaspace, const char *name) {
    cohort_text_step *step =
        add_step(&tokenizer->decoders,
                 is_metaspace ? COHORT_DECODE_METASPACE : COHORT_DECODE_REPLACE);
    if (!step) return refuse(name, "a long list of decoders with", text_of(node, "type"));
    if (!is_metaspace) {
        COHORT_TRY(read_pattern(step, node, name, false));
        return set_content(step, text_of(node, "content"), name);
    }
    COHORT_TRY(read_metaspace(step, node, name));
    step->pattern = step->content;
    step->content = NULL;
    return set_content(step, " ", name);
}

static cohort_status read_decoder(cohort_tokenizer *tokenizer, const cJSON *node,
                                  int *stage, const char *name) {
    static const struct {
        const char *type;
        int stage;
    } known[] = {{"Replace", STAGE_TOKENS},   {"Metaspace", STAGE_TOKENS},
                 {"ByteLevel", STAGE_TOKENS}, {"ByteFallback", STAGE_BYTES},
                 {"Fuse", STAGE_FUSED},       {"Strip", STAGE_STRIPPED}};
    const char *type = text_of(node, "type");
    int mine = -1;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (is(type, known[i].type)) mine = known[i].stage;
    if (mine < 0) return refuse(name, "decoder", type);
    bool again = mine > STAGE_TOKENS && mine == *stage && mine != STAGE_FUSED;
    if (mine < *stage || again || (mine == STAGE_STRIPPED && *stage != STAGE_FUSED))
        return refuse(name, "in this place decoder", type);
    *stage = mine;
    if (is(type, "ByteLevel")) tokenizer->decode_level = true;
    if (is(type, "ByteFallback")) tokenizer->decode_bytes = true;
    if (mine == STAGE_STRIPPED) return read_strip(tokenizer, node, name);
    if (mine == STAGE_TOKENS && !is(type, "ByteLevel"))
        return read_replace(tokenizer, node, is(type, "Metaspace"), name);
    return COHORT_OK;
}

static cohort_status read_decoders(cohort_tokenizer *tokenizer, const cJSON *node,
                                   const char *name) {
    int stage = STAGE_TOKENS;
    tokenizer->joined = !node || cJSON_IsNull(node);
    if (is(text_of(node, "type"), "Sequence")) {
        const cJSON *child;
        cJSON_ArrayForEach(child, cJSON_GetObjectItemCaseSensitive(node, "decoders"))
            COHORT_TRY(read_decoder(tokenizer, child, &stage, name));
    } else if (!tokenizer->joined) {
        COHORT_TRY(read_decoder(tokenizer, node, &stage, name));
    }
    if (tokenizer->decode_level != tokenizer->byte_level)
        return refuse(name, "ByteLevel without its like as pre-tokenizer or decoder",
                      text_of(node, "type"));
    if (tokenizer->decode_level &&
        (tokenizer->decoders.count || tokenizer->decode_bytes || tokenizer->n_strip))
        return refuse(name, "decoder ByteLevel with", "others");
    return COHORT_OK;
}

/* ---- vocabulary -------------------------------------------------------------------- */

static uint64_t hash_bytes(const char *bytes, size_t size) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * UINT64_C(0x100000001b3);
    return hash ^ hash >> 29;
}

int32_t cohort_token_lookup(const cohort_tokenizer *tokenizer, const char *bytes,
                            size_t size) {
    const cohort_token_map *map = &tokenizer->by_bytes;
    for (size_t i = (size_t)hash_bytes(bytes, size) & map->mask; map->slots[i];
         i = (i + 1) & map->mask) {
        const cohort_token *token = &tokenizer->tokens[map->slots[i] - 1];
        if (token->size == size && !memcmp(token->bytes, bytes, size))
            return (int32_t)map->slots[i] - 1;
    }
    return -1;
}

static void map_token(cohort_tokenizer *tokenizer, int32_t id) {
    cohort_token_map *map = &tokenizer->by_bytes;
    const cohort_token *token = &tokenizer->tokens[id];
    size_t i = (size_t)hash_bytes(token->bytes, token->size) & map->mask;
    while (map->slots[i])
        i = (i + 1) & map->mask;
    map->slots[i] = (uint32_t)id + 1;
}

static size_t power_of_two_over(size_t n) {
    size_t power = 16;
    while (power < n)
        power *= 2;
    return power;
}

/* Counts ids and bytes over vocabulary and added tokens, and checks every id. */
static cohort_status measure(const cJSON *vocab, const cJSON *added, const char *name,
                             int32_t *out_n, size_t *out_bytes) {
    const cJSON *item;
    double most = -1;
    size_t bytes = 0;
    cJSON_ArrayForEach(item, vocab) {
        if (!cJSON_IsNumber(item) || item->valuedouble < 0 ||
            item->valuedouble >= MAX_TOKENS)
            return COHORT_FAIL(COHORT_E_INVALID, "%s: token '%.40s' has no valid id",
                               name, item->string);
        most = item->valuedouble > most ? item->valuedouble : most;
        bytes += strlen(item->string) + 1;
    }
    cJSON_ArrayForEach(item, added) {
        const cJSON *id = cJSON_GetObjectItemCaseSensitive(item, "id");
        const char *content = text_of(item, "content");
        if (!cJSON_IsNumber(id) || id->valuedouble < 0 || id->valuedouble >= MAX_TOKENS ||
            !content || !*content)
            return COHORT_FAIL(COHORT_E_INVALID, "%s: an added token has no valid id",
                               name);
        most = id->valuedouble > most ? id->valuedouble : most;
        bytes += strlen(content) + 1;
    }
    *out_n = (int32_t)most + 1;
    *out_bytes = bytes;
    return COHORT_OK;
}

static int byte_of_name(const char *bytes, size_t size) {
    if (size != 6 || memcmp(bytes, "<0x", 3) || bytes[5] != '>' ||
        !isxdigit((unsigned char)bytes[3]) || !isxdigit((unsigned char)bytes[4]))
        return -1;
    return (int)strtol(bytes + 3, NULL, 16);
}

static void fill_token(cohort_tokenizer *tokenizer, int32_t id, const char *text,
                       char **arena, bool added) {
    cohort_token *token = &tokenizer->tokens[id];
    size_t size = strlen(text), n = size;
    memcpy(*arena, text, size);
    if (tokenizer->byte_level && !to_bytes(text, size, *arena, &n)) {
        memcpy(*arena, text, size);
        n = size;
    }
    (*arena)[n] = '\0';
    *token = (cohort_token){.bytes = *arena, .size = (uint32_t)n, .added = added};
    token->byte = (int16_t)byte_of_name(*arena, n);
    *arena += n + 1;
}

/* The token that a vocabulary's spelling stands for. */
static int32_t find_spelling(const cohort_tokenizer *tokenizer, const char *text,
                             size_t size) {
    char bytes[LONGEST_TOKEN];
    size_t n = size;
    if (size > sizeof bytes) return -1;
    if (!tokenizer->byte_level || !to_bytes(text, size, bytes, &n)) {
        memcpy(bytes, text, size);
        n = size;
    }
    return cohort_token_lookup(tokenizer, bytes, n);
}

static cohort_status read_vocab(cohort_tokenizer *tokenizer, const cJSON *vocab,
                                const cJSON *added, const char *name) {
    size_t bytes = 0;
    COHORT_TRY(measure(vocab, added, name, &tokenizer->n_tokens, &bytes));
    size_t n = (size_t)tokenizer->n_tokens;
    size_t slots = power_of_two_over(2 * n);
    tokenizer->tokens = calloc(n ? n : 1, sizeof *tokenizer->tokens);
    tokenizer->arena = malloc(bytes + 1);
    tokenizer->by_bytes.slots = calloc(slots, sizeof(uint32_t));
    tokenizer->by_bytes.mask = slots - 1;
    if (!tokenizer->tokens || !tokenizer->arena || !tokenizer->by_bytes.slots)
        return COHORT_FAIL(COHORT_E_NOMEM, "%s: %zu tokens", name, n);
    char *arena = tokenizer->arena;
    const cJSON *item;
    cJSON_ArrayForEach(item, vocab) {
        int32_t id = (int32_t)item->valuedouble;
        if (tokenizer->tokens[id].bytes)
            return COHORT_FAIL(COHORT_E_INVALID, "%s: id %d is used twice", name, id);
        fill_token(tokenizer, id, item->string, &arena, false);
        map_token(tokenizer, id);
    }
    for (int byte = 0; byte < 256; byte++) {
        char text[8] = {(char)byte};
        size_t size = 1;
        if (!tokenizer->byte_level)
            size = (size_t)snprintf(text, sizeof text, "<0x%02X>", byte);
        tokenizer->byte_ids[byte] = cohort_token_lookup(tokenizer, text, size);
    }
    cJSON_ArrayForEach(item, added) {
        int32_t id = (int32_t)cJSON_GetObjectItemCaseSensitive(item, "id")->valuedouble;
        const char *content = text_of(item, "content");
        if (!tokenizer->tokens[id].bytes)
            fill_token(tokenizer, id, content, &arena, true);
        else if (find_spelling(tokenizer, content, strlen(content)) != id)
            return COHORT_FAIL(COHORT_E_INVALID,
                               "%s: added token '%.40s' has the id %d of another token",
                               name, content, id);
        tokenizer->tokens[id].added = true;
        tokenizer->tokens[id].special = flag_of(item, "special", false);
    }
    return COHORT_OK;
}

/* ---- merges ------------------------------------------------------------------------ */

/* "a b", or ["a", "b"]. */
static bool merge_parts(const cJSON *item, const char **out_left, size_t *out_left_size,
                        const char **out_right) {
    if (cJSON_IsString(item)) {
        const char *space = strchr(item->valuestring, ' ');
        if (!space) return false;
        *out_left = item->valuestring;
        *out_left_size = (size_t)(space - item->valuestring);
        *out_right = space + 1;
        return true;
    }
    *out_left = cJSON_GetStringValue(cJSON_GetArrayItem(item, 0));
    *out_right = cJSON_GetStringValue(cJSON_GetArrayItem(item, 1));
    if (!*out_left || !*out_right) return false;
    *out_left_size = strlen(*out_left);
    return true;
}

static cohort_status read_merge(cohort_tokenizer *tokenizer, const cJSON *item,
                                uint32_t rank, const char *name) {
    const char *left, *right;
    size_t left_size;
    char whole[LONGEST_TOKEN];
    if (!merge_parts(item, &left, &left_size, &right))
        return COHORT_FAIL(COHORT_E_INVALID, "%s: merge %u is not a pair", name, rank);
    size_t right_size = strlen(right);
    if (left_size + right_size > sizeof whole)
        return COHORT_FAIL(COHORT_E_INVALID, "%s: merge %u is too long", name, rank);
    memcpy(whole, left, left_size);
    memcpy(whole + left_size, right, right_size);
    int32_t a = find_spelling(tokenizer, left, left_size);
    int32_t b = find_spelling(tokenizer, right, right_size);
    int32_t id = find_spelling(tokenizer, whole, left_size + right_size);
    if (a < 0 || b < 0 || id < 0)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "%s: merge %u names a token that is not in the "
                           "vocabulary",
                           name, rank);
    cohort_merge_map *map = &tokenizer->merges;
    uint64_t pair = (uint64_t)(uint32_t)a << 32 | (uint32_t)b;
    size_t i = (size_t)(pair * UINT64_C(0x9e3779b97f4a7c15) >> 20) & map->mask;
    for (; map->slots[i].used; i = (i + 1) & map->mask)
        if (map->slots[i].pair == pair) return COHORT_OK; /* the first counts */
    map->slots[i] = (struct cohort_merge){
        .pair = pair, .rank = rank, .id = (uint32_t)id, .used = true};
    return COHORT_OK;
}

static cohort_status read_merges(cohort_tokenizer *tokenizer, const cJSON *merges,
                                 const char *name) {
    int n = cJSON_GetArraySize(merges);
    size_t slots = power_of_two_over(2 * (size_t)n);
    tokenizer->merges.slots = calloc(slots, sizeof *tokenizer->merges.slots);
    tokenizer->merges.mask = slots - 1;
    if (!tokenizer->merges.slots) return COHORT_FAIL(COHORT_E_NOMEM, "%s: merges", name);
    uint32_t rank = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, merges)
        COHORT_TRY(read_merge(tokenizer, item, rank++, name));
    return COHORT_OK;
}

static cohort_status read_model(cohort_tokenizer *tokenizer, const cJSON *model,
                                const cJSON *added, const char *name) {
    const char *type = text_of(model, "type");
    const cJSON *vocab = cJSON_GetObjectItemCaseSensitive(model, "vocab");
    const cJSON *merges = cJSON_GetObjectItemCaseSensitive(model, "merges");
    if ((type && !is(type, "BPE")) || !cJSON_IsObject(vocab) || !cJSON_IsArray(merges))
        return refuse(name, "model", type ? type : "(no BPE)");
    const char *prefix = text_of(model, "continuing_subword_prefix");
    const char *suffix = text_of(model, "end_of_word_suffix");
    const cJSON *dropout = cJSON_GetObjectItemCaseSensitive(model, "dropout");
    if ((prefix && *prefix) || (suffix && *suffix) ||
        (given(model, "dropout") && dropout->valuedouble != 0))
        return refuse(name, "BPE with", "dropout, a subword prefix or a word suffix");
    tokenizer->byte_fallback = flag_of(model, "byte_fallback", false);
    tokenizer->fuse_unk = flag_of(model, "fuse_unk", false);
    tokenizer->ignore_merges = flag_of(model, "ignore_merges", false);
    COHORT_TRY(read_vocab(tokenizer, vocab, added, name));
    const char *unk = text_of(model, "unk_token");
    tokenizer->unk_id = unk ? find_spelling(tokenizer, unk, strlen(unk)) : -1;
    if (unk && tokenizer->unk_id < 0)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "%s: unk_token '%s' is not in the vocabulary", name, unk);
    return read_merges(tokenizer, merges, name);
}

/* ---- added tokens, post-processor ---------------------------------------------------
 */

static cohort_status read_added_token(cohort_tokenizer *tokenizer, const cJSON *item,
                                      cohort_added_token *token) {
    const char *content = text_of(item, "content");
    cohort_text pattern = {0};
    token->id = (int32_t)cJSON_GetObjectItemCaseSensitive(item, "id")->valuedouble;
    token->special = flag_of(item, "special", false);
    token->normalized = flag_of(item, "normalized", !token->special);
    token->lstrip = flag_of(item, "lstrip", false);
    token->rstrip = flag_of(item, "rstrip", false);
    token->single_word = flag_of(item, "single_word", false);
    token->content = strdup(content);
    cohort_utf8_clean(&pattern, content, strlen(content));
    cohort_status status = token->normalized
                               ? cohort_normalize(&tokenizer->normalizers, &pattern)
                               : COHORT_OK;
    if (tokenizer->split_special && token->special && pattern.bytes) {
        pattern.size = 0; /* is never looked for */
        pattern.bytes[0] = '\0';
    }
    token->pattern = pattern.bytes;
    token->size = pattern.size;
    COHORT_TRY(status);
    return token->content && token->pattern ? COHORT_OK
                                            : COHORT_FAIL(COHORT_E_NOMEM, "added tokens");
}

static int compare_added(const void *a, const void *b) {
    const cohort_added_token *left = a, *right = b;
    if (left->normalized != right->normalized) return left->normalized ? 1 : -1;
    unsigned char first = (unsigned char)left->pattern[0];
    unsigned char second = (unsigned char)right->pattern[0];
    if (first != second) return first < second ? -1 : 1;
    if (left->size != right->size) return left->size > right->size ? -1 : 1;
    return left->id < right->id ? -1 : left->id > right->id;
}

/* \w of Rust's regular expressions, which those of Oniguruma only resemble. */
static const char rust_word_char[] =
    "[\\p{Alphabetic}\\p{L}\\p{M}\\p{Nd}\\p{Pc}\\x{200c}\\x{200d}]";

static cohort_status read_added(cohort_tokenizer *tokenizer, const cJSON *added,
                                const char *name) {
    int n = cJSON_GetArraySize(added);
    if (n > MAX_ADDED)
        return COHORT_FAIL(COHORT_E_INVALID, "%s: %d added tokens", name, n);
    tokenizer->added = calloc(n ? (size_t)n : 1, sizeof *tokenizer->added);
    if (!tokenizer->added) return COHORT_FAIL(COHORT_E_NOMEM, "%s: added tokens", name);
    const cJSON *item;
    cJSON_ArrayForEach(item, added) COHORT_TRY(
        read_added_token(tokenizer, item, &tokenizer->added[tokenizer->n_added++]));
    qsort(tokenizer->added, (size_t)tokenizer->n_added, sizeof *tokenizer->added,
          compare_added);
    for (int32_t i = 0; i < tokenizer->n_added; i++) {
        const cohort_added_token *token = &tokenizer->added[i];
        if (!token->size) continue; /* normalized away: never found */
        cohort_added_range *range =
            &tokenizer
                 ->added_by_byte[token->normalized][(unsigned char)token->pattern[0]];
        if (!range->end) range->begin = i;
        range->end = i + 1;
    }
    return compile(&tokenizer->word_char, rust_word_char, name);
}

static cohort_status add_template_ids(const cJSON *processor, const char *token,
                                      const char *name, int32_t **ids, int32_t *count) {
    const cJSON *special = cJSON_GetObjectItemCaseSensitive(
        cJSON_GetObjectItemCaseSensitive(processor, "special_tokens"), token);
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(special, "ids"), *item;
    if (!cJSON_IsArray(list)) return refuse(name, "template token", token);
    int32_t *grown =
        realloc(*ids, sizeof **ids * (size_t)(*count + cJSON_GetArraySize(list) + 1));
    if (!grown) return COHORT_FAIL(COHORT_E_NOMEM, "%s: template", name);
    *ids = grown;
    cJSON_ArrayForEach(item, list) {
        if (!cJSON_IsNumber(item) || item->valuedouble < 0 ||
            item->valuedouble >= MAX_TOKENS)
            return refuse(name, "template token", token);
        (*ids)[(*count)++] = (int32_t)item->valuedouble;
    }
    return COHORT_OK;
}

static cohort_status read_processor(cohort_tokenizer *tokenizer, const cJSON *node,
                                    const char *name) {
    const char *type = text_of(node, "type");
    if (is(type, "ByteLevel")) return COHORT_OK;
    if (!is(type, "TemplateProcessing")) return refuse(name, "post-processor", type);
    bool seen = false;
    const cJSON *piece;
    if (tokenizer->prefix || tokenizer->suffix)
        return refuse(name, "post-processor", "a second TemplateProcessing");
    cJSON_ArrayForEach(piece, cJSON_GetObjectItemCaseSensitive(node, "single")) {
        const cJSON *special = cJSON_GetObjectItemCaseSensitive(piece, "SpecialToken");
        const char *token = text_of(special, "id");
        const cJSON *sequence = cJSON_GetObjectItemCaseSensitive(piece, "Sequence");
        if (sequence) {
            if (seen || !is(text_of(sequence, "id"), "A"))
                return refuse(name, "template sequence", text_of(sequence, "id"));
            seen = true;
            continue;
        }
        if (!token) return refuse(name, "template piece", "(unknown)");
        COHORT_TRY(add_template_ids(node, token, name,
                                    seen ? &tokenizer->suffix : &tokenizer->prefix,
                                    seen ? &tokenizer->n_suffix : &tokenizer->n_prefix));
    }
    return seen ? COHORT_OK : refuse(name, "template without sequence", "A");
}

cohort_status cohort_tokenizer_read(cohort_tokenizer *tokenizer, const cJSON *root,
                                    const char *name) {
    const cJSON *added = cJSON_GetObjectItemCaseSensitive(root, "added_tokens");
    const cJSON *decoder = cJSON_GetObjectItemCaseSensitive(root, "decoder");
    /* Of batches in training: whoever serves asks for neither. */
    if (given(root, "truncation") || given(root, "padding"))
        cohort_log(COHORT_LOG_WARNING, "text", COHORT_RANK_LOCAL,
                   "event=tokenizer_truncation_ignored file=%s", name);
    COHORT_TRY(each(tokenizer, cJSON_GetObjectItemCaseSensitive(root, "normalizer"),
                    "normalizers", name, read_normalizer));
    COHORT_TRY(each(tokenizer, cJSON_GetObjectItemCaseSensitive(root, "pre_tokenizer"),
                    "pretokenizers", name, read_splitter));
    COHORT_TRY(read_decoders(tokenizer, decoder, name));
    COHORT_TRY(each(tokenizer, cJSON_GetObjectItemCaseSensitive(root, "post_processor"),
                    "processors", name, read_processor));
    COHORT_TRY(read_model(tokenizer, cJSON_GetObjectItemCaseSensitive(root, "model"),
                          added, name));
    return read_added(tokenizer, added, name);
}
