/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/fail.h"
#include "text/text_internal.h"

/* Design notes.
 *
 * Normalizers rewrite a whole segment.  Splitters cut the words they are given into
 * smaller ones; those that change text (a space put in front, Metaspace) write the words
 * anew into a second buffer.  Behaviours are those of the `tokenizers` library 0.22. */

void cohort_span_add(cohort_span_list *list, size_t begin, size_t size) {
    if (!size || list->failed) return;
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? list->capacity * 2 : 64;
        void *grown = realloc(list->items, capacity * sizeof *list->items);
        if (!grown) {
            list->failed = true;
            return;
        }
        list->items = grown;
        list->capacity = capacity;
    }
    list->items[list->count++] = (struct cohort_word){begin, size};
}

static void replace_all(cohort_text *out, const cohort_text *in, const char *pattern,
                        const char *content) {
    size_t length = strlen(pattern), from = 0;
    for (size_t i = 0; length && i + length <= in->size;) {
        if (memcmp(in->bytes + i, pattern, length)) {
            i++;
            continue;
        }
        cohort_text_append(out, in->bytes + from, i - from);
        cohort_text_append(out, content, strlen(content));
        from = i += length;
    }
    cohort_text_append(out, in->bytes + from, in->size - from);
}

static cohort_status normalize_utf8(cohort_text *out, const cohort_text *in, int flags) {
    utf8proc_uint8_t *result = NULL;
    utf8proc_ssize_t size =
        utf8proc_map((const utf8proc_uint8_t *)in->bytes, (utf8proc_ssize_t)in->size,
                     &result, (utf8proc_option_t)flags);
    if (size < 0)
        return COHORT_FAIL(COHORT_E_INVALID, "normalizing: %s", utf8proc_errmsg(size));
    cohort_text_append(out, (const char *)result, (size_t)size);
    free(result);
    return COHORT_OK;
}

cohort_status cohort_normalize(const cohort_text_steps *steps, cohort_text *text) {
    for (int i = 0; i < steps->count && text->size; i++) {
        const cohort_text_step *step = &steps->items[i];
        cohort_text out = {0};
        cohort_status status = COHORT_OK;
        if (step->kind == COHORT_NORMALIZE_PREPEND) {
            cohort_text_append(&out, step->content, strlen(step->content));
            cohort_text_append(&out, text->bytes, text->size);
        } else if (step->kind == COHORT_NORMALIZE_REPLACE) {
            replace_all(&out, text, step->pattern, step->content);
        } else {
            status = normalize_utf8(&out, text, step->option);
        }
        cohort_text_free(text);
        *text = out;
        COHORT_TRY(status);
    }
    return text->failed ? COHORT_FAIL(COHORT_E_NOMEM, "normalizing text") : COHORT_OK;
}

/* ---- cutting ----------------------------------------------------------------------- */

/* Cut points of one word: pieces that match and the pieces between, as one behaviour
 * wants. */
typedef struct cutter {
    cohort_span_list *out;
    cohort_split_behavior behavior;
    size_t held_begin, held_size; /* a piece that the next may join */
    bool held_match;
} cutter;

static void flush(cutter *cut) {
    cohort_span_add(cut->out, cut->held_begin, cut->held_size);
    cut->held_size = 0;
}

static void cut_piece(cutter *cut, size_t begin, size_t size, bool match) {
    bool joins = false;
    if (!size) return;
    switch (cut->behavior) {
    case COHORT_ISOLATED: break;
    case COHORT_REMOVED:
        if (match) return;
        break;
    case COHORT_MERGED_WITH_PREVIOUS: joins = match && !cut->held_match; break;
    case COHORT_MERGED_WITH_NEXT: joins = !match && cut->held_match; break;
    case COHORT_CONTIGUOUS: joins = match == cut->held_match; break;
    }
    if (joins && cut->held_size && cut->held_begin + cut->held_size == begin) {
        cut->held_size += size;
    } else {
        flush(cut);
        cut->held_begin = begin;
        cut->held_size = size;
    }
    cut->held_match = match;
}

/* Next match of a literal or a regex at or after from; false: none. */
static bool find_match(const cohort_text_step *step, pcre2_match_data *matches,
                       const char *text, size_t size, size_t from, size_t *out_begin,
                       size_t *out_end) {
    if (!step->regex) {
        size_t length = strlen(step->pattern);
        const char *at =
            from < size ? memmem(text + from, size - from, step->pattern, length) : NULL;
        if (!at) return false;
        *out_begin = (size_t)(at - text);
        *out_end = *out_begin + length;
        return true;
    }
    if (pcre2_match(step->regex, (PCRE2_SPTR)text, size, from, PCRE2_NO_UTF_CHECK,
                    matches, NULL) < 0)
        return false;
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(matches);
    *out_begin = at[0];
    *out_end = at[1];
    return *out_end >= *out_begin;
}

