/* SPDX-License-Identifier: Apache-2.0 */
#include "server/responses_input.h"

#include <string.h>

#include "server/as_chat.h"
#include "server/json_read.h"

enum { MAX_ALLOWED = 1024 /* each tool is looked for among them */ };

typedef struct reader {
    cohort_api_request *api;
    cJSON *messages;
    cohort_api_error *error;
} reader;

static bool refuse_item(const reader *self, const char *type, const char *why) {
    return cohort_api_refuse_value(self->error, "input", NULL,
                                   "an input item of type '%.60s' %s", type, why);
}

/* ---- items ------------------------------------------------------------------------- */

/* The texts of a list of parts, one after the other. */
static void join_parts(const cJSON *parts, cohort_body *out) {
    const cJSON *part;
    cJSON_ArrayForEach(part, parts) {
        const char *text = cohort_server_json_text(part, "text");
        if (text) cohort_body_puts(out, text);
    }
}

/* input_text and output_text are a chat's text; others stay, and are refused where the
 * model has no eyes. */
static cJSON *copy_parts(const cJSON *parts) {
    cJSON *copy = cJSON_CreateArray();
    const cJSON *part;
    cJSON_ArrayForEach(part, parts) {
        const char *type = cohort_server_json_text(part, "type"),
                   *text = cohort_server_json_text(part, "text");
        if (text && (cohort_server_is_word(type, "input_text") ||
                     cohort_server_is_word(type, "output_text"))) {
            cJSON *item = cJSON_CreateObject();
            cJSON_AddStringToObject(item, "type", "text");
            cJSON_AddStringToObject(item, "text", text);
            cJSON_AddItemToArray(copy, item);
        } else {
            cJSON_AddItemToArray(copy, cJSON_Duplicate(part, true));
        }
    }
    return copy;
}

static bool check_parts(const reader *self, const cJSON *content) {
    const cJSON *part;
    if (!cJSON_IsString(content) && !cJSON_IsArray(content))
        return refuse_item(self, "message", "needs content: a text or a list of parts");
    cJSON_ArrayForEach(part, content) {
        const char *type = cohort_server_json_text(part, "type");
        bool is_text = cohort_server_is_word(type, "input_text") ||
                       cohort_server_is_word(type, "output_text") ||
                       cohort_server_is_word(type, "text");
        if (!type || (is_text && !cohort_server_json_text(part, "text")))
            return refuse_item(self, "message", "has a part without a type or its text");
        if (cohort_server_is_word(type, "input_file"))
            return refuse_item(self, type, "is not supported");
    }
    return true;
}

/* Text of the assistant goes to their thoughts or calls before it, where those have
 * none. */
static bool add_answer(const reader *self, const cJSON *content) {
    cohort_body text = {0};
    if (cJSON_IsString(content)) cohort_body_puts(&text, content->valuestring);
    join_parts(content, &text);
    cJSON *message = cohort_as_chat_assistant(self->messages);
    if (cohort_server_json_member(message, "content"))
        message = cohort_as_chat_add_message(self->messages, "assistant", NULL);
    cJSON_AddStringToObject(message, "content", text.bytes ? text.bytes : "");
    cohort_body_deinit(&text);
    return true;
}

static bool add_message(const reader *self, const cJSON *item) {
    const char *role = cohort_server_json_text(item, "role");
    const cJSON *content = cohort_server_json_member(item, "content");
    if (!role) return refuse_item(self, "message", "needs a role");
    if (!check_parts(self, content)) return false;
    if (cohort_server_is_word(role, "assistant")) return add_answer(self, content);
    cJSON *message = cohort_as_chat_add_message(self->messages, role, NULL);
    cJSON_AddItemToObject(message, "content",
                          cJSON_IsArray(content) ? copy_parts(content)
                                                 : cJSON_Duplicate(content, true));
    return true;
}

