/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "server/json_members.h"
#include "server/server_internal.h"

/* The text that the messages of a request become, by the template. */

/* A part that only a model with eyes or ears could take. */
static bool has_media(const cJSON *messages) {
    const cJSON *message, *part;
    cJSON_ArrayForEach(message, messages) {
        cJSON_ArrayForEach(part, cJSON_GetObjectItemCaseSensitive(message, "content")) {
            const char *type =
                cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(part, "type"));
            if (type &&
                (strstr(type, "image") || strstr(type, "audio") || strstr(type, "video")))
                return true;
        }
    }
    return false;
}

/* A template of a stranger may take its time, within our bounds: only where it is
 * allowed. */
static bool check_template(const cohort_server *server, const cohort_api_request *api,
                           cohort_api_error *error) {
    const cJSON *extra =
        api->chat_template_kwargs.is_set ? api->chat_template_kwargs.json : NULL;
    const cJSON *inside = cJSON_GetObjectItemCaseSensitive(extra, "chat_template");
    bool has_one = api->chat_template.is_set || (inside && !cJSON_IsNull(inside));
    if (has_one && !server->options.trust_request_chat_template)
        return cohort_api_refuse(error, 400, NULL,
                                 "Chat template is passed with request, but "
                                 "--trust-request-chat-template is not set. Refused "
                                 "request with untrusted chat template.");
    const char *unexpected = inside ? "chat_template"
                             : cJSON_GetObjectItemCaseSensitive(extra, "tokenize")
                                 ? "tokenize"
                                 : NULL;
    return !unexpected ||
           cohort_api_refuse(error, 400, NULL,
                             "Found unexpected chat template kwargs from request: {'%s'}",
                             unexpected);
}

static void put_if_set(cJSON *to, const char *name, const cJSON *value) {
    if (value && !cJSON_IsNull(value))
        cJSON_AddItemToObject(to, name, cJSON_Duplicate(value, true));
}

static void put_or_null(cJSON *to, const char *name, const cJSON *value) {
    cJSON_AddItemToObject(to, name,
                          value ? cJSON_Duplicate(value, true) : cJSON_CreateNull());
}

/* Tools as vLLM hands them on: known members only, in its order, and null for what was
 * left out.  A template writes them into the prompt as they are. */
static cJSON *copy_tool(const cJSON *given) {
    const cJSON *function = cJSON_GetObjectItemCaseSensitive(given, "function");
    const cJSON *defers = cJSON_GetObjectItemCaseSensitive(given, "defer_loading");
    if (!cJSON_IsObject(function)) return cJSON_Duplicate(given, true);
    const cJSON *own = cJSON_GetObjectItemCaseSensitive(function, "defer_loading");
    cJSON *tool = cJSON_CreateObject();
    cJSON_AddStringToObject(tool, "type", "function");
    cJSON *copy = cJSON_AddObjectToObject(tool, "function");
    static const char *const always[] = {"name", "description", "parameters"};
    for (size_t i = 0; i < sizeof always / sizeof *always; i++)
        put_or_null(copy, always[i],
                    cJSON_GetObjectItemCaseSensitive(function, always[i]));
    put_if_set(copy, "strict", cJSON_GetObjectItemCaseSensitive(function, "strict"));
    put_if_set(copy, "defer_loading", own && !cJSON_IsNull(own) ? own : defers);
    put_if_set(tool, "defer_loading", defers);
    return tool;
}

/* NULL: none. */
static cJSON *copy_tools(const cohort_value *given) {
    const cJSON *item;
    if (!given->is_set || !cJSON_GetArraySize(given->json)) return NULL;
    cJSON *tools = cJSON_CreateArray();
    cJSON_ArrayForEach(item, given->json) cJSON_AddItemToArray(tools, copy_tool(item));
    return tools;
}

/* The server's defaults, before which go those of the request that say something.  False:
 * no memory. */
static bool merge_extra(const cohort_server *server, const cohort_api_request *api,
                        cJSON **out_merged) {
    const cJSON *item;
    cJSON *merged = *out_merged = cJSON_Duplicate(server->template_defaults, true);
    if (!merged) return false;
    if (!api->chat_template_kwargs.is_set) return true;
    cJSON_ArrayForEach(item, api->chat_template_kwargs.json) {
        const char *text = cJSON_GetStringValue(item);
        if (cJSON_IsNull(item) || (text && !strcmp(text, "auto"))) continue;
        cJSON *copy = cJSON_Duplicate(item, true);
        if (cJSON_AddItemToObject(merged, item->string, copy)) continue;
        cJSON_Delete(copy);
        return false;
    }
    return cohort_server_json_unite_members(merged, NULL);
}

bool cohort_render_messages(const cohort_server *server, const cohort_api_request *api,
                            char **out_text, size_t *out_size, cohort_api_error *error) {
    cohort_conversation conversation = {
        .messages = api->messages.json,
        .documents = api->documents.is_set ? api->documents.json : NULL,
        .extra = api->chat_template_kwargs.is_set ? api->chat_template_kwargs.json : NULL,
        .reasoning_effort =
            api->reasoning_effort.is_set ? api->reasoning_effort.text : NULL,
        .template_ = api->chat_template.is_set ? api->chat_template.text : NULL,
        .add_generation_prompt = api->add_generation_prompt.whole,
        .continue_final_message = api->continue_final_message.whole};
    if (conversation.add_generation_prompt && conversation.continue_final_message)
        return cohort_api_refuse(error, 400, NULL,
                                 "Cannot set both `continue_final_message` and "
                                 "`add_generation_prompt` to True.");
    if (!check_template(server, api, error)) return false;
    if (has_media(api->messages.json))
        return cohort_api_refuse(error, 400, NULL, "%s is not a multimodal model",
                                 server->options.served_names[0]);
    cJSON *tools = copy_tools(&api->tools), *extra = NULL;
    conversation.tools = tools;
    cohort_status status = COHORT_E_NOMEM;
    if (server->template_defaults && !merge_extra(server, api, &extra))
        COHORT_FAIL(COHORT_E_NOMEM, "chat_template_kwargs");
    else {
        if (extra) conversation.extra = extra;
        status = cohort_chat_render(server->chat, &conversation, out_text, out_size);
    }
    cJSON_Delete(tools);
    cJSON_Delete(extra);
    /* Templates speak to clients. */
    return status >= 0 || cohort_api_refuse(error, status == COHORT_E_NOMEM ? 503 : 400,
                                            NULL, "%s", cohort_last_error()->message);
}
