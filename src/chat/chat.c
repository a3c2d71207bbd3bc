/* SPDX-License-Identifier: Apache-2.0 */
#include "chat/chat.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/fail.h"
#include "chat/json_text.h"
#include "jinja/jinja.h"

enum { MAX_FILE_BYTES = 4 << 20 };

/* Follows the text that is to be continued through the template: the text alone may be
 * there twice. */
static const char MARK[] = "COHORT_CONTINUES_HERE ";

struct cohort_chat {
    cohort_jinja *template_;      /* NULL: the model has none */
    cohort_jinja *tools_template; /* where tools are given; NULL: the same */
    bool names_developer, tools_name_developer; /* they know that role */
    cohort_content_format format;
    const cohort_output_format *tool_format; /* NULL: the template says nothing */
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

/* "chat_template": a text, or a list of named ones; NULL where there is none so named. */
static const char *template_in(const cJSON *config, const char *wanted) {
    const cJSON *given = cJSON_GetObjectItemCaseSensitive(config, "chat_template"), *item;
    if (cJSON_IsString(given) && !strcmp(wanted, "default")) return given->valuestring;
    cJSON_ArrayForEach(item, given) {
        const char *name =
            cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, "name"));
        if (name && !strcmp(name, wanted))
            return cJSON_GetStringValue(
                cJSON_GetObjectItemCaseSensitive(item, "template"));
    }
    return NULL;
}

static cJSON *special_tokens(const cJSON *config) {
    static const char *const names[] = {"bos_token", "eos_token", "unk_token",
                                        "sep_token", "pad_token", "cls_token",
                                        "mask_token"};
    cJSON *tokens = cJSON_CreateObject();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const cJSON *token = cJSON_GetObjectItemCaseSensitive(config, names[i]);
        if (cJSON_IsObject(token))
            token = cJSON_GetObjectItemCaseSensitive(token, "content");
        if (cJSON_IsString(token))
            cJSON_AddStringToObject(tokens, names[i], token->valuestring);
    }
    return tokens;
}

/* Does a template know the role? */
static bool names_developer(const char *source) {
    return source && (strstr(source, "\"developer\"") || strstr(source, "'developer'"));
}

static cohort_status compile(const char *source, cohort_jinja **out_template) {
    if (!source) return COHORT_OK;
    COHORT_TRY_WHILE(cohort_jinja_compile(source, strlen(source), out_template),
                     "reading the chat template");
    return COHORT_OK;
}

/* The template for tools knows, where a model has one of its own. */
static const cohort_output_format *find_tool_format(const char *given,
                                                    const cJSON *config) {
    const char *for_tools = given ? NULL : template_in(config, "tool_use");
    const cohort_output_format *found = cohort_output_format_of_template(for_tools);
    if (found) return found;
    return cohort_output_format_of_template(given ? given
                                                  : template_in(config, "default"));
}

cohort_status cohort_chat_open(const char *model_dir, const char *template_,
                               cohort_content_format format, cohort_chat **out_chat) {
    bool is_inline = template_ && strchr(template_, '{');
    *out_chat = NULL;
    char *file = is_inline   ? NULL
                 : template_ ? read_file(NULL, template_)
                             : read_file(model_dir, "chat_template.jinja");
    if (template_ && !is_inline && !file)
        return COHORT_FAIL_SYS(errno, "reading the chat template %.200s", template_);
    cohort_chat *chat = calloc(1, sizeof *chat);
    if (!chat) {
        free(file);
        return COHORT_FAIL(COHORT_E_NOMEM, "a chat template");
    }
    char *text = read_file(model_dir, "tokenizer_config.json");
    cJSON *config = text ? cJSON_Parse(text) : NULL;
    const char *given = is_inline ? template_ : file;
    chat->format = format;
    chat->tokens = special_tokens(config);
    if (!given)
        chat->tools_name_developer = names_developer(template_in(config, "tool_use"));
    chat->names_developer =
        names_developer(given ? given : template_in(config, "default"));
    chat->tool_format = find_tool_format(given, config);
    cohort_status status =
        compile(given ? given : template_in(config, "default"), &chat->template_);
    if (status >= 0 && !given)
        status = compile(template_in(config, "tool_use"), &chat->tools_template);
    cJSON_Delete(config);
    free(text);
    free(file);
    if (status < 0)
        cohort_chat_close(chat);
    else
        *out_chat = chat;
    return status;
}

