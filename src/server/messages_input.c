/* SPDX-License-Identifier: Apache-2.0 */
#include "server/messages_input.h"

#include <string.h>

#include "chat/chat.h"
#include "server/as_chat.h"
#include "server/json_read.h"
#include "server/json_write.h"

typedef struct reader {
    cohort_api_request *api;
    const cJSON *given; /* the messages as they came */
    cJSON *messages;    /* of the chat */
    bool merges_system;
    cohort_api_error *error;
} reader;

static const char *text_or(const char *text, const char *other) {
    return text ? text : other;
}

static bool refuse(const reader *self, const char *param, const char *why) {
    return cohort_api_refuse(self->error, 400, param, "%s: %s", param, why);
}

/* ---- the system -------------------------------------------------------------------- */

static void add_system_text(cohort_body *out, const char *text) {
    if (text) cohort_body_puts(out, cohort_chat_skip_billing(text));
}

static void add_system(cohort_body *out, const cJSON *content) {
    const cJSON *block;
    if (cJSON_IsString(content)) {
        add_system_text(out, content->valuestring);
        return;
    }
    cJSON_ArrayForEach(block, content) {
        if (cohort_server_is_word(cohort_server_json_text(block, "type"), "text"))
            add_system_text(out, cohort_server_json_text(block, "text"));
    }
}

static bool is_system(const cJSON *message) {
    return cohort_server_is_word(cohort_server_json_text(message, "role"), "system");
}

bool cohort_messages_have_system(const cohort_api_request *api) {
    const cJSON *message;
    cJSON_ArrayForEach(message, api->messages.json) {
        if (is_system(message)) return true;
    }
    return false;
}

static void put_system(const reader *self, const cohort_body *text) {
    if (text->size) cohort_as_chat_add_message(self->messages, "system", text->bytes);
}

static void begin_with_system(const reader *self) {
    cohort_body text = {0};
    const cJSON *message;
    if (self->api->system.is_set) add_system(&text, self->api->system.json);
    if (self->merges_system) cJSON_ArrayForEach(message, self->given) {
            if (is_system(message))
                add_system(&text, cohort_server_json_member(message, "content"));
        }
    put_system(self, &text);
    cohort_body_deinit(&text);
}

/* ---- blocks ------------------------------------------------------------------------ */

/* A message while its blocks are read. */
typedef struct blocks {
    cJSON *message; /* not in the list yet */
    cJSON *parts;
    cohort_body thoughts;
    bool is_user;
} blocks;

static void add_part(cJSON *parts, const char *text) {
    cJSON *part = cJSON_CreateObject();
    cJSON_AddStringToObject(part, "type", "text");
    cJSON_AddStringToObject(part, "text", text);
    cJSON_AddItemToArray(parts, part);
}

/* A result is the tool's message, before the user's. */
static void add_result(const reader *self, const cJSON *block) {
    const cJSON *content = cohort_server_json_member(block, "content"), *item;
    cohort_body text = {0};
    if (cJSON_IsString(content)) cohort_body_puts(&text, content->valuestring);
    if (!cJSON_IsArray(content)) content = NULL;
    cJSON_ArrayForEach(item, content) {
        if (!cohort_server_is_word(cohort_server_json_text(item, "type"), "text"))
            continue;
        if (text.size) cohort_body_puts(&text, "\n");
        cohort_body_puts(&text, text_or(cohort_server_json_text(item, "text"), ""));
    }
    cJSON *message =
        cohort_as_chat_add_message(self->messages, "tool", text_or(text.bytes, ""));
    cJSON_AddStringToObject(message, "tool_call_id",
                            text_or(cohort_server_json_text(block, "tool_use_id"), ""));
    cohort_body_deinit(&text);
}

static bool has_image(const cJSON *content) {
    const cJSON *item;
    if (!cJSON_IsArray(content)) return false;
    cJSON_ArrayForEach(item, content) {
        if (cohort_server_is_word(cohort_server_json_text(item, "type"), "image"))
            return true;
    }
    return false;
}

static void add_use(blocks *to, const cJSON *block) {
    const cJSON *input = cohort_server_json_member(block, "input");
    cohort_body arguments = {0};
    if (cJSON_IsObject(input))
        cohort_server_json_write(&arguments, input);
    else
        cohort_body_puts(&arguments, "{}");
    cohort_as_chat_add_call(to->message,
                            text_or(cohort_server_json_text(block, "id"), ""),
                            text_or(cohort_server_json_text(block, "name"), ""),
                            text_or(arguments.bytes, "{}"));
    cohort_body_deinit(&arguments);
}

