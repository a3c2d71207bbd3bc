/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/cancel.h"
#include "base/fail.h"
#include "base/grow.h"
#include "text/text_internal.h"

/* Design notes.
 *
 * Normalizers rewrite a whole segment.  Splitters cut the words they are given into
 * smaller ones; those that change text (a space put in front, Metaspace) write the words
 * anew into a second buffer.  Behaviours are those of the `tokenizers` library 0.22. */

void cohort_text_span_add(cohort_span_list *list, size_t begin, size_t size) {
    if (!size || list->failed) return;
    void *grown =
        cohort_grow(list->items, list->count + 1, &list->capacity, sizeof *list->items);
    if (!grown) {
        list->failed = true;
        return;
    }
    list->items = grown;
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

/* Normalizes what lies between characters that are left alone. */
static cohort_status normalize_utf8(cohort_text *out, const cohort_text *in, int flags) {
    size_t done = 0;
    utf8proc_ssize_t length;
    for (size_t i = 0; i < in->size; i += (size_t)length) {
        utf8proc_int32_t code = -1;
        length = utf8proc_iterate((const utf8proc_uint8_t *)in->bytes + i,
                                  (utf8proc_ssize_t)(in->size - i), &code);
        if (length <= 0) length = 1;
        if (code < 0x7fd || !cohort_unicode_inert((uint32_t)code)) continue;
        COHORT_TRY(cohort_normalize_unicode(out, in->bytes + done, i - done, flags));
        cohort_text_append(out, in->bytes + i, (size_t)length);
        done = i + (size_t)length;
    }
    return cohort_normalize_unicode(out, in->bytes + done, in->size - done, flags);
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
    cohort_text_append(text, "", 0); /* never NULL */
    return text->failed ? COHORT_FAIL(COHORT_E_NOMEM, "normalizing text") : COHORT_OK;
}

/* ---- cutting ----------------------------------------------------------------------- */

/* Cut points of one word: pieces that match and the pieces between, as one behaviour
 * wants. */
typedef struct cutter {
    cohort_span_list *out;
    cohort_split_behavior behavior;
    struct cohort_word held; /* a piece that the next may join */
    bool holds, held_match;
} cutter;

static void flush(cutter *cut) {
    if (cut->holds) cohort_text_span_add(cut->out, cut->held.begin, cut->held.size);
    cut->holds = false;
}

/* Also a match of nothing is a piece: it cuts. */
static void cut_piece(cutter *cut, size_t begin, size_t size, bool match) {
    bool joins = false;
    switch (cut->behavior) {
    case COHORT_ISOLATED: break;
    case COHORT_REMOVED:
        if (!match) break;
        flush(cut);
        return;
    case COHORT_MERGED_WITH_PREVIOUS: joins = match && !cut->held_match; break;
    case COHORT_MERGED_WITH_NEXT: joins = !match && cut->held_match; break;
    case COHORT_CONTIGUOUS: joins = match == cut->held_match; break;
    }
    if (joins && cut->holds) {
        cut->held.size += size;
    } else {
        flush(cut);
        cut->held = (struct cohort_word){begin, size};
        cut->holds = true;
    }
    cut->held_match = match;
}

/* A match of a literal or a regex at or after from; false: none. */
static cohort_status find_match(const cohort_text_step *step, pcre2_match_data *matches,
                                const char *text, size_t size, size_t from, bool *out_any,
                                size_t *out_begin, size_t *out_end) {
    *out_any = false;
    if (!step->regex) {
        size_t length = strlen(step->pattern);
        const char *at =
            from < size ? memmem(text + from, size - from, step->pattern, length) : NULL;
        if (!at) return COHORT_OK;
        *out_begin = (size_t)(at - text);
        *out_end = *out_begin + length;
        *out_any = true;
        return COHORT_OK;
    }
    int found = pcre2_match(step->regex, (PCRE2_SPTR)text, size, from, PCRE2_NO_UTF_CHECK,
                            matches, NULL);
    if (found == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter's stack is the heap */
        found = pcre2_match(step->regex, (PCRE2_SPTR)text, size, from,
                            PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, matches, NULL);
    if (found == PCRE2_ERROR_NOMATCH) return COHORT_OK;
    if (found < 0) {
        char message[128];
        pcre2_get_error_message(found, (PCRE2_UCHAR *)message, sizeof message);
        return COHORT_FAIL(COHORT_E_INVALID,
                           "a word of %zu bytes does not go through the tokenizer's "
                           "regular expression: %s",
                           size, message);
    }
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(matches);
    *out_begin = at[0];
    *out_end = at[1] < at[0] ? at[0] : at[1]; /* \K in a lookahead */
    *out_any = true;
    return COHORT_OK;
}

static cohort_status split_pattern(const cohort_text_step *step,
                                   pcre2_match_data *matches, const char *text,
                                   struct cohort_word word, cohort_span_list *out) {
    cutter cut = {.out = out, .behavior = step->behavior};
    const char *at = text + word.begin;
    size_t done = 0, from = 0, begin, end;
    bool matched = false, any;
    for (;;) {
        if (from > word.size) break;
        COHORT_TRY(find_match(step, matches, at, word.size, from, &any, &begin, &end));
        if (!any) break;
        COHORT_TRY(cohort_cancel_check(end - from + 1));
        from = end;
        if (begin == end) { /* go on after one character */
            size_t bad, length = 1;
            bool truncated;
            if (end < word.size)
                length = cohort_utf8_length(at + end, word.size - end, &bad, &truncated);
            from += length ? length : 1;
            if (matched && end == done) continue; /* as the reference: not behind one */
        }
        if (begin > done) cut_piece(&cut, word.begin + done, begin - done, step->invert);
        cut_piece(&cut, word.begin + begin, end - begin, !step->invert);
        done = end;
        matched = true;
    }
    if (word.size > done)
        cut_piece(&cut, word.begin + done, word.size - done, step->invert);
    flush(&cut);
    return COHORT_OK;
}

/* ---- rewriting --------------------------------------------------------------------- */

static void prefix_space(cohort_text *out, const char *text, struct cohort_word word,
                         cohort_span_list *spans) {
    size_t begin = out->size;
    if (text[word.begin] != ' ') cohort_text_append(out, " ", 1);
    cohort_text_append(out, text + word.begin, word.size);
    cohort_text_span_add(spans, begin, out->size - begin);
}

/* Spaces become the replacement, and each of those may begin a word. */
static cohort_status metaspace(const cohort_text_step *step, cohort_text *out,
                               const char *text, struct cohort_word word, bool first,
                               cohort_span_list *spans) {
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
    if (out->failed) return COHORT_FAIL(COHORT_E_NOMEM, "splitting text");
    if (!step->option) {
        cohort_text_span_add(spans, begin, out->size - begin);
        return COHORT_OK;
    }
    cohort_text_step split = {.behavior = COHORT_MERGED_WITH_NEXT,
                              .pattern = step->content};
    return split_pattern(&split, NULL, out->bytes,
                         (struct cohort_word){begin, out->size - begin}, spans);
}

static cohort_status run_step(const cohort_text_step *step, pcre2_match_data *matches,
                              const cohort_text *text, cohort_text *rewritten,
                              bool at_start, const cohort_span_list *words,
                              cohort_span_list *out) {
    for (size_t i = 0; i < words->count; i++) {
        struct cohort_word word = words->items[i];
        if (step->kind == COHORT_SPLIT_PATTERN)
            COHORT_TRY(split_pattern(step, matches, text->bytes, word, out));
        else if (step->kind == COHORT_SPLIT_PREFIX_SPACE)
            prefix_space(rewritten, text->bytes, word, out);
        else
            COHORT_TRY(
                metaspace(step, rewritten, text->bytes, word, at_start && i == 0, out));
    }
    return COHORT_OK;
}

cohort_status cohort_split(const cohort_text_steps *steps, cohort_text *text,
                           bool at_start, cohort_span_list *out_words) {
    out_words->count = 0;
    cohort_text_span_add(out_words, 0, text->size);
    for (int i = 0; i < steps->count; i++) {
        const cohort_text_step *step = &steps->items[i];
        cohort_span_list next = {0};
        cohort_text rewritten = {0};
        pcre2_match_data *matches =
            step->regex ? pcre2_match_data_create_from_pattern(step->regex, NULL) : NULL;
        cohort_status status =
            !step->regex || matches
                ? run_step(step, matches, text, &rewritten, at_start, out_words, &next)
                : COHORT_FAIL(COHORT_E_NOMEM, "splitting text");
        pcre2_match_data_free(matches);
        next.failed |= out_words->failed | rewritten.failed;
        if (rewritten.bytes) {
            cohort_text_free(text);
            *text = rewritten;
        }
        free(out_words->items);
        *out_words = next;
        COHORT_TRY(status);
    }
    if (out_words->failed || text->failed)
        return COHORT_FAIL(COHORT_E_NOMEM, "splitting %zu bytes of text", text->size);
    return COHORT_OK;
}
