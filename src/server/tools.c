/* SPDX-License-Identifier: Apache-2.0 */
#include "server/tools.h"

#include <stdlib.h>
#include <string.h>

#include "server/api_error.h"

#define USAGE                                                            \
    "Correct usage: `{\"type\": \"function\", \"function\": {\"name\": " \
    "\"my_function\"}}`"

static const cJSON *name_of(const cJSON *tool) {
    const cJSON *function = cJSON_GetObjectItemCaseSensitive(tool, "function");
    return cJSON_GetObjectItemCaseSensitive(function, "name");
}

/* As Python shows it between back-ticks. */
static const char *shown(const cJSON *value) {
    if (!value || cJSON_IsNull(value)) return "None";
    return cJSON_IsString(value) ? value->valuestring : "...";
}

static const cJSON *find(const cJSON *tools, const char *name) {
    const cJSON *tool;
    cJSON_ArrayForEach(tool, tools) {
        const char *own = cJSON_GetStringValue(name_of(tool));
        if (own && !strcmp(own, name)) return tool;
    }
    return NULL;
}

static bool check_named(const cohort_api_request *api, cohort_api_error *error) {
    const cJSON *choice = api->tool_choice.json;
    const cJSON *function = cJSON_GetObjectItemCaseSensitive(choice, "function");
    const cJSON *name = name_of(choice);
    if (!cJSON_IsObject(function))
        return cohort_api_refuse_value(
            error, "tool_choice.function", NULL,
            "Invalid value for `function`: `%.80s` in `tool_choice`! " USAGE,
            shown(function));
    if (!name)
        return cohort_api_refuse_value(
            error, "tool_choice.function.name", NULL,
            "Expected field `name` in `function` in `tool_choice`! " USAGE);
    if (!cJSON_IsString(name) || !name->valuestring[0])
        return cohort_api_refuse_value(
            error, "tool_choice.function.name", NULL,
            "Invalid `name` in `function`: `%.80s` in `tool_choice`! " USAGE,
            shown(name));
    if (!find(api->tools.json, name->valuestring))
        return cohort_api_refuse_value(
            error, "tool_choice", NULL,
            "The tool specified in `tool_choice` does not match any of the specified "
            "`tools`");
    if (api->structured_outputs.is_set)
        return cohort_api_refuse(error, 400, NULL,
                                 "You can only either use constraints for structured "
                                 "outputs or tools, not both.");
    return true;
}

static bool read_word(const char *word, bool auto_choice, cohort_tool_choice *out_choice,
                      cohort_api_error *error) {
    *out_choice = !strcmp(word, "required") ? COHORT_TOOLS_REQUIRED : COHORT_TOOLS_AUTO;
    if (*out_choice == COHORT_TOOLS_REQUIRED) return true;
    if (strcmp(word, "auto") != 0)
        return cohort_api_refuse_value(error, "tool_choice", NULL,
                                       "Invalid value for `tool_choice`: %.80s! Only "
                                       "named tools, \"none\", \"auto\" "
                                       "or \"required\" are supported.",
                                       word);
    return auto_choice ||
           cohort_api_refuse(error, 400, NULL,
                             "\"auto\" tool choice requires --enable-auto-tool-choice "
                             "and --tool-call-parser to be set");
}

bool cohort_tools_read(const cohort_api_request *api, bool auto_choice,
                       cohort_tool_choice *out_choice, cohort_api_error *error) {
    const cJSON *choice = api->tool_choice.is_set ? api->tool_choice.json : NULL;
    *out_choice = COHORT_TOOLS_NONE;
    if (api->tools.is_set && !cJSON_GetArraySize(api->tools.json))
        return cohort_api_refuse_value(
            error, "tools", NULL,
            "`tools` must not be an empty array. Either provide at least one tool or "
            "omit the field entirely.");
    const char *word = choice ? cJSON_GetStringValue(choice) : "auto";
    if ((!choice && !api->tools.is_set) || (word && !strcmp(word, "none"))) return true;
    if (!api->tools.is_set)
        return cohort_api_refuse_value(error, "tool_choice", NULL,
                                       "When using `tool_choice`, `tools` must be set.");
    if (!cJSON_IsObject(choice))
        return read_word(word ? word : "...", auto_choice, out_choice, error);
    *out_choice = COHORT_TOOLS_NAMED;
    return check_named(api, error);
}

char *cohort_tools_grammar(const cohort_api_request *api, cohort_tool_choice choice) {
    const cJSON *only =
        choice == COHORT_TOOLS_NAMED ? name_of(api->tool_choice.json) : NULL;
    bool is_parallel =
        !only && !(api->parallel_tool_calls.is_set && !api->parallel_tool_calls.whole);
    const cJSON *tool;
    cJSON *root = cJSON_CreateObject();
    cJSON *tools = cJSON_AddArrayToObject(root, "tools");
    cJSON_ArrayForEach(tool, api->tools.json) {
        const cJSON *name = name_of(tool);
        if (only && strcmp(name->valuestring, only->valuestring) != 0) continue;
        const cJSON *function = cJSON_GetObjectItemCaseSensitive(tool, "function");
        /* Without it only the form of the call is held, as vLLM does. */
        bool is_strict =
            cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(function, "strict"));
        const cJSON *parameters =
            cJSON_GetObjectItemCaseSensitive(function, "parameters");
        cJSON *item = cJSON_CreateObject();
        cJSON_AddItemToObject(item, "name", cJSON_Duplicate(name, true));
        if (is_strict && parameters)
            cJSON_AddItemToObject(item, "parameters", cJSON_Duplicate(parameters, true));
        cJSON_AddItemToArray(tools, item);
        if (only) break;
    }
    cJSON_AddBoolToObject(root, "parallel", is_parallel);
    char *text = cJSON_PrintUnformatted(root);
    cJSON_Delete(root);
    return text;
}
