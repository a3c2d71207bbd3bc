/* SPDX-License-Identifier: Apache-2.0 */
/* jinja/value.h - what expressions have: Python's values, immutable. */
#ifndef COHORT_JINJA_VALUE_H
#define COHORT_JINJA_VALUE_H

#include <cjson/cJSON.h>
#include <string.h>

#include "jinja/arena.h"

typedef enum jinja_kind {
    JINJA_UNDEFINED,
    JINJA_NONE,
    JINJA_BOOL,
    JINJA_INT,
    JINJA_FLOAT,
    JINJA_STRING,
    JINJA_LIST,
    JINJA_TUPLE,
    JINJA_GENERATOR,
    JINJA_DICT,
    JINJA_NAMESPACE,
    JINJA_CALLABLE
} jinja_kind;

typedef struct jinja_value jinja_value;
typedef struct jinja_node jinja_node;
typedef struct jinja_scope jinja_scope;
typedef struct jinja_run jinja_run;

typedef struct jinja_pair {
    const jinja_value *key, *value;
} jinja_pair;

/* Arguments of a call: the named ones after the others.  A builtin gets them by position
 * (cohort_jinja_apply), NULL where one was not given, unless it takes them as they are.
 */
typedef struct jinja_args {
    const jinja_value **values;
    const char **names; /* NULL: by position */
    size_t n;
} jinja_args;

typedef const jinja_value *jinja_function(jinja_run *run, const jinja_value *self,
                                          const jinja_args *args);

/* What we bring: a filter, a test, a method or a function. */
typedef struct jinja_builtin {
    const char *name;
    /* Its arguments: "a b? /" is one that must be and one that may, both by position
     * only;
     * "*" any number by position, "**" and by name. */
    const char *takes;
    jinja_function *function;
} jinja_builtin;

struct jinja_value {
    jinja_kind kind;
    union {
        bool truth;
        int64_t whole;
        struct {
            double real;
            const char *digits; /* of an int that 64 bits do not hold; NULL: a float */
        };
        struct {
            const char *bytes; /* UTF-8, NUL behind them */
            size_t size;
            bool is_markup; /* what is added to it is escaped */
        } string;
        struct {
            const jinja_value **items;
            size_t n;
            bool is_group; /* of groupby: a tuple whose items have names */
        } list;            /* and tuple, and generator: what is left of it */
        struct {
            jinja_pair *pairs;
            size_t n, capacity;
            /* Of a large one: places of pairs by the hash of their key, from 1; 0: none.
             * A power of two of them, twice as many as there are pairs, or more. */
            uint32_t *places;
            size_t n_places;
        } dict; /* and namespace, which alone changes */
        struct {
            const jinja_builtin *builtin;
            const jinja_value *self;
            const jinja_node *macro; /* instead of builtin */
            jinja_scope *scope;      /* where it was defined */
        } callable;
        struct {
            const char *name; /* what is undefined, */
            const char *of;   /* as an attribute of; NULL: a variable */
        } undefined;
    };
};

extern const jinja_value cohort_jinja_none, cohort_jinja_true, cohort_jinja_false;

const jinja_value *cohort_jinja_bool(bool truth);
const jinja_value *cohort_jinja_int(jinja_arena *arena, int64_t whole);
const jinja_value *cohort_jinja_float(jinja_arena *arena, double real);
const jinja_value *cohort_jinja_string(jinja_arena *arena, const char *bytes,
                                       size_t size); /* copied */
const jinja_value *cohort_jinja_word(jinja_arena *arena, const char *text);
const jinja_value *cohort_jinja_taken(jinja_text *text); /* a text becomes a string */
/* A string, or the strings of a list, as markup. */
const jinja_value *cohort_jinja_marked(jinja_arena *arena, const jinja_value *value);
const jinja_value *cohort_jinja_undefined(jinja_arena *arena, const char *name,
                                          const char *of);
jinja_value *cohort_jinja_list(jinja_arena *arena, jinja_kind kind, size_t n);
jinja_value *cohort_jinja_dict(jinja_arena *arena, jinja_kind kind);
void cohort_jinja_put(jinja_arena *arena, jinja_value *dict, const jinja_value *key,
                      const jinja_value *value);
/* NULL where there is none. */
const jinja_value *cohort_jinja_get(jinja_arena *arena, const jinja_value *dict,
                                    const jinja_value *key);
const jinja_value *cohort_jinja_member(const jinja_value *dict, const char *name);
const jinja_value *cohort_jinja_from_json(jinja_arena *arena, const cJSON *json);

const char *cohort_jinja_type_name(const jinja_value *value); /* Python's */
bool cohort_jinja_is_true(const jinja_value *value);
bool cohort_jinja_equal(jinja_arena *arena, const jinja_value *a, const jinja_value *b);
/* As < does; fails for what has no order. */
int cohort_jinja_compare(jinja_arena *arena, const jinja_value *a, const jinja_value *b,
                         const char *operation);
/* By their keys, stable, which n log n comparisons do. */
void cohort_jinja_sort(jinja_arena *arena, jinja_pair *pairs, size_t n, bool reverse);
/* Fails for what Python has no hash of, as keys must have. */
void cohort_jinja_need_hashable(jinja_arena *arena, const jinja_value *value);
bool cohort_jinja_contains(jinja_arena *arena, const jinja_value *in,
                           const jinja_value *value);
static inline bool cohort_jinja_is_list(const jinja_value *value) {
    return value->kind == JINJA_LIST || value->kind == JINJA_TUPLE;
}
static inline bool cohort_jinja_is_number(const jinja_value *value) {
    return value->kind == JINJA_INT || value->kind == JINJA_FLOAT ||
           value->kind == JINJA_BOOL;
}
double cohort_jinja_real(const jinja_value *number);
int64_t cohort_jinja_whole(const jinja_value *number); /* of an int or a bool */
static inline bool cohort_jinja_is_markup(const jinja_value *value) {
    return value->kind == JINJA_STRING && value->string.is_markup;
}
/* What was made of a value: markup where that is. */
static inline const jinja_value *cohort_jinja_like(jinja_arena *arena,
                                                   const jinja_value *of,
                                                   const jinja_value *made) {
    return cohort_jinja_is_markup(of) ? cohort_jinja_marked(arena, made) : made;
}
/* The next of a generator, which has it no longer; NULL at its end. */
const jinja_value *cohort_jinja_next(const jinja_value *generator);
/* What a loop over the value yields, as a list; fails where it has no elements.  A
 * generator is empty behind it. */
const jinja_value *cohort_jinja_elements(jinja_arena *arena, const jinja_value *value);
/* The next place of needle, or NULL. */
static inline const char *cohort_jinja_seek(const char *at, const char *end,
                                            const jinja_value *needle) {
    return memmem(at, (size_t)(end - at), needle->string.bytes, needle->string.size);
}

#endif /* COHORT_JINJA_VALUE_H */
