/* SPDX-License-Identifier: Apache-2.0 */
/* jinja/jinja_internal.h - what a template and its rendering are made of; private to this
 * folder.
 *
 *   source --lexer--> tokens --parser--> nodes --eval(variables)--> text
 *
 * Everything lies in an arena that goes as a whole, and every error leaves through one
 * longjmp to compile or render: no function here returns a status, and none frees.
 */
#ifndef COHORT_JINJA_INTERNAL_H
#define COHORT_JINJA_INTERNAL_H

#include <setjmp.h>
#include <string.h>

#include "base/fail.h"
#include "jinja/jinja.h"

/* ---- arena ------------------------------------------------------------------------- */

typedef struct jinja_chunk jinja_chunk;

typedef struct jinja_arena {
    jinja_chunk *chunks;
    size_t used, size;  /* of the newest chunk */
    size_t total, most; /* bytes of all */
    int line;           /* of the template, where we are: for messages */
    int64_t steps_left; /* of rendering */
    int depth;          /* of nested expressions, blocks and calls */
    int64_t now_s;
    jmp_buf escape;
} jinja_arena;

void *cohort_jinja_alloc(jinja_arena *arena, size_t size); /* zeroed */
_Noreturn void cohort_jinja_fail(jinja_arena *arena, const char *format, ...)
    COHORT_PRINTF(2, 3);
void cohort_jinja_arena_free(jinja_arena *arena);
/* Counts down; fails where there were too many steps. */
void cohort_jinja_step(jinja_arena *arena, int64_t n);
/* Steps for bytes that are looked at, where nothing that is made of them counts; one for
 * so many as take about as long as a step. */
static inline void cohort_jinja_look(jinja_arena *arena, size_t size_bytes) {
    cohort_jinja_step(arena, (int64_t)(size_bytes / 64));
}
/* ... character by character. */
static inline void cohort_jinja_look_chars(jinja_arena *arena, size_t size_bytes) {
    cohort_jinja_step(arena, (int64_t)(size_bytes / 8));
}
void cohort_jinja_enter(jinja_arena *arena);
static inline void cohort_jinja_leave(jinja_arena *arena) { arena->depth--; }

typedef struct jinja_text {
    jinja_arena *arena;
    char *bytes;
    size_t size, capacity;
} jinja_text;

void cohort_jinja_append(jinja_text *text, const char *bytes, size_t size);
void cohort_jinja_print(jinja_text *text, const char *format, ...) COHORT_PRINTF(2, 3);

/* ---- values ------------------------------------------------------------------------ */

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
        double real;
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
/* As HTML, and markup; markup is already. */
const jinja_value *cohort_jinja_escaped(jinja_arena *arena, const jinja_value *value);
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
/* The same, or the end of the run where the value is no whole number. */
int64_t cohort_jinja_need_whole(jinja_run *run, const jinja_value *value);
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
/* Python's str(), repr() and json.dumps(ensure_ascii=False). */
void cohort_jinja_write(jinja_text *out, const jinja_value *value);
void cohort_jinja_write_repr(jinja_text *out, const jinja_value *value);
typedef struct jinja_json_style {
    const char *indent; /* NULL: all on one line */
    bool is_ascii;      /* all else escaped */
    bool sort_keys;
    const char *item_separator, *key_separator;
} jinja_json_style;
void cohort_jinja_write_json(jinja_text *out, const jinja_value *value,
                             const jinja_json_style *style, int level);
const jinja_value *cohort_jinja_to_string(jinja_arena *arena, const jinja_value *value);

/* ---- strings: positions are characters, as Python counts them ------------------------
 */

