/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "base/fail.h"
#include "base/grow.h"
#include "text/text_internal.h"

/* Design notes.
 *
 * Symbols form a linked list over an array; mergeable neighbours wait in a heap ordered
 * by (rank, position).  An entry whose symbols have changed since is dropped when it
 * comes up. A SentencePiece text is one word however long it is, so this must not be
 * quadratic. */

typedef struct cohort_symbol {
    int32_t id; /* -1: merged into its left neighbour */
    uint32_t previous, next;
} symbol;

typedef struct cohort_candidate {
    uint32_t rank, left;
    int32_t left_id, right_id;
} candidate;

#define NONE UINT32_MAX

void cohort_ids_add(cohort_ids *ids, int32_t id) {
    int32_t *grown =
        cohort_grow(ids->items, ids->count + 1, &ids->capacity, sizeof *grown);
    if (!grown) {
        ids->failed = true;
        return;
    }
    ids->items = grown;
    ids->items[ids->count++] = id;
}

void cohort_bpe_scratch_free(cohort_bpe_scratch *scratch) {
    free(scratch->symbols);
    free(scratch->heap);
    *scratch = (cohort_bpe_scratch){0};
}

static const struct cohort_merge *find_merge(const cohort_tokenizer *tokenizer,
                                             int32_t left, int32_t right) {
    const cohort_merge_map *map = &tokenizer->merges;
    if (!map->slots) return NULL;
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    for (size_t i = (size_t)(pair * UINT64_C(0x9e3779b97f4a7c15) >> 20) & map->mask;
         map->slots[i].used; i = (i + 1) & map->mask)
        if (map->slots[i].pair == pair) return &map->slots[i];
    return NULL;
}

static bool before(const candidate *a, const candidate *b) {
    return a->rank != b->rank ? a->rank < b->rank : a->left < b->left;
}

static void heap_push(cohort_bpe_scratch *scratch, candidate item) {
    size_t i = scratch->heap_count++;
    for (; i > 0 && before(&item, &scratch->heap[(i - 1) / 2]); i = (i - 1) / 2)
        scratch->heap[i] = scratch->heap[(i - 1) / 2];
    scratch->heap[i] = item;
}

static candidate heap_pop(cohort_bpe_scratch *scratch) {
    candidate top = scratch->heap[0], last = scratch->heap[--scratch->heap_count];
    size_t n = scratch->heap_count, i = 0;
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && before(&scratch->heap[child + 1], &scratch->heap[child]))
            child++;
        if (!before(&scratch->heap[child], &last)) break;
        scratch->heap[i] = scratch->heap[child];
    }
    scratch->heap[i] = last;
    return top;
}

static void consider(const cohort_tokenizer *tokenizer, cohort_bpe_scratch *scratch,
                     uint32_t left) {
    if (left == NONE || scratch->symbols[left].next == NONE) return;
    int32_t left_id = scratch->symbols[left].id;
    int32_t right_id = scratch->symbols[scratch->symbols[left].next].id;
    const struct cohort_merge *merge = find_merge(tokenizer, left_id, right_id);
    if (merge) heap_push(scratch, (candidate){merge->rank, left, left_id, right_id});
}

static void merge_all(const cohort_tokenizer *tokenizer, cohort_bpe_scratch *scratch,
                      uint32_t n) {
    symbol *symbols = scratch->symbols;
    scratch->heap_count = 0;
    for (uint32_t i = 0; i + 1 < n; i++)
        consider(tokenizer, scratch, i);
    while (scratch->heap_count) {
        candidate best = heap_pop(scratch);
        symbol *left = &symbols[best.left];
        if (left->id != best.left_id || left->next == NONE ||
            symbols[left->next].id != best.right_id)
            continue;
        symbol *right = &symbols[left->next];
        left->id = (int32_t)find_merge(tokenizer, best.left_id, best.right_id)->id;
        right->id = -1;
        left->next = right->next;
        if (left->next != NONE) symbols[left->next].previous = best.left;
        consider(tokenizer, scratch, left->previous);
        consider(tokenizer, scratch, best.left);
    }
}

