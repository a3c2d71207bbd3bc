/* SPDX-License-Identifier: Apache-2.0 */

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/grow.h"
#include "grammar/grammar_internal.h"
#include "grammar/matcher_internal.h"

/* Design notes.
 *
 * Where a text is in a grammar is a set of configurations: a state of a rule, and the
 * stack of states to come back to.  Stacks share their lower frames.  The set is closed:
 * it holds the starts of rules that may be called, and what follows those that may end.
 *
 * A mask is the set taken through the vocabulary's trie, where whole branches fall away
 * at once.  Inside a string they don't: hundreds of thousands of nodes.  So what a state
 * lets through by itself is kept, with the nodes where its rule ended; only behind those
 * is the stack looked at, each time.  A count is part of a state, but only as far as the
 * longest word of the vocabulary can feel its end.
 *
 * What masks cost is paid for in nodes of the trie, so that no sequence makes the others
 * wait for long: a hundred patterns side by side are as many walks a token.  There is
 * credit for many walks at once and for one each token; what it does not reach for is
 * taken out of the set.  A state is paid for once as long as it stays, whether its mask
 * was kept or not: the same whatever other sequences do.
 *
 * No configuration is entered that the depth limit would not let come to its end: a
 * state's height says how much deeper it must get. */

enum {
    WORTH_KEEPING_NODES = 1000,
    FEW_NODES = 1 << 16, /* of a trie: nobody waits for a walk through those */
    /* Times the nodes of the trie: */
    MOST_OF_WALK = 2,   /* a walk ends behind so many, with what it found */
    MOST_CREDIT = 64,   /* that a sequence has to begin with */
    CREDIT_OF_MASK = 1, /* that it gets back for each mask */
};

/* ---- sets -------------------------------------------------------------------------- */

static int32_t depth_of(const cohort_matcher *self, int32_t frame_index) {
    return frame_index == NO_FRAME ? 0 : self->frames[frame_index].depth;
}

void *cohort_matcher_more(cohort_matcher *self, void *items, size_t count,
                          size_t *capacity, size_t item_bytes) {
    void *grown = cohort_grow(items, count + 1, capacity, item_bytes);
    if (!grown) self->has_failed = true;
    return grown ? grown : items;
}

/* Adds to the set that begins at begin what is not in it. */
static void add(cohort_matcher *self, size_t begin, const configuration *one) {
    const cohort_rule *rule = &self->grammar->rules[one->rule];
    int32_t need = depth_of(self, one->frame) + rule->heights[one->state];
    if (need > COHORT_GRAMMAR_MAX_DEPTH) return;
    for (size_t i = begin; i < self->n_configurations; i++)
        if (!memcmp(&self->configurations[i], one, sizeof *one)) return;
    /* Fewer readings are a narrower grammar, not a wrong one. */
    if (self->n_configurations - begin >= COHORT_GRAMMAR_MAX_CONFIGURATIONS) {
        self->has_dropped = true;
        return;
    }
    self->configurations =
        cohort_matcher_more(self, self->configurations, self->n_configurations,
                            &self->configurations_capacity, sizeof *self->configurations);
    if (self->has_failed) return;
    self->configurations[self->n_configurations++] = *one;
    if (need > self->need) self->need = need;
}

/* The frame to come back to; one that was made for this set is used again. */
static int32_t push(cohort_matcher *self, size_t first_frame, const frame *one) {
    for (size_t i = first_frame; i < self->n_frames; i++)
        if (!memcmp(&self->frames[i], one, sizeof *one)) return (int32_t)i;
    self->frames = cohort_matcher_more(self, self->frames, self->n_frames,
                                       &self->frames_capacity, sizeof *self->frames);
    if (self->has_failed) return NO_FRAME;
    self->frames[self->n_frames] = *one;
    return (int32_t)self->n_frames++;
}

/* Is there nothing to do in a state but to go back? */
static bool only_ends(const cohort_automaton *automaton, int32_t state) {
    const int32_t *row = automaton->next + (size_t)state * automaton->n_classes;
    if (!automaton->accepts[state] ||
        automaton->first_call[state] != automaton->first_call[state + 1])
        return false;
    for (uint32_t c = 0; c < automaton->n_classes; c++)
        if (row[c] >= 0) return false;
    return true;
}