const cohort_output_format *cohort_chat_tool_format(const cohort_chat *chat) {
    return chat->tool_format;
}

bool cohort_chat_has_template(const cohort_chat *chat) { return chat->template_ != NULL; }

void cohort_chat_close(cohort_chat *chat) {
    if (!chat) return;
    cohort_jinja_destroy(chat->template_);
    cohort_jinja_destroy(chat->tools_template);
    cJSON_Delete(chat->tokens);
    free(chat);
}

/* ---- messages ---------------------------------------------------------------------- */

/* The text of a part, under the name of its kind.  NULL, without an error: nothing to
 * say; with one: no text. */
static const char *part_text(const cJSON *part, cohort_status *out_status) {
    static const char *const kinds[][2] = {
        {"text", "text"},       {"input_text", "text"},   {"output_text", "text"},
        {"refusal", "refusal"}, {"thinking", "thinking"}, {"tool_reference", "name"}};
    const char *type =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(part, "type"));
    if (cJSON_IsString(part)) return part->valuestring;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(type ? type : "text", kinds[i][0]) != 0) continue;
        const cJSON *text = cJSON_GetObjectItemCaseSensitive(part, kinds[i][1]);
        if (cJSON_IsString(text) || !text || cJSON_IsNull(text))
            return cJSON_GetStringValue(text);
        break;
    }
    *out_status = COHORT_FAIL(
        COHORT_E_INVALID, "a message's part of type '%.40s' is not supported; 'text' is",
        type ? type : "");
    return NULL;
}

static void add_part(cJSON *parts, const char *text) {
    cJSON *part = cJSON_CreateObject();
    cJSON_AddStringToObject(part, "type", "text");
    cJSON_AddStringToObject(part, "text", text);
    cJSON_AddItemToArray(parts, part);
}

const char *cohort_chat_skip_billing(const char *text) {
    static const char header[] = "x-anthropic-billing-header";
    if (strncmp(text, header, sizeof header - 1) != 0) return text;
    const char *line = strchr(text, '\n');
    return line ? line + 1 : text + strlen(text);
}

/* A list of the texts that content has. */
static cohort_status read_parts(const cJSON *content, cJSON *parts, bool is_system) {
    const cJSON *part;
    cohort_status status = COHORT_OK;
    if (cJSON_IsString(content))
        add_part(parts, is_system ? cohort_chat_skip_billing(content->valuestring)
                                  : content->valuestring);
    else if (content && !cJSON_IsNull(content) && !cJSON_IsArray(content))
        return COHORT_FAIL(COHORT_E_INVALID,
                           "a message's content is a text or a list of parts");
    if (cJSON_IsArray(content)) cJSON_ArrayForEach(part, content) {
            const char *text = part_text(part, &status);
            if (text) add_part(parts, is_system ? cohort_chat_skip_billing(text) : text);
        }
    return status;
}

static cohort_status join_parts(const cJSON *parts, cJSON *message) {
    const cJSON *part;
    char *joined = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&joined, &size);
    if (!out) return COHORT_FAIL(COHORT_E_NOMEM, "a message");
    cJSON_ArrayForEach(part, parts)
        fprintf(out, "%s%s", part == parts->child ? "" : "\n",
                cJSON_GetObjectItemCaseSensitive(part, "text")->valuestring);
    fclose(out);
    cJSON_AddStringToObject(message, "content", joined);
    free(joined);
    return COHORT_OK;
}

/* Results of tools are texts also for templates that go over parts: clients send them in
 * parts, and templates do not expect that (vLLM, chat_utils.py). */
static cohort_status copy_content(const cJSON *content, cJSON *message, bool in_parts) {
    const char *role = cJSON_GetObjectItemCaseSensitive(message, "role")->valuestring;
    cJSON *parts = cJSON_CreateArray();
    cohort_status status = read_parts(content, parts, !strcmp(role, "system"));
    if (status >= 0 && in_parts && strcmp(role, "tool") != 0) {
        cJSON_AddItemToObject(message, "content", parts);
        return status;
    }
    if (status >= 0) status = join_parts(parts, message);
    cJSON_Delete(parts);
    return status;
}

