/* SPDX-License-Identifier: Apache-2.0 */
/* jinja/node.h - what a template is made of once it is parsed. */
#ifndef COHORT_JINJA_NODE_H
#define COHORT_JINJA_NODE_H

#include "jinja/value.h"

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

/* Of a filter or test without a builtin. */
_Noreturn void cohort_jinja_refuse_unknown(jinja_arena *arena, const jinja_node *node);
/* Fails where a tree is deeper than an evaluation may be. */
void cohort_jinja_check_depth(jinja_arena *arena, const jinja_node *node);

#endif /* COHORT_JINJA_NODE_H */
