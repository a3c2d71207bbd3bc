/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "grammar/grammar_internal.h"

uint32_t cohort_rule_reserve(cohort_builder *builder) {
    if (builder->n_rules >= COHORT_GRAMMAR_MAX_RULES)
        COHORT_BUILDER_FAIL(builder, COHORT_E_INVALID,
                            "the grammar is too large: more than %d rules",
                            COHORT_GRAMMAR_MAX_RULES);
    if (builder->status < 0) return 0;
    if (builder->n_rules == builder->rules_capacity) {
        size_t capacity = builder->rules_capacity ? builder->rules_capacity * 2 : 16;
        cohort_rule *larger = realloc(builder->rules, capacity * sizeof *larger);
        if (!larger) {
            COHORT_BUILDER_FAIL(builder, COHORT_E_NOMEM, "%zu rules", capacity);
            return 0;
        }
        builder->rules = larger;
        builder->rules_capacity = capacity;
    }
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

static void check_starts(cohort_builder *builder) {
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

/* ---- the grammar ------------------------------------------------------------------- */

static atomic_size_t held_bytes;

void cohort_grammar_hold(int64_t bytes) {
    atomic_fetch_add_explicit(&held_bytes, (size_t)bytes, memory_order_relaxed);
}

size_t cohort_grammar_held_bytes(void) {
    return atomic_load_explicit(&held_bytes, memory_order_relaxed);
}

size_t cohort_grammar_bytes(const cohort_grammar *grammar) {
    return grammar->table_bytes +
           atomic_load_explicit(&grammar->mask_bytes, memory_order_relaxed);
}

int32_t cohort_grammar_max_tokens(const cohort_grammar *grammar) {
    return grammar->max_tokens;
}

static size_t table_bytes(const cohort_grammar *grammar) {
    size_t bytes = sizeof *grammar + grammar->n_rules * sizeof *grammar->rules;
    for (size_t r = 0; r < grammar->n_rules; r++) {
        const cohort_rule *rule = &grammar->rules[r];
        const cohort_automaton *automaton = &rule->automaton;
        size_t n = automaton->n_states;
        bytes += n * automaton->n_classes * sizeof *automaton->next +
                 n * sizeof *automaton->accepts + n * sizeof *rule->heights +
                 (n + 1) * sizeof *automaton->first_call;
        if (automaton->first_call)
            bytes += automaton->first_call[n] * sizeof *automaton->calls;
    }
    return bytes;
}

static cohort_status finish(cohort_builder *builder, cohort_grammar **out_grammar) {
    cohort_grammar *grammar = NULL;
    for (size_t r = 0; r < builder->n_rules; r++)
        if (!builder->rules[r].is_made)
            COHORT_BUILDER_FAIL(builder, COHORT_E_INVALID, "rule %zu was not made", r);
    if (builder->status >= 0) check_starts(builder);
    if (builder->status >= 0) cohort_rules_find_ends(builder);
    if (builder->status >= 0 && !(grammar = calloc(1, sizeof *grammar)))
        COHORT_BUILDER_FAIL(builder, COHORT_E_NOMEM, "a grammar");
    if (grammar) {
        atomic_init(&grammar->references, 1);
        grammar->rules = builder->rules;
        grammar->n_rules = builder->n_rules;
        grammar->max_tokens = builder->max_tokens;
        builder->rules = NULL;
        builder->n_rules = 0;
        grammar->table_bytes = table_bytes(grammar);
        cohort_grammar_hold((int64_t)grammar->table_bytes);
    }
    cohort_status status = builder->status;
    cohort_builder_deinit(builder);
    *out_grammar = grammar;
    return status;
}

static void compile_choice(cohort_builder *builder, const char *text, size_t size) {
    uint32_t rule = cohort_rule_reserve(builder);
    cJSON *list = cohort_schema_parse(builder, "choice", text, size);
    if (!list) return;
    cohort_expr expr = COHORT_EXPR_NEVER;
    const cJSON *item;
    if (!cJSON_IsArray(list) || !list->child)
        COHORT_BUILDER_FAIL(builder, COHORT_E_INVALID,
                            "choice must be a list of at least one string");
    cJSON_ArrayForEach(item, list) {
        const char *choice = cJSON_GetStringValue(item);
        if (!choice || !*choice) {
            COHORT_BUILDER_FAIL(builder, COHORT_E_INVALID,
                                "choice must be a list of strings that are not empty");
            break;
        }
        expr = cohort_expr_either(
            builder, cohort_expr_literal(builder, choice, strlen(choice)), expr);
    }
    cJSON_Delete(list);
    cohort_rule_make_expr(builder, rule, expr);
}

cohort_status cohort_grammar_compile(cohort_grammar_kind kind, const char *text,
                                     size_t text_bytes, cohort_grammar **out_grammar) {
    cohort_builder builder;
    const cohort_regex_options options = {.name = "regex"};
    *out_grammar = NULL;
    if (text_bytes > COHORT_GRAMMAR_MAX_TEXT_BYTES)
        return COHORT_FAIL(COHORT_E_INVALID, "a grammar of %zu bytes; at most %d can be",
                           text_bytes, COHORT_GRAMMAR_MAX_TEXT_BYTES);
    if (cohort_grammar_held_bytes() >= COHORT_GRAMMAR_MAX_HELD_BYTES)
        return COHORT_FAIL(COHORT_E_NOMEM,
                           "the grammars of requests hold %zu bytes, %d can be; try "
                           "again when some have ended",
                           cohort_grammar_held_bytes(), COHORT_GRAMMAR_MAX_HELD_BYTES);
    cohort_builder_init(&builder);
    switch (kind) {
    case COHORT_GRAMMAR_JSON_OBJECT:
        cohort_schema_compile(&builder, "{\"type\":\"object\"}", 17);
        break;
    case COHORT_GRAMMAR_JSON_SCHEMA:
        cohort_schema_compile(&builder, text, text_bytes);
        break;
    case COHORT_GRAMMAR_REGEX: {
        uint32_t rule = cohort_rule_reserve(&builder);
        cohort_rule_make_expr(&builder, rule,
                              cohort_regex_parse(&builder, text, text_bytes, &options));
        break;
    }
    case COHORT_GRAMMAR_CHOICE: compile_choice(&builder, text, text_bytes); break;
    case COHORT_GRAMMAR_TOOL_CALLS:
        cohort_tool_calls_compile(&builder, text, text_bytes);
        break;
    case COHORT_GRAMMAR_EBNF: cohort_ebnf_compile(&builder, text, text_bytes); break;
    case COHORT_GRAMMAR_LARK: cohort_lark_compile(&builder, text, text_bytes); break;
    case COHORT_GRAMMAR_STRUCTURAL_TAG:
        cohort_structural_tag_compile(&builder, text, text_bytes);
        break;
    default:
        COHORT_BUILDER_FAIL(&builder, COHORT_E_INVALID, "no kind of grammar is %d",
                            (int)kind);
    }
    return finish(&builder, out_grammar);
}

cohort_grammar *cohort_grammar_acquire(cohort_grammar *grammar) {
    atomic_fetch_add_explicit(&grammar->references, 1, memory_order_relaxed);
    return grammar;
}

void cohort_grammar_release(cohort_grammar *grammar) {
    /* Acquires what every other holder did before its release. */
    if (!grammar ||
        atomic_fetch_sub_explicit(&grammar->references, 1, memory_order_acq_rel) > 1)
        return;
    cohort_grammar_forget_masks(grammar);
    cohort_grammar_hold(-(int64_t)grammar->table_bytes);
    for (size_t r = 0; r < grammar->n_rules; r++) {
        cohort_automaton_deinit(&grammar->rules[r].automaton);
        free(grammar->rules[r].heights);
    }
    free(grammar->rules);
    free(grammar);
}
