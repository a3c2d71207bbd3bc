/* SPDX-License-Identifier: Apache-2.0 */
/* grammar/matcher_internal.h - where a sequence is in its grammar; shared by matcher.c,
 * kept_masks.c and vocabulary_strings.c.
 */
#ifndef COHORT_GRAMMAR_MATCHER_INTERNAL_H
#define COHORT_GRAMMAR_MATCHER_INTERNAL_H

#include "grammar/grammar_internal.h"

enum { NO_FRAME = -1 };

typedef struct configuration {
    uint32_t rule;
    int32_t state;
    int32_t least, most; /* characters of a counted string that are to come */
    int32_t frame;
} configuration;

typedef struct frame {
    uint32_t rule;
    int32_t state;
    int32_t parent;
    int32_t depth; /* frames, with this one */
} frame;

struct mask_entry {
    uint32_t rule;
    int32_t state, least, most;
    int32_t need; /* frames above its own, at most */
    uint32_t n_visited;
    uint32_t n_ends;
    uint32_t data[]; /* the mask, then the nodes where the rule has ended */
};

struct level {
    size_t begin, end, n_frames; /* of a set, and the frames there were then */
};

struct cohort_matcher {
    cohort_grammar *grammar;
    const cohort_vocabulary *vocabulary;
    /* The current set first, then those of a walk. */
    configuration *configurations;
    size_t n_current, n_configurations, configurations_capacity;
    frame *frames;
    size_t n_frames, frames_capacity;
    struct level *levels; /* by depth in the trie */
    int32_t *moved;       /* frames, when they are packed */
    size_t moved_capacity;
    bool has_ended; /* a step ended the text, or the rule that a walk is of */
    bool has_failed;
    bool has_dropped; /* configurations that were too many */
    int32_t need;
    cohort_string_words *learns; /* while a vocabulary is made */
    uint32_t *scratch;           /* a mask, */
    uint32_t *ends;              /* and nodes */
    size_t n_ends, ends_capacity;
    size_t n_visited, most_visited; /* nodes, by the walk and times the set */
    size_t n_spent, credit;
    configuration *paid; /* keys of masks that cost much: the last mask's first */
    size_t n_paid_before, n_paid, paid_capacity;
};

/* ---- matcher.c: sets and walks ----------------------------------------------------- */

/* What is done with every node that a walk gets to; its set is the last. */
typedef void (*visitor)(cohort_matcher *self, uint32_t node, uint32_t *words);

void *cohort_matcher_more(cohort_matcher *self, void *items, size_t count,
                          size_t *capacity, size_t item_bytes);
void cohort_matcher_set_tokens(const cohort_vocabulary *vocabulary, uint32_t node,
                               uint32_t *words);
/* Takes the last set through what follows a node. */
void cohort_matcher_walk(cohort_matcher *self, uint32_t root, visitor visit,
                         uint32_t *words);
/* A walk starts with one configuration behind everything else. */
void cohort_matcher_begin_walk(cohort_matcher *self, const configuration *one, size_t end,
                               size_t n_frames);

/* ---- kept_masks.c ------------------------------------------------------------------ */

struct mask_entry *cohort_matcher_find_mask(const cohort_grammar *grammar,
                                            const configuration *key);
/* Keeps what the walk found; nothing is lost where there is no memory for it. */
void cohort_matcher_keep_mask(cohort_matcher *self, const configuration *key);

#endif /* COHORT_GRAMMAR_MATCHER_INTERNAL_H */
