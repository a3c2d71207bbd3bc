/* SPDX-License-Identifier: Apache-2.0 */
/* server/schema_internal.h - a field of a body, and what reads and describes it; private
 * to schema.c, schema_value.c and schema_describe.c.
 */
#ifndef COHORT_SERVER_SCHEMA_INTERNAL_H
#define COHORT_SERVER_SCHEMA_INTERNAL_H

#include "server/schema.h"

typedef enum schema_field_kind {
    FIELD_INTEGER,
    FIELD_NUMBER,
    FIELD_TRUTH,
    FIELD_TEXT,
    FIELD_LITERAL, /* one of the words that type has in quotes */
    FIELD_LIST,    /* of objects */
    FIELD_OBJECT,
    FIELD_WORDS,       /* a list of strings */
    FIELD_IDS,         /* a list of whole numbers */
    FIELD_PROMPT,      /* text, texts, token ids, or lists of token ids */
    FIELD_TEXT_OR_IDS, /* prompt_embeds: never read */
    FIELD_STOP,        /* text or texts */
    FIELD_BIAS,        /* object of numbers */
    FIELD_MESSAGES,
    FIELD_TOOLS,
    FIELD_FORMAT,
    FIELD_CHOICE, /* tool_choice: text or object */
    FIELD_INPUT,  /* text, or a list of objects */
    FIELD_STRUCT, /* an object with a name of its own in the schema */
} schema_field_kind;

enum {
    NULLABLE = 1,
    REQUIRED = 2,
    REFUSED = 4,
    LEAST_IS_MINUS_1 = 8,
    LEAST_IS_0 = 16,
    LEAST_IS_1 = 32,
    CLAMPED = 64, /* what no 64 bits hold is as much as they do */
};

typedef struct schema_field {
    const char *name;
    schema_field_kind kind;
    int flags;
    const char *standard; /* default, as JSON; NULL: unset */
    size_t offset;
    const char *type; /* of a STRUCT or LITERAL */
} schema_field;

typedef struct schema_table {
    const char *name;
    const schema_field *fields;
    size_t n_fields;
} schema_table;

/* schema.c: by cohort_server_schema; and what stream_options holds. */
extern const schema_table cohort_server_schema_tables[COHORT_N_SCHEMAS];
extern const schema_table cohort_server_schema_stream_options;

/* Where in the body a value is, for the faults that are told of it. */
typedef struct schema_reader {
    cohort_api_error *error;
    char location[120];
} schema_reader;

/* schema_value.c: a value that is there, and not null where it may be.  False: the fault
 * was told. */
bool cohort_server_schema_read_value(schema_reader *reader, const schema_field *field,
                                     const cJSON *value, cohort_value *out);
/* Always false, for `return`. */
bool cohort_server_schema_fault(schema_reader *reader, const char *kind,
                                const char *message, const cJSON *value);

#endif /* COHORT_SERVER_SCHEMA_INTERNAL_H */
