/* SPDX-License-Identifier: Apache-2.0 */

#include <stdlib.h>

#include "base/grow.h"
#include "grammar/grammar_internal.h"

uint32_t cohort_rule_reserve(cohort_builder *builder) {
    if (builder->n_rules >= COHORT_GRAMMAR_MAX_RULES)
        COHORT_BUILDER_FAIL(builder, COHORT_E_INVALID,
                            "the grammar is too large: more than %d rules",
                            COHORT_GRAMMAR_MAX_RULES);
    if (builder->status < 0) return 0;
    cohort_rule *larger = cohort_grow(builder->rules, builder->n_rules + 1,
                                      &builder->rules_capacity, sizeof *larger);
    if (!larger) {
        COHORT_BUILDER_FAIL(builder, COHORT_E_NOMEM, "%zu rules", builder->n_rules + 1);
        return 0;
    }
    builder->rules = larger;
    builder->rules[builder->n_rules] =
        (cohort_rule){.loop_state = -1, .least = 0, .most = COHORT_UNBOUNDED};
    return (uint32_t)builder->n_rules++;
}

void cohort_rule_make(cohort_builder *builder, uint32_t rule, cohort_nfa *nfa,
                      uint32_t start, uint32_t end) {
    cohort_automaton automaton;
    cohort_automaton_make(builder, nfa, start, end, &automaton);
    cohort_nfa_deinit(nfa);
    if (builder->status < 0) return;
    builder->rules[rule].automaton = automaton;
    builder->rules[rule].is_made = true;
}

void cohort_rule_make_expr(cohort_builder *builder, uint32_t rule, cohort_expr expr) {
    cohort_nfa nfa = {0};
    uint32_t start = cohort_nfa_state(builder, &nfa);
    uint32_t end = cohort_nfa_state(builder, &nfa);
    cohort_nfa_add(builder, &nfa, expr, start, end);
    cohort_rule_make(builder, rule, &nfa, start, end);
}

/* ---- what can be finished ---------------------------------------------------------- */

/* Level by level: what ends without a call is of height 0, what needs no call of a rule
 * that is higher than n is of n + 1.  A level takes only those states further that have
 * no height yet, and there are not more levels than values can be nested. */

/* Does a state end at this level, by what is known of those behind it? */
static bool ends_at(const cohort_rule *rules, const cohort_rule *rule, uint32_t state,
                    uint32_t level) {
    const cohort_automaton *automaton = &rule->automaton;
    const int32_t *row = automaton->next + (size_t)state * automaton->n_classes;
    if (automaton->accepts[state]) return true;
    for (uint32_t c = 0; c < automaton->n_classes; c++)
        if (row[c] >= 0 && rule->heights[row[c]] != COHORT_NO_HEIGHT) return true;
    for (uint32_t i = automaton->first_call[state]; i < automaton->first_call[state + 1];
         i++) {
        const cohort_rule_call *call = &automaton->calls[i];
        if (rules[call->rule].heights[0] < level &&
            rule->heights[call->next] != COHORT_NO_HEIGHT)
            return true;
    }
    return false;
}

static void find_ends_of_rule(cohort_builder *builder, const cohort_rule *rule,
                              uint32_t level) {
    const cohort_automaton *automaton = &rule->automaton;
    bool changed = true;
    while (changed && builder->status >= 0) {
        changed = false;
        /* States are numbered from the start on: from behind most are done at once. */
        for (uint32_t state = automaton->n_states; state-- > 0;) {
            if (rule->heights[state] != COHORT_NO_HEIGHT) continue;
            cohort_builder_work(builder, automaton->n_classes / 4 + 1 +
                                             automaton->first_call[state + 1] -
                                             automaton->first_call[state]);
            if (!ends_at(builder->rules, rule, state, level)) continue;
            rule->heights[state] = (uint16_t)level;
            changed = true;
        }
    }
}

/* Does it call a rule that was found to end at the level before? */
static bool calls_what_is_new(cohort_builder *builder, const cohort_rule *rule,
                              uint32_t level) {
    const cohort_automaton *automaton = &rule->automaton;
    uint32_t n_calls = automaton->first_call[automaton->n_states];
    cohort_builder_work(builder, n_calls / 4 + 1);
    for (uint32_t i = 0; i < n_calls; i++)
        if (builder->rules[automaton->calls[i].rule].heights[0] + 1u == level)
            return true;
    return false;
}

static void find_heights(cohort_builder *builder) {
    bool is_new = true;
    for (uint32_t level = 0; is_new && level <= COHORT_GRAMMAR_MAX_DEPTH; level++) {
        is_new = false;
        for (size_t r = 0; r < builder->n_rules && builder->status >= 0; r++) {
            const cohort_rule *rule = &builder->rules[r];
            if (level && !calls_what_is_new(builder, rule, level)) continue;
            find_ends_of_rule(builder, rule, level);
            is_new |= rule->heights[0] == level;
        }
    }
}