static bool add_call(const reader *self, const cJSON *item, const char *type) {
    bool is_custom = cohort_server_is_word(type, "custom_tool_call");
    const char *id = cohort_server_json_text(item, "call_id"),
               *name = cohort_server_json_text(item, "name");
    const char *given = cohort_server_json_text(item, is_custom ? "input" : "arguments");
    if (!id || !name || !given)
        return refuse_item(self, type,
                           "needs call_id, name and arguments (of a custom tool: input)");
    cohort_body arguments = {0};
    if (is_custom) {
        cohort_body_puts(&arguments, "{\"input\": ");
        cohort_body_json(&arguments, given, strlen(given));
        cohort_body_puts(&arguments, "}");
    }
    cohort_as_chat_add_call(cohort_as_chat_assistant(self->messages), id, name,
                            is_custom && arguments.bytes ? arguments.bytes : given);
    cohort_body_deinit(&arguments);
    return true;
}

static bool add_result(const reader *self, const cJSON *item, const char *type) {
    const char *id = cohort_server_json_text(item, "call_id");
    const cJSON *output = cohort_server_json_member(item, "output");
    if (!id) return refuse_item(self, type, "needs a call_id");
    if (!check_parts(self, output)) return false;
    cJSON *message = cohort_as_chat_add_message(self->messages, "tool", NULL);
    cJSON_AddItemToObject(message, "content",
                          cJSON_IsArray(output) ? copy_parts(output)
                                                : cJSON_Duplicate(output, true));
    cJSON_AddStringToObject(message, "tool_call_id", id);
    return true;
}

static bool add_thoughts(const reader *self, const cJSON *item) {
    const cJSON *sealed = cohort_server_json_member(item, "encrypted_content");
    cohort_body text = {0};
    if (cJSON_IsString(sealed) && *sealed->valuestring)
        return cohort_api_refuse_value(self->error, "input", NULL,
                                       "Encrypted content is not supported.");
    join_parts(cohort_server_json_member(item, "content"), &text);
    if (!text.size) join_parts(cohort_server_json_member(item, "summary"), &text);
    if (text.size) {
        cJSON *message = cohort_as_chat_assistant(self->messages);
        if (cohort_server_json_member(message, "reasoning"))
            message = cohort_as_chat_add_message(self->messages, "assistant", NULL);
        cJSON_AddStringToObject(message, "reasoning", text.bytes);
    }
    cohort_body_deinit(&text);
    return true;
}

static bool add_item(const reader *self, const cJSON *item) {
    const char *type = cohort_server_json_text(item, "type");
    if (!type || cohort_server_is_word(type, "message")) return add_message(self, item);
    if (cohort_server_is_word(type, "function_call") ||
        cohort_server_is_word(type, "custom_tool_call"))
        return add_call(self, item, type);
    if (cohort_server_is_word(type, "function_call_output") ||
        cohort_server_is_word(type, "custom_tool_call_output"))
        return add_result(self, item, type);
    if (cohort_server_is_word(type, "reasoning")) return add_thoughts(self, item);
    return cohort_api_refuse_value(self->error, "input", NULL,
                                   "Unsupported input item type: %.60s", type);
}

/* A last message that is in progress is gone on with. */
static void look_at_last(const reader *self, const cJSON *items) {
    const cJSON *last = cJSON_IsArray(items) && items->child ? items->child->prev : NULL;
    const char *type = cohort_server_json_text(last, "type"),
               *status = cohort_server_json_text(last, "status");
    bool may_go_on = !type || cohort_server_is_word(type, "message") ||
                     cohort_server_is_word(type, "reasoning");
    if (!may_go_on || !(cohort_server_is_word(status, "in_progress") ||
                        cohort_server_is_word(status, "incomplete")))
        return;
    self->api->add_generation_prompt.whole = 0;
    self->api->continue_final_message.whole = 1;
}

