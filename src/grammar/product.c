/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "base/grow.h"
#include "grammar/grammar_internal.h"

/* Two automata side by side: what both accept, or what the first does and the second does
 * not.  Pairs of states are numbered as they are met; the second of a pair is one too
 * many where it has stopped.  Bytes that neither tells apart are one class. */

struct pairs {
    struct pair {
        uint32_t a, b;
    } * items;
    size_t count, capacity;
    uint32_t *numbers; /* by a * (n_b + 1) + b: number + 1 */
};

static void merge_states(cohort_builder *builder, cohort_automaton *automaton);

static void expr_automaton(cohort_builder *builder, cohort_expr expr,
                           cohort_automaton *out) {
    cohort_nfa nfa = {0};
    uint32_t start = cohort_nfa_state(builder, &nfa);
    uint32_t end = cohort_nfa_state(builder, &nfa);
    cohort_nfa_add(builder, &nfa, expr, start, end);
    cohort_automaton_make(builder, &nfa, start, end, out);
    cohort_nfa_deinit(&nfa);
    merge_states(builder, out);
}

/* One that was made on the way: its cells are free again. */
static void drop(cohort_builder *builder, cohort_automaton *automaton) {
    builder->n_cells -= (size_t)automaton->n_states * automaton->n_classes;
    cohort_automaton_deinit(automaton);
}

/* ---- fewer states ------------------------------------------------------------------ */

/* States are told apart by more and more bytes of what follows (Moore); those that never
 * are become one.  Alternatives that end alike leave many, and the other automaton would
 * multiply them. */
enum { MOST_MERGED_STATES = 1000, MOST_ROUNDS = 200 };

struct merging {
    const cohort_automaton *automaton;
    uint32_t *blocks, *order, *next; /* by state; states in order; blocks to come */
};

static uint32_t block_behind(const struct merging *self, uint32_t state, uint32_t class) {
    int32_t to =
        self->automaton->next[(size_t)state * self->automaton->n_classes + class];
    return to < 0 ? UINT32_MAX : self->blocks[to];
}

static int compare_states(const void *a, const void *b, void *context) {
    const struct merging *self = context;
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    if (self->blocks[x] != self->blocks[y])
        return self->blocks[x] < self->blocks[y] ? -1 : 1;
    for (uint32_t c = 0; c < self->automaton->n_classes; c++) {
        uint32_t left = block_behind(self, x, c), right = block_behind(self, y, c);
        if (left != right) return left < right ? -1 : 1;
    }
    return 0;
}

/* How many blocks there are once one more byte is looked at. */
static uint32_t split_blocks(cohort_builder *builder, struct merging *self) {
    uint32_t n = self->automaton->n_states, n_blocks = 0;
    cohort_builder_work(builder, (size_t)n * self->automaton->n_classes / 4);
    qsort_r(self->order, n, sizeof *self->order, compare_states, self);
    for (uint32_t i = 0; i < n; i++) {
        if (i && compare_states(&self->order[i - 1], &self->order[i], self) != 0)
            n_blocks++;
        self->next[self->order[i]] = n_blocks;
    }
    uint32_t *swap = self->blocks;
    self->blocks = self->next;
    self->next = swap;
    return n_blocks + 1;
}

/* One state a block, its first's; 0 stays where a text begins. */
static void keep_firsts(cohort_builder *builder, const struct merging *self,
                        cohort_automaton *automaton) {
    uint32_t n = automaton->n_states, n_kept = 0, width = automaton->n_classes;
    uint32_t *numbers = self->next, *firsts = self->order; /* by block */
    for (uint32_t i = 0; i < n; i++)
        numbers[i] = UINT32_MAX;
    for (uint32_t state = 0; state < n; state++)
        if (numbers[self->blocks[state]] == UINT32_MAX) {
            firsts[n_kept] = state;
            numbers[self->blocks[state]] = n_kept++;
        }
    for (uint32_t i = 0; i < n_kept; i++) {
        const int32_t *row = automaton->next + (size_t)firsts[i] * width;
        automaton->accepts[i] = automaton->accepts[firsts[i]];
        for (uint32_t c = 0; c < width; c++)
            automaton->next[(size_t)i * width + c] =
                row[c] < 0 ? -1 : (int32_t)numbers[self->blocks[row[c]]];
    }
    builder->n_cells -= (size_t)(n - n_kept) * width;
    automaton->n_states = n_kept;
}