static void call_rule(cohort_matcher *self, size_t begin, size_t first_frame,
                      const configuration *from, const cohort_rule_call *call) {
    const cohort_rule *callee = &self->grammar->rules[call->rule];
    const cohort_rule *caller = &self->grammar->rules[from->rule];
    /* A list that ends in the rest of itself is as deep as its items. */
    bool is_last = callee->loop_state < 0 && only_ends(&caller->automaton, call->next);
    int32_t depth = depth_of(self, from->frame) + !is_last;
    if (depth + callee->heights[0] > COHORT_GRAMMAR_MAX_DEPTH ||
        depth_of(self, from->frame) + caller->heights[call->next] >
            COHORT_GRAMMAR_MAX_DEPTH)
        return;
    const frame back = {from->rule, call->next, from->frame, depth};
    configuration start = {.rule = call->rule, .least = 0, .most = COHORT_UNBOUNDED};
    if (callee->loop_state >= 0) { /* the first time it is entered is no character */
        start.least = callee->least ? callee->least + 1 : 0;
        start.most = callee->most == COHORT_UNBOUNDED ? callee->most : callee->most + 1;
    }
    start.frame = is_last ? from->frame : push(self, first_frame, &back);
    if (!self->has_failed) add(self, begin, &start);
}

/* Adds what the set leads to without a byte. */
static void close_set(cohort_matcher *self, size_t begin, size_t first_frame) {
    for (size_t i = begin; i < self->n_configurations && !self->has_failed; i++) {
        const configuration one = self->configurations[i];
        const cohort_automaton *automaton = &self->grammar->rules[one.rule].automaton;
        for (uint32_t c = automaton->first_call[one.state];
             c < automaton->first_call[one.state + 1]; c++)
            call_rule(self, begin, first_frame, &one, &automaton->calls[c]);
        if (!automaton->accepts[one.state]) continue;
        if (one.frame == NO_FRAME) {
            self->has_ended = true;
            continue;
        }
        const frame back = self->frames[one.frame];
        add(self, begin,
            &(configuration){.rule = back.rule,
                             .state = back.state,
                             .most = COHORT_UNBOUNDED,
                             .frame = back.parent});
    }
}

/* False: the byte cannot come here. */
static bool advance(const cohort_rule *rule, configuration *one, uint8_t byte) {
    const cohort_automaton *automaton = &rule->automaton;
    int32_t next =
        automaton
            ->next[(size_t)one->state * automaton->n_classes + automaton->classes[byte]];
    if (next < 0) return false;
    if (rule->loop_state >= 0) {
        if (one->state == rule->loop_state &&
            (byte == '"' ? one->least > 0 : one->most == 0))
            return false;
        if (next == rule->loop_state) {
            if (one->least > 0) one->least--;
            if (one->most > 0) one->most--;
        }
    }
    one->state = next;
    return true;
}

/* The set behind a byte is put at the end; false where it is empty. */
static bool step(cohort_matcher *self, size_t from, size_t to, uint8_t byte) {
    size_t begin = self->n_configurations, first_frame = self->n_frames;
    self->has_ended = false;
    for (size_t i = from; i < to; i++) {
        configuration one = self->configurations[i];
        if (advance(&self->grammar->rules[one.rule], &one, byte)) add(self, begin, &one);
    }
    close_set(self, begin, first_frame);
    size_t count = self->n_configurations - begin;
    self->n_visited += count * count / 32; /* each was looked for among the others */
    return count;
}

/* ---- walks ------------------------------------------------------------------------- */

void cohort_matcher_set_tokens(const cohort_vocabulary *vocabulary, uint32_t node,
                               uint32_t *words) {
    for (uint32_t t = vocabulary->nodes[node].first_token;
         t < vocabulary->nodes[node + 1].first_token; t++) {
        uint32_t token = (uint32_t)vocabulary->tokens[t];
        words[token / 32] |= UINT32_C(1) << token % 32;
    }
}