/* Instructions are this response's alone: those of the one before do not carry over. */
static bool add_messages(const reader *self, const cJSON *history) {
    const cohort_api_request *api = self->api;
    const cJSON *item;
    if (api->instructions.is_set && *api->instructions.text)
        cohort_as_chat_add_message(self->messages, "system", api->instructions.text);
    cJSON_ArrayForEach(item, cohort_server_json_member(history, "messages"))
        cJSON_AddItemToArray(self->messages, cJSON_Duplicate(item, true));
    cJSON_ArrayForEach(item, cohort_server_json_member(history, "items")) {
        /* Thoughts are not told again, as in vLLM. */
        if (!cohort_server_is_word(cohort_server_json_text(item, "type"), "reasoning") &&
            !add_item(self, item))
            return false;
    }
    if (cJSON_IsString(api->input.json)) {
        cohort_as_chat_add_message(self->messages, "user", api->input.json->valuestring);
        return true;
    }
    cJSON_ArrayForEach(item, api->input.json) {
        if (!add_item(self, item)) return false;
    }
    look_at_last(self, api->input.json);
    return true;
}

/* ---- tools ------------------------------------------------------------------------- */

static const char custom_parameters[] =
    "{\"type\":\"object\",\"properties\":{\"input\":{\"type\":\"string\",\"description\":"
    "\"The freeform text payload for this tool.\"}},\"required\":[\"input\"],"
    "\"additionalProperties\":false}";

/* Is it among the tools of {"type":"allowed_tools","tools":[...]}?  NULL: all are. */
static bool is_allowed(const cJSON *allowed, const char *name) {
    const cJSON *item;
    if (!allowed) return true;
    cJSON_ArrayForEach(item, allowed) {
        if (cohort_server_is_word(cohort_server_json_text(item, "name"), name))
            return true;
    }
    return false;
}

static bool add_tool(const reader *self, cJSON *tools, const cJSON *tool,
                     const cJSON *allowed) {
    const char *type = cohort_server_json_text(tool, "type"),
               *name = cohort_server_json_text(tool, "name");
    bool is_custom = cohort_server_is_word(type, "custom");
    if (!is_custom && !cohort_server_is_word(type, "function")) return true;
    if (!name || !*name)
        return cohort_api_refuse_value(self->error, "tools", NULL,
                                       "a tool of type '%s' needs a name", type);
    if (is_custom &&
        cohort_server_is_word(
            cohort_server_json_text(cohort_server_json_member(tool, "format"), "type"),
            "grammar"))
        return cohort_api_refuse_value(
            self->error, "tools", NULL,
            "Custom tools with a grammar format are not supported; only free-form text "
            "custom tools are accepted.");
    if (!is_allowed(allowed, name)) return true;
    cJSON *parameters = is_custom ? cJSON_Parse(custom_parameters) : NULL;
    cohort_as_chat_add_tool(tools, name, cohort_server_json_member(tool, "description"),
                            is_custom ? parameters
                                      : cohort_server_json_member(tool, "parameters"),
                            cohort_server_json_member(tool, "strict"));
    cJSON_Delete(parameters);
    return true;
}

/* What tool_choice says, of a list that is not empty. */
typedef struct choice {
    const char *word, *name;
    const cJSON *allowed;
} choice;

static bool check_word(const reader *self, const char *word) {
    return cohort_server_is_word(word, "auto") || cohort_server_is_word(word, "none") ||
           cohort_server_is_word(word, "required") ||
           cohort_api_refuse_value(
               self->error, "tool_choice", NULL,
               "tool_choice should be 'auto', 'none' or 'required', not '%.60s'", word);
}

static bool read_choice(const reader *self, choice *out) {
    const cJSON *given = self->api->tool_choice.json;
    const char *type = cohort_server_json_text(given, "type");
    *out = (choice){.word = "auto"};
    if (!self->api->tool_choice.is_set) return true;
    if (cJSON_IsString(given)) {
        out->word = given->valuestring;
    } else if (cohort_server_is_word(type, "allowed_tools")) {
        const char *mode = cohort_server_json_text(given, "mode");
        if (mode) out->word = mode;
        out->allowed = cohort_server_json_member(given, "tools");
        if (cJSON_GetArraySize(out->allowed) > MAX_ALLOWED)
            return cohort_api_refuse_value(self->error, "tool_choice", NULL,
                                           "tool_choice allows more than %d tools",
                                           MAX_ALLOWED);
    } else if (cohort_server_is_word(type, "function") ||
               cohort_server_is_word(type, "custom")) {
        out->name = cohort_server_json_text(given, "name");
        return (out->name && *out->name) ||
               cohort_api_refuse_value(
                   self->error, "tool_choice", NULL,
                   "Tool choice 'function' not found in 'tools' parameter.");
    } else {
        return cohort_api_refuse_value(self->error, "tool_choice", NULL,
                                       "tool_choice of type '%.60s' is not supported; "
                                       "'function', 'custom' and 'allowed_tools' are",
                                       type ? type : "");
    }
    return check_word(self, out->word);
}

