/* SPDX-License-Identifier: Apache-2.0 */
/* grammar/grammar_internal.h - what a grammar is made of; shared by the files of this
 * folder.
 *
 *   schema, regex --> expressions --> states and edges (nfa) --> automaton of a rule
 *
 * Expressions are numbers into the builder; they are written between two states of a
 * rule's nfa as often as needed.  A builder that failed once stays failed (its status;
 * the thread's error has the words), and every call on it returns at once.
 */
#ifndef COHORT_GRAMMAR_INTERNAL_H
#define COHORT_GRAMMAR_INTERNAL_H

#include <stdatomic.h>

#include <cjson/cJSON.h>

#include "base/fail.h"
#include "grammar/grammar.h"

/* ---- automaton.c ------------------------------------------------------------------- */

typedef struct cohort_rule_call {
    uint32_t rule;
    int32_t next; /* the state after it */
} cohort_rule_call;

/* Deterministic in bytes; calls are choices beside them.  State 0 is the start. */
typedef struct cohort_automaton {
    uint8_t classes[256]; /* of bytes that no state tells apart */
    uint32_t n_classes, n_states;
    int32_t *next; /* n_states * n_classes; -1: none */
    uint8_t *accepts;
    uint32_t *first_call; /* n_states + 1, into calls */
    cohort_rule_call *calls;
} cohort_automaton;

typedef struct cohort_byte_set {
    uint64_t bits[4];
} cohort_byte_set;

typedef uint32_t cohort_expr; /* 0: the empty text */

typedef struct cohort_code_set {
    struct code_range {
        uint32_t first, last;
    } * items;
    size_t count, capacity;
} cohort_code_set;

typedef struct cohort_builder cohort_builder;

enum { COHORT_MAX_KNOWN_CLASSES = 32 };

struct cohort_builder {
    cohort_status status;
    struct expr_node *exprs;
    size_t n_exprs, exprs_capacity;
    cohort_automaton *automata; /* that expressions name */
    size_t n_automata, automata_capacity;
    struct cohort_rule *rules;
    size_t n_rules, rules_capacity;
    size_t n_cells, n_work;
    int32_t max_tokens; /* of the whole text; 0: any */
    struct known_class {
        cohort_code_set set;
        cohort_expr expr;
    } classes[COHORT_MAX_KNOWN_CLASSES]; /* of characters, with many ranges */
    size_t n_classes;
    uint32_t white_space; /* rules that many use; UINT32_MAX: not yet made */
    uint32_t any_object, any_array;
};

void cohort_builder_init(cohort_builder *builder);
void cohort_builder_deinit(cohort_builder *builder);
/* Notes a failure: builder->status = COHORT_FAIL(...), once. */
#define COHORT_BUILDER_FAIL(builder, ...) \
    ((builder)->status =                  \
         (builder)->status < 0 ? (builder)->status : COHORT_FAIL(__VA_ARGS__))

/* Counts what is looked at; fails where that is too much. */
void cohort_builder_work(cohort_builder *builder, size_t n);
/* The same of what is held in tables. */
void cohort_builder_cells(cohort_builder *builder, size_t n);

#define COHORT_EXPR_EMPTY ((cohort_expr)0)
#define COHORT_EXPR_NEVER ((cohort_expr)1)
enum { COHORT_UNBOUNDED = -1 };

cohort_expr cohort_expr_bytes(cohort_builder *builder, const cohort_byte_set *set);
cohort_expr cohort_expr_range(cohort_builder *builder, uint8_t first, uint8_t last);
cohort_expr cohort_expr_literal(cohort_builder *builder, const char *bytes, size_t size);
cohort_expr cohort_expr_concat(cohort_builder *builder, cohort_expr a, cohort_expr b);
cohort_expr cohort_expr_either(cohort_builder *builder, cohort_expr a, cohort_expr b);
cohort_expr cohort_expr_repeat(cohort_builder *builder, cohort_expr a, int32_t least,
                               int32_t most);
cohort_expr cohort_expr_call(cohort_builder *builder, uint32_t rule);
/* The parts that an nfa gets of it, and whether it matches the empty text. */
size_t cohort_expr_measure(const cohort_builder *builder, cohort_expr expr,
                           bool *out_is_nullable);
/* Takes the automaton over, also where the builder fails. */
cohort_expr cohort_expr_automaton(cohort_builder *builder, cohort_automaton *automaton);
/* product.c: what matches a, and also b (or, not b).  Neither may call. */
cohort_expr cohort_expr_both(cohort_builder *builder, cohort_expr a, cohort_expr b);
cohort_expr cohort_expr_without(cohort_builder *builder, cohort_expr a, cohort_expr b);
/* Bytes that stand for what has no width, and are in no text. */
enum {
    COHORT_MARK_BOUNDARY = 0xf8, /* of a word and something else */
    COHORT_MARK_INSIDE,          /* of either */
    COHORT_MARK_BEGIN,
    COHORT_MARK_END,
    COHORT_MARK_AHEAD, /* and those behind it: of a look-ahead each */
    COHORT_MARK_LAST = 0xff,
    COHORT_MAX_MARKED_AHEADS = COHORT_MARK_LAST + 1 - COHORT_MARK_AHEAD,
};
/* The texts of an expression that has none, with any marks anywhere. */
cohort_expr cohort_expr_with_marks(cohort_builder *builder, cohort_expr expr);
/* The texts of an expression where all that is behind each such mark matches ahead (or,
 * is_negative, does not); marks count for nothing in that. */