static void note_end(cohort_matcher *self, uint32_t node) {
    self->ends = cohort_matcher_more(self, self->ends, self->n_ends, &self->ends_capacity,
                                     sizeof *self->ends);
    if (!self->has_failed) self->ends[self->n_ends++] = node;
}

/* Of the trie, as costs are measured in. */
static size_t n_nodes(const cohort_vocabulary *vocabulary) {
    return vocabulary->n_nodes > FEW_NODES ? vocabulary->n_nodes : FEW_NODES;
}

static bool goes_on(const cohort_matcher *self) {
    return !self->has_failed && self->n_visited < self->most_visited;
}

static void mark(cohort_matcher *self, uint32_t node, uint32_t *words) {
    cohort_matcher_set_tokens(self->vocabulary, node, words);
}

static void mark_and_note_ends(cohort_matcher *self, uint32_t node, uint32_t *words) {
    cohort_matcher_set_tokens(self->vocabulary, node, words);
    if (self->has_ended && self->vocabulary->nodes[node].end > node + 1)
        note_end(self, node);
}

static void walk_set(cohort_matcher *self, uint32_t root, uint32_t base, visitor visit,
                     uint32_t *words);

/* Takes a set through one node, by a step that may call and end, and what follows it. */
static void walk_node(cohort_matcher *self, const struct level *from, uint32_t node,
                      uint32_t base, visitor visit, uint32_t *words) {
    self->n_configurations = from->end;
    self->n_frames = from->n_frames;
    if (!step(self, from->begin, from->end, self->vocabulary->nodes[node].byte)) return;
    self->levels[self->vocabulary->nodes[node].depth - base] =
        (struct level){from->end, self->n_configurations, self->n_frames};
    visit(self, node, words);
    walk_set(self, node, base, visit, words);
}

/* A set of one goes from state to state of its rule, as long as none calls, or ends and
 * so goes on elsewhere: in strings, patterns and numbers nearly always.  Configurations
 * lie one behind the other, by depth. */
static void walk_one(cohort_matcher *self, uint32_t root, const struct level *level,
                     uint32_t base, visitor visit, uint32_t *words) {
    const cohort_trie_node *nodes = self->vocabulary->nodes;
    const configuration first = self->configurations[level->begin];
    const cohort_rule *rule = &self->grammar->rules[first.rule];
    const cohort_automaton *automaton = &rule->automaton;
    int32_t depth = depth_of(self, first.frame);
    uint32_t end = nodes[root].end;
    for (uint32_t node = root + 1; node < end && goes_on(self); self->n_visited++) {
        size_t at = level->begin + nodes[node].depth - nodes[root].depth;
        self->configurations = cohort_matcher_more(self, self->configurations, at,
                                                   &self->configurations_capacity,
                                                   sizeof *self->configurations);
        if (self->has_failed) return;
        configuration *one = &self->configurations[at];
        *one = one[-1];
        if (!advance(rule, one, nodes[node].byte)) {
            node = nodes[node].end;
            continue;
        }
        int32_t need = depth + rule->heights[one->state];
        self->has_ended = automaton->accepts[one->state];
        if (automaton->first_call[one->state] != automaton->first_call[one->state + 1] ||
            (self->has_ended && first.frame != NO_FRAME) ||
            need > COHORT_GRAMMAR_MAX_DEPTH) {
            walk_node(self, &(struct level){at - 1, at, level->n_frames}, node, base,
                      visit, words);
            node = nodes[node].end;
            continue;
        }
        if (need > self->need) self->need = need;
        self->n_configurations = at + 1;
        visit(self, node, words);
        node++;
    }
}

/* Takes the set of a node through what follows it. */
static void walk_set(cohort_matcher *self, uint32_t root, uint32_t base, visitor visit,
                     uint32_t *words) {
    const cohort_trie_node *nodes = self->vocabulary->nodes;
    const struct level from = self->levels[nodes[root].depth - base];
    if (from.end - from.begin == 1) {
        walk_one(self, root, &from, base, visit, words);
        return;
    }
    for (uint32_t node = root + 1; node < nodes[root].end && goes_on(self);
         node = nodes[node].end) {
        self->n_visited += from.end - from.begin;
        walk_node(self, &from, node, base, visit, words);
    }
}

