/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "grammar/grammar_internal.h"

/* Design notes.
 *
 * What every JSON text is made of.  Strings, white space, objects and arrays are rules,
 * one for all places that use them: their masks, the dear ones, are computed once.
 * Numbers and words are written where they stand.
 *
 * White space is at most a line break and an indent, only where writers put some: a model
 * that likes spaces cannot go on with them for ever. */

enum { MAX_INDENT = 32 };

static cohort_expr word(cohort_builder *builder, const char *text) {
    return cohort_expr_literal(builder, text, strlen(text));
}

static cohort_expr set_of(cohort_builder *builder, const char *bytes) {
    cohort_byte_set set = {{0}};
    for (; *bytes; bytes++)
        set.bits[(uint8_t)*bytes / 64] |= UINT64_C(1) << (uint8_t)*bytes % 64;
    return cohort_expr_bytes(builder, &set);
}

static cohort_expr hex(cohort_builder *builder, int32_t count) {
    return cohort_expr_repeat(builder, set_of(builder, "0123456789abcdefABCDEF"), count,
                              count);
}

cohort_expr cohort_grammar_json_white_space(cohort_builder *builder) {
    if (builder->white_space == UINT32_MAX) {
        uint32_t rule = builder->white_space = cohort_rule_reserve(builder);
        cohort_expr line = cohort_expr_repeat(builder, word(builder, "\n"), 0, 1);
        cohort_expr indent =
            cohort_expr_repeat(builder, set_of(builder, " \t"), 0, MAX_INDENT);
        cohort_rule_make_expr(builder, rule, cohort_expr_concat(builder, line, indent));
    }
    return cohort_expr_call(builder, builder->white_space);
}

/* ---- strings ----------------------------------------------------------------------- */

/* \uXXXX: any but half of a pair, or a pair. */
static cohort_expr escaped_code(cohort_builder *builder) {
    cohort_expr plain = cohort_expr_either(
        builder,
        cohort_expr_concat(builder, set_of(builder, "0123456789abcefABCEF"),
                           hex(builder, 3)),
        cohort_expr_concat(
            builder, set_of(builder, "dD"),
            cohort_expr_concat(builder, set_of(builder, "01234567"), hex(builder, 2))));
    cohort_expr low = cohort_expr_concat(
        builder, word(builder, "\\u"),
        cohort_expr_concat(
            builder, set_of(builder, "dD"),
            cohort_expr_concat(builder, set_of(builder, "cdefCDEF"), hex(builder, 2))));
    cohort_expr high = cohort_expr_concat(
        builder, set_of(builder, "dD"),
        cohort_expr_concat(builder, set_of(builder, "89abAB"), hex(builder, 2)));
    return cohort_expr_concat(
        builder, word(builder, "u"),
        cohort_expr_either(builder, plain, cohort_expr_concat(builder, high, low)));
}

cohort_expr cohort_grammar_json_character(cohort_builder *builder) {
    cohort_code_set plain = {0};
    cohort_code_set_add(builder, &plain, 0x20, 0x21);
    cohort_code_set_add(builder, &plain, 0x23, 0x5b);
    cohort_code_set_add(builder, &plain, 0x5d, 0x10ffff);
    cohort_expr raw = cohort_expr_codes(builder, &plain, false);
    cohort_code_set_deinit(&plain);
    cohort_expr escape =
        cohort_expr_concat(builder, word(builder, "\\"),
                           cohort_expr_either(builder, set_of(builder, "\"\\/bfnrt"),
                                              escaped_code(builder)));
    return cohort_expr_either(builder, raw, escape);
}

cohort_expr cohort_grammar_json_string(cohort_builder *builder, int32_t least,
                                       int32_t most) {
    if (most != COHORT_UNBOUNDED && most < least) return COHORT_EXPR_NEVER;
    for (size_t i = 0; i < builder->n_rules; i++) {
        const cohort_rule *rule = &builder->rules[i];
        if (rule->is_made && rule->loop_state >= 0 && rule->least == least &&
            rule->most == most)
            return cohort_expr_call(builder, (uint32_t)i);
    }
    /* By hand, so that the state after the first quote is the one after a character. */
    uint32_t index = cohort_rule_reserve(builder);
    cohort_nfa nfa = {0};
    uint32_t start = cohort_nfa_state(builder, &nfa);
    uint32_t loop = cohort_nfa_state(builder, &nfa);
    uint32_t end = cohort_nfa_state(builder, &nfa);
    cohort_nfa_add(builder, &nfa, word(builder, "\""), start, loop);
    cohort_nfa_add(builder, &nfa, cohort_grammar_json_character(builder), loop, loop);
    cohort_nfa_add(builder, &nfa, word(builder, "\""), loop, end);
    cohort_rule_make(builder, index, &nfa, start, end);
    if (builder->status < 0) return COHORT_EXPR_NEVER;
    cohort_rule *rule = &builder->rules[index];
    rule->loop_state = rule->automaton.next[rule->automaton.classes['"']];
    rule->least = least;
    rule->most = most;
    return cohort_expr_call(builder, index);
}