static bool add_block(const reader *self, blocks *to, const cJSON *block) {
    static const char *const passed[] = {"redacted_thinking", "tool_reference"};
    const char *type = cohort_server_json_text(block, "type"),
               *text = cohort_server_json_text(block, "text");
    if (!type) return refuse(self, "messages", "a block of content needs a type");
    for (size_t i = 0; i < sizeof passed / sizeof *passed; i++)
        if (!strcmp(type, passed[i])) return true;
    if (!strcmp(type, "text")) {
        if (!text)
            return refuse(self, "messages", "a block of type 'text' needs its text");
        if (*text) add_part(to->parts, text);
    } else if (!strcmp(type, "thinking")) {
        cohort_body_puts(&to->thoughts,
                         text_or(cohort_server_json_text(block, "thinking"), ""));
    } else if (!strcmp(type, "tool_use")) {
        add_use(to, block);
    } else if (!strcmp(type, "tool_result") && to->is_user) {
        if (has_image(cohort_server_json_member(block, "content")))
            return refuse(self, "messages", "the model takes no images");
        add_result(self, block);
    } else if (!strcmp(type, "image")) {
        return refuse(self, "messages", "the model takes no images");
    } else {
        return cohort_api_refuse(self->error, 400, "messages",
                                 "messages: a block of type '%.60s' is not supported",
                                 type);
    }
    return true;
}

/* One text is a text, several are parts. */
static void put_content(blocks *from) {
    const cJSON *first = from->parts->child;
    if (from->thoughts.size)
        cJSON_AddStringToObject(from->message, "reasoning", from->thoughts.bytes);
    if (first && !first->next)
        cJSON_AddStringToObject(from->message, "content",
                                cohort_server_json_text(first, "text"));
    else if (first)
        cJSON_AddItemToObject(from->message, "content",
                              cJSON_Duplicate(from->parts, true));
}

static bool add_blocks(const reader *self, const char *role, const cJSON *content) {
    const cJSON *block;
    blocks made = {.message = cJSON_CreateObject(),
                   .parts = cJSON_CreateArray(),
                   .is_user = !strcmp(role, "user")};
    bool fine = made.message && made.parts;
    cJSON_AddStringToObject(made.message, "role", role);
    for (block = content->child; fine && block; block = block->next)
        fine = add_block(self, &made, block);
    if (fine) put_content(&made);
    /* The user said nothing but results. */
    bool says = !made.is_user || cohort_server_json_member(made.message, "content");
    if (fine && says)
        cJSON_AddItemToArray(self->messages, made.message);
    else
        cJSON_Delete(made.message);
    cJSON_Delete(made.parts);
    cohort_body_deinit(&made.thoughts);
    return fine;
}

static bool add_message(const reader *self, const cJSON *message) {
    const char *role = cohort_server_json_text(message, "role");
    const cJSON *content = cohort_server_json_member(message, "content");
    if (!cohort_server_is_word(role, "user") &&
        !cohort_server_is_word(role, "assistant") &&
        !cohort_server_is_word(role, "system"))
        return refuse(self, "messages",
                      "a role should be 'user', 'assistant' or 'system'");
    if (!cJSON_IsString(content) && !cJSON_IsArray(content))
        return refuse(self, "messages", "content should be a text or a list of blocks");
    if (is_system(message)) {
        cohort_body text = {0};
        if (!self->merges_system) add_system(&text, content);
        put_system(self, &text);
        cohort_body_deinit(&text);
        return true;
    }
    if (cJSON_IsArray(content)) return add_blocks(self, role, content);
    cohort_as_chat_add_message(self->messages, role, content->valuestring);
    return true;
}

/* ---- tools ------------------------------------------------------------------------- */

static bool add_tool(const reader *self, cJSON *tools, const cJSON *tool) {
    const char *name = cohort_server_json_text(tool, "name");
    const cJSON *schema = cohort_server_json_member(tool, "input_schema");
    if (!name || !*name || !cJSON_IsObject(schema))
        return refuse(self, "tools", "each needs a name and an input_schema");
    cJSON *parameters = cJSON_Duplicate(schema, true);
    if (!cohort_server_json_member(parameters, "type"))
        cJSON_AddStringToObject(parameters, "type", "object");
    cohort_as_chat_add_tool(tools, name, cohort_server_json_member(tool, "description"),
                            parameters, cohort_server_json_member(tool, "strict"));
    cJSON_Delete(parameters);
    return true;
}

