/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/fail.h"
#include "grammar/grammar_internal.h"
#include "grammar/matcher_internal.h"

enum {
    WORTH_KEEPING_NODES = 1000,
    CREDIT_OF_MASK = 1, /* times the nodes of the trie: what each mask gives back */
};

/* As the longest word sees it. */
static configuration near_of(const cohort_matcher *self, const configuration *one) {
    int32_t longest = (int32_t)self->vocabulary->longest;
    configuration key = {.rule = one->rule,
                         .state = one->state,
                         .least = one->least,
                         .most = one->most,
                         .frame = NO_FRAME};
    /* One more: the loop may be entered the first time yet. */
    if (key.least > longest + 1) key.least = longest + 2;
    if (key.most > longest + 1) key.most = COHORT_UNBOUNDED;
    return key;
}

static void or_words(uint32_t *to, const uint32_t *from, size_t count) {
    for (size_t i = 0; i < count; i++)
        to[i] |= from[i];
}

/* Behind the ends of its rule a configuration goes on with what called it. */
static void walk_ends(cohort_matcher *self, const configuration *one,
                      const uint32_t *ends, size_t n_ends, size_t n_frames,
                      uint32_t *words) {
    if (one->frame == NO_FRAME || !n_ends) return;
    const frame back = self->frames[one->frame];
    cohort_matcher_begin_walk(self,
                              &(configuration){.rule = back.rule,
                                               .state = back.state,
                                               .most = COHORT_UNBOUNDED,
                                               .frame = back.parent},
                              self->n_current, n_frames);
    cohort_matcher_close_set(self, self->n_current, n_frames);
    self->levels[0].end = self->n_configurations;
    self->levels[0].n_frames = self->n_frames;
    for (size_t i = 0; i < n_ends; i++)
        cohort_matcher_walk(self, ends[i], cohort_matcher_mark, words);
    self->n_spent += self->n_visited;
}