static void merge_states(cohort_builder *builder, cohort_automaton *automaton) {
    uint32_t n = automaton->n_states, n_blocks = 1, n_before = 0;
    if (builder->status < 0 || n > MOST_MERGED_STATES) return;
    uint32_t *memory = malloc((size_t)n * 3 * sizeof *memory);
    if (!memory) {
        COHORT_BUILDER_FAIL(builder, COHORT_E_NOMEM, "%u states", n);
        return;
    }
    struct merging self = {automaton, memory, memory + n, memory + (size_t)n * 2};
    for (uint32_t i = 0; i < n; i++) {
        self.blocks[i] = automaton->accepts[i];
        self.order[i] = i;
    }
    for (int i = 0; i < MOST_ROUNDS && n_blocks > n_before && builder->status >= 0; i++) {
        n_before = n_blocks;
        n_blocks = split_blocks(builder, &self);
    }
    if (n_blocks == n_before && builder->status >= 0)
        keep_firsts(builder, &self, automaton);
    free(memory);
}

/* ---- pairs ------------------------------------------------------------------------- */

static int32_t number_of(cohort_builder *builder, struct pairs *pairs, size_t width,
                         uint32_t a, uint32_t b) {
    uint32_t *number = &pairs->numbers[(size_t)a * width + b];
    if (*number) return (int32_t)*number - 1;
    struct pair *larger =
        cohort_grow(pairs->items, pairs->count + 1, &pairs->capacity, sizeof *larger);
    if (!larger) {
        COHORT_BUILDER_FAIL(builder, COHORT_E_NOMEM, "%zu states", pairs->count + 1);
        return -1;
    }
    pairs->items = larger;
    pairs->items[pairs->count++] = (struct pair){a, b};
    *number = (uint32_t)pairs->count;
    return (int32_t)*number - 1;
}

static void make_classes(const cohort_automaton *a, const cohort_automaton *b,
                         cohort_automaton *out, uint8_t first_bytes[256]) {
    for (unsigned byte = 0; byte < 256; byte++) {
        uint32_t class = 0;
        while (class < out->n_classes &&
               (a->classes[first_bytes[class]] != a->classes[byte] ||
                b->classes[first_bytes[class]] != b->classes[byte]))
            class ++;
        if (class == out->n_classes) first_bytes[out->n_classes++] = (uint8_t)byte;
        out->classes[byte] = (uint8_t) class;
    }
}

static void add_pair_edges(cohort_builder *builder, const cohort_automaton *a,
                           const cohort_automaton *b, bool wants_b, struct pairs *pairs,
                           size_t index, const uint8_t *first_bytes, uint32_t n_classes,
                           int32_t *row) {
    const struct pair pair = pairs->items[index];
    for (uint32_t class = 0; class < n_classes && builder->status >= 0; class ++) {
        uint8_t byte = first_bytes[class];
        int32_t next_a = a->next[(size_t)pair.a * a->n_classes + a->classes[byte]];
        int32_t next_b = pair.b == b->n_states
                             ? -1
                             : b->next[(size_t)pair.b * b->n_classes + b->classes[byte]];
        row[class] = -1;
        if (next_a < 0 || (wants_b && next_b < 0)) continue;
        row[class] = number_of(builder, pairs, (size_t)b->n_states + 1, (uint32_t)next_a,
                               next_b < 0 ? b->n_states : (uint32_t)next_b);
    }
}

static bool grow(cohort_builder *builder, cohort_automaton *out, size_t *capacity) {
    cohort_builder_cells(builder, out->n_classes);
    if (builder->status < 0) return false;
    if (out->n_states < *capacity) return true;
    *capacity = *capacity ? *capacity * 2 : 64;
    int32_t *next = realloc(out->next, *capacity * out->n_classes * sizeof *next);
    if (next) out->next = next;
    uint8_t *accepts = realloc(out->accepts, *capacity);
    if (accepts) out->accepts = accepts;
    if (next && accepts) return true;
    COHORT_BUILDER_FAIL(builder, COHORT_E_NOMEM, "%zu states", *capacity);
    return false;
}