static bool read_tools(const reader *self) {
    const cJSON *given = self->api->tools.is_set ? self->api->tools.json : NULL, *tool;
    choice asked;
    if (!read_choice(self, &asked)) return false;
    cJSON *tools = cJSON_CreateArray();
    cJSON_ArrayForEach(tool, given) {
        if (add_tool(self, tools, tool, asked.allowed)) continue;
        cJSON_Delete(tools);
        return false;
    }
    bool is_empty = !cJSON_GetArraySize(tools);
    bool needs = asked.name || cohort_server_is_word(asked.word, "required");
    cohort_as_chat_set_tools(self->api, tools, asked.word, asked.name);
    if (!is_empty || !needs) return true;
    return cohort_api_refuse_value(
        self->error, "tool_choice", NULL,
        asked.name ? "Tool choice 'function' not found in 'tools' parameter."
                   : "Tool choice 'required' must be specified with 'tools' parameter.");
}

/* ---- the rest ---------------------------------------------------------------------- */

static bool read_format(const reader *self) {
    const cohort_api_request *api = self->api;
    const cJSON *format =
        api->text.is_set ? cohort_server_json_member(api->text.json, "format") : NULL;
    const char *type = cohort_server_json_text(format, "type");
    if (!cJSON_IsObject(format) || cohort_server_is_word(type, "text")) return true;
    if (api->structured_outputs.is_set)
        return cohort_api_refuse_value(
            self->error, "structured_outputs", NULL,
            "Cannot specify both structured_outputs and text.format");
    const cJSON *schema = cohort_server_json_member(format, "schema");
    if (cohort_server_is_word(type, "json_object")) {
        cohort_as_chat_set_format(self->api, NULL);
        return true;
    }
    if (cohort_server_is_word(type, "json_schema") && cJSON_IsObject(schema)) {
        cohort_as_chat_set_format(self->api, schema);
        return true;
    }
    return cohort_api_refuse_value(
        self->error, "text.format", NULL,
        "text.format must be of type 'text', 'json_object', or "
        "'json_schema' with a 'schema'");
}

static void read_logprobs(const reader *self) {
    cohort_api_request *api = self->api;
    const cJSON *include = api->include.is_set ? api->include.json : NULL, *item;
    cJSON_ArrayForEach(item, include) {
        if (!cohort_server_is_word(item->valuestring, "message.output_text.logprobs"))
            continue;
        api->logprobs = (cohort_value){.is_set = true, .whole = 1};
        return;
    }
    api->top_logprobs = (cohort_value){0};
}

static void read_rest(const reader *self) {
    cohort_api_request *api = self->api;
    const char *effort = api->reasoning.is_set
                             ? cohort_server_json_text(api->reasoning.json, "effort")
                             : NULL;
    if (effort) api->reasoning_effort = (cohort_value){.is_set = true, .text = effort};
    if (api->truncation.is_set && cohort_server_is_word(api->truncation.text, "auto"))
        api->truncate_prompt_tokens = (cohort_value){.is_set = true, .whole = -1};
}

bool cohort_responses_translate(cohort_api_request *api, const cJSON *history,
                                cohort_api_error *error) {
    reader self = {api, NULL, error};
    if (api->background.whole && !api->store.whole)
        return cohort_api_refuse_value(
            error, "background", NULL,
            "background can only be used when `store` is true");
    if (api->background.whole && api->stream.whole)
        return cohort_api_refuse_value(
            error, "stream", NULL,
            "a response in the background is no stream: retrieve it by its id");
    self.messages = cohort_as_chat_begin(api, error);
    if (!self.messages) return false;
    read_logprobs(&self);
    read_rest(&self);
    return add_messages(&self, history) && read_tools(&self) && read_format(&self);
}
