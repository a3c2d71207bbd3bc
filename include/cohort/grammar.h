/* SPDX-License-Identifier: Apache-2.0 */
/* cohort/grammar.h - what the text of a request must match.
 *
 * Compiled once, given to any number of requests (cohort/engine.h): the tokens that could
 * not go on to a match are masked before one is sampled.
 *
 * Ownership: counted; compile returns one reference, which release gives back.
 * Threads:   any.
 * Errors:    COHORT_E_INVALID says which part of the text is not supported or wrong.
 */
#ifndef COHORT_GRAMMAR_H
#define COHORT_GRAMMAR_H

#include <stddef.h>

#include "cohort/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cohort_grammar cohort_grammar;

typedef enum cohort_grammar_kind {
    COHORT_GRAMMAR_JSON_OBJECT, /* any; no text */
    COHORT_GRAMMAR_JSON_SCHEMA, /* text: the schema */
    COHORT_GRAMMAR_REGEX,       /* text: the pattern, which all of the output matches */
    COHORT_GRAMMAR_CHOICE,      /* text: a JSON list of strings */
    /* One call of a tool, or more, as Hermes and Qwen write them: <tool_call>
     * {"name": ..., "arguments": ...}
     * </tool_call>.  text: {"tools": [{"name": ..., "parameters": a schema or null},
     * ...], "parallel": may there be more than one?} */
    COHORT_GRAMMAR_TOOL_CALLS,
    /* Rules, from root on, as GBNF and xgrammar write them: name ::= "text" | [a-z]+ (a |
     * b){2,3} .  Direct left recursion is rewritten, other is refused. */
    COHORT_GRAMMAR_EBNF,
    /* Rules and terminals as Lark and llguidance write them, from start on: rule:
     * TERMINAL "text"i /regex/ (a | b)~2..3.  Terminals may overlap: every reading is
     * taken.  A rule's attributes capture and temperature say nothing here; max_tokens
     * ends a text whose only rule has it. */
    COHORT_GRAMMAR_LARK,
    /* Text that is free up to a trigger, and then a tag.  text: xgrammar's JSON, as
     * {"structures": [{"begin", "schema", "end"}], "triggers"} or {"format": ...} */
    COHORT_GRAMMAR_STRUCTURAL_TAG,
} cohort_grammar_kind;

enum { COHORT_GRAMMAR_MAX_TEXT_BYTES = 1 << 20 };

COHORT_API cohort_status cohort_grammar_compile(cohort_grammar_kind kind,
                                                const char *text, size_t text_bytes,
                                                cohort_grammar **out_grammar);
COHORT_API cohort_grammar *cohort_grammar_acquire(cohort_grammar *grammar);
/* Accepts NULL. */
COHORT_API void cohort_grammar_release(cohort_grammar *grammar);

#ifdef __cplusplus
}
#endif

#endif /* COHORT_GRAMMAR_H */
