/* SPDX-License-Identifier: Apache-2.0 */
/* text/text_internal.h - what a tokenizer is made of; shared by the files of this folder.
 *
 *   text --added tokens--> segments --normalize--> --split--> words --bpe--> ids
 *
 * A byte-level vocabulary is turned into raw bytes when it is loaded, so the rest never
 * sees GPT-2's stand-in characters: a word is bytes, a token is bytes.
 */
#ifndef COHORT_TEXT_INTERNAL_H
#define COHORT_TEXT_INTERNAL_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <cjson/cJSON.h>
#include <pcre2.h>

#include "text/tokenizer.h"

/* A growing byte string; zero-initialise.  After a failure to grow, failed stays set. */
typedef struct cohort_text {
    char *bytes;
    size_t size, capacity;
    bool failed;
} cohort_text;

void cohort_text_append(cohort_text *text, const char *bytes, size_t size);
void cohort_text_free(cohort_text *text);

/* ---- utf8.c ------------------------------------------------------------------------ */

/* Length of the valid character at bytes, 0 where there is none; out_bad: how many bytes
 * one U+FFFD stands for then (the maximal subpart), or size where more bytes may mend it.
 */
size_t cohort_utf8_length(const char *bytes, size_t size, size_t *out_bad,
                          bool *out_truncated);
bool cohort_utf8_is_valid(const char *bytes, size_t size);
/* Appends bytes, U+FFFD for what is not UTF-8. */
void cohort_utf8_clean(cohort_text *out, const char *bytes, size_t size);

/* ---- unicode.c --------------------------------------------------------------------- */

/* Writes the PCRE2 pattern that matches what a pattern of `tokenizers` does; name is of
 * its file.  What cannot be said in PCRE2 is refused. */
cohort_status cohort_pattern_translate(const char *pattern, const char *name,
                                       cohort_text *out);
/* A character that a normalizer of `tokenizers` does not know: it stays as it is, and
 * nothing moves over it. */
bool cohort_unicode_inert(uint32_t code);

/* ---- parts ------------------------------------------------------------------------- */

typedef struct cohort_span_list {
    struct cohort_word {
        size_t begin, size; /* in the text beside the list */
    } * items;
    size_t count, capacity;
    bool failed;
} cohort_span_list;

void cohort_text_span_add(cohort_span_list *list, size_t begin, size_t size);

typedef enum cohort_text_step_kind {
    COHORT_NORMALIZE_UTF8PROC, /* option: utf8proc flags */
    COHORT_NORMALIZE_PREPEND,
    COHORT_NORMALIZE_REPLACE,
    COHORT_SPLIT_PATTERN,
    COHORT_SPLIT_PREFIX_SPACE,
    COHORT_SPLIT_METASPACE,
    COHORT_DECODE_REPLACE,
    COHORT_DECODE_METASPACE,
} cohort_text_step_kind;

typedef enum cohort_split_behavior {
    COHORT_ISOLATED,
    COHORT_REMOVED,
    COHORT_MERGED_WITH_PREVIOUS,
    COHORT_MERGED_WITH_NEXT,
    COHORT_CONTIGUOUS
} cohort_split_behavior;

typedef struct cohort_text_step {
    cohort_text_step_kind kind;
    int option; /* per kind: flags; is every replacement a cut */
    bool invert, first_only, never;
    cohort_split_behavior behavior;
    char *pattern, *content; /* literal texts */
    pcre2_code *regex;
} cohort_text_step;

enum { COHORT_MAX_TEXT_STEPS = 16 };

typedef struct cohort_text_steps {
    cohort_text_step items[COHORT_MAX_TEXT_STEPS];
    int count;
} cohort_text_steps;

typedef struct cohort_added_token {
    char *content; /* as written */
    char *pattern; /* what the text is searched for: content, normalized where asked */
    size_t size;   /* of the pattern */
    int32_t id;
    bool special, normalized, lstrip, rstrip, single_word;
} cohort_added_token;

/* Added tokens whose pattern begins with one byte: a range of the sorted list. */
typedef struct cohort_added_range {
    int32_t begin, end;
} cohort_added_range;

typedef struct cohort_token {
    const char *bytes; /* NUL-terminated too */
    uint32_t size;
    bool special, added;
    int16_t byte; /* of "<0xNN>", else -1 */
} cohort_token;

/* Open addressing; id + 1 at most 2^31, 0: free. */
typedef struct cohort_token_map {
    uint32_t *slots;
    size_t mask;
} cohort_token_map;