cohort_expr cohort_expr_with_ahead(cohort_builder *builder, cohort_expr expr,
                                   uint8_t mark, cohort_expr ahead, bool is_negative);
/* The texts of an expression with marks whose marks are where they may be. */
cohort_expr cohort_expr_checked(cohort_builder *builder, cohort_expr expr, bool in_json);
/* No text matches; it may not call. */
bool cohort_expr_is_never(cohort_builder *builder, cohort_expr expr);
/* Of an expression of so many units: texts of at least and at most so many.  A unit is a
 * byte or more; a bound that says nothing new costs nothing. */
cohort_expr cohort_expr_bounded(cohort_builder *builder, cohort_expr expr,
                                cohort_expr unit, int32_t least, int32_t most);

/* States and edges of one rule on its way to an automaton.  Zero-initialise. */
typedef struct cohort_nfa {
    struct nfa_edge *edges;
    size_t n_edges, edges_capacity;
    uint32_t n_states;
} cohort_nfa;

uint32_t cohort_nfa_state(cohort_builder *builder, cohort_nfa *nfa);
void cohort_nfa_add(cohort_builder *builder, cohort_nfa *nfa, cohort_expr expr,
                    uint32_t from, uint32_t to);
void cohort_nfa_deinit(cohort_nfa *nfa);
void cohort_automaton_make(cohort_builder *builder, const cohort_nfa *nfa, uint32_t start,
                           uint32_t end, cohort_automaton *out_automaton);
void cohort_automaton_deinit(cohort_automaton *automaton);

/* ---- rules ------------------------------------------------------------------------- */

/* Strings are one rule whatever their length: the state between two characters counts
 * them down. */
typedef struct cohort_rule {
    cohort_automaton automaton;
    bool is_made;
    int32_t loop_state;  /* -1: nothing is counted */
    int32_t least, most; /* times that the loop state is entered; COHORT_UNBOUNDED */
    uint16_t *heights;   /* rules to be called on the way to the end, one in the other */
} cohort_rule;

enum { COHORT_NO_HEIGHT = UINT16_MAX };

uint32_t cohort_rule_reserve(cohort_builder *builder);
/* Makes the rule from an nfa, whose memory it frees. */
void cohort_rule_make(cohort_builder *builder, uint32_t rule, cohort_nfa *nfa,
                      uint32_t start, uint32_t end);
void cohort_rule_make_expr(cohort_builder *builder, uint32_t rule, cohort_expr expr);
/* Of all rules, which are made: where their ends are and how deep; edges that lead to
 * none go. */
void cohort_rules_find_ends(cohort_builder *builder);
void cohort_rules_check_starts(cohort_builder *builder);

struct cohort_grammar {
    atomic_int references;
    cohort_rule *rules; /* 0 is where a text begins */
    size_t n_rules;
    int32_t max_tokens;
    /* Masks by state; the matchers' (matcher.c). */
    const cohort_vocabulary *vocabulary;
    struct mask_entry **masks;
    size_t n_masks, masks_capacity;
    size_t table_bytes;
    atomic_size_t mask_bytes; /* the matchers' thread changes it, any may read it */
};

/* Counts among cohort_grammar_held_bytes. */
void cohort_grammar_hold(int64_t bytes);
void cohort_grammar_forget_masks(cohort_grammar *grammar);

/* ---- json.c: the parts of JSON texts ----------------------------------------------- */

/* A string of so many characters, quotes included. */
cohort_expr cohort_grammar_json_string(cohort_builder *builder, int32_t least,
                                       int32_t most);
/* One character as it is written inside a string. */
cohort_expr cohort_grammar_json_character(cohort_builder *builder);
cohort_expr cohort_grammar_json_white_space(cohort_builder *builder);
cohort_expr cohort_grammar_json_any(cohort_builder *builder);
cohort_expr cohort_grammar_json_any_number(cohort_builder *builder);
cohort_expr cohort_grammar_json_any_object(cohort_builder *builder);
cohort_expr cohort_grammar_json_any_array(cohort_builder *builder);
/* One byte of a character as it is written inside a string. */
cohort_expr cohort_grammar_json_escaped(cohort_builder *builder, char byte);
/* text[size] as a JSON string, quoted. */
cohort_expr cohort_grammar_json_quoted(cohort_builder *builder, const char *text,
                                       size_t size);

typedef struct cohort_number_range {
    double least, most; /* -INFINITY, INFINITY: none */
    bool above, below;  /* the bound itself is out */
    /* Of a whole number that no double is, as written, without its sign; else NULL. */
    const char *least_digits, *most_digits;
} cohort_number_range;

