/* SPDX-License-Identifier: Apache-2.0 */
/* grammar/grammar.h - output that must match: a JSON schema, a regex, a list of choices,
 * rules in GBNF or Lark's notation, tags in free text.
 *
 *   text --compile--> grammar            (immutable; any number of requests share it)
 *   tokenizer ------> vocabulary         (once; a trie of what every token writes)
 *   grammar + vocabulary --> matcher     (one per sequence: mask, accept, mask, ...)
 *
 * A grammar is a set of rules, each an automaton over bytes that may call others, so that
 * a stack of rules says how deep in the JSON we are.  What it lets through is always part
 * of a text that can still be finished: a mask of a vocabulary that has every byte is
 * never empty.  What a schema leaves open is narrowed rather than widened (members in the
 * order of `properties`, no members that are not named, short runs of white space): what
 * comes out validates, but where oneOf overlaps, as it is read as anyOf.  Multiples are
 * plain decimals, and so is what `not` leaves of numbers.  A constraint that we do not do
 * is an error that names it; what JSON Schema does not know (keywords, formats) is an
 * annotation.
 *
 * Ownership: a grammar is counted; acquire and release in pairs.  A matcher holds its
 *            grammar and borrows the vocabulary.
 * Threads:   compile, acquire and release: any.  All matchers of one grammar belong to
 * one thread, as they share the masks that were computed before.
 */
#ifndef COHORT_GRAMMAR_GRAMMAR_H
#define COHORT_GRAMMAR_GRAMMAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cohort/grammar.h"
#include "text/tokenizer.h"

enum {
    COHORT_GRAMMAR_MAX_STATES = 100000, /* of one rule; */
    COHORT_GRAMMAR_MAX_PARTS = 500000,  /* and before it is deterministic, */
    COHORT_GRAMMAR_MAX_EDGES = 4000000, /* with so many edges between them */
    COHORT_GRAMMAR_MAX_WORK = 40000000, /* edges looked at while it becomes that */
    COHORT_GRAMMAR_MAX_CELLS = 6000000, /* of all tables of a grammar, 4 bytes each */
    COHORT_GRAMMAR_MAX_RULES = 10000,   /* of a grammar */
    COHORT_GRAMMAR_MAX_NESTING = 64,    /* of a schema, and of groups in a regex */
    COHORT_GRAMMAR_MAX_DEPTH = 128,     /* of values, or rules, in what is generated */
    COHORT_GRAMMAR_MAX_CONFIGURATIONS = 1024, /* readings of one text at a time */
    /* Values that may begin at one place; inside an object one is up to 3 readings. */
    COHORT_GRAMMAR_MAX_ALTERNATIVES = COHORT_GRAMMAR_MAX_CONFIGURATIONS / 4,
    COHORT_GRAMMAR_MASK_BYTES = 16 << 20,    /* of masks kept with a grammar */
    COHORT_GRAMMAR_MAX_HELD_BYTES = 1 << 30, /* of all grammars: then none is compiled */
};

/* What a grammar takes: its tables, and the masks that are kept with it.  Any thread. */
size_t cohort_grammar_bytes(const cohort_grammar *grammar);
/* The same of all grammars of the process that live.  Compiling one more, where they have
 * COHORT_GRAMMAR_MAX_HELD_BYTES, is COHORT_E_NOMEM. */
size_t cohort_grammar_held_bytes(void);

/* Tokens that its text may have, where it says so; 0: any number.  They are the caller's
 * to count. */
int32_t cohort_grammar_max_tokens(const cohort_grammar *grammar);

typedef struct cohort_vocabulary cohort_vocabulary;

cohort_status cohort_vocabulary_create(const cohort_tokenizer *tokenizer,
                                       cohort_vocabulary **out_vocabulary);
void cohort_vocabulary_destroy(cohort_vocabulary *vocabulary);
/* One bit a token, in words of 32. */
size_t cohort_vocabulary_mask_words(const cohort_vocabulary *vocabulary);

typedef struct cohort_matcher cohort_matcher;

cohort_status cohort_matcher_create(cohort_grammar *grammar,
                                    const cohort_vocabulary *vocabulary,
                                    cohort_matcher **out_matcher);
void cohort_matcher_destroy(cohort_matcher *matcher);

/* Tokens that may come next: bit id % 32 of word id / 32.  Special and added tokens never
 * may; the end of the text is the caller's to allow where the matcher is complete.  Where
 * masks have long cost too much, the matcher goes on with some of its readings only. */
cohort_status cohort_matcher_mask(cohort_matcher *matcher, uint32_t *out_words);
/* False, and nothing changes, where the token (or text) may not come next. */
bool cohort_matcher_accept(cohort_matcher *matcher, int32_t token);
bool cohort_matcher_accept_bytes(cohort_matcher *matcher, const char *bytes, size_t size);
/* The text so far matches as it is. */
bool cohort_matcher_is_complete(const cohort_matcher *matcher);
/* It does, and nothing can follow. */
bool cohort_matcher_is_finished(const cohort_matcher *matcher);

#endif /* COHORT_GRAMMAR_GRAMMAR_H */
