/* SPDX-License-Identifier: Apache-2.0 */
/* jinja/lexer.h - the tokens of a template's source. */
#ifndef COHORT_JINJA_LEXER_H
#define COHORT_JINJA_LEXER_H

#include "jinja/value.h"

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

#endif /* COHORT_JINJA_LEXER_H */