cohort_expr cohort_grammar_json_number(cohort_builder *builder, bool is_integer,
                                       const cohort_number_range *range);

/* multiple.c: multiples of the step as plain decimals, of any digits before the point. */
cohort_expr cohort_grammar_json_multiple(cohort_builder *builder, double step);

/* ---- code_points.c ----------------------------------------------------------------- */

enum { COHORT_LAST_CODE = 0x10ffff };

void cohort_code_set_add(cohort_builder *builder, cohort_code_set *set, uint32_t first,
                         uint32_t last);
/* Sorted, and no two that touch. */
void cohort_code_set_tidy(cohort_code_set *set);
void cohort_code_set_invert(cohort_builder *builder, cohort_code_set *set);
void cohort_code_set_deinit(cohort_code_set *set);
/* One of them as UTF-8; in_json: as it is written inside a JSON string. */
cohort_expr cohort_expr_codes(cohort_builder *builder, cohort_code_set *set,
                              bool in_json);

/* ---- regex.c ----------------------------------------------------------------------- */

typedef struct cohort_regex_options {
    bool in_json;   /* it is about the content of a JSON string */
    bool is_search; /* a match anywhere will do */
    bool ignores_case, dot_is_all;
    const char *name; /* in messages */
} cohort_regex_options;

cohort_expr cohort_regex_parse(cohort_builder *builder, const char *pattern, size_t size,
                               const cohort_regex_options *options);

/* ---- regex_classes.c --------------------------------------------------------------- */

/* Adds what is of the class \w, \d or \s to Python and to ECMAScript; what is outside of
 * it to both. */
void cohort_regex_add_narrow(cohort_builder *builder, char letter, cohort_code_set *set);
void cohort_regex_add_outside(cohort_builder *builder, char letter, cohort_code_set *set);

/* ---- schema_parse.c ---------------------------------------------------------------- */

/* NULL, with an error, where it is no JSON that we can hold; name: in messages. */
cJSON *cohort_schema_parse(cohort_builder *builder, const char *name, const char *text,
                           size_t size);

/* ---- schema.c ---------------------------------------------------------------------- */

/* Makes a rule: 0 where it is the first. */
uint32_t cohort_schema_compile(cohort_builder *builder, const char *text, size_t size);

/* ---- ebnf.c ------------------------------------------------------------------------ */

/* GBNF: name ::= ...; begins at the rule root.  Makes a rule: 0 where it is the first. */
uint32_t cohort_ebnf_compile(cohort_builder *builder, const char *text, size_t size);

/* ---- lark.c ------------------------------------------------------------------------ */

/* Lark's notation; begins at the rule start, or the first.  Makes a rule, as above. */
uint32_t cohort_lark_compile(cohort_builder *builder, const char *text, size_t size);

/* ---- structural_tag.c -------------------------------------------------------------- */

/* Makes rule 0. */
void cohort_structural_tag_compile(cohort_builder *builder, const char *text,
                                   size_t size);

/* ---- tool_calls.c ------------------------------------------------------------------ */

/* Makes rule 0. */
void cohort_tool_calls_compile(cohort_builder *builder, const char *text, size_t size);

/* ---- vocabulary.c ------------------------------------------------------------------ */

/* Nodes in depth-first order: what follows a node's bytes is behind it, up to end. */
typedef struct cohort_trie_node {
    uint32_t end;
    uint32_t first_token; /* up to the next node's, of those that end here */
    uint16_t depth;       /* bytes up to here; the root, node 0, has none */
    uint8_t byte;
} cohort_trie_node;

/* Words inside a JSON string, from between two characters on: what every grammar asks for
 * most and what would take longest to find. */
typedef struct cohort_string_words {
    uint32_t *inside; /* a mask: those that stay in the string */
    struct inside_word {
        int32_t token;
        int32_t needs; /* characters: those that it ends and one that it begins */
    } * by_need;       /* the longest first */
    size_t n_by_need, by_need_capacity;
    struct string_end {
        uint32_t node; /* of the closing quote */
        int32_t count; /* characters before it */
    } * ends;
    size_t n_ends, ends_capacity;
} cohort_string_words;

struct cohort_vocabulary {
    cohort_trie_node *nodes; /* and one behind the last */
    size_t n_nodes;
    int32_t *tokens;
    struct vocabulary_word {
        uint32_t begin, size; /* size 0: never part of a text */
    } * words;                /* by token, into bytes */
    char *bytes;
    int32_t n_tokens;
    uint32_t longest; /* of the words */
    cohort_string_words strings;
};

static inline size_t cohort_mask_words(const cohort_vocabulary *vocabulary) {
    return ((size_t)vocabulary->n_tokens + 31) / 32;
}

/* vocabulary_strings.c: fills strings, by the grammar of any object. */
cohort_status cohort_vocabulary_learn_strings(cohort_vocabulary *vocabulary);

/* The value of a hexadecimal digit; 16: it is none. */
static inline uint32_t cohort_hex_digit(char c) {
    return c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
           : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
           : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10)
                                  : 16;
}

#endif /* COHORT_GRAMMAR_INTERNAL_H */