typedef struct cohort_merge_map {
    struct cohort_merge {
        uint64_t pair; /* left << 32 | right */
        uint32_t rank, id;
        bool used;
    } * slots;
    size_t mask;
} cohort_merge_map;

struct cohort_tokenizer {
    cohort_token *tokens; /* by id; bytes NULL where the id is unused */
    int32_t n_tokens;
    cohort_token_map by_bytes; /* model vocabulary */
    cohort_merge_map merges;
    char *arena; /* the tokens' bytes */
    bool byte_level, byte_fallback, fuse_unk, ignore_merges;
    bool split_special; /* special tokens in a text are text */
    int32_t unk_id;
    int32_t byte_ids[256];     /* "<0xNN>", or of the single byte; -1 */
    cohort_added_token *added; /* raw, then normalized; by first byte; longest first */
    int32_t n_added;
    cohort_added_range added_by_byte[2][256]; /* [normalized] */
    pcre2_code *word_char;
    cohort_text_steps normalizers, splitters, decoders;
    bool decode_level, decode_bytes; /* byte level, or byte fallback, when decoding */
    bool joined;                     /* no decoder: tokens are joined by spaces */
    char *strip;                     /* what is cut off the beginning of a text, */
    int32_t n_strip;                 /* so many times */
    int32_t *prefix, *suffix;        /* of the post-processor */
    int32_t n_prefix, n_suffix;
};

/* tokenizer_json.c fills, tokenizer.c frees. */
cohort_status cohort_tokenizer_read(cohort_tokenizer *tokenizer, const cJSON *root,
                                    const char *name);

/* tokenizer_config.c: makes of tokenizer.json what tokenizer_config.json and config.json
 * (each may be NULL) make of it. */
cohort_status cohort_tokenizer_configure(cJSON *root, const cJSON *config,
                                         const cJSON *model_config,
                                         bool *out_split_special);

int32_t cohort_token_lookup(const cohort_tokenizer *tokenizer, const char *bytes,
                            size_t size);

/* decode.c: tokens into text, one by one.  Zero-initialise all but the tokenizer. */
typedef struct cohort_decoding {
    const cohort_tokenizer *tokenizer;
    cohort_text text; /* ready: the caller takes from it, or empties it */
    cohort_text held; /* bytes that may still become a character */
    bool whole;       /* all tokens are there: a run of bytes is judged as one */
    bool begun;       /* a token was seen: no more is special about the next */
    bool in_run;      /* held is of a run of byte tokens... */
    bool broken;      /* ...which is no UTF-8 */
    int32_t stripped; /* how often; -1: no more */
} cohort_decoding;

void cohort_decoding_add(cohort_decoding *decoding, const cohort_token *token);
/* There is no more; or what comes begins anew. */
void cohort_decoding_end(cohort_decoding *decoding);
void cohort_decoding_free(cohort_decoding *decoding);
/* NULL where an id is none, or not to be seen. */
const cohort_token *cohort_visible_token(const cohort_tokenizer *tokenizer, int32_t id,
                                         bool skip_special);

/* normalize.c: appends bytes in the normal form that utf8proc's flags name; linear. */
cohort_status cohort_normalize_unicode(cohort_text *out, const char *bytes, size_t size,
                                       int flags);
/* Runs of combining marks into canonical order; returns how many code points it moved.
 * scratch: n more. */
size_t cohort_order_marks(int32_t *codes, size_t n, int32_t *scratch);

/* split.c: runs the normalizers on one segment. */
cohort_status cohort_normalize(const cohort_text_steps *steps, cohort_text *text);
/* Cuts text into words; may rewrite it.  at_start: the segment begins the input. */
cohort_status cohort_split(const cohort_text_steps *steps, cohort_text *text,
                           bool at_start, cohort_span_list *out_words);

/* bpe.c: appends the ids of one word. */
typedef struct cohort_ids {
    int32_t *items;
    size_t count, capacity;
    bool failed;
} cohort_ids;

void cohort_ids_add(cohort_ids *ids, int32_t id);

typedef struct cohort_bpe_scratch {
    struct cohort_symbol *symbols;
    struct cohort_candidate *heap;
    size_t capacity, heap_capacity, heap_count;
} cohort_bpe_scratch;

cohort_status cohort_bpe_encode(const cohort_tokenizer *tokenizer,
                                cohort_bpe_scratch *scratch, const char *word,
                                size_t size, cohort_ids *out_ids);
void cohort_bpe_scratch_free(cohort_bpe_scratch *scratch);

#endif /* COHORT_TEXT_INTERNAL_H */