static void make_product(cohort_builder *builder, const cohort_automaton *a,
                         const cohort_automaton *b, bool wants_b, struct pairs *pairs,
                         cohort_automaton *out) {
    uint8_t first_bytes[256];
    size_t capacity = 0;
    make_classes(a, b, out, first_bytes);
    number_of(builder, pairs, (size_t)b->n_states + 1, 0, 0);
    for (size_t i = 0; i < pairs->count && builder->status >= 0; i++) {
        if (i >= COHORT_GRAMMAR_MAX_STATES / 2) {
            COHORT_BUILDER_FAIL(builder, COHORT_E_INVALID,
                                "the grammar is too complex: a pattern and the bounds "
                                "beside it need more than %d states",
                                COHORT_GRAMMAR_MAX_STATES / 2);
            return;
        }
        if (!grow(builder, out, &capacity)) return;
        add_pair_edges(builder, a, b, wants_b, pairs, i, first_bytes, out->n_classes,
                       out->next + i * out->n_classes);
        bool in_b = pairs->items[i].b < b->n_states && b->accepts[pairs->items[i].b];
        out->accepts[i] = a->accepts[pairs->items[i].a] && in_b == wants_b;
        out->n_states = (uint32_t)i + 1;
    }
}

/* Drops the left one. */
static cohort_expr product(cohort_builder *builder, cohort_automaton *left, cohort_expr b,
                           bool wants_b) {
    cohort_automaton right = {0}, out = {0};
    struct pairs pairs = {0};
    expr_automaton(builder, b, &right);
    if (builder->status >= 0) {
        size_t n_pairs = (size_t)left->n_states * ((size_t)right.n_states + 1);
        if (n_pairs > COHORT_GRAMMAR_MAX_CELLS)
            COHORT_BUILDER_FAIL(builder, COHORT_E_INVALID,
                                "the grammar is too complex: two patterns of %u and %u "
                                "states for one text",
                                left->n_states, right.n_states);
        else if (!(pairs.numbers = calloc(n_pairs, sizeof *pairs.numbers)))
            COHORT_BUILDER_FAIL(builder, COHORT_E_NOMEM, "%zu states", n_pairs);
    }
    if (builder->status >= 0) make_product(builder, left, &right, wants_b, &pairs, &out);
    free(pairs.items);
    free(pairs.numbers);
    drop(builder, left);
    drop(builder, &right);
    return cohort_expr_automaton(builder, &out);
}

cohort_expr cohort_expr_both(cohort_builder *builder, cohort_expr a, cohort_expr b) {
    cohort_automaton left;
    expr_automaton(builder, a, &left);
    return product(builder, &left, b, true);
}

cohort_expr cohort_expr_without(cohort_builder *builder, cohort_expr a, cohort_expr b) {
    cohort_automaton left;
    expr_automaton(builder, a, &left);
    return product(builder, &left, b, false);
}

/* ---- marks ------------------------------------------------------------------------- */

/* What was before: nothing, a character of a word, another, one that is a letter to some
 * only; and what a mark asks of what comes. */
enum { AT_BEGIN, WORD, OTHER, UNSURE, N_BEFORE };
enum { ANYTHING, A_BOUNDARY, NO_BOUNDARY, THE_END, N_ASKED };
/* Behind the pairs: an escape of JSON, and the four digits that it may have. */
enum { ESCAPE = N_BEFORE * N_ASKED, FIRST_DIGIT, N_CHECKS = FIRST_DIGIT + 4 };

static bool is_met(int before, int asked, int after) {
    if (asked == ANYTHING) return true;
    if (asked == THE_END) return after == AT_BEGIN;
    if (before == UNSURE || after == UNSURE) return false;
    /* To some, an empty text has no place that is inside. */
    if (before == AT_BEGIN && after == AT_BEGIN) return false;
    return ((before == WORD) != (after == WORD)) == (asked == A_BOUNDARY);
}

static int32_t behind_mark(int before, int asked, unsigned mark) {
    int asks = mark == COHORT_MARK_BOUNDARY ? A_BOUNDARY : NO_BOUNDARY;
    int pair = before * N_ASKED;
    if (mark == COHORT_MARK_BEGIN) return before == AT_BEGIN ? pair + asked : -1;
    if (mark == COHORT_MARK_END)
        return is_met(before, asked, AT_BEGIN) ? pair + THE_END : -1;
    if (asked == THE_END) return is_met(before, asks, AT_BEGIN) ? pair + THE_END : -1;
    return asked == ANYTHING || asked == asks ? pair + asks : -1;
}

