/* SPDX-License-Identifier: Apache-2.0 */
/* grammar/schema_internal.h - a schema on its way to rules; schema.c and its parts. */
#ifndef COHORT_GRAMMAR_SCHEMA_INTERNAL_H
#define COHORT_GRAMMAR_SCHEMA_INTERNAL_H

#include "grammar/grammar_internal.h"

/* What a keyword speaks about. */
enum {
    COHORT_OF_ANY = 1,
    COHORT_OF_OBJECT = 2,
    COHORT_OF_ARRAY = 4,
    COHORT_OF_STRING = 8,
    COHORT_OF_NUMBER = 16,
    COHORT_OF_NOTHING = 32, /* an annotation */
};

/* Bits of types. */
enum {
    COHORT_TYPE_OBJECT = 1,
    COHORT_TYPE_ARRAY = 2,
    COHORT_TYPE_STRING = 4,
    COHORT_TYPE_NUMBER = 8, /* with COHORT_TYPE_INTEGER: any number */
    COHORT_TYPE_INTEGER = 16,
    COHORT_TYPE_BOOLEAN = 32,
    COHORT_TYPE_NULL = 64,
    COHORT_TYPES_ALL = 127,
};

enum { COHORT_MAX_KNOWN_FORMATS = 32 };

typedef struct cohort_schema_compiler {
    cohort_builder *builder;
    const cJSON *root;
    cJSON *made;            /* an array: schemas that were merged, kept to the end */
    size_t n_made, n_nodes; /* schemas, and what they have */
    struct schema_reference {
        const cJSON *target;
        uint32_t rule;
    } * references;
    size_t n_references, references_capacity;
    struct known_format {
        const char *name;
        int32_t least, most;
        uint32_t rule;
    } formats[COHORT_MAX_KNOWN_FORMATS]; /* without a pattern: many members have one */
    size_t n_formats;
    int depth;
} cohort_schema_compiler;

/* Notes the error and returns NULL. */
const cJSON *cohort_schema_refuse(cohort_schema_compiler *self, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

const cJSON *cohort_schema_get(const cJSON *schema, const char *key);
/* COHORT_OF_ bits of a keyword; 0: unknown. */
int cohort_schema_keyword(const char *key);
/* Those of all keywords of the schema but the ones named. */
int cohort_schema_keywords(const cJSON *schema, const char *except);
/* Of "type", or as its keywords or values say; false: an error was noted. */
bool cohort_schema_types(cohort_schema_compiler *self, const cJSON *schema, int *out);

/* Of one value, what both have by reference not looked at; false, too, where that is too
 * much work, which is noted. */
bool cohort_schema_are_same(cohort_schema_compiler *self, const cJSON *a, const cJSON *b);

/* ---- schema_parse.c ---------------------------------------------------------------- */

enum { COHORT_SCHEMA_MAX_DIGITS = 300 };

/* Of a whole number from 2^53 on that was written without an exponent: its digits,
 * without a sign; NULL: its double is all that is known. */
const char *cohort_schema_digits(const cJSON *number);
/* Less than, equal to or more than 0, as for strcmp. */
int cohort_schema_compare_numbers(const cJSON *a, const cJSON *b);

/* NULL: an error was noted. */
const cJSON *cohort_schema_follow(cohort_schema_compiler *self, const char *reference);
/* The schema without $ref and allOf at its top.  May be made; an object or true/false. */
const cJSON *cohort_schema_flatten(cohort_schema_compiler *self, const cJSON *schema);
/* What both say, made of references to their parts; both are flat. */
const cJSON *cohort_schema_merge(cohort_schema_compiler *self, const cJSON *a,
                                 const cJSON *b);
/* The schema without one of its keywords. */
const cJSON *cohort_schema_without(cohort_schema_compiler *self, const cJSON *schema,
                                   const char *key);
/* A flat schema with "unevaluatedProperties": false, as additionalProperties where no
 * anyOf or oneOf is left in it. */
const cJSON *cohort_schema_seal(cohort_schema_compiler *self, const cJSON *flat);
/* ---- schema_merge.c: what made schemas are built of -------------------------------- */

cJSON *cohort_schema_make(cohort_schema_compiler *self);
bool cohort_schema_refer(cohort_schema_compiler *self, cJSON *to, const char *key,
                         const cJSON *item);
/* False, noted: more was made than may be. */
bool cohort_schema_count_node(cohort_schema_compiler *self);
/* The schema of a member that `properties` does not name; NULL: none. */
const cJSON *cohort_schema_rest(cohort_schema_compiler *self, const cJSON *schema,
                                const char *name);
/* A property, and what patternProperties says of its name. */
const cJSON *cohort_schema_with_patterns(cohort_schema_compiler *self,
                                         const cJSON *schema, const cJSON *property);

/* ---- schema_rewrite.c -------------------------------------------------------------- */

/* Internal keywords: values, and patterns, that are not valid. */
#define COHORT_SCHEMA_NOT_ENUM    "\001enum"
#define COHORT_SCHEMA_NOT_PATTERN "\001pattern"

/* A flat schema without not, if, oneOf and dependencies. */
const cJSON *cohort_schema_rewrite(cohort_schema_compiler *self, const cJSON *flat);
const cJSON *cohort_schema_literal(cohort_schema_compiler *self, bool value);
const cJSON *cohort_schema_both(cohort_schema_compiler *self, const cJSON *a,
                                const cJSON *b);
/* a and not b */
const cJSON *cohort_schema_except(cohort_schema_compiler *self, const cJSON *a,
                                  const cJSON *b);

/* ---- schema.c and its parts -------------------------------------------------------- */

cohort_expr cohort_schema_value(cohort_schema_compiler *self, const cJSON *schema);
cohort_expr cohort_schema_object(cohort_schema_compiler *self, const cJSON *schema);
cohort_expr cohort_schema_array(cohort_schema_compiler *self, const cJSON *schema);
/* One of the schema's listed values; never where the rest of the schema forbids it. */
cohort_expr cohort_schema_listed(cohort_schema_compiler *self, const cJSON *schema,
                                 const cJSON *value);
/* A whole number of at least 0 that is not too large to count. */
bool cohort_schema_size(cohort_schema_compiler *self, const cJSON *schema,
                        const char *key, int32_t fallback, int32_t *out);
/* What is in the quotes of a string, without calls. */
cohort_expr cohort_schema_content(cohort_schema_compiler *self, const cJSON *schema);

/* ---- schema_names.c: names of members, and patterns of them ------------------------ */

/* A name as it is written, without its quotes. */
cohort_expr cohort_schema_spelled(cohort_schema_compiler *self, const char *name);
/* Is the name among those of the expression? */
bool cohort_schema_is_named_by(cohort_schema_compiler *self, cohort_expr names,
                               const char *name);
cohort_expr cohort_schema_pattern(cohort_schema_compiler *self, const char *pattern);
bool cohort_schema_matches(cohort_schema_compiler *self, const char *pattern,
                           const char *name);

/* ---- formats.c --------------------------------------------------------------------- */

bool cohort_schema_knows_format(const char *name);
/* The content of a string; is_beside: bounds of its length, or a pattern, stand beside.
 */
cohort_expr cohort_schema_format(cohort_builder *builder, const char *name,
                                 bool is_beside);

/* The upper bound of its length, or what can be counted. */
int32_t cohort_schema_format_most(const char *name, int32_t most);

#endif /* COHORT_GRAMMAR_SCHEMA_INTERNAL_H */