/* Arguments come as JSON in a text; templates want the object that is in it, and {} where
 * none is (vLLM's _postprocess_messages). */
static cJSON *arguments_of(const cJSON *given) {
    const char *text = cJSON_GetStringValue(given);
    if (cJSON_IsObject(given)) return cJSON_Duplicate(given, true);
    cJSON *arguments = NULL;
    cohort_chat_json_fault broken;
    if (text) cohort_chat_json_load(text, strlen(text), &arguments, &broken);
    if (cJSON_IsObject(arguments)) return arguments;
    cJSON_Delete(arguments);
    return cJSON_CreateObject();
}

/* A member of from, where it is there, or value instead; NULL: neither. */
static void move_on(cJSON *to, const char *name, const cJSON *from, cJSON *value) {
    const cJSON *given = cJSON_GetObjectItemCaseSensitive(from, name);
    if (!value && given) value = cJSON_Duplicate(given, true);
    if (value) cJSON_AddItemToObject(to, name, value);
}

/* Of members that the API does not know there may be any number: none is looked up. */
static void move_rest(cJSON *to, const cJSON *from, const char *const *moved, size_t n) {
    const cJSON *item;
    cJSON_ArrayForEach(item, from) {
        bool is_known = false;
        for (size_t i = 0; i < n; i++)
            is_known = is_known || !strcmp(item->string, moved[i]);
        if (!is_known)
            cJSON_AddItemToObject(to, item->string, cJSON_Duplicate(item, true));
    }
}

/* Members in the order of the API's types, which is the one that vLLM's templates see:
 * where a template writes a call as it is, another order would be another prompt. */
static cJSON *copy_tool_call(const cJSON *call) {
    static const char *const of_call[] = {"id", "function", "type"},
                             *const of_function[] = {"arguments", "name"};
    const cJSON *function = cJSON_GetObjectItemCaseSensitive(call, "function");
    if (!cJSON_IsObject(function)) return cJSON_Duplicate(call, true);
    cJSON *copy = cJSON_CreateObject(), *inner = cJSON_CreateObject();
    move_on(inner, "arguments", function,
            arguments_of(cJSON_GetObjectItemCaseSensitive(function, "arguments")));
    move_on(inner, "name", function, NULL);
    move_rest(inner, function, of_function, 2);
    move_on(copy, "id", call, NULL);
    cJSON_AddItemToObject(copy, "function", inner);
    move_on(copy, "type", call, NULL);
    move_rest(copy, call, of_call, 3);
    return copy;
}

static cJSON *copy_tool_calls(const cJSON *calls) {
    const cJSON *call;
    cJSON *copy = cJSON_CreateArray();
    cJSON_ArrayForEach(call, calls) cJSON_AddItemToArray(copy, copy_tool_call(call));
    return copy;
}

/* What an assistant thought, under both its names; the newer counts. */
static void copy_reasoning(const cJSON *from, cJSON *message) {
    static const char *const names[] = {"reasoning", "reasoning_content"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const cJSON *given = cJSON_GetObjectItemCaseSensitive(from, names[i]);
        if (!cJSON_IsString(given)) continue;
        cJSON_AddStringToObject(message, "reasoning", given->valuestring);
        cJSON_AddStringToObject(message, "reasoning_content", given->valuestring);
        return;
    }
}

static cohort_status copy_message(const cJSON *from, cJSON *message, bool in_parts) {
    const cJSON *role = cJSON_GetObjectItemCaseSensitive(from, "role");
    if (!cJSON_IsString(role))
        return COHORT_FAIL(COHORT_E_INVALID, "a message has no role");
    cJSON_AddStringToObject(message, "role", role->valuestring);
    COHORT_TRY(copy_content(cJSON_GetObjectItemCaseSensitive(from, "content"), message,
                            in_parts));
    bool is_assistant = !strcmp(role->valuestring, "assistant");
    const cJSON *item;
    cJSON_ArrayForEach(item, from) {
        if (!strcmp(item->string, "tool_calls") && cJSON_GetArraySize(item) &&
            is_assistant)
            cJSON_AddItemToObject(message, "tool_calls", copy_tool_calls(item));
        else if (!strcmp(item->string, "name") || !strcmp(item->string, "tool_call_id") ||
                 !strcmp(item->string, "task") ||
                 (!strcmp(item->string, "tools") &&
                  !strcmp(role->valuestring, "developer")))
            cJSON_AddItemToObject(message, item->string, cJSON_Duplicate(item, true));
    }
    if (is_assistant) copy_reasoning(from, message);
    return COHORT_OK;
}

