/* SPDX-License-Identifier: Apache-2.0 */
/* chat/chat.h - what a conversation becomes before it is tokens.
 *
 * A model's own template, from chat_template.jinja or tokenizer_config.json, or one that
 * is given, with the model's special tokens; messages as the OpenAI API has them.  Their
 * content reaches the template as a text, or as a list of parts where it goes over parts.
 *
 * Ownership: texts that are returned are malloc's, the caller frees them.
 * Threads:   a chat is immutable: any number of threads render with it.
 * Errors:    COHORT_E_INVALID says what is wrong with the file, the messages or the
 *            template; what a template raised, in its own words.
 */
#ifndef COHORT_CHAT_CHAT_H
#define COHORT_CHAT_CHAT_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

#include "chat/output.h"
#include "cohort/status.h"

typedef struct cohort_chat cohort_chat;

/* What content is to a template; vLLM's words for it are in brackets. */
typedef enum cohort_content_format {
    COHORT_CONTENT_AUTO,  /* as the template looks at it */
    COHORT_CONTENT_TEXT,  /* (string) parts are joined by line feeds */
    COHORT_CONTENT_PARTS, /* (openai) a text becomes a list of one part */
} cohort_content_format;

/* template_: a file's path, or a template where it has a brace in it; NULL: the model's.
 * A model without any is no error until somebody talks to it. */
cohort_status cohort_chat_open(const char *model_dir, const char *template_,
                               cohort_content_format format, cohort_chat **out_chat);

/* In which calls of tools are written, as far as the template says; NULL: it does not. */
const cohort_output_format *cohort_chat_tool_format(const cohort_chat *chat);
/* Has anybody given one? */
bool cohort_chat_has_template(const cohort_chat *chat);

typedef struct cohort_conversation {
    const cJSON *messages;  /* a list */
    const cJSON *tools;     /* a list, or NULL */
    const cJSON *documents; /* a list, or NULL */
    const cJSON *extra;     /* an object: more variables of the template; NULL: none */
    const char *reasoning_effort; /* NULL: not said */
    const char *template_;        /* its text, instead of the chat's; NULL: none */
    bool add_generation_prompt;
    bool continue_final_message; /* the text ends where the last message does */
} cohort_conversation;

cohort_status cohort_chat_render(const cohort_chat *chat,
                                 const cohort_conversation *conversation, char **out_text,
                                 size_t *out_size_bytes);
void cohort_chat_close(cohort_chat *chat); /* accepts NULL */

/* Behind the line x-anthropic-billing-header that Claude Code writes first into a system
 * text, another each time: what is cached of the rest could not be shared. */
const char *cohort_chat_skip_billing(const char *text);

#endif /* COHORT_CHAT_CHAT_H */