static void split_pattern(const cohort_text_step *step, pcre2_match_data *matches,
                          const char *text, struct cohort_word word,
                          cohort_span_list *out) {
    cutter cut = {.out = out, .behavior = step->behavior};
    const char *at = text + word.begin;
    size_t done = 0, from = 0, begin, end;
    while (from <= word.size &&
           find_match(step, matches, at, word.size, from, &begin, &end)) {
        if (begin == end) { /* an empty match cuts nothing; go on after one character */
            size_t bad;
            bool truncated;
            if (end >= word.size) break;
            size_t length =
                cohort_utf8_length(at + end, word.size - end, &bad, &truncated);
            from = end + (length ? length : 1);
            continue;
        }
        cut_piece(&cut, word.begin + done, begin - done, step->invert);
        cut_piece(&cut, word.begin + begin, end - begin, !step->invert);
        done = from = end;
    }
    cut_piece(&cut, word.begin + done, word.size - done, step->invert);
    flush(&cut);
}

static bool is_number(const char *text, size_t size) {
    utf8proc_int32_t code = -1;
    utf8proc_iterate((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)size, &code);
    utf8proc_category_t category = utf8proc_category(code);
    return category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_NL ||
           category == UTF8PROC_CATEGORY_NO;
}

static void split_digits(const cohort_text_step *step, const char *text,
                         struct cohort_word word, cohort_span_list *out) {
    cutter cut = {.out = out,
                  .behavior = step->option ? COHORT_ISOLATED : COHORT_CONTIGUOUS};
    size_t done = 0;
    for (size_t i = 0, length; i < word.size; i += length) {
        size_t bad;
        bool truncated;
        const char *at = text + word.begin + i;
        length = cohort_utf8_length(at, word.size - i, &bad, &truncated);
        if (!length) length = 1;
        if (!is_number(at, length)) continue;
        cut_piece(&cut, word.begin + done, i - done, false);
        cut_piece(&cut, word.begin + i, length, true);
        done = i + length;
    }
    cut_piece(&cut, word.begin + done, word.size - done, false);
    flush(&cut);
}

/* ---- rewriting --------------------------------------------------------------------- */

static void prefix_space(cohort_text *out, const char *text, struct cohort_word word,
                         cohort_span_list *spans) {
    size_t begin = out->size;
    if (text[word.begin] != ' ') cohort_text_append(out, " ", 1);
    cohort_text_append(out, text + word.begin, word.size);
    cohort_span_add(spans, begin, out->size - begin);
}

/* Spaces become the replacement, and each of those may begin a word. */
static void metaspace(const cohort_text_step *step, cohort_text *out, const char *text,
                      struct cohort_word word, bool first, cohort_span_list *spans) {
    size_t mark = strlen(step->content), begin = out->size;
    bool prepend = !step->never && (first || !step->first_only);
    bool has = word.size >= mark && !memcmp(text + word.begin, step->content, mark);
    if (prepend && text[word.begin] != ' ' && !has)
        cohort_text_append(out, step->content, mark);
    for (size_t i = 0; i < word.size; i++)
        if (text[word.begin + i] == ' ')
            cohort_text_append(out, step->content, mark);
        else
            cohort_text_append(out, text + word.begin + i, 1);
    if (out->failed) return;
    if (!step->option) {
        cohort_span_add(spans, begin, out->size - begin);
        return;
    }
    cohort_text_step split = {.behavior = COHORT_MERGED_WITH_NEXT,
                              .pattern = step->content};
    split_pattern(&split, NULL, out->bytes,
                  (struct cohort_word){begin, out->size - begin}, spans);
}

static void run_step(const cohort_text_step *step, pcre2_match_data *matches,
                     const cohort_text *text, cohort_text *rewritten, bool at_start,
                     const cohort_span_list *words, cohort_span_list *out) {
    for (size_t i = 0; i < words->count; i++) {
        struct cohort_word word = words->items[i];
        if (step->kind == COHORT_SPLIT_PATTERN)
            split_pattern(step, matches, text->bytes, word, out);
        else if (step->kind == COHORT_SPLIT_DIGITS)
            split_digits(step, text->bytes, word, out);
        else if (step->kind == COHORT_SPLIT_PREFIX_SPACE)
            prefix_space(rewritten, text->bytes, word, out);
        else
            metaspace(step, rewritten, text->bytes, word, at_start && i == 0, out);
    }
}

cohort_status cohort_split(const cohort_text_steps *steps, cohort_text *text,
                           bool at_start, cohort_span_list *out_words) {
    out_words->count = 0;
    cohort_span_add(out_words, 0, text->size);
    for (int i = 0; i < steps->count; i++) {
        const cohort_text_step *step = &steps->items[i];
        cohort_span_list next = {0};
        cohort_text rewritten = {0};
        pcre2_match_data *matches =
            step->regex ? pcre2_match_data_create_from_pattern(step->regex, NULL) : NULL;
        bool ready = !step->regex || matches;
        if (ready) run_step(step, matches, text, &rewritten, at_start, out_words, &next);
        pcre2_match_data_free(matches);
        if (rewritten.bytes) {
            cohort_text_free(text);
            *text = rewritten;
        }
        free(out_words->items);
        *out_words = next;
        if (!ready) return COHORT_FAIL(COHORT_E_NOMEM, "splitting text");
    }
    if (out_words->failed || text->failed)
        return COHORT_FAIL(COHORT_E_NOMEM, "splitting %zu bytes of text", text->size);
    return COHORT_OK;
}
