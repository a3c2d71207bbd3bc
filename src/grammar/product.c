/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "base/fail.h"
#include "grammar/grammar_internal.h"

/* Two automata side by side: what both accept, or what the first does and the second does
 * not.  Pairs of states are numbered as they are met; the second of a pair is one too
 * many where it has stopped. */

struct pairs {
    struct pair {
        uint32_t a, b;
    } * items;
    size_t count, capacity;
    uint32_t *numbers; /* by a * (n_b + 1) + b: number + 1 */
};

static void expr_automaton(cohort_builder *builder, cohort_expr expr,
                           cohort_automaton *out) {
    cohort_nfa nfa = {0};
    uint32_t start = cohort_nfa_state(builder, &nfa);
    uint32_t end = cohort_nfa_state(builder, &nfa);
    cohort_nfa_add(builder, &nfa, expr, start, end);
    cohort_automaton_make(builder, &nfa, start, end, out);
    cohort_nfa_deinit(&nfa);
}

static int32_t number_of(cohort_builder *builder, struct pairs *pairs, size_t width,
                         uint32_t a, uint32_t b) {
    uint32_t *number = &pairs->numbers[(size_t)a * width + b];
    if (*number) return (int32_t)*number - 1;
    if (pairs->count == pairs->capacity) {
        size_t capacity = pairs->capacity ? pairs->capacity * 2 : 64;
        struct pair *larger = realloc(pairs->items, capacity * sizeof *larger);
        if (!larger) {
            COHORT_BUILDER_FAIL(builder, COHORT_E_NOMEM, "%zu states", capacity);
            return -1;
        }
        pairs->items = larger;
        pairs->capacity = capacity;
    }
    pairs->items[pairs->count++] = (struct pair){a, b};
    *number = (uint32_t)pairs->count;
    return (int32_t)*number - 1;
}

static void add_pair_edges(cohort_builder *builder, const cohort_automaton *a,
                           const cohort_automaton *b, bool wants_b, struct pairs *pairs,
                           size_t index, int32_t *row) {
    const struct pair pair = pairs->items[index];
    for (unsigned byte = 0; byte < 256 && builder->status >= 0; byte++) {
        int32_t next_a = a->next[(size_t)pair.a * a->n_classes + a->classes[byte]];
        int32_t next_b = pair.b == b->n_states
                             ? -1
                             : b->next[(size_t)pair.b * b->n_classes + b->classes[byte]];
        row[byte] = -1;
        if (next_a < 0 || (wants_b && next_b < 0)) continue;
        row[byte] = number_of(builder, pairs, (size_t)b->n_states + 1, (uint32_t)next_a,
                              next_b < 0 ? b->n_states : (uint32_t)next_b);
    }
}

static void make_product(cohort_builder *builder, const cohort_automaton *a,
                         const cohort_automaton *b, bool wants_b, struct pairs *pairs,
                         cohort_automaton *out) {
    size_t capacity = 0;
    for (unsigned byte = 0; byte < 256; byte++)
        out->classes[byte] = (uint8_t)byte;
    out->n_classes = 256;
    number_of(builder, pairs, (size_t)b->n_states + 1, 0, 0);
    for (size_t i = 0; i < pairs->count && builder->status >= 0; i++) {
        if (i >= COHORT_GRAMMAR_MAX_STATES / 10) {
            COHORT_BUILDER_FAIL(builder, COHORT_E_INVALID,
                                "the grammar is too complex: a pattern and the bounds "
                                "beside it need more than %d states",
                                COHORT_GRAMMAR_MAX_STATES / 10);
            return;
        }
        if (i >= capacity) {
            capacity = capacity ? capacity * 2 : 64;
            int32_t *next = realloc(out->next, capacity * 256 * sizeof *next);
            if (next) out->next = next;
            uint8_t *accepts = realloc(out->accepts, capacity);
            if (accepts) out->accepts = accepts;
            if (!next || !accepts) {
                COHORT_BUILDER_FAIL(builder, COHORT_E_NOMEM, "%zu states", capacity);
                return;
            }
        }
        add_pair_edges(builder, a, b, wants_b, pairs, i, out->next + i * 256);
        bool in_b = pairs->items[i].b < b->n_states && b->accepts[pairs->items[i].b];
        out->accepts[i] = a->accepts[pairs->items[i].a] && in_b == wants_b;
        out->n_states = (uint32_t)i + 1;
    }
}

static cohort_expr product(cohort_builder *builder, cohort_expr a, cohort_expr b,
                           bool wants_b) {
    cohort_automaton left = {0}, right = {0}, out = {0};
    struct pairs pairs = {0};
    expr_automaton(builder, a, &left);
    expr_automaton(builder, b, &right);
    if (builder->status >= 0) {
        size_t n_pairs = (size_t)left.n_states * ((size_t)right.n_states + 1);
        if (n_pairs > COHORT_GRAMMAR_MAX_CELLS)
            COHORT_BUILDER_FAIL(builder, COHORT_E_INVALID,
                                "the grammar is too complex: two patterns of %u and %u "
                                "states for one text",
                                left.n_states, right.n_states);
        else if (!(pairs.numbers = calloc(n_pairs, sizeof *pairs.numbers)))
            COHORT_BUILDER_FAIL(builder, COHORT_E_NOMEM, "%zu states", n_pairs);
    }
    if (builder->status >= 0) make_product(builder, &left, &right, wants_b, &pairs, &out);
    free(pairs.items);
    free(pairs.numbers);
    cohort_automaton_deinit(&left);
    cohort_automaton_deinit(&right);
    return cohort_expr_automaton(builder, &out);
}

cohort_expr cohort_expr_both(cohort_builder *builder, cohort_expr a, cohort_expr b) {
    return product(builder, a, b, true);
}

cohort_expr cohort_expr_without(cohort_builder *builder, cohort_expr a, cohort_expr b) {
    return product(builder, a, b, false);
}