cohort_expr cohort_grammar_json_quoted(cohort_builder *builder, const char *text,
                                       size_t size) {
    cohort_expr expr = word(builder, "\"");
    for (size_t i = size; i-- > 0;)
        expr = cohort_expr_concat(builder, cohort_grammar_json_escaped(builder, text[i]),
                                  expr);
    return cohort_expr_concat(builder, word(builder, "\""), expr);
}

/* ---- values ------------------------------------------------------------------------ */

cohort_expr cohort_grammar_json_any_number(cohort_builder *builder) {
    cohort_expr digit = cohort_expr_range(builder, '0', '9');
    cohort_expr whole = cohort_expr_either(
        builder, word(builder, "0"),
        cohort_expr_concat(builder, cohort_expr_range(builder, '1', '9'),
                           cohort_expr_repeat(builder, digit, 0, COHORT_UNBOUNDED)));
    cohort_expr fraction =
        cohort_expr_concat(builder, word(builder, "."),
                           cohort_expr_repeat(builder, digit, 1, COHORT_UNBOUNDED));
    cohort_expr exponent = cohort_expr_concat(
        builder, set_of(builder, "eE"),
        cohort_expr_concat(builder,
                           cohort_expr_repeat(builder, set_of(builder, "+-"), 0, 1),
                           cohort_expr_repeat(builder, digit, 1, COHORT_UNBOUNDED)));
    cohort_expr number = cohort_expr_concat(
        builder, whole,
        cohort_expr_concat(builder, cohort_expr_repeat(builder, fraction, 0, 1),
                           cohort_expr_repeat(builder, exponent, 0, 1)));
    return cohort_expr_concat(
        builder, cohort_expr_repeat(builder, word(builder, "-"), 0, 1), number);
}

cohort_expr cohort_grammar_json_any(cohort_builder *builder) {
    cohort_expr expr =
        cohort_expr_either(builder, cohort_grammar_json_any_object(builder),
                           cohort_grammar_json_any_array(builder));
    expr = cohort_expr_either(
        builder, cohort_grammar_json_string(builder, 0, COHORT_UNBOUNDED), expr);
    expr = cohort_expr_either(builder, cohort_grammar_json_any_number(builder), expr);
    expr = cohort_expr_either(builder, word(builder, "true"), expr);
    expr = cohort_expr_either(builder, word(builder, "false"), expr);
    return cohort_expr_either(builder, word(builder, "null"), expr);
}

/* begin (item (, item)*)? end */
static cohort_expr sequence_of(cohort_builder *builder, const char *begin,
                               cohort_expr item, const char *end) {
    cohort_expr space = cohort_grammar_json_white_space(builder);
    cohort_expr more = cohort_expr_concat(builder, word(builder, ","),
                                          cohort_expr_concat(builder, space, item));
    cohort_expr items = cohort_expr_concat(
        builder, item,
        cohort_expr_concat(
            builder, cohort_expr_repeat(builder, more, 0, COHORT_UNBOUNDED), space));
    cohort_expr inside =
        cohort_expr_concat(builder, space, cohort_expr_repeat(builder, items, 0, 1));
    return cohort_expr_concat(builder, word(builder, begin),
                              cohort_expr_concat(builder, inside, word(builder, end)));
}

cohort_expr cohort_grammar_json_any_object(cohort_builder *builder) {
    if (builder->any_object == UINT32_MAX && builder->status >= 0) {
        uint32_t rule = builder->any_object = cohort_rule_reserve(builder);
        cohort_expr colon = cohort_expr_concat(builder, word(builder, ":"),
                                               cohort_grammar_json_white_space(builder));
        cohort_expr member = cohort_expr_concat(
            builder, cohort_grammar_json_string(builder, 0, COHORT_UNBOUNDED),
            cohort_expr_concat(builder, colon, cohort_grammar_json_any(builder)));
        cohort_rule_make_expr(builder, rule, sequence_of(builder, "{", member, "}"));
    }
    return cohort_expr_call(builder, builder->any_object);
}

cohort_expr cohort_grammar_json_any_array(cohort_builder *builder) {
    if (builder->any_array == UINT32_MAX && builder->status >= 0) {
        uint32_t rule = builder->any_array = cohort_rule_reserve(builder);
        cohort_rule_make_expr(
            builder, rule,
            sequence_of(builder, "[", cohort_grammar_json_any(builder), "]"));
    }
    return cohort_expr_call(builder, builder->any_array);
}
