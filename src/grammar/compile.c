/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "grammar/grammar_internal.h"

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
    if (builder->status >= 0) cohort_rules_check_starts(builder);
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