/* ---- developers -------------------------------------------------------------------- */

static bool has_role(const cJSON *message, const char *role) {
    return !strcmp(cJSON_GetObjectItemCaseSensitive(message, "role")->valuestring, role);
}

/* Appends the texts of a message of ours. */
static void put_content(FILE *out, const cJSON *message) {
    const cJSON *content = cJSON_GetObjectItemCaseSensitive(message, "content"), *part;
    if (cJSON_IsString(content)) fputs(content->valuestring, out);
    if (cJSON_IsArray(content))
        cJSON_ArrayForEach(part, content)
            fprintf(out, "%s%s", part == content->child ? "" : "\n",
                    cJSON_GetObjectItemCaseSensitive(part, "text")->valuestring);
}

/* For templates that do not know developers: what those say and what the system says
 * becomes one system message at the front, as in vLLM (renderers/hf.py). */
static cohort_status fold_developers(cJSON *list, bool in_parts) {
    cJSON *item, *next, *system;
    char *joined = NULL;
    size_t size = 0;
    bool is_first = true, has_any = false;
    cJSON_ArrayForEach(item, list) has_any = has_any || has_role(item, "developer");
    if (!has_any) return COHORT_OK;
    FILE *out = open_memstream(&joined, &size);
    if (!out) return COHORT_FAIL(COHORT_E_NOMEM, "a message");
    for (item = list->child; item; item = next) {
        next = item->next;
        if (!has_role(item, "developer") && !has_role(item, "system")) continue;
        if (!is_first) fputs("\n\n", out);
        put_content(out, item);
        is_first = false;
        cJSON_Delete(cJSON_DetachItemViaPointer(list, item));
    }
    fclose(out);
    system = cJSON_CreateObject();
    cJSON_AddStringToObject(system, "role", "system");
    if (in_parts)
        add_part(cJSON_AddArrayToObject(system, "content"), joined);
    else
        cJSON_AddStringToObject(system, "content", joined);
    cJSON_InsertItemInArray(list, 0, system);
    free(joined);
    return COHORT_OK;
}

static cohort_status copy_messages(const cJSON *from, cJSON *list, bool in_parts) {
    const cJSON *item;
    cJSON_ArrayForEach(item, from) {
        cJSON *message = cJSON_CreateObject();
        cJSON_AddItemToArray(list, message);
        COHORT_TRY(copy_message(item, message, in_parts));
    }
    return cJSON_GetArraySize(list)
               ? COHORT_OK
               : COHORT_FAIL(COHORT_E_INVALID,
                             "Cannot apply chat template to an empty "
                             "conversation. Provide at least one message.");
}

/* ---- rendering --------------------------------------------------------------------- */

/* ---- the last message continued ---------------------------------------------------- */

static const cJSON *text_to_continue(const cJSON *messages) {
    const cJSON *last = cJSON_GetArrayItem(messages, cJSON_GetArraySize(messages) - 1);
    const cJSON *content = cJSON_GetObjectItemCaseSensitive(last, "content");
    if (!cJSON_IsArray(content)) return content;
    return cJSON_GetObjectItemCaseSensitive(
        cJSON_GetArrayItem(content, cJSON_GetArraySize(content) - 1), "text");
}

static cohort_status add_mark(const cJSON *messages) {
    const cJSON *text = text_to_continue(messages);
    cJSON *item;
    if (!text)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "continue_final_message is set but we could not find any text "
                           "to continue in the final message!");
    memcpy(&item, &text, sizeof item); /* of our own copy */
    char *marked = malloc(strlen(text->valuestring) + sizeof MARK);
    if (!marked) return COHORT_FAIL(COHORT_E_NOMEM, "a message");
    sprintf(marked, "%s%s", text->valuestring, MARK);
    cJSON_SetValuestring(item, marked);
    free(marked);
    return COHORT_OK;
}

/* Ends the text at the mark; and before white space where the template has taken the
 * mark's own, as it does that of a message. */