/* How many words need more characters than there may be. */
static size_t n_too_long(const cohort_string_words *strings, int32_t most) {
    size_t low = 0, high = strings->n_by_need;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (strings->by_need[middle].needs > most)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void mark_inside(cohort_matcher *self, int32_t most, uint32_t *words) {
    const cohort_string_words *strings = &self->vocabulary->strings;
    size_t n_words = cohort_mask_words(self->vocabulary);
    size_t too_long = most == COHORT_UNBOUNDED ? 0 : n_too_long(strings, most);
    const struct inside_word *word = strings->by_need;
    if (too_long > strings->n_by_need / 2) { /* few are left */
        for (size_t i = too_long; i < strings->n_by_need; i++)
            words[word[i].token / 32] |= UINT32_C(1) << word[i].token % 32;
        return;
    }
    const uint32_t *mask = strings->inside;
    if (too_long) {
        memcpy(self->scratch, mask, n_words * sizeof *mask);
        for (size_t i = 0; i < too_long; i++)
            self->scratch[word[i].token / 32] &= ~(UINT32_C(1) << word[i].token % 32);
        mask = self->scratch;
    }
    or_words(words, mask, n_words);
}

/* Between two characters of a string, which every string rule has alike. */
static void mask_string(cohort_matcher *self, const configuration *one, size_t n_frames,
                        uint32_t *words) {
    const cohort_vocabulary *vocabulary = self->vocabulary;
    const cohort_string_words *strings = &vocabulary->strings;
    mark_inside(self, one->most, words);
    self->n_spent += strings->n_ends;
    self->n_ends = 0;
    for (size_t i = 0; i < strings->n_ends; i++) {
        const struct string_end *end = &strings->ends[i];
        if (end->count < one->least ||
            (one->most != COHORT_UNBOUNDED && end->count > one->most))
            continue;
        cohort_matcher_set_tokens(vocabulary, end->node, words);
        if (vocabulary->nodes[end->node].end > end->node + 1)
            cohort_matcher_note_end(self, end->node);
    }
    walk_ends(self, one, self->ends, self->n_ends, n_frames, words);
}

static bool are_same_key(const configuration *a, const configuration *b) {
    return !memcmp(a, b, sizeof *a);
}

static void pay(cohort_matcher *self, const configuration *key, size_t n_visited) {
    bool is_paid = false;
    size_t i = self->n_paid;
    if (n_visited > WORTH_KEEPING_NODES)
        for (; i > 0 && !is_paid; i--)
            is_paid = are_same_key(&self->paid[i - 1], key);
    if (!is_paid) self->n_spent += n_visited;
    if (n_visited <= WORTH_KEEPING_NODES || (is_paid && i >= self->n_paid_before)) return;
    self->paid = cohort_matcher_more(self, self->paid, self->n_paid, &self->paid_capacity,
                                     sizeof *self->paid);
    if (!self->has_failed) self->paid[self->n_paid++] = *key;
}

/* What is paid for the next mask: what this one has. */
static void keep_paid(cohort_matcher *self) {
    self->n_paid -= self->n_paid_before;
    if (self->n_paid)
        memmove(self->paid, self->paid + self->n_paid_before,
                self->n_paid * sizeof *self->paid);
    self->n_paid_before = self->n_paid;
    size_t most = MATCHER_MOST_CREDIT * cohort_matcher_n_nodes(self->vocabulary);
    self->credit -= self->n_spent < self->credit ? self->n_spent : self->credit;
    self->credit += CREDIT_OF_MASK * cohort_matcher_n_nodes(self->vocabulary);
    if (self->credit > most) self->credit = most;
}

static void mask_one(cohort_matcher *self, const configuration *one, size_t n_frames,
                     uint32_t *words) {
    if (one->state == self->grammar->rules[one->rule].loop_state) {
        mask_string(self, one, n_frames, words);
        return;
    }
    const configuration key = near_of(self, one);
    size_t n_words = cohort_mask_words(self->vocabulary);
    int32_t depth = cohort_matcher_depth_of(self, one->frame);
    const struct mask_entry *kept = cohort_matcher_find_mask(self->grammar, &key);
    if (!kept) {
        memset(self->scratch, 0, n_words * sizeof *self->scratch);
        self->n_ends = 0;
        cohort_matcher_begin_walk(self, &key, self->n_current, n_frames);
        cohort_matcher_walk(self, 0, cohort_matcher_mark_and_note_ends, self->scratch);
    }
    pay(self, &key, kept ? kept->n_visited : self->n_visited);
    if (depth + (kept ? kept->need : self->need) <= COHORT_GRAMMAR_MAX_DEPTH) {
        if (!kept && self->n_visited > WORTH_KEEPING_NODES)
            cohort_matcher_keep_mask(self, &key);
        or_words(words, kept ? kept->data : self->scratch, n_words);
        walk_ends(self, one, kept ? kept->data + n_words : self->ends,
                  kept ? kept->n_ends : self->n_ends, n_frames, words);
        return;
    }
    /* Near the depth limit, the stack matters from the first byte on. */
    cohort_matcher_begin_walk(self, one, self->n_current, n_frames);
    cohort_matcher_walk(self, 0, cohort_matcher_mark, words);
    self->n_spent += self->n_visited;
}

static bool has_any(const uint32_t *words, size_t count) {
    while (count > 0 && !words[count - 1])
        count--;
    return count;
}

cohort_status cohort_matcher_mask(cohort_matcher *self, uint32_t *out_words) {
    size_t n_frames = self->n_frames;
    size_t n_words = cohort_mask_words(self->vocabulary);
    memset(out_words, 0, n_words * sizeof *out_words);
    self->n_spent = 0;
    for (size_t i = 0; i < self->n_current && !self->has_failed; i++) {
        const configuration one = self->configurations[i];
        if (self->n_spent > self->credit && has_any(out_words, n_words))
            self->n_current = i; /* the others are not read further */
        else
            mask_one(self, &one, n_frames, out_words);
    }
    keep_paid(self);
    cohort_matcher_rewind(self, n_frames);
    if (self->has_failed) return COHORT_FAIL(COHORT_E_NOMEM, "a mask of tokens");
    return COHORT_OK;
}
