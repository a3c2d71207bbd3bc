/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "server/schema_internal.h"

/* What /openapi.json says of the tables. */

#define ARRAY_OF(inside) "{\"type\":\"array\",\"items\":" inside "}"
#define ID               "{\"type\":\"integer\",\"minimum\":0}"
#define STRING           "{\"type\":\"string\"}"

/* Alternatives, as members of anyOf; a single one stands alone. */
static const char *kind_schema(const schema_field *at) {
    switch (at->kind) {
    case FIELD_INTEGER: return "{\"type\":\"integer\"}";
    case FIELD_NUMBER: return "{\"type\":\"number\"}";
    case FIELD_TRUTH: return "{\"type\":\"boolean\"}";
    case FIELD_TEXT:
    case FIELD_LITERAL: return STRING;
    case FIELD_LIST:
    case FIELD_TOOLS:
    case FIELD_MESSAGES: return ARRAY_OF("{\"type\":\"object\"}");
    case FIELD_OBJECT: return "{\"type\":\"object\"}";
    case FIELD_WORDS: return ARRAY_OF(STRING);
    case FIELD_IDS: return ARRAY_OF("{\"type\":\"integer\"}");
    case FIELD_PROMPT:
        return ARRAY_OF(ID) "," ARRAY_OF(ARRAY_OF(ID)) "," STRING "," ARRAY_OF(STRING);
    case FIELD_TEXT_OR_IDS: return STRING "," ARRAY_OF(STRING);
    case FIELD_STOP: return STRING "," ARRAY_OF(STRING);
    case FIELD_INPUT: return STRING "," ARRAY_OF("{\"type\":\"object\"}");
    case FIELD_BIAS:
        return "{\"type\":\"object\",\"additionalProperties\":{\"type\":\"number\"}}";
    case FIELD_FORMAT:
        return "{\"$ref\":\"#/components/schemas/ResponseFormat\"},{\"$ref\":\"#/"
               "components/schemas/StructuralTagResponseFormat\"},{\"$ref\":\"#/"
               "components/schemas/LegacyStructuralTagResponseFormat\"}";
    case FIELD_CHOICE:
        return "{\"type\":\"string\",\"const\":\"none\"},{\"type\":\"string\",\"const\":"
               "\"auto\"},{\"type\":\"string\",\"const\":\"required\"},{\"$ref\":\"#/"
               "components/schemas/ChatCompletionNamedToolChoiceParam\"}";
    case FIELD_STRUCT: return NULL;
    }
    return NULL;
}

static bool has_alternatives(const schema_field *at) {
    return at->flags & NULLABLE || at->kind == FIELD_PROMPT || at->kind == FIELD_STOP ||
           at->kind == FIELD_CHOICE || at->kind == FIELD_INPUT ||
           at->kind == FIELD_TEXT_OR_IDS;
}

static void write_field(cohort_body *out, const schema_field *at) {
    const char *shape = kind_schema(at);
    bool many = has_alternatives(at);
    cohort_body_printf(out, "\"%s\":{", at->name);
    if (many) cohort_body_puts(out, "\"anyOf\":[");
    if (!shape)
        cohort_body_printf(out, "%s\"$ref\":\"#/components/schemas/%s\"%s",
                           many ? "{" : "", at->type, many ? "}" : "");
    else if (many)
        cohort_body_puts(out, shape);
    else /* without its braces */
        cohort_body_add(out, shape + 1, strlen(shape) - 2);
    if (at->flags & NULLABLE) cohort_body_puts(out, ",{\"type\":\"null\"}");
    if (many) cohort_body_puts(out, "]");
    if (at->standard) cohort_body_printf(out, ",\"default\":%s", at->standard);
    cohort_body_puts(out, "}");
}

static void write_properties(cohort_body *out, const schema_table *table) {
    cohort_body_puts(out, "{\"type\":\"object\",\"properties\":{");
    for (size_t i = 0; i < table->n_fields; i++) {
        if (i) cohort_body_puts(out, ",");
        write_field(out, &table->fields[i]);
    }
    cohort_body_puts(out, "}");
}

static void write_named(cohort_body *out) {
    static const char *const names[] = {"StructuredOutputsParams",
                                        "RepetitionDetectionParams",
                                        "ResponseFormat",
                                        "StructuralTagResponseFormat",
                                        "LegacyStructuralTagResponseFormat",
                                        "ChatCompletionNamedToolChoiceParam"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        cohort_body_printf(out, "%s\"%s\":{\"type\":\"object\"}", i ? "," : "", names[i]);
}

void cohort_server_schema_write(cohort_body *out) {
    cohort_body_puts(out, "{");
    write_named(out);
    cohort_body_puts(out, ",\"StreamOptions\":");
    write_properties(out, &cohort_server_schema_stream_options);
    cohort_body_puts(out, "}");
    for (size_t s = 0; s < COHORT_N_SCHEMAS; s++) {
        const schema_table *table = &cohort_server_schema_tables[s];
        bool has_required = false;
        cohort_body_printf(out, ",\"%s\":", table->name);
        write_properties(out, table);
        for (size_t i = 0; i < table->n_fields; i++) {
            if (!(table->fields[i].flags & REQUIRED)) continue;
            cohort_body_printf(out, "%s\"%s\"", has_required ? "," : ",\"required\":[",
                               table->fields[i].name);
            has_required = true;
        }
        cohort_body_puts(out, has_required ? "]}" : "}");
    }
    cohort_body_puts(out, "}");
}
