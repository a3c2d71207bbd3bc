/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "grammar/grammar_internal.h"
#include "grammar/matcher_internal.h"

static size_t slot_of(const configuration *key, size_t capacity) {
    uint64_t hash = (uint64_t)key->rule * 0x9e3779b97f4a7c15u;
    hash = (hash ^ (uint64_t)(uint32_t)key->state) * 0xff51afd7ed558ccdu;
    hash = (hash ^ (uint64_t)(uint32_t)key->least << 32 ^ (uint32_t)key->most) *
           0xc4ceb9fe1a85ec53u;
    return (size_t)(hash >> 32) & (capacity - 1);
}

static bool is_of(const struct mask_entry *entry, const configuration *key) {
    return entry->rule == key->rule && entry->state == key->state &&
           entry->least == key->least && entry->most == key->most;
}

static configuration key_of(const struct mask_entry *entry) {
    return (configuration){.rule = entry->rule,
                           .state = entry->state,
                           .least = entry->least,
                           .most = entry->most};
}

static size_t mask_bytes_of(const cohort_grammar *grammar) {
    return atomic_load_explicit(&grammar->mask_bytes, memory_order_relaxed);
}

static void count_masks(cohort_grammar *grammar, size_t bytes) {
    cohort_grammar_hold((int64_t)bytes - (int64_t)mask_bytes_of(grammar));
    atomic_store_explicit(&grammar->mask_bytes, bytes, memory_order_relaxed);
}

void cohort_grammar_forget_masks(cohort_grammar *grammar) {
    for (size_t i = 0; i < grammar->masks_capacity; i++)
        free(grammar->masks[i]);
    free(grammar->masks);
    grammar->masks = NULL;
    grammar->n_masks = grammar->masks_capacity = 0;
    count_masks(grammar, 0);
}

struct mask_entry *cohort_matcher_find_mask(const cohort_grammar *grammar,
                                            const configuration *key) {
    if (!grammar->masks_capacity) return NULL;
    size_t at = slot_of(key, grammar->masks_capacity);
    for (struct mask_entry *entry; (entry = grammar->masks[at]);
         at = (at + 1) & (grammar->masks_capacity - 1))
        if (is_of(entry, key)) return entry;
    return NULL;
}

static void insert_mask(cohort_grammar *grammar, struct mask_entry *entry) {
    const configuration key = key_of(entry);
    size_t at = slot_of(&key, grammar->masks_capacity);
    while (grammar->masks[at])
        at = (at + 1) & (grammar->masks_capacity - 1);
    grammar->masks[at] = entry;
    grammar->n_masks++;
}

static bool reserve_masks(cohort_grammar *grammar) {
    if (grammar->n_masks * 2 < grammar->masks_capacity) return true;
    size_t old = grammar->masks_capacity, capacity = old ? old * 2 : 64;
    struct mask_entry **before = grammar->masks;
    struct mask_entry **masks = calloc(capacity, sizeof *masks);
    if (!masks) return false;
    grammar->masks = masks;
    grammar->masks_capacity = capacity;
    grammar->n_masks = 0;
    for (size_t i = 0; i < old; i++)
        if (before[i]) insert_mask(grammar, before[i]);
    free(before);
    return true;
}

/* Keeps what the walk found; nothing is lost where there is no memory for it. */
void cohort_matcher_keep_mask(cohort_matcher *self, const configuration *key) {
    cohort_grammar *grammar = self->grammar;
    size_t n_words = cohort_mask_words(self->vocabulary);
    size_t bytes = sizeof(struct mask_entry) + (n_words + self->n_ends) * 4;
    if (mask_bytes_of(grammar) + bytes > COHORT_GRAMMAR_MASK_BYTES)
        cohort_grammar_forget_masks(grammar);
    struct mask_entry *entry = reserve_masks(grammar) ? malloc(bytes) : NULL;
    if (!entry) return;
    *entry = (struct mask_entry){.rule = key->rule,
                                 .state = key->state,
                                 .least = key->least,
                                 .most = key->most,
                                 .need = self->need,
                                 .n_visited = (uint32_t)self->n_visited,
                                 .n_ends = (uint32_t)self->n_ends};
    memcpy(entry->data, self->scratch, n_words * sizeof *entry->data);
    if (self->n_ends)
        memcpy(entry->data + n_words, self->ends, self->n_ends * sizeof *entry->data);
    insert_mask(grammar, entry);
    count_masks(grammar, mask_bytes_of(grammar) + bytes);
}
