/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "grammar/grammar_internal.h"

/* Calls of tools as text.  Outside of the arguments nothing is left to the model but the
 * name: models are trained on these very bytes. */

static cohort_expr literal(cohort_builder *builder, const char *text) {
    return cohort_expr_literal(builder, text, strlen(text));
}

/* What the arguments of a tool must be: any object where it has no parameters. */
static cohort_expr arguments_of(cohort_builder *builder, const cJSON *tool) {
    const cJSON *parameters = cJSON_GetObjectItemCaseSensitive(tool, "parameters");
    if (!parameters || cJSON_IsNull(parameters))
        return cohort_grammar_json_any_object(builder);
    char *schema = cJSON_PrintUnformatted(parameters);
    if (!schema) {
        COHORT_BUILDER_FAIL(builder, COHORT_E_NOMEM, "a schema");
        return COHORT_EXPR_NEVER;
    }
    uint32_t rule = cohort_schema_compile(builder, schema, strlen(schema));
    free(schema);
    return cohort_expr_call(builder, rule);
}

static cohort_expr call_of(cohort_builder *builder, const cJSON *tool) {
    const cJSON *name = cJSON_GetObjectItemCaseSensitive(tool, "name");
    char *quoted = cJSON_IsString(name) ? cJSON_PrintUnformatted(name) : NULL;
    if (!quoted) {
        COHORT_BUILDER_FAIL(builder, COHORT_E_INVALID, "a tool must have a name");
        return COHORT_EXPR_NEVER;
    }
    cohort_expr expr = literal(builder, "<tool_call>\n{\"name\": ");
    expr = cohort_expr_concat(builder, expr, literal(builder, quoted));
    expr = cohort_expr_concat(builder, expr, literal(builder, ", \"arguments\": "));
    expr = cohort_expr_concat(builder, expr, arguments_of(builder, tool));
    free(quoted);
    return cohort_expr_concat(builder, expr, literal(builder, "}\n</tool_call>"));
}

void cohort_tool_calls_compile(cohort_builder *builder, const char *text, size_t size) {
    uint32_t rule = cohort_rule_reserve(builder);
    cJSON *json = cohort_schema_parse(builder, "tools", text, size);
    const cJSON *tools = cJSON_GetObjectItemCaseSensitive(json, "tools"), *tool;
    cohort_expr any = COHORT_EXPR_NEVER;
    if (json && !cJSON_GetArraySize(tools))
        COHORT_BUILDER_FAIL(builder, COHORT_E_INVALID, "there are no tools to call");
    cJSON_ArrayForEach(tool, tools) {
        if (builder->status < 0) break;
        any = cohort_expr_either(builder, call_of(builder, tool), any);
    }
    cohort_expr expr = any;
    if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(json, "parallel")))
        expr = cohort_expr_concat(
            builder, any,
            cohort_expr_repeat(builder,
                               cohort_expr_concat(builder, literal(builder, "\n"), any),
                               0, COHORT_UNBOUNDED));
    cJSON_Delete(json);
    cohort_rule_make_expr(builder, rule, expr);
}