/* Takes the last set through what follows a node. */
void cohort_matcher_walk(cohort_matcher *self, uint32_t root, visitor visit,
                         uint32_t *words) {
    walk_set(self, root, self->vocabulary->nodes[root].depth, visit, words);
}

/* A walk starts with one configuration behind everything else. */
void cohort_matcher_begin_walk(cohort_matcher *self, const configuration *one, size_t end,
                               size_t n_frames) {
    self->n_configurations = end;
    self->n_frames = n_frames;
    self->need = 0;
    self->n_visited = 0;
    add(self, end, one);
    self->levels[0] = (struct level){end, self->n_configurations, n_frames};
}

/* ---- the mask ---------------------------------------------------------------------- */

static void rewind_to_current(cohort_matcher *self, size_t n_frames) {
    self->n_configurations = self->n_current;
    self->n_frames = n_frames;
}

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
    close_set(self, self->n_current, n_frames);
    self->levels[0].end = self->n_configurations;
    self->levels[0].n_frames = self->n_frames;
    for (size_t i = 0; i < n_ends; i++)
        cohort_matcher_walk(self, ends[i], mark, words);
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
        if (vocabulary->nodes[end->node].end > end->node + 1) note_end(self, end->node);
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
    size_t most = MOST_CREDIT * n_nodes(self->vocabulary);
    self->credit -= self->n_spent < self->credit ? self->n_spent : self->credit;
    self->credit += CREDIT_OF_MASK * n_nodes(self->vocabulary);
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
    int32_t depth = depth_of(self, one->frame);
    const struct mask_entry *kept = cohort_matcher_find_mask(self->grammar, &key);
    if (!kept) {
        memset(self->scratch, 0, n_words * sizeof *self->scratch);
        self->n_ends = 0;
        cohort_matcher_begin_walk(self, &key, self->n_current, n_frames);
        cohort_matcher_walk(self, 0, mark_and_note_ends, self->scratch);
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
    cohort_matcher_walk(self, 0, mark, words);
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
    rewind_to_current(self, n_frames);
    if (self->has_failed) return COHORT_FAIL(COHORT_E_NOMEM, "a mask of tokens");
    return COHORT_OK;
}

/* ---- accepting --------------------------------------------------------------------- */

/* Drops the frames that no configuration needs; parents come before what they carry. */
static void pack_frames(cohort_matcher *self) {
    if (self->n_frames > self->moved_capacity) {
        int32_t *moved = realloc(self->moved, self->n_frames * 2 * sizeof *moved);
        if (!moved) return; /* they stay */
        self->moved = moved;
        self->moved_capacity = self->n_frames * 2;
    }
    if (self->n_frames) memset(self->moved, 0, self->n_frames * sizeof *self->moved);
    for (size_t i = 0; i < self->n_current; i++)
        for (int32_t at = self->configurations[i].frame;
             at != NO_FRAME && !self->moved[at]; at = self->frames[at].parent)
            self->moved[at] = 1;
    int32_t kept = 0;
    for (size_t i = 0; i < self->n_frames; i++) {
        if (!self->moved[i]) continue;
        frame one = self->frames[i];
        if (one.parent != NO_FRAME) one.parent = self->moved[one.parent];
        self->moved[i] = kept;
        self->frames[kept++] = one;
    }
    self->n_frames = (size_t)kept;
    for (size_t i = 0; i < self->n_current; i++)
        if (self->configurations[i].frame != NO_FRAME)
            self->configurations[i].frame = self->moved[self->configurations[i].frame];
}

static void move_last_set(cohort_matcher *self, size_t begin, size_t to) {
    size_t count = self->n_configurations - begin;
    memmove(self->configurations + to, self->configurations + begin,
            count * sizeof *self->configurations);
    self->n_configurations = to + count;
}

/* Takes so many of the current configurations through the bytes; behind the current set,
 * which stays as it is where they do not fit. */
