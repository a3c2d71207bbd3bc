/* SPDX-License-Identifier: Apache-2.0 */
#include "chat/chat.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/fail.h"
#include "chat/jinja.h"

enum { MAX_FILE_BYTES = 4 << 20 };

struct cohort_chat {
    cohort_jinja *template_;
    cJSON *tokens; /* bos_token and the like, as the template sees them */
};

/* ---- opening ----------------------------------------------------------------------- */

/* NULL where there is no such file, or it is too long. */
static char *read_file(const char *dir, const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s%s%s", dir ? dir : "", dir ? "/" : "", name);
    FILE *file = fopen(path, "re");
    if (!file) return NULL;
    char *text = malloc(MAX_FILE_BYTES + 1);
    size_t size = text ? fread(text, 1, MAX_FILE_BYTES, file) : 0;
    bool whole = text && !ferror(file) && size < MAX_FILE_BYTES;
    fclose(file);
    if (!whole) {
        free(text);
        return NULL;
    }
    text[size] = '\0';
    return text;
}

/* "chat_template": a text, or a list of named ones. */
static const char *template_in(const cJSON *config) {
    const cJSON *given = cJSON_GetObjectItem(config, "chat_template"), *item;
    if (cJSON_IsString(given)) return given->valuestring;
    cJSON_ArrayForEach(item, given) {
        const char *name = cJSON_GetStringValue(cJSON_GetObjectItem(item, "name"));
        if (name && !strcmp(name, "default"))
            return cJSON_GetStringValue(cJSON_GetObjectItem(item, "template"));
    }
    return NULL;
}

static cJSON *special_tokens(const cJSON *config) {
    static const char *const names[] = {"bos_token", "eos_token", "unk_token",
                                        "pad_token"};
    cJSON *tokens = cJSON_CreateObject();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const cJSON *token = cJSON_GetObjectItem(config, names[i]);
        if (cJSON_IsObject(token)) token = cJSON_GetObjectItem(token, "content");
        if (cJSON_IsString(token))
            cJSON_AddStringToObject(tokens, names[i], token->valuestring);
    }
    return tokens;
}

static cohort_status compile(const char *source, cohort_chat **out_chat) {
    cohort_chat *chat = calloc(1, sizeof *chat);
    if (!chat) return COHORT_FAIL(COHORT_E_NOMEM, "a chat template");
    cohort_status status = cohort_jinja_compile(source, strlen(source), &chat->template_);
    if (status < 0) {
        free(chat);
        return cohort_fail_while(status, "reading the chat template");
    }
    *out_chat = chat;
    return COHORT_OK;
}

cohort_status cohort_chat_open(const char *model_dir, const char *template_,
                               cohort_chat **out_chat) {
    bool is_inline = template_ && strchr(template_, '{');
    *out_chat = NULL;
    char *file = is_inline   ? NULL
                 : template_ ? read_file(NULL, template_)
                             : read_file(model_dir, "chat_template.jinja");
    if (template_ && !is_inline && !file)
        return COHORT_FAIL_SYS(errno, "reading the chat template %.200s", template_);
    char *text = read_file(model_dir, "tokenizer_config.json");
    cJSON *config = text ? cJSON_Parse(text) : NULL;
    const char *source = is_inline ? template_ : file ? file : template_in(config);
    cohort_status status = source ? compile(source, out_chat) : COHORT_OK;
    if (*out_chat) (*out_chat)->tokens = special_tokens(config);
    cJSON_Delete(config);
    free(text);
    free(file);
    return status;
}

void cohort_chat_close(cohort_chat *chat) {
    if (!chat) return;
    cohort_jinja_destroy(chat->template_);
    cJSON_Delete(chat->tokens);
    free(chat);
}

/* ---- messages ---------------------------------------------------------------------- */

/* The texts of a list of parts, a line feed between two. */
static cohort_status join_parts(const cJSON *parts, cJSON *message) {
    const cJSON *part;
    char *joined = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&joined, &size);
    if (!out) return COHORT_FAIL(COHORT_E_NOMEM, "a message");
    cohort_status status = COHORT_OK;
    cJSON_ArrayForEach(part, parts) {
        const char *text = cJSON_IsString(part)
                               ? part->valuestring
                               : cJSON_GetStringValue(cJSON_GetObjectItem(part, "text"));
        const char *type = cJSON_GetStringValue(cJSON_GetObjectItem(part, "type"));
        if (!text || (type && strcmp(type, "text") != 0))
            status = COHORT_FAIL(COHORT_E_INVALID,
                                 "a message's part of type '%.40s' is not supported; "
                                 "'text' is",
                                 type ? type : "");
        else
            fprintf(out, "%s%s", part == parts->child ? "" : "\n", text);
    }
    fclose(out);
    if (status >= 0) cJSON_AddStringToObject(message, "content", joined);
    free(joined);
    return status;
}