size_t cohort_jinja_n_chars(const char *bytes, size_t size);
/* Where character number n begins; size where there are fewer. */
size_t cohort_jinja_char_at(const char *bytes, size_t size, size_t n);
/* The character at a place and its length in bytes. */
int32_t cohort_jinja_char(const char *bytes, size_t size, size_t *out_length);
size_t cohort_jinja_encode(int32_t character, char *out_bytes); /* of 4 */
bool cohort_jinja_is_space(int32_t character);
bool cohort_jinja_is_cased(int32_t character);
bool cohort_jinja_is_alnum(int32_t character);
bool cohort_jinja_is_printable(int32_t character);
/* The next place of needle, or NULL. */
static inline const char *cohort_jinja_seek(const char *at, const char *end,
                                            const jinja_value *needle) {
    return memmem(at, (size_t)(end - at), needle->string.bytes, needle->string.size);
}
/* So many times a character. */
void cohort_jinja_pad(jinja_text *out, int32_t fill, int64_t count);
/* Without what is at its ends: any of the characters, or white space where chars is NULL.
 */
const jinja_value *cohort_jinja_strip(jinja_arena *arena, const jinja_value *string,
                                      const jinja_value *chars, bool left, bool right);
typedef enum jinja_case {
    JINJA_UPPER,
    JINJA_LOWER,
    JINJA_TITLE,
    JINJA_CAPITALIZE,
    JINJA_SWAP,
    JINJA_FOLD
} jinja_case;
const jinja_value *cohort_jinja_recase(jinja_arena *arena, const jinja_value *string,
                                       jinja_case to);
const jinja_value *cohort_jinja_replace(jinja_arena *arena, const jinja_value *string,
                                        const jinja_value *from, const jinja_value *to,
                                        int64_t count);
/* "%s and %d" % values */
const jinja_value *cohort_jinja_format(jinja_arena *arena, const jinja_value *format,
                                       const jinja_value *values);
/* "{} and {name}".format(args) */
const jinja_value *cohort_jinja_format_fields(jinja_run *run, const jinja_value *format,
                                              const jinja_args *args);
/* NULL: strings, or dicts, have no such method. */
const jinja_builtin *cohort_jinja_find_method(const jinja_value *of, const char *name);

/* ---- nodes ------------------------------------------------------------------------- */

typedef enum jinja_node_kind {
    /* expressions */
    NODE_LITERAL,   /* literal */
    NODE_NAME,      /* name */
    NODE_LIST,      /* kids */
    NODE_TUPLE,     /* kids */
    NODE_DICT,      /* kids: key, value, key, value, ... */
    NODE_ATTRIBUTE, /* a.name */
    NODE_ITEM,      /* a[b] */
    NODE_SLICE,     /* a[kids 0:1:2], each may be NULL */
    NODE_CALL,      /* a(kids), names: of those "*" and "**" bring several */
    NODE_FILTER,    /* a|name(kids); a NULL: of a filter block */
    NODE_TEST,      /* a is name(kids) */
    NODE_NOT,
    NODE_NEGATIVE,
    NODE_POSITIVE,
    NODE_BINARY,  /* a op b */
    NODE_CONCAT,  /* kids joined by ~ */
    NODE_COMPARE, /* a, then kids, each with names[i] as operator */
    NODE_AND,
    NODE_OR,
    NODE_CHOICE, /* b if a else c, c may be NULL */
    /* statements */
    NODE_TEXT,         /* literal */
    NODE_OUTPUT,       /* a */
    NODE_BODY,         /* kids */
    NODE_IF,           /* a: b else c */
    NODE_FOR,          /* for names in a if d: b else c */
    NODE_SET,          /* names, or name.attribute, = a; or the output of b, through a */
    NODE_MACRO,        /* name(names, the last of them with defaults kids): b */
    NODE_CALL_BLOCK,   /* call a with a caller(names, kids): b */
    NODE_FILTER_BLOCK, /* a over b */
    NODE_WITH,         /* names = kids: b */
    NODE_BREAK,
    NODE_CONTINUE
} jinja_node_kind;

