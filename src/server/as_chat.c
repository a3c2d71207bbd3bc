/* SPDX-License-Identifier: Apache-2.0 */
#include "server/as_chat.h"

#include <string.h>

static void set(cohort_api_request *api, cohort_value *out, const char *name,
                cJSON *json) {
    if (!json || !cJSON_AddItemToObject(api->json, name, json)) return;
    *out =
        (cohort_value){.is_set = true, .text = cJSON_GetStringValue(json), .json = json};
}

cJSON *cohort_as_chat_begin(cohort_api_request *api, cohort_api_error *error) {
    set(api, &api->messages, "messages", cJSON_CreateArray());
    api->n.whole = 1;
    api->add_generation_prompt.whole = 1;
    if (api->messages.is_set) return (cJSON *)api->messages.json;
    cohort_api_refuse(error, 503, NULL, "out of memory");
    return NULL;
}

cJSON *cohort_as_chat_add_message(cJSON *messages, const char *role,
                                  const char *content) {
    cJSON *message = cJSON_CreateObject();
    cJSON_AddStringToObject(message, "role", role);
    if (content) cJSON_AddStringToObject(message, "content", content);
    cJSON_AddItemToArray(messages, message);
    return message;
}

cJSON *cohort_as_chat_assistant(cJSON *messages) {
    cJSON *last = messages->child ? messages->child->prev : NULL;
    const char *role =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(last, "role"));
    if (role && !strcmp(role, "assistant")) return last;
    return cohort_as_chat_add_message(messages, "assistant", NULL);
}

void cohort_as_chat_add_call(cJSON *message, const char *id, const char *name,
                             const char *arguments) {
    cJSON *calls = cJSON_GetObjectItemCaseSensitive(message, "tool_calls");
    if (!calls) calls = cJSON_AddArrayToObject(message, "tool_calls");
    cJSON *call = cJSON_CreateObject();
    cJSON_AddStringToObject(call, "id", id);
    cJSON_AddStringToObject(call, "type", "function");
    cJSON *function = cJSON_AddObjectToObject(call, "function");
    cJSON_AddStringToObject(function, "name", name);
    cJSON_AddStringToObject(function, "arguments", arguments);
    cJSON_AddItemToArray(calls, call);
}

static void copy(cJSON *to, const char *name, const cJSON *value) {
    if (value && !cJSON_IsNull(value))
        cJSON_AddItemToObject(to, name, cJSON_Duplicate(value, true));
}

void cohort_as_chat_add_tool(cJSON *tools, const char *name, const cJSON *description,
                             const cJSON *parameters, const cJSON *strict) {
    cJSON *tool = cJSON_CreateObject();
    cJSON_AddStringToObject(tool, "type", "function");
    cJSON *function = cJSON_AddObjectToObject(tool, "function");
    cJSON_AddStringToObject(function, "name", name);
    copy(function, "description", description);
    copy(function, "parameters", parameters);
    copy(function, "strict", strict);
    cJSON_AddItemToArray(tools, tool);
}

void cohort_as_chat_set_tools(cohort_api_request *api, cJSON *tools, const char *choice,
                              const char *name) {
    api->tools = api->tool_choice = (cohort_value){0};
    if (!cJSON_GetArraySize(tools)) {
        cJSON_Delete(tools);
        return;
    }
    set(api, &api->tools, "tools", tools);
    if (name) {
        cJSON *named = cJSON_CreateObject();
        cJSON_AddStringToObject(named, "type", "function");
        cJSON *function = cJSON_AddObjectToObject(named, "function");
        cJSON_AddStringToObject(function, "name", name);
        set(api, &api->tool_choice, "tool_choice", named);
    } else if (choice) {
        set(api, &api->tool_choice, "tool_choice", cJSON_CreateString(choice));
    }
}

void cohort_as_chat_set_format(cohort_api_request *api, const cJSON *schema) {
    cJSON *format = cJSON_CreateObject();
    cJSON_AddStringToObject(format, "type", schema ? "json_schema" : "json_object");
    if (schema) copy(cJSON_AddObjectToObject(format, "json_schema"), "schema", schema);
    set(api, &api->response_format, "response_format", format);
}