/* Arguments come as JSON in a text; templates want what is in it. */
static cJSON *copy_tool_calls(const cJSON *calls) {
    cJSON *copy = cJSON_Duplicate(calls, true), *call;
    cJSON_ArrayForEach(call, copy) {
        cJSON *function = cJSON_GetObjectItem(call, "function");
        const char *text =
            cJSON_GetStringValue(cJSON_GetObjectItem(function, "arguments"));
        cJSON *arguments = text ? cJSON_Parse(*text ? text : "{}") : NULL;
        if (arguments) cJSON_ReplaceItemInObject(function, "arguments", arguments);
    }
    return copy;
}

static cohort_status copy_message(const cJSON *from, cJSON *message) {
    const cJSON *role = cJSON_GetObjectItem(from, "role");
    const cJSON *content = cJSON_GetObjectItem(from, "content");
    if (!cJSON_IsString(role))
        return COHORT_FAIL(COHORT_E_INVALID, "a message has no role");
    cJSON_AddStringToObject(message, "role", role->valuestring);
    if (cJSON_IsArray(content))
        COHORT_TRY(join_parts(content, message));
    else if (cJSON_IsString(content))
        cJSON_AddStringToObject(message, "content", content->valuestring);
    else if (!content || cJSON_IsNull(content))
        cJSON_AddStringToObject(message, "content", "");
    else
        return COHORT_FAIL(COHORT_E_INVALID,
                           "a message's content is a text or a list of parts");
    const cJSON *item;
    cJSON_ArrayForEach(item, from) {
        if (!strcmp(item->string, "tool_calls") && cJSON_GetArraySize(item))
            cJSON_AddItemToObject(message, "tool_calls", copy_tool_calls(item));
        else if (!strcmp(item->string, "name") || !strcmp(item->string, "tool_call_id"))
            cJSON_AddItemToObject(message, item->string, cJSON_Duplicate(item, true));
        else if (!strncmp(item->string, "reasoning", 9) && cJSON_IsString(item) &&
                 !cJSON_HasObjectItem(message, "reasoning_content")) {
            cJSON_AddStringToObject(message, "reasoning", item->valuestring);
            cJSON_AddStringToObject(message, "reasoning_content", item->valuestring);
        }
    }
    return COHORT_OK;
}

static cohort_status copy_messages(const cJSON *from, cJSON *list) {
    const cJSON *item;
    cJSON_ArrayForEach(item, from) {
        cJSON *message = cJSON_CreateObject();
        cJSON_AddItemToArray(list, message);
        COHORT_TRY(copy_message(item, message));
    }
    return cJSON_GetArraySize(list)
               ? COHORT_OK
               : COHORT_FAIL(COHORT_E_INVALID,
                             "Cannot apply chat template to an empty "
                             "conversation. Provide at least one message.");
}

/* ---- rendering --------------------------------------------------------------------- */

/* Ends the text behind the last message's content, white space around it aside. */
static cohort_status cut_behind(const cJSON *messages, char *text, size_t *size) {
    const cJSON *last = cJSON_GetArrayItem(messages, cJSON_GetArraySize(messages) - 1);
    const char *content = cJSON_GetObjectItem(last, "content")->valuestring;
    while (*content && strchr(" \t\r\n", *content))
        content++;
    size_t length = strlen(content);
    while (length && strchr(" \t\r\n", content[length - 1]))
        length--;
    char *found = NULL, *at = text;
    while (length && (at = memmem(at, strlen(at), content, length)))
        found = at++;
    if (!found)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "continue_final_message is set but the final message does "
                           "not appear in the chat after applying the chat template");
    found[length] = '\0';
    *size = (size_t)(found - text) + length;
    return COHORT_OK;
}

static void add_copies(cJSON *variables, const cJSON *from) {
    const cJSON *item;
    cJSON_ArrayForEach(item, from) {
        cJSON_DeleteItemFromObjectCaseSensitive(variables, item->string);
        cJSON_AddItemToObject(variables, item->string, cJSON_Duplicate(item, true));
    }
}

cohort_status cohort_chat_render(const cohort_chat *chat,
                                 const cohort_conversation *conversation, char **out_text,
                                 size_t *out_size_bytes) {
    cJSON *variables = cJSON_CreateObject();
    cJSON *messages = cJSON_AddArrayToObject(variables, "messages");
    *out_text = NULL;
    cohort_status status = copy_messages(conversation->messages, messages);
    if (conversation->tools)
        cJSON_AddItemToObject(variables, "tools",
                              cJSON_Duplicate(conversation->tools, true));
    else
        cJSON_AddNullToObject(variables, "tools");
    cJSON_AddBoolToObject(variables, "add_generation_prompt",
                          conversation->add_generation_prompt);
    add_copies(variables, chat->tokens);
    add_copies(variables, conversation->extra);
    if (status >= 0)
        status = cohort_jinja_render(chat->template_, variables, time(NULL), out_text,
                                     out_size_bytes);
    if (status >= 0 && conversation->continue_final_message)
        status = cut_behind(messages, *out_text, out_size_bytes);
    if (status < 0) {
        free(*out_text);
        *out_text = NULL;
    }
    cJSON_Delete(variables);
    return status;
}