typedef enum jinja_operator {
    OPERATOR_ADD,
    OPERATOR_SUBTRACT,
    OPERATOR_MULTIPLY,
    OPERATOR_DIVIDE,
    OPERATOR_FLOOR,
    OPERATOR_MODULO,
    OPERATOR_POWER
} jinja_operator;

struct jinja_node {
    jinja_node_kind kind;
    int line;
    jinja_operator operator_;
    const char *name, *attribute;
    const jinja_value *literal;
    const jinja_node *a, *b, *c, *d;
    const jinja_node **kids;
    size_t n_kids;
    const char **names;
    size_t n_names;
    bool is_recursive;                /* a loop that may be called */
    bool takes_varargs, takes_kwargs; /* a macro that asks for what is over */
    const jinja_builtin *builtin;     /* of a filter or a test; NULL: not known */
};

/* ---- lexer ------------------------------------------------------------------------- */

typedef enum jinja_token_kind {
    TOKEN_END,
    TOKEN_TEXT,
    TOKEN_OUTPUT_BEGIN, /* {{ */
    TOKEN_OUTPUT_END,
    TOKEN_BLOCK_BEGIN, /* {% */
    TOKEN_BLOCK_END,
    TOKEN_NAME,
    TOKEN_INT,
    TOKEN_FLOAT,
    TOKEN_STRING,
    TOKEN_SIGN /* text: "==", "(", ... */
} jinja_token_kind;

typedef struct jinja_token {
    jinja_token_kind kind;
    int line;
    const char *text; /* names and signs, in the arena */
    const jinja_value *literal;
} jinja_token;

/* The last is TOKEN_END. */
const jinja_token *cohort_jinja_lex(jinja_arena *arena, const char *source, size_t size);

/* ---- parser, evaluation, library ------------------------------------------------------
 */

const jinja_node *cohort_jinja_parse(jinja_arena *arena, const jinja_token *tokens);
/* Of a filter or test without a builtin. */
_Noreturn void cohort_jinja_refuse_unknown(jinja_arena *arena, const jinja_node *node);

bool cohort_jinja_reads_parts(const jinja_node *body);

struct jinja_scope {
    jinja_scope *parent;
    struct jinja_variable {
        const char *name;
        const jinja_value *value;
        struct jinja_variable *next;
    } * first;
    const jinja_value *given; /* a dict of further ones; NULL: none */
};

struct jinja_run {
    jinja_arena *arena;
    jinja_scope *scope;
    jinja_text *out;
};

void cohort_jinja_execute(jinja_run *run, const jinja_node *body);
const jinja_value *cohort_jinja_call(jinja_run *run, const jinja_value *callee,
                                     const jinja_args *args);
/* obj.name and obj[key]; undefined where there is none. */
const jinja_value *cohort_jinja_attribute(jinja_run *run, const jinja_value *of,
                                          const char *name);
const jinja_value *cohort_jinja_item(jinja_run *run, const jinja_value *of,
                                     const jinja_value *key);
void cohort_jinja_set(jinja_run *run, const char *name, const jinja_value *value);

/* Fails where the arguments are not those that it takes. */
const jinja_value *cohort_jinja_apply(jinja_run *run, const jinja_builtin *builtin,
                                      const jinja_value *self, const jinja_args *args);
const jinja_builtin *cohort_jinja_find_filter(const char *name); /* NULL: there is none */
const jinja_builtin *cohort_jinja_find_test(const char *name);
const jinja_value *cohort_jinja_bind(jinja_run *run, const jinja_value *self,
                                     const jinja_builtin *builtin);
/* a + b */
const jinja_value *cohort_jinja_add(jinja_run *run, const jinja_value *a,
                                    const jinja_value *b);
void cohort_jinja_add_globals(jinja_run *run);

/* The index-th argument or the one of that name; NULL where it was not given. */
const jinja_value *cohort_jinja_arg(const jinja_args *args, size_t index,
                                    const char *name);

#endif /* COHORT_JINJA_INTERNAL_H */