/* Edges into what has no end lead nowhere. */
static void cut_dead_edges(const cohort_rule *rules, const cohort_rule *rule) {
    const cohort_automaton *automaton = &rule->automaton;
    size_t n_cells = (size_t)automaton->n_states * automaton->n_classes;
    for (size_t i = 0; i < n_cells; i++)
        if (automaton->next[i] >= 0 &&
            rule->heights[automaton->next[i]] == COHORT_NO_HEIGHT)
            automaton->next[i] = -1;
    uint32_t kept = 0;
    for (uint32_t state = 0, begin = 0; state < automaton->n_states; state++) {
        uint32_t end = automaton->first_call[state + 1];
        for (uint32_t i = begin; i < end; i++) {
            const cohort_rule_call call = automaton->calls[i];
            if (rules[call.rule].heights[0] != COHORT_NO_HEIGHT &&
                rule->heights[call.next] != COHORT_NO_HEIGHT)
                automaton->calls[kept++] = call;
        }
        begin = end;
        automaton->first_call[state + 1] = kept;
    }
}

/* ---- what begins at one place ------------------------------------------------------ */

enum { UNSEEN, OPEN, DONE };

/* A state and all that is entered by its calls; widths: of the starts of rules. */
static uint32_t width_of(const cohort_automaton *automaton, uint32_t state,
                         const uint32_t *widths) {
    uint32_t width = 1;
    for (uint32_t i = automaton->first_call[state]; i < automaton->first_call[state + 1];
         i++)
        if ((width += widths[automaton->calls[i].rule]) > COHORT_GRAMMAR_MAX_ALTERNATIVES)
            return COHORT_GRAMMAR_MAX_ALTERNATIVES + 1;
    return width;
}

/* Depth first over the calls at the rules' starts, with a stack of our own: the chain is
 * as long as strangers make it.  Finds the starts' widths where no rule does. */
static bool begins_with_itself(const cohort_rule *rules, size_t n_rules, uint8_t *marks,
                               uint32_t *stack, uint32_t *next_call, uint32_t *widths) {
    for (size_t root = 0; root < n_rules; root++) {
        size_t depth = 0;
        if (marks[root] != UNSEEN) continue;
        stack[depth++] = (uint32_t)root;
        marks[root] = OPEN;
        next_call[root] = 0;
        while (depth > 0) {
            uint32_t rule = stack[depth - 1];
            const cohort_automaton *automaton = &rules[rule].automaton;
            if (next_call[rule] == automaton->first_call[1]) {
                marks[rule] = DONE;
                widths[rule] = width_of(automaton, 0, widths);
                depth--;
                continue;
            }
            uint32_t callee = automaton->calls[next_call[rule]++].rule;
            if (marks[callee] == OPEN) return true;
            if (marks[callee] == DONE) continue;
            marks[callee] = OPEN;
            next_call[callee] = 0;
            stack[depth++] = callee;
        }
    }
    return false;
}

/* The readings of a text that a matcher can hold have a limit. */
static void check_widths(cohort_builder *builder, const uint32_t *widths) {
    for (size_t r = 0; r < builder->n_rules; r++) {
        const cohort_automaton *automaton = &builder->rules[r].automaton;
        for (uint32_t state = 0; state < automaton->n_states; state++)
            if (width_of(automaton, state, widths) > COHORT_GRAMMAR_MAX_ALTERNATIVES)
                COHORT_BUILDER_FAIL(builder, COHORT_E_INVALID,
                                    "the grammar is too complex: more than %d objects, "
                                    "arrays, strings and references may begin at one "
                                    "place; make anyOf and oneOf smaller",
                                    COHORT_GRAMMAR_MAX_ALTERNATIVES - 1);
    }
}

void cohort_rules_check_starts(cohort_builder *builder) {
    size_t n = builder->n_rules;
    uint8_t *marks = calloc(n, 1);
    uint32_t *stack = calloc(n * 3, sizeof *stack);
    if (!marks || !stack)
        COHORT_BUILDER_FAIL(builder, COHORT_E_NOMEM, "%zu rules", n);
    else if (begins_with_itself(builder->rules, n, marks, stack, stack + n,
                                stack + 2 * n))
        COHORT_BUILDER_FAIL(builder, COHORT_E_INVALID,
                            "a $ref refers to itself without an object or array between");
    else
        check_widths(builder, stack + 2 * n);
    free(marks);
    free(stack);
}

void cohort_rules_find_ends(cohort_builder *builder) {
    for (size_t r = 0; r < builder->n_rules; r++) {
        cohort_rule *rule = &builder->rules[r];
        size_t n = rule->automaton.n_states;
        rule->heights = malloc(n * sizeof *rule->heights);
        if (!rule->heights) {
            COHORT_BUILDER_FAIL(builder, COHORT_E_NOMEM, "%zu states", n);
            return;
        }
        for (size_t i = 0; i < n; i++)
            rule->heights[i] = COHORT_NO_HEIGHT;
    }
    find_heights(builder);
    if (builder->status < 0) return;
    if (builder->rules[0].heights[0] > COHORT_GRAMMAR_MAX_DEPTH) {
        COHORT_BUILDER_FAIL(
            builder, COHORT_E_INVALID,
            "nothing matches: what it requires cannot be, or nests deeper "
            "than %d values",
            COHORT_GRAMMAR_MAX_DEPTH);
        return;
    }
    for (size_t r = 0; r < builder->n_rules; r++)
        cut_dead_edges(builder->rules, &builder->rules[r]);
}