/* Room for n symbols; each merge adds at most two candidates to the first n. */
static cohort_status reserve(cohort_bpe_scratch *scratch, size_t n) {
    if (n >= UINT32_MAX / 4)
        return COHORT_FAIL(COHORT_E_INVALID, "a word of %zu bytes", n);
    if (n <= scratch->capacity) return COHORT_OK;
    free(scratch->symbols);
    free(scratch->heap);
    scratch->capacity = n * 2;
    scratch->symbols = malloc(scratch->capacity * sizeof(symbol));
    scratch->heap = malloc(scratch->capacity * 3 * sizeof(candidate));
    if (scratch->symbols && scratch->heap) return COHORT_OK;
    cohort_bpe_scratch_free(scratch);
    return COHORT_FAIL(COHORT_E_NOMEM, "a word of %zu bytes", n);
}

static void add_symbol(cohort_bpe_scratch *scratch, uint32_t *n, int32_t id) {
    scratch->symbols[*n] =
        (symbol){.id = id, .previous = *n ? *n - 1 : NONE, .next = *n + 1};
    ++*n;
}

/* One character that the vocabulary lacks: its bytes, or unk, or nothing.  As in the
 * reference, unk waits for the next known character, and bytes overtake it. */
static void add_unknown(const cohort_tokenizer *tokenizer, cohort_bpe_scratch *scratch,
                        uint32_t *n, bool *unknown, const char *bytes, size_t size) {
    bool all = tokenizer->byte_fallback;
    for (size_t i = 0; all && i < size; i++)
        all = tokenizer->byte_ids[(unsigned char)bytes[i]] >= 0;
    for (size_t i = 0; all && i < size; i++)
        add_symbol(scratch, n, tokenizer->byte_ids[(unsigned char)bytes[i]]);
    if (all || tokenizer->unk_id < 0) return;
    if (*unknown && !tokenizer->fuse_unk) add_symbol(scratch, n, tokenizer->unk_id);
    *unknown = true;
}

cohort_status cohort_bpe_encode(const cohort_tokenizer *tokenizer,
                                cohort_bpe_scratch *scratch, const char *word,
                                size_t size, cohort_ids *out_ids) {
    if (!size) return COHORT_OK;
    if (tokenizer->ignore_merges) {
        int32_t whole = cohort_token_lookup(tokenizer, word, size);
        if (whole >= 0) {
            cohort_ids_add(out_ids, whole);
            return COHORT_OK;
        }
    }
    COHORT_TRY(reserve(scratch, size));
    uint32_t n = 0;
    bool unknown = false;
    for (size_t i = 0, length; i < size; i += length) {
        size_t bad;
        bool truncated;
        length = tokenizer->byte_level
                     ? 1
                     : cohort_utf8_length(word + i, size - i, &bad, &truncated);
        if (!length) length = 1; /* cannot be: the text was cleaned */
        int32_t id = tokenizer->byte_level
                         ? tokenizer->byte_ids[(unsigned char)word[i]]
                         : cohort_token_lookup(tokenizer, word + i, length);
        if (id < 0) {
            add_unknown(tokenizer, scratch, &n, &unknown, word + i, length);
            continue;
        }
        if (unknown) add_symbol(scratch, &n, tokenizer->unk_id);
        unknown = false;
        add_symbol(scratch, &n, id);
    }
    if (unknown) add_symbol(scratch, &n, tokenizer->unk_id);
    if (!n) return COHORT_OK;
    scratch->symbols[n - 1].next = NONE;
    merge_all(tokenizer, scratch, n);
    for (uint32_t i = 0; i != NONE; i = scratch->symbols[i].next)
        cohort_ids_add(out_ids, scratch->symbols[i].id);
    return COHORT_OK;
}