static bool read_choice(const reader *self, const char **out_word,
                        const char **out_name) {
    const cohort_value *choice = &self->api->tool_choice;
    const char *type =
        choice->is_set ? cohort_server_json_text(choice->json, "type") : "auto";
    *out_name = NULL;
    *out_word = "auto";
    if (choice->is_set && cJSON_IsTrue(cohort_server_json_member(
                              choice->json, "disable_parallel_tool_use")))
        self->api->parallel_tool_calls = (cohort_value){.is_set = true};
    if (cohort_server_is_word(type, "auto")) return true;
    if (cohort_server_is_word(type, "any"))
        *out_word = "required";
    else if (cohort_server_is_word(type, "none"))
        *out_word = "none";
    else if (cohort_server_is_word(type, "tool"))
        *out_name = cohort_server_json_text(choice->json, "name");
    else
        return refuse(self, "tool_choice",
                      "its type should be 'auto', 'any', 'tool' or 'none'");
    if (!cohort_server_is_word(type, "tool") || (*out_name && **out_name)) return true;
    return refuse(self, "tool_choice", "name is required when type is 'tool'");
}

static bool read_tools(const reader *self) {
    const cJSON *given = self->api->tools.is_set ? self->api->tools.json : NULL, *tool;
    const char *word, *name;
    if (!read_choice(self, &word, &name)) return false;
    cJSON *tools = cJSON_CreateArray();
    cJSON_ArrayForEach(tool, given) {
        if (add_tool(self, tools, tool)) continue;
        cJSON_Delete(tools);
        return false;
    }
    bool needs = name || !strcmp(word, "required");
    if (needs && !cJSON_GetArraySize(tools)) {
        cJSON_Delete(tools);
        return refuse(self, "tool_choice", "`tools` must be set");
    }
    cohort_as_chat_set_tools(self->api, tools, word, name);
    return true;
}

/* ---- the rest ---------------------------------------------------------------------- */

/* A budget of thoughts is taken and not kept: a model that is told to think stops by
 * itself, or at max_tokens. */
static bool read_thinking(const reader *self) {
    cohort_api_request *api = self->api;
    const cJSON *thinking = api->thinking.is_set ? api->thinking.json : NULL;
    const cJSON *config = api->output_config.is_set ? api->output_config.json : NULL;
    const char *type = cohort_server_json_text(thinking, "type"),
               *effort = cohort_server_json_text(config, "effort");
    const cJSON *budget = cohort_server_json_member(thinking, "budget_tokens");
    if (effort) api->reasoning_effort = (cohort_value){.is_set = true, .text = effort};
    if (!thinking || cohort_server_is_word(type, "adaptive")) return true;
    if (cohort_server_is_word(type, "disabled")) {
        api->reasoning_effort = (cohort_value){.is_set = true, .text = "none"};
        return true;
    }
    if (!cohort_server_is_word(type, "enabled"))
        return refuse(self, "thinking",
                      "its type should be 'enabled', 'disabled' or 'adaptive'");
    if (!cJSON_IsNumber(budget) || budget->valuedouble < 1024)
        return refuse(self, "thinking", "budget_tokens should be at least 1024");
    if (api->max_tokens.is_set && budget->valuedouble >= (double)api->max_tokens.whole)
        return refuse(self, "thinking", "budget_tokens must be less than max_tokens");
    return true;
}

static void read_format(const reader *self) {
    const cohort_value *config = &self->api->output_config;
    const cJSON *schema =
        config->is_set ? cohort_server_json_member(
                             cohort_server_json_member(config->json, "format"), "schema")
                       : NULL;
    if (cJSON_IsObject(schema)) cohort_as_chat_set_format(self->api, schema);
}

bool cohort_messages_translate(cohort_api_request *api, bool merges_system,
                               cohort_api_error *error) {
    reader self = {api, api->messages.json, NULL, merges_system, error};
    const cJSON *message;
    self.messages = cohort_as_chat_begin(api, error);
    if (!self.messages) return false;
    api->include_reasoning.whole = api->skip_special_tokens.whole = 1;
    begin_with_system(&self);
    cJSON_ArrayForEach(message, self.given) {
        if (!add_message(&self, message)) return false;
    }
    read_format(&self);
    return read_thinking(&self) && read_tools(&self);
}