static bool take_through(cohort_matcher *self, size_t from, size_t to, const char *bytes,
                         size_t size) {
    size_t behind = self->n_current, n_frames = self->n_frames;
    for (size_t i = 0; i < size; i++) {
        if (!step(self, from, to, (uint8_t)bytes[i]) || self->has_failed) {
            rewind_to_current(self, n_frames);
            return false;
        }
        move_last_set(self, i ? to : behind, behind);
        from = behind;
        to = self->n_configurations;
    }
    move_last_set(self, behind, 0);
    self->n_current = self->n_configurations;
    pack_frames(self);
    return true;
}

bool cohort_matcher_accept_bytes(cohort_matcher *self, const char *bytes, size_t size) {
    size_t count = self->n_current;
    self->has_dropped = false;
    if (!size || take_through(self, 0, count, bytes, size)) return true;
    /* What fits may be among those that were too many all at once.  Masks take each by
     * itself, too: what one of them has is not refused. */
    for (size_t i = 0; i < count && self->has_dropped && !self->has_failed; i++)
        if (take_through(self, i, i + 1, bytes, size)) return true;
    return false;
}

bool cohort_matcher_accept(cohort_matcher *self, int32_t token) {
    const cohort_vocabulary *vocabulary = self->vocabulary;
    if (token < 0 || token >= vocabulary->n_tokens || !vocabulary->words[token].size)
        return false;
    const struct vocabulary_word *word = &vocabulary->words[token];
    return cohort_matcher_accept_bytes(self, vocabulary->bytes + word->begin, word->size);
}

bool cohort_matcher_is_complete(const cohort_matcher *self) {
    for (size_t i = 0; i < self->n_current; i++) {
        const configuration *one = &self->configurations[i];
        const cohort_rule *rule = &self->grammar->rules[one->rule];
        if (one->frame == NO_FRAME && rule->automaton.accepts[one->state]) return true;
    }
    return false;
}

bool cohort_matcher_is_finished(const cohort_matcher *self) {
    if (!cohort_matcher_is_complete(self)) return false;
    for (size_t i = 0; i < self->n_current; i++) {
        const configuration *one = &self->configurations[i];
        const cohort_automaton *automaton = &self->grammar->rules[one->rule].automaton;
        const int32_t *row = automaton->next + (size_t)one->state * automaton->n_classes;
        for (uint32_t c = 0; c < automaton->n_classes; c++)
            if (row[c] >= 0) return false;
    }
    return true;
}

/* ---- life -------------------------------------------------------------------------- */

cohort_status cohort_matcher_create(cohort_grammar *grammar,
                                    const cohort_vocabulary *vocabulary,
                                    cohort_matcher **out_matcher) {
    cohort_matcher *self = calloc(1, sizeof *self);
    *out_matcher = NULL;
    if (!self) return COHORT_FAIL(COHORT_E_NOMEM, "a matcher");
    if (grammar->vocabulary != vocabulary) cohort_grammar_forget_masks(grammar);
    grammar->vocabulary = vocabulary;
    self->grammar = cohort_grammar_acquire(grammar);
    self->vocabulary = vocabulary;
    self->credit = MOST_CREDIT * n_nodes(vocabulary);
    self->most_visited = MOST_OF_WALK * n_nodes(vocabulary);
    self->levels = calloc((size_t)vocabulary->longest + 2, sizeof *self->levels);
    self->scratch = calloc(cohort_mask_words(vocabulary) + 1, sizeof *self->scratch);
    self->has_failed = !self->levels || !self->scratch;
    if (!self->has_failed) {
        add(self, 0,
            &(configuration){.rule = 0, .most = COHORT_UNBOUNDED, .frame = NO_FRAME});
        close_set(self, 0, 0);
        self->n_current = self->n_configurations;
    }
    if (self->has_failed) {
        cohort_matcher_destroy(self);
        return COHORT_FAIL(COHORT_E_NOMEM, "a matcher");
    }
    *out_matcher = self;
    return COHORT_OK;
}

void cohort_matcher_destroy(cohort_matcher *matcher) {
    if (!matcher) return;
    cohort_grammar_release(matcher->grammar);
    free(matcher->configurations);
    free(matcher->frames);
    free(matcher->levels);
    free(matcher->moved);
    free(matcher->scratch);
    free(matcher->ends);
    free(matcher->paid);
    free(matcher);
}