static cohort_status cut_at_mark(char *text, size_t *size) {
    const size_t length = sizeof MARK - 2; /* without its blank */
    char *found = NULL, *at = text;
    while ((at = memmem(at, *size - (size_t)(at - text), MARK, length)))
        found = at++;
    if (!found)
        return COHORT_FAIL(
            COHORT_E_INVALID,
            "continue_final_message is set but the final message does not appear in the "
            "chat after applying the chat template!");
    if (found[length] != ' ')
        while (found > text && strchr(" \t\r\n\f\v", found[-1]))
            found--;
    *found = '\0';
    *size = (size_t)(found - text);
    return COHORT_OK;
}

/* ---- rendering --------------------------------------------------------------------- */

/* Of a name that is there twice a template sees the last: nothing is looked for here. */
static void put(cJSON *variables, const char *name, cJSON *value) {
    cJSON_AddItemToObject(variables, name, value);
}

static void put_copies(cJSON *variables, const cJSON *from) {
    const cJSON *item;
    cJSON_ArrayForEach(item, from)
        put(variables, item->string, cJSON_Duplicate(item, true));
}

static cJSON *copy_or_null(const cJSON *value) {
    return value ? cJSON_Duplicate(value, true) : cJSON_CreateNull();
}

/* As transformers passes them: ours count before what a request brings by those names. */
static void put_variables(const cohort_chat *chat, const cohort_conversation *from,
                          cJSON *messages, cJSON *variables) {
    put_copies(variables, chat->tokens);
    put_copies(variables, from->extra);
    /* Who asks for an effort wants thinking, where a template has a switch for it. */
    if (from->reasoning_effort &&
        !cJSON_GetObjectItemCaseSensitive(from->extra, "enable_thinking"))
        put(variables, "enable_thinking",
            cJSON_CreateBool(strcmp(from->reasoning_effort, "none") != 0));
    if (from->reasoning_effort)
        put(variables, "reasoning_effort", cJSON_CreateString(from->reasoning_effort));
    put(variables, "messages", messages);
    put(variables, "tools", copy_or_null(from->tools));
    put(variables, "documents", copy_or_null(from->documents));
    put(variables, "add_generation_prompt",
        cJSON_CreateBool(from->add_generation_prompt));
}

static cohort_status render(const cohort_chat *chat, const cohort_jinja *template_,
                            const cohort_conversation *conversation,
                            bool knows_developers, char **out_text,
                            size_t *out_size_bytes) {
    bool in_parts =
        chat->format == COHORT_CONTENT_PARTS ||
        (chat->format == COHORT_CONTENT_AUTO && cohort_jinja_wants_parts(template_));
    cJSON *variables = cJSON_CreateObject(), *messages = cJSON_CreateArray();
    bool continues = conversation->continue_final_message;
    put_variables(chat, conversation, messages, variables);
    cohort_status status = copy_messages(conversation->messages, messages, in_parts);
    if (status >= 0 && !knows_developers) status = fold_developers(messages, in_parts);
    if (status >= 0 && continues) status = add_mark(messages);
    if (status >= 0)
        status = cohort_jinja_render(template_, variables, time(NULL), out_text,
                                     out_size_bytes);
    if (status >= 0 && continues) status = cut_at_mark(*out_text, out_size_bytes);
    cJSON_Delete(variables);
    return status;
}

cohort_status cohort_chat_render(const cohort_chat *chat,
                                 const cohort_conversation *conversation, char **out_text,
                                 size_t *out_size_bytes) {
    bool for_tools = conversation->tools && chat->tools_template;
    const cohort_jinja *template_ = for_tools ? chat->tools_template : chat->template_;
    bool knows_developers =
        for_tools ? chat->tools_name_developer : chat->names_developer;
    cohort_jinja *own = NULL;
    *out_text = NULL;
    if (conversation->template_) {
        COHORT_TRY(compile(conversation->template_, &own));
        template_ = own;
        knows_developers = names_developer(conversation->template_);
    }
    if (!template_)
        return COHORT_FAIL(
            COHORT_E_INVALID,
            "As of transformers v4.44, default chat template is no longer allowed, so "
            "you must provide a chat template if the tokenizer does not define one.");
    cohort_status status =
        render(chat, template_, conversation, knows_developers, out_text, out_size_bytes);
    cohort_jinja_destroy(own);
    if (status < 0) {
        free(*out_text);
        *out_text = NULL;
    }
    return status;
}