static int32_t behind_byte(int before, int asked, unsigned byte, bool in_json) {
    bool is_word = (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') ||
                   (byte >= 'a' && byte <= 'z') || byte == '_';
    int after = is_word ? WORD : byte < 0x80 ? OTHER : UNSURE;
    if (byte >= COHORT_MARK_AHEAD) return before * N_ASKED + asked;
    if (byte >= COHORT_MARK_BOUNDARY) return behind_mark(before, asked, byte);
    if (!is_met(before, asked, after)) return -1;
    return in_json && byte == '\\' ? ESCAPE : after * N_ASKED + ANYTHING;
}

static void make_checker(cohort_builder *builder, bool in_json, cohort_automaton *out) {
    *out = (cohort_automaton){.n_classes = 256, .n_states = N_CHECKS};
    out->next = malloc(sizeof *out->next * N_CHECKS * 256);
    out->accepts = calloc(N_CHECKS, 1);
    cohort_builder_cells(builder, N_CHECKS * 256);
    if (!out->next || !out->accepts) {
        COHORT_BUILDER_FAIL(builder, COHORT_E_NOMEM, "a pattern");
        return;
    }
    for (unsigned byte = 0; byte < 256; byte++) {
        int32_t *row = out->next + byte;
        out->classes[byte] = (uint8_t)byte;
        for (int pair = 0; pair < ESCAPE; pair++)
            row[(size_t)pair * 256] =
                behind_byte(pair / N_ASKED, pair % N_ASKED, byte, in_json);
        /* All that is escaped is no part of a word. */
        row[(size_t)ESCAPE * 256] = byte == 'u' ? FIRST_DIGIT : OTHER * N_ASKED;
        for (int digit = FIRST_DIGIT; digit < N_CHECKS; digit++)
            row[(size_t)digit * 256] = digit + 1 < N_CHECKS ? digit + 1 : OTHER * N_ASKED;
    }
    for (int pair = 0; pair < ESCAPE; pair++)
        out->accepts[pair] = is_met(pair / N_ASKED, pair % N_ASKED, AT_BEGIN);
}

/* The same without marks; may_come: with any of them anywhere. */
static cohort_expr remarked(cohort_builder *builder, const cohort_automaton *automaton,
                            bool may_come) {
    cohort_nfa nfa = {0};
    cohort_automaton out = {0};
    for (uint32_t i = 0; i <= automaton->n_states; i++)
        cohort_nfa_state(builder, &nfa);
    uint32_t end = automaton->n_states;
    for (uint32_t state = 0; state < end && builder->status >= 0; state++) {
        const int32_t *row = automaton->next + (size_t)state * automaton->n_classes;
        if (automaton->accepts[state])
            cohort_nfa_add(builder, &nfa, COHORT_EXPR_EMPTY, state, end);
        if (may_come)
            cohort_nfa_add(
                builder, &nfa,
                cohort_expr_range(builder, COHORT_MARK_BOUNDARY, COHORT_MARK_LAST), state,
                state);
        for (unsigned byte = 0, last; byte < 256; byte = last + 1) {
            int32_t next = row[automaton->classes[byte]];
            bool is_mark = byte >= COHORT_MARK_BOUNDARY;
            for (last = byte; last < 255 && !is_mark && last + 1 < COHORT_MARK_BOUNDARY &&
                              row[automaton->classes[last + 1]] == next;)
                last++;
            if (next < 0) continue;
            cohort_expr one =
                is_mark ? COHORT_EXPR_EMPTY
                        : cohort_expr_range(builder, (uint8_t)byte, (uint8_t)last);
            cohort_nfa_add(builder, &nfa, one, state, (uint32_t)next);
        }
    }
    cohort_automaton_make(builder, &nfa, 0, end, &out);
    cohort_nfa_deinit(&nfa);
    return cohort_expr_automaton(builder, &out);
}

cohort_expr cohort_expr_checked(cohort_builder *builder, cohort_expr expr, bool in_json) {
    cohort_automaton left, checker, both;
    expr_automaton(builder, expr, &left);
    make_checker(builder, in_json, &checker);
    product(builder, &left, cohort_expr_automaton(builder, &checker), true);
    if (builder->status < 0) return COHORT_EXPR_NEVER;
    /* It is the one that was made last. */
    both = builder->automata[builder->n_automata - 1];
    return remarked(builder, &both, false);
}

cohort_expr cohort_expr_with_marks(cohort_builder *builder, cohort_expr expr) {
    cohort_automaton automaton;
    expr_automaton(builder, expr, &automaton);
    if (builder->status < 0) return COHORT_EXPR_NEVER;
    cohort_expr marked = remarked(builder, &automaton, true);
    drop(builder, &automaton);
    return marked;
}

static cohort_expr any_bytes(cohort_builder *builder, uint8_t last) {
    return cohort_expr_repeat(builder, cohort_expr_range(builder, 0, last), 0,
                              COHORT_UNBOUNDED);
}

cohort_expr cohort_expr_with_ahead(cohort_builder *builder, cohort_expr expr,
                                   uint8_t mark, cohort_expr ahead, bool is_negative) {
    /* What must not come behind the mark. */
    if (!is_negative)
        ahead = cohort_expr_without(builder, any_bytes(builder, COHORT_MARK_BOUNDARY - 1),
                                    ahead);
    cohort_expr wrong =
        cohort_expr_concat(builder, cohort_expr_range(builder, mark, mark),
                           cohort_expr_with_marks(builder, ahead));
    wrong = cohort_expr_concat(builder, any_bytes(builder, COHORT_MARK_LAST), wrong);
    return cohort_expr_without(builder, expr, wrong);
}

bool cohort_expr_is_never(cohort_builder *builder, cohort_expr expr) {
    cohort_automaton automaton;
    bool accepts = false;
    expr_automaton(builder, expr, &automaton);
    if (builder->status < 0) return true;
    for (uint32_t i = 0; i < automaton.n_states; i++)
        accepts |= automaton.accepts[i];
    drop(builder, &automaton);
    return !accepts;
}

/* ---- lengths ----------------------------------------------------------------------- */

/* Of the longest text, in bytes; COHORT_UNBOUNDED, too, where a state can come again. */
static int64_t longest_text(cohort_builder *builder, const cohort_automaton *automaton) {
    size_t n = automaton->n_states, n_cells = n * automaton->n_classes, n_done = 0;
    int64_t longest = 0;
    /* Edges into each that are left, its longest way, and those that have none left. */
    uint32_t *n_left = calloc(n * 3, sizeof *n_left);
    if (!n_left) COHORT_BUILDER_FAIL(builder, COHORT_E_NOMEM, "%zu states", n);
    cohort_builder_work(builder, n_cells);
    if (builder->status < 0) {
        free(n_left);
        return COHORT_UNBOUNDED;
    }
    uint32_t *way = n_left + n, *done = way + n;
    for (size_t i = 0; i < n_cells; i++)
        if (automaton->next[i] >= 0) n_left[automaton->next[i]]++;
    if (!n_left[0]) done[n_done++] = 0; /* the others are reached from there */
    for (size_t d = 0; d < n_done; d++) {
        const int32_t *row = automaton->next + (size_t)done[d] * automaton->n_classes;
        if (automaton->accepts[done[d]] && way[done[d]] > longest) longest = way[done[d]];
        for (uint32_t c = 0; c < automaton->n_classes; c++) {
            if (row[c] < 0) continue;
            if (way[row[c]] <= way[done[d]]) way[row[c]] = way[done[d]] + 1;
            if (--n_left[row[c]] == 0) done[n_done++] = (uint32_t)row[c];
        }
    }
    free(n_left);
    return n_done == n ? longest : COHORT_UNBOUNDED;
}

cohort_expr cohort_expr_bounded(cohort_builder *builder, cohort_expr expr,
                                cohort_expr unit, int32_t least, int32_t most) {
    cohort_automaton automaton;
    expr_automaton(builder, expr, &automaton);
    if (builder->status < 0) return COHORT_EXPR_NEVER;
    int64_t longest = most == COHORT_UNBOUNDED ? most : longest_text(builder, &automaton);
    if (longest != COHORT_UNBOUNDED && longest <= most) most = COHORT_UNBOUNDED;
    if (least == 1 && !automaton.accepts[0]) least = 0;
    if (least > 0 || most != COHORT_UNBOUNDED)
        return product(builder, &automaton,
                       cohort_expr_repeat(builder, unit, least, most), true);
    drop(builder, &automaton);
    return expr;
}
